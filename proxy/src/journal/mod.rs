//! The journal: the durable record of a group's log entries, in rotating SQLite files.
//!
//! It never blocks who appends, never claims an entry that it cannot give back, and knows
//! nothing of what the payloads mean. Order of reading: `batch` is a row, `file` holds rows,
//! `scan` tells what a folder holds, `store` keeps the files, `worker` serves the queue.

mod batch;
mod error;
mod file;
mod folder;
mod pending;
mod queue;
mod read;
mod scan;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;
mod worker;

pub use error::JournalError;
pub use sqlite::SqliteJournal;

use quorate_core::ordered::{Entry, Position};
use std::sync::Arc;
use std::time::Duration;

/// When an entry counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncLevel {
    /// Written: survives the end of the process, not always a power loss. For hints.
    Normal,
    /// Written and synced: survives a power loss, as far as the disk keeps its word.
    Full,
}

/// Limits and durability of one group's journal.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// When an entry counts as recorded.
    pub sync: SyncLevel,
    /// Bytes recorded before the oldest files are dropped. On disk the newest file may take twice its share.
    pub max_bytes: u64,
    /// Files whose newest entry is older than this are dropped, owed or not.
    pub max_age: Duration,
    /// Bytes after which a new file is begun; lowered to half of `max_bytes` where that is less.
    pub file_bytes: u64,
    /// Bytes of entries that may wait for the disk; beyond it the journal fails rather than wait.
    pub queue_bytes: usize,
    /// Pause between two attempts to go on after a failure.
    pub retry: Duration,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            sync: SyncLevel::Full,
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(24 * 60 * 60),
            file_bytes: 64 << 20,
            queue_bytes: 64 << 20,
            retry: Duration::from_secs(1),
        }
    }
}

/// What a journal tells the owner of the group, from its own thread, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEvent {
    /// This entry and those before it in [`Journal::span`] are recorded.
    ///
    /// A whole position: a number can be taken back and used again, so that `through.seq` alone
    /// could be mistaken for a later entry of the same number.
    Durable {
        /// The newest entry recorded.
        through: Position,
    },
    /// Entries from this number on are removed, and will not come back by a restart. After a failure one answer
    /// covers all retractions of this number and later ones.
    Retracted {
        /// The first number removed.
        from: u64,
    },
    /// Nothing is recorded until [`JournalEvent::Recovered`]. Sent once for each failure.
    /// Whether entries not yet reported durable are on disk is unknown.
    Failed {
        /// A sentence for the operator.
        error: String,
    },
    /// Appended entries from this number on are recorded again. Those lost between are missed: unless
    /// the owner appends them again, from the end of [`Journal::span`] on, the next append drops
    /// everything before the gap.
    Recovered {
        /// One more than the last number seen.
        from: u64,
    },
    /// Entries up to here are gone: bound by bytes or age, lost with a file, or left behind a gap.
    Dropped {
        /// The last number that is gone.
        through: u64,
    },
}

/// The entries that a journal holds, without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first entry held.
    pub oldest: Position,
    /// The last entry held.
    pub newest: Position,
}

/// Receives [`JournalEvent`]s on the journal's thread, which waits for it: must be quick, and must not panic.
pub type Notify = Box<dyn Fn(JournalEvent) + Send + Sync>;

/// Receives the answer to [`Journal::read`], on the journal's thread.
pub type ReadReply = Box<dyn FnOnce(Result<Vec<Entry>, JournalError>) + Send>;

/// A durable record of one group's log. No call waits for the disk.
pub trait Journal: Send + Sync {
    /// Records entries, which follow each other by number and chain hash.
    ///
    /// Where the first does not follow the newest entry held, it replaces everything from its
    /// number on; where it does not follow what is then left either, all of that is dropped.
    fn append(&self, entries: Vec<Arc<Entry>>);

    /// Removes entries from this number on; [`JournalEvent::Retracted`] says when it is done.
    /// Asked of a failed journal, it is done on recovery.
    fn retract(&self, from: u64);

    /// Reads entries from number `from` on: as many as fit in `max_bytes` of payload, but at least one.
    ///
    /// Empty when `from` is past the newest. They follow each other by chain hash; that the
    /// first follows what the reader holds is for the reader to check. Of an entry's payload
    /// slices one comes back.
    ///
    /// Errors: [`JournalError::Gone`], [`JournalError::Corrupt`], [`JournalError::Busy`],
    /// [`JournalError::Closed`], or what the file system says.
    fn read(&self, from: u64, max_bytes: usize, reply: ReadReply);

    /// Nobody is owed entries up to this number: files that hold no others are deleted, soon.
    fn release(&self, through: u64);

    /// What is recorded and can be read; `None` when that is nothing.
    fn span(&self) -> Option<Span>;

    /// The newest entry recorded.
    fn head(&self) -> Option<Position> {
        self.span().map(|span| span.newest)
    }
}
