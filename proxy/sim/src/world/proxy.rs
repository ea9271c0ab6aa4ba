//! A simulated proxy: the real sequencer and framer in a shell that mirrors the real one.
//!
//! Survey, epoch, attach, serve; a proxy that is superseded before it served begins again, one
//! that is fenced stops. Timers are looked at every tick, as the real ones nearly are.

use super::Env;
use super::attend::{Attendant, State};
use super::backend::Backend;
use super::clock::Due;
use super::journal::Recorder;
use super::options::Options;
use super::talk::Owner;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{
    Ack, Effects, Ends, Entry, Event, Group, GroupConfig, Note, Now, Outgoing, Past, Phase, ReplicaState,
    Request, StaleReason, Stamp, Submission, Surveyed, Timed,
};
use quorate_core::plan::Plan;
use quorate_core::quorum::covers;
use quorate_core::rule::{Mask, Rule};
use quorate_wire::resp::{Copier, Framer, Reserved, encode, expiry};
use std::sync::Arc;

pub(super) const TICK_US: u64 = 5_000;
/// How long a survey waits for answers, and then rests before the next.
const SURVEY_US: u64 = 60_000;
const SURVEY_REST_US: u64 = 20_000;
const STALL_US: u64 = 100_000;

struct NoStamp;

impl Stamp for NoStamp {
    fn stamp(&mut self, _: Now, command: &Bytes, out: &mut BytesMut) {
        out.extend_from_slice(command);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Survey { until_us: u64 },
    Rest { until_us: u64 },
    Own,
}

type Image = (Vec<Arc<Entry>>, Vec<Bytes>);

/// One process.
pub(super) struct Proxy {
    pub(super) index: usize,
    pub(super) alive: bool,
    pub(super) owner: Owner,
    pub(super) group: Group,
    pub(super) attendants: Vec<Attendant>,
    pub(super) stage: Stage,
    pub(super) options: Options,
    pub(super) keys: Reserved,
    /// Its state folder.
    pub(super) folder: usize,
    pub(super) recorder: Recorder,
    /// It runs again at this time.
    pub(super) frozen_until_us: u64,
    /// How far its wall clock is off.
    pub(super) offset_ms: i64,
    /// Millionths by which its clock is fast.
    rate_ppm: i64,
    plans: Vec<Plan>,
    framer: Framer,
    coordinator: usize,
    least: u64,
    superseded: Option<u64>,
    marked: bool,
    surveys: u64,
    /// The in-sync set that the core wants recorded, and when it will be.
    wanted: Option<(u64, Mask)>,
    image: Option<Image>,
    pub(super) events: Vec<Event>,
    fx: Effects,
}

impl Proxy {
    pub(super) fn new(
        index: usize,
        (coordinator, folder): (usize, usize),
        plans: &[Plan],
        options: &Options,
        env: &mut Env,
    ) -> Self {
        let config = GroupConfig {
            log_bytes: options.log_bytes,
            tail_entries: options.tail_entries,
            stall_us: STALL_US,
            // The schedules decide who is there in time; waiting would only hide what happens otherwise.
            grace_us: 0,
            journal_keep_us: super::LATEST_SYNC_US + 100_000,
            rules: options.rules,
            journal: options.journal,
            ack: match options.in_sync {
                true => Ack::InSync { min: options.write_quorum as u32 },
                false => Ack::Quorum,
            },
            ..GroupConfig::new(options.replicas, 0)
        };
        let keys = Reserved::new("g");
        env.agenda.after(env.dice.below(TICK_US), Due::Tick { proxy: index });
        let rate_ppm = if env.skewed { env.dice.below(400_000) as i64 - 200_000 } else { 0 };
        let events = super::recorder::first_events(options, &env.folders[folder]);
        Proxy {
            index,
            alive: true,
            owner: Owner { epoch: 0, id: format!("{:04x}", env.dice.roll() & 0xffff) },
            group: Group::new(config, plans, Box::new(NoStamp), Box::new(Copier::new(keys.clone()))),
            attendants: (0..options.replicas).map(Attendant::new).collect(),
            stage: Stage::Rest { until_us: 0 },
            options: options.clone(),
            framer: Framer::new(keys.clone(), true),
            keys,
            folder,
            recorder: Recorder::new(options.log_bytes),
            frozen_until_us: 0,
            offset_ms: 0,
            rate_ppm,
            plans: plans.to_vec(),
            coordinator,
            least: 0,
            superseded: None,
            marked: false,
            surveys: 0,
            wanted: None,
            image: None,
            events,
            fx: Effects::default(),
        }
    }

