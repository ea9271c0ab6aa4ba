//! Clients that wait until more replicas hold what they wrote. Each waits for all that was numbered when its turn came,
//! which is at least its own; it delays nobody, and ends by its time, by enough replicas, or by leaving.

use super::super::effects::{Answer, Cause, Reply};
use super::super::pending::{Burst, refused};
use super::super::replica::Replica;
use super::super::watch::{Await, Role};
use super::super::{Cancel, Effects, Now};
use super::{Group, Unrouted};
use bytes::Bytes;
use std::sync::Arc;

/// One that waits.
#[derive(Debug)]
pub(super) struct Awaiting {
    burst: Burst,
    what: Arc<Await>,
    /// Number of the last entry it waits for.
    through: u64,
}

impl Group {
    /// Takes in a burst that waits for replicas; `false` if it is none.
    pub(super) fn awaits(&mut self, burst: &Burst) -> bool {
        let Role::Await(what) = &burst.role else { return false };
        let (burst, what, through) = (burst.clone(), what.clone(), self.log.head().seq);
        self.awaiting.push(Awaiting { burst, what, through });
        true
    }

    /// How many replicas beside one hold the log up to there.
    fn holders(&self, through: u64) -> usize {
        let holds = |replica: &&Replica| replica.on_log() && replica.applied >= through;
        self.replicas.iter().filter(holds).count().saturating_sub(1)
    }

    /// Answers those who have waited enough.
    pub(super) fn end_awaiting(&mut self, now: Now, fx: &mut Effects) {
        for waits in std::mem::take(&mut self.awaiting) {
            let count = self.holders(waits.through);
            if count >= waits.what.replicas || waits.what.until_us.is_some_and(|until| until <= now.us) {
                fx.answers.push(waits.told(count));
            } else {
                self.awaiting.push(waits);
            }
        }
    }

    /// One of them left, or is made to stop: whoever is there to read it is told how many there are now. `false`: it
    /// was none of them.
    pub(super) fn cancel_awaiting(&mut self, cancel: &Cancel, fx: &mut Effects) -> bool {
        let is = |burst: &Burst| burst.session == cancel.session && burst.ticket == cancel.ticket;
        let waiting = self.awaiting.iter().position(|waits| is(&waits.burst));
        let waits = match waiting {
            Some(at) => Some(self.awaiting.swap_remove(at)),
            None => self.take_unrouted(is).or_else(|| {
                self.pending
                    .remove_read(cancel.session, cancel.ticket)
                    .and_then(|burst| Awaiting::of(burst, 0))
            }),
        };
        let Some(waits) = waits else { return false };
        let count = self.holders(waits.through);
        fx.answers.extend(cancel.reply.as_ref().map(|reply| match reply.starts_with(b"-") {
            true => waits.answer(reply.clone()),
            false => waits.told(count),
        }));
        true
    }

    fn take_unrouted(&mut self, is: impl Fn(&Burst) -> bool) -> Option<Awaiting> {
        let at = self.unrouted.iter().position(|Unrouted { burst, .. }| is(burst))?;
        Awaiting::of(self.unrouted.remove(at).burst, self.log.head().seq)
    }

    /// Nobody is served any more.
    pub(super) fn refuse_awaiting(&mut self, cause: &Cause, fx: &mut Effects) {
        fx.answers.extend(self.awaiting.drain(..).map(|waits| refused(&waits.burst, cause.clone())));
    }
}

impl Awaiting {
    fn of(burst: Burst, through: u64) -> Option<Awaiting> {
        let Role::Await(what) = &burst.role else { return None };
        let what = what.clone();
        Some(Awaiting { burst, what, through })
    }

    fn answer(&self, reply: Bytes) -> Answer {
        let Burst { session, ticket, commands, .. } = self.burst;
        Answer { session, ticket, commands, reply: Reply::Done(reply) }
    }

    fn told(&self, count: usize) -> Answer {
        self.answer(Bytes::from(format!(":{count}\r\n")))
    }
}
