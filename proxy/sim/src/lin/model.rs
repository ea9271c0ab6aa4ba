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

    /// True for operations that change no state whatsoever. The search is faster for knowing them.
    fn reads_only(op: &Self::Op) -> bool {
        let _ = op;
        false
    }

    /// True when the operation fits any state and always leaves the same one. The search is faster for
    /// knowing them.
    fn overwrites(op: &Self::Op, ret: Option<&Self::Ret>) -> bool {
        let _ = (op, ret);
        false
    }

    /// True when this answer can never be given from this state on, whatever of `rest` comes before it.
    /// `rest` is all that could. The search is faster for being told; saying false is always right.
    fn hopeless<'a>(
        state: &Self::State,
        op: &Self::Op,
        ret: &Self::Ret,
        rest: impl Iterator<Item = &'a Self::Op>,
    ) -> bool
    where
        Self::Op: 'a,
    {
        let _ = (state, op, ret, rest);
        false
    }
}
