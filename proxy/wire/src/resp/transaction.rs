//! Log entries as Redis transactions: `MULTI`, the commands, the position, the tail, `EXEC`.
//!
//! [`Framer`] writes them, [`TransactionReader`] reads what comes back. Position and data
//! change together or not at all; that is all the ordered engine asks of a backend.

use super::encode;
use super::reply::{ReplyError, Scanner, is_environment_error};
use super::tail;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Entry, Replies};
use std::sync::Arc;

/// Images up to this many bytes are one buffer; larger ones share the payload's buffers.
const ONE_BUFFER: usize = 128 << 10;
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
/// Many of them, to be compared at once.
const QUEUED_MANY: usize = 32;
const QUEUED_BLOCK: [u8; QUEUED_MANY * 9] = {
    let mut block = [0; QUEUED_MANY * 9];
    let mut i = 0;
    while i < block.len() {
        block[i] = QUEUED[i % 9];
        i += 1;
    }
    block
};
const MULTI_OK: usize = "+OK\r\n".len();
const QUEUED: &[u8] = b"+QUEUED\r\n";

/// The keys a group keeps in each of its backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Holds the position.
    pub position: String,
    /// Holds the latest entries.
    pub tail: String,
    /// Holds the run id at the last attach.
    pub run: String,
    /// Holds the epoch of the owner that fenced this backend last.
    pub epoch: String,
    /// There while a copy to this backend is not finished.
    pub partial: String,
    /// There while a trial's effects were not applied from the log.
    pub trial: String,
    /// Written beside the log to learn what is on the backend's disk; what it holds means nothing.
    pub synced: String,
}

/// What all reserved keys begin with.
pub const RESERVED_PREFIX: &[u8] = b"__quorate:";

/// Does this key belong to the proxy?
#[inline]
pub fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(RESERVED_PREFIX)
}

impl Reserved {
    /// The keys of a group.
    pub fn new(group: &str) -> Self {
        let key = |name: &str| format!("__quorate:{{{group}}}:{name}");
        let (position, tail, run) = (key("pos"), key("tail"), key("run"));
        let (partial, trial, synced) = (key("partial"), key("trial"), key("synced"));
        Self { position, tail, run, epoch: key("epoch"), partial, trial, synced }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        [&self.position, &self.tail, &self.run, &self.epoch, &self.partial, &self.trial, &self.synced]
            .into_iter()
            .map(String::as_str)
    }
}

/// Writes entries as transactions.
#[derive(Debug, Clone)]
pub struct Framer {
    pub(super) keys: Reserved,
    pub(super) tail: bool,
}

impl Framer {
    /// For one group; `tail` switches the tail on.
    pub fn new(keys: Reserved, tail: bool) -> Self {
        Self { keys, tail }
    }

    /// How many commands of ours follow the entries' own in the transaction.
    fn extras(&self, entries: &[Arc<Entry>]) -> u32 {
        match (self.tail, trim(entries)) {
            (false, _) => 1,
            (true, 0) => 2,
            (true, _) => 3,
        }
    }

    /// The transaction that applies these entries, to be written as one.
    pub fn frame(&self, entries: &[Arc<Entry>]) -> Vec<Bytes> {
        let payload: usize = entries.iter().map(|entry| entry.len()).sum();
        let mut out = Image::new(payload * (1 + usize::from(self.tail)) + 512 + 64 * entries.len());
        out.text(MULTI);
        entries.iter().for_each(|entry| out.payload(&entry.payload));
        self.closing(entries, &mut out);
        out.finish()
    }

    /// The same with some commands left out, because this backend knows them not: it
    /// refused them when they were queued, and so did every other.
    pub fn frame_commands(&self, entries: &[Arc<Entry>], commands: &[Bytes]) -> Vec<Bytes> {
        let mut out = Image::new(commands.iter().map(Bytes::len).sum::<usize>() + 512);
        out.text(MULTI);
        out.payload(commands);
        self.closing(entries, &mut out);
        out.finish()
    }

    fn closing(&self, entries: &[Arc<Entry>], out: &mut Image) {
        let Some(last) = entries.last() else { return };
        let position = last.position.to_string();
        encode::command([&b"SET"[..], self.keys.position.as_bytes(), position.as_bytes()], &mut out.open);
        if self.tail {
            encode::header(b'*', 2 + entries.len(), &mut out.open);
            encode::bulk(b"RPUSH", &mut out.open);
            encode::bulk(self.keys.tail.as_bytes(), &mut out.open);
            entries.iter().for_each(|entry| out.element(entry));
            let keep = trim(entries);
            if keep > 0 {
                let from = format!("-{keep}");
                let key = self.keys.tail.as_bytes();
                encode::command([&b"LTRIM"[..], key, from.as_bytes(), b"-1"], &mut out.open);
            }
        }
        out.text(EXEC);
    }

