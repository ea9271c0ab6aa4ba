//! How a policy runs: wasmtime, limits, instances, and the way from WIT to core types and back.
//!
//! The only crate that names wasmtime. Nothing a guest returns leaves it unvalidated, and nothing a guest
//! does can harm more than its own instance: a trap, a time-out or nonsense is an error with a code.
//!
//! [`Host`] loads a [`Policy`]; a policy configured is a [`Planner`], which builds tables, and for policies
//! that want it a [`Decider`] per thread. A [`Keeper`] keeps a good table in force behind a [`TableHandle`].

mod bindings;
mod bundled;
mod cache;
pub mod cases;
mod convert;
mod decider;
mod digest;
mod engine;
mod error;
mod handle;
mod host;
mod instance;
mod keeper;
mod limits;
mod planner;
mod policy;
mod proof;
mod store;

pub use bundled::BUNDLED;
pub use decider::{CacheScope, Decider, Decision, Op, OpFlags, Verdict};
pub use error::{Fault, HostError, Setting};
pub use handle::{CachedTable, Origin, Published, TableHandle};
pub use host::{Host, Source};
pub use keeper::{Applied, Builder, Built, Keeper};
pub use limits::Limits;
pub use planner::{Planner, Reason};
pub use policy::{Manifest, Policy};
pub use proof::{Coherence, prove_coherent};
pub use store::{Level, LogLine};
