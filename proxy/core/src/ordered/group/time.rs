//! Deadlines, patience, and the end of an ownership.

use super::super::effects::{Answer, Cause, Note, Reply};
use super::super::pending::refused;
use super::super::replica::{Asker, ReplicaState, mask};
use super::super::{Effects, Now};
use super::{Group, HeldRead, Phase, READ_PATIENCE, SLOWEST, Unrouted};

impl Group {
    pub(super) fn tick(&mut self, now: Now, fx: &mut Effects) {
        self.expire_requests(now, fx);
        self.expire_waiters(now, fx);
        self.release_records(now, fx);
        if self.phase == Phase::Recovering {
            self.try_adopt(now, fx);
        }
        for i in 0..self.replicas.len() {
            let replica = &mut self.replicas[i];
            if replica.retry_at_us != 0 && replica.retry_at_us <= now.us {
                replica.retry_at_us = 0;
            }
            self.watch_flight(i, now, fx);
            self.watch_reads(i, now, fx);
        }
    }

    pub(super) fn watch_flight(&mut self, i: usize, now: Now, fx: &mut Effects) {
        let stall_us = self.config.stall_us;
        let replica = &mut self.replicas[i];
        let age = |since_us: u64| now.us.saturating_sub(since_us.max(replica.moved_us));
        let write = replica.flight.map_or(0, |flight| age(flight.since_us));
        let read = replica.reads.front().map_or(0, |read| age(read.since_us));
        let expected = replica.reads.front().map_or(0, |read| read.expected);
        // Nothing is numbered while commands run on one replica first: it gets the time of a write.
        let tries = replica.reads.front().is_some_and(|read| matches!(read.asker, Asker::Trial(_)));
        let patience = if tries { 1 } else { READ_PATIENCE };
        let bytes = replica.flight.map_or(0, |flight| flight.bytes).max(expected);
        let patience_us = stall_us + working_us(bytes);
        if write > patience_us / 10 || read > patience_us / 10 {
            replica.suspect = true;
        }
        // How long a server works on a large reply before its first byte cannot be known; others are
        // asked meanwhile.
        if write > patience_us || read > patience_us.max(stall_us * patience) {
            replica.moved_us = now.us;
            fx.drops.push((i, "it answers nothing"));
            if replica.state == ReplicaState::InSync {
                self.enter(i, ReplicaState::Lagging, fx);
            }
        }
    }

    /// Moves reads that take longer than one try to another replica, each once.
    pub(super) fn watch_reads(&mut self, i: usize, now: Now, fx: &mut Effects) {
        let mut moving = Vec::new();
        // An answer that is arriving is not asked for again elsewhere.
        let first = usize::from(self.replicas[i].partial > 0);
        for at in first..self.replicas[i].reads.len() {
            let flight = &self.replicas[i].reads[at];
            let Asker::Client(read) = &flight.asker else { continue };
            let plan = &self.plans[usize::from(read.burst.plan)].plan;
            let patience_us = u64::from(plan.per_try_ms) * 1000 + working_us(flight.expected);
            if now.us.saturating_sub(flight.since_us) < patience_us {
                break;
            }
            let in_place = self.pending.latest_write(read.burst.session) == read.after;
            if read.abandoned || read.moved || read.burst.everything || !in_place {
                continue;
            }
            let others =
                self.replicas.iter().enumerate().any(|(k, r)| k != i && r.readable(self.log.head().seq));
            let Asker::Client(read) = &mut self.replicas[i].reads[at].asker else { continue };
            if others {
                read.abandoned = true;
                moving.push((read.burst.clone(), read.after));
            }
        }
        if !moving.is_empty() {
            self.replicas[i].suspect = true;
            moving.into_iter().for_each(|(burst, after)| self.route(burst, after, true, now, fx));
        }
    }

