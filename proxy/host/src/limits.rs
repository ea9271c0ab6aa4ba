//! What a policy may use. Every bound has a default that is safe for a proxy with other work to do.

use serde::{Deserialize, Serialize};

/// Bounds of one policy. All of them hold for every instance on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Largest component that is loaded, in bytes.
    pub component_bytes: usize,
    /// Memory of an instance, in bytes.
    pub memory_bytes: usize,
    /// What one call may hand to the host, in bytes: the table, a log line.
    pub transfer_bytes: usize,
    /// Elements of an instance's function tables.
    pub table_elements: usize,
    /// Time for `describe`, `configure` and `build`, including the making of an instance, in milliseconds.
    pub call_deadline_ms: u32,
    /// Time for `fast` and `decide`, in milliseconds. They take a microsecond; the bound is there for loops, and wide
    /// enough that a busy machine does not fail a call that only waited for a processor.
    pub decide_deadline_ms: u32,
    /// Plans of a table.
    pub max_plans: usize,
    /// Log lines a second of one instance; more are dropped and counted.
    pub log_lines_per_second: u32,
    /// Bytes of a log line that are kept.
    pub log_line_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            component_bytes: 32 << 20,
            memory_bytes: 16 << 20,
            transfer_bytes: 4 << 20,
            table_elements: 20_000,
            call_deadline_ms: 1_000,
            decide_deadline_ms: 50,
            max_plans: 256,
            log_lines_per_second: 100,
            log_line_bytes: 1_024,
        }
    }
}
