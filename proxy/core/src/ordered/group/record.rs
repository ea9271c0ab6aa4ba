//! The journal's side of the log: what is recorded, and replicas that are fed from there.
//!
//! As *hints*, entries are recorded only while somebody is owed many. As *log*, every entry is, and none is
//! acknowledged before. Either way a replica that the ring cannot feed is fed from the journal; every hop is
//! checked by the chain hash.

use super::super::effects::{Answer, Cause, Record, Reply};
use super::super::entry::{Entry, Position};
use super::super::recovery::Attachment;
use super::super::replica::{Replica, StaleReason};
use super::super::{Effects, Now};
use super::{FETCH_BYTES, Group};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// A replica that misses fewer entries than this is fed from memory or from a tail.
const HINT_LAG: u64 = 16;
/// Hints are recorded together, this part of what the backends' tails hold at once: each time costs two threads a turn.
const HINT_STEP: u32 = 8;
/// A payload of so many bytes is recorded at once.
const HINT_BYTES: usize = 256 << 10;
/// How often it is looked at what all have applied, within the time for which a journal keeps it.
const KEEP_STEPS: u64 = 8;

/// What a group records in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Journaling {
    /// Nothing.
    #[default]
    None,
    /// What a replica is owed that is far behind.
    Hints,
    /// Every entry, before it is acknowledged.
    Log,
}

/// What the journal holds, as the group was last told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Number of the oldest entry; 0 when there is none.
    pub oldest: u64,
    /// The newest entry.
    #[serde(skip)]
    pub newest: Position,
    /// Nothing is recorded at the moment.
    pub failed: bool,
}

/// The group's view of its journal.
#[derive(Default)]
pub(super) struct Journal {
    pub(super) view: Recorded,
    /// Where the log in memory began when it was adopted.
    begin: u64,
    /// Entries up to here were given to it.
    given: u64,
    /// Every entry is recorded at the moment, because somebody is owed many.
    hinting: bool,
    /// Replicas for which it is being read.
    reading: crate::rule::Mask,
    /// Answers to entries that were taken back, until that is recorded.
    retracted: Vec<(u64, Vec<Answer>)>,
    released: u64,
    /// Numbers of entries that every replica had applied, and when that was seen, oldest first.
    applied: VecDeque<(u64, u64)>,
}

impl Journal {
    /// A journal that stands there, before anything was asked of it.
    pub(super) fn at(view: Recorded) -> Self {
        Self { view, ..Self::default() }
    }
}

impl Group {
    /// The last entry that every replica has applied which the journal can still feed; `None` without any.
    /// One that was not seen yet is taken to stand where the journal begins.
    fn owed_from(&self) -> Option<u64> {
        let oldest = self.journal.view.oldest;
        let begin = if oldest == 0 { self.journal.begin } else { oldest - 1 };
        let stands = |r: &Replica| if r.seen { r.applied } else { begin };
        let owed = self.replicas.iter().filter(|r| !r.is_stale()).map(stands);
        // What the journal let go of already cannot be made good.
        owed.filter(|applied| oldest <= applied + 1).min()
    }

    /// Records what has to be after `entry` was numbered, which pushed `fallen` out of the ring.
    pub(super) fn record_pushed(&mut self, entry: Arc<Entry>, fallen: Vec<Arc<Entry>>, fx: &mut Effects) {
        let batch = match self.config.journal {
            Journaling::None => return,
            Journaling::Log => vec![entry],
            Journaling::Hints => self.hints(fallen),
        };
        if let Some(last) = batch.last() {
            self.journal.given = last.position.seq;
            fx.records.push(Record::Append(batch));
        }
    }

    /// What is to be recorded because a replica is owed it: everything from the first entry that it misses,
    /// as soon as it misses more than the backends' tails hold for the next owner, or the ring for this one.
    fn hints(&mut self, fallen: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
        let head = self.log.head().seq;
        let owed_from = self.owed_from().unwrap_or(head);
        let lag = head - owed_from;
        let most = u64::from(self.config.tail_entries / 2).max(HINT_LAG);
        let falls = fallen.last().is_some_and(|last| last.position.seq > owed_from);
        self.journal.hinting = falls || lag > if self.journal.hinting { most / 4 } else { most };
        if !self.journal.hinting {
            return Vec::new();
        }
        let given = self.journal.given.max(self.journal.view.newest.seq);
        let continues =
            given >= owed_from && (given == self.journal.given || self.log.holds(self.journal.view.newest));
        let from = if continues { given } else { owed_from };
        if continues
            && fallen.last().is_none_or(|last| last.position.seq <= from)
            && self.hints_can_wait(from)
        {
            return Vec::new();
        }
        let ring = (self.log.base().seq.max(from) + 1..=head).filter_map(|seq| self.log.get(seq).cloned());
        fallen.into_iter().filter(|entry| entry.position.seq > from).chain(ring).collect()
    }

