//! Worlds and components for the tests of the host.
#![allow(dead_code)]

use quorate_core::topology::{Backend, BackendState, Topology};
use quorate_host::{Host, HostError, Limits, Planner, Policy, Source};
use std::sync::LazyLock;

pub const SIZED: &[u8] = include_bytes!("../../../../plugins/dist/sized.wasm");
pub const NAUGHTY: &[u8] = include_bytes!("../../../../plugins/dist/naughty.wasm");

/// Backends r1, r2, … in these zones; the proxy is in the first one.
pub fn topology(zones: &[&str]) -> Topology {
    let backend = |(i, zone): (usize, &&str)| Backend {
        name: format!("r{}", i + 1),
        kind: "redis".into(),
        group: "g".into(),
        zone: zone.to_string(),
        rack: String::new(),
        weight: 1,
        state: BackendState::Up,
        p50_us: 0,
        p99_us: 0,
        labels: vec![],
    };
    let backends = zones.iter().enumerate().map(backend).collect();
    Topology { epoch: 1, local_zone: zones[0].into(), slots: 16_384, backends }
}

/// Short deadlines, so that looping guests do not make the tests long.
pub fn tight() -> Limits {
    Limits { call_deadline_ms: 100, decide_deadline_ms: 5, ..Limits::default() }
}

/// One engine for all tests of a file: compiling is most of their time.
pub fn host() -> &'static Host {
    static HOST: LazyLock<Host> = LazyLock::new(|| Host::new(None).expect("an engine"));
    &HOST
}

/// The policy that misbehaves, with [`tight`] limits.
pub fn naughty() -> &'static Policy {
    static NAUGHTY_POLICY: LazyLock<Policy> = LazyLock::new(|| {
        host().load("naughty", Source::Bytes(NAUGHTY), tight()).expect("it behaves while it is loaded")
    });
    &NAUGHTY_POLICY
}

pub fn mode(mode: &str) -> String {
    format!("{{\"mode\": \"{mode}\"}}")
}

/// The misbehaving policy, told how.
pub fn planner(how: &str) -> Planner {
    naughty().configure(&mode(how)).expect("it configures well")
}

/// The code of what should have failed.
pub fn code<T>(result: Result<T, HostError>) -> &'static str {
    match result {
        Ok(_) => "none",
        Err(error) => error.code(),
    }
}
