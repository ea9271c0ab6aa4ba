//! Durations and sizes as text with units. A bare number has no meaning here.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 7] = [
    ("us", 1),
    ("µs", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads `"250ms"`, `"2s"`, `"1.5h"`. Parts may follow each other: `"1m30s"`. The resolution is a microsecond.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".into());
    }
    let mut micros: u64 = 0;
    while !rest.is_empty() {
        let (part, after) = one_part(rest, &DURATION_UNITS, "us, ms, s, m, h or d")?;
        micros = micros.checked_add(part).ok_or("it is too long")?;
        rest = after;
    }
    Ok(Duration::from_micros(micros))
}

/// Reads `"16MiB"` (1024-based), `"1GB"` (1000-based), `"512KiB"`, in bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    match one_part(text.trim(), &SIZE_UNITS, "B, KiB, MiB, GiB, TiB, KB, MB, GB or TB")? {
        (bytes, "") => Ok(bytes),
        (_, rest) => Err(format!("'{rest}' follows the unit")),
    }
}

/// Writes a duration as [`parse_duration`] reads it, in the largest unit that fits exactly.
pub fn format_duration(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    match micros {
        0 => "0s".into(),
        _ => in_largest_unit(micros, &DURATION_UNITS),
    }
}

/// Writes a size as [`parse_size`] reads it, in the largest 1024-based unit that fits exactly.
pub fn format_size(bytes: u64) -> String {
    let binary: Vec<(&str, u64)> = SIZE_UNITS.into_iter().filter(|(_, n)| n.is_power_of_two()).collect();
    match bytes {
        0 => "0B".into(),
        _ => in_largest_unit(bytes, &binary),
    }
}

fn in_largest_unit(value: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().rfind(|(_, factor)| value.is_multiple_of(*factor));
    let (unit, factor) = fits.expect("the smallest factor is 1, which divides everything");
    format!("{}{unit}", value / factor)
}

/// A number, a unit, and what follows.
fn one_part<'a>(text: &'a str, units: &[(&str, u64)], known: &str) -> Result<(u64, &'a str), String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    if number.is_empty() {
        return Err("it does not start with a number".into());
    }
    let unit = unit.trim();
    if unit.is_empty() {
        return Err(format!("the unit is missing: {known}"));
    }
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let factor = factor.ok_or_else(|| format!("its unit is none of {known}"))?;
    Ok((scaled(number, factor)?, rest))
}

/// `number * factor`, exactly; at most nine digits after the point.
fn scaled(number: &str, factor: u64) -> Result<u64, String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.parse::<u64>().map_err(|_| "its number cannot be read".to_string());
    if fraction.len() > 9 {
        return Err("its number has too many digits".into());
    }
    let denominator = 10_u128.pow(fraction.len() as u32);
    let numerator = u128::from(digits(whole)?) * denominator + u128::from(digits(fraction)?);
    let product = numerator * u128::from(factor);
    if !product.is_multiple_of(denominator) {
        return Err("it is finer than the smallest unit".into());
    }
    u64::try_from(product / denominator).map_err(|_| "it is too large".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert!(parse_duration("250").is_err_and(|e| e.contains("unit is missing")));
        assert!(parse_duration("2 parsecs").is_err_and(|e| e.contains("none of")));
        for bad in ["", "s", "-1s", "1.s", "0.5us", "1e3s", "99999999999d", "1..2s", "1.0000000001s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_tell_1000_from_1024() {
        assert_eq!(parse_size("16MiB"), Ok(16 << 20));
        assert_eq!(parse_size("1GB"), Ok(1_000_000_000));
        assert_eq!(parse_size("0.5 KiB"), Ok(512));
        for bad in ["", "16", "16mib", "1GB2MB", "16 EiB", "20000000TiB", "0.3B"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for micros in [0, 1, 1_500, 60_000_000, 90_000_000, 86_400_000_000] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1000, 1024, 512 << 20] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
        assert_eq!(format_size(256 << 20), "256MiB");
    }
}
