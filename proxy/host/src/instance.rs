//! One instance of a guest: made from the prepared component, called under a deadline, thrown away after a fault.

use crate::bindings::{deciding, pure};
use crate::engine::ticks;
use crate::policy::Parts;
use crate::store::State;
use crate::{Fault, HostError, Level, LogLine, Setting};
use std::sync::Arc;
use wasmtime::{Store, Trap};

pub(crate) struct Instance {
    parts: Arc<Parts>,
    pub(crate) store: Store<State>,
    hooks: pure::PurePolicy,
    pub(crate) decider: Option<deciding::Deciding>,
}

impl Instance {
    /// Makes an instance. The caller keeps the ticker going.
    pub(crate) fn start(parts: &Arc<Parts>) -> Result<Instance, HostError> {
        let limits = &parts.limits;
        let mut store = Store::new(&parts.engine, State::new(&parts.name, limits));
        store.limiter(State::limiter);
        store.set_hostcall_fuel(limits.transfer_bytes);
        store.set_epoch_deadline(ticks(limits.call_deadline_ms));
        let started = parts.pre.instantiate(&mut store).and_then(|instance| {
            let hooks = parts.hooks.load(&mut store, &instance)?;
            let decider =
                parts.decider.as_ref().map(|indices| indices.load(&mut store, &instance)).transpose()?;
            Ok((hooks, decider))
        });
        match started {
            Ok((hooks, decider)) => Ok(Instance { parts: Arc::clone(parts), store, hooks, decider }),
            Err(error) if error.is::<Trap>() => {
                Err(with_policy(parts, fault(parts, &mut store, "start", limits.call_deadline_ms, &error)))
            }
            Err(error) => {
                Err(HostError::NoInstance { policy: parts.name.clone(), why: format!("{error:#}") })
            }
        }
    }

    /// Makes an instance and gives it its settings.
    pub(crate) fn configured(parts: &Arc<Parts>, settings: &str) -> Result<Instance, HostError> {
        let mut instance = Instance::start(parts)?;
        let deadline = parts.limits.call_deadline_ms;
        let answer = instance.call("configure", deadline, |hooks, store| {
            hooks.quorate_policy_lifecycle().call_configure(store, settings)
        })?;
        let setting = |e: pure::exports::quorate::policy::lifecycle::ConfigError| Setting {
            path: e.path,
            message: e.message,
        };
        match answer {
            Ok(()) => Ok(instance),
            Err(errors) => {
                let settings = errors.into_iter().map(setting).collect();
                Err(HostError::Settings { policy: parts.name.clone(), settings })
            }
        }
    }

    /// Calls a hook of the pure world under a deadline.
    pub(crate) fn call<T>(
        &mut self,
        hook: &'static str,
        deadline_ms: u32,
        call: impl FnOnce(&pure::PurePolicy, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, HostError> {
        self.store.set_epoch_deadline(ticks(deadline_ms));
        call(&self.hooks, &mut self.store).map_err(|error| self.fault(hook, deadline_ms, &error))
    }

    /// What an error of a call means. The instance must not be called again.
    #[cold]
    pub(crate) fn fault(
        &mut self,
        hook: &'static str,
        deadline_ms: u32,
        error: &wasmtime::Error,
    ) -> HostError {
        let fault = fault(&self.parts, &mut self.store, hook, deadline_ms, error);
        with_policy(&self.parts, fault)
    }

    /// Lines logged since the last time.
    pub(crate) fn take_lines(&mut self) -> Vec<LogLine> {
        self.store.data_mut().take_lines()
    }
}

fn with_policy(parts: &Parts, fault: Fault) -> HostError {
    HostError::Fault { policy: parts.name.clone(), fault }
}

fn fault(
    parts: &Parts,
    store: &mut Store<State>,
    hook: &'static str,
    deadline_ms: u32,
    error: &wasmtime::Error,
) -> Fault {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return Fault::Deadline { hook, limit_ms: deadline_ms };
    }
    if store.data().memory_denied() {
        return Fault::OutOfMemory { hook, limit_bytes: parts.limits.memory_bytes };
    }
    // wasmtime has no type for this error.
    if error.root_cause().to_string().starts_with("too much data is being copied") {
        return Fault::TooMuch { hook, limit_bytes: parts.limits.transfer_bytes };
    }
    let what = trap.map_or_else(|| format!("{:#}", error.root_cause()), Trap::to_string);
    let lines = store.data_mut().take_lines();
    let last_words = lines.into_iter().rev().find(|line| line.level == Level::Error);
    let message = match last_words {
        Some(line) => format!("{what}, after logging \"{}\"", line.message),
        None => what,
    };
    Fault::Trap { hook, message }
}
