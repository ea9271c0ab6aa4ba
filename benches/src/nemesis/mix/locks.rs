//! Locks by SET NX PX, renewed and given back by scripts that compare the token first. A client holds a lock from the
//! answer until the time to live after its question, or until it asks to give it back. Never may two hold it.

use super::super::judge::{Broken, Wrong};
use super::actor::{Actor, Family, Meaning, command, integer};
use super::deadlines::{MS, TOLERANCE};
use quorate_sim::lin::{Edn, Operation, Outcome};
use std::time::Duration;

const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";
const EXTEND: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) else return 0 end";

/// What is asked; the answer is whether it was done. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Acquire { token: u64, px: u64 },
    Extend { token: u64, px: u64 },
    Release { token: u64 },
}

impl Op {
    fn token(&self) -> u64 {
        match self {
            Op::Acquire { token, .. } | Op::Extend { token, .. } | Op::Release { token } => *token,
        }
    }
}

impl Edn<bool> for Op {
    fn name(&self) -> &'static str {
        match self {
            Op::Acquire { .. } => "acquire",
            Op::Extend { .. } => "extend",
            Op::Release { .. } => "release",
        }
    }

    fn value(&self, ret: Option<&bool>) -> String {
        let done = ret.map_or("nil".into(), bool::to_string);
        match self {
            Op::Acquire { token, px } | Op::Extend { token, px } => format!("[{token} {px} {done}]"),
            Op::Release { token } => format!("[{token} {done}]"),
        }
    }
}

/// Tries to get a lock; whoever has it works a moment, perhaps renews it, and mostly gives it back.
pub fn hold(actor: &mut Actor, _: u64) {
    let key = format!("k{}", actor.number(Family::Locks));
    let (token, px) = (actor.value(), actor.dice.between(100, 800));
    let (text, ttl) = (token.to_string(), px.to_string());
    let set = command(&["SET", &key, &text, "NX", "PX", &ttl]);
    let acquired = actor.perform(
        |all| &mut all.locks,
        (&key, Op::Acquire { token, px }),
        &[set],
        |reply| Meaning::Told(reply.text().is_some()),
    );
    if !matches!(acquired, Some(Outcome::Ok { ret: true, .. })) {
        return;
    }
    std::thread::sleep(Duration::from_millis(actor.dice.below(40)));
    if actor.dice.percent(30) {
        let extend = command(&["EVAL", EXTEND, "1", &key, &text, &ttl]);
        actor.perform(|all| &mut all.locks, (&key, Op::Extend { token, px }), &[extend], yes);
        std::thread::sleep(Duration::from_millis(actor.dice.below(40)));
    }
    if actor.dice.percent(85) {
        let release = command(&["EVAL", RELEASE, "1", &key, &text]);
        actor.perform(|all| &mut all.locks, (&key, Op::Release { token }), &[release], yes);
    }
}

fn yes(reply: &quorate_wire::resp::Value) -> Meaning<bool> {
    Meaning::of(integer(reply).map(|count| count == 1))
}

/// The times of one token.
#[derive(Debug, Clone)]
struct Hold {
    token: u64,
    /// The holder knew.
    from: u64,
    /// It could rely on it.
    until: u64,
    /// When it may have had it at the earliest and at the latest.
    first: u64,
    last: u64,
}

/// One lock.
pub fn judge(operations: &[Operation<Op, bool>]) -> Option<Wrong> {
    let mut holds: Vec<Hold> = Vec::new();
    for operation in operations {
        if let Some(broken) = follow(&mut holds, operation) {
            return Some(Wrong::Found(broken, format!("{operation:?}; {:?}", holds.last())));
        }
    }
    let mut certain: Vec<&Hold> = holds.iter().filter(|hold| hold.from < hold.until).collect();
    certain.sort_by_key(|hold| hold.from);
    for (one, other) in certain.iter().zip(certain.iter().skip(1)) {
        if one.until > other.from + TOLERANCE.min(2 * MS) {
            return Some(Wrong::Found(Broken::HeldTwice, format!("{one:?} and {other:?}")));
        }
    }
    operations.iter().find_map(|operation| kept_away(&holds, operation))
}

