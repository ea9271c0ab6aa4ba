//! A run in numbers, as a table and as JSON.

use super::clients::Record;
use super::history::End;
use super::judge::{Broken, Judgement};
use super::mix::Part;
use super::schedule::{Profile, Window, longest_gap};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Latencies are kept up to a minute.
const LONGEST_US: u64 = 60_000_000;

/// Everything that a run found out.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Report {
    pub profile: Profile,
    pub seed: u64,
    pub seconds: f64,
    pub server: String,
    /// `None`: a namespace for each process. Else why not.
    pub without_cables: Option<String>,
    pub parts: Vec<Part>,
    pub requests: Requests,
    pub faults: BTreeMap<&'static str, FaultRow>,
    pub judgement: Judgement,
    /// Keys compared on the backends, and those that differ.
    pub keys: usize,
    pub divergent: Vec<String>,
    /// Replies that the command never has.
    pub odd: Vec<String>,
    /// Requests that had no answer for ten seconds.
    pub silent: Vec<String>,
    /// What did not come back, crashed or was answered differently by replicas.
    pub trouble: Vec<String>,
    /// Replicas that had to be copied anew.
    pub reseeds: u64,
    /// Append-only files in which a full disk left a hole, and whose server stopped before they were whole again.
    pub holes: u64,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum How {
    Ok,
    Refused,
    Unknown,
}

/// How requests ended; latencies of single commands that succeeded, in microseconds: others wait on purpose.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Requests {
    pub all: u64,
    pub ok: u64,
    pub fail: u64,
    pub unknown: u64,
    pub errors: BTreeMap<String, u64>,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// One kind of fault.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct FaultRow {
    pub count: u64,
    /// Longest time without a success, of all clients together.
    pub longest_gap_ms: u64,
    /// Longest time from healing until all replicas were in sync.
    pub longest_recovery_ms: u64,
}

impl Requests {
    /// Counts a record.
    pub fn of(record: &Record) -> Requests {
        let mut requests = Requests { errors: record.errors.clone(), ..Requests::default() };
        let mut latency =
            Histogram::<u64>::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order");
        for event in &record.events {
            let how = match event.end {
                End::Ok(_) => How::Ok,
                End::Fail => How::Refused,
                End::Info => How::Unknown,
            };
            requests.count(how);
            if how == How::Ok {
                latency.saturating_record((event.ended - event.invoked) / 1000);
            }
        }
        record.mix.ends(&mut |how| requests.count(how));
        requests.p50_us = latency.value_at_quantile(0.5);
        requests.p99_us = latency.value_at_quantile(0.99);
        requests.max_us = latency.max();
        requests
    }

    fn count(&mut self, how: How) {
        self.all += 1;
        match how {
            How::Ok => self.ok += 1,
            How::Refused => self.fail += 1,
            How::Unknown => self.unknown += 1,
        }
    }
}

/// Counts windows by kind of fault.
pub fn fault_rows(windows: &[Window], record: &Record) -> BTreeMap<&'static str, FaultRow> {
    let ok = record.events.iter().filter(|event| matches!(event.end, End::Ok(_)));
    let mut successes: Vec<u64> = ok.map(|event| event.ended).collect();
    successes.sort_unstable();
    let mut rows: BTreeMap<&'static str, FaultRow> = BTreeMap::new();
    for window in windows {
        let gap = longest_gap(window, &successes).as_millis() as u64;
        let recovery = (window.until - window.healed) / 1_000_000;
        for fault in &window.faults {
            let row = rows.entry(fault.name()).or_default();
            row.count += 1;
            row.longest_gap_ms = row.longest_gap_ms.max(gap);
            row.longest_recovery_ms = row.longest_recovery_ms.max(recovery);
        }
    }
    rows
}

impl Report {
    /// Was every promise kept?
    pub fn kept(&self) -> bool {
        self.judgement.findings.is_empty()
            && self.divergent.is_empty()
            && self.odd.is_empty()
            && self.silent.is_empty()
            && self.trouble.is_empty()
    }

    /// The table.
    pub fn text(&self) -> String {
        let Requests { all, ok, fail, unknown, p50_us, p99_us, max_us, .. } = self.requests;
        let share = |part: u64| 100.0 * part as f64 / all.max(1) as f64;
        let ms = |us: u64| us as f64 / 1000.0;
        let profile = format!("{:?}", self.profile).to_lowercase();
        let network =
            self.without_cables.as_ref().map_or("a network namespace for each process".to_string(), |why| {
                format!("loopback, no faults of the network ({})", why.trim())
            });
        let mut out = String::new();
        // Writing to a String cannot fail.
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<20} {value}");
        };
        row("profile", format!("{profile}, seed {}, {:.0} s, {}", self.seed, self.seconds, self.server));
        row("network", network);
        row(
            "requests",
            format!(
                "{all}: {:.2} % ok, {:.3} % refused, {:.4} % unknown",
                share(ok),
                share(fail),
                share(unknown)
            ),
        );
        let errors: Vec<String> = self.requests.errors.iter().map(|(e, n)| format!("{e} {n}")).collect();
        row("errors", if errors.is_empty() { "none".into() } else { errors.join(", ") });
        row(
            "latency",
            format!("p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms", ms(p50_us), ms(p99_us), ms(max_us)),
        );
        row(
            "objects",
            format!("{} judged, {} undecided", self.judgement.objects, self.judgement.undecided.len()),
        );
        for (broken, name) in Broken::ALL {
            row(name, self.judgement.count(broken).to_string());
        }
        row("divergent keys", format!("{} of {}", self.divergent.len(), self.keys));
        row("copied anew", format!("{} replicas", self.reseeds));
        row("holes closed", format!("in {} append-only files", self.holes));
        let _ = writeln!(
            out,
            "\n{:<20} {:>6} {:>22} {:>22}",
            "fault", "times", "longest gap", "longest catch-up"
        );
        for (name, FaultRow { count, longest_gap_ms, longest_recovery_ms }) in &self.faults {
            let _ =
                writeln!(out, "{name:<20} {count:>6} {longest_gap_ms:>19} ms {longest_recovery_ms:>19} ms");
        }
        out + &self.problems()
    }

    fn problems(&self) -> String {
        if self.kept() {
            return "\nevery promise was kept\n".into();
        }
        let mut lines = vec![String::new(), "BROKEN PROMISES".to_string()];
        for finding in self.judgement.findings.iter().take(10) {
            lines.push(format!("  {:?}: {}: {}", finding.broken, finding.object, finding.detail));
        }
        let others = [
            ("divergent", &self.divergent),
            ("odd", &self.odd),
            ("silent", &self.silent),
            ("trouble", &self.trouble),
        ];
        for (name, texts) in others {
            lines.extend(texts.iter().take(5).map(|text| format!("  {name}: {text}")));
        }
        lines.join("\n") + "\n"
    }
}
