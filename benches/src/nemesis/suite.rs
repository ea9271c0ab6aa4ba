//! One run from the start of the servers to the verdict.

use super::clients::{Clients, Record};
use super::cluster::{Cluster, DEADLINE, Programs};
use super::connection::{Connection, PATIENCE};
use super::faults::Kinds;
use super::history::{End, Event, write_edn};
use super::judge::judge;
use super::mix::Part;
use super::objects::{Ask, Kind, Object, Told};
use super::report::{Report, Requests, fault_rows};
use super::schedule::{Profile, Schedule, Window};
use quorate_sim::lin::{Budget, ListRet};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The client that reads everything after the end.
pub const LAST_READER: u64 = 1_000_000_000;
/// Objects read with one write to the socket.
const BATCH: usize = 200;
/// Requests that succeed before the first fault.
const WARM_UP: u64 = 200;

/// What to run.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Plan {
    pub programs: Programs,
    pub profile: Profile,
    pub seed: u64,
    pub time: Duration,
    pub clients: u64,
    /// What they do.
    pub parts: Vec<Part>,
    /// Requests a second, of all clients together.
    pub rate: u64,
    /// Put every process into a namespace, if that can be done.
    pub cables: bool,
    /// Where the history goes, and the logs of all processes.
    pub history: Option<PathBuf>,
    /// Also tear append-only files in the middle of a transaction.
    pub torn: bool,
    /// Spoils what was read at the end, to prove that the checker sees it.
    pub forget_one: bool,
}

/// Runs it. An error means that there is no verdict.
pub fn run(plan: &Plan, log: impl Fn(&str)) -> io::Result<Report> {
    let mut cluster = Cluster::start(&plan.programs, plan.cables)?;
    if let Some(why) = &cluster.without_cables {
        log(&format!("loopback: no faults of the network, no full disks ({})", why.trim()));
    } else if !cluster.network.has_loss() {
        log("nft is not installed: no loss of packets");
    }
    let clients = Clients::start(&cluster.front(), &plan.parts, (plan.clients, plan.rate), plan.seed);
    let mut windows = Vec::new();
    let mut trouble = Vec::new();
    let mut schedule = Schedule::new(plan.profile, Kinds::of(&cluster, plan.torn), plan.seed);
    let ran = wait_answers(&clients, WARM_UP)
        .and_then(|()| schedule.run(&mut cluster, &clients, plan.time, &mut windows, &log))
        .and_then(|()| wait_answers(&clients, WARM_UP));
    note(ran, &mut trouble)?;
    let seconds = clients.now() as f64 / 1e9;
    log("waiting for the clients");
    let began = clients.began();
    let mut record = clients.stop();
    if trouble.is_empty() {
        note(cluster.wait_in_sync(), &mut trouble)?;
    }
    let last = read_all(&cluster, &mut record);
    note(last, &mut trouble)?;
    Clients::read_mix(cluster.owner().address, &mut record, LAST_READER, began);
    if record.mix.unread() > 0 {
        trouble.push(format!("{} objects could not be read at the end", record.mix.unread()));
    }
    if plan.forget_one {
        forget_one(&mut record);
    }
    keep(plan, &cluster, &record, &windows)?;
    log("judging");
    let mut judgement = judge(&record.events, LAST_READER, Budget::default());
    judgement.join(record.mix.judge(Budget::default()));
    let (keys, divergent) = match cluster.divergent() {
        Ok(found) => found,
        Err(error) => {
            note(Err(error), &mut trouble)?;
            (0, Vec::new())
        }
    };
    for proxy in &cluster.proxies {
        trouble.extend(proxy.panics());
    }
    if cluster.owner().metric("quorate_divergences_total") > 0.0 {
        trouble.push("the proxy says that replicas answered differently".into());
    }
    let served = |event: &&Event| event.process != LAST_READER;
    let events = record.events.iter().filter(served).cloned().collect();
    let record = Record { events, ..record };
    Ok(Report {
        profile: plan.profile,
        seed: plan.seed,
        seconds,
        server: version(&plan.programs.server),
        parts: plan.parts.clone(),
        without_cables: cluster.without_cables.clone(),
        requests: Requests::of(&record),
        faults: fault_rows(&windows, &record),
        judgement,
        keys,
        divergent,
        odd: record.odd.clone(),
        silent: record.silent.clone(),
        trouble,
        reseeds: cluster.reseeds,
        holes: cluster.backends.iter().map(|backend| backend.holes).sum(),
    })
}

