//! The configuration file: from text to [`Config`], or to a [`Report`] of everything that is wrong.
//!
//! Two passes. `shape` holds the text against the schema and drops what does not fit; `check`
//! turns the rest into plain types and compares sections with each other. Both collect all
//! problems instead of stopping at the first, and neither ever shows a secret.

mod address;
mod check;
pub mod codes;
mod load;
mod model;
mod place;
mod raw;
mod redact;
mod render;
mod report;
mod schema;
mod secret;
mod shape;
mod suggest;
mod units;

pub use address::Address;
pub use check::BUNDLED_POLICIES;
pub use load::{Loaded, MAX_FILE_BYTES, load, parse};
pub use model::{
    Ack, Admin, Backend, BackendKind, BackendTls, ClientCertificates, Config, Durability, Expectation,
    ExpectationPlaces, Group, GroupPlaces, ListenTls, Listener, Log, LogFormat, LogLevel, Mode, Outcome,
    Policy, PolicyLimits, PolicySource, Proxy, Rate, Reseed, ReseedBy, Scripts, State, User, WriteQuorum,
};
pub use place::{Place, Sources};
pub use report::{MAX_PROBLEMS, Problem, Report, Severity};
pub use schema::schema;
pub use secret::{Digest, Secret};
pub use units::{format_duration, format_size, parse_duration, parse_size};

/// Looks an environment variable up; tests pass a table.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;
