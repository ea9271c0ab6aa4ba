//! What a backend says of its memory while it is attached.

use super::attach::evicts;
use super::serve::Attendant;
use crate::memory::{Pressure, Usage};
use std::collections::BTreeMap;

impl Attendant {
    /// Reads what it told. The error, in words: it cannot stay attached.
    pub(super) fn weigh(&self, info: &BTreeMap<String, String>, address: &str) -> Result<(), String> {
        let number = |key: &str| info.get(key).and_then(|text| text.parse::<u64>().ok());
        // A server does not hold its replication and append-only buffers against its limit.
        let beside = number("mem_not_counted_for_evict").unwrap_or(0);
        let (Some(used), Some(max)) = (number("used_memory"), number("maxmemory")) else { return Ok(()) };
        self.tell_memory(Some(Usage { used: used.saturating_sub(beside), max }));
        evicts(info, address).map_or(Ok(()), Err)
    }

    /// Enters its usage, or that it is gone.
    pub(super) fn tell_memory(&self, usage: Option<Usage>) {
        let routing = self.shared.routing.load();
        let plans = routing.table.plans();
        let met = |replicas| plans.is_empty() || plans.iter().any(|plan| plan.write.met(replicas));
        let (group, memory) = (self.shared.name.as_str(), &self.shared.memory);
        if !memory.told(self.replica, usage, !self.is_stale(), met) {
            return;
        }
        match memory.pressure() {
            Pressure::Full => tracing::warn!(
                group,
                replica = self.backend.name,
                "nearly out of memory: commands that need memory are refused, see docs/operations.md"
            ),
            _ => tracing::info!(group, "there is memory again: every command is taken"),
        }
    }
}