    /// A reader for the answer to [`Self::frame`] of these entries.
    pub fn reader(&self, entries: &[Arc<Entry>]) -> TransactionReader {
        let commands = entries.iter().map(|entry| entry.commands).collect();
        TransactionReader::new(commands, self.extras(entries))
    }

    /// A reader for the answer to [`Self::frame_commands`] with this many commands; all replies
    /// come as those of one entry.
    pub fn reader_of(&self, entries: &[Arc<Entry>], commands: u32) -> TransactionReader {
        TransactionReader::new(vec![commands], self.extras(entries))
    }
}

/// How many elements the tail keeps after these entries; 0 for all.
pub(super) fn trim(entries: &[Arc<Entry>]) -> u32 {
    let cut = entries.iter().rposition(|entry| entry.trim > 0);
    cut.map_or(0, |at| entries[at].trim + (entries.len() - 1 - at) as u32)
}

/// A byte image that copies small parts and shares large ones.
struct Image {
    done: Vec<Bytes>,
    open: BytesMut,
    copies: bool,
}

impl Image {
    fn new(bytes: usize) -> Self {
        let copies = bytes <= ONE_BUFFER;
        Self { done: Vec::new(), open: BytesMut::with_capacity(if copies { bytes } else { 512 }), copies }
    }

    fn text(&mut self, text: &[u8]) {
        self.open.extend_from_slice(text);
    }

    fn payload(&mut self, parts: &[Bytes]) {
        for part in parts {
            if self.copies {
                self.open.extend_from_slice(part);
            } else {
                self.done.push(self.open.split().freeze());
                self.done.push(part.clone());
            }
        }
    }

    /// One element of the tail list.
    fn element(&mut self, entry: &Entry) {
        let header = tail::header(entry);
        let payload = if entry.elided { 0 } else { entry.len() };
        encode::header(b'$', header.len() + payload, &mut self.open);
        self.text(header.as_bytes());
        if !entry.elided {
            self.payload(&entry.payload);
        }
        self.text(b"\r\n");
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.done.push(self.open.freeze());
        self.done.retain(|part| !part.is_empty());
        self.done
    }
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Outcome {
    /// Applied: one set of replies an entry.
    Applied(Vec<Replies>),
    /// Not applied, because of the backend's state: the first such error line, without `-`.
    Refused(Bytes),
    /// Not applied, because these commands (by number) were not accepted: each with its error line, whole.
    Rejected(Vec<(u32, Bytes)>),
}

/// Reads the answer to one transaction, resumable at any byte.
#[derive(Debug)]
pub struct TransactionReader {
    /// Commands of each entry.
    commands: Vec<u32>,
    total: u32,
    extras: u32,
    scanner: Scanner,
    at: usize,
    step: Step,
    script: bool,
    environment: Option<(usize, usize)>,
    rejected: Vec<(u32, usize, usize)>,
    /// Ends of the replies so far, absolute.
    ends: Vec<usize>,
    begin: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Multi,
    Queue(u32),
    Exec,
    Reply(u32),
}

impl TransactionReader {
    /// For entries with these numbers of commands, followed by `extras` commands of ours.
    pub fn new(commands: Vec<u32>, extras: u32) -> Self {
        let total = commands.iter().sum();
        let scanner = Scanner::default();
        let ends = Vec::with_capacity(total as usize);
        let (environment, rejected) = (None, Vec::new());
        Self {
            commands,
            total,
            extras,
            scanner,
            at: 0,
            step: Step::Multi,
            script: false,
            environment,
            rejected,
            ends,
            begin: 0,
        }
    }

    /// For a script that gives the same replies as one array, followed by one of ours.
    pub(super) fn of_script(commands: Vec<u32>) -> Self {
        Self { step: Step::Exec, script: true, ..Self::new(commands, 1) }
    }

    /// Is the answer that of a script?
    pub fn is_script(&self) -> bool {
        self.script
    }

    /// At least this many more bytes will come before the answer can be complete, given what is there already.
    pub fn at_least(&self, have: usize) -> usize {
        if self.script {
            return 1;
        }
        let queued = MULTI_OK + QUEUED.len() * (self.total + self.extras) as usize;
        // Behind the queueing there is EXEC's answer, of at least a line.
        (queued + 1).saturating_sub(have).max(1)
    }

