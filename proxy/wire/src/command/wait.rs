//! Commands that wait for a key: for which, and how long. In a transaction a server does not let them wait, and answers at
//! once; so they are entries as they are, and the waiting is the sequencer's.

use super::{Command, Waits, key_hash, keys};
use crate::resp::Args;
use bytes::Bytes;
use quorate_core::ordered::{Awaited, Block};

/// What a server says in a transaction when nothing is there.
const EMPTY: &[&[u8]] = &[b"*-1\r\n", b"$-1\r\n", b"_\r\n"];

/// How this command waits, as of `now_us`; `None` where the server says what is wrong with its time.
pub fn block(command: &Command, waits: Waits, args: Args, now_us: u64, dialect: u8) -> Option<Block> {
    let time = match command.name {
        "blmpop" | "bzmpop" => args.get(1),
        _ => args.get(args.len() - 1),
    };
    let until_us = match seconds(time?)? {
        0.0 => None,
        // Milliseconds, begun ones as whole ones, as servers count.
        seconds => Some(now_us.saturating_add((seconds * 1000.0).ceil() as u64 * 1000)),
    };
    let mut awaited = Vec::new();
    keys(command, args, &mut |key| awaited.push(key_hash(key)));
    // Nobody waits for the key that something is moved to.
    if matches!(command.name, "blmove" | "brpoplpush") {
        awaited.truncate(1);
    }
    let key = |hash: u64| Awaited { bucket: hash as u16, identity: hash ^ (waits as u64) << 63 };
    let mut keys: Vec<Awaited> = awaited.into_iter().map(key).collect();
    keys.sort();
    keys.dedup();
    let late = if dialect == 3 { Bytes::from_static(b"_\r\n") } else { Bytes::from_static(b"*-1\r\n") };
    Some(Block { keys, until_us, empty: EMPTY, late })
}

/// A time that a server would take.
fn seconds(text: &[u8]) -> Option<f64> {
    const LONGEST: f64 = 9e15;
    let seconds: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (seconds.is_finite() && (0.0..LONGEST).contains(&seconds)).then_some(seconds)
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
        let super::super::Carry::Waits(waits) = command.carry else { panic!("{line}") };
        block(command, waits, args, 5_000_000, 2)
    }

    #[test]
    fn times_are_those_of_servers() {
        let until = |line: &str| of(line).map(|block| block.until_us);
        assert_eq!(until("BLPOP k 0"), Some(None));
        assert_eq!(until("BLPOP k 1.5"), Some(Some(6_500_000)));
        assert_eq!(until("BLPOP k 0.0001"), Some(Some(5_001_000)));
        assert_eq!(until("BLMPOP 2 1 k LEFT"), Some(Some(7_000_000)));
        for wrong in ["-1", "x", "nan", "inf", "1e400", "9e30"] {
            assert_eq!(until(&format!("BRPOP k {wrong}")), None, "{wrong}");
        }
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
