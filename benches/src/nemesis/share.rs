//! What clients notice while a replica is fed what it missed, or gets a copy of all data: the slowest hundredth of
//! requests that come at a steady rate, during it and before, in one run.

use super::cluster::{BACKENDS, Cluster, DEADLINE, Programs};
use crate::load::{self, Load, Mix, Settings, Stop};
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use std::io;
use std::time::{Duration, Instant};

/// The load alone is measured for so long, and a peak for so long.
const BEFORE: Duration = Duration::from_secs(5);
const PEAK: Duration = Duration::from_secs(3);
/// The state of the replicas is looked at after so much of the load, whatever is measured: a look is a disturbance.
const SLICE: Duration = Duration::from_millis(500);
/// Keys of the data while a replica catches up.
const FEW_KEYS: u64 = 10_000;
/// What we want: p99 while a replica catches up, and while it gets a copy, against before; catch-up against the peak.
const CATCH_UP_GOAL: f64 = 1.5;
const RESEED_GOAL: f64 = 2.0;
const SPEED_GOAL: f64 = 0.5;
/// So little log that an empty server cannot be fed from its beginning. The keys must be more than that.
const SHORT_LOG: &str = "log-memory = \"32MiB\"\nhints = false\n";
/// Requests of the steady load come together so often: one by one their sending alone takes most of a core, and what
/// is seen then is how two cores are shared out.
const BURST: Duration = Duration::from_millis(1);
/// After a kill a server writes its append-only file anew and throws the old one away, which takes a core for so
/// long at most, and is no part of what it is fed.
const RESTART: Duration = Duration::from_secs(1);
/// The steady load comes on so many connections, so that several requests share a packet as they do at the peak.
const CONNECTIONS: usize = 4;
/// What servers do by themselves, and for seconds: rewriting their files, is no part of either.
const QUIET: &str = "CONFIG SET auto-aof-rewrite-percentage 0";
/// The backend that goes away.
const AWAY: usize = BACKENDS - 1;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The programs under test.
    pub programs: Programs,
    /// Writes that the replica misses.
    pub missed: u64,
    /// Steady load as a share of the peak.
    pub share: f64,
    /// Which requests.
    pub mix: Mix,
    /// How often.
    pub rounds: u64,
    /// Keys of the data that is copied; none: only catch-up is measured.
    pub keys: Option<u64>,
    /// `reseed-by` of each copy.
    pub ways: Vec<String>,
    /// Further lines of the group's section.
    pub group: String,
    /// The backend that goes away has a processor of its own, and all else shares the others.
    pub apart: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct ShareReport {
    pub rows: Vec<Row>,
}

/// One measurement.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Row {
    pub what: String,
    pub peak_writes: f64,
    pub rate: f64,
    pub seconds: f64,
    pub p50_before_us: u64,
    pub p50_during_us: u64,
    pub p99_before_us: u64,
    /// Only of a catch-up: while the backend was away, and every write waited for both of the others.
    pub p99_away_us: Option<u64>,
    pub p99_during_us: u64,
    pub max_during_us: u64,
    pub errors: u64,
    /// Only of a catch-up: writes a second that the replica applied.
    pub catch_up_writes: Option<f64>,
}

impl Row {
    /// The slowest hundredth during it against before.
    pub fn ratio(&self) -> f64 {
        self.p99_during_us as f64 / self.p99_before_us.max(1) as f64
    }

    /// The same against when the backend was away, where that was measured.
    pub fn ratio_to_away(&self) -> Option<f64> {
        self.p99_away_us.map(|away| self.p99_during_us as f64 / away.max(1) as f64)
    }

    fn met(&self) -> bool {
        let goal = if self.catch_up_writes.is_some() { CATCH_UP_GOAL } else { RESEED_GOAL };
        let fast = self.catch_up_writes.is_none_or(|writes| writes >= SPEED_GOAL * self.peak_writes);
        self.ratio() <= goal && fast && self.errors == 0
    }

    fn text(&self) -> String {
        let speed = self.catch_up_writes.map_or(String::new(), |writes| {
            format!(
                ", {writes:.0} writes/s, {:.2} of the peak of {:.0}",
                writes / self.peak_writes,
                self.peak_writes
            )
        });
        let away = self.p99_away_us.map_or(String::new(), |us| format!(" {us:>6} µs with it away,"));
        let to_away = self.ratio_to_away().map_or(String::new(), |ratio| format!(" and {ratio:.2}"));
        format!(
            "{:<22} {:>6.2} s at {:>6.0}/s: p99 {:>6} µs before,{away} {:>6} µs during, ratio {:.2}{to_away}; p50 {} and {} µs, max {} µs; {} errors{speed}: {}\n",
            self.what,
            self.seconds,
            self.rate,
            self.p99_before_us,
            self.p99_during_us,
            self.ratio(),
            self.p50_before_us,
            self.p50_during_us,
            self.max_during_us,
            self.errors,
            if self.met() { "met" } else { "MISSED" }
        )
    }
}

impl ShareReport {
    /// No client saw an error. The ratios are for the reader to judge: machines differ.
    pub fn kept(&self) -> bool {
        self.rows.iter().all(|row| row.errors == 0)
    }

