//! The life of one connection of a simulated proxy: attach, serve, lose, wait, again.

use super::Env;
use super::link::Link;
use super::net::{ConnId, Segment, Way};
use super::proxy::{Proxy, Stage};
use super::talk::{Next, Talk};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::Event;

const FIRST_WAIT_US: u64 = 10_000;
const LONGEST_WAIT_US: u64 = 160_000;
/// Time for connecting and for each answer.
const ANSWER_US: u64 = 150_000;
/// An idle connection is asked this often whether it lives.
const PROBE_US: u64 = 100_000;
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting { until_us: u64 },
    Talking,
    Serving,
    Over,
}

/// One backend's attendant in a proxy.
pub(super) struct Attendant {
    replica: usize,
    pub(super) state: State,
    pub(super) link: Link,
    pub(super) run_id: String,
    /// What the survey saw; the error says nothing more.
    pub(super) seen: Option<Result<u64, ()>>,
    conn: Option<ConnId>,
    talk: Option<Talk>,
    buf: BytesMut,
    wait_us: u64,
    since_us: u64,
    probe_us: u64,
    pub(super) probed: bool,
}

impl Attendant {
    pub(super) fn new(replica: usize) -> Self {
        Attendant {
            replica,
            state: State::Over,
            link: Link::default(),
            run_id: String::new(),
            seen: None,
            conn: None,
            talk: None,
            buf: BytesMut::new(),
            wait_us: FIRST_WAIT_US,
            since_us: 0,
            probe_us: 0,
            probed: false,
        }
    }

    /// A new ownership begins.
    pub(super) fn begin(&mut self, now_us: u64) {
        (self.state, self.wait_us) = (State::Waiting { until_us: now_us }, FIRST_WAIT_US);
    }

    pub(super) fn aside(&mut self, command: &[u8]) {
        if self.state == State::Serving {
            self.link.aside(command);
        }
    }
}

impl Proxy {
    /// Begins a conversation that only asks for the greatest epoch.
    pub(super) fn probe(&mut self, i: usize, until_us: u64, env: &mut Env) {
        self.attendants[i].seen = None;
        self.connect(i, Talk::survey(until_us), env);
    }

    fn connect(&mut self, i: usize, talk: Talk, env: &mut Env) {
        let conn = env.connect(self.index, i);
        let attendant = &mut self.attendants[i];
        attendant.buf.clear();
        attendant.link.clear();
        attendant.conn = Some(conn);
        attendant.talk = Some(talk);
        attendant.state = State::Talking;
    }

    /// Closes the connection, whatever it is good for, and stays away.
    pub(super) fn leave(&mut self, i: usize, env: &mut Env) {
        let attendant = &mut self.attendants[i];
        if let Some(conn) = attendant.conn.take() {
            env.hang_up(conn);
        }
        attendant.link.clear();
        attendant.talk = None;
        attendant.state = State::Over;
    }

    /// Looks at the timers of one connection.
    pub(super) fn attend(&mut self, i: usize, env: &mut Env) {
        let now_us = env.agenda.now_us();
        match self.attendants[i].state {
            State::Waiting { until_us } if until_us <= now_us && !self.is_over() => {
                let shell = self.options.shell;
                let talk = Talk::attach(self.owner.clone(), shell, now_us + ANSWER_US);
                self.connect(i, talk, env);
            }
            State::Talking => {
                let late = |talk: &Talk| talk.deadline_us <= now_us;
                if self.attendants[i].talk.as_ref().is_some_and(late) {
                    self.give_up(i, "no answer", env);
                }
            }
            State::Serving if self.attendants[i].probe_us <= now_us => self.ping(i, env),
            _ => {}
        }
    }

    fn ping(&mut self, i: usize, env: &mut Env) {
        let attendant = &mut self.attendants[i];
        if attendant.probed {
            return self.lost(i, "it answers no PING", env);
        }
        attendant.probe_us = env.agenda.now_us() + PROBE_US;
        if attendant.link.is_unwatched() {
            attendant.probed = true;
            attendant.aside(PING);
            self.flush(i, env);
        }
    }

    /// Writes what the link has.
    pub(super) fn flush(&mut self, i: usize, env: &mut Env) {
        let attendant = &mut self.attendants[i];
        let bytes = attendant.link.take();
        if let Some(conn) = attendant.conn
            && !bytes.is_empty()
        {
            env.write(conn, Way::ToBackend, bytes);
        }
    }

