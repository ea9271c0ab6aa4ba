//! Feeding replicas, and what they answer: the log side of each backend.

use super::super::effects::{Answer, Cause, Note, Outgoing, Reply};
use super::super::entry::{Entry, Position, Replies, TailEntry};
use super::super::log::Log;
use super::super::recovery::{Attachment, Verdict, judge};
use super::super::replica::{Flight, Replica, ReplicaState, Rest, StaleReason, mask};
use super::super::{Effects, Now};
use super::{
    BACKOFF_MAX_US, BACKOFF_US, CATCH_UP_GAIN, FEED_BYTES, FEED_ENTRIES, Group, LONGEST_REST_US, Open, Phase,
    Votes, Waiting,
};
use crate::rule::{Mask, Rule};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

impl Group {
    pub(super) fn feed(&mut self, now: Now, fx: &mut Effects) {
        let (head, pushed) = (self.log.head().seq, self.log.pushed());
        for i in 0..self.replicas.len() {
            let replica = &self.replicas[i];
            if replica.fed() && replica.flight.is_none() && replica.sent < head && replica.retry_at_us == 0 {
                if replica.rests(now.us, pushed) && self.do_without(i) {
                    continue;
                }
                self.feed_one(i, now, fx);
            }
        }
    }

    /// Do the others in sync meet every rule, so that nobody waits for this one?
    fn do_without(&self, i: usize) -> bool {
        let others = mask(&self.replicas, |r| r.state == ReplicaState::InSync && !r.suspect) & !(1 << i);
        self.rules.iter().all(|state| state.rule.met(others))
    }

    /// How long a replica that catches up is left alone after a send: it works half of the time, or as much as
    /// it takes to gain on the clients. Nobody is spared while nobody writes.
    fn rest_after(&self, flight: &Flight, now: Now) -> Option<Rest> {
        let meanwhile = self.log.pushed() - flight.pushed;
        let took_us = now.us.saturating_sub(flight.since_us);
        let until_us = now.us + took_us.min(LONGEST_REST_US);
        let pushed = flight.pushed + flight.bytes as u64 * CATCH_UP_GAIN.0 / CATCH_UP_GAIN.1;
        (meanwhile > 0).then_some(Rest { until_us, pushed })
    }

    pub(super) fn feed_one(&mut self, i: usize, now: Now, fx: &mut Effects) {
        let from = self.replicas[i].sent + 1;
        let ring = (from..).map_while(|seq| self.log.get(seq));
        let batch = self.together(i, ring);
        let Some(last) = batch.last().map(|last| last.position.seq) else {
            return self.feed_recorded(i, now, fx);
        };
        // What it was fed from the journal must be on this log.
        if !self.proven(i, fx) {
            return;
        }
        if !self.carries_trial(i, &batch, fx) {
            return;
        }
        for seq in from..=last {
            if let Some(open) = self.open_mut(seq) {
                open.sent_to |= 1 << i;
                open.refused_by &= !(1 << i);
            }
        }
        self.replicas[i].fetched.clear();
        self.send_entries(i, batch, false, now, fx);
    }

    /// Puts entries on their way. `recorded`: they come from the journal, and may not be on this log.
    pub(super) fn send_entries(
        &mut self,
        i: usize,
        batch: Vec<Arc<Entry>>,
        recorded: bool,
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(at) = batch.last().map(|last| last.position) else { return };
        let (beside, pushed) = (recorded.then_some(at), self.log.pushed());
        let bytes = batch.iter().map(|entry| entry.len()).sum();
        let replica = &mut self.replicas[i];
        replica.sent = at.seq;
        replica.flight = Some(Flight { to: at.seq, at, beside, since_us: now.us, bytes, pushed });
        fx.sends.push((i, Outgoing::Entries(batch)));
    }

