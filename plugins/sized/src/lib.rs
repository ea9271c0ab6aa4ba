//! An example of a decider: refuses values that are too big, and lets some keys write to all replicas.
#![cfg_attr(target_arch = "wasm32", no_std)]

use quorate_plugin_sdk::*;

const MAJORITY: Outcome = 0;
const ALL: Outcome = 1;

/// `max-bytes` bounds a value; `all-percent` of the keys, by hash, wait for all replicas.
pub struct Sized {
    common: Common,
    max_bytes: u64,
    all_percent: u64,
}

impl Policy for Sized {
    const NAME: &'static str = "sized";
    const SCHEMA: &'static str = include_str!("../schema.json");

    fn configure(settings: &mut Settings) -> Self {
        let max_bytes = settings.number("max-bytes").unwrap_or(1 << 20);
        let all_percent = settings.number("all-percent").unwrap_or(0);
        if all_percent > 100 {
            settings.error("all-percent", "must be at most 100");
        }
        Sized { common: settings.common(), max_bytes: max_bytes.into(), all_percent: all_percent.into() }
    }

    fn build(&self, view: &Topology, _why: Reason) -> Result<Table, String> {
        let majority = self.common.apply(Plan::replicated("majority", view));
        let all = Plan { name: "all".to_owned(), write: AckRule::All, ..majority.clone() };
        let table = Table { plans: vec![majority, all], rows: vec![], default_outcome: MAJORITY };
        Ok(table.with_class(OpClass::Write, ASK))
    }

    fn fast(&self, request: FastRequest) -> Outcome {
        if request.value_bytes > self.max_bytes { ASK } else { self.plan_of(request.key_hash) }
    }

    fn decide(&self, op: &Op) -> Decision {
        let bytes = op.value_bytes();
        if bytes <= self.max_bytes {
            return Decision::plan(self.plan_of(op.key_hash()));
        }
        let message = format!("{} of {bytes} bytes; at most {} are allowed", op.verb(), self.max_bytes);
        Decision::reject("too-large", &message)
    }
}

impl Sized {
    fn plan_of(&self, key_hash: u64) -> Outcome {
        if key_hash % 100 < self.all_percent { ALL } else { MAJORITY }
    }
}

policy!(Sized, decider);
