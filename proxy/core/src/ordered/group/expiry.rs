//! Expiry: keys end in the order of the log, at the owner's time, and on all replicas alike.
//!
//! The backends keep deadlines as data and never act on them. When a deadline may have passed, the owner
//! orders a *check*: a command that removes the key if it is so by what the backend itself holds. Checks of
//! what is due come before everything that is submitted later, so that nobody meets a key after its end.

use super::super::by_value::Keys;
use super::super::deadlines::{Deadlines, Ends, Timed, UnixMs};
use super::super::effects::{Answer, Reply};
use super::super::pending::{Access, Buckets, Burst};
use super::super::watch::Role;
use super::super::{Effects, Now};
use super::{Group, Phase};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// The session number of the group's own requests.
const OWN: u32 = u32::MAX;
/// Keys of one check: what a backend does in a fraction of a millisecond.
const CHECK_KEYS: usize = 256;
/// Checks of what is due that may wait to be numbered; beyond that, requests look out for themselves.
const CHECKS_WAITING: usize = 2;
/// How long after a check failed no other is made but for requests.
const PAUSE_US: u64 = 100_000;

/// Keys of a bucket that are being checked.
#[derive(Debug, Default)]
struct Mark {
    /// The stage of the last check.
    stage: u64,
    /// How many may end at any time before the answer.
    asked: u32,
}

#[derive(Debug, Default)]
pub(super) struct Expiry {
    deadlines: Deadlines,
    /// The deadlines from before this ownership are known, too.
    complete: bool,
    /// By ticket: the keys of a check, and which of them may end at any time before its answer.
    checks: BTreeMap<u64, Vec<(Bytes, bool)>>,
    ticket: u64,
    marks: BTreeMap<usize, Mark>,
    /// Stages of the checks of what is due.
    sweeps: VecDeque<u64>,
    /// More is due than is being checked.
    behind: bool,
    not_before_us: u64,
}

impl Expiry {
    /// How many keys may have a deadline, as far as is known.
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }
}

/// A key lives up to and including the millisecond of its deadline, as it does in Redis.
fn past(now: Now) -> UnixMs {
    now.unix_ms.saturating_sub(1)
}

impl Group {
    /// A new ownership knows no deadlines. Requests that wait already stay behind their checks, which do the same
    /// under any owner: it depends on the data alone.
    pub(super) fn begin_expiry(&mut self) {
        let Expiry { ticket, mut checks, .. } = std::mem::take(&mut self.expiry);
        checks.values_mut().flatten().for_each(|(_, uncertain)| *uncertain = false);
        self.expiry = Expiry { ticket, checks, ..Expiry::default() };
    }

    /// Somebody looked at the backends' deadlines.
    pub(super) fn timed(&mut self, keys: &[Timed], all: bool) {
        self.take_note(keys);
        self.expiry.complete |= all;
    }

    /// The write that is being numbered gives keys a deadline.
    pub(super) fn take_note(&mut self, timed: &[Timed]) {
        if self.config.rules.expiry {
            let Expiry { deadlines, complete, marks, .. } = &mut self.expiry;
            for timed in timed {
                // A key that is being checked is not noted any more, though it may still have a deadline.
                let checked = match &timed.ends {
                    Ends::Like(other) => marks.contains_key(&usize::from(self.by_value.bucket(other))),
                    Ends::At(_) | Ends::Unknown => false,
                };
                deadlines.note(timed, *complete && !checked);
            }
        }
    }

    /// Orders checks of what is due.
    pub(super) fn sweep(&mut self, now: Now) {
        let (expiry, pending) = (&mut self.expiry, &self.pending);
        expiry.marks.retain(|_, mark| mark.asked > 0 || pending.waits(mark.stage));
        expiry.sweeps.retain(|stage| pending.waits(*stage));
        let ready = self.phase == Phase::Serving && self.may_record();
        while ready && self.expiry.sweeps.len() < CHECKS_WAITING && self.expiry.not_before_us <= now.us {
            let mut keys = Vec::new();
            while keys.len() < CHECK_KEYS
                && let Some(key) = self.expiry.deadlines.next_due(past(now))
            {
                keys.push(Bytes::copy_from_slice(key));
            }
            if keys.is_empty() {
                break;
            }
            let stage = self.check(keys, 2, now);
            self.expiry.sweeps.push_back(stage);
        }
        self.expiry.behind = self.expiry.deadlines.is_behind(past(now));
    }

