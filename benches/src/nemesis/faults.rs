//! What the nemesis does to processes, cables and disks, and how it is taken back.

use super::cluster::{BACKENDS, Cluster};
use super::dice::Dice;
use super::network::Host;
use std::io;

/// One fault. Backends and proxies are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fault {
    /// `kill -9`, and started again.
    Kill { backend: usize },
    /// The same, and the last bytes of its append-only file are gone: a power loss.
    Amnesia { backend: usize, bytes: u64 },
    /// The same, and the file ends in the middle of a transaction. Redis 7.0 keeps the torn part, and applies it when it
    /// is started the next time: see the operations manual. Asked for by name.
    Torn { backend: usize, bytes: u64 },
    /// SIGSTOP, SIGCONT: it keeps its connections and says nothing.
    Freeze { backend: usize },
    /// Its cable is pulled.
    Cut { backend: usize },
    /// It hears, but what it says to the proxies disappears.
    Mute { backend: usize },
    /// What this proxy says to it disappears.
    Deaf { backend: usize, proxy: usize },
    /// Nothing passes between this proxy and it, in silence.
    Part { backend: usize, proxy: usize },
    /// What it is sent comes slowly.
    Slow { backend: usize },
    /// A fifth of the packets to it are lost.
    Loss { backend: usize },
    /// Its disk is full.
    DiskFull { backend: usize },
    /// The owner is killed with `kill -9`, and started again.
    ProxyKill { proxy: usize },
    /// The same, and its state folder is gone.
    ProxyAmnesia { proxy: usize },
    /// SIGSTOP, SIGCONT of the owner.
    ProxyFreeze { proxy: usize },
    /// Another proxy takes the group from this one, which lives on.
    TakeOver { proxy: usize },
    /// The same while this one is frozen; it thaws when it is no longer the owner.
    TakeOverFrozen { proxy: usize },
}

/// Makes one kind of fault for a backend and the owning proxy.
type Make = fn(usize, usize, &mut Dice) -> Fault;

const PROCESS: [Make; 3] = [
    |backend, _, _| Fault::Kill { backend },
    |backend, _, dice| Fault::Amnesia { backend, bytes: dice.between(1, 200_000) },
    |backend, _, _| Fault::Freeze { backend },
];
const CABLE: [Make; 5] = [
    |backend, _, _| Fault::Cut { backend },
    |backend, _, _| Fault::Mute { backend },
    |backend, proxy, _| Fault::Deaf { backend, proxy },
    |backend, proxy, _| Fault::Part { backend, proxy },
    |backend, _, _| Fault::Slow { backend },
];
const TORN: Make = |backend, _, dice| Fault::Torn { backend, bytes: dice.between(1, 200_000) };
const LOSS: Make = |backend, _, _| Fault::Loss { backend };
const DISK: Make = |backend, _, _| Fault::DiskFull { backend };
const PROXY: [Make; 5] = [
    |_, proxy, _| Fault::ProxyKill { proxy },
    |_, proxy, _| Fault::ProxyAmnesia { proxy },
    |_, proxy, _| Fault::ProxyFreeze { proxy },
    |_, proxy, _| Fault::TakeOver { proxy },
    |_, proxy, _| Fault::TakeOverFrozen { proxy },
];

/// The kinds of faults that can be had here.
#[derive(Debug, Clone)]
pub struct Kinds {
    backend: Vec<Make>,
    proxy: Vec<Make>,
}

impl Kinds {
    /// What this cluster can suffer; torn files if they are wanted.
    pub fn of(cluster: &Cluster, torn: bool) -> Kinds {
        let mut backend = PROCESS.to_vec();
        if torn {
            backend.push(TORN);
        }
        if cluster.network.has_cables() {
            backend.extend(CABLE);
        }
        if cluster.network.has_loss() {
            backend.push(LOSS);
        }
        if cluster.small_disks {
            backend.push(DISK);
        }
        Kinds { backend, proxy: PROXY.to_vec() }
    }

    /// How many kinds concern backends, and how many proxies.
    pub fn counts(&self) -> (usize, usize) {
        (self.backend.len(), self.proxy.len())
    }

    /// A fault of the backend's kind with this number.
    pub fn backend(&self, kind: usize, backend: usize, owner: usize, dice: &mut Dice) -> Fault {
        self.backend[kind % self.backend.len()](backend % BACKENDS, owner, dice)
    }

    /// A fault of the proxy's kind with this number.
    pub fn proxy(&self, kind: usize, owner: usize, dice: &mut Dice) -> Fault {
        self.proxy[kind % self.proxy.len()](0, owner, dice)
    }
}

