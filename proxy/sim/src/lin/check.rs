//! The verdict on a whole history: each key on its own, because objects that are linearizable one by one
//! are so together (Herlihy and Wing 1990).

use std::collections::BTreeMap;

use super::history::{OpId, Operation, Outcome};
use super::model::Model;
use super::search::{Found, Item, Search};

/// How much work a check may be.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Steps of the model per key.
    pub steps_per_key: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { steps_per_key: 5_000_000 }
    }
}

/// Why a history has no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The key whose operations have none.
    pub key: String,
    /// The longest order that could be begun, in that order.
    pub prefix: Vec<OpId>,
    /// Operations that had to come next and did not fit.
    pub blocked: Vec<OpId>,
    /// There would be an order if refused operations had taken effect: one of them probably did.
    pub refused_took_effect: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none.
    NotLinearizable(Box<Witness>),
    /// The budget ran out on this key, and no other key was found wrong.
    Unknown {
        /// The first such key.
        key: String,
    },
}

type History<'a, M> = Vec<(OpId, &'a Operation<<M as Model>::Op, <M as Model>::Ret>)>;

/// Judges a history. Refused operations are left out: what they would have done must not show.
pub fn check<M: Model>(operations: &[Operation<M::Op, M::Ret>], budget: Budget) -> Verdict {
    let mut by_key: BTreeMap<&str, History<M>> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        by_key.entry(&operation.key).or_default().push((OpId(index), operation));
    }
    let mut verdict = Verdict::Linearizable;
    for (key, history) in by_key {
        match search::<M>(&history, false, budget) {
            (Found::Order, _) => {}
            (Found::OutOfBudget, _) if verdict == Verdict::Linearizable => {
                verdict = Verdict::Unknown { key: key.into() };
            }
            (Found::OutOfBudget, _) => {}
            (Found::Stuck { prefix, blocked }, ids) => {
                let names = |places: Vec<usize>| places.into_iter().map(|place| ids[place]).collect();
                let (prefix, blocked) = (names(prefix), names(blocked));
                let refused_took_effect = blame_refused::<M>(&history, budget);
                let key = key.to_string();
                return Verdict::NotLinearizable(Box::new(Witness {
                    key,
                    prefix,
                    blocked,
                    refused_took_effect,
                }));
            }
        }
    }
    verdict
}

fn blame_refused<M: Model>(history: &History<M>, budget: Budget) -> bool {
    let any_refused = history.iter().any(|(_, op)| matches!(op.outcome, Outcome::Failed { .. }));
    any_refused && matches!(search::<M>(history, true, budget).0, Found::Order)
}

fn search<M: Model>(history: &History<M>, refused_may_act: bool, budget: Budget) -> (Found, Vec<OpId>) {
    let (mut items, mut ids) = (Vec::new(), Vec::new());
    for (id, operation) in history {
        let (ret, returned) = match &operation.outcome {
            Outcome::Ok { ret, at } => (Some(ret), Some(*at)),
            Outcome::Failed { .. } if !refused_may_act => continue,
            Outcome::Failed { .. } | Outcome::Unknown { .. } => (None, None),
        };
        items.push(Item::<M> { op: &operation.op, ret, invoked: operation.invoked, returned });
        ids.push(*id);
    }
    (Search::new(&items, budget.steps_per_key).run(), ids)
}
