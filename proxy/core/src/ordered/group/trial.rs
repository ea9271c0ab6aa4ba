//! Trials: commands whose effect may differ between replicas run on one of them first, the *leader*. What they
//! did there becomes an entry, which goes to all replicas, the leader among them, as any other.
//!
//! With the commands a replica gets a mark, in one atomic batch; the entry removes it. A replica that comes
//! back with a mark ran commands whose effects it did not apply from the log: it is mended, unless the next
//! entry is the one that carries these effects. While a trial is out nothing is numbered, and nobody reads
//! from its leader.

use super::super::by_value::{Keys, Outcome, Request, TrialId, TrialMark, Tried};
use super::super::effects::{Answer, Cause, Outgoing, Reply};
use super::super::entry::{Entry, Position};
use super::super::pending::Burst;
use super::super::recovery::Attachment;
use super::super::replica::{Asker, ReadFlight, StaleReason, mask};
use super::super::{Effects, Now};
use super::mend::{MEND_BYTES, Mend};
use super::{BACKOFF_US, Group, Open, Phase, Unrouted};
use crate::rule::{Mask, indices};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// After so many leaders were lost the clients are told that nobody knows.
const TRIES: u32 = 4;

/// The trial under way.
pub(super) struct Trial {
    what: What,
    step: Step,
    tries: u32,
    /// Replicas that did not take it because of their state, and the last error.
    refused_by: Mask,
    error: Bytes,
    /// Clients that were told already that nobody knows.
    told: BTreeSet<(u32, u64)>,
}

enum What {
    /// The commands of the next stage: their bytes, and the protocol version of the replies.
    Commands(Vec<Bytes>, u8),
    /// What this replica holds since an older trial.
    Values(TrialId),
}

enum Step {
    /// For a leader, not before this time.
    Waiting(u64),
    Asked {
        leader: usize,
        id: TrialId,
        keys: Keys,
    },
}

impl Trial {
    fn new(what: What) -> Self {
        let (step, tries, refused_by, error) = (Step::Waiting(0), 0, 0, Bytes::new());
        Trial { what, step, tries, refused_by, error, told: BTreeSet::new() }
    }

    /// Tells a client that nobody knows, unless it was told.
    pub(super) fn tell_unknown(&mut self, burst: &Burst, cause: impl Fn() -> Cause, fx: &mut Effects) {
        if self.told.insert((burst.session, burst.ticket)) {
            fx.answers.push(answer(burst, Reply::Unknown(cause())));
        }
    }

    fn again(&mut self, not_before_us: u64) {
        self.step = Step::Waiting(not_before_us);
        self.tries += 1;
    }
}

fn answer(burst: &Burst, reply: Reply) -> Answer {
    let Burst { session, ticket, commands, .. } = *burst;
    Answer { session, ticket, commands, reply }
}

impl Group {
    /// Who is running commands that are no entry yet.
    pub(super) fn trial_leader(&self) -> Option<usize> {
        match &self.trial.as_ref()?.step {
            Step::Asked { leader, .. } => Some(*leader),
            Step::Waiting(_) => None,
        }
    }

    /// Begins the trial of the next stage, as soon as somebody can lead it.
    pub(super) fn begin_trial(&mut self, now: Now, fx: &mut Effects) {
        if self.leaders() == 0 {
            return;
        }
        let writes = self.pending.seal();
        let dialect = writes.first().map_or(2, |burst| burst.dialect);
        let payload = writes.iter().map(|burst| burst.payload.clone()).collect();
        self.trial = Some(Trial::new(What::Commands(payload, dialect)));
        self.go_on_trying(now, fx);
    }

    /// Answers transactions of the next stage that must not run. One that watches is the first of its stage, so
    /// nothing can touch what it watches between here and its entry.
    pub(super) fn drop_changed(&mut self, fx: &mut Effects) {
        for burst in self.pending.unstage() {
            if !self.drops(&burst, fx) {
                self.pending.restage(burst);
            }
        }
    }

    /// Replicas that stand exactly at the head, and answer.
    fn leaders(&self) -> Mask {
        let head = self.log.head().seq;
        mask(&self.replicas, |r| r.idle(head) && r.applied == head && r.on_log() && !r.suspect)
    }

