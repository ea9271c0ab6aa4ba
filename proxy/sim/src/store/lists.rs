//! Lists at their ends: push, pop, move, and reading by place.
//! Changes in the middle are in `lists_edit`.

use super::keyspace::Keyspace;
use super::number::{index_range, int_arg, integer};
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{READ, READ_FAST, WRITE_FAST, WRITE_OOM, WRITE_OOM_FAST};
use super::table::{Command, ONE, TWO, data};
use super::value::List;

pub(super) const COMMANDS: &[Command] = &[
    data("lpush", -3, WRITE_OOM_FAST, ONE, |db, args| push(db, args, End::Left)),
    data("rpush", -3, WRITE_OOM_FAST, ONE, |db, args| push(db, args, End::Right)),
    data("lpushx", -3, WRITE_OOM_FAST, ONE, |db, args| push_existing(db, args, End::Left)),
    data("rpushx", -3, WRITE_OOM_FAST, ONE, |db, args| push_existing(db, args, End::Right)),
    data("lpop", -2, WRITE_FAST, ONE, |db, args| pop(db, args, End::Left, "lpop")),
    data("rpop", -2, WRITE_FAST, ONE, |db, args| pop(db, args, End::Right, "rpop")),
    data("lmove", 5, WRITE_OOM, TWO, lmove),
    data("rpoplpush", 3, WRITE_OOM, TWO, |db, args| shift(db, args, End::Right, End::Left)),
    data("llen", 2, READ_FAST, ONE, llen),
    data("lrange", 4, READ, ONE, lrange),
    data("lindex", 3, READ, ONE, lindex),
];

/// What Redis says to a negative or malformed count.
pub(super) const NOT_POSITIVE: Fault = Fault::fixed("ERR value is out of range, must be positive");

#[derive(Clone, Copy)]
enum End {
    Left,
    Right,
}

impl End {
    fn parse(arg: &[u8]) -> Result<Self, Fault> {
        match arg.to_ascii_lowercase().as_slice() {
            b"left" => Ok(End::Left),
            b"right" => Ok(End::Right),
            _ => Err(Fault::SYNTAX),
        }
    }

    fn push(self, list: &mut List, item: Vec<u8>) {
        match self {
            End::Left => list.push_front(item),
            End::Right => list.push_back(item),
        }
    }

    fn pop(self, list: &mut List) -> Option<Vec<u8>> {
        match self {
            End::Left => list.pop_front(),
            End::Right => list.pop_back(),
        }
    }
}

fn push(db: &mut Keyspace, args: &[Vec<u8>], end: End) -> Answer {
    let list = db.make::<List>(&args[1])?;
    args[2..].iter().for_each(|item| end.push(list, item.clone()));
    let len = list.len();
    db.changed(&args[1], args.len() - 2);
    Ok(Reply::count(len))
}

fn push_existing(db: &mut Keyspace, args: &[Vec<u8>], end: End) -> Answer {
    match db.read::<List>(&args[1])? {
        Some(_) => push(db, args, end),
        None => Ok(Reply::Int(0)),
    }
}

fn pop(db: &mut Keyspace, args: &[Vec<u8>], end: End, name: &str) -> Answer {
    let key = &args[1];
    let count = match &args[2..] {
        [] => None,
        [count] => Some(count_arg(count)?),
        _ => return Err(Fault::arity(name)),
    };
    let Some(list) = db.edit::<List>(key)? else {
        return Ok(if count.is_some() { Reply::NullArray } else { Reply::Null });
    };
    let wanted = count.unwrap_or(1).min(list.len());
    let items: Vec<Vec<u8>> = (0..wanted).filter_map(|_| end.pop(list)).collect();
    db.changed(key, items.len());
    Ok(if count.is_some() { Reply::array(items) } else { Reply::bulk_or_null(items.first()) })
}

/// A count that may not be negative.
pub(super) fn count_arg(arg: &[u8]) -> Result<usize, Fault> {
    integer(arg).and_then(|n| usize::try_from(n).ok()).ok_or(NOT_POSITIVE)
}

fn lmove(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let (from, to) = (End::parse(&args[3])?, End::parse(&args[4])?);
    shift(db, args, from, to)
}

fn shift(db: &mut Keyspace, args: &[Vec<u8>], from: End, to: End) -> Answer {
    let (source, destination) = (&args[1], &args[2]);
    if db.read::<List>(source)?.is_none() {
        return Ok(Reply::Null);
    }
    db.read::<List>(destination)?;
    let Some(item) = db.edit::<List>(source)?.and_then(|list| from.pop(list)) else { return Ok(Reply::Null) };
    to.push(db.make::<List>(destination)?, item.clone());
    db.changed(source, 1);
    db.changed(destination, 1);
    Ok(Reply::Bulk(item))
}

fn llen(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(db.read::<List>(&args[1])?.map_or(0, List::len)))
}

fn lrange(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let (start, stop) = (int_arg(&args[2])?, int_arg(&args[3])?);
    let Some(list) = db.read::<List>(&args[1])? else { return Ok(Reply::Array(Vec::new())) };
    Ok(Reply::array(list.range(index_range(start, stop, list.len()))))
}

fn lindex(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let Some(list) = db.read::<List>(&args[1])? else { return Ok(Reply::Null) };
    Ok(Reply::bulk_or_null(place(&args[2], list.len())?.and_then(|i| list.get(i))))
}

/// The place an index argument names, counted from the end when negative.
pub(super) fn place(arg: &[u8], len: usize) -> Result<Option<usize>, Fault> {
    let index = int_arg(arg)?;
    let index = if index < 0 { index.saturating_add(len as i64) } else { index };
    Ok(usize::try_from(index).ok().filter(|i| *i < len))
}
