//! How often each command was called, and which errors clients read from the proxy. Counted without locks where
//! requests pass: each worker has counters of its own.

use quorate_wire::command::{self, Command};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// More kinds of errors than there are; whatever comes after is not told apart.
const MOST_ERRORS: usize = 128;

/// See the module's head.
#[derive(Debug)]
pub struct Stats {
    /// By worker, then by the command's place in the table.
    calls: Box<[Box<[AtomicU64]>]>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Stats {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        let counters = || command::all().iter().map(|_| AtomicU64::new(0)).collect();
        Self { calls: (0..workers).map(|_| counters()).collect(), errors: Mutex::default() }
    }

    /// A client of this worker called a command.
    #[inline]
    pub fn called(&self, worker: usize, command: &'static Command) {
        if let Some(count) = self.calls.get(worker).and_then(|calls| calls.get(command.index())) {
            // Only this worker writes it.
            count.store(count.load(Relaxed) + 1, Relaxed);
        }
    }

    /// A client reads this error of ours.
    #[cold]
    pub fn failed(&self, text: &str) {
        let code = text.split(' ').next().unwrap_or_default();
        let Ok(mut errors) = self.errors.lock() else { return };
        if errors.len() < MOST_ERRORS || errors.contains_key(code) {
            *errors.entry(code.to_string()).or_default() += 1;
        }
    }

    /// `CONFIG RESETSTAT`.
    pub fn reset(&self) {
        self.calls.iter().flatten().for_each(|count| count.store(0, Relaxed));
        if let Ok(mut errors) = self.errors.lock() {
            errors.clear();
        }
    }

    fn calls_of(&self, index: usize) -> u64 {
        self.calls.iter().filter_map(|calls| calls.get(index)).map(|count| count.load(Relaxed)).sum()
    }

    /// All calls.
    pub fn total(&self) -> u64 {
        self.calls.iter().flatten().map(|count| count.load(Relaxed)).sum()
    }

    /// All errors.
    pub fn errors(&self) -> u64 {
        self.errors.lock().map(|errors| errors.values().sum()).unwrap_or_default()
    }

    /// Lines of `INFO commandstats`. How long calls took is not known by command.
    pub fn command_lines(&self) -> String {
        let mut lines = String::new();
        for (index, command) in command::all().iter().enumerate() {
            let calls = self.calls_of(index);
            if calls > 0 {
                let name = command.name;
                let _ = write!(
                    lines,
                    "cmdstat_{name}:calls={calls},usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0\r\n"
                );
            }
        }
        lines
    }

    /// Lines of `INFO errorstats`.
    pub fn error_lines(&self) -> String {
        let Ok(errors) = self.errors.lock() else { return String::new() };
        errors.iter().map(|(code, count)| format!("errorstat_{code}:count={count}\r\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_all_workers_are_summed_and_can_be_forgotten() {
        let stats = Stats::new(2);
        let get = command::lookup(b"get").expect("known");
        stats.called(0, get);
        stats.called(1, get);
        stats.failed("ERR no");
        stats.failed("ERR never");
        assert_eq!((stats.total(), stats.errors()), (2, 2));
        assert!(stats.command_lines().starts_with("cmdstat_get:calls=2,"));
        assert_eq!(stats.error_lines(), "errorstat_ERR:count=2\r\n");
        stats.reset();
        assert_eq!((stats.command_lines(), stats.error_lines()), (String::new(), String::new()));
    }
}
