//! WIT on one side, core types on the other. What no engine does is refused here by name, never dropped.

use crate::bindings::deciding::exports::quorate::policy::decider as wit_decider;
use crate::bindings::pure::exports::quorate::policy::planner as wit_planner;
use crate::bindings::pure::quorate::policy::types as wit;
use crate::{CacheScope, Decision, Limits, OpFlags, Reason, Verdict};
use quorate_core::plan::{AckMode, AckRule, OpClass, PlanProposal, Proposal, ReadPick, SlotMap, Target};
use quorate_core::topology::{BackendState, Topology};

/// Thresholds of one rule; the quorum proof walks all of them for every set of replicas.
const MAX_THRESHOLDS: usize = 512;
/// Bytes of a plan's name, which is a metric label.
const MAX_NAME_BYTES: usize = 64;

pub(crate) fn view(topology: &Topology) -> wit::Topology {
    let backend = |(id, b): (usize, &quorate_core::topology::Backend)| wit::Backend {
        id: id as u32,
        name: b.name.clone(),
        kind: b.kind.clone(),
        group: b.group.clone(),
        zone: b.zone.clone(),
        rack: b.rack.clone(),
        weight: b.weight,
        state: state(b.state),
        p50_us: b.p50_us,
        p99_us: b.p99_us,
        labels: b.labels.clone(),
    };
    wit::Topology {
        epoch: topology.epoch,
        local_zone: topology.local_zone.clone(),
        slots: topology.slots,
        backends: topology.backends.iter().enumerate().map(backend).collect(),
    }
}

fn state(state: BackendState) -> wit::BackendState {
    match state {
        BackendState::Up => wit::BackendState::Up,
        BackendState::Slow => wit::BackendState::Slow,
        BackendState::Suspect => wit::BackendState::Suspect,
        BackendState::Down => wit::BackendState::Down,
        BackendState::Draining => wit::BackendState::Draining,
        BackendState::Joining => wit::BackendState::Joining,
    }
}

pub(crate) fn reason(reason: Reason) -> wit_planner::Reason {
    match reason {
        Reason::Start => wit_planner::Reason::Start,
        Reason::TopologyChanged => wit_planner::Reason::TopologyChanged,
        Reason::ConfigChanged => wit_planner::Reason::ConfigChanged,
        Reason::Asked => wit_planner::Reason::Asked,
    }
}

/// A guest's table as core knows it, or everything in it that this version does not take.
pub(crate) fn proposal(table: wit::Table, slots: u32, limits: &Limits) -> Result<Proposal, Vec<String>> {
    if table.plans.len() > limits.max_plans {
        return Err(vec![format!("{} plans; max-plans allows {}", table.plans.len(), limits.max_plans)]);
    }
    let mut refused = duplicate_names(&table.plans);
    for plan in &table.plans {
        refuse_unserved(plan, &mut refused);
    }
    for row in &table.rows {
        refuse_long_row(row, slots, &mut refused);
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    Ok(Proposal {
        plans: table.plans.into_iter().map(plan).collect(),
        rows: table.rows.into_iter().map(|row| (op_class_from(row.class), slot_map(row.slots))).collect(),
        default_outcome: table.default_outcome,
    })
}

fn duplicate_names(plans: &[wit::Plan]) -> Vec<String> {
    let mut names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    twice.map(|name| format!("two plans are called '{}'", shown(name))).collect()
}

fn refuse_unserved(plan: &wit::Plan, refused: &mut Vec<String>) {
    let name = shown(&plan.name);
    let mut refuse = |unserved: bool, what: &str| {
        if unserved {
            refused.push(format!("plan '{name}': {what}"));
        }
    };
    let printable = |c: char| c.is_ascii_graphic();
    let good = (1..=MAX_NAME_BYTES).contains(&plan.name.len()) && plan.name.chars().all(printable);
    refuse(!good, "a name has 1 to 64 printable ASCII characters and no blanks");
    refuse(matches!(plan.layout, wit::Layout::Erasure(_)), "layout 'erasure'");
    refuse(plan.timing.retries > 0, "'timing.retries' above 0");
    refuse(plan.timing.hedge.is_some(), "'timing.hedge'");
    refuse(plan.handoff.is_some(), "'handoff'");
    refuse(plan.repair != wit::RepairMode::Off, "'repair' other than 'off'");
    refuse(plan.rewrite.is_some(), "'rewrite'");
    refuse(thresholds(&plan.write) > MAX_THRESHOLDS, "a write rule of more than 512 thresholds");
    refuse(thresholds(&plan.read) > MAX_THRESHOLDS, "a read rule of more than 512 thresholds");
}

fn refuse_long_row(row: &wit::ClassRow, slots: u32, refused: &mut Vec<String>) {
    if let wit::SlotMap::Ranges(ranges) = &row.slots
        && ranges.len() > slots as usize
    {
        let class = op_class_from(row.class).name();
        refused.push(format!("row '{class}': {} ranges for {slots} slots", ranges.len()));
    }
}

/// A name a guest made up, short enough for a message.
fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME_BYTES).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn thresholds(rule: &wit::AckRule) -> usize {
    match rule {
        wit::AckRule::AnyOf(any) => any.iter().map(|all| all.len().max(1)).sum(),
        _ => 1,
    }
}

