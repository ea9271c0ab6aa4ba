//! Settings of a policy: JSON from the proxy's configuration, taken key by key.
//!
//! A problem is noted and a default returned, so that one run shows the operator all of them.

use crate::{AckRule, ConfigError, Plan, ReadPick, String, ToOwned, ToString, Vec, format};
use serde_json::{Map, Value};

/// What is left of the settings, and what was wrong with those already taken.
#[derive(Debug, Default)]
pub struct Settings {
    left: Map<String, Value>,
    errors: Vec<ConfigError>,
}

/// How many replicas must acknowledge a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteQuorum {
    /// This many.
    Count(u8),
    /// More than half.
    Majority,
    /// All.
    All,
}

impl WriteQuorum {
    /// The number it comes to among `replicas`.
    pub fn of(self, replicas: usize) -> u8 {
        match self {
            WriteQuorum::Count(count) => count,
            WriteQuorum::Majority => (replicas / 2 + 1) as u8,
            WriteQuorum::All => replicas as u8,
        }
    }

    /// The same as an ack rule.
    pub fn rule(self) -> AckRule {
        match self {
            WriteQuorum::Count(count) => AckRule::Count(count),
            WriteQuorum::Majority => AckRule::Majority,
            WriteQuorum::All => AckRule::All,
        }
    }
}

/// The settings every bundled policy knows.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// `write-quorum`: a number, "majority" or "all".
    pub write_quorum: Option<WriteQuorum>,
    /// `read-pick`: "nearest", "fastest", "primary-first" or "spread".
    pub read_pick: Option<ReadPick>,
    /// `deadline-ms`; 0 means the proxy's default.
    pub deadline_ms: u32,
    /// `per-try-ms`; 0 means the proxy's default.
    pub per_try_ms: u32,
}

impl Common {
    /// Puts what was set into a plan.
    pub fn apply(&self, mut plan: Plan) -> Plan {
        if let Some(quorum) = self.write_quorum {
            plan.write = quorum.rule();
        }
        if let Some(pick) = self.read_pick {
            plan.read_pick = pick;
        }
        plan.timing.deadline_ms = self.deadline_ms;
        plan.timing.per_try_ms = self.per_try_ms;
        plan
    }
}

impl Settings {
    /// Parses the text the proxy hands over; empty text means no settings.
    pub fn parse(json: &str) -> Settings {
        let text = if json.trim().is_empty() { "{}" } else { json };
        match serde_json::from_str(text) {
            Ok(Value::Object(left)) => Settings { left, errors: Vec::new() },
            Ok(_) => Settings::default().noting("", "settings must be an object"),
            Err(error) => Settings::default().noting("", &error.to_string()),
        }
    }

    /// Notes a problem of the setting `path`.
    pub fn error(&mut self, path: &str, message: &str) {
        self.errors.push(ConfigError { path: path.to_owned(), message: message.to_owned() });
    }

    fn noting(mut self, path: &str, message: &str) -> Settings {
        self.error(path, message);
        self
    }

    /// All problems so far; every setting nobody took is one.
    pub fn finish(mut self) -> Result<(), Vec<ConfigError>> {
        for key in core::mem::take(&mut self.left).keys() {
            self.error(key, "this policy has no such setting");
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    /// Takes the settings every bundled policy knows.
    pub fn common(&mut self) -> Common {
        Common {
            write_quorum: self.write_quorum("write-quorum"),
            read_pick: self.read_pick("read-pick"),
            deadline_ms: self.number("deadline-ms").unwrap_or(0),
            per_try_ms: self.number("per-try-ms").unwrap_or(0),
        }
    }

    /// Is it set? It stays in place.
    pub fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// Takes a string.
    pub fn text(&mut self, key: &str) -> Option<String> {
        match self.left.remove(key)? {
            Value::String(text) => Some(text),
            other => self.mistyped(key, "a string", &other),
        }
    }

    /// Takes a whole number of 0 to 4,294,967,295.
    pub fn number(&mut self, key: &str) -> Option<u32> {
        let value = self.left.remove(key)?;
        match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(number) => Some(number),
            None => self.mistyped(key, "a whole number from 0 to 4294967295", &value),
        }
    }

    /// Takes `true` or `false`.
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        match self.left.remove(key)? {
            Value::Bool(flag) => Some(flag),
            other => self.mistyped(key, "true or false", &other),
        }
    }

    /// Takes one of some words; answers its position in `words`.
    pub fn word(&mut self, key: &str, words: &[&str]) -> Option<usize> {
        let text = self.text(key)?;
        let found = words.iter().position(|word| *word == text);
        if found.is_none() {
            self.error(key, &format!("'{text}' is not one of {}", words.join(", ")));
        }
        found
    }

    /// Takes a number from 1 to 255, "majority" or "all".
    pub fn write_quorum(&mut self, key: &str) -> Option<WriteQuorum> {
        let value = self.left.remove(key)?;
        let count = value.as_u64().and_then(|n| u8::try_from(n).ok()).filter(|n| *n > 0);
        match (count, value.as_str()) {
            (Some(count), _) => Some(WriteQuorum::Count(count)),
            (None, Some("majority")) => Some(WriteQuorum::Majority),
            (None, Some("all")) => Some(WriteQuorum::All),
            _ => self.mistyped(key, "a number from 1 to 255, \"majority\" or \"all\"", &value),
        }
    }

    fn read_pick(&mut self, key: &str) -> Option<ReadPick> {
        let picks = [ReadPick::Nearest, ReadPick::Fastest, ReadPick::PrimaryFirst, ReadPick::Spread];
        self.word(key, &["nearest", "fastest", "primary-first", "spread"]).map(|at| picks[at])
    }

    fn mistyped<T>(&mut self, key: &str, wanted: &str, got: &Value) -> Option<T> {
        self.error(key, &format!("must be {wanted}, not {got}"));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(errors: &[ConfigError]) -> Vec<&str> {
        errors.iter().map(|e| e.path.as_str()).collect()
    }

    #[test]
    fn every_problem_is_noted() {
        let mut settings =
            Settings::parse(r#"{"write-quorum": 0, "read-pick": "best", "deadline-ms": -1, "turbo": 1}"#);
        settings.common();
        let errors = settings.finish().expect_err("four problems");
        assert_eq!(paths(&errors), ["write-quorum", "read-pick", "deadline-ms", "turbo"]);
    }

    #[test]
    fn no_text_means_no_settings() {
        assert!(Settings::parse("").finish().is_ok());
        assert_eq!(
            Settings::parse("[]").finish().expect_err("an array")[0].message,
            "settings must be an object"
        );
    }
}
