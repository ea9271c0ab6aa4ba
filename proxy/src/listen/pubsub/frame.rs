//! The frames that subscribers read: pushes in RESP3, arrays in RESP2.

use super::Kind;
use bytes::{Bytes, BytesMut};
use quorate_wire::resp::encode;

fn kind_of(dialect: u8) -> u8 {
    if dialect == 3 { b'>' } else { b'*' }
}

/// Appends a confirmation. Without a name nothing was subscribed to.
pub fn confirm(word: &str, kind: Kind, name: Option<&[u8]>, count: usize, dialect: u8, out: &mut BytesMut) {
    encode::header(kind_of(dialect), 3, out);
    encode::bulk(format!("{}{word}", kind.letter()).as_bytes(), out);
    match (name, dialect) {
        (Some(name), _) => encode::bulk(name, out),
        (None, 3) => out.extend_from_slice(b"_\r\n"),
        (None, _) => out.extend_from_slice(b"$-1\r\n"),
    }
    encode::header(b':', count, out);
}

/// A message for those who subscribed to its channel.
pub fn message(sharded: bool, channel: &[u8], text: &[u8], dialect: u8) -> Bytes {
    let word: &[u8] = if sharded { b"smessage" } else { b"message" };
    parts(&[word, channel, text], dialect)
}

/// The same for those who subscribed to a pattern.
pub fn by_pattern(pattern: &[u8], channel: &[u8], text: &[u8], dialect: u8) -> Bytes {
    parts(&[b"pmessage", pattern, channel, text], dialect)
}

fn parts(parts: &[&[u8]], dialect: u8) -> Bytes {
    let mut out = BytesMut::with_capacity(parts.iter().map(|part| part.len() + 16).sum::<usize>() + 8);
    encode::header(kind_of(dialect), parts.len(), &mut out);
    parts.iter().for_each(|part| encode::bulk(part, &mut out));
    out.freeze()
}

/// What PING answers in RESP2 while there are subscriptions.
pub fn pong(text: &[u8]) -> Bytes {
    parts(&[b"pong", text], 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_servers() {
        assert_eq!(
            message(false, b"c", b"hi", 2).as_ref(),
            b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
        );
        assert_eq!(message(true, b"c", b"", 3).as_ref(), b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$0\r\n\r\n");
        let text = by_pattern(b"c*", b"c", b"x", 3);
        assert_eq!(text.as_ref(), b">4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$1\r\nc\r\n$1\r\nx\r\n");
        let mut out = BytesMut::new();
        confirm("unsubscribe", Kind::Pattern, None, 0, 2, &mut out);
        confirm("subscribe", Kind::Shard, Some(b"c"), 1, 3, &mut out);
        let expected: &[u8] =
            b"*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n>3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n";
        assert_eq!(out.as_ref(), expected);
    }
}
