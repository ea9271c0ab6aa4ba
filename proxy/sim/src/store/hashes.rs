//! Hashes.
//! Fields come out in byte order; Redis promises none.

use super::counters::OVERFLOW;
use super::keyspace::Keyspace;
use super::number::{int_arg, integer};
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{READ, READ_FAST, WRITE_FAST, WRITE_OOM_FAST};
use super::table::{Command, ONE, data};
use super::value::Hash;

pub(super) const COMMANDS: &[Command] = &[
    data("hset", -4, WRITE_OOM_FAST, ONE, |db, args| hset(db, args, "hset").map(Reply::count)),
    data("hmset", -4, WRITE_OOM_FAST, ONE, |db, args| hset(db, args, "hmset").map(|_| Reply::OK)),
    data("hsetnx", 4, WRITE_OOM_FAST, ONE, hsetnx),
    data("hincrby", 4, WRITE_OOM_FAST, ONE, hincrby),
    data("hdel", -3, WRITE_FAST, ONE, hdel),
    data("hget", 3, READ_FAST, ONE, hget),
    data("hmget", -3, READ_FAST, ONE, hmget),
    data("hgetall", 2, READ, ONE, hgetall),
    data("hlen", 2, READ_FAST, ONE, hlen),
    data("hexists", 3, READ_FAST, ONE, hexists),
    data("hstrlen", 3, READ_FAST, ONE, hstrlen),
    data("hkeys", 2, READ, ONE, hkeys),
    data("hvals", 2, READ, ONE, hvals),
];

fn hset(db: &mut Keyspace, args: &[Vec<u8>], name: &str) -> Result<usize, Fault> {
    let pairs = args[2..].chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(Fault::arity(name));
    }
    let (count, hash) = (pairs.len(), db.make::<Hash>(&args[1])?);
    let new = pairs.filter(|pair| hash.insert(pair[0].clone(), pair[1].clone()).is_none()).count();
    db.changed(&args[1], count);
    Ok(new)
}

fn hsetnx(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let hash = db.make::<Hash>(&args[1])?;
    if hash.contains_key(&args[2]) {
        return Ok(Reply::Int(0));
    }
    hash.insert(args[2].clone(), args[3].clone());
    db.changed(&args[1], 1);
    Ok(Reply::Int(1))
}

fn hincrby(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let by = int_arg(&args[3])?;
    let old = match read(db, args)?.and_then(|hash| hash.get(&args[2])) {
        Some(text) => integer(text).ok_or(Fault::fixed("ERR hash value is not an integer"))?,
        None => 0,
    };
    let sum = old.checked_add(by).ok_or(OVERFLOW)?;
    db.make::<Hash>(&args[1])?.insert(args[2].clone(), sum.to_string().into_bytes());
    db.changed(&args[1], 1);
    Ok(Reply::Int(sum))
}

fn hdel(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let Some(hash) = db.edit::<Hash>(&args[1])? else { return Ok(Reply::Int(0)) };
    let gone = args[2..].iter().filter(|field| hash.remove(*field).is_some()).count();
    db.changed(&args[1], gone);
    Ok(Reply::count(gone))
}

fn read<'a>(db: &'a Keyspace, args: &[Vec<u8>]) -> Result<Option<&'a Hash>, Fault> {
    db.read::<Hash>(&args[1])
}

fn hget(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::bulk_or_null(read(db, args)?.and_then(|hash| hash.get(&args[2]))))
}

fn hmget(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let hash = read(db, args)?;
    let field = |field: &Vec<u8>| Reply::bulk_or_null(hash.and_then(|hash| hash.get(field)));
    Ok(Reply::Array(args[2..].iter().map(field).collect()))
}

fn hgetall(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let pairs = read(db, args)?.into_iter().flatten();
    Ok(Reply::Map(pairs.map(|(field, value)| (Reply::bulk(field), Reply::bulk(value))).collect()))
}

fn hlen(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(read(db, args)?.map_or(0, Hash::len)))
}

fn hexists(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::flag(read(db, args)?.is_some_and(|hash| hash.contains_key(&args[2]))))
}

fn hstrlen(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(read(db, args)?.and_then(|hash| hash.get(&args[2])).map_or(0, Vec::len)))
}

fn hkeys(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::array(read(db, args)?.into_iter().flat_map(Hash::keys)))
}

fn hvals(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::array(read(db, args)?.into_iter().flat_map(Hash::values)))
}
