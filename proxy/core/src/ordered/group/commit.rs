//! Commit indices, and what they release.

use super::super::Effects;
use super::super::effects::{Answer, Cause, Reply};
use super::super::replica::{Hold, Replica, ReplicaState, mask};
use super::{COMPARED, Group, Phase};
use crate::rule::Rule;

impl Group {
    /// Moves the commit indices, releases replies, promotes replicas that caught up.
    pub(super) fn advance(&mut self, fx: &mut Effects) {
        let mut moved = false;
        let limit = self.recorded_limit();
        for rule in 0..self.rules.len() {
            let committed = self.committed_by(&self.rules[rule].rule).min(limit);
            if committed > self.rules[rule].committed {
                self.rules[rule].committed = committed;
                moved = true;
            }
        }
        if moved {
            if self.phase == Phase::Barrier && self.commit() >= self.barrier {
                self.serve(fx);
            }
            self.release_reads(fx);
        }
        if moved || !self.config.rules.quorum {
            self.release_writes(fx);
        }
        // Before the barrier is committed nobody knows what all is: a replica must not be said to hold it.
        if self.phase != Phase::Serving {
            return;
        }
        let commit = self.commit();
        for i in 0..self.replicas.len() {
            let replica = &self.replicas[i];
            if replica.state == ReplicaState::Lagging
                && replica.on_log()
                && replica.applied >= commit
                && replica.retry_at_us == 0
            {
                self.enter(i, ReplicaState::InSync, fx);
            }
        }
    }

    /// The largest number such that the replicas that applied it meet the rule.
    pub(super) fn committed_by(&self, rule: &Rule) -> u64 {
        let counts = |r: &Replica| r.on_log() || (!self.config.rules.proven && r.fed());
        let reached = |seq: u64| rule.met(mask(&self.replicas, |r| counts(r) && r.applied >= seq));
        self.replicas
            .iter()
            .filter(|r| counts(r))
            .map(|r| r.applied)
            .filter(|seq| reached(*seq))
            .max()
            .unwrap_or(0)
    }

    /// The last entry committed by the weakest rule.
    pub(super) fn commit(&self) -> u64 {
        self.rules.iter().map(|rule| rule.committed).max().unwrap_or(0)
    }

    pub(super) fn release_writes(&mut self, fx: &mut Effects) {
        let commit = self.commit();
        let applied = self.replicas.iter().map(|r| r.applied).max().unwrap_or(0);
        let limit = if self.config.rules.quorum { commit } else { applied };
        for (offset, open) in self.open.iter_mut().enumerate() {
            let seq = self.open_from + offset as u64;
            if seq > limit {
                break;
            }
            let Some(replies) = &open.replies else { continue };
            let rules = &self.rules;
            let quorum = self.config.rules.quorum;
            for w in open.waiting.extract_if(.., |w| !quorum || rules[usize::from(w.rule)].committed >= seq) {
                let reply = match replies.slice(w.first as usize, w.commands as usize) {
                    Some(bytes) => Reply::Done(bytes),
                    // The driver checks the count of replies; a short reply must never be guessed at.
                    None => Reply::Unknown(Cause::Recovering),
                };
                fx.answers.push(Answer { session: w.session, ticket: w.ticket, commands: w.commands, reply });
            }
            if open.waiting.is_empty() {
                open.replies = None;
            }
        }
    }

    pub(super) fn satisfied(&self, hold: Hold) -> bool {
        let committed = |rule: usize| self.rules[rule].committed >= hold.seq;
        !self.config.rules.hold || crate::rule::indices(hold.rules).all(committed)
    }

    pub(super) fn release_reads(&mut self, fx: &mut Effects) {
        if self.held.is_empty() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        for read in held.extract_if(.., |read| self.satisfied(read.hold)) {
            fx.answers.push(read.answer);
        }
        self.held = held;
    }

    /// Drops the records of entries that everybody has answered.
    pub(super) fn forget(&mut self) {
        let everybody = self.replicas.iter().filter(|r| r.fed()).map(|r| r.applied).min().unwrap_or(0);
        while let Some(open) = self.open.front() {
            let compared = self.open_from <= everybody || self.open.len() > COMPARED;
            if !open.waiting.is_empty() || !compared || self.open_from > self.commit() {
                break;
            }
            self.open.pop_front();
            self.open_from += 1;
        }
    }
}
