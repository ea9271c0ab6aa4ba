//! `quorate check`: syntax, schema, cross-checks, the quorum proof, expectations; with `--probe`
//! the backends too. Everything that is wrong, at once.

use super::{Exit, Format, colour, default_config, explain, runtime};
use crate::backend::call::Call;
use crate::config::{Ack, Config, Expectation, Group, Loaded, Outcome, Problem, Report, load};
use crate::policies::{GroupPolicy, PolicyError, topology};
use quorate_core::explain::Fate;
use quorate_core::plan::Table;
use quorate_core::quorum::{Proof, prove, prove_table};
use quorate_core::rule::Rule;
use quorate_host::{Host, HostError};
use serde_json::json;
use std::path::PathBuf;

/// Find everything that is wrong with a configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The files
    #[arg(value_name = "FILE", default_values_os_t = [default_config()])]
    files: Vec<PathBuf>,
    /// Connect to the backends as well
    #[arg(long)]
    probe: bool,
}

/// What was proven of a group.
struct Proven {
    group: String,
    policy: String,
    digest: String,
    rules: Vec<String>,
    proof: Proof,
    /// Writes are acknowledged by the in-sync set, of at least so many.
    fewest_in_sync: Option<u32>,
}

pub(super) fn main(args: Args, format: Format) -> Exit {
    let mut exit = Exit::Done;
    for file in &args.files {
        let env = |name: &str| std::env::var(name).ok();
        let (report, proven) = match load(file, &env) {
            Err(report) => (report, vec![]),
            Ok(loaded) => examine(loaded, args.probe),
        };
        if report.has_errors() {
            exit = Exit::Config;
        }
        match format {
            Format::Json => println!(
                "{:#}",
                json!({
                    "file": file.display().to_string(),
                    "problems": report.json()["problems"],
                    "groups": proven.iter().map(json_of).collect::<Vec<_>>(),
                })
            ),
            Format::Text => {
                eprint!("{}", report.text(colour()));
                proven.iter().for_each(|proven| print!("{}", text_of(proven)));
                if !report.has_errors() {
                    println!("{}: ok", file.display());
                }
            }
        }
    }
    exit
}

fn examine(loaded: Loaded, probe: bool) -> (Report, Vec<Proven>) {
    let Loaded { config, warnings: mut report } = loaded;
    let mut proven = Vec::new();
    match Host::new(None) {
        Err(error) => report.add(Problem::error("C301", error.to_string())),
        Ok(host) => {
            for group in &config.groups {
                proven.extend(examine_group(&host, &config, group, &mut report));
            }
        }
    }
    if probe {
        probe_backends(&config, &mut report);
    }
    (report, proven)
}

fn examine_group(host: &Host, config: &Config, group: &Group, report: &mut Report) -> Option<Proven> {
    let view = topology(config, group);
    let checked = GroupPolicy::load(host, group).and_then(|policy| Ok((policy.check(&view)?, policy)));
    let (built, policy) = match checked {
        Ok(checked) => checked,
        Err(error) => {
            report.add(policy_problem(group, &error));
            return None;
        }
    };
    let expectations = config.expectations.iter().filter(|e| e.group == group.name);
    expectations.for_each(|expectation| hold(expectation, &built.table, group, report));
    let name = |i: usize| group.replicas[i].clone();
    let mut rules: Vec<String> = built.table.plans().iter().map(|p| p.write.describe(name)).collect();
    rules.dedup();
    let mut proof = prove_table(&built.table, group.replicas.len());
    let fewest_in_sync = (group.ack == Ack::InSync).then(|| group.fewest_in_sync());
    if let Some(fewest) = fewest_in_sync {
        let all = (1 << group.replicas.len()) - 1;
        rules =
            vec![format!("every replica of the in-sync set, at least {fewest} of {}", group.replicas.len())];
        proof = Proof { needed_at_takeover: 1, ..prove(&[&Rule::count(fewest, all)], group.replicas.len()) };
        proof.disjoint = None;
    }
    Some(Proven {
        fewest_in_sync,
        group: group.name.clone(),
        policy: policy.label(),
        digest: built.table_digest,
        rules,
        proof,
    })
}

