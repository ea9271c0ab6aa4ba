//! How long clients notice that a backend is gone, and how fast it catches up while they go on.

use super::cluster::{BACKENDS, Cluster, DEADLINE, Programs};
use super::connection::{Connection, PATIENCE};
use super::faults::Fault;
use crate::load::{Load, Mix, Settings, Stop};
use quorate_wire::resp::encode;
use serde::Serialize;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Writers of the steady load, and its rate.
const WRITERS: u64 = 8;
const RATE: u64 = 2000;
/// Before and after the fault.
const BASELINE: Duration = Duration::from_millis(1500);
const AFTER: Duration = Duration::from_millis(1500);
/// Latencies are looked at in slices of this length.
const SLICE: Duration = Duration::from_millis(50);
/// A slowest hundredth of this is as good as any: the machine itself has such moments.
const UNNOTICED: Duration = Duration::from_millis(5);
/// What we want of a backend that is killed.
const GOAL: Duration = Duration::from_millis(200);
/// How long a backend is away for the measurement of its catch-up, and the load on it.
const AWAY: Duration = Duration::from_secs(2);
const PEAK: Duration = Duration::from_secs(3);

/// What was measured.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct FailoverReport {
    pub rows: Vec<Row>,
    /// Writes a second: of the clients alone, then of a returning backend while they go on.
    pub peak_writes: f64,
    pub catch_up_writes: Option<f64>,
    /// How long it took until it was in sync again.
    pub catch_up_ms: Option<u64>,
}

/// One way to fail.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Row {
    pub fault: &'static str,
    pub times: usize,
    /// From the fault to latencies as before.
    pub p50_ms: u64,
    pub max_ms: u64,
    /// The slowest request.
    pub slowest_ms: u64,
    pub errors: usize,
    pub requests: usize,
}

impl FailoverReport {
    /// No client saw an error. How long it took is for the reader to judge: machines differ.
    pub fn kept(&self) -> bool {
        self.rows.iter().all(|row| row.errors == 0)
    }

    /// As a table.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<10} {:>6} {:>14} {:>14} {:>14} {:>16}\n",
            "fault", "times", "steady, p50", "steady, max", "slowest", "errors"
        );
        for row in &self.rows {
            text += &format!(
                "{:<10} {:>6} {:>11} ms {:>11} ms {:>11} ms {:>6} of {:>6}\n",
                row.fault, row.times, row.p50_ms, row.max_ms, row.slowest_ms, row.errors, row.requests
            );
        }
        let killed = self.rows.iter().find(|row| row.fault == "kill");
        let met = killed.is_some_and(|row| u128::from(row.max_ms) < GOAL.as_millis() && row.errors == 0);
        text += &format!(
            "goal: under {} ms and no error after a kill: {}\n",
            GOAL.as_millis(),
            if met { "met" } else { "MISSED" }
        );
        text += &match (self.catch_up_writes, self.catch_up_ms) {
            (Some(rate), Some(ms)) => format!(
                "catch-up: {rate:.0} writes/s for {ms} ms beside the load, {:.2} of the peak of {:.0} writes/s\n",
                rate / self.peak_writes,
                self.peak_writes
            ),
            _ => format!("catch-up: not before the load of {:.0} writes/s ended\n", self.peak_writes),
        };
        text
    }
}

/// One request, in time since the beginning of its round.
#[derive(Debug, Clone, Copy)]
struct Sample {
    ended: Duration,
    took: Duration,
    ok: bool,
}

