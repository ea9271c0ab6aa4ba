//! `[admin]`, `[state]`, `[proxy]` and `[log]`: the process itself.

use super::super::address::Address;
use super::super::place::Place;
use super::text::duration_text;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[admin]`: metrics, health, API and page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Admin {
    /// Where to bind; port 0 lets the system choose.
    pub address: Address,
    /// Where the address stands.
    #[serde(skip)]
    pub at: Place,
}

/// `[state]`: what survives a restart of the proxy. Losing it loses no acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct State {
    /// The folder.
    pub dir: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        State { dir: PathBuf::from("quorate-state") }
    }
}

/// `[proxy]`: the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Proxy {
    /// Threads that serve clients, 1 to 64.
    pub workers: usize,
    /// The zone that this proxy runs in; empty where none was given.
    pub zone: String,
    /// Time for clients to finish when the proxy stops.
    #[serde(serialize_with = "duration_text")]
    pub drain_timeout: Duration,
    /// Where the zone stands.
    #[serde(skip)]
    pub at: Place,
}

impl Default for Proxy {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Proxy {
            workers: cores.clamp(1, 64),
            zone: String::new(),
            drain_timeout: Duration::from_secs(10),
            at: Place::NOWHERE,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important lines that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// Lower-case name, as `tracing` filters read it.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// `[log]`: what is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least important lines that are logged.
    pub level: LogLevel,
}
