//! Pub/sub: who listens to what, and how messages reach them.
//!
//! Messages are entries of the log, and are handed out in its order once they are committed; nothing here
//! orders or acknowledges anything.

mod commands;
mod deliver;
mod frame;
mod hub;
mod own;

pub use commands::{answer, inspect, is_allowed, refusal};
pub use deliver::{Local, Message, Via, sort};
pub use frame::pong;
pub use hub::{Hub, Waiting};
pub use own::Own;

/// The three name spaces of subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `SUBSCRIBE`.
    Channel,
    /// `PSUBSCRIBE`.
    Pattern,
    /// `SSUBSCRIBE`.
    Shard,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];

    /// What stands before the names of its commands and frames.
    pub fn letter(self) -> &'static str {
        match self {
            Kind::Channel => "",
            Kind::Pattern => "p",
            Kind::Shard => "s",
        }
    }
}

const KEYSPACE: [&[u8]; 2] = [b"__keyspace@0__:", b"__keyevent@0__:"];

/// Is this channel the servers' own, on which they tell of changes of keys?
pub fn is_keyspace(channel: &[u8]) -> bool {
    KEYSPACE.iter().any(|prefix| channel.starts_with(prefix))
}

/// May a subscription to this name get what servers tell of changes of keys?
pub fn may_be_keyspace(kind: Kind, name: &[u8]) -> bool {
    match kind {
        Kind::Channel => is_keyspace(name),
        Kind::Shard => false,
        Kind::Pattern => {
            let begin = quorate_wire::glob::literal_prefix(name);
            KEYSPACE.iter().any(|prefix| prefix.starts_with(begin) || begin.starts_with(prefix))
        }
    }
}

/// Does an event of the servers speak of a key of ours?
pub fn tells_reserved(channel: &[u8], message: &[u8]) -> bool {
    use quorate_wire::resp::transaction::is_reserved;
    let key = match channel.strip_prefix(KEYSPACE[0]) {
        Some(key) => key,
        None => message,
    };
    is_reserved(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_reach_events_of_keys_are_known() {
        for (kind, name, may) in [
            (Kind::Channel, "__keyevent@0__:del", true),
            (Kind::Channel, "__keyevent@1__:del", false),
            (Kind::Shard, "__keyevent@0__:del", false),
            (Kind::Pattern, "*", true),
            (Kind::Pattern, "_?", true),
            (Kind::Pattern, "__keyspace@0__:user:*", true),
            (Kind::Pattern, "__keyspace@*", true),
            (Kind::Pattern, "news.*", false),
        ] {
            assert_eq!(may_be_keyspace(kind, name.as_bytes()), may, "{name}");
        }
    }

    #[test]
    fn events_of_our_own_keys_are_known() {
        assert!(tells_reserved(b"__keyspace@0__:__quorate:{g}:pos", b"set"));
        assert!(tells_reserved(b"__keyevent@0__:set", b"__quorate:{g}:pos"));
        assert!(!tells_reserved(b"__keyspace@0__:k", b"__quorate:no"));
        assert!(!tells_reserved(b"__keyevent@0__:set", b"k"));
    }
}
