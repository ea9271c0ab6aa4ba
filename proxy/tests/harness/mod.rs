//! Real servers, the real binary and a small client, for tests of whole processes.
//!
//! Nothing here waits for a time to pass: everything waits for a condition, with a deadline that a
//! loaded machine still meets.

// Each test file uses its own part of this.
#![allow(dead_code, unused_imports)]

mod client;
mod compare;
mod load;
mod proxy;
mod server;

pub use client::{Client, Value, encode, lines, words};
pub use compare::{assert_equal, difference};
pub use load::{Load, Record};
pub use proxy::{Cluster, Finished, Proxy, Setup, http, ports, quorate, repository};
pub use server::{Kind, Server, signal};

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer than anything takes on a slow, loaded machine, unless it never comes.
pub const LONG: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds; fails with `what` after `deadline`.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        std::thread::sleep(POLL);
    }
}

/// A port that nobody listens on. Below the range from which the system takes ports of outgoing
/// connections, so that it stays free while a server is restarted.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static START: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_micros());
        std::process::id().wrapping_mul(7919).wrapping_add(now)
    });
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + START.wrapping_add(turn) % COUNT) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A small generator of pseudo-random numbers: the same seed gives the same run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
