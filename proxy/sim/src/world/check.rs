//! The end of a world: everything heals, everything must come to rest, and then it is judged.

use super::World;
use super::attend::Attendant;
use super::history::Ask;
use super::outcome::Verdict;
use crate::lin::{AppendList, Budget, Counter, Model, OpId, Operation, Register, check};
use quorate_core::ordered::{Phase, ReplicaState};
use std::fmt::Debug;

/// Rounds of waiting for rest, and the length of each.
const ROUNDS: usize = 80;
const ROUND_US: u64 = 100_000;
/// Rounds in which nothing may be wrong.
const CALM: usize = 4;
const BUDGET: Budget = Budget { steps_per_key: 400_000 };

impl World {
    /// Heals everything and waits until the group is whole.
    pub(super) fn settle(&mut self) {
        self.heal();
        let mut calm = 0;
        for _ in 0..ROUNDS {
            // What the faults left behind shows only when time passes.
            calm = if self.is_whole() { calm + 1 } else { 0 };
            if calm == CALM || self.env.broken.is_some() {
                return;
            }
            if !self.proxies.iter().any(|p| p.alive && !matches!(p.group.phase(), Phase::Fenced { .. })) {
                self.start_proxy(false);
            }
            self.pass(ROUND_US);
            self.reseed();
        }
        let health = self.newest().map(|proxy| (proxy.name(), proxy.stage, proxy.group.health()));
        let owed: Vec<usize> = self.clients.iter().filter(|c| !c.is_quiet()).map(|c| c.index).collect();
        self.env.violate("liveness", format!("no rest: clients {owed:?} wait, {health:?}"));
    }

    fn is_whole(&self) -> bool {
        let Some(proxy) = self.newest().filter(|proxy| proxy.is_serving()) else { return false };
        if self.proxies.iter().any(|proxy| proxy.alive && self.thaws_at(proxy.index).is_some()) {
            return false;
        }
        let health = proxy.group.health();
        let whole =
            |view: &quorate_core::ordered::ReplicaView| view.state == ReplicaState::InSync && view.lag == 0;
        // A connection that is dead without a word shows only when its oldest question has waited too long.
        // Where comparisons go on all the time there is always a question.
        let rests =
            |attendant: &Attendant| proxy.options.surveys || attendant.probed || attendant.link.is_idle();
        health.writable
            && proxy.attendants.iter().all(rests)
            && health.replicas.iter().all(whole)
            && self.clients.iter().all(|client| client.is_quiet())
    }

    /// A last client reads, writes and reads every key; all of it must succeed.
    pub(super) fn audit(&mut self) {
        let keys = 0..2u8;
        let reads = || keys.clone().flat_map(|k| [Ask::Get(k), Ask::Count(k), Ask::List(k)]);
        let writes = keys.clone().flat_map(|k| {
            [Ask::Set(k, format!("last{k}")), Ask::Add(k, 7), Ask::Push(k, format!("last{k}"))]
        });
        let asks: Vec<Ask> = reads().chain(writes).chain(reads()).collect();
        let auditor = self.clients.len() - 1;
        let Some(owner) = self.newest().map(|proxy| proxy.index) else { return };
        self.ask(auditor, owner, asks);
        self.pass(2 * ROUND_US);
        if !self.clients[auditor].is_quiet() || !self.clients[auditor].succeeded() {
            self.env.violate("liveness", "the group is whole and does not answer".into());
        }
    }

    /// All backends hold the same data.
    pub(super) fn compare_all(&mut self) {
        self.settle();
        let (first, data) = self.backends[0].data();
        for backend in &self.backends[1..] {
            let (position, other) = backend.data();
            if position != first || other != data {
                let story = format!("r1 {first:?} {data:?}, r{} {position:?} {other:?}", backend.index + 1);
                return self.env.violate("equal data at the end", story);
            }
        }
    }

    /// The verdict on all that happened.
    pub(super) fn judge(&mut self) -> Verdict {
        if let Some((promise, story)) = self.env.broken.take() {
            return Verdict::Broken { promise, story };
        }
        let verdicts = [
            judge::<Register>(self.history.registers.operations()),
            judge::<Counter>(self.history.counters.operations()),
            judge::<AppendList>(self.history.lists.operations()),
        ];
        let broken = verdicts.iter().find(|verdict| matches!(verdict, Verdict::Broken { .. }));
        let undecided = verdicts.iter().find(|verdict| matches!(verdict, Verdict::Undecided { .. }));
        broken.or(undecided).cloned().unwrap_or(Verdict::Kept)
    }
}

fn judge<M: Model>(operations: &[Operation<M::Op, M::Ret>]) -> Verdict
where
    M::Op: Debug,
    M::Ret: Debug,
{
    match check::<M>(operations, BUDGET) {
        crate::lin::Verdict::Linearizable => Verdict::Kept,
        crate::lin::Verdict::Unknown { key } => Verdict::Undecided { key },
        crate::lin::Verdict::NotLinearizable(witness) => {
            let show = |id: &OpId| {
                let Operation { process, op, invoked, outcome, .. } = &operations[id.0];
                format!("client {process} at {:.1}ms {op:?} {outcome:?}", *invoked as f64 / 1000.0)
            };
            let blocked: Vec<String> = witness.blocked.iter().map(show).collect();
            let before: Vec<String> = witness.prefix.iter().rev().take(2).rev().map(show).collect();
            let blame = if witness.refused_took_effect { " (a refused operation took effect)" } else { "" };
            let story = format!(
                "{} has no order{blame}; after [{}] none of [{}] can follow",
                witness.key,
                before.join("; "),
                blocked.join("; ")
            );
            Verdict::Broken { promise: "linearizability", story }
        }
    }
}
