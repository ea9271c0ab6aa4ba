//! The barrier race: two writers for each key, released at the same moment through two connections, then through two
//! proxies that take the group from each other, while a backend is killed and another frozen.
//! Free-running writers hide what this shows: keys that end up different on the backends.

use super::clients::Record;
use super::cluster::{Cluster, Programs};
use super::connection::{Connection, PATIENCE};
use super::history::{End, Event};
use super::judge::{Judgement, judge};
use super::objects::{Act, Ask, Kind, Object};
use super::suite::{LAST_READER, read_all};
use quorate_sim::lin::Budget;
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WRITERS: usize = 2;

/// What the race found out.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct RaceReport {
    /// Keys written through one proxy, and through two.
    pub keys: [u64; 2],
    pub take_overs: u64,
    pub ok: usize,
    pub refused: usize,
    pub unknown: usize,
    pub judgement: Judgement,
    pub divergent: Vec<String>,
    pub odd: Vec<String>,
}

impl RaceReport {
    /// Was every promise kept?
    pub fn kept(&self) -> bool {
        self.judgement.findings.is_empty() && self.divergent.is_empty() && self.odd.is_empty()
    }

    /// As a table.
    pub fn text(&self) -> String {
        let [one, two] = self.keys;
        let mut text = format!(
            "keys                 {one} through one proxy, {two} through two with {} take-overs\n\
             writes               {} ok, {} refused, {} unknown\n\
             not in one order     {} ({} undecided)\n\
             divergent keys       {}\n",
            self.take_overs,
            self.ok,
            self.refused,
            self.unknown,
            self.judgement.findings.len(),
            self.judgement.undecided.len(),
            self.divergent.len()
        );
        for finding in self.judgement.findings.iter().take(10) {
            text += &format!("  {:?}: {}: {}\n", finding.broken, finding.object, finding.detail);
        }
        for line in self.divergent.iter().chain(&self.odd).take(10) {
            text += &format!("  {line}\n");
        }
        text
    }
}

/// What the writers and the nemesis share.
struct Track {
    barrier: Barrier,
    next: AtomicU64,
    stop: AtomicBool,
    started: Instant,
}

/// Half of the keys through one proxy, half through two.
pub fn run(programs: &Programs, keys: u64, cables: bool, log: impl Fn(&str)) -> io::Result<RaceReport> {
    let mut cluster = Cluster::start(programs, cables)?;
    let started = Instant::now();
    let mut record = Record::default();
    let one = cluster.proxies[0].address;
    let first = race(&mut cluster, &mut record, [one, one], 0, started, |cluster, track| {
        for step in 0..4 {
            wait_keys(track, keys / 8)?;
            log(&format!("key {}: step {step} with one proxy", track.next.load(Ordering::Relaxed)));
            match step {
                0 => cluster.backends[0].kill()?,
                1 => cluster.backends[0].start(&cluster.network)?,
                2 => cluster.backends[1].freeze()?,
                _ => cluster.backends[1].thaw()?,
            }
        }
        Ok(())
    })?;
    cluster.wait_in_sync()?;
    let two = [cluster.proxies[0].address, cluster.proxies[1].address];
    let mut take_overs = 0;
    let second = race(&mut cluster, &mut record, two, first, started, |cluster, track| {
        for step in 0..8_usize {
            wait_keys(track, keys / 16)?;
            log(&format!("key {}: take-over {step}", track.next.load(Ordering::Relaxed)));
            let victim = step / 2 % 3;
            match step % 2 {
                0 => cluster.backends[victim].freeze()?,
                _ => cluster.backends[victim].kill()?,
            }
            let other = 1 - cluster.owner;
            cluster.proxies[other].kill()?;
            cluster.proxies[other].start(&cluster.network)?;
            cluster.owner = other;
            take_overs += 1;
            cluster.wait_serving()?;
            wait_keys(track, keys / 16)?;
            match step % 2 {
                0 => cluster.backends[victim].thaw()?,
                _ => cluster.backends[victim].start(&cluster.network)?,
            }
            cluster.wait_in_sync()?;
        }
        Ok(())
    })?;
    finish(&cluster, record, [first, second - first], take_overs)
}

fn finish(cluster: &Cluster, mut record: Record, keys: [u64; 2], take_overs: u64) -> io::Result<RaceReport> {
    let ends = |wanted: fn(&End) -> bool| record.events.iter().filter(|event| wanted(&event.end)).count();
    let ok = ends(|end| matches!(end, End::Ok(_)));
    let (refused, unknown) = (ends(|end| *end == End::Fail), ends(|end| *end == End::Info));
    read_all(cluster, &mut record)?;
    let judgement = judge(&record.events, LAST_READER, Budget::default());
    let (_, divergent) = cluster.divergent()?;
    Ok(RaceReport { keys, take_overs, ok, refused, unknown, judgement, divergent, odd: record.odd })
}

/// Two writers, from this key on, until the nemesis has done its work. Gives the key after the last.
fn race(
    cluster: &mut Cluster,
    record: &mut Record,
    proxies: [SocketAddr; WRITERS],
    first: u64,
    started: Instant,
    nemesis: impl FnOnce(&mut Cluster, &Track) -> io::Result<()>,
) -> io::Result<u64> {
    let track =
        Track { barrier: Barrier::new(WRITERS), next: first.into(), stop: AtomicBool::new(false), started };
    let done = std::thread::scope(|scope| {
        let track = &track;
        let writers: Vec<_> = (0..WRITERS)
            .map(|nth| scope.spawn(move || write(track, nth as u64, proxies[nth], first)))
            .collect();
        let done = nemesis(cluster, track);
        track.stop.store(true, Ordering::SeqCst);
        for writer in writers {
            record.join(writer.join().expect("a writer does not panic"));
        }
        done
    });
    done.map(|()| track.next.load(Ordering::SeqCst))
}

fn write(track: &Track, nth: u64, proxy: SocketAddr, first: u64) -> Record {
    let mut record = Record::default();
    let mut connection = None;
    for key in first.. {
        // One of the two decides for both whether it was the last key.
        if track.barrier.wait().is_leader() {
            let last = track.stop.load(Ordering::SeqCst);
            track.next.store(if last { key } else { key + 1 }, Ordering::SeqCst);
        }
        track.barrier.wait();
        if track.next.load(Ordering::SeqCst) == key {
            return record;
        }
        if connection.is_none() {
            connection = Connection::open(proxy, PATIENCE).ok();
        }
        track.barrier.wait();
        let Some(open) = connection.as_mut() else { continue };
        let object = Object { kind: Kind::Text, number: key };
        let ask = Ask { object, act: Act::Write(key * WRITERS as u64 + nth) };
        let invoked = track.started.elapsed().as_nanos() as u64;
        let reply = open.send(&ask.encode()).and_then(|()| open.receive());
        let ended = track.started.elapsed().as_nanos() as u64;
        if reply.is_err() {
            connection = None;
        }
        let end = record.end(ask, reply);
        record.events.push(Event { process: nth, ask, invoked, ended, end });
    }
    record
}

fn wait_keys(track: &Track, more: u64) -> io::Result<()> {
    let target = track.next.load(Ordering::Relaxed) + more;
    let deadline = Instant::now() + super::cluster::DEADLINE;
    while track.next.load(Ordering::Relaxed) < target {
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the writers do not get on"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
