//! What clients do beside single commands: keys that end, locks, transactions, scripts, queues with waiting consumers,
//! and streams with groups of consumers. Each has its own history, its own judge, and tests in which the judge finds
//! a planted violation.

pub mod accounts;
pub mod actor;
pub mod deadlines;
pub mod locks;
pub mod queues;
pub mod scripts;
pub mod streams;
pub mod swaps;

use super::judge::{Judgement, Wrong};
use super::report::How;
use super::suite::LAST_READER;
use actor::Actor;
use quorate_sim::lin::{Budget, Edn, Operation, Outcome, to_edn};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// A part of what clients do; all of them together are the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Registers, counters, lists: single commands
    Objects,
    /// Keys with a time to live, and locks
    Ttl,
    /// MULTI, EXEC, WATCH: transfers between accounts, compare-and-set
    Transactions,
    /// EVAL, EVALSHA whose result depends on the clock
    Scripts,
    /// BLPOP, BLMOVE, SPOP: tokens handed from producers to consumers
    Queues,
    /// XADD, XREADGROUP, XACK, XAUTOCLAIM
    Streams,
}

/// All parts.
pub const PARTS: [Part; 6] =
    [Part::Objects, Part::Ttl, Part::Transactions, Part::Scripts, Part::Queues, Part::Streams];

/// One thing that an actor does over and over; its argument is the actor's number among those with this role.
pub type Role = fn(&mut Actor, u64);

/// The operations of one family of objects.
pub type History<O, R> = Vec<Operation<O, R>>;

/// What the parts saw.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Histories {
    pub deadlines: History<deadlines::Op, deadlines::Ret>,
    pub locks: History<locks::Op, bool>,
    pub accounts: History<accounts::Op, accounts::Ret>,
    pub swaps: History<swaps::Op, swaps::Ret>,
    pub scripts: History<scripts::Op, scripts::Ret>,
    pub queues: History<queues::Op, queues::Ret>,
    pub streams: History<streams::Op, streams::Ret>,
}

impl Part {
    /// Who does it: each role with how many do.
    pub fn roles(self) -> Vec<(Role, u64)> {
        match self {
            Part::Objects => vec![],
            Part::Ttl => vec![(deadlines::write, deadlines::WRITERS), (deadlines::read, 1), (locks::hold, 3)],
            Part::Transactions => vec![(accounts::transfer, 2), (swaps::swap, 2)],
            Part::Scripts => vec![(scripts::advance, 2)],
            Part::Queues => vec![(queues::produce, 2), (queues::consume, 2)],
            Part::Streams => vec![(streams::produce, 1), (streams::consume, 2)],
        }
    }
}

impl Histories {
    /// Adds what another actor saw.
    pub fn join(&mut self, other: Histories) {
        self.deadlines.extend(other.deadlines);
        self.locks.extend(other.locks);
        self.accounts.extend(other.accounts);
        self.swaps.extend(other.swaps);
        self.scripts.extend(other.scripts);
        self.queues.extend(other.queues);
        self.streams.extend(other.streams);
    }

    /// Reads everything once more, after the end; the reads are part of the history.
    pub fn read_last(&self, actor: &mut Actor) {
        deadlines::read_last(actor, &keys(&self.deadlines));
        accounts::read_last(actor, &keys(&self.accounts));
        swaps::read_last(actor, &keys(&self.swaps));
        scripts::read_last(actor, &keys(&self.scripts));
        queues::read_last(actor, &keys(&self.queues));
        streams::read_last(actor, &keys(&self.streams));
    }

    /// Judges everything, each family on a thread of its own.
    pub fn judge(&self, budget: Budget) -> Judgement {
        let mut whole = Judgement::default();
        std::thread::scope(|scope| {
            let judges = [
                scope.spawn(|| each(&self.deadlines, deadlines::judge)),
                scope.spawn(|| each(&self.locks, locks::judge)),
                scope.spawn(|| each(&self.accounts, |all| accounts::judge(all, budget))),
                scope.spawn(|| each(&self.swaps, |all| swaps::judge(all, budget))),
                scope.spawn(|| each(&self.scripts, |all| scripts::judge(all, budget))),
                scope.spawn(|| each(&self.queues, |all| queues::judge(all, budget))),
                scope.spawn(|| each(&self.streams, streams::judge)),
            ];
            for judge in judges {
                whole.join(judge.join().expect("a judge does not panic"));
            }
        });
        whole
    }

