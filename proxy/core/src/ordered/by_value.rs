//! What the engine must be able to ask of payloads that are opaque to it: which keys they
//! touch, and how keys are copied whole from one replica to another.

use super::deadlines::{Timed, UnixMs};
use super::entry::{Position, Replies};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Keys, each once.
pub type Keys = BTreeSet<Bytes>;

/// Tells one trial from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrialId {
    /// The ownership that made it.
    pub epoch: u64,
    /// Its number there.
    pub number: u64,
}

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

impl FromStr for TrialId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, number) = text.split_once('-').ok_or(())?;
        Ok(TrialId { epoch: epoch.parse().map_err(drop)?, number: number.parse().map_err(drop)? })
    }
}

/// What a replica says that has run a trial whose effects it did not apply yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialMark {
    /// Which.
    pub trial: TrialId,
    /// Keys in which it may differ from the others.
    pub keys: Keys,
}

/// What commands did on the replica that ran them first, as an entry for all of them.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Its replies to the commands.
    pub replies: Replies,
    /// Commands that do the same everywhere, and end the trial's mark.
    pub payload: Bytes,
    /// How many.
    pub commands: u32,
    /// Keys that have a deadline after them.
    pub timed: Vec<Timed>,
}

/// How a trial ended.
#[derive(Debug, Clone)]
pub enum Tried {
    /// The commands ran.
    Ran(Outcome),
    /// Nothing ran, because of the replica's state: the error line.
    Refused(Bytes),
    /// Nothing ran, because of this command, by its number, and never will: the error line.
    Rejected(u32, Bytes),
    /// They removed the position: what the replica held is gone.
    Emptied,
    /// It cannot be told.
    Unclear,
}

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

    /// From the answer to [`Self::fetch`]: makes another replica hold the same values and the same tail, gives it the
    /// position that the answer is of, and removes its marks, all at once. Where some values cannot be stored, the
    /// replica is marked as partly copied instead, and keeps its old position. `None` when the answer is not a full one.
    fn store(&self, keys: &Keys, fetched: &Bytes, at: Position) -> Option<Request>;

    /// Did [`Self::store`] succeed?
    fn succeeded(&self, answer: &Bytes) -> bool;

    /// One command that removes those of `keys` whose deadline is `now` or earlier, by their deadlines on the
    /// backend and not by its clock, and tells the deadlines of the others.
    fn expire(&self, keys: &[Bytes], now: UnixMs) -> Bytes;

    /// From the answer to [`Self::expire`] of so many keys: the deadlines of those that are left, and `None`
    /// for a key that has none or is gone.
    fn deadlines(&self, answer: &Bytes, keys: usize) -> Option<Vec<Option<UnixMs>>>;

    /// The bucket of a key, as bursts name it.
    fn bucket(&self, key: &[u8]) -> u16;

    /// Commands that run on one replica before they are an entry, in one atomic batch: they leave a mark on it
    /// and tell what they did. With the keys that may change. `None` when the commands cannot be read.
    fn trial(&self, id: TrialId, payload: &[Bytes]) -> Option<(Request, Keys)>;

    /// From the answer to [`Self::trial`] of the same commands, in the protocol version of their client.
    fn tried(&self, id: TrialId, payload: &[Bytes], answer: &Bytes) -> Tried;

    /// From the answer to [`Self::fetch`]: the values of `keys` as an entry that ends this trial's mark.
    fn adopt(&self, id: TrialId, keys: &Keys, fetched: &Bytes) -> Option<Outcome>;

    /// Is this the entry that carries the effects of that trial?
    fn settles(&self, payload: &[Bytes], id: TrialId) -> bool;

    /// Did every command succeed to which these are the replies?
    fn all_done(&self, replies: &Bytes) -> bool;
}
