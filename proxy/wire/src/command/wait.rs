//! Commands that wait for a key: for which, and how long. In a transaction a server does not let them wait, and answers at
//! once; so they are entries as they are, and the waiting is the sequencer's.

use super::keys::stream_options;
use super::token::integer;
use super::{Command, Waits, key_hash, keys};
use crate::resp::{Args, encode};
use bytes::Bytes;
use quorate_core::ordered::{Awaited, Block};

/// What a server says in a transaction when nothing is there.
const EMPTY: &[&[u8]] = &[b"*-1\r\n", b"$-1\r\n", b"_\r\n"];

/// How this command waits, as of `now_us`; `None` where the server says what is wrong with its time or
/// its keys, and does not wait.
pub fn block(command: &Command, waits: Waits, args: Args, now_us: u64, dialect: u8) -> Option<Block> {
    let until_us = match waits {
        Waits::Stream | Waits::StreamGroup => {
            let blocks = stream_options(command, args).blocks;
            let mut times = blocks.iter().map(|at| milliseconds(args.get(at + 1)?));
            times.try_fold(None, |_, time| time)?
        }
        Waits::List | Waits::SortedSet => {
            let at = if matches!(command.name, "blmpop" | "bzmpop") { 1 } else { args.len() - 1 };
            seconds(args.get(at)?)?
        }
    };
    let until_us = until_us.map(|us| now_us.saturating_add(us));
    let mut awaited = Vec::new();
    keys(command, args, &mut |key| awaited.push(key_hash(key)));
    if awaited.is_empty() {
        return None;
    }
    // Nobody waits for the key that something is moved to.
    if matches!(command.name, "blmove" | "brpoplpush") {
        awaited.truncate(1);
    }
    let what = kind(command, waits, args);
    let key = |hash: u64| Awaited { bucket: hash as u16, identity: hash ^ what };
    let mut keys: Vec<Awaited> = awaited.into_iter().map(key).collect();
    keys.sort();
    keys.dedup();
    let late = if dialect == 3 { Bytes::from_static(b"_\r\n") } else { Bytes::from_static(b"*-1\r\n") };
    Some(Block { keys, until_us, empty: EMPTY, late, shares: waits == Waits::Stream })
}

/// Tells apart those who wait at one key for different things. Those of another group of a stream take nothing
/// from each other.
fn kind(command: &Command, waits: Waits, args: Args) -> u64 {
    let group = || stream_options(command, args).group.and_then(|at| args.get(at + 1)).map_or(0, key_hash);
    match waits {
        Waits::List => 0,
        Waits::SortedSet => 1 << 63,
        Waits::Stream => 1 << 62,
        Waits::StreamGroup => group() | 3 << 62,
    }
}

/// Which of the arguments of `XREAD` stand for the last id that their stream has now, and the keys of these.
pub fn latest(command: &Command, args: Args) -> Vec<(usize, usize)> {
    let Some(streams) = stream_options(command, args).streams else { return Vec::new() };
    let count = (args.len() - streams - 1) / 2;
    let ids = args.len() - count..args.len();
    ids.filter(|at| args.get(*at).is_some_and(|id| id == b"$")).map(|at| (at, at - count)).collect()
}

/// The command as one that does not wait, with other words in these places.
pub fn at_once(command: &Command, args: Args, instead: &[(usize, Bytes)]) -> Bytes {
    let blocks = stream_options(command, args).blocks;
    let waits = |at: usize| blocks.iter().any(|block| at == *block || at == block + 1);
    let kept = (0..args.len()).filter(|at| !waits(*at));
    let other = |at: usize| instead.iter().find(|(place, _)| *place == at).map(|(_, word)| word.as_ref());
    let words: Vec<&[u8]> = kept.map(|at| other(at).unwrap_or(&args[at])).collect();
    encode::command_bytes(&words)
}

