//! From a configured policy to a table in force and deciders for the workers.

use crate::config::{Config, Group, PolicySource};
use crate::worker::Asked;
use quorate_core::plan::{ASK, Outcome};
use quorate_core::topology::{Backend, BackendState, Topology};
use quorate_host::{
    Coherence, Host, HostError, Keeper, Limits, Op, OpFlags, Policy, Reason, Source, Verdict,
};
use quorate_wire::command;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Values from this size on have the flag `large-value`, in bytes.
const LARGE_VALUE: u64 = 64 << 10;

/// Why a policy cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The component's file.
    #[error("the policy file {0} cannot be read: {1}")]
    File(PathBuf, std::io::Error),
    /// The pinned digest.
    #[error("the policy's SHA-256 is {found}, the configuration pins {pinned}")]
    Digest {
        /// Of the file.
        found: String,
        /// In the configuration.
        pinned: String,
    },
    /// The host's own words.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl PolicyError {
    /// Is it a fault of a running guest, which a built-in table may stand in for, rather than a configuration that
    /// must be mended first?
    pub fn is_fault(&self) -> bool {
        matches!(self, PolicyError::Host(HostError::Fault { .. }))
    }
}

/// A policy that is loaded and configured for a group.
pub struct GroupPolicy {
    policy: Policy,
    settings: String,
    coherence: Coherence,
}

/// What a policy may see of a group.
pub fn topology(config: &Config, group: &Group) -> Topology {
    let backend = |b: &crate::config::Backend| Backend {
        name: b.name.clone(),
        kind: b.kind.name().into(),
        group: group.name.clone(),
        zone: b.zone.clone(),
        rack: b.rack.clone(),
        weight: b.weight,
        state: BackendState::Up,
        p50_us: 0,
        p99_us: 0,
        labels: b.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
    };
    Topology {
        epoch: 1,
        local_zone: config.proxy.zone.clone(),
        slots: u32::from(command::SLOTS),
        backends: config.replicas(group).map(backend).collect(),
    }
}

impl GroupPolicy {
    /// Loads a group's policy.
    pub fn load(host: &Host, group: &Group) -> Result<Self, PolicyError> {
        let limits = Limits {
            memory_bytes: usize::try_from(group.policy.limits.memory).unwrap_or(usize::MAX),
            call_deadline_ms: ms(group.policy.limits.deadline),
            decide_deadline_ms: ms(group.policy.limits.decide_deadline),
            ..Limits::default()
        };
        let policy = match &group.policy.source {
            PolicySource::Bundled(name) => host.load(name, Source::Bundled(name), limits)?,
            PolicySource::Wasm(path) => {
                let bytes = std::fs::read(path).map_err(|error| PolicyError::File(path.clone(), error))?;
                let name =
                    path.file_stem().map_or("policy".into(), |stem| stem.to_string_lossy().into_owned());
                host.load(&name, Source::Bytes(&bytes), limits)?
            }
        };
        if let Some(pinned) = group.policy.sha256.as_ref().filter(|pinned| *pinned != policy.digest()) {
            return Err(PolicyError::Digest { found: policy.digest().into(), pinned: pinned.clone() });
        }
        let settings = serde_json::Value::Object(group.policy_settings()).to_string();
        let coherence = if group.weak_writes { Coherence::Any } else { Coherence::OwnZone };
        Ok(Self { policy, settings, coherence })
    }

    /// Name and the start of the digest, for status.
    pub fn label(&self) -> String {
        format!("{} {}", self.policy.name(), &self.policy.digest()[..12])
    }

    /// Builds the table twice and compares, then proves its write rules.
    pub fn check(&self, topology: &Topology) -> Result<quorate_host::Built, PolicyError> {
        let built = self.policy.check_pure(&self.settings, topology)?;
        let mut planner = self.policy.configure(&self.settings)?;
        quorate_host::prove_coherent(self.policy.name(), &mut planner, topology, self.coherence)?;
        Ok(built)
    }

