//! Replies that would show the reserved keys, and the one that speaks of the server itself.

use super::blocking::Latest;
use super::cursor::{self, Round};
use super::inspect::{self, InfoParts};
use super::pubsub::Hub;
use crate::backend::link::EXECABORT;
use bytes::{Bytes, BytesMut};
use quorate_wire::command::{Filter, TimeLeft};
use quorate_wire::resp::transaction::is_reserved;
use quorate_wire::resp::{Scanner, encode, expiry};

/// What is done to a reply before the client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Shape {
    /// Nothing: the usual case.
    #[default]
    AsIs,
    /// Reserved keys are hidden.
    Hide(Filter),
    /// The backend's deadline of a key, as the client asked for it.
    Deadline(TimeLeft),
    /// The reply counts subscribers to a channel; see [`crate::listen::pubsub`].
    Published {
        /// By SPUBLISH.
        sharded: bool,
        /// The channel.
        channel: Bytes,
    },
    /// No answer yet: it tells from where on to wait.
    Latest(Box<Latest>),
    /// The array that answers EXEC.
    Exec(Box<Exec>),
    /// `INFO`: lines of ours replace the server's where the proxy is what the client talks to.
    Info(Box<InfoParts>),
    /// `CONFIG GET`: some settings of the server are shown, and these of ours.
    Settings(Vec<(&'static str, String)>),
    /// A page of a scan, whose cursor belongs to the replica that gave it; may hold keys.
    Page {
        /// It does.
        keys: bool,
        /// Where it stands among several groups.
        round: Round,
    },
    /// One of many keys that is not reserved; null in this protocol version when all are.
    AnyKey {
        /// Protocol version.
        dialect: u8,
    },
    /// The client wants no reply.
    Nothing,
}

/// The array that answers EXEC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// How many elements it has.
    pub elements: usize,
    /// What they are made of, in order.
    pub parts: Vec<Part>,
    /// Protocol version.
    pub dialect: u8,
}

/// One or more elements of the array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// An answer of the proxy's own.
    Own(Bytes),
    /// So many of a replica's replies, each an element as it is.
    Replies(u32),
    /// The replies to so many commands, which make one element.
    Shaped {
        /// How many replies.
        commands: u32,
        /// What is made of them.
        shape: Shape,
    },
}

impl Exec {
    /// The answer, from the replies of a replica. Where it did not accept a command, nothing was applied, and the
    /// answer is its error.
    pub fn assemble(&self, replies: &Bytes, facts: Facts) -> Bytes {
        if let Some(error) = rejected(replies) {
            return error;
        }
        let mut out = BytesMut::with_capacity(replies.len() + 16);
        encode::header(b'*', self.elements, &mut out);
        match self.elements_of(replies, facts, &mut out) {
            Some(()) => out.freeze(),
            None => Bytes::from_static(
                b"-UNKNOWN the replies of a backend to this transaction cannot be read\r\n",
            ),
        }
    }

    fn elements_of(&self, replies: &Bytes, facts: Facts, out: &mut BytesMut) -> Option<()> {
        if let [Part::Replies(_)] = self.parts.as_slice() {
            out.extend_from_slice(replies);
            return Some(());
        }
        let mut rest = replies.clone();
        for part in &self.parts {
            match part {
                Part::Own(reply) => out.extend_from_slice(reply),
                Part::Replies(count) => out.extend_from_slice(&take(&mut rest, *count)?),
                Part::Shaped { commands, shape } => {
                    out.extend_from_slice(&apply(shape, take(&mut rest, *commands)?, facts));
                }
            }
        }
        rest.is_empty().then_some(())
    }
}

/// The error that stands in place of every reply, if one does.
fn rejected(replies: &Bytes) -> Option<Bytes> {
    let error = replies.starts_with(EXECABORT).then(|| first(replies))?;
    replies.chunks(error.len()).all(|reply| reply == error).then_some(error)
}

/// The first replies of these, so many.
fn take(rest: &mut Bytes, count: u32) -> Option<Bytes> {
    let mut end = 0;
    for _ in 0..count {
        end += Scanner::default().next(&rest[end..]).ok()??;
    }
    Some(rest.split_to(end))
}

