//! Plans and plan tables.
//!
//! A policy proposes a [`Proposal`]; [`Table::new`] is the only door from there to the hot
//! path, so that nobody has to ask later whether a target exists or a rule can be met.

use crate::rule::{MAX_REPLICAS, Mask, Rule, Threshold};
use crate::topology::Topology;
use serde::{Deserialize, Serialize};

/// What a command does, not its name. The order is part of the table's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
#[allow(missing_docs)]
pub enum OpClass {
    Read,
    Write,
    ConditionalWrite,
    Delete,
    MultiKey,
    Scan,
    Transaction,
    Blocking,
    PubSub,
    Admin,
    Unknown,
}

impl OpClass {
    /// Every class, in table order.
    pub const ALL: [OpClass; 11] = [
        OpClass::Read,
        OpClass::Write,
        OpClass::ConditionalWrite,
        OpClass::Delete,
        OpClass::MultiKey,
        OpClass::Scan,
        OpClass::Transaction,
        OpClass::Blocking,
        OpClass::PubSub,
        OpClass::Admin,
        OpClass::Unknown,
    ];

    /// Kebab-case name as in WIT and metrics.
    pub fn name(self) -> &'static str {
        match self {
            OpClass::Read => "read",
            OpClass::Write => "write",
            OpClass::ConditionalWrite => "conditional-write",
            OpClass::Delete => "delete",
            OpClass::MultiKey => "multi-key",
            OpClass::Scan => "scan",
            OpClass::Transaction => "transaction",
            OpClass::Blocking => "blocking",
            OpClass::PubSub => "pub-sub",
            OpClass::Admin => "admin",
            OpClass::Unknown => "unknown",
        }
    }
}

/// Index of a plan in its table, or one of the two special outcomes.
pub type Outcome = u16;
/// The cell wants `decider` to be asked.
pub const ASK: Outcome = 0xffff;
/// The cell refuses the request.
pub const REJECT: Outcome = 0xfffe;

/// How a target takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckMode {
    /// Counts for the ack rule.
    Waited,
    /// Receives everything in order, never counts.
    Background,
    /// Sent and compared, never counts.
    Shadow,
}

/// One replica in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Index into `Topology::backends`.
    pub backend: u32,
    /// Part it takes.
    pub mode: AckMode,
    /// Share of reads; 0 means none.
    pub weight: u8,
}

/// A quorum expression as a policy states it. `among` counts positions in the plan's targets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckRule {
    /// This many waited targets.
    Count(u8),
    /// More than half of the waited targets.
    Majority,
    /// All waited targets.
    All,
    /// More than half of the waited targets in every zone.
    EachZoneMajority,
    /// More than half of the waited targets in the proxy's zone.
    LocalZoneMajority,
    /// Any of all of (positions, need).
    AnyOf(Vec<Vec<(Vec<u8>, u8)>>),
}

/// Which replica answers reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadPick {
    /// Same zone first, then the order of targets.
    Nearest,
    /// Lowest measured latency first.
    Fastest,
    /// The order of targets.
    PrimaryFirst,
    /// In turn, by weight.
    Spread,
}

/// A plan as a policy proposes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanProposal {
    /// Metric label, and what `explain` prints.
    pub name: String,
    /// Replicas, in order of preference.
    pub targets: Vec<Target>,
    /// When a write is acknowledged.
    pub write: AckRule,
    /// How many replicas a read consults; the ordered engine reads one.
    pub read: AckRule,
    /// Which replica answers reads.
    pub read_pick: ReadPick,
    /// How long a request may take before the client gets an error, in milliseconds. 0 means the default.
    pub deadline_ms: u32,
    /// How long one replica may take before a read is tried on another, in milliseconds. 0 means the default.
    pub per_try_ms: u32,
    /// Growth without breaking the type.
    pub extra: Vec<(String, String)>,
}

/// How a class maps slots to outcomes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotMap {
    /// One outcome for all slots.
    All(Outcome),
    /// Inclusive ranges; slots outside get the default outcome.
    Ranges(Vec<(u16, u16, Outcome)>),
    /// One outcome a slot.
    Each(Vec<Outcome>),
}

/// A table as a policy proposes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proposal {
    /// Plans, referred to by index.
    pub plans: Vec<PlanProposal>,
    /// One row a class the policy cares about.
    pub rows: Vec<(OpClass, SlotMap)>,
    /// For everything else.
    pub default_outcome: Outcome,
}

