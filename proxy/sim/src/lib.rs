//! How Quorate is judged: model backends, and the checkers of what clients saw.
//! Nothing here waits, reads a clock or rolls a die that was not given as a seed.

pub mod lin;
pub mod store;
pub mod world;
