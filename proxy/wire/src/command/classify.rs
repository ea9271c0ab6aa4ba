//! What the arguments change: `XREAD` may wait, `SORT` may store, `SET` may be conditional.
//! Errs on the side of caution: a write is never taken for a read.

use super::keys::{geo_stores, sort_options, stream_options};
use super::token::{integer, is, is_any};
use super::{Carry, Command, Flags, Local, Movable, Waits, first_key, key_positions};
use crate::resp::Args;
use crate::resp::transaction::RESERVED_PREFIX;
use quorate_core::plan::OpClass;

/// How arguments change what a command is; the column `rule` of `classes.tsv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// They do not.
    Fixed,
    /// An option such as `NX` makes the write conditional.
    Condition,
    /// With one key it is an ordinary read or write.
    SeveralKeys,
    /// A read without options.
    GetEx,
    /// Stores with `STORE`, reads unknown keys with patterns.
    Sort,
    /// Stores with `STORE` or `STOREDIST`.
    GeoStore,
    /// May name another database.
    Copy,
    /// May wait.
    XRead,
    /// Some sub-commands only read a key.
    Debug,
    /// With one key the server keeps the count inside the value: a write.
    PfCount,
}

impl Rule {
    pub(super) fn parse(name: &str) -> Option<Rule> {
        Some(match name {
            "-" => Rule::Fixed,
            "condition" => Rule::Condition,
            "several-keys" => Rule::SeveralKeys,
            "getex" => Rule::GetEx,
            "sort" => Rule::Sort,
            "geo-store" => Rule::GeoStore,
            "copy" => Rule::Copy,
            "xread" => Rule::XRead,
            "pfcount" => Rule::PfCount,
            "debug" => Rule::Debug,
            _ => return None,
        })
    }
}

/// What Quorate does with this command and these arguments.
#[inline]
pub fn classify(command: &Command, args: Args) -> Carry {
    match command.rule {
        Rule::Fixed | Rule::Condition | Rule::SeveralKeys => command.carry,
        _ => by_arguments(command, args),
    }
}

fn by_arguments(command: &Command, args: Args) -> Carry {
    match command.rule {
        Rule::GetEx if args.len() == 2 => Carry::Read,
        Rule::Sort if stores(command, args) => Carry::Leads,
        Rule::GeoStore if stores(command, args) => Carry::Leads,
        Rule::Copy if names_database(args) => Carry::Local(Local::Databases),
        Rule::Debug if only_reads(args) => Carry::Read,
        Rule::XRead if !stream_options(command, args).blocks.is_empty() => {
            match command.flags.has(Flags::WRITE) {
                true => Carry::Waits(Waits::StreamGroup),
                false => Carry::Waits(Waits::Stream),
            }
        }
        Rule::PfCount if args.len() > 2 => Carry::Read,
        _ => command.carry,
    }
}

/// The operation class of this command and these arguments.
#[inline]
pub fn op_class(command: &Command, args: Args) -> OpClass {
    match command.rule {
        Rule::Fixed | Rule::Copy => command.class,
        _ => class_by_arguments(command, args),
    }
}

fn class_by_arguments(command: &Command, args: Args) -> OpClass {
    match command.rule {
        Rule::Condition if conditional(command, args) => OpClass::ConditionalWrite,
        Rule::SeveralKeys if has_one_key(command, args) => match command.carry {
            Carry::Read => OpClass::Read,
            _ => OpClass::Write,
        },
        Rule::GetEx if args.len() == 2 => OpClass::Read,
        Rule::Sort | Rule::GeoStore if stores(command, args) => OpClass::MultiKey,
        // It reads keys that it does not name, as a scan does.
        Rule::Sort if sort_options(args).patterns => OpClass::Scan,
        Rule::XRead if !stream_options(command, args).blocks.is_empty() => OpClass::Blocking,
        Rule::XRead if !has_one_key(command, args) => OpClass::MultiKey,
        Rule::PfCount if args.len() == 2 => OpClass::Write,
        _ => command.class,
    }
}

/// Does this DEBUG look at one key, which is none of ours, or show a kind of reply, and do nothing else?
fn only_reads(args: Args) -> bool {
    if args.get(1).is_some_and(|sub| is_any(sub, &["PROTOCOL"])) {
        return args.len() == 3 && is_any(&args[2], REPLIES);
    }
    let looks = args.get(1).is_some_and(|sub| is_any(sub, &["OBJECT", "LISTPACK", "STRINGMATCH-LEN"]));
    looks && args.get(2).is_some_and(|key| !key.starts_with(RESERVED_PREFIX))
}

/// What `DEBUG PROTOCOL` shows. A push is none: it would be no reply.
const REPLIES: &[&str] = &[
    "STRING", "INTEGER", "DOUBLE", "NULL", "ARRAY", "SET", "MAP", "ATTRIB", "VERBATIM", "TRUE", "FALSE",
    "BIGNUM",
];

const CONDITIONS: &[&str] = &["NX", "XX", "GT", "LT", "GET", "FNX", "FXX", "IFEQ"];

/// Looks at the arguments where an option may stand. A value that reads like an option makes a
/// write conditional at worst.
fn conditional(command: &Command, args: Args) -> bool {
    let from = match command.name {
        "zadd" | "geoadd" | "hsetex" | "msetex" => 2,
        _ => 3,
    };
    args.from(from).any(|arg| is_any(arg, CONDITIONS))
}

fn has_one_key(command: &Command, args: Args) -> bool {
    let mut count = 0;
    key_positions(command, args, &mut |_| count += 1);
    count <= 1 && first_key(command, args).is_some()
}

fn stores(command: &Command, args: Args) -> bool {
    match command.keys.movable {
        Movable::GeoStore(from) => {
            let mut found = false;
            geo_stores(usize::from(from), args, &mut |_| found = true);
            found
        }
        Movable::SortStore => sort_options(args).store.is_some(),
        _ => false,
    }
}

/// Does COPY name a database other than 0, or one that we cannot read?
fn names_database(args: Args) -> bool {
    let named = |at: &usize| is(&args[*at], "DB") && args.get(at + 1).and_then(integer) != Some(0);
    (3..args.len()).any(|at| named(&at))
}
