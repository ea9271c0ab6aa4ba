//! Strings: reading, measuring, appending, cutting.
//! Writing whole values is in `strings_set`, arithmetic in `counters`.

use super::keyspace::Keyspace;
use super::number::int_arg;
use super::reply::{Answer, Fault, Reply};
use super::table::flag::{READ, READ_FAST, WRITE_FAST, WRITE_OOM, WRITE_OOM_FAST};
use super::table::{ALL, Command, ONE, data};
use super::value::{Kind, Text, Value};

pub(super) const COMMANDS: &[Command] = &[
    data("get", 2, READ_FAST, ONE, get),
    data("mget", -2, READ_FAST, ALL, mget),
    data("strlen", 2, READ_FAST, ONE, strlen),
    data("getrange", 4, READ, ONE, getrange),
    data("substr", 4, READ, ONE, getrange),
    data("getdel", 2, WRITE_FAST, ONE, getdel),
    data("append", 3, WRITE_OOM_FAST, ONE, append),
    data("setrange", 4, WRITE_OOM, ONE, setrange),
];

/// Redis refuses strings longer than this.
pub(super) const MAX_LEN: usize = 512 * 1024 * 1024;
const TOO_LONG: Fault = Fault::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

pub(super) fn get(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::bulk_or_null(db.read::<Text>(&args[1])?))
}

fn mget(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let text = |key: &Vec<u8>| Reply::bulk_or_null(db.value(key).and_then(Text::of));
    Ok(Reply::Array(args[1..].iter().map(text).collect()))
}

fn strlen(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    Ok(Reply::count(db.read::<Text>(&args[1])?.map_or(0, Vec::len)))
}

fn getdel(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let reply = get(db, args)?;
    db.remove(&args[1]);
    Ok(reply)
}

fn getrange(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let (start, end) = (int_arg(&args[2])?, int_arg(&args[3])?);
    let text = db.read::<Text>(&args[1])?.map_or(&[][..], Vec::as_slice);
    Ok(Reply::bulk(&text[byte_range(start, end, text.len())]))
}

/// The bounds of GETRANGE and BITCOUNT: an end before the start of the string means its first byte.
pub(super) fn byte_range(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let len = len as i64;
    let from_end = |i: i64| if i < 0 { i.saturating_add(len).max(0) } else { i };
    let (first, last) = (from_end(start), from_end(end).min(len - 1));
    if first > last { 0..0 } else { first as usize..last as usize + 1 }
}

fn append(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    if db.read::<Text>(&args[1])?.map_or(0, Vec::len) + args[2].len() > MAX_LEN {
        return Err(TOO_LONG);
    }
    let text = db.make::<Text>(&args[1])?;
    text.extend_from_slice(&args[2]);
    let len = text.len();
    db.changed(&args[1], 1);
    Ok(Reply::count(len))
}

fn setrange(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let offset =
        usize::try_from(int_arg(&args[2])?).map_err(|_| Fault::fixed("ERR offset is out of range"))?;
    let part = &args[3];
    let old_len = db.read::<Text>(&args[1])?.map_or(0, Vec::len);
    if part.is_empty() {
        return Ok(Reply::count(old_len));
    }
    let end = offset.checked_add(part.len()).filter(|end| *end <= MAX_LEN).ok_or(TOO_LONG)?;
    let text = db.make::<Text>(&args[1])?;
    text.resize(old_len.max(end), 0);
    text[offset..end].copy_from_slice(part);
    let len = text.len();
    db.changed(&args[1], 1);
    Ok(Reply::count(len))
}

/// Stores a string, dropping any deadline.
pub(super) fn put(db: &mut Keyspace, key: &[u8], text: &[u8]) {
    db.put(key, Value::Text(text.to_vec()));
}

#[cfg(test)]
mod tests {
    use super::byte_range;

    #[test]
    fn byte_ranges_have_redis_quirks() {
        assert_eq!(byte_range(0, -10, 3), 0..1);
        assert_eq!(byte_range(-1, -5, 3), 0..0);
        assert_eq!(byte_range(-2, -1, 3), 1..3);
        assert_eq!(byte_range(5, 9, 3), 0..0);
        assert_eq!(byte_range(0, -1, 0), 0..0);
    }
}
