//! A seeded world: proxies, model backends, the network between them, clients, and what goes wrong.
//!
//! Proxies run the real sequencer and the real wire format in a simulated shell. Time is
//! virtual, chance comes from the seed, and iteration is in order: the same seed and options
//! send the same bytes at the same moments. Nothing here may read a clock or start a thread.

mod attend;
mod backend;
mod check;
mod client;
mod clock;
mod dice;
mod env;
mod faults;
mod history;
mod journal;
mod kind;
mod limits;
mod link;
mod net;
mod operator;
mod options;
mod order;
mod outcome;
mod profile;
mod proxy;
mod recorder;
mod scan;
mod storm;
mod talk;
mod trace;

pub use faults::Fault;
pub use history::Ask;
pub use kind::Kind;
pub use options::{Options, ShellRules};
pub use outcome::{Outcome, Stats, Verdict};
pub use profile::Profile;
pub use trace::Line;

use backend::Backend;
use client::Client;
use clock::Due;
use env::Env;
use faults::Weather;
use history::History;
use limits::Limits;
use net::Way;
use proxy::Proxy;
use quorate_core::ordered::Phase;
use quorate_core::plan::{AckRule, Plan, ReadPick, Table, builtin_majority};
use quorate_core::topology::{self, Topology};

/// Clients that ask only what they are told to; the last of them is the auditor.
const DIRECTED: usize = 4;
const OPERATOR_US: u64 = 25_000;
/// Within this time a backend has on its disk what it applied.
const LATEST_SYNC_US: u64 = 300_000;

/// See the module's head.
pub struct World {
    seed: u64,
    options: Options,
    env: Env,
    plans: Vec<Plan>,
    proxies: Vec<Proxy>,
    backends: Vec<Backend>,
    clients: Vec<Client>,
    history: History,
    stats: Stats,
    /// Pipelines that the clients may still send.
    steps: usize,
    nonce: u64,
    reseeds: u64,
    scan: Option<scan::Scan>,
    limits: Limits,
}

impl World {
    /// Makes a world, lets faults rage, heals it, and judges what clients saw.
    pub fn run(seed: u64, options: &Options) -> Outcome {
        let mut world = World::new(seed, options);
        world.warm_up();
        world.storm();
        world.finish()
    }

    /// A world in which one proxy has just started.
    pub fn new(seed: u64, options: &Options) -> World {
        let mut env = Env::new(seed);
        env.set_back = options.rules.expiry;
        env.leads = options.leads;
        env.overtaken_reads = options.overtaken_reads;
        env.net.delay_us = options.delay_us;
        env.net.cuts = env.dice.percent(70);
        let clients = options.clients + DIRECTED;
        let now_ms = env.agenda.unix_ms();
        let mut world = World {
            seed,
            plans: plans(options, if env.dice.percent(50) { ReadPick::Spread } else { ReadPick::Nearest }),
            proxies: Vec::new(),
            backends: backend::backends(seed, options, now_ms),
            clients: (0..clients).map(|i| Client::new(i, i < options.clients)).collect(),
            history: History::default(),
            stats: Stats::default(),
            steps: options.steps,
            nonce: 0,
            limits: Limits::default(),
            reseeds: env.dice.below(100),
            scan: None,
            options: options.clone(),
            env,
        };
        world.start_proxy(false);
        world.env.agenda.after(OPERATOR_US, Due::Operator);
        world
    }

    /// Waits until the first proxy serves and every replica is in sync.
    pub fn warm_up(&mut self) {
        self.settle();
        self.backends.iter_mut().for_each(Backend::sync);
    }

    /// Lets faults strike while the clients work.
    fn storm(&mut self) {
        let weather = Weather::of(&self.options, &mut self.env.dice);
        self.env.note(weather.describe());
        self.env.skewed = weather.skewed;
        let length_us = self.env.dice.between(500_000, 2_000_000);
        let until_us = self.env.agenda.now_us() + length_us;
        weather.plan(until_us, self.options.replicas, &mut self.env);
        for backend in 0..self.options.replicas {
            self.env.agenda.after(self.env.dice.below(200_000), Due::Sync { backend });
        }
        for client in 0..self.options.clients {
            self.env.agenda.after(self.env.dice.below(20_000), Due::Wake { client });
        }
        self.pass(length_us);
    }

