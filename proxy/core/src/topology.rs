//! What a policy may see of the world: backends, zones, states. Plain data.

use serde::{Deserialize, Serialize};

/// How a backend does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendState {
    /// Answers in time.
    Up,
    /// Answers late.
    Slow,
    /// Has not answered for a while.
    Suspect,
    /// Not connected.
    Down,
    /// Takes nothing new, by request.
    Draining,
    /// Being fed until it has caught up.
    Joining,
}

/// One backend of the group the policy plans for; its index in `Topology::backends` is its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Backend {
    /// Name from the configuration.
    pub name: String,
    /// URL scheme: `redis`, `postgres`, …
    pub kind: String,
    /// Group it belongs to.
    pub group: String,
    /// Failure domain label; empty where none was given.
    pub zone: String,
    /// Rack label; empty where none was given.
    pub rack: String,
    /// Relative share of reads, 1 by default.
    pub weight: u16,
    /// State when the table is built.
    pub state: BackendState,
    /// Median answer time in microseconds, 0 when unknown.
    pub p50_us: u32,
    /// 99th percentile of the answer time in microseconds, 0 when unknown.
    pub p99_us: u32,
    /// Free labels from the configuration, sorted by key.
    pub labels: Vec<(String, String)>,
}

impl Backend {
    /// A Redis backend that is up, of weight 1, with nothing measured yet.
    pub fn new(name: impl Into<String>, group: impl Into<String>, zone: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: "redis".into(),
            group: group.into(),
            zone: zone.into(),
            rack: String::new(),
            weight: 1,
            state: BackendState::Up,
            p50_us: 0,
            p99_us: 0,
            labels: vec![],
        }
    }
}

/// What `planner.build` is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Topology {
    /// Grows with every change of the view.
    pub epoch: u64,
    /// The proxy's own zone; empty where none was given.
    pub local_zone: String,
    /// How many slots a class row may distinguish: 16,384 for Redis.
    pub slots: u32,
    /// The group's backends in configured order.
    pub backends: Vec<Backend>,
}
