//! Clients that write all the time and remember what they were told.
//!
//! Each writer has a list and a counter of its own, and all share one of each. A write is sent,
//! and its answer recorded, before the next one: so every answer can be held against the data.

use super::{Client, Value};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No request may stay unanswered for this long.
const HANG: Duration = Duration::from_secs(20);

/// What became of one kind of write.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Acknowledged.
    pub acked: Vec<u64>,
    /// Refused: must never take effect.
    pub refused: Vec<u64>,
    /// May take effect.
    pub unknown: Vec<u64>,
}

impl Tally {
    fn note(&mut self, op: u64, outcome: Outcome) {
        match outcome {
            Outcome::Acked => self.acked.push(op),
            Outcome::Refused => self.refused.push(op),
            Outcome::Unknown => self.unknown.push(op),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acked,
    Refused,
    Unknown,
}

/// What one writer was told.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    /// Its number.
    pub id: usize,
    /// `SET u:{id}:{op} {op}`.
    pub sets: Tally,
    /// `INCR c:{id}`.
    pub own: Tally,
    /// `INCR c:all`.
    pub shared: Tally,
    /// `RPUSH l:{id} {op}`.
    pub list: Tally,
    /// `RPUSH l:all {id}:{op}`.
    pub shared_list: Tally,
    /// The longest time that a request took, and which.
    pub slowest: (Duration, String),
    /// Error lines, the first of each kind.
    pub errors: Vec<String>,
    /// Answers that contradict what was acknowledged before.
    pub contradictions: Vec<String>,
}

/// What all were told.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// One a writer.
    pub writers: Vec<Writer>,
}

/// Writers that run until stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Writer>>,
}

impl Load {
    /// Starts writers numbered from `first`. They reconnect whenever they lose the connection.
    pub fn start(port: u16, first: usize, writers: usize) -> Load {
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (first..first + writers)
            .map(|id| {
                let (stop, acked) = (stop.clone(), acked.clone());
                std::thread::spawn(move || work(port, id, &stop, &acked))
            })
            .collect();
        Load { stop, acked, threads }
    }

    /// Writes acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Waits until `more` writes were acknowledged from now on.
    #[track_caller]
    pub fn wait_acked(&self, more: u64) {
        let target = self.acked() + more;
        super::wait_until("more writes are acknowledged", super::LONG, || self.acked() >= target);
    }

    /// Stops all writers.
    #[track_caller]
    pub fn stop(self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        Record {
            writers: self.threads.into_iter().map(|t| t.join().expect("a writer does not panic")).collect(),
        }
    }
}

struct Worker<'a> {
    port: u16,
    client: Option<Client>,
    other: Option<Client>,
    record: Writer,
    acked: &'a AtomicU64,
}

fn work(port: u16, id: usize, stop: &AtomicBool, acked: &AtomicU64) -> Writer {
    let record = Writer { id, ..Writer::default() };
    let mut worker = Worker { port, client: None, other: None, record, acked };
    let mut last = (0, 0);
    for op in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        worker.round(op, &mut last);
    }
    worker.record
}

impl Worker<'_> {
    fn round(&mut self, op: u64, last: &mut (i64, i64)) {
        let id = self.record.id;
        let (set, _) = self.write(&format!("SET u:{id}:{op} {op}"));
        self.record.sets.note(op, set);
        if set == Outcome::Acked && op.is_multiple_of(4) {
            self.check_visible(op);
        }
        let (own, value) = self.write(&format!("INCR c:{id}"));
        self.record.own.note(op, own);
        self.check_grows("own counter", &mut last.0, value);
        let (shared, value) = self.write("INCR c:all");
        self.record.shared.note(op, shared);
        self.check_grows("shared counter", &mut last.1, value);
        let (list, _) = self.write(&format!("RPUSH l:{id} {op}"));
        self.record.list.note(op, list);
        let (shared, _) = self.write(&format!("RPUSH l:all {id}:{op}"));
        self.record.shared_list.note(op, shared);
    }

    fn write(&mut self, line: &str) -> (Outcome, Option<Value>) {
        let start = Instant::now();
        let reply = self.send(line);
        let took = start.elapsed();
        if took > self.record.slowest.0 {
            self.record.slowest = (took, format!("{line}: {reply:?}"));
        }
        match reply {
            // Nothing was sent.
            Err(None) => {
                std::thread::sleep(Duration::from_millis(5));
                (Outcome::Refused, None)
            }
            Err(Some(error)) => {
                self.error(error);
                (Outcome::Unknown, None)
            }
            Ok(reply) if reply.is_error() => {
                let text = reply.string();
                let outcome = match text.split(' ').next() {
                    Some("NOTAPPLIED") => Outcome::Refused,
                    _ => Outcome::Unknown,
                };
                self.error(text);
                (outcome, None)
            }
            Ok(reply) => {
                self.acked.fetch_add(1, Ordering::Relaxed);
                (Outcome::Acked, Some(reply))
            }
        }
    }

    /// `Err(None)`: there was no connection to send it on.
    fn send(&mut self, line: &str) -> Result<Value, Option<String>> {
        if self.client.is_none() {
            self.client = Client::connect_with(self.port, HANG).ok();
        }
        let client = self.client.as_mut().ok_or(None)?;
        client.try_line(line).map_err(|error| {
            self.client = None;
            Some(format!("connection: {error}"))
        })
    }

    fn error(&mut self, text: String) {
        let kind = |text: &str| text.split(' ').next().unwrap_or_default().to_string();
        if !self.record.errors.iter().any(|known| kind(known) == kind(&text)) {
            self.record.errors.push(text);
        }
    }

    /// What was acknowledged to one connection is seen by another.
    fn check_visible(&mut self, op: u64) {
        if self.other.is_none() {
            self.other = Client::connect_with(self.port, HANG).ok();
        }
        let line = format!("GET u:{}:{op}", self.record.id);
        match self.other.as_mut().map(|client| client.try_line(&line)) {
            Some(Ok(reply)) if reply.is_error() || reply.text == op.to_string().as_bytes() => {}
            Some(Ok(reply)) => {
                self.record.contradictions.push(format!("{line} is {reply:?} after SET was OK"))
            }
            Some(Err(_)) | None => self.other = None,
        }
    }

    fn check_grows(&mut self, what: &str, last: &mut i64, value: Option<Value>) {
        let Some(value) = value.map(|value| value.number()) else { return };
        if value <= *last {
            self.record.contradictions.push(format!("the {what} was {last} and then {value}"));
        }
        *last = value;
    }
}

