//! CONFIG: what of the settings a client may see and change. Settings of the proxy are its own; those that say how data
//! is kept are a replica's. A change is made, on all replicas where it is theirs, or refused: never dropped in silence.

use super::integer;
use crate::listen::Port;
use crate::listen::filter::{bulk, line};
use crate::listen::session::Session;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_wire::command::Command;
use quorate_wire::glob;
use quorate_wire::resp::{Args, encode};
use std::sync::atomic::Ordering::Relaxed;

/// Settings of a replica that clients see, beside those of [`THEIRS`]: they speak of data, memory and disk.
const SHOWN: &[&str] = &[
    "activedefrag",
    "active-expire-effort",
    "activerehashing",
    "aof-load-truncated",
    "aof-use-rdb-preamble",
    "appendfsync",
    "appendonly",
    "auto-aof-rewrite-min-size",
    "auto-aof-rewrite-percentage",
    "busy-reply-threshold",
    "dynamic-hz",
    "hz",
    "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire",
    "lazyfree-lazy-server-del",
    "lazyfree-lazy-user-del",
    "lazyfree-lazy-user-flush",
    "lfu-decay-time",
    "lfu-log-factor",
    "lua-time-limit",
    "maxmemory",
    "maxmemory-clients",
    "maxmemory-eviction-tenacity",
    "maxmemory-policy",
    "maxmemory-samples",
    "no-appendfsync-on-rewrite",
    "rdbchecksum",
    "rdbcompression",
    "save",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "stop-writes-on-bgsave-error",
];

/// What a setting of a replica may be set to.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// A number between these.
    Number(i64, i64),
    /// Classes of events of keys.
    Events,
}

const COUNT: Takes = Takes::Number(0, i32::MAX as i64);

/// Settings that can be changed on all replicas, as an entry of the log: every server here has them and reads them
/// alike, and they decide how a value is laid out or what is told of it, never what it is.
const THEIRS: &[(&str, Takes)] = &[
    ("hash-max-listpack-entries", COUNT),
    ("hash-max-listpack-value", COUNT),
    ("hash-max-ziplist-entries", COUNT),
    ("hash-max-ziplist-value", COUNT),
    ("hll-sparse-max-bytes", COUNT),
    ("list-compress-depth", COUNT),
    ("list-max-listpack-size", Takes::Number(-5, i32::MAX as i64)),
    ("list-max-ziplist-size", Takes::Number(-5, i32::MAX as i64)),
    ("notify-keyspace-events", Takes::Events),
    ("set-max-intset-entries", COUNT),
    ("stream-node-max-bytes", COUNT),
    ("stream-node-max-entries", COUNT),
    ("zset-max-listpack-entries", COUNT),
    ("zset-max-listpack-value", COUNT),
    ("zset-max-ziplist-entries", COUNT),
    ("zset-max-ziplist-value", COUNT),
];

/// The proxy's own, and what they are now.
fn own(s: &Session) -> Vec<(&'static str, String)> {
    let Port { limits, idle_timeout_ms, max_clients, cluster, group, .. } = &*s.port;
    let slow = &group.inspection.slow;
    vec![
        ("bind", s.client.local.ip().to_string()),
        ("cluster-enabled", if cluster.is_some() { "yes" } else { "no" }.into()),
        ("databases", "1".into()),
        ("latency-monitor-threshold", "0".into()),
        ("maxclients", max_clients.to_string()),
        ("port", s.client.local.port().to_string()),
        ("proto-max-bulk-len", limits.bulk.to_string()),
        ("slowlog-log-slower-than", slow.slower_than_us().to_string()),
        ("slowlog-max-len", slow.most().to_string()),
        ("timeout", (idle_timeout_ms.load(Relaxed) / 1000).to_string()),
    ]
}

/// The proxy's own settings of which a client asks.
pub fn asked(s: &Session, args: Args) -> Vec<(&'static str, String)> {
    let patterns: Vec<Vec<u8>> = args.from(2).map(<[u8]>::to_ascii_lowercase).collect();
    let matches = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    own(s).into_iter().filter(|(name, _)| matches(name)).collect()
}