fn plan(plan: wit::Plan) -> PlanProposal {
    PlanProposal {
        name: plan.name,
        targets: plan.targets.into_iter().map(target).collect(),
        write: ack_rule(plan.write),
        read: ack_rule(plan.read),
        read_pick: read_pick(plan.read_pick),
        deadline_ms: plan.timing.deadline_ms,
        per_try_ms: plan.timing.per_try_ms,
        extra: plan.extra,
    }
}

fn target(target: wit::Target) -> Target {
    let mode = match target.mode {
        wit::AckMode::Waited => AckMode::Waited,
        wit::AckMode::Background => AckMode::Background,
        wit::AckMode::Shadow => AckMode::Shadow,
    };
    Target { backend: target.backend, mode, weight: target.weight }
}

fn ack_rule(rule: wit::AckRule) -> AckRule {
    let all = |all: Vec<wit::Threshold>| all.into_iter().map(|t| (t.among, t.need)).collect();
    match rule {
        wit::AckRule::Count(need) => AckRule::Count(need),
        wit::AckRule::Majority => AckRule::Majority,
        wit::AckRule::All => AckRule::All,
        wit::AckRule::EachZoneMajority => AckRule::EachZoneMajority,
        wit::AckRule::LocalZoneMajority => AckRule::LocalZoneMajority,
        wit::AckRule::AnyOf(any) => AckRule::AnyOf(any.into_iter().map(all).collect()),
    }
}

fn read_pick(pick: wit::ReadPick) -> ReadPick {
    match pick {
        wit::ReadPick::Nearest => ReadPick::Nearest,
        wit::ReadPick::Fastest => ReadPick::Fastest,
        wit::ReadPick::PrimaryFirst => ReadPick::PrimaryFirst,
        wit::ReadPick::Spread => ReadPick::Spread,
    }
}

fn slot_map(map: wit::SlotMap) -> SlotMap {
    match map {
        wit::SlotMap::All(outcome) => SlotMap::All(outcome),
        wit::SlotMap::Ranges(ranges) => SlotMap::Ranges(ranges),
        wit::SlotMap::Each(each) => SlotMap::Each(each),
    }
}

#[inline]
pub(crate) fn op_class(class: OpClass) -> wit::OpClass {
    match class {
        OpClass::Read => wit::OpClass::Read,
        OpClass::Write => wit::OpClass::Write,
        OpClass::ConditionalWrite => wit::OpClass::ConditionalWrite,
        OpClass::Delete => wit::OpClass::Delete,
        OpClass::MultiKey => wit::OpClass::MultiKey,
        OpClass::Scan => wit::OpClass::Scan,
        OpClass::Transaction => wit::OpClass::Transaction,
        OpClass::Blocking => wit::OpClass::Blocking,
        OpClass::PubSub => wit::OpClass::PubSub,
        OpClass::Admin => wit::OpClass::Admin,
        OpClass::Unknown => wit::OpClass::Unknown,
    }
}

fn op_class_from(class: wit::OpClass) -> OpClass {
    match class {
        wit::OpClass::Read => OpClass::Read,
        wit::OpClass::Write => OpClass::Write,
        wit::OpClass::ConditionalWrite => OpClass::ConditionalWrite,
        wit::OpClass::Delete => OpClass::Delete,
        wit::OpClass::MultiKey => OpClass::MultiKey,
        wit::OpClass::Scan => OpClass::Scan,
        wit::OpClass::Transaction => OpClass::Transaction,
        wit::OpClass::Blocking => OpClass::Blocking,
        wit::OpClass::PubSub => OpClass::PubSub,
        wit::OpClass::Admin => OpClass::Admin,
        wit::OpClass::Unknown => OpClass::Unknown,
    }
}

#[inline]
pub(crate) fn op_flags(flags: OpFlags) -> wit::OpFlags {
    let pairs = [
        (OpFlags::HAS_TTL, wit::OpFlags::HAS_TTL),
        (OpFlags::IDEMPOTENT, wit::OpFlags::IDEMPOTENT),
        (OpFlags::LARGE_VALUE, wit::OpFlags::LARGE_VALUE),
        (OpFlags::IN_TRANSACTION, wit::OpFlags::IN_TRANSACTION),
        (OpFlags::REPLAYED, wit::OpFlags::REPLAYED),
        (OpFlags::ADMIN_CLIENT, wit::OpFlags::ADMIN_CLIENT),
        (OpFlags::READ_YOUR_WRITES, wit::OpFlags::READ_YOUR_WRITES),
        (OpFlags::FROM_HINT, wit::OpFlags::FROM_HINT),
    ];
    pairs
        .into_iter()
        .filter(|(ours, _)| flags.has(*ours))
        .fold(wit::OpFlags::empty(), |sum, (_, bit)| sum | bit)
}

pub(crate) fn decision(decision: wit_decider::Decision) -> Decision {
    let verdict = match decision.verdict {
        wit_decider::Verdict::Plan(outcome) => Verdict::Plan(outcome),
        wit_decider::Verdict::Reject(r) => {
            Verdict::Reject { code: r.code, message: r.message, retry_after_ms: r.retry_after_ms }
        }
    };
    let cache = match decision.cache {
        wit_decider::CacheScope::None => CacheScope::None,
        wit_decider::CacheScope::Key => CacheScope::Key,
        wit_decider::CacheScope::Slot => CacheScope::Slot,
        wit_decider::CacheScope::OpClass => CacheScope::OpClass,
        wit_decider::CacheScope::UntilEpoch => CacheScope::UntilEpoch,
    };
    Decision { verdict, cache, cache_ms: decision.cache_ms }
}
