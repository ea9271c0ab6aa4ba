//! `quorate scrub`: asks a running proxy to compare its replicas, and waits for the end if told to.

use super::status::{AdminArgs, escape, fetch, request, scrub_line, unreachable, word};
use super::{Exit, Format};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(200);
/// A proxy that does not answer for this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compares all keys of a group's replicas, and mends what a minority holds differently.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    #[arg(long, value_name = "NAME")]
    group: String,
    /// Wait for the end; Ctrl-C ends the waiting, not the scrub
    #[arg(long)]
    wait: bool,
    /// Only report what differs; repair nothing
    #[arg(long)]
    dry_run: bool,
    /// End the scrub that is under way
    #[arg(long, conflicts_with_all = ["dry_run", "rate"])]
    cancel: bool,
    /// Keys a second; the group's scrub-rate when left out
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn main(args: Args, format: Format) -> Exit {
    let at = match args.admin.endpoint() {
        Ok(at) => at,
        Err(exit) => return exit,
    };
    let flag = |name: &str, on: bool| if on { format!("&{name}=yes") } else { String::new() };
    let rate = args.rate.map(|rate| format!("&rate={rate}")).unwrap_or_default();
    let flags = flag("dry_run", args.dry_run) + &flag("cancel", args.cancel) + &rate;
    let ended = match request("POST", &at, &format!("/scrub?group={}{flags}", escape(&args.group))) {
        Ok((202, body)) => serde_json::from_str::<Value>(&body).unwrap_or_default()["scrubs_ended"].as_u64(),
        Ok((403 | 404 | 409, problem)) => {
            return told(format, &json!({ "outcome": "refused", "problem": problem.trim() }), &args);
        }
        Ok((code, _)) => return unreachable(&format!("{at} answers {code}; is it the [admin] address?")),
        Err(problem) => return unreachable(&problem),
    };
    match ended {
        None => unreachable(&format!("{at} does not answer as a proxy would")),
        Some(_) if !args.wait => told(format, &json!({ "outcome": "asked", "problem": "" }), &args),
        Some(before) => match wait(&at, &args.group, before) {
            Ok(report) => told(format, &report, &args),
            Err(problem) => unreachable(&problem),
        },
    }
}

/// The report on standard output, and the exit code that it deserves: 0 if all keys were looked for and are equal now.
fn told(format: Format, report: &Value, args: &Args) -> Exit {
    match format {
        Format::Json => println!("{report:#}"),
        Format::Text => print!("{}", text(report)),
    }
    let none = |key: &str| report[key].as_u64().unwrap_or(0) == 0;
    match word(&report["outcome"]).as_str() {
        "asked" => Exit::Done,
        "cancelled" if args.cancel => Exit::Done,
        "done" if !word(&report["problem"]).is_empty() => Exit::No,
        "done" if none("undecided") && (none("differing") || !args.dry_run) => Exit::Done,
        _ => Exit::No,
    }
}

fn text(report: &Value) -> String {
    let (outcome, problem) = (word(&report["outcome"]), word(&report["problem"]));
    let mut out = if problem.is_empty() { outcome } else { format!("{outcome}: {problem}") };
    if report["keys"].is_u64() {
        out += &format!("\n{}", scrub_line(report));
    }
    for name in report["names"].as_array().into_iter().flatten() {
        out += &format!("\n  {}", word(name));
    }
    out + "\n"
}

/// The report, when the scrub has ended.
fn wait(at: &str, group: &str, before: u64) -> Result<Value, String> {
    let mut answered = Instant::now();
    let mut shown = String::new();
    loop {
        std::thread::sleep(LOOK);
        let mut found = match look(at, group) {
            Ok(found) => found,
            Err(problem) if answered.elapsed() > PATIENCE => return Err(problem),
            Err(_) => continue,
        };
        answered = Instant::now();
        if found["scrubs_ended"].as_u64() > Some(before) {
            return Ok(found["last_scrub"].take());
        }
        show(&found["scrub"], &mut shown);
    }
}

fn look(at: &str, group: &str) -> Result<Value, String> {
    let (code, body) = fetch(at, "/status")?;
    let mut status: Value = serde_json::from_str(&body).map_err(|_| format!("{at} answers {code}"))?;
    let mut groups = status["groups"].as_array_mut().into_iter().flatten();
    let found = groups.find(|found| found["name"] == group).map(Value::take);
    found.ok_or_else(|| format!("{at} does not know {group} any more"))
}

/// Progress for people, one line that is written over; nothing where nobody looks.
fn show(progress: &Value, shown: &mut String) {
    let mut err = std::io::stderr();
    if progress.is_null() || !err.is_terminal() {
        return;
    }
    let line = scrub_line(progress);
    if line != *shown {
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
        *shown = line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_few_lines() {
        let report = json!({
            "outcome": "done", "problem": "", "dry_run": true, "keys": 10, "differing": 1, "mended": 0,
            "undecided": 0, "skipped": 0, "names": ["a\\xff"], "ratio": 1.0, "finished_unix_ms": 1
        });
        assert_eq!(
            text(&report),
            "done\n10 keys compared, 1 differing, 0 skipped; nothing was repaired\n  a\\xff\n"
        );
        let refused = json!({ "outcome": "refused", "problem": "why" });
        assert_eq!(text(&refused), "refused: why\n");
    }
}