    /// The keeper of the table in force. A guest's fault leaves the built-in majority and comes back beside it.
    pub fn keep(&self, topology: &Topology) -> Result<(Keeper, Option<PolicyError>), PolicyError> {
        let builder: Box<dyn quorate_host::Builder + Send> = match self.policy.configure(&self.settings) {
            Ok(planner) => Box::new(planner),
            Err(error) => Box::new(Broken(error)),
        };
        let (keeper, fault) = Keeper::start(self.policy.name(), builder, self.coherence, topology)?;
        match fault.map(PolicyError::from) {
            Some(error) if !error.is_fault() => Err(error),
            fault => Ok((keeper, fault)),
        }
    }

    /// A decider for one worker; `None` for policies that decide nothing.
    pub fn decider(&self, faults: Arc<AtomicU64>) -> Result<Option<Decider>, PolicyError> {
        Ok(self.policy.decider(&self.settings)?.map(|inner| Decider { inner, faults }))
    }
}

fn ms(duration: std::time::Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Stands in for a planner that could not be configured.
struct Broken(HostError);

impl quorate_host::Builder for Broken {
    fn build(&mut self, _: &Topology, _: Reason) -> Result<quorate_host::Built, HostError> {
        Err(self.0.clone())
    }
}

/// One worker's instance of a policy that decides on requests.
pub struct Decider {
    inner: quorate_host::Decider,
    faults: Arc<AtomicU64>,
}

impl Decider {
    /// An outcome for the request, or the error line for the client.
    pub fn decide(&mut self, asked: &Asked) -> Result<Outcome, String> {
        let key = command::first_key(asked.command, asked.args).unwrap_or_default();
        let value_bytes: u64 = asked.args.from(1).map(|arg| arg.len() as u64).sum::<u64>() - key.len() as u64;
        let flags = if value_bytes >= LARGE_VALUE { OpFlags::LARGE_VALUE } else { OpFlags::default() };
        let (slot, hash) = (command::slot(key), command::key_hash(key));
        let fast = self.inner.fast(asked.class, flags, slot, hash, value_bytes);
        match fast.map_err(|error| self.fault(&error))? {
            ASK => self.slow(asked, flags, (slot, hash, value_bytes)),
            outcome => Ok(outcome),
        }
    }

    fn slow(
        &mut self,
        asked: &Asked,
        flags: OpFlags,
        (slot, key_hash, value_bytes): (u16, u64, u64),
    ) -> Result<Outcome, String> {
        let mut keys = Vec::new();
        command::keys(asked.command, asked.args, &mut |key| keys.push(key.to_vec()));
        let op = Op {
            class: asked.class,
            flags,
            slot,
            key_hash,
            keys,
            verb: asked.command.name.to_ascii_uppercase(),
            value_bytes,
            attributes: vec![
                ("user".into(), "default".into()),
                ("db".into(), "0".into()),
                ("client-ip".into(), asked.client.peer.ip().to_string()),
                ("app-name".into(), asked.client.names().name),
            ],
        };
        match self.inner.decide(&op).map_err(|error| self.fault(&error))?.verdict {
            Verdict::Plan(outcome) => Ok(outcome),
            Verdict::Reject { code, message, .. } => Err(format!("{} {message}", redis_code(&code))),
        }
    }

    fn fault(&self, error: &HostError) -> String {
        self.faults.fetch_add(1, Ordering::Relaxed);
        tracing::error!(code = error.code(), "the policy's decider failed: {error}");
        format!(
            "NOTAPPLIED the policy could not decide ({}); nothing was changed, safe to retry",
            error.code()
        )
    }
}

/// Error codes are one upper-case word; anything else would be read as something it is not.
fn redis_code(code: &str) -> String {
    let word: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
    if word.is_empty() { "ERR".into() } else { word.to_ascii_uppercase() }
}