    /// Asks a replica to run the trial that waits for one.
    pub(super) fn go_on_trying(&mut self, now: Now, fx: &mut Effects) {
        let Some(trial) = &self.trial else { return };
        let What::Commands(payload, dialect) = &trial.what else { return };
        let ready = matches!(trial.step, Step::Waiting(not_before) if not_before <= now.us);
        if !ready || self.phase != Phase::Serving {
            return;
        }
        if trial.tries >= TRIES {
            return self.end_trial(&Reply::Unknown(Cause::ReadLost), fx);
        }
        let refused_by = trial.refused_by;
        let fed = mask(&self.replicas, |r| r.fed());
        if refused_by != 0 && fed & !refused_by == 0 {
            // It may have run on one that was lost.
            let reply = match trial.tries {
                0 => Reply::Refused(Cause::Backend(trial.error.clone())),
                _ => Reply::Unknown(Cause::ReadLost),
            };
            return self.end_trial(&reply, fx);
        }
        let Some(leader) = indices(self.leaders() & !refused_by).next() else { return };
        let id = TrialId { epoch: self.config.epoch, number: self.trials + 1 };
        let Some((request, keys)) = self.by_value.trial(id, payload) else {
            let cause = Cause::Backend(Bytes::from_static(b"ERR the commands cannot be read"));
            return self.end_trial(&Reply::Refused(cause), fx);
        };
        let dialect = *dialect;
        self.ask_trial(leader, id, keys, (request, dialect), now, fx);
    }

    fn ask_trial(
        &mut self,
        leader: usize,
        id: TrialId,
        keys: Keys,
        (request, dialect): (Request, u8),
        now: Now,
        fx: &mut Effects,
    ) {
        self.trials += 1;
        let asker = Asker::Trial(self.trials);
        self.replicas[leader].reads.push_back(ReadFlight { since_us: now.us, expected: 0, asker });
        let Request { payload, commands } = request;
        fx.sends.push((leader, Outgoing::Trial { payload, commands, dialect }));
        if let Some(trial) = &mut self.trial {
            trial.step = Step::Asked { leader, id, keys };
        }
    }

    /// The question of that number, if it is the one that is waited for.
    fn asked(&self, number: u64) -> Option<(usize, TrialId, Keys)> {
        match &self.trial.as_ref()?.step {
            Step::Asked { leader, id, keys } if self.trials == number => Some((*leader, *id, keys.clone())),
            _ => None,
        }
    }

    pub(super) fn trial_answered(
        &mut self,
        i: usize,
        number: u64,
        bytes: &Bytes,
        now: Now,
        fx: &mut Effects,
    ) {
        let (Some((leader, id, keys)), Some(trial)) = (self.asked(number), &mut self.trial) else { return };
        match &trial.what {
            What::Commands(payload, _) => match self.by_value.tried(id, payload, bytes) {
                Tried::Ran(outcome) => self.trial_ran(leader, keys, outcome, now, fx),
                Tried::Refused(error) => {
                    (trial.refused_by, trial.error) = (trial.refused_by | 1 << i, error);
                    trial.step = Step::Waiting(0);
                }
                Tried::Rejected(command, error) => self.reject(command, error, fx),
                Tried::Emptied => self.trial_emptied(i, fx),
                Tried::Unclear => self.trial_unclear(i, number, fx),
            },
            What::Values(of) => {
                let of = *of;
                self.trial = None;
                let mend = self.mends[leader].as_ref();
                if mend.and_then(Mend::waits_with_trial).is_none_or(|(trial, ..)| trial != of) {
                    // It turned out to differ by more.
                    return;
                }
                match self.by_value.adopt(of, &keys, bytes).filter(|_| bytes.len() <= MEND_BYTES) {
                    Some(outcome) => self.adopted(leader, keys, outcome, fx),
                    None => self.mend_failed(leader, "its values cannot be read whole", fx),
                }
            }
        }
    }

    /// The commands ran: what they did is numbered.
    fn trial_ran(&mut self, leader: usize, keys: Keys, outcome: Outcome, now: Now, fx: &mut Effects) {
        let (Some(trial), Some((number, stage))) = (self.trial.take(), self.pending.pop()) else { return };
        let (mut waiting, _) = self.waiting(&stage.writes);
        let seq = self.log.head().seq + 1;
        let mut served = Vec::new();
        for burst in &stage.writes {
            self.note(burst, seq);
            served.extend(self.feed_waiters(burst, seq, now));
        }
        let rules = waiting.iter().fold(0, |rules, waiting| rules | 1 << waiting.rule);
        waiting.retain(|waiting| !trial.told.contains(&(waiting.session, waiting.ticket)));
        let open =
            Open { replies: Some(outcome.replies), led: Some((leader, keys)), ..Open::new(waiting, rules) };
        self.take_note(&outcome.timed);
        self.append_open(vec![outcome.payload], outcome.commands, 2, open, fx);
        served.into_iter().for_each(|burst| self.order_waiter(burst, now));
        self.feed(now, fx);
        stage.reads.into_iter().for_each(|read| self.route(read, number, false, now, fx));
    }

