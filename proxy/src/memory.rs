//! How full the backends of a group are, and what follows for commands that need memory.
//!
//! Told about once a second by whoever serves the backends; asked for every command by everybody,
//! which is one relaxed load. It must never let one full backend stop a group that goes on without it.

use quorate_core::rule::Mask;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// What a client reads, in the servers' own words.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// A backend counts as nearly full until it is this much below the mark.
const HYSTERESIS: f64 = 0.02;

/// What memory asks of those who order commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Nothing.
    None,
    /// Some backend is short of memory: what needs memory shares no entry with what frees it.
    Short,
    /// What needs memory is refused.
    Full,
}

/// The memory of one backend, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Used, as the server counts it against its limit.
    pub used: u64,
    /// Its limit; 0 for none.
    pub max: u64,
}

impl Usage {
    fn ratio(self) -> f64 {
        if self.max == 0 { 0.0 } else { self.used as f64 / self.max as f64 }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    usage: Option<Usage>,
    /// It takes part in the group.
    counts: bool,
    /// Reached the mark, and is not clearly below it since.
    marked: bool,
    /// Refused an entry since its usage was told last.
    refused: bool,
}

impl Standing {
    fn is_over(&self) -> bool {
        self.counts && self.usage.is_some_and(|usage| usage.ratio() >= 1.0)
    }
}

/// The memory of a group's backends.
#[derive(Debug)]
pub struct Memory {
    mark: f64,
    pressure: AtomicU8,
    standings: Mutex<Vec<Standing>>,
    refusals: AtomicU64,
    /// By replica: the run of its server, and how many keys that had evicted when all was well.
    evictions: Mutex<Vec<(String, u64)>>,
}

impl Memory {
    /// For so many replicas. `mark` is the share of a backend's limit from which on it is nearly full.
    pub fn new(replicas: usize, mark: f64) -> Self {
        let standings = Mutex::new(vec![Standing::default(); replicas]);
        let evictions = Mutex::new(vec![(String::new(), 0); replicas]);
        Self { mark, pressure: AtomicU8::new(0), standings, refusals: AtomicU64::new(0), evictions }
    }

    /// What is asked for now.
    #[inline]
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Short,
            _ => Pressure::Full,
        }
    }

    /// A backend told its usage, or is gone. `counts`: it takes part in the group. `met`: may writes go
    /// on with these replicas? `true` when the group became full or ceased to be.
    pub fn told(
        &self,
        replica: usize,
        usage: Option<Usage>,
        counts: bool,
        met: impl Fn(Mask) -> bool,
    ) -> bool {
        let Ok(mut standings) = self.standings.lock() else { return false };
        let ratio = usage.map_or(0.0, Usage::ratio);
        let mark = if standings[replica].marked { self.mark - HYSTERESIS } else { self.mark };
        standings[replica] = Standing { usage, counts, marked: counts && ratio >= mark, refused: false };
        self.publish(judge(&standings, met))
    }

    /// Did this run of a backend's server throw keys away since it was attached before?
    pub fn has_evicted(&self, replica: usize, run_id: &str, keys: u64) -> bool {
        let known = self.evictions.lock();
        known.is_ok_and(|known| known[replica].0 == run_id && known[replica].1 < keys)
    }

    /// A backend is attached, and what was evicted is accounted for.
    pub fn attached(&self, replica: usize, run_id: &str, keys: u64) {
        if let Ok(mut known) = self.evictions.lock() {
            known[replica] = (run_id.to_string(), keys);
        }
    }

    /// A backend refused an entry for want of memory.
    pub fn refused(&self, replica: usize) {
        let Ok(mut standings) = self.standings.lock() else { return };
        standings[replica].refused = true;
        if self.pressure() == Pressure::None {
            self.publish(Pressure::Short);
        }
    }

    fn publish(&self, now: Pressure) -> bool {
        let was = self.pressure.swap(now as u8, Relaxed);
        (was == Pressure::Full as u8) != (now == Pressure::Full)
    }

    /// Counts a command that was refused.
    pub fn count_refusal(&self) {
        self.refusals.fetch_add(1, Relaxed);
    }

    /// Commands refused so far.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Relaxed)
    }

    /// What each backend told last.
    pub fn usages(&self) -> Vec<Option<Usage>> {
        let standings = self.standings.lock();
        standings.map(|all| all.iter().map(|standing| standing.usage).collect()).unwrap_or_default()
    }
}

/// A backend that nears its limit is kept from reaching it. One that is beyond refuses for itself, and the
/// group goes on without it, unless too few are left.
fn judge(standings: &[Standing], met: impl Fn(Mask) -> bool) -> Pressure {
    let mask = |test: &dyn Fn(&Standing) -> bool| {
        let found = standings.iter().enumerate().filter(|(_, standing)| test(standing));
        found.fold(0, |mask: Mask, (i, _)| mask | 1 << i)
    };
    let over = mask(&Standing::is_over);
    let near = mask(&|standing| standing.marked && !standing.is_over());
    let all: Mask = mask(&|_| true);
    match () {
        () if near != 0 || (over != 0 && !met(all & !over)) => Pressure::Full,
        () if over != 0 || standings.iter().any(|standing| standing.refused) => Pressure::Short,
        () => Pressure::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_of_three(mask: Mask) -> bool {
        mask.count_ones() >= 2
    }

    fn percent(used: u64) -> Option<Usage> {
        Some(Usage { used, max: 100 })
    }

    #[test]
    fn a_backend_near_its_limit_fills_the_group_until_it_is_clearly_below() {
        let memory = Memory::new(3, 0.9);
        assert!(!memory.told(0, percent(89), true, two_of_three));
        assert_eq!(memory.pressure(), Pressure::None);
        assert!(memory.told(0, percent(90), true, two_of_three));
        assert_eq!(memory.pressure(), Pressure::Full);
        assert!(!memory.told(0, percent(89), true, two_of_three), "not clearly below");
        assert!(memory.told(0, percent(87), true, two_of_three));
        assert_eq!(memory.pressure(), Pressure::None);
    }

    #[test]
    fn a_group_goes_on_without_a_full_backend_while_the_others_suffice() {
        let memory = Memory::new(3, 0.9);
        memory.told(0, percent(120), true, two_of_three);
        assert_eq!(memory.pressure(), Pressure::Short);
        memory.told(1, percent(120), true, two_of_three);
        assert_eq!(memory.pressure(), Pressure::Full);
        memory.told(0, None, true, two_of_three);
        assert_eq!(memory.pressure(), Pressure::Short, "one that is gone has no say");
        memory.told(1, percent(95), false, two_of_three);
        assert_eq!(memory.pressure(), Pressure::None, "nor has one that takes no part");
    }

    #[test]
    fn no_limit_is_never_reached() {
        let memory = Memory::new(1, 0.9);
        memory.told(0, Some(Usage { used: 1 << 40, max: 0 }), true, |_| false);
        assert_eq!(memory.pressure(), Pressure::None);
    }

    #[test]
    fn a_refusal_keeps_writes_apart_until_the_next_word() {
        let memory = Memory::new(2, 0.9);
        memory.refused(1);
        assert_eq!(memory.pressure(), Pressure::Short);
        memory.told(1, percent(10), true, |_| true);
        assert_eq!(memory.pressure(), Pressure::None);
    }
}
