//! INFO: a replica's answer, in which lines and whole sections speak of the proxy where that is what clients talk to.

use crate::listen::filter::{first, line};
use crate::listen::pubsub::Kind;
use crate::listen::session::Session;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::ReplicaState;
use quorate_wire::resp::encode;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// What an answer of a replica is changed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfoParts {
    /// `key:value` lines that replace the replica's; those it has not make a section of ours.
    pub lines: String,
    /// Sections in place of the replica's, where it has them: name, and lines with their ends.
    pub sections: Vec<(&'static str, String)>,
}

/// Keys' deadlines are set back by this much on the servers.
const SET_BACK_MS: u64 = 1 << 52;

impl InfoParts {
    /// As of now.
    pub fn of(worker: &Worker, s: &Session) -> Self {
        let stats = &s.port.group.inspection.stats;
        let sections = vec![
            ("Replication", replication(s)),
            ("CPU", cpu()),
            ("Modules", String::new()),
            ("Commandstats", stats.command_lines()),
            ("Errorstats", stats.error_lines()),
            ("Latencystats", String::new()),
            ("Cluster", format!("cluster_enabled:{}\r\n", u8::from(s.port.cluster.is_some()))),
        ];
        Self { lines: lines(worker, s), sections }
    }
}

/// Redis' word for what a client connects to.
pub fn mode(s: &Session) -> &'static str {
    if s.port.cluster.is_some() { "cluster" } else { "standalone" }
}

fn lines(worker: &Worker, s: &Session) -> String {
    let group = &s.port.group;
    let health = group.health.load();
    let stats = &group.inspection.stats;
    let uptime = worker.clock.now_us() / 1_000_000;
    let in_sync = health.replicas.iter().filter(|r| r.state == ReplicaState::InSync).count();
    let blocked = worker.registry.all().iter().filter(|client| client.blocked.load(Relaxed)).count();
    let mut lines = String::new();
    let mut put = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(lines, "{key}:{value}");
    };
    put("redis_mode", &mode(s));
    put("server_mode", &mode(s));
    put("process_id", &std::process::id());
    put("tcp_port", &s.client.local.port());
    put("uptime_in_seconds", &uptime);
    put("uptime_in_days", &(uptime / 86_400));
    put("config_file", &"");
    put("executable", &"quorate");
    put("connected_clients", &worker.registry.len());
    put("maxclients", &s.port.max_clients);
    put("blocked_clients", &blocked);
    put("tracking_clients", &group.tracker.clients());
    put("total_connections_received", &worker.registry.entered());
    put("total_commands_processed", &stats.total());
    put("total_error_replies", &stats.errors());
    put("pubsub_channels", &group.hub.len(Kind::Channel));
    put("pubsub_patterns", &group.hub.len(Kind::Pattern));
    put("pubsubshard_channels", &group.hub.len(Kind::Shard));
    put("quorate_version", &env!("CARGO_PKG_VERSION"));
    put("quorate_group", &group.name);
    put("quorate_epoch", &health.epoch);
    put("quorate_replicas", &group.replicas.len());
    put("quorate_replicas_in_sync", &in_sync);
    put("quorate_log_head", &health.head);
    put("quorate_log_committed", &health.committed);
    lines
}

/// A primary that clients cannot see the replicas of.
fn replication(s: &Session) -> String {
    let head = s.port.group.health.load().head;
    format!(
        "role:master\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\nmaster_replid:{:040x}\r\n\
         master_replid2:{:040}\r\nmaster_repl_offset:{head}\r\nsecond_repl_offset:-1\r\nrepl_backlog_active:0\r\n\
         repl_backlog_size:0\r\nrepl_backlog_first_byte_offset:0\r\nrepl_backlog_histlen:0\r\n",
        quorate_wire::command::key_hash(s.port.group.name.as_bytes()),
        0
    )
}

/// What this process used, where the system tells; in hundredths of a second, as Linux counts.
fn cpu() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name stands in brackets and may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let seconds = |at: usize| {
        let ticks: f64 = fields.get(at).and_then(|ticks| ticks.parse().ok()).unwrap_or(0.0);
        ticks / 100.0
    };
    format!(
        "used_cpu_sys:{:.6}\r\nused_cpu_user:{:.6}\r\nused_cpu_sys_children:0.000000\r\nused_cpu_user_children:0.000000\r\n",
        seconds(12),
        seconds(11)
    )
}

