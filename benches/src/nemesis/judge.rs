//! The verdict: what clients saw, and what is there at the end, against what was promised.

use super::history::{End, Event, Operations, by_object};
use super::objects::{Act, Object, Op, Told};
use quorate_sim::lin::{
    AppendList, Budget, Counter, ListOp, ListRet, Model, Operation, Register, Verdict, check,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Promises that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broken {
    /// An acknowledged write is not there.
    Lost,
    /// A write took effect twice.
    Doubled,
    /// A refused write took effect.
    Ghost,
    /// A read did not show what was acknowledged before it, or showed what came later to nothing.
    Stale,
    /// Somebody saw a part of what belongs together.
    Torn,
    /// A key or a lock was gone before its deadline.
    Early,
    /// A key or a lock was there after its deadline.
    Late,
    /// Two held a lock at once.
    HeldTwice,
    /// Tokens or ids came in an order that they cannot have.
    Disorder,
}

impl Broken {
    /// All ways, in the order of a report.
    pub const ALL: [(Broken, &str); 9] = [
        (Broken::Lost, "lost"),
        (Broken::Doubled, "doubled"),
        (Broken::Ghost, "refused, yet there"),
        (Broken::Stale, "stale reads"),
        (Broken::Torn, "seen in part"),
        (Broken::Early, "ended too early"),
        (Broken::Late, "there too long"),
        (Broken::HeldTwice, "locks held twice"),
        (Broken::Disorder, "out of order"),
    ];
}

/// One object with a broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Finding {
    pub object: String,
    pub broken: Broken,
    pub detail: String,
}

/// What was found in a history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Objects that were used.
    pub objects: usize,
    /// Objects whose search ran out of budget: neither right nor wrong.
    pub undecided: Vec<String>,
    /// What is wrong, at most one for each object.
    pub findings: Vec<Finding>,
}

impl Judgement {
    /// How many objects have a promise broken in this way.
    pub fn count(&self, broken: Broken) -> usize {
        self.findings.iter().filter(|finding| finding.broken == broken).count()
    }

    /// Adds what was found of other objects.
    pub fn join(&mut self, other: Judgement) {
        self.objects += other.objects;
        self.undecided.extend(other.undecided);
        self.findings.extend(other.findings);
    }

    /// Adds what is wrong with one object.
    pub fn add(&mut self, object: String, wrong: Wrong) {
        match wrong {
            Wrong::Undecided => self.undecided.push(object),
            Wrong::Found(broken, detail) => self.findings.push(Finding { object, broken, detail }),
        }
    }
}

/// Judges all objects, on all processors. `events` holds a read of each object after the end, by `last_reader`.
pub fn judge(events: &[Event], last_reader: u64, budget: Budget) -> Judgement {
    let objects: Vec<(Object, Vec<&Event>)> = by_object(events).into_iter().collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let part = objects.len().div_ceil(workers).max(1);
    let parts: Vec<Judgement> = std::thread::scope(|scope| {
        let judges: Vec<_> = objects
            .chunks(part)
            .map(|part| scope.spawn(move || judge_part(part, last_reader, budget)))
            .collect();
        judges.into_iter().map(|judge| judge.join().expect("the checker does not panic")).collect()
    });
    let mut whole = Judgement { objects: objects.len(), ..Judgement::default() };
    for part in parts {
        whole.join(part);
    }
    whole
}

fn judge_part(objects: &[(Object, Vec<&Event>)], last_reader: u64, budget: Budget) -> Judgement {
    let mut judgement = Judgement::default();
    for (object, events) in objects {
        // Counting needs no budget, and names the fault better.
        if let Some(wrong) = counted(events, last_reader).or_else(|| searched(events, last_reader, budget)) {
            judgement.add(object.name(), wrong);
        }
    }
    judgement
}

/// What is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The search ran out of budget.
    Undecided,
    /// A broken promise, and where it shows.
    Found(Broken, String),
}

/// Exactly once: what was acknowledged is there once, what nobody knows at most once, what was refused never.
fn counted(events: &[&Event], last_reader: u64) -> Option<Wrong> {
    let last = events.iter().find(|event| event.process == last_reader)?;
    match &last.end {
        End::Ok(Told::Counter(value)) => count_sum(events, *value),
        End::Ok(Told::List(ListRet::Items(items))) => count_items(events, items),
        _ => None,
    }
}

