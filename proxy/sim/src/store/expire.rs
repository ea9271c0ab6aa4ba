//! Deadlines: EXPIRE and its relatives, TTL and its relatives, PERSIST.
//! A deadline is an absolute unix time; a key lives up to and including it.

use super::keyspace::Keyspace;
use super::number::int_arg;
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{READ_FAST, WRITE_FAST};
use super::table::{Command, ONE, data};

pub(super) const COMMANDS: &[Command] = &[
    data("expire", -3, WRITE_FAST, ONE, |db, args| expire(db, args, Unit::Seconds, true)),
    data("pexpire", -3, WRITE_FAST, ONE, |db, args| expire(db, args, Unit::Milliseconds, true)),
    data("expireat", -3, WRITE_FAST, ONE, |db, args| expire(db, args, Unit::Seconds, false)),
    data("pexpireat", -3, WRITE_FAST, ONE, |db, args| expire(db, args, Unit::Milliseconds, false)),
    data("ttl", 2, READ_FAST, ONE, |db, args| remaining(db, args, Unit::Seconds, true)),
    data("pttl", 2, READ_FAST, ONE, |db, args| remaining(db, args, Unit::Milliseconds, true)),
    data("expiretime", 2, READ_FAST, ONE, |db, args| remaining(db, args, Unit::Seconds, false)),
    data("pexpiretime", 2, READ_FAST, ONE, |db, args| remaining(db, args, Unit::Milliseconds, false)),
    data("persist", 2, WRITE_FAST, ONE, persist),
];

/// The unit of a time on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    fn ms(self, n: i64) -> Option<i64> {
        match self {
            Unit::Seconds => n.checked_mul(1000),
            Unit::Milliseconds => Some(n),
        }
    }

    fn rounded(self, ms: u64) -> i64 {
        match self {
            Unit::Seconds => ((ms + 500) / 1000) as i64,
            Unit::Milliseconds => ms as i64,
        }
    }
}

fn invalid(command: &str) -> Fault {
    Fault::said(format!("ERR invalid expire time in '{command}' command"))
}

fn to_unix_ms(db: &Keyspace, n: i64, unit: Unit, relative: bool) -> Option<i64> {
    let base = if relative { db.now_ms() as i64 } else { 0 };
    unit.ms(n)?.checked_add(base)
}

/// The deadline an option such as EX names; it must be positive.
pub(super) fn absolute_deadline(
    db: &Keyspace,
    arg: &[u8],
    unit: Unit,
    relative: bool,
    command: &str,
) -> Result<u64, Fault> {
    let n = int_arg(arg)?;
    let deadline = to_unix_ms(db, n, unit, relative).filter(|_| n > 0);
    deadline.and_then(|ms| u64::try_from(ms).ok()).ok_or_else(|| invalid(command))
}

#[derive(Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(words: &[Vec<u8>]) -> Result<Self, Fault> {
        let mut conditions = Conditions::default();
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => conditions.nx = true,
                b"xx" => conditions.xx = true,
                b"gt" => conditions.gt = true,
                b"lt" => conditions.lt = true,
                _ => {
                    let word = String::from_utf8_lossy(word);
                    return Err(Fault::said(format!("ERR Unsupported option {word}")));
                }
            }
        }
        conditions.check()
    }

    fn check(self) -> Result<Self, Fault> {
        if self.nx && (self.xx || self.gt || self.lt) {
            return Err(Fault::fixed("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if self.gt && self.lt {
            return Err(Fault::fixed("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(self)
    }

    fn allow(&self, old: Option<u64>, new: i64) -> bool {
        match old.map(|old| old as i64) {
            Some(_) if self.nx => false,
            Some(old) if self.gt => new > old,
            Some(old) => !self.lt || new < old,
            None => !self.xx && !self.gt,
        }
    }
}

fn expire(db: &mut Keyspace, args: &[Vec<u8>], unit: Unit, relative: bool) -> Answer {
    let conditions = Conditions::parse(&args[3..])?;
    let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
    let new = to_unix_ms(db, int_arg(&args[2])?, unit, relative).ok_or_else(|| invalid(&name))?;
    if !db.contains(&args[1]) || !conditions.allow(db.deadline_ms(&args[1]), new) {
        return Ok(Reply::Int(0));
    }
    match u64::try_from(new) {
        Ok(deadline) if deadline > db.now_ms() => {
            db.set_deadline(&args[1], Some(deadline));
            db.changed(&args[1], 1);
        }
        _ => drop(db.remove(&args[1])),
    }
    Ok(Reply::Int(1))
}

fn remaining(db: &mut Keyspace, args: &[Vec<u8>], unit: Unit, relative: bool) -> Answer {
    if !db.contains(&args[1]) {
        return Ok(Reply::Int(-2));
    }
    let Some(deadline) = db.deadline_ms(&args[1]) else { return Ok(Reply::Int(-1)) };
    let ms = if relative { deadline.saturating_sub(db.now_ms()) } else { deadline };
    Ok(Reply::Int(unit.rounded(ms)))
}

fn persist(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    if db.deadline_ms(&args[1]).is_none() {
        return Ok(Reply::Int(0));
    }
    db.set_deadline(&args[1], None);
    db.changed(&args[1], 1);
    Ok(Reply::Int(1))
}
