//! A policy that is loaded and fits: its facts, and the way to configure it.

use crate::bindings::{deciding, pure};
use crate::engine::Ticker;
use crate::instance::Instance;
use crate::store::State;
use crate::{Built, Decider, HostError, Limits, Planner, Reason};
use quorate_core::topology::Topology;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::InstancePre;

/// A loaded policy. Clones share the compiled code.
#[derive(Clone)]
pub struct Policy {
    parts: Arc<Parts>,
    manifest: Manifest,
}

/// What a policy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its own name, which need not be the one in the configuration.
    pub name: String,
    /// Its version.
    pub version: String,
    /// JSON Schema of its settings, or empty.
    pub config_schema: String,
    /// Anything else.
    pub extra: Vec<(String, String)>,
}

/// Everything that is known of a component once it is checked.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) bytes: usize,
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) engine: Engine,
    pub(crate) pre: InstancePre<State>,
    pub(crate) hooks: pure::PurePolicyIndices,
    pub(crate) decider: Option<deciding::DecidingIndices>,
}

impl Policy {
    pub(crate) fn describe(parts: Parts) -> Result<Policy, HostError> {
        let parts = Arc::new(parts);
        let manifest = manifest(&parts)?;
        Ok(Policy { parts, manifest })
    }

    /// Name from the configuration.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the component, in hexadecimal digits: what `sha256 = …` in the configuration pins.
    pub fn digest(&self) -> &str {
        &self.parts.digest
    }

    /// Size of the component in bytes.
    pub fn bytes(&self) -> usize {
        self.parts.bytes
    }

    /// Interfaces it imports: its capabilities.
    pub fn imports(&self) -> &[String] {
        &self.parts.imports
    }

    /// Interfaces it exports: its hooks.
    pub fn exports(&self) -> &[String] {
        &self.parts.exports
    }

    /// Can it be asked about single requests?
    pub fn decides(&self) -> bool {
        self.parts.decider.is_some()
    }

    /// Bounds it runs under.
    pub fn limits(&self) -> &Limits {
        &self.parts.limits
    }

    /// An instance that builds tables. `settings` is JSON; empty text means none.
    pub fn configure(&self, settings: &str) -> Result<Planner, HostError> {
        Planner::new(Arc::clone(&self.parts), settings)
    }

    /// An instance that decides on single requests, one per thread; `None` if the policy has no `decider`.
    pub fn decider(&self, settings: &str) -> Result<Option<Decider>, HostError> {
        match self.decides() {
            true => Decider::new(Arc::clone(&self.parts), settings).map(Some),
            false => Ok(None),
        }
    }

    /// Repeats `describe` and `build`, in one instance and in a fresh one, and compares.
    pub fn check_pure(&self, settings: &str, topology: &Topology) -> Result<Built, HostError> {
        let differs = |what| Err(HostError::NotPure { policy: self.parts.name.clone(), what });
        if manifest(&self.parts)? != self.manifest {
            return differs("describe");
        }
        let (mut kept, mut fresh) = (self.configure(settings)?, self.configure(settings)?);
        let first = kept.build(topology, Reason::Start)?;
        for again in [kept.build(topology, Reason::Asked)?, fresh.build(topology, Reason::Start)?] {
            if again.proposal != first.proposal {
                return differs("build");
            }
        }
        Ok(first)
    }
}

fn manifest(parts: &Arc<Parts>) -> Result<Manifest, HostError> {
    let _ticking = parts.ticker.need()?;
    let mut instance = Instance::start(parts)?;
    let deadline = parts.limits.call_deadline_ms;
    let said = instance
        .call("describe", deadline, |hooks, store| hooks.quorate_policy_lifecycle().call_describe(store))?;
    Ok(Manifest {
        name: said.name,
        version: said.version,
        config_schema: said.config_schema,
        extra: said.extra,
    })
}
