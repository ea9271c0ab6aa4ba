//! Reads: which replica, what the reply waits for, and where it goes when the replica is lost.

use super::super::effects::{Answer, Cause, Outgoing, Reply};
use super::super::pending::{Burst, refused};
use super::super::replica::{Asker, ClientRead, Hold, ReadFlight, Replica, ReplicaState, mask};
use super::super::watch::{Pin, Role};
use super::super::{Effects, Now};
use super::{Group, HeldRead, Phase, Unrouted};
use bytes::Bytes;
use std::sync::Arc;

impl Group {
    /// `after` is the stage of the session's latest write before this read.
    pub(super) fn route(&mut self, burst: Burst, after: u64, moved: bool, now: Now, fx: &mut Effects) {
        if self.phase == Phase::Serving && (self.awaits(&burst) || self.answered_here(&burst, fx)) {
            return;
        }
        let burst = self.unpin(burst);
        let picked = match &burst.role {
            Role::Pinned(pin) if pin.replica.is_some() => self.pick_pinned(pin),
            _ => self.pick(burst.plan, burst.everything),
        };
        let Some(i) = picked else {
            self.unrouted.push(Unrouted { burst, after });
            return;
        };
        let hold = self.hold(&burst);
        let (payload, commands, dialect) = (burst.payload.clone(), burst.commands, burst.dialect);
        fx.sends.push((i, Outgoing::Read { payload, commands, dialect }));
        let expected = burst.buckets.iter().filter_map(|bucket| self.large.get(&bucket)).sum();
        let asker = Asker::Client(ClientRead { burst, hold, after, abandoned: false, moved });
        self.replicas[i].reads.push_back(ReadFlight { since_us: now.us, expected, asker });
    }

    /// A read that goes on at a replica which is out of reach begins anew at another.
    fn unpin(&self, burst: Burst) -> Burst {
        let Role::Pinned(pin) = &burst.role else { return burst };
        let Some(replica) = pin.replica.and_then(|i| self.replicas.get(i)) else { return anew(burst) };
        // Whatever is only a moment behind is waited for.
        match replica.state == ReplicaState::InSync && !replica.suspect && replica.retry_at_us == 0 {
            true => burst,
            false => anew(burst),
        }
    }

    fn pick_pinned(&self, pin: &Pin) -> Option<usize> {
        let others =
            self.phase == Phase::Serving && self.rules_out_others(mask(&self.replicas, Replica::fed));
        let head = self.log.head().seq;
        let leader = self.trial_leader();
        pin.replica.filter(|i| others && self.replicas[*i].readable(head) && leader != Some(*i))
    }

    /// The replica for a read: the first of the plan's order that has everything numbered before it.
    /// Reads that may see any key do not take turns: a cursor belongs to the replica that gave it.
    pub(super) fn pick(&mut self, plan: u16, everything: bool) -> Option<usize> {
        // With fewer connections than a take-over needs, a newer owner may already be writing.
        if self.phase != Phase::Serving || !self.rules_out_others(mask(&self.replicas, Replica::fed)) {
            return None;
        }
        let head = self.log.head().seq;
        // What a trial did is not numbered yet, and no reply may show it.
        let leader = self.trial_leader();
        let state = &mut self.plans[usize::from(plan)];
        let order = &state.plan.read_order;
        let start = if state.plan.spread && !everything { state.turn } else { 0 };
        state.turn = (state.turn + 1) % order.len().max(1);
        let turn = (0..order.len()).map(|k| usize::from(order[(start + k) % order.len()]));
        let readable = |i: &usize| self.replicas[*i].readable(head) && leader != Some(*i);
        // Beyond the plan's own order any replica that is in sync is better than none.
        turn.chain(0..self.replicas.len()).find(readable)
    }

    pub(super) fn hold(&self, burst: &Burst) -> Hold {
        let head = self.log.head().seq;
        let mut hold = Hold::default();
        let mut wait_for = |(seq, rule): (u64, u8)| {
            let seq = seq.min(head);
            if seq > self.rules[usize::from(rule)].committed {
                hold.seq = hold.seq.max(seq);
                hold.rules |= 1 << rule;
            }
        };
        wait_for(self.everywhere);
        if burst.everything {
            let first = self.open_from;
            for (offset, open) in self.open.iter().enumerate() {
                crate::rule::indices(open.rules)
                    .for_each(|rule| wait_for((first + offset as u64, rule as u8)));
            }
        }
        burst.buckets.iter().for_each(|bucket| wait_for(self.buckets[bucket]));
        hold
    }

