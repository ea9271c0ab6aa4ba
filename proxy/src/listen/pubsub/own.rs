//! The subscriptions of one client.

use super::Kind;
use bytes::Bytes;
use std::collections::BTreeSet;

/// One client may have so many subscriptions.
pub const MOST: usize = 1 << 20;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Own {
    names: [BTreeSet<Bytes>; 3],
}

impl Own {
    /// How many of a kind.
    pub fn len(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeSet::is_empty)
    }

    /// The number that confirmations of this kind tell: channels and patterns are counted together.
    pub fn told(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.len(Kind::Shard),
            Kind::Channel | Kind::Pattern => self.len(Kind::Channel) + self.len(Kind::Pattern),
        }
    }

    /// Is there room for so many more?
    pub fn has_room(&self, more: usize) -> bool {
        self.names.iter().map(BTreeSet::len).sum::<usize>() + more <= MOST
    }

    /// `false`: it was there already.
    pub fn add(&mut self, kind: Kind, name: &Bytes) -> bool {
        self.names[kind as usize].insert(name.clone())
    }

    /// `false`: it was not there.
    pub fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        self.names[kind as usize].remove(name)
    }

    /// Is it there?
    pub fn has(&self, kind: Kind, name: &[u8]) -> bool {
        self.names[kind as usize].contains(name)
    }

    /// All of a kind.
    pub fn all(&self, kind: Kind) -> Vec<Bytes> {
        self.names[kind as usize].iter().cloned().collect()
    }
}
