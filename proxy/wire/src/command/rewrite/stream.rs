//! XADD and XTRIM. Approximate trimming depends on how a replica's nodes are filled, so it becomes
//! exact; an automatic id becomes an explicit one when the entry gets its place in the log.

use super::{Rewritten, borrowed};
use crate::command::token::{integer, is, is_any};
use crate::resp::Args;
use std::borrow::Cow;

/// XADD. A partial id such as `123-*` follows from the stream and stays.
pub(super) fn add(args: Args<'_>) -> Rewritten<'_> {
    let Some(trimming) = Trimming::read(args, true) else { return Rewritten::AsIs };
    let Some(id) = trimming.id else { return Rewritten::AsIs };
    let automatic = is(&args[id], "*");
    match (trimming.approximate, automatic) {
        (None, false) => Rewritten::AsIs,
        (None, true) => Rewritten::Stream { args: borrowed(args), id_index: id },
        (Some(tilde), false) => Rewritten::Args(exact(args, tilde, &trimming.limits)),
        (Some(tilde), true) => {
            let before = trimming.limits.iter().filter(|limit| **limit < id).count();
            Rewritten::Stream { args: exact(args, tilde, &trimming.limits), id_index: id - 2 * before }
        }
    }
}

/// XTRIM.
pub(super) fn trim(args: Args<'_>) -> Rewritten<'_> {
    let Some(trimming) = Trimming::read(args, false) else { return Rewritten::AsIs };
    match trimming.approximate {
        None => Rewritten::AsIs,
        Some(tilde) => Rewritten::Args(exact(args, tilde, &trimming.limits)),
    }
}

/// `~` becomes `=`, and `LIMIT`, which goes with `~` only, goes.
fn exact<'a>(args: Args<'a>, tilde: usize, limits: &[usize]) -> Vec<Cow<'a, [u8]>> {
    let dropped = |at: &usize| limits.iter().any(|limit| *limit == *at || limit + 1 == *at);
    let one =
        |at: usize| Cow::Borrowed(if at == tilde { &b"="[..] } else { args.get(at).unwrap_or_default() });
    (0..args.len()).filter(|at| !dropped(at)).map(one).collect()
}

/// Options of XADD without an argument, those of Redis 8 included: what is not known to be an
/// option is taken for the id.
const FLAGS: &[&str] = &["NOMKSTREAM", "KEEPREF", "DELREF", "ACKED"];

/// The options of XADD and XTRIM, read as `streamParseAddOrTrimArgsOrReply` of Redis reads them.
#[derive(Default)]
struct Trimming {
    /// Index of `~`.
    approximate: Option<usize>,
    /// Indices of the word `LIMIT`.
    limits: Vec<usize>,
    /// Index of the id of XADD.
    id: Option<usize>,
}

impl Trimming {
    /// `None` when every server refuses the arguments.
    fn read(args: Args, add: bool) -> Option<Trimming> {
        let mut found = Trimming::default();
        let mut at = 2;
        while let Some(arg) = args.get(at) {
            let more = args.len() - at - 1;
            at += match () {
                _ if more > 0 && (is(arg, "MAXLEN") || is(arg, "MINID")) => found.threshold(args, at, more),
                _ if more > 0 && is(arg, "LIMIT") => found.limit(args, at)?,
                _ if add && is_any(arg, FLAGS) => 1,
                _ if add => {
                    found.id = Some(at);
                    break;
                }
                _ => return None,
            };
        }
        Some(found)
    }

    fn threshold(&mut self, args: Args, at: usize, more: usize) -> usize {
        match args.get(at + 1) {
            Some(arg) if more >= 2 && is(arg, "~") => {
                self.approximate = Some(at + 1);
                3
            }
            Some(arg) if more >= 2 && is(arg, "=") => 3,
            _ => 2,
        }
    }

    /// Dropping a malformed limit would turn an error into success.
    fn limit(&mut self, args: Args, at: usize) -> Option<usize> {
        let limit = integer(args.get(at + 1)?)?;
        self.limits.push(at);
        (limit >= 0).then_some(2)
    }
}
