//! Are the backends equal? By DUMP and deadline of every key, and by the log's position.
//!
//! DUMP shows the inner layout too: a hash table is dumped in the order of a random seed, and a
//! server that loaded its data lays lists out differently. Where dumps differ, values decide.

use super::{Client, LONG, Server, encode, wait_until};
use std::collections::BTreeMap;

const RESERVED: &[u8] = b"__quorate:";
const POSITION: &str = "__quorate:{g}:pos";

type Snapshot = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// Waits until all servers are at the same position of the log, and compares them.
#[track_caller]
pub fn assert_equal(servers: &[Server]) {
    let mut clients: Vec<Client> = servers.iter().map(Server::client).collect();
    let mut seen = Vec::new();
    wait_until("all servers are at the same position", LONG, || {
        seen = clients.iter_mut().map(|c| c.line(&format!("GET {POSITION}"))).collect();
        !seen[0].null && seen.iter().all(|position| *position == seen[0])
    });
    let problems = difference(&mut clients);
    assert!(problems.is_empty(), "the servers differ at position {:?}:\n{}", seen[0], problems.join("\n"));
}

/// What differs between each server and the first, ten lines at most.
pub fn difference(clients: &mut [Client]) -> Vec<String> {
    let (first, others) = clients.split_first_mut().expect("at least one server");
    let expected = snapshot(first);
    let mut problems = Vec::new();
    for (i, other) in others.iter_mut().enumerate() {
        let found = snapshot(other);
        let keys: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        for key in keys {
            if expected.get(key) == found.get(key) {
                continue;
            }
            let deadlines = (expected.get(key).map(|k| k.1), found.get(key).map(|k| k.1));
            let values = (logical(first, key), logical(other, key));
            if deadlines.0 != deadlines.1 || values.0 != values.1 {
                problems.push(format!(
                    "key '{}': server 1 has {:.200} until {:?}, server {} has {:.200} until {:?}",
                    key.escape_ascii(),
                    values.0,
                    deadlines.0,
                    i + 2,
                    values.1,
                    deadlines.1
                ));
            }
        }
    }
    problems.truncate(10);
    problems
}

/// Dump and deadline of all keys but the reserved ones.
fn snapshot(client: &mut Client) -> Snapshot {
    let mut all = Snapshot::new();
    let mut cursor = b"0".to_vec();
    loop {
        let page = client.call(&[b"SCAN", cursor.as_slice(), b"COUNT", b"1000"]);
        let keys: Vec<Vec<u8>> = page.items[1].items.iter().map(|key| key.text.clone()).collect();
        let keys: Vec<Vec<u8>> = keys.into_iter().filter(|key| !key.starts_with(RESERVED)).collect();
        let asked: Vec<u8> = keys
            .iter()
            .flat_map(|key| {
                [encode(&[b"DUMP", key.as_slice()]), encode(&[b"PEXPIRETIME", key.as_slice()])].concat()
            })
            .collect();
        let replies = client.pipeline(&asked, keys.len() * 2);
        for (key, pair) in keys.into_iter().zip(replies.chunks(2)) {
            if !pair[0].null {
                all.insert(key, (pair[0].text.clone(), pair[1].number()));
            }
        }
        cursor = page.items[0].text.clone();
        if cursor == b"0" {
            return all;
        }
    }
}

/// The value as commands show it, in an order that does not depend on the server.
fn logical(client: &mut Client, key: &[u8]) -> String {
    let kind = client.call(&[b"TYPE", key]).string();
    let ask = |client: &mut Client, parts: &[&[u8]]| client.call(parts).items;
    let mut items = match kind.as_str() {
        "string" => return format!("{:?}", client.call(&[b"GET", key])),
        "list" => return format!("{:?}", ask(client, &[b"LRANGE", key, b"0", b"-1"])),
        "zset" => return format!("{:?}", ask(client, &[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"])),
        "stream" => return stream(client, key),
        "set" => ask(client, &[b"SMEMBERS", key]).into_iter().map(|item| vec![item]).collect(),
        "hash" => ask(client, &[b"HGETALL", key]).chunks(2).map(<[_]>::to_vec).collect::<Vec<_>>(),
        _ => return kind,
    };
    items.sort();
    format!("{kind} {items:?}")
}

/// Times at which consumers were seen differ by nature; everything else must not.
fn stream(client: &mut Client, key: &[u8]) -> String {
    let entries = client.call(&[b"XRANGE", key, b"-", b"+"]);
    let info = client.call(&[&b"XINFO"[..], b"STREAM", key]);
    let kept =
        ["length", "last-generated-id", "max-deleted-entry-id", "entries-added", "recorded-first-entry-id"];
    let facts: Vec<_> = kept.iter().map(|name| info.field(name).cloned()).collect();
    let groups = client.call(&[&b"XINFO"[..], b"GROUPS", key]);
    let mut consumers = Vec::new();
    for group in &groups.items {
        let name = group.field("name").expect("a group has a name").text.clone();
        let found = client.call(&[&b"XINFO"[..], b"CONSUMERS", key, name.as_slice()]);
        let mut names: Vec<_> =
            found.items.iter().map(|c| (c.field("name").cloned(), c.field("pending").cloned())).collect();
        names.sort();
        consumers.push(names);
    }
    let whole = client.call(&[&b"XINFO"[..], b"STREAM", key, b"FULL", b"COUNT", b"0"]);
    let full = whole.field("groups").map_or(&[][..], |groups| &groups.items);
    let pending: Vec<_> = full.iter().map(|group| group.field("pel").cloned()).collect();
    format!("{entries:?} {facts:?} {groups:?} {consumers:?} {pending:?}")
}
