//! What is right: quorum rules, plans, the ordered log and replica states.
//!
//! Nothing here waits, reads a clock, rolls a die or meets an IO error. Time and
//! everything that can go wrong arrive as events; what should happen leaves as effects.

pub mod explain;
pub mod ordered;
pub mod plan;
pub mod quorum;
pub mod rule;
pub mod topology;
