//! The sequencer of one group: numbering, sending, commit, replies, reads.
//!
//! At most one entry is in flight to each replica. A Redis transaction that is refused must
//! not be followed by one that is applied, and only waiting for the answer makes sure of that;
//! see docs/decisions/0002-one-entry-in-flight.md. Natural batching pays for it.

use super::effects::{Answer, Cause, Effects, Note, Outgoing, Reply};
use super::entry::{Entry, Position, Replies};
use super::log::Log;
use super::pending::{Access, Burst, Pending, Stage, Submission, refused};
use super::recovery::{Attachment, Verdict, judge};
use super::replica::{Flight, Hold, ReadFlight, Replica, ReplicaState, ReplicaView, StaleReason, mask};
use super::rules::SafetyRules;
use super::{Event, Now};
use crate::plan::Plan;
use crate::quorum::covers;
use crate::rule::{Mask, Rule};
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Buckets of keys; two keys that share one only make a read wait longer than it must.
pub const BUCKETS: usize = 1 << 16;
/// Payloads up to this many bytes are copied into their entry; larger ones are shared.
const COPY_BYTES: usize = 32 << 10;
/// The most entries and bytes merged into one send to a replica that is behind.
const FEED_ENTRIES: usize = 64;
const FEED_BYTES: usize = 1 << 20;
/// Answered entries kept for comparing late replies.
const COMPARED: usize = 1024;
/// Bytes of payload a backend's tail may hold before it is cut to half of that.
const TAIL_BYTES: usize = 16 << 20;
const TAIL_SLACK: u32 = 16;
const BACKOFF_US: u64 = 20_000;
const BACKOFF_MAX_US: u64 = 2_000_000;

/// Writes the log-ordered part of a command, for example the id of `XADD key *`.
pub trait Stamp: Send {
    /// Appends the command with its stamp to `out`. Stamps must grow from call to call.
    fn stamp(&mut self, now: Now, command: &[u8], out: &mut BytesMut);
}

/// What a group is made of.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// How many replicas, at most [`crate::rule::MAX_REPLICAS`].
    pub replicas: usize,
    /// The epoch this owner fenced the backends with.
    pub epoch: u64,
    /// The group is known to have had a log: all backends blank then means that data is gone.
    pub expects_history: bool,
    /// Bytes of payload kept in memory for catch-up.
    pub log_bytes: usize,
    /// Bytes of requests that may wait; more are shed.
    pub queue_bytes: usize,
    /// An entry takes no further burst beyond this many bytes.
    pub entry_bytes: usize,
    /// An entry takes no further burst beyond this many commands.
    pub entry_commands: u32,
    /// Entries kept in each backend's tail; 0 switches it off.
    pub tail_entries: u32,
    /// Payloads above this many bytes are left out of the tail.
    pub tail_payload: usize,
    /// A replica that answers nothing for this long is disconnected, in microseconds.
    pub stall_us: u64,
    /// Safety rules in force.
    pub rules: SafetyRules,
}

impl GroupConfig {
    /// Defaults for a group of `replicas` under `epoch`.
    pub fn new(replicas: usize, epoch: u64) -> Self {
        Self {
            replicas,
            epoch,
            expects_history: false,
            log_bytes: 256 << 20,
            queue_bytes: 128 << 20,
            entry_bytes: 256 << 10,
            entry_commands: 512,
            tail_entries: 128,
            tail_payload: 1 << 20,
            stall_us: 1_000_000,
            rules: SafetyRules::ALL,
        }
    }
}

/// Where the group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waiting for enough replicas to know the log.
    Recovering,
    /// The log is known; this epoch's first entry is not committed yet.
    Barrier,
    /// Serving clients.
    Serving,
    /// A newer owner took over.
    Fenced {
        /// Its epoch.
        by: u64,
    },
}

/// A look at the group from outside.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// Where the group stands.
    pub phase: Phase,
    /// Epoch of this owner.
    pub epoch: u64,
    /// Number of the last entry.
    pub head: u64,
    /// Number of the last entry committed by the weakest rule.
    pub committed: u64,
    /// Can some write rule be met by the replicas that are fed?
    pub writable: bool,
    /// Bytes of requests that wait.
    pub queued_bytes: usize,
    /// Bytes of log in memory.
    pub log_bytes: usize,
    /// Number of the oldest entry that can still be fed.
    pub log_from: u64,
    /// Each replica.
    pub replicas: Vec<ReplicaView>,
}

struct RuleState {
    rule: Rule,
    committed: u64,
}

struct PlanState {
    plan: Plan,
    rule: u8,
    turn: usize,
}

/// A numbered burst whose client has no answer yet.
struct Waiting {
    session: u32,
    ticket: u64,
    first: u32,
    commands: u32,
    plan: u16,
    rule: u8,
    arrived_us: u64,
}

