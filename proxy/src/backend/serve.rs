//! The life of one backend's connection: attach, serve, lose, wait, again.

use super::attach::{AttachError, Attached, Build, Data, Owner, Want, attach, pairs};
use super::builds::Builds;
use super::link::Link;
use super::reseed::Reseeds;
use super::rewrite::Rewrite;
use crate::config::Backend;
use crate::drive::Driver;
use crate::group::GroupShared;
use crate::listen::cursor;
use crate::tls::Reader;
use bytes::BytesMut;
use quorate_core::ordered::{Event, Phase};
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// An idle connection is asked this often whether it lives, and must answer as quickly.
const PROBE: Duration = Duration::from_secs(1);
/// A stale replica is looked at anew this often: somebody may have copied the data to it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const READ_SPACE: usize = 64 << 10;

/// Why a connection to a stale replica is given up.
const STALE: &str = "it is stale, and is looked at anew";

/// Why a connection to a stale replica is given up for good.
const RESEED: &str = "it is stale, and gets a copy";

/// Why a connection to a backend that waits for others is given up.
const COMPARED: &str = "the backends hold different data, and are compared anew";

/// What the backends of one group know of each other while they attach.
pub struct Peers {
    commands: RefCell<Vec<Option<HashSet<String>>>>,
    data: RefCell<Vec<Option<Data>>>,
    versions: RefCell<Vec<Option<String>>>,
    builds: RefCell<Builds>,
    links: Vec<Rc<Link>>,
}

impl Peers {
    /// For the backends behind these links.
    pub fn new(links: Vec<Rc<Link>>) -> Self {
        let count = links.len();
        Self {
            commands: RefCell::new(vec![None; count]),
            data: RefCell::new(vec![None; count]),
            versions: RefCell::new(vec![None; count]),
            builds: RefCell::new(Builds::new(count)),
            links,
        }
    }

    /// Enters which server a backend is.
    fn meet(&self, replica: usize, server: &str, build: &Build, shared: &GroupShared) {
        let mut all = self.versions.borrow_mut();
        // The last number of a version changes no format.
        let version = server.rsplit_once('.').map_or(server, |(version, _)| version);
        all[replica] = Some(version.to_string());
        let mixed = all.iter().flatten().any(|other| other != version);
        shared.mixed.store(mixed, Ordering::Relaxed);
        let mut builds = self.builds.borrow_mut();
        shared.alike.store(builds.meet(replica, build), Ordering::Relaxed);
        for (i, link) in self.links.iter().enumerate() {
            link.set_foreign(builds.is_foreign(i));
        }
    }

    /// Enters what a backend has, and works out what some backend lacks.
    fn learn(&self, replica: usize, commands: &HashSet<String>, shared: &GroupShared) {
        self.commands.borrow_mut()[replica] = Some(commands.clone());
        let all = self.commands.borrow();
        let lacks = |name: &str| all.iter().flatten().any(|has| !has.contains(name));
        shared.missing.set(|command| lacks(command.name));
    }

    /// Backends without a position must hold the same data before a log begins over it. Where they do not,
    /// all of them are looked at anew, for any may be the one that is mended.
    fn compare(&self, replica: usize, data: Option<Data>) -> Result<(), String> {
        let mut all = self.data.borrow_mut();
        all[replica] = data;
        let Some(own) = data else { return Ok(()) };
        let Some(other) = all.iter().flatten().copied().find(|other| *other != own) else { return Ok(()) };
        for (link, known) in self.links.iter().zip(all.iter_mut()) {
            if known.take().is_some() {
                link.close(COMPARED);
            }
        }
        Err(format!(
            "the backends hold different data ({} keys here, {} on another); empty them, or make them equal with \
             'REPLICAOF' of the one to keep and then 'REPLICAOF NO ONE'",
            own.keys, other.keys
        ))
    }
}

/// What one backend's task needs.
pub struct Attendant {
    /// Index of the replica.
    pub replica: usize,
    /// How to reach it.
    pub backend: Backend,
    /// Its group.
    pub shared: Arc<GroupShared>,
    /// The group's driver.
    pub driver: Rc<RefCell<Driver>>,
    /// Its connection.
    pub link: Rc<Link>,
    /// The other backends.
    pub peers: Rc<Peers>,
    /// In whose name.
    pub owner: Owner,
    /// Password of the owner's user.
    pub password: String,
    /// Its reseeds.
    pub reseeds: Reseeds,
}

