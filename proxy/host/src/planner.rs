//! The instance that builds tables. It belongs on a thread of its own, never on one that serves requests.

use crate::instance::Instance;
use crate::policy::Parts;
use crate::{Built, HostError, convert, digest};
use quorate_core::plan::{Proposal, Table};
use quorate_core::topology::Topology;
use std::sync::Arc;

/// Why a table is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The proxy starts.
    Start,
    /// Backends came, went or changed.
    TopologyChanged,
    /// The policy or its settings changed.
    ConfigChanged,
    /// An operator, a check or a test wants to see one.
    Asked,
}

/// A configured policy that builds tables.
pub struct Planner {
    parts: Arc<Parts>,
    settings: String,
    instance: Option<Instance>,
}

impl Planner {
    pub(crate) fn new(parts: Arc<Parts>, settings: &str) -> Result<Planner, HostError> {
        let _ticking = parts.ticker.need()?;
        let instance = Some(Instance::configured(&parts, settings)?);
        Ok(Planner { parts, settings: settings.to_owned(), instance })
    }

    /// Asks the policy for a table and validates it. After a fault, the next call makes a new instance.
    pub fn build(&mut self, topology: &Topology, why: Reason) -> Result<Built, HostError> {
        let ticker = Arc::clone(&self.parts.ticker);
        let _ticking = ticker.need()?;
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => Instance::configured(&self.parts, &self.settings)?,
        };
        let (view, reason) = (convert::view(topology), convert::reason(why));
        let answer = instance.call("build", self.parts.limits.call_deadline_ms, |hooks, store| {
            hooks.quorate_policy_planner().call_build(store, &view, reason)
        })?;
        let log = instance.take_lines();
        self.instance = Some(instance);
        let policy = || self.parts.name.clone();
        let said = answer.map_err(|message| HostError::Declined { policy: policy(), message })?;
        let proposal = convert::proposal(said, topology.slots, &self.parts.limits)
            .map_err(|reasons| HostError::Unsupported { policy: policy(), reasons })?;
        let table = Table::new(&proposal, topology)
            .map_err(|problems| HostError::Incoherent { policy: policy(), problems })?;
        Ok(Built { table, table_digest: proposal_digest(&proposal), proposal, log })
    }
}

/// The proposal, not the compiled table: the latter also depends on the proxy's own zone and measurements.
pub(crate) fn proposal_digest(proposal: &Proposal) -> String {
    let text = serde_json::to_vec(proposal).expect("a proposal has only string keys and writes to memory");
    digest::hex(&text)
}
