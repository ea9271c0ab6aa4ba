//! Requests that wait to be numbered, in an order that keeps every session's own order.
//!
//! Writes wait in *stages*; a stage becomes one log entry. A read of a session that has a
//! write waiting goes behind that write's stage, and a write behind such a read goes to a
//! later stage. So sessions share entries without ever overtaking themselves.

use super::block::Cancel;
use super::deadlines::Timed;
use super::effects::{Answer, Cause, Reply};
use super::watch::Role;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// What a burst does to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Changes nothing; any one replica answers.
    Read,
    /// Becomes part of a log entry.
    Write,
}

/// Buckets of the keys a burst touches, shared by all bursts of a submission.
#[derive(Debug, Clone)]
pub struct Buckets {
    all: Arc<[u16]>,
    range: Range<u32>,
}

impl Buckets {
    /// The buckets at `range` of `all`.
    pub fn new(all: Arc<[u16]>, range: Range<u32>) -> Self {
        Self { all, range }
    }

    /// One bucket a key, in no order that matters.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let slice = self.all.get(self.range.start as usize..self.range.end as usize).unwrap_or(&[]);
        slice.iter().map(|bucket| usize::from(*bucket))
    }
}

/// A run of commands of one session that share access and plan.
#[derive(Debug, Clone)]
pub struct Burst {
    /// Dense number of the session.
    pub session: u32,
    /// The session's own number of this burst; comes back in the answer.
    pub ticket: u64,
    /// How many commands the payload holds; at least 1, unless its role says otherwise.
    pub commands: u32,
    /// Reads or writes.
    pub access: Access,
    /// Index into the plans given to the group.
    pub plan: u16,
    /// Protocol version of the replies.
    pub dialect: u8,
    /// Some command of it must get its log-ordered stamp when it is numbered.
    pub stamp: bool,
    /// May touch any key: a read holds on everything, a write is seen by every read.
    pub everything: bool,
    /// Some command of it needs memory: a backend may refuse it where it takes others.
    pub grows: bool,
    /// Runs on one replica first; its effects become the entry.
    pub leads: bool,
    /// The commands.
    pub payload: Bytes,
    /// Buckets of the keys.
    pub buckets: Buckets,
    /// Keys that it may give a deadline, and which.
    pub timed: Vec<Timed>,
    /// When it arrived, in monotonic microseconds.
    pub arrived_us: u64,
    /// What it is beside a run of commands.
    pub role: Role,
}

/// Bursts of several sessions, each session's in its own order.
#[derive(Debug, Default)]
pub struct Submission {
    /// The bursts.
    pub bursts: Vec<Burst>,
    /// Of these and earlier bursts, those that wait no more.
    pub cancels: Vec<Cancel>,
}

#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) writes: Vec<Burst>,
    pub(super) reads: Vec<Burst>,
    bytes: usize,
    commands: u32,
    dialect: u8,
    grows: bool,
    leads: bool,
    /// Its trial began: nothing joins it, and its writes leave it only with it.
    sealed: bool,
}

/// Where a session's latest waiting request stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// One more than the stage of the latest write; 0 for none.
    write: u64,
    /// A read waits behind that stage.
    read_behind: bool,
}

#[derive(Debug)]
pub(super) struct Pending {
    stages: VecDeque<Stage>,
    /// Number of the first waiting stage; only grows.
    first: u64,
    places: Vec<Place>,
    bytes: usize,
    limit: usize,
    stage_bytes: usize,
    stage_commands: u32,
    /// What needs memory shares no stage with what does not.
    apart: bool,
}

impl Pending {
    pub(super) fn new(limit: usize, stage_bytes: usize, stage_commands: u32) -> Self {
        let (stages, places) = (VecDeque::new(), Vec::new());
        Self { stages, first: 1, places, bytes: 0, limit, stage_bytes, stage_commands, apart: false }
    }

