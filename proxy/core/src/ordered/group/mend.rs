//! Mending: a replica whose data differs in known keys is made equal by value.
//!
//! The replica is taken off the log. Every key in which it may differ from some position on the log, and
//! every key that the log touched since, is read from a replica at a moment when that one stands exactly at
//! the log's head: its connection is ordered, so what it answers is its state at that position. The values
//! and the position then go to the replica that is mended, and the log feeds it from there.

use super::super::by_value::{ByValue, Keys, Request, TrialId};
use super::super::effects::{Note, Outgoing};
use super::super::entry::{Entry, Position, TailEntry};
use super::super::recovery::Attachment;
use super::super::replica::{Asker, ReadFlight, ReplicaState, StaleReason};
use super::super::{Effects, Now};
use super::{Ack, BACKOFF_US, Group};
use crate::rule::{Mask, indices};
use bytes::Bytes;
use std::sync::Arc;

/// More keys than this are not copied one by one.
const MEND_KEYS: usize = 20_000;
/// A copy larger than this is not made in one piece, nor are more bytes of keys remembered for one.
pub(super) const MEND_BYTES: usize = 64 << 20;
const MEND_TRIES: u32 = 8;

/// One replica's mending.
pub(super) struct Mend {
    /// Its data is that of the log at this number, but for `keys`.
    from: u64,
    /// Keys in which it may differ from that.
    keys: Keys,
    /// Replicas that may be copied from.
    sources: Mask,
    step: Step,
    tries: u32,
    /// Tells the answer that is waited for from older ones.
    token: u64,
    /// It differs by this trial alone.
    trial: Option<TrialId>,
    /// Bytes of keys that were remembered because their entries left the ring.
    remembered: usize,
}

enum Step {
    /// For a replica to copy from, not before this time.
    Waiting(u64),
    /// A replica was asked for these keys at this position.
    Fetching(Position, Keys),
    /// They are being written, with the position.
    Storing(Position, usize),
}

impl Mend {
    /// The trial by which alone a replica differs that nothing is being done about just now: which, from where
    /// on the log, and in which keys.
    pub(super) fn waits_with_trial(&self) -> Option<(TrialId, u64, &Keys)> {
        let waits = matches!(self.step, Step::Waiting(_));
        self.trial.filter(|_| waits).map(|trial| (trial, self.from, &self.keys))
    }

    /// The replica ran that trial, and differs by nothing else.
    pub(super) fn owes_to(&mut self, trial: TrialId) {
        self.trial = Some(trial);
    }

    /// The answer to this question does not count any more.
    pub(super) fn disregard(&mut self, token: u64) {
        if self.token == token {
            self.token += 1;
            self.step = Step::Waiting(0);
        }
    }

    /// This entry leaves the ring: its keys are remembered in its place. One that cannot be is missed when the
    /// keys are gathered, and ends the mending.
    fn outlive(&mut self, entry: &Entry, by_value: &dyn ByValue) {
        if entry.position.seq != self.from + 1 {
            return;
        }
        let mut keys = Keys::new();
        let known =
            entry.is_empty() || (!entry.payload.is_empty() && by_value.touched(&entry.payload, &mut keys));
        keys.retain(|key| !self.keys.contains(key));
        self.remembered += keys.iter().map(Bytes::len).sum::<usize>();
        self.keys.extend(keys);
        if known && self.keys.len() <= MEND_KEYS && self.remembered <= MEND_BYTES {
            self.from = entry.position.seq;
            // From here it differs by what it missed as well.
            self.trial = self.trial.filter(|_| entry.is_empty());
        }
    }
}

impl Group {
    /// Takes a replica that differs in `keys` from the log at `from` out of service until it is mended.
    pub(super) fn begin_mend(&mut self, i: usize, from: u64, keys: Keys, sources: Mask, fx: &mut Effects) {
        let mut keys = keys;
        keys.extend(self.forsake_trial(i));
        self.abandon_reads(i, fx);
        self.copies.distrust(i);
        let replica = &mut self.replicas[i];
        (replica.flight, replica.applied, replica.sent, replica.retry_at_us) = (None, from, from, 0);
        self.enter(i, ReplicaState::Mending, fx);
        let step = Step::Waiting(0);
        self.mends[i] =
            Some(Mend { from, keys, sources, step, tries: 0, token: 0, trial: None, remembered: 0 });
    }

    /// Half a copy: if it is finished but for what the log touched meanwhile, that is copied now.
    pub(super) fn join_copied(&mut self, i: usize, attachment: &Attachment, fx: &mut Effects) {
        if attachment.restarted {
            self.copies.restarted(i);
        }
        match self.copies.lacking(i).filter(|_| attachment.position.is_none()) {
            Some(mut keys) => {
                if !self.config.rules.touched_keys {
                    keys.clear();
                }
                self.begin_mend(i, self.log.head().seq, keys, Mask::MAX & !(1 << i), fx);
            }
            None => self.stale(i, StaleReason::Partial, fx),
        }
    }

