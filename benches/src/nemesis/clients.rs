//! Clients that write and read without pause and keep a record of every answer. A client waits for one answer at a
//! time; when it is refused by a fenced proxy, or cannot connect, it tries the other proxy.

use super::connection::{Connection, PATIENCE};
use super::dice::Dice;
use super::history::{End, Event};
use super::mix::actor::{Actor, Numbers};
use super::mix::{Histories, Part};
use super::objects::{Act, Ask, KINDS, Kind, Object};
use quorate_wire::resp::{Value, is_environment_error};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Objects that most requests go to, of each kind, at one time.
const HOT: u64 = 2;
/// Requests after which a hot object makes room for a new one: the checker's work grows with this.
const LIFE: u64 = 200;
/// Objects of each kind that few requests go to, and where their numbers begin.
const COLD: u64 = 300;
const COLD_NUMBERS: u64 = 1_000_000;
/// Different answers of one sort that are kept.
const KEPT: usize = 20;
/// How long a client lets a proxy alone that refused it or is not there.
const REST: Duration = Duration::from_millis(5);

/// Errors that say that a command did nothing, for a reason of its own.
const DID_NOTHING: [&str; 3] = ["BUSYGROUP", "NOGROUP", "NOSCRIPT"];
/// Of so many requests of the clients an actor of the mix makes one.
const SHARE: u32 = 50;

/// What the clients share.
#[derive(Debug)]
pub(crate) struct Shared {
    proxies: Vec<SocketAddr>,
    started: Instant,
    stop: AtomicBool,
    values: AtomicU64,
    hot: Vec<AtomicU64>,
    answered: AtomicU64,
    interval: Duration,
    pace: Duration,
    pub(crate) numbers: Numbers,
}

/// Running clients.
#[derive(Debug)]
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Record>>,
}

/// What clients saw.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// All requests that were sent.
    pub events: Vec<Event>,
    /// Errors by their first word.
    pub errors: BTreeMap<String, u64>,
    /// Replies that the command never has, the first few.
    pub odd: Vec<String>,
    /// Requests without an answer for [`PATIENCE`], the first few.
    pub silent: Vec<String>,
    /// What the other parts of the mix saw.
    pub mix: Histories,
}

/// What a client heard.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A reply that is no error.
    Reply(Value),
    /// The request did nothing, and never will.
    Refused,
    /// Nobody told.
    Unknown,
}

impl Clients {
    /// Starts `count` clients that together send `rate` requests a second if they are answered fast enough, and the
    /// actors of the other `parts`.
    pub fn start(proxies: &[SocketAddr], parts: &[Part], (count, rate): (u64, u64), seed: u64) -> Clients {
        let shared = Arc::new(Shared {
            proxies: proxies.to_vec(),
            started: Instant::now(),
            stop: AtomicBool::new(false),
            values: AtomicU64::new(1),
            hot: (0..HOT * KINDS.len() as u64).map(|_| AtomicU64::new(0)).collect(),
            answered: AtomicU64::new(0),
            interval: Duration::from_secs_f64(count as f64 / rate as f64),
            pace: Duration::from_secs_f64(f64::from(SHARE) / rate as f64),
            numbers: Numbers::default(),
        });
        let count = if parts.contains(&Part::Objects) { count } else { 0 };
        let players = parts.iter().flat_map(|part| part.roles());
        let players = players.flat_map(|(role, actors)| (0..actors).map(move |nth| (role, nth)));
        let players: Vec<_> = (count..).zip(players).collect();
        let all = count + players.len() as u64;
        let mut threads = Vec::new();
        for nth in 0..count {
            let shared = shared.clone();
            threads.push(std::thread::spawn(move || Client::new(&shared, nth, all, seed).work()));
        }
        for (process, (role, nth)) in players {
            let shared = shared.clone();
            threads.push(std::thread::spawn(move || Actor::new(&shared, process, all, seed).work(role, nth)));
        }
        Clients { shared, threads }
    }