    /// Heals everything, waits for rest, and judges.
    pub fn finish(mut self) -> Outcome {
        self.steps = 0;
        self.settle();
        self.audit();
        self.compare_all();
        let verdict = self.judge();
        let World { seed, env, mut stats, .. } = self;
        stats.simulated_us = env.agenda.now_us();
        (stats.applied, stats.refused, stats.unknown) = (env.counts[0], env.counts[1], env.counts[2]);
        (stats.ownerships, stats.surveys) = (env.ownerships, env.surveys);
        let digest = env.net.digest().rotate_left(1) ^ env.trace.digest();
        Outcome { seed, verdict, stats, trace: env.trace.into_lines(), digest }
    }

    /// Lets this much time pass.
    pub fn pass(&mut self, us: u64) {
        let until_us = self.env.agenda.now_us() + us;
        while let Some(due) = self.env.agenda.next(until_us) {
            self.happen(due);
            self.deliver();
        }
    }

    /// A client sends a pipeline to a proxy.
    pub fn ask(&mut self, client: usize, proxy: usize, asks: Vec<Ask>) {
        self.clients[client].proxy = proxy;
        self.clients[client].ask(asks, &mut self.history, &mut self.env);
    }

    /// Does this proxy serve?
    pub fn serves(&self, proxy: usize) -> bool {
        self.proxies[proxy].is_serving()
    }

    /// Where this proxy's group stands.
    pub fn phase(&self, proxy: usize) -> Phase {
        self.proxies[proxy].group.phase()
    }

    /// Is this backend attached to this proxy?
    pub fn attached(&self, proxy: usize, backend: usize) -> bool {
        self.proxies[proxy].attendants[backend].state == attend::State::Serving
    }

    /// Lets time pass in small steps until something is so, at most a second. Was it ever?
    pub fn pass_until(&mut self, so: impl Fn(&World) -> bool) -> bool {
        (0..50_000).any(|_| {
            let now = so(self);
            if !now {
                self.pass(20);
            }
            now
        })
    }

    /// The virtual time in microseconds.
    pub fn now_us(&self) -> u64 {
        self.env.agenda.now_us()
    }

    fn happen(&mut self, due: Due) {
        // A process that is stopped finds all of it when it goes on.
        if let Some(at_us) = due.proxy().and_then(|proxy| self.thaws_at(proxy)) {
            return self.env.agenda.at(at_us, due);
        }
        match due {
            Due::Segment { conn, way: Way::ToBackend } => {
                let backend = &mut self.backends[self.env.net.conn(conn).backend];
                if let Some(segment) = self.env.net.arrive(conn, Way::ToBackend, backend.paused) {
                    backend.receive(conn, segment, &mut self.env);
                }
            }
            Due::Segment { conn, way: Way::ToProxy } => {
                let (proxy, backend) = (self.env.net.conn(conn).proxy, self.env.net.conn(conn).backend);
                let frozen = self.thaws_at(proxy).is_some();
                if let Some(segment) = self.env.net.arrive(conn, Way::ToProxy, frozen) {
                    self.proxies[proxy].receive(backend, conn, segment, &mut self.env);
                }
            }
            Due::Tick { proxy } if self.proxies[proxy].alive => {
                self.proxies[proxy].learn_deadlines(&self.backends);
                self.proxies[proxy].tick(&mut self.env);
            }
            Due::Tick { .. } => {}
            Due::Submit { proxy, submission } if self.proxies[proxy].alive => {
                self.proxies[proxy].submit(submission, &mut self.env);
            }
            // The proxy is gone; its clients were told.
            Due::Submit { .. } => {}
            Due::Answer { client, ticket } => {
                if self.clients[client].arrive(ticket, &mut self.history, &mut self.env) {
                    self.think(client);
                }
            }
            Due::Wake { client } => self.wake(client),
            Due::Fault(kind, fault) => self.strike(kind, fault),
            Due::Heal(healing) => self.mend(healing),
            Due::Sync { backend } => {
                self.backends[backend].sync();
                self.env.agenda.after(self.env.dice.between(50_000, LATEST_SYNC_US), Due::Sync { backend });
            }
            Due::Recorded { proxy } if self.proxies[proxy].alive => {
                self.proxies[proxy].recorded(&mut self.env)
            }
            Due::Retry { proxy } if self.proxies[proxy].alive => {
                self.proxies[proxy].record_again(&mut self.env)
            }
            Due::Owed { proxy, replica, entries } if self.proxies[proxy].alive => {
                self.proxies[proxy].owed(replica, entries, &mut self.env);
            }
            Due::Recorded { .. } | Due::Retry { .. } | Due::Owed { .. } => {}
            Due::Operator => {
                self.env.agenda.after(OPERATOR_US, Due::Operator);
                self.compare();
                self.count_the_wounded();
                self.look_at_limits();
                self.go_on_scanning();
                if self.env.dice.below(1_000) < self.reseeds {
                    self.reseed();
                }
            }
        }
    }