    /// `p1` and so on.
    pub(super) fn name(&self) -> String {
        format!("p{}", self.index + 1)
    }

    pub(super) fn is_serving(&self) -> bool {
        self.alive && self.group.phase() == Phase::Serving
    }

    /// The time, as its clock has it.
    fn now(&self, env: &Env) -> Now {
        let Now { us, unix_ms } = env.agenda.now();
        let fast = (us as i64) * self.rate_ppm / 1_000_000;
        Now { us: us.saturating_add_signed(fast), unix_ms: unix_ms.saturating_add_signed(self.offset_ms) }
    }

    /// No more connections are opened under this ownership.
    pub(super) fn is_over(&self) -> bool {
        self.superseded.is_some() || matches!(self.group.phase(), Phase::Fenced { .. })
    }

    pub(super) fn submit(&mut self, mut submission: Submission, env: &mut Env) {
        let now_us = self.now(env).us;
        submission.bursts.iter_mut().for_each(|burst| burst.arrived_us = now_us);
        self.events.push(Event::Submit(submission));
        self.run(env);
    }

    /// Time passed.
    pub(super) fn tick(&mut self, env: &mut Env) {
        env.agenda.after(TICK_US, Due::Tick { proxy: self.index });
        self.events.push(Event::Tick);
        self.compare();
        self.record_in_sync(env);
        self.run(env);
        let now_us = env.agenda.now_us();
        match self.stage {
            Stage::Rest { until_us } if until_us <= now_us => self.survey(env),
            Stage::Survey { until_us } => {
                let open = self.attendants.iter().any(|a| a.seen.is_none());
                if !open || until_us <= now_us {
                    self.conclude(env);
                }
            }
            Stage::Own => {
                self.watch(env);
                (0..self.attendants.len()).for_each(|i| self.attend(i, env));
            }
            Stage::Rest { .. } => {}
        }
    }

    /// Looks at the deadlines of a replica that holds this owner's first entry, and so everything before it.
    pub(super) fn learn_deadlines(&mut self, backends: &[Backend]) {
        if !self.is_serving() || self.group.health().deadlines_known {
            return;
        }
        let mut sources = backends.iter().filter(|backend| backend.up && !backend.paused);
        let Some(source) = sources.find(|backend| backend.epoch() == Some(self.owner.epoch)) else { return };
        let ends = |kept| match expiry::brought_forward(kept as i64) {
            Some(at) if at != kept as i64 => Ends::At(at as u64),
            _ => Ends::Unknown,
        };
        let keys = source.store.deadlines();
        let keys = keys.map(|(key, kept)| Timed { key: key.into(), ends: ends(kept) }).collect();
        self.events.push(Event::Timed { keys, all: true });
    }

    /// The coordinator gets the in-sync set that is wanted, sooner or later, and only from its owner.
    fn record_in_sync(&mut self, env: &mut Env) {
        let Some((_, members)) = self.wanted.take_if(|(due_us, _)| *due_us <= env.agenda.now_us()) else {
            return;
        };
        let coordinator = &mut env.coordinators[self.coordinator];
        if coordinator.epoch == self.owner.epoch {
            coordinator.in_sync = Some(members);
            self.events.push(Event::InSync(members));
        } else {
            let by = coordinator.epoch;
            self.fenced(by, env);
        }
    }

    /// Asks all replicas where they stand.
    fn compare(&mut self) {
        if self.options.surveys {
            self.surveys += 1;
            let payload = encode::command_bytes(&[b"GET", self.keys.position.as_bytes()]);
            let request = Request { payload, commands: 1 };
            self.events.push(Event::Survey { id: self.surveys, request, bytes: 0 });
        }
    }

    fn survey(&mut self, env: &mut Env) {
        let until_us = env.agenda.now_us() + SURVEY_US;
        self.stage = Stage::Survey { until_us };
        (0..self.attendants.len()).for_each(|i| self.probe(i, until_us, env));
    }