    /// The trial ends without an entry: its clients get this.
    pub(super) fn end_trial(&mut self, reply: &Reply, fx: &mut Effects) {
        let Some(trial) = self.trial.take() else { return };
        if matches!(trial.what, What::Values(..)) {
            return;
        }
        let Some((after, stage)) = self.pending.pop() else { return };
        let untold = |burst: &&Burst| !trial.told.contains(&(burst.session, burst.ticket));
        fx.answers.extend(stage.writes.iter().filter(untold).map(|burst| answer(burst, reply.clone())));
        // Where their session has written since, their place is taken, and they are told so.
        self.unrouted.extend(stage.reads.into_iter().map(|burst| Unrouted { burst, after }));
    }

    /// One command can never run: its client is told, and the others are tried without it.
    fn reject(&mut self, command: u32, error: Bytes, fx: &mut Effects) {
        let reply = Reply::Refused(Cause::Backend(error));
        let Some(burst) = self.pending.evict(command) else { return self.end_trial(&reply, fx) };
        let Some(trial) = &mut self.trial else { return };
        if !trial.told.contains(&(burst.session, burst.ticket)) {
            fx.answers.push(answer(&burst, reply.clone()));
        }
        let What::Commands(payload, _) = &mut trial.what else { return };
        *payload = self.pending.sealed().iter().map(|burst| burst.payload.clone()).collect();
        trial.step = Step::Waiting(0);
        if payload.is_empty() {
            self.end_trial(&reply, fx);
        }
    }

    /// The leader was lost before it answered. It may have run the commands, and says so when it comes back.
    pub(super) fn trial_lost(&mut self, number: u64, now: Now) {
        if self.asked(number).is_none() {
            return;
        }
        match &mut self.trial {
            Some(trial) if matches!(trial.what, What::Commands(..)) => trial.again(now.us + BACKOFF_US),
            _ => self.trial = None,
        }
    }

    /// The commands emptied their leader: nobody else shall run them, and it gets a copy of what the others hold.
    fn trial_emptied(&mut self, i: usize, fx: &mut Effects) {
        let error = b"ERR a script must not empty the database: send FLUSHALL";
        self.end_trial(&Reply::Refused(Cause::Backend(Bytes::from_static(error))), fx);
        self.stale(i, StaleReason::Blank, fx);
    }

    /// The leader is there, and may have run the commands.
    pub(super) fn trial_unclear(&mut self, i: usize, number: u64, fx: &mut Effects) {
        let Some((leader, id, _)) = self.asked(number).filter(|(leader, ..)| *leader == i) else { return };
        if self.replicas[leader].fed() {
            self.mend_trial(leader, self.replicas[leader].applied, Keys::new(), id, fx);
        } else {
            self.forsake_trial(leader);
        }
    }

    /// The replica is taken off the log: its trial goes on elsewhere. The keys that it may have changed.
    pub(super) fn forsake_trial(&mut self, i: usize) -> Keys {
        let Some(trial) = &mut self.trial else { return Keys::new() };
        let Step::Asked { leader, keys, .. } = &mut trial.step else { return Keys::new() };
        if *leader != i {
            return Keys::new();
        }
        let keys = std::mem::take(keys);
        match trial.what {
            What::Commands(..) => trial.again(0),
            What::Values(..) => self.trial = None,
        }
        keys
    }

    fn mend_trial(&mut self, i: usize, from: u64, keys: Keys, trial: TrialId, fx: &mut Effects) {
        self.begin_mend(i, from, keys, Mask::MAX & !(1 << i), fx);
        if let Some(mend) = &mut self.mends[i] {
            mend.owes_to(trial);
        }
    }

