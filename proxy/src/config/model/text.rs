//! Values as the configuration file writes them.

use super::super::units::format_duration;
use quorate_wire::access::Rules;
use serde::{Serialize, Serializer};
use std::time::Duration;

pub(super) fn rules_text<S: Serializer>(rules: &Rules, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(rules.text())
}

/// Durations are written as the file has them.
pub(super) fn duration_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(*duration))
}

pub(super) fn optional_duration_text<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(format_duration).serialize(serializer)
}