/// The answer to a transaction that was dropped because a watched key was touched: null.
pub fn changed(shape: &Shape) -> Bytes {
    match shape {
        Shape::Exec(exec) if exec.dialect == 3 => Bytes::from_static(b"_\r\n"),
        _ => Bytes::from_static(b"*-1\r\n"),
    }
}

/// How often `RANDOMKEY` is asked, so that a reserved key is practically never all there is.
pub const RANDOM_TRIES: usize = 64;

/// What the shape of a reply depends on besides the reply.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The time, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Who listens to channels.
    pub hub: &'a Hub,
}

/// Rewrites a reply. What cannot be read is passed on as it is: it is an error of the backend.
pub fn apply(shape: &Shape, reply: Bytes, facts: Facts) -> Bytes {
    let changed = match shape {
        // The session goes on by itself when the last ids are known; what else comes is an error.
        Shape::AsIs
        | Shape::Latest(_)
        | Shape::Hide(Filter::None | Filter::RandomKey | Filter::Config | Filter::Cursor) => None,
        Shape::Hide(Filter::Keys) => keys(&reply),
        Shape::Hide(Filter::Scan) => scan(&reply),
        Shape::Hide(Filter::DbSize) => dbsize(&reply),
        Shape::AnyKey { dialect } => random_key(&reply, *dialect),
        Shape::Published { sharded, channel } => reply
            .starts_with(b":")
            .then(|| Bytes::from(format!(":{}\r\n", facts.hub.reach(*sharded, channel).0))),
        Shape::Deadline(kind) => Some(expiry::time_left(*kind, &reply, facts.unix_ms)),
        Shape::Info(own) => inspect::apply_info(&reply, own),
        Shape::Settings(own) => inspect::apply_settings(&reply, own),
        // Whose it is, is not known: the next page begins anew.
        Shape::Page { keys, round } => Some(cursor::page(*keys, reply.clone(), None, *round)),
        Shape::Nothing => Some(Bytes::new()),
        Shape::Exec(exec) => Some(exec.assemble(&reply, facts)),
    };
    match changed {
        Some(bytes) => bytes,
        // A burst of several commands must still end as one reply.
        None if matches!(shape, Shape::Info(_) | Shape::AnyKey { .. } | Shape::Hide(Filter::DbSize)) => {
            first(&reply)
        }
        None => reply,
    }
}

/// The first of several replies.
pub(super) fn first(reply: &Bytes) -> Bytes {
    match Scanner::default().next(reply) {
        Ok(Some(len)) => reply.slice(..len),
        _ => reply.clone(),
    }
}

/// A line `*3` or `$5` or `:7` at the start: its number and its length.
pub(super) fn line(reply: &[u8], kind: u8) -> Option<(i64, usize)> {
    let end = reply.iter().position(|b| *b == b'\n')?;
    let text = std::str::from_utf8(reply.get(1..end.checked_sub(1)?)?).ok()?;
    (reply.first() == Some(&kind)).then_some((text.parse().ok()?, end + 1))
}

/// A bulk string at the start, and its length with its head.
pub(super) fn bulk(reply: &[u8]) -> Option<(&[u8], usize)> {
    let (len, start) = line(reply, b'$')?;
    let len = usize::try_from(len).ok()?;
    Some((reply.get(start..start + len)?, start + len + 2))
}

/// The elements of an array of bulk strings that are not reserved.
fn visible(mut rest: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, start) = line(rest, b'*')?;
    rest = &rest[start..];
    let mut kept = Vec::new();
    for _ in 0..count {
        let (key, len) = bulk(rest)?;
        if !is_reserved(key) {
            kept.push(key);
        }
        rest = rest.get(len..)?;
    }
    Some(kept)
}

fn keys(reply: &[u8]) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(reply.len());
    encode::command(visible(reply)?, &mut out);
    Some(out.freeze())
}

/// A page of `SCAN` without reserved keys.
pub(super) fn scan(reply: &[u8]) -> Option<Bytes> {
    let (2, start) = line(reply, b'*')? else { return None };
    let (_, len) = bulk(&reply[start..])?;
    let mut out = BytesMut::with_capacity(reply.len());
    out.extend_from_slice(&reply[..start + len]);
    encode::command(visible(&reply[start + len..])?, &mut out);
    Some(out.freeze())
}

