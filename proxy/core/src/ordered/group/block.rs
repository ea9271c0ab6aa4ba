//! Who waits for which key, and when each is tried again.

use super::super::block::{Awaited, Block, Cancel};
use super::super::effects::{Answer, Cause, Reply};
use super::super::pending::{Access, Burst, refused};
use super::super::watch::Role;
use super::super::{Effects, Now};
use super::{Group, Phase, Unrouted};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Session and ticket.
type Id = (u32, u64);

struct Waiter {
    burst: Burst,
    block: Arc<Block>,
    /// Its place among all waiters; only grows.
    order: u64,
    /// Not being tried now.
    parked: bool,
    /// Was tried before and found nothing: it is not told of an error that the data gives now.
    tried: bool,
    /// Was parked before: it is not told that a try was refused.
    patient: bool,
    /// Nothing was there at some moment since it came, so that it can be told so when its time is over.
    in_vain: bool,
    /// The entry of the last try.
    seq: u64,
    /// It does not wait any more, though a try is under way.
    cancelled: Option<Cancel>,
}

impl Waiter {
    /// Is it to be tried beside others, because of this entry?
    fn may_share(&self, fed: u64) -> bool {
        self.block.shares && self.parked && self.seq < fed
    }
}

/// Those who wait for one key.
#[derive(Default)]
struct Line {
    waiters: BTreeMap<u64, Id>,
    /// Tries under way.
    tries: u32,
    /// The last entry that may have put something there.
    fed: u64,
}

/// All who wait.
#[derive(Default)]
pub(super) struct Blocked {
    next: u64,
    bytes: usize,
    waiters: BTreeMap<Id, Waiter>,
    lines: BTreeMap<Awaited, Line>,
    deadlines: BTreeSet<(u64, Id)>,
    /// Keys of which the longest waiter is to be tried, now and at the next tick.
    due: BTreeSet<Awaited>,
    later: BTreeSet<Awaited>,
}

impl Blocked {
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Takes a burst in. `true`: others wait for all its keys already, so it is parked behind them untried.
    fn enter(&mut self, burst: &Burst, block: &Arc<Block>, may_park: bool) -> bool {
        let id = (burst.session, burst.ticket);
        let waits = |key: &Awaited| self.lines.get(key).is_some_and(|line| !line.waiters.is_empty());
        let parked = may_park && !block.shares && !block.keys.is_empty() && block.keys.iter().all(waits);
        // Behind a try under way it is not known what is there.
        let quiet = |key: &Awaited| {
            self.lines.get(key).is_some_and(|line| line.tries == 0) && !self.due.contains(key)
        };
        let in_vain = parked && block.keys.iter().all(quiet);
        let order = self.next;
        self.next += 1;
        self.bytes += burst.payload.len();
        for key in &block.keys {
            let line = self.lines.entry(*key).or_default();
            line.waiters.insert(order, id);
        }
        self.deadlines.extend(block.until_us.map(|until| (until, id)));
        let (burst, block) = (burst.clone(), block.clone());
        let waiter = Waiter {
            burst,
            block,
            order,
            parked: true,
            tried: false,
            patient: parked,
            in_vain,
            seq: 0,
            cancelled: None,
        };
        self.waiters.insert(id, waiter);
        if !parked {
            self.try_now(id);
        }
        parked
    }

    /// A try of this waiter begins.
    fn try_now(&mut self, id: Id) -> Option<Burst> {
        let waiter = self.waiters.get_mut(&id)?;
        waiter.parked = false;
        for key in &waiter.block.keys {
            self.lines.entry(*key).or_default().tries += 1;
        }
        Some(waiter.burst.clone())
    }

    fn end_try(&mut self, id: Id, in_vain: bool) {
        let Some(waiter) = self.waiters.get_mut(&id) else { return };
        (waiter.parked, waiter.tried, waiter.patient) = (true, true, true);
        waiter.in_vain |= in_vain;
        for key in &waiter.block.keys {
            if let Some(line) = self.lines.get_mut(key) {
                line.tries = line.tries.saturating_sub(1);
                // A write behind a try in the same entry was not seen by it.
                if line.fed > waiter.seq || (line.fed == waiter.seq && !waiter.block.shares) {
                    self.due.insert(*key);
                }
            }
        }
    }

