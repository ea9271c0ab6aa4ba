//! One reseed from its beginning to its end, by REPLICAOF first. It must leave nothing behind on the target, unless
//! somebody else goes on with it.

use super::super::attach::{self, AttachError};
use super::super::call::Call;
use super::super::serve::Attendant;
use super::facts::{Ask, Outcome, Progress, Stage};
use super::meter::{Info, Meter, STALL, UNLINKED, Verdict};
use super::scan::Scan;
use super::target::{Seeding, Target};
use super::{FIRST_WAIT, FOREIGN_WAIT};
use crate::config::{Address, Backend, ReseedBy};
use quorate_wire::resp::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const LOOK: Duration = Duration::from_millis(200);
/// While the target catches up: the sooner it is seen, the less the log must hold.
const LOOK_OFTEN: Duration = Duration::from_millis(50);
/// A source that does not answer for this long is given up.
const SOURCE_PATIENCE: Duration = Duration::from_secs(5);

/// How a copying ended that did not fail.
enum End {
    Complete,
    /// All but what was written last, which is copied once the target is attached.
    ToBeMended,
}

/// Why a copying ended, unless it is complete.
#[derive(Debug)]
pub(super) enum Stop {
    /// The group was taken over: whoever owns it now goes on with it.
    Over,
    /// A newer owner was met.
    Fenced(u64),
    /// The target does not answer; when it does, it is looked at anew.
    Lost(String),
    /// It holds this many keys that are not the group's.
    Foreign(u64),
    /// The servers cannot do it by themselves.
    Unlinked(String),
    Failed(String),
    Cancelled,
}

/// Counts a reseed while it runs, however it ends.
struct Running<'a>(&'a Attendant);

impl<'a> Running<'a> {
    fn enter(attendant: &'a Attendant, source: &str) -> Self {
        let running = &attendant.reseeds.seeds.running;
        running.set(running.get() + 1);
        let progress = Progress { source: source.to_string(), ..Progress::default() };
        attendant.shared.note(attendant.replica, |facts| {
            facts.problem = format!("gets a copy of {source}");
            facts.reseed.progress = Some(progress);
            facts.reseed.asked.take_if(|ask| *ask == Ask::Cancel);
            facts.reseed.advice.clear();
        });
        Running(attendant)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let running = &self.0.reseeds.seeds.running;
        running.set(running.get() - 1);
        self.0.shared.note(self.0.replica, |facts| facts.reseed.progress = None);
    }
}

/// The source's side of a copying.
struct Source<'a> {
    backend: &'a Backend,
    position: &'a str,
    call: Option<Call>,
    answered: Instant,
    /// It has lost its data: nobody may copy that.
    blank: bool,
}

impl Source<'_> {
    async fn info(&mut self) -> Result<Info, String> {
        let info = self.ask().await;
        match info.is_ok() {
            true => self.answered = Instant::now(),
            false => self.call = None,
        }
        info
    }

    async fn ask(&mut self) -> Result<Info, String> {
        if self.call.is_none() {
            self.call = Some(Call::open(self.backend).await?);
        }
        let call = self.call.as_mut().ok_or("it is not connected")?;
        let info = attach::info(call).await?;
        let position = call.ask(&[b"GET", self.position.as_bytes()]).await?;
        self.blank = position == Value::Null;
        position.error().map_or(Ok(info), Err)
    }
}

impl Attendant {
    /// Makes this replica a copy of another one, and says how it ended in log, status and metrics.
    pub(in super::super) async fn reseed(&self) {
        let from = self.reseeds.scan.borrow().as_ref().map(Scan::from);
        let Some(from) = from.or_else(|| self.choose_source()) else { return };
        let asked = self.take_ask(|ask| matches!(ask, Ask::Start { .. }));
        if asked.is_some() {
            self.reseeds.held.set(false);
            self.reseeds.wait.set(FIRST_WAIT);
        }
        let ended = {
            let _running = Running::enter(self, &self.reseeds.seeds.backends[from].name);
            self.copy(from, asked == Some(Ask::Start { erase: true })).await
        };
        if ended.is_err() {
            self.reseeds.avoid.set(Some(from));
        }
        match ended {
            Ok(End::ToBeMended) => {}
            Ok(End::Complete) => self.conclude(Ok(()), asked.is_some()),
            Err(stop) => self.conclude(Err(stop), asked.is_some()),
        }
    }