impl Record {
    /// All error lines.
    pub fn errors(&self) -> Vec<String> {
        self.writers.iter().flat_map(|w| w.errors.clone()).collect()
    }

    /// The longest time that a request took.
    pub fn slowest(&self) -> (Duration, String) {
        self.writers.iter().map(|w| w.slowest.clone()).max().unwrap_or_default()
    }

    /// Adds writers of another load, with other numbers.
    pub fn join(mut self, other: Record) -> Record {
        self.writers.extend(other.writers);
        self
    }

    /// Holds all that was told against the data. Every acknowledged write must be there once, no
    /// refused one may be there.
    #[track_caller]
    pub fn check(&self, client: &mut Client) {
        let mut wrong: Vec<String> = Vec::new();
        for w in &self.writers {
            wrong.extend(w.contradictions.iter().cloned());
            check_sets(w, client, &mut wrong);
            let id = w.id;
            check_counter(&format!("c:{id}"), &[&w.own], client, &mut wrong);
            check_list(&format!("l:{id}"), &[(String::new(), &w.list)], client, &mut wrong);
        }
        let shared: Vec<&Tally> = self.writers.iter().map(|w| &w.shared).collect();
        check_counter("c:all", &shared, client, &mut wrong);
        let lists: Vec<_> = self.writers.iter().map(|w| (format!("{}:", w.id), &w.shared_list)).collect();
        check_list("l:all", &lists, client, &mut wrong);
        let acked: usize = self.writers.iter().map(|w| w.sets.acked.len()).sum();
        assert!(acked > 0, "nothing was acknowledged at all: {:?}", self.errors());
        wrong.truncate(10);
        assert!(wrong.is_empty(), "of {acked} rounds:\n{}", wrong.join("\n"));
    }
}

fn check_sets(w: &Writer, client: &mut Client, wrong: &mut Vec<String>) {
    for (ops, expected) in [(&w.sets.acked, true), (&w.sets.refused, false)] {
        for chunk in ops.chunks(500) {
            let asked: Vec<String> = chunk.iter().map(|op| format!("GET u:{}:{op}", w.id)).collect();
            let bytes = super::lines(&asked.iter().map(String::as_str).collect::<Vec<_>>());
            for (line, (reply, op)) in
                asked.iter().zip(client.pipeline(&bytes, chunk.len()).iter().zip(chunk))
            {
                let there = reply.text == op.to_string().as_bytes();
                if there != expected || reply.is_error() {
                    wrong.push(format!("{line} is {reply:?}; acknowledged: {expected}"));
                }
            }
        }
    }
}

fn check_counter(key: &str, tallies: &[&Tally], client: &mut Client, wrong: &mut Vec<String>) {
    let reply = client.line(&format!("GET {key}"));
    let value = if reply.null { 0 } else { reply.number() as usize };
    let acked: usize = tallies.iter().map(|t| t.acked.len()).sum();
    let unknown: usize = tallies.iter().map(|t| t.unknown.len()).sum();
    if !(acked..=acked + unknown).contains(&value) {
        wrong.push(format!("{key} is {value}; acknowledged {acked}, unknown {unknown}"));
    }
}

fn check_list(key: &str, tallies: &[(String, &Tally)], client: &mut Client, wrong: &mut Vec<String>) {
    let found = client.line(&format!("LRANGE {key} 0 -1")).strings();
    let set: HashSet<&String> = found.iter().collect();
    if set.len() != found.len() {
        wrong.push(format!("{key} has {} elements, {} of them once", found.len(), set.len()));
    }
    for (prefix, tally) in tallies {
        let lost = tally.acked.iter().filter(|op| !set.contains(&format!("{prefix}{op}"))).count();
        let ghosts = tally.refused.iter().filter(|op| set.contains(&format!("{prefix}{op}"))).count();
        if lost + ghosts > 0 {
            wrong.push(format!(
                "{key}: {lost} acknowledged elements are lost, {ghosts} refused ones are there"
            ));
        }
        let acked: HashSet<u64> = tally.acked.iter().copied().collect();
        let own = found.iter().filter_map(|e| e.strip_prefix(prefix.as_str())?.parse::<u64>().ok());
        if !own.filter(|op| acked.contains(op)).is_sorted() {
            wrong.push(format!("{key}: acknowledged elements of '{prefix}' are out of order"));
        }
    }
}