impl Fault {
    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill { .. } => "kill",
            Fault::Amnesia { .. } => "amnesia",
            Fault::Torn { .. } => "torn",
            Fault::Freeze { .. } => "freeze",
            Fault::Cut { .. } => "cut",
            Fault::Mute { .. } => "mute",
            Fault::Deaf { .. } => "deaf",
            Fault::Part { .. } => "part",
            Fault::Slow { .. } => "slow",
            Fault::Loss { .. } => "loss",
            Fault::DiskFull { .. } => "disk-full",
            Fault::ProxyKill { .. } => "proxy-kill",
            Fault::ProxyAmnesia { .. } => "proxy-amnesia",
            Fault::ProxyFreeze { .. } => "proxy-freeze",
            Fault::TakeOver { .. } => "take-over",
            Fault::TakeOverFrozen { .. } => "take-over-frozen",
        }
    }

    /// The name of the process that suffers it.
    pub fn victim(self) -> String {
        match self {
            Fault::Kill { backend }
            | Fault::Amnesia { backend, .. }
            | Fault::Torn { backend, .. }
            | Fault::Freeze { backend }
            | Fault::Cut { backend }
            | Fault::Mute { backend }
            | Fault::Deaf { backend, .. }
            | Fault::Part { backend, .. }
            | Fault::Slow { backend }
            | Fault::Loss { backend }
            | Fault::DiskFull { backend } => Host::Backend(backend).name(),
            Fault::ProxyKill { proxy }
            | Fault::ProxyAmnesia { proxy }
            | Fault::ProxyFreeze { proxy }
            | Fault::TakeOver { proxy }
            | Fault::TakeOverFrozen { proxy } => Host::Proxy(proxy).name(),
        }
    }

    /// Does it.
    pub fn inject(self, cluster: &mut Cluster) -> io::Result<()> {
        let network = &cluster.network;
        match self {
            Fault::Kill { backend } => cluster.backends[backend].kill(),
            Fault::Amnesia { backend, bytes } => {
                cluster.backends[backend].kill()?;
                cluster.backends[backend].forget_last(bytes, false)
            }
            Fault::Torn { backend, bytes } => {
                cluster.backends[backend].kill()?;
                cluster.backends[backend].forget_last(bytes, true)
            }
            Fault::Freeze { backend } => cluster.backends[backend].freeze(),
            Fault::Cut { backend } => network.set_cable(Host::Backend(backend), false),
            Fault::Mute { backend } => [0, 1].into_iter().try_for_each(|proxy| {
                network.set_blackhole(Host::Backend(backend), Host::Proxy(proxy), true)
            }),
            Fault::Deaf { backend, proxy } => {
                network.set_blackhole(Host::Proxy(proxy), Host::Backend(backend), true)
            }
            Fault::Part { backend, proxy } => set_part(cluster, backend, proxy, true),
            Fault::Slow { backend } => network.set_rate(Host::Backend(backend), Some("1mbit")),
            Fault::Loss { backend } => network.set_loss(Host::Backend(backend), 20),
            Fault::DiskFull { backend } => cluster.backends[backend].fill_disk(),
            Fault::ProxyKill { proxy } | Fault::ProxyAmnesia { proxy } => cluster.proxies[proxy].kill(),
            Fault::ProxyFreeze { proxy } => cluster.proxies[proxy].freeze(),
            Fault::TakeOver { proxy } => take_over(cluster, proxy),
            Fault::TakeOverFrozen { proxy } => {
                cluster.proxies[proxy].freeze()?;
                take_over(cluster, proxy)
            }
        }
    }

    /// Takes it back.
    pub fn heal(self, cluster: &mut Cluster) -> io::Result<()> {
        let network = &cluster.network;
        match self {
            Fault::Kill { backend } | Fault::Amnesia { backend, .. } | Fault::Torn { backend, .. } => {
                cluster.backends[backend].start(network)
            }
            Fault::Freeze { backend } => cluster.backends[backend].thaw(),
            Fault::Cut { backend } => network.set_cable(Host::Backend(backend), true),
            Fault::Mute { backend } => [0, 1].into_iter().try_for_each(|proxy| {
                network.set_blackhole(Host::Backend(backend), Host::Proxy(proxy), false)
            }),
            Fault::Deaf { backend, proxy } => {
                network.set_blackhole(Host::Proxy(proxy), Host::Backend(backend), false)
            }
            Fault::Part { backend, proxy } => set_part(cluster, backend, proxy, false),
            Fault::Slow { backend } => network.set_rate(Host::Backend(backend), None),
            Fault::Loss { backend } => network.set_loss(Host::Backend(backend), 0),
            Fault::DiskFull { backend } => cluster.backends[backend].empty_disk(),
            Fault::ProxyKill { proxy } => cluster.proxies[proxy].start(network),
            Fault::ProxyAmnesia { proxy } => {
                cluster.proxies[proxy].forget()?;
                cluster.proxies[proxy].start(network)
            }
            Fault::ProxyFreeze { proxy } | Fault::TakeOverFrozen { proxy } => cluster.proxies[proxy].thaw(),
            Fault::TakeOver { .. } => Ok(()),
        }
    }
}

fn set_part(cluster: &Cluster, backend: usize, proxy: usize, on: bool) -> io::Result<()> {
    let (proxy, backend) = (Host::Proxy(proxy), Host::Backend(backend));
    cluster.network.set_blackhole(proxy, backend, on)?;
    cluster.network.set_blackhole(backend, proxy, on)
}

/// The other proxy is started afresh; it fences this one.
fn take_over(cluster: &mut Cluster, from: usize) -> io::Result<()> {
    let other = 1 - from;
    cluster.proxies[other].kill()?;
    cluster.proxies[other].start(&cluster.network)?;
    cluster.owner = other;
    Ok(())
}
