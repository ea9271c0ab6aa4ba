//! A reply as a value, for the few conversations that are not on the hot path.

use super::reply::length;
use bytes::Bytes;

/// Nesting beyond this is refused; no server command that we ask answers so deeply.
const MAX_DEPTH: usize = 16;

/// A RESP2 reply.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Value {
    Simple(Bytes),
    Error(Bytes),
    Integer(i64),
    Bulk(Bytes),
    Null,
    Array(Vec<Value>),
}

impl Value {
    /// Every reply of several; `None` when they cannot be read.
    pub fn parse_all(replies: &Bytes) -> Option<Vec<Value>> {
        let (mut rest, mut scanner, mut found) = (replies.clone(), super::Scanner::default(), Vec::new());
        while !rest.is_empty() {
            let len = scanner.next(&rest).ok()??;
            found.push(Value::parse(&rest.split_to(len))?);
        }
        Some(found)
    }

    /// Reads one complete reply, as found by a [`super::Scanner`]. `None`: not RESP2, or too deep.
    pub fn parse(reply: &Bytes) -> Option<Value> {
        let (value, len) = parse(reply, 0, 0)?;
        (len == reply.len()).then_some(value)
    }

    /// The text of a simple or bulk string.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The bytes of a simple or bulk string.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Value::Simple(bytes) | Value::Bulk(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The elements of an array; none for anything else.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) => items,
            _ => &[],
        }
    }

    /// The text of an error.
    pub fn error(&self) -> Option<String> {
        match self {
            Value::Error(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }
}

fn parse(reply: &Bytes, at: usize, depth: usize) -> Option<(Value, usize)> {
    let line = memchr::memchr(b'\n', reply.get(at..)?)? + at;
    let head = reply.slice(at + 1..line.checked_sub(1).filter(|end| *end > at)?);
    let next = line + 1;
    let number = || std::str::from_utf8(&head).ok()?.parse::<i64>().ok();
    match reply[at] {
        b'+' => Some((Value::Simple(head), next)),
        b'-' => Some((Value::Error(head), next)),
        b':' => Some((Value::Integer(number()?), next)),
        b'$' => match usize::try_from(length(&head).ok()?) {
            Err(_) => Some((Value::Null, next)),
            Ok(len) => (next + len + 2 <= reply.len())
                .then(|| (Value::Bulk(reply.slice(next..next + len)), next + len + 2)),
        },
        b'*' if depth < MAX_DEPTH => match usize::try_from(length(&head).ok()?) {
            Err(_) => Some((Value::Null, next)),
            Ok(count) => {
                let mut items = Vec::new();
                let mut at = next;
                for _ in 0..count {
                    let (item, after) = parse(reply, at, depth + 1)?;
                    items.push(item);
                    at = after;
                }
                Some((Value::Array(items), at))
            }
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_become_values() {
        let reply = Bytes::from_static(b"*4\r\n+OK\r\n:-2\r\n$-1\r\n*1\r\n$1\r\nx\r\n");
        let value = Value::parse(&reply).expect("valid");
        assert_eq!(value.items()[1], Value::Integer(-2));
        assert_eq!(value.items()[2], Value::Null);
        assert_eq!(value.items()[3].items()[0].text(), Some("x"));
        assert_eq!(
            Value::parse(&Bytes::from_static(b"-ERR no\r\n")).and_then(|v| v.error()),
            Some("ERR no".into())
        );
    }

    #[test]
    fn what_is_cut_or_too_deep_is_refused() {
        for bad in [&b"*1\r\n"[..], b"$5\r\nabc\r\n", b"\n", b"+", b":x\r\n"] {
            assert_eq!(Value::parse(&Bytes::from_static(bad)), None);
        }
        let deep = [&b"*1\r\n".repeat(100)[..], b":1\r\n"].concat();
        assert_eq!(Value::parse(&Bytes::from(deep)), None);
    }
}
