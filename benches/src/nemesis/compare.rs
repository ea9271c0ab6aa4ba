//! Are the backends equal? Every key by its deadline and by DUMP, and where dumps differ by value: a server that loaded its
//! data from disk may lay out the same value differently. The position of the log must be the same to the letter.

use super::connection::Connection;
use bytes::Bytes;
use quorate_wire::resp::{Value, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

const RESERVED: &[u8] = b"__quorate:";
const POSITION: &str = "GET __quorate:{g}:pos";

/// A key as one server has it.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    dump: Option<Bytes>,
    /// When it ends, in the server's own form.
    deadline: Value,
}

/// The keys that differ between each server and the first, with both values; and how many keys there are.
pub fn divergent(servers: &mut [Connection]) -> io::Result<(usize, Vec<String>)> {
    let dumps: Vec<_> = servers.iter_mut().map(dump_all).collect::<io::Result<_>>()?;
    let keys: BTreeSet<&Vec<u8>> = dumps.iter().flat_map(BTreeMap::keys).collect();
    let mut different = Vec::new();
    for key in &keys {
        let first = dumps[0].get(*key);
        if dumps.iter().all(|dump| dump.get(*key) == first) {
            continue;
        }
        let deadline = |kept: Option<&Kept>| kept.map(|kept| format!("{:?}", kept.deadline));
        let deadlines: Vec<_> = dumps.iter().map(|dump| deadline(dump.get(*key))).collect();
        if deadlines.iter().any(|deadline| *deadline != deadlines[0]) {
            different.push(format!("'{}' ends at {deadlines:?}", key.escape_ascii()));
            continue;
        }
        let values: Vec<String> = servers.iter_mut().map(|s| value(s, key)).collect::<io::Result<_>>()?;
        if values.iter().any(|value| *value != values[0]) {
            let common = common_start(&values).saturating_sub(40);
            let shown: Vec<String> =
                values.iter().map(|value| value.chars().skip(common).take(200).collect()).collect();
            different.push(format!("'{}': {}", key.escape_ascii(), shown.join(" | ")));
        }
    }
    Ok((keys.len(), different))
}

/// The position of each server in the log.
pub fn positions(servers: &mut [Connection]) -> io::Result<Vec<String>> {
    servers.iter_mut().map(|server| Ok(format!("{:?}", server.line(POSITION)?))).collect()
}

fn dump_all(server: &mut Connection) -> io::Result<BTreeMap<Vec<u8>, Kept>> {
    let mut all = BTreeMap::new();
    let mut cursor = Bytes::from_static(b"0");
    loop {
        let page = server.call(&[b"SCAN", &cursor, b"COUNT", b"500"])?;
        let [next, keys] = page.items() else { return Err(io::Error::other(format!("SCAN: {page:?}"))) };
        let keys = keys.items().iter().filter_map(Value::bytes).filter(|key| !key.starts_with(RESERVED));
        let keys: Vec<&Bytes> = keys.collect();
        let asked = |key: &&Bytes| {
            [encode::command_bytes(&[b"DUMP", key]), encode::command_bytes(&[b"PEXPIRETIME", key])]
        };
        let asked: Vec<Bytes> = keys.iter().flat_map(asked).collect();
        for (key, kept) in keys.iter().zip(server.pipeline(&asked)?.chunks(2)) {
            let [dump, deadline] = kept else { return Err(io::Error::other("DUMP without a deadline")) };
            let kept = Kept { dump: dump.bytes().cloned(), deadline: deadline.clone() };
            all.insert(key.to_vec(), kept);
        }
        cursor = next.bytes().cloned().ok_or_else(|| io::Error::other("SCAN without a cursor"))?;
        if &cursor[..] == b"0" {
            return Ok(all);
        }
    }
}

/// The value as commands show it.
fn value(server: &mut Connection, key: &[u8]) -> io::Result<String> {
    let kind = server.call(&[b"TYPE", key])?;
    let reply = match kind.text() {
        Some("string") => server.call(&[b"GET", key])?,
        Some("list") => server.call(&[b"LRANGE", key, b"0", b"-1"])?,
        Some("hash") => {
            let all = server.call(&[b"HGETALL", key])?;
            let mut pairs: Vec<String> = all.items().chunks(2).map(|pair| format!("{pair:?}")).collect();
            pairs.sort();
            return Ok(pairs.join(" "));
        }
        Some("set") => return Ok(sorted(&server.call(&[b"SMEMBERS", key])?)),
        Some("stream") => {
            let entries = server.call(&[b"XRANGE", key, b"-", b"+"])?;
            let groups = server.call(&[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"])?;
            return Ok(format!("{entries:?} {}", without_layout(&groups)));
        }
        _ => kind,
    };
    Ok(format!("{reply:?}"))
}

/// Characters after which the values begin to differ.
fn common_start(values: &[String]) -> usize {
    let first = values.first().map(String::as_str).unwrap_or_default();
    let alike = |other: &String| first.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    values.iter().map(alike).min().unwrap_or(0)
}

fn sorted(items: &Value) -> String {
    let mut items: Vec<String> = items.items().iter().map(|item| format!("{item:?}")).collect();
    items.sort();
    items.join(" ")
}

/// What a server tells of a stream, but how it lays it out, and when a consumer was seen last: only one server saw it.
fn without_layout(value: &Value) -> String {
    const HIDDEN: [&str; 4] = ["radix-tree-keys", "radix-tree-nodes", "seen-time", "active-time"];
    let Value::Array(items) = value else { return format!("{value:?}") };
    let mut shown = Vec::new();
    let mut items = items.iter();
    while let Some(item) = items.next() {
        if item.text().is_some_and(|name| HIDDEN.contains(&name)) {
            items.next();
        } else {
            shown.push(without_layout(item));
        }
    }
    format!("[{}]", shown.join(" "))
}
