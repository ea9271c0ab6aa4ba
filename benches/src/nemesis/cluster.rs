//! All processes of a run, in one folder and one network.

use super::compare;
use super::connection::Connection;
use super::janitor::Janitor;
use super::network::Network;
use super::process::{Backend, Proxy};
use crate::process::find_program;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Backends of a run. A write waits for two.
pub const BACKENDS: usize = 3;
/// How long anything may take that must happen in the end.
pub const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);

/// The programs under test.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Programs {
    pub server: PathBuf,
    pub quorate: PathBuf,
}

impl Programs {
    /// Finds what was not named: the server from `QUORATE_VALKEY` or the PATH, Quorate beside this program.
    pub fn find(server: Option<PathBuf>, quorate: Option<PathBuf>) -> io::Result<Programs> {
        let missing = |what: &str| io::Error::new(io::ErrorKind::NotFound, what.to_string());
        let from_variable = || std::env::var_os("QUORATE_VALKEY").map(PathBuf::from);
        let server = server
            .or_else(|| find_program(&["redis-server"]))
            .or_else(from_variable)
            .or_else(|| find_program(&["valkey-server"]))
            .ok_or_else(|| missing("redis-server not found: install it, or name one with --server"))?;
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join("quorate")).filter(|p| p.is_file());
        let quorate = quorate.or_else(beside).ok_or_else(|| {
            missing("quorate not found beside this program: build it with 'cargo build -p quorate', or name one with --quorate")
        })?;
        // Not to where links lead: redis-server is a link, and behaves by its name.
        Ok(Programs { server: std::path::absolute(server)?, quorate: std::path::absolute(quorate)? })
    }
}

/// Three backends and two proxies, of which the second is not started.
#[derive(Debug)]
pub struct Cluster {
    /// Where they live.
    pub network: Network,
    /// Why there is no network that can be hurt, if so.
    pub without_cables: Option<String>,
    /// Do the backends have disks that can be full?
    pub small_disks: bool,
    /// The backends.
    pub backends: Vec<Backend>,
    /// The proxies.
    pub proxies: Vec<Proxy>,
    /// The proxy that was started last, and so owns the group.
    pub owner: usize,
    /// Replicas that had to be copied anew, by the recipe of the operations manual.
    pub reseeds: u64,
    /// The folder of all logs and data.
    pub dir: PathBuf,
    // Last: it ends the processes.
    _janitor: Janitor,
}

impl Cluster {
    /// Starts everything, in namespaces if `cables` are wanted and can be had, and waits until all are in sync.
    pub fn start(programs: &Programs, cables: bool) -> io::Result<Cluster> {
        Self::start_with(programs, cables, "")
    }

    /// The same with further lines in the section of the group.
    pub fn start_with(programs: &Programs, cables: bool, group: &str) -> io::Result<Cluster> {
        let dir = tempfile::Builder::new().prefix("quorate-nemesis-").tempdir()?.keep();
        let planned = Network::plan();
        let janitor = Janitor::start(&dir, &planned.namespaces())?;
        let (network, without_cables) = match cables.then(|| planned.build()) {
            None => (Network::Loopback, Some("not wanted".to_string())),
            Some(Ok(())) => (planned, None),
            Some(Err(error)) => (Network::Loopback, Some(error.to_string())),
        };
        let backends: Vec<Backend> = (0..BACKENDS)
            .map(|nth| Backend::new(nth, &programs.server, &network, &dir))
            .collect::<io::Result<_>>()?;
        let small_disks = network.has_cables() && backends.iter().all(|b| b.mount_small_disk().is_ok());
        let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
        let proxies = (0..2)
            .map(|nth| Proxy::new(nth, &programs.quorate, &network, (&addresses, group), &dir))
            .collect::<io::Result<_>>()?;
        let mut cluster = Cluster {
            network,
            without_cables,
            small_disks,
            backends,
            proxies,
            owner: 0,
            reseeds: 0,
            dir,
            _janitor: janitor,
        };
        cluster.start_processes()?;
        Ok(cluster)
    }

    fn start_processes(&mut self) -> io::Result<()> {
        for backend in &mut self.backends {
            backend.start(&self.network)?;
        }
        (0..BACKENDS).try_for_each(|nth| self.wait_answers(nth))?;
        self.proxies[0].start(&self.network)?;
        self.wait_in_sync()
    }