/// Two replies, `INFO` and `EXISTS` of the reserved keys, become what the client reads.
pub fn apply(replies: &Bytes, own: &InfoParts) -> Option<Bytes> {
    let reply = first(replies);
    let reserved = line(&replies[reply.len()..], b':').map_or(0, |(count, _)| count.max(0) as u64);
    let verbatim = reply.first() == Some(&b'=');
    let (len, start) = line(&reply, if verbatim { b'=' } else { b'$' })?;
    let skip = if verbatim { 4 } else { 0 };
    let text = reply.get(start + skip..start + usize::try_from(len).ok()?)?;
    let text = std::str::from_utf8(text).ok()?;
    let body = rewritten(text, own, reserved);
    let mut out = BytesMut::with_capacity(body.len() + 32);
    encode::header(reply[0], body.len() + skip, &mut out);
    out.extend_from_slice(if verbatim { b"txt:" } else { b"" });
    out.extend_from_slice(body.as_bytes());
    out.extend_from_slice(b"\r\n");
    Some(out.freeze())
}

fn rewritten(text: &str, own: &InfoParts, reserved: u64) -> String {
    let mut ours: Vec<(&str, bool)> = own.lines.lines().map(|line| (line, false)).collect();
    let mut body = String::with_capacity(text.len() + 512);
    let mut dropped = false;
    for theirs in text.split_terminator("\r\n") {
        if let Some(name) = theirs.strip_prefix("# ") {
            let section = own.sections.iter().find(|(known, _)| *known == name);
            dropped = section.is_some();
            body.push_str(theirs);
            body.push_str("\r\n");
            body.push_str(section.map_or("", |(_, lines)| lines));
            continue;
        }
        if theirs.is_empty() {
            dropped = false;
        }
        if dropped {
            continue;
        }
        let key = theirs.split_once(':').map(|(key, _)| key);
        let same = |(line, _): &&mut (&str, bool)| line.split_once(':').map(|(key, _)| key) == key;
        match ours.iter_mut().filter(|_| key.is_some()).find(same) {
            Some((line, used)) => {
                *used = true;
                body.push_str(line);
            }
            None if theirs.starts_with("db0:") => match keyspace(theirs, reserved) {
                Some(line) => body.push_str(&line),
                None => continue,
            },
            None => body.push_str(theirs),
        }
        body.push_str("\r\n");
    }
    let added = ours.iter().filter(|(line, used)| !used && line.starts_with("quorate_"));
    body.push_str("\r\n# Quorate\r\n");
    added.for_each(|(line, _)| body.extend([line, "\r\n"]));
    body
}

/// `db0:keys=…` without the reserved keys, and with deadlines as clients know them; `None` when nothing is left.
fn keyspace(line: &str, reserved: u64) -> Option<String> {
    let mut fields = Vec::new();
    for field in line.strip_prefix("db0:")?.split(',') {
        let (name, value) = field.split_once('=')?;
        let value: u64 = value.parse().ok()?;
        fields.push(match name {
            "keys" if value <= reserved => return None,
            "keys" => format!("keys={}", value - reserved),
            // An average of some that are looked at; those without the offset are of no clients' keys.
            "avg_ttl" if value >= SET_BACK_MS / 2 => format!("avg_ttl={}", value.saturating_sub(SET_BACK_MS)),
            _ => field.to_string(),
        });
    }
    Some(format!("db0:{}", fields.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> InfoParts {
        let sections = vec![("Commandstats", "cmdstat_get:calls=1\r\n".to_string())];
        InfoParts { lines: "tcp_port:1\nquorate_group:g\n".into(), sections }
    }

    fn shown(text: &str, exists: u32) -> String {
        let replies = format!("${}\r\n{text}\r\n:{exists}\r\n", text.len());
        let changed = apply(&Bytes::from(replies), &own()).expect("it can be read");
        String::from_utf8_lossy(&changed).into_owned()
    }

    #[test]
    fn lines_and_sections_speak_of_the_proxy() {
        let text = "# Server\r\ntcp_port:6379\r\nhz:10\r\n\r\n# Commandstats\r\ncmdstat_exec:calls=7\r\n\r\n# Keyspace\r\n";
        let text = shown(text, 0);
        assert!(
            text.contains("tcp_port:1\r\nhz:10\r\n\r\n# Commandstats\r\ncmdstat_get:calls=1\r\n\r\n"),
            "{text}"
        );
        assert!(
            !text.contains("cmdstat_exec") && text.contains("# Quorate\r\nquorate_group:g\r\n"),
            "{text}"
        );
    }

    #[test]
    fn reserved_keys_and_late_deadlines_are_not_seen() {
        let keys = |line: &str| shown(&format!("# Keyspace\r\n{line}\r\n"), 3);
        assert!(keys("db0:keys=5,expires=0,avg_ttl=0").contains("\r\ndb0:keys=2,expires=0,avg_ttl=0\r\n"));
        let late = format!("db0:keys=5,expires=1,avg_ttl={}", SET_BACK_MS + 77);
        assert!(keys(&late).contains("expires=1,avg_ttl=77\r\n"));
        assert!(!keys("db0:keys=3,expires=0,avg_ttl=0").contains("db0"));
    }
}
