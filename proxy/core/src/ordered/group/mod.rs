//! The sequencer of one group: numbering, sending, commit, replies, reads.
//!
//! At most one entry is in flight to each replica. A Redis transaction that is refused must
//! not be followed by one that is applied, and only waiting for the answer makes sure of that;
//! see docs/decisions/0002-one-entry-in-flight.md. Natural batching pays for it.

mod block;
mod commit;
mod expiry;
mod in_sync;
mod mend;
mod reads;
mod record;
mod replicas;
mod requests;
mod survey;
mod time;
mod trial;
mod wait;
mod watch;

use super::by_value::{ByValue, Keys};
use super::copies::Copies;
use super::effects::{Answer, Effects};
use super::entry::{Entry, Position, Replies};
use super::log::Log;
use super::pending::{Burst, Pending};
use super::recovery::Attachment;
use super::replica::{Hold, Replica, ReplicaView, mask};
use super::rules::SafetyRules;
use super::watch::Transaction;
use super::{Event, Now};
use crate::plan::Plan;
use crate::quorum::covers;
use crate::rule::{Mask, Rule};
use bytes::{Bytes, BytesMut};
use expiry::Expiry;
pub use in_sync::Ack;
use in_sync::InSync;
use mend::Mend;
pub use record::{Journaling, Recorded};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Buckets of keys; two keys that share one only make a read wait longer than it must.
pub const BUCKETS: usize = 1 << 16;
/// Payloads up to this many bytes are copied into their entry; larger ones are shared.
const COPY_BYTES: usize = 32 << 10;
/// The most entries and bytes merged into one send to a replica that is behind. Clients of the same thread wait while
/// one is written and its answer read, so it is no larger than what makes the round trip worth while.
const FEED_ENTRIES: usize = 64;
const FEED_BYTES: usize = 64 << 10;
/// A replica that catches up while clients write rests as long as it worked on a send, but no longer than clients
/// take to write this part of it, …
const CATCH_UP_GAIN: (u64, u64) = (3, 5);
/// … nor longer than this.
const LONGEST_REST_US: u64 = 100_000;
/// So much is read from the journal at once, and sent in parts like what comes from memory.
const FETCH_BYTES: usize = 1 << 20;
/// Answered entries kept for comparing late replies.
const COMPARED: usize = 1024;
/// Bytes of payload a backend's tail may hold before it is cut to half of that.
const TAIL_BYTES: usize = 16 << 20;
/// A tail grows by so many entries, or by this part of its length where that is more, before it is cut again.
const TAIL_SLACK: u32 = 16;
const TAIL_SLACK_PART: u32 = 8;
/// The slowest rate at which a server is still believed to be working on a large entry, in bytes a second.
const SLOWEST: usize = 16 << 20;
/// Buckets whose large writes are remembered; beyond that the patience is the usual one.
const LARGE_BUCKETS: usize = 4096;
/// A read may be silent for so many times longer than a write before its replica is given up.
const READ_PATIENCE: u64 = 5;
/// The longest that a tail grows for the sake of a replica that is behind.
const TAIL_LONGEST: u32 = 16_384;
const BACKOFF_US: u64 = 20_000;
const BACKOFF_MAX_US: u64 = 2_000_000;

/// Writes the log-ordered part of a command, for example the id of `XADD key *`.
pub trait Stamp: Send {
    /// Appends the commands to `out`, with a stamp in each that wants one. Stamps must grow from call to call.
    fn stamp(&mut self, now: Now, commands: &Bytes, out: &mut BytesMut);
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
    /// How long a recovering group waits for a replica that may hold a longer log, in microseconds.
    pub grace_us: u64,
    /// When a write may be acknowledged.
    pub ack: Ack,
    /// What is recorded in a journal.
    pub journal: Journaling,
    /// How long a journal that is the log keeps what every replica has applied, in microseconds: longer than a
    /// replica may take to have it on its disk.
    pub journal_keep_us: u64,
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
            grace_us: 2_000_000,
            ack: Ack::Quorum,
            journal: Journaling::None,
            journal_keep_us: 10_000_000,
            rules: SafetyRules::ALL,
        }
    }
}

/// What is known of a group's past when it is taken over.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// It had a log: all backends blank then means that data is gone.
    pub history: bool,
    /// The newest entries of the journal, where it is the log; none otherwise.
    pub restored: Vec<Arc<Entry>>,
    /// The recorded in-sync set, if it is known to be the last one.
    pub in_sync: Option<Mask>,
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
    /// What a recovering group waits for; empty otherwise.
    pub waits_for: &'static str,
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
    /// Number of the oldest entry in memory.
    pub log_from: u64,
    /// Keys that may have a deadline.
    pub timed_keys: usize,
    /// Every key with a deadline is known.
    pub deadlines_known: bool,
    /// What the journal holds.
    pub journal: Recorded,
    /// Members of the recorded in-sync set, where writes are acknowledged by it.
    pub in_sync: Option<Mask>,
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
    /// Its part of the entry's payload. Others may have left before it.
    place: Range<usize>,
    grows: bool,
    transaction: Option<Arc<Transaction>>,
}

