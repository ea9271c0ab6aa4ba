//! Tokens that producers push and consumers wait for: lists by BLPOP and BLMOVE, which are first in, first out; and
//! sets by SPOP. No token is handed out twice, and none is lost unless nobody knows how a pop ended.

use super::super::judge::{Broken, Wrong, order};
use super::super::suite::LAST_READER;
use super::actor::{Actor, Family, Meaning, command, integer, texts, transaction};
use quorate_sim::lin::{Budget, Edn, Model, Operation, Outcome};
use quorate_wire::resp::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds that a consumer waits.
const WAIT: &str = "0.2";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// RPUSH or SADD of a token.
    Push(u64),
    /// BLPOP or SPOP.
    Pop,
    /// BLMOVE to the list of what is done.
    Move,
    /// Both lists, or the set.
    Read,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ret {
    Pushed,
    /// `None` after the time was over.
    Token(Option<u64>),
    Left {
        waiting: Vec<u64>,
        done: Vec<u64>,
    },
}

impl Edn<Ret> for Op {
    fn name(&self) -> &'static str {
        match self {
            Op::Push(_) => "enqueue",
            Op::Pop => "dequeue",
            Op::Move => "move",
            Op::Read => "read",
        }
    }

    fn value(&self, ret: Option<&Ret>) -> String {
        let list = |all: &[u64]| all.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        match (self, ret) {
            (Op::Push(token), _) => token.to_string(),
            (_, Some(Ret::Token(Some(token)))) => token.to_string(),
            (_, Some(Ret::Left { waiting, done })) => format!("[[{}] [{}]]", list(waiting), list(done)),
            _ => "nil".into(),
        }
    }
}

/// A queue by the book, and the list of what was moved.
#[derive(Debug, Clone, Copy)]
struct Queue;

impl Model for Queue {
    type State = (Vec<u64>, Vec<u64>);
    type Op = Op;
    type Ret = Ret;

    fn initial() -> Self::State {
        (Vec::new(), Vec::new())
    }

    fn step((waiting, done): &Self::State, op: &Op, ret: Option<&Ret>) -> Option<Self::State> {
        let (mut waiting, mut done) = (waiting.clone(), done.clone());
        let right = match (op, ret) {
            (Op::Push(token), _) => {
                waiting.push(*token);
                true
            }
            (Op::Pop | Op::Move, ret) => {
                let first = (!waiting.is_empty()).then(|| waiting.remove(0));
                done.extend(first.filter(|_| *op == Op::Move));
                ret.is_none_or(|ret| *ret == Ret::Token(first))
            }
            (Op::Read, Some(Ret::Left { waiting: w, done: d })) => *w == waiting && *d == done,
            (Op::Read, _) => true,
        };
        right.then_some((waiting, done))
    }

    fn reads_only(op: &Op) -> bool {
        *op == Op::Read
    }
}

fn list(actor: &mut Actor) -> String {
    format!("q{}", actor.number(Family::Queues))
}

fn bag(actor: &mut Actor) -> String {
    format!("g{}", actor.number(Family::Bags))
}

/// Pushes a token, to a list or into a set.
pub fn produce(actor: &mut Actor, _: u64) {
    let token = actor.value();
    let (key, word) = if actor.dice.percent(70) { (list(actor), "RPUSH") } else { (bag(actor), "SADD") };
    let push = [command(&[word, &key, &token.to_string()])];
    actor.perform(
        |all| &mut all.queues,
        (&key, Op::Push(token)),
        &push,
        |reply| Meaning::of(integer(reply).map(|_| Ret::Pushed)),
    );
}

/// Takes a token: waits for one of a list, or asks a set.
pub fn consume(actor: &mut Actor, _: u64) {
    if actor.dice.percent(30) {
        let key = bag(actor);
        let pop = [command(&["SPOP", &key])];
        actor.perform(|all| &mut all.queues, (&key, Op::Pop), &pop, token);
    } else if actor.dice.percent(50) {
        let key = list(actor);
        let pop = [command(&["BLPOP", &key, WAIT])];
        actor.perform(
            |all| &mut all.queues,
            (&key, Op::Pop),
            &pop,
            |reply| match reply {
                Value::Array(pair) if pair.len() == 2 => token(&pair[1]),
                Value::Null => Meaning::Told(Ret::Token(None)),
                _ => Meaning::Odd,
            },
        );
    } else {
        let key = list(actor);
        let step = [command(&["BLMOVE", &key, &done(&key), "LEFT", "RIGHT", WAIT])];
        actor.perform(|all| &mut all.queues, (&key, Op::Move), &step, token);
    }
}

