//! Ranges of sorted sets by rank or by score, forwards or backwards.
//! Ranges by name (BYLEX) are not modelled.

use super::keyspace::Keyspace;
use super::number::{index_range, int_arg};
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{READ, READ_FAST};
use super::table::{Command, ONE, data};
use super::zset::{Bound, Bounds, SortedSet};

pub(super) const COMMANDS: &[Command] = &[
    data("zrange", -4, READ, ONE, |db, args| range(db, args, Form::default())),
    data("zrevrange", -4, READ, ONE, |db, args| {
        range(db, args, Form { fixed: true, reverse: true, by_score: false })
    }),
    data("zrangebyscore", -4, READ, ONE, |db, args| {
        range(db, args, Form { fixed: true, reverse: false, by_score: true })
    }),
    data("zrevrangebyscore", -4, READ, ONE, |db, args| {
        range(db, args, Form { fixed: true, reverse: true, by_score: true })
    }),
    data("zcount", 4, READ_FAST, ONE, zcount),
];

/// What the command's name or its options say about a range.
#[derive(Default, Clone, Copy)]
struct Form {
    /// The name says it all; options may not change it.
    fixed: bool,
    reverse: bool,
    by_score: bool,
}

struct Options {
    form: Form,
    with_scores: bool,
    /// How many to skip and, unless negative, how many to give.
    limit: Option<(i64, i64)>,
}

impl Options {
    fn parse(mut words: &[Vec<u8>], form: Form) -> Result<Self, Fault> {
        let mut options = Options { form, with_scores: false, limit: None };
        while let [word, rest @ ..] = words {
            words = rest;
            match (word.to_ascii_lowercase().as_slice(), rest) {
                (b"withscores", _) => options.with_scores = true,
                (b"rev", _) if !form.fixed => options.form.reverse = true,
                (b"byscore", _) if !form.fixed => options.form.by_score = true,
                (b"limit", [offset, count, rest @ ..]) => {
                    options.limit = Some((int_arg(offset)?, int_arg(count)?));
                    words = rest;
                }
                _ => return Err(Fault::SYNTAX),
            }
        }
        // A limit that changes nothing passes by rank too, as in Redis.
        let limited = options.limit.is_some_and(|(_, count)| count != -1);
        if limited && !options.form.by_score {
            return Err(Fault::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        Ok(options)
    }
}

fn range(db: &mut Keyspace, args: &[Vec<u8>], form: Form) -> Answer {
    let options = Options::parse(&args[4..], form)?;
    let mut found = match options.form.by_score {
        true => by_score(db, args, options.form.reverse)?,
        false => by_rank(db, args, options.form.reverse)?,
    };
    if options.form.by_score
        && let Some((offset, count)) = options.limit
    {
        found.drain(..usize::try_from(offset).unwrap_or(usize::MAX).min(found.len()));
        found.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    }
    if options.with_scores {
        return Ok(Reply::Scored(found));
    }
    Ok(Reply::array(found.into_iter().map(|(member, _)| member)))
}

fn by_rank(db: &Keyspace, args: &[Vec<u8>], reverse: bool) -> Result<Vec<(Vec<u8>, f64)>, Fault> {
    let (start, stop) = (int_arg(&args[2])?, int_arg(&args[3])?);
    let Some(set) = db.read::<SortedSet>(&args[1])? else { return Ok(Vec::new()) };
    let len = set.len();
    let ranks = index_range(start, stop, len);
    if !reverse {
        return Ok(set.slice(ranks));
    }
    let mut found = set.slice(len - ranks.end..len - ranks.start);
    found.reverse();
    Ok(found)
}

fn by_score(db: &Keyspace, args: &[Vec<u8>], reverse: bool) -> Result<Vec<(Vec<u8>, f64)>, Fault> {
    let (min, max) = if reverse { (&args[3], &args[2]) } else { (&args[2], &args[3]) };
    let bounds = bounds(min, max)?;
    let Some(set) = db.read::<SortedSet>(&args[1])? else { return Ok(Vec::new()) };
    let mut found = set.slice(set.ranks_within(bounds));
    if reverse {
        found.reverse();
    }
    Ok(found)
}

/// Two ends of a range of scores.
pub(super) fn bounds(min: &[u8], max: &[u8]) -> Result<Bounds, Fault> {
    let both = Bound::parse(min).zip(Bound::parse(max));
    let (min, max) = both.ok_or(Fault::fixed("ERR min or max is not a float"))?;
    Ok(Bounds { min, max })
}

fn zcount(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let bounds = bounds(&args[2], &args[3])?;
    Ok(Reply::count(db.read::<SortedSet>(&args[1])?.map_or(0, |set| set.ranks_within(bounds).len())))
}