/// Measures `rounds` times with each backend.
pub fn run(programs: &Programs, rounds: u64, cables: bool, log: impl Fn(&str)) -> io::Result<FailoverReport> {
    let mut cluster = Cluster::start(programs, cables)?;
    let mut ways: Vec<fn(usize) -> Fault> =
        vec![|backend| Fault::Kill { backend }, |backend| Fault::Freeze { backend }];
    if cluster.network.has_cables() {
        ways.push(|backend| Fault::Cut { backend });
        ways.push(|backend| Fault::Mute { backend });
    }
    let mut rows = Vec::new();
    for way in ways {
        let mut found = Vec::new();
        for round in 0..rounds as usize * BACKENDS {
            let fault = way(round % BACKENDS);
            found.push(measure(&mut cluster, fault)?);
            let steady = found.last().map_or(0, |(_, steady)| steady.as_millis());
            log(&format!("{} {}: steady after {steady} ms", fault.name(), fault.victim()));
        }
        rows.push(Row::of(way(0).name(), &found));
    }
    let (peak_writes, catch_up) = catch_up(&mut cluster)?;
    let (catch_up_writes, catch_up_ms) = (catch_up.map(|(rate, _)| rate), catch_up.map(|(_, ms)| ms));
    Ok(FailoverReport { rows, peak_writes, catch_up_writes, catch_up_ms })
}

/// Steady load, the fault, steady load; then it heals. Gives the samples since the fault and the time to steady.
fn measure(cluster: &mut Cluster, fault: Fault) -> io::Result<(Vec<Sample>, Duration)> {
    let stop = AtomicBool::new(false);
    let address = cluster.owner().address;
    let started = Instant::now();
    let (mut samples, injected) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|nth| {
                scope.spawn({
                    let stop = &stop;
                    move || write(address, nth, started, stop)
                })
            })
            .collect();
        std::thread::sleep(BASELINE);
        let injected = fault.inject(cluster).map(|()| started.elapsed());
        std::thread::sleep(AFTER);
        stop.store(true, Ordering::Relaxed);
        let samples: Vec<Sample> =
            writers.into_iter().flat_map(|writer| writer.join().expect("a writer does not panic")).collect();
        (samples, injected)
    });
    let injected = injected?;
    fault.heal(cluster)?;
    cluster.wait_in_sync()?;
    samples.sort_by_key(|sample| sample.ended);
    let steady = steady_after(&samples, injected);
    samples.retain(|sample| sample.ended >= injected);
    Ok((samples, steady))
}

fn write(address: std::net::SocketAddr, nth: u64, started: Instant, stop: &AtomicBool) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut connection = None;
    let pause = Duration::from_secs_f64(WRITERS as f64 / RATE as f64);
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        let key = format!("f{nth}:{}", number % 100);
        let command = encode::command_bytes(&[b"SET", key.as_bytes(), number.to_string().as_bytes()]);
        let open = connection.take().map_or_else(|| Connection::open(address, PATIENCE), Ok);
        let reply = open.and_then(|mut open: Connection| {
            open.send(&command)?;
            let reply = open.receive()?;
            connection = Some(open);
            Ok(reply)
        });
        let ok = reply.is_ok_and(|reply| reply.error().is_none());
        samples.push(Sample { ended: started.elapsed(), took: begun.elapsed(), ok });
        std::thread::sleep(pause.saturating_sub(begun.elapsed()));
    }
    samples
}

/// The time from the fault to the end of the last slice that is not as before: one whose slowest hundredth is slower
/// than twice the worst slice before the fault or 5 ms, whichever is more, or in which less than half as much is done. `samples` is sorted.
fn steady_after(samples: &[Sample], injected: Duration) -> Duration {
    let before = slices(samples, BASELINE / 3, injected);
    let worst = before.iter().map(|slice| p99(slice)).max().unwrap_or_default().max(UNNOTICED);
    let usual = before.iter().map(Vec::len).sum::<usize>() / before.len().max(1);
    let bad = |slice: &Vec<Duration>| slice.len() * 2 < usual || p99(slice) > worst * 2;
    let after = slices(samples, injected, injected + AFTER - SLICE);
    after.iter().rposition(bad).map_or(Duration::ZERO, |nth| SLICE * (nth as u32 + 1))
}

