//! Runs every target under every load, in turns, so that a machine whose speed drifts treats
//! all alike; keeps the median of the rounds.

use super::targets::Target;
use crate::cpu::{Usage, wait_until_quiet};
use crate::load::{Load, LoadError, Mix, Settings, Stop, fill};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long work that is left after the last reply may take.
const SETTLE: Duration = Duration::from_secs(2);

/// What is the same for all targets.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The mixes, in order.
    pub mixes: Vec<Mix>,
    /// The depths, in order.
    pub depths: Vec<usize>,
    /// Client connections.
    pub connections: usize,
    /// Size of values.
    pub value_bytes: usize,
    /// Size of the key space.
    pub keys: u64,
    /// Repetitions of everything.
    pub rounds: usize,
    /// Measured time of a target under a load in a round; a fifth of it runs before, unmeasured.
    pub time: Duration,
    /// The share of a processor that each server and proxy is held to.
    pub server_cpu: Option<f64>,
}

/// A load: one table of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The mix.
    pub mix: Mix,
    /// Requests in flight on one connection.
    pub depth: usize,
}

/// One round of a target under a load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// Replies a second.
    pub throughput: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// 99th percentile in microseconds.
    pub p99_us: f64,
    /// Processor time of the proxy for one request, in microseconds; `None` without a proxy.
    pub proxy_cpu_us: Option<f64>,
    /// The same from the coarser clock of `/proc/PID/stat`, as a check.
    pub proxy_ticks_us: Option<f64>,
    /// Processor time of all Redis servers for one request, in microseconds.
    pub backend_cpu_us: f64,
    /// Replies that were errors or null; both should be 0.
    pub bad_replies: u64,
}

/// All rounds of a target under a load.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Name of the target.
    pub target: String,
    /// The load.
    pub cell: Cell,
    /// Median of every column; `None` when no round worked.
    pub median: Option<Sample>,
    /// The rounds; `None` where one failed.
    pub rounds: Vec<Option<Sample>>,
    /// Why rounds failed, and texts of error replies.
    pub problems: Vec<String>,
}

/// Measures the targets; `progress` is told what is about to run.
pub fn measure(targets: &[Target], plan: &Plan, mut progress: impl FnMut(&str)) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    let broken: Vec<Option<String>> = targets.iter().map(|target| fill_target(target, plan)).collect();
    for round in 0..plan.rounds {
        for (place, cell) in plan.cells().into_iter().enumerate() {
            for turn in 0..targets.len() {
                // Every round another target goes first.
                let index = (turn + round) % targets.len();
                let target = &targets[index];
                let row = rows.entry((place, index)).or_insert_with(|| Row::new(target, cell));
                if let Some(problem) = &broken[index] {
                    row.note(problem.clone());
                    row.rounds.push(None);
                    continue;
                }
                let (mix, depth, name) = (cell.mix.name(), cell.depth, &row.target);
                progress(&format!("round {}/{}: {mix}, depth {depth}: {name}", round + 1, plan.rounds));
                let sample = sample(target, cell, plan, &mut row.problems);
                let sample = sample.map_err(|e| row.note(target.front().failure(&e.to_string()).to_string()));
                row.rounds.push(sample.ok());
            }
        }
    }
    rows.into_values().map(Row::with_median).collect()
}

fn fill_target(target: &Target, plan: &Plan) -> Option<String> {
    let cell = Cell { mix: Mix::SET, depth: 1 };
    fill(&plan.settings(target, cell)).err().map(|e| target.front().failure(&e.to_string()).to_string())
}

impl Plan {
    /// Every load, in the order of the report.
    pub fn cells(&self) -> Vec<Cell> {
        let depths = |mix: &Mix| {
            let mix = *mix;
            self.depths.iter().map(move |depth| Cell { mix, depth: *depth }).collect::<Vec<_>>()
        };
        self.mixes.iter().flat_map(depths).collect()
    }

    fn settings(&self, target: &Target, cell: Cell) -> Settings {
        Settings {
            target: target.front().address,
            connections: self.connections,
            depth: cell.depth,
            value_bytes: self.value_bytes,
            keys: self.keys,
            mix: cell.mix,
            rate: None,
            burst: Duration::ZERO,
            protocol: 2,
            tls: target.tls.clone(),
        }
    }
}

impl Row {
    fn new(target: &Target, cell: Cell) -> Row {
        Row { target: target.kind.name(), cell, median: None, rounds: vec![], problems: vec![] }
    }

    fn note(&mut self, problem: String) {
        note(&mut self.problems, problem);
    }

    fn with_median(mut self) -> Row {
        let samples: Vec<&Sample> = self.rounds.iter().flatten().collect();
        if samples.is_empty() {
            return self;
        }
        let of = |column: fn(&Sample) -> f64| median(samples.iter().map(|s| column(s)).collect());
        let maybe = |column: fn(&Sample) -> Option<f64>| {
            samples.iter().map(|s| column(s)).collect::<Option<Vec<f64>>>().map(median)
        };
        self.median = Some(Sample {
            throughput: of(|s| s.throughput),
            p50_us: of(|s| s.p50_us),
            p99_us: of(|s| s.p99_us),
            proxy_cpu_us: maybe(|s| s.proxy_cpu_us),
            proxy_ticks_us: maybe(|s| s.proxy_ticks_us),
            backend_cpu_us: of(|s| s.backend_cpu_us),
            bad_replies: samples.iter().map(|s| s.bad_replies).sum(),
        });
        self
    }
}

fn note(problems: &mut Vec<String>, problem: String) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

fn sample(target: &Target, cell: Cell, plan: &Plan, problems: &mut Vec<String>) -> Result<Sample, LoadError> {
    let mut load = Load::connect(&plan.settings(target, cell))?;
    load.run(Stop::After(plan.time / 5))?;
    let (proxy, backends) = (target.proxy.as_ref().map(|proxy| proxy.pid()), target.backend_pids());
    let all: Vec<u32> = backends.iter().copied().chain(proxy).collect();
    wait_until_quiet(&all, Instant::now() + SETTLE)?;
    let before = (proxy.map(Usage::of).transpose()?, Usage::of_all(backends.iter().copied())?);
    let outcome = load.run(Stop::After(plan.time))?;
    wait_until_quiet(&all, Instant::now() + SETTLE)?;
    let after = (proxy.map(Usage::of).transpose()?, Usage::of_all(backends.iter().copied())?);
    outcome.error_texts.iter().for_each(|text| note(problems, text.clone()));

    let per_request = |time: Duration| time.as_secs_f64() * 1e6 / outcome.answered.max(1) as f64;
    let proxy_usage = after.0.zip(before.0).map(|(after, before)| after.since(before));
    Ok(Sample {
        throughput: outcome.throughput(),
        p50_us: outcome.latency.value_at_quantile(0.50) as f64,
        p99_us: outcome.latency.value_at_quantile(0.99) as f64,
        proxy_cpu_us: proxy_usage.map(|usage| per_request(usage.on_cpu)),
        proxy_ticks_us: proxy_usage.map(|usage| per_request(usage.user_and_system)),
        backend_cpu_us: per_request(after.1.since(before.1).on_cpu),
        bad_replies: outcome.errors + outcome.nulls,
    })
}

/// The middle value; of an even number the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "the median of nothing was asked for");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_one_bad_round() {
        assert_eq!(median(vec![900.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
