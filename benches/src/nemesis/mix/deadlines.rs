//! Keys with a time to live. Each key has one writer, which leaves it at the first unknown outcome; so the states that
//! a key went through, and the times between which each deadline lies, are known. Others read.
//! A key must not be seen after its deadline, not vanish before it, and not come back.

use super::super::judge::{Broken, Wrong};
use super::super::suite::LAST_READER;
use super::actor::{Actor, Meaning, command, integer, optional};
use quorate_sim::lin::{Edn, Operation, Outcome};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// Actors that write; each has one key at a time.
pub const WRITERS: u64 = 2;
/// Writes after which a writer takes a new key.
const LIFE: u64 = 25;
/// What clocks, whole milliseconds and threads that wait for a processor may amount to.
pub const TOLERANCE: u64 = 20 * MS;
/// Nanoseconds.
pub const MS: u64 = 1_000_000;

/// What is asked. Times to live are milliseconds; `None` is no end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// SET, with PX.
    Set {
        /// A value that no other write has.
        value: String,
        /// Its time to live.
        px: Option<u64>,
    },
    /// PEXPIRE.
    Expire(u64),
    /// PERSIST.
    Persist,
    /// GETEX with PX or PERSIST.
    GetEx(Option<u64>),
    /// DEL.
    Remove,
    /// GET.
    Get,
    /// PTTL.
    Left,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ret {
    /// Of SET.
    Done,
    /// Of PEXPIRE, PERSIST, DEL.
    Changed(bool),
    /// Of GETEX and GET.
    Value(Option<String>),
    /// Of PTTL: milliseconds, -1 without an end, -2 without a key.
    Left(i64),
}

impl Op {
    fn reads(&self) -> bool {
        matches!(self, Op::Get | Op::Left)
    }

    fn words(&self, key: &str) -> Vec<String> {
        let words = match self {
            Op::Set { value, px: Some(px) } => format!("SET {key} {value} PX {px}"),
            Op::Set { value, px: None } => format!("SET {key} {value}"),
            Op::Expire(px) => format!("PEXPIRE {key} {px}"),
            Op::Persist => format!("PERSIST {key}"),
            Op::GetEx(Some(px)) => format!("GETEX {key} PX {px}"),
            Op::GetEx(None) => format!("GETEX {key} PERSIST"),
            Op::Remove => format!("DEL {key}"),
            Op::Get => format!("GET {key}"),
            Op::Left => format!("PTTL {key}"),
        };
        words.split(' ').map(str::to_string).collect()
    }
}

impl Edn<Ret> for Op {
    fn name(&self) -> &'static str {
        match self {
            Op::Set { .. } => "write",
            Op::Expire(_) => "expire",
            Op::Persist => "persist",
            Op::GetEx(_) => "read-expire",
            Op::Remove => "delete",
            Op::Get => "read",
            Op::Left => "time-left",
        }
    }

    fn value(&self, ret: Option<&Ret>) -> String {
        match (self, ret) {
            (Op::Set { value, px }, _) => {
                format!("[\"{value}\" {}]", px.map_or("nil".into(), |px| px.to_string()))
            }
            (_, Some(Ret::Changed(yes))) => yes.to_string(),
            (_, Some(Ret::Value(Some(value)))) => format!("\"{value}\""),
            (_, Some(Ret::Left(left))) => left.to_string(),
            (Op::Expire(px) | Op::GetEx(Some(px)), None) => px.to_string(),
            _ => "nil".into(),
        }
    }
}

fn ask(actor: &mut Actor, key: &str, op: Op) -> Option<Outcome<Ret>> {
    let words = op.words(key);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let meaning = |reply: &quorate_wire::resp::Value| {
        Meaning::of(match op {
            Op::Set { .. } => reply.text().map(|_| Ret::Done),
            Op::Expire(_) | Op::Persist | Op::Remove => integer(reply).map(|count| Ret::Changed(count == 1)),
            Op::GetEx(_) | Op::Get => optional(reply).map(Ret::Value),
            Op::Left => integer(reply).map(Ret::Left),
        })
    };
    actor.perform(|all| &mut all.deadlines, (key, op.clone()), &[command(&words)], meaning)
}

