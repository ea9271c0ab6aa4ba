//! RENAME, RENAMENX, COPY: a value under another key, with its deadline.
//! There is one database to copy to.

use super::keyspace::Keyspace;
use super::number::int_arg;
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{WRITE, WRITE_FAST, WRITE_OOM};
use super::table::{Command, TWO, data};

pub(super) const COMMANDS: &[Command] = &[
    data("rename", 3, WRITE, TWO, |db, args| rename(db, args).map(|()| Reply::OK)),
    data("renamenx", 3, WRITE_FAST, TWO, renamenx),
    data("copy", -3, WRITE_OOM, TWO, copy),
];

fn rename(db: &mut Keyspace, args: &[Vec<u8>]) -> Result<(), Fault> {
    let (from, to) = (&args[1], &args[2]);
    if !db.contains(from) {
        return Err(Fault::NO_SUCH_KEY);
    }
    if from != to
        && let Some((value, deadline)) = db.take(from)
    {
        db.put(to, value);
        db.set_deadline(to, deadline);
    }
    Ok(())
}

fn renamenx(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    if !db.contains(&args[1]) {
        return Err(Fault::NO_SUCH_KEY);
    }
    if db.contains(&args[2]) {
        return Ok(Reply::Int(0));
    }
    rename(db, args)?;
    Ok(Reply::Int(1))
}

fn copy(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let (from, to) = (&args[1], &args[2]);
    let replace = copy_options(&args[3..])?;
    if from == to {
        return Err(Fault::fixed("ERR source and destination objects are the same"));
    }
    let Some(value) = db.value(from).cloned() else { return Ok(Reply::Int(0)) };
    if db.contains(to) && !replace {
        return Ok(Reply::Int(0));
    }
    let deadline = db.deadline_ms(from);
    db.put(to, value);
    db.set_deadline(to, deadline);
    Ok(Reply::Int(1))
}

fn copy_options(mut words: &[Vec<u8>]) -> Result<bool, Fault> {
    let mut replace = false;
    while let [word, rest @ ..] = words {
        words = rest;
        match (word.to_ascii_lowercase().as_slice(), rest) {
            (b"replace", _) => replace = true,
            (b"db", [number, rest @ ..]) => {
                if int_arg(number)? != 0 {
                    return Err(Fault::fixed("ERR DB index is out of range"));
                }
                words = rest;
            }
            _ => return Err(Fault::SYNTAX),
        }
    }
    Ok(replace)
}
