//! The form in which an entry is kept in a backend's tail: a header line, then its commands.
//!
//! `EPOCH:SEQ:HASH COMMANDS\n` and the commands as sent, or `EPOCH:SEQ:HASH COMMANDS elided\n`
//! when they were too large to keep. `whole:FIRST-END,...` after the number names runs of commands that are applied
//! together or not at all.

use super::encode;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Entry, TailEntry, runs_fit};
use std::ops::Range;

/// The header line of an entry.
pub fn header(entry: &Entry) -> String {
    let mut line = format!("{} {}", entry.position, entry.commands);
    for (i, run) in entry.whole.iter().enumerate() {
        let before = if i == 0 { " whole:" } else { "," };
        line.push_str(&format!("{before}{}-{}", run.start, run.end));
    }
    line.push_str(if entry.elided { " elided\n" } else { "\n" });
    line
}

/// Appends the whole element of an entry, as an argument of a command.
pub(super) fn element(entry: &Entry, out: &mut BytesMut) {
    let header = header(entry);
    let payload: &[Bytes] = if entry.elided { &[] } else { &entry.payload };
    let len = header.len() + payload.iter().map(Bytes::len).sum::<usize>();
    encode::header(b'$', len, out);
    out.extend_from_slice(header.as_bytes());
    payload.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Reads one element of a tail list; `None` when it is not one.
pub fn parse(element: &Bytes) -> Option<TailEntry> {
    let end = memchr::memchr(b'\n', element)?;
    let line = std::str::from_utf8(&element[..end]).ok()?;
    let mut words = line.split(' ');
    let position = words.next()?.parse().ok()?;
    let commands = words.next()?.parse().ok()?;
    let mut next = words.next();
    let mut whole = Vec::new();
    if let Some(list) = next.and_then(|word| word.strip_prefix("whole:")) {
        whole = list.split(',').map(run).collect::<Option<_>>()?;
        next = words.next();
    }
    if !runs_fit(&whole, commands) {
        return None;
    }
    let payload = match next {
        None => Some(element.slice(end + 1..)),
        Some("elided") => None,
        Some(_) => return None,
    };
    Some(TailEntry { position, commands, payload, whole })
}

fn run(text: &str) -> Option<Range<u32>> {
    let (first, end) = text.split_once('-')?;
    Some(first.parse().ok()?..end.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::ordered::Position;

    fn entry(elided: bool) -> Entry {
        let position = Position { epoch: 3, seq: 9, hash: 0xabc };
        let payload = vec![Bytes::from_static(b"*1\r\n$4\r\nINCR\r\n")];
        Entry { position, payload, commands: 1, dialect: 2, trim: 0, elided, whole: vec![] }
    }

    #[test]
    fn an_entry_survives_its_stored_form() {
        let whole = entry(false);
        let mut stored = header(&whole).into_bytes();
        stored.extend_from_slice(&whole.payload[0]);
        let read = parse(&stored.into()).expect("valid");
        assert_eq!(read.position, whole.position);
        assert_eq!(read.payload.as_ref(), Some(&whole.payload[0]));

        let read = parse(&header(&entry(true)).into_bytes().into()).expect("valid");
        assert_eq!(read.payload, None);
    }

    #[test]
    fn what_belongs_together_is_stored_with_it() {
        for elided in [false, true] {
            let entry = Entry { whole: vec![0..2, 5..9], commands: 9, ..entry(elided) };
            let read = parse(&header(&entry).into_bytes().into()).expect("valid");
            assert_eq!((read.whole, read.commands), (vec![0..2, 5..9], 9));
            assert_eq!(read.payload.is_none(), elided);
        }
    }

    #[test]
    fn foreign_elements_are_not_believed() {
        for bad in [
            "",
            "\n",
            "1:2:3 x\n",
            "1:2:3 1 what\n",
            "1:2:3 1 whole:1\n",
            "hello world\n",
            "1:2:3 1",
            "1:2:3 3 whole:0-4\n",
            "1:2:3 3 whole:2-1\n",
            "1:2:3 3 whole:1-3,0-1\n",
        ] {
            assert_eq!(parse(&Bytes::from_static(bad.as_bytes())), None, "{bad:?}");
        }
    }
}
