//! From waiting requests to numbered entries.

use super::super::effects::Cause;
use super::super::entry::Entry;
use super::super::pending::{Access, Burst, Stage, Submission, refused};
use super::super::{Effects, Now};
use super::time::is_large;
use super::{
    COPY_BYTES, Group, LARGE_BUCKETS, Open, Phase, TAIL_BYTES, TAIL_LONGEST, TAIL_SLACK, TAIL_SLACK_PART,
    Waiting,
};
use bytes::{Bytes, BytesMut};
use std::ops::Range;
use std::sync::Arc;

impl Group {
    pub(super) fn submit(&mut self, submission: Submission, now: Now, fx: &mut Effects) {
        self.pending.keep_apart(self.replicas.iter().any(|replica| replica.backoff_us > 0));
        for burst in submission.bursts {
            if let Phase::Fenced { by } = self.phase {
                fx.answers.push(refused(&burst, Cause::Fenced { by }));
            } else if burst.access == Access::Write && !self.may_record() {
                fx.answers.push(refused(&burst, Cause::Journal));
            } else if usize::from(burst.plan) >= self.plans.len() || !self.pending.has_room(&burst) {
                fx.answers.push(refused(&burst, Cause::Overload));
            } else {
                let least = self.expire_before(&burst, now);
                self.place(burst, least, now, fx);
            }
        }
        submission.cancels.into_iter().for_each(|cancel| self.cancel(cancel, fx));
    }

    /// Puts a burst where it belongs: behind stage `least`, and behind what its session waits for.
    fn place(&mut self, burst: Burst, least: u64, now: Now, fx: &mut Effects) {
        let own_writes_wait = self.config.rules.session_order && self.pending.writes_wait(burst.session);
        if !self.block(&burst, fx) {
            return;
        }
        self.note_read(&burst);
        if burst.access == Access::Write {
            self.pending.add_write(burst, least);
        } else if own_writes_wait || self.pending.waits(least) {
            self.pending.add_read(burst, least);
        } else {
            let after = self.pending.latest_write(burst.session);
            self.route(burst, after, false, now, fx);
        }
    }

    /// Numbers waiting stages while the replicas that could take an entry at once are a quorum.
    pub(super) fn number(&mut self, now: Now, fx: &mut Effects) {
        if self.survey_holds(now) || self.trial.is_some() {
            return;
        }
        while self.phase == Phase::Serving && self.may_record() && self.meets_some_rule(self.idle()) {
            if self.pending.next_leads() {
                self.drop_changed(fx);
            }
            if self.pending.next_leads() {
                return self.begin_trial(now, fx);
            }
            let Some((number, stage)) = self.pending.pop() else { break };
            let Stage { mut writes, reads, .. } = stage;
            self.touch(&mut writes, now, fx);
            if !writes.is_empty() {
                self.append(now, &writes, fx);
                self.feed(now, fx);
            }
            for read in reads {
                self.route(read, number, false, now, fx);
            }
        }
    }

    pub(super) fn append(&mut self, now: Now, writes: &[Burst], fx: &mut Effects) {
        let (mut waiting, commands) = self.waiting(writes);
        let payload = self.assemble(now, writes, &mut waiting);
        let dialect = writes.first().map_or(2, |burst| burst.dialect);
        self.append_payload(payload, commands, dialect, waiting, fx);
    }

    /// Who waits for these writes, and how many commands they are.
    pub(super) fn waiting(&self, writes: &[Burst]) -> (Vec<Waiting>, u32) {
        let mut waiting = Vec::with_capacity(writes.len());
        let mut first = 0;
        for burst in writes {
            let rule = self.plans[usize::from(burst.plan)].rule;
            let Burst { session, ticket, commands, plan, arrived_us, grows, .. } = *burst;
            let transaction = burst.role.transaction().cloned();
            waiting.push(Waiting {
                session,
                ticket,
                first,
                commands,
                plan,
                rule,
                arrived_us,
                place: 0..0,
                grows,
                transaction,
            });
            first += commands;
        }
        (waiting, first)
    }

    fn append_payload(
        &mut self,
        payload: Vec<Bytes>,
        commands: u32,
        dialect: u8,
        waiting: Vec<Waiting>,
        fx: &mut Effects,
    ) {
        let rules = waiting.iter().fold(0, |rules, waiting| rules | 1 << waiting.rule);
        self.append_open(payload, commands, dialect, Open::new(waiting, rules), fx);
    }

    pub(super) fn append_open(
        &mut self,
        payload: Vec<Bytes>,
        commands: u32,
        dialect: u8,
        open: Open,
        fx: &mut Effects,
    ) {
        let position = self.log.head().next(self.config.epoch, &payload);
        // Effects are not the clients' commands.
        let whole = if open.led.is_some() { Vec::new() } else { wholes(&open.waiting) };
        let bytes: usize = payload.iter().map(Bytes::len).sum();
        let elided = bytes > self.config.tail_payload;
        let trim = self.trim(if elided { 0 } else { bytes });
        self.push(Entry { position, payload, commands, dialect, trim, elided, whole }, open, fx);
    }

