//! What an object does when one operation at a time is applied to it.

use std::hash::Hash;

/// A sequential object. It must be deterministic: one state and one operation give one answer.
pub trait Model {
    /// What the object holds.
    type State: Clone + Eq + Hash;
    /// What a client may ask.
    type Op: Clone;
    /// What a client may be told.
    type Ret: Clone;

    /// What the object holds before the first operation.
    fn initial() -> Self::State;

    /// The state after an operation, or `None` when an object in this state would not have given this
    /// answer. Without an answer, any is right.
    fn step(state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State>;
}
