//! A worker: one thread, one runtime, its share of the clients, and the groups it owns.
//!
//! A group's order stays with one worker; the others send it what their clients want, a batch
//! at a time, and get the answers back the same way.

use crate::drive::Driver;
use crate::group::{GroupShared, Routing};
use crate::listen::Port;
use crate::listen::burst::Outbox;
use crate::listen::cursor;
use crate::listen::filter::{self, Facts, Shape};
use crate::listen::inspect::SlowLog;
use crate::listen::pubsub::{Local, Message};
use crate::listen::registry::{Client, Registry};
use crate::listen::session::{self, Session};
use crate::listen::tracking::{Invalidation, Reader};
use crate::policies::Decider;
use crate::recorder::News;
use crate::telemetry::WorkerCounters;
use crate::tls::{Arrival, Writer};
use arc_swap::{ArcSwap, Cache};
use bytes::{Bytes, BytesMut};
use crossbeam::queue::SegQueue;
use quorate_core::ordered::{Answer, Event, Reply, Submission};
use quorate_core::plan::{OpClass, Outcome};
use quorate_wire::command::Command;
use quorate_wire::resp::{Args, Decoder, encode};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Bytes read from a client at once.
const SCRATCH: usize = 128 << 10;
/// Tickets of successive sessions with the same number are this far apart.
const TICKETS: u64 = 1 << 40;

/// The two clocks, read in one place.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Monotonic microseconds since the start, never 0.
    pub fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64 + 1
    }

    /// Wall clock microseconds since 1970.
    pub fn unix_us(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
    }

    /// Wall clock milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.unix_us() / 1000
    }
}

/// What one worker sends another.
#[derive(Debug)]
pub enum Mail {
    /// A new client.
    Accept(Arrival, Arc<Port>),
    /// Requests for a group that the receiver owns.
    Submit(usize, Submission),
    /// Answers for clients of the receiver.
    Answers(usize, Vec<Answer>),
    /// Messages for subscribers among the receiver's clients.
    Messages(usize, Vec<Arc<Message>>),
    /// Confirmations that waited for a backend: session and ticket.
    Confirmed(Vec<(u32, u64)>),
    /// What clients sent, for those of the receiver's clients that watch.
    Shown(usize, Bytes),
    /// Another proxy owns this group: its messages are told there.
    Fenced(usize),
    /// Keys that clients of the receiver must not cache any more.
    Invalidate(usize, Vec<Invalidation>),
    /// The same, told to a client in another's place.
    Redirected(Reader, Option<Bytes>),
    /// News of the journal of a group that the receiver owns.
    Journal(usize, News),
    /// A command for every attached server of a group that the receiver owns, beside the log.
    HaveAllDo(usize, Bytes),
    /// Users changed: the receiver's clients are to notice.
    Users,
    /// Take nothing new; close each client when it is quiet.
    Drain,
}

/// A worker's letter box.
#[derive(Debug, Default)]
pub struct Mailbox {
    queue: SegQueue<Mail>,
    wake: Notify,
}

impl Mailbox {
    /// Puts a letter in.
    pub fn post(&self, mail: Mail) {
        self.queue.push(mail);
        self.wake.notify_one();
    }
}

/// Who numbers a group's writes.
pub enum Sequencer {
    /// This worker.
    Here(Rc<RefCell<Driver>>),
    /// The worker with this letter box.
    There(Arc<Mailbox>),
}

/// A group as this worker uses it.
pub struct GroupHandle {
    /// What everybody may know.
    pub shared: Arc<GroupShared>,
    /// Commands on their way.
    pub outbox: RefCell<Outbox>,
    /// The plan table, cached for this thread.
    pub routing: RefCell<Cache<Arc<ArcSwap<Routing>>, Arc<Routing>>>,
    /// This worker's instance of the policy's decider.
    pub decider: RefCell<Option<Decider>>,
    /// What its clients sent in this turn, for those who watch.
    pub shown: RefCell<BytesMut>,
    /// Those of this worker's sessions that listen.
    pub subscribers: RefCell<Local>,
    /// Those that listen to events of its keys, and to messages of another group.
    pub foreign_subscribers: RefCell<Local>,
    sequencer: OnceCell<Sequencer>,
}

/// What a decider may see of a request.
pub struct Asked<'a> {
    /// The command.
    pub command: &'static Command,
    /// Its class.
    pub class: OpClass,
    /// Its arguments.
    pub args: Args<'a>,
    /// Who asks.
    pub client: &'a Client,
}

