//! DUMP and RESTORE, in the format of Redis's own snapshots, so that payloads pass between this store
//! and real servers.

use super::dump_format::{deserialize, serialize};
use super::keyspace::Keyspace;
use super::number::int_arg;
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{READ, WRITE_OOM};
use super::table::{Command, ONE, data};

pub(super) const COMMANDS: &[Command] =
    &[data("dump", 2, READ, ONE, dump), data("restore", -4, WRITE_OOM, ONE, restore)];

fn dump(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(db.value(&args[1]).map_or(Reply::Null, |value| Reply::Bulk(serialize(value))))
}

#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
}

impl Options {
    fn parse(mut words: &[Vec<u8>]) -> Result<Self, Fault> {
        let mut options = Options::default();
        while let [word, rest @ ..] = words {
            words = rest;
            match (word.to_ascii_lowercase().as_slice(), rest) {
                (b"replace", _) => options.replace = true,
                (b"absttl", _) => options.absolute = true,
                (b"idletime" | b"freq", [number, rest @ ..]) => {
                    int_arg(number)?;
                    words = rest;
                }
                _ => return Err(Fault::SYNTAX),
            }
        }
        Ok(options)
    }
}

pub(super) fn restore(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let (key, payload) = (&args[1], &args[3]);
    let options = Options::parse(&args[4..])?;
    if db.contains(key) && !options.replace {
        return Err(Fault::fixed("BUSYKEY Target key name already exists."));
    }
    let ttl =
        u64::try_from(int_arg(&args[2])?).map_err(|_| Fault::fixed("ERR Invalid TTL value, must be >= 0"))?;
    let value = deserialize(payload)?;
    let base = if options.absolute { 0 } else { db.now_ms() };
    let deadline = (ttl > 0).then(|| base.saturating_add(ttl));
    if deadline.is_some_and(|deadline| deadline < db.now_ms()) {
        db.remove(key);
        return Ok(Reply::OK);
    }
    db.put(key, value);
    db.set_deadline(key, deadline);
    Ok(Reply::OK)
}
