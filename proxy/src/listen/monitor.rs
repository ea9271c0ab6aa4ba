//! MONITOR: what the clients of a group send, as the proxy reads it, in the words of the servers. Never a
//! secret: what belongs to a login is hidden.

use super::session::Session;
use crate::worker::{Mail, Worker};
use bytes::{Bytes, BytesMut};
use quorate_wire::command::{Command, Flags};
use quorate_wire::resp::Args;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Longer arguments are cut.
const LONGEST: usize = 64 << 10;

/// How many clients of a group watch, by worker.
#[derive(Debug)]
pub struct Watchers(Box<[AtomicUsize]>);

impl Watchers {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicUsize::new(0)).collect())
    }

    /// Does anybody watch?
    #[inline]
    pub fn any(&self) -> bool {
        self.0.iter().any(|count| count.load(Relaxed) > 0)
    }
}

impl Worker {
    /// Answers `MONITOR`.
    pub(super) fn watch(&self, s: &mut Session) {
        if !std::mem::replace(&mut s.watches, true) {
            s.port.group.watchers.0[self.index()].fetch_add(1, Relaxed);
            s.client.watches.store(true, Relaxed);
        }
        s.confirm(Bytes::from_static(b"+OK\r\n"));
    }

    /// The client watches no more.
    pub fn unwatch(&self, s: &mut Session) {
        if std::mem::replace(&mut s.watches, false) {
            s.port.group.watchers.0[self.index()].fetch_sub(1, Relaxed);
            s.client.watches.store(false, Relaxed);
        }
    }

    /// Shows a command to those who watch, at the end of this turn.
    #[cold]
    pub(super) fn show(&self, s: &Session, command: &Command, args: Args) {
        if command.flags.has(Flags::SKIP_MONITOR) || command.flags.has(Flags::ADMIN) {
            return;
        }
        let group = &self.groups[s.port.group.index];
        line(self.clock.unix_us(), s.client.peer, args, &mut group.shown.borrow_mut());
        self.schedule();
    }

    /// Brings what was shown in this turn to all workers with clients that watch.
    pub fn send_shown(&self, group: usize) {
        let handle = &self.groups[group];
        if handle.shown.borrow().is_empty() {
            return;
        }
        let lines = std::mem::take(&mut *handle.shown.borrow_mut()).freeze();
        let counts = handle.shared.watchers.0.iter().enumerate();
        for (worker, _) in counts.filter(|(_, count)| count.load(Relaxed) > 0) {
            self.mailbox_of(worker as u32).post(Mail::Shown(group, lines.clone()));
        }
    }

    /// Hands what was shown to this worker's clients that watch.
    pub fn hand_out_shown(&self, group: usize, lines: &Bytes) {
        for session in self.all_sessions() {
            let mut s = session.borrow_mut();
            if s.watches && s.port.group.index == group {
                s.push(lines.clone());
                drop(s);
                super::session::flush(self, &session);
            }
        }
    }
}

/// Appends one line.
fn line(unix_us: u64, peer: SocketAddr, args: Args, out: &mut BytesMut) {
    // Writing to memory cannot fail.
    let _ = write!(out, "+{}.{:06} [0 {peer}]", unix_us / 1_000_000, unix_us % 1_000_000);
    for (at, arg) in args.from(0).enumerate() {
        out.extend_from_slice(b" \"");
        match is_secret(args, at) {
            true => out.extend_from_slice(b"(redacted)"),
            false => quote(&arg[..arg.len().min(LONGEST)], out),
        }
        out.extend_from_slice(b"\"");
    }
    out.extend_from_slice(b"\r\n");
}

/// Everything behind AUTH, and what follows the option AUTH of HELLO.
fn is_secret(args: Args, at: usize) -> bool {
    let is =
        |at: usize, word: &str| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    let option = |back: usize| at > back && is(at - back, "auth");
    (is(0, "auth") && at > 0) || (is(0, "hello") && (option(1) || option(2)))
}

fn quote(text: &[u8], out: &mut BytesMut) {
    for byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.extend_from_slice(&[*byte]),
            other => drop(write!(out, "\\x{other:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_wire::resp::{Decoder, Limits, encode};

    fn shown(words: &[&[u8]]) -> String {
        let source = encode::command_bytes(words);
        let mut decoder = Decoder::default();
        decoder.next(&source, &Limits::default()).expect("valid").expect("whole");
        let mut out = BytesMut::new();
        let peer = "127.0.0.1:5".parse().expect("an address");
        line(1_000_000_000_000_042, peer, Args::new(&source, decoder.spans()), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn lines_are_those_of_the_servers() {
        let expected =
            "+1000000000.000042 [0 127.0.0.1:5] \"SeT\" \"a\\x00\\\"\\r\\n\\t\\a\\b\\\\ \\xc3\\xa9\"\r\n";
        assert_eq!(shown(&[b"SeT", b"a\0\"\r\n\t\x07\x08\\ \xc3\xa9"]), expected);
    }

    #[test]
    fn secrets_are_hidden() {
        assert!(shown(&[b"auth", b"u", b"p"]).ends_with("\"auth\" \"(redacted)\" \"(redacted)\"\r\n"));
        let hello = shown(&[b"HELLO", b"3", b"AUTH", b"u", b"auth", b"SETNAME", b"n"]);
        assert!(hello.contains("\"AUTH\" \"(redacted)\" \"(redacted)\""), "{hello}");
    }
}
