//! `policy` of a group: who decides where its requests go.

use super::text::duration_text;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;

/// Where a policy comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicySource {
    /// One of [`BUNDLED_POLICIES`](crate::config::BUNDLED_POLICIES).
    Bundled(String),
    /// A component in a file.
    Wasm(PathBuf),
}

/// Who decides where a group's requests go.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// The component.
    pub source: PolicySource,
    /// Digest that the component must have, as 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// The policy's own settings; see [`Group::policy_settings`](super::Group::policy_settings).
    pub settings: Map<String, Value>,
    /// What the component may use.
    pub limits: PolicyLimits,
}

impl Policy {
    /// A bundled policy with every default.
    pub fn bundled(name: impl Into<String>) -> Self {
        Policy {
            source: PolicySource::Bundled(name.into()),
            sha256: None,
            settings: Map::new(),
            limits: PolicyLimits::default(),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy::bundled("majority")
    }
}

/// What a policy's component may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyLimits {
    /// Memory of one instance, in bytes.
    pub memory: u64,
    /// Time for one call that builds a table.
    #[serde(serialize_with = "duration_text")]
    pub deadline: Duration,
    /// Time for one call that decides a request.
    #[serde(serialize_with = "duration_text")]
    pub decide_deadline: Duration,
}

impl Default for PolicyLimits {
    fn default() -> Self {
        PolicyLimits {
            memory: 16 << 20,
            deadline: Duration::from_secs(1),
            decide_deadline: Duration::from_millis(50),
        }
    }
}
