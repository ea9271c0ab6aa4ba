//! A running proxy: threads, listeners, groups, and how they end.

mod accept;
mod own;
mod setup;
mod tasks;

use crate::config::{Config, Listener};
use crate::coordinator::{Coordinator, CoordinatorError, LocalCoordinator};
use crate::group::GroupShared;
use crate::journal::JournalError;
use crate::listen::Port;
use crate::listen::access::gate::{Gate, gates};
use crate::listen::access::users::Users;
use crate::listen::groups::Routes;
use crate::listen::groups::record::{self, RecordError};
use crate::listen::registry::Registry;
use crate::policies::{GroupPolicy, PolicyError};
use crate::telemetry::{Metrics, WorkerCounters};
use crate::tls::{Complaints, Terminator, Unusable};
use crate::worker::{Clock, Mail, Mailbox, Sequencer, Worker};
use accept::accept;
use own::Ownership;
use quorate_host::{Host, HostError};
use quorate_wire::resp::Limits;
use setup::{open_journal, share};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{interval, sleep, timeout};

const TICK: Duration = Duration::from_millis(10);
const SWEEP: Duration = Duration::from_secs(1);

/// Why a proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] CoordinatorError),
    /// The policy engine itself.
    #[error(transparent)]
    Engine(#[from] HostError),
    /// A group's policy.
    #[error("group '{group}': {error}")]
    Policy {
        /// The group.
        group: String,
        /// What is wrong.
        error: PolicyError,
    },
    /// A group's journal, where its durability asks for one.
    #[error("group '{group}': {error}")]
    Journal {
        /// The group.
        group: String,
        /// What is wrong.
        error: JournalError,
    },
    /// A listener's certificate.
    #[error("listener '{listener}': {error}")]
    Tls {
        /// The listener.
        listener: String,
        /// What is wrong.
        error: Unusable,
    },
    /// A listener's groups.
    #[error(transparent)]
    Groups(#[from] RecordError),
    /// A listener's address.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// As configured.
        address: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// A thread or its runtime.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// A proxy that serves.
pub struct Proxy {
    /// Where each listener ended up, by name.
    pub addresses: Vec<(String, SocketAddr)>,
    /// The groups.
    pub groups: Vec<Arc<GroupShared>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who may connect.
    pub users: Arc<Users>,
    registry: Arc<Registry>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    acceptors: JoinSet<()>,
    drain_timeout: Duration,
}

impl Proxy {
    /// Starts threads and listeners. Groups begin to serve when enough of their backends are attached.
    pub async fn start(config: &Config) -> Result<Proxy, StartError> {
        let coordinator = LocalCoordinator::open(&config.state.dir).await?;
        for listener in &config.listeners {
            let mut served = Vec::new();
            for group in &listener.groups {
                served.push(coordinator.has_served(group).await?);
            }
            record::hold(&config.state.dir, &listener.groups, &served)?;
        }
        let host = Host::new(Some(&config.state.dir.join("compiled")))?;
        let mut groups = Vec::new();
        let mut policies = Vec::new();
        let mut ownerships = Vec::new();
        let count = config.proxy.workers;
        let mailboxes: Arc<[Arc<Mailbox>]> = (0..count).map(|_| Arc::default()).collect();
        for (index, group) in config.groups.iter().enumerate() {
            let failed = |error| StartError::Policy { group: group.name.clone(), error };
            let policy = GroupPolicy::load(&host, group).map_err(failed)?;
            let shared = Arc::new(share(config, index, &policy).map_err(failed)?);
            let plans = shared.routing.load().table.plans().to_vec();
            let recorder = open_journal(config, index, mailboxes[index % count].clone()).await?;
            let (config, coordinator) = (config.clone(), coordinator.clone());
            let shared_too = shared.clone();
            let group = index;
            ownerships.push(Ownership { config, group, shared: shared_too, plans, coordinator, recorder });
            policies.push(policy);
            groups.push(shared);
        }
        let registry = Arc::new(Registry::default());
        let counters: Vec<Arc<WorkerCounters>> = (0..count).map(|_| Arc::default()).collect();
        let users = Arc::new(Users::new(config, mailboxes.clone()));
        let gates = gates(config, &users);
        let metrics = Metrics {
            gates: gates.clone(),
            workers: counters.clone(),
            groups: groups.clone(),
            clients: registry.clone(),
            terminators: terminators(config)?,
        };
        let terminators = metrics.terminators.clone();
        let clock = Clock::start();
        for (index, counters) in counters.into_iter().enumerate() {
            let mut handles = Vec::new();
            for (policy, shared) in policies.iter().zip(&groups) {
                let decider = policy.decider(shared.counters.policy_faults.clone()).unwrap_or_else(|error| {
                    tracing::error!(group = shared.name, "the policy's decider cannot be used: {error}");
                    None
                });
                handles.push((shared.clone(), decider));
            }
            let owned: Vec<Ownership> =
                ownerships.iter().filter(|o| o.group % count == index).cloned().collect();
            let (registry, mailboxes) = (registry.clone(), mailboxes.clone());
            let run = move || {
                let worker = Worker::new(index, clock, registry, handles, counters, mailboxes.clone());
                work(Rc::new(worker), index, owned, mailboxes);
            };
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            thread.spawn(run).map_err(StartError::Thread)?;
        }
        let mut proxy = Proxy {
            addresses: Vec::new(),
            groups,
            metrics: Arc::new(metrics),
            users,
            registry,
            mailboxes,
            acceptors: JoinSet::new(),
            drain_timeout: config.proxy.drain_timeout,
        };
        for (listener, gate) in config.listeners.iter().zip(gates) {
            let terminator = terminators.iter().find(|t| t.listener == listener.name).cloned();
            proxy.listen(listener, terminator, gate).await?;
        }
        // The ticker that ends runaway guests lives as long as the engine.
        std::mem::forget(host);
        Ok(proxy)
    }

    async fn listen(
        &mut self,
        listener: &Listener,
        terminator: Option<Arc<Terminator>>,
        gate: Arc<Gate>,
    ) -> Result<(), StartError> {
        let named = |name: &String| self.groups.iter().find(|group| group.name == *name).cloned();
        let groups: Vec<Arc<GroupShared>> = listener.groups.iter().filter_map(named).collect();
        let Some(group) = groups.first().cloned() else { return Ok(()) };
        let address = (listener.address.host.as_str(), listener.address.port);
        let failed = |error| StartError::Listen { address: listener.address.to_string(), error };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let limits = Limits {
            bulk: size(listener.max_request),
            frame: size(listener.max_command).min(u32::MAX as usize),
            ..Limits::default()
        };
        let port = Arc::new(Port {
            name: listener.name.clone(),
            routes: (groups.len() > 1).then(|| Routes::even(groups.len(), listener.split_mset)),
            groups,
            group,
            gate,
            limits,
            cluster: listener.cluster.clone(),
            tls: listener.tls.is_some(),
            max_clients: u64::from(listener.max_clients),
            clients: AtomicU64::new(0),
            output_limit: size(listener.output_limit),
            idle_timeout_ms: AtomicU64::new(listener.idle_timeout.as_millis() as u64),
            complaints: Complaints::default(),
        });
        self.addresses.push((listener.name.clone(), socket.local_addr().map_err(failed)?));
        if let Some(terminator) = &terminator {
            self.acceptors.spawn(terminator.clone().watch());
        }
        self.acceptors.spawn(accept(socket, port, terminator, self.mailboxes.clone()));
        Ok(())
    }

    /// Takes nothing new, lets clients finish, and returns when all are gone or time is up.
    /// `true` when nobody was cut off.
    pub async fn drain(mut self) -> bool {
        self.acceptors.shutdown().await;
        let finish = async {
            while !self.registry.is_empty() {
                self.mailboxes.iter().for_each(|mailbox| mailbox.post(Mail::Drain));
                sleep(TICK).await;
            }
        };
        timeout(self.drain_timeout, finish).await.is_ok()
    }
}

/// Those who end TLS, of the listeners that have it.
fn terminators(config: &Config) -> Result<Vec<Arc<Terminator>>, StartError> {
    let secure = config.listeners.iter().filter_map(|listener| Some((listener, listener.tls.as_ref()?)));
    let open = |(listener, files): (&Listener, _)| {
        let failed = |error| StartError::Tls { listener: listener.name.clone(), error };
        Terminator::new(&listener.name, files).map(Arc::new).map_err(failed)
    };
    secure.map(open).collect()
}

/// The life of a worker's thread.
fn work(worker: Rc<Worker>, index: usize, owned: Vec<Ownership>, mailboxes: Arc<[Arc<Mailbox>]>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a worker cannot start"),
    };
    let local = LocalSet::new();
    let count = mailboxes.len();
    for group in 0..worker.groups.len() {
        if group % count != index {
            worker.set_sequencer(group, Sequencer::There(mailboxes[group % count].clone()));
        }
    }
    for ownership in owned {
        let driver = ownership.driver(&worker, index, mailboxes.clone());
        worker.set_sequencer(ownership.group, Sequencer::Here(driver.0.clone()));
        local.spawn_local(ownership.own(driver.0, driver.1));
    }
    let sweeper = worker.clone();
    local.spawn_local(async move {
        let mut sweep = interval(SWEEP);
        loop {
            sweep.tick().await;
            sweeper.sweep();
        }
    });
    runtime.block_on(local.run_until(worker.run()));
}
