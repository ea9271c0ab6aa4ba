//! What the core wants done.

use super::entry::Entry;
use super::replica::{ReplicaState, StaleReason};
use crate::rule::Mask;
use bytes::Bytes;
use std::sync::Arc;

/// Something to write to a backend's ordered connection, in the order given.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// Entries to apply in one atomic batch, with the position of the last. Never empty.
    Entries(Vec<Arc<Entry>>),
    /// A read: `commands` commands whose replies belong together.
    Read {
        /// The commands.
        payload: Bytes,
        /// How many.
        commands: u32,
        /// Protocol version of the replies.
        dialect: u8,
    },
    /// The same, for a request whose answer tells errors of the backend as well: it always is an
    /// [`super::Event::Read`].
    Trial {
        /// The commands.
        payload: Bytes,
        /// How many.
        commands: u32,
        /// Protocol version of the replies.
        dialect: u8,
    },
}

/// What a client is told.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The backend's replies to all commands of the burst, verbatim.
    Done(Bytes),
    /// The reply of this replica to a read of which it matters whose it is.
    DoneBy(usize, Bytes),
    /// None of the commands took effect or ever will. Safe to retry.
    Refused(Cause),
    /// A transaction that was dropped because a watched key may have been touched.
    Changed,
    /// The commands may have taken effect, or may still: on all replicas or on none.
    Unknown(Cause),
}

impl Reply {
    /// Bytes of the backend's replies; 0 for anything else.
    pub fn bytes(&self) -> usize {
        match self {
            Reply::Done(bytes) | Reply::DoneBy(_, bytes) => bytes.len(),
            Reply::Refused(_) | Reply::Changed | Reply::Unknown(_) => 0,
        }
    }
}

/// The answer to one burst.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Whose.
    pub session: u32,
    /// Which of the session's bursts.
    pub ticket: u64,
    /// How many commands it held.
    pub commands: u32,
    /// What to say.
    pub reply: Reply,
}

/// Why a request was not answered with a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The deadline passed; these replicas were in reach then, and the rule would need others.
    Deadline {
        /// Replicas that could take writes.
        reachable: Mask,
        /// The plan whose rule was not met.
        plan: u16,
        /// Milliseconds the client waited.
        waited_ms: u64,
    },
    /// Still finding out what the log is: not serving yet.
    Recovering,
    /// A newer owner took the group over.
    Fenced {
        /// Its epoch.
        by: u64,
    },
    /// Too much is waiting already.
    Overload,
    /// Every replica refused with an environment error, for example OOM. The error line.
    Backend(Bytes),
    /// The journal cannot be written, and nothing is acknowledged without it.
    Journal,
    /// The replica was lost, and the session has written since: the read cannot be repeated in its place.
    ReadLost,
}

/// Something to count or to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A replica changed its state.
    State {
        /// Index of the replica.
        replica: usize,
        /// State before.
        was: ReplicaState,
        /// State now.
        now: ReplicaState,
    },
    /// The group serves: this epoch's barrier is committed.
    Serving,
    /// A newer owner took over; this one stopped.
    Fenced {
        /// Its epoch.
        by: u64,
    },
    /// Replicas answered the same entry differently.
    Divergence {
        /// Number of the entry.
        seq: u64,
        /// The one that answered later, differently from one before it.
        replica: usize,
    },
    /// A replica cannot be fed from the log any more.
    Stale {
        /// Index of the replica.
        replica: usize,
        /// Why.
        reason: StaleReason,
    },
    /// A replica that differed holds what the others hold again.
    Mended {
        /// Index of the replica.
        replica: usize,
        /// How many keys were copied.
        keys: usize,
    },
    /// A replica that differs cannot be mended key by key.
    Unmended {
        /// Index of the replica.
        replica: usize,
        /// Why.
        why: &'static str,
    },
    /// A replica refused an entry: environment error.
    Refused {
        /// Index of the replica.
        replica: usize,
        /// The error line.
        error: Bytes,
    },
    /// No replica applied the head entry; it was taken back.
    Retracted {
        /// Its number.
        seq: u64,
    },
}

/// Something for the journal, in the order given.
#[derive(Debug, Clone)]
pub enum Record {
    /// Record these entries, which follow each other.
    Append(Vec<Arc<Entry>>),
    /// Remove the entries from this number on: they were taken back.
    Retract(u64),
    /// Nobody is owed entries up to this number.
    Release(u64),
    /// Read entries for a replica; the answer is [`super::Event::Owed`].
    Read {
        /// Index of the replica.
        replica: usize,
        /// From this number on.
        from: u64,
        /// So many bytes of payload, but at least one entry.
        bytes: usize,
    },
}

/// What a survey found.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// As in [`super::Event::Survey`].
    pub id: u64,
    /// Replicas and their answers, all from the same position, two at least; `None` when it failed.
    pub answers: Option<Vec<(usize, Bytes)>>,
}

/// The effects of one batch of events, in order within each list.
#[derive(Debug, Default)]
pub struct Effects {
    /// Replica and what to write to it.
    pub sends: Vec<(usize, Outgoing)>,
    /// Answers to clients.
    pub answers: Vec<Answer>,
    /// Connections to close because the backend does not answer, with the reason.
    pub drops: Vec<(usize, &'static str)>,
    /// The in-sync set that the coordinator is to hold; the answer is [`super::Event::InSync`].
    pub in_sync: Option<Mask>,
    /// For the journal.
    pub records: Vec<Record>,
    /// Surveys that ended.
    pub surveys: Vec<Surveyed>,
    /// Replicas, and the number of an entry that each has applied: when it has that on its disk,
    /// [`super::Event::Synced`] says so.
    pub syncs: Vec<(usize, u64)>,
    /// For logs and metrics.
    pub notes: Vec<Note>,
}

impl Effects {
    /// Empties all lists, keeping their memory.
    pub fn clear(&mut self) {
        self.sends.clear();
        self.answers.clear();
        self.drops.clear();
        self.records.clear();
        self.in_sync = None;
        self.surveys.clear();
        self.syncs.clear();
        self.notes.clear();
    }

    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
            && self.answers.is_empty()
            && self.drops.is_empty()
            && self.records.is_empty()
            && self.in_sync.is_none()
            && self.surveys.is_empty()
            && self.syncs.is_empty()
            && self.notes.is_empty()
    }
}
