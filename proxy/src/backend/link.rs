//! What is on its way to one backend, and what is expected back, in order.

use crate::tls::Writer;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Entry, Event, Replies};
use quorate_wire::resp::{
    Framer, Outcome, ReplyError, Scanner, TransactionReader, each_command, encode, is_environment_error,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;

const SLICES: usize = 64;

/// What the reply to every command of a transaction begins with that was not applied.
pub(crate) const EXECABORT: &[u8] = b"-EXECABORT";

/// How a server begins to say that writing its append-only file failed.
const UNWRITTEN: &[u8] = b"MISCONF Errors writing to the AOF";

/// Commands that this backend did not accept: number within the send, in order, and the error as replied.
type Rejected = Vec<(u32, Bytes)>;

enum Expect {
    Transaction {
        reader: TransactionReader,
        entries: Vec<Arc<Entry>>,
        rejected: Rejected,
    },
    Read {
        left: u32,
        scanner: Scanner,
        at: usize,
        environment: bool,
        lost: bool,
        /// Errors of the backend are part of the answer.
        whole: bool,
    },
    /// A command of our own; the reply is kept only where it tells something.
    Aside {
        keep: bool,
        scanner: Scanner,
    },
}

/// The ordered connection to one backend; outlives reconnects.
pub struct Link {
    replica: usize,
    framer: Framer,
    outgoing: RefCell<VecDeque<Bytes>>,
    expected: RefCell<VecDeque<Expect>>,
    socket: RefCell<Option<Rc<Writer>>>,
    writing: Cell<bool>,
    dialect: Cell<u8>,
    low_water_mark: Cell<usize>,
    moved: Cell<bool>,
    partial: Cell<usize>,
    /// What it remembers as while it is in sync.
    mark: RefCell<String>,
    /// It is of another build than scripts are ordered for now.
    foreign: Cell<bool>,
    /// Scripts up to this number were ordered when it may have been of another build.
    rebuilt_through: Cell<u64>,
    /// What it last told of its memory and its files, and whether it is being asked.
    info: Cell<Option<Bytes>>,
    asked: Cell<bool>,
    /// It said that it could not write its append-only file.
    unwritten: Cell<bool>,
    closed: Cell<Option<&'static str>>,
    close: Notify,
}

impl Link {
    /// A link that is not connected.
    pub fn new(replica: usize, framer: Framer) -> Self {
        Self {
            replica,
            framer,
            outgoing: RefCell::default(),
            expected: RefCell::default(),
            socket: RefCell::default(),
            writing: Cell::new(false),
            dialect: Cell::new(2),
            low_water_mark: Cell::new(1),
            moved: Cell::new(false),
            partial: Cell::new(0),
            mark: RefCell::default(),
            foreign: Cell::new(false),
            rebuilt_through: Cell::new(0),
            info: Cell::default(),
            asked: Cell::new(false),
            unwritten: Cell::new(false),
            closed: Cell::new(None),
            close: Notify::new(),
        }
    }

    /// Takes a fresh connection into use. `mark` tells this run of the server from others, and of which build it is.
    pub fn open(&self, socket: Writer, mark: String) {
        self.outgoing.borrow_mut().clear();
        self.expected.borrow_mut().clear();
        *self.socket.borrow_mut() = Some(Rc::new(socket));
        *self.mark.borrow_mut() = mark;
        self.dialect.set(2);
        self.low_water_mark.set(1);
        self.partial.set(0);
        self.writing.set(false);
        self.asked.set(false);
        self.info.set(None);
        self.unwritten.set(false);
        self.closed.set(None);
    }

    /// The mark of the server that it is connected to.
    pub fn mark(&self) -> String {
        self.mark.borrow().clone()
    }

    /// Is the server of another build than scripts are ordered for now?
    pub fn set_foreign(&self, foreign: bool) {
        self.foreign.set(foreign);
    }

    /// Is the server of another build than when it was last in sync? Whatever script it missed it must not run.
    pub fn set_rebuilt(&self, rebuilt: bool) {
        self.rebuilt_through.set(if rebuilt { u64::MAX } else { 0 });
    }

    /// Do these entries hold a script that may mean something else to this server than to others? `head` is the number
    /// of the last entry there is.
    pub fn bars(&self, head: u64, entries: &[Arc<Entry>]) -> bool {
        // Of what is sent first after it was attached nothing is newer than that.
        let through = self.rebuilt_through.get().min(head);
        let foreign = self.foreign.get();
        if !foreign && through == 0 {
            return false;
        }
        self.rebuilt_through.set(through);
        entries.iter().any(|entry| {
            (foreign || entry.position.seq <= through) && quorate_wire::lua::holds_script(&entry.payload)
        })
    }

    /// Asks for the connection to be closed.
    pub fn close(&self, why: &'static str) {
        self.closed.set(Some(why));
        self.close.notify_one();
    }

    /// Waits until somebody asks for the connection to be closed, and says why.
    pub async fn closing(&self) -> &'static str {
        loop {
            if let Some(why) = self.closed.take() {
                return why;
            }
            self.close.notified().await;
        }
    }

    /// Forgets the connection and everything on it.
    pub fn shut(&self) {
        self.socket.borrow_mut().take();
        self.outgoing.borrow_mut().clear();
        self.expected.borrow_mut().clear();
    }

    /// Did bytes move since this was asked last?
    pub fn take_moved(&self) -> bool {
        self.moved.replace(false)
    }

    /// Bytes read of an answer that is not complete.
    pub fn partial(&self) -> usize {
        self.partial.get()
    }

    /// Is nothing expected back that the core waits for?
    pub fn is_idle(&self) -> bool {
        self.expected.borrow().iter().all(|expect| matches!(expect, Expect::Aside { .. }))
    }

    fn is_open(&self) -> bool {
        self.socket.borrow().is_some()
    }

    /// Makes the following replies speak this protocol version.
    fn speak(&self, dialect: u8) {
        if self.dialect.replace(dialect) != dialect {
            self.aside(encode::command_bytes(&[b"HELLO", if dialect == 3 { b"3" } else { b"2" }]));
        }
    }

    /// Queues a command of our own.
    pub fn aside(&self, command: Bytes) {
        self.aside_for(command, false);
    }

    fn aside_for(&self, command: Bytes, keep: bool) {
        if self.is_open() {
            self.outgoing.borrow_mut().push_back(command);
            self.expected.borrow_mut().push_back(Expect::Aside { keep, scanner: Scanner::default() });
        }
    }

    /// Asks how its memory and its files stand, unless it is being asked already.
    pub fn ask_info(&self) {
        if !self.asked.replace(true) {
            self.aside_for(encode::command_bytes(&[b"INFO", b"memory", b"persistence"]), true);
        }
    }

    /// The answer to [`Self::ask_info`], once.
    pub fn take_info(&self) -> Option<Bytes> {
        self.info.take()
    }

    /// Did it say, since this was asked last, that it could not write its append-only file?
    pub fn take_unwritten(&self) -> bool {
        self.unwritten.replace(false)
    }

    /// Queues a read.
    /// `whole`: errors of the backend do not make it lost, but are given as its answer.
    pub fn read(&self, payload: Bytes, commands: u32, dialect: u8, whole: bool) {
        if !self.is_open() {
            return;
        }
        self.speak(dialect);
        self.outgoing.borrow_mut().push_back(payload);
        let scanner = Scanner::default();
        let (environment, lost) = (false, false);
        let expect = Expect::Read { left: commands, scanner, at: 0, environment, lost, whole };
        self.expected.borrow_mut().push_back(expect);
    }

    /// Queues entries.
    pub fn transaction(&self, image: Vec<Bytes>, reader: TransactionReader, entries: Vec<Arc<Entry>>) {
        if !self.is_open() {
            return;
        }
        self.speak(dialect_of(&entries));
        self.outgoing.borrow_mut().extend(image);
        self.expected.borrow_mut().push_back(Expect::Transaction { reader, entries, rejected: vec![] });
        self.set_patience(0);
    }

    /// Lets the reader sleep through pieces of an answer that cannot complete it. `have` bytes are read.
    fn set_patience(&self, have: usize) {
        let bytes = match self.expected.borrow().front() {
            Some(Expect::Transaction { reader, .. }) => reader.at_least(have),
            _ => 1,
        };
        if let Some(socket) =
            self.socket.borrow().as_ref().filter(|_| self.low_water_mark.replace(bytes) != bytes)
        {
            // Under TLS nobody knows how many bytes an answer takes.
            if let Some(socket) = socket.plain() {
                super::lowat::set_low_water_mark(std::os::fd::AsFd::as_fd(socket), bytes);
            }
        }
    }

    /// Writes what the socket takes; the rest follows when it takes more.
    pub fn flush(self: &Rc<Self>) {
        if self.writing.get() {
            return;
        }
        let Some(socket) = self.socket.borrow().clone() else { return };
        match self.write(&socket) {
            Ok(true) => {}
            Ok(false) => {
                self.writing.set(true);
                tokio::task::spawn_local(self.clone().write_rest(socket));
            }
            Err(_) => self.close("writing to it failed"),
        }
    }

    async fn write_rest(self: Rc<Self>, socket: Rc<Writer>) {
        let current = |link: &Link| link.socket.borrow().as_ref().is_some_and(|now| Rc::ptr_eq(now, &socket));
        while current(&self) {
            let writable = socket.writable().await;
            if !current(&self) {
                return;
            }
            match writable.and_then(|()| self.write(&socket)) {
                Ok(true) => return self.writing.set(false),
                Ok(false) => {}
                Err(_) => return self.close("writing to it failed"),
            }
        }
    }

    fn write(&self, socket: &Writer) -> io::Result<bool> {
        let mut outgoing = self.outgoing.borrow_mut();
        while !outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = outgoing.len().min(SLICES);
            outgoing.iter().take(SLICES).enumerate().for_each(|(i, part)| slices[i] = IoSlice::new(part));
            let mut written = match socket.try_write_vectored(&slices[..count]) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.moved.set(true);
            while let Some(first) = outgoing.front_mut() {
                if written < first.len() {
                    bytes::Buf::advance(first, written);
                    break;
                }
                written -= first.len();
                outgoing.pop_front();
            }
        }
        socket.try_flush()
    }

    /// Turns what was read into events. Takes whole replies from the front of `buf`.
    pub fn receive(self: &Rc<Self>, buf: &mut BytesMut, events: &mut Vec<Event>) -> Result<(), ReplyError> {
        self.moved.set(true);
        let received = self.take_replies(buf, events);
        self.partial.set(buf.len());
        self.set_patience(buf.len());
        received
    }

    fn take_replies(self: &Rc<Self>, buf: &mut BytesMut, events: &mut Vec<Event>) -> Result<(), ReplyError> {
        while !buf.is_empty() {
            let mut expected = self.expected.borrow_mut();
            let Some(front) = expected.front_mut() else {
                return Err(ReplyError::unexpected("nothing", buf));
            };
            match front {
                Expect::Aside { keep, scanner } => {
                    let Some(len) = scanner.next(buf)? else { return Ok(()) };
                    let reply = buf.split_to(len);
                    if *keep {
                        self.info.set(Some(reply.freeze()));
                        self.asked.set(false);
                    }
                    expected.pop_front();
                }
                Expect::Read { left, scanner, at, environment, lost, whole } => {
                    while *left > 0 {
                        let Some(len) = scanner.next(&buf[*at..])? else { return Ok(()) };
                        *environment |= buf[*at] == b'-' && is_environment_error(&buf[*at..*at + len]);
                        *at += len;
                        *left -= 1;
                    }
                    let bytes = buf.split_to(*at).freeze();
                    let replica = self.replica;
                    events.push(match *lost || (*environment && !*whole) {
                        true => Event::ReadLost { replica },
                        false => Event::Read { replica, bytes },
                    });
                    expected.pop_front();
                }
                Expect::Transaction { reader, .. } => {
                    let Some(outcome) = reader.read(buf)? else { return Ok(()) };
                    let is_script = reader.is_script();
                    let Some(Expect::Transaction { entries, rejected, .. }) = expected.pop_front() else {
                        continue;
                    };
                    drop(expected);
                    match outcome {
                        Outcome::Refused(error) if !is_script && rejected.is_empty() && is_oom(&error) => {
                            self.out_of_memory(error, entries, events);
                        }
                        outcome => self.transacted(outcome, entries, rejected, events)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn transacted(
        self: &Rc<Self>,
        outcome: Outcome,
        entries: Vec<Arc<Entry>>,
        rejected: Rejected,
        events: &mut Vec<Event>,
    ) -> Result<(), ReplyError> {
        let replica = self.replica;
        match outcome {
            Outcome::Applied(replies) => {
                let replies =
                    if rejected.is_empty() { replies } else { splice(&entries, &replies, &rejected) };
                events.push(Event::Applied { replica, replies });
            }
            Outcome::Refused(error) => {
                if error.starts_with(UNWRITTEN) {
                    self.unwritten.set(true);
                }
                self.lose_reads();
                events.push(Event::Refused { replica, error });
            }
            Outcome::Rejected(more) => {
                self.lose_reads();
                self.without(entries, rejected, more)?;
            }
        }
        Ok(())
    }

    /// A full server takes no transaction, whatever is in it. What frees memory is sent again in the one form
    /// that it still takes.
    fn out_of_memory(self: &Rc<Self>, error: Bytes, entries: Vec<Arc<Entry>>, events: &mut Vec<Event>) {
        self.lose_reads();
        let Some(image) = self.framer.script(&entries) else {
            return events.push(Event::Refused { replica: self.replica, error });
        };
        let reader = self.framer.script_reader(&entries);
        self.speak(dialect_of(&entries));
        self.outgoing.borrow_mut().extend(image);
        self.expected.borrow_mut().push_back(Expect::Transaction { reader, entries, rejected: vec![] });
        self.flush();
    }

    /// Reads behind entries that were not applied saw too little.
    fn lose_reads(&self) {
        for expect in self.expected.borrow_mut().iter_mut() {
            if let Expect::Read { lost, .. } = expect {
                *lost = true;
            }
        }
    }

    /// Sends the entries again without the commands that the backend does not accept: their
    /// errors are their replies, and nothing of the first try was applied.
    fn without(
        self: &Rc<Self>,
        entries: Vec<Arc<Entry>>,
        before: Rejected,
        more: Rejected,
    ) -> Result<(), ReplyError> {
        let commands = commands(&entries);
        let total = commands.len() as u32;
        if !before.is_empty() || more.iter().any(|(n, _)| *n >= total) {
            let got = more.first().map(|(_, error)| error.clone()).unwrap_or_default();
            return Err(ReplyError::unexpected("the transaction to be accepted", &got));
        }
        let more = with_whole(&entries, more);
        let is_rejected = |n: usize| more.binary_search_by_key(&n, |(r, _)| *r as usize).is_ok();
        let kept: Vec<Bytes> =
            commands.into_iter().enumerate().filter(|(n, _)| !is_rejected(*n)).map(|(_, c)| c).collect();
        let image = self.framer.frame_commands(&entries, &kept);
        let reader = self.framer.reader_of(&entries, kept.len() as u32);
        self.speak(dialect_of(&entries));
        self.outgoing.borrow_mut().extend(image);
        self.expected.borrow_mut().push_back(Expect::Transaction { reader, entries, rejected: more });
        self.flush();
        Ok(())
    }
}

/// The error that a server gives when it is over its limit.
pub(crate) fn is_oom(error: &[u8]) -> bool {
    error.starts_with(b"OOM ")
}

/// The protocol version of the replies to these entries.
fn dialect_of(entries: &[Arc<Entry>]) -> u8 {
    entries.iter().find(|entry| !entry.is_empty()).map_or(2, |entry| entry.dialect)
}

/// The single commands of the entries.
fn commands(entries: &[Arc<Entry>]) -> Vec<Bytes> {
    let mut found = Vec::new();
    for entry in entries {
        let mut whole = BytesMut::with_capacity(entry.len());
        entry.payload.iter().for_each(|part| whole.extend_from_slice(part));
        each_command(&whole.freeze(), |command, _| found.push(command));
    }
    found
}

/// A client's transaction of which one command was rejected is rejected as a whole: each of its commands gets the
/// error that the client is to read for all of it.
fn with_whole(entries: &[Arc<Entry>], mut rejected: Rejected) -> Rejected {
    let mut first = 0;
    for entry in entries {
        for run in &entry.whole {
            let run = first + run.start..first + run.end;
            let Some((_, error)) = rejected.iter().find(|(n, _)| run.contains(n)) else { continue };
            let why = error.strip_prefix(b"-").unwrap_or(error);
            let why = why.strip_prefix(b"ERR ").unwrap_or(why);
            let error = Bytes::from([EXECABORT, b" Transaction discarded because of: ", why].concat());
            rejected.retain(|(n, _)| !run.contains(n));
            rejected.extend(run.map(|n| (n, error.clone())));
        }
        first += entry.commands;
    }
    rejected.sort_by_key(|(n, _)| *n);
    rejected
}

/// Puts the errors of rejected commands where their replies would have been.
fn splice(entries: &[Arc<Entry>], replies: &[Replies], rejected: &Rejected) -> Vec<Replies> {
    let empty = Replies::default();
    let flat = replies.first().unwrap_or(&empty);
    let (mut taken, mut number) = (0, 0);
    let mut result = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut bytes = BytesMut::new();
        let mut ends = Vec::with_capacity(entry.commands as usize);
        for _ in 0..entry.commands {
            match rejected.binary_search_by_key(&number, |(n, _)| *n) {
                Ok(at) => bytes.extend_from_slice(&rejected[at].1),
                Err(_) => {
                    bytes.extend_from_slice(&flat.slice(taken, 1).unwrap_or_default());
                    taken += 1;
                }
            }
            ends.push(bytes.len() as u32);
            number += 1;
        }
        result.push(Replies { bytes: bytes.freeze(), ends });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::ordered::Position;
    use quorate_wire::resp::Reserved;

    fn entry(seq: u64, commands: u32, whole: Vec<std::ops::Range<u32>>) -> Arc<Entry> {
        let position = Position { epoch: 1, seq, hash: 0 };
        let payload =
            (0..commands).map(|n| encode::command_bytes(&[b"C", n.to_string().as_bytes()])).collect();
        Arc::new(Entry { position, payload, commands, dialect: 2, trim: 0, elided: false, whole })
    }

    #[test]
    fn scripts_are_barred_where_another_build_may_have_run_them() {
        let script = encode::command_bytes(&[b"EVAL", b"return redis.call('SET', KEYS[1], 'v')", b"1", b"k"]);
        let scripted = |seq| {
            let plain = entry(seq, 1, vec![]);
            Arc::new(Entry { payload: vec![plain.payload[0].clone(), script.clone()], ..(*plain).clone() })
        };
        let link = Link::new(0, Framer::new(Reserved::new("g"), true));
        let bars = |head, seq| link.bars(head, &[entry(seq, 1, vec![]), scripted(seq)]);
        assert!(!bars(9, 9), "of the build that scripts are ordered for, then and now");
        link.set_foreign(true);
        assert!(bars(9, 9), "of another build");
        assert!(!link.bars(9, &[entry(9, 1, vec![])]), "no script");
        link.set_foreign(false);
        assert!(!bars(9, 9));
        link.set_rebuilt(true);
        assert!(bars(5, 3), "ordered while it was of another build");
        assert!(!bars(6, 6), "ordered since it is of this one");
        assert!(bars(7, 5), "and fed again");
        link.set_rebuilt(false);
        assert!(!bars(7, 5));
    }

    #[test]
    fn a_transaction_is_rejected_as_a_whole_and_others_are_not() {
        let entries = [entry(1, 2, vec![]), entry(2, 6, vec![1..3, 3..5])];
        let error = Bytes::from_static(b"-ERR unknown command\r\n");
        let rejected = with_whole(&entries, vec![(0, error.clone()), (4, error.clone())]);
        let numbers: Vec<u32> = rejected.iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, [0, 3, 4]);
        assert_eq!(rejected[0].1, error);
        let whole = "-EXECABORT Transaction discarded because of: unknown command\r\n";
        assert_eq!((&rejected[1].1, &rejected[2].1), (&Bytes::from(whole), &Bytes::from(whole)));

        let flat = Replies {
            bytes: Bytes::from_static(b":1\r\n:2\r\n:5\r\n:6\r\n:7\r\n"),
            ends: vec![4, 8, 12, 16, 20],
        };
        let spliced = splice(&entries, &[flat], &rejected);
        assert_eq!(spliced[0].bytes, [&error[..], b":1\r\n"].concat());
        assert_eq!(
            spliced[1].bytes,
            [b":2\r\n", whole.as_bytes(), whole.as_bytes(), b":5\r\n:6\r\n:7\r\n"].concat()
        );
        assert_eq!(spliced[1].slice(1, 2), Some(Bytes::from(whole.repeat(2))));
    }
}
