//! What clients asked and were told, and how it is handed to the checker and to Jepsen's tools.

use super::objects::{Ask, Object, Op, Told};
use quorate_sim::lin::{CounterOp, ListOp, ListRet, Operation, Outcome, RegisterOp, RegisterRet, to_edn};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// How a request ended. Times are nanoseconds since the run began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It took effect, and this was the answer.
    Ok(Told),
    /// It was refused for good.
    Fail,
    /// Nobody told.
    Info,
}

/// One request of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Event {
    pub process: u64,
    pub ask: Ask,
    pub invoked: u64,
    pub ended: u64,
    pub end: End,
}

/// The operations of one object.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Operations {
    Register(Vec<Operation<RegisterOp, RegisterRet>>),
    Counter(Vec<Operation<CounterOp, u64>>),
    List(Vec<Operation<ListOp, ListRet>>),
}

/// Events by object, each in the order of their calls.
pub fn by_object(events: &[Event]) -> BTreeMap<Object, Vec<&Event>> {
    let mut objects: BTreeMap<Object, Vec<&Event>> = BTreeMap::new();
    for event in events {
        objects.entry(event.ask.object).or_default().push(event);
    }
    for events in objects.values_mut() {
        events.sort_by_key(|event| event.invoked);
    }
    objects
}

impl Operations {
    /// Events of objects of one model, in the order of their calls.
    ///
    /// # Panics
    /// When the objects have different models.
    pub fn of(events: &[&Event]) -> Operations {
        match events.first().map(|event| event.ask.op()) {
            Some(Op::Counter(_)) => Operations::Counter(events.iter().map(|e| counter(e)).collect()),
            Some(Op::List(_)) => Operations::List(events.iter().map(|e| list(e)).collect()),
            Some(Op::Register(_)) | None => {
                Operations::Register(events.iter().map(|e| register(e)).collect())
            }
        }
    }

    fn edn(&self) -> String {
        match self {
            Operations::Register(all) => to_edn(all),
            Operations::Counter(all) => to_edn(all),
            Operations::List(all) => to_edn(all),
        }
    }
}

fn register(event: &Event) -> Operation<RegisterOp, RegisterRet> {
    let Op::Register(op) = event.ask.op() else { unreachable!("one model") };
    operation(event, op, |told| match told {
        Told::Register(ret) => ret.clone(),
        _ => unreachable!("a register answers as one"),
    })
}

fn counter(event: &Event) -> Operation<CounterOp, u64> {
    let Op::Counter(op) = event.ask.op() else { unreachable!("one model") };
    operation(event, op, |told| match told {
        Told::Counter(ret) => *ret,
        _ => unreachable!("a counter answers as one"),
    })
}

fn list(event: &Event) -> Operation<ListOp, ListRet> {
    let Op::List(op) = event.ask.op() else { unreachable!("one model") };
    operation(event, op, |told| match told {
        Told::List(ret) => ret.clone(),
        _ => unreachable!("a list answers as one"),
    })
}

fn operation<O, R>(event: &Event, op: O, ret: impl FnOnce(&Told) -> R) -> Operation<O, R> {
    let at = event.ended;
    let outcome = match &event.end {
        End::Ok(told) => Outcome::Ok { ret: ret(told), at },
        End::Fail => Outcome::Failed { at },
        End::Info => Outcome::Unknown { at: Some(at) },
    };
    Operation { process: event.process, key: event.ask.object.name(), op, invoked: event.invoked, outcome }
}

/// Writes the history as Jepsen does: `registers.edn`, `counters.edn`, `lists.edn`.
pub fn write_edn(events: &[Event], folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut sorted: Vec<&Event> = events.iter().collect();
    sorted.sort_by_key(|event| event.invoked);
    type Wanted = fn(&Op) -> bool;
    let files: [(&str, Wanted); 3] = [
        ("registers.edn", |op| matches!(op, Op::Register(_))),
        ("counters.edn", |op| matches!(op, Op::Counter(_))),
        ("lists.edn", |op| matches!(op, Op::List(_))),
    ];
    for (name, wanted) in files {
        let of_kind: Vec<&Event> = sorted.iter().copied().filter(|event| wanted(&event.ask.op())).collect();
        fs::write(folder.join(name), Operations::of(&of_kind).edn())?;
    }
    Ok(())
}