    /// A segment from a backend.
    pub(super) fn receive(&mut self, i: usize, id: ConnId, segment: Segment, env: &mut Env) {
        if !self.alive || self.attendants[i].conn != Some(id) {
            return;
        }
        let serving = self.attendants[i].state == State::Serving;
        match segment {
            Segment::Accepted => {
                let first = self.attendants[i].talk.as_mut().map(|talk| talk.open(&self.keys));
                first.into_iter().for_each(|bytes| env.write(id, Way::ToBackend, bytes));
            }
            Segment::Data(bytes) if serving => self.served(i, &bytes, env),
            Segment::Data(bytes) => self.hear(i, id, &bytes, env),
            Segment::Close if serving => self.lost(i, "it closed the connection", env),
            Segment::Close => self.give_up(i, "it closed the connection", env),
            Segment::Syn => {}
        }
    }

    fn hear(&mut self, i: usize, id: ConnId, bytes: &Bytes, env: &mut Env) {
        let attendant = &mut self.attendants[i];
        attendant.buf.extend_from_slice(bytes);
        let Some(talk) = &mut attendant.talk else { return };
        let before = talk.step;
        let next = talk.hear(&mut attendant.buf, &self.keys);
        if before == super::talk::Step::Take && talk.step == super::talk::Step::Login {
            env.fences.push(i);
        }
        if !matches!(next, Next::Wait) && self.stage == Stage::Own {
            talk.deadline_us = env.agenda.now_us() + ANSWER_US;
        }
        match next {
            Next::Wait => {}
            Next::Say(bytes) => env.write(id, Way::ToBackend, bytes),
            Next::Seen(epoch) => {
                self.leave(i, env);
                self.attendants[i].seen = Some(Ok(epoch));
            }
            Next::Done(attachment, run_id) => {
                let now_us = env.agenda.now_us();
                attendant.talk = None;
                attendant.run_id = run_id;
                attendant.state = State::Serving;
                (attendant.since_us, attendant.probe_us, attendant.probed) =
                    (now_us, now_us + PROBE_US, false);
                let position = attachment.position.map_or("nowhere".to_string(), |p| p.to_string());
                let marks = if attachment.restarted { ", restarted" } else { "" };
                env.note(format!("{} attaches r{} at {position}{marks}", self.name(), i + 1));
                if !self.options.shell.run {
                    self.record_run(i);
                }
                self.events.push(Event::Attached { replica: i, attachment });
                self.run(env);
            }
            Next::Fenced(by) => {
                self.leave(i, env);
                self.fenced(by, env);
            }
            Next::Problem(problem) => self.give_up(i, &problem, env),
        }
    }

    fn served(&mut self, i: usize, bytes: &Bytes, env: &mut Env) {
        let attendant = &mut self.attendants[i];
        attendant.probed = false;
        attendant.buf.extend_from_slice(bytes);
        let shell = self.options.shell;
        let mut events = std::mem::take(&mut self.events);
        let result = attendant.link.receive(attendant.replica, &mut attendant.buf, shell, &mut events);
        self.events = events;
        if let Err(error) = result {
            env.violate("nonsense", format!("{}: r{} answered nonsense: {error}", self.name(), i + 1));
            return self.lost(i, "its answer makes no sense", env);
        }
        self.run(env);
    }

    /// The connection in service is gone.
    pub(super) fn lost(&mut self, i: usize, why: &str, env: &mut Env) {
        if self.attendants[i].state != State::Serving {
            return;
        }
        env.note(format!("{} lost r{}: {why}", self.name(), i + 1));
        self.leave(i, env);
        if env.agenda.now_us() > self.attendants[i].since_us + LONGEST_WAIT_US {
            self.attendants[i].wait_us = FIRST_WAIT_US;
        }
        self.rest(i, env);
        self.events.push(Event::Disconnected { replica: i });
        self.run(env);
    }

    /// The conversation led nowhere.
    fn give_up(&mut self, i: usize, why: &str, env: &mut Env) {
        env.detail(format!("{} cannot attach r{}: {why}", self.name(), i + 1));
        self.leave(i, env);
        match self.stage {
            Stage::Own => self.rest(i, env),
            _ => self.attendants[i].seen = Some(Err(())),
        }
    }

    fn rest(&mut self, i: usize, env: &mut Env) {
        let attendant = &mut self.attendants[i];
        let wait_us = attendant.wait_us / 2 + env.dice.below(attendant.wait_us / 2 + 1);
        attendant.state = State::Waiting { until_us: env.agenda.now_us() + wait_us };
        attendant.wait_us = (attendant.wait_us * 2).min(LONGEST_WAIT_US);
    }
}
