//! The instance that decides on single requests, one per thread, in well under a microsecond.

use crate::bindings::deciding::quorate::policy::request;
use crate::bindings::pure::quorate::policy::types as wit;
use crate::engine::{Ticking, ticks};
use crate::instance::Instance;
use crate::policy::Parts;
use crate::store::State;
use crate::{Fault, HostError, convert};
use quorate_core::plan::{ASK, OpClass, Outcome};
use std::sync::Arc;
use wasmtime::component::Resource;

/// After this many faults without an answer in between, a decider is not asked any more.
const MAX_FAULTS_IN_A_ROW: u32 = 8;

/// What the host knows of a request besides its class: a set of the `op-flags` of the WIT package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpFlags(pub u8);

#[allow(missing_docs)]
impl OpFlags {
    pub const HAS_TTL: OpFlags = OpFlags(1);
    pub const IDEMPOTENT: OpFlags = OpFlags(1 << 1);
    pub const LARGE_VALUE: OpFlags = OpFlags(1 << 2);
    pub const IN_TRANSACTION: OpFlags = OpFlags(1 << 3);
    pub const REPLAYED: OpFlags = OpFlags(1 << 4);
    pub const ADMIN_CLIENT: OpFlags = OpFlags(1 << 5);
    pub const READ_YOUR_WRITES: OpFlags = OpFlags(1 << 6);
    pub const FROM_HINT: OpFlags = OpFlags(1 << 7);

    /// Are all flags of `other` set?
    #[inline]
    pub fn has(self, other: OpFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[inline]
    pub fn with(self, other: OpFlags) -> OpFlags {
        OpFlags(self.0 | other.0)
    }
}

/// A request as `decide` may look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// What the command does.
    pub class: OpClass,
    /// What else is known of it.
    pub flags: OpFlags,
    /// The first key's slot.
    pub slot: u16,
    /// The first key's hash.
    pub key_hash: u64,
    /// Keys, in the order of the command.
    pub keys: Vec<Vec<u8>>,
    /// The command's name: `HSET`, `UPDATE`, `PutObject`.
    pub verb: String,
    /// Size of the values in bytes.
    pub value_bytes: u64,
    /// user, db, table, bucket, client-ip…: what the protocol knows.
    pub attributes: Vec<(String, String)>,
}

/// How widely a decision may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CacheScope {
    None,
    Key,
    Slot,
    OpClass,
    UntilEpoch,
}

/// What `decide` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Index of a plan; [`quorate_core::plan::Table::plan`] tells whether there is one.
    Plan(Outcome),
    /// Refuse the request.
    Reject {
        /// Stable code.
        code: String,
        /// Sentence for the client.
        message: String,
        /// When trying again may help, in milliseconds.
        retry_after_ms: Option<u32>,
    },
}

/// A verdict, and how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// For which requests.
    pub cache: CacheScope,
    /// For how long, in milliseconds.
    pub cache_ms: u32,
}

/// A configured policy that decides on single requests. Not shared between threads.
pub struct Decider {
    parts: Arc<Parts>,
    settings: String,
    instance: Option<Instance>,
    deadline_ticks: u64,
    faults_in_a_row: u32,
    _ticking: Ticking,
}

impl Decider {
    pub(crate) fn new(parts: Arc<Parts>, settings: &str) -> Result<Decider, HostError> {
        let ticking = parts.ticker.need()?;
        let instance = Some(Instance::configured(&parts, settings)?);
        let deadline_ticks = ticks(parts.limits.decide_deadline_ms);
        let settings = settings.to_owned();
        Ok(Decider { parts, settings, instance, deadline_ticks, faults_in_a_row: 0, _ticking: ticking })
    }

    /// Scalars only. [`ASK`] means that [`Decider::decide`] wants to be asked; an outcome may be one that no
    /// plan has, which the table tells.
    #[inline]
    pub fn fast(
        &mut self,
        class: OpClass,
        flags: OpFlags,
        slot: u16,
        key_hash: u64,
        value_bytes: u64,
    ) -> Result<Outcome, HostError> {
        let (class, flags) = (convert::op_class(class), convert::op_flags(flags));
        self.call("fast", |decider, store| {
            let hook = decider.quorate_policy_decider();
            hook.call_fast(store, class, flags, slot, key_hash, value_bytes)
        })
    }