/// An entry that is not fully answered or compared.
struct Open {
    waiting: Vec<Waiting>,
    rules: u64,
    replies: Option<Replies>,
    votes: Vec<(u8, u64)>,
    sent_to: Mask,
    refused_by: Mask,
}

struct HeldRead {
    hold: Hold,
    plan: u16,
    arrived_us: u64,
    answer: Answer,
}

/// The sequencer. See the module's head.
pub struct Group {
    config: GroupConfig,
    stamp: Box<dyn Stamp>,
    phase: Phase,
    attachments: Vec<Option<Attachment>>,
    replicas: Vec<Replica>,
    rules: Vec<RuleState>,
    plans: Vec<PlanState>,
    log: Log,
    barrier: u64,
    open: VecDeque<Open>,
    /// Number of the first entry in `open`.
    open_from: u64,
    /// Last entry that touched the bucket and the rule of its write.
    buckets: Vec<(u64, u8)>,
    /// Last entry that may have touched any key.
    everywhere: (u64, u8),
    pending: Pending,
    unrouted: Vec<Burst>,
    held: Vec<HeldRead>,
    tail: (u32, usize),
}

impl Group {
    /// A group that knows nothing of its replicas yet.
    pub fn new(config: GroupConfig, plans: &[Plan], stamp: Box<dyn Stamp>) -> Self {
        let n = config.replicas;
        assert!(
            (1..=crate::rule::MAX_REPLICAS).contains(&n),
            "the config door checks the number of replicas"
        );
        let mut group = Group {
            stamp,
            phase: Phase::Recovering,
            attachments: vec![None; n],
            replicas: (0..n).map(|_| Replica::new()).collect(),
            rules: Vec::new(),
            plans: Vec::new(),
            log: Log::new(Position::default(), config.log_bytes),
            barrier: 0,
            open: VecDeque::new(),
            open_from: 1,
            buckets: vec![(0, 0); BUCKETS],
            everywhere: (0, 0),
            pending: Pending::new(config.queue_bytes, config.entry_bytes, config.entry_commands),
            unrouted: Vec::new(),
            held: Vec::new(),
            tail: (0, 0),
            config,
        };
        group.adopt_plans(plans);
        group
    }

    /// Begins again under a later epoch, before this one ever served. Waiting requests stay.
    pub fn restart(&mut self, epoch: u64, expects_history: bool) {
        assert!(
            matches!(self.phase, Phase::Recovering | Phase::Barrier) && epoch >= self.config.epoch,
            "an owner that served must not come back by itself"
        );
        self.config.epoch = epoch;
        self.config.expects_history = expects_history;
        self.phase = Phase::Recovering;
        self.attachments.iter_mut().for_each(|attachment| *attachment = None);
        self.replicas.iter_mut().for_each(|replica| *replica = Replica::new());
        self.rules.iter_mut().for_each(|rule| rule.committed = 0);
        self.log = Log::new(Position::default(), self.config.log_bytes);
        self.open.clear();
        (self.open_from, self.barrier, self.tail) = (1, 0, (0, 0));
    }

    /// Makes plans known and returns the number that bursts must use for each of them.
    ///
    /// Equal plans keep their number, so that tables can change without end.
    pub fn adopt_plans(&mut self, plans: &[Plan]) -> Vec<u16> {
        plans.iter().map(|plan| self.adopt_plan(plan)).collect()
    }

    fn adopt_plan(&mut self, plan: &Plan) -> u16 {
        if let Some(known) = self.plans.iter().position(|p| p.plan == *plan) {
            return known as u16;
        }
        let rule = self.rules.iter().position(|r| r.rule == plan.write).unwrap_or_else(|| {
            let committed = self.committed_by(&plan.write);
            self.rules.push(RuleState { rule: plan.write.clone(), committed });
            self.rules.len() - 1
        });
        assert!(
            rule < 64 && self.plans.len() < 65_000,
            "the policy host bounds how many plans a group ever sees"
        );
        self.plans.push(PlanState { plan: plan.clone(), rule: rule as u8, turn: 0 });
        (self.plans.len() - 1) as u16
    }

    /// One batch of events. Everything that follows from it is appended to `fx`.
    pub fn step(&mut self, now: Now, events: &mut Vec<Event>, fx: &mut Effects) {
        for event in events.drain(..) {
            self.handle(now, event, fx);
        }
        self.settle(now, fx);
    }

    fn handle(&mut self, now: Now, event: Event, fx: &mut Effects) {
        match event {
            Event::Submit(submission) => self.submit(submission, now, fx),
            Event::Attached { replica, attachment } => self.attached(replica, attachment, now, fx),
            Event::Applied { replica, replies } => self.applied(replica, replies, fx),
            Event::Refused { replica, error } => self.refused(replica, error, now, fx),
            Event::Read { replica, bytes } => self.read_done(replica, bytes, fx),
            Event::ReadLost { replica } => self.read_lost(replica, fx),
            Event::Disconnected { replica } => self.disconnected(replica, fx),
            Event::Fenced { by } => self.fenced(by, fx),
            Event::Tick => self.tick(now, fx),
        }
    }

