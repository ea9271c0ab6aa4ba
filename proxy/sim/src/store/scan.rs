//! KEYS, RANDOMKEY and the SCAN family.
//! A scan walks keys in hash order: a key that is there all the time is returned exactly once, and a scan
//! always ends. Scans inside a collection return all of it at once, as Redis does for small ones.

use super::keyspace::Keyspace;
use super::number::{format_score, int_arg};
use super::reply::{Answer, Fault, Reply};
use super::session::Session;
use super::table::flag::READ;
use super::table::{Command, ONE, Run, data};
use super::value::{Hash, Kind, Set};
use super::zset::SortedSet;
use super::{Store, glob};

pub(super) const COMMANDS: &[Command] = &[
    data("keys", 2, READ, (0, 0, 0), keys),
    data("scan", -2, READ, (0, 0, 0), scan),
    Command { name: "randomkey", arity: 1, flags: READ, keys: (0, 0, 0), run: Run::Server(randomkey) },
    data("hscan", -3, READ, ONE, hscan),
    data("sscan", -3, READ, ONE, sscan),
    data("zscan", -3, READ, ONE, zscan),
];

struct Options {
    pattern: Vec<u8>,
    count: usize,
    kind: Option<Vec<u8>>,
}

impl Options {
    fn parse(mut words: &[Vec<u8>], of_keys: bool) -> Result<Self, Fault> {
        let mut options = Options { pattern: b"*".to_vec(), count: 10, kind: None };
        while let [word, value, rest @ ..] = words {
            words = rest;
            match word.to_ascii_lowercase().as_slice() {
                b"match" => options.pattern.clone_from(value),
                b"type" if of_keys => options.kind = Some(value.to_ascii_lowercase()),
                b"count" => {
                    let count = usize::try_from(int_arg(value)?).ok().filter(|n| *n > 0);
                    options.count = count.ok_or(Fault::SYNTAX)?;
                }
                _ => return Err(Fault::SYNTAX),
            }
        }
        if words.is_empty() { Ok(options) } else { Err(Fault::SYNTAX) }
    }
}

fn cursor(arg: &[u8]) -> Result<u64, Fault> {
    let text = std::str::from_utf8(arg).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or(Fault::fixed("ERR invalid cursor"))
}

fn keys(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::array(db.keys().filter(|key| glob::matches(&args[1], key))))
}

fn randomkey(store: &mut Store, _: &mut Session, _: &[Vec<u8>]) -> Answer {
    let start = store.roll() >> 16;
    let found = store.db.scan_from(start).next().or_else(|| store.db.scan_from(0).next());
    Ok(Reply::bulk_or_null(found.map(|(_, key)| key)))
}

fn scan(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let start = cursor(&args[1])?;
    let options = Options::parse(&args[2..], true)?;
    let (mut found, mut next, mut last) = (Vec::new(), 0, 0);
    for (seen, (hash, key)) in db.scan_from(start).enumerate() {
        // Keys of equal hash stay together, because a cursor cannot tell them apart.
        if seen >= options.count && *hash != last {
            next = *hash;
            break;
        }
        last = *hash;
        let kind = db.value(key).map_or("none", |value| value.kind());
        if glob::matches(&options.pattern, key)
            && options.kind.as_deref().is_none_or(|k| k == kind.as_bytes())
        {
            found.push(Reply::bulk(key));
        }
    }
    Ok(page(next, found))
}

fn page(next: u64, found: Vec<Reply>) -> Reply {
    Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(found)])
}

fn hscan(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    inner(db, args, |hash: &Hash, fits| {
        let fields = hash.iter().filter(|(field, _)| fits(field));
        fields.flat_map(|(field, value)| [Reply::bulk(field), Reply::bulk(value)]).collect()
    })
}

fn sscan(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    inner(db, args, |set: &Set, fits| Reply::bulks(set.iter().filter(|member| fits(member))))
}

fn zscan(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    inner(db, args, |set: &SortedSet, fits| {
        let members = set.iter().filter(|(member, _)| fits(member));
        members.flat_map(|(member, score)| [Reply::bulk(member), Reply::bulk(format_score(score))]).collect()
    })
}

/// A scan inside one collection: the whole of it, and the cursor that says so.
fn inner<T: Kind>(
    db: &Keyspace,
    args: &[Vec<u8>],
    list: impl Fn(&T, &dyn Fn(&[u8]) -> bool) -> Vec<Reply>,
) -> Answer {
    cursor(&args[2])?;
    let Some(value) = db.read::<T>(&args[1])? else { return Ok(page(0, Vec::new())) };
    let pattern = Options::parse(&args[3..], false)?.pattern;
    Ok(page(0, list(value, &|item| glob::matches(&pattern, item))))
}
