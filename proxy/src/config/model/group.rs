//! `[group.NAME]`: the backends that hold the same data, and how they are kept equal.

use super::super::place::Place;
use super::policy::Policy;
use super::text::{duration_text, optional_duration_text};
use quorate_core::plan::ReadPick;
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// How a group keeps its replicas equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One total order of writes for the group.
    #[default]
    Ordered,
}

/// What an acknowledged write has been put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// The replicas of its quorum.
    #[default]
    Replicas,
    /// Those, and the proxy's disk.
    Journal,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// When the policy's write rule is met.
    #[default]
    Quorum,
    /// When every replica of the recorded in-sync set has it.
    InSync,
}

/// How scripts are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scripts {
    /// One replica runs a script, and what it did is copied to the others by value.
    #[default]
    Effects,
    /// Every replica runs a script itself, as far as its text shows that it does the same on all.
    Verbatim,
}

/// Who begins the copying of all data to a stale replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reseed {
    /// The proxy, by itself.
    #[default]
    Auto,
    /// An operator, with `quorate reseed`.
    Manual,
}

/// How all data comes to a stale replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReseedBy {
    /// By REPLICAOF; through the proxy if the servers do not reach each other.
    #[default]
    Auto,
    /// By REPLICAOF only.
    Replicaof,
    /// Through the proxy.
    Scan,
}

/// How many replicas a write waits for, where the user said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteQuorum {
    /// This many.
    Count(u8),
    /// More than half.
    Majority,
    /// All.
    All,
}

impl WriteQuorum {
    /// As a policy's settings say it: a number, `"majority"` or `"all"`.
    pub fn setting(self) -> Value {
        match self {
            WriteQuorum::Count(count) => Value::from(count),
            WriteQuorum::Majority => Value::from("majority"),
            WriteQuorum::All => Value::from("all"),
        }
    }

    /// How many of `replicas` that is.
    pub fn needed(self, replicas: usize) -> usize {
        match self {
            WriteQuorum::Count(count) => usize::from(count),
            WriteQuorum::Majority => replicas / 2 + 1,
            WriteQuorum::All => replicas,
        }
    }
}

/// `[group.NAME]`: the backends that hold the same data.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// Name from the configuration.
    pub name: String,
    /// Names of backends; their order is the order of preference.
    pub replicas: Vec<String>,
    /// Who decides where requests go.
    pub policy: Policy,
    /// How the replicas are kept equal.
    pub mode: Mode,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// When a write is acknowledged.
    pub ack: Ack,
    /// With `ack = "in-sync"`: fewer replicas than this acknowledge nothing; half of them, rounded up, if not given.
    pub min_in_sync: Option<u32>,
    /// Setting for a bundled policy; `None` leaves it to the policy.
    pub write_quorum: Option<WriteQuorum>,
    /// Setting for a bundled policy; `None` leaves it to the policy.
    pub read_pick: Option<ReadPick>,
    /// Time until the client gets an error; `None` leaves it to the policy.
    #[serde(serialize_with = "optional_duration_text")]
    pub deadline: Option<Duration>,
    /// Time until a read is tried on another replica; `None` leaves it to the policy.
    #[serde(serialize_with = "optional_duration_text")]
    pub per_try: Option<Duration>,
    /// Keep the last entries inside each backend, so that a fail-over finds them.
    pub tail: bool,
    /// How many entries the tail holds.
    pub tail_entries: u32,
    /// Entries kept in memory to feed lagging replicas, in bytes.
    pub log_memory: u64,
    /// Record on disk what a replica is owed that is far behind.
    pub hints: bool,
    /// Entries kept on disk, in bytes.
    pub journal_size: u64,
    /// Entries older than this are not kept on disk, owed or not.
    #[serde(serialize_with = "duration_text")]
    pub journal_age: Duration,
    /// Writes that wait to be ordered, in bytes; above it, new ones are refused.
    pub queue_memory: u64,
    /// Share of a backend's maxmemory from which on commands that need memory are refused.
    pub memory_watermark: f64,
    /// How scripts are carried.
    pub scripts: Scripts,
    /// Allow write quorums that do not intersect, which can lose acknowledged writes.
    pub weak_writes: bool,
    /// Who begins the copying of all data to a stale replica.
    pub reseed: Reseed,
    /// How it is copied.
    pub reseed_by: ReseedBy,
    /// Bytes a second that are copied through the proxy.
    pub reseed_rate: u64,
    /// Keys a second that a scrub compares.
    pub scrub_rate: u32,
    /// How often all keys are compared; `None` for only when asked.
    #[serde(serialize_with = "optional_duration_text")]
    pub scrub_every: Option<Duration>,
    /// Where the group's values stand.
    #[serde(skip)]
    pub at: GroupPlaces,
}

/// Where the values of a group stand, for problems that later passes find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupPlaces {
    /// The name in the section's head.
    pub name: Place,
    /// The list of replicas.
    pub replicas: Place,
    /// The policy; the name where none was given.
    pub policy: Place,
    /// `write-quorum`; the policy where none was given.
    pub write_quorum: Place,
    /// `read-pick`; the policy where none was given.
    pub read_pick: Place,
}

impl Group {
    /// A group with every default: majority writes, ordered.
    pub fn new(name: impl Into<String>, replicas: Vec<String>) -> Self {
        Group {
            name: name.into(),
            replicas,
            policy: Policy::default(),
            mode: Mode::Ordered,
            durability: Durability::Replicas,
            ack: Ack::Quorum,
            min_in_sync: None,
            write_quorum: None,
            read_pick: None,
            deadline: None,
            per_try: None,
            tail: true,
            tail_entries: 128,
            log_memory: 256 << 20,
            hints: true,
            journal_size: 1 << 30,
            journal_age: Duration::from_secs(24 * 60 * 60),
            queue_memory: 128 << 20,
            memory_watermark: 0.9,
            scripts: Scripts::Effects,
            weak_writes: false,
            reseed: Reseed::Auto,
            reseed_by: ReseedBy::Auto,
            reseed_rate: 32 << 20,
            scrub_rate: 1000,
            scrub_every: Some(Duration::from_secs(24 * 3600)),
            at: GroupPlaces::default(),
        }
    }

    /// With `ack = "in-sync"`: how few replicas may acknowledge a write.
    pub fn fewest_in_sync(&self) -> u32 {
        self.min_in_sync.unwrap_or((self.replicas.len() as u32).div_ceil(2))
    }

    /// What the policy is configured with: its own settings, and the group's plain ones as
    /// `write-quorum`, `read-pick`, `deadline-ms` and `per-try-ms`.
    pub fn policy_settings(&self) -> Map<String, Value> {
        let ms = |duration: Duration| Value::from(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX));
        let pick = |pick| serde_json::to_value(pick).expect("a unit variant is a string");
        let plain = [
            ("write-quorum", self.write_quorum.map(WriteQuorum::setting)),
            ("read-pick", self.read_pick.map(pick)),
            ("deadline-ms", self.deadline.map(ms)),
            ("per-try-ms", self.per_try.map(ms)),
        ];
        let plain = plain.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
        self.policy.settings.clone().into_iter().chain(plain).collect()
    }
}
