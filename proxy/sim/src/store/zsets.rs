//! Sorted sets: adding, scoring, counting.
//! Ranges are in `zset_range`, removals in `zset_remove`.

use super::keyspace::Keyspace;
use super::number::float_arg;
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{READ_FAST, WRITE_OOM_FAST};
use super::table::{Command, ONE, data};
use super::zset::SortedSet;

pub(super) const COMMANDS: &[Command] = &[
    data("zadd", -4, WRITE_OOM_FAST, ONE, zadd),
    data("zincrby", 4, WRITE_OOM_FAST, ONE, zincrby),
    data("zscore", 3, READ_FAST, ONE, zscore),
    data("zmscore", -3, READ_FAST, ONE, zmscore),
    data("zcard", 2, READ_FAST, ONE, zcard),
    data("zrank", 3, READ_FAST, ONE, |db, args| rank(db, args, false)),
    data("zrevrank", 3, READ_FAST, ONE, |db, args| rank(db, args, true)),
];

const NOT_A_NUMBER: Fault = Fault::fixed("ERR resulting score is not a number (NaN)");

#[derive(Default, Clone, Copy)]
struct Options {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl Options {
    /// Reads leading options; the rest are scores and members.
    fn parse(mut words: &[Vec<u8>]) -> (Self, &[Vec<u8>]) {
        let mut options = Options::default();
        while let [word, rest @ ..] = words {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => options.nx = true,
                b"xx" => options.xx = true,
                b"gt" => options.gt = true,
                b"lt" => options.lt = true,
                b"ch" => options.ch = true,
                b"incr" => options.incr = true,
                _ => break,
            }
            words = rest;
        }
        (options, words)
    }

    fn check(self, elements: usize) -> Result<(), Fault> {
        if self.nx && self.xx {
            return Err(Fault::fixed("ERR XX and NX options at the same time are not compatible"));
        }
        if [self.gt, self.lt, self.nx].into_iter().filter(|given| *given).count() > 1 {
            return Err(Fault::fixed("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.incr && elements > 1 {
            return Err(Fault::fixed("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }
}

/// What one element did.
enum Done {
    Nothing,
    /// Allowed, but the score was already this.
    Same(f64),
    Added(f64),
    Updated(f64),
}

fn zadd(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let (options, elements) = Options::parse(&args[2..]);
    if elements.is_empty() || !elements.len().is_multiple_of(2) {
        return Err(Fault::SYNTAX);
    }
    options.check(elements.len() / 2)?;
    let scores: Vec<f64> =
        elements.iter().step_by(2).map(|score| float_arg(score)).collect::<Result<_, _>>()?;
    let members = elements.iter().skip(1).step_by(2);
    add(db, &args[1], options, members.zip(scores))
}

fn add<'a>(
    db: &mut Keyspace,
    key: &[u8],
    options: Options,
    elements: impl Iterator<Item = (&'a Vec<u8>, f64)>,
) -> Answer {
    if db.read::<SortedSet>(key)?.is_none() && options.xx {
        return Ok(if options.incr { Reply::Null } else { Reply::Int(0) });
    }
    let (mut added, mut updated, mut last) = (0, 0, Reply::Null);
    for (member, score) in elements {
        match add_one(db.make::<SortedSet>(key)?, options, member, score)? {
            Done::Nothing => {}
            Done::Same(score) => last = Reply::Double(score),
            Done::Added(score) => (added, last) = (added + 1, Reply::Double(score)),
            Done::Updated(score) => (updated, last) = (updated + 1, Reply::Double(score)),
        }
    }
    db.changed(key, added + updated);
    Ok(match options {
        Options { incr: true, .. } => last,
        Options { ch: true, .. } => Reply::count(added + updated),
        _ => Reply::count(added),
    })
}

fn add_one(set: &mut SortedSet, options: Options, member: &[u8], score: f64) -> Result<Done, Fault> {
    let Some(old) = set.score(member) else {
        if options.xx {
            return Ok(Done::Nothing);
        }
        set.insert(member, score);
        return Ok(Done::Added(score));
    };
    let new = if options.incr { old + score } else { score };
    if options.nx {
        return Ok(Done::Nothing);
    }
    if new.is_nan() {
        return Err(NOT_A_NUMBER);
    }
    if (options.lt && new >= old) || (options.gt && new <= old) {
        return Ok(Done::Nothing);
    }
    if new == old {
        return Ok(Done::Same(new));
    }
    set.insert(member, new);
    Ok(Done::Updated(new))
}

fn zincrby(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let by = float_arg(&args[2])?;
    let options = Options { incr: true, ..Options::default() };
    add(db, &args[1], options, std::iter::once((&args[3], by)))
}

fn zscore(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let score = db.read::<SortedSet>(&args[1])?.and_then(|set| set.score(&args[2]));
    Ok(score.map_or(Reply::Null, Reply::Double))
}

fn zmscore(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let set = db.read::<SortedSet>(&args[1])?;
    let score = |member: &Vec<u8>| set.and_then(|set| set.score(member)).map_or(Reply::Null, Reply::Double);
    Ok(Reply::Array(args[2..].iter().map(score).collect()))
}

fn zcard(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(db.read::<SortedSet>(&args[1])?.map_or(0, SortedSet::len)))
}

fn rank(db: &mut Keyspace, args: &[Vec<u8>], reverse: bool) -> Answer {
    let Some(set) = db.read::<SortedSet>(&args[1])? else { return Ok(Reply::Null) };
    let rank = set.rank(&args[2]).map(|rank| if reverse { set.len() - 1 - rank } else { rank });
    Ok(rank.map_or(Reply::Null, Reply::count))
}