    /// Reads on. On completion the bytes of the answer are taken from the front of `buf`.
    pub fn read(&mut self, buf: &mut BytesMut) -> Result<Option<Outcome>, ReplyError> {
        loop {
            match self.step {
                Step::Queue(n) if n == self.total + self.extras => self.step = Step::Exec,
                Step::Queue(n)
                    if n + QUEUED_MANY as u32 <= self.total + self.extras
                        && buf[self.at..].starts_with(&QUEUED_BLOCK) =>
                {
                    self.at += QUEUED_BLOCK.len();
                    self.step = Step::Queue(n + QUEUED_MANY as u32);
                }
                Step::Queue(n) if buf[self.at..].starts_with(QUEUED) => {
                    self.at += QUEUED.len();
                    self.step = Step::Queue(n + 1);
                }
                Step::Reply(n) if n == self.total + self.extras => return Ok(Some(self.applied(buf))),
                Step::Exec => match self.exec(buf)? {
                    None => return Ok(None),
                    Some(true) => {}
                    Some(false) => return Ok(Some(self.failed(buf))),
                },
                _ => {
                    let Some(len) = self.scanner.next(&buf[self.at..])? else { return Ok(None) };
                    let line = (self.at, self.at + len);
                    self.at = line.1;
                    self.take(buf, line)?;
                }
            }
        }
    }

    /// One reply that is not `+QUEUED` where that is usual.
    fn take(&mut self, buf: &[u8], line: (usize, usize)) -> Result<(), ReplyError> {
        let reply = &buf[line.0..line.1];
        let is_error = reply.first() == Some(&b'-');
        match self.step {
            Step::Multi if is_error => self.environment = self.environment.or(Some(line)),
            Step::Multi if reply != b"+OK\r\n" => return Err(unexpected("+OK", reply)),
            Step::Queue(_) if is_error && is_environment_error(reply) => {
                self.environment = self.environment.or(Some(line));
            }
            Step::Queue(n) if is_error => self.rejected.push((n, line.0, line.1)),
            Step::Queue(_) => return Err(unexpected("+QUEUED", reply)),
            // Data was applied and the position was not: nothing this replica says can be trusted.
            Step::Reply(n) if n >= self.total && is_error => {
                return Err(unexpected("the position to be written", reply));
            }
            Step::Reply(n) if n < self.total => self.ends.push(line.1),
            _ => {}
        }
        self.step = match self.step {
            Step::Multi => Step::Queue(0),
            Step::Queue(n) => Step::Queue(n + 1),
            Step::Reply(n) => Step::Reply(n + 1),
            Step::Exec => Step::Exec,
        };
        Ok(())
    }

    /// The head of EXEC's answer: `Some(true)` when replies follow, `Some(false)` when it was aborted.
    fn exec(&mut self, buf: &[u8]) -> Result<Option<bool>, ReplyError> {
        let rest = &buf[self.at..];
        let Some(end) = memchr::memchr(b'\n', rest) else { return Ok(None) };
        let line = &rest[..=end];
        let span = (self.at, self.at + line.len());
        self.at = span.1;
        // A script that fails for another reason may have stopped in its middle: only a new look at the backend
        // tells.
        if self.script && line.first() == Some(&b'-') && !is_environment_error(line) {
            return Err(unexpected("a script to end", line));
        }
        if line.first() == Some(&b'-') {
            if !line.starts_with(b"-EXECABORT") || (self.rejected.is_empty() && self.environment.is_none()) {
                self.environment = self.environment.or(Some(span));
            }
            return Ok(Some(false));
        }
        let expected = format!("*{}\r\n", self.total + self.extras);
        if line != expected.as_bytes() {
            return Err(unexpected(expected.trim_end(), line));
        }
        self.begin = self.at;
        self.step = Step::Reply(0);
        Ok(Some(true))
    }

    fn applied(&mut self, buf: &mut BytesMut) -> Outcome {
        let bytes = buf.split_to(self.at).freeze();
        let mut begin = self.begin;
        let mut ends = self.ends.iter().copied();
        let mut replies = Vec::with_capacity(self.commands.len());
        for count in &self.commands {
            let start = begin;
            let ends: Vec<u32> =
                ends.by_ref().take(*count as usize).map(|end| (end - start) as u32).collect();
            begin = start + ends.last().map_or(0, |end| *end as usize);
            replies.push(Replies { bytes: bytes.slice(start..begin), ends });
        }
        Outcome::Applied(replies)
    }

