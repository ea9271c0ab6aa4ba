//! Caches in clients: which client may hold a value, and who is told when it changes.
//!
//! What changes a key is an entry, so invalidations follow the log: they are handed out when an entry is
//! committed, before anybody reads its effect. Nothing here delays a write.

mod commands;
mod deliver;
mod table;

pub use commands::{caching, info, redirection, tracking};
pub use deliver::Invalidation;
pub use table::{Reader, Tracker};

use bytes::Bytes;
use quorate_wire::command;
use quorate_wire::resp::each_command;
use quorate_wire::resp::flush::is_flush;
use std::collections::BTreeSet;

/// Which reads of a client count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// All of them.
    #[default]
    All,
    /// Those behind `CLIENT CACHING YES`.
    OptIn,
    /// All but those behind `CLIENT CACHING NO`.
    OptOut,
    /// None: it is told of every key with one of its prefixes.
    Broadcast,
}

/// What a client that caches asked for.
#[derive(Debug, Default)]
pub struct Tracking {
    /// Which reads count.
    pub mode: Mode,
    /// It is not told of its own writes.
    pub noloop: bool,
    /// Who is told in its place.
    pub redirect: Option<u64>,
    /// That client is gone.
    pub broken: bool,
    /// Of [`Mode::Broadcast`].
    pub prefixes: BTreeSet<Bytes>,
    /// `CLIENT CACHING` was said, for the next command and for the one that is being handled.
    pub caching: (bool, bool),
    /// Its own writes on their way: ticket and key.
    pub writes: Vec<(u64, Bytes)>,
}

impl Tracking {
    /// The next command is handled.
    pub fn next_command(&mut self) {
        self.caching = (false, self.caching.0);
    }

    /// Must what the command at hand reads be remembered?
    pub fn remembers(&self) -> bool {
        match self.mode {
            Mode::All => true,
            Mode::OptIn => self.caching.1,
            Mode::OptOut => !self.caching.1,
            Mode::Broadcast => false,
        }
    }
}

/// What an entry's commands may have changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    /// These keys.
    Keys(BTreeSet<Bytes>),
    /// It cannot be told.
    Everything,
}

/// The keys that the commands of an entry may have changed.
pub fn changed(payload: &[Bytes]) -> Changed {
    let mut keys = BTreeSet::new();
    let mut all = false;
    for part in payload {
        let whole = each_command(part, |bytes, args| {
            let Ok(command) = command::resolve(args) else { return };
            all |= is_flush(args);
            if !command.flags.has(command::Flags::READONLY) {
                command::keys(command, args, &mut |key| {
                    keys.insert(bytes.slice_ref(key));
                });
            }
        });
        all |= !whole;
    }
    if all { Changed::Everything } else { Changed::Keys(keys) }
}

/// Who must be told of this change.
pub fn stale(tracker: &Tracker, changed: Changed) -> Vec<Invalidation> {
    match changed {
        Changed::Everything => tracker.take_all().into_iter().map(|reader| (reader, None)).collect(),
        Changed::Keys(keys) => {
            let told = |key: &Bytes| {
                tracker.take(key).into_iter().map(|r| (r, Some(key.clone()))).collect::<Vec<_>>()
            };
            keys.iter().flat_map(told).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_wire::resp::Reserved;
    use quorate_wire::resp::encode::command_bytes;
    use quorate_wire::resp::flush::flush;

    #[test]
    fn keys_that_change_are_found_and_what_cannot_be_told_is_everything() {
        let payload =
            [command_bytes(&[b"MSET", b"a", b"1", b"b", b"2"]), command_bytes(&[b"PFCOUNT", b"read"])];
        let keys = ["a", "b"].map(|key| Bytes::from_static(key.as_bytes()));
        assert_eq!(changed(&payload), Changed::Keys(keys.into_iter().collect()));
        let mut flushed = None;
        each_command(&command_bytes(&[b"FLUSHALL"]), |_, args| flushed = flush(&Reserved::new("g"), args));
        assert_eq!(changed(&[flushed.expect("an entry")]), Changed::Everything);
        assert_eq!(changed(&[Bytes::from_static(b"*2\r\n$3\r\nSET")]), Changed::Everything);
    }
}