    pub(super) fn expire_requests(&mut self, now: Now, fx: &mut Effects) {
        let reachable = mask(&self.replicas, |r| r.fed() && !r.suspect);
        let plans = &self.plans;
        // Everybody waits while servers work on a large entry, as they would with a server alone.
        let bytes =
            self.replicas.iter().filter_map(|r| r.flight).map(|flight| flight.bytes).max().unwrap_or(0);
        let slack_us = working_us(bytes);
        let late_by = |plan: u16, arrived_us: u64, slack_us: u64| {
            let deadline_us = u64::from(plans[usize::from(plan)].plan.deadline_ms) * 1000 + slack_us;
            now.us.saturating_sub(arrived_us) > deadline_us
        };
        let late = |plan: u16, arrived_us: u64| late_by(plan, arrived_us, slack_us);
        let recovering = self.phase != Phase::Serving;
        let recordable = self.may_record();
        let cause = |plan: u16, arrived_us: u64| match (recovering, recordable) {
            (true, _) => Cause::Recovering,
            (false, false) => Cause::Journal,
            (false, true) => Cause::Deadline { reachable, plan, waited_ms: (now.us - arrived_us) / 1000 },
        };
        self.pending.expire(|b| late(b.plan, b.arrived_us), |b| cause(b.plan, b.arrived_us), &mut fx.answers);
        if let Some(trial) = &mut self.trial {
            for burst in self.pending.sealed().iter().filter(|burst| late(burst.plan, burst.arrived_us)) {
                trial.tell_unknown(burst, || cause(burst.plan, burst.arrived_us), fx);
            }
        }
        for Unrouted { burst, .. } in self.unrouted.extract_if(.., |u| late(u.burst.plan, u.burst.arrived_us))
        {
            fx.answers.push(refused(&burst, cause(burst.plan, burst.arrived_us)));
        }
        let size = |read: &HeldRead| working_us(read.answer.reply.bytes());
        for read in
            self.held.extract_if(.., |read| late_by(read.plan, read.arrived_us, slack_us + size(read)))
        {
            let reply = Reply::Refused(cause(read.plan, read.arrived_us));
            fx.answers.push(Answer { reply, ..read.answer });
        }
        for open in &mut self.open {
            for w in open.waiting.extract_if(.., |w| late(w.plan, w.arrived_us)) {
                let reply = Reply::Unknown(cause(w.plan, w.arrived_us));
                fx.answers.push(Answer { session: w.session, ticket: w.ticket, commands: w.commands, reply });
            }
        }
        for replica in &mut self.replicas {
            // So do those whose large answer, or one before theirs, is on its way.
            let mut slack_us = slack_us + working_us(replica.partial);
            for flight in &mut replica.reads {
                slack_us += working_us(flight.expected);
                let Asker::Client(read) = &mut flight.asker else { continue };
                let (plan, arrived_us) = (read.burst.plan, read.burst.arrived_us);
                if !read.abandoned && late_by(plan, arrived_us, slack_us) {
                    read.abandoned = true;
                    fx.answers.push(refused(&read.burst, cause(plan, arrived_us)));
                }
            }
        }
    }

    pub(super) fn fenced(&mut self, by: u64, fx: &mut Effects) {
        if matches!(self.phase, Phase::Fenced { .. }) {
            return;
        }
        self.phase = Phase::Fenced { by };
        self.fail_survey(fx);
        self.copies.end_all();
        let cause = Cause::Fenced { by };
        self.end_trial(&Reply::Unknown(cause.clone()), fx);
        self.pending.refuse_all(&cause, &mut fx.answers);
        self.retractions_unknown(&cause, fx);
        self.refuse_waiters(&cause, fx);
        fx.answers.extend(self.unrouted.drain(..).map(|u| refused(&u.burst, cause.clone())));
        fx.answers
            .extend(self.held.drain(..).map(|r| Answer { reply: Reply::Refused(cause.clone()), ..r.answer }));
        for i in 0..self.replicas.len() {
            for read in self.replicas[i].client_reads().filter(|read| !read.abandoned) {
                fx.answers.push(refused(&read.burst, cause.clone()));
            }
            self.replicas[i].reads.clear();
            self.replicas[i].flight = None;
            self.mends[i] = None;
            self.enter(i, ReplicaState::Down, fx);
        }
        for w in self.open.drain(..).flat_map(|open| open.waiting) {
            let reply = Reply::Unknown(cause.clone());
            fx.answers.push(Answer { session: w.session, ticket: w.ticket, commands: w.commands, reply });
        }
        fx.notes.push(Note::Fenced { by });
    }
}

/// Do servers need a noticeable time for this many bytes?
pub(super) fn is_large(bytes: usize) -> bool {
    bytes >= SLOWEST / 8
}

/// The longest that a server may reasonably work on this many bytes, in microseconds.
fn working_us(bytes: usize) -> u64 {
    if !is_large(bytes) { 0 } else { (bytes as u64).saturating_mul(1_000_000) / SLOWEST as u64 }
}
