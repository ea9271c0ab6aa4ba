//! The command line: one module a command. Answers go to standard output, talk to standard error.

mod check;
mod demo;
pub mod explain;
mod release;
mod reseed;
mod run;
mod scrub;
mod simulate;
mod status;

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How a command ended; documented in `--help` and docs/operations.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// The configuration cannot be used.
    Config = 3,
    /// Something could not be reached.
    Unreachable = 4,
    /// Our bug.
    Bug = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

const AFTER: &str = "\
Exit codes: 0 done, 1 the answer is no, 2 usage, 3 configuration unusable, 4 cannot reach, 70 a bug of ours.

Examples:
  quorate demo
  quorate check quorate.toml
  quorate run -c quorate.toml
  quorate explain 'SET k v' -c quorate.toml --down r3
  quorate status --at 127.0.0.1:7070
  quorate reseed --group cache --replica r3
  quorate scrub --group cache --wait
  quorate simulate --seeds 200";

#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    about = "Replicates every write to N unmodified servers under a quorum rule"
)]
#[command(after_help = AFTER, max_term_width = 100)]
struct Cli {
    /// How answers are printed
    #[arg(long, global = true, value_enum, default_value = "text")]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A playable cluster in one command: real servers if found, else an embedded store
    Demo(demo::Args),
    /// Serve clients
    Run(run::Args),
    /// Find everything that is wrong with a configuration
    Check(check::Args),
    /// Where a request would go, and why
    Explain(explain::Args),
    /// The state of a running proxy
    Status(status::Args),
    /// Give keys' deadlines back to the servers, before they serve without the proxy
    Release(release::Args),
    /// Copy all data to a stale replica while traffic goes on
    Reseed(reseed::Args),
    /// Compare all keys of the replicas, and mend what differs
    Scrub(scrub::Args),
    /// Play what may go wrong, in simulated time, and judge what clients saw
    Simulate(simulate::Args),
    /// Print generated files
    #[command(subcommand)]
    Generate(Generate),
}

#[derive(Debug, Subcommand)]
enum Generate {
    /// The JSON schema of the configuration
    Schema,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let exit = match cli.command {
        Command::Demo(args) => demo::main(args),
        Command::Run(args) => run::main(args),
        Command::Check(args) => check::main(args, cli.format),
        Command::Explain(args) => explain::main(args, cli.format),
        Command::Status(args) => status::main(args, cli.format),
        Command::Release(args) => release::main(args, cli.format),
        Command::Reseed(args) => reseed::main(args, cli.format),
        Command::Scrub(args) => scrub::main(args, cli.format),
        Command::Simulate(args) => simulate::main(args, cli.format),
        Command::Generate(Generate::Schema) => {
            println!("{:#}", crate::config::schema());
            Exit::Done
        }
    };
    exit.into()
}

/// The configuration in this file, or the report on standard error.
fn load(path: &std::path::Path) -> Result<crate::config::Loaded, Exit> {
    let env = |name: &str| std::env::var(name).ok();
    match crate::config::load(path, &env) {
        Ok(loaded) => {
            eprint!("{}", loaded.warnings.text(colour()));
            Ok(loaded)
        }
        Err(report) => {
            eprint!("{}", report.text(colour()));
            Err(Exit::Config)
        }
    }
}

fn colour() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none()
}

/// A runtime for the thread that talks and listens; the workers have their own.
fn runtime() -> Result<tokio::runtime::Runtime, Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        eprintln!("quorate: cannot start: {error}");
        Exit::Bug
    })
}

/// The configuration's usual name.
fn default_config() -> PathBuf {
    PathBuf::from("quorate.toml")
}