    /// The first of these entries, as many as may share a send to this replica. None when the first cannot be fed.
    pub(super) fn together<'a>(
        &self,
        i: usize,
        entries: impl Iterator<Item = &'a Arc<Entry>>,
    ) -> Vec<Arc<Entry>> {
        // What it refused as a whole it may take one by one: first what frees memory, say.
        let most = if self.replicas[i].backoff_us > 0 { 1 } else { FEED_ENTRIES };
        let mut batch: Vec<Arc<Entry>> = Vec::new();
        let mut bytes = 0;
        for entry in entries.take(most) {
            bytes += entry.len();
            let fits =
                batch.first().is_none_or(|first| bytes <= FEED_BYTES && first.dialect == entry.dialect);
            let feedable = entry.is_empty() || !entry.payload.is_empty();
            if !fits || !feedable {
                break;
            }
            batch.push(entry.clone());
        }
        batch
    }

    pub(super) fn attached(&mut self, i: usize, attachment: Attachment, now: Now, fx: &mut Effects) {
        match self.phase {
            Phase::Fenced { .. } => {}
            Phase::Recovering => {
                self.attachments[i] = Some(attachment);
                self.enter(i, ReplicaState::Waiting, fx);
                self.try_adopt(now, fx);
            }
            Phase::Barrier | Phase::Serving => self.join(i, &attachment, fx),
        }
    }

    pub(super) fn try_adopt(&mut self, now: Now, fx: &mut Effects) {
        let rules = self.recovery_rules();
        let rules: Vec<&Rule> = rules.iter().collect();
        let best = match judge(&self.attachments, &rules, self.config.expects_history, self.config.rules) {
            Verdict::Wait => return,
            Verdict::Fresh => None,
            Verdict::Adopt(_) if self.may_learn_more(now) => return,
            Verdict::Adopt(best) => Some(best),
        };
        let best_attached = best.and_then(|i| self.attachments[i].as_ref());
        let Ok(beyond) = self.recorded_beyond(best_attached) else {
            self.forgotten = true;
            return;
        };
        if let Some(Attachment { position: Some(head), tail, .. }) = best_attached {
            let mut log = Log::from_tail(*head, tail, self.config.log_bytes);
            beyond.iter().for_each(|entry| drop(log.push(entry.clone())));
            self.log = log;
            let payloads = |item: &TailEntry| item.payload.as_ref().map_or(0, Bytes::len);
            self.tail = (tail.len() as u32, tail.iter().map(payloads).sum());
        }
        (self.phase, self.forgotten) = (Phase::Barrier, false);
        self.apply_in_sync();
        self.restored.clear();
        self.begin_records();
        let fresh = best.is_none();
        self.began_empty = fresh && self.attachments.iter().flatten().all(|a| a.empty);
        for i in 0..self.replicas.len() {
            match self.attachments[i].take() {
                Some(_) if fresh => self.feed_from(i, 0, fx),
                Some(attachment) => self.join(i, &attachment, fx),
                None => {}
            }
        }
        self.barrier_entry(fx);
        self.feed(now, fx);
    }

    /// The first entry of the epoch. Until it is committed, an older epoch's entries may still be superseded.
    pub(super) fn barrier_entry(&mut self, fx: &mut Effects) {
        let position = self.log.head().next(self.config.epoch, &[]);
        let trim = self.trim(0);
        let entry =
            Entry { position, payload: vec![], commands: 0, dialect: 2, trim, elided: false, whole: vec![] };
        self.barrier = position.seq;
        let waiting = Vec::new();
        let open = Open::new(waiting, 0);
        for rule in &mut self.rules {
            rule.committed = rule.committed.max(self.log.base().seq);
        }
        self.push(entry, open, fx);
        self.record_ring(fx);
        if !self.config.rules.barrier {
            self.serve(fx);
        }
    }

    pub(super) fn serve(&mut self, fx: &mut Effects) {
        self.phase = Phase::Serving;
        fx.notes.push(Note::Serving);
    }

    /// Is there a replica that may still come and hold a longer log? Adopting a shorter one is safe, but
    /// leaves the longer one with a suffix that is on no log.
    fn may_learn_more(&mut self, now: Now) -> bool {
        let attached = self.attachments.iter().enumerate().filter(|(_, a)| a.is_some());
        let known = attached.fold(self.unreachable, |mask, (i, _)| mask | 1 << i);
        if known.count_ones() as usize == self.attachments.len() {
            return false;
        }
        if self.enough_since_us == 0 {
            self.enough_since_us = now.us;
        }
        now.us - self.enough_since_us < self.config.grace_us
    }

    pub(super) fn unreachable(&mut self, i: usize, now: Now, fx: &mut Effects) {
        if self.phase == Phase::Recovering {
            self.unreachable |= 1 << i;
            self.try_adopt(now, fx);
        }
    }

    /// Whatever is in flight is on its way: patience begins anew.
    pub(super) fn progressed(&mut self, i: usize, partial: usize, now: Now) {
        let replica = &mut self.replicas[i];
        (replica.moved_us, replica.partial) = (now.us, partial);
    }

    /// An empty server can be fed from the log's start if the log began over nothing and is still whole.
    fn may_start_over(&self, attachment: &Attachment) -> bool {
        self.began_empty && attachment.empty && self.log.base() == Position::default()
    }

    /// Puts a replica on the log where its own position says it is.
    pub(super) fn join(&mut self, i: usize, attachment: &Attachment, fx: &mut Effects) {
        self.replicas[i].seen = true;
        let position = match attachment.position {
            _ if !self.config.rules.position => {
                return self.feed_from(i, self.replicas[i].applied.max(self.log.base().seq), fx);
            }
            _ if attachment.partial => return self.join_copied(i, attachment, fx),
            None if self.may_start_over(attachment) => return self.feed_from(i, 0, fx),
            None => return self.stale(i, StaleReason::Blank, fx),
            Some(position) => position,
        };
        if let Some(mark) = &attachment.trial
            && self.config.rules.trial
            && !self.is_settled(position, mark)
        {
            return self.mend_marked(i, position, attachment, mark, fx);
        }
        if self.log.holds(position) {
            self.feed_from(i, position.seq, fx);
            self.replicas[i].at = Some(position);
        } else if let Some((from, keys)) = self.undo(position, &attachment.tail) {
            self.begin_mend(i, from, keys, Mask::MAX, fx);
        } else if position.rank() < self.log.base().rank() && self.journal_reaches(position) {
            self.feed_from(i, position.seq, fx);
            self.replicas[i].beside = Some(position);
        } else if position.rank() < self.log.base().rank() {
            self.stale(i, StaleReason::TooFarBehind, fx);
        } else {
            self.stale(i, StaleReason::Diverged, fx);
        }
    }

    pub(super) fn feed_from(&mut self, i: usize, applied: u64, fx: &mut Effects) {
        self.replicas[i] =
            Replica { applied, sent: applied, seen: true, state: self.replicas[i].state, ..Replica::new() };
        self.enter(i, ReplicaState::Lagging, fx);
    }

    pub(super) fn stale(&mut self, i: usize, reason: StaleReason, fx: &mut Effects) {
        self.forsake_trial(i);
        self.abandon_reads(i, fx);
        self.copies.distrust(i);
        self.replicas[i].flight = None;
        self.replicas[i].fetched.clear();
        self.enter(i, ReplicaState::Stale(reason), fx);
        fx.notes.push(Note::Stale { replica: i, reason });
    }

    /// What it was to be fed was not sent: the log cannot bring it forward.
    pub(super) fn unfit(&mut self, i: usize, fx: &mut Effects) {
        if self.replicas[i].fed() {
            self.stale(i, StaleReason::TooFarBehind, fx);
        }
    }

    pub(super) fn enter(&mut self, i: usize, now: ReplicaState, fx: &mut Effects) {
        let was = std::mem::replace(&mut self.replicas[i].state, now);
        if was != now {
            fx.notes.push(Note::State { replica: i, was, now });
        }
    }

    pub(super) fn applied(&mut self, i: usize, replies: Vec<Replies>, now: Now, fx: &mut Effects) {
        let Some(flight) = self.replicas[i].flight.take() else { return };
        let catches_up = self.replicas[i].state == ReplicaState::Lagging;
        let rest = if catches_up { self.rest_after(&flight, now) } else { None };
        let replica = &mut self.replicas[i];
        replica.rest = rest;
        let from = replica.applied + 1;
        (replica.applied, replica.at, replica.beside) = (flight.to, Some(flight.at), flight.beside);
        replica.suspect = false;
        replica.backoff_us = 0;
        for (seq, replies) in (from..=flight.to).zip(replies) {
            self.record(i, seq, replies, fx);
        }
        self.proven(i, fx);
    }

    pub(super) fn record(&mut self, i: usize, seq: u64, replies: Replies, fx: &mut Effects) {
        let alone = self.replicas.len() == 1;
        if self.open_mut(seq).is_some_and(|open| open.led.is_some()) {
            // What the first one replied is known, and the others are told what to hold.
            if !self.by_value.all_done(&replies.bytes) {
                self.stale(i, StaleReason::Diverged, fx);
            }
            return;
        }
        let Some(open) = self.open_mut(seq) else { return };
        if !alone
            && !replies.bytes.is_empty()
            && !vote(&mut open.votes, i, fingerprint(&replies, &open.unlike))
        {
            fx.notes.push(Note::Divergence { seq, replica: i });
            self.mend_minority(seq, fx);
        }
        let Some(open) = self.open_mut(seq) else { return };
        if open.replies.is_none() && !open.waiting.is_empty() {
            open.replies = Some(replies);
        }
    }

    /// An environment error: nothing of the send was applied, and the replica is tried again later.
    pub(super) fn refused(&mut self, i: usize, error: Bytes, now: Now, fx: &mut Effects) {
        let replica = &mut self.replicas[i];
        let Some(flight) = replica.flight.take() else { return };
        // A refusal is an answer: it is not silent any more.
        replica.suspect = false;
        replica.sent = replica.applied;
        replica.backoff_us = (replica.backoff_us * 2).clamp(BACKOFF_US, BACKOFF_MAX_US);
        replica.retry_at_us = now.us + replica.backoff_us;
        let from = replica.applied + 1;
        for seq in from..=flight.to {
            if let Some(open) = self.open_mut(seq) {
                open.refused_by |= 1 << i;
            }
        }
        self.enter(i, ReplicaState::Lagging, fx);
        fx.notes.push(Note::Refused { replica: i, error: error.clone() });
        self.retract(&error, fx);
    }

    /// Takes the head entry back when every replica that was sent it said that it did not apply it.
    pub(super) fn retract(&mut self, error: &Bytes, fx: &mut Effects) {
        let head = self.log.head().seq;
        let Some(open) = self.open.back() else { return };
        let refused_by_all = open.sent_to != 0 && open.sent_to == open.refused_by;
        // What was acknowledged stays, even if whoever acknowledged it forgot it, and now refuses it.
        let acknowledged = self.rules.iter().any(|state| state.committed >= head);
        let applied = self.replicas.iter().any(|r| r.applied >= head);
        if head == self.barrier || !refused_by_all || applied || acknowledged {
            return;
        }
        if !self.may_retract_led() {
            return;
        }
        let Some((entry, open)) = self.take_back(fx) else { return };
        // What a trial did stays on its leader until that is mended, and a new owner may find nobody else to ask.
        let ran_somewhere = open.led.is_some();
        let answer = |w: &Waiting| {
            let cause = Cause::Backend(error.clone());
            let reply = if ran_somewhere { Reply::Unknown(cause) } else { Reply::Refused(cause) };
            Answer { session: w.session, ticket: w.ticket, commands: w.commands, reply }
        };
        // What needs no memory is not refused for the sake of what does: it gets a try of its own.
        let mixed = open.led.is_none()
            && open.waiting.iter().any(|w| w.grows)
            && open.waiting.iter().any(|w| !w.grows);
        let spared = Some(entry).filter(|_| mixed);
        let refused = open.waiting.iter().filter(|w| w.grows || spared.is_none()).map(answer).collect();
        self.answer_retracted(head, refused, fx);
        if let Some(entry) = spared {
            self.spare(&entry, open.waiting, fx);
        }
        if let Some((leader, keys)) = open.led {
            self.undo_trial(leader, head - 1, keys, fx);
        }
    }

    /// Takes the head entry off the log. Whoever waits for it is still to be answered.
    fn take_back(&mut self, fx: &mut Effects) -> Option<(Arc<Entry>, Open)> {
        let seq = self.log.head().seq;
        let open = self.open.pop_back()?;
        let entry = self.log.retract()?;
        self.retractions += 1;
        // What was cut stays cut; only the entry itself is no longer counted.
        self.tail.0 = self.tail.0.saturating_sub(1);
        self.tail.1 = self.tail.1.saturating_sub(if entry.elided { 0 } else { entry.len() });
        for replica in &mut self.replicas {
            replica.retry_at_us = 0;
            replica.sent = replica.sent.min(seq - 1);
        }
        for held in &mut self.held {
            held.hold.seq = held.hold.seq.min(seq - 1);
        }
        fx.notes.push(Note::Retracted { seq });
        Some((entry, open))
    }

    /// Could everything after entry `from` be as if it had never been numbered? It is this owner's, was not
    /// acknowledged, and whoever held it has said since that it does not.
    pub(super) fn may_forget_after(&self, from: u64) -> bool {
        let held = self.replicas.iter().filter(|r| !r.is_stale()).map(|r| r.applied);
        let committed = self.rules.iter().map(|state| state.committed);
        let known = held.chain(committed).max().unwrap_or(0).max(self.barrier);
        // Barriers change nothing.
        let light = |entry: &Arc<Entry>| entry.is_empty() || entry.position.seq > known;
        (from + 1..=self.log.head().seq).all(|seq| self.log.get(seq).is_some_and(light))
    }

    /// Takes everything after entry `from` back but for barriers. Nobody knows whether it comes again.
    pub(super) fn forget_after(&mut self, from: u64, fx: &mut Effects) {
        while self.log.head().seq > from && self.log.get(self.log.head().seq).is_some_and(|e| !e.is_empty()) {
            let seq = self.log.head().seq;
            let Some((_, open)) = self.take_back(fx) else { return };
            let unknown = |w: Waiting| {
                let Waiting { session, ticket, commands, .. } = w;
                Answer { session, ticket, commands, reply: Reply::Unknown(Cause::ReadLost) }
            };
            self.answer_retracted(seq, open.waiting.into_iter().map(unknown).collect(), fx);
        }
    }

    pub(super) fn disconnected(&mut self, i: usize, now: Now, fx: &mut Effects) {
        if self.phase == Phase::Recovering {
            self.attachments[i] = None;
        }
        self.lose_reads(i, now, fx);
        self.mends[i] = None;
        let replica = &mut self.replicas[i];
        (replica.flight, replica.beside) = (None, None);
        replica.fetched.clear();
        replica.sent = replica.applied;
        replica.retry_at_us = 0;
        replica.disk = Default::default();
        self.enter(i, ReplicaState::Down, fx);
    }
}

/// The hash of what must be the same in all replicas' replies.
fn fingerprint(replies: &Replies, unlike: &[Range<u32>]) -> u64 {
    if unlike.is_empty() {
        return xxh3_64(&replies.bytes);
    }
    let mut hasher = Xxh3::new();
    let mut next = 0;
    let end = Range { start: replies.ends.len() as u32, end: 0 };
    for skipped in unlike.iter().chain([&end]) {
        let count = skipped.start.saturating_sub(next) as usize;
        if count > 0 {
            hasher.update(&replies.slice(next as usize, count).unwrap_or_default());
        }
        next = skipped.end;
    }
    hasher.digest()
}

/// Enters the hash of a replica's replies. `false` when some replica's is another.
fn vote(votes: &mut Votes, i: usize, hash: u64) -> bool {
    match votes.iter_mut().find(|(known, _)| *known == hash) {
        Some((_, voters)) => *voters |= 1 << i,
        None => votes.push((hash, 1 << i)),
    }
    votes.len() == 1
}
