//! Taking members out of sorted sets: by name, from an end, by rank, by score.
//! An emptied set is gone.

use std::ops::Range;

use super::keyspace::Keyspace;
use super::lists::count_arg;
use super::number::{index_range, int_arg};
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{WRITE, WRITE_FAST};
use super::table::{Command, ONE, data};
use super::zset::SortedSet;
use super::zset_range::bounds;

pub(super) const COMMANDS: &[Command] = &[
    data("zrem", -3, WRITE_FAST, ONE, zrem),
    data("zpopmin", -2, WRITE_FAST, ONE, |db, args| pop(db, args, false)),
    data("zpopmax", -2, WRITE_FAST, ONE, |db, args| pop(db, args, true)),
    data("zremrangebyrank", 4, WRITE, ONE, by_rank),
    data("zremrangebyscore", 4, WRITE, ONE, by_score),
];

fn zrem(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let Some(set) = db.edit::<SortedSet>(&args[1])? else { return Ok(Reply::Int(0)) };
    let gone = args[2..].iter().filter(|member| set.remove(member)).count();
    db.changed(&args[1], gone);
    Ok(Reply::count(gone))
}

fn pop(db: &mut Keyspace, args: &[Vec<u8>], from_top: bool) -> Answer {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(count_arg(count)?),
        _ => return Err(Fault::SYNTAX),
    };
    let Some(set) = db.read::<SortedSet>(&args[1])? else { return Ok(Reply::Array(Vec::new())) };
    let (len, wanted) = (set.len(), count.unwrap_or(1).min(set.len()));
    let mut popped = take(db, &args[1], if from_top { len - wanted..len } else { 0..wanted })?;
    if from_top {
        popped.reverse();
    }
    match (count, popped.as_slice()) {
        (None, [(member, score)]) => Ok(Reply::Array(vec![Reply::bulk(member), Reply::Double(*score)])),
        _ => Ok(Reply::Scored(popped)),
    }
}

fn by_rank(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let (start, stop) = (int_arg(&args[2])?, int_arg(&args[3])?);
    let Some(set) = db.read::<SortedSet>(&args[1])? else { return Ok(Reply::Int(0)) };
    let ranks = index_range(start, stop, set.len());
    Ok(Reply::count(take(db, &args[1], ranks)?.len()))
}

fn by_score(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let bounds = bounds(&args[2], &args[3])?;
    let Some(set) = db.read::<SortedSet>(&args[1])? else { return Ok(Reply::Int(0)) };
    let ranks = set.ranks_within(bounds);
    Ok(Reply::count(take(db, &args[1], ranks)?.len()))
}

fn take(db: &mut Keyspace, key: &[u8], ranks: Range<usize>) -> Result<Vec<(Vec<u8>, f64)>, Fault> {
    let Some(set) = db.edit::<SortedSet>(key)? else { return Ok(Vec::new()) };
    let taken = set.slice(ranks);
    for (member, _) in &taken {
        set.remove(member);
    }
    db.changed(key, taken.len());
    Ok(taken)
}
