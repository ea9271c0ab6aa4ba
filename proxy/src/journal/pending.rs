//! What one group commit will do: the commands that queued while the last one ran, as one cut and one append.

use super::batch::follows;
use super::queue::Command;
use super::read::Request;
use quorate_core::ordered::Entry;
use std::sync::Arc;

/// Work for one commit, in this order: cut, then append, then the answers.
#[derive(Default)]
pub(super) struct Pending {
    /// Remove entries from this number on.
    pub cut: Option<u64>,
    /// Entries that follow each other.
    pub entries: Vec<Arc<Entry>>,
    /// Retractions to be confirmed.
    pub retracts: Vec<u64>,
    pub reads: Vec<Request>,
}

impl Pending {
    pub(super) fn new(commands: Vec<Command>) -> Self {
        let mut pending = Self::default();
        for command in commands {
            match command {
                Command::Append(entries) => entries.into_iter().for_each(|entry| pending.append(entry)),
                Command::Retract(from) => pending.retract(from),
                Command::Read(request) => pending.reads.push(request),
            }
        }
        pending
    }

    fn append(&mut self, entry: Arc<Entry>) {
        let follows = |last: &Arc<Entry>| follows(last.position, &entry);
        if !self.entries.last().is_none_or(follows) {
            self.truncate(entry.position.seq);
            if !self.entries.last().is_none_or(follows) {
                // They are behind a gap before they were written.
                let first = self.entries[0].position.seq;
                self.cut_from(first);
                self.entries.clear();
            }
        }
        self.entries.push(entry);
    }

    fn retract(&mut self, from: u64) {
        self.truncate(from);
        self.cut_from(from);
        self.retracts.push(from);
    }

    fn truncate(&mut self, from: u64) {
        self.entries.truncate(self.entries.partition_point(|entry| entry.position.seq < from));
    }

    fn cut_from(&mut self, from: u64) {
        self.cut = Some(self.cut.map_or(from, |cut| cut.min(from)));
    }
}