    /// Are there so few entries after `given` that the backends' tails hold them safely for the next owner?
    fn hints_can_wait(&self, given: u64) -> bool {
        let head = self.log.head().seq;
        if head - given >= u64::from(self.config.tail_entries / HINT_STEP) {
            return false;
        }
        let newer = (given + 1..=head).filter_map(|seq| self.log.get(seq));
        let bytes = newer.map(|entry| if entry.elided { HINT_BYTES } else { entry.len() });
        bytes.sum::<usize>() < HINT_BYTES
    }

    /// The last entry that may be acknowledged as far as the journal goes.
    pub(super) fn recorded_limit(&self) -> u64 {
        match self.config.journal {
            Journaling::None | Journaling::Hints => u64::MAX,
            Journaling::Log if !self.config.rules.recorded => u64::MAX,
            Journaling::Log if self.log.holds(self.journal.view.newest) => self.journal.view.newest.seq,
            Journaling::Log => self.journal_base(),
        }
    }

    /// Until the journal has something of this log, what was adopted counts as recorded: it is in the backends.
    fn journal_base(&self) -> u64 {
        self.barrier.saturating_sub(1)
    }

    /// The journal tells where it stands.
    pub(super) fn recorded(&mut self, view: Recorded, fx: &mut Effects) {
        let was = std::mem::replace(&mut self.journal.view, view);
        let recovered = was.failed && !view.failed;
        // Files were deleted, or were too old.
        let lost = !view.failed && view.newest.seq < was.newest.seq.min(self.journal.given);
        if recovered || lost {
            self.journal.given = view.newest.seq;
            self.record_ring(fx);
        }
    }

    /// May writes be numbered, as far as the journal goes?
    pub(super) fn may_record(&self) -> bool {
        self.config.journal != Journaling::Log || !self.journal.view.failed
    }

    /// The log is known: its barrier is about to be numbered.
    pub(super) fn begin_records(&mut self) {
        self.journal.begin = self.log.base().seq;
    }

    /// Gives the journal everything in the ring that it does not hold.
    pub(super) fn record_ring(&mut self, fx: &mut Effects) {
        if self.config.journal != Journaling::Log {
            return;
        }
        let newest = self.journal.view.newest;
        let from = if self.log.holds(newest) { newest.seq } else { self.log.base().seq };
        let missing: Vec<Arc<Entry>> =
            (from + 1..=self.log.head().seq).filter_map(|seq| self.log.get(seq).cloned()).collect();
        if !missing.is_empty() {
            self.journal.given = self.log.head().seq;
            fx.records.push(Record::Append(missing));
        }
    }

    /// Answers to an entry that was taken back: at once, or when it cannot come back from the journal.
    pub(super) fn answer_retracted(&mut self, seq: u64, answers: Vec<Answer>, fx: &mut Effects) {
        let held = self.journal.given.max(self.journal.view.newest.seq) >= seq;
        self.journal.given = self.journal.given.min(seq - 1);
        if self.config.journal != Journaling::None && held {
            fx.records.push(Record::Retract(seq));
        }
        match self.config.journal {
            Journaling::Log if held => self.journal.retracted.push((seq, answers)),
            // Hints are only fed as far as the log in memory confirms them.
            Journaling::None | Journaling::Hints | Journaling::Log => fx.answers.extend(answers),
        }
    }

    /// Entries from `from` on are gone from the journal.
    pub(super) fn unrecorded(&mut self, from: u64, fx: &mut Effects) {
        for (_, answers) in self.journal.retracted.extract_if(.., |(seq, _)| *seq >= from) {
            fx.answers.extend(answers);
        }
    }

    /// Nobody knows any more whether what was taken back comes again.
    pub(super) fn retractions_unknown(&mut self, cause: &Cause, fx: &mut Effects) {
        for (_, answers) in std::mem::take(&mut self.journal.retracted) {
            let unknown = |answer| Answer { reply: Reply::Unknown(cause.clone()), ..answer };
            fx.answers.extend(answers.into_iter().map(unknown));
        }
    }

    /// Can the journal feed a replica that stands at `position`? Whether that is on this log shows when it is read.
    pub(super) fn journal_reaches(&self, position: Position) -> bool {
        let view = &self.journal.view;
        self.config.journal != Journaling::None
            && view.oldest != 0
            && view.oldest <= position.seq + 1
            && self.journal.given.max(view.newest.seq) >= self.log.base().seq
    }

    /// A replica that is fed from the journal and has come as far as the ring: is it on this log? From then on it counts.
    pub(super) fn proven(&mut self, i: usize, fx: &mut Effects) -> bool {
        match self.replicas[i].beside {
            Some(at)
                if self.log.holds(at) || (!self.config.rules.proven && at.seq >= self.log.base().seq) =>
            {
                self.replicas[i].beside = None;
            }
            Some(at) if at.seq >= self.log.base().seq => {
                self.stale(i, StaleReason::Diverged, fx);
                return false;
            }
            _ => {}
        }
        true
    }

    /// The position of the last entry that a replica applied, if it is known.
    fn standing(&self, i: usize) -> Option<Position> {
        let replica = &self.replicas[i];
        let known = replica.beside.or_else(|| self.log.position(replica.applied)).or(replica.at);
        known.filter(|at| at.seq == replica.applied)
    }

