//! Keeps a good table in force, whatever the policy does.
//!
//! A failed rebuild changes nothing but a counter; at the start, the built-in majority stands in.

use crate::{Coherence, HostError, Origin, Planner, Published, Reason, TableHandle, prove_coherent};
use quorate_core::plan::{Proposal, Table, builtin_majority};
use quorate_core::topology::Topology;
use std::collections::BTreeMap;

/// A table fresh from a policy, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// What requests are looked up in.
    pub table: Table,
    /// What the policy said.
    pub proposal: Proposal,
    /// SHA-256 of the proposal: all proxies of a fleet should show the same.
    pub table_digest: String,
    /// What the policy logged meanwhile.
    pub log: Vec<crate::LogLine>,
}

/// What builds tables: a [`Planner`], or a stand-in in tests.
pub trait Builder {
    /// Builds and validates a table for a topology.
    fn build(&mut self, topology: &Topology, why: Reason) -> Result<Built, HostError>;
}

impl Builder for Planner {
    fn build(&mut self, topology: &Topology, why: Reason) -> Result<Built, HostError> {
        Planner::build(self, topology, why)
    }
}

/// What a rebuild came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The same table again.
    Unchanged,
    /// A new table is in force; its digest.
    Published(String),
}

/// One policy's supervisor.
pub struct Keeper {
    policy: String,
    builder: Box<dyn Builder + Send>,
    coherence: Coherence,
    handle: TableHandle,
    faults: BTreeMap<&'static str, u64>,
}

impl Keeper {
    /// Builds the first table. Where the policy fails, the built-in majority is in force and the fault is
    /// answered beside the keeper. `Err` only where the topology itself allows no table.
    pub fn start(
        policy: &str,
        builder: Box<dyn Builder + Send>,
        coherence: Coherence,
        topology: &Topology,
    ) -> Result<(Keeper, Option<HostError>), HostError> {
        let handle = TableHandle::new(builtin(topology)?);
        let faults = BTreeMap::new();
        let mut keeper = Keeper { policy: policy.to_owned(), builder, coherence, handle, faults };
        let fault = keeper.rebuild(topology, Reason::Start).err();
        Ok((keeper, fault))
    }

    /// Asks the policy again. On an error the table in force stays, and with it the topology it was made
    /// for: a caller must not adopt other backends without a table for them.
    pub fn rebuild(&mut self, topology: &Topology, why: Reason) -> Result<Applied, HostError> {
        let built = attempt(&self.policy, self.builder.as_mut(), self.coherence, topology, why);
        self.apply(built, topology)
    }

    /// Puts another policy, or the same with other settings, in the place of this one; if it fails, this one stays.
    pub fn replace(
        &mut self,
        policy: &str,
        mut builder: Box<dyn Builder + Send>,
        topology: &Topology,
    ) -> Result<Applied, HostError> {
        let built = attempt(policy, builder.as_mut(), self.coherence, topology, Reason::ConfigChanged);
        let applied = self.apply(built, topology)?;
        (self.policy, self.builder) = (policy.to_owned(), builder);
        Ok(applied)
    }

    /// The table in force.
    pub fn handle(&self) -> &TableHandle {
        &self.handle
    }

    /// How often a table could not be had, by [`HostError::code`].
    pub fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    fn apply(&mut self, built: Result<Built, HostError>, topology: &Topology) -> Result<Applied, HostError> {
        let built = match built {
            Ok(built) => built,
            Err(error) => {
                *self.faults.entry(error.code()).or_default() += 1;
                return Err(error);
            }
        };
        let (digest, epoch) = (built.table_digest, topology.epoch);
        let next = Published { table: built.table, digest: digest.clone(), epoch, origin: Origin::Policy };
        let now = self.handle.load();
        let same = now.table == next.table && now.digest == next.digest && now.origin == next.origin;
        self.handle.publish(next);
        Ok(if same { Applied::Unchanged } else { Applied::Published(digest) })
    }
}

fn attempt(
    policy: &str,
    builder: &mut dyn Builder,
    coherence: Coherence,
    topology: &Topology,
    why: Reason,
) -> Result<Built, HostError> {
    let built = builder.build(topology, why)?;
    if coherence != Coherence::Any {
        prove_coherent(policy, builder, topology, coherence)?;
    }
    Ok(built)
}

fn builtin(topology: &Topology) -> Result<Published, HostError> {
    let proposal = builtin_majority(topology);
    let refused = |problems| HostError::Incoherent { policy: "built-in majority".into(), problems };
    let table = Table::new(&proposal, topology).map_err(refused)?;
    let digest = crate::planner::proposal_digest(&proposal);
    Ok(Published { table, digest, epoch: topology.epoch, origin: Origin::Builtin })
}