/// See the module's head.
pub struct Worker {
    index: usize,
    count: usize,
    /// The clocks.
    pub clock: Clock,
    /// All clients of the proxy.
    pub registry: Arc<Registry>,
    /// By the group's index.
    pub groups: Vec<GroupHandle>,
    /// Counted here, summed up when somebody asks.
    pub counters: Arc<WorkerCounters>,
    /// Where fresh reads go.
    pub scratch: RefCell<Box<[u8]>>,
    /// Where commands are rewritten.
    pub rewritten: RefCell<BytesMut>,
    /// Finds commands in them.
    pub decoder: RefCell<Decoder>,
    mailbox: Arc<Mailbox>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    sessions: RefCell<Vec<Option<Rc<RefCell<Session>>>>>,
    free: RefCell<Vec<usize>>,
    generation: Cell<u64>,
    now_us: Cell<u64>,
    /// When the wall clock was read last, by the other one, and what it said.
    read: Cell<(u64, u64)>,
    due: Cell<bool>,
    turn_end: Notify,
    draining: Cell<bool>,
}

impl Worker {
    /// Worker `index` of as many as there are letter boxes.
    pub fn new(
        index: usize,
        clock: Clock,
        registry: Arc<Registry>,
        groups: Vec<(Arc<GroupShared>, Option<Decider>)>,
        counters: Arc<WorkerCounters>,
        mailboxes: Arc<[Arc<Mailbox>]>,
    ) -> Self {
        let handle = |(shared, decider): (Arc<GroupShared>, Option<Decider>)| GroupHandle {
            outbox: RefCell::default(),
            routing: RefCell::new(Cache::new(shared.routing.clone())),
            decider: RefCell::new(decider),
            shown: RefCell::default(),
            subscribers: RefCell::default(),
            foreign_subscribers: RefCell::default(),
            sequencer: OnceCell::new(),
            shared,
        };
        Self {
            index,
            count: mailboxes.len(),
            clock,
            registry,
            groups: groups.into_iter().map(handle).collect(),
            counters,
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            rewritten: RefCell::default(),
            decoder: RefCell::default(),
            mailbox: mailboxes[index].clone(),
            mailboxes,
            sessions: RefCell::default(),
            free: RefCell::default(),
            generation: Cell::new(1),
            now_us: Cell::new(0),
            read: Cell::new((clock.now_us(), clock.unix_us())),
            due: Cell::new(false),
            turn_end: Notify::new(),
            draining: Cell::new(false),
        }
    }

    /// Says who numbers a group's writes; once, before any client.
    pub fn set_sequencer(&self, group: usize, sequencer: Sequencer) {
        let fresh = self.groups[group].sequencer.set(sequencer).is_ok();
        assert!(fresh, "a group has one sequencer for the life of the worker");
    }

    /// Who numbers a group's writes, once that is known.
    pub fn sequencer(&self, group: usize) -> Option<&Sequencer> {
        self.groups[group].sequencer.get()
    }

    /// Reads the clock for the requests that follow.
    #[inline]
    pub fn tick(&self) {
        let now_us = self.clock.now_us();
        let (read_us, _) = self.read.get();
        // The wall clock is read once a millisecond; in between it moves like the other one.
        if now_us.saturating_sub(read_us) >= 1000 {
            self.read.set((now_us, self.clock.unix_us()));
        }
        self.now_us.set(now_us);
    }

    /// Wall clock milliseconds at the last [`Self::tick`].
    #[inline]
    pub fn unix_ms(&self) -> u64 {
        let (read_us, unix_us) = self.read.get();
        (unix_us + self.now_us.get().saturating_sub(read_us)) / 1000
    }

    /// The time of the last [`Self::tick`].
    #[inline]
    pub fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    /// Makes sure that the groups take a step once every socket that is ready was read: requests and
    /// replies of one turn share it, so that entries are few and large.
    #[inline]
    pub fn schedule(&self) {
        if !self.due.replace(true) {
            self.turn_end.notify_one();
        }
    }

    /// Serves until the thread ends.
    pub async fn run(self: Rc<Self>) {
        tokio::task::spawn_local(self.clone().end_turns());
        loop {
            self.mailbox.wake.notified().await;
            self.open_mail();
        }
    }

    async fn end_turns(self: Rc<Self>) {
        loop {
            self.turn_end.notified().await;
            self.end_turn();
        }
    }

