//! How many subscribers each channel of a group has, and on which workers. Any thread may ask; the
//! subscribers themselves are known to their own worker only.

use super::{Kind, is_keyspace, may_be_keyspace};
use bytes::Bytes;
use dashmap::DashMap;
use quorate_wire::glob;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::Notify;

/// Subscribers, by worker.
type Counts = Box<[u32]>;

/// A session whose confirmation waits: its worker, its number, and the ticket.
pub type Waiting = (usize, u32, u64);

/// See the module's head.
#[derive(Debug)]
pub struct Hub {
    workers: usize,
    channels: DashMap<Bytes, Counts>,
    shards: DashMap<Bytes, Counts>,
    patterns: RwLock<BTreeMap<Bytes, Counts>>,
    subscriptions: AtomicUsize,
    /// Subscriptions that only a backend can serve.
    keyspace: RwLock<BTreeSet<(Kind, Bytes)>>,
    /// Those among them of clients whose messages are another group's, and how many have each.
    foreign: Mutex<BTreeMap<(Kind, Bytes), usize>>,
    changed: Notify,
    /// Those of them that a backend has confirmed, and who waits for the others.
    covered: RwLock<BTreeSet<(Kind, Bytes)>>,
    waiting: Mutex<Vec<Waiting>>,
    /// Messages that were handed to subscribers, each counted once for each of them.
    pub delivered: AtomicU64,
    /// Messages that were published through the proxy.
    pub published: AtomicU64,
    /// Events of keys that came from a backend.
    pub events: AtomicU64,
    /// Subscribers closed because they did not read.
    pub slow: AtomicU64,
    /// Times that the feed of events moved to another connection.
    pub moves: AtomicU64,
}