/// The answer to `CONFIG GET`, from a replica's and what is the proxy's own. `None`: the reply is none to change.
pub fn apply(reply: &[u8], own: &[(&'static str, String)]) -> Option<Bytes> {
    let map = reply.first() == Some(&b'%');
    let (count, start) = line(reply, if map { b'%' } else { b'*' })?;
    let pairs = if map { count } else { count / 2 };
    let mut rest = reply.get(start..)?;
    let mut shown: Vec<(&[u8], &[u8])> = Vec::new();
    for _ in 0..pairs {
        let (name, length) = bulk(rest)?;
        rest = rest.get(length..)?;
        let (value, length) = bulk(rest)?;
        rest = rest.get(length..)?;
        let is = |known: &&str| known.as_bytes() == name;
        if SHOWN.iter().any(is) || THEIRS.iter().any(|(known, _)| is(known)) {
            shown.push((name, value));
        }
    }
    shown.extend(own.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let mut out = BytesMut::with_capacity(reply.len() + 64);
    encode::header(reply[0], if map { shown.len() } else { 2 * shown.len() }, &mut out);
    for (name, value) in shown {
        encode::bulk(name, &mut out);
        encode::bulk(value, &mut out);
    }
    Some(out.freeze())
}

/// One pair of `CONFIG SET`.
enum Change<'a> {
    SlowerThan(i64),
    SlowMost(u64),
    Timeout(u64),
    /// It is that already.
    Nothing,
    /// On all replicas.
    Theirs(&'a [u8], &'a [u8]),
}

fn failed(name: &str, why: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
}

/// What a command would change, all of it or nothing.
fn changes(args: Args<'_>) -> Result<Vec<Change<'_>>, String> {
    if args.len() < 4 || !args.len().is_multiple_of(2) {
        return Err("ERR wrong number of arguments for 'config|set' command".into());
    }
    let mut seen: Vec<String> = Vec::new();
    let mut changes = Vec::new();
    for at in (2..args.len()).step_by(2) {
        let (Some(key), Some(value)) = (args.get(at), args.get(at + 1)) else { continue };
        let name = String::from_utf8_lossy(&key[..key.len().min(128)]).to_lowercase();
        changes.push(change(&name, key, value)?);
        if seen.contains(&name) {
            return Err(failed(&name, "duplicate parameter"));
        }
        seen.push(name);
    }
    Ok(changes)
}

fn change<'a>(name: &str, key: &'a [u8], value: &'a [u8]) -> Result<Change<'a>, String> {
    let number = |low: i64, high: i64| match integer(value) {
        None => Err(failed(name, "argument couldn't be parsed into an integer")),
        Some(n) if n < low || n > high => {
            Err(failed(name, &format!("argument must be between {low} and {high} inclusive")))
        }
        Some(n) => Ok(n),
    };
    if let Some((_, takes)) = THEIRS.iter().find(|(known, _)| *known == name) {
        match takes {
            Takes::Number(low, high) => drop(number(*low, *high)?),
            Takes::Events if value.iter().all(|flag| b"KEg$lshzxetdmnA".contains(flag)) => {}
            Takes::Events => {
                return Err(failed(name, "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."));
            }
        }
        return Ok(Change::Theirs(key, value));
    }
    match name {
        "slowlog-log-slower-than" => Ok(Change::SlowerThan(number(-1, i64::MAX)?)),
        "slowlog-max-len" => Ok(Change::SlowMost(number(0, 10_000)? as u64)),
        "timeout" => Ok(Change::Timeout(number(0, i64::from(i32::MAX))? as u64)),
        "latency-monitor-threshold" if number(0, i64::MAX)? == 0 => Ok(Change::Nothing),
        "databases" | "port" | "bind" | "cluster-enabled" | "maxclients" | "proto-max-bulk-len" => {
            Err(failed(name, "it is set in quorate.toml"))
        }
        "latency-monitor-threshold" => Err(failed(name, "the proxy watches no latency events")),
        "requirepass" | "masterauth" | "masteruser" => Err(failed(name, "passwords are set in quorate.toml")),
        _ if SHOWN.contains(&name) => Err(failed(name, "it concerns each server; set it on the backends")),
        _ => Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'")),
    }
}

fn make(s: &Session, change: &Change) {
    let slow = &s.port.group.inspection.slow;
    match change {
        Change::SlowerThan(us) => slow.set_slower_than(*us),
        Change::SlowMost(most) => drop(slow.set_most(*most)),
        Change::Timeout(seconds) => s.port.idle_timeout_ms.store(seconds * 1000, Relaxed),
        Change::Nothing | Change::Theirs(..) => {}
    }
}

/// Answers what needs no replica.
pub fn answer(_: &Worker, s: &mut Session, command: &Command, args: Args) {
    match command.name {
        "config|resetstat" => {
            s.port.group.inspection.stats.reset();
            s.answer(Bytes::from_static(b"+OK\r\n"));
        }
        "config|rewrite" => s.error("ERR The server is running without a config file"),
        _ => match set(s, args) {
            Ok(None) => s.answer(Bytes::from_static(b"+OK\r\n")),
            Ok(Some(_)) => {
                s.error("ERR CONFIG SET of what is kept on the replicas cannot be part of a transaction")
            }
            Err(message) => s.error(&message),
        },
    }
}

/// Makes the proxy's own changes, and gives the command for the replicas if they have to make some.
pub fn set(s: &Session, args: Args) -> Result<Option<Bytes>, String> {
    let changes = changes(args)?;
    let theirs = changes.iter().filter_map(|change| match change {
        Change::Theirs(key, value) => Some([*key, *value]),
        _ => None,
    });
    let mut words: Vec<&[u8]> = vec![b"CONFIG", b"SET"];
    words.extend(theirs.flatten());
    if words.len() > 2 && s.transaction.is_open() {
        return Ok(Some(Bytes::new()));
    }
    changes.iter().for_each(|change| make(s, change));
    Ok((words.len() > 2).then(|| encode::command_bytes(&words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_seen_is_shown() {
        let reply = b"*6\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n$11\r\nrequirepass\r\n$4\r\nhush\r\n$4\r\nport\r\n$4\r\n6379\r\n";
        let shown = apply(reply, &[("port", "1".to_string())]).expect("an array");
        let shown = String::from_utf8_lossy(&shown).replace("\r\n", " ");
        assert_eq!(shown, "*4 $9 maxmemory $1 0 $4 port $1 1 ");
        assert_eq!(apply(b"-ERR no\r\n", &[]), None);
        assert_eq!(apply(b"%0\r\n", &[]).as_deref(), Some(&b"%0\r\n"[..]));
    }
}
