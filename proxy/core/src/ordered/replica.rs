//! What the sequencer knows of one replica.

use super::by_value::TrialId;
use super::entry::{Entry, Position};
use super::pending::Burst;
use crate::rule::Mask;
use bytes::Bytes;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// Why a replica cannot be fed from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StaleReason {
    /// It missed more than the log holds, or what the log cannot give it.
    TooFarBehind,
    /// It has entries that are not on the log.
    Diverged,
    /// It has no position though the group has a history.
    Blank,
    /// A copy to it was begun and not finished.
    Partial,
}

impl StaleReason {
    /// Kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            StaleReason::TooFarBehind => "too-far-behind",
            StaleReason::Diverged => "diverged",
            StaleReason::Blank => "blank",
            StaleReason::Partial => "partial",
        }
    }
}

/// A replica's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaState {
    /// Not connected.
    Down,
    /// Connected while the group still finds out what its log is.
    Waiting,
    /// Connected and fed, but behind what is committed.
    Lagging,
    /// Holds everything that is committed.
    InSync,
    /// Differs in some keys, which are being copied to it.
    Mending,
    /// Needs a copy of all data; takes no part until then.
    Stale(StaleReason),
}

impl ReplicaState {
    /// Kebab-case name for metrics and status.
    pub fn name(self) -> &'static str {
        match self {
            ReplicaState::Down => "down",
            ReplicaState::Waiting => "waiting",
            ReplicaState::Lagging => "lagging",
            ReplicaState::InSync => "in-sync",
            ReplicaState::Mending => "mending",
            ReplicaState::Stale(_) => "stale",
        }
    }
}

/// A look at one replica from outside.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ReplicaView {
    /// Its state.
    pub state: ReplicaState,
    /// Number of the last entry it applied.
    pub applied: u64,
    /// Entries it is owed.
    pub lag: u64,
    /// It has not answered for longer than one try.
    pub suspect: bool,
}

/// A send of entries that is not answered yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    pub(super) to: u64,
    /// The position of the last entry.
    pub(super) at: Position,
    /// The same, when it comes from the journal.
    pub(super) beside: Option<Position>,
    pub(super) since_us: u64,
    /// Bytes of its payloads.
    pub(super) bytes: usize,
    /// What the log had ever taken when it was sent.
    pub(super) pushed: u64,
}

/// What is known of a replica's disk. It is asked only when somebody waits for that.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The last entry that it is known to have there.
    pub(super) through: u64,
    /// It was asked, and has not answered.
    pub(super) asked: bool,
    /// It is not asked again before.
    pub(super) again_us: u64,
    /// Why it keeps nothing there.
    pub(super) refusal: Bytes,
}

/// A replica that catches up is not fed before either is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) until_us: u64,
    /// Bytes that the log has ever taken.
    pub(super) pushed: u64,
}

/// Something asked of a replica, beside entries, that is not answered yet.
#[derive(Debug)]
pub(super) struct ReadFlight {
    pub(super) since_us: u64,
    /// Bytes that the reply may well have, as far as that is known.
    pub(super) expected: usize,
    pub(super) asker: Asker,
}

/// Who asked.
#[derive(Debug)]
pub(super) enum Asker {
    /// A client.
    Client(ClientRead),
    /// The mending of this replica; the number tells its questions apart.
    Mend(usize, u64),
    /// The survey with this number.
    Survey(u64),
    /// The trial with this number.
    Trial(u64),
}

/// A client's read on its way.
#[derive(Debug)]
pub(super) struct ClientRead {
    pub(super) burst: Burst,
    pub(super) hold: Hold,
    /// The stage of the session's latest write when this read was sent.
    pub(super) after: u64,
    /// Already sent to another replica or refused; the reply is dropped.
    pub(super) abandoned: bool,
    /// Was tried elsewhere before: it is not moved again only because it is slow.
    pub(super) moved: bool,
}