    /// A copy through the proxy has been mended: the log feeds it.
    pub(super) fn end_scan(&self) {
        self.reseeds.scan.take();
        self.driver.borrow_mut().copies().end(self.replica);
        // The servers may reach each other next time.
        self.reseeds.by_scan.set(false);
        self.conclude(Ok(()), false);
    }

    async fn copy(&self, from: usize, erase: bool) -> Result<End, Stop> {
        if self.reseeds.scan.borrow().is_some() {
            return self.scan(from).await.map(|()| End::ToBeMended);
        }
        let source = &self.reseeds.seeds.backends[from];
        let opened = Target::open(&self.backend, &self.shared.name, &self.owner, &self.password).await;
        let mut target = opened.map_err(Stop::Lost)?;
        let foreign = target.foreign_keys(&self.shared.reserved).await.map_err(Stop::Lost)?;
        if foreign > 0 && !erase {
            return Err(Stop::Foreign(foreign));
        }
        let by = if self.reseeds.by_scan.get() { ReseedBy::Scan } else { self.reseeds.seeds.by };
        match by {
            ReseedBy::Scan => {}
            ReseedBy::Replicaof | ReseedBy::Auto => match self.replicate(target, source, from).await {
                Ok(()) => return Ok(End::Complete),
                Err(Stop::Unlinked(problem)) if by == ReseedBy::Auto => {
                    let (group, replica) = (&self.shared.name, &self.backend.name);
                    tracing::warn!(group, replica, problem, "it is copied through the proxy instead");
                    self.reseeds.by_scan.set(true);
                }
                Err(Stop::Unlinked(problem)) => return Err(Stop::Failed(problem)),
                Err(stop) => return Err(stop),
            },
        }
        self.scan(from).await.map(|()| End::ToBeMended)
    }

    /// Makes the target a replica of the source, for as long as it takes.
    async fn replicate(&self, mut target: Target<'_>, source: &Backend, from: usize) -> Result<(), Stop> {
        let used = self.shared.facts[from].lock().map(|facts| facts.address.clone()).unwrap_or_default();
        let address = address_for(target.address(), source, &used).map_err(Stop::Unlinked)?;
        tracing::info!(
            group = self.shared.name,
            replica = self.backend.name,
            source = source.name,
            "a reseed begins"
        );
        let begun = target.begin(source, address).await;
        *self.reseeds.former.borrow_mut() = target.former();
        begun.map_err(Stop::Unlinked)?;
        self.follow(target, source).await
    }

    /// Goes on with a reseed that an earlier connection or an earlier owner began. `Err`: a newer owner.
    pub(in super::super) async fn resume(&self, left: Seeding) -> Result<(), u64> {
        let named = |backend: &&Backend| {
            let same = |a: &Address| a.host.eq_ignore_ascii_case(&left.source.0) && a.port == left.source.1;
            backend.name != self.backend.name && backend.addresses.iter().any(same)
        };
        let source = self.reseeds.seeds.backends.iter().find(named);
        let ended = {
            let _running = Running::enter(self, source.map_or("another server", |source| &source.name));
            self.take_up(source, &left).await
        };
        match ended {
            Err(Stop::Fenced(by)) => return Err(by),
            Err(Stop::Unlinked(problem)) => {
                self.reseeds.by_scan.set(true);
                self.conclude(Err(Stop::Failed(problem)), false);
            }
            ended => self.conclude(ended, false),
        }
        Ok(())
    }

