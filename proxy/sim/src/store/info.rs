//! INFO: the fields clients and proxies read, honest about what this server is (`quorate_embedded:1`).
//! It leaves out what it would have to invent.

use super::Store;
use super::reply::{Answer, Reply};
use super::session::Session;
use super::table::flag::ANYTIME;
use super::table::{Command, server};
use super::{Env, faults};

pub(super) const COMMANDS: &[Command] = &[server("info", -1, ANYTIME, info)];

/// The version whose behaviour is modelled.
pub(super) const VERSION: &str = "7.0.15";

type Section = fn(&mut Store) -> Vec<(&'static str, String)>;

const SECTIONS: [(&str, Section); 7] = [
    ("Server", server_section),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Keyspace", keyspace),
];

fn info(store: &mut Store, _: &mut Session, args: &[Vec<u8>]) -> Answer {
    let asked: Vec<String> =
        args[1..].iter().map(|arg| String::from_utf8_lossy(arg).to_ascii_lowercase()).collect();
    let everything = asked.is_empty()
        || asked.iter().any(|name| ["all", "default", "everything"].contains(&name.as_str()));
    let mut parts = Vec::new();
    for (name, section) in SECTIONS {
        if everything || asked.contains(&name.to_ascii_lowercase()) {
            let fields = section(store).into_iter().map(|(field, value)| format!("{field}:{value}\r\n"));
            parts.push(format!("# {name}\r\n{}", fields.collect::<String>()));
        }
    }
    Ok(Reply::Text(parts.join("\r\n")))
}

fn server_section(store: &mut Store) -> Vec<(&'static str, String)> {
    let uptime = store.db.now_ms().saturating_sub(store.started_ms) / 1000;
    vec![
        ("redis_version", VERSION.into()),
        ("redis_git_sha1", "00000000".into()),
        ("redis_mode", "standalone".into()),
        ("quorate_embedded", "1".into()),
        ("arch_bits", "64".into()),
        ("process_id", store.starts.to_string()),
        ("run_id", store.run_id.clone()),
        ("tcp_port", store.config.number("port").to_string()),
        ("server_time_usec", (store.db.now_ms() * 1000).to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86_400).to_string()),
    ]
}

fn clients(store: &mut Store) -> Vec<(&'static str, String)> {
    vec![
        ("connected_clients", (store.sessions.len() + 1).to_string()),
        ("maxclients", store.config.number("maxclients").to_string()),
        ("blocked_clients", "0".into()),
    ]
}

fn memory(store: &mut Store) -> Vec<(&'static str, String)> {
    let policy = store.config.get("maxmemory-policy").unwrap_or("noeviction").to_string();
    vec![
        ("used_memory", store.memory_in_use().to_string()),
        ("used_memory_startup", faults::BASE_MEMORY.to_string()),
        ("maxmemory", store.config.number("maxmemory").to_string()),
        ("maxmemory_policy", policy),
    ]
}

fn persistence(store: &mut Store) -> Vec<(&'static str, String)> {
    let yes = |yes: bool| if yes { "1" } else { "0" }.to_string();
    let status = if store.failing == Some(Env::Misconf) { "err" } else { "ok" };
    vec![
        ("loading", yes(store.failing == Some(Env::Loading))),
        ("async_loading", "0".into()),
        ("rdb_changes_since_last_save", store.db.dirty().to_string()),
        ("rdb_bgsave_in_progress", "0".into()),
        ("rdb_last_bgsave_status", "ok".into()),
        ("aof_enabled", yes(store.config.get("appendonly") == Some("yes"))),
        ("aof_rewrite_in_progress", "0".into()),
        ("aof_last_write_status", status.into()),
    ]
}

fn stats(store: &mut Store) -> Vec<(&'static str, String)> {
    vec![
        ("total_connections_received", (store.next_session - 1).to_string()),
        ("total_commands_processed", store.commands.to_string()),
        ("evicted_keys", "0".into()),
    ]
}

fn replication(store: &mut Store) -> Vec<(&'static str, String)> {
    let role = if store.failing == Some(Env::ReadOnly) { "slave" } else { "master" };
    vec![
        ("role", role.into()),
        ("connected_slaves", "0".into()),
        ("master_failover_state", "no-failover".into()),
        ("master_replid", store.run_id.clone()),
        ("master_replid2", "0".repeat(40)),
        ("master_repl_offset", "0".into()),
        ("second_repl_offset", "-1".into()),
    ]
}

fn keyspace(store: &mut Store) -> Vec<(&'static str, String)> {
    let (keys, volatile) = (store.db.len(), store.db.volatile_len());
    if keys == 0 {
        return Vec::new();
    }
    vec![("db0", format!("keys={keys},expires={volatile},avg_ttl=0"))]
}
