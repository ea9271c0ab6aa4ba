//! `[user.NAME]`: who may connect, and do what.

use super::super::place::Place;
use super::super::secret::Digest;
use super::listen::Rate;
use super::text::rules_text;
use quorate_wire::access::Rules;
use serde::Serialize;

/// `[user.NAME]`: who may connect, and do what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    /// Name from the configuration.
    pub name: String,
    /// Each of them is right.
    pub passwords: Vec<Digest>,
    /// What it may do.
    #[serde(serialize_with = "rules_text")]
    pub rules: Rules,
    /// How fast its clients together may send; `None` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Where the name stands.
    #[serde(skip)]
    pub at: Place,
}

impl User {
    /// A user with these rules, and no password.
    pub fn new(name: impl Into<String>, rules: Rules) -> Self {
        User { name: name.into(), passwords: Vec::new(), rules, rate: None, at: Place::NOWHERE }
    }
}
