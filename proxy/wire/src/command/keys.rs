//! Which arguments are keys. Most commands say it by first, last and step; the rest by a count,
//! a word, or only by reading their options.

use super::token::{integer, is};
use super::{Command, Flags};
use crate::resp::Args;

/// Which arguments are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// Index of the first key; 0 when no key has a fixed place.
    pub first: u8,
    /// Index of the last; negative counts from the end.
    pub last: i8,
    /// From one key to the next.
    pub step: u8,
    /// What those three do not say.
    pub movable: Movable,
}

/// Keys without a fixed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movable {
    /// None.
    No,
    /// The number of keys stands at `at`, the keys behind it, `step` apart.
    Count {
        /// Index of the number.
        at: u8,
        /// From one key to the next.
        step: u8,
    },
    /// The first half of what follows `STREAMS`.
    Streams,
    /// The argument of each `STORE` and `STOREDIST` from this index on.
    GeoStore(u8),
    /// The argument of the last `STORE` of `SORT`, and keys named by patterns, which are not listed.
    SortStore,
    /// Keys named by patterns in `BY` and `GET`, which are not listed.
    Patterns,
    /// What follows `KEYS`, in place of an empty first key.
    Migrate,
}

impl Movable {
    pub(super) fn parse(text: &str) -> Option<Movable> {
        let (name, numbers) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')')?),
            None => (text, ""),
        };
        let mut numbers = numbers.split(',').map(str::parse::<i8>);
        let mut next = || u8::try_from(numbers.next()?.ok()?).ok();
        match name {
            "-" => Some(Movable::No),
            "numkeys" => Some(Movable::Count { at: next()?, step: next()? }),
            "streams" => Some(Movable::Streams),
            "geostore" => Some(Movable::GeoStore(next()?)),
            "patterns,sortstore" => Some(Movable::SortStore),
            "patterns" => Some(Movable::Patterns),
            "migrate" => Some(Movable::Migrate),
            _ => None,
        }
    }
}

/// The first key, or `None` when there is none.
#[inline]
pub fn first_key<'a>(command: &Command, args: Args<'a>) -> Option<&'a [u8]> {
    if command.keys.first > 0 && !matches!(command.keys.movable, Movable::Migrate) {
        return args.get(usize::from(command.keys.first));
    }
    let mut first = None;
    keys(command, args, &mut |key| first = first.or(Some(key)));
    first
}

/// Calls `each` with every key. Arguments that no server would accept may name no keys or wrong
/// ones; the backend's error is the answer then.
pub fn keys<'a>(command: &Command, args: Args<'a>, each: &mut impl FnMut(&'a [u8])) {
    key_positions(command, args, &mut |index| {
        if let Some(key) = args.get(index) {
            each(key);
        }
    });
}

/// Calls `each` with the index of every key.
pub fn key_positions(command: &Command, args: Args, each: &mut impl FnMut(usize)) {
    match command.keys.movable {
        Movable::Migrate => return migrate(args, each),
        _ => fixed(&command.keys, args, each),
    }
    match command.keys.movable {
        Movable::No | Movable::Patterns | Movable::Migrate => {}
        Movable::Count { at, step } => counted(usize::from(at), usize::from(step), args, each),
        Movable::Streams => streams(command, args, each),
        Movable::GeoStore(from) => geo_stores(usize::from(from), args, each),
        Movable::SortStore => sort_options(args).store.into_iter().for_each(each),
    }
}

fn fixed(spec: &KeySpec, args: Args, each: &mut impl FnMut(usize)) {
    if spec.first == 0 {
        return;
    }
    let last = match spec.last {
        last if last < 0 => args.len().saturating_sub(usize::from(last.unsigned_abs())),
        last => last as usize,
    };
    let last = last.min(args.len().saturating_sub(1));
    (usize::from(spec.first)..=last).step_by(usize::from(spec.step)).for_each(each);
}

fn counted(at: usize, step: usize, args: Args, each: &mut impl FnMut(usize)) {
    let Some(count) = args.get(at).and_then(integer).and_then(|count| usize::try_from(count).ok()) else {
        return;
    };
    // Servers refuse a count with fewer arguments behind it.
    if count <= args.len().saturating_sub(at + 1) / step {
        (0..count).map(|n| at + 1 + n * step).for_each(each);
    }
}

fn streams(command: &Command, args: Args, each: &mut impl FnMut(usize)) {
    let Some(word) = stream_options(command, args).streams else { return };
    let behind = args.len() - word - 1;
    if behind.is_multiple_of(2) {
        (word + 1..word + 1 + behind / 2).for_each(each);
    }
}

