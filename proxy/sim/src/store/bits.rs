//! SETBIT, GETBIT, BITCOUNT. Bit 0 is the highest bit of the first byte.
//! A string never grows past Redis's limit.

use super::keyspace::Keyspace;
use super::number::{int_arg, integer};
use super::reply::{Answer, Fault, Reply};
use super::strings::{MAX_LEN, byte_range};
use super::table::flag::{READ, READ_FAST, WRITE_OOM};
use super::table::{Command, ONE, data};
use super::value::Text;

pub(super) const COMMANDS: &[Command] = &[
    data("setbit", 4, WRITE_OOM, ONE, setbit),
    data("getbit", 3, READ_FAST, ONE, getbit),
    data("bitcount", -2, READ, ONE, bitcount),
];

fn offset(arg: &[u8]) -> Result<usize, Fault> {
    let offset = integer(arg).and_then(|n| usize::try_from(n).ok()).filter(|n| n / 8 < MAX_LEN);
    offset.ok_or(Fault::fixed("ERR bit offset is not an integer or out of range"))
}

fn bit(text: &[u8], offset: usize) -> bool {
    text.get(offset / 8).is_some_and(|byte| byte & mask(offset) != 0)
}

fn mask(offset: usize) -> u8 {
    0x80 >> (offset % 8)
}

fn getbit(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let offset = offset(&args[2])?;
    Ok(Reply::flag(db.read::<Text>(&args[1])?.is_some_and(|text| bit(text, offset))))
}

fn setbit(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let offset = offset(&args[2])?;
    let on = match args[3].as_slice() {
        b"0" => false,
        b"1" => true,
        _ => return Err(Fault::fixed("ERR bit is not an integer or out of range")),
    };
    let text = db.make::<Text>(&args[1])?;
    let old = bit(text, offset);
    text.resize(text.len().max(offset / 8 + 1), 0);
    text[offset / 8] = if on { text[offset / 8] | mask(offset) } else { text[offset / 8] & !mask(offset) };
    db.changed(&args[1], 1);
    Ok(Reply::flag(old))
}

fn bitcount(db: &mut Keyspace, args: &[Vec<u8>]) -> Answer {
    let Some(text) = db.read::<Text>(&args[1])? else { return Ok(Reply::Int(0)) };
    let (bounds, unit) = match &args[2..] {
        [] => ((0, i64::MAX), None),
        [start, end] => ((int_arg(start)?, int_arg(end)?), None),
        [start, end, unit] => ((int_arg(start)?, int_arg(end)?), Some(unit.to_ascii_lowercase())),
        _ => return Err(Fault::SYNTAX),
    };
    if bounds.0 < 0 && bounds.1 < 0 && bounds.0 > bounds.1 {
        return Ok(Reply::Int(0));
    }
    let by_bit = match unit.as_deref() {
        None | Some(b"byte") => false,
        Some(b"bit") => true,
        Some(_) => return Err(Fault::SYNTAX),
    };
    let total = if by_bit { text.len() * 8 } else { text.len() };
    let range = byte_range(bounds.0, bounds.1, total);
    let ones = if by_bit {
        range.filter(|place| bit(text, *place)).count()
    } else {
        text[range].iter().map(|byte| byte.count_ones() as usize).sum()
    };
    Ok(Reply::count(ones))
}
