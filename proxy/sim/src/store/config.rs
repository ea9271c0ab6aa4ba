//! CONFIG: a table of parameters with Redis's defaults.
//! Only `maxmemory`, `maxmemory-policy` and `requirepass` mean anything; the rest is remembered and shown.

use std::collections::BTreeMap;

use super::reply::{Answer, Fault, Reply};
use super::session::{DEFAULT_USER, Session};
use super::table::flag::{ANYTIME, NOSCRIPT};
use super::table::{Command, server};
use super::{Store, glob};

pub(super) const COMMANDS: &[Command] = &[server("config", -2, NOSCRIPT | ANYTIME, config)];

const DEFAULTS: [(&str, &str); 20] = [
    ("appendfsync", "everysec"),
    ("appendonly", "yes"),
    ("bind", "127.0.0.1"),
    ("databases", "1"),
    ("dir", "/"),
    ("hz", "10"),
    ("lua-time-limit", "5000"),
    ("maxclients", "10000"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("min-replicas-to-write", "0"),
    ("notify-keyspace-events", ""),
    ("port", "6379"),
    ("proto-max-bulk-len", "536870912"),
    ("repl-backlog-size", "1048576"),
    ("requirepass", ""),
    ("save", ""),
    ("slowlog-log-slower-than", "10000"),
    ("stop-writes-on-bgsave-error", "yes"),
    ("timeout", "0"),
];

/// Parameters by name.
pub(super) struct Config(BTreeMap<&'static str, String>);

impl Default for Config {
    fn default() -> Self {
        Config(DEFAULTS.iter().map(|(name, value)| (*name, value.to_string())).collect())
    }
}

impl Config {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    pub(super) fn put(&mut self, name: &str, value: String) {
        if let Some(slot) = self.0.get_mut(name) {
            *slot = value;
        }
    }
}

fn config(store: &mut Store, _: &mut Session, args: &[Vec<u8>]) -> Answer {
    match args[1].to_ascii_lowercase().as_slice() {
        b"get" => Ok(get(store, &args[2..])),
        b"set" => set(store, &args[2..]),
        b"resetstat" => Ok(Reply::OK),
        b"rewrite" => Err(Fault::fixed("ERR The server is running without a config file")),
        _ => Err(Fault::SYNTAX),
    }
}

fn get(store: &Store, patterns: &[Vec<u8>]) -> Reply {
    let wanted = |name: &str| {
        let fits = |pattern: &Vec<u8>| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes());
        patterns.iter().any(fits)
    };
    let rows = store.config.0.iter().filter(|(name, _)| wanted(name));
    Reply::Map(rows.map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect())
}

fn set(store: &mut Store, pairs: &[Vec<u8>]) -> Answer {
    if !pairs.len().is_multiple_of(2) {
        return Err(Fault::SYNTAX);
    }
    let mut changes = Vec::new();
    for pair in pairs.chunks_exact(2) {
        let name = String::from_utf8_lossy(&pair[0]).to_ascii_lowercase();
        if store.config.get(&name).is_none() {
            return Err(Fault::said(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                String::from_utf8_lossy(&pair[0])
            )));
        }
        changes.push((parse(&name, &String::from_utf8_lossy(&pair[1]))?, name));
    }
    for (value, name) in changes {
        if name == "requirepass" {
            set_password(store, &value);
        }
        store.config.put(&name, value);
    }
    Ok(Reply::OK)
}

fn parse(name: &str, value: &str) -> Result<String, Fault> {
    const POLICIES: &str = "volatile-lru, volatile-lfu, volatile-random, volatile-ttl, \
                            allkeys-lru, allkeys-lfu, allkeys-random, noeviction";
    let failed = |why: String| {
        Fault::said(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
    };
    match name {
        "maxmemory" => {
            let bytes = memory(value).ok_or_else(|| failed("argument must be a memory value".into()))?;
            Ok(bytes.to_string())
        }
        "maxmemory-policy" if !POLICIES.split(", ").any(|policy| policy == value) => {
            Err(failed(format!("argument(s) must be one of the following: {POLICIES}")))
        }
        "appendonly" if !["yes", "no"].contains(&value) => {
            Err(failed("argument must be 'yes' or 'no'".into()))
        }
        _ => Ok(value.to_string()),
    }
}

/// A number of bytes with a unit: `100`, `64kb`, `1g`.
fn memory(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

fn set_password(store: &mut Store, password: &str) {
    let rules = match password {
        "" => vec![b"nopass".to_vec()],
        password => vec![b"resetpass".to_vec(), format!(">{password}").into_bytes()],
    };
    store.change_user(DEFAULT_USER, &rules);
}
