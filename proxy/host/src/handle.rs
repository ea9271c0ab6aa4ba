//! The table in force, shared by all threads and swapped in one step.

use arc_swap::{ArcSwap, Cache};
use quorate_core::plan::Table;
use std::sync::Arc;

/// A table in force, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What requests are looked up in.
    pub table: Table,
    /// SHA-256 of the proposal it was made from; the same on every proxy of a fleet that agrees.
    pub digest: String,
    /// Epoch of the topology it was validated against.
    pub epoch: u64,
    /// Who built it.
    pub origin: Origin,
}

/// Who built a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The configured policy.
    Policy,
    /// The proxy itself, as the policy never built one.
    Builtin,
}

/// Where the table in force is. Clones show the same table.
#[derive(Debug, Clone)]
pub struct TableHandle(Arc<ArcSwap<Published>>);

impl TableHandle {
    /// Starts with a first table.
    pub fn new(first: Published) -> Self {
        TableHandle(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// Puts another table in force. Requests that are under way keep the one they looked at.
    pub fn publish(&self, next: Published) {
        self.0.store(Arc::new(next));
    }

    /// The table in force, for those who ask now and then.
    pub fn load(&self) -> Arc<Published> {
        self.0.load_full()
    }

    /// A view for one thread that asks for every request: a look-up costs one atomic read while nothing changes.
    pub fn cached(&self) -> CachedTable {
        CachedTable(Cache::new(Arc::clone(&self.0)))
    }
}

/// One thread's view of the table in force.
pub struct CachedTable(Cache<Arc<ArcSwap<Published>>, Arc<Published>>);

impl CachedTable {
    /// The table in force.
    #[inline]
    pub fn load(&mut self) -> &Published {
        self.0.load()
    }
}
