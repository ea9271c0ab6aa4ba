//! A client that plays one role of the mix: it asks, understands the answer and keeps both.

use super::super::clients::{Heard, Record, Shared};
use super::super::connection::{Connection, PATIENCE};
use super::super::dice::Dice;
use super::{Histories, History, Role};
use bytes::Bytes;
use quorate_sim::lin::{Operation, Outcome};
use quorate_wire::resp::{Value, encode};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Operations after which an object makes room for a new one: the checker's work grows with this.
const LIFE: u64 = 150;
/// Objects of each family that few operations go to, and where their numbers begin.
const COLD: u64 = 10;
const COLD_NUMBERS: u64 = 1_000_000;

/// What a reply means for the operation that asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning<R> {
    /// It took effect, with this answer.
    Told(R),
    /// It did nothing, and never will.
    Nothing,
    /// This command never has such a reply.
    Odd,
}

impl<R> Meaning<R> {
    /// An answer that was understood, or not.
    pub fn of(told: Option<R>) -> Meaning<R> {
        told.map_or(Meaning::Odd, Meaning::Told)
    }
}

/// Numbers that the actors of all parts share.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Operations on hot objects so far, by family.
    used: [AtomicU64; 8],
    /// Keys that the writers of deadlines use now.
    pub now: [AtomicU64; 4],
}

/// One of the families of objects whose numbers move on.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum Family {
    Locks,
    Accounts,
    Swaps,
    Scripts,
    Queues,
    Bags,
    Streams,
}

/// A client with a role.
#[derive(Debug)]
pub struct Actor<'a> {
    /// Chance.
    pub dice: Dice,
    /// What it saw.
    pub record: Record,
    /// Its number in the history; it goes on under another one after an unknown end, as Jepsen's do.
    pub process: u64,
    shared: &'a Shared,
    step: u64,
    proxy: usize,
    connection: Option<Connection>,
}

impl<'a> Actor<'a> {
    /// An actor under this number; `step` is how far its next one is, 0 for the last reader.
    pub(crate) fn new(shared: &'a Shared, process: u64, step: u64, seed: u64) -> Actor<'a> {
        let dice = Dice::new(seed ^ (process + 1).wrapping_mul(0xD1B5_4A32_D192_ED03));
        Actor { dice, record: Record::default(), process, shared, step, proxy: 0, connection: None }
    }

    /// Plays its role until the end.
    pub(crate) fn work(mut self, role: Role, nth: u64) -> Record {
        let mut due = Instant::now();
        while !self.shared.stopped() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due = Instant::now().max(due + self.shared.pace());
            role(&mut self, nth);
        }
        self.record
    }

    /// Nanoseconds since the beginning.
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// A number that nobody else gets: values are known by it.
    pub fn value(&self) -> u64 {
        self.shared.value()
    }

    /// What actors share.
    pub fn numbers(&self) -> &Numbers {
        &self.shared.numbers
    }

    /// The object that this family uses now, or, sometimes, one that is used all the time.
    pub fn number(&mut self, family: Family) -> u64 {
        if self.dice.percent(10) {
            return COLD_NUMBERS + self.dice.below(COLD);
        }
        self.numbers().used[family as usize].fetch_add(1, Ordering::Relaxed) / LIFE
    }

    /// Is it connected, so that what it watches is still watched?
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Leaves its connection, and what it watched there.
    pub fn leave(&mut self) {
        self.connection = None;
    }

    /// Sends commands at once and waits for all replies; the last one counts. `None`: nothing was sent.
    pub fn call(&mut self, commands: &[Bytes]) -> Option<Heard> {
        if self.step == 0 && !self.record.silent.is_empty() {
            // The last reader does not wait for each of a thousand answers that will not come.
            return Some(Heard::Unknown);
        }
        let Some(mut connection) = self.connection.take().or_else(|| self.connect()) else {
            self.go_elsewhere();
            return None;
        };
        let reply = connection.pipeline(commands).and_then(last);
        let alive = reply.is_ok();
        let fenced = matches!(&reply, Ok(reply) if reply.error().is_some_and(|e| e.contains("fenced")));
        let heard = self.record.hear(|| shown(commands), reply);
        if alive && !fenced {
            self.connection = Some(connection);
        } else {
            self.go_elsewhere();
        }
        Some(heard)
    }

    /// The same as an operation of the history. `None`: nothing was sent, and there is none.
    pub fn perform<O, R: Clone>(
        &mut self,
        history: fn(&mut Histories) -> &mut History<O, R>,
        (key, op): (&str, O),
        commands: &[Bytes],
        meaning: impl FnOnce(&Value) -> Meaning<R>,
    ) -> Option<Outcome<R>> {
        let invoked = self.now();
        let heard = self.call(commands)?;
        let at = self.now();
        let outcome = match heard {
            Heard::Refused => Outcome::Failed { at },
            Heard::Unknown => Outcome::Unknown { at: Some(at) },
            Heard::Reply(reply) => match meaning(&reply) {
                Meaning::Told(ret) => Outcome::Ok { ret, at },
                Meaning::Nothing => Outcome::Failed { at },
                Meaning::Odd => {
                    self.record.odd(format!("{} was answered {reply:?}", shown(commands)));
                    Outcome::Unknown { at: Some(at) }
                }
            },
        };
        let (process, key) = (self.process, key.to_string());
        match outcome {
            Outcome::Ok { .. } => self.shared.succeeded(),
            Outcome::Unknown { .. } => self.process += self.step,
            Outcome::Failed { .. } => {}
        }
        let operation = Operation { process, key, op, invoked, outcome: outcome.clone() };
        history(&mut self.record.mix).push(operation);
        Some(outcome)
    }

    fn connect(&self) -> Option<Connection> {
        Connection::open(self.shared.proxy(self.proxy), PATIENCE).ok()
    }

    fn go_elsewhere(&mut self) {
        self.proxy += 1;
        self.shared.rest();
    }
}

fn last(mut replies: Vec<Value>) -> io::Result<Value> {
    replies.pop().ok_or_else(|| io::Error::other("nothing was asked"))
}

/// A command from words.
pub fn command(words: &[&str]) -> Bytes {
    encode::command_bytes(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
}

/// MULTI, these commands, EXEC.
pub fn transaction(commands: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    let inner = commands.into_iter();
    std::iter::once(command(&["MULTI"])).chain(inner).chain([command(&["EXEC"])]).collect()
}

/// A whole number, as a reply or as a text; nothing is 0.
pub fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Null => Some(0),
        value => value.text()?.parse().ok(),
    }
}

/// All items as texts.
pub fn texts(value: &Value) -> Option<Vec<String>> {
    let Value::Array(items) = value else { return None };
    items.iter().map(|item| item.text().map(str::to_string)).collect()
}

/// A text or nothing.
pub fn optional(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        value => Some(Some(value.text()?.to_string())),
    }
}

fn shown(commands: &[Bytes]) -> String {
    let text = String::from_utf8_lossy(&commands.concat()).into_owned();
    let words = text.split("\r\n").filter(|part| !part.starts_with(['*', '$']));
    words.collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
