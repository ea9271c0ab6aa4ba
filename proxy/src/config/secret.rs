//! Values that must never be printed.

use serde::{Serialize, Serializer};

/// A password or the like. `Debug`, `Display` and `Serialize` give `***`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself: for the wire only, never for a message, a log or a metric.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Is this the value? The time it takes does not tell how much of a guess is right.
    pub fn matches(&self, guess: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differ = guess
            .iter()
            .enumerate()
            .fold(0u8, |differ, (i, byte)| differ | (byte ^ own.get(i).copied().unwrap_or(!byte)));
        differ == 0 && guess.len() == own.len()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_it() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).expect("a string"), "\"***\"");
    }

    #[test]
    fn only_the_whole_value_matches() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches(b"hunter2"));
        for guess in ["", "hunter", "hunter22", "Hunter2"] {
            assert!(!secret.matches(guess.as_bytes()), "{guess}");
        }
    }
}