/// Takes one operation into account, and finds an answer that cannot be.
fn follow(holds: &mut Vec<Hold>, operation: &Operation<Op, bool>) -> Option<Broken> {
    let (op, invoked) = (&operation.op, operation.invoked);
    let token = op.token();
    match (op, &operation.outcome) {
        (Op::Acquire { px, .. }, Outcome::Ok { ret: true, at }) => {
            let (until, last) = (invoked + px * MS, at + px * MS);
            holds.push(Hold { token, from: *at, until, first: invoked, last });
            return None;
        }
        (Op::Acquire { .. }, Outcome::Unknown { .. }) => {
            holds.push(Hold { token, from: u64::MAX, until: 0, first: invoked, last: u64::MAX });
            return None;
        }
        (Op::Acquire { .. }, _) => return None,
        _ => {}
    }
    let hold = holds.iter_mut().find(|hold| hold.token == token)?;
    match (op, &operation.outcome) {
        (_, Outcome::Ok { ret: false, at }) if at + TOLERANCE < hold.until => return Some(Broken::Early),
        (_, Outcome::Ok { ret: true, .. }) if invoked > hold.last.saturating_add(TOLERANCE) => {
            return Some(Broken::Late);
        }
        (_, Outcome::Ok { ret: false, .. }) => {}
        (Op::Extend { px, .. }, Outcome::Ok { ret: true, at }) => {
            (hold.until, hold.last) = (invoked + px * MS, at + px * MS);
        }
        (Op::Extend { .. }, Outcome::Unknown { .. }) => {
            (hold.until, hold.last) = (hold.until.min(invoked), u64::MAX);
        }
        (Op::Release { .. }, Outcome::Ok { at, .. }) => {
            (hold.until, hold.last) = (hold.until.min(invoked), hold.last.min(*at));
        }
        (Op::Release { .. }, Outcome::Unknown { .. }) => hold.until = hold.until.min(invoked),
        _ => {}
    }
    None
}

/// Somebody was told that the lock is taken: could it have been?
fn kept_away(holds: &[Hold], operation: &Operation<Op, bool>) -> Option<Wrong> {
    let (Op::Acquire { .. }, Outcome::Ok { ret: false, at }) = (&operation.op, &operation.outcome) else {
        return None;
    };
    let taken = |hold: &Hold| hold.first <= *at && operation.invoked <= hold.last.saturating_add(TOLERANCE);
    (!holds.iter().any(taken)).then(|| Wrong::Found(Broken::Late, format!("nobody held it: {operation:?}")))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{timed, unknown};
    use super::*;

    fn acquire(token: u64, px: u64, from: u64, to: u64, done: bool) -> Operation<Op, bool> {
        timed(token, Op::Acquire { token, px }, (from * MS, to * MS), done)
    }

    fn release(token: u64, from: u64, to: u64, done: bool) -> Operation<Op, bool> {
        timed(token, Op::Release { token }, (from * MS, to * MS), done)
    }

    #[track_caller]
    fn assert_found(operations: &[Operation<Op, bool>], expected: Option<Broken>) {
        let found = judge(operations).map(|wrong| match wrong {
            Wrong::Found(broken, _) => broken,
            Wrong::Undecided => unreachable!("nothing is searched"),
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn one_after_the_other_is_not_blamed() {
        assert_found(
            &[
                acquire(1, 100, 0, 2, true),
                acquire(2, 100, 10, 12, false),
                release(1, 20, 22, true),
                acquire(3, 100, 21, 23, true),
                acquire(4, 100, 122, 124, true),
                unknown(5, Op::Acquire { token: 5, px: 100 }, 300 * MS),
                acquire(6, 100, 900, 901, false),
            ],
            None,
        );
    }

    #[test]
    fn two_holders_are_caught() {
        let both = [acquire(1, 100, 0, 2, true), acquire(2, 100, 50, 52, true)];
        assert_found(&both, Some(Broken::HeldTwice));
    }

    #[test]
    fn a_renewed_lock_is_held_for_longer() {
        let extend = timed(1, Op::Extend { token: 1, px: 100 }, (50 * MS, 52 * MS), true);
        let second = acquire(2, 100, 110, 112, true);
        assert_found(&[acquire(1, 100, 0, 2, true), extend, second.clone()], Some(Broken::HeldTwice));
        assert_found(&[acquire(1, 100, 0, 2, true), second], None);
    }

    #[test]
    fn a_lock_that_went_too_early_or_stayed_too_long_is_caught() {
        assert_found(&[acquire(1, 100, 0, 2, true), release(1, 20, 22, false)], Some(Broken::Early));
        assert_found(&[acquire(1, 100, 0, 2, true), release(1, 200, 202, true)], Some(Broken::Late));
        assert_found(&[acquire(1, 100, 0, 2, true), acquire(2, 100, 200, 202, false)], Some(Broken::Late));
    }
}
