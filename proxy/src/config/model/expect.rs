//! `[[expect]]`: what `check` must find to be true.

use super::super::place::Place;
use serde::Serialize;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done, or answered.
    Applied,
    /// Never takes effect.
    Refused,
    /// May take effect.
    Unknown,
}

/// `[[expect]]`: a request and what must become of it. Evaluated elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Expectation {
    /// What it is about, in words; the request where none was given.
    pub name: String,
    /// A command line, such as `SET k v`.
    pub request: String,
    /// The group that it is sent to.
    pub group: String,
    /// Replicas that are down.
    pub down: Vec<String>,
    /// What must become of it.
    pub outcome: Outcome,
    /// Replicas that must be owed the write afterwards; `None` if that does not matter.
    pub hints: Option<Vec<String>>,
    /// Where its values stand.
    #[serde(skip)]
    pub at: ExpectationPlaces,
}

/// Where the values of an expectation stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpectationPlaces {
    /// The whole expectation: its name, or else its request.
    pub name: Place,
    /// The request.
    pub request: Place,
    /// The outcome.
    pub outcome: Place,
    /// The hints; the outcome where none were given.
    pub hints: Place,
}