/// The last id that a stream ever had, from the reply to `XINFO STREAM`. What is no stream has none.
pub fn last_id(reply: &Bytes) -> Bytes {
    // The same words stand in both protocol versions; the name is a bulk string, and so is what follows.
    const NAME: &[u8] = b"$17\r\nlast-generated-id\r\n";
    let found = memchr::memmem::find(reply, NAME).and_then(|at| {
        let rest = &reply[at + NAME.len()..];
        let begin = memchr::memchr(b'\n', rest)? + 1;
        let end = begin + memchr::memchr(b'\r', &rest[begin..])?;
        Some(Bytes::copy_from_slice(&rest[begin..end]))
    });
    found.unwrap_or_else(|| Bytes::from_static(b"0-0"))
}

/// Microseconds; none for ever. What would end only after all clocks is for ever.
fn milliseconds(text: &[u8]) -> Option<Option<u64>> {
    let ms = u64::try_from(integer(text)?).ok()?;
    Some((ms > 0).then(|| ms.saturating_mul(1000)).filter(|us| *us < u64::MAX))
}

/// Microseconds, of a time that a server would take; none for ever.
fn seconds(text: &[u8]) -> Option<Option<u64>> {
    const LONGEST: f64 = 9e15;
    let seconds: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if !seconds.is_finite() || !(0.0..LONGEST).contains(&seconds) {
        return None;
    }
    // Milliseconds, begun ones as whole ones, as servers count.
    Some((seconds > 0.0).then(|| ((seconds * 1000.0).ceil() as u64).saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Decoder, Limits, encode};

    fn of(line: &str) -> Option<Block> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let bytes = encode::command_bytes(&words);
        let mut decoder = Decoder::default();
        decoder.next(&bytes, &Limits::default()).expect("valid");
        let args = Args::new(&bytes, decoder.spans());
        let command = super::super::resolve(args).expect("known");
        let super::super::Carry::Waits(waits) = super::super::classify(command, args) else {
            panic!("{line}")
        };
        block(command, waits, args, 5_000_000, 2)
    }

    #[test]
    fn times_are_those_of_servers() {
        let until = |line: &str| of(line).map(|block| block.until_us);
        assert_eq!(until("BLPOP k 0"), Some(None));
        assert_eq!(until("BLPOP k 1.5"), Some(Some(6_500_000)));
        assert_eq!(until("BLPOP k 0.0001"), Some(Some(5_001_000)));
        assert_eq!(until("BLMPOP 2 1 k LEFT"), Some(Some(7_000_000)));
        assert_eq!(until("BLPOP k 18691697672192"), Some(Some(u64::MAX)), "not soon");
        for wrong in ["-1", "x", "nan", "inf", "1e400", "9e30"] {
            assert_eq!(until(&format!("BRPOP k {wrong}")), None, "{wrong}");
        }
    }

    #[test]
    fn no_read_of_a_stream_waits_at_a_server() {
        let line = "XREAD BLOCK 0 COUNT 1 block 7000 STREAMS BLOCK 0";
        assert_eq!(of(line).expect("it waits").until_us, Some(5_000_000 + 7_000_000), "the last one counts");
        for (line, waits) in [
            ("XREAD BLOCK 9223372036854775807 STREAMS s $", true),
            ("XREAD BLOCK 0 BLOCK x STREAMS s $", false),
            ("XREAD BLOCK -1 BLOCK 5 STREAMS s $", false),
        ] {
            assert_eq!(of(line).is_some(), waits, "{line}");
        }
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let bytes = encode::command_bytes(&words);
        let mut decoder = Decoder::default();
        decoder.next(&bytes, &Limits::default()).expect("valid");
        let args = Args::new(&bytes, decoder.spans());
        let command = super::super::resolve(args).expect("known");
        let expected = encode::command_bytes(&[b"XREAD", b"COUNT", b"1", b"STREAMS", b"BLOCK", b"0"]);
        assert_eq!(at_once(command, args, &[]), expected);
    }

    #[test]
    fn keys_are_told_apart_by_what_is_waited_for() {
        let keys = |line: &str| of(line).expect("it waits").keys;
        assert_eq!(keys("BLPOP a b a 0").len(), 2);
        assert_eq!(keys("BLMOVE a b LEFT RIGHT 0"), keys("BLMPOP 0 1 a LEFT"));
        assert_ne!(keys("BLPOP a 0"), keys("BZPOPMIN a 0"));
        assert_eq!(keys("BLPOP a 0")[0].bucket, keys("BZPOPMIN a 0")[0].bucket);
    }
}
