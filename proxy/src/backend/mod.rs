//! The server side: one ordered connection to each backend of a group.
//!
//! `attach` checks, fences and asks where the backend stands; `link` then carries what the
//! core sends and reports what comes back. Neither decides anything.

pub mod attach;
mod builds;
pub mod call;
pub mod deadlines;
pub mod disk;
pub mod embedded;
pub mod link;
mod lowat;
mod memory;
pub mod reseed;
mod rewrite;
pub mod scrub;
pub mod serve;
pub mod subscriber;
mod values;
