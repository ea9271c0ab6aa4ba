//! The reseed of a stale replica: all data is copied to it while traffic goes on, by the servers' own
//! replication (`copy`), or key by key through the proxy where the servers cannot reach each other (`scan`).
//!
//! A copy counts for nothing before the ordinary attach has judged it. At most one replica of a group
//! is copied at a time, and only one that is stale.

mod copy;
mod facts;
mod line;
mod meter;
mod pace;
mod pages;
mod scan;
mod target;

pub use facts::{Ask, Ended, Outcome, Progress, ReseedFacts, Stage, Way};
pub use target::Seeding;
pub(super) use target::{is_seeding, left_behind, tidy};

use super::serve::Attendant;
use crate::config::{Backend, Group, Reseed as Mode, ReseedBy};
use quorate_core::ordered::{ReplicaState, StaleReason};
use quorate_core::rule::Mask;
use scan::Scan;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use target::Credentials;
use tokio::time::Instant;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// A replica that stayed well for this long after a reseed begins with the shortest wait again.
const WELL: Duration = Duration::from_secs(600);
/// A replica with data of others is looked at anew this often: somebody may have emptied it.
const FOREIGN_WAIT: Duration = Duration::from_secs(30);

/// What the reseeds of one group's replicas share.
pub struct Seeds {
    backends: Vec<Backend>,
    mode: Mode,
    by: ReseedBy,
    /// Bytes a second of copies through the proxy.
    rate: u64,
    running: Cell<u32>,
}

impl Seeds {
    /// For these replicas, by index, of this group.
    pub fn new(backends: Vec<Backend>, group: &Group) -> Rc<Seeds> {
        let (mode, by, rate) = (group.reseed, group.reseed_by, group.reseed_rate);
        Rc::new(Seeds { backends, mode, by, rate, running: Cell::new(0) })
    }
}

/// What one replica's attendant remembers of its reseeds.
pub struct Reseeds {
    seeds: Rc<Seeds>,
    /// An operator ended one: none begins by itself.
    held: Cell<bool>,
    not_before: Cell<Option<Instant>>,
    wait: Cell<Duration>,
    ended_at: Cell<Option<Instant>>,
    /// The source that did not do the last time.
    avoid: Cell<Option<usize>>,
    /// Why the last one did not help.
    last: RefCell<String>,
    former: RefCell<Option<Credentials>>,
    /// The servers did not reach each other: the next copy goes through the proxy.
    by_scan: Cell<bool>,
    /// A copy through the proxy that only lacks its mending.
    scan: RefCell<Option<Scan>>,
}

impl Reseeds {
    /// Of a replica that had none yet.
    pub fn new(seeds: Rc<Seeds>) -> Reseeds {
        Reseeds {
            seeds,
            held: Cell::new(false),
            not_before: Cell::new(None),
            wait: Cell::new(FIRST_WAIT),
            ended_at: Cell::new(None),
            avoid: Cell::new(None),
            last: RefCell::default(),
            former: RefCell::default(),
            by_scan: Cell::new(false),
            scan: RefCell::default(),
        }
    }

    /// The next one begins by itself only after a wait, longer each time.
    fn back_off(&self) {
        let now = Instant::now();
        if self.ended_at.replace(Some(now)).is_some_and(|before| now - before > WELL) {
            self.wait.set(FIRST_WAIT);
        }
        self.not_before.set(Some(now + self.wait.get()));
        self.wait.set((self.wait.get() * 2).min(LONGEST_WAIT));
    }
}

/// When, and from whom.
impl Attendant {
    /// Shall this replica get a copy now? If it is stale and shall not, status says why.
    pub(super) fn is_reseed_due(&self) -> bool {
        let state = self.shared.health.load().replicas[self.replica].state;
        if self.reseeds.scan.borrow().is_some() {
            match state {
                // Its mending failed: what is left is copied once more.
                ReplicaState::Stale(_) => return true,
                ReplicaState::Lagging | ReplicaState::InSync => self.end_scan(),
                ReplicaState::Down | ReplicaState::Waiting | ReplicaState::Mending => return false,
            }
        }
        let why_not = match state {
            ReplicaState::Stale(reason) => self.why_no_reseed(reason),
            ReplicaState::Lagging | ReplicaState::InSync => {
                self.refuse_ask("it is not stale any more");
                Some(String::new())
            }
            // What it will be is known in a moment.
            ReplicaState::Down | ReplicaState::Waiting | ReplicaState::Mending => return false,
        };
        self.shared.note(self.replica, |facts| {
            facts.reseed.stale = matches!(state, ReplicaState::Stale(_));
            facts.reseed.advice = why_not.clone().unwrap_or_default();
        });
        why_not.is_none()
    }

