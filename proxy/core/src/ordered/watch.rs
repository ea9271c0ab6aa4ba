//! Clients' transactions: all or nothing, and nothing when a watched key was touched.
//!
//! A client watches *buckets* of keys. Its mark notes how long the log was; a transaction that names the mark is
//! dropped, at the moment of numbering, if a write since then touched one of the buckets. Two keys that share a
//! bucket make a transaction be dropped in vain, which is legal; the other way round never happens.

use super::block::Block;
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A moment in the life of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Number of the last entry then.
    pub(super) head: u64,
    /// How often numbers had been given back: a number says nothing across that.
    pub(super) retractions: u64,
}

/// The place of a `WATCH` in the log. The sequencer fills it in; nobody else looks at it.
#[derive(Debug, Default)]
pub struct Mark(OnceLock<Moment>);

impl Mark {
    /// The first moment counts: what is watched since then is watched since later as well.
    pub(super) fn set(&self, moment: Moment) {
        let _ = self.0.set(moment);
    }

    pub(super) fn moment(&self) -> Option<Moment> {
        self.0.get().copied()
    }
}

/// Buckets that must not be touched since a mark.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Since when.
    pub mark: Arc<Mark>,
    /// Buckets of the keys.
    pub buckets: Arc<[u16]>,
}

/// The commands of a client's transaction: applied as a whole or not at all.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Nothing is applied if one of these was touched.
    pub watches: Vec<Watch>,
    /// Commands whose replies may rightly differ between replicas, by their place in the burst.
    pub unlike: Vec<Range<u32>>,
}

/// Where a read goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Which replica knows; `None` where it begins, and any will do.
    pub replica: Option<usize>,
    /// What to ask another replica instead: to begin anew.
    pub anew: Bytes,
}

/// For how many replicas a session waits, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Await {
    /// How many.
    pub replicas: usize,
    /// They must have it on their disks.
    pub on_disk: bool,
    /// Until when, in monotonic microseconds; `None` for ever.
    pub until_us: Option<u64>,
}

/// What a burst is beside a run of commands.
#[derive(Debug, Clone, Default)]
pub enum Role {
    /// Nothing: the usual case.
    #[default]
    Plain,
    /// No command at all, though it stands in its session's order as a read does: its place in the log is noted.
    /// Its payload is the answer.
    Watch(Arc<Mark>),
    /// A transaction. As a read it may hold no commands, and only ask whether a watched bucket was touched.
    Transaction(Arc<Transaction>),
    /// A write that waits until something is there.
    Block(Arc<Block>),
    /// A read that goes on where an earlier one ended, which only one replica knows. Its answer names the replica.
    Pinned(Arc<Pin>),
    /// No command at all: it is answered with a number, when enough replicas hold what its session wrote before.
    Await(Arc<Await>),
}

impl Role {
    /// The transaction, if it is one.
    pub fn transaction(&self) -> Option<&Arc<Transaction>> {
        match self {
            Role::Transaction(transaction) => Some(transaction),
            Role::Plain | Role::Watch(_) | Role::Block(_) | Role::Pinned(_) | Role::Await(_) => None,
        }
    }

    /// Is it a transaction that may be dropped?
    pub(super) fn watches(&self) -> bool {
        self.transaction().is_some_and(|transaction| !transaction.watches.is_empty())
    }
}
