//! Entries of this ownership on their way to being committed, for those who are told of each once it is.
//! It never tells an entry twice, nor one that was taken back, nor one of an earlier ownership.

use quorate_core::ordered::Entry;
use std::collections::VecDeque;
use std::sync::Arc;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Uncommitted {
    entries: VecDeque<Arc<Entry>>,
    /// Entries up to this number were told.
    told: u64,
}

impl Uncommitted {
    /// These entries were sent to a backend of an owner of this epoch, for the first time or again.
    pub fn sent(&mut self, entries: &[Arc<Entry>], epoch: u64) {
        let newest = self.entries.back().map_or(self.told, |entry| entry.position.seq);
        match entries {
            [.., last] if last.position.seq < newest => {}
            _ => entries.iter().filter(|e| e.position.epoch == epoch).for_each(|entry| self.add(entry)),
        }
    }

    fn add(&mut self, entry: &Arc<Entry>) {
        let seq = entry.position.seq;
        if seq <= self.told {
            return;
        }
        // A number is given again when an entry was taken back.
        while self.entries.back().is_some_and(|last| last.position.seq >= seq && !Arc::ptr_eq(last, entry)) {
            if self.entries.iter().any(|known| Arc::ptr_eq(known, entry)) {
                return;
            }
            self.entries.pop_back();
        }
        if self.entries.back().is_none_or(|last| last.position.seq < seq) {
            self.entries.push_back(entry.clone());
        }
    }

    /// Entries up to `committed` are committed: calls `tell` with each that it was not called with before.
    pub fn settle(&mut self, committed: u64, mut tell: impl FnMut(&Entry)) {
        while let Some(entry) = self.entries.pop_front_if(|entry| entry.position.seq <= committed) {
            tell(&entry);
        }
        self.told = self.told.max(committed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::ordered::Position;

    fn entry(epoch: u64, seq: u64) -> Arc<Entry> {
        let position = Position { epoch, seq, hash: 0 };
        Arc::new(Entry {
            position,
            payload: Vec::new(),
            commands: 1,
            dialect: 2,
            trim: 0,
            elided: false,
            whole: Vec::new(),
        })
    }

    fn told(uncommitted: &mut Uncommitted, committed: u64) -> Vec<u64> {
        let mut told = Vec::new();
        uncommitted.settle(committed, |entry| told.push(entry.position.seq));
        told
    }

    #[test]
    fn each_entry_is_told_once_in_order() {
        let mut waiting = Uncommitted::default();
        let entries = [entry(2, 1), entry(2, 2), entry(2, 3)];
        for one in &entries {
            waiting.sent(std::slice::from_ref(one), 2);
        }
        assert_eq!(told(&mut waiting, 2), [1, 2]);
        // A replica that was away is fed all of them.
        waiting.sent(&entries, 2);
        assert_eq!(told(&mut waiting, 3), [3]);
        waiting.sent(&entries, 2);
        assert_eq!(told(&mut waiting, 9), [] as [u64; 0]);
    }

    #[test]
    fn what_was_taken_back_is_not_told_and_its_number_is() {
        let mut waiting = Uncommitted::default();
        let (first, taken_back, again) = (entry(1, 1), entry(1, 2), entry(1, 2));
        waiting.sent(std::slice::from_ref(&first), 1);
        waiting.sent(&[taken_back], 1);
        waiting.sent(std::slice::from_ref(&again), 1);
        waiting.sent(&[first, again.clone()], 1);
        let mut kept = None;
        waiting.settle(2, |entry| kept = Some(std::ptr::from_ref(entry)));
        assert_eq!(kept, Some(Arc::as_ptr(&again)));
    }

    #[test]
    fn entries_of_an_earlier_ownership_are_not_told() {
        let mut waiting = Uncommitted::default();
        waiting.sent(&[entry(1, 7), entry(2, 8)], 2);
        assert_eq!(told(&mut waiting, 8), [8]);
    }
}
