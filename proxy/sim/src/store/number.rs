//! Numbers as Redis reads and writes them: strict integers, scores printed with 17 digits.
//! It never accepts what a Redis server would refuse.

use super::reply::Fault;

/// A decimal integer in its only canonical form: no plus sign, no blanks, no leading zeros.
pub(super) fn integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let negative = digits.len() != bytes.len();
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The integer of an argument, or the usual error.
pub(super) fn int_arg(bytes: &[u8]) -> Result<i64, Fault> {
    integer(bytes).ok_or(Fault::NOT_INTEGER)
}

/// A floating point number that is not NaN; infinities are allowed.
pub(super) fn float(bytes: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let finite_or_named = |d: &f64| !d.is_nan() && (d.is_finite() || names_infinity(text));
    text.parse().ok().filter(finite_or_named)
}

fn names_infinity(text: &str) -> bool {
    text.trim_start_matches(['+', '-']).starts_with(['i', 'I'])
}

/// The float of an argument, or the usual error.
pub(super) fn float_arg(bytes: &[u8]) -> Result<f64, Fault> {
    float(bytes).ok_or(Fault::NOT_FLOAT)
}

/// A score as C's `%.17g` writes it.
pub(super) fn format_score(d: f64) -> String {
    const DIGITS: i32 = 17;
    if d.is_infinite() {
        return if d > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{d:.*e}", (DIGITS - 1) as usize);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent) as usize;
        return trim_zeros(&format!("{d:.decimals$}")).to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.abs())
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// Turns Redis's inclusive, possibly negative bounds into a range of existing indices.
pub(super) fn index_range(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let from_end = |i: i64| if i < 0 { i.saturating_add(len) } else { i };
    let first = from_end(start).max(0);
    let last = from_end(stop).min(len - 1);
    if first > last { 0..0 } else { first as usize..last as usize + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_spelling() {
        for (text, value) in [("0", Some(0)), ("-5", Some(-5)), ("9223372036854775807", Some(i64::MAX))] {
            assert_eq!(integer(text.as_bytes()), value);
        }
        for text in ["", "-", "+1", "01", "-0", " 1", "1 ", "9223372036854775808", "1.0"] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn scores_print_like_printf() {
        let cases = [
            (0.1, "0.10000000000000001"),
            (3.0, "3"),
            (-0.0, "-0"),
            (1e17, "1e+17"),
            (1.5e-7, "1.4999999999999999e-07"),
            (123456789.25, "123456789.25"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in cases {
            assert_eq!(format_score(value), text);
        }
    }

    #[test]
    fn floats_refuse_nan_and_overflow() {
        assert_eq!(float(b"nan"), None);
        assert_eq!(float(b"1e999"), None);
        assert_eq!(float(b"-inf"), Some(f64::NEG_INFINITY));
        assert_eq!(float(b""), None);
    }

    #[test]
    fn ranges_are_clamped_to_what_exists() {
        assert_eq!(index_range(0, -1, 3), 0..3);
        assert_eq!(index_range(-2, 100, 3), 1..3);
        assert_eq!(index_range(2, 1, 3), 0..0);
        assert_eq!(index_range(i64::MIN, i64::MAX, 3), 0..3);
        assert_eq!(index_range(0, -1, 0), 0..0);
    }
}
