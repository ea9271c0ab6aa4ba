//! One wasmtime engine, and the ticker that gives guests their deadlines.
//!
//! A guest that loops is stopped by the engine's epoch, so the ticker is as important as the guests are
//! untrusted: it runs while any call may be in flight, and is started again if it is found dead.

use crate::HostError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Length of a tick; deadlines are met to within two of them.
pub(crate) const TICK_MS: u32 = 2;

/// Instances that may live at the same time with the pooling allocator.
const POOL_INSTANCES: u32 = 128;

/// The most memory an instance can have, whatever its limits say.
const POOL_MEMORY_BYTES: usize = 256 << 20;

/// Makes the engine: pooled instances, or instances on demand where the pool's address space cannot be had.
pub(crate) fn start() -> Result<Engine, HostError> {
    let pooled = Engine::new(&config(Allocation::Pooled));
    let engine = pooled.or_else(|error| {
        tracing::warn!(%error, "no address space for pooled instances: policies start more slowly");
        Engine::new(&config(Allocation::OnDemand))
    });
    engine.map_err(|error| HostError::Engine(format!("{error:#}")))
}

enum Allocation {
    Pooled,
    OnDemand,
}

fn config(allocation: Allocation) -> Config {
    let mut config = Config::new();
    // Three times the speed of a call: guests are synchronous, nothing is ever concurrent in a store.
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.max_wasm_stack(512 << 10);
    // Same bits on every processor, as a fleet compares tables.
    config.cranelift_nan_canonicalization(true);
    config.wasm_relaxed_simd(false);
    match allocation {
        Allocation::Pooled => {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        }
        Allocation::OnDemand => {
            config.memory_reservation(0);
            config.memory_reservation_for_growth(1 << 20);
            config.memory_guard_size(64 << 10);
        }
    }
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(POOL_INSTANCES);
    pool.total_core_instances(POOL_INSTANCES * 4);
    pool.total_memories(POOL_INSTANCES);
    pool.total_tables(POOL_INSTANCES * 4);
    pool.max_memory_size(POOL_MEMORY_BYTES);
    pool
}

/// Advances the epoch of an engine while someone needs it.
pub(crate) struct Ticker {
    engine: Engine,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    needed_by: usize,
    stopped: bool,
}

/// Deadlines hold while this lives.
pub(crate) struct Ticking(Arc<Ticker>);

impl Ticker {
    pub(crate) fn new(engine: Engine) -> Arc<Self> {
        Arc::new(Ticker { engine, shared: Arc::default(), thread: Mutex::new(None) })
    }

    /// Makes sure that time passes, from now until the answer is dropped.
    pub(crate) fn need(self: &Arc<Self>) -> Result<Ticking, HostError> {
        self.watch()?;
        lock(&self.shared.state).needed_by += 1;
        self.shared.changed.notify_all();
        Ok(Ticking(Arc::clone(self)))
    }

    /// Starts the thread, also if an earlier one died. Without it no guest may run.
    pub(crate) fn watch(&self) -> Result<(), HostError> {
        let mut thread = lock(&self.thread);
        if runs(&thread) {
            return Ok(());
        }
        if thread.is_some() {
            tracing::error!("the policy ticker died and is started again");
        }
        let (engine, shared) = (self.engine.clone(), Arc::downgrade(&self.shared));
        let spawned = std::thread::Builder::new().name("policy-ticker".into()).spawn(|| tick(engine, shared));
        *thread =
            Some(spawned.map_err(|error| HostError::Engine(format!("no thread for deadlines: {error}")))?);
        Ok(())
    }
}

fn runs(thread: &Option<JoinHandle<()>>) -> bool {
    thread.as_ref().is_some_and(|thread| !thread.is_finished())
}

impl Drop for Ticker {
    fn drop(&mut self) {
        lock(&self.shared.state).stopped = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        lock(&self.0.shared.state).needed_by -= 1;
    }
}

fn tick(engine: Engine, shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        if !wait_until_needed(&shared) {
            return;
        }
        drop(shared);
        std::thread::sleep(Duration::from_millis(TICK_MS.into()));
        engine.increment_epoch();
    }
}

fn wait_until_needed(shared: &Shared) -> bool {
    let mut state = lock(&shared.state);
    while state.needed_by == 0 && !state.stopped {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    !state.stopped
}

/// Counters stay right even if a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ticks that cover a deadline, the one under way included.
pub(crate) fn ticks(deadline_ms: u32) -> u64 {
    u64::from(deadline_ms.div_ceil(TICK_MS)) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticker_runs_while_it_is_needed_and_stops_with_its_host() {
        let ticker = Ticker::new(start().expect("an engine"));
        assert!(!runs(&lock(&ticker.thread)), "nobody needs it yet");
        let needed = ticker.need().expect("a thread");
        assert!(runs(&lock(&ticker.thread)));
        drop(needed);
        assert_eq!(lock(&ticker.shared.state).needed_by, 0);
        let thread = lock(&ticker.thread).take().expect("started");
        drop(ticker);
        thread.join().expect("it stops by itself");
    }

    #[test]
    fn a_ticker_that_died_is_started_again() {
        let ticker = Ticker::new(start().expect("an engine"));
        let dead = std::thread::spawn(|| ());
        while !dead.is_finished() {
            std::thread::yield_now();
        }
        *lock(&ticker.thread) = Some(dead);
        let _needed = ticker.need().expect("a thread");
        assert!(runs(&lock(&ticker.thread)));
    }

    #[test]
    fn a_deadline_is_never_short_of_its_milliseconds() {
        assert!(ticks(1) * u64::from(TICK_MS) > 1);
        assert!(ticks(1_000) * u64::from(TICK_MS) >= 1_000);
    }
}
