//! What every thread may know of a group: names, routing, health, counters. The sequencer
//! itself lives on one thread and is not here.

use crate::backend::reseed::ReseedFacts;
use crate::backend::scrub::ScrubDesk;
use crate::listen::inspect::Inspection;
use crate::listen::monitor::Watchers;
use crate::listen::pubsub::Hub;
use crate::listen::tracking::Tracker;
use crate::memory::Memory;
use crate::scripts::Scripts;
use crate::telemetry::GroupCounters;
use arc_swap::ArcSwap;
use quorate_core::ordered::{Cause, Health};
use quorate_core::plan::{Outcome, Table};
use quorate_core::rule;
use quorate_wire::command::Command;
use quorate_wire::resp::Reserved;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A plan table and the numbers by which the sequencer knows its plans.
#[derive(Debug)]
pub struct Routing {
    /// The table.
    pub table: Table,
    /// By outcome.
    pub numbers: Vec<u16>,
    /// Digest of the table, as shown to operators.
    pub digest: String,
}

impl Routing {
    /// The sequencer's number for an outcome; `None` for outcomes that are no plan.
    #[inline]
    pub fn number(&self, outcome: Outcome) -> Option<u16> {
        self.numbers.get(usize::from(outcome)).copied()
    }
}

/// One bit a command of the table: set where some replica does not have it. It is asked for every request, and
/// changes when a backend is attached.
#[derive(Debug)]
pub struct Missing(Vec<AtomicU64>);

impl Default for Missing {
    fn default() -> Self {
        let words = quorate_wire::command::all().len().div_ceil(64);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Missing {
    /// Marks every command for which `test` holds, and no other.
    pub fn set(&self, test: impl Fn(&Command) -> bool) {
        let all = quorate_wire::command::all();
        for (word, commands) in self.0.iter().zip(all.chunks(64)) {
            let bits = commands.iter().enumerate().filter(|(_, command)| test(command));
            word.store(bits.fold(0, |word, (bit, _)| word | 1 << bit), Ordering::Relaxed);
        }
    }

    /// Is this command missing somewhere?
    #[inline]
    pub fn has(&self, command: &'static Command) -> bool {
        let index = command.index();
        self.0.get(index / 64).is_some_and(|word| word.load(Ordering::Relaxed) >> (index % 64) & 1 == 1)
    }
}

/// What a backend last said of itself, for status.
#[derive(Debug, Clone, Default)]
pub struct BackendFacts {
    /// `redis 7.0.15`.
    pub server: String,
    /// The address in use, or tried last.
    pub address: String,
    /// Why it is not attached; empty when it is.
    pub problem: String,
    /// Copying all data to it.
    pub reseed: ReseedFacts,
}

/// A group, seen from any thread.
#[derive(Debug)]
pub struct GroupShared {
    /// Its name.
    pub name: String,
    /// Its place in the configuration.
    pub index: usize,
    /// Names of its replicas, by index.
    pub replicas: Vec<String>,
    /// Writes are acknowledged by the in-sync set, of at least so many.
    pub fewest_in_sync: Option<u32>,
    /// Keys of ours in its backends.
    pub reserved: Reserved,
    /// Where requests go.
    pub routing: Arc<ArcSwap<Routing>>,
    /// Commands that some replica does not know.
    pub missing: Missing,
    /// The sequencer's latest report.
    pub health: ArcSwap<Health>,
    /// Facts about each backend.
    pub facts: Vec<Mutex<BackendFacts>>,
    /// By replica: tells its present run from others, once it is attached.
    pub runs: Vec<AtomicU16>,
    /// Texts of scripts that its clients sent.
    pub scripts: Scripts,
    /// Backends run different versions.
    pub mixed: AtomicBool,
    /// All backends are known to be of one build, so that a script does the same on each.
    pub alike: AtomicBool,
    /// Its scrubs.
    pub scrub: ScrubDesk,
    /// Who fenced us, in words.
    pub fenced: AtomicU64,
    /// Numbers for metrics.
    pub counters: GroupCounters,
    /// Who listens to its messages.
    pub hub: Hub,
    /// Who watches what its clients send.
    pub watchers: Watchers,
    /// Who may cache its keys.
    pub tracker: Tracker,
    /// What its clients may read and set of the proxy.
    pub inspection: Inspection,
    /// How full its backends are.
    pub memory: Memory,
    /// Description of the policy in force: name and digest.
    pub policy: Mutex<String>,
}

impl GroupShared {
    /// The name of a replica.
    pub fn replica(&self, index: usize) -> String {
        self.replicas.get(index).cloned().unwrap_or_else(|| format!("#{index}"))
    }

    /// Do its backends run different versions, so that one may not read another's values?
    pub fn is_mixed(&self) -> bool {
        self.mixed.load(Ordering::Relaxed)
    }

    /// Does a script do the same on every backend?
    pub fn is_alike(&self) -> bool {
        self.alike.load(Ordering::Relaxed)
    }

    /// Changes what is known of a backend.
    pub fn note(&self, replica: usize, change: impl FnOnce(&mut BackendFacts)) {
        if let Ok(mut facts) = self.facts[replica].lock() {
            change(&mut facts);
        }
    }

    /// The error line for a request that got no reply, without `-`.
    pub fn explain(&self, cause: &Cause, unknown: bool) -> String {
        let (code, promise) = match unknown {
            true => ("UNKNOWN", "it may take effect on all replicas; check before retrying"),
            false => ("NOTAPPLIED", "nothing was changed, safe to retry"),
        };
        let reason = match cause {
            Cause::Backend(error) => {
                let error = String::from_utf8_lossy(error);
                if !unknown {
                    // Clients know the server's own words for that.
                    return error.into_owned();
                }
                error.trim_end_matches('.').into()
            }
            Cause::Deadline { reachable, plan, waited_ms } => {
                let rule = self.rule(*plan);
                let up = rule::names(*reachable, |i| self.replica(i));
                let (some, all) = (reachable.count_ones(), self.replicas.len());
                format!("{some} of {all} replicas {up} in reach for {waited_ms} ms, needed {rule}")
            }
            Cause::Recovering => format!("group '{}' is not serving yet, see 'quorate status'", self.name),
            Cause::Fenced { by } => {
                format!("this proxy was fenced: epoch {by} owns group '{}' now", self.name)
            }
            Cause::Journal => format!(
                "the journal of group '{}' cannot be written, and durability = \"journal\" asks for it",
                self.name
            ),
            Cause::Overload => "too many requests are waiting".into(),
            Cause::ReadLost => "the replica was lost while it answered".into(),
        };
        format!("{code} {reason}; {promise}")
    }

    fn rule(&self, plan: u16) -> String {
        if let Some(fewest) = self.fewest_in_sync {
            let members = self.health.load().in_sync.map(|set| rule::names(set, |i| self.replica(i)));
            return format!("all of {}, and at least {fewest}", members.unwrap_or("the in-sync set".into()));
        }
        let routing = self.routing.load();
        let at = routing.numbers.iter().position(|number| *number == plan);
        let plan = at.and_then(|i| routing.table.plans().get(i));
        plan.map_or_else(|| "a quorum".into(), |plan| plan.write.describe(|i| self.replica(i)))
    }

    /// Records the fence for whoever asks later.
    pub fn set_fenced(&self, by: u64) {
        self.fenced.store(by, Ordering::Relaxed);
    }
}
