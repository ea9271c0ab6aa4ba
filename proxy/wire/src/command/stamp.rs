//! Stream ids chosen in log order: `XADD key *` becomes `XADD key ms-seq`.

use super::{Rewrite, Rewritten, rewrite};
use crate::resp::{Args, Decoder, Limits, encode};
use bytes::BytesMut;
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
}

impl Stamp for StreamStamp {
    fn stamp(&mut self, now: Now, command: &[u8], out: &mut BytesMut) {
        let mut decoder = Decoder::default();
        let limits = Limits { frame: u32::MAX as usize, ..Limits::default() };
        if let Ok(Some(_)) = decoder.next(command, &limits)
            && let Rewritten::Stream { mut args, id_index } =
                rewrite(Rewrite::StreamId, Args::new(command, decoder.spans()), now.unix_ms)
        {
            args[id_index] = Cow::Owned(self.next(now.unix_ms).into_bytes());
            return encode::command(args.iter().map(AsRef::as_ref), out);
        }
        // Not one to be stamped after all: it goes as it is.
        out.extend_from_slice(command);
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
}
