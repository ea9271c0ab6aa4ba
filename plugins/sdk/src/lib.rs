//! Write a Quorate policy in Rust: implement [`Policy`], call [`policy!`] once.
//!
//! A policy sees a topology and proposes a table of plans; the proxy checks the table and looks
//! plans up in it without calling the policy again. It has no clock, no files and no sockets.
//!
//! ```
//! use quorate_plugin_sdk::*;
//!
//! struct TwoCopies;
//!
//! impl Policy for TwoCopies {
//!     const NAME: &'static str = "two-copies";
//!     fn configure(_: &mut Settings) -> Self {
//!         TwoCopies
//!     }
//!     fn build(&self, view: &Topology, _: Reason) -> Result<Table, String> {
//!         let plan = Plan { write: AckRule::Count(2), ..Plan::replicated("two-copies", view) };
//!         Ok(Table::of(plan))
//!     }
//! }
//!
//! policy!(TwoCopies);
//! ```
#![cfg_attr(not(test), no_std)]

extern crate alloc;

#[doc(hidden)]
pub mod bindings;
mod plan;
#[doc(hidden)]
pub mod run;
mod settings;
#[cfg(target_arch = "wasm32")]
mod wasm;

pub use alloc::borrow::ToOwned;
pub use alloc::format;
pub use alloc::string::{String, ToString};
pub use alloc::vec;
pub use alloc::vec::Vec;

pub use bindings::deciding::exports::quorate::policy::decider::{CacheScope, Decision, Rejection, Verdict};
pub use bindings::deciding::quorate::policy::request::Op;
pub use bindings::pure::exports::quorate::policy::lifecycle::ConfigError;
pub use bindings::pure::exports::quorate::policy::planner::Reason;
pub use bindings::pure::quorate::policy::log::{Level, emit as log};
pub use bindings::pure::quorate::policy::types::*;
pub use settings::{Common, Settings, WriteQuorum};

/// The cell wants `decider` to be asked; as the answer of [`Policy::fast`], `decide` is asked.
pub const ASK: Outcome = 0xffff;
/// The request is refused.
pub const REJECT: Outcome = 0xfffe;

/// What a policy decides. Only `configure` and `build` must be written.
pub trait Policy: Sized + 'static {
    /// Its name, as `inspect` shows it.
    const NAME: &'static str;
    /// JSON Schema of its settings, or empty.
    const SCHEMA: &'static str = "";

    /// Takes the settings it knows. Problems are noted in `settings`, all of them reach the operator,
    /// and whatever is left over is refused as unknown.
    fn configure(settings: &mut Settings) -> Self;

    /// Proposes a table. A pure function of the settings and `view`: no counters, no addresses, no order
    /// that depends on hashing, as every proxy of a fleet must come to the same table.
    fn build(&self, view: &Topology, why: Reason) -> Result<Table, String>;

    /// Asked for cells whose outcome is [`ASK`]; needs `policy!(Name, decider)`. Must not allocate to stay quick.
    fn fast(&self, request: FastRequest) -> Outcome {
        let _ = request;
        ASK
    }

    /// Asked where [`Policy::fast`] answered [`ASK`]; may fetch fields of the request.
    fn decide(&self, op: &Op) -> Decision {
        let _ = op;
        Decision::reject("undecided", "the policy has no opinion on this request")
    }
}

/// What [`Policy::fast`] is told of a request.
#[derive(Debug, Clone, Copy)]
pub struct FastRequest {
    /// What the command does.
    pub class: OpClass,
    /// What else the host knows of it.
    pub flags: OpFlags,
    /// The first key's slot.
    pub slot: Slot,
    /// The first key's 64-bit hash; the same on every proxy.
    pub key_hash: u64,
    /// Size of the values in bytes.
    pub value_bytes: u64,
}

/// Exports a [`Policy`] as a component: `policy!(Name)` for tables only, `policy!(Name, decider)` to be
/// asked about single requests as well.
#[macro_export]
macro_rules! policy {
    ($policy:ty) => {
        #[doc(hidden)]
        pub struct QuorateComponent;

        static QUORATE_POLICY: $crate::run::Configured<$policy> = $crate::run::Configured::none();

        impl $crate::bindings::pure::exports::quorate::policy::lifecycle::Guest for QuorateComponent {
            fn describe() -> $crate::run::Manifest {
                $crate::run::describe::<$policy>(env!("CARGO_PKG_VERSION"))
            }
            fn configure(json: $crate::String) -> Result<(), $crate::Vec<$crate::ConfigError>> {
                $crate::run::configure(&QUORATE_POLICY, &json)
            }
        }

        impl $crate::bindings::pure::exports::quorate::policy::planner::Guest for QuorateComponent {
            fn build(view: $crate::Topology, why: $crate::Reason) -> Result<$crate::Table, $crate::String> {
                $crate::run::build(&QUORATE_POLICY, &view, why)
            }
        }

        // Elsewhere the names of exports mean nothing to a linker, and a policy is only tested.
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::pure::export_pure!(QuorateComponent with_types_in $crate::bindings::pure);
    };
    ($policy:ty, decider) => {
        $crate::policy!($policy);

        impl $crate::bindings::deciding::exports::quorate::policy::decider::Guest for QuorateComponent {
            fn fast(
                class: $crate::OpClass,
                flags: $crate::OpFlags,
                slot: $crate::Slot,
                key_hash: u64,
                value_bytes: u64,
            ) -> $crate::Outcome {
                let request = $crate::FastRequest { class, flags, slot, key_hash, value_bytes };
                $crate::run::fast(&QUORATE_POLICY, request)
            }
            fn decide(op: &$crate::Op) -> $crate::Decision {
                $crate::run::decide(&QUORATE_POLICY, op)
            }
        }

        #[cfg(target_arch = "wasm32")]
        $crate::bindings::deciding::export_deciding!(QuorateComponent with_types_in $crate::bindings::deciding);
    };
}
