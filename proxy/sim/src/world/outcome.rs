//! How a world ended, as it can be told.

use super::faults::Fault;
use super::kind::Kind;
use super::trace::Line;
use std::fmt;

/// What the checkers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All promises were kept.
    Kept,
    /// A history was too tangled to be judged within the budget; nothing else was wrong.
    Undecided {
        /// The key.
        key: String,
    },
    /// A promise was broken.
    Broken {
        /// Which, in a word or two.
        promise: &'static str,
        /// How.
        story: String,
    },
}

/// Counts of one world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Commands answered with a reply.
    pub applied: u64,
    /// Commands refused.
    pub refused: u64,
    /// Commands whose effect is unknown.
    pub unknown: u64,
    /// Reads answered by an owner after a newer one served, and therefore not judged.
    pub late_reads: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Crashes that lost transactions.
    pub losses: u64,
    /// Crashes that lost transactions while a write quorum of others had not got theirs back.
    pub blackouts: u64,
    /// Ownerships that served.
    pub ownerships: u64,
    /// Replicas that got a copy of all data.
    pub reseeds: u64,
    /// Copies of all data that were made key by key, while clients wrote, and finished.
    pub scans: u64,
    /// Surveys that were answered.
    pub surveys: u64,
    /// Simulated microseconds.
    pub simulated_us: u64,
    /// How often each kind of fault struck, in the order of [`Kind::ALL`].
    pub strikes: [u64; Kind::COUNT],
}

impl Stats {
    pub(super) fn count(&mut self, kind: Kind, fault: &Fault) {
        let also = match fault {
            Fault::Crash { loading_us: 1.., .. } => Some(Kind::Loading),
            Fault::StartProxy { fresh: true } => Some(Kind::FreshState),
            _ => None,
        };
        // Some kinds are two faults in a row; one of them is enough.
        let whole = !matches!(fault, Fault::StartProxy { .. }) || kind == Kind::TakeOver;
        let own = Some(kind)
            .filter(|kind| whole && !(*kind == Kind::Blackout && matches!(fault, Fault::CrashProxy { .. })));
        own.into_iter().chain(also).for_each(|kind| self.strikes[kind as usize] += 1);
    }
}

impl std::ops::Add for Stats {
    type Output = Stats;

    fn add(self, other: Stats) -> Stats {
        Stats {
            applied: self.applied + other.applied,
            refused: self.refused + other.refused,
            unknown: self.unknown + other.unknown,
            late_reads: self.late_reads + other.late_reads,
            faults: self.faults + other.faults,
            losses: self.losses + other.losses,
            blackouts: self.blackouts + other.blackouts,
            ownerships: self.ownerships + other.ownerships,
            reseeds: self.reseeds + other.reseeds,
            scans: self.scans + other.scans,
            surveys: self.surveys + other.surveys,
            simulated_us: self.simulated_us + other.simulated_us,
            strikes: std::array::from_fn(|i| self.strikes[i] + other.strikes[i]),
        }
    }
}

/// How a world ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The seed that makes it happen again.
    pub seed: u64,
    /// What the checkers say.
    pub verdict: Verdict,
    /// Counts.
    pub stats: Stats,
    /// The latest lines of what happened.
    pub trace: Vec<Line>,
    /// Hash of everything sent and everything that happened.
    pub digest: u64,
}

impl Outcome {
    /// Was a promise broken?
    pub fn is_broken(&self) -> bool {
        matches!(self.verdict, Verdict::Broken { .. })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Kept => return write!(f, "seed {}: all promises kept", self.seed),
            Verdict::Undecided { key } => return write!(f, "seed {}: undecided on {key}", self.seed),
            Verdict::Broken { promise, story } => writeln!(f, "seed {}: {promise}: {story}", self.seed)?,
        }
        let matters: Vec<&Line> = self.trace.iter().filter(|line| line.matters).collect();
        let last = matters.len().saturating_sub(10);
        matters[last..].iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}
