//! Commands that wait for something to be there.
//!
//! Such a command is tried as an entry, where it does not wait. If nothing was there it is parked with its keys, and
//! tried again when a later entry may have put something there: one at a time for each key, the longest waiter first.

use bytes::Bytes;

/// A key as waiters know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Awaited {
    /// Its bucket.
    pub bucket: u16,
    /// Tells it from other keys of the bucket, and those that wait for lists from those that wait for others.
    pub identity: u64,
}

/// How a burst waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// For which keys.
    pub keys: Vec<Awaited>,
    /// Until when, in monotonic microseconds; `None` for ever.
    pub until_us: Option<u64>,
    /// Replies that say that nothing was there.
    pub empty: &'static [&'static [u8]],
    /// The reply when its time is over.
    pub late: Bytes,
    /// It takes nothing, so all who wait are served together. It is a read, the others are writes.
    pub shares: bool,
}

/// Somebody does not wait any more.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// Whose burst.
    pub session: u32,
    /// Which.
    pub ticket: u64,
    /// What to answer, if anybody is there to read it.
    pub reply: Option<Bytes>,
}
