//! Scripts that read, and write what depends on the server's clock: a script that ran twice, or on each server by
//! itself, leaves values that differ. Each writes its value to two keys, which must always agree.

use super::super::judge::{Wrong, order};
use super::super::suite::LAST_READER;
use super::actor::{Actor, Family, Meaning, command, optional, texts};
use crate::nemesis::clients::Heard;
use quorate_sim::lin::{Budget, Edn, Model, Operation};
use quorate_wire::resp::Value;
use std::collections::BTreeSet;

/// The value is the argument, the time to the microsecond and a piece of chance.
const ADVANCE: &str = "local was = redis.call('GET', KEYS[1]) or ''; local time = redis.call('TIME'); \
    local now = ARGV[1] .. '~' .. time[1] .. '.' .. time[2] .. '.' .. math.random(1000000); \
    redis.call('SET', KEYS[1], now); redis.call('SET', KEYS[2], now); return {was, now}";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Replaces the value by one that begins with this number.
    Advance(u64),
    /// Reads both keys.
    Read,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ret {
    /// Of a script: the value before, and the value now.
    Advanced { was: Option<String>, now: String },
    /// Of a read.
    Value(Option<String>),
}

impl Edn<Ret> for Op {
    fn name(&self) -> &'static str {
        match self {
            Op::Advance(_) => "advance",
            Op::Read => "read",
        }
    }

    fn value(&self, ret: Option<&Ret>) -> String {
        let text =
            |value: &Option<String>| value.as_ref().map_or("nil".into(), |value| format!("\"{value}\""));
        match (self, ret) {
            (Op::Advance(_), Some(Ret::Advanced { was, now })) => format!("[{} \"{now}\"]", text(was)),
            (Op::Advance(number), _) => number.to_string(),
            (Op::Read, Some(Ret::Value(value))) => text(value),
            _ => "nil".into(),
        }
    }
}

/// A register whose value is not fully known until somebody saw it.
#[derive(Debug, Clone, Copy)]
struct Advancing;

/// What it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Held {
    Nothing,
    /// Written by the script with this number, and never seen.
    Unseen(u64),
    Known(String),
}

impl Held {
    /// The same, now that it was seen with this value. `None`: it cannot have been.
    fn seen(&self, value: Option<&String>) -> Option<Held> {
        match (self, value) {
            (Held::Nothing, None) => Some(Held::Nothing),
            (Held::Known(known), Some(value)) if known == value => Some(self.clone()),
            (Held::Unseen(number), Some(value)) if wrote(value) == Some(*number) => {
                Some(Held::Known(value.clone()))
            }
            _ => None,
        }
    }
}

/// The number of the script that wrote a value.
fn wrote(value: &str) -> Option<u64> {
    value.split('~').next()?.parse().ok()
}

impl Model for Advancing {
    type State = Held;
    type Op = Op;
    type Ret = Ret;

    fn initial() -> Held {
        Held::Nothing
    }

    fn step(state: &Held, op: &Op, ret: Option<&Ret>) -> Option<Held> {
        match (op, ret) {
            (Op::Advance(number), None) => Some(Held::Unseen(*number)),
            (Op::Advance(number), Some(Ret::Advanced { was, now })) => {
                state.seen(was.as_ref())?;
                (wrote(now) == Some(*number)).then(|| Held::Known(now.clone()))
            }
            (Op::Read, None) => Some(state.clone()),
            (Op::Read, Some(Ret::Value(value))) => state.seen(value.as_ref()),
            _ => None,
        }
    }
}