    /// Reads once more what the mix used, after the end, as `process`.
    pub fn read_mix(proxy: SocketAddr, record: &mut Record, process: u64, began: Instant) {
        let shared = Shared::alone(proxy, began);
        let mut actor = Actor::new(&shared, process, 0, 0);
        record.mix.read_last(&mut actor);
        record.join(actor.record);
    }

    /// When the history began.
    pub fn began(&self) -> Instant {
        self.shared.started
    }

    /// Nanoseconds since the beginning: the time of the history.
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// Requests that succeeded so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Ends all clients, when they have the answer that they wait for.
    pub fn stop(self) -> Record {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut whole = Record::default();
        for thread in self.threads {
            whole.join(thread.join().expect("a client does not panic"));
        }
        whole
    }
}

impl Record {
    /// Adds what another client saw.
    pub fn join(&mut self, other: Record) {
        self.events.extend(other.events);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.odd.extend(other.odd);
        self.odd.truncate(KEPT);
        self.silent.extend(other.silent);
        self.silent.truncate(KEPT);
        self.mix.join(other.mix);
    }

    /// Tells errors from replies, and counts what it is not pleased with.
    pub fn hear(&mut self, asked: impl Fn() -> String, reply: std::io::Result<Value>) -> Heard {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.count("(no answer)");
                keep(&mut self.silent, asked());
                return Heard::Unknown;
            }
            Err(_) => {
                self.count("(connection lost)");
                return Heard::Unknown;
            }
        };
        let Some(error) = reply.error() else { return Heard::Reply(reply) };
        let word = error.split(' ').next().unwrap_or_default().to_string();
        self.count(&word);
        match word.as_str() {
            "UNKNOWN" => Heard::Unknown,
            "NOTAPPLIED" => Heard::Refused,
            word if DID_NOTHING.contains(&word) => Heard::Refused,
            _ if is_environment_error(error.as_bytes()) => Heard::Refused,
            _ => {
                keep(&mut self.odd, format!("{} was answered {error}", asked()));
                Heard::Unknown
            }
        }
    }

    /// Keeps a reply that the command never has.
    pub fn odd(&mut self, problem: String) {
        keep(&mut self.odd, problem);
    }

    /// Understands one reply, and counts what it is not pleased with.
    pub fn end(&mut self, ask: Ask, reply: std::io::Result<Value>) -> End {
        match self.hear(|| format!("{ask:?}"), reply) {
            Heard::Refused => End::Fail,
            Heard::Unknown => End::Info,
            Heard::Reply(reply) => ask.told(&reply).map_or_else(
                |problem| {
                    self.odd(problem);
                    End::Info
                },
                End::Ok,
            ),
        }
    }

    fn count(&mut self, error: &str) {
        *self.errors.entry(error.to_string()).or_default() += 1;
    }
}

fn keep(texts: &mut Vec<String>, text: String) {
    if texts.len() < KEPT {
        texts.push(text);
    }
}