    fn why_no_reseed(&self, reason: StaleReason) -> Option<String> {
        let own = &self.reseeds;
        if own.seeds.running.get() > 0 {
            return Some("another replica is being reseeded".into());
        }
        if self.choose_source().is_none() {
            return Some("no replica is in sync that it could be copied from".into());
        }
        if self.is_reseed_asked() {
            return None;
        }
        let last = own.last.borrow();
        let command =
            format!("'quorate reseed --group {} --replica {}'", self.shared.name, self.backend.name);
        let wait = own.not_before.get().map(|at| at.saturating_duration_since(Instant::now()));
        match wait.filter(|wait| !wait.is_zero()) {
            // What it still has may be the second copy of something: a quorum must be able to spare it.
            _ if reason != StaleReason::Blank && !self.is_spare() => {
                Some(format!("too few others are in sync to erase it without being asked: {command}"))
            }
            _ if own.held.get() => Some(format!("its reseed was cancelled; {command} begins it again")),
            _ if own.seeds.mode == Mode::Manual && last.is_empty() => {
                Some(format!("{command} makes it a copy"))
            }
            _ if own.seeds.mode == Mode::Manual => Some(format!("{last}; {command} tries again")),
            Some(wait) => Some(format!("{last}; looked at again in {} s", wait.as_secs() + 1)),
            None => None,
        }
    }

    /// Is all that was acknowledged on a write quorum of others?
    fn is_spare(&self) -> bool {
        if self.shared.fewest_in_sync.is_some() {
            // Who is no member of the record holds nothing that a member lacks.
            return self.shared.health.load().in_sync.is_some_and(|members| members >> self.replica & 1 == 0);
        }
        let health = self.shared.health.load();
        let others = (0..health.replicas.len()).filter(|i| *i != self.replica);
        let in_sync = others.filter(|i| health.replicas[*i].state == ReplicaState::InSync);
        let in_sync: Mask = in_sync.fold(0, |mask, i| mask | 1 << i);
        self.shared.routing.load().table.plans().iter().any(|plan| plan.write.met(in_sync))
    }

    fn is_reseed_asked(&self) -> bool {
        let facts = self.shared.facts[self.replica].lock();
        facts.is_ok_and(|facts| matches!(facts.reseed.asked, Some(Ask::Start { .. })))
    }

    fn take_ask(&self, which: impl Fn(&Ask) -> bool) -> Option<Ask> {
        let mut facts = self.shared.facts[self.replica].lock().ok()?;
        facts.reseed.asked.take_if(|ask| which(ask))
    }

    fn refuse_ask(&self, why: &str) {
        if self.take_ask(|ask| matches!(ask, Ask::Start { .. })).is_some() {
            self.shared.note(self.replica, |facts| facts.reseed.end(Outcome::Refused, why));
        }
    }

    /// It cannot be attached: nothing can be asked of it.
    pub(super) fn forget_reseed(&self) {
        self.refuse_ask("it cannot be attached");
        self.shared.note(self.replica, |facts| facts.reseed.stale = false);
    }

    /// A replica that is in sync; not the one that did not do last time, and not the first in read order,
    /// if there is another.
    fn choose_source(&self) -> Option<usize> {
        let health = self.shared.health.load();
        let good = |i: &usize| {
            *i != self.replica
                && health.replicas[*i].state == ReplicaState::InSync
                && !health.replicas[*i].suspect
        };
        let mut good = (0..health.replicas.len()).rev().filter(good).peekable();
        let last = *good.peek()?;
        Some(good.find(|i| Some(*i) != self.reseeds.avoid.get()).unwrap_or(last))
    }
}

/// The reason as status and log tell it.
pub fn describe(reason: StaleReason) -> &'static str {
    match reason {
        StaleReason::TooFarBehind => "it missed more than the log holds",
        StaleReason::Diverged => "it has entries that are not on the group's log",
        StaleReason::Partial => "a copy to it was begun and not finished",
        StaleReason::Blank => "it is blank although the group has a history",
    }
}
