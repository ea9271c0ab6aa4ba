//! A running proxy: threads, listeners, groups, and how they end.

use crate::backend::attach::{self, Owner};
use crate::backend::deadlines::Survey;
use crate::backend::disk::Disk;
use crate::backend::link::Link;
use crate::backend::reseed::{Reseeds, Seeds};
use crate::backend::scrub::Scrubber;
use crate::backend::serve::{Attendant, Peers};
use crate::backend::subscriber::Feed;
use crate::config::{self, Config, Durability, Listener};
use crate::coordinator::{Coordinator, CoordinatorError, LocalCoordinator};
use crate::drive::Driver;
use crate::group::{GroupShared, Routing};
use crate::journal::JournalError;
use crate::listen::Port;
use crate::listen::access::gate::{Gate, Shed, gates};
use crate::listen::access::users::Users;
use crate::listen::groups::Routes;
use crate::listen::groups::record::{self, RecordError};
use crate::listen::inspect::Inspection;
use crate::listen::monitor::Watchers;
use crate::listen::pubsub::Hub;
use crate::listen::registry::Registry;
use crate::memory::Memory;
use crate::policies::{GroupPolicy, PolicyError, topology};
use crate::recorder::{Recorder, journaling};
use crate::scripts::Scripts;
use crate::telemetry::{Metrics, WorkerCounters};
use crate::tls::accept::MOST_HANDSHAKES;
use crate::tls::{Arrival, Complaints, Terminator, Unusable};
use crate::worker::{Clock, Mail, Mailbox, Sequencer, Worker};
use arc_swap::ArcSwap;
use quorate_core::ordered::{Ack, Entry, Event, Group, GroupConfig, Journaling, Past, Phase};
use quorate_core::plan::{Plan, Table};
use quorate_core::quorum::covers;
use quorate_core::rule::{self, Mask, Rule};
use quorate_host::{Host, HostError};
use quorate_wire::command::StreamStamp;
use quorate_wire::resp::{Copier, Framer, Limits, Reserved};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet, LocalSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

const TICK: Duration = Duration::from_millis(10);
const SWEEP: Duration = Duration::from_secs(1);
const PROBE_LIMIT: Duration = Duration::from_secs(2);
const PROBE_WAIT: Duration = Duration::from_millis(250);

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

