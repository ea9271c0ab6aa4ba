//! Deadlines as the backends keep them: set back by a constant, so that no backend ever acts on one, and the
//! script by which a key ends when its owner says so.
//!
//! A deadline from before Quorate was there is not set back. The two are told apart by their size, and the
//! script sets back what it meets.

use super::encode;
use super::value::Value;
use crate::command::TimeLeft;
use bytes::{Bytes, BytesMut};

/// By so many milliseconds: 142,000 years. A power of two small enough that a script's numbers stay exact.
const BACK: i64 = 1 << 52;
/// Nobody sets a deadline before 2020 today, so less than this beyond [`BACK`] is no deadline that was set back.
const LEAST: i64 = 1_577_836_800_000;

/// A deadline, in milliseconds since 1970, as the backends keep it.
pub fn set_back(deadline: i64) -> i64 {
    deadline.saturating_add(BACK)
}

/// A deadline as a backend says it. `None` for one so far in the future that no clock reaches it.
pub fn brought_forward(kept: i64) -> Option<i64> {
    match kept {
        ..BACK => Some(kept),
        _ if kept - BACK >= LEAST => Some(kept - BACK),
        _ => None,
    }
}

macro_rules! ends {
    () => {
        "local function ends(keys,now) local left={} \
for i,key in ipairs(keys) do local at=redis.call('PEXPIRETIME',key) \
if at>=4505177464170496 then at=at-4503599627370496 \
elseif at>=4503599627370496 then at=-1 \
elseif at>now then redis.call('PEXPIREAT',key,string.format('%.0f',at+4503599627370496)) end \
if at>=0 and at<=now then redis.call('UNLINK',key) at=-2 end \
left[i]=at end return left end "
    };
}

/// Ends those of `keys` that are past their deadlines at `now`, as a function of Lua: gives the deadlines of the
/// others, -1 for none, -2 for a key that is gone. It depends on the data alone.
pub(super) const ENDS: &str = ends!();

/// What [`check`] runs.
pub const CHECK: &str = concat!(ends!(), "return ends(KEYS,tonumber(ARGV[1]))");

/// Brings the deadlines of its keys forward again, so that a backend acts on them itself; how many there were.
pub const RELEASE: &str = "local n=0 for i,key in ipairs(KEYS) do local at=redis.call('PEXPIRETIME',key) \
if at>=4505177464170496 then \
redis.call('PEXPIREAT',key,string.format('%.0f',at-4503599627370496)) n=n+1 end end return n";

/// The command that ends those of `keys` whose deadline is `now`, in milliseconds since 1970, or earlier.
pub fn check(keys: &[Bytes], now: u64) -> Bytes {
    let mut out =
        BytesMut::with_capacity(CHECK.len() + 64 + keys.iter().map(|key| key.len() + 16).sum::<usize>());
    let (count, now) = (keys.len().to_string(), now.to_string());
    let head = [&b"EVAL"[..], CHECK.as_bytes(), count.as_bytes()];
    let words = head.into_iter().chain(keys.iter().map(AsRef::as_ref)).chain([now.as_bytes()]);
    encode::command(words.collect::<Vec<_>>(), &mut out);
    out.freeze()
}

/// From the answer to [`check`] of so many keys: the deadlines of those that are left and have one.
pub fn checked(answer: &Bytes, keys: usize) -> Option<Vec<Option<u64>>> {
    let all = Value::parse_all(answer)?;
    let [Value::Array(left)] = all.as_slice() else { return None };
    let deadline = |value: &Value| match value {
        Value::Integer(at) => Some(u64::try_from(*at).ok()),
        _ => None,
    };
    let left: Option<Vec<_>> = left.iter().map(deadline).collect();
    left.filter(|left| left.len() == keys)
}