/// Two replies, `DBSIZE` and `EXISTS` of the reserved keys, become their difference.
fn dbsize(reply: &[u8]) -> Option<Bytes> {
    let (all, len) = line(reply, b':')?;
    let (reserved, _) = line(&reply[len..], b':')?;
    Some(Bytes::from(format!(":{}\r\n", all - reserved)))
}

/// The first of many `RANDOMKEY` replies that is not reserved; null when all are.
fn random_key(reply: &Bytes, dialect: u8) -> Option<Bytes> {
    let mut at = 0;
    let mut null = None;
    while at < reply.len() {
        let len = Scanner::default().next(&reply[at..]).ok()??;
        let one = reply.slice(at..at + len);
        match bulk(&one) {
            Some((key, _)) if is_reserved(key) => {}
            Some(_) => return Some(one),
            None => null = Some(one),
        }
        at += len;
    }
    Some(null.unwrap_or_else(|| Bytes::from_static(if dialect == 3 { b"_\r\n" } else { b"$-1\r\n" })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(hub: &Hub) -> Facts<'_> {
        Facts { unix_ms: 0, hub }
    }

    fn hide(filter: Filter, reply: &str) -> String {
        let reply = apply(&Shape::Hide(filter), Bytes::from(reply.to_string()), facts(&Hub::new(1)));
        String::from_utf8_lossy(&reply).replace("\r\n", " ")
    }

    #[test]
    fn reserved_keys_are_not_seen() {
        let array = "*2\r\n$1\r\na\r\n$16\r\n__quorate:{g}:ps\r\n";
        assert_eq!(hide(Filter::Keys, array), "*1 $1 a ");
        assert_eq!(hide(Filter::Scan, &format!("*2\r\n$1\r\n7\r\n{array}")), "*2 $1 7 *1 $1 a ");
        assert_eq!(hide(Filter::DbSize, ":7\r\n:4\r\n"), ":3 ");
        let any = |dialect: u8, reply: &'static str| {
            let hub = Hub::new(1);
            apply(&Shape::AnyKey { dialect }, Bytes::from(reply), facts(&hub))
        };
        assert_eq!(any(2, "$11\r\n__quorate:x\r\n$1\r\nb\r\n$-1\r\n"), "$1\r\nb\r\n");
        assert_eq!(any(2, "$11\r\n__quorate:x\r\n$11\r\n__quorate:y\r\n"), "$-1\r\n");
        assert_eq!(any(3, "$11\r\n__quorate:x\r\n"), "_\r\n");
        assert_eq!(any(3, "-LOADING x\r\n-LOADING x\r\n"), "-LOADING x\r\n");
    }

    #[test]
    fn errors_pass_and_stay_one_reply() {
        assert_eq!(hide(Filter::Keys, "-ERR x\r\n"), "-ERR x ");
        assert_eq!(hide(Filter::DbSize, "-LOADING x\r\n-LOADING x\r\n"), "-LOADING x ");
    }

    fn exec(parts: Vec<Part>, elements: usize, replies: &'static str) -> String {
        let exec = Exec { elements, parts, dialect: 2 };
        String::from_utf8_lossy(&exec.assemble(&Bytes::from_static(replies.as_bytes()), facts(&Hub::new(1))))
            .replace("\r\n", " ")
    }

    #[test]
    fn an_exec_is_put_together_in_order() {
        let own = Part::Own(Bytes::from_static(b"+PONG\r\n"));
        let size = Part::Shaped { commands: 2, shape: Shape::Hide(Filter::DbSize) };
        let parts = vec![Part::Replies(2), own, size, Part::Replies(1)];
        assert_eq!(
            exec(parts.clone(), 5, "+OK\r\n*1\r\n:1\r\n:7\r\n:4\r\n-ERR x\r\n"),
            "*5 +OK *1 :1 +PONG :3 -ERR x "
        );
        assert!(exec(parts, 5, "+OK\r\n").starts_with("-UNKNOWN"));
        assert_eq!(exec(vec![], 0, ""), "*0 ");
    }

    #[test]
    fn what_no_backend_accepted_is_one_error() {
        let rejected = "-EXECABORT no\r\n-EXECABORT no\r\n";
        assert_eq!(exec(vec![Part::Replies(2)], 2, rejected), "-EXECABORT no ");
        let other = "-EXECABORT no\r\n+OK\r\n";
        assert_eq!(exec(vec![Part::Replies(2)], 2, other), "*2 -EXECABORT no +OK ");
    }
}
