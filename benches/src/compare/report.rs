//! The result of a comparison, as text for people or JSON for programs.

use super::goals::Verdict;
use super::measure::{Plan, Row};
use serde::Serialize;
use std::fmt::Write;

/// All that a run found out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Processors of the machine, shared by load generator, proxy and Redis.
    pub processors: usize,
    /// Client connections.
    pub connections: usize,
    /// Size of values.
    pub value_bytes: usize,
    /// Size of the key space.
    pub keys: u64,
    /// Seconds measured of a target under a load in a round.
    pub seconds: f64,
    /// Rounds.
    pub rounds: usize,
    /// The share of a processor that each server and proxy was held to.
    pub server_cpu: Option<f64>,
    /// Name and description of what was measured.
    pub targets: Vec<(String, String)>,
    /// Name of what was not measured, and why.
    pub skipped: Vec<(String, String)>,
    /// One row a load and target.
    pub rows: Vec<Row>,
    /// Goals against the rows.
    pub goals: Vec<Verdict>,
}

impl Report {
    /// For people.
    pub fn text(&self, plan: &Plan) -> String {
        let mut text = format!(
            "{} connections, {}-byte values, {} keys, {} s a cell, median of {} rounds, {} processors\n",
            self.connections, self.value_bytes, self.keys, self.seconds, self.rounds, self.processors
        );
        if let Some(share) = self.server_cpu {
            text.push_str(&format!("each server and proxy held to {share} of a processor\n"));
        }
        for (name, description) in &self.targets {
            text.push_str(&format!("  {name:<20} {description}\n"));
        }
        for cell in plan.cells() {
            let mut rows = self.rows.iter().filter(|row| row.cell == cell).peekable();
            if rows.peek().is_none() {
                continue;
            }
            let title = format!("{} depth {}", cell.mix.name().to_uppercase(), cell.depth);
            text.push_str(&format!(
                "\n{title:<21} {:>10} {:>8} {:>8} {:>12} {:>12}\n",
                "requests/s", "p50 µs", "p99 µs", "proxy µs/op", "redis µs/op"
            ));
            rows.for_each(|row| push_row(&mut text, row));
        }
        self.push_goals(&mut text);
        for (name, why) in &self.skipped {
            text.push_str(&format!("\nnot available: {name}: {why}\n"));
        }
        text
    }

    fn push_goals(&self, text: &mut String) {
        text.push_str(&format!("\n{:<58} {:>8} {:>8}\n", "ratio", "measured", "goal"));
        for verdict in &self.goals {
            let measured = verdict.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let met = match verdict.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "not measured",
            };
            text.push_str(&format!("{:<58} {measured:>8} {:>8}  {met}\n", verdict.what, verdict.goal));
        }
    }
}

fn push_row(text: &mut String, row: &Row) {
    match &row.median {
        None => text.push_str(&format!("  {:<20} failed\n", row.target)),
        Some(s) => {
            let proxy = s.proxy_cpu_us.map_or("-".into(), |cpu| format!("{cpu:.2}"));
            text.push_str(&format!(
                "  {:<19} {:>10.0} {:>8.0} {:>8.0} {proxy:>12} {:>12.2}",
                row.target, s.throughput, s.p50_us, s.p99_us, s.backend_cpu_us
            ));
            if s.bad_replies > 0 {
                // Writing to a string cannot fail.
                let _ = write!(text, "  {} error or null replies", s.bad_replies);
            }
            text.push('\n');
        }
    }
    for problem in &row.problems {
        text.push_str(&format!("      {problem}\n"));
    }
}
