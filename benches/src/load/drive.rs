//! The loop: one epoll over all connections, and a timer when requests have times of their own.

use super::connection::Connection;
use super::{LoadError, Outcome, STALL, Script, Seen, Settings, Stop};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use std::time::{Duration, Instant};

/// The event that is the timer's and no connection's.
const TIMER: u64 = u64::MAX;
/// How long an open loop waits for late replies after its end.
const GRACE: Duration = Duration::from_secs(1);
/// How often ends and stalls are looked for when nothing happens.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Latencies are kept up to a minute, to three digits.
const LONGEST_US: u64 = 60_000_000;

/// Open connections and their script; may run several times.
pub struct Load {
    settings: Settings,
    script: Script,
    epoll: OwnedFd,
    timer: OwnedFd,
    connections: Vec<Connection>,
}

impl Load {
    /// Opens all connections.
    pub fn connect(settings: &Settings) -> Result<Load, LoadError> {
        Load::with_script(settings, Script::random(settings))
    }

    /// The same with a script of one's own.
    pub fn with_script(settings: &Settings, script: Script) -> Result<Load, LoadError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(io)?;
        let edge = epoll::EventFlags::ET | epoll::EventFlags::IN;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), edge).map_err(io)?;
        let mut connections = Vec::with_capacity(settings.connections);
        for index in 0..settings.connections {
            let connection = Connection::open(settings, script.beginning(index, settings.connections))?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &connection.stream, data, edge | epoll::EventFlags::OUT).map_err(io)?;
            connections.push(connection);
        }
        Ok(Load { settings: settings.clone(), script, epoll, timer, connections })
    }

    /// Sends and counts until `stop`.
    pub fn run(&mut self, stop: Stop) -> Result<Outcome, LoadError> {
        for connection in &mut self.connections {
            assert_eq!(connection.outstanding(), 0, "a run that left requests unanswered is not run again");
            (connection.sent, connection.answered, connection.due) = (0, 0, 0);
        }
        Run::new(self, stop)?.finish()
    }
}

struct Run<'a> {
    load: &'a mut Load,
    started: Instant,
    until: Option<Instant>,
    /// Requests that may still be handed out.
    budget: u64,
    /// Requests handed to connections; in an open loop when their time comes.
    issued: u64,
    /// Open loop: connections that have something new to send.
    touched: Vec<usize>,
    seen: Seen,
    last_reply: Instant,
    /// When the timer goes off.
    wakes: Option<Instant>,
    latency: Histogram<u64>,
    buffer: Vec<u8>,
}

impl<'a> Run<'a> {
    fn new(load: &'a mut Load, stop: Stop) -> Result<Run<'a>, LoadError> {
        let latency = Histogram::new_with_bounds(1, LONGEST_US, 3).map_err(std::io::Error::other)?;
        let started = Instant::now();
        let (until, budget) = match stop {
            Stop::Requests(count) => (None, count),
            Stop::After(time) => (Some(started + time), u64::MAX),
        };
        Ok(Run {
            load,
            started,
            until,
            budget,
            issued: 0,
            touched: Vec::new(),
            seen: Seen::default(),
            last_reply: started,
            wakes: None,
            latency,
            buffer: vec![0; 64 << 10],
        })
    }

    fn finish(mut self) -> Result<Outcome, LoadError> {
        self.begin()?;
        let mut events = Vec::with_capacity(256);
        loop {
            match epoll::wait(&self.load.epoll, spare_capacity(&mut events), Some(&TICK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io(e)),
            }
            for event in events.drain(..) {
                let (flags, data) = (event.flags, event.data.u64());
                if data != TIMER {
                    self.on_socket(data as usize, flags)?;
                }
            }
            if self.is_over()? {
                return self.outcome();
            }
        }
    }

    fn begin(&mut self) -> Result<(), LoadError> {
        if self.load.settings.rate.is_some() {
            return self.hand_out_what_is_due();
        }
        for index in 0..self.load.connections.len() {
            self.next_batch(index, Instant::now())?;
        }
        Ok(())
    }

    fn on_socket(&mut self, index: usize, flags: epoll::EventFlags) -> Result<(), LoadError> {
        let connection = &mut self.load.connections[index];
        if flags.contains(epoll::EventFlags::OUT) && !connection.is_flushed() {
            connection.flush(&self.load.script)?;
        }
        if !flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            return Ok(());
        }
        let replies = connection.receive(&mut self.buffer, &mut self.seen)?;
        if replies == 0 {
            return Ok(());
        }
        let now = Instant::now();
        self.last_reply = now;
        match self.load.settings.rate {
            None => {
                let latency = micros(now - connection.batch_at);
                self.latency.saturating_record_n(latency, replies);
                self.next_batch(index, now)
            }
            Some(rate) => {
                let answered = connection.answered;
                for nth in answered - replies..answered {
                    let latency = now.saturating_duration_since(self.intended(rate, index, nth));
                    self.latency.saturating_record(micros(latency));
                }
                self.send_what_is_due(index)
            }
        }
    }

