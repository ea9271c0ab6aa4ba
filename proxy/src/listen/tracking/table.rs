//! Which clients may hold which keys of a group. Bounded: when it is full, a key is forgotten, and those who
//! may hold it are told that it changed.

use bytes::Bytes;
use dashmap::DashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{PoisonError, RwLock};

/// Keys that are remembered; as Redis does by default.
const MOST_KEYS: usize = 1_000_000;

/// So many readers of one key are looked at whether they are still there.
const MANY: usize = 1024;

/// A client that may hold a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    /// Dense number of its session.
    pub session: u32,
    /// Its id: numbers of sessions are used again.
    pub id: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Tracker {
    limit: usize,
    clients: AtomicUsize,
    keys: DashMap<Bytes, BTreeSet<Reader>>,
    prefixes: RwLock<BTreeMap<Reader, BTreeSet<Bytes>>>,
    /// Everybody who caches.
    readers: DashMap<Reader, ()>,
    /// Invalidations that were handed out.
    pub invalidations: AtomicU64,
    /// Keys that were forgotten because there were too many.
    pub evictions: AtomicU64,
}

impl Default for Tracker {
    fn default() -> Self {
        Self::new(MOST_KEYS)
    }
}

impl Tracker {
    /// For so many keys.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            clients: AtomicUsize::new(0),
            keys: DashMap::new(),
            prefixes: RwLock::default(),
            readers: DashMap::new(),
            invalidations: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// Does anybody cache?
    pub fn is_active(&self) -> bool {
        self.clients.load(SeqCst) > 0
    }

    /// How many clients cache.
    pub fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A client begins to cache, or changes the prefixes that it is told of.
    pub fn enter(&self, reader: Reader, prefixes: Option<&BTreeSet<Bytes>>) {
        if self.readers.insert(reader, ()).is_none() {
            self.clients.fetch_add(1, SeqCst);
        }
        let mut all = self.prefixes.write().unwrap_or_else(PoisonError::into_inner);
        match prefixes {
            Some(prefixes) => drop(all.insert(reader, prefixes.clone())),
            None => drop(all.remove(&reader)),
        }
    }

    /// A client caches no more. Keys that it read are forgotten when they change.
    pub fn leave(&self, reader: Reader) {
        if self.readers.remove(&reader).is_some() {
            self.clients.fetch_sub(1, SeqCst);
        }
        self.prefixes.write().unwrap_or_else(PoisonError::into_inner).remove(&reader);
        if !self.is_active() {
            self.keys.clear();
        }
    }

    /// A client asked for the value of this key. What had to be forgotten for it, with those to be told.
    pub fn record(&self, key: &[u8], reader: Reader) -> Option<(Bytes, BTreeSet<Reader>)> {
        match self.keys.get_mut(key) {
            Some(mut readers) => {
                readers.insert(reader);
                // Clients come and go, and a key that nobody writes would remember them all.
                if readers.len() >= MANY && readers.len().is_power_of_two() {
                    readers.retain(|reader| self.readers.contains_key(reader));
                }
            }
            None => drop(self.keys.entry(Bytes::copy_from_slice(key)).or_default().insert(reader)),
        }
        if self.keys.len() <= self.limit {
            return None;
        }
        let victim = self.keys.iter().map(|entry| entry.key().clone()).find(|other| other != key)?;
        self.evictions.fetch_add(1, Relaxed);
        self.keys.remove(&victim)
    }

    /// This key changed: those to be told, who are told once for what they read before.
    pub fn take(&self, key: &[u8]) -> BTreeSet<Reader> {
        let mut told = self.keys.remove(key).map(|(_, readers)| readers).unwrap_or_default();
        let prefixes = self.prefixes.read().unwrap_or_else(PoisonError::into_inner);
        let begins = |set: &BTreeSet<Bytes>| set.iter().any(|prefix| key.starts_with(prefix));
        told.extend(prefixes.iter().filter(|(_, set)| begins(set)).map(|(reader, _)| *reader));
        told
    }

    /// Everything may have changed.
    pub fn take_all(&self) -> Vec<Reader> {
        self.keys.clear();
        self.readers.iter().map(|entry| *entry.key()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Reader = Reader { session: 1, id: 10 };
    const B: Reader = Reader { session: 2, id: 20 };

    #[test]
    fn readers_are_told_once_and_prefixes_always() {
        let tracker = Tracker::new(10);
        tracker.enter(A, None);
        tracker.enter(B, Some(&[Bytes::from_static(b"user:")].into_iter().collect()));
        assert!(tracker.record(b"user:1", A).is_none());
        assert_eq!(tracker.take(b"user:1"), [A, B].into_iter().collect());
        assert_eq!(tracker.take(b"user:1"), [B].into_iter().collect());
        assert!(tracker.take(b"other").is_empty());
        tracker.record(b"x", A);
        tracker.leave(B);
        assert_eq!(tracker.take_all(), [A]);
        assert!(tracker.is_empty() && tracker.is_active());
        tracker.leave(A);
        assert!(!tracker.is_active());
    }

    #[test]
    fn a_key_does_not_remember_all_who_ever_read_it() {
        let tracker = Tracker::new(2);
        tracker.enter(A, None);
        for id in 100..5_000 {
            let reader = Reader { session: 1, id };
            tracker.enter(reader, None);
            tracker.record(b"k", reader);
            tracker.leave(reader);
        }
        assert!(tracker.take(b"k").len() <= MANY);
    }

    #[test]
    fn a_full_table_forgets_a_key_and_says_whom_to_tell() {
        let tracker = Tracker::new(2);
        tracker.enter(A, None);
        assert!(tracker.record(b"1", A).is_none() && tracker.record(b"2", B).is_none());
        let (key, readers) = tracker.record(b"3", A).expect("one too many");
        assert_eq!(readers, [if &key[..] == b"1" { A } else { B }].into_iter().collect());
        assert_eq!((tracker.len(), tracker.evictions.load(Relaxed)), (2, 1));
    }
}
