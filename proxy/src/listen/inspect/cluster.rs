//! CLUSTER: a listener may look like a cluster of one node that has all slots, for clients that know no other way to
//! connect. There is nothing to manage: the group behind it is kept by the proxy.

use super::{integer, map};
use crate::config::Address;
use crate::listen::Port;
use crate::listen::local::text;
use crate::listen::session::Session;
use bytes::{Bytes, BytesMut};
use quorate_wire::command::{self, Command, SLOTS};
use quorate_wire::resp::{Args, encode};

/// What a client reads that names keys of several slots.
pub const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// The id of the one node: 40 digits, the same as long as group and address are.
fn node_id(port: &Port, announced: &Address) -> String {
    let hash = |part: u8| command::key_hash(format!("{part}/{}/{announced}", port.group.name).as_bytes());
    format!("{:016x}{:016x}{:08x}", hash(0), hash(1), hash(2) as u32)
}

/// Answers `CLUSTER …`, `READONLY`, `READWRITE` and `ASKING`.
pub fn answer(s: &mut Session, command: &Command, args: Args) {
    let port = s.port.clone();
    let Some(announced) = &port.cluster else {
        return s.error("ERR This instance has cluster support disabled");
    };
    let id = node_id(&port, announced);
    match command.name {
        "readonly" | "readwrite" | "asking" => s.answer(Bytes::from_static(b"+OK\r\n")),
        "cluster|info" => info(s),
        "cluster|nodes" => {
            let bus = u32::from(announced.port) + 10_000;
            let line = format!("{id} {announced}@{bus} myself,master - 0 0 0 connected 0-{}\n", SLOTS - 1);
            text(s, &line);
        }
        "cluster|slots" => slots(s, announced, &id),
        "cluster|shards" => shards(s, announced, &id),
        "cluster|myid" | "cluster|myshardid" => {
            let mut out = BytesMut::new();
            encode::bulk(id.as_bytes(), &mut out);
            s.answer(out.freeze());
        }
        "cluster|keyslot" => s.answer(Bytes::from(format!(":{}\r\n", command::slot(&args[2])))),
        "cluster|links" => s.answer(Bytes::from_static(b"*0\r\n")),
        "cluster|replicas" | "cluster|slaves" if args[2].eq_ignore_ascii_case(id.as_bytes()) => {
            s.answer(Bytes::from_static(b"*0\r\n"));
        }
        "cluster|replicas" | "cluster|slaves" => {
            let node = String::from_utf8_lossy(&args[2][..args[2].len().min(128)]).into_owned();
            s.error(&format!("ERR Unknown node {node}"));
        }
        "cluster|countkeysinslot" | "cluster|getkeysinslot"
            if integer(&args[2]).is_none_or(|slot| !(0..i64::from(SLOTS)).contains(&slot)) =>
        {
            s.error("ERR Invalid slot");
        }
        "cluster|countkeysinslot" | "cluster|getkeysinslot" => {
            s.error("ERR the backends know no slots, so keys of one cannot be listed; use SCAN");
        }
        name => {
            let name = name.replace('|', " ").to_uppercase();
            s.error(&format!(
                "ERR {name} is not carried: the proxy keeps its group itself, see quorate.toml"
            ));
        }
    }
}

fn info(s: &mut Session) {
    let health = s.port.group.health.load();
    let state = if health.writable { "ok" } else { "fail" };
    let epoch = health.epoch;
    let body = format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{SLOTS}\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\ncluster_current_epoch:{epoch}\r\n\
         cluster_my_epoch:{epoch}\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n"
    );
    text(s, &body);
}

fn slots(s: &mut Session, announced: &Address, id: &str) {
    let mut out = BytesMut::new();
    encode::header(b'*', 1, &mut out);
    encode::header(b'*', 3, &mut out);
    encode::header(b':', 0, &mut out);
    encode::header(b':', usize::from(SLOTS - 1), &mut out);
    encode::header(b'*', 4, &mut out);
    encode::bulk(announced.host.as_bytes(), &mut out);
    encode::header(b':', usize::from(announced.port), &mut out);
    encode::bulk(id.as_bytes(), &mut out);
    encode::header(b'*', 0, &mut out);
    s.answer(out.freeze());
}

fn shards(s: &mut Session, announced: &Address, id: &str) {
    let (dialect, head) = (s.dialect, s.port.group.health.load().head);
    let mut out = BytesMut::new();
    encode::header(b'*', 1, &mut out);
    map(2, dialect, &mut out);
    encode::bulk(b"slots", &mut out);
    encode::header(b'*', 2, &mut out);
    encode::header(b':', 0, &mut out);
    encode::header(b':', usize::from(SLOTS - 1), &mut out);
    encode::bulk(b"nodes", &mut out);
    encode::header(b'*', 1, &mut out);
    map(7, dialect, &mut out);
    let host = announced.host.as_str();
    let port = if s.port.tls { "tls-port" } else { "port" };
    encode::bulk(b"id", &mut out);
    encode::bulk(id.as_bytes(), &mut out);
    encode::bulk(port.as_bytes(), &mut out);
    encode::header(b':', usize::from(announced.port), &mut out);
    for (name, value) in [("ip", host), ("endpoint", host), ("role", "master")] {
        encode::bulk(name.as_bytes(), &mut out);
        encode::bulk(value.as_bytes(), &mut out);
    }
    encode::bulk(b"replication-offset", &mut out);
    encode::header(b':', head as usize, &mut out);
    encode::bulk(b"health", &mut out);
    encode::bulk(b"online", &mut out);
    s.answer(out.freeze());
}

/// Do these keys belong to several slots?
pub fn crosses(command: &Command, args: Args) -> bool {
    let mut first = None;
    let mut crosses = false;
    command::keys(command, args, &mut |key| {
        let slot = command::slot(key);
        crosses |= *first.get_or_insert(slot) != slot;
    });
    crosses
}