    /// As a table, with the goals.
    pub fn text(&self) -> String {
        let rows: String = self.rows.iter().map(Row::text).collect();
        rows + &format!(
            "goals: ratio at most {CATCH_UP_GOAL} in a catch-up of at least {SPEED_GOAL} of the peak, at most {RESEED_GOAL} in a copy; no errors\n"
        )
    }
}

/// Measures all of it.
pub fn run(plan: &Plan, log: impl Fn(&str)) -> io::Result<ShareReport> {
    let mut rows = Vec::new();
    let places = plan.apart.then(Places::take).transpose()?;
    let mut add = |row: Row| {
        log(row.text().trim_end());
        rows.push(row);
    };
    if plan.missed > 0 {
        let mut cluster = start(plan, &plan.group, places.as_ref(), FEW_KEYS)?;
        for _ in 0..plan.rounds {
            add(catch_up(plan, &mut cluster, places.as_ref())?);
        }
    }
    for (keys, way) in plan.keys.iter().flat_map(|keys| plan.ways.iter().map(move |way| (*keys, way))) {
        let group = format!("{SHORT_LOG}{}reseed-by = \"{way}\"\n", plan.group);
        let mut cluster = start(plan, &group, places.as_ref(), keys)?;
        for _ in 0..plan.rounds {
            add(reseed(plan, &mut cluster, places.as_ref(), keys, way)?);
        }
    }
    Ok(ShareReport { rows })
}

fn start(plan: &Plan, group: &str, places: Option<&Places>, keys: u64) -> io::Result<Cluster> {
    let mut cluster = Cluster::start_with(&plan.programs, false, group)?;
    if places.is_some() {
        cluster.backends[AWAY].kill()?;
        come_back(&mut cluster, places)?;
        cluster.wait_in_sync()?;
    }
    (0..BACKENDS).try_for_each(|nth| quiet(&cluster, nth))?;
    load::fill(&settings(&cluster, keys, Mix::SET)).map_err(io::Error::other)?;
    Ok(cluster)
}

/// The backend that went away is started, and answers.
fn come_back(cluster: &mut Cluster, places: Option<&Places>) -> io::Result<()> {
    let Cluster { backends, network, .. } = cluster;
    match places {
        Some(places) => places.elsewhere(|| backends[AWAY].start(network)),
        None => backends[AWAY].start(network),
    }?;
    cluster.wait_answers(AWAY)?;
    quiet(cluster, AWAY)
}

/// Processors of this machine: those for the backend that goes away, and those for all else. With a machine for each
/// backend, which they have where it matters, nobody waits for the processor on which one catches up.
struct Places {
    here: CpuSet,
    there: CpuSet,
}

impl Places {
    /// Takes all but one processor for this thread, and for what it starts.
    fn take() -> io::Result<Places> {
        let all = sched_getaffinity(None)?;
        let mut usable = (0..CpuSet::MAX_CPU).rev().filter(|&cpu| all.is_set(cpu));
        let (Some(last), Some(_)) = (usable.next(), usable.next()) else {
            return Err(io::Error::other("there is one processor only: leave --apart out"));
        };
        let (mut here, mut there) = (all, CpuSet::new());
        here.unset(last);
        there.set(last);
        sched_setaffinity(None, &here)?;
        Ok(Places { here, there })
    }

    /// What is started there stays there.
    fn elsewhere<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        sched_setaffinity(None, &self.there)?;
        let started = start();
        sched_setaffinity(None, &self.here)?;
        started
    }
}

fn quiet(cluster: &Cluster, nth: usize) -> io::Result<()> {
    cluster.backends[nth].connect()?.line(QUIET).map(drop)
}

/// Steady load in slices.
struct Steady {
    load: Load,
    rate: f64,
    latency: Histogram<u64>,
    answered: u64,
    errors: u64,
}

impl Steady {
    fn slice(&mut self) -> io::Result<()> {
        let outcome = self.load.run(Stop::After(SLICE)).map_err(io::Error::other)?;
        self.latency.add(&outcome.latency).map_err(io::Error::other)?;
        self.answered += outcome.answered;
        self.errors += outcome.errors + outcome.unfinished;
        Ok(())
    }

    /// Latencies and requests since the last time.
    fn take(&mut self) -> io::Result<(Histogram<u64>, u64)> {
        let latency = std::mem::replace(&mut self.latency, histogram()?);
        Ok((latency, std::mem::take(&mut self.answered)))
    }
}

/// The peak, and then a load at its share.
fn steady(plan: &Plan, cluster: &mut Cluster, keys: u64) -> io::Result<(f64, Steady)> {
    let peak_writes = peak(cluster, keys)?;
    cluster.wait_in_sync()?;
    let rate = (peak_writes * plan.share).max(1.0);
    let open = Settings {
        rate: Some(rate),
        burst: BURST,
        connections: CONNECTIONS,
        ..settings(cluster, keys, plan.mix)
    };
    let load = Load::connect(&open).map_err(io::Error::other)?;
    Ok((peak_writes, Steady { load, rate, latency: histogram()?, answered: 0, errors: 0 }))
}

fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)
}

fn settings(cluster: &Cluster, keys: u64, mix: Mix) -> Settings {
    let target = cluster.owner().address;
    Settings {
        target,
        connections: 50,
        depth: 16,
        value_bytes: 64,
        keys,
        mix,
        rate: None,
        burst: Duration::ZERO,
        protocol: 2,
        tls: None,
    }
}

/// Writes a second in a closed loop.
fn peak(cluster: &Cluster, keys: u64) -> io::Result<f64> {
    let run = |mut load: Load| load.run(Stop::After(PEAK));
    let outcome = Load::connect(&settings(cluster, keys, Mix::SET)).and_then(run);
    Ok(outcome.map_err(io::Error::other)?.throughput())
}

/// Steady load until the states of the replicas are so, or the patience is over. Gives when they were not yet so.
fn go_on(
    steady: &mut Steady,
    cluster: &mut Cluster,
    ended: impl Fn(&[String]) -> bool,
) -> io::Result<Instant> {
    let since = Instant::now();
    let mut looked = since;
    while !ended(&cluster.states()) {
        looked = Instant::now();
        cluster.assert_alive()?;
        if since.elapsed() > DEADLINE * 10 {
            return Err(io::Error::other(format!("it takes too long: {}", cluster.account())));
        }
        steady.slice()?;
    }
    Ok(looked)
}

fn go_on_for(time: Duration, steady: &mut Steady, cluster: &mut Cluster) -> io::Result<()> {
    let begun = Instant::now();
    go_on(steady, cluster, |_| begun.elapsed() > time).map(drop)
}

fn all_in_sync(states: &[String]) -> bool {
    states.len() == BACKENDS && states.iter().all(|state| state == "in-sync")
}

fn catch_up(plan: &Plan, cluster: &mut Cluster, places: Option<&Places>) -> io::Result<Row> {
    let (peak_writes, mut steady) = steady(plan, cluster, FEW_KEYS)?;
    go_on_for(BEFORE, &mut steady, cluster)?;
    let (before, _) = steady.take()?;
    cluster.backends[AWAY].kill()?;
    go_on_for(BEFORE, &mut steady, cluster)?;
    let (away, alone) = steady.take()?;
    let missing = Load::connect(&settings(cluster, FEW_KEYS, Mix::SET));
    let missed =
        missing.and_then(|mut load| load.run(Stop::Requests(plan.missed))).map_err(io::Error::other)?;
    come_back(cluster, places)?;
    let attached = |states: &[String]| states.get(AWAY).is_some_and(|state| state != "down");
    let begun = go_on(&mut steady, cluster, attached)?;
    go_on_for(RESTART, &mut steady, cluster)?;
    let (_, early) = steady.take()?;
    go_on(&mut steady, cluster, all_in_sync)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (during, late) = steady.take()?;
    if late == 0 {
        return Err(io::Error::other("it caught up before its server had restarted: raise --missed"));
    }
    let written = (alone + early + late) as f64 * plan.mix.written();
    Ok(Row {
        what: "catch-up".into(),
        peak_writes,
        rate: steady.rate,
        seconds,
        errors: missed.errors + steady.errors,
        p99_away_us: Some(away.value_at_quantile(0.99)),
        catch_up_writes: Some((missed.answered as f64 + written) / seconds),
        ..Row::of(&before, &during)
    })
}

fn reseed(
    plan: &Plan,
    cluster: &mut Cluster,
    places: Option<&Places>,
    keys: u64,
    way: &str,
) -> io::Result<Row> {
    let (peak_writes, mut steady) = steady(plan, cluster, keys)?;
    go_on_for(BEFORE, &mut steady, cluster)?;
    let (before, _) = steady.take()?;
    cluster.backends[AWAY].kill()?;
    cluster.backends[AWAY].wipe()?;
    let begun = Instant::now();
    come_back(cluster, places)?;
    go_on(&mut steady, cluster, all_in_sync)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (during, _) = steady.take()?;
    cluster.wait_in_sync()?;
    let (_, differing) = cluster.divergent()?;
    if let Some(key) = differing.first() {
        return Err(io::Error::other(format!(
            "after a copy by {way} {} keys differ, {key} first",
            differing.len()
        )));
    }
    let what = format!("{way}, {keys} keys");
    let (rate, errors) = (steady.rate, steady.errors);
    Ok(Row { what, peak_writes, rate, seconds, errors, ..Row::of(&before, &during) })
}

impl Row {
    fn of(before: &Histogram<u64>, during: &Histogram<u64>) -> Row {
        let quantile = |latency: &Histogram<u64>, q| latency.value_at_quantile(q);
        Row {
            what: String::new(),
            peak_writes: 0.0,
            rate: 0.0,
            seconds: 0.0,
            p50_before_us: quantile(before, 0.5),
            p50_during_us: quantile(during, 0.5),
            p99_before_us: quantile(before, 0.99),
            p99_away_us: None,
            p99_during_us: quantile(during, 0.99),
            max_during_us: during.max(),
            errors: 0,
            catch_up_writes: None,
        }
    }
}