    /// Passes on what the proxies said.
    fn deliver(&mut self) {
        let rivals = self.proxies.iter().filter(|p| p.alive).count() > 1;
        for backend in std::mem::take(&mut self.env.fences) {
            if rivals && !self.options.lost_fences {
                self.backends[backend].sync();
            }
        }
        for (proxy, answer) in std::mem::take(&mut self.env.answers) {
            let client = answer.session as usize;
            let late = self.proxies[proxy].owner < self.env.latest;
            let late = late && !self.options.late_reads && self.clients[client].reads(answer.ticket);
            self.stats.late_reads += u64::from(late);
            self.clients[client].answered(answer.ticket, answer.reply, late, &mut self.env);
        }
    }

    fn think(&mut self, client: usize) {
        if self.clients[client].lively && self.steps > 0 {
            let us = self.env.dice.delay_us(12_000);
            self.env.agenda.after(us, Due::Wake { client });
        }
    }

    fn wake(&mut self, client: usize) {
        if self.steps == 0 || !self.clients[client].is_quiet() {
            return;
        }
        let alive = |p: &&Proxy| p.alive && !matches!(p.group.phase(), Phase::Fenced { .. });
        let choice: Vec<usize> = self.proxies.iter().filter(alive).map(|p| p.index).collect();
        if choice.is_empty() {
            return self.env.agenda.after(10_000, Due::Wake { client });
        }
        let current = self.clients[client].proxy;
        let keep = choice.contains(&current) && !self.env.dice.percent(15);
        let proxy = if keep { current } else { choice[self.env.dice.pick(choice.len())] };
        self.steps -= 1;
        self.nonce += 1;
        let now_ms = self.options.lives.then(|| self.env.agenda.unix_ms());
        let asks = self.clients[client].draw(self.nonce, now_ms, &mut self.env.dice);
        self.ask(client, proxy, asks);
    }
}

/// One plan: writes to all, acknowledged by a quorum.
fn plans(options: &Options, read_pick: ReadPick) -> Vec<Plan> {
    let backend = |i: usize| topology::Backend::new(format!("r{}", i + 1), "g", "");
    let backends = (0..options.replicas).map(backend).collect();
    let topology = Topology { epoch: 1, local_zone: String::new(), slots: 16_384, backends };
    let mut proposal = builtin_majority(&topology);
    for plan in &mut proposal.plans {
        plan.write = AckRule::Count(options.write_quorum as u8);
        (plan.read_pick, plan.deadline_ms, plan.per_try_ms) = (read_pick, 250, 20);
    }
    Table::new(&proposal, &topology).expect("the options name a quorum that can be met").plans().to_vec()
}
