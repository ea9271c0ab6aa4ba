//! Log entries and positions.

use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// A place in a group's log. Equal positions mean equal logs: the hash covers everything before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Position {
    /// Ownership under which the entry was numbered.
    pub epoch: u64,
    /// Number of the entry; 0 is the empty log.
    pub seq: u64,
    /// Chain hash: of the previous hash, epoch, seq and payload (XXH3, 64 bits).
    pub hash: u64,
}

impl Position {
    /// Later epochs win, then longer logs.
    pub fn rank(&self) -> (u64, u64) {
        (self.epoch, self.seq)
    }

    /// The position after an entry of `epoch` with this payload.
    pub fn next(&self, epoch: u64, payload: &[Bytes]) -> Position {
        let seq = self.seq + 1;
        let seed = self.hash ^ epoch.rotate_left(32) ^ seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = match payload {
            [one] => xxh3_64_with_seed(one, seed),
            many => {
                let mut hasher = Xxh3::with_seed(seed);
                many.iter().for_each(|part| hasher.update(part));
                hasher.digest()
            }
        };
        Position { epoch, seq, hash }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{:016x}", self.epoch, self.seq, self.hash)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(());
        let epoch = part()?.parse().map_err(drop)?;
        let seq = part()?.parse().map_err(drop)?;
        let hash = u64::from_str_radix(part()?, 16).map_err(drop)?;
        if parts.next().is_some() { Err(()) } else { Ok(Position { epoch, seq, hash }) }
    }
}

/// One batch of commands with its place in the log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The position of a replica that has applied it.
    pub position: Position,
    /// The commands, as they go to a backend; several slices, to be read as one.
    pub payload: Vec<Bytes>,
    /// How many commands the payload holds.
    pub commands: u32,
    /// Protocol version of the replies; entries of different dialects share no send.
    pub dialect: u8,
    /// Keep this many entries in the backend's tail after this one; 0 leaves the tail as it is.
    pub trim: u32,
    /// The payload was too large for the tail, which knows of it but cannot feed it.
    pub elided: bool,
    /// Runs of commands that are applied as a whole or not at all, by their place; in order, apart from each other.
    pub whole: Vec<Range<u32>>,
}

impl Entry {
    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        self.payload.iter().map(Bytes::len).sum()
    }

    /// A barrier holds no commands.
    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }
}

/// Can these be [`Entry::whole`] of an entry of so many commands?
pub fn runs_fit(runs: &[Range<u32>], commands: u32) -> bool {
    let apart = runs.windows(2).all(|pair| pair[0].end <= pair[1].start);
    apart && runs.iter().all(|run| run.start < run.end && run.end <= commands)
}

/// An entry as read back from a backend's tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailEntry {
    /// The position after it.
    pub position: Position,
    /// How many commands.
    pub commands: u32,
    /// The commands; `None` when they were too large to be kept.
    pub payload: Option<Bytes>,
    /// As in [`Entry::whole`].
    pub whole: Vec<Range<u32>>,
}

/// The replies of one entry's commands on one replica.
#[derive(Debug, Clone, Default)]
pub struct Replies {
    /// All replies, verbatim, one after the other.
    pub bytes: Bytes,
    /// Where each command's reply ends in `bytes`. Empty when nobody will need the single replies.
    pub ends: Vec<u32>,
}

impl Replies {
    /// The replies of `count` commands from command `first` on.
    pub fn slice(&self, first: usize, count: usize) -> Option<Bytes> {
        let start = if first == 0 { 0 } else { *self.ends.get(first - 1)? as usize };
        let end = *self.ends.get(first + count - 1)? as usize;
        (start <= end && end <= self.bytes.len()).then(|| self.bytes.slice(start..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_their_text_form() {
        let position = Position { epoch: 7, seq: 42, hash: 0xfeed };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "1", "1:2", "1:2:zz", "1:2:3:4", "x:2:3"] {
            assert_eq!(bad.parse::<Position>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn the_chain_hash_does_not_see_how_a_payload_is_cut() {
        let whole = [Bytes::from_static(b"abcdef")];
        let cut = [Bytes::from_static(b"ab"), Bytes::from_static(b"cdef")];
        let start = Position::default();
        assert_eq!(start.next(1, &whole), start.next(1, &cut));
        assert_ne!(start.next(1, &whole).hash, start.next(2, &whole).hash);
    }
}
