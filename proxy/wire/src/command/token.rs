//! Words and numbers in arguments, read exactly as the servers read them. A reading more lenient
//! or stricter than theirs would let a relative time through.

/// What C reads of an argument: it ends at the first NUL.
pub(super) fn word(arg: &[u8]) -> &[u8] {
    memchr::memchr(0, arg).map_or(arg, |end| &arg[..end])
}

/// Is the argument this option, in any case? Servers compare C strings, so `EX\0junk` is `EX`.
/// Looks no further than the option is long, since values may be huge.
pub fn is(arg: &[u8], option: &str) -> bool {
    let (head, rest) = arg.split_at(arg.len().min(option.len()));
    head.eq_ignore_ascii_case(option.as_bytes()) && matches!(rest, [] | [0, ..])
}

/// Is the argument one of these options?
pub(super) fn is_any(arg: &[u8], options: &[&str]) -> bool {
    options.iter().any(|option| is(arg, option))
}

/// A number as `string2ll` of Redis reads it: no sign but `-`, no spaces, no leading zeros.
pub(super) fn integer(arg: &[u8]) -> Option<i64> {
    let digits = arg.strip_prefix(b"-").unwrap_or(arg);
    let canonical = match digits {
        [b'0'] => arg.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(arg).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_redis_reads_them() {
        for (text, value) in [("0", 0), ("-1", -1), ("10", 10), ("9223372036854775807", i64::MAX)] {
            assert_eq!(integer(text.as_bytes()), Some(value));
        }
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        for text in ["", "-", "-0", "+5", "05", " 5", "5 ", "5\0", "1e3", "9223372036854775808", "--1"] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_word_ends_at_a_nul() {
        assert!(is(b"ex\0junk", "EX") && is(b"Ex", "EX") && !is(b"EXA", "EX") && !is(b"E", "EX"));
    }
}
