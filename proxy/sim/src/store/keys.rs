//! Keys as such: existence, type, deletion, and emptying the server.
//! What is past its deadline is already gone when these run.

use super::keyspace::Keyspace;
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{READ_FAST, WRITE, WRITE_FAST};
use super::table::{ALL, Command, ONE, data};

pub(super) const COMMANDS: &[Command] = &[
    data("dbsize", 1, READ_FAST, (0, 0, 0), |db, _| Ok(Reply::count(db.len()))),
    data("type", 2, READ_FAST, ONE, type_of),
    data("exists", -2, READ_FAST, ALL, exists),
    data("touch", -2, READ_FAST, ALL, exists),
    data("del", -2, WRITE, ALL, del),
    data("unlink", -2, WRITE_FAST, ALL, del),
    data("flushall", -1, WRITE, (0, 0, 0), flush),
    data("flushdb", -1, WRITE, (0, 0, 0), flush),
];

fn type_of(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::Status(db.value(&args[1]).map_or("none", |value| value.kind())))
}

fn exists(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(args[1..].iter().filter(|key| db.contains(key)).count()))
}

fn del(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(args[1..].iter().filter(|key| db.remove(key)).count()))
}

fn flush(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    match args[1..].iter().map(|arg| arg.to_ascii_lowercase()).collect::<Vec<_>>().as_slice() {
        [] => {}
        [how] if how == b"async" || how == b"sync" => {}
        _ => return Err(Fault::SYNTAX),
    }
    db.clear();
    Ok(Reply::OK)
}
