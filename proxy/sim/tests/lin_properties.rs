//! The checker against brute force on small histories, and against a simulated atomic object on large ones.
//! Everything is seeded; work is bounded by budgets, not by clocks.

mod common;

use std::sync::Arc;

use common::Dice;
use quorate_sim::lin::{
    AppendList, Budget, Counter, CounterOp, ListOp, ListRet, Model, Operation, Outcome, Recorder, Register,
    RegisterOp, RegisterRet, Verdict, check,
};

type Op<L> = <<L as Load>::Object as Model>::Op;
type Ret<L> = <<L as Load>::Object as Model>::Ret;
type State<L> = <<L as Load>::Object as Model>::State;

/// Operations to draw, on an object that answers them.
trait Load {
    type Object: Model;
    fn draw(dice: &mut Dice, nonce: usize) -> Op<Self>;
    fn answer(state: &State<Self>, op: &Op<Self>) -> Ret<Self>;
    fn corrupt(dice: &mut Dice, ret: &Ret<Self>) -> Ret<Self>;
}

/// Reads and writes of values that are all different, as test clients write them.
struct UniqueWrites;

impl Load for UniqueWrites {
    type Object = Register;

    fn draw(dice: &mut Dice, nonce: usize) -> RegisterOp {
        if dice.below(2) == 0 { RegisterOp::Get } else { RegisterOp::Set(nonce.to_string()) }
    }

    fn answer(state: &Option<String>, op: &RegisterOp) -> RegisterRet {
        Register::answer(state, op)
    }

    fn corrupt(dice: &mut Dice, ret: &RegisterRet) -> RegisterRet {
        match ret {
            RegisterRet::Value(Some(_)) => RegisterRet::Value(Some((150 + dice.below(200)).to_string())),
            other => other.clone(),
        }
    }
}

impl Load for Register {
    type Object = Register;

    fn draw(dice: &mut Dice, nonce: usize) -> RegisterOp {
        let value = |dice: &mut Dice| dice.below(3).to_string();
        match dice.below(8) {
            0..4 => RegisterOp::Get,
            4 => RegisterOp::Set(value(dice)),
            5 => RegisterOp::Set(format!("n{nonce}")),
            6 => RegisterOp::Cas { from: Some(value(dice)), to: value(dice) },
            _ => RegisterOp::Delete,
        }
    }

    fn answer(state: &Option<String>, op: &RegisterOp) -> RegisterRet {
        match op {
            RegisterOp::Get => RegisterRet::Value(state.clone()),
            RegisterOp::Set(_) => RegisterRet::Done,
            RegisterOp::Cas { from, .. } => RegisterRet::Changed(from == state),
            RegisterOp::Delete => RegisterRet::Changed(state.is_some()),
        }
    }

    fn corrupt(dice: &mut Dice, ret: &RegisterRet) -> RegisterRet {
        match ret {
            RegisterRet::Changed(yes) => RegisterRet::Changed(!yes),
            RegisterRet::Done => RegisterRet::Done,
            RegisterRet::Value(_) if dice.below(3) == 0 => RegisterRet::Value(None),
            RegisterRet::Value(_) => RegisterRet::Value(Some(dice.below(3).to_string())),
        }
    }
}

impl Load for Counter {
    type Object = Counter;

    fn draw(dice: &mut Dice, _: usize) -> CounterOp {
        if dice.below(3) == 0 { CounterOp::Get } else { CounterOp::Incr(1 + dice.below(2) as u64) }
    }

    fn answer(state: &u64, op: &CounterOp) -> u64 {
        match op {
            CounterOp::Incr(by) => state + by,
            CounterOp::Get => *state,
        }
    }

    fn corrupt(dice: &mut Dice, ret: &u64) -> u64 {
        if dice.below(2) == 0 { ret + 1 } else { ret.saturating_sub(1) }
    }
}

impl Load for AppendList {
    type Object = AppendList;

    fn draw(dice: &mut Dice, nonce: usize) -> ListOp {
        if dice.below(2) == 0 { ListOp::Read } else { ListOp::Append(nonce.to_string()) }
    }

    fn answer(state: &Vec<Arc<str>>, op: &ListOp) -> ListRet {
        match op {
            ListOp::Append(_) => ListRet::Length(state.len() + 1),
            ListOp::Read => ListRet::Items(state.iter().map(|item| item.to_string()).collect()),
        }
    }

    fn corrupt(dice: &mut Dice, ret: &ListRet) -> ListRet {
        match ret {
            ListRet::Length(n) => ListRet::Length(n + 1),
            ListRet::Items(items) => {
                let mut items = items.clone();
                match dice.below(2) {
                    0 => drop(items.pop()),
                    _ => items.reverse(),
                }
                ListRet::Items(items)
            }
        }
    }
}

/// A client in the middle of an operation.
struct Call<R> {
    id: quorate_sim::lin::OpId,
    effect: Option<R>,
}

