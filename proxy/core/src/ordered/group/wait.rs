//! Clients that wait until more replicas hold what they wrote. Each waits for all that was numbered when its turn came,
//! which is at least its own, in memory or on disk; it delays nobody, and ends by its time, by enough replicas, or by leaving.

use super::super::effects::{Answer, Cause, Reply};
use super::super::pending::{Burst, refused};
use super::super::replica::{Disk, Replica};
use super::super::watch::{Await, Role};
use super::super::{Cancel, Effects, Now};
use super::{Group, Unrouted};
use bytes::Bytes;
use std::sync::Arc;

/// A replica that did not say what it has on its disk is not asked before, in microseconds.
const ASK_AGAIN_US: u64 = 1_000_000;

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

    /// How many replicas hold the log up to there, in memory or on disk.
    fn holders(&self, waits: &Awaiting) -> usize {
        let has = |replica: &&Replica| match waits.what.on_disk {
            true => replica.disk.through >= waits.through,
            false => replica.applied >= waits.through,
        };
        self.replicas.iter().filter(|replica| replica.on_log()).filter(has).count()
    }

    /// Answers those who have waited enough.
    pub(super) fn end_awaiting(&mut self, now: Now, fx: &mut Effects) {
        for waits in std::mem::take(&mut self.awaiting) {
            let count = self.holders(&waits);
            if count >= waits.what.replicas || waits.what.until_us.is_some_and(|until| until <= now.us) {
                fx.answers.push(waits.told(count));
            } else if let Some(refusal) = self.no_disk(now).filter(|_| waits.what.on_disk) {
                fx.answers.push(waits.answer([b"-", &refusal[..], b"\r\n"].concat().into()));
            } else {
                self.awaiting.push(waits);
            }
        }
        self.ask_disks(now, fx);
    }

    /// Why no replica has anything on its disk, if all have said so lately. Later they are asked again.
    fn no_disk(&self, now: Now) -> Option<Bytes> {
        let mut disks = self.replicas.iter().filter(|replica| replica.on_log()).map(|replica| &replica.disk);
        let refuses = |disk: &Disk| !disk.refusal.is_empty() && disk.again_us > now.us;
        let first = disks.next().filter(|disk| refuses(disk))?.refusal.clone();
        disks.all(refuses).then_some(first)
    }

    /// Has those replicas asked that applied what somebody wants on their disks.
    fn ask_disks(&mut self, now: Now, fx: &mut Effects) {
        let wanted = || self.awaiting.iter().filter(|waits| waits.what.on_disk).map(|waits| waits.through);
        if wanted().next().is_none() {
            return;
        }
        let asked: Vec<usize> = (0..self.replicas.len())
            .filter(|i| {
                let replica = &self.replicas[*i];
                let free = replica.on_log() && !replica.disk.asked && replica.disk.again_us <= now.us;
                free && wanted()
                    .any(|through| (replica.disk.through + 1..=replica.applied).contains(&through))
            })
            .collect();
        for i in asked {
            self.replicas[i].disk.asked = true;
            fx.syncs.push((i, self.replicas[i].applied));
        }
    }

    /// A replica said what it has on its disk.
    pub(super) fn synced(&mut self, i: usize, through: Result<u64, Bytes>, now: Now) {
        let disk = &mut self.replicas[i].disk;
        // Who asked before the connection was lost is answered late.
        if !std::mem::take(&mut disk.asked) {
            return;
        }
        match through {
            Ok(through) => (disk.through, disk.refusal) = (disk.through.max(through), Bytes::new()),
            Err(refusal) => (disk.again_us, disk.refusal) = (now.us + ASK_AGAIN_US, refusal),
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
        let count = self.holders(&waits);
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

    /// One of the replicas is the server that the client sees, the others are replicas of that.
    fn told(&self, count: usize) -> Answer {
        let others = count.saturating_sub(1);
        self.answer(Bytes::from(match self.what.on_disk {
            true => format!("*2\r\n:{}\r\n:{others}\r\n", count - others),
            false => format!(":{others}\r\n"),
        }))
    }
}
