//! What a group is made of when the proxy starts: what every thread knows of it, its journal, its sequencer.

use super::StartError;
use crate::config::{self, Config};
use crate::group::{GroupShared, Routing};
use crate::journal::JournalError;
use crate::listen::inspect::Inspection;
use crate::listen::monitor::Watchers;
use crate::listen::pubsub::Hub;
use crate::memory::Memory;
use crate::policies::{GroupPolicy, PolicyError, topology};
use crate::recorder::{Recorder, journaling};
use crate::scripts::Scripts;
use crate::worker::Mailbox;
use arc_swap::ArcSwap;
use quorate_core::ordered::{Group, GroupConfig, Journaling};
use quorate_core::plan::{Plan, Table};
use quorate_wire::command::StreamStamp;
use quorate_wire::resp::{Copier, Reserved};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::spawn_blocking;

/// What every thread knows of a group, before its first owner.
pub(super) fn share(config: &Config, index: usize, policy: &GroupPolicy) -> Result<GroupShared, PolicyError> {
    let group = &config.groups[index];
    let view = topology(config, group);
    let (keeper, fault) = policy.keep(&view)?;
    let counters = crate::telemetry::GroupCounters::default();
    if let Some(fault) = fault {
        counters.policy_faults.fetch_add(1, Ordering::Relaxed);
        tracing::error!(group = group.name, "{fault}; the built-in majority stands in");
    }
    let published = keeper.handle().load();
    let table: Table = published.table.clone();
    let replicas: Vec<String> = view.backends.iter().map(|b| b.name.clone()).collect();
    let mut stand_in = sequencer(GroupConfig::new(replicas.len(), 0), &[], &Reserved::new(&group.name));
    let numbers = stand_in.adopt_plans(table.plans());
    let health = stand_in.health();
    let routing = Routing { table, numbers, digest: published.digest.clone() };
    Ok(GroupShared {
        name: group.name.clone(),
        index,
        facts: replicas.iter().map(|_| Default::default()).collect(),
        runs: replicas.iter().map(|_| Default::default()).collect(),
        memory: Memory::new(replicas.len(), group.memory_watermark),
        replicas,
        fewest_in_sync: (group.ack == config::Ack::InSync).then(|| group.fewest_in_sync()),
        reserved: Reserved::new(&group.name),
        routing: Arc::new(ArcSwap::from_pointee(routing)),
        missing: Default::default(),
        health: ArcSwap::from_pointee(health),
        scripts: Scripts::new(group.scripts == config::Scripts::Verbatim),
        mixed: Default::default(),
        alike: Default::default(),
        scrub: Default::default(),
        hub: Hub::new(config.proxy.workers),
        watchers: Watchers::new(config.proxy.workers),
        tracker: Default::default(),
        inspection: Inspection::new(config.proxy.workers),
        fenced: AtomicU64::new(0),
        counters,
        policy: std::sync::Mutex::new(policy.label()),
    })
}

/// The journal of a group, if it is to have one. Hints that cannot be recorded only make a long absence
/// longer; a log that cannot be is a reason not to start.
pub(super) async fn open_journal(
    config: &Config,
    index: usize,
    owner: Arc<Mailbox>,
) -> Result<Option<Recorder>, StartError> {
    let group = config.groups[index].clone();
    let wanted = journaling(&group, group.replicas.len());
    if wanted == Journaling::None {
        return Ok(None);
    }
    let (dir, name) = (config.state.dir.clone(), group.name.clone());
    let opened = spawn_blocking(move || Recorder::open(&dir, &group, index, owner)).await;
    match opened.unwrap_or(Err(JournalError::Closed)) {
        Ok((recorder, remarks)) => {
            remarks.iter().for_each(|remark| tracing::warn!(group = name, "journal: {remark}"));
            Ok(Some(recorder))
        }
        Err(error) if wanted == Journaling::Log => Err(StartError::Journal { group: name, error }),
        Err(error) => {
            tracing::error!(group = name, "no hints are recorded: {error}");
            Ok(None)
        }
    }
}

/// A sequencer that orders requests by these plans.
pub(super) fn sequencer(config: GroupConfig, plans: &[Plan], reserved: &Reserved) -> Group {
    let copier = Copier::new(reserved.clone());
    Group::new(config, plans, Box::new(StreamStamp::default()), Box::new(copier))
}