    /// Can a replica that holds `position`, which is not on the log, be brought back? Finds where it left the log.
    pub(super) fn undo(&self, position: Position, tail: &[TailEntry]) -> Option<(u64, Keys)> {
        let left = tail.iter().rposition(|item| self.log.holds(item.position))?;
        let suffix = &tail[left + 1..];
        let mut keys = Keys::new();
        for (item, seq) in suffix.iter().zip(tail[left].position.seq + 1..) {
            let payload = item.payload.clone().filter(|_| item.position.seq == seq)?;
            if item.commands > 0 && !self.by_value.touched(&[payload], &mut keys) {
                return None;
            }
        }
        if !self.config.rules.own_keys {
            keys.clear();
        }
        let whole = suffix.last().is_some_and(|last| last.position == position);
        whole.then_some((tail[left].position.seq, keys))
    }

    /// These entries left the ring, oldest first.
    pub(super) fn outlive(&mut self, fallen: &[Arc<Entry>]) {
        if !self.config.rules.missed_keys {
            return;
        }
        for mend in self.mends.iter_mut().flatten() {
            fallen.iter().for_each(|entry| mend.outlive(entry, &*self.by_value));
        }
    }

    /// Goes on with every mending that waits.
    pub(super) fn mend(&mut self, now: Now, fx: &mut Effects) {
        // Whose values are about to become an entry needs no others.
        let adopting = self.trial_leader();
        for i in (0..self.mends.len()).filter(|i| Some(*i) != adopting) {
            let waits = |mend: &Mend| matches!(mend.step, Step::Waiting(not_before) if not_before <= now.us);
            if self.mends[i].as_ref().is_some_and(waits) {
                self.mend_fetch(i, now, fx);
            }
        }
    }

    fn mend_fetch(&mut self, i: usize, now: Now, fx: &mut Effects) {
        let head = self.log.head();
        // Whoever stands at the head will do, committed or not: it is this log that the other is put on.
        let sources = self.mends[i].as_ref().map_or(0, |mend| mend.sources);
        let trying = self.trial_leader().map_or(0, |leader| 1 << leader);
        let usable = super::mask(&self.replicas, |r| r.idle(head.seq) && !r.suspect) & sources & !trying;
        let Some(source) = indices(usable).last().filter(|_| !self.alone_in_record(i)) else { return };
        let Some(keys) = self.mend_keys(i) else {
            return self.mend_failed(i, "too many keys differ, or it cannot be told which", fx);
        };
        let request = self.by_value.fetch(&keys);
        self.mend_ask(i, source, request, MEND_BYTES, now, fx);
        if let Some(mend) = &mut self.mends[i] {
            mend.step = Step::Fetching(head, keys);
        }
    }

    /// The keys to copy if they are read at the head: those that differ, and those touched since.
    fn mend_keys(&self, i: usize) -> Option<Keys> {
        let mend = self.mends[i].as_ref()?;
        let mut keys = mend.keys.clone();
        let from = if self.config.rules.missed_keys { mend.from } else { self.log.head().seq };
        for seq in from + 1..=self.log.head().seq {
            let entry = self.log.get(seq)?;
            let feedable = entry.is_empty() || !entry.payload.is_empty();
            let known = entry.is_empty() || self.by_value.touched(&entry.payload, &mut keys);
            if !feedable || !known || keys.len() > MEND_KEYS {
                return None;
            }
        }
        Some(keys)
    }

    /// Asks replica `whom` something for the mending of `i`.
    fn mend_ask(
        &mut self,
        i: usize,
        whom: usize,
        request: Request,
        expected: usize,
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(mend) = &mut self.mends[i] else { return };
        mend.token += 1;
        let asker = Asker::Mend(i, mend.token);
        self.replicas[whom].reads.push_back(ReadFlight { since_us: now.us, expected, asker });
        let Request { payload, commands } = request;
        fx.sends.push((whom, Outgoing::Read { payload, commands, dialect: 2 }));
    }

    /// One of the questions asked for the mending of `i` was answered.
    pub(super) fn mend_answered(&mut self, i: usize, token: u64, answer: &Bytes, now: Now, fx: &mut Effects) {
        let Some(mend) = self.mends[i].as_mut().filter(|mend| mend.token == token) else { return };
        match std::mem::replace(&mut mend.step, Step::Waiting(u64::MAX)) {
            Step::Waiting(_) => {}
            Step::Fetching(..) if self.alone_in_record(i) => {
                self.mend_goes_on(i, Step::Waiting(now.us + BACKOFF_US));
            }
            Step::Fetching(at, keys) => match self.by_value.store(&keys, answer, at) {
                Some(request) if answer.len() <= MEND_BYTES => {
                    let size = request.payload.len();
                    self.mend_ask(i, i, request, size, now, fx);
                    self.mend_goes_on(i, Step::Storing(at, keys.len()));
                }
                _ => self.mend_failed(i, "the values are too large, or cannot be read whole", fx),
            },
            Step::Storing(at, count) if self.by_value.succeeded(answer) => {
                self.copies.end(i);
                fx.notes.push(Note::Mended { replica: i, keys: count });
                self.mended(i, at, now, fx);
            }
            Step::Storing(..) => self.mend_failed(i, "it does not take the values", fx),
        }
    }

