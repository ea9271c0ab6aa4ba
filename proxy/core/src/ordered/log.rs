//! The in-memory ring of log entries, bounded by bytes.

use super::entry::{Entry, Position, TailEntry};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// The latest entries of a group's log. What fell out at the front can no longer be fed.
#[derive(Debug)]
pub struct Log {
    /// The position before the first entry.
    base: Position,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    limit: usize,
    pushed: u64,
}

impl Log {
    /// An empty ring that starts after `base` and keeps at most `limit` bytes of payload.
    pub fn new(base: Position, limit: usize) -> Self {
        Self { base, entries: VecDeque::new(), bytes: 0, limit, pushed: 0 }
    }

    /// A ring that ends at `head`, filled from a backend's tail as far back as it is unbroken.
    pub fn from_tail(head: Position, tail: &[TailEntry], limit: usize) -> Self {
        let mut log = Log::new(head, limit);
        let mut want = head;
        for (i, item) in tail.iter().enumerate().rev() {
            if item.position != want {
                break;
            }
            let Some(before) = previous(tail, i) else { break };
            let entry = restore(item);
            if entry.position != before.next(entry.position.epoch, &entry.payload) && !entry.elided {
                break;
            }
            log.bytes += entry.len();
            log.entries.push_front(Arc::new(entry));
            log.base = before;
            want = before;
        }
        log
    }

    /// The position after the last entry.
    pub fn head(&self) -> Position {
        self.entries.back().map_or(self.base, |entry| entry.position)
    }

    /// The position before the first entry still here.
    pub fn base(&self) -> Position {
        self.base
    }

    /// Bytes of payload held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of payload that were ever added at the head.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// The entry numbered `seq`.
    pub fn get(&self, seq: u64) -> Option<&Arc<Entry>> {
        let index = seq.checked_sub(self.base.seq + 1)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// Is this position on this log, and is everything after it still here?
    pub fn holds(&self, position: Position) -> bool {
        position == self.base || self.get(position.seq).is_some_and(|entry| entry.position == position)
    }

    /// Adds an entry at the head and drops old ones beyond the limit. The newest always stays.
    /// Returns those, oldest first.
    pub fn push(&mut self, entry: Arc<Entry>) -> Vec<Arc<Entry>> {
        assert_eq!(entry.position.seq, self.head().seq + 1, "entries are numbered without gaps");
        self.bytes += entry.len();
        self.pushed += entry.len() as u64;
        self.entries.push_back(entry);
        let mut fallen = Vec::new();
        while self.bytes > self.limit && self.entries.len() > 1 {
            let Some(old) = self.entries.pop_front() else { break };
            self.bytes -= old.len();
            self.base = old.position;
            fallen.push(old);
        }
        fallen
    }

    /// The position after entry `seq`, if it is here.
    pub fn position(&self, seq: u64) -> Option<Position> {
        if seq == self.base.seq { Some(self.base) } else { self.get(seq).map(|entry| entry.position) }
    }

    /// Takes the head entry back: only for one that no replica applied or ever will.
    pub fn retract(&mut self) -> Option<Arc<Entry>> {
        let entry = self.entries.pop_back()?;
        self.bytes -= entry.len();
        Some(entry)
    }
}

/// The position before tail item `i`: that of the item before it, or the empty log.
fn previous(tail: &[TailEntry], i: usize) -> Option<Position> {
    match i {
        0 if tail[0].position.seq == 1 => Some(Position::default()),
        0 => None,
        _ => Some(tail[i - 1].position),
    }
}

fn restore(item: &TailEntry) -> Entry {
    let payload: Vec<Bytes> = item.payload.iter().filter(|bytes| !bytes.is_empty()).cloned().collect();
    Entry {
        position: item.position,
        payload,
        commands: item.commands,
        dialect: 2,
        trim: 0,
        elided: item.payload.is_none(),
        whole: item.whole.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(log: &Log, text: &'static str) -> Arc<Entry> {
        let payload = vec![Bytes::from_static(text.as_bytes())];
        let position = log.head().next(1, &payload);
        Arc::new(Entry { position, payload, commands: 1, dialect: 2, trim: 0, elided: false, whole: vec![] })
    }

    fn filled(limit: usize) -> Log {
        let mut log = Log::new(Position::default(), limit);
        for text in ["one", "two", "three"] {
            log.push(entry(&log, text));
        }
        log
    }

    #[test]
    fn old_entries_leave_at_the_front() {
        let log = filled(8);
        assert_eq!(log.base().seq, 1);
        assert!(log.get(1).is_none());
        assert!(log.holds(log.base()));
        assert!(log.holds(log.head()));
    }

    #[test]
    fn a_position_with_another_history_is_not_held() {
        let log = filled(100);
        let mut other = log.head();
        other.hash ^= 1;
        assert!(!log.holds(other));
    }

    fn tail_of(log: &Log) -> Vec<TailEntry> {
        let item = |seq| {
            let entry = log.get(seq).expect("kept");
            TailEntry {
                position: entry.position,
                commands: 1,
                payload: Some(entry.payload[0].clone()),
                whole: vec![],
            }
        };
        (log.base().seq + 1..=log.head().seq).map(item).collect()
    }

    #[test]
    fn a_tail_rebuilds_the_ring_as_far_as_it_is_unbroken() {
        let log = filled(100);
        let mut tail = tail_of(&log);
        let rebuilt = Log::from_tail(log.head(), &tail, 100);
        assert_eq!(rebuilt.base(), Position::default());
        assert_eq!(rebuilt.head(), log.head());

        tail[1].position.hash ^= 1;
        let broken = Log::from_tail(log.head(), &tail, 100);
        assert_eq!(broken.base(), log.head(), "the entry before the last does not chain to it");
    }

    #[test]
    fn a_tail_whose_payload_was_changed_is_not_believed() {
        let log = filled(100);
        let mut tail = tail_of(&log);
        tail[2].payload = Some(Bytes::from_static(b"evil"));
        assert_eq!(Log::from_tail(log.head(), &tail, 100).base(), log.head());
    }

    #[test]
    fn retracting_gives_the_number_back() {
        let mut log = filled(100);
        let head = log.head();
        log.retract();
        assert_eq!(log.head().seq, 2);
        log.push(entry(&log, "three"));
        assert_eq!(log.head(), head);
    }
}