    /// Sees to it that no key of this burst outlives its deadline: the stage behind which the burst belongs,
    /// 0 for any.
    pub(super) fn expire_before(&mut self, burst: &Burst, now: Now) -> u64 {
        let expiry = &self.expiry;
        let mut by_name = !expiry.complete || expiry.behind;
        if !self.config.rules.expiry || (!by_name && expiry.marks.is_empty()) {
            return 0;
        }
        let mut least = 0;
        for mark in burst.buckets.iter().filter_map(|bucket| expiry.marks.get(&bucket)) {
            least = mark.stage.max(least);
            by_name |= mark.asked > 0;
        }
        let mut keys = Keys::new();
        if by_name && self.by_value.named(&burst.payload, &mut keys) {
            keys.retain(|key| !expiry.complete || expiry.deadlines.may_have_ended(key, past(now)));
        }
        let keys: Vec<Bytes> = keys.into_iter().collect();
        for some in keys.chunks(CHECK_KEYS) {
            least = least.max(self.check(some.to_vec(), burst.dialect, now));
        }
        if self.pending.waits(least) { least } else { 0 }
    }

    /// Orders a check of these keys; the stage that it waits in.
    fn check(&mut self, keys: Vec<Bytes>, dialect: u8, now: Now) -> u64 {
        let payload = self.by_value.expire(&keys, past(now));
        let buckets: Vec<u16> = keys.iter().map(|key| self.by_value.bucket(key)).collect();
        self.expiry.ticket += 1;
        let burst = Burst {
            session: OWN,
            ticket: self.expiry.ticket,
            commands: 1,
            access: Access::Write,
            plan: 0,
            dialect,
            stamp: false,
            everything: false,
            grows: false,
            leads: false,
            payload,
            buckets: Buckets::new(buckets.as_slice().into(), 0..buckets.len() as u32),
            timed: Vec::new(),
            arrived_us: now.us,
            role: Role::Plain,
        };
        let stage = self.pending.add_own(burst);
        let mut asked = Vec::with_capacity(keys.len());
        for (key, bucket) in keys.into_iter().zip(buckets) {
            let uncertain = self.expiry.deadlines.ask(&key, past(now));
            let mark = self.expiry.marks.entry(usize::from(bucket)).or_default();
            mark.stage = mark.stage.max(stage);
            mark.asked += u32::from(uncertain);
            asked.push((key, uncertain));
        }
        self.expiry.checks.insert(self.expiry.ticket, asked);
        stage
    }

    /// Takes the answers to checks out of those for clients.
    pub(super) fn take_own_answers(&mut self, now: Now, fx: &mut Effects) {
        if self.expiry.checks.is_empty() {
            return;
        }
        for answer in fx.answers.extract_if(.., |answer| answer.session == OWN) {
            self.checked(answer, now);
        }
    }

    fn checked(&mut self, answer: Answer, now: Now) {
        let Some(keys) = self.expiry.checks.remove(&answer.ticket) else { return };
        let deadlines = match &answer.reply {
            Reply::Done(bytes) | Reply::DoneBy(_, bytes) => self.by_value.deadlines(bytes, keys.len()),
            Reply::Changed | Reply::Refused(_) | Reply::Unknown(_) => None,
        };
        if deadlines.is_none() {
            self.expiry.not_before_us = now.us + PAUSE_US;
        }
        for (i, (key, uncertain)) in keys.into_iter().enumerate() {
            match &deadlines {
                Some(deadlines) => self.expiry.deadlines.answered(&key, deadlines[i]),
                None => self.expiry.deadlines.add(&key, 0),
            }
            let bucket = usize::from(self.by_value.bucket(&key));
            if let Some(mark) = self.expiry.marks.get_mut(&bucket).filter(|_| uncertain) {
                mark.asked = mark.asked.saturating_sub(1);
            }
        }
    }
}