/// Few and nearly always one.
type Votes = Vec<(u64, Mask)>;

/// An entry that is not fully answered or compared.
struct Open {
    waiting: Vec<Waiting>,
    rules: u64,
    replies: Option<Replies>,
    /// Hashes of the replicas' replies, and who gave each.
    votes: Votes,
    sent_to: Mask,
    refused_by: Mask,
    /// Commands whose replies are not compared, by their place in the entry.
    unlike: Vec<Range<u32>>,
    /// It carries what this replica did in a trial, in these keys; `replies` are the trial's.
    led: Option<(usize, Keys)>,
}

/// A read that no replica could take yet.
struct Unrouted {
    burst: Burst,
    /// The stage of the session's latest write before it.
    after: u64,
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
    by_value: Box<dyn ByValue>,
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
    /// Bytes of the large writes to a bucket: reading them back takes a server long, too.
    large: BTreeMap<usize, usize>,
    /// Last entry that may have touched any key.
    everywhere: (u64, u8),
    /// How often numbers of entries were given back.
    retractions: u64,
    blocked: block::Blocked,
    awaiting: Vec<wait::Awaiting>,
    pending: Pending,
    unrouted: Vec<Unrouted>,
    held: Vec<HeldRead>,
    /// By replica: what is being done to make it hold what the others hold.
    mends: Vec<Option<Mend>>,
    copies: Copies,
    survey: Option<survey::Survey>,
    trial: Option<trial::Trial>,
    /// Trials so far.
    trials: u64,
    expiry: Expiry,
    journal: record::Journal,
    in_sync: InSync,
    /// While recovering: the newest entries that the journal holds.
    restored: Vec<Arc<Entry>>,
    /// While recovering: the journal knows acknowledged entries that no backend here leads to.
    forgotten: bool,
    tail: (u32, usize),
    /// The log began over backends without any data, so that an empty one can be fed from its start.
    began_empty: bool,
    /// While recovering: replicas that could not be attached, and since when the others would do.
    unreachable: Mask,
    enough_since_us: u64,
}

impl Group {
    /// A group that knows nothing of its replicas yet.
    pub fn new(
        config: GroupConfig,
        plans: &[Plan],
        stamp: Box<dyn Stamp>,
        by_value: Box<dyn ByValue>,
    ) -> Self {
        let n = config.replicas;
        assert!(
            (1..=crate::rule::MAX_REPLICAS).contains(&n),
            "the config door checks the number of replicas"
        );
        let mut group = Group {
            stamp,
            by_value,
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
            large: BTreeMap::new(),
            everywhere: (0, 0),
            retractions: 0,
            blocked: block::Blocked::default(),
            awaiting: Vec::new(),
            pending: Pending::new(config.queue_bytes, config.entry_bytes, config.entry_commands),
            unrouted: Vec::new(),
            held: Vec::new(),
            mends: (0..n).map(|_| None).collect(),
            copies: Copies::new(n, config.log_bytes),
            survey: None,
            trial: None,
            trials: 0,
            expiry: Expiry::default(),
            journal: record::Journal::default(),
            in_sync: InSync::default(),
            restored: Vec::new(),
            forgotten: false,
            tail: (0, 0),
            began_empty: false,
            unreachable: 0,
            enough_since_us: 0,
            config,
        };
        group.adopt_plans(plans);
        group
    }

