//! Values that must never be printed.

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

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

/// The SHA-256 digest of a password. Never printed either: it has no salt, so that common passwords are known by it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of this password.
    pub fn of(password: &[u8]) -> Self {
        Digest(Sha256::digest(password).into())
    }

    /// From 64 hexadecimal digits in lower case.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (mut digest, text) = ([0; 32], text.as_bytes());
        for (at, byte) in digest.iter_mut().enumerate() {
            *byte = digit(*text.get(2 * at)?)? << 4 | digit(*text.get(2 * at + 1)?)?;
        }
        (text.len() == 64).then_some(Digest(digest))
    }

    /// As 64 hexadecimal digits in lower case: for whoever gave it.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Are they the same? Every byte is looked at, whatever the first ones are.
    pub fn equals(&self, other: &Digest) -> bool {
        self.0.iter().zip(other.0).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Digest {
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
    fn a_digest_is_that_of_the_servers() {
        let hex = "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4";
        let digest = Digest::from_hex(hex).expect("64 digits");
        assert!(digest.equals(&Digest::of(b"pw")));
        assert_eq!(digest.hex(), hex);
        assert_eq!(
            format!("{digest:?} {}", serde_json::to_string(&digest).expect("a string")),
            "*** \"***\""
        );
        for guess in ["", "p", "pww", "pW"] {
            assert!(!digest.equals(&Digest::of(guess.as_bytes())), "{guess}");
        }
        for bad in ["", &hex[1..], &format!("{hex}0"), &hex.to_uppercase(), &hex.replace('3', "g")] {
            assert_eq!(Digest::from_hex(bad), None, "{bad}");
        }
    }
}
