//! What is told of a reseed: how far it is, how the last one ended, and what an operator asked for.
//! Plain data that any thread may look at.

use serde::Serialize;

/// What an operator asked for, until the replica's attendant takes it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Copy all data to it; `erase` also data that is not the group's.
    Start {
        /// Data of others on it may be erased.
        erase: bool,
    },
    /// End the copying that is under way.
    Cancel,
}

/// What a reseed is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The target connects, and the source prepares its data.
    #[default]
    Waiting,
    /// Data is on its way.
    Copying,
    /// The target loads what it got.
    Loading,
    /// The target is fed what was written meanwhile.
    CatchingUp,
    /// The target writes its append-only file anew.
    Settling,
}

impl Stage {
    /// Kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Copying => "copying",
            Stage::Loading => "loading",
            Stage::CatchingUp => "catching-up",
            Stage::Settling => "settling",
        }
    }
}

/// How the data comes to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// The servers do it themselves, by REPLICAOF.
    #[default]
    Replicaof,
    /// Key by key through the proxy.
    Scan,
}

/// How far a reseed is.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Progress {
    /// Name of the replica that is copied.
    pub source: String,
    /// How the data comes.
    pub way: Way,
    /// What it is busy with.
    pub stage: Stage,
    /// Bytes that the target has received.
    pub bytes: u64,
    /// Bytes that it will receive; 0 when nobody knows.
    pub total_bytes: u64,
    /// `total_bytes` is a guess from the source's memory: it sends without saying how much.
    pub estimated: bool,
    /// Share of the data that has arrived, 0 to 1.
    pub ratio: f64,
    /// Bytes a second since the data began to flow.
    pub bytes_per_second: u64,
    /// Keys that were copied, each as often as it was; 0 where the servers do it.
    pub keys: u64,
    /// Keys that the source held when it began.
    pub total_keys: u64,
    /// Keys a second since it began.
    pub keys_per_second: u64,
    /// Seconds until all has arrived; `None` when nobody knows.
    pub seconds_left: Option<u64>,
    /// Seconds since the reseed began, or was taken up again.
    pub seconds: u64,
}

/// How a reseed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The replica has a copy, and is fed from the log.
    Done,
    /// It did not work; it is tried again.
    Failed,
    /// An operator ended it.
    Cancelled,
    /// It was not begun, because the replica holds data that is not the group's.
    Refused,
}

impl Outcome {
    /// All of them, in the order of [`ReseedFacts::counts`].
    pub const ALL: [Outcome; 4] = [Outcome::Done, Outcome::Failed, Outcome::Cancelled, Outcome::Refused];

    /// Kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Refused => "refused",
        }
    }
}

/// The end of the latest reseed.
#[derive(Debug, Clone, Serialize)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Why, as a sentence; empty when it is done.
    pub problem: String,
}

/// All that is known of a replica's reseeds.
#[derive(Debug, Clone, Default)]
pub struct ReseedFacts {
    /// What an operator asked for.
    pub asked: Option<Ask>,
    /// It was stale when it was attached last.
    pub stale: bool,
    /// The reseed under way.
    pub progress: Option<Progress>,
    /// Why none is under way though the replica is stale, and what to do; empty otherwise.
    pub advice: String,
    /// The latest one.
    pub last: Option<Ended>,
    /// How many ended, by outcome.
    pub counts: [u64; Outcome::ALL.len()],
}

impl ReseedFacts {
    /// Notes the end of one.
    pub fn end(&mut self, outcome: Outcome, problem: &str) {
        self.progress = None;
        self.counts[outcome as usize] += 1;
        self.last = Some(Ended { outcome, problem: problem.to_string() });
    }

    /// How many ended, whatever the outcome.
    pub fn ended(&self) -> u64 {
        self.counts.iter().sum()
    }
}