    /// Begins again under a later epoch, before this one ever served. Waiting requests stay.
    pub fn restart(&mut self, epoch: u64, past: Past) {
        assert!(
            matches!(self.phase, Phase::Recovering | Phase::Barrier) && epoch >= self.config.epoch,
            "an owner that served must not come back by itself"
        );
        self.config.epoch = epoch;
        self.config.expects_history = past.history;
        self.phase = Phase::Recovering;
        self.retractions += 1;
        self.attachments.iter_mut().for_each(|attachment| *attachment = None);
        self.replicas.iter_mut().for_each(|replica| *replica = Replica::new());
        self.mends.iter_mut().for_each(|mend| *mend = None);
        self.copies.end_all();
        self.survey = None;
        self.trial = None;
        self.begin_expiry();
        self.rules.iter_mut().for_each(|rule| rule.committed = 0);
        self.log = Log::new(Position::default(), self.config.log_bytes);
        self.open.clear();
        (self.open_from, self.barrier, self.tail) = (1, 0, (0, 0));
        (self.began_empty, self.forgotten, self.restored) = (false, false, past.restored);
        (self.unreachable, self.enough_since_us) = (0, 0);
        self.journal = record::Journal::at(self.journal.view);
        self.begin_in_sync(past.in_sync);
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
        let write = match self.config.ack {
            Ack::Quorum => plan.write.clone(),
            Ack::InSync { .. } => self.in_sync_rule(),
        };
        let rule = self.rules.iter().position(|r| r.rule == write).unwrap_or_else(|| {
            let committed = self.committed_by(&write);
            self.rules.push(RuleState { rule: write, committed });
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
        self.sweep(now);
        for event in events.drain(..) {
            self.handle(now, event, fx);
        }
        self.settle(now, fx);
        self.take_own_answers(now, fx);
    }

    fn handle(&mut self, now: Now, event: Event, fx: &mut Effects) {
        match event {
            Event::Submit(submission) => self.submit(submission, now, fx),
            Event::Attached { replica, attachment } => self.attached(replica, attachment, now, fx),
            Event::Applied { replica, replies } => self.applied(replica, replies, now, fx),
            Event::Refused { replica, error } => self.refused(replica, error, now, fx),
            Event::Read { replica, bytes } => self.read_done(replica, bytes, now, fx),
            Event::ReadLost { replica } => self.read_lost(replica, now, fx),
            Event::Progress { replica, partial } => self.progressed(replica, partial, now),
            Event::Journal(view) => self.recorded(view, fx),
            Event::InSync(members) => self.in_sync_recorded(members),
            Event::Unrecorded { from } => self.unrecorded(from, fx),
            Event::Survey { id, request, bytes } => self.survey(id, request, bytes, now, fx),
            Event::Synced { replica, through } => self.synced(replica, through, now),
            Event::Mend { replica, keys, like } => self.mend_keys_of(replica, keys, like, fx),
            Event::Owed { replica, entries } => self.owed(replica, entries, now, fx),
            Event::Timed { keys, all } => self.timed(&keys, all),
            Event::Unfit { replica } => self.unfit(replica, fx),
            Event::Unreachable { replica } => self.unreachable(replica, now, fx),
            Event::Disconnected { replica } => self.disconnected(replica, now, fx),
            Event::Fenced { by } => self.fenced(by, fx),
            Event::Tick => self.tick(now, fx),
        }
    }

    /// What follows from the events, once for all of them.
    fn settle(&mut self, now: Now, fx: &mut Effects) {
        if matches!(self.phase, Phase::Fenced { .. } | Phase::Recovering) {
            return self.attend_waiters(now, fx);
        }
        self.adapt_in_sync(fx);
        self.advance(fx);
        self.attend_waiters(now, fx);
        self.mend(now, fx);
        self.go_on_surveying(now, fx);
        self.adopt_marked(now, fx);
        self.go_on_trying(now, fx);
        self.number(now, fx);
        self.feed(now, fx);
        self.route_waiting_reads(now, fx);
        // What ended a trial may be the answer to somebody who waits.
        self.attend_waiters(now, fx);
        self.end_awaiting(now, fx);
        self.forget();
    }

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

    /// The copies that are being made of all data.
    pub fn copies(&mut self) -> &mut Copies {
        &mut self.copies
    }

    /// Is this position on the log, and everything after it still here? Otherwise a replica that stands there
    /// cannot simply be fed, and its tail is wanted.
    pub fn holds(&self, position: Position) -> bool {
        self.log.holds(position)
    }

    /// Where the group stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Epoch of this owner.
    pub fn epoch(&self) -> u64 {
        self.config.epoch
    }

    /// Number of the last entry that is committed by some write rule.
    pub fn committed(&self) -> u64 {
        self.commit()
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
            || self.replicas.iter().any(Replica::owes_read)
    }

    fn waits_for(&self) -> &'static str {
        match self.phase {
            Phase::Recovering if self.forgotten => {
                "the journal holds acknowledged writes that continue none of the backends here: bring back one that is nearer, or remove the journal to go on without them"
            }
            Phase::Recovering if self.attachments.iter().all(Option::is_some) => {
                "every backend is attached, but those with a position cannot know every acknowledged write: data was lost"
            }
            Phase::Recovering => "more backends, until those that remember the log touch every write quorum",
            Phase::Barrier => "its first entry to be committed",
            Phase::Serving | Phase::Fenced { .. } => "",
        }
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
            waits_for: self.waits_for(),
            epoch: self.config.epoch,
            head,
            committed: self.commit(),
            writable: self.phase == Phase::Serving
                && self.may_record()
                && self.meets_some_rule(mask(&self.replicas, |r| r.fed() && !r.suspect)),
            queued_bytes: self.pending.bytes(),
            log_bytes: self.log.bytes(),
            log_from: self.log.base().seq + 1,
            timed_keys: self.expiry.len(),
            deadlines_known: self.expiry.is_complete(),
            journal: self.journal.view,
            in_sync: self.in_sync.recorded,
            replicas: self.replicas.iter().map(view).collect(),
        }
    }
}