fn policy_problem(group: &Group, error: &PolicyError) -> Problem {
    match error {
        PolicyError::Host(HostError::Disjoint { one, other, .. }) => Problem::error(
            "C302",
            format!("two write quorums share no replica: {one} and {other}"),
        )
        .at(group.at.write_quorum)
        .label("these quorums can disagree")
        .help(format!(
            "wait for more replicas, for example write-quorum = {}; or accept it with weak-writes = true: \
                     then every replica is needed to take over, and losing one may lose acknowledged writes",
            group.replicas.len() / 2 + 1
        )),
        PolicyError::Digest { .. } => Problem::error("C303", error.to_string()).at(group.at.policy),
        PolicyError::Host(HostError::NotPure { .. }) => {
            Problem::error("C304", error.to_string()).at(group.at.policy)
        }
        _ => Problem::error("C301", error.to_string()).at(group.at.policy),
    }
}

/// Reports an expectation that is not met.
fn hold(expectation: &Expectation, table: &Table, group: &Group, report: &mut Report) {
    let explained =
        explain::explain(&expectation.request, &group.name, table, &group.replicas, &expectation.down);
    let explained = match explained {
        Ok(explained) => explained,
        Err(problem) => return report.add(Problem::error("C305", problem).at(expectation.at.request)),
    };
    let applied =
        explained.plan.as_ref().map_or(explained.carried == "local", |plan| plan.fate == Fate::Applied);
    let outcome = if applied { Outcome::Applied } else { Outcome::Refused };
    if outcome != expectation.outcome {
        let message = format!("'{}' does not hold: {}", expectation.name, explained.summary);
        report.add(Problem::error("C305", message).at(expectation.at.outcome));
    }
    let hints = explained.plan.map(|plan| plan.hints).unwrap_or_default();
    if let Some(expected) = expectation.hints.as_ref().filter(|expected| **expected != hints) {
        let message = format!(
            "'{}' does not hold: owed to [{}], not to [{}]",
            expectation.name,
            hints.join(", "),
            expected.join(", ")
        );
        report.add(Problem::error("C305", message).at(expectation.at.hints));
    }
}

fn probe_backends(config: &Config, report: &mut Report) {
    let Ok(runtime) = runtime() else { return };
    for backend in &config.backends {
        let asked = runtime.block_on(async {
            let mut call = Call::open(backend).await?;
            crate::backend::attach::examine(&mut call).await
        });
        if let Err(problem) = asked {
            report.add(Problem::error("C306", problem).at(backend.at));
        }
    }
}

fn json_of(proven: &Proven) -> serde_json::Value {
    json!({
        "group": proven.group, "policy": proven.policy, "table": proven.digest,
        "write_rules": proven.rules, "proof": proven.proof, "fewest_in_sync": proven.fewest_in_sync,
    })
}

fn survives(losses: usize) -> String {
    match losses {
        0 => "does not survive the loss of the replicas that hold it".into(),
        1 => "survives the loss of any one replica".into(),
        n => format!("survives the loss of any {n} replicas"),
    }
}

fn text_of(proven: &Proven) -> String {
    let p = &proven.proof;
    format!(
        "group {}: policy {}\n  writes are acknowledged by {}\n  {} of {} replicas may be down while writes go on\n  \
         an acknowledged write {}\n  a new owner needs {} of {}{}\n",
        proven.group,
        proven.policy,
        proven.rules.join(", or "),
        p.down_while_writing,
        p.replicas,
        survives(p.losses_survived),
        p.needed_at_takeover,
        p.replicas,
        match (p.disjoint.is_some(), proven.fewest_in_sync.is_some()) {
            (_, true) => " that was in the set at the end; all of them if the state folder is lost",
            (true, false) => " (weak writes: quorums may be disjoint)",
            (false, false) => "",
        },
    )
}
