//! `quorate explain`: why a request goes where it goes, by the code that real requests use.

use super::{Exit, Format, default_config, load, status};
use crate::policies::{GroupPolicy, topology};
use quorate_core::explain::{Explanation, Fate, read, write};
use quorate_core::plan::{ASK, REJECT, Table};
use quorate_core::quorum::covers;
use quorate_core::rule::{Mask, Rule};
use quorate_host::Host;
use quorate_wire::command::{self, Carry, Flags, Local, Rewritten, Scripting, Step};
use quorate_wire::resp::{Args as CommandArgs, Decoder, Limits};
use serde::Serialize;
use std::path::PathBuf;

/// Where a request would go, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request, as one would type it
    #[arg(value_name = "REQUEST")]
    request: String,
    /// The group; the only one where there is one
    #[arg(short, long)]
    group: Option<String>,
    /// Replicas that are down
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    down: Vec<String>,
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value_os_t = default_config())]
    config: PathBuf,
    /// Ask a running proxy's admin endpoint instead
    #[arg(long, value_name = "HOST:PORT")]
    at: Option<String>,
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// As asked.
    pub request: String,
    /// The command's name.
    pub command: String,
    /// What it does.
    pub class: String,
    /// How it is carried: `read`, `deterministic`, `rewritten`, `local`, `refused`.
    pub carried: String,
    /// Its keys, with their slots.
    pub keys: Vec<(String, u16)>,
    /// The group.
    pub group: String,
    /// Where it goes; `None` when it goes nowhere.
    pub plan: Option<Explanation>,
    /// In one sentence.
    pub summary: String,
}

/// Explains a request; an error is a sentence.
pub fn explain(
    request: &str,
    group: &str,
    table: &Table,
    replicas: &[String],
    down: &[String],
) -> Result<Explained, String> {
    let down = mask(replicas, down)?;
    let line = format!("{request}\r\n");
    let mut decoder = Decoder::default();
    let frame = decoder.next(line.as_bytes(), &Limits::default()).map_err(|e| e.to_string())?;
    let inline = frame.and_then(|frame| frame.inline).ok_or("the request is not a command line")?;
    let args = CommandArgs::new(&inline, decoder.spans());
    if args.len() == 0 {
        return Err("the request is empty".into());
    }
    let known = command::resolve(args).map_err(|error| error.to_string())?;
    let class = command::op_class(known, args);
    let carry = command::classify(known, args);
    let mut keys = Vec::new();
    command::keys(known, args, &mut |key| {
        keys.push((String::from_utf8_lossy(key).into_owned(), command::slot(key)))
    });
    let mut explained = Explained {
        request: request.to_string(),
        command: known.name.replace('|', " ").to_uppercase(),
        class: class.name().into(),
        carried: carried(carry, args).into(),
        keys,
        group: group.into(),
        plan: None,
        summary: String::new(),
    };
    let is_read = match carry {
        Carry::Read | Carry::Deadline(_) | Carry::Local(Local::Command | Local::Info) => true,
        Carry::Script(Scripting::Exists) => true,
        Carry::Script(_) => known.flags.has(Flags::READONLY),
        _ => false,
    };
    match carry {
        Carry::Refused(why) => explained.summary = why.message(&args[0]),
        Carry::Transaction(step) => explained.summary = transaction(step).into(),
        Carry::Local(_) if !is_read => explained.summary = "the proxy answers it itself".into(),
        _ => {
            let slot = explained.keys.first().map_or(0, |(_, slot)| *slot);
            let outcome = table.outcome(class, slot);
            let Some(plan) = table.plan(outcome) else {
                explained.summary = match outcome {
                    ASK => "the policy's decider is asked for each request of this kind".into(),
                    REJECT => format!("the policy rejects {} requests", class.name()),
                    _ => "the policy names a plan that does not exist".into(),
                };
                return Ok(explained);
            };
            let rules: Vec<&Rule> = table.plans().iter().map(|plan| &plan.write).collect();
            let up = ((1 << replicas.len()) - 1) & !down;
            let mut plan = match is_read {
                true => read(plan, replicas, down, covers(&rules, replicas.len(), up)),
                false => write(plan, replicas, down),
            };
            plan.reasons.extend(rewritten(carry, args));
            explained.summary = format!("answered {}", plan.answered);
            explained.plan = Some(plan);
        }
    }
    Ok(explained)
}

fn carried(carry: Carry, args: CommandArgs) -> &'static str {
    match carry {
        Carry::Read => "read",
        Carry::Deadline(_) => "read",
        Carry::Deterministic => "deterministic",
        Carry::Flush => "rewritten",
        Carry::Rewritten(_) if rewritten(carry, args).is_none() => "deterministic",
        Carry::Rewritten(_) => "rewritten",
        Carry::Waits(_) => "waits",
        Carry::Leads => "run on one replica first",
        Carry::Script(_) => "script",
        Carry::Local(_) => "local",
        Carry::Transaction(_) => "transaction",
        Carry::Refused(_) => "refused",
    }
}

fn transaction(step: Step) -> &'static str {
    match step {
        Step::Multi | Step::Discard | Step::Unwatch => "the proxy answers it itself",
        Step::Watch => {
            "the sequencer notes how long the log is; a later write to these keys drops the transaction"
        }
        Step::Exec => {
            "one entry of the log, by the plan of its commands that waits for most; a transaction of reads is one read"
        }
    }
}

