//! Single values: words, numbers, durations, sizes, addresses, each with its bounds.

use super::super::address::Address;
use super::super::raw::{At, Size, Span, Word, Words};
use super::super::report::Problem;
use super::super::suggest::{brief, did_you_mean};
use super::super::units::{format_duration, format_size, parse_duration, parse_size};
use super::Check;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest time that any setting may name.
pub(super) const A_DAY: Duration = Duration::from_secs(86_400);

impl Check<'_> {
    /// The value of a word.
    pub(super) fn word<T: Words>(&mut self, key: &str, word: &At<Word<T>>) -> Option<T> {
        let text = word.value.0.as_str();
        if let Some((_, value)) = T::WORDS.iter().find(|(known, _)| *known == text) {
            return Some(*value);
        }
        let problem = match T::REFUSED.iter().find(|(refused, _)| *refused == text) {
            Some((_, why)) => {
                Problem::error("C009", format!("{key} \"{text}\" is not carried by this version")).help(*why)
            }
            None => {
                let known: Vec<&str> = T::WORDS.iter().map(|(known, _)| *known).collect();
                Problem::error("C008", format!("{key} cannot be '{}'", brief(text)))
                    .help(did_you_mean(text, &known))
            }
        };
        self.add(problem.at(word.place));
        None
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, key: &str, number: &At<i64>, bounds: RangeInclusive<i64>) -> Option<i64> {
        if bounds.contains(&number.value) {
            return Some(number.value);
        }
        let message = format!("{key} {} is out of bounds", number.value);
        let label = format!("{} to {}", bounds.start(), bounds.end());
        self.add(Problem::error("C012", message).at(number.place).label(label));
        None
    }

    /// A share of something: more than nothing, at most all.
    pub(super) fn share(&mut self, key: &str, share: &At<f64>) -> Option<f64> {
        if share.value > 0.0 && share.value <= 1.0 {
            return Some(share.value);
        }
        let message = format!("{key} {} is out of bounds", share.value);
        self.add(Problem::error("C012", message).at(share.place).label("above 0, at most 1"));
        None
    }

    /// A duration within bounds.
    pub(super) fn duration(
        &mut self,
        key: &str,
        text: &At<Span>,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let problem = match parse_duration(&text.value.0) {
            Ok(duration) if bounds.contains(&duration) => return Some(duration),
            Ok(duration) => {
                let (least, most) = (format_duration(*bounds.start()), format_duration(*bounds.end()));
                let message = format!("{key} {} is out of bounds", format_duration(duration));
                Problem::error("C010", message).label(format!("{least} to {most}"))
            }
            Err(why) => Problem::error("C010", format!("{key} is not a duration: {why}"))
                .help("a number and its unit, as in \"250ms\", \"2s\" or \"1m\""),
        };
        self.add(problem.at(text.place));
        None
    }

    /// A size in bytes within bounds.
    pub(super) fn size(&mut self, key: &str, text: &At<Size>, bounds: RangeInclusive<u64>) -> Option<u64> {
        let problem = match parse_size(&text.value.0) {
            Ok(size) if bounds.contains(&size) => return Some(size),
            Ok(size) => {
                let (least, most) = (format_size(*bounds.start()), format_size(*bounds.end()));
                let message = format!("{key} {} is out of bounds", format_size(size));
                Problem::error("C011", message).label(format!("{least} to {most}"))
            }
            Err(why) => Problem::error("C011", format!("{key} is not a size: {why}"))
                .help("a number and its unit, as in \"16MiB\", \"1GB\" or \"512KiB\""),
        };
        self.add(problem.at(text.place));
        None
    }

    /// An address to bind.
    pub(super) fn bind_address(&mut self, text: &At<String>) -> Option<Address> {
        self.address(text, Address::parse(&text.value))
    }

    /// An address to connect to, which needs a port and a single host.
    pub(super) fn peer_address(&mut self, text: &At<String>) -> Option<Address> {
        let parsed = Address::parse(&text.value).and_then(reachable);
        self.address(text, parsed)
    }

    fn address(&mut self, text: &At<String>, parsed: Result<Address, String>) -> Option<Address> {
        let problem = match parsed {
            Ok(address) => return Some(address),
            Err(_) if text.value.contains("://") => {
                let help = "leave out the scheme, and give user and password by their own keys";
                Problem::error("C013", "this is a URL, not host:port").help(help)
            }
            // What stands before an @ may be a password.
            Err(_) if text.value.contains('@') => Problem::error("C013", "this is not host:port")
                .help("give user and password by their own keys"),
            Err(why) => Problem::error("C013", format!("'{}' is not host:port: {why}", brief(&text.value)))
                .help("as in \"127.0.0.1:6379\" or \"[::1]:6379\""),
        };
        self.add(problem.at(text.place));
        None
    }

    /// A text that says something, without surrounding space.
    pub(super) fn text(&mut self, key: &str, text: At<String>) -> Option<String> {
        let trimmed = text.value.trim();
        if trimmed.is_empty() {
            self.add(Problem::error("C022", format!("{key} is empty")).at(text.place));
            return None;
        }
        Some(trimmed.to_string())
    }
}

/// Refuses what one can bind but not connect to.
pub(super) fn reachable(address: Address) -> Result<Address, String> {
    match () {
        () if address.port == 0 => Err("its port is 0".into()),
        () if address.is_wildcard() => Err("its host stands for every address of a machine".into()),
        () => Ok(address),
    }
}
