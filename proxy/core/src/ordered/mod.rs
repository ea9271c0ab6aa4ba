//! The ordered engine: one log per group, replicated to ordinary servers in one order.
//!
//! [`Group`] is told what happened and says what to do; it never waits, reads a clock or
//! meets a socket. Payloads are opaque bytes to it.

mod block;
mod by_value;
mod copies;
mod deadlines;
mod effects;
mod entry;
mod group;
mod log;
mod pending;
mod recovery;
mod replica;
mod rules;
mod watch;

pub use block::{Awaited, Block, Cancel};
pub use by_value::{ByValue, Keys, Outcome, Request, TrialId, TrialMark, Tried};
pub use copies::Copies;
pub use deadlines::{Ends, Timed, UnixMs};
pub use effects::{Answer, Cause, Effects, Note, Outgoing, Record, Reply, Surveyed};
pub use entry::{Entry, Position, Replies, TailEntry, runs_fit};
pub use group::{Ack, Group, GroupConfig, Health, Journaling, Past, Phase, Recorded, Stamp};
pub use log::Log;
pub use pending::{Access, Buckets, Burst, Submission};
pub use recovery::Attachment;
pub use replica::{ReplicaState, ReplicaView, StaleReason};
pub use rules::SafetyRules;
pub use watch::{Await, Mark, Pin, Role, Transaction, Watch};

use crate::rule::Mask;
use bytes::Bytes;

/// The time, as the driver saw it when the batch of events began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// Monotonic microseconds; deadlines and patience are counted in these.
    pub us: u64,
    /// Wall clock milliseconds since 1970; only written into commands, never compared for safety.
    pub unix_ms: u64,
}

/// What happened. Events of one replica arrive in the order of its connection.
#[derive(Debug)]
pub enum Event {
    /// Clients' requests.
    Submit(Submission),
    /// A backend is connected, fenced under this epoch, and told where it stands.
    Attached {
        /// Index of the replica.
        replica: usize,
        /// What was read from it after fencing.
        attachment: Attachment,
    },
    /// The backend applied the send that was in flight: one reply a log entry, in order.
    Applied {
        /// Index of the replica.
        replica: usize,
        /// Replies of each entry of the send.
        replies: Vec<Replies>,
    },
    /// The backend applied nothing of the send in flight: an environment error.
    Refused {
        /// Index of the replica.
        replica: usize,
        /// The error line without its leading `-` and line end.
        error: Bytes,
    },
    /// The oldest read in flight on this replica was answered.
    Read {
        /// Index of the replica.
        replica: usize,
        /// The replies of its commands, verbatim.
        bytes: Bytes,
    },
    /// The oldest read in flight on this replica cannot be answered by it now.
    ReadLost {
        /// Index of the replica.
        replica: usize,
    },
    /// Bytes moved on its connection since the last event: it is slow at worst.
    Progress {
        /// Index of the replica.
        replica: usize,
        /// Bytes at hand of an answer that is not complete yet.
        partial: usize,
    },
    /// Where the journal stands now.
    Journal(Recorded),
    /// The coordinator holds this in-sync set now.
    InSync(crate::rule::Mask),
    /// Entries from this number on are removed from the journal, and will not come back.
    Unrecorded {
        /// The first number removed.
        from: u64,
    },
    /// Entries read from the journal for a replica; none when they could not be read.
    Owed {
        /// Index of the replica.
        replica: usize,
        /// The entries, in order.
        entries: Vec<std::sync::Arc<Entry>>,
    },
    /// Asks every replica in sync the same, at the same position; ends in [`Effects::surveys`].
    Survey {
        /// Tells it from others.
        id: u64,
        /// What to ask: reads only, small enough not to hold up what follows.
        request: Request,
        /// Bytes that an answer may well have: servers get the time that takes.
        bytes: usize,
    },
    /// What became of an entry of [`Effects::syncs`].
    Synced {
        /// Index of the replica.
        replica: usize,
        /// The number of the entry that it has on its disk, with all before. Otherwise why it never will, as an
        /// error line without its leading `-` and line end; empty when it only did not say so in time.
        through: Result<u64, Bytes>,
    },
    /// A replica is known to differ in these keys: they are copied to it, if every rule can be met meanwhile.
    Mend {
        /// Index of the replica.
        replica: usize,
        /// The keys.
        keys: Keys,
        /// Replicas that hold what it should hold.
        like: Mask,
    },
    /// Entries that a replica misses mean something else to it than to those that applied them: it needs a copy.
    Unfit {
        /// Index of the replica.
        replica: usize,
    },
    /// Keys that had a deadline when somebody looked.
    Timed {
        /// The keys.
        keys: Vec<Timed>,
        /// Every key with a deadline is known now.
        all: bool,
    },
    /// It could not be attached just now.
    Unreachable {
        /// Index of the replica.
        replica: usize,
    },
    /// The connection is gone, with everything in flight on it.
    Disconnected {
        /// Index of the replica.
        replica: usize,
    },
    /// A newer owner was seen at a backend.
    Fenced {
        /// Its epoch.
        by: u64,
    },
    /// Time passed; wanted every 10 ms or so.
    Tick,
}

#[cfg(test)]
mod tests;
