//! Rewriting: arguments that depend on the time of execution become arguments that do not.
//!
//! Whatever every server refuses is left as it is, so that the client reads the server's own
//! error. Whatever a server might accept never keeps a relative time.

mod expiry;
mod publish;
mod stream;

pub(crate) use publish::published;
pub use publish::{Publication, publications};

use super::Rewrite;
use crate::resp::{Args, encode};
use bytes::BytesMut;
use std::borrow::Cow;

/// A command ready for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewritten<'a> {
    /// The arguments are right as they are.
    AsIs,
    /// These arguments instead.
    Args(Vec<Cow<'a, [u8]>>),
    /// These arguments, which give the keys a deadline.
    Timed {
        /// Arguments.
        args: Vec<Cow<'a, [u8]>>,
        /// When its keys end, in milliseconds since 1970.
        at: u64,
    },
    /// The arguments are right as they are; the second key gets the deadline of the first.
    Moves,
    /// These arguments, once the sequencer put an explicit `ms-seq` at `id_index`.
    Stream {
        /// Arguments, with `*` where the id belongs.
        args: Vec<Cow<'a, [u8]>>,
        /// Where the id belongs.
        id_index: usize,
    },
}

impl Rewritten<'_> {
    /// Appends the command to `out`; `original` is what was rewritten.
    pub fn encode(&self, original: Args, out: &mut BytesMut) {
        match self {
            Rewritten::AsIs | Rewritten::Moves => encode::command(original.from(0), out),
            Rewritten::Args(args) | Rewritten::Stream { args, .. } | Rewritten::Timed { args, .. } => {
                encode::command(args.iter().map(AsRef::as_ref), out);
            }
        }
    }
}

/// Rewrites the arguments of a command whose carry is [`super::Carry::Rewritten`]. `now_unix_ms`
/// is the time at which the entry enters the log, in milliseconds since 1970.
#[inline]
pub fn rewrite(kind: Rewrite, args: Args<'_>, now_unix_ms: u64) -> Rewritten<'_> {
    // The most frequent writes of all: SET without options.
    if kind == Rewrite::Set && args.len() == 3 {
        return Rewritten::AsIs;
    }
    let now = i64::try_from(now_unix_ms).unwrap_or(i64::MAX);
    match kind {
        Rewrite::StreamId => stream::add(args),
        Rewrite::StreamTrim => stream::trim(args),
        Rewrite::Publish | Rewrite::Spublish => {
            publish::rewrite(kind, args).map_or(Rewritten::AsIs, Rewritten::Args)
        }
        Rewrite::Moves => Rewritten::Moves,
        _ => match expiry::rewrite(kind, args, now) {
            None => Rewritten::AsIs,
            Some((args, None)) => Rewritten::Args(args),
            Some((args, Some(at))) => Rewritten::Timed { args, at },
        },
    }
}

/// All arguments, borrowed.
fn borrowed(args: Args<'_>) -> Vec<Cow<'_, [u8]>> {
    args.from(0).map(Cow::Borrowed).collect()
}