    pub(super) fn read_done(&mut self, i: usize, bytes: Bytes, now: Now, fx: &mut Effects) {
        let replica = &mut self.replicas[i];
        let Some(flight) = replica.reads.pop_front() else { return };
        (replica.suspect, replica.partial) = (false, 0);
        let read = match flight.asker {
            Asker::Client(read) => read,
            Asker::Mend(target, token) => return self.mend_answered(target, token, &bytes, now, fx),
            Asker::Survey(id) => return self.survey_answered(i, id, Some(bytes), fx),
            Asker::Trial(number) => return self.trial_answered(i, number, &bytes, now, fx),
        };
        // It may have been asked for elsewhere meanwhile: the first answer counts.
        if read.abandoned && !self.abandon_twin(&read.burst) {
            return;
        }
        let Burst { session, ticket, commands, plan, arrived_us, .. } = read.burst;
        let reply = match read.burst.role {
            Role::Pinned(_) => Reply::DoneBy(i, bytes),
            _ => Reply::Done(bytes),
        };
        let answer = Answer { session, ticket, commands, reply };
        if self.satisfied(read.hold) {
            fx.answers.push(answer);
        } else {
            self.held.push(HeldRead { hold: read.hold, plan, arrived_us, answer });
        }
    }

    /// Gives up the other try of the same read. `false`: there is none that waits for an answer.
    fn abandon_twin(&mut self, burst: &Burst) -> bool {
        let mut reads = self.replicas.iter_mut().flat_map(Replica::client_reads);
        let twin = reads.find(|read| {
            !read.abandoned && read.burst.session == burst.session && read.burst.ticket == burst.ticket
        });
        twin.map(|read| read.abandoned = true).is_some()
    }

    pub(super) fn read_lost(&mut self, i: usize, now: Now, fx: &mut Effects) {
        self.replicas[i].suspect = false;
        if let Some(flight) = self.replicas[i].reads.pop_front() {
            match flight.asker {
                Asker::Trial(number) => self.trial_unclear(i, number, fx),
                Asker::Mend(target, token) => self.mend_refused(target, token, now),
                _ => self.lose_read(i, flight, now, fx),
            }
        }
    }

    pub(super) fn lose_reads(&mut self, i: usize, now: Now, fx: &mut Effects) {
        for flight in std::mem::take(&mut self.replicas[i].reads) {
            self.lose_read(i, flight, now, fx);
        }
    }

    fn lose_read(&mut self, i: usize, flight: ReadFlight, now: Now, fx: &mut Effects) {
        match flight.asker {
            Asker::Client(read) => self.reroute(read.burst, read.after, read.abandoned, fx),
            Asker::Mend(target, token) => self.mend_lost(target, token, now, fx),
            Asker::Survey(id) => self.survey_answered(i, id, None, fx),
            Asker::Trial(number) => self.trial_lost(number, now),
        }
    }

    /// The answers of this replica do not count any more, though they will still come.
    pub(super) fn abandon_reads(&mut self, i: usize, fx: &mut Effects) {
        let mut lost = Vec::new();
        let mut survey = None;
        for flight in &mut self.replicas[i].reads {
            match &mut flight.asker {
                Asker::Client(read) if !read.abandoned => {
                    read.abandoned = true;
                    lost.push((read.burst.clone(), read.after));
                }
                Asker::Client(_) => {}
                Asker::Survey(id) => survey = Some(*id),
                Asker::Trial(_) => {}
                Asker::Mend(target, token) => {
                    if let Some(mend) = self.mends[*target].as_mut() {
                        mend.disregard(*token);
                    }
                }
            }
        }
        if let Some(id) = survey {
            self.survey_answered(i, id, None, fx);
        }
        lost.into_iter().for_each(|(burst, after)| self.reroute(burst, after, false, fx));
    }

    /// Tries a read elsewhere, unless its session has written since: then its place is taken.
    fn reroute(&mut self, burst: Burst, after: u64, abandoned: bool, fx: &mut Effects) {
        if abandoned {
            return;
        }
        if self.pending.latest_write(burst.session) == after {
            // The replica may come back as another that knows nothing of it.
            let burst = anew(burst);
            self.unrouted.push(Unrouted { burst, after });
        } else {
            fx.answers.push(refused(&burst, Cause::ReadLost));
        }
    }

    pub(super) fn route_waiting_reads(&mut self, now: Now, fx: &mut Effects) {
        for Unrouted { burst, after } in std::mem::take(&mut self.unrouted) {
            if self.pending.latest_write(burst.session) == after {
                self.route(burst, after, true, now, fx);
            } else {
                fx.answers.push(refused(&burst, Cause::ReadLost));
            }
        }
    }
}

/// The same read from its beginning, at whichever replica.
fn anew(burst: Burst) -> Burst {
    match &burst.role {
        Role::Pinned(pin) if pin.replica.is_some() => {
            let anew = pin.anew.clone();
            let role = Role::Pinned(Arc::new(Pin { replica: None, anew: anew.clone() }));
            Burst { payload: anew, role, ..burst }
        }
        _ => burst,
    }
}
