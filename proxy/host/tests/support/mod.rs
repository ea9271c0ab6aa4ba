//! Worlds and components for the tests of the host.
#![allow(dead_code)]

use quorate_core::topology::{Backend, Topology};
use quorate_host::{Host, HostError, Limits, Planner, Policy, Source};
use std::sync::LazyLock;

pub const SIZED: &[u8] = include_bytes!("../../../../plugins/dist/sized.wasm");
pub const NAUGHTY: &[u8] = include_bytes!("../../../../plugins/dist/naughty.wasm");

/// Backends r1, r2, … in these zones; the proxy is in the first one.
pub fn topology(zones: &[&str]) -> Topology {
    let backend = |(i, zone): (usize, &&str)| Backend::new(format!("r{}", i + 1), "g", *zone);
    let backends = zones.iter().enumerate().map(backend).collect();
    Topology { epoch: 1, local_zone: zones[0].into(), slots: 16_384, backends }
}

/// Deadlines for guests that loop. Too short for anything else on a busy machine.
pub fn tight() -> Limits {
    Limits { call_deadline_ms: 500, decide_deadline_ms: 20, ..Limits::default() }
}

/// Deadlines that no guest that ends can miss.
pub fn patient() -> Limits {
    Limits { call_deadline_ms: 60_000, decide_deadline_ms: 60_000, ..Limits::default() }
}

/// One engine for all tests of a file: compiling is most of their time.
pub fn host() -> &'static Host {
    static HOST: LazyLock<Host> = LazyLock::new(|| Host::new(None).expect("an engine"));
    &HOST
}

/// The policy that misbehaves, with time to do so.
pub fn naughty() -> &'static Policy {
    static PATIENT: LazyLock<Policy> = LazyLock::new(|| load(patient()));
    &PATIENT
}

/// The same with [`tight`] limits, for modes that loop.
pub fn looping() -> &'static Policy {
    static TIGHT: LazyLock<Policy> = LazyLock::new(|| load(tight()));
    &TIGHT
}

fn load(limits: Limits) -> Policy {
    host().load("naughty", Source::Bytes(NAUGHTY), limits).expect("it behaves while it is loaded")
}

/// The settings that choose a mode.
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