    /// Shall what needs memory wait in stages of its own from now on?
    pub(super) fn keep_apart(&mut self, apart: bool) {
        self.apart = apart;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Is there room for this burst? One burst always fits, however large.
    pub(super) fn has_room(&self, burst: &Burst) -> bool {
        self.bytes == 0 || self.bytes + burst.payload.len() <= self.limit
    }

    fn place(&mut self, session: u32) -> &mut Place {
        let index = session as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, Place::default());
        }
        &mut self.places[index]
    }

    /// The stage of the session's latest write, waiting or numbered; 0 for none.
    pub(super) fn latest_write(&self, session: u32) -> u64 {
        self.places.get(session as usize).map_or(0, |place| place.write)
    }

    /// Does the session have a write that is not numbered yet?
    pub(super) fn writes_wait(&self, session: u32) -> bool {
        self.latest_write(session) >= self.first
    }

    /// A write of the group's own; the stage that it waits in.
    pub(super) fn add_own(&mut self, burst: Burst) -> u64 {
        let mut stage = self.first;
        while !self.takes(stage, &burst) {
            stage += 1;
        }
        self.put(stage, burst);
        stage
    }

    /// A client's write, in no stage before `least`.
    pub(super) fn add_write(&mut self, burst: Burst, least: u64) {
        let first = self.first;
        let place = *self.place(burst.session);
        let waits = place.write >= first;
        let stage = if waits { place.write + u64::from(place.read_behind) } else { first };
        let mut stage = stage.max(least);
        while !self.takes(stage, &burst) {
            stage += 1;
        }
        *self.place(burst.session) = Place { write: stage, read_behind: false };
        self.put(stage, burst);
    }

    fn put(&mut self, stage: u64, burst: Burst) {
        self.bytes += burst.payload.len();
        let slot = &mut self.stages[(stage - self.first) as usize];
        slot.bytes += burst.payload.len();
        slot.commands += burst.commands;
        slot.dialect = burst.dialect;
        slot.grows |= burst.grows;
        slot.leads = burst.leads;
        slot.writes.push(burst);
    }

    /// Can the burst join this stage? Opens the stage when it is the next new one.
    fn takes(&mut self, stage: u64, burst: &Burst) -> bool {
        let index = (stage - self.first) as usize;
        while index >= self.stages.len() {
            self.stages.push_back(Stage::default());
        }
        let slot = &self.stages[index];
        !slot.sealed
            && (slot.writes.is_empty()
                || (slot.dialect == burst.dialect
                    && slot.leads == burst.leads
                    && !(burst.leads && burst.role.watches())
                    && (slot.grows == burst.grows || !self.apart)
                    && slot.bytes + burst.payload.len() <= self.stage_bytes
                    && slot.commands + burst.commands <= self.stage_commands))
    }

    /// Is this stage still waiting?
    pub(super) fn waits(&self, stage: u64) -> bool {
        stage >= self.first
    }

    /// Puts a read behind its session's waiting write and behind stage `least`, one of which waits.
    pub(super) fn add_read(&mut self, burst: Burst, least: u64) {
        let first = self.first;
        let place = self.place(burst.session);
        *place = Place { write: place.write.max(least), read_behind: true };
        let index = (place.write - first) as usize;
        self.bytes += burst.payload.len();
        self.stages[index].reads.push(burst);
    }

    /// Does the next stage run on one replica first?
    pub(super) fn next_leads(&self) -> bool {
        self.stages.front().is_some_and(|stage| stage.leads && !stage.writes.is_empty())
    }

    /// Takes the write out of the sealed stage that its so-manieth command belongs to.
    pub(super) fn evict(&mut self, mut command: u32) -> Option<Burst> {
        let stage = self.stages.front_mut().filter(|stage| stage.sealed)?;
        let at = stage.writes.iter().position(|burst| {
            let found = command < burst.commands;
            command = command.saturating_sub(burst.commands);
            found
        })?;
        let burst = stage.writes.remove(at);
        self.bytes -= burst.payload.len();
        Some(burst)
    }

    /// Takes the writes out of the next stage; those that stay are put back.
    pub(super) fn unstage(&mut self) -> Vec<Burst> {
        let Some(stage) = self.stages.front_mut() else { return Vec::new() };
        self.bytes -= stage.writes.iter().map(|burst| burst.payload.len()).sum::<usize>();
        (stage.bytes, stage.commands) = (0, 0);
        std::mem::take(&mut stage.writes)
    }

    /// Puts a write back into the next stage.
    pub(super) fn restage(&mut self, burst: Burst) {
        self.put(self.first, burst);
    }

    /// The next stage's writes, which it keeps from now on until it is taken out.
    pub(super) fn seal(&mut self) -> &[Burst] {
        let Some(stage) = self.stages.front_mut() else { return &[] };
        stage.sealed = true;
        &stage.writes
    }

    /// The writes of the stage that is being tried.
    pub(super) fn sealed(&self) -> &[Burst] {
        self.stages.front().filter(|stage| stage.sealed).map_or(&[], |stage| &stage.writes)
    }

    /// The next stage to be numbered, and its own number.
    pub(super) fn pop(&mut self) -> Option<(u64, Stage)> {
        let stage = self.stages.pop_front()?;
        self.first += 1;
        self.bytes -= stage.writes.iter().chain(&stage.reads).map(|b| b.payload.len()).sum::<usize>();
        Some((self.first - 1, stage))
    }

    /// Removes a write that is neither numbered nor tried; `false` if there is none.
    pub(super) fn remove(&mut self, session: u32, ticket: u64) -> bool {
        for stage in self.stages.iter_mut().filter(|stage| !stage.sealed) {
            let wanted = |burst: &mut Burst| burst.session == session && burst.ticket == ticket;
            if let Some(burst) = stage.writes.extract_if(.., wanted).next() {
                self.bytes -= burst.payload.len();
                return true;
            }
        }
        false
    }

    /// Removes a read that waits behind a write.
    pub(super) fn remove_read(&mut self, session: u32, ticket: u64) -> Option<Burst> {
        let wanted = |burst: &mut Burst| burst.session == session && burst.ticket == ticket;
        let burst = self.stages.iter_mut().find_map(|stage| stage.reads.extract_if(.., wanted).next())?;
        self.bytes -= burst.payload.len();
        Some(burst)
    }

    /// Removes what waited too long; `late` is asked for each burst.
    pub(super) fn expire(
        &mut self,
        late: impl Fn(&Burst) -> bool,
        cause: impl Fn(&Burst) -> Cause,
        out: &mut Vec<Answer>,
    ) {
        for stage in &mut self.stages {
            let lists = [Some(&mut stage.writes).filter(|_| !stage.sealed), Some(&mut stage.reads)];
            for list in lists.into_iter().flatten() {
                for burst in list.extract_if(.., |burst| late(burst)) {
                    self.bytes -= burst.payload.len();
                    out.push(refused(&burst, cause(&burst)));
                }
            }
        }
    }

    /// Removes everything: the group stopped.
    pub(super) fn refuse_all(&mut self, cause: &Cause, out: &mut Vec<Answer>) {
        while let Some((_, stage)) = self.pop() {
            out.extend(stage.writes.iter().chain(&stage.reads).map(|burst| refused(burst, cause.clone())));
        }
    }
}

