//! SET with its options and its older relatives, and GETEX.
//! Deadlines become absolute here, once.

use super::expire::{Unit, absolute_deadline};
use super::keyspace::Keyspace;
use super::reply::{Answer, Fault, Reply};
use super::strings::{get, put};
use super::table::flag::{WRITE_FAST, WRITE_OOM, WRITE_OOM_FAST};
use super::table::{Command, ONE, data};
use super::value::{Text, Value};

pub(super) const COMMANDS: &[Command] = &[
    data("set", -3, WRITE_OOM, ONE, set),
    data("setnx", 3, WRITE_OOM_FAST, ONE, setnx),
    data("setex", 4, WRITE_OOM, ONE, |db, args| set_for(db, args, Unit::Seconds, "setex")),
    data("psetex", 4, WRITE_OOM, ONE, |db, args| set_for(db, args, Unit::Milliseconds, "psetex")),
    data("getset", 3, WRITE_OOM_FAST, ONE, getset),
    data("getex", -2, WRITE_FAST, ONE, getex),
    data("mset", -3, WRITE_OOM, (1, -1, 2), mset),
    data("msetnx", -3, WRITE_OOM, (1, -1, 2), msetnx),
];

/// A time of expiry as written: the number, its unit, and whether it counts from now.
struct Expiry<'a> {
    option: Vec<u8>,
    value: &'a [u8],
    unit: Unit,
    relative: bool,
}

impl Expiry<'_> {
    fn deadline(&self, db: &Keyspace, command: &str) -> Result<u64, Fault> {
        absolute_deadline(db, self.value, self.unit, self.relative, command)
    }
}

#[derive(Default)]
struct Options<'a> {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    expiry: Option<Expiry<'a>>,
}

impl<'a> Options<'a> {
    fn parse(mut words: &'a [Vec<u8>], getex: bool) -> Result<Self, Fault> {
        let mut options = Options::default();
        while let [word, rest @ ..] = words {
            let word = word.to_ascii_lowercase();
            words = rest;
            match word.as_slice() {
                b"nx" if !options.xx && !getex => options.nx = true,
                b"xx" if !options.nx && !getex => options.xx = true,
                b"get" if !getex => options.get = true,
                b"keepttl" if options.expiry.is_none() && !getex => options.keep_ttl = true,
                b"persist" if options.expiry.is_none() && getex => options.persist = true,
                _ if options.keep_ttl || options.persist => return Err(Fault::SYNTAX),
                _ => words = options.parse_expiry(word, rest)?,
            }
        }
        Ok(options)
    }

    fn parse_expiry(&mut self, option: Vec<u8>, rest: &'a [Vec<u8>]) -> Result<&'a [Vec<u8>], Fault> {
        let (unit, relative) = match option.as_slice() {
            b"ex" => (Unit::Seconds, true),
            b"px" => (Unit::Milliseconds, true),
            b"exat" => (Unit::Seconds, false),
            b"pxat" => (Unit::Milliseconds, false),
            _ => return Err(Fault::SYNTAX),
        };
        let [value, rest @ ..] = rest else { return Err(Fault::SYNTAX) };
        if self.expiry.as_ref().is_some_and(|other| other.option != option) {
            return Err(Fault::SYNTAX);
        }
        self.expiry = Some(Expiry { option, value, unit, relative });
        Ok(rest)
    }
}

fn set(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let options = Options::parse(&args[3..], false)?;
    let deadline = options.expiry.as_ref().map(|expiry| expiry.deadline(db, "set")).transpose()?;
    let old = if options.get { Some(get(db, args)?) } else { None };
    let found = db.contains(&args[1]);
    if (options.nx && found) || (options.xx && !found) {
        return Ok(old.unwrap_or(Reply::Null));
    }
    if options.keep_ttl {
        db.put_keeping_ttl(&args[1], Value::Text(args[2].clone()));
    } else {
        put(db, &args[1], &args[2]);
        db.set_deadline(&args[1], deadline);
    }
    Ok(old.unwrap_or(Reply::OK))
}

fn setnx(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    if db.contains(&args[1]) {
        return Ok(Reply::Int(0));
    }
    put(db, &args[1], &args[2]);
    Ok(Reply::Int(1))
}

fn set_for(db: &mut Keyspace, args: &[Vec<u8>], unit: Unit, name: &str) -> Answer {
    let deadline = absolute_deadline(db, &args[2], unit, true, name)?;
    put(db, &args[1], &args[3]);
    db.set_deadline(&args[1], Some(deadline));
    Ok(Reply::OK)
}

fn getset(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let old = get(db, args)?;
    put(db, &args[1], &args[2]);
    Ok(old)
}

fn getex(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let key = &args[1];
    let options = Options::parse(&args[2..], true)?;
    if db.read::<Text>(key)?.is_none() {
        return Ok(Reply::Null);
    }
    let reply = get(db, args)?;
    if let Some(expiry) = options.expiry {
        let deadline = expiry.deadline(db, "getex")?;
        if !expiry.relative && deadline <= db.now_ms() {
            db.remove(key);
        } else {
            db.set_deadline(key, Some(deadline));
            db.changed(key, 1);
        }
    } else if options.persist && db.deadline_ms(key).is_some() {
        db.set_deadline(key, None);
        db.changed(key, 1);
    }
    Ok(reply)
}

fn pairs<'a>(args: &'a [Vec<u8>], name: &str) -> Result<std::slice::ChunksExact<'a, Vec<u8>>, Fault> {
    let pairs = args[1..].chunks_exact(2);
    if pairs.remainder().is_empty() { Ok(pairs) } else { Err(Fault::arity(name)) }
}

fn mset(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    for pair in pairs(args, "mset")? {
        put(db, &pair[0], &pair[1]);
    }
    Ok(Reply::OK)
}

fn msetnx(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    if pairs(args, "msetnx")?.any(|pair| db.contains(&pair[0])) {
        return Ok(Reply::Int(0));
    }
    mset(db, args)?;
    Ok(Reply::Int(1))
}
