//! What the `policy!` macro expands to: keeps the configured policy and calls it.

use crate::{
    ConfigError, Decision, FastRequest, Op, Outcome, Policy, REJECT, Reason, Settings, String, Table,
};
use crate::{ToOwned, Topology, Vec};
use core::cell::UnsafeCell;

pub use crate::bindings::pure::exports::quorate::policy::lifecycle::Manifest;

/// The one policy of an instance, once it is configured.
pub struct Configured<P>(UnsafeCell<Option<P>>);

// SAFETY: a component instance has one thread, and the component model does not let the host enter it
// again while a call is running; `set` and `current` never overlap.
unsafe impl<P> Sync for Configured<P> {}

impl<P: Policy> Configured<P> {
    /// Nothing configured yet.
    pub const fn none() -> Self {
        Configured(UnsafeCell::new(None))
    }

    fn set(&self, policy: P) {
        // SAFETY: see `Sync`; no reference from `current` outlives the hook it was taken in.
        unsafe { *self.0.get() = Some(policy) }
    }

    fn current(&self) -> Option<&P> {
        // SAFETY: see `Sync`.
        unsafe { (*self.0.get()).as_ref() }
    }
}

pub fn describe<P: Policy>(version: &str) -> Manifest {
    Manifest {
        name: P::NAME.to_owned(),
        version: version.to_owned(),
        config_schema: P::SCHEMA.to_owned(),
        extra: Vec::new(),
    }
}

pub fn configure<P: Policy>(slot: &Configured<P>, json: &str) -> Result<(), Vec<ConfigError>> {
    let mut settings = Settings::parse(json);
    let policy = P::configure(&mut settings);
    settings.finish()?;
    slot.set(policy);
    Ok(())
}

pub fn build<P: Policy>(slot: &Configured<P>, view: &Topology, why: Reason) -> Result<Table, String> {
    match slot.current() {
        Some(policy) => policy.build(view, why),
        None => Err("the policy was not configured".to_owned()),
    }
}

pub fn fast<P: Policy>(slot: &Configured<P>, request: FastRequest) -> Outcome {
    slot.current().map_or(REJECT, |policy| policy.fast(request))
}

pub fn decide<P: Policy>(slot: &Configured<P>, op: &Op) -> Decision {
    match slot.current() {
        Some(policy) => policy.decide(op),
        None => Decision::reject("unconfigured", "the policy was not configured"),
    }
}