/// Clients on one object that takes each operation at one moment; some answers are lost, some calls refused.
fn atomic<L: Load>(dice: &mut Dice, operations: usize, clients: usize) -> Recorder<Op<L>, Ret<L>> {
    let mut history = Recorder::default();
    let mut state = L::Object::initial();
    let mut open: Vec<Option<Call<Ret<L>>>> = (0..clients).map(|_| None).collect();
    let (mut begun, mut now, mut lost) = (0, 0, 0);
    while begun < operations || open.iter().any(Option::is_some) {
        now += dice.below(2) as u64;
        let client = dice.below(clients);
        match open[client].take() {
            None if begun < operations => {
                let op = L::draw(dice, begun);
                begun += 1;
                let id = history.invoke(client as u64, "k", op, now);
                open[client] = Some(Call { id, effect: None });
            }
            None => {}
            Some(Call { id, effect: None }) => match dice.below(40) {
                0 if lost < 6 => {
                    lost += 1;
                    history.unknown(id, now);
                }
                1 => history.fail(id, now),
                _ => {
                    let op = history.operations()[id.0].op.clone();
                    let ret = L::answer(&state, &op);
                    state = L::Object::step(&state, &op, Some(&ret)).expect("the object's own answer fits");
                    open[client] = Some(Call { id, effect: Some(ret) });
                }
            },
            Some(Call { id, effect: Some(_) }) if dice.below(40) == 0 && lost < 6 => {
                lost += 1;
                history.unknown(id, now);
            }
            Some(Call { id, effect: Some(ret) }) => history.ok(id, ret, now),
        }
    }
    history
}

/// Tries every order of every choice of the operations that may never have happened.
fn brute_force<M: Model>(operations: &[Operation<M::Op, M::Ret>]) -> bool {
    fn end<O, R>(operation: &Operation<O, R>) -> Option<u64> {
        if let Outcome::Ok { at, .. } = operation.outcome { Some(at) } else { None }
    }
    fn extend<M: Model>(left: &[&Operation<M::Op, M::Ret>], state: &M::State) -> bool {
        if left.iter().all(|operation| end(operation).is_none()) {
            return true;
        }
        (0..left.len()).any(|place| {
            let operation = left[place];
            if left.iter().any(|other| end(other).is_some_and(|at| at < operation.invoked)) {
                return false;
            }
            let ret = if let Outcome::Ok { ret, .. } = &operation.outcome { Some(ret) } else { None };
            let mut rest = left.to_vec();
            rest.remove(place);
            M::step(state, &operation.op, ret).is_some_and(|next| extend::<M>(&rest, &next))
        })
    }
    let kept: Vec<_> =
        operations.iter().filter(|one| !matches!(one.outcome, Outcome::Failed { .. })).collect();
    extend::<M>(&kept, &M::initial())
}

const CASES: usize = 2000;

fn agreement<L: Load>(seed: u64) -> (usize, usize)
where
    Operation<Op<L>, Ret<L>>: Clone + std::fmt::Debug,
{
    let mut dice = Dice(seed);
    let (mut refuted, mut kept) = (0, 0);
    for _ in 0..CASES {
        let (operations, clients) = (2 + dice.below(5), 1 + dice.below(4));
        let history = atomic::<L>(&mut dice, operations, clients);
        let mut operations = history.operations().to_vec();
        assert!(brute_force::<L::Object>(&operations), "an atomic object is linearizable: {operations:?}");
        assert_eq!(
            check::<L::Object>(&operations, Budget::default()),
            Verdict::Linearizable,
            "{operations:?}"
        );
        for _ in 0..2 {
            let victim = dice.below(operations.len());
            if let Outcome::Ok { ret, .. } = &mut operations[victim].outcome {
                *ret = L::corrupt(&mut dice, ret);
            }
        }
        let expected = brute_force::<L::Object>(&operations);
        let verdict = check::<L::Object>(&operations, Budget::default());
        assert_eq!(verdict == Verdict::Linearizable, expected, "{operations:?}");
        if expected { kept += 1 } else { refuted += 1 }
    }
    (refuted, kept)
}

#[test]
fn the_checker_agrees_with_brute_force() {
    for (refuted, kept) in [
        agreement::<Register>(1),
        agreement::<UniqueWrites>(7),
        agreement::<Counter>(2),
        agreement::<AppendList>(3),
    ] {
        assert!(refuted > 200 && kept > 100, "both verdicts must be met: {refuted} refuted, {kept} kept");
    }
}

fn large<L: Load>(seed: u64)
where
    Operation<Op<L>, Ret<L>>: Clone,
{
    let mut dice = Dice(seed);
    let budget = Budget { steps_per_key: 2_000_000 };
    let mut found = 0;
    for _ in 0..8 {
        let history = atomic::<L>(&mut dice, 400, 16);
        let mut operations = history.operations().to_vec();
        assert_eq!(check::<L::Object>(&operations, budget), Verdict::Linearizable);
        for _ in 0..3 {
            let victim = 200 + dice.below(150);
            if let Outcome::Ok { ret, .. } = &mut operations[victim].outcome {
                *ret = L::corrupt(&mut dice, ret);
            }
        }
        match check::<L::Object>(&operations, budget) {
            Verdict::NotLinearizable(witness) => {
                found += 1;
                assert!(witness.prefix.len() >= 100 && !witness.blocked.is_empty());
            }
            Verdict::Linearizable => {}
            Verdict::Unknown { .. } => panic!("too much work for a history of 400 operations"),
        }
    }
    assert!(found >= 3, "corrupted answers are mostly found: {found} of 8");
}

#[test]
fn hundreds_of_operations_of_sixteen_clients_are_judged_within_the_budget() {
    large::<UniqueWrites>(4);
    large::<Counter>(5);
    large::<AppendList>(6);
}

/// Equal values, deletes and failing compare-and-sets leave many orders: true ones must still be found.
#[test]
fn ambiguous_histories_are_still_accepted() {
    let mut dice = Dice(8);
    for _ in 0..8 {
        let history = atomic::<Register>(&mut dice, 300, 16);
        let verdict = check::<Register>(history.operations(), Budget { steps_per_key: 2_000_000 });
        assert_eq!(verdict, Verdict::Linearizable);
    }
}
