//! `cases.toml`: what a policy must answer for given backends and a request. Runs the same for bundled
//! policies, for those of users, and in tests.

use crate::{Decider, HostError, Op, OpFlags, Planner, Policy, Reason, Verdict};
use quorate_core::plan::{ASK, OpClass, Outcome, Plan, REJECT, Table};
use quorate_core::rule::Mask;
use quorate_core::topology::{Backend, Topology};
use serde::Deserialize;

/// A file of cases.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The cases, in order.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

/// One case: a world, a request, and what must come out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    /// A sentence.
    pub name: String,
    /// Settings of the policy.
    #[serde(default)]
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// `name` or `name@zone`, in order.
    pub backends: Vec<String>,
    /// The proxy's zone.
    #[serde(default)]
    pub local_zone: String,
    /// Class of the request; a write by default.
    #[serde(default)]
    pub class: Option<OpClass>,
    /// Slot of the request.
    #[serde(default)]
    pub slot: u16,
    /// Hash of the request's key; only a decider looks at it.
    #[serde(default)]
    pub key_hash: u64,
    /// Size of the request's values; only a decider looks at it.
    #[serde(default)]
    pub value_bytes: u64,
    /// Name of the plan that must come out.
    #[serde(default)]
    pub plan: Option<String>,
    /// Code with which the request must be rejected; "table" where the table itself rejects it.
    #[serde(default)]
    pub rejected: Option<String>,
    /// Text that the error of `configure` or `build` must hold.
    #[serde(default)]
    pub error: Option<String>,
    /// Sets of backends that must meet the write rule.
    #[serde(default)]
    pub met_by: Vec<Vec<String>>,
    /// Sets of backends that must not.
    #[serde(default)]
    pub not_met_by: Vec<Vec<String>>,
    /// Backends in the order in which they must be read.
    #[serde(default)]
    pub reads: Option<Vec<String>>,
    /// The plan's deadline in milliseconds.
    #[serde(default)]
    pub deadline_ms: Option<u32>,
}

/// Reads a file's text. The error says where.
pub fn parse(text: &str) -> Result<Cases, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

impl Case {
    /// Runs the case; `Err` says what came out instead.
    pub fn run(&self, policy: &Policy) -> Result<(), String> {
        let topology = self.topology();
        let settings = serde_json::to_string(&self.settings).map_err(|error| error.to_string())?;
        let table = match self.table(policy, &settings, &topology) {
            Ok(table) if self.error.is_none() => table,
            Ok(_) => return Err("a table came out instead of an error".into()),
            Err(error) => return self.expects_error(&error),
        };
        match self.outcome(policy, &settings, &table)? {
            Came::Rejected(code) => expect("rejected", &self.rejected, &Some(code)),
            Came::Plan(outcome) => {
                let plan =
                    table.plan(outcome).ok_or_else(|| format!("the decider made up outcome {outcome}"))?;
                expect("rejected", &self.rejected, &None)?;
                self.check_plan(plan, &topology)
            }
        }
    }

    fn topology(&self) -> Topology {
        let backends = self.backends.iter().map(|text| backend(text)).collect();
        Topology { epoch: 1, local_zone: self.local_zone.clone(), slots: 16_384, backends }
    }

    fn table(&self, policy: &Policy, settings: &str, topology: &Topology) -> Result<Table, HostError> {
        let mut planner: Planner = policy.configure(settings)?;
        Ok(planner.build(topology, Reason::Asked)?.table)
    }

    fn expects_error(&self, error: &HostError) -> Result<(), String> {
        let (wanted, got) = (self.error.as_deref(), error.to_string());
        match wanted.is_some_and(|text| got.contains(text)) {
            true => Ok(()),
            false => Err(got),
        }
    }

    fn outcome(&self, policy: &Policy, settings: &str, table: &Table) -> Result<Came, String> {
        let from_table = table.outcome(self.class(), self.slot);
        if from_table == REJECT {
            return Ok(Came::Rejected("table".into()));
        }
        if from_table != ASK {
            return Ok(Came::Plan(from_table));
        }
        let decider = policy.decider(settings).map_err(|error| error.to_string())?;
        let mut decider = decider.ok_or("the table asks a decider, and the policy has none")?;
        self.decide(&mut decider).map_err(|error| error.to_string())
    }

    fn decide(&self, decider: &mut Decider) -> Result<Came, HostError> {
        let flags = OpFlags::default();
        match decider.fast(self.class(), flags, self.slot, self.key_hash, self.value_bytes)? {
            ASK => {}
            REJECT => return Ok(Came::Rejected("fast".into())),
            outcome => return Ok(Came::Plan(outcome)),
        }
        Ok(match decider.decide(&self.op())?.verdict {
            Verdict::Plan(outcome) => Came::Plan(outcome),
            Verdict::Reject { code, .. } => Came::Rejected(code),
        })
    }

    fn class(&self) -> OpClass {
        self.class.unwrap_or(OpClass::Write)
    }

    fn op(&self) -> Op {
        Op {
            class: self.class(),
            flags: OpFlags::default(),
            slot: self.slot,
            key_hash: self.key_hash,
            keys: vec![b"key".to_vec()],
            verb: "SET".into(),
            value_bytes: self.value_bytes,
            attributes: vec![],
        }
    }

    fn check_plan(&self, plan: &Plan, topology: &Topology) -> Result<(), String> {
        if self.plan.is_some() {
            expect("plan", &self.plan, &Some(plan.name.clone()))?;
        }
        for (sets, wanted) in [(&self.met_by, true), (&self.not_met_by, false)] {
            for set in sets {
                if plan.write.met(mask(set, topology)?) != wanted {
                    let rule = plan.write.describe(|i| topology.backends[i].name.clone());
                    return Err(format!("the write rule is {rule}: met by {set:?} should be {wanted}"));
                }
            }
        }
        let reads = plan.read_order.iter().map(|i| topology.backends[usize::from(*i)].name.clone()).collect();
        if self.reads.is_some() {
            expect("reads", &self.reads, &Some(reads))?;
        }
        match self.deadline_ms {
            Some(wanted) => expect("deadline-ms", &wanted, &plan.deadline_ms),
            None => Ok(()),
        }
    }
}

enum Came {
    Plan(Outcome),
    Rejected(String),
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, got: &T) -> Result<(), String> {
    if wanted == got { Ok(()) } else { Err(format!("{what}: {got:?} came out, {wanted:?} was expected")) }
}

fn mask(set: &[String], topology: &Topology) -> Result<Mask, String> {
    let bit = |name: &String| {
        let at = topology.backends.iter().position(|b| b.name == *name);
        at.map(|i| 1 << i).ok_or_else(|| format!("the case names '{name}', which is no backend"))
    };
    set.iter().map(bit).try_fold(0, |sum, bit| Ok(sum | bit?))
}

fn backend(text: &str) -> Backend {
    let (name, zone) = text.split_once('@').unwrap_or((text, ""));
    Backend::new(name, "g", zone)
}
