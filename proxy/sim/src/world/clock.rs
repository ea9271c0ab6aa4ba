//! Virtual time and what is due in it. Things due at the same moment happen in the order they were planned.

use super::faults::{Fault, Healing};
use super::kind::Kind;
use super::net::{ConnId, Way};
use quorate_core::ordered::{Entry, Now, Submission};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Wall clock at the beginning of every world, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Due {
    /// The oldest segment of a pipe is there.
    Segment { conn: ConnId, way: Way },
    /// A proxy looks at its timers.
    Tick { proxy: usize },
    /// Requests reach a proxy.
    Submit { proxy: usize, submission: Submission },
    /// A client has an answer.
    Answer { client: usize, ticket: u64 },
    /// A client asks again.
    Wake { client: usize },
    /// A fault of this kind happens.
    Fault(Kind, Fault),
    /// A fault ends.
    Heal(Healing),
    /// A backend writes its append-only file to disk.
    Sync { backend: usize },
    /// A journal's commit ends.
    Recorded { proxy: usize },
    /// A journal that failed tries again.
    Retry { proxy: usize },
    /// What was read from a journal is there.
    Owed { proxy: usize, replica: usize, entries: Vec<Arc<Entry>> },
    /// The operator looks at the group.
    Operator,
}

impl Due {
    /// The process that it happens in.
    pub(super) fn proxy(&self) -> Option<usize> {
        match self {
            Due::Tick { proxy }
            | Due::Submit { proxy, .. }
            | Due::Recorded { proxy }
            | Due::Retry { proxy }
            | Due::Owed { proxy, .. } => Some(*proxy),
            _ => None,
        }
    }
}

/// The clock.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    now_us: u64,
    serial: u64,
    due: BTreeMap<(u64, u64), Due>,
}

impl Agenda {
    pub(super) fn now_us(&self) -> u64 {
        self.now_us
    }

    pub(super) fn now(&self) -> Now {
        Now { us: self.now_us, unix_ms: self.unix_ms() }
    }

    pub(super) fn unix_ms(&self) -> u64 {
        EPOCH_MS + self.now_us / 1000
    }

    pub(super) fn at(&mut self, at_us: u64, due: Due) {
        self.serial += 1;
        self.due.insert((at_us.max(self.now_us), self.serial), due);
    }

    pub(super) fn after(&mut self, us: u64, due: Due) {
        self.at(self.now_us + us, due);
    }

    /// The next thing due not later than `limit_us`, at its time. `None` moves the clock to the limit.
    pub(super) fn next(&mut self, limit_us: u64) -> Option<Due> {
        let first = self.due.first_entry().filter(|entry| entry.key().0 <= limit_us);
        let Some(first) = first else {
            self.now_us = self.now_us.max(limit_us);
            return None;
        };
        let ((at_us, _), due) = first.remove_entry();
        self.now_us = at_us;
        Some(due)
    }
}