    /// Somebody waits no more. After a try, whoever waits behind may have something to find.
    fn leave(&mut self, id: Id) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.bytes -= waiter.burst.payload.len();
        if let Some(until) = waiter.block.until_us {
            self.deadlines.remove(&(until, id));
        }
        for key in &waiter.block.keys {
            let Some(line) = self.lines.get_mut(key) else { continue };
            line.waiters.remove(&waiter.order);
            if !waiter.parked {
                line.tries = line.tries.saturating_sub(1);
            }
            if line.waiters.is_empty() {
                self.lines.remove(key);
            } else if !waiter.parked {
                self.due.insert(*key);
            }
        }
        Some(waiter)
    }

    /// An entry may have put something into this bucket.
    fn feed(&mut self, bucket: u16, seq: u64) {
        let (first, last) = (Awaited { bucket, identity: 0 }, Awaited { bucket, identity: u64::MAX });
        for (key, line) in self.lines.range_mut(first..=last) {
            line.fed = line.fed.max(seq);
            self.due.insert(*key);
        }
    }

    /// The next who is to be tried: where they take something from each other, one of those who wait for a key.
    fn next_due(&mut self) -> Option<Id> {
        while let Some(key) = self.due.first().copied() {
            let line = self.lines.get(&key);
            let sharing = line.and_then(|line| {
                line.waiters
                    .values()
                    .copied()
                    .find(|id| self.waiters.get(id).is_some_and(|w| w.may_share(line.fed)))
            });
            if sharing.is_some() {
                return sharing;
            }
            self.due.remove(&key);
            let first = line.filter(|line| line.tries == 0).and_then(|line| line.waiters.first_key_value());
            if let Some((_, id)) =
                first.filter(|(_, id)| self.waiters.get(id).is_some_and(|w| !w.block.shares))
            {
                return Some(*id);
            }
        }
        None
    }

    /// An answer to a try. `None`: nothing was there, and it waits on.
    fn judge(&mut self, answer: Answer, now: Now) -> Option<Answer> {
        let id = (answer.session, answer.ticket);
        let Some(waiter) = self.waiters.get(&id).filter(|waiter| !waiter.parked) else { return Some(answer) };
        let over = waiter.block.until_us.is_some_and(|until| until <= now.us);
        // Whose time is over though nobody looked for it is told of a refusal: it is not known that nothing was there.
        let patient = waiter.patient && (waiter.in_vain || !over);
        let (tried, seq) = (waiter.tried, waiter.seq);
        let passing = |cause: &Cause| {
            matches!(cause, Cause::Deadline { .. } | Cause::Recovering | Cause::Journal | Cause::Overload)
        };
        let answered = matches!(answer.reply, Reply::Done(_));
        match &answer.reply {
            Reply::Done(bytes) if waiter.block.empty.iter().any(|empty| bytes == empty) => {}
            Reply::Done(bytes) if tried && bytes.starts_with(b"-") => {}
            Reply::Refused(cause) if patient && passing(cause) => self.later.extend(&waiter.block.keys),
            reply => {
                let done = matches!(reply, Reply::Done(_));
                let left = self.leave(id);
                // What it moved elsewhere somebody may wait for.
                let buckets = left.iter().filter(|_| done).flat_map(|waiter| waiter.burst.buckets.iter());
                buckets.collect::<Vec<_>>().into_iter().for_each(|bucket| self.feed(bucket as u16, seq));
                return Some(answer);
            }
        }
        self.end_try(id, answered);
        let waiter = self.waiters.get(&id)?;
        let reply = match &waiter.cancelled {
            Some(cancel) => cancel.reply.clone(),
            None if over => Some(waiter.block.late.clone()),
            None => return None,
        };
        self.leave(id);
        reply.map(|bytes| Answer { reply: Reply::Done(bytes), ..answer })
    }
}

impl Group {
    /// Takes in a burst that may wait. `false`: it is not to be ordered now.
    pub(super) fn block(&mut self, burst: &Burst, fx: &mut Effects) -> bool {
        let Role::Block(block) = &burst.role else { return true };
        if self.blocked.bytes + burst.payload.len() > self.config.queue_bytes {
            fx.answers.push(refused(burst, Cause::Overload));
            return false;
        }
        !self.blocked.enter(burst, block, self.phase == Phase::Serving)
    }