/// Why a proposal was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum PlanError {
    #[error("the table has no plan")]
    NoPlan,
    #[error("the table has {0} plans; at most {MAX_PLANS} are allowed")]
    TooManyPlans(usize),
    #[error("plan '{plan}': target {backend} does not exist; the group has {count} backends")]
    NoSuchBackend { plan: String, backend: u32, count: usize },
    #[error("plan '{plan}': backend '{backend}' is named twice")]
    TargetTwice { plan: String, backend: String },
    #[error("plan '{plan}': no target is waited for")]
    NothingWaited { plan: String },
    #[error("plan '{plan}': the {which} rule refers to target {position}, but there are {count}")]
    NoSuchTarget { plan: String, which: &'static str, position: u8, count: usize },
    #[error("plan '{plan}': the {which} rule can never be met: {rule}")]
    NeverMet { plan: String, which: &'static str, rule: String },
    #[error("plan '{plan}': the {which} rule is met by no replica at all")]
    MetByNone { plan: String, which: &'static str },
    #[error("plan '{plan}': a local-zone rule, but no backend is in zone '{zone}'")]
    NoLocalZone { plan: String, zone: String },
    #[error("row '{class}' names outcome {outcome}, but there are {count} plans")]
    NoSuchPlan { class: String, outcome: Outcome, count: usize },
    #[error("row '{class}' has {got} slots; the topology has {want}")]
    SlotCount { class: String, got: usize, want: u32 },
    #[error("row '{class}': slots {from} to {to} are not within 0 to {last}")]
    SlotRange { class: String, from: u16, to: u16, last: u32 },
    #[error("row '{class}' is given twice")]
    RowTwice { class: String },
    #[error("plan '{plan}': unknown extra '{key}'")]
    UnknownExtra { plan: String, key: String },
    #[error("{0} backends in one group; at most {MAX_REPLICAS} are allowed")]
    TooManyBackends(usize),
}

/// The most plans a table may have.
pub const MAX_PLANS: usize = 1024;
/// Deadline of a request whose plan names none, in milliseconds.
pub const DEFAULT_DEADLINE_MS: u32 = 2_000;
/// Time for one try of a read whose plan names none, in milliseconds.
pub const DEFAULT_PER_TRY_MS: u32 = 100;

/// A validated plan. Made by [`Table::new`] only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Plan {
    /// Metric label.
    pub name: String,
    /// When a write is acknowledged.
    pub write: Rule,
    /// How a read is served; see [`PlanProposal::read`].
    pub read: Rule,
    /// Replicas that may answer reads, best first.
    pub read_order: Vec<u8>,
    /// Take the read order in turn instead of from its start.
    pub spread: bool,
    /// Every replica that gets the writes.
    pub targets: Mask,
    /// Replicas that count for the write rule.
    pub waited: Mask,
    /// Milliseconds until the client gets an error.
    pub deadline_ms: u32,
    /// Milliseconds until a read is tried elsewhere.
    pub per_try_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
enum Row {
    Same(Outcome),
    Each(Box<[Outcome]>),
}

/// The validated table: two array look-ups from (class, slot) to a plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Table {
    plans: Vec<Plan>,
    rows: Vec<Row>,
}

impl Table {
    /// Checks a proposal against the topology it was made for. All problems are returned, not just the first.
    pub fn new(proposal: &Proposal, topology: &Topology) -> Result<Table, Vec<PlanError>> {
        let mut errors = Vec::new();
        if topology.backends.len() > MAX_REPLICAS {
            return Err(vec![PlanError::TooManyBackends(topology.backends.len())]);
        }
        match proposal.plans.len() {
            0 => return Err(vec![PlanError::NoPlan]),
            n if n > MAX_PLANS => return Err(vec![PlanError::TooManyPlans(n)]),
            _ => {}
        }
        let plans = proposal.plans.iter().filter_map(|p| compile(p, topology, &mut errors)).collect();
        let rows = compile_rows(proposal, topology, &mut errors);
        if errors.is_empty() { Ok(Table { plans, rows }) } else { Err(errors) }
    }

    /// Where a request goes.
    #[inline]
    pub fn outcome(&self, class: OpClass, slot: u16) -> Outcome {
        match &self.rows[class as usize] {
            Row::Same(outcome) => *outcome,
            Row::Each(slots) => slots.get(usize::from(slot)).copied().unwrap_or(REJECT),
        }
    }

    /// The outcome of a class when it does not depend on the slot: saves hashing the key.
    #[inline]
    pub fn outcome_of_class(&self, class: OpClass) -> Option<Outcome> {
        match &self.rows[class as usize] {
            Row::Same(outcome) => Some(*outcome),
            Row::Each(_) => None,
        }
    }

    /// The plan of an outcome; `None` for [`ASK`], [`REJECT`] and numbers that a decider made up.
    #[inline]
    pub fn plan(&self, outcome: Outcome) -> Option<&Plan> {
        self.plans.get(usize::from(outcome))
    }

    /// All plans, by outcome.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// Does any cell ask the decider?
    pub fn asks(&self) -> bool {
        self.rows.iter().any(|row| match row {
            Row::Same(outcome) => *outcome == ASK,
            Row::Each(slots) => slots.contains(&ASK),
        })
    }
}

fn compile(p: &PlanProposal, topology: &Topology, errors: &mut Vec<PlanError>) -> Option<Plan> {
    let before = errors.len();
    let (mut targets, mut waited): (Mask, Mask) = (0, 0);
    for target in &p.targets {
        let Some(backend) = topology.backends.get(target.backend as usize) else {
            let count = topology.backends.len();
            errors.push(PlanError::NoSuchBackend { plan: p.name.clone(), backend: target.backend, count });
            continue;
        };
        let bit = 1 << target.backend;
        if targets & bit != 0 {
            errors.push(PlanError::TargetTwice { plan: p.name.clone(), backend: backend.name.clone() });
        }
        targets |= bit;
        if target.mode == AckMode::Waited {
            waited |= bit;
        }
    }
    if errors.len() > before {
        return None;
    }
    if waited == 0 {
        errors.push(PlanError::NothingWaited { plan: p.name.clone() });
        return None;
    }
    if let Some((key, _)) = p.extra.first() {
        errors.push(PlanError::UnknownExtra { plan: p.name.clone(), key: key.clone() });
    }
    let write = compile_rule("write", &p.write, p, waited, topology, errors);
    let read = compile_rule("read", &p.read, p, waited, topology, errors);
    let or_default = |value, default| if value == 0 { default } else { value };
    Some(Plan {
        name: p.name.clone(),
        write: write?,
        read: read?,
        read_order: read_order(p, topology),
        spread: p.read_pick == ReadPick::Spread,
        targets,
        waited,
        deadline_ms: or_default(p.deadline_ms, DEFAULT_DEADLINE_MS),
        per_try_ms: or_default(p.per_try_ms, DEFAULT_PER_TRY_MS),
    })
}

fn compile_rule(
    which: &'static str,
    rule: &AckRule,
    p: &PlanProposal,
    waited: Mask,
    topology: &Topology,
    errors: &mut Vec<PlanError>,
) -> Option<Rule> {
    let plan = || p.name.clone();
    let compiled = match rule {
        AckRule::Count(need) => Rule::count(u32::from(*need), waited),
        AckRule::Majority => Rule::majority(waited),
        AckRule::All => Rule::all(waited),
        AckRule::EachZoneMajority => {
            Rule::any_of(vec![zones(waited, topology).into_iter().map(majority).collect::<Vec<Threshold>>()])
        }
        AckRule::LocalZoneMajority => {
            let local = in_zone(waited, topology, &topology.local_zone);
            if local == 0 {
                errors.push(PlanError::NoLocalZone { plan: plan(), zone: topology.local_zone.clone() });
                return None;
            }
            Rule::majority(local)
        }
        AckRule::AnyOf(any) => {
            let mut compiled = Vec::new();
            for all in any {
                let mut thresholds = Vec::new();
                for (positions, need) in all {
                    let mut among = 0;
                    for position in positions {
                        let Some(target) = p.targets.get(usize::from(*position)) else {
                            let count = p.targets.len();
                            let position = *position;
                            errors.push(PlanError::NoSuchTarget { plan: plan(), which, position, count });
                            return None;
                        };
                        among |= 1 << target.backend;
                    }
                    thresholds.push(Threshold { among: among & waited, need: u32::from(*need) });
                }
                compiled.push(thresholds);
            }
            Rule::any_of(compiled)
        }
    };
    if !compiled.met(waited) {
        let rule = compiled.describe(|i| topology.backends[i].name.clone());
        errors.push(PlanError::NeverMet { plan: plan(), which, rule });
        return None;
    }
    if compiled.met(0) {
        errors.push(PlanError::MetByNone { plan: plan(), which });
        return None;
    }
    Some(compiled)
}

fn majority(among: Mask) -> Threshold {
    Threshold { among, need: among.count_ones() / 2 + 1 }
}

fn in_zone(mask: Mask, topology: &Topology, zone: &str) -> Mask {
    let members = topology.backends.iter().enumerate().filter(|(_, b)| b.zone == zone);
    members.fold(0, |sum, (i, _)| sum | 1 << i) & mask
}

/// The zones that have a member in `mask`, each as a mask, in order of first appearance.
fn zones(mask: Mask, topology: &Topology) -> Vec<Mask> {
    let mut seen = 0;
    let mut zones = Vec::new();
    for i in crate::rule::indices(mask) {
        let zone = in_zone(mask, topology, &topology.backends[i].zone);
        if seen & zone == 0 {
            zones.push(zone);
            seen |= zone;
        }
    }
    zones
}

fn read_order(p: &PlanProposal, topology: &Topology) -> Vec<u8> {
    let mut readable: Vec<&Target> =
        p.targets.iter().filter(|t| t.mode == AckMode::Waited && t.weight > 0).collect();
    if readable.is_empty() {
        readable = p.targets.iter().filter(|t| t.mode == AckMode::Waited).collect();
    }
    let backend = |t: &Target| &topology.backends[t.backend as usize];
    match p.read_pick {
        ReadPick::Nearest => readable.sort_by_key(|t| backend(t).zone != topology.local_zone),
        ReadPick::Fastest => readable.sort_by_key(|t| match backend(t).p50_us {
            0 => u32::MAX,
            known => known,
        }),
        ReadPick::PrimaryFirst | ReadPick::Spread => {}
    }
    // In turn by weight: a target of weight 2 stands twice in the order.
    let times = |t: &Target| if p.read_pick == ReadPick::Spread { t.weight.clamp(1, 16) } else { 1 };
    readable.iter().flat_map(|t| std::iter::repeat_n(t.backend as u8, usize::from(times(t)))).collect()
}

fn compile_rows(proposal: &Proposal, topology: &Topology, errors: &mut Vec<PlanError>) -> Vec<Row> {
    let count = proposal.plans.len();
    let known = |outcome: Outcome| usize::from(outcome) < count || outcome == ASK || outcome == REJECT;
    let mut rows = vec![Row::Same(proposal.default_outcome); OpClass::ALL.len()];
    let mut given = [false; OpClass::ALL.len()];
    if !known(proposal.default_outcome) {
        let class = "default".to_string();
        errors.push(PlanError::NoSuchPlan { class, outcome: proposal.default_outcome, count });
    }
    for (class, map) in &proposal.rows {
        let name = || class.name().to_string();
        if std::mem::replace(&mut given[*class as usize], true) {
            errors.push(PlanError::RowTwice { class: name() });
        }
        let row = compile_row(map, proposal.default_outcome, topology.slots, &name, errors);
        let outcomes: &[Outcome] = match &row {
            Row::Same(outcome) => std::slice::from_ref(outcome),
            Row::Each(slots) => slots,
        };
        if let Some(outcome) = outcomes.iter().copied().find(|o| !known(*o)) {
            errors.push(PlanError::NoSuchPlan { class: name(), outcome, count });
        }
        rows[*class as usize] = row;
    }
    rows
}

fn compile_row(
    map: &SlotMap,
    default: Outcome,
    slots: u32,
    name: &dyn Fn() -> String,
    errors: &mut Vec<PlanError>,
) -> Row {
    match map {
        SlotMap::All(outcome) => Row::Same(*outcome),
        SlotMap::Each(each) => {
            if each.len() != slots as usize {
                errors.push(PlanError::SlotCount { class: name(), got: each.len(), want: slots });
            }
            same_or_each(each.clone())
        }
        SlotMap::Ranges(ranges) => {
            let mut each = vec![default; slots as usize];
            for (from, to, outcome) in ranges {
                if from > to || u32::from(*to) >= slots {
                    let last = slots.saturating_sub(1);
                    errors.push(PlanError::SlotRange { class: name(), from: *from, to: *to, last });
                    continue;
                }
                each[usize::from(*from)..=usize::from(*to)].fill(*outcome);
            }
            same_or_each(each)
        }
    }
}

fn same_or_each(each: Vec<Outcome>) -> Row {
    match each.first() {
        Some(first) if each.iter().all(|o| o == first) => Row::Same(*first),
        _ => Row::Each(each.into_boxed_slice()),
    }
}

/// The built-in table: every request to every backend, majority writes, reads from the nearest.
///
/// Used when a policy cannot be loaded and no earlier table is there.
pub fn builtin_majority(topology: &Topology) -> Proposal {
    let target = |backend| Target { backend, mode: AckMode::Waited, weight: 1 };
    let plan = PlanProposal {
        name: "majority".into(),
        targets: (0..topology.backends.len() as u32).map(target).collect(),
        write: AckRule::Majority,
        read: AckRule::Count(1),
        read_pick: ReadPick::Nearest,
        deadline_ms: 0,
        per_try_ms: 0,
        extra: vec![],
    };
    Proposal { plans: vec![plan], rows: vec![], default_outcome: 0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::topology::Backend;

    pub(crate) fn topology(zones: &[&str]) -> Topology {
        let backend = |(i, zone): (usize, &&str)| Backend::new(format!("r{}", i + 1), "g", *zone);
        let backends = zones.iter().enumerate().map(backend).collect();
        Topology { epoch: 1, local_zone: zones.last().unwrap_or(&"").to_string(), slots: 16_384, backends }
    }

    fn with_write(rule: AckRule, zones: &[&str]) -> Result<Table, Vec<PlanError>> {
        let topology = topology(zones);
        let mut proposal = builtin_majority(&topology);
        proposal.plans[0].write = rule;
        Table::new(&proposal, &topology)
    }

    #[test]
    fn the_builtin_table_is_accepted_and_needs_no_hash() {
        let topology = topology(&["a", "b", "c"]);
        let table = Table::new(&builtin_majority(&topology), &topology).expect("valid");
        assert_eq!(table.outcome_of_class(OpClass::Write), Some(0));
        let plan = table.plan(0).expect("there");
        assert!(plan.write.met(0b110) && !plan.write.met(0b100));
        assert_eq!(plan.read_order, vec![2, 0, 1], "the local zone is c");
    }

    #[test]
    fn four_of_three_is_refused() {
        let errors = with_write(AckRule::Count(4), &["a", "b", "c"]).expect_err("never met");
        assert_eq!(
            errors[0].to_string(),
            "plan 'majority': the write rule can never be met: 4 of {r1, r2, r3}"
        );
    }

    #[test]
    fn none_of_three_is_refused() {
        let errors = with_write(AckRule::Count(0), &["a", "b", "c"]).expect_err("met by none");
        assert!(matches!(errors[0], PlanError::MetByNone { .. }));
    }

    #[test]
    fn each_zone_majority_counts_in_every_zone() {
        let table = with_write(AckRule::EachZoneMajority, &["a", "a", "a", "b"]).expect("valid");
        let rule = &table.plans()[0].write;
        assert!(rule.met(0b1011));
        assert!(!rule.met(0b0111), "zone b is missing");
        assert!(!rule.met(0b1001), "one of three in zone a");
    }

    #[test]
    fn ranges_leave_the_rest_to_the_default() {
        let topology = topology(&["a", "b", "c"]);
        let mut proposal = builtin_majority(&topology);
        proposal.rows = vec![(OpClass::Write, SlotMap::Ranges(vec![(10, 20, ASK)]))];
        let table = Table::new(&proposal, &topology).expect("valid");
        assert_eq!(table.outcome(OpClass::Write, 9), 0);
        assert_eq!(table.outcome(OpClass::Write, 20), ASK);
        assert_eq!(table.outcome_of_class(OpClass::Write), None);
        assert!(table.asks());
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let topology = topology(&["a"]);
        let mut proposal = builtin_majority(&topology);
        proposal.plans[0].extra = vec![("turbo".into(), "yes".into())];
        proposal.rows =
            vec![(OpClass::Read, SlotMap::All(7)), (OpClass::Read, SlotMap::Ranges(vec![(5, 4, 0)]))];
        let errors = Table::new(&proposal, &topology).expect_err("bad");
        assert_eq!(errors.len(), 4, "{errors:?}");
    }
}