/// The options of XREAD and XREADGROUP before their keys.
pub(super) struct StreamOptions {
    /// Index of the word `STREAMS`.
    pub(super) streams: Option<usize>,
    /// Indices of the words `BLOCK`: the last one counts.
    pub(super) blocks: Vec<usize>,
    /// Index of the word `GROUP`.
    pub(super) group: Option<usize>,
}

pub(super) fn stream_options(command: &Command, args: Args) -> StreamOptions {
    let grouped = command.flags.has(Flags::WRITE);
    let mut options = StreamOptions { streams: None, blocks: Vec::new(), group: None };
    let mut at = 1;
    while let Some(arg) = args.get(at) {
        if is(arg, "STREAMS") {
            options.streams = Some(at);
            break;
        }
        if is(arg, "BLOCK") {
            options.blocks.push(at);
        }
        at += match arg {
            _ if is(arg, "GROUP") && grouped => {
                options.group = Some(at);
                3
            }
            _ if is(arg, "BLOCK") || is(arg, "COUNT") => 2,
            _ => 1,
        };
    }
    options
}

/// Where the words of an `XREADGROUP` stand.
pub struct GroupReadShape {
    /// The name of the group; that of the consumer is behind it.
    pub group: usize,
    /// With `NOACK`.
    pub no_ack: bool,
    /// The keys.
    pub keys: std::ops::Range<usize>,
}

/// Takes an `XREADGROUP` apart that asks for nothing but what is new. `None` as well where a server would refuse
/// it whatever its data is.
pub fn group_read(command: &Command, args: Args) -> Option<GroupReadShape> {
    let options = stream_options(command, args);
    let (group, streams) = (options.group? + 1, options.streams?);
    let mut no_ack = false;
    let mut at = 1;
    while at < streams {
        let number = || integer(args.get(at + 1)?);
        at += match &args[at] {
            word if is(word, "GROUP") => 3,
            word if is(word, "COUNT") => number().map(|_| 2)?,
            word if is(word, "BLOCK") => number().filter(|ms| *ms >= 0).map(|_| 2)?,
            word if is(word, "NOACK") => {
                no_ack = true;
                1
            }
            _ => return None,
        };
    }
    let words = args.len() - streams - 1;
    let keys = streams + 1..streams + 1 + words / 2;
    let is_new = at == streams
        && words > 0
        && words.is_multiple_of(2)
        && (keys.end..args.len()).all(|at| args.get(at).is_some_and(|id| id == b">"));
    is_new.then_some(GroupReadShape { group, no_ack, keys })
}

/// Calls `each` with the index of every key that GEORADIUS and GEORADIUSBYMEMBER may store to.
/// The last one is stored to; servers list the others as keys too.
pub(super) fn geo_stores(from: usize, args: Args, each: &mut impl FnMut(usize)) {
    let mut at = from;
    while let Some(arg) = args.get(at) {
        if is(arg, "STORE") || is(arg, "STOREDIST") {
            at += 1;
            if at < args.len() {
                each(at);
            }
        }
        at += 1;
    }
}

/// What the options of SORT reach for beyond its first key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SortOptions {
    /// Index of the key that is stored to.
    pub store: Option<usize>,
    /// Are there patterns that name other keys? `BY nosort` and `GET #` name none.
    pub patterns: bool,
    /// The first option for which a user must be allowed to read every key: `BY` with a pattern, or any `GET`.
    pub reads_every_key: Option<&'static str>,
}

/// Reads the options of SORT as servers do. Those that a server refuses may be read in any way.
pub fn sort_options(args: Args) -> SortOptions {
    let mut options = SortOptions::default();
    let mut at = 2;
    while let Some(arg) = args.get(at) {
        let value = args.get(at + 1);
        let pattern = value.is_some_and(|value| value.contains(&b'*'));
        let mut reads = None;
        at += match arg {
            _ if is(arg, "LIMIT") => 3,
            _ if is(arg, "STORE") => {
                options.store = value.map(|_| at + 1).or(options.store);
                2
            }
            _ if is(arg, "BY") => {
                reads = Some("BY").filter(|_| pattern);
                options.patterns |= pattern;
                2
            }
            _ if is(arg, "GET") => {
                reads = Some("GET").filter(|_| value.is_some());
                options.patterns |= pattern;
                2
            }
            _ => 1,
        };
        options.reads_every_key = options.reads_every_key.or(reads);
    }
    options
}

fn migrate(args: Args, each: &mut impl FnMut(usize)) {
    let word = (6..args.len()).find(|at| is(&args[*at], "KEYS"));
    match word {
        Some(word) if args.get(3).is_some_and(<[u8]>::is_empty) => (word + 1..args.len()).for_each(each),
        _ if args.len() > 3 => each(3),
        _ => {}
    }
}