/// What a client reads who asked for a deadline, from a backend's answer to `PEXPIRETIME`. `now` in milliseconds
/// since 1970. Errors pass as they are.
pub fn time_left(kind: TimeLeft, answer: &Bytes, now: u64) -> Bytes {
    let number = answer.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b"\r\n"));
    let kept = number.and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    let Some(kept) = kept else { return answer.clone() };
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let shown = match brought_forward(kept) {
        Some(none @ ..0) => none,
        None => -1,
        // It ended between the question and the answer.
        Some(at) if at < now => -2,
        Some(at) => match kind {
            TimeLeft::PexpireTime => at,
            TimeLeft::ExpireTime => at.saturating_add(500) / 1000,
            TimeLeft::Pttl => at - now,
            TimeLeft::Ttl => (at - now).saturating_add(500) / 1000,
        },
    };
    Bytes::from(format!(":{shown}\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_in_the_script_are_those_here() {
        assert!(ENDS.contains(&format!("at>={} then at=at-{BACK} ", BACK + LEAST)));
        assert!(ENDS.contains(&format!("elseif at>={BACK} ")) && ENDS.contains(&format!("at+{BACK})")));
        assert!(
            RELEASE.contains(&format!("at>={} then ", BACK + LEAST))
                && RELEASE.contains(&format!("at-{BACK})"))
        );
        assert!(CHECK.ends_with("end return ends(KEYS,tonumber(ARGV[1]))"));
        const { assert!(BACK + 253_402_300_800_000 < 1 << 53, "exact in a script until the year 10000") };
    }

    #[test]
    fn deadlines_come_back_as_they_were_given() {
        for at in [LEAST, 1_800_000_000_000, 253_402_300_800_000, i64::MAX - BACK] {
            assert_eq!(brought_forward(set_back(at)), Some(at));
            assert_eq!(brought_forward(at.min(BACK - 1)), Some(at.min(BACK - 1)), "from before");
        }
        assert_eq!(brought_forward(BACK + 5), None, "from before, and beyond every clock");
    }

    #[test]
    fn clients_read_what_redis_would_say() {
        let now = 1_800_000_000_000;
        let shown = |kind, kept: i64| {
            let reply = time_left(kind, &Bytes::from(format!(":{kept}\r\n")), now as u64);
            String::from_utf8_lossy(&reply).trim_matches([':', '\r', '\n']).parse::<i64>().expect("a number")
        };
        for none in [-1, -2] {
            assert_eq!(shown(TimeLeft::Ttl, none), none);
        }
        assert_eq!(shown(TimeLeft::Ttl, set_back(now + 1500)), 2);
        assert_eq!(shown(TimeLeft::Ttl, set_back(now + 1499)), 1);
        assert_eq!(shown(TimeLeft::Pttl, set_back(now + 1499)), 1499);
        assert_eq!(shown(TimeLeft::ExpireTime, set_back(now + 400)), now / 1000);
        assert_eq!(shown(TimeLeft::PexpireTime, now + 1), now + 1, "not set back yet");
        assert_eq!(shown(TimeLeft::Pttl, set_back(now)), 0);
        assert_eq!(shown(TimeLeft::Pttl, set_back(now - 1)), -2);
        let error = Bytes::from_static(b"-LOADING x\r\n");
        assert_eq!(time_left(TimeLeft::Ttl, &error, 5), error);
    }

    #[test]
    fn a_check_names_its_keys_and_its_answer_is_read() {
        let keys = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let text = String::from_utf8_lossy(&check(&keys, 77)).into_owned();
        assert!(text.ends_with("$1\r\n2\r\n$1\r\na\r\n$1\r\nb\r\n$2\r\n77\r\n"), "{text}");
        let read = |text: &'static str| checked(&Bytes::from_static(text.as_bytes()), 2);
        assert_eq!(read("*2\r\n:-2\r\n:90\r\n"), Some(vec![None, Some(90)]));
        assert_eq!(read("*1\r\n:-2\r\n"), None);
        assert_eq!(read("-ERR x\r\n"), None);
    }
}
