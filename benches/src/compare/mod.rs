//! The comparison with peers: what is started, what is measured, how it is printed.

pub mod goals;
pub mod measure;
pub mod report;
pub mod targets;