fn done(key: &str) -> String {
    format!("{key}:done")
}

fn token(reply: &Value) -> Meaning<Ret> {
    match reply {
        Value::Null => Meaning::Told(Ret::Token(None)),
        value => {
            Meaning::of(value.text().and_then(|text| text.parse().ok()).map(|token| Ret::Token(Some(token))))
        }
    }
}

fn is_list(key: &str) -> bool {
    key.starts_with('q')
}

/// Reads what is left.
pub fn read_last(actor: &mut Actor, keys: &BTreeSet<String>) {
    for key in keys {
        let commands = if is_list(key) {
            transaction([command(&["LRANGE", key, "0", "-1"]), command(&["LRANGE", &done(key), "0", "-1"])])
        } else {
            transaction([command(&["SMEMBERS", key])])
        };
        actor.perform(
            |all| &mut all.queues,
            (key, Op::Read),
            &commands,
            |reply| {
                let numbers = |value: &Value| texts(value)?.iter().map(|text| text.parse().ok()).collect();
                let lists: Option<Vec<Vec<u64>>> = reply.items().iter().map(numbers).collect();
                Meaning::of(lists.map(|mut lists| {
                    let done = if lists.len() > 1 { lists.pop() } else { None };
                    Ret::Left { waiting: lists.pop().unwrap_or_default(), done: done.unwrap_or_default() }
                }))
            },
        );
    }
}

/// One queue or set: first by counting, then, for a list, by order.
pub fn judge(operations: &[Operation<Op, Ret>], budget: Budget) -> Option<Wrong> {
    let is_queue = operations.first().is_some_and(|operation| is_list(&operation.key));
    if let Some((broken, detail)) = counted(operations) {
        return Some(Wrong::Found(broken, detail));
    }
    match is_queue.then(|| order::<Queue>(operations, LAST_READER, budget)).flatten()? {
        // Counting found nothing lost: tokens came in another order than they were pushed.
        Wrong::Found(Broken::Lost, detail) => Some(Wrong::Found(Broken::Disorder, detail)),
        wrong => Some(wrong),
    }
}