impl Shared {
    /// For one client alone, whose history began then.
    fn alone(proxy: SocketAddr, started: Instant) -> Shared {
        Shared {
            proxies: vec![proxy],
            started,
            stop: AtomicBool::new(false),
            values: AtomicU64::new(1),
            hot: Vec::new(),
            answered: AtomicU64::new(0),
            interval: Duration::ZERO,
            pace: Duration::ZERO,
            numbers: Numbers::default(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).expect("a run is shorter than 500 years")
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Time between two turns of an actor.
    pub(crate) fn pace(&self) -> Duration {
        self.pace
    }

    pub(crate) fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn succeeded(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn proxy(&self, nth: usize) -> SocketAddr {
        self.proxies[nth % self.proxies.len()]
    }

    pub(crate) fn rest(&self) {
        std::thread::sleep(REST);
    }
}

struct Client<'a> {
    shared: &'a Shared,
    dice: Dice,
    /// A client whose request has no known end goes on under another number, as Jepsen's do.
    process: u64,
    count: u64,
    proxy: usize,
    connection: Option<Connection>,
    record: Record,
}

impl<'a> Client<'a> {
    fn new(shared: &'a Shared, nth: u64, count: u64, seed: u64) -> Self {
        let dice = Dice::new(seed ^ (nth + 1).wrapping_mul(0x5851_F42D_4C95_7F2D));
        Client { shared, dice, process: nth, count, proxy: 0, connection: None, record: Record::default() }
    }

    fn work(mut self) -> Record {
        let mut due = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due = Instant::now().max(due + self.shared.interval);
            self.request();
        }
        self.record
    }

    fn request(&mut self) {
        let Some(mut connection) = self.connection.take().or_else(|| self.connect()) else {
            self.go_elsewhere();
            return;
        };
        let ask = self.choose();
        let invoked = self.shared.now();
        let reply = connection.send(&ask.encode()).and_then(|()| connection.receive());
        let ended = self.shared.now();
        let alive = reply.is_ok();
        let fenced = matches!(&reply, Ok(reply) if reply.error().is_some_and(|e| e.contains("fenced")));
        let end = self.record.end(ask, reply);
        let process = self.process;
        match &end {
            End::Ok(_) => {
                self.shared.answered.fetch_add(1, Ordering::Relaxed);
            }
            End::Fail => {}
            End::Info => self.process += self.count,
        }
        self.record.events.push(Event { process, ask, invoked, ended, end });
        if alive && !fenced {
            self.connection = Some(connection);
        } else {
            self.go_elsewhere();
        }
    }

    fn connect(&self) -> Option<Connection> {
        Connection::open(self.shared.proxies[self.proxy], PATIENCE).ok()
    }

    fn go_elsewhere(&mut self) {
        self.proxy = (self.proxy + 1) % self.shared.proxies.len();
        std::thread::sleep(REST);
    }

    fn choose(&mut self) -> Ask {
        let kinds = KINDS.len() as u64;
        let object = if self.dice.percent(70) {
            let slot = self.dice.below(self.shared.hot.len() as u64);
            let used = self.shared.hot[slot as usize].fetch_add(1, Ordering::Relaxed);
            Object { kind: KINDS[(slot % kinds) as usize], number: used / LIFE * HOT + slot / kinds }
        } else {
            let kind = KINDS[self.dice.below(kinds) as usize];
            Object { kind, number: COLD_NUMBERS + self.dice.below(COLD) }
        };
        let value = self.shared.values.fetch_add(1, Ordering::Relaxed);
        let act = match (object.kind, self.dice.below(100)) {
            (_, 0..40) => Act::Read,
            (Kind::Text | Kind::Field, 40..50) => Act::Remove,
            (Kind::Text, 50..60) => Act::WriteNew(value),
            _ => Act::Write(value),
        };
        Ask { object, act }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_wire::resp::Value;

    #[test]
    fn three_ways_to_end() {
        let ask = Ask { object: Object { kind: Kind::Counter, number: 1 }, act: Act::Write(1) };
        let mut record = Record::default();
        let error = |text: &str| Ok(Value::Error(Bytes::copy_from_slice(text.as_bytes())));
        assert_eq!(record.end(ask, error("NOTAPPLIED no quorum")), End::Fail);
        assert_eq!(record.end(ask, error("MISCONF the disk is full")), End::Fail);
        assert_eq!(record.end(ask, error("UNKNOWN too late")), End::Info);
        assert_eq!(record.end(ask, Err(ErrorKind::UnexpectedEof.into())), End::Info);
        assert!(record.odd.is_empty() && record.silent.is_empty());
        assert_eq!(record.end(ask, error("ERR what")), End::Info);
        assert_eq!(record.end(ask, Err(ErrorKind::WouldBlock.into())), End::Info);
        assert_eq!((record.odd.len(), record.silent.len()), (1, 1));
        assert_eq!(record.errors.values().sum::<u64>(), 6);
    }
}