/// What the worker that owns a group needs to know of it.
#[derive(Clone)]
struct Ownership {
    config: Config,
    group: usize,
    shared: Arc<GroupShared>,
    plans: Vec<Plan>,
    coordinator: LocalCoordinator,
    recorder: Option<Recorder>,
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

fn share(config: &Config, index: usize, policy: &GroupPolicy) -> Result<GroupShared, PolicyError> {
    let group = &config.groups[index];
    let view = topology(config, group);
    let (keeper, fault) = policy.keep(&view)?;
    let counters = crate::telemetry::GroupCounters::default();
    if let Some(fault) = fault {
        counters.policy_faults.fetch_add(1, Ordering::Relaxed);
        tracing::error!(group = group.name, "{fault}; the built-in majority stands in");
    }
    let published = keeper.handle().load();
    let table: Table = published.table.clone();
    let replicas: Vec<String> = view.backends.iter().map(|b| b.name.clone()).collect();
    let mut stand_in = sequencer(GroupConfig::new(replicas.len(), 0), &[], &Reserved::new(&group.name));
    let numbers = stand_in.adopt_plans(table.plans());
    let health = stand_in.health();
    let routing = Routing { table, numbers, digest: published.digest.clone() };
    Ok(GroupShared {
        name: group.name.clone(),
        index,
        facts: replicas.iter().map(|_| Default::default()).collect(),
        runs: replicas.iter().map(|_| Default::default()).collect(),
        memory: Memory::new(replicas.len(), group.memory_watermark),
        replicas,
        fewest_in_sync: (group.ack == config::Ack::InSync).then(|| group.fewest_in_sync()),
        reserved: Reserved::new(&group.name),
        routing: Arc::new(ArcSwap::from_pointee(routing)),
        missing: Default::default(),
        health: ArcSwap::from_pointee(health),
        scripts: Scripts::new(group.scripts == config::Scripts::Verbatim),
        mixed: Default::default(),
        alike: Default::default(),
        scrub: Default::default(),
        hub: Hub::new(config.proxy.workers),
        watchers: Watchers::new(config.proxy.workers),
        tracker: Default::default(),
        inspection: Inspection::new(config.proxy.workers),
        fenced: AtomicU64::new(0),
        counters,
        policy: std::sync::Mutex::new(policy.label()),
    })
}

/// The journal of a group, if it is to have one. Hints that cannot be recorded only make a long absence
/// longer; a log that cannot be is a reason not to start.
async fn open_journal(
    config: &Config,
    index: usize,
    owner: Arc<Mailbox>,
) -> Result<Option<Recorder>, StartError> {
    let group = config.groups[index].clone();
    let wanted = journaling(&group, group.replicas.len());
    if wanted == Journaling::None {
        return Ok(None);
    }
    let (dir, name) = (config.state.dir.clone(), group.name.clone());
    let opened = spawn_blocking(move || Recorder::open(&dir, &group, index, owner)).await;
    match opened.unwrap_or(Err(JournalError::Closed)) {
        Ok((recorder, remarks)) => {
            remarks.iter().for_each(|remark| tracing::warn!(group = name, "journal: {remark}"));
            Ok(Some(recorder))
        }
        Err(error) if wanted == Journaling::Log => Err(StartError::Journal { group: name, error }),
        Err(error) => {
            tracing::error!(group = name, "no hints are recorded: {error}");
            Ok(None)
        }
    }
}

fn sequencer(config: GroupConfig, plans: &[Plan], reserved: &Reserved) -> Group {
    let copier = Copier::new(reserved.clone());
    Group::new(config, plans, Box::new(StreamStamp::default()), Box::new(copier))
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

async fn accept(
    socket: TcpListener,
    port: Arc<Port>,
    terminator: Option<Arc<Terminator>>,
    mailboxes: Arc<[Arc<Mailbox>]>,
) {
    let mut handshakes = Handshakes::default();
    let mut turn = 0;
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; those who wait in the backlog get their turn.
                tracing::warn!(listener = port.name, %error, "cannot accept a client");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if port.clients.fetch_add(1, Ordering::Relaxed) >= port.max_clients {
            port.clients.fetch_sub(1, Ordering::Relaxed);
            port.gate.shed(Shed::MaxClients);
            if terminator.is_none() {
                let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
            }
            continue;
        }
        let seat = Seat(Some(port.clone()));
        let mailbox = mailboxes[turn].clone();
        match &terminator {
            Some(terminator) => handshakes.begin(terminator.clone(), stream, seat, mailbox),
            None => seat.take(Arrival::new(stream, None).ok(), &mailbox),
        }
        turn = (turn + 1) % mailboxes.len();
    }
}

/// One of the clients that a listener may have; given back unless it is taken.
struct Seat(Option<Arc<Port>>);

impl Seat {
    fn take(mut self, arrival: Option<Arrival>, mailbox: &Mailbox) {
        if let Some(arrival) = arrival
            && let Some(port) = self.0.take()
        {
            mailbox.post(Mail::Accept(arrival, port));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(port) = &self.0 {
            port.clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The handshakes of one listener that are under way, the oldest first.
#[derive(Default)]
struct Handshakes {
    running: JoinSet<()>,
    order: VecDeque<AbortHandle>,
}

impl Handshakes {
    /// Begins one. Those who say nothing must not keep others out: when there are too many, the oldest goes.
    fn begin(&mut self, terminator: Arc<Terminator>, stream: TcpStream, seat: Seat, mailbox: Arc<Mailbox>) {
        while self.running.try_join_next().is_some() {}
        if self.order.len() >= 2 * MOST_HANDSHAKES || self.running.len() >= MOST_HANDSHAKES {
            self.order.retain(|handshake| !handshake.is_finished());
        }
        if self.running.len() >= MOST_HANDSHAKES
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
            terminator.crowded();
        }
        let handshake = async move { seat.take(terminator.greet(stream).await, &mailbox) };
        self.order.push_back(self.running.spawn(handshake));
    }
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

impl Ownership {
    fn driver(
        &self,
        worker: &Rc<Worker>,
        index: usize,
        mailboxes: Arc<[Arc<Mailbox>]>,
    ) -> (Rc<RefCell<Driver>>, Vec<Rc<Link>>) {
        let group = &self.config.groups[self.group];
        let replicas = self.shared.replicas.len();
        // Alone, a backend has nobody whom its tail could feed.
        let tail = if group.tail && replicas > 1 { group.tail_entries } else { 0 };
        let config = GroupConfig {
            log_bytes: usize::try_from(group.log_memory).unwrap_or(usize::MAX),
            queue_bytes: usize::try_from(group.queue_memory).unwrap_or(usize::MAX),
            tail_entries: tail,
            ack: match group.ack {
                config::Ack::Quorum => Ack::Quorum,
                config::Ack::InSync => Ack::InSync { min: group.fewest_in_sync() },
            },
            journal: if self.recorder.is_some() { journaling(group, replicas) } else { Journaling::None },
            ..GroupConfig::new(replicas, 0)
        };
        let framer = Framer::new(self.shared.reserved.clone(), tail > 0);
        let links: Vec<Rc<Link>> = (0..replicas).map(|i| Rc::new(Link::new(i, framer.clone()))).collect();
        let sequencer = sequencer(config, &self.plans, &self.shared.reserved);
        let here = (Rc::downgrade(worker), index);
        let driver =
            Driver::new(sequencer, self.shared.clone(), framer, worker.clock, links.clone(), here, mailboxes);
        let driver = driver.recording(self.recorder.clone());
        (Rc::new(RefCell::new(driver)), links)
    }

    /// Takes the group over and keeps it, until a newer owner does the same.
    async fn own(self, driver: Rc<RefCell<Driver>>, links: Vec<Rc<Link>>) {
        tokio::task::spawn_local(tick(driver.clone()));
        tokio::task::spawn_local(self.scrubber(&driver).run());
        self.ask_disks(&driver);
        let name = loop {
            match self.coordinator.identity().await {
                Ok(name) => break name,
                Err(error) => tracing::error!(group = self.shared.name, "no name: {error}"),
            }
            sleep(PROBE_LIMIT).await;
        };
        let id = format!("{name}-{:016x}", random());
        let password = format!("{:016x}{:016x}", random(), random());
        let mut least = 0;
        loop {
            let seen = self.survey().await;
            let foreign = !seen.id.starts_with(&name);
            let epoch =
                match self.coordinator.acquire(&self.shared.name, seen.epoch.max(least), foreign).await {
                    Ok(epoch) => epoch,
                    Err(error) => {
                        tracing::error!(group = self.shared.name, "no epoch: {error}");
                        sleep(PROBE_LIMIT).await;
                        continue;
                    }
                };
            let history = match self.coordinator.has_served(&self.shared.name).await {
                Ok(history) => history,
                Err(error) => {
                    tracing::error!(
                        group = self.shared.name,
                        "cannot tell whether the group served: {error}"
                    );
                    sleep(PROBE_LIMIT).await;
                    continue;
                }
            };
            let Some(restored) = self.restored().await else {
                sleep(PROBE_LIMIT).await;
                continue;
            };
            let in_sync = self.in_sync().await;
            if driver.borrow().group().phase() == Phase::Serving {
                // What it waited for came after all, behind the newer owner's back.
                return driver.borrow_mut().fenced(epoch);
            }
            driver.borrow_mut().restart(epoch, Past { history, restored, in_sync });
            let recording = tokio::task::spawn_local(self.clone().record_in_sync(driver.clone(), epoch));
            let learning = tokio::task::spawn_local(self.deadlines(&driver).run());
            let mut attendants = self.attend(&driver, &links, &Owner { epoch, id: id.clone() }, &password);
            let feed = self.feed(&driver, &Owner { epoch, id: id.clone() }, &password);
            let feed = tokio::task::spawn_local(feed.run());
            let ended = self.watch(&driver).await;
            feed.abort();
            match ended {
                Some(by) => {
                    least = by;
                    // Two who took the same number must not do so again and again.
                    sleep(Duration::from_millis(random() % 200)).await;
                }
                None => {
                    // Fenced, and each attendant ends by itself.
                    while attendants.join_next().await.is_some() {}
                    return;
                }
            }
            recording.abort();
            learning.abort();
            attendants.shutdown().await;
            links.iter().for_each(|link| link.shut());
        }
    }

    /// The recorded in-sync set, if it is known to be the last one and names replicas of this group only.
    async fn in_sync(&self) -> Option<Mask> {
        let names = self.coordinator.in_sync(&self.shared.name).await.unwrap_or(None)?;
        names.iter().try_fold(0, |mask, name| {
            Some(mask | 1 << self.shared.replicas.iter().position(|replica| replica == name)?)
        })
    }

    /// Keeps the record of the in-sync set as the core wants it: it acknowledges nothing on a set not recorded.
    async fn record_in_sync(self, driver: Rc<RefCell<Driver>>, epoch: u64) {
        let wanted = driver.borrow().wanted_in_sync();
        loop {
            let members = wanted.next().await;
            let names: Vec<String> = rule::indices(members).map(|i| self.shared.replica(i)).collect();
            loop {
                match self.coordinator.record_in_sync(&self.shared.name, epoch, &names).await {
                    Ok(true) => break,
                    // Another process took the group over with this state folder.
                    Ok(false) => return driver.borrow_mut().fenced(epoch + 1),
                    Err(error) => {
                        tracing::error!(
                            group = self.shared.name,
                            "the in-sync set cannot be recorded: {error}"
                        );
                        sleep(PROBE_WAIT).await;
                    }
                }
            }
            tracing::info!(group = self.shared.name, in_sync = names.join(" "), "in-sync set");
            driver.borrow_mut().run([Event::InSync(members)]);
        }
    }

    /// What the journal knows, where it is the log; `None` when it cannot be read now.
    async fn restored(&self) -> Option<Vec<Arc<Entry>>> {
        let group = &self.config.groups[self.group];
        let Some(recorder) = self.recorder.as_ref().filter(|_| group.durability == Durability::Journal)
        else {
            return Some(Vec::new());
        };
        let bytes = usize::try_from(group.log_memory).unwrap_or(usize::MAX);
        let entries = recorder.newest(bytes).await;
        entries
            .map_err(|error| {
                tracing::error!(group = self.shared.name, "cannot serve before its journal is read: {error}");
            })
            .ok()
    }

    fn scrubber(&self, driver: &Rc<RefCell<Driver>>) -> Scrubber {
        let group = &self.config.groups[self.group];
        Scrubber {
            backends: self.config.replicas(group).cloned().collect(),
            shared: self.shared.clone(),
            driver: driver.clone(),
            rate: group.scrub_rate,
            every: group.scrub_every.filter(|_| group.replicas.len() > 1),
        }
    }

    fn ask_disks(&self, driver: &Rc<RefCell<Driver>>) {
        let mut ask = Vec::new();
        for (replica, backend) in self.config.replicas(&self.config.groups[self.group]).enumerate() {
            let (sender, asked) = mpsc::unbounded_channel();
            let (backend, shared, driver) = (backend.clone(), self.shared.clone(), driver.clone());
            tokio::task::spawn_local(Disk { replica, backend, shared, driver, asked }.run());
            ask.push(sender);
        }
        driver.borrow_mut().set_disks(ask);
    }

    fn deadlines(&self, driver: &Rc<RefCell<Driver>>) -> Survey {
        let group = &self.config.groups[self.group];
        Survey {
            backends: self.config.replicas(group).cloned().collect(),
            shared: self.shared.clone(),
            driver: driver.clone(),
        }
    }

    fn attend(
        &self,
        driver: &Rc<RefCell<Driver>>,
        links: &[Rc<Link>],
        owner: &Owner,
        password: &str,
    ) -> JoinSet<()> {
        let mut attendants = JoinSet::new();
        let peers = Rc::new(Peers::new(links.to_vec()));
        let group = &self.config.groups[self.group];
        let seeds = Seeds::new(self.config.replicas(group).cloned().collect(), group);
        for (replica, backend) in self.config.replicas(group).enumerate() {
            let attendant = Attendant {
                replica,
                backend: backend.clone(),
                shared: self.shared.clone(),
                driver: driver.clone(),
                link: links[replica].clone(),
                peers: peers.clone(),
                owner: owner.clone(),
                password: password.to_string(),
                reseeds: Reseeds::new(seeds.clone()),
            };
            attendants.spawn_local(attendant.run());
        }
        attendants
    }

    fn feed(&self, driver: &Rc<RefCell<Driver>>, owner: &Owner, password: &str) -> Feed {
        Feed {
            backends: self.config.replicas(&self.config.groups[self.group]).cloned().collect(),
            shared: self.shared.clone(),
            driver: driver.clone(),
            mailboxes: driver.borrow().mailboxes(),
            owner: owner.clone(),
            password: password.to_string(),
        }
    }

    /// The greatest owner in sight, once enough backends are in reach to take the group over.
    async fn survey(&self) -> Owner {
        let group = &self.config.groups[self.group];
        let by_set = match (group.ack, self.in_sync().await) {
            (config::Ack::Quorum, _) => None,
            (config::Ack::InSync, None) => Some(Rule::count(1, (1 << self.shared.replicas.len()) - 1)),
            (config::Ack::InSync, Some(members)) => Some(Rule::all(members)),
        };
        let rules: Vec<&Rule> = match &by_set {
            None => self.plans.iter().map(|plan| &plan.write).collect(),
            Some(rule) => vec![rule],
        };
        loop {
            let mut probes = JoinSet::new();
            for (replica, backend) in self.config.replicas(group).enumerate() {
                let (backend, shared) = (backend.clone(), self.shared.clone());
                probes.spawn_local(async move {
                    let probe = timeout(PROBE_LIMIT, attach::greatest_owner(&backend, &shared)).await;
                    let epoch = probe.unwrap_or_else(|_| Err("it did not answer in time".into()));
                    if let Err(problem) = &epoch {
                        shared.note(replica, |facts| {
                            if facts.problem != *problem {
                                tracing::warn!(
                                    group = shared.name,
                                    replica = backend.name,
                                    problem,
                                    "cannot reach"
                                );
                            }
                            facts.problem = problem.clone();
                        });
                    }
                    (replica, epoch)
                });
            }
            let mut reached: Mask = 0;
            let mut greatest = Owner::default();
            while let Some(Ok((replica, epoch))) = probes.join_next().await {
                if let Ok(epoch) = epoch {
                    reached |= 1 << replica;
                    greatest = greatest.max(epoch);
                }
            }
            if covers(&rules, self.shared.replicas.len(), reached) {
                return greatest;
            }
            sleep(PROBE_WAIT).await;
        }
    }

    /// Waits until this ownership ends: `Some` epoch to exceed when it never served, `None` when it was fenced.
    async fn watch(&self, driver: &Rc<RefCell<Driver>>) -> Option<u64> {
        let mut marked = false;
        let mut look = interval(TICK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let (phase, superseded) = {
                let driver = driver.borrow();
                (driver.group().phase(), driver.superseded())
            };
            match phase {
                Phase::Fenced { .. } => return None,
                Phase::Serving if !marked => match self.coordinator.served(&self.shared.name).await {
                    Ok(()) => marked = true,
                    Err(error) => {
                        tracing::error!(
                            group = self.shared.name,
                            "cannot record that the group serves: {error}"
                        );
                    }
                },
                _ => {}
            }
            match (superseded, phase) {
                (None, _) => {}
                // It began to serve in the very moment: then it is fenced like any other.
                (Some(by), Phase::Serving) => driver.borrow_mut().fenced(by),
                (Some(_), _) => return superseded,
            }
        }
    }
}

async fn tick(driver: Rc<RefCell<Driver>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        driver.borrow_mut().tick();
    }
}

/// From the operating system's generator, through the keys that the standard library draws from it.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now())
}