    /// May look at every field of the request.
    pub fn decide(&mut self, op: &Op) -> Result<Decision, HostError> {
        let decision = self.call("decide", |decider, store| {
            store.data_mut().op = Some(op.clone());
            let answer = decider.quorate_policy_decider().call_decide(&mut *store, Resource::new_borrow(0));
            store.data_mut().op = None;
            answer
        })?;
        match convert::decision(decision) {
            Decision { verdict: Verdict::Plan(ASK), .. } => Err(self.fault(Fault::Undecided)),
            decision => Ok(decision),
        }
    }

    #[inline]
    fn call<T>(
        &mut self,
        hook: &'static str,
        call: impl FnOnce(
            &crate::bindings::deciding::Deciding,
            &mut wasmtime::Store<State>,
        ) -> wasmtime::Result<T>,
    ) -> Result<T, HostError> {
        if self.instance.is_none() {
            self.instance = Some(self.renewed()?);
        }
        let Some(Instance { store, decider: Some(decider), .. }) = &mut self.instance else {
            unreachable!("a decider is made of policies that export one");
        };
        store.set_epoch_deadline(self.deadline_ticks);
        match call(decider, store) {
            Ok(answer) => {
                self.faults_in_a_row = 0;
                Ok(answer)
            }
            Err(error) => Err(self.failed(hook, &error)),
        }
    }

    #[cold]
    fn renewed(&self) -> Result<Instance, HostError> {
        match self.faults_in_a_row {
            faults @ MAX_FAULTS_IN_A_ROW.. => Err(self.fault(Fault::Suspended { faults })),
            _ => Instance::configured(&self.parts, &self.settings),
        }
    }

    #[cold]
    fn failed(&mut self, hook: &'static str, error: &wasmtime::Error) -> HostError {
        self.faults_in_a_row += 1;
        let deadline_ms = self.parts.limits.decide_deadline_ms;
        match self.instance.take() {
            Some(mut instance) => instance.fault(hook, deadline_ms, error),
            None => self.fault(Fault::Trap { hook, message: error.to_string() }),
        }
    }

    fn fault(&self, fault: Fault) -> HostError {
        HostError::Fault { policy: self.parts.name.clone(), fault }
    }
}

impl request::Host for State {}

/// Answers from the request under way; the guest cannot keep the handle beyond its call.
impl request::HostOp for State {
    fn class(&mut self, _: Resource<Op>) -> wit::OpClass {
        self.op.as_ref().map_or(wit::OpClass::Unknown, |op| convert::op_class(op.class))
    }

    fn flags(&mut self, _: Resource<Op>) -> wit::OpFlags {
        self.op.as_ref().map_or(wit::OpFlags::empty(), |op| convert::op_flags(op.flags))
    }

    fn slot(&mut self, _: Resource<Op>) -> u16 {
        self.op.as_ref().map_or(0, |op| op.slot)
    }

    fn key_hash(&mut self, _: Resource<Op>) -> u64 {
        self.op.as_ref().map_or(0, |op| op.key_hash)
    }

    fn key(&mut self, _: Resource<Op>, at: u16) -> Option<Vec<u8>> {
        self.op.as_ref()?.keys.get(usize::from(at)).cloned()
    }

    fn key_count(&mut self, _: Resource<Op>) -> u16 {
        self.op.as_ref().map_or(0, |op| u16::try_from(op.keys.len()).unwrap_or(u16::MAX))
    }

    fn verb(&mut self, _: Resource<Op>) -> String {
        self.op.as_ref().map_or_else(String::new, |op| op.verb.clone())
    }

    fn value_bytes(&mut self, _: Resource<Op>) -> u64 {
        self.op.as_ref().map_or(0, |op| op.value_bytes)
    }

    fn attribute(&mut self, _: Resource<Op>, name: String) -> Option<String> {
        self.op.as_ref()?.attributes.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
    }

    fn drop(&mut self, _: Resource<Op>) -> wasmtime::Result<()> {
        Ok(())
    }
}
