//! What is told of scrubs: what an operator asked for, how far the one under way is, what the last one found.
//! Plain data that any thread may look at.

use serde::Serialize;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Names of keys that a report holds at most.
const NAMES: usize = 20;
/// Characters of a key's name that are told.
const NAME_LENGTH: usize = 200;

/// What one scrub shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Only report: repair nothing.
    pub dry_run: bool,
    /// Keys a second, if not as configured.
    pub rate: Option<u32>,
}

/// What an operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Compare all keys.
    Start(Wish),
    /// End the comparing that is under way.
    Cancel,
}

/// How a scrub ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All keys that could be compared were.
    Done,
    /// It could not go on.
    Failed,
    /// An operator ended it.
    Cancelled,
}

impl Outcome {
    /// Kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// A scrub, under way or ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Report {
    /// It repairs nothing.
    pub dry_run: bool,
    /// Share of the keys that were looked at, 0 to 1.
    pub ratio: f64,
    /// Keys compared.
    pub keys: u64,
    /// Keys that differed, whatever became of them.
    pub differing: u64,
    /// Keys that differed and were made equal.
    pub mended: u64,
    /// Keys that differ still: no majority holds the same, or it could not be copied.
    pub undecided: u64,
    /// Keys that were not compared: too large, or changed too quickly.
    pub skipped: u64,
    /// Of a dry run: names of some keys that differ, escaped.
    pub names: Vec<String>,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// When it ended; `None` while it is under way.
    pub finished_unix_ms: Option<u64>,
    /// How it ended; `None` while it is under way.
    pub outcome: Option<Outcome>,
    /// What did not work, as a sentence; empty if all did.
    pub problem: String,
}

impl Report {
    pub(super) fn begin(wish: Wish) -> Self {
        Report { dry_run: wish.dry_run, started_unix_ms: unix_ms(), ..Report::default() }
    }

    pub(super) fn end(&mut self, outcome: Outcome, problem: &str) {
        self.finished_unix_ms = Some(unix_ms());
        self.outcome = Some(outcome);
        if outcome == Outcome::Done {
            self.ratio = 1.0;
        }
        self.note(problem);
    }

    /// The first problem is told; the others often follow from it.
    pub(super) fn note(&mut self, problem: &str) {
        if self.problem.is_empty() {
            self.problem = problem.to_string();
        }
    }

    pub(super) fn name(&mut self, key: &[u8]) {
        if self.dry_run && self.names.len() < NAMES {
            self.names.push(key.escape_ascii().to_string().chars().take(NAME_LENGTH).collect());
        }
    }
}

/// Numbers over all scrubs, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Keys compared.
    pub keys: u64,
    /// Keys made equal.
    pub mended: u64,
    /// Keys that differ still.
    pub undecided: u64,
    /// Keys that a dry run found.
    pub reported: u64,
}

impl Totals {
    /// With those of one more scrub.
    pub fn with(self, report: &Report) -> Self {
        let reported = if report.dry_run { report.differing } else { 0 };
        let undecided = if report.dry_run { 0 } else { report.undecided };
        Totals {
            keys: self.keys + report.keys,
            mended: self.mended + report.mended,
            undecided: self.undecided + undecided,
            reported: self.reported + reported,
        }
    }
}

/// All that is known of a group's scrubs.
#[derive(Debug, Clone, Default)]
pub struct ScrubFacts {
    /// What an operator asked for, until it is taken up.
    pub asked: Option<Ask>,
    /// The one under way.
    pub progress: Option<Report>,
    /// The latest that ended.
    pub last: Option<Report>,
    /// How many ended.
    pub ended: u64,
    /// Of those that ended.
    pub totals: Totals,
}

/// Where those who ask and the one who scrubs meet.
#[derive(Debug, Default)]
pub struct ScrubDesk {
    facts: Mutex<ScrubFacts>,
    pub(super) wake: Notify,
}

impl ScrubDesk {
    /// A copy of what is known.
    pub fn facts(&self) -> ScrubFacts {
        self.facts.lock().map(|facts| facts.clone()).unwrap_or_default()
    }

    /// Leaves a wish; how many scrubs ended before.
    pub fn ask(&self, ask: Ask) -> Result<u64, String> {
        let mut facts = self.facts.lock().map_err(|_| "its state is not known".to_string())?;
        match (ask, &facts.progress, facts.asked) {
            (Ask::Start(_), Some(_), _) | (Ask::Start(_), _, Some(Ask::Start(_))) => {
                return Err("a scrub is under way already".into());
            }
            (Ask::Cancel, None, None) => return Err("no scrub is under way".into()),
            (Ask::Start(_) | Ask::Cancel, ..) => {}
        }
        facts.asked = Some(ask);
        self.wake.notify_one();
        Ok(facts.ended)
    }

    pub(super) fn take_ask(&self, which: impl Fn(&Ask) -> bool) -> Option<Ask> {
        self.facts.lock().ok()?.asked.take_if(|ask| which(ask))
    }

    /// Publishes how far it is, or how it ended.
    pub(super) fn publish(&self, report: &Report) {
        let Ok(mut facts) = self.facts.lock() else { return };
        facts.progress = Some(report.clone());
        if report.outcome.is_some() {
            facts.totals = facts.totals.with(report);
            facts.last = facts.progress.take();
            facts.ended += 1;
        }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_scrub_at_a_time() {
        let desk = ScrubDesk::default();
        let start = Ask::Start(Wish::default());
        assert!(desk.ask(Ask::Cancel).is_err());
        assert_eq!(desk.ask(start), Ok(0));
        assert!(desk.ask(start).is_err());
        assert_eq!(desk.take_ask(|_| true), Some(start));
        let mut report = Report::begin(Wish::default());
        desk.publish(&report);
        assert!(desk.ask(start).is_err());
        assert_eq!(desk.ask(Ask::Cancel), Ok(0));
        report.keys = 5;
        report.end(Outcome::Cancelled, "");
        desk.publish(&report);
        let facts = desk.facts();
        assert!(facts.progress.is_none());
        assert_eq!((facts.ended, facts.totals.keys), (1, 5));
    }

    #[test]
    fn names_are_told_of_dry_runs_only_escaped_and_few() {
        let mut report = Report::begin(Wish::default());
        report.name(b"k");
        assert!(report.names.is_empty());
        let mut report = Report::begin(Wish { dry_run: true, rate: None });
        (0..30).for_each(|_| report.name(b"a\r\n\xff"));
        assert_eq!((report.names.len(), report.names[0].as_str()), (20, "a\\r\\n\\xff"));
    }
}
