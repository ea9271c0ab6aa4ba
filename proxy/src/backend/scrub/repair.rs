//! Repairing what a scrub found: the keys go to the mending of the core, which copies them from a replica that
//! holds what most hold. A key counts as mended only when another survey has seen it equal.

use super::LOOK;
use super::page::{Suspect, Verdict};
use super::work::{Stop, TRIES, Work};
use quorate_core::ordered::{Event, Keys, ReplicaState};
use quorate_core::rule::{Mask, indices};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A replica that is not back in sync after this long was not mended.
const MEND_LIMIT: Duration = Duration::from_secs(30);

/// A key that a minority holds differently.
#[derive(Clone)]
pub(super) struct Minority {
    pub(super) suspect: Suspect,
    pub(super) like: Mask,
    pub(super) differ: Mask,
}

impl Work<'_> {
    /// Gives what differs to the mending, and looks whether that helped.
    pub(super) async fn mend(&mut self, minorities: &[Minority], bytes: u64) -> Result<(), Stop> {
        let mut jobs: BTreeMap<(usize, Mask), Keys> = BTreeMap::new();
        for Minority { suspect, like, differ } in minorities {
            for replica in indices(*differ) {
                jobs.entry((replica, *like)).or_default().insert(suspect.key.clone());
            }
        }
        for ((replica, like), keys) in jobs {
            if let Err(problem) = self.mend_one(replica, like, keys).await {
                let name = self.of.shared.replica(replica);
                self.report.note(&format!("{name} was not mended: {problem}"));
            }
        }
        let equal = self.count_equal(minorities, bytes).await;
        self.report.mended += equal.as_ref().copied().unwrap_or(0);
        self.report.undecided += minorities.len() as u64 - equal.as_ref().copied().unwrap_or(0);
        equal.map(drop)
    }

    /// How many of these keys are the same now, by the word of those who differed too?
    async fn count_equal(&self, minorities: &[Minority], bytes: u64) -> Result<u64, Stop> {
        let mut left: Vec<Minority> = minorities.to_vec();
        let mut equal = 0;
        for _ in 0..TRIES {
            let suspects: Vec<Suspect> = left.iter().map(|minority| minority.suspect.clone()).collect();
            let (present, verdicts) = match self.look(&suspects, bytes).await {
                Ok(Some(found)) => found,
                Ok(None) | Err(Stop::Lost) => break,
                Err(stop) => return Err(stop),
            };
            let mut again = Vec::new();
            for (minority, verdict) in left.into_iter().zip(verdicts) {
                match verdict {
                    Verdict::Equal => equal += u64::from(minority.differ & !present == 0),
                    Verdict::Again(suspect) => again.push(Minority { suspect, ..minority }),
                    Verdict::Minority { .. } | Verdict::Undecided => {}
                }
            }
            left = again;
            if left.is_empty() {
                break;
            }
        }
        Ok(equal)
    }

    async fn mend_one(&self, replica: usize, like: Mask, keys: Keys) -> Result<(), String> {
        let state = || self.of.driver.borrow().group().health().replicas[replica].state;
        self.of.driver.borrow_mut().run([Event::Mend { replica, keys, like }]);
        if state() != ReplicaState::Mending {
            return Err("a write rule could not be met without it".into());
        }
        let back = async {
            loop {
                match state() {
                    ReplicaState::InSync => return Ok(()),
                    ReplicaState::Stale(_) => return Err("its values could not be copied".into()),
                    _ => sleep(LOOK).await,
                }
            }
        };
        timeout(MEND_LIMIT, back).await.unwrap_or_else(|_| Err("it did not come back".into()))
    }
}
