//! Sessions that wait: nothing more of them is served until they are answered, but their leaving is noticed.

use super::burst::{Kind, Payload};
use super::filter::Shape;
use super::request::{OWN_KEYS, names_reserved};
use super::scripting::MIXED;
use super::session::Session;
use crate::memory::{OUT_OF_MEMORY, Pressure};
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Access, Block, Cancel, Role};
use quorate_wire::command::{self, Command, Flags, Waits};
use quorate_wire::resp::{Args, Scanner, each_command, encode};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a client is made to stop waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unblock {
    /// As if its time were over.
    Timeout,
    /// With an error.
    Error,
}

/// A wait that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Later {
    kind: Kind,
    buckets: Vec<u16>,
    block: Arc<Block>,
}

/// An `XREAD` of what comes next, while it is asked what came last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    words: Vec<Bytes>,
    /// Where ids are to be put.
    places: Vec<usize>,
    late: Later,
}

impl Worker {
    /// Orders a command that waits where nothing is there.
    pub(super) fn wait_for(
        &self,
        s: &mut Session,
        command: &'static Command,
        args: Args,
        raw: &[u8],
        (waits, block): (Waits, Block),
    ) {
        let group = &self.groups[s.group().index];
        let grows = command.flags.has(Flags::DENYOOM);
        if grows && group.shared.memory.pressure() == Pressure::Full {
            group.shared.memory.count_refusal();
            return s.error(OUT_OF_MEMORY);
        }
        if names_reserved(command, args) {
            return s.error(OWN_KEYS);
        }
        let mut buckets = Vec::new();
        command::keys(command, args, &mut |key| buckets.push(command::key_hash(key) as u16));
        let class = command::op_class(command, args);
        let plan = match self.plan(s, command, class, args) {
            Ok(plan) => plan,
            Err(message) => return s.error(&message),
        };
        self.counters.request(class);
        let access = if block.shares { Access::Read } else { Access::Write };
        let leads = waits == Waits::StreamGroup;
        if leads && group.shared.is_mixed() {
            return s.error(MIXED);
        }
        let everything = buckets.is_empty();
        let kind = Kind { everything, grows, leads, ..Kind::plain(access, plan, s.dialect) };
        let late = Later { kind, buckets, block: Arc::new(block) };
        let latest = if waits == Waits::Stream { command::latest(command, args) } else { Vec::new() };
        if !latest.is_empty() {
            return self.find_latest(s, (command, args, raw), &latest, late);
        }
        let payload = match waits {
            Waits::Stream | Waits::StreamGroup => command::at_once(command, args, &[]),
            Waits::List | Waits::SortedSet => Bytes::copy_from_slice(raw),
        };
        let ticket = s.wait(self.now_us(), Shape::AsIs);
        s.park_with(ticket, raw);
        self.follow(s, command, args, ticket);
        self.begin_waiting(s, ticket, late, payload);
    }

    fn begin_waiting(&self, s: &mut Session, ticket: u64, late: Later, payload: Bytes) {
        let outbox = &mut *self.groups[s.group().index].outbox.borrow_mut();
        late.buckets.into_iter().for_each(|bucket| outbox.bucket(bucket));
        outbox.begin_as(s.number, ticket, late.kind, 1, Payload::Own(payload), Role::Block(late.block));
        s.open_burst = None;
        self.schedule();
    }

