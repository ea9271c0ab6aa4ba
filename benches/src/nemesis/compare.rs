//! Are the backends equal? Every key by DUMP, and where dumps differ by value: a server that loaded its data from disk
//! may lay out the same value differently. The position of the log must be the same to the letter.

use super::connection::Connection;
use bytes::Bytes;
use quorate_wire::resp::{Value, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

const RESERVED: &[u8] = b"__quorate:";
const POSITION: &str = "GET __quorate:{g}:pos";

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
        let values: Vec<String> = servers.iter_mut().map(|s| value(s, key)).collect::<io::Result<_>>()?;
        if values.iter().any(|value| *value != values[0]) {
            let shown: Vec<String> = values.iter().map(|v| v.chars().take(200).collect()).collect();
            different.push(format!("'{}': {}", key.escape_ascii(), shown.join(" | ")));
        }
    }
    Ok((keys.len(), different))
}

/// The position of each server in the log.
pub fn positions(servers: &mut [Connection]) -> io::Result<Vec<String>> {
    servers.iter_mut().map(|server| Ok(format!("{:?}", server.line(POSITION)?))).collect()
}

fn dump_all(server: &mut Connection) -> io::Result<BTreeMap<Vec<u8>, Option<Bytes>>> {
    let mut all = BTreeMap::new();
    let mut cursor = Bytes::from_static(b"0");
    loop {
        let page = server.call(&[b"SCAN", &cursor, b"COUNT", b"500"])?;
        let [next, keys] = page.items() else { return Err(io::Error::other(format!("SCAN: {page:?}"))) };
        let keys = keys.items().iter().filter_map(Value::bytes).filter(|key| !key.starts_with(RESERVED));
        let keys: Vec<&Bytes> = keys.collect();
        let asked: Vec<Bytes> = keys.iter().map(|key| encode::command_bytes(&[b"DUMP", key])).collect();
        for (key, dump) in keys.iter().zip(server.pipeline(&asked)?) {
            all.insert(key.to_vec(), dump.bytes().cloned());
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
        _ => kind,
    };
    Ok(format!("{reply:?}"))
}
