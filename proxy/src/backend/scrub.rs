//! Scrubbing: the keys of all replicas in sync are compared in the background, at a limited rate, and those
//! that a minority holds differently are mended.
//!
//! The keys come from SCANs on connections of its own; the comparing is done by surveys, which the sequencer
//! asks of all replicas at the same position. Nothing here may decide by answers of different positions.

mod facts;
mod page;
mod repair;
mod sources;
mod work;

pub use facts::{Ask, Outcome, Report, ScrubDesk, ScrubFacts, Totals, Wish};

use crate::config::Backend;
use crate::drive::Driver;
use crate::group::GroupShared;
use quorate_core::ordered::{Phase, ReplicaState};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use work::Work;

const LOOK: Duration = Duration::from_millis(10);
/// A replica that takes no part for this long is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// A scrub that could not be made on time is tried again after this long at the latest.
const RETRY: Duration = Duration::from_secs(3600);

/// The scrubbing of one group. See the module's head.
pub struct Scrubber {
    /// The group's replicas, by index.
    pub backends: Vec<Backend>,
    /// The group.
    pub shared: Arc<GroupShared>,
    /// Its driver.
    pub driver: Rc<RefCell<Driver>>,
    /// Keys a second.
    pub rate: u32,
    /// How often one begins by itself.
    pub every: Option<Duration>,
}

impl Scrubber {
    /// Scrubs when it is asked to, and every so often, as long as the group is ours.
    pub async fn run(self) {
        let mut due = self.every.map(|every| Instant::now() + later(every));
        while !matches!(self.phase(), Phase::Fenced { .. }) {
            let Some(wish) = self.next(due).await else { continue };
            let outcome = self.scrub(wish).await;
            let wait = |every: Duration| if outcome == Outcome::Failed { every.min(RETRY) } else { every };
            due = self.every.map(|every| Instant::now() + later(wait(every)));
        }
    }

    /// Waits for somebody to ask, or for the time; `None` if it was for nothing.
    async fn next(&self, due: Option<Instant>) -> Option<Wish> {
        let asked = self.shared.scrub.wake.notified();
        match due {
            Some(due) => tokio::select! {
                _ = asked => {}
                _ = sleep_until(due) => return Some(Wish::default()),
            },
            None => asked.await,
        }
        match self.shared.scrub.take_ask(|_| true)? {
            Ask::Start(wish) => Some(wish),
            Ask::Cancel => None,
        }
    }

    fn phase(&self) -> Phase {
        self.driver.borrow().group().phase()
    }

    fn in_sync(&self) -> Vec<usize> {
        let health = self.driver.borrow().group().health();
        let in_sync = |i: &usize| health.replicas[*i].state == ReplicaState::InSync;
        (0..health.replicas.len()).filter(in_sync).collect()
    }

    /// Is the replica in sync, or so again in a moment?
    async fn returns(&self, i: usize) -> bool {
        let back = async {
            while !self.in_sync().contains(&i) {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, back).await.is_ok()
    }

    async fn scrub(&self, wish: Wish) -> Outcome {
        let report = Work::begin(self, wish).run().await;
        self.shared.scrub.publish(&report);
        self.log(&report);
        report.outcome.unwrap_or(Outcome::Failed)
    }

    fn log(&self, report: &Report) {
        let Report { keys, differing, mended, undecided, skipped, problem, dry_run, .. } = report;
        let (group, outcome) = (self.shared.name.as_str(), report.outcome.map_or("", Outcome::name));
        if *undecided > 0 {
            tracing::error!(
                group,
                outcome,
                keys,
                differing,
                mended,
                undecided,
                skipped,
                dry_run,
                problem,
                "scrubbed: replicas differ"
            );
        } else if *differing > 0 || !problem.is_empty() {
            tracing::warn!(
                group, outcome, keys, differing, mended, undecided, skipped, dry_run, problem, "scrubbed"
            );
        } else {
            tracing::info!(group, outcome, keys, skipped, dry_run, "scrubbed");
        }
    }
}

/// Up to a tenth more, so that many proxies do not scrub in step.
fn later(every: Duration) -> Duration {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), every.as_micros());
    every + every.mul_f64((random % 1000) as f64 / 10_000.0)
}