    /// Where clients connect.
    pub fn front(&self) -> Vec<SocketAddr> {
        self.proxies.iter().map(|proxy| proxy.address).collect()
    }

    /// The proxy that owns the group.
    pub fn owner(&self) -> &Proxy {
        &self.proxies[self.owner]
    }

    /// The state of each replica, as the owner sees it.
    pub fn states(&self) -> Vec<String> {
        let group = self.owner().group();
        let replicas = group["replicas"].as_array().cloned().unwrap_or_default();
        replicas.iter().map(|r| r["state"].as_str().unwrap_or_default().to_string()).collect()
    }

    /// The proxy's own account of what is wrong.
    pub fn account(&self) -> String {
        let group = self.owner().group();
        let problems: Vec<String> =
            group["replicas"].as_array().into_iter().flatten().map(ToString::to_string).collect();
        format!("phase {}, waits for {}\n  {}", group["phase"], group["waits_for"], problems.join("\n  "))
    }

    /// Waits until the owner serves and every replica is in sync, as an operator would: what is stale is copied anew.
    pub fn wait_in_sync(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let states = self.states();
            let all = states.len() == BACKENDS && states.iter().all(|state| state == "in-sync");
            if all && self.owner().serves() {
                return Ok(());
            }
            self.assert_alive()?;
            if let (Some(bad), Some(good)) = (place(&states, "stale"), place(&states, "in-sync")) {
                self.reseed(bad, good)?;
            }
            self.wait(deadline, || format!("not all replicas are in sync again: {}", self.account()))?;
        }
    }

    /// Waits until a backend carries out commands.
    pub fn wait_answers(&mut self, nth: usize) -> io::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !self.backends[nth].answers() {
            self.wait(deadline, || format!("{} does not answer", self.backends[nth].host.name()))?;
            self.backends[nth].assert_alive()?;
        }
        Ok(())
    }

    /// Waits until the owner serves.
    pub fn wait_serving(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !self.owner().serves() {
            self.assert_alive()?;
            self.wait(deadline, || {
                format!("{} does not serve: {}", self.owner().host.name(), self.account())
            })?;
        }
        Ok(())
    }

    /// An error when a process ended although nobody ended it.
    pub fn assert_alive(&mut self) -> io::Result<()> {
        self.backends.iter_mut().try_for_each(Backend::assert_alive)?;
        self.proxies.iter_mut().try_for_each(Proxy::assert_alive)
    }

    /// The recipe of the operations manual for a stale replica.
    fn reseed(&mut self, bad: usize, good: usize) -> io::Result<()> {
        self.reseeds += 1;
        let source = self.backends[good].address;
        let mut server = self.backends[bad].connect()?;
        server.line(&format!("REPLICAOF {} {}", source.ip(), source.port()))?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let info = server.line("INFO replication")?;
            if info.text().is_some_and(|text| text.contains("master_link_status:up")) {
                break;
            }
            self.wait(deadline, || format!("{} is not copied", self.backends[bad].host.name()))?;
        }
        server.line("REPLICAOF NO ONE")?;
        let deadline = Instant::now() + DEADLINE;
        while self.states().get(bad).is_some_and(|state| state == "stale") {
            self.wait(deadline, || {
                format!("{} stays stale: {}", self.backends[bad].host.name(), self.account())
            })?;
        }
        Ok(())
    }

    /// Connections to all backends.
    pub fn connect_backends(&self) -> io::Result<Vec<Connection>> {
        self.backends.iter().map(Backend::connect).collect()
    }

    /// Waits until all backends are at one position of the log, and stay there while they are read: keys end all the
    /// time. Gives the number of keys and those that differ.
    pub fn divergent(&self) -> io::Result<(usize, Vec<String>)> {
        let mut servers = self.connect_backends()?;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let positions = compare::positions(&mut servers)?;
            if positions.iter().all(|position| *position == positions[0]) {
                let found = compare::divergent(&mut servers)?;
                if compare::positions(&mut servers)? == positions {
                    return Ok(found);
                }
            }
            self.wait(deadline, || format!("positions do not come to rest: {positions:?}"))?;
        }
    }

    fn wait(&self, deadline: Instant, problem: impl FnOnce() -> String) -> io::Result<()> {
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, problem()));
        }
        std::thread::sleep(LOOK);
        Ok(())
    }
}

fn place(states: &[String], wanted: &str) -> Option<usize> {
    states.iter().position(|state| state == wanted)
}
