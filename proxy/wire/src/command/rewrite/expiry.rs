//! Times to live as absolute milliseconds, set back so far that no backend acts on them: keys end in the order
//! of the log. The deadlines of hash fields are absolute as well, but belong to the backends.

use super::{Rewrite, borrowed};
use crate::command::token::{integer, is, is_any};
use crate::resp::Args;
use crate::resp::expiry::set_back;
use std::borrow::Cow;

/// The arguments, and when the keys end, in milliseconds since 1970.
type Rewriting<'a> = Option<(Vec<Cow<'a, [u8]>>, Option<u64>)>;

/// The rewritten arguments; `None` when they are right, or wrong for every server.
pub(super) fn rewrite(kind: Rewrite, args: Args<'_>, now: i64) -> Rewriting<'_> {
    match kind {
        Rewrite::Set => options(args, 3, Values::None, now),
        Rewrite::GetEx => options(args, 2, Values::None, now),
        Rewrite::HsetEx => options(args, 2, Values::Fields(2), now),
        Rewrite::HgetEx => options(args, 2, Values::Fields(1), now),
        Rewrite::MsetEx => options(args, behind_pairs(args)?, Values::None, now),
        Rewrite::SetEx => set_ex(args, Unit::Seconds, now),
        Rewrite::PsetEx => set_ex(args, Unit::Milliseconds, now),
        Rewrite::Expire => expire(args, Unit::Seconds, Some(now), now),
        Rewrite::Pexpire => expire(args, Unit::Milliseconds, Some(now), now),
        Rewrite::ExpireAt => expire(args, Unit::Seconds, None, now),
        Rewrite::PexpireAt => expire(args, Unit::Milliseconds, None, now),
        Rewrite::Hexpire => expire_fields(args, Unit::Seconds, now),
        Rewrite::Hpexpire => expire_fields(args, Unit::Milliseconds, now),
        Rewrite::Restore => restore(args, now),
        Rewrite::StreamId | Rewrite::StreamTrim | Rewrite::Moves | Rewrite::Publish | Rewrite::Spublish => {
            None
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// A time as the servers take it.
enum Time {
    /// Milliseconds since 1970.
    At(i64),
    Zero,
    Negative,
    /// Beyond what 64 bits hold: every server refuses it.
    Overflow,
}

/// How "now or earlier" is written: so early that no backend's slow clock takes it for the future.
const PAST: i64 = 1;

impl Time {
    /// `base` is added: now to a relative time, 0 to an absolute one.
    fn read(arg: &[u8], unit: Unit, base: i64) -> Option<Time> {
        let factor = if unit == Unit::Seconds { 1000 } else { 1 };
        Some(match integer(arg)?.checked_mul(factor) {
            None => Time::Overflow,
            Some(0) => Time::Zero,
            Some(..0) => Time::Negative,
            Some(ms) => ms.checked_add(base).map_or(Time::Overflow, Time::At),
        })
    }
}

/// Refused by every server in either unit, at any time of day: what takes the place of a time
/// that one server might refuse and another, whose clock is behind, accept.
const TOO_LATE: i64 = i64::MAX;

fn number<'a>(value: i64) -> Cow<'a, [u8]> {
    Cow::Owned(value.to_string().into_bytes())
}

/// What stands among the options of a command and is not an option.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Nothing. Time 0 is an error.
    None,
    /// `FIELDS`, a number, and that many groups of this many. Time 0 removes the fields.
    Fields(usize),
}

/// Options of SET with a value, those of Redis 8 included: the value may read like an option.
const COMPARISONS: &[&str] = &["IFEQ", "IFNE", "IFDEQ", "IFDNE"];

/// Options with a time become `PXAT`, in whatever order the options stand. Servers take the last of
/// equal options and refuse unequal ones.
fn options(args: Args<'_>, from: usize, values: Values, now: i64) -> Rewriting<'_> {
    let found = times(args, from, values)?;
    let last = *found.last()?;
    let fields = matches!(values, Values::Fields(_));
    let (unit, base) = match kind(&args[last])? {
        _ if found.iter().any(|at| kind(&args[*at]) != kind(&args[last])) => return None,
        Kind::Relative(unit) => (unit, now),
        // Fields end by the backends' clocks: there is nothing to set back.
        Kind::Absolute(_) if fields => return None,
        Kind::Absolute(unit) => (unit, 0),
    };
    let time = Time::read(args.get(last + 1)?, unit, base)?;
    let mut out = borrowed(args);
    let mut ends = None;
    for at in found {
        match time {
            Time::At(ms) if fields => absolute(&mut out, at, ms),
            Time::At(ms) => {
                let (physical, end) = physical(ms, now);
                ends = end;
                absolute(&mut out, at, physical);
            }
            Time::Zero if fields => absolute(&mut out, at, PAST),
            Time::Zero | Time::Negative => return None,
            Time::Overflow if base == 0 => return None,
            Time::Overflow => out[at + 1] = number(TOO_LATE),
        }
    }
    Some((out, ends))
}

/// A deadline as the backends keep it, and when the owner must act on it.
fn physical(ms: i64, now: i64) -> (i64, Option<u64>) {
    if ms <= now { (PAST, None) } else { (set_back(ms), u64::try_from(ms).ok()) }
}

fn absolute(out: &mut [Cow<[u8]>], at: usize, ms: i64) {
    out[at] = Cow::Borrowed(b"PXAT");
    out[at + 1] = number(ms);
}

/// An option with a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Relative(Unit),
    Absolute(Unit),
}

fn kind(option: &[u8]) -> Option<Kind> {
    match () {
        _ if is(option, "EX") => Some(Kind::Relative(Unit::Seconds)),
        _ if is(option, "PX") => Some(Kind::Relative(Unit::Milliseconds)),
        _ if is(option, "EXAT") => Some(Kind::Absolute(Unit::Seconds)),
        _ if is(option, "PXAT") => Some(Kind::Absolute(Unit::Milliseconds)),
        _ => None,
    }
}

/// Indices of the options with a time; `None` when the fields are malformed.
fn times(args: Args, from: usize, values: Values) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    let mut at = from;
    while let Some(arg) = args.get(at) {
        let timed = kind(arg).is_some();
        if timed {
            found.push(at);
        }
        at += match values {
            Values::Fields(width) if is(arg, "FIELDS") => 2 + count(args.get(at + 1)?)?.checked_mul(width)?,
            _ if timed || is_any(arg, COMPARISONS) => 2,
            _ => 1,
        };
    }
    Some(found)
}

/// A number of arguments; `None` beyond what a command can have.
fn count(arg: &[u8]) -> Option<usize> {
    u32::try_from(integer(arg)?).ok().map(|count| count as usize)
}

/// Where the options of MSETEX begin.
fn behind_pairs(args: Args) -> Option<usize> {
    count(args.get(1)?)?.checked_mul(2)?.checked_add(2)
}

/// `SETEX key time value` as `SET key value PXAT ms`: the same reply, +OK.
fn set_ex(args: Args<'_>, unit: Unit, now: i64) -> Rewriting<'_> {
    let mut out = borrowed(args);
    let mut ends = None;
    match Time::read(args.get(2)?, unit, now)? {
        Time::Zero | Time::Negative => return None,
        Time::Overflow => out[2] = number(TOO_LATE),
        Time::At(ms) => {
            let (physical, end) = physical(ms, now);
            ends = end;
            out[0] = Cow::Borrowed(b"SET");
            out.swap(2, 3);
            out[3] = Cow::Borrowed(b"PXAT");
            out.push(number(physical));
        }
    }
    Some((out, ends))
}

/// `EXPIRE key time …` and its relatives as `PEXPIREAT key ms …`. A time that has passed deletes the key.
fn expire(args: Args<'_>, unit: Unit, relative_to: Option<i64>, now: i64) -> Rewriting<'_> {
    let mut out = borrowed(args);
    let (ms, ends) = match Time::read(args.get(2)?, unit, relative_to.unwrap_or(0))? {
        Time::At(ms) => physical(ms, now),
        Time::Zero | Time::Negative => (PAST, None),
        Time::Overflow if relative_to.is_none() => return None,
        Time::Overflow => {
            out[2] = number(TOO_LATE);
            return Some((out, None));
        }
    };
    out[0] = Cow::Borrowed(b"PEXPIREAT");
    out[2] = number(ms);
    Some((out, ends))
}

/// `HEXPIRE key time …` as `HPEXPIREAT key ms …`. Unlike with keys, a negative time is an error.
fn expire_fields(args: Args<'_>, unit: Unit, now: i64) -> Rewriting<'_> {
    let mut out = borrowed(args);
    let ms = match Time::read(args.get(2)?, unit, now)? {
        Time::At(ms) => ms,
        Time::Zero => PAST,
        Time::Negative => return None,
        Time::Overflow => {
            out[2] = number(TOO_LATE);
            return Some((out, None));
        }
    };
    out[0] = Cow::Borrowed(b"HPEXPIREAT");
    out[2] = number(ms);
    Some((out, None))
}

/// `RESTORE key ttl …` with an absolute time and `ABSTTL`; 0 means no expiry and stays.
fn restore(args: Args<'_>, now: i64) -> Rewriting<'_> {
    let ttl = integer(args.get(2)?)?;
    if ttl <= 0 {
        return None;
    }
    let given = has_absttl(args);
    let mut out = borrowed(args);
    // Servers do not look for an overflow here; the end of time is what was meant.
    let (ms, ends) = physical(if given { ttl } else { ttl.saturating_add(now) }, now);
    out[2] = number(ms);
    if !given {
        out.push(Cow::Borrowed(b"ABSTTL"));
    }
    Some((out, ends))
}

fn has_absttl(args: Args) -> bool {
    let mut at = 4;
    while let Some(arg) = args.get(at) {
        if is(arg, "ABSTTL") {
            return true;
        }
        at += if is_any(arg, &["IDLETIME", "FREQ"]) { 2 } else { 1 };
    }
    false
}