    /// Replica `i` holds what the log held at `at`.
    fn mended(&mut self, i: usize, at: Position, now: Now, fx: &mut Effects) {
        if self.log.holds(at) {
            self.mends[i] = None;
            self.feed_from(i, at.seq, fx);
        } else {
            // The ring has left it behind meanwhile. What was touched since is known, and copied as well.
            self.mend_again(i, now, fx);
        }
    }

    fn mend_goes_on(&mut self, i: usize, step: Step) {
        if let Some(mend) = &mut self.mends[i] {
            mend.step = step;
        }
    }

    /// A question asked for the mending of `i` will not be answered.
    pub(super) fn mend_lost(&mut self, i: usize, token: u64, now: Now, fx: &mut Effects) {
        if self.mends[i].as_ref().is_some_and(|mend| mend.token == token) {
            self.mend_again(i, now, fx);
        }
    }

    /// The state of whoever was asked keeps it from answering, for want of memory say. That passes.
    pub(super) fn mend_refused(&mut self, i: usize, token: u64, now: Now) {
        if let Some(mend) = self.mends[i].as_mut().filter(|mend| mend.token == token) {
            mend.step = Step::Waiting(now.us + BACKOFF_US * u64::from(MEND_TRIES));
        }
    }

    fn mend_again(&mut self, i: usize, now: Now, fx: &mut Effects) {
        let Some(mend) = &mut self.mends[i] else { return };
        mend.tries += 1;
        if mend.tries > MEND_TRIES {
            return self.mend_failed(i, "it was tried too often", fx);
        }
        mend.step = Step::Waiting(now.us + BACKOFF_US * u64::from(mend.tries));
    }

    pub(super) fn mend_failed(&mut self, i: usize, why: &'static str, fx: &mut Effects) {
        self.mends[i] = None;
        fx.notes.push(Note::Unmended { replica: i, why });
        let copied = self.copies.is_under_way(i);
        self.copies.unfinish(i, why);
        self.stale(i, if copied { StaleReason::Partial } else { StaleReason::Diverged }, fx);
    }

    /// Replicas answered the entry differently. Where most agree, the others are mended, as long as
    /// every rule can be met without them.
    pub(super) fn mend_minority(&mut self, seq: u64, fx: &mut Effects) {
        let all = self.replicas.len() as u32;
        let Some(open) = self.open_mut(seq) else { return };
        let majority = |set: Mask| set.count_ones() * 2 > all;
        let Some(agree) = open.votes.iter().map(|(_, set)| *set).find(|set| majority(*set)) else { return };
        let differ = open.votes.iter().map(|(_, set)| *set).fold(0, |a, b| a | b) & !agree;
        let mut keys = Keys::new();
        let Some(entry) = self.log.get(seq) else { return };
        if !self.by_value.touched(&entry.payload, &mut keys) {
            return;
        }
        for i in indices(differ) {
            self.mend_keys_of(i, keys.clone(), agree, fx);
        }
    }

    /// Copies `keys` to a replica that holds the log but differs in them, from one of `like`.
    pub(super) fn mend_keys_of(&mut self, i: usize, keys: Keys, like: Mask, fx: &mut Effects) {
        if let Some(mend) = &mut self.mends[i] {
            // Where nobody holds all of it, what came first goes on.
            if !keys.is_subset(&mend.keys) && mend.sources & like != 0 {
                // What is being copied does not hold them.
                mend.keys.extend(keys);
                mend.sources &= like;
                mend.trial = None;
                mend.disregard(mend.token);
            }
            return;
        }
        if self.replicas[i].fed() && self.can_spare(i) {
            self.begin_mend(i, self.replicas[i].applied, keys, like & !(1 << i), fx);
        }
    }

    /// Would nobody know the log if this replica lost its position? While it is being mended, it has none.
    fn alone_in_record(&self, i: usize) -> bool {
        let without = super::mask(&self.replicas, super::Replica::fed) & !(1 << i);
        match self.config.ack {
            Ack::Quorum => false,
            Ack::InSync { .. } => {
                let members = self.in_sync.recorded.unwrap_or_default();
                members >> i & 1 == 1 && members & without == 0
            }
        }
    }

    /// Can every write still be acknowledged while replica `i` is being mended?
    fn can_spare(&self, i: usize) -> bool {
        let without = super::mask(&self.replicas, super::Replica::fed) & !(1 << i);
        match self.config.ack {
            Ack::Quorum => self.rules.iter().all(|r| r.rule.met(without)),
            // The set goes on without it, as long as it may become that small.
            Ack::InSync { min } => {
                let members = self.in_sync.recorded.unwrap_or_default();
                (members & without).count_ones() >= min
            }
        }
    }
}
