//! What the host keeps for one instance: its limits, its log, the request it is looking at.

use crate::Limits;
use crate::bindings::pure::quorate::policy::{log, types};
use crate::decider::Op;
use std::time::{Duration, Instant};
use wasmtime::ResourceLimiter;

/// How serious a line of a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// A line a guest logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How serious.
    pub level: Level,
    /// Its text, cut at `Limits::log_line_bytes`.
    pub message: String,
}

/// State behind an instance's imports.
pub(crate) struct State {
    policy: String,
    log: LogBudget,
    lines: Vec<LogLine>,
    memory: MemoryBudget,
    pub(crate) op: Option<Op>,
}

impl State {
    pub(crate) fn new(policy: &str, limits: &Limits) -> Self {
        State {
            policy: policy.to_owned(),
            log: LogBudget::new(limits),
            lines: Vec::new(),
            memory: MemoryBudget { limits: limits.clone(), used: 0, denied: false },
            op: None,
        }
    }

    /// Lines since the last call, with a closing remark if some were dropped.
    pub(crate) fn take_lines(&mut self) -> Vec<LogLine> {
        let mut lines = std::mem::take(&mut self.lines);
        if let dropped @ 1.. = std::mem::take(&mut self.log.dropped) {
            lines.push(LogLine { level: Level::Warn, message: format!("{dropped} more lines were dropped") });
        }
        lines
    }

    /// Was memory refused in this instance's life?
    pub(crate) fn memory_denied(&self) -> bool {
        self.memory.denied
    }

    pub(crate) fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }
}

struct LogBudget {
    lines_per_second: u32,
    line_bytes: usize,
    since: Instant,
    left: u32,
    dropped: u64,
}

impl LogBudget {
    fn new(limits: &Limits) -> Self {
        LogBudget {
            lines_per_second: limits.log_lines_per_second,
            line_bytes: limits.log_line_bytes,
            since: Instant::now(),
            left: limits.log_lines_per_second,
            dropped: 0,
        }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.left) = (now, self.lines_per_second);
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.dropped += u64::from(!allowed);
        allowed
    }
}

impl types::Host for State {}

impl log::Host for State {
    fn emit(&mut self, level: log::Level, mut message: String) {
        if !self.log.allows(Instant::now()) {
            return;
        }
        message.truncate(message.floor_char_boundary(self.log.line_bytes));
        // A line of the log must not look like two, nor colour what follows.
        let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let policy = self.policy.as_str();
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        match level {
            Level::Trace => tracing::trace!(target: "policy", policy, "{message}"),
            Level::Debug => tracing::debug!(target: "policy", policy, "{message}"),
            Level::Info => tracing::info!(target: "policy", policy, "{message}"),
            Level::Warn => tracing::warn!(target: "policy", policy, "{message}"),
            Level::Error => tracing::error!(target: "policy", policy, "{message}"),
        }
        // A decider's lines are taken by nobody: keep the latest second's worth at most.
        if self.lines.len() < self.log.lines_per_second as usize {
            self.lines.push(LogLine { level, message });
        }
    }
}

struct MemoryBudget {
    limits: Limits,
    used: usize,
    denied: bool,
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        let allowed = used <= self.limits.memory_bytes;
        if allowed {
            self.used = used;
        }
        self.denied |= !allowed;
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= self.limits.table_elements)
    }

    fn instances(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        4
    }

    fn tables(&self) -> usize {
        16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_second_s_budget_are_counted() {
        let mut budget = LogBudget::new(&Limits { log_lines_per_second: 2, ..Limits::default() });
        let start = budget.since;
        let allowed: Vec<bool> = (0..4).map(|_| budget.allows(start)).collect();
        assert_eq!(allowed, [true, true, false, false]);
        assert_eq!(budget.dropped, 2);
        assert!(budget.allows(start + Duration::from_secs(1)));
    }

    #[test]
    fn all_memories_of_an_instance_share_one_budget() {
        let limits = Limits { memory_bytes: 100, ..Limits::default() };
        let mut budget = MemoryBudget { limits, used: 0, denied: false };
        assert!(budget.memory_growing(0, 60, None).expect("an answer"));
        assert!(!budget.memory_growing(0, 60, None).expect("an answer"));
        assert!(budget.denied);
        assert!(budget.memory_growing(60, 100, None).expect("an answer"));
    }
}