/// What did not happen in time is a broken promise; other errors are not the proxy's.
fn note(result: io::Result<()>, trouble: &mut Vec<String>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            trouble.push(error.to_string());
            Ok(())
        }
        result => result,
    }
}

fn wait_answers(clients: &Clients, more: u64) -> io::Result<()> {
    let (target, deadline) = (clients.answered() + more, Instant::now() + DEADLINE);
    while clients.answered() < target {
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "clients are not answered"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Reads every object once more; the reads are part of the history.
pub fn read_all(cluster: &Cluster, record: &mut Record) -> io::Result<()> {
    let objects: BTreeSet<Object> = record.events.iter().map(|event| event.ask.object).collect();
    let objects: Vec<Object> = objects.into_iter().collect();
    // After everything: the checker only looks at the order.
    let mut at = record.events.iter().map(|event| event.ended).max().unwrap_or(0);
    let mut connection = Connection::open(cluster.owner().address, PATIENCE)?;
    for batch in objects.chunks(BATCH) {
        let asks: Vec<Ask> = batch.iter().map(|object| Ask::read(*object)).collect();
        let commands: Vec<_> = asks.iter().map(|ask| ask.encode()).collect();
        for (ask, reply) in asks.into_iter().zip(connection.pipeline(&commands)?) {
            let end = record.end(ask, Ok(reply));
            at += 2;
            record.events.push(Event { process: LAST_READER, ask, invoked: at - 1, ended: at, end });
        }
    }
    Ok(())
}

/// As if the last acknowledged element of some list were gone.
fn forget_one(record: &mut Record) {
    let lists = record.events.iter_mut().rev().filter(|event| event.process == LAST_READER);
    for event in lists.filter(|event| event.ask.object.kind == Kind::List) {
        if let End::Ok(Told::List(ListRet::Items(items))) = &mut event.end
            && items.pop().is_some()
        {
            return;
        }
    }
}

fn keep(plan: &Plan, cluster: &Cluster, record: &Record, windows: &[Window]) -> io::Result<()> {
    let Some(folder) = &plan.history else { return Ok(()) };
    write_edn(&record.events, folder)?;
    record.mix.write_edn(folder)?;
    fs::write(folder.join("faults.edn"), faults_edn(windows))?;
    for entry in fs::read_dir(&cluster.dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::copy(&path, folder.join(path.file_name().unwrap_or_default()))?;
        }
    }
    copy_configuration(cluster, folder)
}

fn copy_configuration(cluster: &Cluster, folder: &Path) -> io::Result<()> {
    for proxy in &cluster.proxies {
        let name = proxy.host.name();
        fs::copy(cluster.dir.join(&name).join("quorate.toml"), folder.join(format!("{name}.toml")))?;
    }
    Ok(())
}

/// As Jepsen writes what its nemesis does.
fn faults_edn(windows: &[Window]) -> String {
    let mut out = String::new();
    for Window { faults, from, healed, until } in windows {
        let names: Vec<String> =
            faults.iter().map(|f| format!("[:{} \"{}\"]", f.name(), f.victim())).collect();
        for (at, what) in [(from, "start"), (healed, "stop"), (until, "in-sync")] {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{{:time {at}, :process :nemesis, :type :info, :f :{what}, :value [{}]}}",
                names.join(" ")
            );
        }
    }
    out
}

/// What the server says of itself: `redis-server 7.0.15`.
fn version(program: &Path) -> String {
    let output = std::process::Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let number = text.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("?").to_string();
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{name} {number}")
}