    fn failed(&mut self, buf: &mut BytesMut) -> Outcome {
        let bytes = buf.split_to(self.at).freeze();
        if let Some((start, end)) = self.environment {
            let line = bytes.slice(start + 1..end);
            // What ends a line is not looked at anywhere else, so it may be less than it should be.
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            return Outcome::Refused(line.slice_ref(text.strip_suffix(b"\r").unwrap_or(text)));
        }
        Outcome::Rejected(
            self.rejected.iter().map(|(n, start, end)| (*n, bytes.slice(*start..*end))).collect(),
        )
    }
}

fn unexpected(expected: &str, got: &[u8]) -> ReplyError {
    ReplyError::unexpected(expected, got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::ordered::Position;

    fn entry(seq: u64, commands: &[&[u8]], trim: u32) -> Arc<Entry> {
        let mut payload = BytesMut::new();
        commands.iter().for_each(|name| encode::command([*name], &mut payload));
        let position = Position { epoch: 1, seq, hash: 0 };
        let payload = vec![payload.freeze()];
        Arc::new(Entry {
            position,
            payload,
            commands: commands.len() as u32,
            dialect: 2,
            trim,
            elided: false,
            whole: vec![],
        })
    }

    fn framer(tail: bool) -> Framer {
        Framer::new(Reserved::new("g"), tail)
    }

    fn text(parts: &[Bytes]) -> String {
        let bytes: Vec<u8> = parts.iter().flatten().copied().collect();
        String::from_utf8_lossy(&bytes).replace("\r\n", " ")
    }

    #[test]
    fn a_transaction_carries_commands_position_and_tail() {
        let image = framer(true).frame(&[entry(5, &[b"A"], 0), entry(6, &[b"B"], 3), entry(7, &[b"C"], 0)]);
        let image = text(&image);
        assert!(
            image.starts_with("*1 $5 MULTI *1 $1 A *1 $1 B *1 $1 C *3 $3 SET $17 __quorate:{g}:pos"),
            "{image}"
        );
        assert!(image.contains("1:7:0000000000000000 *5 $5 RPUSH"), "{image}");
        assert!(image.ends_with("$5 LTRIM $18 __quorate:{g}:tail $2 -4 $2 -1 *1 $4 EXEC "), "{image}");
    }

    #[test]
    fn large_payloads_are_shared_not_copied() {
        let big = Bytes::from(vec![b'x'; 1 << 20]);
        let position = Position { epoch: 1, seq: 1, hash: 0 };
        let entry = Entry {
            position,
            payload: vec![big.clone()],
            commands: 1,
            dialect: 2,
            trim: 0,
            elided: true,
            whole: vec![],
        };
        let image = framer(true).frame(&[Arc::new(entry)]);
        assert!(image.iter().any(|part| part.as_ptr() == big.as_ptr()));
        assert!(image.iter().map(Bytes::len).sum::<usize>() < (1 << 20) + 1000, "elided from the tail");
    }

    fn read(commands: Vec<u32>, extras: u32, answer: &[u8]) -> Result<Option<Outcome>, ReplyError> {
        // Byte by byte: the hardest way to cut a stream.
        let mut reader = TransactionReader::new(commands, extras);
        let mut buf = BytesMut::new();
        for (i, byte) in answer.iter().enumerate() {
            buf.extend_from_slice(&[*byte]);
            if let Some(outcome) = reader.read(&mut buf)? {
                assert_eq!(i, answer.len() - 1, "done too early");
                assert!(buf.is_empty());
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    }

    #[test]
    fn replies_are_cut_by_entry_and_command() {
        let answer = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n:1\r\n$1\r\nx\r\n-WRONGTYPE x\r\n+OK\r\n";
        let Ok(Some(Outcome::Applied(replies))) = read(vec![2, 1], 1, answer) else { panic!("applied") };
        assert_eq!(replies[0].bytes.as_ref(), b":1\r\n$1\r\nx\r\n");
        assert_eq!(replies[0].slice(1, 1).expect("there").as_ref(), b"$1\r\nx\r\n");
        assert_eq!(replies[1].bytes.as_ref(), b"-WRONGTYPE x\r\n");
    }

    #[test]
    fn environment_errors_refuse_the_whole() {
        let answer = b"+OK\r\n-OOM no memory\r\n+QUEUED\r\n-EXECABORT discarded\r\n";
        let Ok(Some(Outcome::Refused(error))) = read(vec![1], 1, answer) else { panic!("refused") };
        assert_eq!(error.as_ref(), b"OOM no memory");
    }

    #[test]
    fn commands_that_are_not_accepted_are_named() {
        let answer = b"+OK\r\n+QUEUED\r\n-ERR unknown command\r\n+QUEUED\r\n-EXECABORT discarded\r\n";
        let Ok(Some(Outcome::Rejected(rejected))) = read(vec![2], 1, answer) else { panic!("rejected") };
        assert_eq!(rejected, [(1, Bytes::from_static(b"-ERR unknown command\r\n"))]);
    }

    #[test]
    fn a_position_that_was_not_written_is_never_overlooked() {
        let answer = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n-WRONGTYPE x\r\n";
        assert!(read(vec![1], 1, answer).is_err());
        assert!(read(vec![1], 1, b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*1\r\n").is_err());
    }
}
