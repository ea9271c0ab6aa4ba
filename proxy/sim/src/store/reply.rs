//! Answers before they are bytes, and their form in both protocol versions.
//! It never decides what to answer: commands do.

use std::borrow::Cow;

use super::number::format_score;

/// An error a command answers with; the text starts with its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault(Cow<'static, str>);

impl Fault {
    pub(super) const WRONG_TYPE: Fault =
        Fault::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub(super) const SYNTAX: Fault = Fault::fixed("ERR syntax error");
    pub(super) const NOT_INTEGER: Fault = Fault::fixed("ERR value is not an integer or out of range");
    pub(super) const NOT_FLOAT: Fault = Fault::fixed("ERR value is not a valid float");
    pub(super) const NO_SUCH_KEY: Fault = Fault::fixed("ERR no such key");
    pub(super) const OUT_OF_RANGE: Fault = Fault::fixed("ERR index out of range");

    pub(super) const fn fixed(text: &'static str) -> Self {
        Fault(Cow::Borrowed(text))
    }

    pub(super) fn said(text: String) -> Self {
        Fault(Cow::Owned(text))
    }

    pub(super) fn arity(name: &str) -> Self {
        Fault::said(format!("ERR wrong number of arguments for '{name}' command"))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// What a command answers.
pub(super) type Answer = Result<Reply, Fault>;

/// One reply value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Status(&'static str),
    Error(Fault),
    Int(i64),
    Bulk(Vec<u8>),
    /// Text for people: a verbatim string in protocol 3.
    Text(String),
    Null,
    NullArray,
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Double(f64),
    /// Members with scores: flat in protocol 2, pairs in protocol 3.
    Scored(Vec<(Vec<u8>, f64)>),
}

impl Reply {
    pub(super) const OK: Reply = Reply::Status("OK");

    pub(super) fn bulk(bytes: impl AsRef<[u8]>) -> Self {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    pub(super) fn count(n: usize) -> Self {
        Reply::Int(n as i64)
    }

    pub(super) fn flag(yes: bool) -> Self {
        Reply::Int(i64::from(yes))
    }

    pub(super) fn bulk_or_null(bytes: Option<impl AsRef<[u8]>>) -> Self {
        bytes.map_or(Reply::Null, Reply::bulk)
    }

    pub(super) fn bulks<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Vec<Reply> {
        items.into_iter().map(Reply::bulk).collect()
    }

    pub(super) fn array<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Self {
        Reply::Array(Self::bulks(items))
    }

    /// Appends this reply in the given protocol version (2 or 3).
    pub(super) fn encode(&self, protocol: u8, out: &mut Vec<u8>) {
        let resp3 = protocol == 3;
        match self {
            Reply::Status(text) => line(out, b'+', text),
            Reply::Error(fault) => line(out, b'-', &fault.text().replace(['\r', '\n'], " ")),
            Reply::Int(n) => line(out, b':', &n.to_string()),
            Reply::Bulk(bytes) => blob(out, bytes),
            Reply::Text(text) if resp3 => verbatim(out, text),
            Reply::Text(text) => blob(out, text.as_bytes()),
            Reply::Null | Reply::NullArray if resp3 => line(out, b'_', ""),
            Reply::Null => line(out, b'$', "-1"),
            Reply::NullArray => line(out, b'*', "-1"),
            Reply::Array(items) => list(out, b'*', items, protocol),
            Reply::Set(items) => list(out, if resp3 { b'~' } else { b'*' }, items, protocol),
            Reply::Map(pairs) => map(out, pairs, protocol),
            Reply::Double(d) if resp3 => line(out, b',', &format_score(*d)),
            Reply::Double(d) => blob(out, format_score(*d).as_bytes()),
            Reply::Scored(pairs) => scored(out, pairs, protocol),
        }
    }
}

fn line(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn blob(out: &mut Vec<u8>, bytes: &[u8]) {
    line(out, b'$', &bytes.len().to_string());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn verbatim(out: &mut Vec<u8>, text: &str) {
    line(out, b'=', &(text.len() + 4).to_string());
    out.extend_from_slice(b"txt:");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn list(out: &mut Vec<u8>, kind: u8, items: &[Reply], protocol: u8) {
    line(out, kind, &items.len().to_string());
    for item in items {
        item.encode(protocol, out);
    }
}

fn map(out: &mut Vec<u8>, pairs: &[(Reply, Reply)], protocol: u8) {
    match protocol {
        3 => line(out, b'%', &pairs.len().to_string()),
        _ => line(out, b'*', &(pairs.len() * 2).to_string()),
    }
    for (key, value) in pairs {
        key.encode(protocol, out);
        value.encode(protocol, out);
    }
}

fn scored(out: &mut Vec<u8>, pairs: &[(Vec<u8>, f64)], protocol: u8) {
    let flat = protocol != 3;
    line(out, b'*', &(pairs.len() * if flat { 2 } else { 1 }).to_string());
    for (member, score) in pairs {
        if !flat {
            line(out, b'*', "2");
        }
        blob(out, member);
        Reply::Double(*score).encode(protocol, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(reply: &Reply, protocol: u8) -> String {
        let mut out = Vec::new();
        reply.encode(protocol, &mut out);
        String::from_utf8_lossy(&out).replace("\r\n", " ")
    }

    #[test]
    fn the_two_protocols_differ_where_redis_does() {
        let map = Reply::Map(vec![(Reply::bulk("a"), Reply::Null)]);
        assert_eq!(shown(&map, 2), "*2 $1 a $-1 ");
        assert_eq!(shown(&map, 3), "%1 $1 a _ ");
        let scored = Reply::Scored(vec![(b"m".to_vec(), 1.5)]);
        assert_eq!(shown(&scored, 2), "*2 $1 m $3 1.5 ");
        assert_eq!(shown(&scored, 3), "*1 *2 $1 m ,1.5 ");
        assert_eq!(shown(&Reply::NullArray, 2), "*-1 ");
    }

    #[test]
    fn an_error_never_breaks_its_line() {
        let error = Reply::Error(Fault::said("ERR a\r\nb".into()));
        assert_eq!(shown(&error, 2), "-ERR a  b ");
    }
}