    async fn take_up(&self, source: Option<&Backend>, left: &Seeding) -> Result<(), Stop> {
        let former = self.reseeds.former.borrow().clone();
        let (group, owner) = (&self.shared.name, &self.owner);
        let opened = Target::take_over(&self.backend, group, owner, &self.password, former, left).await;
        let mut target = opened.map_err(|error| match error {
            AttachError::Fenced(by) => Stop::Fenced(by),
            AttachError::Problem(problem) => Stop::Lost(problem),
            AttachError::Seeding(_) => Stop::Lost("it is a replica".into()),
        })?;
        let Some(source) = source else {
            self.detach(&mut target).await?;
            let (host, port) = &left.source;
            return Err(Stop::Failed(format!(
                "it was a replica of {host}:{port}, which is not of this group"
            )));
        };
        tracing::info!(
            group = self.shared.name,
            replica = self.backend.name,
            source = source.name,
            "a reseed that was begun earlier goes on"
        );
        self.follow(target, source).await
    }

    /// Watches a copying to its end, and makes the target its own master again.
    async fn follow(&self, mut target: Target<'_>, source: &Backend) -> Result<(), Stop> {
        let ended = self.watch_copy(&mut target, source).await;
        if matches!(ended, Ok(()) | Err(Stop::Failed(_) | Stop::Unlinked(_) | Stop::Cancelled)) {
            self.detach(&mut target).await?;
            self.reseeds.former.take();
        }
        ended
    }

    async fn watch_copy(&self, target: &mut Target<'_>, source: &Backend) -> Result<(), Stop> {
        let mut meter = Meter::new(&source.name, Instant::now());
        let position = &self.shared.reserved.position;
        let (call, answered) = (None, Instant::now());
        let mut from = Source { backend: source, position, call, answered, blank: false };
        loop {
            if self.is_over() {
                return Err(Stop::Over);
            }
            if self.take_ask(|ask| *ask == Ask::Cancel).is_some() {
                return Err(Stop::Cancelled);
            }
            // The source first: what it has now must have arrived by the next look at the target.
            let theirs = from.info().await;
            if from.blank {
                return Err(Stop::Failed(format!("its source {} is blank", source.name)));
            }
            let ours = target.info().await.map_err(Stop::Lost)?;
            if ours.get("role").is_some_and(|role| role == "master") {
                return Err(Stop::Lost("somebody else ended the copying".into()));
            }
            let verdict = meter.look(&ours, theirs.as_ref().ok(), Instant::now());
            self.publish(meter.progress());
            match verdict {
                Verdict::Complete => return Ok(()),
                Verdict::Stalled => {
                    return Err(Stop::Unlinked(stalled(STALL, target.name(), source, &ours)));
                }
                Verdict::Unlinked if self.reseeds.seeds.by == ReseedBy::Auto => {
                    return Err(Stop::Unlinked(stalled(UNLINKED, target.name(), source, &ours)));
                }
                Verdict::Elsewhere => return Err(Stop::Unlinked(elsewhere(target.name(), source))),
                Verdict::Unlinked | Verdict::Going => {}
            }
            if let Err(problem) = theirs
                && from.answered.elapsed() > SOURCE_PATIENCE
            {
                return Err(Stop::Failed(format!("its source {} is gone: {problem}", source.name)));
            }
            let late = matches!(meter.progress().stage, Stage::CatchingUp | Stage::Settling);
            sleep(if late { LOOK_OFTEN } else { LOOK }).await;
        }
    }

    pub(super) fn publish(&self, progress: &Progress) {
        self.shared.note(self.replica, |facts| facts.reseed.progress = Some(progress.clone()));
    }