    /// Numbers again what was in an entry that was taken back, without what needs memory: others' need of it
    /// is no reason to refuse them.
    pub(super) fn spare(&mut self, entry: &Entry, waiting: Vec<Waiting>, fx: &mut Effects) {
        let (mut payload, mut spared, mut first) = (Vec::new(), Vec::new(), 0);
        let mut at = 0;
        for waiting in waiting.into_iter().filter(|waiting| !waiting.grows) {
            let bytes = slice(&entry.payload, &waiting.place);
            let (commands, place) = (waiting.commands, at..at + bytes.len());
            (at, first) = (place.end, first + commands);
            spared.push(Waiting { first: first - commands, place, ..waiting });
            payload.push(bytes);
        }
        self.append_payload(payload, first, entry.dialect, spared, fx);
    }

    pub(super) fn remember_large(&mut self, burst: &Burst) {
        if is_large(burst.payload.len()) && self.large.len() < LARGE_BUCKETS {
            burst.buckets.iter().for_each(|bucket| {
                let known = self.large.entry(bucket).or_default();
                *known = burst.payload.len().max(*known);
            });
        }
    }

    pub(super) fn push(&mut self, entry: Entry, open: Open, fx: &mut Effects) {
        if self.open.is_empty() {
            self.open_from = entry.position.seq;
        }
        let entry = Arc::new(entry);
        self.copies.appended(&entry.payload, &*self.by_value);
        let fallen = self.log.push(entry.clone());
        self.outlive(&fallen);
        self.open.push_back(open);
        self.record_pushed(entry, fallen, fx);
    }

    /// The bursts' commands, in as few parts as is cheap; each burst lies in one part.
    fn assemble(&mut self, now: Now, writes: &[Burst], waiting: &mut [Waiting]) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let small = writes.iter().map(|b| b.payload.len()).filter(|n| *n <= COPY_BYTES).sum();
        let mut copied = BytesMut::with_capacity(small);
        let mut at = 0;
        for (burst, waiting) in writes.iter().zip(waiting) {
            waiting.place = at..at + burst.payload.len();
            if burst.stamp {
                let before = copied.len();
                self.stamp.stamp(now, &burst.payload, &mut copied);
                waiting.place.end = at + copied.len() - before;
            } else if burst.payload.len() <= COPY_BYTES {
                copied.extend_from_slice(&burst.payload);
            } else {
                if !copied.is_empty() {
                    parts.push(copied.split().freeze());
                }
                parts.push(burst.payload.clone());
            }
            at = waiting.place.end;
        }
        if !copied.is_empty() {
            parts.push(copied.freeze());
        }
        parts
    }

    /// How many entries the tail keeps: more than configured while somebody is behind, so that the next owner
    /// can feed it too.
    fn tail_limit(&self) -> u32 {
        let configured = self.config.tail_entries;
        let slowest = self.replicas.iter().filter(|r| !r.is_stale()).map(|r| r.applied).min().unwrap_or(0);
        let behind = u32::try_from(self.log.head().seq.saturating_sub(slowest)).unwrap_or(u32::MAX);
        if configured == 0 { 0 } else { configured.max(behind.saturating_add(1).min(TAIL_LONGEST)) }
    }

    /// How far the tail is to be cut with the next entry; 0 for not at all. Cuts are rare and
    /// decided once for all replicas, so that equal positions mean equal tails. The longer a tail is, the rarer: to
    /// find the place takes a look at all that is kept, and a tail that grew for a replica shrinks with each of its
    /// sends.
    pub(super) fn trim(&mut self, bytes: usize) -> u32 {
        let (limit, (count, held)) = (self.tail_limit(), self.tail);
        self.tail = (count + 1, held + bytes);
        let slack = TAIL_SLACK.max(limit / TAIL_SLACK_PART);
        if limit == 0 || (count < limit + slack && self.tail.1 <= TAIL_BYTES) {
            return 0;
        }
        let (mut keep, mut sum, mut seq) = (1, bytes, self.log.head().seq);
        while keep < limit {
            let Some(entry) = self.log.get(seq) else { break };
            let len = if entry.elided { 0 } else { entry.len() };
            if sum + len > TAIL_BYTES / 2 {
                break;
            }
            (keep, sum, seq) = (keep + 1, sum + len, seq - 1);
        }
        self.tail = (keep, sum);
        keep
    }
}

/// Where the transactions stand in their entry.
fn wholes(waiting: &[Waiting]) -> Vec<Range<u32>> {
    let transactions = waiting.iter().filter(|waiting| waiting.transaction.is_some());
    transactions.map(|waiting| waiting.first..waiting.first + waiting.commands).collect()
}

/// Those bytes of a payload in parts.
fn slice(parts: &[Bytes], place: &Range<usize>) -> Bytes {
    let mut at = 0;
    let within = parts.iter().find_map(|part| {
        let from = place.start.checked_sub(at)?;
        at += part.len();
        (place.end <= at).then(|| part.slice(from..from + place.len()))
    });
    within.unwrap_or_default()
}
