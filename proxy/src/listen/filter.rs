//! Replies that would show the reserved keys, and the one that speaks of the server itself.

use bytes::{Bytes, BytesMut};
use quorate_wire::command::{Filter, TimeLeft};
use quorate_wire::resp::transaction::RESERVED_PREFIX;
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
    /// `INFO`: lines of ours replace the server's where the proxy is what the client talks to.
    Info(Box<str>),
}

/// How often `RANDOMKEY` is asked, so that a reserved key is practically never all there is.
pub const RANDOM_TRIES: usize = 64;

/// Rewrites a reply at this time, in milliseconds since 1970. What cannot be read is passed on as it is: it is an
/// error of the backend.
pub fn apply(shape: &Shape, reply: Bytes, unix_ms: u64) -> Bytes {
    let changed = match shape {
        Shape::AsIs | Shape::Hide(Filter::None) | Shape::Published { .. } => None,
        Shape::Hide(Filter::Keys) => keys(&reply),
        Shape::Hide(Filter::Scan) => scan(&reply),
        Shape::Hide(Filter::DbSize) => dbsize(&reply),
        Shape::Hide(Filter::RandomKey) => random_key(&reply),
        Shape::Deadline(kind) => Some(expiry::time_left(*kind, &reply, unix_ms)),
        Shape::Info(own) => info(&reply, own),
    };
    match changed {
        Some(bytes) => bytes,
        // A burst of several commands must still end as one reply.
        None if *shape == Shape::Hide(Filter::DbSize) || *shape == Shape::Hide(Filter::RandomKey) => {
            first(&reply)
        }
        None => reply,
    }
}

fn first(reply: &Bytes) -> Bytes {
    match Scanner::default().next(reply) {
        Ok(Some(len)) => reply.slice(..len),
        _ => reply.clone(),
    }
}

/// A line `*3` or `$5` or `:7` at the start: its number and its length.
fn line(reply: &[u8], kind: u8) -> Option<(i64, usize)> {
    let end = reply.iter().position(|b| *b == b'\n')?;
    let text = std::str::from_utf8(reply.get(1..end.checked_sub(1)?)?).ok()?;
    (reply.first() == Some(&kind)).then_some((text.parse().ok()?, end + 1))
}

fn bulk(reply: &[u8]) -> Option<(&[u8], usize)> {
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
        if !key.starts_with(RESERVED_PREFIX) {
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

fn scan(reply: &[u8]) -> Option<Bytes> {
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
fn random_key(reply: &Bytes) -> Option<Bytes> {
    let mut at = 0;
    let mut null = None;
    while at < reply.len() {
        let len = Scanner::default().next(&reply[at..]).ok()??;
        let one = reply.slice(at..at + len);
        match bulk(&one) {
            Some((key, _)) if key.starts_with(RESERVED_PREFIX) => {}
            Some(_) => return Some(one),
            None => null = Some(one),
        }
        at += len;
    }
    Some(null.unwrap_or_else(|| Bytes::from_static(b"$-1\r\n")))
}

/// Replaces the values of lines that both have, and adds the rest as a section of its own.
fn info(reply: &[u8], own: &str) -> Option<Bytes> {
    let verbatim = reply.first() == Some(&b'=');
    let (len, start) = line(reply, if verbatim { b'=' } else { b'$' })?;
    let skip = if verbatim { 4 } else { 0 };
    let text = std::str::from_utf8(reply.get(start + skip..start + usize::try_from(len).ok()?)?).ok()?;
    let mut lines: Vec<&str> = text.split("\r\n").collect();
    let mut added = Vec::new();
    for ours in own.lines() {
        let key = ours.split_once(':').map_or(ours, |(key, _)| key);
        let same = |theirs: &&mut &str| theirs.split_once(':').is_some_and(|(name, _)| name == key);
        match lines.iter_mut().find(same) {
            Some(theirs) => *theirs = ours,
            None => added.push(ours),
        }
    }
    let mut body = lines.join("\r\n");
    if !added.is_empty() {
        body.push_str(&format!("\r\n# Quorate\r\n{}\r\n", added.join("\r\n")));
    }
    let mut out = BytesMut::with_capacity(body.len() + 32);
    encode::header(reply[0], body.len() + skip, &mut out);
    out.extend_from_slice(if verbatim { b"txt:" } else { b"" });
    out.extend_from_slice(body.as_bytes());
    out.extend_from_slice(b"\r\n");
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hide(filter: Filter, reply: &str) -> String {
        let reply = apply(&Shape::Hide(filter), Bytes::from(reply.to_string()), 0);
        String::from_utf8_lossy(&reply).replace("\r\n", " ")
    }

    #[test]
    fn reserved_keys_are_not_seen() {
        let array = "*2\r\n$1\r\na\r\n$16\r\n__quorate:{g}:ps\r\n";
        assert_eq!(hide(Filter::Keys, array), "*1 $1 a ");
        assert_eq!(hide(Filter::Scan, &format!("*2\r\n$1\r\n7\r\n{array}")), "*2 $1 7 *1 $1 a ");
        assert_eq!(hide(Filter::DbSize, ":7\r\n:4\r\n"), ":3 ");
        assert_eq!(hide(Filter::RandomKey, "$11\r\n__quorate:x\r\n$1\r\nb\r\n$-1\r\n"), "$1 b ");
        assert_eq!(hide(Filter::RandomKey, "$11\r\n__quorate:x\r\n$11\r\n__quorate:y\r\n"), "$-1 ");
    }

    #[test]
    fn errors_pass_and_stay_one_reply() {
        assert_eq!(hide(Filter::Keys, "-ERR x\r\n"), "-ERR x ");
        assert_eq!(hide(Filter::DbSize, "-LOADING x\r\n-LOADING x\r\n"), "-LOADING x ");
    }

    #[test]
    fn info_speaks_of_the_proxy() {
        let own = "tcp_port:1\nquorate_group:g";
        let reply = Bytes::from_static(b"$38\r\n# Server\r\ntcp_port:6379\r\nuptime:12345\r\n\r\n");
        let text = apply(&Shape::Info(own.into()), reply, 0);
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("tcp_port:1\r\nuptime:12345"), "{text}");
        assert!(text.contains("# Quorate\r\nquorate_group:g"), "{text}");
    }
}