pub(super) fn refused(burst: &Burst, cause: Cause) -> Answer {
    let Burst { session, ticket, commands, .. } = *burst;
    Answer { session, ticket, commands, reply: Reply::Refused(cause) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(session: u32, ticket: u64, access: Access) -> Burst {
        Burst {
            session,
            ticket,
            commands: 1,
            access,
            plan: 0,
            dialect: 2,
            stamp: false,
            everything: false,
            grows: false,
            leads: false,
            payload: Bytes::from_static(b"0123456789"),
            buckets: Buckets::new(Arc::from([]), 0..0),
            timed: vec![],
            arrived_us: 0,
            role: Role::Plain,
        }
    }

    fn tickets(bursts: &[Burst]) -> Vec<(u32, u64)> {
        bursts.iter().map(|b| (b.session, b.ticket)).collect()
    }

    #[test]
    fn sessions_share_stages_and_keep_their_own_order() {
        let mut pending = Pending::new(1000, 1000, 100);
        pending.add_write(burst(1, 1, Access::Write), 0);
        pending.add_read(burst(1, 2, Access::Read), 0);
        pending.add_write(burst(2, 1, Access::Write), 0);
        pending.add_write(burst(1, 3, Access::Write), 0);
        pending.add_write(burst(2, 2, Access::Write), 0);
        let (_, first) = pending.pop().expect("a stage");
        assert_eq!(tickets(&first.writes), [(1, 1), (2, 1), (2, 2)]);
        assert_eq!(tickets(&first.reads), [(1, 2)]);
        let (_, second) = pending.pop().expect("a stage");
        assert_eq!(tickets(&second.writes), [(1, 3)], "it must not overtake the read before it");
        assert!(pending.pop().is_none());
        assert_eq!(pending.bytes(), 0);
    }

    #[test]
    fn a_full_stage_pushes_the_session_on() {
        let mut pending = Pending::new(1000, 15, 100);
        pending.add_write(burst(1, 1, Access::Write), 0);
        pending.add_write(burst(1, 2, Access::Write), 0);
        pending.add_read(burst(1, 3, Access::Read), 0);
        assert_eq!(tickets(&pending.pop().expect("first").1.reads), []);
        assert_eq!(tickets(&pending.pop().expect("second").1.reads), [(1, 3)]);
    }

    #[test]
    fn dialects_do_not_share_a_stage() {
        let mut pending = Pending::new(1000, 1000, 100);
        pending.add_write(burst(1, 1, Access::Write), 0);
        pending.add_write(Burst { dialect: 3, ..burst(2, 1, Access::Write) }, 0);
        pending.add_write(burst(3, 1, Access::Write), 0);
        assert_eq!(tickets(&pending.pop().expect("first").1.writes), [(1, 1), (3, 1)]);
        assert_eq!(tickets(&pending.pop().expect("second").1.writes), [(2, 1)]);
    }

    #[test]
    fn what_needs_memory_and_what_frees_it_share_no_stage_while_memory_is_short() {
        let mut pending = Pending::new(1000, 1000, 100);
        pending.keep_apart(true);
        pending.add_write(Burst { grows: true, ..burst(1, 1, Access::Write) }, 0);
        pending.add_write(burst(2, 1, Access::Write), 0);
        pending.add_write(Burst { grows: true, ..burst(3, 1, Access::Write) }, 0);
        pending.add_write(burst(1, 2, Access::Write), 0);
        assert_eq!(tickets(&pending.pop().expect("first").1.writes), [(1, 1), (3, 1)]);
        assert_eq!(tickets(&pending.pop().expect("second").1.writes), [(2, 1), (1, 2)]);
    }

    #[test]
    fn late_bursts_leave_and_the_rest_stays_in_order() {
        let mut pending = Pending::new(1000, 1000, 100);
        for ticket in 1..=3 {
            pending.add_write(Burst { arrived_us: ticket, ..burst(1, ticket, Access::Write) }, 0);
        }
        let mut out = Vec::new();
        pending.expire(|b| b.arrived_us < 2, |_| Cause::Recovering, &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(tickets(&pending.pop().expect("a stage").1.writes), [(1, 2), (1, 3)]);
        assert_eq!(pending.bytes(), 0);
    }
}
