//! The scripts that a proxy sends: one ends keys that are past the deadline that their values carry, one brings
//! deadlines forward that were set back, one empties the database but for some keys, one copies keys. What they do is written here
//! anew, from its description; no other is known.

use super::keyspace::Keyspace;
use super::number::int_arg;
use super::reply::{Answer, Fault, Reply};
use super::table::flag::NOSCRIPT;
use super::table::{Command, data};
use super::value::Value;

pub(super) const COMMANDS: &[Command] = &[data("eval", -3, NOSCRIPT, (0, 0, 0), eval)];

/// How far proxies set deadlines back, in milliseconds.
const BACK: i64 = 4_503_599_627_370_496;
/// What is less beyond that is no deadline that was set back: the beginning of the year 2020.
const LEAST: i64 = 1_577_836_800_000;

fn eval(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let count = usize::try_from(int_arg(&args[2])?).unwrap_or(usize::MAX);
    if args[1].starts_with(b"local function empties(keys)") {
        return Ok(empty(db, &args[3..]));
    }
    if is_put(args) {
        return put(db, &args[3..], count);
    }
    if args[1].starts_with(b"local n=0 for i,key in ipairs(KEYS)") && args.len() == count.saturating_add(3) {
        return Ok(Reply::count(args[3..].iter().filter(|key| release(db, key)).count()));
    }
    if !args[1].starts_with(b"local function ends(keys,now)") {
        return Err(Fault::fixed("ERR this store runs no scripts but that of a proxy"));
    }
    let Some((now, keys)) = args[3..].split_last().filter(|(_, keys)| keys.len() == count) else {
        return Err(Fault::fixed("ERR the script takes its keys and a time"));
    };
    let now = int_arg(now)?;
    Ok(Reply::Array(keys.iter().map(|key| Reply::Int(end(db, key, now))).collect()))
}

/// Is this the script that makes keys what they were elsewhere? It needs memory, as `RESTORE` does.
pub(super) fn is_put(args: &[Vec<u8>]) -> bool {
    args.get(1).is_some_and(|script| script.starts_with(b"local puts=#KEYS-3"))
}

/// The last three keys are the position and the marks of half a copy and of a trial; the first word is the position,
/// and two follow for each other key: its deadline, empty for none to restore, and what DUMP said.
fn put(db: &mut Keyspace, words: &[Vec<u8>], count: usize) -> Answer {
    let wrong = || Fault::fixed("ERR the script takes its keys, and two words for each but three");
    let (keys, words) = words.split_at_checked(count).ok_or_else(wrong)?;
    let (at, words) = words.split_first().ok_or_else(wrong)?;
    let [puts @ .., position, partial, trial] = keys else { return Err(wrong()) };
    if words.len() != 2 * puts.len() {
        return Err(wrong());
    }
    for (i, (key, word)) in puts.iter().zip(words.chunks(2)).enumerate() {
        if word[0].is_empty() {
            db.remove(key);
            continue;
        }
        let options = [b"REPLACE".to_vec(), b"ABSTTL".to_vec()];
        let restore = [b"RESTORE".to_vec(), key.clone(), word[0].clone(), word[1].clone()];
        if let Err(fault) = super::dump::restore(db, &[&restore[..], &options[..]].concat()) {
            if i > 0 {
                db.put(partial, Value::Text(b"1".to_vec()));
            }
            return Err(fault);
        }
    }
    db.put(position, Value::Text(at.clone()));
    db.remove(partial);
    db.remove(trial);
    Ok(Reply::OK)
}

fn empty(db: &mut Keyspace, keep: &[Vec<u8>]) -> Reply {
    let kept: Vec<_> = keep.iter().map(|key| (key, db.value(key).cloned())).collect();
    db.clear();
    for (key, value) in kept {
        if let Some(value) = value {
            db.put(key, value);
        }
    }
    Reply::OK
}

/// The deadline of a key that is left, -1 for none, -2 for no key.
fn end(db: &mut Keyspace, key: &[u8], now: i64) -> i64 {
    let Some(kept) = db.deadline_ms(key).map(|kept| kept as i64) else {
        return if db.contains(key) { -1 } else { -2 };
    };
    let at = match kept {
        ..BACK => kept,
        _ if kept - BACK >= LEAST => kept - BACK,
        _ => return -1,
    };
    if at <= now {
        db.remove(key);
        return -2;
    }
    if kept < BACK {
        db.set_deadline(key, Some((kept + BACK) as u64));
        db.changed(key, 1);
    }
    at
}

/// Brings the deadline of a key forward, if it was set back.
fn release(db: &mut Keyspace, key: &[u8]) -> bool {
    let kept = db.deadline_ms(key).map_or(0, |kept| kept as i64);
    let was_set_back = kept >= BACK + LEAST;
    if was_set_back {
        db.set_deadline(key, Some((kept - BACK) as u64));
        db.changed(key, 1);
    }
    was_set_back
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::value::Value;

    fn run(db: &mut Keyspace, words: &[&str]) -> Answer {
        let args: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        eval(db, &args)
    }

    #[test]
    fn keys_end_by_their_deadline_and_not_by_the_clock() {
        let mut db = Keyspace::default();
        let now = 1_700_000_000_000_i64;
        db.set_now(1_600_000_000_000);
        for (key, at) in [("old", now - 1), ("set", now + BACK), ("new", now + 1), ("late", now + 1 + BACK)] {
            db.put(key.as_bytes(), Value::Text(Vec::new()));
            db.set_deadline(key.as_bytes(), Some(at as u64));
        }
        db.put(b"none", Value::Text(Vec::new()));
        let time = now.to_string();
        let script = "local function ends(keys,now) and so on";
        let words = ["EVAL", script, "6", "old", "set", "new", "late", "none", "gone", &time];
        let left = [-2, -2, now + 1, now + 1, -1, -2].map(Reply::Int).to_vec();
        assert_eq!(run(&mut db, &words), Ok(Reply::Array(left)));
        assert!(!db.contains(b"old") && !db.contains(b"set") && db.contains(b"late"));
        assert_eq!(db.deadline_ms(b"new"), Some((now + 1 + BACK) as u64), "set back now");
    }

    #[test]
    fn what_is_kept_survives_emptying() {
        let mut db = Keyspace::default();
        for key in ["ours", "theirs"] {
            db.put(key.as_bytes(), Value::Text(b"1".to_vec()));
        }
        let script = "local function empties(keys) and so on";
        assert_eq!(run(&mut db, &["EVAL", script, "2", "ours", "none"]), Ok(Reply::OK));
        assert_eq!(db.keys().collect::<Vec<_>>(), [b"ours"]);
    }

    #[test]
    fn other_scripts_are_not_run() {
        let mut db = Keyspace::default();
        assert!(run(&mut db, &["EVAL", "return 1", "0"]).is_err());
        assert!(run(&mut db, &["EVAL", "local function ends(keys,now) x", "2", "a", "1"]).is_err());
    }
}