    /// Closed loop: the next `depth` requests, once all replies are there.
    fn next_batch(&mut self, index: usize, now: Instant) -> Result<(), LoadError> {
        let connection = &mut self.load.connections[index];
        let over = self.until.is_some_and(|until| now >= until);
        let count = self.budget.min(self.load.settings.depth as u64);
        if over || count == 0 || connection.outstanding() > 0 {
            return Ok(());
        }
        self.budget -= count;
        self.issued += count;
        connection.batch_at = now;
        connection.send(&self.load.script, count as usize)
    }

    /// Open loop: gives every request whose time has come to its connection, and sets the timer for the next.
    fn hand_out_what_is_due(&mut self) -> Result<(), LoadError> {
        let Some(rate) = self.load.settings.rate else { return Ok(()) };
        let count = self.load.connections.len() as u64;
        let now = Instant::now();
        while self.budget > 0 {
            let at = self.at(rate, self.issued);
            if self.until.is_some_and(|until| at >= until) {
                self.budget = 0;
            } else if at > now {
                break;
            } else {
                let index = (self.issued % count) as usize;
                self.load.connections[index].due += 1;
                self.touched.push(index);
                self.issued += 1;
                self.budget -= 1;
            }
        }
        let mut touched = std::mem::take(&mut self.touched);
        for index in touched.drain(..) {
            self.send_what_is_due(index)?;
        }
        self.touched = touched;
        if self.budget > 0 { self.wake_at(self.at(rate, self.issued)) } else { Ok(()) }
    }

    /// Open loop: a connection has at most `depth` in flight; what waits for that has its intended time all the same.
    fn send_what_is_due(&mut self, index: usize) -> Result<(), LoadError> {
        let depth = self.load.settings.depth as u64;
        let connection = &mut self.load.connections[index];
        let count = (connection.due - connection.sent).min(depth - connection.outstanding());
        if count == 0 || !connection.is_flushed() {
            return Ok(());
        }
        connection.send(&self.load.script, count as usize)
    }

    /// The time of the n-th request of the run.
    fn at(&self, rate: f64, n: u64) -> Instant {
        let after = Duration::from_secs_f64(n as f64 / rate);
        let burst = self.load.settings.burst.as_nanos().max(1);
        let early = (after.as_nanos() % burst) as u64;
        self.started + (after - Duration::from_nanos(early))
    }

    /// The time of the n-th request of a connection: requests go round the connections.
    fn intended(&self, rate: f64, index: usize, nth: u64) -> Instant {
        self.at(rate, nth * self.load.connections.len() as u64 + index as u64)
    }

    fn wake_at(&mut self, at: Instant) -> Result<(), LoadError> {
        if self.wakes == Some(at) {
            return Ok(());
        }
        self.wakes = Some(at);
        // Zero would switch the timer off.
        let wait = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let it_value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        let flags = TimerfdTimerFlags::empty();
        rustix::time::timerfd_settime(&self.load.timer, flags, &once).map_err(io)?;
        Ok(())
    }

    fn is_over(&mut self) -> Result<bool, LoadError> {
        let open = self.load.settings.rate.is_some();
        if open {
            self.hand_out_what_is_due()?;
        }
        let now = Instant::now();
        let handing_out = self.budget > 0 && self.until.is_none_or(|until| now < until);
        let waiting = self.issued - self.seen.replies;
        if waiting == 0 {
            return Ok(!handing_out);
        }
        let silent = now - self.last_reply.max(self.started);
        if open && !handing_out && now >= self.until.unwrap_or(self.last_reply) + GRACE {
            return Ok(true);
        }
        if silent > STALL { Err(LoadError::Stalled { outstanding: waiting }) } else { Ok(false) }
    }

    fn outcome(mut self) -> Result<Outcome, LoadError> {
        let unfinished = self.count_unfinished();
        if self.seen.replies == 0 && unfinished > 0 {
            return Err(LoadError::Silent);
        }
        Ok(Outcome {
            answered: self.seen.replies,
            errors: self.seen.errors,
            nulls: self.seen.nulls,
            error_texts: self.seen.error_texts,
            unfinished,
            elapsed: self.last_reply - self.started,
            latency: self.latency,
        })
    }

    fn count_unfinished(&mut self) -> u64 {
        let Some(rate) = self.load.settings.rate else { return 0 };
        let now = Instant::now();
        let mut unfinished = 0;
        for (index, connection) in self.load.connections.iter().enumerate() {
            for nth in connection.answered..connection.due {
                let so_far = now.saturating_duration_since(self.intended(rate, index, nth));
                self.latency.saturating_record(micros(so_far));
                unfinished += 1;
            }
        }
        unfinished
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

fn io(e: rustix::io::Errno) -> LoadError {
    LoadError::Io(e.into())
}