    /// Tells how each operation ended, but those of the last reader.
    pub fn ends(&self, told: &mut impl FnMut(How)) {
        ends(&self.deadlines, told);
        ends(&self.locks, told);
        ends(&self.accounts, told);
        ends(&self.swaps, told);
        ends(&self.scripts, told);
        ends(&self.queues, told);
        ends(&self.streams, told);
    }

    /// Last reads that brought no answer: without them nothing can be judged.
    pub fn unread(&self) -> usize {
        unread(&self.deadlines)
            + unread(&self.accounts)
            + unread(&self.swaps)
            + unread(&self.scripts)
            + unread(&self.queues)
            + unread(&self.streams)
    }

    /// Writes what there is as Jepsen does, a file for each family.
    pub fn write_edn(&self, folder: &Path) -> io::Result<()> {
        write(folder, "deadlines.edn", &self.deadlines)?;
        write(folder, "locks.edn", &self.locks)?;
        write(folder, "accounts.edn", &self.accounts)?;
        write(folder, "swaps.edn", &self.swaps)?;
        write(folder, "scripts.edn", &self.scripts)?;
        write(folder, "queues.edn", &self.queues)?;
        write(folder, "streams.edn", &self.streams)
    }
}

fn unread<O, R>(history: &History<O, R>) -> usize {
    let last = history.iter().filter(|operation| operation.process >= LAST_READER);
    last.filter(|operation| !matches!(operation.outcome, Outcome::Ok { .. })).count()
}

fn ends<O, R>(history: &History<O, R>, told: &mut impl FnMut(How)) {
    for operation in history.iter().filter(|operation| operation.process != LAST_READER) {
        told(match operation.outcome {
            Outcome::Ok { .. } => How::Ok,
            Outcome::Failed { .. } => How::Refused,
            Outcome::Unknown { .. } => How::Unknown,
        });
    }
}

fn write<O: Edn<R>, R>(folder: &Path, name: &str, history: &History<O, R>) -> io::Result<()> {
    if history.is_empty() { Ok(()) } else { fs::write(folder.join(name), to_edn(history)) }
}

fn keys<O, R>(history: &History<O, R>) -> BTreeSet<String> {
    history.iter().map(|operation| operation.key.clone()).collect()
}

/// Judges each object of a family, its operations in the order of their calls.
fn each<O: Clone, R: Clone>(
    history: &History<O, R>,
    judge: impl Fn(&[Operation<O, R>]) -> Option<Wrong>,
) -> Judgement {
    let mut objects: BTreeMap<&str, History<O, R>> = BTreeMap::new();
    for operation in history {
        objects.entry(&operation.key).or_default().push(operation.clone());
    }
    let mut judgement = Judgement { objects: objects.len(), ..Judgement::default() };
    for (name, mut operations) in objects {
        operations.sort_by_key(|operation| operation.invoked);
        if let Some(wrong) = judge(&operations) {
            judgement.add(name.to_string(), wrong);
        }
    }
    judgement
}

#[cfg(test)]
pub(super) mod samples {
    //! Short histories for the judges' tests.

    use quorate_sim::lin::{Operation, Outcome};

    /// An operation of one object that took the five units after `invoked`.
    pub(crate) fn done<O, R>(process: u64, op: O, invoked: u64, ret: R) -> Operation<O, R> {
        timed(process, op, (invoked, invoked + 5), ret)
    }

    /// One that took from the first to the second time.
    pub(crate) fn timed<O, R>(process: u64, op: O, span: (u64, u64), ret: R) -> Operation<O, R> {
        let outcome = Outcome::Ok { ret, at: span.1 };
        Operation { process, key: "k".into(), op, invoked: span.0, outcome }
    }

    /// One of which nobody told how it ended.
    pub(crate) fn unknown<O, R>(process: u64, op: O, invoked: u64) -> Operation<O, R> {
        let outcome = Outcome::Unknown { at: Some(invoked + 5) };
        Operation { process, key: "k".into(), op, invoked, outcome }
    }

    /// One that was refused.
    pub(crate) fn refused<O, R>(process: u64, op: O, invoked: u64) -> Operation<O, R> {
        Operation { process, key: "k".into(), op, invoked, outcome: Outcome::Failed { at: invoked + 5 } }
    }
}
