//! `quorate reseed`: asks a running proxy to copy all data to a stale replica, and waits for the end.

use super::status::{AdminArgs, escape, fetch, request, reseed_line, unreachable, word};
use super::{Exit, Format};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(200);
/// A proxy that does not answer for this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Once it has its copy, a replica is attached and fed within this time, or it is told as it is.
const ATTACH: Duration = Duration::from_secs(30);

/// Copies all data to a stale replica. Ctrl-C ends the waiting, not the reseed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    #[arg(long, value_name = "NAME")]
    group: String,
    /// The stale replica that gets a copy; what it holds is erased
    #[arg(long, value_name = "NAME")]
    replica: String,
    /// Erase also data that is not the group's
    #[arg(long)]
    yes: bool,
    /// End the reseed that is under way
    #[arg(long, conflicts_with = "yes")]
    cancel: bool,
    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn main(args: Args, format: Format) -> Exit {
    let at = match args.admin.endpoint() {
        Ok(at) => at,
        Err(exit) => return exit,
    };
    let flag = |name: &str, on: bool| if on { format!("&{name}=yes") } else { String::new() };
    let (group, replica) = (escape(&args.group), escape(&args.replica));
    let flags = flag("erase", args.yes) + &flag("cancel", args.cancel);
    let answer = request("POST", &at, &format!("/reseed?group={group}&replica={replica}{flags}"));
    let ended = match answer {
        Ok((202, body)) => serde_json::from_str::<Value>(&body).unwrap_or_default()["reseeds_ended"].as_u64(),
        Ok((403 | 404 | 409, problem)) => return told(format, "refused", problem.trim(), ""),
        Ok((code, _)) => return unreachable(&format!("{at} answers {code}; is it the [admin] address?")),
        Err(problem) => return unreachable(&problem),
    };
    let wanted = if args.cancel { "cancelled" } else { "done" };
    match ended {
        None => unreachable(&format!("{at} does not answer as a proxy would")),
        Some(_) if args.no_wait => told(format, "asked", "", "asked"),
        Some(before) => match wait(&at, &args, before) {
            Ok((outcome, problem)) => told(format, &outcome, &problem, wanted),
            Err(problem) => unreachable(&problem),
        },
    }
}

/// The outcome on standard output, and the exit code that it deserves.
fn told(format: Format, outcome: &str, problem: &str, wanted: &str) -> Exit {
    match format {
        Format::Json => println!("{:#}", json!({ "outcome": outcome, "problem": problem })),
        Format::Text if problem.is_empty() => println!("{outcome}"),
        Format::Text => println!("{outcome}: {problem}"),
    }
    if outcome == wanted { Exit::Done } else { Exit::No }
}

/// Outcome and problem, when it has ended and the replica is in sync.
fn wait(at: &str, args: &Args, before: u64) -> Result<(String, String), String> {
    let mut answered = Instant::now();
    let mut ended_at: Option<Instant> = None;
    let mut shown = String::new();
    loop {
        std::thread::sleep(LOOK);
        let replica = match look(at, args) {
            Ok(replica) => replica,
            Err(problem) if answered.elapsed() > PATIENCE => return Err(problem),
            Err(_) => continue,
        };
        answered = Instant::now();
        show(&replica["reseed"], &mut shown);
        if replica["reseeds_ended"].as_u64() <= Some(before) {
            continue;
        }
        let since = ended_at.get_or_insert(answered).elapsed();
        let last = &replica["last_reseed"];
        let (outcome, state) = (word(&last["outcome"]), word(&replica["state"]));
        if outcome != "done" || state == "in-sync" {
            return Ok((outcome, word(&last["problem"])));
        }
        if since > ATTACH {
            return Ok(("failed".into(), format!("it is {state} after it: {}", word(&replica["problem"]))));
        }
    }
}

fn look(at: &str, args: &Args) -> Result<Value, String> {
    let (code, body) = fetch(at, "/status")?;
    let status: Value = serde_json::from_str(&body).map_err(|_| format!("{at} answers {code}"))?;
    let named = |list: &Value, name: &str| {
        list.as_array().into_iter().flatten().find(|item| item["name"] == name).cloned()
    };
    let group = named(&status["groups"], &args.group);
    let replica = group.and_then(|group| named(&group["replicas"], &args.replica));
    replica.ok_or_else(|| format!("{at} does not know {} any more", args.replica))
}

/// Progress for people, one line that is written over; nothing where nobody looks.
fn show(progress: &Value, shown: &mut String) {
    let mut err = std::io::stderr();
    let Some(line) = reseed_line(progress).filter(|line| err.is_terminal() && line != shown) else { return };
    let _ = write!(err, "\r\x1b[K{line}");
    let _ = err.flush();
    *shown = line;
}
