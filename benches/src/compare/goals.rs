//! The ratios that Quorate wants to keep, against what was measured in the same run.

use super::measure::{Cell, Row, Sample, median};
use crate::load::Mix;
use serde::Serialize;

/// A ratio of two targets under one load, and its bound.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    metric: Metric,
    mix: Mix,
    depth: usize,
    ours: &'static str,
    theirs: &'static str,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    /// Processor time of the proxy for one request: at most the bound.
    Cpu,
    /// Requests a second: at least the bound.
    Throughput,
}

/// What all the figures are judged by. CPU is that of the proxy process alone.
pub const GOALS: [Goal; 12] = [
    Goal::cpu(Mix::SET, 16, "quorate-3", "twemproxy", 0.5),
    Goal::cpu(Mix::SET, 1, "quorate-3", "twemproxy", 1.2),
    Goal::cpu(Mix::GET, 16, "quorate-3", "twemproxy", 0.4),
    Goal::cpu(Mix::SET, 1, "quorate-3", "envoy", 0.4),
    Goal::cpu(Mix::SET, 16, "quorate-3", "envoy", 0.25),
    Goal::cpu(Mix::SET, 16, "quorate-3-tls", "quorate-3", 1.5),
    Goal::throughput(Mix::SET, 16, "quorate-1", "redis", 1.0),
    Goal::throughput(Mix::GET, 16, "quorate-1", "redis", 1.0),
    Goal::throughput(Mix::SET, 1, "durable-quorate-3", "durable-redis", 1.0),
    Goal::throughput(Mix::SET, 16, "durable-quorate-3", "durable-redis", 1.0),
    Goal::throughput(Mix::SET, 1, "durable-quorate-1", "durable-redis", 1.0),
    Goal::throughput(Mix::SET, 16, "durable-quorate-1", "durable-redis", 1.0),
];

/// A goal beside what was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// What is compared with what.
    pub what: String,
    /// Median over the rounds of the ratio within a round; `None` when a side was not measured.
    pub ratio: Option<f64>,
    /// The bound, with its direction.
    pub goal: String,
    /// Is the bound kept?
    pub met: Option<bool>,
}

impl Goal {
    const fn cpu(mix: Mix, depth: usize, ours: &'static str, theirs: &'static str, bound: f64) -> Goal {
        Goal { metric: Metric::Cpu, mix, depth, ours, theirs, bound }
    }

    const fn throughput(
        mix: Mix,
        depth: usize,
        ours: &'static str,
        theirs: &'static str,
        bound: f64,
    ) -> Goal {
        Goal { metric: Metric::Throughput, mix, depth, ours, theirs, bound }
    }

    /// Holds it against the rows of a run.
    pub fn judge(&self, rows: &[Row]) -> Verdict {
        let (metric, sign) = match self.metric {
            Metric::Cpu => ("CPU", "≤"),
            Metric::Throughput => ("throughput", "≥"),
        };
        let mix = self.mix.name().to_uppercase();
        let ratio = self.ratio(rows);
        Verdict {
            what: format!("{metric}, {mix}, depth {}: {} / {}", self.depth, self.ours, self.theirs),
            ratio,
            goal: format!("{sign} {}", self.bound),
            met: ratio.map(|ratio| match self.metric {
                Metric::Cpu => ratio <= self.bound,
                Metric::Throughput => ratio >= self.bound,
            }),
        }
    }

    fn ratio(&self, rows: &[Row]) -> Option<f64> {
        let cell = Cell { mix: self.mix, depth: self.depth };
        let find = |name: &str| rows.iter().find(|row| row.cell == cell && row.target == name);
        let (ours, theirs) = (find(self.ours)?, find(self.theirs)?);
        let rounds = ours.rounds.iter().zip(&theirs.rounds);
        let ratios = rounds.filter_map(|(a, b)| Some(self.of(a.as_ref()?)? / self.of(b.as_ref()?)?));
        let ratios: Vec<f64> = ratios.collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    /// A round with bad replies measured something else.
    fn of(&self, sample: &Sample) -> Option<f64> {
        match self.metric {
            _ if sample.bad_replies > 0 => None,
            Metric::Cpu => sample.proxy_cpu_us,
            Metric::Throughput => Some(sample.throughput),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: &str, cpu: &[Option<f64>]) -> Row {
        let sample = |cpu: &Option<f64>| {
            let proxy_cpu_us = Some((*cpu)?);
            let zero = Sample {
                throughput: 0.0,
                p50_us: 0.0,
                p99_us: 0.0,
                proxy_cpu_us,
                proxy_ticks_us: None,
                backend_cpu_us: 0.0,
                bad_replies: 0,
            };
            Some(zero)
        };
        let cell = Cell { mix: Mix::SET, depth: 16 };
        let rounds = cpu.iter().map(sample).collect();
        Row { target: target.into(), cell, median: None, rounds, problems: vec![] }
    }

    #[test]
    fn rounds_are_compared_with_each_other() {
        let rows = [
            row("quorate-3", &[Some(1.0), Some(4.0), None]),
            row("twemproxy", &[Some(2.0), Some(8.0), Some(0.1)]),
        ];
        let verdict = GOALS[0].judge(&rows);
        assert_eq!((verdict.ratio, verdict.met), (Some(0.5), Some(true)));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let verdict = GOALS[0].judge(&[row("twemproxy", &[Some(2.0)])]);
        assert_eq!((verdict.ratio, verdict.met), (None, None));
    }
}