    /// Hands over what this worker's clients asked for so far, and takes a step of its own groups. Not while a
    /// session is borrowed.
    pub fn end_turn(self: &Rc<Self>) {
        // What others sent came before it.
        self.open_mail();
        self.due.set(false);
        let now_us = self.clock.now_us();
        for (index, group) in self.groups.iter().enumerate() {
            self.send_shown(index);
            let mut outbox = group.outbox.borrow_mut();
            let submission = (!outbox.is_empty()).then(|| outbox.take(now_us));
            drop(outbox);
            match (group.sequencer.get(), submission) {
                (Some(Sequencer::Here(driver)), submission) => {
                    driver.borrow_mut().end_turn(submission.map(Event::Submit));
                }
                (Some(Sequencer::There(mailbox)), Some(submission)) => {
                    mailbox.post(Mail::Submit(index, submission));
                }
                (None, Some(_)) => tracing::error!("a request came before its group had a sequencer"),
                (_, None) => {}
            }
        }
    }

    fn open_mail(self: &Rc<Self>) {
        while let Some(mail) = self.mailbox.queue.pop() {
            match mail {
                Mail::Accept(arrival, port) => self.accept(arrival, port),
                Mail::Answers(group, answers) => self.deliver(group, answers),
                Mail::Messages(group, messages) => self.hand_out(group, &messages),
                Mail::Confirmed(tickets) => self.confirm(&tickets),
                Mail::Shown(group, lines) => self.hand_out_shown(group, &lines),
                Mail::Fenced(group) => self.close_subscribers(group),
                Mail::Invalidate(group, told) => self.invalidate(group, &told),
                Mail::Redirected(reader, key) => self.tell_redirected(reader, key.as_ref()),
                Mail::Submit(group, submission) => {
                    if let Some(Sequencer::Here(driver)) = self.groups[group].sequencer.get() {
                        driver.borrow_mut().push([Event::Submit(submission)]);
                    }
                }
                Mail::Journal(group, news) => {
                    if let Some(Sequencer::Here(driver)) = self.groups[group].sequencer.get() {
                        driver.borrow_mut().journal(news);
                    }
                }
                Mail::HaveAllDo(group, command) => self.have_all_do(group, command),
                Mail::Users => self.look_at_users(),
                Mail::Drain => self.drain(),
            }
        }
    }