    /// The survey is over: is enough in reach to take the group over?
    fn conclude(&mut self, env: &mut Env) {
        let mut reached: Mask = 0;
        let mut seen = self.least;
        for i in 0..self.attendants.len() {
            if let Some(Ok(epoch)) = self.attendants[i].seen {
                reached |= 1 << i;
                seen = seen.max(epoch);
            }
            self.leave(i, env);
        }
        let by_set = env.coordinators[self.coordinator].in_sync.filter(|_| self.options.in_sync);
        let by_set = match (self.options.in_sync, by_set) {
            (false, _) => None,
            (true, None) => Some(Rule::count(1, (1 << self.attendants.len()) - 1)),
            (true, Some(members)) => Some(Rule::all(members)),
        };
        let rules: Vec<&Rule> = match &by_set {
            None => self.plans.iter().map(|plan| &plan.write).collect(),
            Some(rule) => vec![rule],
        };
        let enough =
            covers(&rules, self.attendants.len(), reached) || (!self.options.rules.cover && reached != 0);
        if !enough {
            self.stage = Stage::Rest { until_us: env.agenda.now_us() + SURVEY_REST_US };
            return;
        }
        let coordinator = &mut env.coordinators[self.coordinator];
        if seen > coordinator.epoch {
            // Somebody owned the group since who has another coordinator.
            coordinator.in_sync = None;
        }
        coordinator.epoch = coordinator.epoch.max(seen) + 1;
        self.owner.epoch = coordinator.epoch;
        let (history, in_sync) = (coordinator.served, coordinator.in_sync);
        env.granted = env.granted.max(self.owner.epoch);
        env.note(format!("{} takes epoch {} (saw {seen})", self.name(), self.owner.epoch));
        match self.group.phase() {
            Phase::Recovering | Phase::Barrier => {}
            // What it waited for came after all, behind the newer owner's back.
            Phase::Serving => return self.fenced(self.owner.epoch, env),
            Phase::Fenced { .. } => return,
        }
        let past = Past { history, restored: self.restored(env), in_sync };
        self.group.restart(self.owner.epoch, past);
        (self.image, self.superseded, self.stage) = (None, None, Stage::Own);
        self.wanted = None;
        let now_us = env.agenda.now_us();
        self.attendants.iter_mut().for_each(|attendant| attendant.begin(now_us));
    }

    fn watch(&mut self, env: &mut Env) {
        if self.group.phase() == Phase::Serving && !self.marked {
            self.marked = true;
            env.coordinators[self.coordinator].served = true;
        }
        let Some(by) = self.superseded.take() else { return };
        // Its barrier may have been committed since.
        if self.group.phase() == Phase::Serving {
            self.fenced(by, env);
        } else {
            env.note(format!("{} is superseded by epoch {by} before it served", self.name()));
            self.least = self.least.max(by);
            self.wanted = None;
            (0..self.attendants.len()).for_each(|i| self.leave(i, env));
            self.stage = Stage::Rest { until_us: env.agenda.now_us() };
        }
    }

    /// A greater epoch was met at a backend.
    pub(super) fn fenced(&mut self, by: u64, env: &mut Env) {
        match self.group.phase() {
            Phase::Recovering | Phase::Barrier => self.superseded = self.superseded.max(Some(by)),
            Phase::Serving | Phase::Fenced { .. } => {
                self.events.push(Event::Fenced { by });
                self.run(env);
            }
        }
    }

    /// One step of the core, and all that follows from it.
    pub(super) fn run(&mut self, env: &mut Env) {
        let now = self.now(env);
        self.group.step(now, &mut self.events, &mut self.fx);
        let before = std::mem::take(&mut self.fx);
        self.send(before.sends);
        env.answers.extend(before.answers.into_iter().map(|answer| (self.index, answer)));
        before.surveys.into_iter().for_each(|survey| self.judge(&survey, env));
        before.notes.into_iter().for_each(|note| self.heed(note, env));
        (0..self.attendants.len()).for_each(|i| self.flush(i, env));
        if let Some(members) = before.in_sync {
            self.wanted = Some((env.agenda.now_us() + env.dice.below(20_000), members));
        }
        self.record(before.records, env);
        for (i, why) in before.drops {
            self.lost(i, why, env);
        }
    }