fn count_sum(events: &[&Event], value: u64) -> Option<Wrong> {
    let writes = || events.iter().filter(|event| event.ask.act != Act::Read);
    let acked = writes().filter(|event| matches!(event.end, End::Ok(_))).count() as u64;
    let unknown = writes().filter(|event| event.end == End::Info).count() as u64;
    let refused = writes().filter(|event| event.end == End::Fail).count() as u64;
    let detail = || format!("it is {value} after {acked} acknowledged, {unknown} unknown, {refused} refused");
    if value < acked {
        Some(Wrong::Found(Broken::Lost, detail()))
    } else if value > acked + unknown {
        let broken = if value <= acked + unknown + refused { Broken::Ghost } else { Broken::Doubled };
        Some(Wrong::Found(broken, detail()))
    } else {
        None
    }
}

fn count_items(events: &[&Event], items: &[String]) -> Option<Wrong> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for item in items {
        *seen.entry(item).or_default() += 1;
    }
    for event in events {
        let Op::List(ListOp::Append(item)) = event.ask.op() else { continue };
        let broken = match (&event.end, seen.get(item.as_str()).copied().unwrap_or(0)) {
            (End::Ok(_), 0) => Broken::Lost,
            (End::Fail, 1..) => Broken::Ghost,
            (_, 2..) => Broken::Doubled,
            _ => continue,
        };
        let (from, to) = (event.invoked / 1000, event.ended / 1000);
        return Some(Wrong::Found(broken, format!("'{item}', asked at {from} µs, answered at {to} µs")));
    }
    None
}

fn searched(events: &[&Event], last_reader: u64, budget: Budget) -> Option<Wrong> {
    match Operations::of(events) {
        Operations::Register(all) => order::<Register>(&all, last_reader, budget),
        Operations::Counter(all) => order::<Counter>(&all, last_reader, budget),
        Operations::List(all) => order::<AppendList>(&all, last_reader, budget),
    }
}

/// Is there one order that explains all answers? If not, reads are left out: what is then still wrong, is lost.
pub fn order<M: Model>(all: &[Operation<M::Op, M::Ret>], last_reader: u64, budget: Budget) -> Option<Wrong>
where
    M::Ret: std::fmt::Debug,
    M::Op: std::fmt::Debug,
{
    let witness = match check::<M>(all, budget) {
        Verdict::Linearizable => return None,
        Verdict::Unknown { .. } => return Some(Wrong::Undecided),
        Verdict::NotLinearizable(witness) => witness,
    };
    let blocked: Vec<String> = witness.blocked.iter().take(3).map(|id| describe(&all[id.0])).collect();
    let detail =
        format!("{} of {} fit, then none of: {}", witness.prefix.len(), all.len(), blocked.join("; "));
    if witness.refused_took_effect {
        return Some(Wrong::Found(Broken::Ghost, detail));
    }
    let kept = |operation: &&Operation<M::Op, M::Ret>| {
        !M::reads_only(&operation.op) || operation.process == last_reader
    };
    let without_reads: Vec<_> = all.iter().filter(kept).cloned().collect();
    let broken = match check::<M>(&without_reads, budget) {
        Verdict::NotLinearizable(_) => Broken::Lost,
        _ => Broken::Stale,
    };
    Some(Wrong::Found(broken, detail))
}

