//! Stream ids chosen in log order: `XADD key *` becomes `XADD key ms-seq`.

use super::{Carry, Rewrite, Rewritten, lookup, rewrite};
use crate::resp::{Args, each_command, encode};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Now, Stamp};
use std::borrow::Cow;

/// The last id given; ids grow even when the clock steps back.
#[derive(Debug, Default)]
pub struct StreamStamp {
    ms: u64,
    seq: u64,
}

impl StreamStamp {
    fn next(&mut self, unix_ms: u64) -> String {
        if unix_ms > self.ms {
            (self.ms, self.seq) = (unix_ms, 0);
        } else {
            self.seq += 1;
        }
        format!("{}-{}", self.ms, self.seq)
    }

    fn one(&mut self, unix_ms: u64, command: &[u8], args: Args, out: &mut BytesMut) {
        let adds =
            args.get(0).and_then(lookup).is_some_and(|c| c.carry == Carry::Rewritten(Rewrite::StreamId));
        if adds && let Rewritten::Stream { mut args, id_index } = rewrite(Rewrite::StreamId, args, unix_ms) {
            args[id_index] = Cow::Owned(self.next(unix_ms).into_bytes());
            return encode::command(args.iter().map(AsRef::as_ref), out);
        }
        // Not one to be stamped: it goes as it is.
        out.extend_from_slice(command);
    }
}

impl Stamp for StreamStamp {
    fn stamp(&mut self, now: Now, commands: &Bytes, out: &mut BytesMut) {
        let before = out.len();
        if !each_command(commands, |command, args| self.one(now.unix_ms, &command, args, out)) {
            // Not commands at all: the server may say so.
            out.truncate(before);
            out.extend_from_slice(commands);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode::command_bytes;

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let mut stamp = StreamStamp::default();
        let mut stamped = |unix_ms| {
            let mut out = BytesMut::new();
            stamp.stamp(Now { us: 0, unix_ms }, &command_bytes(&[b"XADD", b"s", b"*", b"f", b"*"]), &mut out);
            out
        };
        assert_eq!(stamped(5), command_bytes(&[b"XADD", b"s", b"5-0", b"f", b"*"]));
        assert_eq!(stamped(5), command_bytes(&[b"XADD", b"s", b"5-1", b"f", b"*"]));
        assert_eq!(stamped(3), command_bytes(&[b"XADD", b"s", b"5-2", b"f", b"*"]));
        assert_eq!(stamped(9), command_bytes(&[b"XADD", b"s", b"9-0", b"f", b"*"]));
    }

    #[test]
    fn of_several_commands_each_gets_an_id_that_wants_one() {
        let set = command_bytes(&[b"SET", b"s", b"*", b"f", b"*"]);
        let (add, explicit) =
            ([&b"xadd"[..], b"s", b"*", b"f", b"v"], [&b"XADD"[..], b"s", b"9-9", b"f", b"v"]);
        let whole =
            [&set[..], &command_bytes(&add), &command_bytes(&explicit), &command_bytes(&add)].concat();
        let mut out = BytesMut::new();
        StreamStamp::default().stamp(Now { us: 0, unix_ms: 7 }, &whole.into(), &mut out);
        let stamped = |id: &'static [u8]| command_bytes(&[&b"xadd"[..], b"s", id, b"f", b"v"]);
        let expected = [&set[..], &stamped(b"7-0"), &command_bytes(&explicit), &stamped(b"7-1")].concat();
        assert_eq!(out, expected);
    }
}
