//! What is counted, and how it is told: metrics for machines, log lines for people.

mod metrics;

pub use metrics::{Metrics, render};

use crate::config::{Log, LogFormat};
use quorate_core::ordered::{Note, ReplicaState};
use quorate_core::plan::OpClass;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the latency histogram in microseconds: doubling from 64 µs to 4 s.
pub const BOUNDS_US: [u64; 17] = {
    let mut bounds = [0; 17];
    let mut i = 0;
    while i < 17 {
        bounds[i] = 64 << i;
        i += 1;
    }
    bounds
};

/// Counted by one worker. Only its own thread writes, so a plain load and store will do.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCounters {
    requests: [AtomicU64; OpClass::ALL.len()],
    local: AtomicU64,
    not_carried: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    latency: [AtomicU64; BOUNDS_US.len() + 1],
    latency_us: AtomicU64,
}

#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed) + n, Relaxed);
}

impl WorkerCounters {
    /// A request of this class went to its group.
    #[inline]
    pub fn request(&self, class: OpClass) {
        add(&self.requests[class as usize], 1);
    }

    /// Answered by the proxy itself.
    pub fn local(&self) {
        add(&self.local, 1);
    }

    /// Refused because the command is not carried.
    pub fn not_carried(&self) {
        add(&self.not_carried, 1);
    }

    /// `n` requests ended in an error of ours.
    pub fn failed(&self, unknown: bool, n: u64) {
        add(if unknown { &self.unknown } else { &self.refused }, n);
    }

    /// A burst was answered after this many microseconds.
    #[inline]
    pub fn answered(&self, us: u64) {
        // 64 is 2 to the 6th: the index is how many doublings above it.
        let index =
            (64 - us.saturating_sub(1).leading_zeros() as usize).saturating_sub(6).min(BOUNDS_US.len());
        add(&self.latency[index], 1);
        add(&self.latency_us, us);
    }
}

/// Counted for one group, by whichever thread.
#[derive(Debug, Default)]
pub struct GroupCounters {
    divergences: AtomicU64,
    refusals: AtomicU64,
    retracted: AtomicU64,
    losses: AtomicU64,
    mends: AtomicU64,
    mend_failures: AtomicU64,
    /// Times that the journal failed.
    pub journal_failures: AtomicU64,
    /// Scripts that every replica ran by itself, outside of transactions.
    pub scripts_alike: AtomicU64,
    /// Calls of the policy that failed.
    pub policy_faults: std::sync::Arc<AtomicU64>,
}

impl GroupCounters {
    /// Is the divergence counted last one to tell of? The first, and then each thousandth.
    pub fn divergences_tell(&self) -> bool {
        self.divergences.load(Relaxed) % 1000 == 1
    }

    /// Counts what the core noted.
    pub fn note(&self, note: &Note) {
        let counter = match note {
            Note::Divergence { .. } => &self.divergences,
            Note::Refused { .. } => &self.refusals,
            Note::Retracted { .. } => &self.retracted,
            Note::Mended { .. } => &self.mends,
            Note::Unmended { .. } => &self.mend_failures,
            Note::State { now: ReplicaState::Down, .. } => &self.losses,
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// Sends log lines to standard error. Does nothing when a subscriber is there already.
pub fn start_logging(log: &Log) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("QUORATE_LOG").unwrap_or_else(|_| EnvFilter::new(log.level.name()));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let _ = match log.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets() {
        let counters = WorkerCounters::default();
        for us in [0, 1, 64, 65, 128, 129, 4_194_304, 4_194_305] {
            counters.answered(us);
        }
        let seen: Vec<u64> = counters.latency.iter().map(|c| c.load(Relaxed)).collect();
        assert_eq!(&seen[..4], [3, 2, 1, 0]);
        assert_eq!(&seen[16..], [1, 1]);
    }
}