    /// Notes what a numbered burst does to waiters, and gives those who are to be tried in the same entry.
    pub(super) fn feed_waiters(&mut self, burst: &Burst, seq: u64, now: Now) -> Vec<Burst> {
        if let Role::Block(_) = burst.role {
            if let Some(waiter) = self.blocked.waiters.get_mut(&(burst.session, burst.ticket)) {
                waiter.seq = seq;
            }
            return Vec::new();
        }
        match burst.everything {
            true => (0..=u16::MAX).for_each(|bucket| self.blocked.feed(bucket, seq)),
            false => burst.buckets.iter().for_each(|bucket| self.blocked.feed(bucket as u16, seq)),
        }
        let mut served = Vec::new();
        while let Some(id) = self.blocked.next_due() {
            let Some(waiting) = self.try_waiter(id, now) else { continue };
            if waiting.dialect == burst.dialect && waiting.access == Access::Write && !waiting.leads {
                served.push(waiting);
            } else {
                self.order_waiter(waiting, now);
            }
        }
        served
    }

    /// What a read of those who wait will see at least. A write is noted when it is numbered.
    pub(super) fn note_read(&mut self, burst: &Burst) {
        let head = self.log.head().seq;
        if burst.access == Access::Read
            && let Some(waiter) = self.blocked.waiters.get_mut(&(burst.session, burst.ticket))
        {
            waiter.seq = head;
        }
    }

    fn try_waiter(&mut self, id: Id, now: Now) -> Option<Burst> {
        let burst = self.blocked.try_now(id)?;
        self.note_read(&burst);
        Some(Burst { arrived_us: now.us, ..burst })
    }

    pub(super) fn order_waiter(&mut self, burst: Burst, now: Now) {
        if burst.access == Access::Read {
            let after = self.pending.latest_write(burst.session);
            return self.unrouted.push(Unrouted { burst, after });
        }
        let least = self.expire_before(&burst, now);
        self.pending.add_write(burst, least);
    }

    /// Keeps back the answers to those who wait on, and tries those whose turn it is.
    pub(super) fn attend_waiters(&mut self, now: Now, fx: &mut Effects) {
        if self.blocked.is_empty() {
            return;
        }
        for answer in std::mem::take(&mut fx.answers) {
            fx.answers.extend(self.blocked.judge(answer, now));
        }
        if self.phase != Phase::Serving {
            return;
        }
        while let Some(id) = self.blocked.next_due() {
            if let Some(burst) = self.try_waiter(id, now) {
                self.order_waiter(burst, now);
            }
        }
    }

    /// Answers those whose time is over. For whom nobody looked yet is tried now, and told whatever comes of that.
    pub(super) fn expire_waiters(&mut self, now: Now, fx: &mut Effects) {
        let later = std::mem::take(&mut self.blocked.later);
        self.blocked.due.extend(later);
        while let Some((_, id)) =
            self.blocked.deadlines.first().copied().filter(|(until, _)| *until <= now.us)
        {
            self.blocked.deadlines.pop_first();
            // Who is being tried is answered when that has ended.
            let Some(waiter) = self.blocked.waiters.get_mut(&id).filter(|waiter| waiter.parked) else {
                continue;
            };
            if !waiter.in_vain && self.phase == Phase::Serving {
                if let Some(burst) = self.try_waiter(id, now) {
                    self.order_waiter(burst, now);
                }
            } else if let Some(waiter) = self.blocked.leave(id) {
                fx.answers.push(done(&waiter, waiter.block.late.clone()));
            }
        }
    }

    /// Somebody left, or is made to stop waiting. What is numbered already cannot be taken back.
    pub(super) fn cancel(&mut self, cancel: Cancel, fx: &mut Effects) {
        if self.cancel_awaiting(&cancel, fx) {
            return;
        }
        let id = (cancel.session, cancel.ticket);
        let Some(waiter) = self.blocked.waiters.get_mut(&id) else { return };
        if !waiter.parked && !self.pending.remove(id.0, id.1) {
            waiter.cancelled = Some(cancel);
            return;
        }
        if let Some(waiter) = self.blocked.leave(id) {
            fx.answers.extend(cancel.reply.map(|reply| done(&waiter, reply)));
        }
    }

    /// Nobody is served any more. Those who are being tried are answered as all who wait for an entry.
    pub(super) fn refuse_waiters(&mut self, cause: &Cause, fx: &mut Effects) {
        self.refuse_awaiting(cause, fx);
        let parked = std::mem::take(&mut self.blocked).waiters.into_values().filter(|waiter| waiter.parked);
        fx.answers.extend(parked.map(|waiter| refused(&waiter.burst, cause.clone())));
    }
}

fn done(waiter: &Waiter, reply: bytes::Bytes) -> Answer {
    let Burst { session, ticket, commands, .. } = waiter.burst;
    Answer { session, ticket, commands, reply: Reply::Done(reply) }
}
