//! The script that makes keys on one server what they are on another, on real servers: all at once, or marked.

mod harness;

use bytes::Bytes;
use harness::{Client, Kind, Server, Value};
use quorate_core::ordered::{ByValue, Keys, Position};
use quorate_wire::resp::{Copier, Reserved};

const AT: Position = Position { epoch: 3, seq: 7, hash: 9 };

/// Two servers with different values, and what the second holds of these keys as [`ByValue::fetch`] asks for it.
struct Pair {
    target: Client,
    copier: Copier,
    reserved: Reserved,
    keys: Keys,
    fetched: Vec<Vec<u8>>,
    _servers: [Server; 2],
}

fn encoded(value: &Value) -> Vec<u8> {
    match value.kind {
        b'$' if value.null => b"$-1\r\n".to_vec(),
        b'$' => [format!("${}\r\n", value.text.len()).as_bytes(), &value.text, b"\r\n"].concat(),
        kind => [&[kind][..], &value.text, b"\r\n"].concat(),
    }
}

impl Pair {
    fn start(kind: Kind) -> Pair {
        let servers = [Server::start(kind), Server::start(kind)];
        let reserved = Reserved::new("g");
        let copier = Copier::new(reserved.clone());
        let [mut source, mut target] = [servers[0].client(), servers[1].client()];
        source.ok("RPUSH list a b");
        source.ok("SET text new PXAT 99999999999999");
        source.ok(&format!("RPUSH {} tail", reserved.tail));
        target.ok("SET list other");
        target.ok("SET gone old");
        for mark in [&reserved.position, &reserved.trial, &reserved.partial] {
            target.ok(&format!("SET {mark} old"));
        }
        let keys: Keys = ["gone", "list", "text"].map(|key| Bytes::from_static(key.as_bytes())).into();
        let request = copier.fetch(&keys);
        let replies = source.pipeline(&request.payload, request.commands as usize);
        let fetched = replies.iter().map(encoded).collect();
        Pair { target, copier, reserved, keys, fetched, _servers: servers }
    }

    fn store(&mut self) -> (bool, String) {
        let fetched = Bytes::from(self.fetched.concat());
        let request = self.copier.store(&self.keys, &fetched, AT).expect("a full answer");
        let reply = self.target.pipeline(&request.payload, 1).remove(0);
        (self.copier.succeeded(&encoded(&reply).into()), reply.string())
    }

    fn get(&mut self, key: &str) -> String {
        self.target.line(&format!("GET {key}")).string()
    }
}

fn all_at_once(kind: Kind) {
    let mut pair = Pair::start(kind);
    let (done, reply) = pair.store();
    assert!(done, "{reply}");
    assert_eq!(pair.target.line("LRANGE list 0 -1").strings(), ["a", "b"]);
    assert_eq!((pair.get("text"), pair.get("gone")), ("new".into(), String::new()));
    assert_eq!(pair.target.line("PEXPIRETIME text").number(), 99_999_999_999_999);
    let Reserved { position, tail, partial, trial, .. } = pair.reserved.clone();
    assert_eq!(pair.get(&position), AT.to_string());
    assert_eq!(pair.target.line(&format!("LRANGE {tail} 0 -1")).strings(), ["tail"]);
    assert_eq!(pair.target.line(&format!("EXISTS {partial} {trial}")).number(), 0);
}

#[test]
fn all_at_once_on_redis() {
    all_at_once(Kind::Redis);
}

#[test]
fn all_at_once_on_valkey() {
    all_at_once(Kind::Valkey);
}

/// The value of the last key cannot be read, then the group's own tail, which comes first, cannot.
fn marked_where_a_value_cannot_be_stored(kind: Kind) {
    let mut pair = Pair::start(kind);
    let Reserved { position, partial, trial, .. } = pair.reserved.clone();
    let spoiled = b"$4\r\nnone\r\n".to_vec();
    let dump = pair.fetched.len() - 2;
    let good = std::mem::replace(&mut pair.fetched[dump], spoiled.clone());
    pair.target.ok(&format!("DEL {partial}"));
    let (done, reply) = pair.store();
    assert!(!done && reply.contains("DUMP payload version or checksum are wrong"), "{reply}");
    assert_eq!((pair.get(&position), pair.get(&trial)), ("old".into(), "old".into()));
    assert_eq!(pair.get(&partial), "1", "it holds a part");

    pair.fetched[dump] = good;
    let tail = std::mem::replace(&mut pair.fetched[0], spoiled);
    pair.target.ok(&format!("DEL {partial}"));
    assert!(!pair.store().0);
    assert_eq!(
        (pair.get(&position), pair.get(&partial)),
        ("old".into(), String::new()),
        "nothing was changed"
    );

    pair.fetched[0] = tail;
    pair.target.ok("CONFIG SET maxmemory 1");
    let (done, reply) = pair.store();
    assert!(!done && reply.starts_with("OOM"), "{reply}");
    assert_eq!(
        (pair.get(&position), pair.get(&partial)),
        ("old".into(), String::new()),
        "nothing was changed"
    );
    pair.target.ok("CONFIG SET maxmemory 0");
    assert!(pair.store().0);
}

#[test]
fn marked_where_a_value_cannot_be_stored_on_redis() {
    marked_where_a_value_cannot_be_stored(Kind::Redis);
}

#[test]
fn marked_where_a_value_cannot_be_stored_on_valkey() {
    marked_where_a_value_cannot_be_stored(Kind::Valkey);
}
