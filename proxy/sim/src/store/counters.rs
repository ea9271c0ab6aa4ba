//! INCR and its relatives on strings.
//! A counter keeps its deadline; an overflow changes nothing.

use super::keyspace::Keyspace;
use super::number::{int_arg, integer};
use super::reply::{Answer, Fault, Reply};
use super::table::flag::WRITE_OOM_FAST;
use super::table::{Command, ONE, data};
use super::value::{Text, Value};

pub(super) const COMMANDS: &[Command] = &[
    data("incr", 2, WRITE_OOM_FAST, ONE, |db, args| add(db, &args[1], 1)),
    data("decr", 2, WRITE_OOM_FAST, ONE, |db, args| add(db, &args[1], -1)),
    data("incrby", 3, WRITE_OOM_FAST, ONE, |db, args| add(db, &args[1], int_arg(&args[2])?)),
    data("decrby", 3, WRITE_OOM_FAST, ONE, decrby),
];

/// What Redis says when a sum leaves 64 bits.
pub(super) const OVERFLOW: Fault = Fault::fixed("ERR increment or decrement would overflow");

fn decrby(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let by = int_arg(&args[2])?.checked_neg().ok_or(Fault::fixed("ERR decrement would overflow"))?;
    add(db, &args[1], by)
}

fn add(db: &mut Keyspace, key: &[u8], by: i64) -> Answer {
    let old = match db.read::<Text>(key)? {
        Some(text) => integer(text).ok_or(Fault::NOT_INTEGER)?,
        None => 0,
    };
    let sum = old.checked_add(by).ok_or(OVERFLOW)?;
    db.put_keeping_ttl(key, Value::Text(sum.to_string().into_bytes()));
    Ok(Reply::Int(sum))
}