fn counted(operations: &[Operation<Op, Ret>]) -> Option<(Broken, String)> {
    let mut places: BTreeMap<u64, u64> = BTreeMap::new();
    let mut complete = false;
    for operation in operations {
        match &operation.outcome {
            // What was moved is in the list of what is done.
            Outcome::Ok { ret: Ret::Token(Some(token)), .. } if operation.op == Op::Pop => {
                *places.entry(*token).or_default() += 1;
            }
            Outcome::Ok { ret: Ret::Left { waiting, done }, .. } => {
                complete = true;
                for token in waiting.iter().chain(done) {
                    *places.entry(*token).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    if let Some((token, _)) = places.iter().find(|(_, times)| **times > 1) {
        return Some((Broken::Doubled, format!("token {token} is there or was handed out twice")));
    }
    let pushes = |wanted: fn(&Outcome<Ret>) -> bool| {
        let all = operations.iter().filter(move |operation| wanted(&operation.outcome));
        all.filter_map(|operation| if let Op::Push(token) = operation.op { Some(token) } else { None })
    };
    if let Some(token) =
        pushes(|end| matches!(end, Outcome::Failed { .. })).find(|token| places.contains_key(token))
    {
        return Some((Broken::Ghost, format!("token {token} was refused")));
    }
    let lost: Vec<u64> =
        pushes(|end| matches!(end, Outcome::Ok { .. })).filter(|token| !places.contains_key(token)).collect();
    let unknown = operations.iter().filter(|operation| operation.op == Op::Pop);
    let unknown = unknown.filter(|operation| matches!(operation.outcome, Outcome::Unknown { .. })).count();
    if complete && lost.len() > unknown {
        return Some((
            Broken::Lost,
            format!("tokens {lost:?} are nowhere, and {unknown} pops had an unknown end"),
        ));
    }
    moved(operations, complete)
}

/// What a consumer was told that it moved must be in the list of what is done.
fn moved(operations: &[Operation<Op, Ret>], complete: bool) -> Option<(Broken, String)> {
    let done: BTreeSet<u64> = operations
        .iter()
        .filter_map(|operation| match &operation.outcome {
            Outcome::Ok { ret: Ret::Left { done, .. }, .. } => Some(done.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let mut seen = BTreeSet::new();
    for operation in operations.iter().filter(|operation| operation.op == Op::Move) {
        let Outcome::Ok { ret: Ret::Token(Some(token)), .. } = operation.outcome else { continue };
        if !seen.insert(token) {
            return Some((Broken::Doubled, format!("token {token} was moved twice")));
        }
        if complete && !done.contains(&token) {
            return Some((Broken::Lost, format!("token {token} was moved and is not there")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::samples::{done, refused, unknown};
    use super::*;

    type One = Operation<Op, Ret>;

    fn push(token: u64, invoked: u64) -> One {
        done(1, Op::Push(token), invoked, Ret::Pushed)
    }

    fn pop(token: Option<u64>, invoked: u64) -> One {
        done(2, Op::Pop, invoked, Ret::Token(token))
    }

    fn last(waiting: &[u64], moved: &[u64]) -> One {
        done(LAST_READER, Op::Read, 100, Ret::Left { waiting: waiting.to_vec(), done: moved.to_vec() })
    }

    #[track_caller]
    fn assert_found(name: &str, operations: &[One], expected: Option<Broken>) {
        let named = |one: &One| One { key: name.into(), ..one.clone() };
        let operations: Vec<One> = operations.iter().map(named).collect();
        let found = judge(&operations, Budget::default()).map(|wrong| match wrong {
            Wrong::Found(broken, _) => broken,
            Wrong::Undecided => unreachable!("it is short"),
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_sound_queue_is_not_blamed() {
        let moved = done(3, Op::Move, 30, Ret::Token(Some(2)));
        let all = [push(1, 0), push(2, 10), pop(Some(1), 20), moved, pop(None, 40), last(&[], &[2])];
        assert_found("q1", &all, None);
        let all = [push(1, 0), push(2, 10), unknown(3, Op::Pop, 20), pop(Some(2), 40), last(&[], &[])];
        assert_found("q1", &all, None);
        assert_found("g1", &[push(1, 0), push(2, 10), pop(Some(2), 20), last(&[1], &[])], None);
    }

    #[test]
    fn a_token_handed_out_twice_is_caught() {
        for name in ["q1", "g1"] {
            let all = [push(1, 0), pop(Some(1), 20), pop(Some(1), 30), last(&[], &[])];
            assert_found(name, &all, Some(Broken::Doubled));
            assert_found(name, &[push(1, 0), pop(Some(1), 20), last(&[1], &[])], Some(Broken::Doubled));
        }
    }

    #[test]
    fn a_lost_token_is_caught() {
        for name in ["q1", "g1"] {
            assert_found(name, &[push(1, 0), last(&[], &[])], Some(Broken::Lost));
        }
        let moved = done(3, Op::Move, 10, Ret::Token(Some(1)));
        assert_found("q1", &[push(1, 0), moved, last(&[1], &[])], Some(Broken::Lost));
        // A move loses nothing, known or not.
        assert_found("q1", &[push(1, 0), unknown(3, Op::Move, 10), last(&[], &[])], Some(Broken::Lost));
    }

    #[test]
    fn a_refused_token_that_came_is_caught() {
        assert_found(
            "q1",
            &[refused(1, Op::Push(1), 0), pop(Some(1), 20), last(&[], &[])],
            Some(Broken::Ghost),
        );
    }

    #[test]
    fn tokens_out_of_their_order_are_caught() {
        let all = [push(1, 0), push(2, 10), pop(Some(2), 20), pop(Some(1), 30), last(&[], &[])];
        assert_found("q1", &all, Some(Broken::Disorder));
        assert_found("g1", &all, None);
    }

    #[test]
    fn nobody_waits_in_vain_for_what_is_there() {
        let all = [push(1, 0), pop(None, 20), last(&[1], &[])];
        assert_found("q1", &all, Some(Broken::Disorder));
    }
}
