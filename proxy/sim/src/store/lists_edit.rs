//! Lists in their middle: LSET, LINSERT, LREM, LTRIM.
//! An emptied list is gone.

use super::keyspace::Keyspace;
use super::lists::place;
use super::number::{index_range, int_arg};
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{WRITE, WRITE_OOM};
use super::table::{Command, ONE, data};
use super::value::List;

pub(super) const COMMANDS: &[Command] = &[
    data("lset", 4, WRITE_OOM, ONE, lset),
    data("linsert", 5, WRITE_OOM, ONE, linsert),
    data("lrem", 4, WRITE, ONE, lrem),
    data("ltrim", 4, WRITE, ONE, ltrim),
];

fn lset(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let list = db.edit::<List>(&args[1])?.ok_or(Fault::NO_SUCH_KEY)?;
    let slot = place(&args[2], list.len())?.and_then(|i| list.get_mut(i)).ok_or(Fault::OUT_OF_RANGE)?;
    slot.clone_from(&args[3]);
    db.changed(&args[1], 1);
    Ok(Reply::OK)
}

fn linsert(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let after = match args[2].to_ascii_lowercase().as_slice() {
        b"after" => 1,
        b"before" => 0,
        _ => return Err(Fault::SYNTAX),
    };
    let Some(list) = db.edit::<List>(&args[1])? else { return Ok(Reply::Int(0)) };
    let Some(pivot) = list.iter().position(|item| *item == args[3]) else { return Ok(Reply::Int(-1)) };
    list.insert(pivot + after, args[4].clone());
    let len = list.len();
    db.changed(&args[1], 1);
    Ok(Reply::count(len))
}

fn lrem(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let count = int_arg(&args[2])?;
    let Some(list) = db.edit::<List>(&args[1])? else { return Ok(Reply::Int(0)) };
    let mut places: Vec<usize> =
        list.iter().enumerate().filter(|(_, item)| **item == args[3]).map(|(i, _)| i).collect();
    if count < 0 {
        places.reverse();
    }
    if count != 0 {
        places.truncate(usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX));
    }
    places.sort_unstable();
    places.iter().rev().for_each(|i| drop(list.remove(*i)));
    db.changed(&args[1], places.len());
    Ok(Reply::count(places.len()))
}

/// Counts as a change even when it trims nothing, because Redis then breaks a WATCH too.
fn ltrim(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let (start, stop) = (int_arg(&args[2])?, int_arg(&args[3])?);
    let Some(list) = db.edit::<List>(&args[1])? else { return Ok(Reply::OK) };
    let range = index_range(start, stop, list.len());
    list.truncate(range.end);
    list.drain(..range.start);
    db.changed(&args[1], 1);
    Ok(Reply::OK)
}