/// Writes its key, or takes a new one.
pub fn write(actor: &mut Actor, nth: u64) {
    let now = actor.numbers().now[nth as usize].load(Ordering::Relaxed);
    let number = now * WRITERS + nth;
    let px = match actor.dice.below(10) {
        0..8 => actor.dice.between(20, 1500),
        _ => actor.dice.between(3_600_000, 7_200_000),
    };
    let op = match actor.dice.below(100) {
        0..35 => Op::Set { value: format!("v{}", actor.value()), px: Some(px) },
        35..45 => Op::Set { value: format!("v{}", actor.value()), px: None },
        45..60 => Op::Expire(px),
        60..68 => Op::Persist,
        68..80 => Op::GetEx(actor.dice.percent(80).then_some(px)),
        80..85 => Op::Remove,
        85..95 => Op::Get,
        _ => Op::Left,
    };
    let writes = !op.reads();
    let outcome = ask(actor, &format!("e{number}"), op);
    if (writes && matches!(outcome, Some(Outcome::Unknown { .. }))) || actor.dice.below(LIFE) == 0 {
        actor.numbers().now[nth as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads the key of some writer, or one that it left a moment ago.
pub fn read(actor: &mut Actor, _: u64) {
    let writer = actor.dice.below(WRITERS);
    let now = actor.numbers().now[writer as usize].load(Ordering::Relaxed);
    let number = now.saturating_sub(actor.dice.below(3)) * WRITERS + writer;
    let op = if actor.dice.percent(70) { Op::Get } else { Op::Left };
    ask(actor, &format!("e{number}"), op);
}

/// Reads them all.
pub fn read_last(actor: &mut Actor, keys: &BTreeSet<String>) {
    for key in keys {
        ask(actor, key, Op::Get);
        ask(actor, key, Op::Left);
    }
}

/// What a key holds between two writes. Times are nanoseconds.
#[derive(Debug, Clone)]
struct State {
    value: Option<String>,
    /// The deadline lies between these.
    deadline: Option<(u64, u64)>,
    /// When the write was asked for that led here, and when it was over.
    invoked: u64,
    over: u64,
}

impl State {
    /// Nothing contradicts that it is still there for somebody who asked then.
    fn may_live(&self, invoked: u64) -> bool {
        self.value.is_some()
            && self.deadline.is_none_or(|(_, high)| invoked <= high.saturating_add(TOLERANCE))
    }

    /// Nothing contradicts that it was over for somebody who was answered then.
    fn may_be_gone(&self, answered: u64) -> bool {
        self.value.is_none() || self.deadline.is_some_and(|(low, _)| answered + TOLERANCE >= low)
    }
}

struct Told<'a> {
    op: &'a Op,
    ret: &'a Ret,
    invoked: u64,
    at: u64,
}

/// One key: first the writer's answers, then those of all readers.
pub fn judge(operations: &[Operation<Op, Ret>]) -> Option<Wrong> {
    let states = match states(operations) {
        Ok(states) => states,
        Err(wrong) => return Some(wrong),
    };
    // Two places for each state: it is there, and it has ended.
    let mut chosen: Vec<(u64, usize)> = Vec::new();
    for operation in operations.iter().filter(|operation| operation.op.reads()) {
        let Outcome::Ok { ret, at } = &operation.outcome else { continue };
        let told = Told { op: &operation.op, ret, invoked: operation.invoked, at: *at };
        let places: Vec<usize> = (0..states.len() * 2).filter(|place| fits(&states, *place, &told)).collect();
        let before = chosen.iter().filter(|(at, _)| *at < operation.invoked);
        let least = before.map(|(_, place)| *place).max().unwrap_or(0);
        match places.iter().copied().find(|place| *place >= least) {
            Some(place) => chosen.push((*at, place)),
            None if places.is_empty() => return Some(blame(&states, &told, operation.process)),
            None => return Some(Wrong::Found(Broken::Stale, describe("went back to", &told))),
        }
    }
    None
}

fn fits(states: &[State], place: usize, told: &Told) -> bool {
    let state = &states[place / 2];
    let current =
        state.invoked <= told.at && states.get(place / 2 + 1).is_none_or(|next| next.over >= told.invoked);
    current && if place.is_multiple_of(2) { shows(state, told) } else { hides(state, told) }
}

fn shows(state: &State, told: &Told) -> bool {
    let right = match (told.ret, state.deadline) {
        (Ret::Value(Some(value)), _) => state.value.as_ref() == Some(value),
        (Ret::Left(-1), deadline) => deadline.is_none(),
        (Ret::Left(left), Some((low, high))) if *left >= 0 => {
            let left = *left as u64 * MS;
            left + told.at + TOLERANCE >= low && left + told.invoked <= high.saturating_add(TOLERANCE)
        }
        _ => false,
    };
    right && state.may_live(told.invoked)
}

fn hides(state: &State, told: &Told) -> bool {
    matches!(told.ret, Ret::Value(None) | Ret::Left(-2)) && state.may_be_gone(told.at)
}

fn blame(states: &[State], told: &Told, process: u64) -> Wrong {
    let current = states.iter().rev().find(|state| state.invoked <= told.at);
    let ends = current.is_some_and(|state| state.deadline.is_some());
    let nothing = matches!(told.ret, Ret::Value(None) | Ret::Left(-2));
    let broken = match (nothing, ends) {
        (true, true) => Broken::Early,
        (true, false) if process == LAST_READER => Broken::Lost,
        (false, true) => Broken::Late,
        _ => Broken::Stale,
    };
    Wrong::Found(broken, format!("{}; {current:?}", describe("told", told)))
}

fn describe(what: &str, told: &Told) -> String {
    let (from, to) = (told.invoked / 1000, told.at / 1000);
    format!("{what} {:?} for {:?}, asked at {from} µs, answered at {to} µs", told.ret, told.op)
}

/// The states that the writer led its key through.
fn states(operations: &[Operation<Op, Ret>]) -> Result<Vec<State>, Wrong> {
    let mut states = vec![State { value: None, deadline: None, invoked: 0, over: 0 }];
    for operation in operations.iter().filter(|operation| !operation.op.reads()) {
        let last = states.last().expect("there is always one").clone();
        match &operation.outcome {
            Outcome::Failed { .. } => {}
            Outcome::Ok { ret, at } => {
                let told = Told { op: &operation.op, ret, invoked: operation.invoked, at: *at };
                states.push(after(&last, &told).map_err(|broken| {
                    Wrong::Found(broken, format!("{}; {last:?}", describe("the writer was told", &told)))
                })?);
            }
            // The writer's last one.
            Outcome::Unknown { .. } => states.push(perhaps(&last, &operation.op, operation.invoked)),
        }
    }
    Ok(states)
}

fn between(invoked: u64, at: u64, px: Option<u64>) -> Option<(u64, u64)> {
    px.map(|px| (invoked + px * MS, at.saturating_add(px * MS)))
}

/// The state after an answer, or what is wrong with the answer.
fn after(last: &State, told: &Told) -> Result<State, Broken> {
    let Told { invoked, at, .. } = *told;
    let state = |value: Option<String>, deadline| State { value, deadline, invoked, over: at };
    let there = |deadline| {
        if last.may_live(invoked) { Ok(state(last.value.clone(), deadline)) } else { Err(Broken::Late) }
    };
    let gone = || if last.may_be_gone(at) { Ok(state(None, None)) } else { Err(Broken::Early) };
    match (told.op, told.ret) {
        (Op::Set { value, px }, _) => Ok(state(Some(value.clone()), between(invoked, at, *px))),
        (Op::Expire(px), Ret::Changed(true)) => there(between(invoked, at, Some(*px))),
        (Op::GetEx(px), Ret::Value(Some(value))) if last.value.as_ref() == Some(value) => {
            there(between(invoked, at, *px))
        }
        (Op::GetEx(_), Ret::Value(Some(_))) => Err(Broken::Stale),
        (Op::Persist, Ret::Changed(true)) if last.deadline.is_some() => there(None),
        (Op::Persist, Ret::Changed(false)) if last.value.is_some() && last.deadline.is_none() => {
            Ok(state(last.value.clone(), None))
        }
        (Op::Remove, Ret::Changed(true)) => there(None).map(|_| state(None, None)),
        (_, Ret::Changed(false) | Ret::Value(None)) => gone(),
        _ => Err(Broken::Stale),
    }
}

/// What may be there when nobody told, at any time after the call.
fn perhaps(last: &State, op: &Op, invoked: u64) -> State {
    let low = last.deadline.map_or(u64::MAX, |(low, _)| low);
    let deadline = match op {
        Op::Set { px, .. } => px.map(|px| (invoked + px * MS, u64::MAX)),
        Op::Expire(px) | Op::GetEx(Some(px)) => Some((low.min(invoked + px * MS), u64::MAX)),
        // If the key had ended before: that is the state before, which may still be the last one.
        _ => None,
    };
    let value = match op {
        Op::Set { value, .. } => Some(value.clone()),
        Op::Remove => None,
        _ => last.value.clone(),
    };
    State { value, deadline, invoked, over: u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{refused, timed, unknown};
    use super::*;

    type All = Vec<Operation<Op, Ret>>;

    fn set(px: u64) -> Operation<Op, Ret> {
        timed(1, Op::Set { value: "v1".into(), px: Some(px) }, (10 * MS, 12 * MS), Ret::Done)
    }

    fn get(from: u64, to: u64, value: Option<&str>) -> Operation<Op, Ret> {
        timed(2, Op::Get, (from * MS, to * MS), Ret::Value(value.map(str::to_string)))
    }

    #[track_caller]
    fn assert_found(operations: All, expected: Option<Broken>) {
        let found = judge(&operations).map(|wrong| match wrong {
            Wrong::Found(broken, _) => broken,
            Wrong::Undecided => unreachable!("nothing is searched"),
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_key_that_ends_in_time_is_not_blamed() {
        let left = timed(2, Op::Left, (50 * MS, 51 * MS), Ret::Left(60));
        assert_found(vec![set(100), get(20, 22, Some("v1")), left, get(108, 112, None)], None);
        assert_found(vec![set(100), get(105, 112, Some("v1")), get(300, 301, None)], None);
    }

    #[test]
    fn seen_after_its_deadline() {
        assert_found(vec![set(100), get(150, 152, Some("v1"))], Some(Broken::Late));
        let late = timed(1, Op::Persist, (150 * MS, 151 * MS), Ret::Changed(true));
        assert_found(vec![set(100), late], Some(Broken::Late));
        let left = timed(2, Op::Left, (20 * MS, 21 * MS), Ret::Left(200));
        assert_found(vec![set(100), left], Some(Broken::Late));
    }

    #[test]
    fn gone_before_its_deadline() {
        assert_found(vec![set(100), get(40, 42, None)], Some(Broken::Early));
        let early = timed(1, Op::Expire(50), (30 * MS, 31 * MS), Ret::Changed(false));
        assert_found(vec![set(100), early], Some(Broken::Early));
    }

    #[test]
    fn gone_though_its_deadline_was_taken_away() {
        let persist = timed(1, Op::Persist, (30 * MS, 31 * MS), Ret::Changed(true));
        let last = Operation { process: LAST_READER, ..get(500, 501, None) };
        assert_found(vec![set(100), persist, last], Some(Broken::Lost));
    }

    #[test]
    fn back_after_it_had_ended() {
        let reads = vec![get(108, 110, None), get(112, 114, Some("v1"))];
        assert_found([vec![set(100)], reads].concat(), Some(Broken::Stale));
    }

    #[test]
    fn a_deadline_may_be_gone_when_nobody_told() {
        let left = |left| timed(2, Op::Left, (50 * MS, 51 * MS), Ret::Left(left));
        assert_found(vec![set(100), unknown(1, Op::Persist, 30 * MS), left(-1)], None);
        assert_found(vec![set(100), unknown(1, Op::Persist, 30 * MS), left(60)], None);
        assert_found(vec![set(100), unknown(1, Op::Persist, 30 * MS), left(-2)], Some(Broken::Stale));
    }

    #[test]
    fn an_unknown_write_may_be_there_and_a_refused_one_not() {
        let op = Op::Set { value: "v2".into(), px: None };
        let reads = vec![get(500, 501, None), get(600, 601, Some("v2"))];
        let second = unknown(1, op.clone(), 30 * MS);
        assert_found([vec![set(100), second], reads.clone()].concat(), None);
        assert_found([vec![set(100), refused(1, op, 30 * MS)], reads].concat(), Some(Broken::Late));
    }
}