/// What a read's reply waits for: entry `seq` committed by each rule in the mask. No rule, no wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hold {
    pub(super) seq: u64,
    pub(super) rules: u64,
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) state: ReplicaState,
    /// It was attached under this ownership, so that it is known where it stands.
    pub(super) seen: bool,
    /// Entries up to here are applied.
    pub(super) applied: u64,
    /// Entries up to here were sent on this connection.
    pub(super) sent: u64,
    pub(super) flight: Option<Flight>,
    pub(super) reads: VecDeque<ReadFlight>,
    pub(super) suspect: bool,
    /// When bytes last moved on its connection while something was in flight.
    pub(super) moved_us: u64,
    /// The position of the last entry that it was seen to apply.
    pub(super) at: Option<Position>,
    /// It ran this trial, and holds what the others hold only if the next entry that changes anything carries it.
    pub(super) ran: Option<TrialId>,
    /// Where it stands, while the ring does not reach back to it. Not known to be on the log.
    pub(super) beside: Option<Position>,
    /// What was read from the journal for it, and is not sent yet.
    pub(super) fetched: VecDeque<Arc<Entry>>,
    /// Bytes at hand of the answer that is arriving.
    pub(super) partial: usize,
    /// After an environment error: not before this time, and how long the next wait is.
    pub(super) retry_at_us: u64,
    pub(super) disk: Disk,
    pub(super) backoff_us: u64,
    /// Leaves clients their share of the machines while it catches up.
    pub(super) rest: Option<Rest>,
}

impl Replica {
    pub(super) fn new() -> Self {
        Self {
            state: ReplicaState::Down,
            seen: false,
            applied: 0,
            sent: 0,
            flight: None,
            reads: VecDeque::new(),
            suspect: false,
            moved_us: 0,
            at: None,
            ran: None,
            beside: None,
            fetched: VecDeque::new(),
            partial: 0,
            retry_at_us: 0,
            disk: Disk::default(),
            backoff_us: 0,
            rest: None,
        }
    }

    /// Clients' reads in flight.
    pub(super) fn client_reads(&mut self) -> impl Iterator<Item = &mut ClientRead> {
        self.reads.iter_mut().filter_map(|flight| match &mut flight.asker {
            Asker::Client(read) => Some(read),
            Asker::Mend(..) | Asker::Survey(_) | Asker::Trial(_) => None,
        })
    }

    /// Does a client wait for a read of it?
    pub(super) fn owes_read(&self) -> bool {
        self.reads.iter().any(|flight| matches!(&flight.asker, Asker::Client(read) if !read.abandoned))
    }

    /// Connected and on the log.
    pub(super) fn fed(&self) -> bool {
        matches!(self.state, ReplicaState::Lagging | ReplicaState::InSync)
    }

    /// Fed, and known to hold the log up to what it applied.
    pub(super) fn on_log(&self) -> bool {
        self.fed() && self.beside.is_none()
    }

    /// Out of the group until it gets a copy of all data.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self.state, ReplicaState::Stale(_))
    }

    /// Is it to be left alone for a moment?
    pub(super) fn rests(&self, now_us: u64, pushed: u64) -> bool {
        self.rest.is_some_and(|rest| now_us < rest.until_us && pushed < rest.pushed)
    }

    /// Could take the next entry at once.
    pub(super) fn idle(&self, head: u64) -> bool {
        self.fed() && self.flight.is_none() && self.sent == head && self.retry_at_us == 0
    }

    /// May answer reads: every numbered entry is before them on its connection.
    pub(super) fn readable(&self, head: u64) -> bool {
        self.state == ReplicaState::InSync && self.sent == head && !self.suspect && self.retry_at_us == 0
    }
}

/// The replicas for which `test` holds, as a mask.
pub(super) fn mask(replicas: &[Replica], test: impl Fn(&Replica) -> bool) -> Mask {
    replicas.iter().enumerate().filter(|(_, r)| test(r)).fold(0, |mask, (i, _)| mask | 1 << i)
}