impl Hub {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            channels: DashMap::new(),
            shards: DashMap::new(),
            patterns: RwLock::default(),
            subscriptions: AtomicUsize::new(0),
            keyspace: RwLock::default(),
            foreign: Mutex::default(),
            changed: Notify::new(),
            covered: RwLock::default(),
            waiting: Mutex::default(),
            delivered: AtomicU64::new(0),
            published: AtomicU64::new(0),
            events: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            moves: AtomicU64::new(0),
        }
    }

    /// Does anybody listen to anything?
    pub fn is_active(&self) -> bool {
        self.subscriptions.load(SeqCst) > 0
    }

    /// Subscriptions of all clients.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Relaxed)
    }

    /// One more subscriber on a worker.
    pub fn enter(&self, kind: Kind, name: &Bytes, worker: usize) {
        self.subscriptions.fetch_add(1, SeqCst);
        let fresh = || vec![0; self.workers].into_boxed_slice();
        match self.table(kind) {
            Some(table) => table.entry(name.clone()).or_insert_with(fresh)[worker] += 1,
            None => {
                let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
                patterns.entry(name.clone()).or_insert_with(fresh)[worker] += 1;
            }
        }
        if may_be_keyspace(kind, name) {
            self.want_keyspace(kind, name);
        }
    }

    /// One more client wants events of this group's keys, and its messages from another group.
    pub fn enter_foreign(&self, kind: Kind, name: &Bytes) {
        *self.foreign().entry((kind, name.clone())).or_default() += 1;
        self.want_keyspace(kind, name);
    }

    /// One of these less.
    pub fn leave_foreign(&self, kind: Kind, name: &Bytes) {
        let id = (kind, name.clone());
        let mut foreign = self.foreign();
        let Some(count) = foreign.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            foreign.remove(&id);
            drop(foreign);
            self.forget_keyspace(kind, name);
        }
    }

    fn foreign(&self) -> MutexGuard<'_, BTreeMap<(Kind, Bytes), usize>> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want_keyspace(&self, kind: Kind, name: &Bytes) {
        let mut keyspace = self.keyspace.write().unwrap_or_else(PoisonError::into_inner);
        if keyspace.insert((kind, name.clone())) {
            self.changed.notify_one();
        }
    }

    /// One subscriber less.
    pub fn leave(&self, kind: Kind, name: &Bytes, worker: usize) {
        self.subscriptions.fetch_sub(1, SeqCst);
        let less = |counts: &mut Counts| {
            counts[worker] = counts[worker].saturating_sub(1);
            counts.iter().all(|count| *count == 0)
        };
        let gone = match self.table(kind) {
            Some(table) => table.remove_if_mut(name, |_, counts| less(counts)).is_some(),
            None => {
                let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
                let gone = patterns.get_mut(name).is_some_and(less);
                if gone {
                    patterns.remove(name);
                }
                gone
            }
        };
        if gone && may_be_keyspace(kind, name) {
            self.forget_keyspace(kind, name);
        }
    }

    /// Unless somebody else came meanwhile.
    fn forget_keyspace(&self, kind: Kind, name: &Bytes) {
        let mut keyspace = self.keyspace.write().unwrap_or_else(PoisonError::into_inner);
        let id = (kind, name.clone());
        let is_wanted = self.count(kind, name) > 0 || self.foreign().contains_key(&id);
        if !is_wanted && keyspace.remove(&id) {
            self.changed.notify_one();
        }
    }

    fn table(&self, kind: Kind) -> Option<&DashMap<Bytes, Counts>> {
        match kind {
            Kind::Channel => Some(&self.channels),
            Kind::Shard => Some(&self.shards),
            Kind::Pattern => None,
        }
    }

    /// Subscribers of exactly this name.
    pub fn count(&self, kind: Kind, name: &[u8]) -> u64 {
        let sum = |counts: &Counts| counts.iter().map(|count| u64::from(*count)).sum();
        match self.table(kind) {
            Some(table) => table.get(name).map_or(0, |counts| sum(counts.value())),
            None => {
                let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
                patterns.get(name).map_or(0, sum)
            }
        }
    }

    /// Who gets a message on this channel: how many subscriptions, and on which workers.
    pub fn reach(&self, sharded: bool, channel: &[u8]) -> (u64, Vec<bool>) {
        let (mut sum, mut workers) = (0, vec![false; self.workers]);
        let mut add = |counts: &Counts| {
            for (worker, count) in workers.iter_mut().zip(counts) {
                sum += u64::from(*count);
                *worker |= *count > 0;
            }
        };
        let table = if sharded { &self.shards } else { &self.channels };
        if let Some(counts) = table.get(channel) {
            add(counts.value());
        }
        if !sharded {
            let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
            patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel)).for_each(|(_, c)| add(c));
        }
        (sum, workers)
    }

    /// The names with subscribers that match.
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Bytes> {
        let wanted = |name: &Bytes| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        match self.table(kind) {
            Some(table) => table.iter().map(|entry| entry.key().clone()).filter(wanted).collect(),
            None => {
                let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
                patterns.keys().filter(|name| wanted(name)).cloned().collect()
            }
        }
    }

    /// How many names have subscribers.
    pub fn len(&self, kind: Kind) -> usize {
        match self.table(kind) {
            Some(table) => table.len(),
            None => self.patterns.read().unwrap_or_else(PoisonError::into_inner).len(),
        }
    }

    /// What must be subscribed to at a backend, because only backends tell it.
    pub fn wanted_events(&self) -> BTreeSet<(Kind, Bytes)> {
        self.keyspace.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until [`Self::wanted_events`] may give another answer.
    pub async fn events_changed(&self) {
        self.changed.notified().await;
    }

    /// Does a backend tell this already?
    pub fn is_covered(&self, kind: Kind, name: &Bytes) -> bool {
        let covered = self.covered.read().unwrap_or_else(PoisonError::into_inner);
        covered.contains(&(kind, name.clone()))
    }

    /// A session waits until what it subscribed to is covered.
    pub fn wait_for_events(&self, worker: usize, session: u32, ticket: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((worker, session, ticket));
        self.changed.notify_one();
    }

    /// A backend tells all this from now on. Those who need wait no longer, unless more is wanted by now.
    pub fn cover(&self, names: &BTreeSet<(Kind, Bytes)>) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.covered.write().unwrap_or_else(PoisonError::into_inner).clone_from(names);
        let all = self.keyspace.read().unwrap_or_else(PoisonError::into_inner).is_subset(names);
        if all { std::mem::take(&mut waiting) } else { Vec::new() }
    }

    /// Those who wait: no backend can tell it now.
    pub fn give_up_waiting(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Is a published message handed out by the proxy itself? Events of keys come from a backend.
    pub fn hands_out(&self, channel: &[u8]) -> bool {
        !is_keyspace(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn subscribers_are_counted_by_channel_pattern_and_worker() {
        let hub = Hub::new(2);
        assert!(!hub.is_active());
        hub.enter(Kind::Channel, &name("news"), 0);
        hub.enter(Kind::Channel, &name("news"), 0);
        hub.enter(Kind::Pattern, &name("n*"), 1);
        hub.enter(Kind::Pattern, &name("x*"), 1);
        hub.enter(Kind::Shard, &name("news"), 1);
        assert_eq!(hub.reach(false, b"news"), (3, vec![true, true]));
        assert_eq!(hub.reach(false, b"nobody"), (1, vec![false, true]));
        assert_eq!(hub.reach(true, b"news"), (1, vec![false, true]));
        assert_eq!((hub.count(Kind::Channel, b"news"), hub.len(Kind::Pattern)), (2, 2));
        assert_eq!(hub.names(Kind::Channel, Some(b"n?ws")), [name("news")]);
        hub.leave(Kind::Channel, &name("news"), 0);
        hub.leave(Kind::Pattern, &name("n*"), 1);
        assert_eq!(hub.reach(false, b"news"), (1, vec![true, false]));
        hub.leave(Kind::Channel, &name("news"), 0);
        hub.leave(Kind::Pattern, &name("x*"), 1);
        hub.leave(Kind::Shard, &name("news"), 1);
        assert!(!hub.is_active() && hub.len(Kind::Channel) == 0 && hub.len(Kind::Pattern) == 0);
    }

    #[test]
    fn events_are_wanted_as_long_as_somebody_listens() {
        let hub = Hub::new(1);
        let del = name("__keyevent@0__:del");
        hub.enter(Kind::Channel, &name("news"), 0);
        assert!(hub.wanted_events().is_empty());
        hub.enter(Kind::Channel, &del, 0);
        hub.enter(Kind::Channel, &del, 0);
        hub.leave(Kind::Channel, &del, 0);
        assert_eq!(hub.wanted_events().len(), 1);
        hub.leave(Kind::Channel, &del, 0);
        assert!(hub.wanted_events().is_empty());
        assert!(hub.hands_out(b"news") && !hub.hands_out(&del));
    }
}