fn describe<O: std::fmt::Debug, R: std::fmt::Debug>(operation: &Operation<O, R>) -> String {
    let text = format!("{:?} at {} µs: {:?}", operation.op, operation.invoked / 1000, operation.outcome);
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::super::objects::{Ask, Kind, Object};
    use super::*;
    use quorate_sim::lin::RegisterRet;

    const LAST: u64 = 99;

    fn event(process: u64, kind: Kind, act: Act, invoked: u64, end: End) -> Event {
        let ask = Ask { object: Object { kind, number: 1 }, act };
        Event { process, ask, invoked, ended: invoked + 5, end }
    }

    fn value(text: Option<&str>) -> End {
        End::Ok(Told::Register(RegisterRet::Value(text.map(str::to_string))))
    }

    fn done() -> End {
        End::Ok(Told::Register(RegisterRet::Done))
    }

    fn sum(number: u64) -> End {
        End::Ok(Told::Counter(number))
    }

    fn items(items: &[&str]) -> End {
        End::Ok(Told::List(ListRet::Items(items.iter().map(|item| item.to_string()).collect())))
    }

    #[track_caller]
    fn assert_found(events: &[Event], expected: &[Broken]) {
        let judgement = judge(events, LAST, Budget::default());
        let found: Vec<Broken> = judgement.findings.iter().map(|finding| finding.broken).collect();
        assert_eq!((found.as_slice(), judgement.undecided.len()), (expected, 0), "{judgement:?}");
    }

    #[test]
    fn a_kept_promise_is_not_blamed() {
        assert_found(
            &[
                event(1, Kind::Text, Act::Write(1), 0, done()),
                event(2, Kind::Text, Act::Write(2), 3, End::Info),
                event(1, Kind::Text, Act::Write(3), 10, End::Fail),
                event(1, Kind::Text, Act::Read, 20, value(Some("v1"))),
                event(LAST, Kind::Text, Act::Read, 30, value(Some("v2"))),
                event(1, Kind::Counter, Act::Write(1), 0, sum(1)),
                event(1, Kind::Counter, Act::Write(2), 10, End::Info),
                event(LAST, Kind::Counter, Act::Read, 30, sum(2)),
                event(1, Kind::List, Act::Write(1), 0, End::Info),
                event(2, Kind::List, Act::Write(2), 0, End::Ok(Told::List(ListRet::Length(1)))),
                event(LAST, Kind::List, Act::Read, 30, items(&["v2", "v1"])),
            ],
            &[],
        );
    }

    #[test]
    fn a_lost_write_is_caught() {
        assert_found(
            &[
                event(1, Kind::Text, Act::Write(1), 0, done()),
                event(1, Kind::Text, Act::Write(2), 10, done()),
                event(LAST, Kind::Text, Act::Read, 30, value(Some("v1"))),
            ],
            &[Broken::Lost],
        );
        assert_found(
            &[
                event(1, Kind::List, Act::Write(1), 0, End::Ok(Told::List(ListRet::Length(1)))),
                event(LAST, Kind::List, Act::Read, 30, items(&[])),
            ],
            &[Broken::Lost],
        );
        assert_found(
            &[
                event(1, Kind::Counter, Act::Write(1), 0, sum(1)),
                event(LAST, Kind::Counter, Act::Read, 30, sum(0)),
            ],
            &[Broken::Lost],
        );
    }

    #[test]
    fn a_stale_read_is_caught() {
        assert_found(
            &[
                event(1, Kind::Text, Act::Write(1), 0, done()),
                event(1, Kind::Text, Act::Write(2), 10, done()),
                event(2, Kind::Text, Act::Read, 20, value(Some("v1"))),
                event(LAST, Kind::Text, Act::Read, 30, value(Some("v2"))),
            ],
            &[Broken::Stale],
        );
    }

    #[test]
    fn a_doubled_increment_is_caught() {
        assert_found(
            &[
                event(1, Kind::Counter, Act::Write(1), 0, sum(1)),
                event(1, Kind::Counter, Act::Write(2), 10, End::Info),
                event(LAST, Kind::Counter, Act::Read, 30, sum(3)),
            ],
            &[Broken::Doubled],
        );
        assert_found(
            &[
                event(1, Kind::Log, Act::Write(1), 0, End::Info),
                event(LAST, Kind::Log, Act::Read, 30, items(&["00000000001;", "00000000001;"])),
            ],
            &[Broken::Doubled],
        );
    }

    #[test]
    fn a_refused_write_that_came_true_is_caught() {
        assert_found(
            &[
                event(1, Kind::Text, Act::Write(1), 0, End::Fail),
                event(LAST, Kind::Text, Act::Read, 30, value(Some("v1"))),
                event(1, Kind::Counter, Act::Write(1), 0, End::Fail),
                event(LAST, Kind::Counter, Act::Read, 30, sum(1)),
                event(1, Kind::Stack, Act::Write(1), 0, End::Fail),
                event(LAST, Kind::Stack, Act::Read, 30, items(&["v1"])),
            ],
            &[Broken::Ghost, Broken::Ghost, Broken::Ghost],
        );
    }

    #[test]
    fn a_dirty_read_of_a_write_that_vanished_is_caught() {
        assert_found(
            &[
                event(1, Kind::Text, Act::Write(1), 0, End::Info),
                event(2, Kind::Text, Act::Read, 10, value(Some("v1"))),
                event(LAST, Kind::Text, Act::Read, 30, value(None)),
            ],
            &[Broken::Stale],
        );
    }

    #[test]
    fn without_budget_there_is_no_verdict() {
        let events = [
            event(1, Kind::Text, Act::Write(1), 0, done()),
            event(LAST, Kind::Text, Act::Read, 30, value(Some("v1"))),
        ];
        let judgement = judge(&events, LAST, Budget { steps_per_key: 1 });
        assert_eq!((judgement.undecided.len(), judgement.findings.len()), (1, 0));
    }
}