    /// Waits where the target is loading: nothing else can be done then.
    async fn detach(&self, target: &mut Target<'_>) -> Result<(), Stop> {
        while !target.end().await.map_err(Stop::Lost)? {
            if self.is_over() {
                return Err(Stop::Over);
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn conclude(&self, ended: Result<(), Stop>, asked: bool) {
        let (outcome, problem) = match ended {
            Err(Stop::Over | Stop::Fenced(_)) => return,
            Ok(()) => (Outcome::Done, String::new()),
            Err(Stop::Cancelled) => (Outcome::Cancelled, "its reseed was cancelled".into()),
            Err(Stop::Failed(problem) | Stop::Unlinked(problem)) => (Outcome::Failed, problem),
            Err(Stop::Lost(problem)) => (Outcome::Failed, format!("its reseed was interrupted: {problem}")),
            Err(Stop::Foreign(keys)) => (Outcome::Refused, self.foreign(keys)),
        };
        self.reseeds.back_off();
        self.reseeds.held.set(outcome == Outcome::Cancelled);
        match outcome {
            Outcome::Done => {
                self.reseeds.last.replace("it fell behind again after a reseed, raise log-memory".into())
            }
            _ => self.reseeds.last.replace(problem.clone()),
        };
        if outcome == Outcome::Refused {
            self.reseeds.not_before.set(Some(Instant::now() + FOREIGN_WAIT));
        }
        // Not begun, and nobody waits for it: told as advice only.
        if outcome != Outcome::Refused || asked {
            self.shared.note(self.replica, |facts| facts.reseed.end(outcome, &problem));
            self.log_end(outcome, &problem);
        }
    }

    fn log_end(&self, outcome: Outcome, problem: &str) {
        let (group, replica) = (&self.shared.name, &self.backend.name);
        match outcome {
            Outcome::Done => tracing::info!(group, replica, "a reseed is done"),
            Outcome::Cancelled => tracing::info!(group, replica, "a reseed was cancelled"),
            Outcome::Failed | Outcome::Refused => tracing::warn!(group, replica, problem, "a reseed failed"),
        }
    }

    fn foreign(&self, keys: u64) -> String {
        let (group, replica) = (&self.shared.name, &self.backend.name);
        format!(
            "it holds {keys} keys that are not this group's, is the address right? If they may be erased: \
             'quorate reseed --group {group} --replica {replica} --yes'"
        )
    }
}

fn stalled(since: Duration, target: &str, source: &Backend, target_info: &Info) -> String {
    let unknown = String::new();
    let at = |key: &str| target_info.get(key).unwrap_or(&unknown).clone();
    format!(
        "no progress for {} s: check that {target} can reach {} at {}:{} (firewall, 'bind', 'protected-mode') \
         and that its log shows no refused login",
        since.as_secs(),
        source.name,
        at("master_host"),
        at("master_port"),
    )
}

fn elsewhere(target: &str, source: &Backend) -> String {
    format!(
        "{target} copied some other server: the address of {} means something else there; give one that is \
         right on every machine",
        source.name
    )
}

/// The address by which the target finds the source: the one in use, unless it means another machine there.
fn address_for<'a>(target: &Address, source: &'a Backend, used: &str) -> Result<&'a Address, String> {
    let usable = |address: &&Address| target.is_loopback() || !address.is_loopback();
    let used = source.addresses.iter().filter(|address| address.to_string() == used);
    used.chain(&source.addresses).find(usable).ok_or_else(|| {
        format!(
            "it cannot find {} by {}, which is a loopback address; give an address that is right on every machine",
            source.name, source.addresses[0]
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(addresses: &[&str]) -> Backend {
        let addresses: Vec<Address> = addresses.iter().map(|a| Address::parse(a).expect("valid")).collect();
        Backend { addresses: addresses.clone(), ..Backend::new("r1", addresses[0].clone()) }
    }

    #[test]
    fn the_source_is_named_as_the_target_knows_it() {
        let here = Address::new("127.0.0.1", 1);
        let there = Address::new("10.0.0.3", 1);
        let both = backend(&["127.0.0.1:7", "10.0.0.1:7"]);
        let pick = |target, used| address_for(target, &both, used).map(ToString::to_string);
        assert_eq!(pick(&here, "127.0.0.1:7"), Ok("127.0.0.1:7".into()));
        assert_eq!(pick(&here, "10.0.0.1:7"), Ok("10.0.0.1:7".into()), "the one in use");
        assert_eq!(pick(&there, "127.0.0.1:7"), Ok("10.0.0.1:7".into()), "loopback is another machine there");
        let problem =
            address_for(&there, &backend(&["localhost:7"]), "localhost:7").expect_err("none is usable");
        assert!(problem.contains("loopback"), "{problem}");
    }
}