/// Runs the script, by its text or its digest, or reads both keys.
pub fn advance(actor: &mut Actor, _: u64) {
    let name = format!("y{}", actor.number(Family::Scripts));
    if actor.dice.percent(40) {
        read(actor, &name);
        return;
    }
    let number = actor.value();
    let by_digest = actor.dice.percent(50);
    let (way, text) = match by_digest.then(|| load(actor)).flatten() {
        Some(digest) => ("EVALSHA", digest),
        None => ("EVAL", ADVANCE.to_string()),
    };
    let (key, other) = keys(&name);
    let run = command(&[way, &text, "2", &key, &other, &number.to_string()]);
    actor.perform(
        |all| &mut all.scripts,
        (&name, Op::Advance(number)),
        &[run],
        |reply| {
            let told = texts(reply).filter(|told| told.len() == 2);
            Meaning::of(told.map(|mut told| {
                let (now, was) = (told.pop().unwrap_or_default(), told.pop().filter(|was| !was.is_empty()));
                Ret::Advanced { was, now }
            }))
        },
    );
}

fn load(actor: &mut Actor) -> Option<String> {
    match actor.call(&[command(&["SCRIPT", "LOAD", ADVANCE])])? {
        Heard::Reply(reply) => reply.text().map(str::to_string),
        _ => None,
    }
}

fn keys(name: &str) -> (String, String) {
    (format!("{name}:a"), format!("{name}:b"))
}

fn read(actor: &mut Actor, name: &str) {
    let (key, other) = keys(name);
    let mget = command(&["MGET", &key, &other]);
    actor.perform(
        |all| &mut all.scripts,
        (name, Op::Read),
        &[mget],
        |reply| match reply {
            Value::Array(both) if both.len() == 2 && both[0] == both[1] => {
                Meaning::of(optional(&both[0]).map(Ret::Value))
            }
            _ => Meaning::Odd,
        },
    );
}

/// Reads them all.
pub fn read_last(actor: &mut Actor, names: &BTreeSet<String>) {
    names.iter().for_each(|name| read(actor, name));
}

/// One object.
pub fn judge(operations: &[Operation<Op, Ret>], budget: Budget) -> Option<Wrong> {
    order::<Advancing>(operations, LAST_READER, budget)
}

#[cfg(test)]
mod tests {
    use super::super::super::judge::Broken;
    use super::super::samples::{done, unknown};
    use super::*;

    fn advanced(number: u64, invoked: u64, was: Option<&str>, now: &str) -> Operation<Op, Ret> {
        let ret = Ret::Advanced { was: was.map(str::to_string), now: now.into() };
        done(1, Op::Advance(number), invoked, ret)
    }

    fn read(process: u64, invoked: u64, value: &str) -> Operation<Op, Ret> {
        done(process, Op::Read, invoked, Ret::Value(Some(value.into())))
    }

    #[track_caller]
    fn assert_found(operations: &[Operation<Op, Ret>], expected: Option<Broken>) {
        let found = judge(operations, Budget::default()).map(|wrong| match wrong {
            Wrong::Found(broken, _) => broken,
            Wrong::Undecided => unreachable!("it is short"),
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn one_value_for_everybody_is_not_blamed() {
        let all = [
            advanced(1, 0, None, "1~5"),
            unknown(2, Op::Advance(2), 10),
            read(3, 20, "2~6"),
            read(4, 30, "2~6"),
        ];
        assert_found(&all, None);
    }

    #[test]
    fn a_value_that_differs_from_one_server_to_the_next_is_caught() {
        assert_found(&[advanced(1, 0, None, "1~5"), read(LAST_READER, 50, "1~6")], Some(Broken::Lost));
        let all = [
            unknown(1, Op::Advance(1), 0),
            read(2, 10, "1~5"),
            read(3, 20, "1~6"),
            read(LAST_READER, 50, "1~6"),
        ];
        assert_found(&all, Some(Broken::Lost));
    }

    #[test]
    fn a_script_that_saw_an_old_value_is_caught() {
        let all = [advanced(1, 0, None, "1~5"), advanced(2, 10, None, "2~6"), read(LAST_READER, 50, "2~6")];
        assert_found(&all, Some(Broken::Lost));
    }
}