    /// What follows from the events, once for all of them.
    fn settle(&mut self, now: Now, fx: &mut Effects) {
        if matches!(self.phase, Phase::Fenced { .. } | Phase::Recovering) {
            return;
        }
        self.advance(fx);
        self.number(now, fx);
        self.feed(now, fx);
        self.route_waiting_reads(now, fx);
        self.forget();
    }

    // Requests.

    fn submit(&mut self, submission: Submission, now: Now, fx: &mut Effects) {
        for burst in submission.bursts {
            if let Phase::Fenced { by } = self.phase {
                fx.answers.push(refused(&burst, Cause::Fenced { by }));
            } else if usize::from(burst.plan) >= self.plans.len() || !self.pending.has_room(&burst) {
                fx.answers.push(refused(&burst, Cause::Overload));
            } else if burst.access == Access::Write {
                self.pending.add_write(burst);
            } else if self.config.rules.session_order && self.pending.writes_wait(burst.session) {
                self.pending.add_read(burst);
            } else {
                self.route(burst, false, now, fx);
            }
        }
    }

    /// Numbers waiting stages while the replicas that could take an entry at once are a quorum.
    fn number(&mut self, now: Now, fx: &mut Effects) {
        while self.phase == Phase::Serving && self.meets_some_rule(self.idle()) {
            let Some(stage) = self.pending.pop() else { break };
            let Stage { writes, reads, .. } = stage;
            if !writes.is_empty() {
                self.append(now, &writes);
                self.feed(now, fx);
            }
            for read in reads {
                self.route(read, false, now, fx);
            }
        }
    }

    fn append(&mut self, now: Now, writes: &[Burst]) {
        let payload = self.assemble(now, writes);
        let position = self.log.head().next(self.config.epoch, &payload);
        let mut open = Open {
            waiting: Vec::with_capacity(writes.len()),
            rules: 0,
            replies: None,
            votes: Vec::new(),
            sent_to: 0,
            refused_by: 0,
        };
        let mut first = 0;
        for burst in writes {
            let rule = self.plans[usize::from(burst.plan)].rule;
            let Burst { session, ticket, commands, plan, arrived_us, .. } = *burst;
            open.waiting.push(Waiting { session, ticket, first, commands, plan, rule, arrived_us });
            open.rules |= 1 << rule;
            first += commands;
            for bucket in burst.buckets.iter() {
                self.buckets[bucket] = (position.seq, rule);
            }
            if burst.everything {
                self.everywhere = (position.seq, rule);
            }
        }
        let bytes: usize = payload.iter().map(Bytes::len).sum();
        let elided = bytes > self.config.tail_payload;
        let trim = self.trim(if elided { 0 } else { bytes });
        let dialect = writes.first().map_or(2, |burst| burst.dialect);
        self.push(Entry { position, payload, commands: first, dialect, trim, elided }, open);
    }

    fn push(&mut self, entry: Entry, open: Open) {
        if self.open.is_empty() {
            self.open_from = entry.position.seq;
        }
        self.log.push(Arc::new(entry));
        self.open.push_back(open);
    }

