//! What the engine must be able to ask of payloads that are opaque to it: which keys they
//! touch, and how keys are copied whole from one replica to another.

use super::deadlines::UnixMs;
use super::entry::Position;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Keys, each once.
pub type Keys = BTreeSet<Bytes>;

/// Commands for one replica, whose replies belong together.
#[derive(Debug, Clone)]
pub struct Request {
    /// The commands.
    pub payload: Bytes,
    /// How many.
    pub commands: u32,
}

/// Copies keys by value. Implemented where the bytes of payloads are understood.
pub trait ByValue: Send {
    /// Adds every key that these commands name, and so may have changed. `false` when that cannot be told.
    fn touched(&self, payload: &[Bytes], keys: &mut Keys) -> bool;

    /// Adds every key that these commands name, those that they only read as well.
    fn named(&self, payload: &Bytes, keys: &mut Keys) -> bool;

    /// Asks a replica for the whole values of `keys` and for its tail.
    fn fetch(&self, keys: &Keys) -> Request;

    /// From the answer to [`Self::fetch`]: makes another replica hold the same values and the same tail, and
    /// marks it as partly copied, in one atomic batch. `None` when the answer is not a full one.
    fn store(&self, keys: &Keys, fetched: &Bytes) -> Option<Request>;

    /// Did every command of [`Self::store`] or [`Self::seal`] succeed?
    fn succeeded(&self, answer: &Bytes) -> bool;

    /// One command that removes those of `keys` whose deadline is `now` or earlier, by their deadlines on the
    /// backend and not by its clock, and tells the deadlines of the others.
    fn expire(&self, keys: &[Bytes], now: UnixMs) -> Bytes;

    /// From the answer to [`Self::expire`] of so many keys: the deadlines of those that are left, and `None`
    /// for a key that has none or is gone.
    fn deadlines(&self, answer: &Bytes, keys: usize) -> Option<Vec<Option<UnixMs>>>;

    /// The bucket of a key, as bursts name it.
    fn bucket(&self, key: &[u8]) -> u16;

    /// Ends a copy: writes the position, and removes the mark, in one atomic batch.
    fn seal(&self, at: Position) -> Request;
}
