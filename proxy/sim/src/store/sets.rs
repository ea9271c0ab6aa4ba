//! Sets and their algebra.
//! Members come out in byte order; Redis promises none.

use super::keyspace::Keyspace;
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{READ, READ_FAST, WRITE_FAST, WRITE_OOM, WRITE_OOM_FAST};
use super::table::{ALL, Command, ONE, TWO, data};
use super::value::{Set, Value};

pub(super) const COMMANDS: &[Command] = &[
    data("sadd", -3, WRITE_OOM_FAST, ONE, sadd),
    data("srem", -3, WRITE_FAST, ONE, srem),
    data("smove", 4, WRITE_FAST, TWO, smove),
    data("smembers", 2, READ, ONE, |db, args| combined(db, &args[1..], intersect)),
    data("sismember", 3, READ_FAST, ONE, sismember),
    data("smismember", -3, READ_FAST, ONE, smismember),
    data("scard", 2, READ_FAST, ONE, scard),
    data("sinter", -2, READ, ALL, |db, args| combined(db, &args[1..], intersect)),
    data("sunion", -2, READ, ALL, |db, args| combined(db, &args[1..], unite)),
    data("sdiff", -2, READ, ALL, |db, args| combined(db, &args[1..], subtract)),
    data("sinterstore", -3, WRITE_OOM, ALL, |db, args| store(db, args, intersect)),
    data("sunionstore", -3, WRITE_OOM, ALL, |db, args| store(db, args, unite)),
    data("sdiffstore", -3, WRITE_OOM, ALL, |db, args| store(db, args, subtract)),
];

type Combine = fn(&mut Set, &Set);

fn intersect(into: &mut Set, other: &Set) {
    into.retain(|member| other.contains(member));
}

fn unite(into: &mut Set, other: &Set) {
    into.extend(other.iter().cloned());
}

fn subtract(into: &mut Set, other: &Set) {
    into.retain(|member| !other.contains(member));
}

fn sadd(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let set = db.make::<Set>(&args[1])?;
    let new = args[2..].iter().filter(|member| set.insert(member.to_vec())).count();
    db.changed(&args[1], new);
    Ok(Reply::count(new))
}

fn srem(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let Some(set) = db.edit::<Set>(&args[1])? else { return Ok(Reply::Int(0)) };
    let gone = args[2..].iter().filter(|member| set.remove(*member)).count();
    db.changed(&args[1], gone);
    Ok(Reply::count(gone))
}

fn smove(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let (source, destination, member) = (&args[1], &args[2], &args[3]);
    if !db.contains(source) {
        return Ok(Reply::Int(0));
    }
    let present = db.read::<Set>(source)?.is_some_and(|set| set.contains(member));
    db.read::<Set>(destination)?;
    if !present || source == destination {
        return Ok(Reply::flag(present));
    }
    if let Some(set) = db.edit::<Set>(source)? {
        set.remove(member);
    }
    db.make::<Set>(destination)?.insert(member.clone());
    db.changed(source, 1);
    db.changed(destination, 1);
    Ok(Reply::Int(1))
}

fn sismember(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::flag(db.read::<Set>(&args[1])?.is_some_and(|set| set.contains(&args[2]))))
}

fn smismember(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let set = db.read::<Set>(&args[1])?;
    let has = |member: &Vec<u8>| Reply::flag(set.is_some_and(|set| set.contains(member)));
    Ok(Reply::Array(args[2..].iter().map(has).collect()))
}

fn scard(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(db.read::<Set>(&args[1])?.map_or(0, Set::len)))
}

fn combine(db: &Keyspace, keys: &[Vec<u8>], combine: Combine) -> Result<Set, Fault> {
    let mut result: Option<Set> = None;
    let nothing = Set::new();
    for key in keys {
        let set = db.read::<Set>(key)?.unwrap_or(&nothing);
        match &mut result {
            Some(result) => combine(result, set),
            None => result = Some(set.clone()),
        }
    }
    Ok(result.unwrap_or_default())
}

fn combined(db: &mut Keyspace, keys: &[Vec<u8>], how: Combine) -> Answer {
    Ok(Reply::Set(Reply::bulks(combine(db, keys, how)?)))
}

fn store(db: &mut Keyspace, args: &[Vec<u8>], how: Combine) -> Answer {
    let result = combine(db, &args[2..], how)?;
    let len = result.len();
    if result.is_empty() {
        db.remove(&args[1]);
    } else {
        db.put(&args[1], Value::Set(result));
    }
    Ok(Reply::count(len))
}
