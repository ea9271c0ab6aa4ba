//! Which transactions are dropped, and what the log knows of touched keys.

use super::super::effects::{Answer, Reply};
use super::super::pending::Burst;
use super::super::watch::{Moment, Role, Transaction, Watch};
use super::super::{Effects, Now};
use super::{Group, Open, Votes, Waiting};
use bytes::Bytes;

impl Group {
    /// Notes what the next entry touches, and takes out the transactions that must not be in it: in order, so that
    /// a write earlier in the same entry counts.
    pub(super) fn touch(&mut self, writes: &mut Vec<Burst>, now: Now, fx: &mut Effects) {
        let seq = self.log.head().seq + 1;
        if self.blocked.is_empty() {
            return writes.retain(|burst| !self.drops(burst, fx) && self.note(burst, seq));
        }
        for burst in std::mem::take(writes) {
            if self.drops(&burst, fx) {
                continue;
            }
            self.note(&burst, seq);
            let served = self.feed_waiters(&burst, seq, now);
            writes.push(burst);
            for burst in served {
                self.note(&burst, seq);
                self.feed_waiters(&burst, seq, now);
                writes.push(burst);
            }
        }
    }

    pub(super) fn note(&mut self, burst: &Burst, seq: u64) -> bool {
        let rule = self.plans[usize::from(burst.plan)].rule;
        for bucket in burst.buckets.iter() {
            self.buckets[bucket] = (seq, rule);
        }
        if burst.everything {
            self.everywhere = (seq, rule);
        }
        self.remember_large(burst);
        self.take_note(&burst.timed);
        true
    }

    /// Answers a transaction of which a watched bucket was touched.
    pub(super) fn drops(&self, burst: &Burst, fx: &mut Effects) -> bool {
        let changed = burst.role.transaction().is_some_and(|transaction| self.changed(transaction));
        if changed {
            fx.answers.push(answer(burst, Reply::Changed));
        }
        changed
    }

    fn changed(&self, transaction: &Transaction) -> bool {
        self.config.rules.watch && transaction.watches.iter().any(|watch| self.is_touched(watch))
    }

    fn is_touched(&self, watch: &Watch) -> bool {
        // A mark that was never set belongs to a WATCH that was refused.
        let Some(moment) = watch.mark.moment() else { return true };
        let later = |(seq, _): (u64, u8)| seq > moment.head;
        // A number that was given back may have been given again to a write that is not newer by its number.
        (moment.retractions != self.retractions && self.config.rules.given_back)
            || later(self.everywhere)
            || watch.buckets.iter().any(|bucket| later(self.buckets[usize::from(*bucket)]))
    }

    /// What needs no replica: a mark, a transaction that is dropped, and one that only asks.
    pub(super) fn answered_here(&self, burst: &Burst, fx: &mut Effects) -> bool {
        match &burst.role {
            Role::Plain | Role::Block(_) | Role::Pinned(_) | Role::Await(_) => false,
            Role::Watch(mark) => {
                mark.set(Moment { head: self.log.head().seq, retractions: self.retractions });
                fx.answers.push(answer(burst, Reply::Done(burst.payload.clone())));
                true
            }
            Role::Transaction(_) if self.drops(burst, fx) => true,
            Role::Transaction(_) if burst.commands == 0 => {
                fx.answers.push(answer(burst, Reply::Done(Bytes::new())));
                true
            }
            Role::Transaction(_) => false,
        }
    }
}

impl Open {
    pub(super) fn new(waiting: Vec<Waiting>, rules: u64) -> Open {
        let mut unlike = Vec::new();
        for waiting in &waiting {
            let first = waiting.first;
            let ranges = waiting.transaction.iter().flat_map(|transaction| &transaction.unlike);
            unlike.extend(ranges.map(|range| range.start + first..range.end + first));
        }
        Open {
            waiting,
            rules,
            replies: None,
            votes: Votes::new(),
            sent_to: 0,
            refused_by: 0,
            unlike,
            led: None,
        }
    }
}

fn answer(burst: &Burst, reply: Reply) -> Answer {
    let Burst { session, ticket, commands, .. } = *burst;
    Answer { session, ticket, commands, reply }
}