    /// Feeds a replica to which the ring does not reach back.
    pub(super) fn feed_recorded(&mut self, i: usize, now: Now, fx: &mut Effects) {
        let from = self.replicas[i].sent + 1;
        if self.journal.reading >> i & 1 == 1 {
            return;
        }
        let Some(at) = self.standing(i) else {
            return self.stale(i, StaleReason::TooFarBehind, fx);
        };
        if self.replicas[i].fetched.front().is_some_and(|next| next.position.seq == from) {
            return self.feed_fetched(i, at, now, fx);
        }
        if !self.journal_reaches(at) {
            return self.stale(i, StaleReason::TooFarBehind, fx);
        }
        self.replicas[i].beside = Some(at);
        if self.journal.view.newest.seq < from {
            // It was given, and is not written yet.
            self.replicas[i].retry_at_us = now.us + 5_000;
            return;
        }
        self.journal.reading |= 1 << i;
        fx.records.push(Record::Read { replica: i, from, bytes: FETCH_BYTES });
    }

    /// Entries read for a replica; none when they could not be read.
    pub(super) fn owed(&mut self, i: usize, entries: Vec<Arc<Entry>>, now: Now, fx: &mut Effects) {
        self.journal.reading &= !(1 << i);
        let replica = &self.replicas[i];
        // It may have been lost, and attached elsewhere on the log, meanwhile.
        let Some(at) = replica.beside.filter(|_| replica.fed() && replica.flight.is_none()) else { return };
        let Some(first) = entries.first() else {
            return self.stale(i, StaleReason::TooFarBehind, fx);
        };
        if first.position.seq == at.seq + 1 {
            self.replicas[i].fetched = entries.into();
            self.feed_fetched(i, at, now, fx);
        }
    }

    /// Sends a replica that stands at `at` a part of what was read for it.
    fn feed_fetched(&mut self, i: usize, at: Position, now: Now, fx: &mut Effects) {
        let fetched = &self.replicas[i].fetched;
        let continues =
            fetched.front().is_some_and(|next| at.next(next.position.epoch, &next.payload) == next.position);
        if self.config.rules.chain && !continues {
            return self.stale(i, StaleReason::Diverged, fx);
        }
        // What was taken back, or superseded, since it was recorded is not on the log.
        let base = self.log.base().seq;
        let confirmed = |entry: &&Arc<Entry>| entry.position.seq < base || self.log.holds(entry.position);
        let batch = self.together(i, fetched.iter().take_while(confirmed));
        if batch.is_empty() {
            // It is read anew.
            return self.replicas[i].fetched.clear();
        }
        if self.carries_trial(i, &batch, fx) {
            self.replicas[i].fetched.drain(..batch.len());
            self.send_entries(i, batch, true, now, fx);
        }
    }

    /// The last entry that no replica forgets any more. Where the journal is the log it feeds those that lost their
    /// newest writes, with the power say, and what they have applied lately is not on their disks yet.
    fn settled(&mut self, applied: u64, now: Now) -> u64 {
        if self.config.journal != Journaling::Log {
            return applied;
        }
        let (keep_us, seen) = (self.config.journal_keep_us, &mut self.journal.applied);
        if seen.back().is_none_or(|(_, at_us)| at_us + keep_us / KEEP_STEPS <= now.us) {
            seen.push_back((applied, now.us));
        }
        let is_old = |(_, at_us): &(u64, u64)| at_us + keep_us <= now.us;
        while seen.get(1).is_some_and(is_old) {
            seen.pop_front();
        }
        // One that came back with less has less to settle.
        seen.front().filter(|sample| is_old(sample)).map_or(0, |(settled, _)| *settled).min(applied)
    }

    /// Lets go of what nobody is owed.
    pub(super) fn release_records(&mut self, now: Now, fx: &mut Effects) {
        if self.config.journal == Journaling::None || self.journal.view.oldest == 0 {
            return;
        }
        let owed = self.replicas.iter().filter(|r| !r.is_stale());
        let owed_from = owed.map(|r| if r.seen { r.applied } else { 0 }).min();
        let applied = owed_from.unwrap_or(self.log.head().seq);
        let through = self.settled(applied, now).min(self.log.base().seq);
        if through > self.journal.released && through >= self.journal.view.oldest {
            self.journal.released = through;
            fx.records.push(Record::Release(through));
        }
    }

    /// What a journal that is the log knows beyond the greatest position among the backends.
    /// `Err` when it knows acknowledged entries that this position does not lead to.
    pub(super) fn recorded_beyond(&self, best: Option<&Attachment>) -> Result<&[Arc<Entry>], ()> {
        let recorded = self.restored.as_slice();
        let (Some(last), Some(at)) = (recorded.last(), best.and_then(|a| a.position)) else { return Ok(&[]) };
        if last.position.rank() <= at.rank() || !self.config.rules.restored {
            return Ok(&[]);
        }
        if let Some(found) = recorded.iter().rposition(|entry| entry.position == at) {
            return Ok(&recorded[found + 1..]);
        }
        let first = &recorded[0];
        if at.next(first.position.epoch, &first.payload) == first.position { Ok(recorded) } else { Err(()) }
    }
}
