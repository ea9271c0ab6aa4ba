//! What users may be allowed a command by: its categories, and what it does with each key and channel. Facts of
//! real servers, in `access.tsv`.

use super::table::all;
use super::token::is;
use super::{Command, key_positions};
use crate::resp::Args;
use std::collections::HashMap;
use std::sync::LazyLock;

static ACCESS: LazyLock<Box<[Access]>> = LazyLock::new(|| parse(include_str!("access.tsv")));

/// The names of all categories, in the order in which servers list them.
pub const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// What a command does with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Something of the value is told.
    pub reads: bool,
    /// The value may change, come or go.
    pub writes: bool,
}

impl Touch {
    /// Whatever one can do.
    const BOTH: Touch = Touch { reads: true, writes: true };
}

/// The channels that a command names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// None that need a permission.
    None,
    /// The first argument.
    First,
    /// Every argument.
    All,
    /// Every argument, and each is a pattern.
    Patterns,
}

struct Access {
    /// One bit each, in the order of [`CATEGORIES`].
    categories: u32,
    /// From which argument on which keys are touched how.
    touches: Box<[(u8, How)]>,
}

#[derive(Clone, Copy)]
enum How {
    Always(Touch),
    ByArguments,
    /// What looks like a key is a channel.
    NoKey,
}

fn parse(text: &str) -> Box<[Access]> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut rows: HashMap<&str, Access> = lines.filter_map(row).collect();
    let of = |command: &Command| rows.remove(command.name);
    let found = all().iter().map(of);
    found.map(|access| access.expect("every command has its line in access.tsv")).collect()
}

fn row(line: &str) -> Option<(&str, Access)> {
    let mut fields = line.split('\t');
    let (name, categories, touches) = (fields.next()?, fields.next()?, fields.next()?);
    let bit = |name: &str| CATEGORIES.iter().position(|known| *known == name);
    let categories = categories.split(',').filter_map(bit).fold(0, |bits, bit| bits | 1 << bit);
    let touches = touches.split(',').filter_map(|touch| {
        let (begin, how) = touch.split_once(':')?;
        let how = match how {
            "x" => How::NoKey,
            "v" => How::ByArguments,
            how => How::Always(Touch { reads: how.contains('r'), writes: how.contains('w') }),
        };
        Some((begin.parse().ok()?, how))
    });
    Some((name, Access { categories, touches: touches.collect() }))
}

/// The categories of a command, one bit each, in the order of [`CATEGORIES`].
pub fn categories(command: &Command) -> u32 {
    ACCESS.get(command.index()).map_or(0, |access| access.categories)
}

/// The bit of the category of this name, in any case.
pub fn category(name: &str) -> Option<u32> {
    CATEGORIES.iter().position(|known| known.eq_ignore_ascii_case(name)).map(|bit| 1 << bit)
}

/// Calls `each` with the index of every key, and what is done with it.
pub fn touches(command: &Command, args: Args, each: &mut impl FnMut(usize, Touch)) {
    let Some(access) = ACCESS.get(command.index()) else { return };
    key_positions(command, args, &mut |at| {
        let how = access.touches.iter().rev().find(|(begin, _)| usize::from(*begin) <= at);
        match how {
            Some((_, How::NoKey)) => {}
            Some((_, How::Always(touch))) => each(at, *touch),
            Some((_, How::ByArguments)) => each(at, by_arguments(command, args)),
            None => each(at, Touch::BOTH),
        }
    });
}

fn by_arguments(command: &Command, args: Args) -> Touch {
    match command.name {
        "set" => {
            let tells = args.from(3).any(|arg| is(arg, "GET") || is(arg, "IFEQ"));
            Touch { reads: tells, writes: true }
        }
        "bitfield" => Touch { reads: true, writes: !only_gets(args) },
        _ => Touch::BOTH,
    }
}

/// Does this BITFIELD change nothing?
fn only_gets(args: Args) -> bool {
    let mut at = 2;
    while let Some(arg) = args.get(at) {
        let behind = args.len() - at - 1;
        at += match arg {
            _ if is(arg, "GET") && behind >= 2 => 3,
            _ if is(arg, "OVERFLOW") && behind >= 1 => 2,
            _ => return false,
        };
    }
    true
}

/// Which arguments are channels that a user may or may not use. Leaving needs no permission.
pub fn channels(command: &Command) -> Channels {
    match command.name {
        "publish" | "spublish" => Channels::First,
        "subscribe" | "ssubscribe" => Channels::All,
        "psubscribe" => Channels::Patterns,
        _ => Channels::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::resolve;
    use crate::resp::{Decoder, Limits, encode};

    fn touched(line: &str) -> Vec<(usize, bool, bool)> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let source = encode::command_bytes(&words);
        let mut decoder = Decoder::default();
        decoder.next(&source, &Limits::default()).expect("valid").expect("whole");
        let args = Args::new(&source, decoder.spans());
        let mut found = Vec::new();
        touches(resolve(args).expect("known"), args, &mut |at, touch| {
            found.push((at, touch.reads, touch.writes));
        });
        found
    }

    #[test]
    fn every_command_has_its_line() {
        assert_eq!(ACCESS.len(), all().len());
        assert!(all().iter().all(|command| categories(command) != 0));
    }

    #[test]
    fn keys_are_touched_as_the_servers_say() {
        assert_eq!(touched("GET k"), [(1, true, false)]);
        assert_eq!(touched("SET k GET"), [(1, false, true)]);
        assert_eq!(touched("SET k v EX 5 get"), [(1, true, true)]);
        assert_eq!(touched("EXISTS a b"), [(1, false, false), (2, false, false)]);
        assert_eq!(touched("COPY a b"), [(1, true, false), (2, false, true)]);
        assert_eq!(touched("BITFIELD k GET u8 0 OVERFLOW SAT GET u8 1"), [(1, true, false)]);
        assert_eq!(touched("BITFIELD k GET u8 0 SET u8 0 1"), [(1, true, true)]);
        assert_eq!(touched("XREAD COUNT 5 STREAMS a b 0 0"), [(4, true, false), (5, true, false)]);
        assert_eq!(touched("SORT a BY x* STORE d"), [(1, true, false), (5, false, true)]);
        assert_eq!(touched("ZUNIONSTORE d 1 a"), [(1, false, true), (3, true, false)]);
        assert_eq!(touched("EVAL x 1 k a"), [(3, true, true)]);
        assert_eq!(touched("SSUBSCRIBE c"), []);
    }
}
