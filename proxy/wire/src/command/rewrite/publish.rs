//! PUBLISH in the log. Its reply counts the subscribers of one server, and would differ between replicas, so it
//! travels inside a script whose reply is the same everywhere. See docs/decisions/0019-publish-is-an-entry.md.

use super::Rewrite;
use crate::resp::{Args, each_command};
use bytes::Bytes;
use std::borrow::Cow;

/// Also what an entry with messages is known by: no client can put it into the log.
const SCRIPT: &[u8] = b"redis.call(ARGV[1],ARGV[2],ARGV[3]) return 0";

/// A message that an entry of the log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// By SPUBLISH: channels of their own.
    pub sharded: bool,
    /// Where to.
    pub channel: Bytes,
    /// What.
    pub message: Bytes,
}

pub(super) fn rewrite(kind: Rewrite, args: Args<'_>) -> Option<Vec<Cow<'_, [u8]>>> {
    let name: &[u8] = if kind == Rewrite::Spublish { b"SPUBLISH" } else { b"PUBLISH" };
    let (channel, message) = (args.get(1)?, args.get(2)?);
    let parts: [&[u8]; 6] = [b"EVAL", SCRIPT, b"0", name, channel, message];
    Some(parts.into_iter().map(Cow::Borrowed).collect())
}

/// The arguments of the message that a command of the log publishes.
pub(crate) fn published(args: Args<'_>) -> Option<Args<'_>> {
    (args.len() == 6 && args.get(1) == Some(SCRIPT)).then(|| args.behind(3))
}

/// Calls `each` with every message that an entry's commands publish, in order.
pub fn publications(payload: &[Bytes], mut each: impl FnMut(Publication)) {
    for part in payload.iter().filter(|part| memchr::memmem::find(part, SCRIPT).is_some()) {
        each_command(part, |bytes, args| {
            let Some(args) = published(args) else { return };
            let slice = |at| args.get(at).map(|arg| bytes.slice_ref(arg)).unwrap_or_default();
            each(Publication {
                sharded: args.get(0) == Some(b"SPUBLISH"),
                channel: slice(1),
                message: slice(2),
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Decoder, Limits, encode};
    use bytes::BytesMut;

    fn rewritten(kind: Rewrite, words: &[&[u8]]) -> Bytes {
        let source = encode::command_bytes(words);
        let mut decoder = Decoder::default();
        decoder.next(&source, &Limits::default()).expect("valid").expect("whole");
        let mut out = BytesMut::new();
        let args = Args::new(&source, decoder.spans());
        super::super::rewrite(kind, args, 0).encode(args, &mut out);
        out.freeze()
    }

    #[test]
    fn messages_are_found_again_in_their_order() {
        let parts = [
            rewritten(Rewrite::Publish, &[b"publish", b"c", b"one"]),
            encode::command_bytes(&[b"SET", b"k", SCRIPT]),
            rewritten(Rewrite::Spublish, &[b"SPUBLISH", b"", b"\r\n\0"]),
        ];
        for payload in [vec![parts.concat().into()], parts.to_vec()] {
            let mut found = Vec::new();
            publications(&payload, |publication| found.push(publication));
            let texts: Vec<_> = found.iter().map(|p| (p.sharded, &p.channel[..], &p.message[..])).collect();
            assert_eq!(texts, [(false, &b"c"[..], &b"one"[..]), (true, b"", b"\r\n\0")]);
        }
    }
}