    /// Will a replica at `position` with this mark hold what the others hold once it is fed?
    pub(super) fn is_settled(&self, position: Position, mark: &TrialMark) -> bool {
        if !self.log.holds(position) {
            return false;
        }
        // A barrier changes nothing, and comes before the entry by which a new owner adopts what is marked.
        let mut later = (position.seq + 1..=self.log.head().seq).filter_map(|seq| self.log.get(seq));
        later
            .find(|entry| !entry.is_empty())
            .is_some_and(|entry| self.by_value.settles(&entry.payload, mark.trial))
    }

    /// May it be fed these entries? Not if it ran a trial alone that they do not carry, and nobody knows any more
    /// how to mend it.
    pub(super) fn carries_trial(&mut self, i: usize, batch: &[Arc<Entry>], fx: &mut Effects) -> bool {
        let Some(trial) = self.replicas[i].ran else { return true };
        let Some(entry) = batch.iter().find(|entry| !entry.is_empty()) else { return true };
        self.replicas[i].ran = None;
        let settled = self.by_value.settles(&entry.payload, trial);
        if !settled {
            self.stale(i, StaleReason::TooFarBehind, fx);
        }
        settled
    }

    /// A replica came with a mark.
    pub(super) fn mend_marked(
        &mut self,
        i: usize,
        position: Position,
        attachment: &Attachment,
        mark: &TrialMark,
        fx: &mut Effects,
    ) {
        if self.log.holds(position) {
            return self.mend_trial(i, position.seq, mark.keys.clone(), mark.trial, fx);
        }
        match self.undo(position, &attachment.tail) {
            Some((from, mut keys)) => {
                keys.extend(mark.keys.iter().cloned());
                self.begin_mend(i, from, keys, Mask::MAX, fx);
            }
            None if position.rank() < self.log.base().rank() && self.journal_reaches(position) => {
                self.feed_from(i, position.seq, fx);
                (self.replicas[i].beside, self.replicas[i].ran) = (Some(position), Some(mark.trial));
            }
            None if position.rank() < self.log.base().rank() => {
                self.stale(i, StaleReason::TooFarBehind, fx);
            }
            None => self.stale(i, StaleReason::Diverged, fx),
        }
    }

    /// Where everybody who is there has run a trial alone, nobody can be mended: what one of them holds becomes
    /// an entry. Its clients were not answered, and are told that nobody knows.
    pub(super) fn adopt_marked(&mut self, now: Now, fx: &mut Effects) {
        if self.trial_leader().is_some() || self.replicas.iter().any(|replica| replica.fed()) {
            return;
        }
        let marked = self.mends.iter().enumerate().find_map(|(i, mend)| {
            let (trial, from, keys) = mend.as_ref()?.waits_with_trial()?;
            self.may_forget_after(from).then(|| (i, trial, from, keys.clone()))
        });
        let Some((i, of, from, keys)) = marked else { return };
        self.forget_after(from, fx);
        self.end_trial(&Reply::Unknown(Cause::ReadLost), fx);
        self.trial = Some(Trial::new(What::Values(of)));
        let id = TrialId { epoch: self.config.epoch, number: self.trials + 1 };
        let request = self.by_value.fetch(&keys);
        self.ask_trial(i, id, keys, (request, 2), now, fx);
    }

    /// What that replica holds is the truth from now on.
    fn adopted(&mut self, i: usize, keys: Keys, outcome: Outcome, fx: &mut Effects) {
        let before = self.log.head().seq;
        self.take_note(&outcome.timed);
        self.everywhere = (self.log.head().seq + 1, 0);
        let open = Open { led: Some((i, keys)), ..Open::new(Vec::new(), 1) };
        self.append_open(vec![outcome.payload], outcome.commands, 2, open, fx);
        self.mends[i] = None;
        // What it skips are barriers. They change nothing, and memory may not hold them beside a large entry.
        self.feed_from(i, before, fx);
    }

    /// May the head entry be taken back, as far as trials go? What its leader did must be undone then, and only
    /// others know how.
    pub(super) fn may_retract_led(&self) -> bool {
        let led = self.open.back().and_then(|open| open.led.as_ref());
        led.is_none_or(|(leader, _)| mask(&self.replicas, |r| r.fed()) & !(1 << leader) != 0)
    }

    /// The effects of this replica's trial were taken back.
    pub(super) fn undo_trial(&mut self, leader: usize, from: u64, keys: Keys, fx: &mut Effects) {
        if self.replicas[leader].fed() && self.config.rules.trial {
            self.begin_mend(leader, from, keys, Mask::MAX & !(1 << leader), fx);
        }
    }
}