/// How long the requests took that ended in each slice; a failed one took for ever.
fn slices(samples: &[Sample], from: Duration, to: Duration) -> Vec<Vec<Duration>> {
    let place = |at: Duration| ((at - from).as_secs_f64() / SLICE.as_secs_f64()) as usize;
    let mut slices: Vec<Vec<Duration>> = vec![Vec::new(); place(to)];
    for sample in samples.iter().filter(|sample| sample.ended >= from) {
        if let Some(slice) = slices.get_mut(place(sample.ended)) {
            slice.push(if sample.ok { sample.took } else { DEADLINE });
        }
    }
    slices
}

fn p99(slice: &[Duration]) -> Duration {
    let mut sorted = slice.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

impl Row {
    fn of(fault: &'static str, found: &[(Vec<Sample>, Duration)]) -> Row {
        let mut times: Vec<u64> = found.iter().map(|(_, steady)| steady.as_millis() as u64).collect();
        times.sort_unstable();
        let samples = || found.iter().flat_map(|(samples, _)| samples);
        Row {
            fault,
            times: times.len(),
            p50_ms: times[times.len() / 2],
            max_ms: times[times.len() - 1],
            slowest_ms: samples().map(|sample| sample.took.as_millis() as u64).max().unwrap_or(0),
            errors: samples().filter(|sample| !sample.ok).count(),
            requests: samples().count(),
        }
    }
}

/// Writes a second of the clients alone; and those that a returning backend applied until it was in sync, missed ones
/// and new ones, for each second, with the milliseconds that it took.
fn catch_up(cluster: &mut Cluster) -> io::Result<(f64, Option<(f64, u64)>)> {
    let settings = Settings {
        target: cluster.owner().address,
        connections: 50,
        depth: 16,
        value_bytes: 64,
        keys: 10_000,
        mix: Mix::SET,
        rate: None,
        burst: Duration::ZERO,
        protocol: 2,
        tls: None,
    };
    let load = |time| {
        Load::connect(&settings).and_then(|mut load| load.run(Stop::After(time))).map_err(io::Error::other)
    };
    let peak = load(PEAK)?.throughput();
    cluster.wait_in_sync()?;
    let written = |cluster: &Cluster| cluster.owner().metric("quorate_requests_total");
    let found = std::thread::scope(|scope| {
        let load = scope.spawn(move || load(DEADLINE / 2));
        let found = (|| {
            std::thread::sleep(PEAK / 3);
            let first = written(cluster);
            cluster.backends[BACKENDS - 1].kill()?;
            std::thread::sleep(AWAY);
            cluster.backends[BACKENDS - 1].start(&cluster.network)?;
            while !cluster.backends[BACKENDS - 1].answers() {
                cluster.assert_alive()?;
            }
            let begun = Instant::now();
            while !load.is_finished() {
                if cluster.states().iter().all(|state| state == "in-sync") {
                    let took = begun.elapsed();
                    return Ok(Some((
                        (written(cluster) - first) / took.as_secs_f64(),
                        took.as_millis() as u64,
                    )));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(None)
        })();
        load.join().expect("the load does not panic").and(found)
    })?;
    cluster.wait_in_sync()?;
    Ok((peak, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request each millisecond that takes one, and in the given time takes so long.
    fn samples(stall: std::ops::Range<u64>, took: u64) -> Vec<Sample> {
        let ms = Duration::from_millis;
        let one =
            |at| Sample { ended: ms(at), took: ms(if stall.contains(&at) { took } else { 1 }), ok: true };
        (0..3000).map(one).collect()
    }

    #[test]
    fn steady_is_after_the_last_slow_slice() {
        let steady = |stall, took| steady_after(&samples(stall, took), BASELINE).as_millis();
        assert_eq!(steady(0..0, 0), 0);
        assert_eq!(steady(1500..1505, 90), 50);
        assert_eq!(steady(1700..1705, 90), 250, "a stall that begins late counts in full");
        assert_eq!(steady(1700..1705, 9), 0);
        assert_eq!(steady(800..805, 90), 0, "it was so before");
    }
}
