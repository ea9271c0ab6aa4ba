//! SLOWLOG: commands that took long as their client saw it. Bounded; arguments are cut; secrets never come in.

use super::integer;
use crate::listen::registry::Client;
use crate::listen::session::Session;
use bytes::{Bytes, BytesMut};
use quorate_wire::command::Command;
use quorate_wire::resp::{Args, encode};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// Of an entry so many arguments are kept, and so many bytes of each, as servers do.
const MOST_ARGUMENTS: usize = 32;
const MOST_BYTES: usize = 128;
/// What most commands take.
const USUAL_BYTES: usize = 192;
/// The most entries that can be asked for: each takes a few kilobytes at most.
const MOST_ENTRIES: u64 = 10_000;

/// See the module's head.
#[derive(Debug)]
pub struct SlowLog {
    slower_than_us: AtomicI64,
    most: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    next: u64,
    /// The latest first.
    entries: VecDeque<Slow>,
}

#[derive(Debug)]
struct Slow {
    id: u64,
    unix_s: u64,
    us: u64,
    /// An array of bulk strings.
    command: Box<[u8]>,
    peer: String,
    name: String,
}

impl Default for SlowLog {
    fn default() -> Self {
        Self { slower_than_us: AtomicI64::new(10_000), most: AtomicU64::new(128), log: Mutex::default() }
    }
}

impl SlowLog {
    /// From how many microseconds on a command is slow; negative for never.
    #[inline]
    pub fn slower_than_us(&self) -> i64 {
        self.slower_than_us.load(Relaxed)
    }

    /// Sets that.
    pub fn set_slower_than(&self, us: i64) {
        self.slower_than_us.store(us, Relaxed);
    }

    /// How many entries are kept.
    pub fn most(&self) -> u64 {
        self.most.load(Relaxed)
    }

    /// Sets that; what is too much is forgotten. `false`: so many cannot be kept.
    pub fn set_most(&self, most: u64) -> bool {
        if most > MOST_ENTRIES {
            return false;
        }
        self.most.store(most, Relaxed);
        if let Ok(mut log) = self.log.lock() {
            log.entries.truncate(most as usize);
        }
        true
    }

    /// Is this long enough?
    #[inline]
    pub fn is_slow(&self, us: u64) -> bool {
        u64::try_from(self.slower_than_us()).is_ok_and(|limit| us >= limit)
    }

    /// What is kept of a command in case it will be slow; `None` while nothing is logged. Written over `spare`, as
    /// hardly any command is slow, and each has one.
    #[inline]
    pub fn brief(&self, command: &Command, args: Args, spare: BytesMut) -> Option<BytesMut> {
        (self.slower_than_us() >= 0).then(|| brief(command, args, spare))
    }

    /// What is left of a brief for the next one. A client that is idle does not keep much.
    #[inline]
    pub fn spare(brief: BytesMut) -> BytesMut {
        if brief.capacity() > 2 * USUAL_BYTES { BytesMut::new() } else { brief }
    }

    /// Enters a command that was slow.
    #[cold]
    pub fn enter(&self, unix_s: u64, us: u64, command: &[u8], client: &Client) {
        let Ok(mut log) = self.log.lock() else { return };
        let (peer, name, id) = (client.peer.to_string(), client.names().name, log.next);
        log.next += 1;
        log.entries.push_front(Slow { id, unix_s, us, command: command.into(), peer, name });
        log.entries.truncate(self.most() as usize);
    }
}

fn brief(command: &Command, args: Args, mut out: BytesMut) -> BytesMut {
    out.clear();
    out.reserve(USUAL_BYTES);
    let shown = args.len().min(MOST_ARGUMENTS);
    encode::header(b'*', shown, &mut out);
    for (at, arg) in args.from(0).take(shown).enumerate() {
        if at + 1 == shown && args.len() > shown {
            let more = format!("... ({} more arguments)", args.len() - shown + 1);
            encode::bulk(more.as_bytes(), &mut out);
        } else if at > 0 && is_secret(command.name) {
            encode::bulk(b"(redacted)", &mut out);
        } else if arg.len() > MOST_BYTES {
            let mut cut = arg[..MOST_BYTES].to_vec();
            cut.extend_from_slice(format!("... ({} more bytes)", arg.len() - MOST_BYTES).as_bytes());
            encode::bulk(&cut, &mut out);
        } else {
            encode::bulk(arg, &mut out);
        }
    }
    out
}

/// Commands whose arguments may hold a password.
fn is_secret(name: &str) -> bool {
    matches!(name, "auth" | "hello" | "config|set" | "acl|setuser" | "migrate" | "replicaof" | "slaveof")
}

/// Answers `SLOWLOG GET`, `LEN` and `RESET`.
pub fn answer(s: &mut Session, command: &Command, args: Args) {
    let group = s.port.group.clone();
    let Ok(mut log) = group.inspection.slow.log.lock() else { return s.error("ERR the slow log is gone") };
    match command.name {
        "slowlog|len" => s.answer(Bytes::from(format!(":{}\r\n", log.entries.len()))),
        "slowlog|reset" => {
            log.entries.clear();
            s.answer(Bytes::from_static(b"+OK\r\n"));
        }
        _ => match args.get(2).map_or(Some(10), integer) {
            Some(count) if count >= -1 => {
                let count = usize::try_from(count).unwrap_or(usize::MAX).min(log.entries.len());
                let mut out = BytesMut::new();
                encode::header(b'*', count, &mut out);
                log.entries.iter().take(count).for_each(|slow| slow.encode(&mut out));
                s.answer(out.freeze());
            }
            _ => s.error("ERR count should be greater than or equal to -1"),
        },
    }
}

impl Slow {
    fn encode(&self, out: &mut BytesMut) {
        encode::header(b'*', 6, out);
        for number in [self.id, self.unix_s, self.us] {
            encode::header(b':', number as usize, out);
        }
        out.extend_from_slice(&self.command);
        encode::bulk(self.peer.as_bytes(), out);
        encode::bulk(self.name.as_bytes(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_wire::command;
    use quorate_wire::resp::{Decoder, Limits};

    fn brief_of(args: &[&[u8]]) -> String {
        let bytes = encode::command_bytes(args);
        let mut decoder = Decoder::default();
        decoder.next(&bytes, &Limits::default()).expect("valid");
        let args = Args::new(&bytes, decoder.spans());
        let command = command::resolve(args).expect("known");
        String::from_utf8_lossy(&brief(command, args, BytesMut::from(&b"before"[..]))).replace("\r\n", " ")
    }

    #[test]
    fn arguments_are_cut_as_servers_do() {
        assert_eq!(brief_of(&[b"GET", b"k"]), "*2 $3 GET $1 k ");
        let long = [b'x'; 200];
        let shown = brief_of(&[b"GET", &long]);
        assert!(shown.ends_with(&format!("{}... (72 more bytes) ", "x".repeat(128))), "{shown}");
        let many = vec![&b"DEL"[..]; 40];
        let shown = brief_of(&many);
        assert!(shown.starts_with("*32 ") && shown.ends_with("... (9 more arguments) "), "{shown}");
    }

    #[test]
    fn secrets_do_not_come_in() {
        for secret in [&[&b"AUTH"[..], b"hush"][..], &[b"HELLO", b"3", b"AUTH", b"default", b"hush"]] {
            assert!(!brief_of(secret).contains("hush"));
        }
    }
}