    /// Whatever is compared must be compared at one position.
    fn judge(&self, survey: &Surveyed, env: &mut Env) {
        let Some(answers) = &survey.answers else { return };
        env.surveys += 1;
        if answers.iter().any(|(_, answer)| *answer != answers[0].1) {
            env.violate("surveys at one position", format!("{}: {answers:?}", self.name()));
        }
    }

    fn send(&mut self, sends: Vec<(usize, Outgoing)>) {
        for (i, outgoing) in sends {
            let open = self.attendants[i].state == State::Serving;
            let link = &mut self.attendants[i].link;
            match outgoing {
                Outgoing::Read { payload, commands, .. } if open => link.read(&payload, commands, false),
                Outgoing::Trial { payload, commands, .. } if open => link.read(&payload, commands, true),
                Outgoing::Entries(entries) if open => {
                    let same = |of: &[Arc<Entry>]| same_entries(of, &entries, self.options.shell.image);
                    let image = match &self.image {
                        Some((of, image)) if same(of) => image.clone(),
                        _ => self.framer.frame(&entries),
                    };
                    link.transaction(&image, self.framer.reader(&entries));
                    self.image = Some((entries, image));
                }
                Outgoing::Read { .. } | Outgoing::Trial { .. } | Outgoing::Entries(_) => {}
            }
        }
    }

    fn heed(&mut self, note: Note, env: &mut Env) {
        let name = self.name();
        match &note {
            Note::State { replica, now, .. } => {
                env.note(format!("{name}: r{} is {}", replica + 1, now.name()));
            }
            Note::Divergence { seq, replica, .. } => {
                let text = format!("{name}: r{} answered entry {seq} differently", replica + 1);
                env.violate("divergence", text);
            }
            Note::Stale { replica, reason } => {
                env.note(format!("{name}: r{} is stale: {}", replica + 1, reason.name()));
                let taken_over = env.granted > 1;
                let legitimate = match reason {
                    StaleReason::TooFarBehind => true,
                    StaleReason::Diverged => taken_over,
                    StaleReason::Partial => true,
                    StaleReason::Blank => false,
                };
                if !legitimate {
                    env.violate("stale for a reason", format!("r{} is {}", replica + 1, reason.name()));
                }
            }
            Note::Serving => {
                env.note(format!("{name} serves under epoch {}", self.owner.epoch));
                env.ownerships += 1;
                env.latest = env.latest.clone().max(self.owner.clone());
            }
            Note::Fenced { by } => env.note(format!("{name} is fenced by epoch {by}")),
            Note::Refused { replica, error } => {
                let word = String::from_utf8_lossy(error);
                let word = word.split(' ').next().unwrap_or_default().to_string();
                env.detail(format!("{name}: r{} refused: {word}", replica + 1));
            }
            Note::Mended { replica, keys } => {
                env.note(format!("{name}: r{} is mended, {keys} keys", replica + 1));
            }
            Note::Unmended { replica, why } => {
                env.note(format!("{name}: r{} is not mended: {why}", replica + 1))
            }
            Note::Retracted { seq } => env.note(format!("{name}: entry {seq} is taken back")),
        }
        if let Note::State { replica, now: ReplicaState::InSync, .. } = note {
            self.record_run(replica);
        }
    }

    /// It holds all that is committed again: from now on it remembers as this run.
    pub(super) fn record_run(&mut self, replica: usize) {
        let attendant = &mut self.attendants[replica];
        let command = [b"SET", self.keys.run.as_bytes(), attendant.run_id.as_bytes()];
        attendant.aside(&encode::command_bytes(&command));
    }
}

/// Are these the same entries? A number is given again after an entry was taken back, and even a position
/// is when the same commands come again.
fn same_entries(one: &[Arc<Entry>], other: &[Arc<Entry>], exactly: bool) -> bool {
    let same = |(a, b): (&Arc<Entry>, &Arc<Entry>)| match exactly {
        true => Arc::ptr_eq(a, b),
        false => a.position.seq == b.position.seq,
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}