    fn accept(self: &Rc<Self>, arrival: Arrival, port: Arc<Port>) {
        match arrival.into_stream() {
            Ok(stream) if !self.draining.get() => {
                tokio::task::spawn_local(session::run(self.clone(), stream, port));
            }
            Ok(_) | Err(_) => {
                port.clients.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Gives a new client its number.
    pub fn enter(&self, client: Arc<Client>, port: Arc<Port>, socket: Writer) -> Rc<RefCell<Session>> {
        let mut sessions = self.sessions.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            sessions.push(None);
            sessions.len() - 1
        });
        let generation = self.generation.get();
        self.generation.set(generation + 1);
        let number = (slot * self.count + self.index) as u32;
        client.session.store(number, Ordering::Relaxed);
        let session = Session::new(number, client, port, socket, generation * TICKETS);
        let session = Rc::new(RefCell::new(session));
        sessions[slot] = Some(session.clone());
        session
    }

    /// The worker's index.
    pub fn index(&self) -> usize {
        self.index
    }

    /// All sessions of this worker.
    pub fn all_sessions(&self) -> Vec<Rc<RefCell<Session>>> {
        self.sessions.borrow().iter().flatten().cloned().collect()
    }

    /// The letter box of the worker that a session belongs to.
    pub fn mailbox_of(&self, session: u32) -> &Mailbox {
        &self.mailboxes[session as usize % self.count]
    }

    /// The session of this number, if it is still there.
    pub fn session(&self, number: u32) -> Option<Rc<RefCell<Session>>> {
        self.sessions.borrow().get(number as usize / self.count)?.clone()
    }

    /// Gives confirmations that waited.
    fn confirm(&self, tickets: &[(u32, u64)]) {
        for (number, ticket) in tickets {
            if let Some(session) = self.session(*number) {
                session.borrow_mut().confirm_now(*ticket);
                session::flush(self, &session);
            }
        }
    }

    /// Forgets a client that is gone.
    pub fn leave(&self, session: &Rc<RefCell<Session>>) {
        self.unhear_all(&mut session.borrow_mut());
        self.untrack(&mut session.borrow_mut());
        self.unwatch(&mut session.borrow_mut());
        let s = session.borrow();
        s.client.kill();
        self.registry.leave(s.client.id);
        s.port.clients.fetch_sub(1, Ordering::Relaxed);
        let slot = s.number as usize / self.count;
        self.sessions.borrow_mut()[slot] = None;
        self.free.borrow_mut().push(slot);
    }

    /// Puts answers in their places and writes what is due.
    pub fn deliver(&self, group: usize, answers: Vec<Answer>) {
        let now_us = self.clock.now_us();
        self.tick();
        let shared = &self.groups[group].shared;
        let mut due: Vec<Rc<RefCell<Session>>> = Vec::new();
        let sessions = self.sessions.borrow();
        for answer in answers {
            let slot = answer.session as usize / self.count;
            let Some(Some(session)) = sessions.get(slot) else { continue };
            let mut s = session.borrow_mut();
            if let Reply::Done(replies) = &answer.reply
                && let Some(latest) = s.take_latest(answer.ticket)
            {
                self.found_latest(&mut s, answer.ticket, latest, replies);
                continue;
            }
            let since =
                s.fill(answer.ticket, |shape| self.reply_bytes(shared, answer.reply, answer.commands, shape));
            if let Some((since, brief)) = since {
                let us = now_us.saturating_sub(since);
                self.counters.answered(us);
                let slow = &s.port.group.inspection.slow;
                if let Some(brief) = brief {
                    if slow.is_slow(us) {
                        slow.enter(self.unix_ms() / 1000, us, &brief, &s.client);
                    }
                    s.spare_brief = SlowLog::spare(brief);
                }
                if s.mark() {
                    due.push(session.clone());
                }
            }
        }
        drop(sessions);
        due.iter().for_each(|session| session::flush(self, session));
    }

    fn reply_bytes(&self, shared: &GroupShared, reply: Reply, commands: u32, shape: &Shape) -> Bytes {
        let (cause, unknown) = match reply {
            Reply::Done(bytes) => {
                let facts = Facts { unix_ms: self.unix_ms(), hub: &shared.hub };
                return filter::apply(shape, bytes, facts);
            }
            Reply::DoneBy(replica, bytes) => {
                let run = shared.runs.get(replica).map(|run| (replica, run.load(Ordering::Relaxed)));
                return match shape {
                    Shape::Page { keys, round } => cursor::page(*keys, bytes, run, *round),
                    shape => filter::apply(shape, bytes, Facts { unix_ms: self.unix_ms(), hub: &shared.hub }),
                };
            }
            Reply::Changed if *shape == Shape::Nothing => return Bytes::new(),
            Reply::Changed => return filter::changed(shape),
            Reply::Refused(cause) => (cause, false),
            Reply::Unknown(cause) => (cause, true),
        };
        if *shape == Shape::Nothing {
            self.counters.failed(unknown, u64::from(commands));
            return Bytes::new();
        }
        let lines = if *shape == Shape::AsIs { commands } else { 1 };
        self.counters.failed(unknown, u64::from(lines));
        let text = shared.explain(&cause, unknown);
        let mut out = BytesMut::new();
        (0..lines).for_each(|_| encode::error(&text, &mut out));
        out.freeze()
    }

    /// Asks the policy's decider for one request.
    pub fn decide(&self, group: &GroupHandle, asked: Asked) -> Result<Outcome, String> {
        match &mut *group.decider.borrow_mut() {
            Some(decider) => decider.decide(&asked),
            None => Err("NOTAPPLIED the policy wants to decide this request, but it has no decider".into()),
        }
    }

    /// Closes clients that are quiet, and again when the others become so.
    fn drain(&self) {
        self.draining.set(true);
        for session in self.sessions.borrow().iter().flatten() {
            let mut s = session.borrow_mut();
            // Half a command is not waited for: its other half may never come.
            if s.is_paid() || s.parked().is_some() {
                s.client.kill();
            } else {
                s.closing = true;
            }
        }
    }

    /// Closes clients that were silent for longer than their listener allows.
    pub fn sweep(&self) {
        let now_ms = self.clock.now_us() / 1000;
        for session in self.all_sessions() {
            if session.borrow_mut().confirm_overdue() {
                session::flush(self, &session);
            }
            let s = session.borrow();
            let limit = s.port.idle_timeout_ms.load(Ordering::Relaxed);
            let idle = now_ms.saturating_sub(s.client.active_ms.load(Ordering::Relaxed));
            // Whoever listens or watches may be silent.
            if limit > 0 && idle > limit && s.is_quiet() && s.own.is_empty() && !s.watches {
                s.client.kill();
            }
        }
    }
}