impl Attendant {
    /// Keeps the backend attached until its group is fenced or taken over anew.
    pub async fn run(self) {
        let mut wait = FIRST_WAIT;
        let mut last_problem = String::new();
        self.tell_memory(None);
        while !self.is_over() {
            let recovering = self.driver.borrow().group().phase() == Phase::Recovering;
            match self.attach(recovering).await {
                Ok(attached) => {
                    let since = Instant::now();
                    let why = self.serve(attached).await;
                    self.note(&why);
                    if why == RESEED {
                        self.reseed().await;
                        wait = FIRST_WAIT;
                        continue;
                    }
                    if why != STALE && why != COMPARED {
                        tracing::warn!(
                            group = self.shared.name,
                            replica = self.backend.name,
                            why,
                            "lost a backend"
                        );
                    }
                    if since.elapsed() > LONGEST_WAIT {
                        wait = FIRST_WAIT;
                    }
                    last_problem.clear();
                }
                Err(AttachError::Fenced(by)) => return self.fenced(by),
                Err(AttachError::Seeding(left)) => {
                    self.driver.borrow_mut().run([Event::Unreachable { replica: self.replica }]);
                    if let Err(by) = self.resume(left).await {
                        return self.fenced(by);
                    }
                }
                Err(AttachError::Problem(problem)) => {
                    self.note(&problem);
                    self.forget_reseed();
                    self.driver.borrow_mut().run([Event::Unreachable { replica: self.replica }]);
                    // The same problem once; then silence until it changes.
                    if problem != last_problem {
                        tracing::warn!(
                            group = self.shared.name,
                            replica = self.backend.name,
                            problem,
                            "cannot attach"
                        );
                        last_problem = problem;
                    }
                }
            }
            sleep(jittered(wait)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn fenced(&self, by: u64) {
        self.note(&format!("fenced by epoch {by}"));
        self.driver.borrow_mut().fenced(by);
    }

    pub(super) fn is_over(&self) -> bool {
        let driver = self.driver.borrow();
        driver.superseded().is_some() || matches!(driver.group().phase(), Phase::Fenced { .. })
    }

    pub(super) fn is_stale(&self) -> bool {
        use quorate_core::ordered::ReplicaState;
        let state = self.shared.health.load().replicas.get(self.replica).map(|view| view.state);
        matches!(state, Some(ReplicaState::Stale(_)))
    }

    fn note(&self, problem: &str) {
        self.shared.note(self.replica, |facts| facts.problem = problem.to_string());
    }

    async fn attach(&self, recovering: bool) -> Result<Attached, AttachError> {
        // Whoever stands on the log is simply fed; the tail of any other shows where it left it.
        let tail = |position| recovering || !self.driver.borrow().group().holds(position);
        let want = Want { tail: &tail, data: recovering, replica: self.replica };
        let attached = attach(&self.backend, &self.shared, &self.owner, &self.password, want).await?;
        self.peers.learn(self.replica, &attached.commands, &self.shared);
        self.peers.meet(self.replica, &attached.server, &attached.build, &self.shared);
        self.peers.compare(self.replica, attached.data)?;
        Ok(attached)
    }

    /// Serves until the connection ends; the reason, in words.
    async fn serve(&self, attached: Attached) -> String {
        let Attached { stream, attachment, run_id, server, address, torn, build, rebuilt, .. } = attached;
        self.shared.note(self.replica, |facts| {
            facts.server = server;
            facts.address.clone_from(&address);
            facts.problem.clear();
        });
        let (mut reader, writer) = stream.into_split();
        self.shared.runs[self.replica].store(cursor::run_tag(&run_id), Ordering::Relaxed);
        self.link.open(writer, format!("{run_id} {}", build.name));
        self.link.set_rebuilt(rebuilt);
        self.driver.borrow_mut().run([Event::Attached { replica: self.replica, attachment }]);
        let why = self.carry(&mut reader, &address, &mut Rewrite::new(torn)).await;
        self.link.shut();
        self.driver.borrow_mut().run([Event::Disconnected { replica: self.replica }]);
        self.tell_memory(None);
        why
    }

    async fn carry(&self, reader: &mut Reader, address: &str, rewrite: &mut Rewrite) -> String {
        let mut buf = BytesMut::new();
        let mut events = Vec::new();
        let mut probe = interval(PROBE);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probed = false;
        let since = Instant::now();
        loop {
            if buf.capacity() - buf.len() < READ_SPACE / 4 {
                buf.reserve(READ_SPACE.max(buf.len()));
            }
            tokio::select! {
                biased;
                read = reader.read_buf(&mut buf) => {
                    probed = false;
                    match read {
                        Ok(0) => return "it closed the connection".into(),
                        Ok(_) => {}
                        Err(error) => return format!("reading failed: {error}"),
                    }
                    if let Err(error) = self.link.receive(&mut buf, &mut events) {
                        return format!("its answer makes no sense: {error}");
                    }
                    self.driver.borrow_mut().push(events.drain(..));
                    if let Some(info) = self.link.take_info() {
                        let info = pairs(&String::from_utf8_lossy(&info));
                        if let Err(why) = self.weigh(&info, address) {
                            return why;
                        }
                        self.keep_whole(rewrite, &info);
                    }
                }
                why = self.link.closing() => return why.to_string(),
                _ = probe.tick() => {
                    // The core watches requests; this watches silence.
                    if probed {
                        return "it answers nothing".into();
                    }
                    if self.is_reseed_due() {
                        return RESEED.into();
                    }
                    if since.elapsed() > LOOK_AGAIN && self.is_stale() {
                        return STALE.into();
                    }
                    probed = self.link.is_idle();
                    self.link.ask_info();
                    self.link.flush();
                }
            }
        }
    }
}

/// Between a half and the whole, so that many proxies do not come back in step.
fn jittered(wait: Duration) -> Duration {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), wait.as_micros());
    wait / 2 + wait.mul_f64((random % 1000) as f64 / 2000.0)
}
