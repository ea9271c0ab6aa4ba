//! Reads: which replica, what the reply waits for, and where it goes when the replica is lost.

use super::super::effects::{Answer, Cause, Outgoing, Reply};
use super::super::pending::{Burst, refused};
use super::super::replica::{Hold, ReadFlight, Replica, mask};
use super::super::{Effects, Now};
use super::{Group, HeldRead, Phase, Unrouted};
use bytes::Bytes;

impl Group {
    /// `after` is the stage of the session's latest write before this read.
    pub(super) fn route(&mut self, burst: Burst, after: u64, moved: bool, now: Now, fx: &mut Effects) {
        let Some(i) = self.pick(burst.plan, burst.everything) else {
            self.unrouted.push(Unrouted { burst, after });
            return;
        };
        let hold = self.hold(&burst);
        let (payload, commands, dialect) = (burst.payload.clone(), burst.commands, burst.dialect);
        fx.sends.push((i, Outgoing::Read { payload, commands, dialect }));
        let expected = burst.buckets.iter().filter_map(|bucket| self.large.get(&bucket)).sum();
        let flight = ReadFlight { burst, since_us: now.us, hold, after, expected, abandoned: false, moved };
        self.replicas[i].reads.push_back(flight);
    }

    /// The replica for a read: the first of the plan's order that has everything numbered before it.
    /// Reads that may see any key do not take turns: a cursor belongs to the replica that gave it.
    pub(super) fn pick(&mut self, plan: u16, everything: bool) -> Option<usize> {
        // With fewer connections than a take-over needs, a newer owner may already be writing.
        if self.phase != Phase::Serving || !self.covered(mask(&self.replicas, Replica::fed)) {
            return None;
        }
        let head = self.log.head().seq;
        let state = &mut self.plans[usize::from(plan)];
        let order = &state.plan.read_order;
        let start = if state.plan.spread && !everything { state.turn } else { 0 };
        state.turn = (state.turn + 1) % order.len().max(1);
        let turn = (0..order.len()).map(|k| usize::from(order[(start + k) % order.len()]));
        let readable = |i: &usize| self.replicas[*i].readable(head);
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

    pub(super) fn read_done(&mut self, i: usize, bytes: Bytes, fx: &mut Effects) {
        let replica = &mut self.replicas[i];
        let Some(flight) = replica.reads.pop_front() else { return };
        (replica.suspect, replica.partial) = (false, 0);
        // It may have been asked for elsewhere meanwhile: the first answer counts.
        if flight.abandoned && !self.abandon_twin(&flight.burst) {
            return;
        }
        let Burst { session, ticket, commands, plan, arrived_us, .. } = flight.burst;
        let answer = Answer { session, ticket, commands, reply: Reply::Done(bytes) };
        if self.satisfied(flight.hold) {
            fx.answers.push(answer);
        } else {
            self.held.push(HeldRead { hold: flight.hold, plan, arrived_us, answer });
        }
    }

    /// Gives up the other try of the same read. `false`: there is none that waits for an answer.
    fn abandon_twin(&mut self, burst: &Burst) -> bool {
        let mut flights = self.replicas.iter_mut().flat_map(|replica| &mut replica.reads);
        let twin = flights.find(|flight| {
            !flight.abandoned && flight.burst.session == burst.session && flight.burst.ticket == burst.ticket
        });
        twin.map(|flight| flight.abandoned = true).is_some()
    }

    pub(super) fn read_lost(&mut self, i: usize, fx: &mut Effects) {
        self.replicas[i].suspect = false;
        if let Some(flight) = self.replicas[i].reads.pop_front() {
            self.reroute(flight, fx);
        }
    }

    pub(super) fn lose_reads(&mut self, i: usize, fx: &mut Effects) {
        for flight in std::mem::take(&mut self.replicas[i].reads) {
            self.reroute(flight, fx);
        }
    }

    /// Tries a read elsewhere, unless its session has written since: then its place is taken.
    pub(super) fn reroute(&mut self, flight: ReadFlight, fx: &mut Effects) {
        if flight.abandoned {
            return;
        }
        if self.pending.latest_write(flight.burst.session) == flight.after {
            self.unrouted.push(Unrouted { burst: flight.burst, after: flight.after });
        } else {
            fx.answers.push(refused(&flight.burst, Cause::ReadLost));
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