    /// Asks for the ids that are the last ones now; the wait begins when they are known.
    fn find_latest(
        &self,
        s: &mut Session,
        (command, args, raw): (&'static Command, Args, &[u8]),
        latest: &[(usize, usize)],
        late: Later,
    ) {
        let mut questions = BytesMut::new();
        for (_, key) in latest {
            questions.extend_from_slice(&encode::command_bytes(&[b"XINFO", b"STREAM", &args[*key]]));
        }
        let kind = Kind { access: Access::Read, leads: false, ..late.kind };
        let buckets = late.buckets.clone();
        let words = args.from(0).map(Bytes::copy_from_slice).collect();
        let places = latest.iter().map(|(at, _)| *at).collect();
        let ticket = s.wait(self.now_us(), Shape::Latest(Box::new(Latest { words, places, late })));
        s.park_with(ticket, raw);
        self.follow(s, command, args, ticket);
        let outbox = &mut *self.groups[s.group().index].outbox.borrow_mut();
        buckets.into_iter().for_each(|bucket| outbox.bucket(bucket));
        let count = latest.len() as u32;
        outbox.begin_as(s.number, ticket, kind, count, Payload::Own(questions.freeze()), Role::Plain);
        s.open_burst = None;
        self.schedule();
    }

    /// The last ids are known: from here on it waits for what comes behind them.
    pub(crate) fn found_latest(&self, s: &mut Session, ticket: u64, latest: Latest, replies: &Bytes) {
        let mut rest = replies.clone();
        let ids = latest.places.iter().map(|at| {
            let len = Scanner::default().next(&rest).ok().flatten().unwrap_or(rest.len());
            (*at, command::last_id(&rest.split_to(len)))
        });
        let ids: Vec<(usize, Bytes)> = ids.collect();
        let whole = encode::command_bytes(&latest.words.iter().map(AsRef::as_ref).collect::<Vec<_>>());
        let mut payload = Bytes::new();
        each_command(&whole, |_, args| {
            if let Ok(command) = command::resolve(args) {
                payload = command::at_once(command, args, &ids);
            }
        });
        self.begin_waiting(s, ticket, latest.late, payload);
    }

    /// A session does not wait any more: it left, or somebody made it stop. `true`: a group is to be told so
    /// at the end of this turn.
    pub fn unblock(&self, s: &mut Session, how: Option<Unblock>) -> bool {
        let reply = how.map(|how| match how {
            Unblock::Timeout if s.dialect == 3 => Bytes::from_static(b"_\r\n"),
            Unblock::Timeout => Bytes::from_static(b"*-1\r\n"),
            Unblock::Error => error_line("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        });
        self.stop_waiting(s, reply)
    }

    /// Has a session that waits for data stop if its user may not do that any more. `true`: it gets an error.
    pub(in crate::listen) fn recheck_wait(&self, s: &mut Session) -> bool {
        let mut denied = None;
        each_command(&s.parked_with(), |_, args| {
            if let Ok(command) = command::resolve(args) {
                denied = self.denied(s, command, args);
            }
        });
        let Some(message) = denied else { return false };
        self.stop_waiting(s, Some(error_line(&message)));
        true
    }

    fn stop_waiting(&self, s: &mut Session, reply: Option<Bytes>) -> bool {
        let Some(ticket) = s.parked() else { return false };
        if s.seeks_latest(ticket) {
            // The group knows nothing of its wait yet.
            if let Some(reply) = reply {
                s.fill(ticket, |_| reply);
            }
            return false;
        }
        for (ticket, at) in s.waiting_parts(ticket) {
            let cancel = Cancel { session: s.number, ticket, reply: reply.clone() };
            self.groups[s.port.groups[at].index].outbox.borrow_mut().cancel(cancel);
        }
        self.schedule();
        true
    }

    /// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`.
    pub(super) fn client_unblock(&self, s: &mut Session, args: Args) {
        if args.len() > 4 {
            let sub: String = args[1].iter().take(128).map(|byte| char::from(*byte)).collect();
            return s.error(&format!(
                "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try CLIENT HELP."
            ));
        }
        let how = match args.get(3) {
            None => Unblock::Timeout,
            Some(word) if word.eq_ignore_ascii_case(b"timeout") => Unblock::Timeout,
            Some(word) if word.eq_ignore_ascii_case(b"error") => Unblock::Error,
            Some(_) => return s.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        };
        let id = args.get(2).and_then(|id| std::str::from_utf8(id).ok()?.parse::<i64>().ok());
        let Some(id) = id else { return s.error("ERR value is not an integer or out of range") };
        let client = u64::try_from(id).ok().and_then(|id| self.registry.find(id));
        let waits = client.filter(|client| client.blocked.load(Ordering::Acquire));
        let count = waits.map_or(0, |client| u8::from(client.unblock(how)));
        s.answer(Bytes::from(format!(":{count}\r\n")));
    }
}

fn error_line(text: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(text.len() + 3);
    encode::error(text, &mut out);
    out.freeze()
}
