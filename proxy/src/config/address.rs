//! Network addresses: `host:port`, with IPv6 in brackets.

use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A host, by name or number, and a port. Names are resolved when connecting, not here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Name or number; IPv6 without brackets.
    pub host: String,
    /// Port; 0 lets the system choose, for listeners only.
    pub port: u16,
}

impl Address {
    /// An address from its parts.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Address { host: host.into(), port }
    }

    /// Reads `127.0.0.1:6379`, `cache.internal:6379`, `[::1]:6379`. The error reads as a sentence about "it".
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => {
                inner.parse::<Ipv6Addr>().map(|_| inner).map_err(|_| "its IPv6 number cannot be read")?
            }
            None if host.contains(':') => {
                return Err("an IPv6 number needs brackets, as in [::1]:6379".into());
            }
            None => host,
        };
        check_host(host)?;
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err("its port is not a number".into());
        }
        let port = port.parse().map_err(|_| "its port is above 65535")?;
        Ok(Address::new(host, port))
    }

    /// Does it stand for every address of this machine?
    pub fn is_wildcard(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// Can it only be reached from this machine?
    pub fn is_loopback(&self) -> bool {
        self.ip().map_or(self.host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
    }

    /// Would binding both fail, or would a connection to one reach a listener at the other?
    pub fn overlaps(&self, other: &Address) -> bool {
        let same_host = self.host.eq_ignore_ascii_case(&other.host);
        let any = |a: &Address, b: &Address| a.is_wildcard() && (b.is_wildcard() || b.is_loopback());
        let local = self.is_loopback() && other.is_loopback() && (self.is_a_name() || other.is_a_name());
        self.port == other.port
            && self.port != 0
            && (same_host || any(self, other) || any(other, self) || local)
    }

    fn is_a_name(&self) -> bool {
        self.ip().is_none()
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    match host {
        "" => Err("it has no host".into()),
        _ if host.len() > 253 => Err("its host is longer than 253 characters".into()),
        _ if !host.chars().all(fits) => Err("its host has characters that no host has".into()),
        _ => Ok(()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        for text in ["127.0.0.1:6379", "cache.internal:1", "[::1]:0", "localhost:65535"] {
            assert_eq!(Address::parse(text).map(|a| a.to_string()), Ok(text.to_string()));
        }
    }

    #[test]
    fn half_addresses_are_refused() {
        for text in [
            "",
            "6379",
            "host",
            ":6379",
            "host:",
            "host:x",
            "host:70000",
            "host:+1",
            "::1:6379",
            "[::1",
            "[x]:1",
            "a b:1",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_overlaps_this_machine_only() {
        let at = |text| Address::parse(text).expect("valid");
        assert!(at("0.0.0.0:1").overlaps(&at("127.0.0.1:1")));
        assert!(at("localhost:1").overlaps(&at("127.0.0.1:1")));
        assert!(!at("127.0.0.2:1").overlaps(&at("127.0.0.1:1")), "both can be bound");
        assert!(!at("0.0.0.0:1").overlaps(&at("10.0.0.9:1")), "that may be another machine");
        assert!(!at("0.0.0.0:1").overlaps(&at("127.0.0.1:2")));
        assert!(!at("127.0.0.1:0").overlaps(&at("127.0.0.1:0")), "the system chooses two ports");
    }
}
