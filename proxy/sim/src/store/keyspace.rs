//! The keys of one server: values, deadlines, an order for SCAN, and what changed.
//! It is told the time; it never shows a key whose deadline has passed.

use std::collections::{BTreeMap, BTreeSet};

use super::reply::Fault;
use super::value::{Kind, Value};

#[derive(Debug, Clone)]
struct Entry {
    value: Value,
    deadline_ms: Option<u64>,
}

/// All keys, with what the commands running on them need to know.
#[derive(Debug, Clone, Default)]
pub(super) struct Keyspace {
    entries: BTreeMap<Vec<u8>, Entry>,
    deadlines: BTreeSet<(u64, Vec<u8>)>,
    by_hash: BTreeSet<(u64, Vec<u8>)>,
    now_ms: u64,
    dirty: u64,
    touched: Vec<Vec<u8>>,
}

impl Keyspace {
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Moves the clock and drops what is past its deadline; true when anything was dropped.
    pub(super) fn set_now(&mut self, now_ms: u64) -> bool {
        self.now_ms = now_ms;
        let mut dropped = false;
        while let Some((deadline, key)) = self.deadlines.first()
            && *deadline < now_ms
        {
            let key = key.clone();
            self.remove(&key);
            dropped = true;
        }
        dropped
    }

    /// Grows with every change; equal before and after means nothing changed.
    pub(super) fn dirty(&self) -> u64 {
        self.dirty
    }

    /// Keys changed since the last call, for WATCH.
    pub(super) fn take_touched(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.touched)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn volatile_len(&self) -> usize {
        self.deadlines.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.entries.keys()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Value, Option<u64>)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.value, entry.deadline_ms))
    }

    /// Keys from a place in hash order on, with their hashes. Places stay valid while keys come and go.
    pub(super) fn scan_from(&self, start: u64) -> impl Iterator<Item = &(u64, Vec<u8>)> {
        self.by_hash.range((start, Vec::new())..)
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn value(&self, key: &[u8]) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The value of a key as one kind; another kind is a fault.
    pub(super) fn read<T: Kind>(&self, key: &[u8]) -> Result<Option<&T>, Fault> {
        self.value(key).map(|value| T::of(value).ok_or(Fault::WRONG_TYPE)).transpose()
    }

    /// Like [`Self::read`], to be changed in place; call [`Self::changed`] afterwards.
    pub(super) fn edit<T: Kind>(&mut self, key: &[u8]) -> Result<Option<&mut T>, Fault> {
        let entry = self.entries.get_mut(key);
        entry.map(|entry| T::of_mut(&mut entry.value).ok_or(Fault::WRONG_TYPE)).transpose()
    }

    /// Like [`Self::edit`], creating an empty value; call [`Self::changed`] afterwards.
    pub(super) fn make<T: Kind>(&mut self, key: &[u8]) -> Result<&mut T, Fault> {
        if !self.contains(key) {
            self.by_hash.insert((scan_hash(key), key.to_vec()));
        }
        let fresh = || Entry { value: T::default().into_value(), deadline_ms: None };
        let entry = self.entries.entry(key.to_vec()).or_insert_with(fresh);
        T::of_mut(&mut entry.value).ok_or(Fault::WRONG_TYPE)
    }

    /// Records `n` changes to a key and drops it when nothing is left in it.
    pub(super) fn changed(&mut self, key: &[u8], n: usize) {
        if self.value(key).is_some_and(Value::is_gone) {
            self.forget(key);
        }
        if n > 0 {
            self.dirty += n as u64;
            self.touched.push(key.to_vec());
        }
    }

    /// Stores a value, keeping the deadline the key had.
    pub(super) fn put_keeping_ttl(&mut self, key: &[u8], value: Value) {
        let deadline_ms = self.deadline_ms(key);
        self.by_hash.insert((scan_hash(key), key.to_vec()));
        self.entries.insert(key.to_vec(), Entry { value, deadline_ms });
        self.changed(key, 1);
    }

    /// Stores a value without a deadline.
    pub(super) fn put(&mut self, key: &[u8], value: Value) {
        self.set_deadline(key, None);
        self.put_keeping_ttl(key, value);
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        self.take(key).is_some()
    }

    /// Removes a key and hands out what it held.
    pub(super) fn take(&mut self, key: &[u8]) -> Option<(Value, Option<u64>)> {
        let entry = self.forget(key)?;
        self.changed(key, 1);
        Some((entry.value, entry.deadline_ms))
    }

    fn forget(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.by_hash.remove(&(scan_hash(key), key.to_vec()));
        if let Some(deadline) = entry.deadline_ms {
            self.deadlines.remove(&(deadline, key.to_vec()));
        }
        Some(entry)
    }

    /// The deadline of a key in unix milliseconds.
    pub(super) fn deadline_ms(&self, key: &[u8]) -> Option<u64> {
        self.entries.get(key)?.deadline_ms
    }

    /// Sets or clears a deadline without counting a change.
    pub(super) fn set_deadline(&mut self, key: &[u8], deadline_ms: Option<u64>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(old) = std::mem::replace(&mut entry.deadline_ms, deadline_ms) {
            self.deadlines.remove(&(old, key.to_vec()));
        }
        if let Some(new) = deadline_ms {
            self.deadlines.insert((new, key.to_vec()));
        }
    }

    pub(super) fn clear(&mut self) {
        self.dirty += self.entries.len() as u64 + 1;
        self.touched.extend(std::mem::take(&mut self.entries).into_keys());
        self.deadlines.clear();
        self.by_hash.clear();
    }
}

/// A place in scan order that fits a signed cursor and is never zero.
pub(super) fn scan_hash(key: &[u8]) -> u64 {
    (xxhash_rust::xxh3::xxh3_64(key) >> 16) | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::value::{List, Text};

    #[test]
    fn deadlines_take_keys_away_after_not_at_their_time() {
        let mut db = Keyspace::default();
        db.put(b"a", Value::Text(b"1".to_vec()));
        db.set_deadline(b"a", Some(100));
        assert!(!db.set_now(100));
        assert!(db.contains(b"a"));
        assert!(db.set_now(101));
        assert!(!db.contains(b"a"));
        assert_eq!(db.scan_from(0).count(), 0);
    }

    #[test]
    fn an_emptied_collection_is_gone() {
        let mut db = Keyspace::default();
        db.make::<List>(b"l").expect("a new key").push_back(b"x".to_vec());
        db.changed(b"l", 1);
        db.edit::<List>(b"l").expect("a list").expect("exists").clear();
        db.changed(b"l", 1);
        assert_eq!(db.len(), 0);
        assert_eq!(db.take_touched().len(), 2);
    }

    #[test]
    fn another_kind_is_a_fault() {
        let mut db = Keyspace::default();
        db.put(b"a", Value::Text(Vec::new()));
        assert_eq!(db.read::<List>(b"a").err(), Some(Fault::WRONG_TYPE));
        assert_eq!(db.read::<Text>(b"a"), Ok(Some(&Vec::new())));
    }
}