fn rewritten(carry: Carry, args: CommandArgs) -> Option<String> {
    let Carry::Rewritten(kind) = carry else { return None };
    // Any time will do to see what changes.
    match command::rewrite(kind, args, 1_000_000_000_000) {
        Rewritten::AsIs | Rewritten::Moves => None,
        Rewritten::Args(_) => {
            Some("what depends on time or chance becomes fixed before it is ordered".into())
        }
        Rewritten::Timed { .. } => {
            Some("its deadline becomes absolute, and the key ends by an entry of the log".into())
        }
        Rewritten::Stream { .. } => Some("the stream id is chosen when it is ordered".into()),
    }
}

fn mask(replicas: &[String], down: &[String]) -> Result<Mask, String> {
    down.iter().try_fold(0, |mask, name| match replicas.iter().position(|r| r == name) {
        Some(i) => Ok(mask | 1 << i),
        None => Err(format!("there is no replica '{name}'; the group has {}", replicas.join(", "))),
    })
}

pub(super) fn main(args: Args, format: Format) -> Exit {
    let explained = match &args.at {
        Some(at) => live(&args, at),
        None => offline(&args),
    };
    match explained {
        Ok(explained) => {
            match format {
                Format::Json => println!("{}", serde_json::to_string_pretty(&explained).unwrap_or_default()),
                Format::Text => print!("{}", text(&explained)),
            }
            match explained.plan {
                Some(Explanation { fate: Fate::Applied, .. }) => Exit::Done,
                None if explained.carried == "local" => Exit::Done,
                _ => Exit::No,
            }
        }
        Err((problem, exit)) => {
            if !problem.is_empty() {
                eprintln!("quorate: {problem}");
            }
            exit
        }
    }
}

fn offline(args: &Args) -> Result<Explained, (String, Exit)> {
    let config = load(&args.config).map_err(|exit| (String::new(), exit))?.config;
    let group = match &args.group {
        Some(name) => config.group(name).ok_or_else(|| (format!("there is no group '{name}'"), Exit::No))?,
        None => config.groups.first().ok_or_else(|| ("there is no group".to_string(), Exit::Config))?,
    };
    let unusable = |error: &dyn std::fmt::Display| (error.to_string(), Exit::Config);
    let host = Host::new(None).map_err(|error| unusable(&error))?;
    let policy = GroupPolicy::load(&host, group).map_err(|error| unusable(&error))?;
    let view = topology(&config, group);
    let table = policy.check(&view).map_err(|error| unusable(&error))?.table;
    explain(&args.request, &group.name, &table, &group.replicas, &args.down)
        .map_err(|problem| (problem, Exit::No))
}

fn live(args: &Args, at: &str) -> Result<Explained, (String, Exit)> {
    let mut query = vec![("request", args.request.clone()), ("down", args.down.join(","))];
    query.extend(args.group.iter().map(|group| ("group", group.clone())));
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let (code, body) =
        status::fetch(at, &format!("/explain?{query}")).map_err(|problem| (problem, Exit::Unreachable))?;
    match code {
        200 => serde_json::from_str::<serde_json::Value>(&body)
            .ok()
            .and_then(|value| from_json(&value))
            .ok_or_else(|| ("its answer cannot be read".into(), Exit::Unreachable)),
        _ => Err((body.trim_end().to_string(), Exit::No)),
    }
}

/// The answer of a proxy of the same version.
fn from_json(value: &serde_json::Value) -> Option<Explained> {
    let text = |value: &serde_json::Value, key: &str| Some(value.get(key)?.as_str()?.to_string());
    let list = |value: &serde_json::Value, key: &str| -> Option<Vec<String>> {
        value.get(key)?.as_array()?.iter().map(|v| v.as_str().map(str::to_string)).collect()
    };
    let part = |p: &serde_json::Value| {
        let up = p.get("up")?.as_bool()?;
        Some(quorate_core::explain::Part { replica: text(p, "replica")?, up, gets: text(p, "gets")? })
    };
    let plan = |plan: &serde_json::Value| {
        Some(Explanation {
            plan: text(plan, "plan")?,
            replicas: plan.get("replicas")?.as_array()?.iter().map(part).collect::<Option<_>>()?,
            fate: if text(plan, "fate")? == "applied" { Fate::Applied } else { Fate::Refused },
            answered: text(plan, "answered")?,
            hints: list(plan, "hints")?,
            reasons: list(plan, "reasons")?,
        })
    };
    let key = |k: &serde_json::Value| {
        Some((k.get(0)?.as_str()?.to_string(), u16::try_from(k.get(1)?.as_u64()?).ok()?))
    };
    Some(Explained {
        request: text(value, "request")?,
        command: text(value, "command")?,
        class: text(value, "class")?,
        carried: text(value, "carried")?,
        keys: value.get("keys")?.as_array()?.iter().map(key).collect::<Option<_>>()?,
        group: text(value, "group")?,
        plan: value.get("plan").filter(|p| !p.is_null()).and_then(plan),
        summary: text(value, "summary")?,
    })
}

fn text(e: &Explained) -> String {
    let mut out = format!("{}\n  command  {} ({}, {})\n", e.request, e.command, e.class, e.carried);
    for (key, slot) in &e.keys {
        out += &format!("  key      {key} (slot {slot})\n");
    }
    out += &format!("  group    {}\n", e.group);
    if let Some(plan) = &e.plan {
        out += &format!("  plan     {}\n", plan.plan);
        for part in &plan.replicas {
            let state = if part.up { "up  " } else { "down" };
            out += &format!("  {:<8} {state} gets {}\n", part.replica, part.gets);
        }
    }
    out += &format!("  result   {}\n", e.summary);
    for (i, reason) in e.plan.iter().flat_map(|plan| &plan.reasons).enumerate() {
        out += &format!("  {}. {reason}\n", i + 1);
    }
    out
}