    fn assemble(&mut self, now: Now, writes: &[Burst]) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let small = writes.iter().map(|b| b.payload.len()).filter(|n| *n <= COPY_BYTES).sum();
        let mut copied = BytesMut::with_capacity(small);
        for burst in writes {
            if burst.stamp {
                self.stamp.stamp(now, &burst.payload, &mut copied);
            } else if burst.payload.len() <= COPY_BYTES {
                copied.extend_from_slice(&burst.payload);
            } else {
                if !copied.is_empty() {
                    parts.push(copied.split().freeze());
                }
                parts.push(burst.payload.clone());
            }
        }
        if !copied.is_empty() {
            parts.push(copied.freeze());
        }
        parts
    }

    /// How far the tail is to be cut with the next entry; 0 for not at all. Cuts are rare and
    /// decided once for all replicas, so that equal positions mean equal tails.
    fn trim(&mut self, bytes: usize) -> u32 {
        let limit = self.config.tail_entries;
        let (count, held) = self.tail;
        self.tail = (count + 1, held + bytes);
        if limit == 0 || (count < limit + TAIL_SLACK && self.tail.1 <= TAIL_BYTES) {
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

    // Replicas.

    fn feed(&mut self, now: Now, fx: &mut Effects) {
        let head = self.log.head().seq;
        for i in 0..self.replicas.len() {
            let replica = &self.replicas[i];
            if replica.fed() && replica.flight.is_none() && replica.sent < head && replica.retry_at_us == 0 {
                self.feed_one(i, now, fx);
            }
        }
    }

    fn feed_one(&mut self, i: usize, now: Now, fx: &mut Effects) {
        let from = self.replicas[i].sent + 1;
        let batch = self.batch(from);
        let Some(last) = batch.last() else {
            return self.stale(i, StaleReason::TooFarBehind, fx);
        };
        let to = last.position.seq;
        for seq in from..=to {
            if let Some(open) = self.open_mut(seq) {
                open.sent_to |= 1 << i;
                open.refused_by &= !(1 << i);
            }
        }
        let replica = &mut self.replicas[i];
        replica.sent = to;
        replica.flight = Some(Flight { to, since_us: now.us });
        fx.sends.push((i, Outgoing::Entries(batch)));
    }

    /// The entries from `from` on that may share a send. Empty when the log cannot feed them.
    fn batch(&self, from: u64) -> Vec<Arc<Entry>> {
        let mut batch: Vec<Arc<Entry>> = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = self.log.get(from + batch.len() as u64) {
            let fits = batch.is_empty()
                || (batch.len() < FEED_ENTRIES
                    && bytes + entry.len() <= FEED_BYTES
                    && batch[0].dialect == entry.dialect);
            let feedable = entry.is_empty() || !entry.payload.is_empty();
            if !fits || !feedable {
                break;
            }
            bytes += entry.len();
            batch.push(entry.clone());
        }
        batch
    }

    fn attached(&mut self, i: usize, attachment: Attachment, now: Now, fx: &mut Effects) {
        match self.phase {
            Phase::Fenced { .. } => {}
            // Its position alone would let it back in.
            _ if self.replicas[i].state == ReplicaState::Stale(StaleReason::Outvoted) => {}
            Phase::Recovering => {
                self.attachments[i] = Some(attachment);
                self.try_adopt(now, fx);
            }
            Phase::Barrier | Phase::Serving => self.join(i, &attachment, fx),
        }
    }

    fn try_adopt(&mut self, now: Now, fx: &mut Effects) {
        let rules: Vec<&Rule> = self.rules.iter().map(|r| &r.rule).collect();
        let best = match judge(&self.attachments, &rules, self.config.expects_history, self.config.rules) {
            Verdict::Wait => return,
            Verdict::Fresh => None,
            Verdict::Adopt(best) => Some(best),
        };
        if let Some(Attachment { position: Some(head), tail, .. }) =
            best.and_then(|i| self.attachments[i].as_ref())
        {
            self.log = Log::from_tail(*head, tail, self.config.log_bytes);
            let payloads = |item: &super::TailEntry| item.payload.as_ref().map_or(0, Bytes::len);
            self.tail = (tail.len() as u32, tail.iter().map(payloads).sum());
        }
        self.phase = Phase::Barrier;
        let fresh = best.is_none();
        for i in 0..self.replicas.len() {
            if let Some(attachment) = self.attachments[i].take() {
                match fresh {
                    true => self.feed_from(i, 0, fx),
                    false => self.join(i, &attachment, fx),
                }
            }
        }
        self.barrier_entry(fx);
        self.feed(now, fx);
    }

    /// The first entry of the epoch. Until it is committed, an older epoch's entries may still be superseded.
    fn barrier_entry(&mut self, fx: &mut Effects) {
        let position = self.log.head().next(self.config.epoch, &[]);
        let trim = self.trim(0);
        let entry = Entry { position, payload: vec![], commands: 0, dialect: 2, trim, elided: false };
        self.barrier = position.seq;
        let waiting = Vec::new();
        let open = Open { waiting, rules: 0, replies: None, votes: vec![], sent_to: 0, refused_by: 0 };
        for rule in &mut self.rules {
            rule.committed = rule.committed.max(self.log.base().seq);
        }
        self.push(entry, open);
        if !self.config.rules.barrier {
            self.serve(fx);
        }
    }

    fn serve(&mut self, fx: &mut Effects) {
        self.phase = Phase::Serving;
        fx.notes.push(Note::Serving);
    }

    /// Puts a replica on the log where its own position says it is.
    fn join(&mut self, i: usize, attachment: &Attachment, fx: &mut Effects) {
        let applied = match attachment.position {
            _ if !self.config.rules.position => self.replicas[i].applied.max(self.log.base().seq),
            None if self.log.base() == Position::default() => 0,
            None => return self.stale(i, StaleReason::Blank, fx),
            Some(position) if self.log.holds(position) => position.seq,
            Some(position) if position.rank() < self.log.base().rank() => {
                return self.stale(i, StaleReason::TooFarBehind, fx);
            }
            Some(_) => return self.stale(i, StaleReason::Diverged, fx),
        };
        self.feed_from(i, applied, fx);
    }

    fn feed_from(&mut self, i: usize, applied: u64, fx: &mut Effects) {
        self.replicas[i] =
            Replica { applied, sent: applied, state: self.replicas[i].state, ..Replica::new() };
        self.enter(i, ReplicaState::Lagging, fx);
    }

    fn stale(&mut self, i: usize, reason: StaleReason, fx: &mut Effects) {
        self.lose_reads(i, fx);
        self.replicas[i].flight = None;
        self.enter(i, ReplicaState::Stale(reason), fx);
        fx.notes.push(Note::Stale { replica: i, reason });
    }

    fn enter(&mut self, i: usize, now: ReplicaState, fx: &mut Effects) {
        let was = std::mem::replace(&mut self.replicas[i].state, now);
        if was != now {
            fx.notes.push(Note::State { replica: i, was, now });
        }
    }

    fn applied(&mut self, i: usize, replies: Vec<Replies>, fx: &mut Effects) {
        let replica = &mut self.replicas[i];
        let Some(flight) = replica.flight.take() else { return };
        let from = replica.applied + 1;
        replica.applied = flight.to;
        replica.suspect = false;
        replica.backoff_us = 0;
        for (seq, replies) in (from..=flight.to).zip(replies) {
            self.record(i, seq, replies, fx);
        }
    }

    fn record(&mut self, i: usize, seq: u64, replies: Replies, fx: &mut Effects) {
        let alone = self.replicas.len() == 1;
        let Some(open) = self.open_mut(seq) else { return };
        if !alone && !replies.bytes.is_empty() {
            let vote = xxh3_64(&replies.bytes);
            let differs = open.votes.iter().any(|(_, other)| *other != vote);
            open.votes.push((i as u8, vote));
            if differs {
                let votes = open.votes.clone();
                self.diverged(seq, &votes, fx);
            }
        }
        let Some(open) = self.open_mut(seq) else { return };
        if open.replies.is_none() && !open.waiting.is_empty() {
            open.replies = Some(replies);
        }
    }

    /// Replicas disagree about an entry: the one that two others contradict is ejected.
    fn diverged(&mut self, seq: u64, votes: &[(u8, u64)], fx: &mut Effects) {
        let support = |vote: u64| votes.iter().filter(|(_, other)| *other == vote).count();
        let best = votes.iter().map(|(_, vote)| support(*vote)).max().unwrap_or(0);
        let minority: Vec<usize> =
            votes.iter().filter(|(_, vote)| support(*vote) < best).map(|(i, _)| usize::from(*i)).collect();
        if minority.is_empty() {
            let replica = votes.last().map_or(0, |(i, _)| usize::from(*i));
            fx.notes.push(Note::Divergence { seq, replica, ejected: false });
        }
        for replica in minority {
            if self.replicas[replica].fed() {
                fx.notes.push(Note::Divergence { seq, replica, ejected: true });
                self.stale(replica, StaleReason::Outvoted, fx);
            }
        }
    }

    /// An environment error: nothing of the send was applied, and the replica is tried again later.
    fn refused(&mut self, i: usize, error: Bytes, now: Now, fx: &mut Effects) {
        let replica = &mut self.replicas[i];
        let Some(flight) = replica.flight.take() else { return };
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
    fn retract(&mut self, error: &Bytes, fx: &mut Effects) {
        let head = self.log.head().seq;
        let Some(open) = self.open.back() else { return };
        let refused_by_all = open.sent_to != 0 && open.sent_to == open.refused_by;
        if head == self.barrier || !refused_by_all || self.replicas.iter().any(|r| r.applied >= head) {
            return;
        }
        let Some(open) = self.open.pop_back() else { return };
        self.log.retract();
        for w in open.waiting {
            let reply = Reply::Refused(Cause::Backend(error.clone()));
            fx.answers.push(Answer { session: w.session, ticket: w.ticket, commands: w.commands, reply });
        }
        for replica in &mut self.replicas {
            replica.retry_at_us = 0;
            replica.sent = replica.sent.min(head - 1);
        }
        for held in &mut self.held {
            held.hold.seq = held.hold.seq.min(head - 1);
        }
        fx.notes.push(Note::Retracted { seq: head });
    }

    fn disconnected(&mut self, i: usize, fx: &mut Effects) {
        if self.phase == Phase::Recovering {
            self.attachments[i] = None;
        }
        self.lose_reads(i, fx);
        let replica = &mut self.replicas[i];
        replica.flight = None;
        replica.sent = replica.applied;
        replica.retry_at_us = 0;
        if replica.state != ReplicaState::Stale(StaleReason::Outvoted) {
            self.enter(i, ReplicaState::Down, fx);
        }
    }

    // Commit.

    /// Moves the commit indices, releases replies, promotes replicas that caught up.
    fn advance(&mut self, fx: &mut Effects) {
        let mut moved = false;
        for rule in 0..self.rules.len() {
            let committed = self.committed_by(&self.rules[rule].rule);
            if committed > self.rules[rule].committed {
                self.rules[rule].committed = committed;
                moved = true;
            }
        }
        if moved {
            if self.phase == Phase::Barrier && self.commit() >= self.barrier {
                self.serve(fx);
            }
            self.release_reads(fx);
        }
        if moved || !self.config.rules.quorum {
            self.release_writes(fx);
        }
        let commit = self.commit();
        for i in 0..self.replicas.len() {
            let replica = &self.replicas[i];
            if replica.state == ReplicaState::Lagging && replica.applied >= commit && replica.retry_at_us == 0
            {
                self.enter(i, ReplicaState::InSync, fx);
            }
        }
    }

    /// The largest number such that the replicas that applied it meet the rule.
    fn committed_by(&self, rule: &Rule) -> u64 {
        let reached = |seq: u64| rule.met(mask(&self.replicas, |r| r.fed() && r.applied >= seq));
        self.replicas
            .iter()
            .filter(|r| r.fed())
            .map(|r| r.applied)
            .filter(|seq| reached(*seq))
            .max()
            .unwrap_or(0)
    }

    /// The last entry committed by the weakest rule.
    fn commit(&self) -> u64 {
        self.rules.iter().map(|rule| rule.committed).max().unwrap_or(0)
    }

    fn release_writes(&mut self, fx: &mut Effects) {
        let commit = self.commit();
        let applied = self.replicas.iter().map(|r| r.applied).max().unwrap_or(0);
        let limit = if self.config.rules.quorum { commit } else { applied };
        for (offset, open) in self.open.iter_mut().enumerate() {
            let seq = self.open_from + offset as u64;
            if seq > limit {
                break;
            }
            let Some(replies) = &open.replies else { continue };
            let rules = &self.rules;
            let quorum = self.config.rules.quorum;
            for w in open.waiting.extract_if(.., |w| !quorum || rules[usize::from(w.rule)].committed >= seq) {
                let reply = match replies.slice(w.first as usize, w.commands as usize) {
                    Some(bytes) => Reply::Done(bytes),
                    // The driver checks the count of replies; a short reply must never be guessed at.
                    None => Reply::Unknown(Cause::Recovering),
                };
                fx.answers.push(Answer { session: w.session, ticket: w.ticket, commands: w.commands, reply });
            }
            if open.waiting.is_empty() {
                open.replies = None;
            }
        }
    }

    fn satisfied(&self, hold: Hold) -> bool {
        let committed = |rule: usize| self.rules[rule].committed >= hold.seq;
        !self.config.rules.hold || crate::rule::indices(hold.rules).all(committed)
    }

    fn release_reads(&mut self, fx: &mut Effects) {
        if self.held.is_empty() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        for read in held.extract_if(.., |read| self.satisfied(read.hold)) {
            fx.answers.push(read.answer);
        }
        self.held = held;
    }

    /// Drops the records of entries that everybody has answered.
    fn forget(&mut self) {
        let everybody = self.replicas.iter().filter(|r| r.fed()).map(|r| r.applied).min().unwrap_or(0);
        while let Some(open) = self.open.front() {
            let compared = self.open_from <= everybody || self.open.len() > COMPARED;
            if !open.waiting.is_empty() || !compared || self.open_from > self.commit() {
                break;
            }
            self.open.pop_front();
            self.open_from += 1;
        }
    }

    // Reads.

    fn route(&mut self, burst: Burst, moved: bool, now: Now, fx: &mut Effects) {
        let Some(i) = self.pick(burst.plan) else {
            self.unrouted.push(burst);
            return;
        };
        let hold = self.hold(&burst);
        let after = self.pending.latest_write(burst.session);
        let (payload, commands, dialect) = (burst.payload.clone(), burst.commands, burst.dialect);
        fx.sends.push((i, Outgoing::Read { payload, commands, dialect }));
        let flight = ReadFlight { burst, since_us: now.us, hold, after, abandoned: false, moved };
        self.replicas[i].reads.push_back(flight);
    }

    /// The replica for a read: the first of the plan's order that has everything numbered before it.
    fn pick(&mut self, plan: u16) -> Option<usize> {
        // With fewer connections than a take-over needs, a newer owner may already be writing.
        if self.phase != Phase::Serving || !self.covered(mask(&self.replicas, Replica::fed)) {
            return None;
        }
        let head = self.log.head().seq;
        let state = &mut self.plans[usize::from(plan)];
        let order = &state.plan.read_order;
        let start = if state.plan.spread { state.turn } else { 0 };
        state.turn = state.turn.wrapping_add(1) % order.len().max(1);
        let turn = (0..order.len()).map(|k| usize::from(order[(start + k) % order.len()]));
        let readable = |i: &usize| self.replicas[*i].readable(head);
        // Beyond the plan's own order any replica that is in sync is better than none.
        turn.chain(0..self.replicas.len()).find(readable)
    }

    fn hold(&self, burst: &Burst) -> Hold {
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

    fn read_done(&mut self, i: usize, bytes: Bytes, fx: &mut Effects) {
        let replica = &mut self.replicas[i];
        let Some(flight) = replica.reads.pop_front() else { return };
        replica.suspect = false;
        if flight.abandoned {
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

    fn read_lost(&mut self, i: usize, fx: &mut Effects) {
        if let Some(flight) = self.replicas[i].reads.pop_front() {
            self.reroute(flight, fx);
        }
    }

    fn lose_reads(&mut self, i: usize, fx: &mut Effects) {
        for flight in std::mem::take(&mut self.replicas[i].reads) {
            self.reroute(flight, fx);
        }
    }

    /// Tries a read elsewhere, unless its session has written since: then its place is taken.
    fn reroute(&mut self, flight: ReadFlight, fx: &mut Effects) {
        if flight.abandoned {
            return;
        }
        if self.pending.latest_write(flight.burst.session) == flight.after {
            self.unrouted.push(flight.burst);
        } else {
            fx.answers.push(refused(&flight.burst, Cause::ReadLost));
        }
    }

    fn route_waiting_reads(&mut self, now: Now, fx: &mut Effects) {
        for burst in std::mem::take(&mut self.unrouted) {
            self.route(burst, true, now, fx);
        }
    }

    // Time.

    fn tick(&mut self, now: Now, fx: &mut Effects) {
        self.expire_requests(now, fx);
        for i in 0..self.replicas.len() {
            let replica = &mut self.replicas[i];
            if replica.retry_at_us != 0 && replica.retry_at_us <= now.us {
                replica.retry_at_us = 0;
            }
            self.watch_flight(i, now, fx);
            self.watch_reads(i, now, fx);
        }
    }

    fn watch_flight(&mut self, i: usize, now: Now, fx: &mut Effects) {
        let stall = self.config.stall_us;
        let replica = &mut self.replicas[i];
        let oldest_read = replica.reads.front().map(|read| read.since_us);
        let oldest = replica.flight.map(|f| f.since_us).into_iter().chain(oldest_read).min();
        let Some(oldest) = oldest else { return };
        let age = now.us.saturating_sub(oldest);
        if age > stall / 10 {
            replica.suspect = true;
        }
        if age > stall {
            if let Some(flight) = &mut replica.flight {
                flight.since_us = now.us;
            }
            replica.reads.iter_mut().for_each(|read| read.since_us = now.us);
            fx.drops.push((i, "it answers nothing"));
            if replica.state == ReplicaState::InSync {
                self.enter(i, ReplicaState::Lagging, fx);
            }
        }
    }

    /// Moves reads that take longer than one try to another replica, each once.
    fn watch_reads(&mut self, i: usize, now: Now, fx: &mut Effects) {
        let mut moving = Vec::new();
        for at in 0..self.replicas[i].reads.len() {
            let flight = &self.replicas[i].reads[at];
            let plan = &self.plans[usize::from(flight.burst.plan)].plan;
            if now.us.saturating_sub(flight.since_us) < u64::from(plan.per_try_ms) * 1000 {
                break;
            }
            let in_place = self.pending.latest_write(flight.burst.session) == flight.after;
            if flight.abandoned || flight.moved || flight.burst.everything || !in_place {
                continue;
            }
            let others =
                self.replicas.iter().enumerate().any(|(k, r)| k != i && r.readable(self.log.head().seq));
            if others {
                let flight = &mut self.replicas[i].reads[at];
                flight.abandoned = true;
                moving.push(flight.burst.clone());
            }
        }
        if !moving.is_empty() {
            self.replicas[i].suspect = true;
            moving.into_iter().for_each(|burst| self.route(burst, true, now, fx));
        }
    }

    fn expire_requests(&mut self, now: Now, fx: &mut Effects) {
        let reachable = mask(&self.replicas, |r| r.fed() && !r.suspect);
        let plans = &self.plans;
        let late = |plan: u16, arrived_us: u64| {
            now.us.saturating_sub(arrived_us) > u64::from(plans[usize::from(plan)].plan.deadline_ms) * 1000
        };
        let recovering = self.phase != Phase::Serving;
        let cause = |plan: u16, arrived_us: u64| match recovering {
            true => Cause::Recovering,
            false => Cause::Deadline { reachable, plan, waited_ms: (now.us - arrived_us) / 1000 },
        };
        self.pending.expire(|b| late(b.plan, b.arrived_us), |b| cause(b.plan, b.arrived_us), &mut fx.answers);
        for burst in self.unrouted.extract_if(.., |b| late(b.plan, b.arrived_us)) {
            fx.answers.push(refused(&burst, cause(burst.plan, burst.arrived_us)));
        }
        for read in self.held.extract_if(.., |read| late(read.plan, read.arrived_us)) {
            let reply = Reply::Refused(cause(read.plan, read.arrived_us));
            fx.answers.push(Answer { reply, ..read.answer });
        }
        for open in &mut self.open {
            for w in open.waiting.extract_if(.., |w| late(w.plan, w.arrived_us)) {
                let reply = Reply::Unknown(cause(w.plan, w.arrived_us));
                fx.answers.push(Answer { session: w.session, ticket: w.ticket, commands: w.commands, reply });
            }
        }
        for replica in &mut self.replicas {
            for flight in &mut replica.reads {
                if !flight.abandoned && late(flight.burst.plan, flight.burst.arrived_us) {
                    flight.abandoned = true;
                    fx.answers
                        .push(refused(&flight.burst, cause(flight.burst.plan, flight.burst.arrived_us)));
                }
            }
        }
    }

    fn fenced(&mut self, by: u64, fx: &mut Effects) {
        if matches!(self.phase, Phase::Fenced { .. }) {
            return;
        }
        self.phase = Phase::Fenced { by };
        let cause = Cause::Fenced { by };
        self.pending.refuse_all(&cause, &mut fx.answers);
        fx.answers.extend(self.unrouted.drain(..).map(|burst| refused(&burst, cause.clone())));
        fx.answers
            .extend(self.held.drain(..).map(|r| Answer { reply: Reply::Refused(cause.clone()), ..r.answer }));
        for i in 0..self.replicas.len() {
            for flight in std::mem::take(&mut self.replicas[i].reads) {
                if !flight.abandoned {
                    fx.answers.push(refused(&flight.burst, cause.clone()));
                }
            }
            self.replicas[i].flight = None;
            self.enter(i, ReplicaState::Down, fx);
        }
        for w in self.open.drain(..).flat_map(|open| open.waiting) {
            let reply = Reply::Unknown(cause.clone());
            fx.answers.push(Answer { session: w.session, ticket: w.ticket, commands: w.commands, reply });
        }
        fx.notes.push(Note::Fenced { by });
    }

    // Looks.

    fn open_mut(&mut self, seq: u64) -> Option<&mut Open> {
        let index = seq.checked_sub(self.open_from)?;
        self.open.get_mut(usize::try_from(index).ok()?)
    }

    fn idle(&self) -> Mask {
        let head = self.log.head().seq;
        mask(&self.replicas, |r| r.idle(head))
    }

    fn meets_some_rule(&self, set: Mask) -> bool {
        self.rules.iter().any(|r| r.rule.met(set))
    }

    fn covered(&self, set: Mask) -> bool {
        let rules = &self.rules;
        if let [only] = rules.as_slice() {
            return covers(&[&only.rule], self.replicas.len(), set);
        }
        let rules: Vec<&Rule> = rules.iter().map(|r| &r.rule).collect();
        covers(&rules, self.replicas.len(), set)
    }

    /// The position of the log's head.
    pub fn head(&self) -> Position {
        self.log.head()
    }

    /// Where the group stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Epoch of this owner.
    pub fn epoch(&self) -> u64 {
        self.config.epoch
    }

    /// A plan by the number [`Self::adopt_plans`] gave it.
    pub fn plan(&self, number: u16) -> Option<&Plan> {
        self.plans.get(usize::from(number)).map(|state| &state.plan)
    }

    /// Is anything unanswered?
    pub fn busy(&self) -> bool {
        self.pending.bytes() > 0
            || !self.unrouted.is_empty()
            || !self.held.is_empty()
            || self.open.iter().any(|open| !open.waiting.is_empty())
            || self.replicas.iter().any(|r| r.reads.iter().any(|read| !read.abandoned))
    }

    /// A look for status, metrics and readiness.
    pub fn health(&self) -> Health {
        let head = self.log.head().seq;
        let view = |r: &Replica| ReplicaView {
            state: r.state,
            applied: r.applied,
            lag: head.saturating_sub(r.applied),
            suspect: r.suspect,
        };
        Health {
            phase: self.phase,
            epoch: self.config.epoch,
            head,
            committed: self.commit(),
            writable: self.phase == Phase::Serving
                && self.meets_some_rule(mask(&self.replicas, |r| r.fed() && !r.suspect)),
            queued_bytes: self.pending.bytes(),
            log_bytes: self.log.bytes(),
            log_from: self.log.base().seq + 1,
            replicas: self.replicas.iter().map(view).collect(),
        }
    }
}
