//! The fault suite with real processes.

use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate_benches::load::Mix;
use quorate_benches::nemesis::cluster::Programs;
use quorate_benches::nemesis::mix::{PARTS, Part};
use quorate_benches::nemesis::schedule::Profile;
use quorate_benches::nemesis::{failover, race, share, suite};
use serde::Serialize;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Starts three servers and a proxy, breaks them by a seeded schedule while clients write and read,
/// and holds what the clients saw against what was promised.
///
/// As root every process gets a network namespace of its own, so that cables can be pulled; otherwise
/// all are on loopback, and only processes are hurt. Nothing is left behind, also after Ctrl-C.
///
/// Exit codes: 0 every promise was kept, 1 one was broken, 2 usage, 4 it could not run.
#[derive(Parser)]
#[command(name = "nemesis", version, args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand)]
enum Command {
    /// Two writers per key, released together, while backends die and two proxies fight for the group
    Race {
        /// Keys, at least
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(8..=1_000_000))]
        keys: u64,
        #[command(flatten)]
        common: Common,
    },
    /// How long clients notice that a backend is gone, and how fast it catches up
    Failover {
        /// Times that each backend fails in each way
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
        rounds: u64,
        #[command(flatten)]
        common: Common,
    },
    /// What clients notice while a replica catches up, or gets a copy of all data
    Share {
        #[command(flatten)]
        share: ShareOptions,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct ShareOptions {
    /// Writes that the replica misses; 0 leaves the catch-up out
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    missed: u64,
    /// Steady load as a share of the peak
    #[arg(long, default_value_t = 0.5)]
    share: f64,
    /// set, get, or GET/SET per cent such as 80/20
    #[arg(long, default_value = "50/50")]
    mix: Mix,
    /// Times that each is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// Also copies so many keys to an empty replica; fewer could come from the log
    #[arg(long, value_parser = clap::value_parser!(u64).range(400_000..=10_000_000))]
    keys: Option<u64>,
    /// How they are copied
    #[arg(long, value_delimiter = ',', default_value = "replicaof,scan")]
    ways: Vec<String>,
    /// A further line of the group's section, such as 'reseed-rate = "64MiB"'
    #[arg(long, value_name = "LINE")]
    group: Vec<String>,
    /// Gives the backend that goes away a processor of its own, as if it had a machine of its own
    #[arg(long)]
    apart: bool,
}

#[derive(Args)]
struct RunOptions {
    /// How much is broken at once
    #[arg(long, value_enum, default_value_t = Profile::Single)]
    profile: Profile,
    /// How long things are broken and healed
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Clients
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    clients: u64,
    /// Requests a second, of all clients together
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// What clients do, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = PARTS)]
    mix: Vec<Part>,
    /// Writes the history here in Jepsen's form, and the logs of all processes
    #[arg(long, value_name = "FOLDER")]
    history: Option<PathBuf>,
    /// Also tears append-only files in the middle of a transaction; Redis 7.0 does not survive that
    #[arg(long)]
    torn: bool,
    /// Spoils the final state, to prove that the checker sees it
    #[arg(long, hide = true)]
    forget_one: bool,
}

#[derive(Args)]
struct Common {
    /// The schedule's seed (default: from the clock)
    #[arg(long)]
    seed: Option<u64>,
    /// The server program (default: redis-server from PATH, or QUORATE_VALKEY)
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// The quorate program (default: the one beside this program)
    #[arg(long, value_name = "PATH")]
    quorate: Option<PathBuf>,
    /// Everything on loopback, without faults of the network
    #[arg(long)]
    loopback: bool,
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
    let done = match options.command {
        None => run(options.run, &options.common),
        Some(Command::Race { keys, common }) => run_race(keys, &common),
        Some(Command::Failover { rounds, common }) => run_failover(rounds, &common),
        Some(Command::Share { share, common }) => run_share(share, &common),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(4)
        }
    }
}

fn run(options: RunOptions, common: &Common) -> io::Result<bool> {
    let plan = suite::Plan {
        programs: common.programs()?,
        profile: options.profile,
        seed: common.seed(),
        time: Duration::from_secs(options.seconds),
        clients: options.clients,
        rate: options.rate,
        parts: options.mix,
        cables: !common.loopback,
        history: options.history,
        torn: options.torn,
        forget_one: options.forget_one,
    };
    let report = suite::run(&plan, |line| eprintln!("{line}"))?;
    common.print(&report, report.text());
    Ok(report.kept())
}

fn run_race(keys: u64, common: &Common) -> io::Result<bool> {
    let report = race::run(&common.programs()?, keys, !common.loopback, |line| eprintln!("{line}"))?;
    common.print(&report, report.text());
    Ok(report.kept())
}

fn run_failover(rounds: u64, common: &Common) -> io::Result<bool> {
    let report = failover::run(&common.programs()?, rounds, !common.loopback, |line| eprintln!("{line}"))?;
    common.print(&report, report.text());
    Ok(report.kept())
}

fn run_share(options: ShareOptions, common: &Common) -> io::Result<bool> {
    let plan = share::Plan {
        programs: common.programs()?,
        missed: options.missed,
        share: options.share,
        mix: options.mix,
        rounds: options.rounds,
        keys: options.keys,
        ways: options.ways,
        group: options.group.iter().map(|line| format!("{line}\n")).collect(),
        apart: options.apart,
    };
    let report = share::run(&plan, |line| eprintln!("{line}"))?;
    common.print(&report, report.text());
    Ok(report.kept())
}

impl Common {
    fn programs(&self) -> io::Result<Programs> {
        Programs::find(self.server.clone(), self.quorate.clone())
    }

    fn seed(&self) -> u64 {
        let clock =
            || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.seed.unwrap_or_else(clock)
    }

    fn print(&self, report: &impl Serialize, text: String) {
        match self.format {
            Format::Text => print!("{text}"),
            Format::Json => {
                println!("{}", serde_json::to_string_pretty(report).expect("a report is plain data"));
            }
        }
    }
}
