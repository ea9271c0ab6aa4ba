//! Whether what clients saw can be explained by one order of operations, each taking effect at a moment
//! between its call and its answer: linearizability.
//!
//! The search is that of Wing and Gong (1993) with the memory of Lowe (2017), one key at a time.
//! It never calls a history linearizable because it ran out of patience: that is [`Verdict::Unknown`].

mod check;
mod edn;
mod history;
mod model;
mod models;
mod search;
mod unseen;

pub use check::{Budget, Verdict, Witness, check};
pub use edn::{Edn, to_edn};
pub use history::{OpId, Operation, Outcome, Recorder};
pub use model::Model;
pub use models::{AppendList, Counter, CounterOp, ListOp, ListRet, Register, RegisterOp, RegisterRet};
