//! Owning a group: its sequencer is made, and the group is taken over and kept until a newer owner does the same.
//! Nothing here decides what is acknowledged.

use super::TICK;
use super::setup::sequencer;
use crate::backend::attach::{self, Owner};
use crate::backend::link::Link;
use crate::config::{self, Config, Durability};
use crate::coordinator::{Coordinator, LocalCoordinator};
use crate::drive::Driver;
use crate::group::GroupShared;
use crate::recorder::{Recorder, journaling};
use crate::worker::{Mailbox, Worker};
use quorate_core::ordered::{Ack, Entry, Event, GroupConfig, Journaling, Past, Phase};
use quorate_core::plan::Plan;
use quorate_core::quorum::covers;
use quorate_core::rule::{self, Mask, Rule};
use quorate_wire::resp::Framer;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

const PROBE_LIMIT: Duration = Duration::from_secs(2);
const PROBE_WAIT: Duration = Duration::from_millis(250);

/// What the worker that owns a group needs to know of it.
#[derive(Clone)]
pub(super) struct Ownership {
    pub(super) config: Config,
    pub(super) group: usize,
    pub(super) shared: Arc<GroupShared>,
    pub(super) plans: Vec<Plan>,
    pub(super) coordinator: LocalCoordinator,
    pub(super) recorder: Option<Recorder>,
}

impl Ownership {
    pub(super) fn driver(
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
    pub(super) async fn own(self, driver: Rc<RefCell<Driver>>, links: Vec<Rc<Link>>) {
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
