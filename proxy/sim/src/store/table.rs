//! The command table: names, arity, flags and key positions as Redis 7.0.15 reports them.
//! A command that is not here does not exist.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::keyspace::Keyspace;
use super::reply::Answer;
use super::session::Session;
use super::{
    Store, acl, bits, client, config, connection, copy, counters, dump, expire, hashes, info, introspect,
    keys, lists, lists_edit, scan, scripts, sets, strings, strings_set, transaction, zset_range, zset_remove,
    zsets,
};

/// Runs on the data alone: deterministic, given the keyspace and its time.
pub(super) type DataFn = fn(&mut Keyspace, &[Vec<u8>]) -> Answer;
/// Runs on the server and the session that asks.
pub(super) type ServerFn = fn(&mut Store, &mut Session, &[Vec<u8>]) -> Answer;

/// What runs a command.
#[derive(Clone, Copy)]
pub(super) enum Run {
    Data(DataFn),
    Server(ServerFn),
}

/// Bits of [`Command::flags`], in the order in which COMMAND prints them.
pub(super) mod flag {
    pub(in crate::store) const WRITE: u16 = 1;
    pub(in crate::store) const READONLY: u16 = 1 << 1;
    pub(in crate::store) const DENYOOM: u16 = 1 << 2;
    pub(in crate::store) const NOSCRIPT: u16 = 1 << 3;
    pub(in crate::store) const LOADING: u16 = 1 << 4;
    pub(in crate::store) const STALE: u16 = 1 << 5;
    pub(in crate::store) const SKIP_SLOWLOG: u16 = 1 << 6;
    pub(in crate::store) const FAST: u16 = 1 << 7;
    pub(in crate::store) const NO_AUTH: u16 = 1 << 8;
    pub(in crate::store) const ALLOW_BUSY: u16 = 1 << 9;

    pub(in crate::store) const WRITE_OOM: u16 = WRITE | DENYOOM;
    pub(in crate::store) const WRITE_OOM_FAST: u16 = WRITE | DENYOOM | FAST;
    pub(in crate::store) const WRITE_FAST: u16 = WRITE | FAST;
    pub(in crate::store) const READ: u16 = READONLY;
    pub(in crate::store) const READ_FAST: u16 = READONLY | FAST;
    pub(in crate::store) const ANYTIME: u16 = LOADING | STALE;
    pub(in crate::store) const CONTROL: u16 = NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY;
    pub(in crate::store) const DOOR: u16 = CONTROL | NO_AUTH;

    pub(in crate::store) const NAMES: [&str; 10] = [
        "write",
        "readonly",
        "denyoom",
        "noscript",
        "loading",
        "stale",
        "skip_slowlog",
        "fast",
        "no_auth",
        "allow_busy",
    ];
}

/// One row of the table.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// Exact number of arguments with the name, or the least number when negative.
    pub(super) arity: i32,
    pub(super) flags: u16,
    /// First key, last key (negative: from the end), step; zeros when there are none.
    pub(super) keys: (i32, i32, i32),
    pub(super) run: Run,
}

/// A row that runs on data.
pub(super) const fn data(
    name: &'static str,
    arity: i32,
    flags: u16,
    keys: (i32, i32, i32),
    run: DataFn,
) -> Command {
    Command { name, arity, flags, keys, run: Run::Data(run) }
}

/// A row that runs on the server and has no keys.
pub(super) const fn server(name: &'static str, arity: i32, flags: u16, run: ServerFn) -> Command {
    Command { name, arity, flags, keys: (0, 0, 0), run: Run::Server(run) }
}

/// The single key of most commands.
pub(super) const ONE: (i32, i32, i32) = (1, 1, 1);
/// Source and destination.
pub(super) const TWO: (i32, i32, i32) = (1, 2, 1);
/// Every argument.
pub(super) const ALL: (i32, i32, i32) = (1, -1, 1);

const GROUPS: [&[Command]; 24] = [
    connection::COMMANDS,
    client::COMMANDS,
    introspect::COMMANDS,
    info::COMMANDS,
    config::COMMANDS,
    acl::COMMANDS,
    transaction::COMMANDS,
    keys::COMMANDS,
    copy::COMMANDS,
    scan::COMMANDS,
    expire::COMMANDS,
    dump::COMMANDS,
    scripts::COMMANDS,
    strings::COMMANDS,
    strings_set::COMMANDS,
    counters::COMMANDS,
    bits::COMMANDS,
    hashes::COMMANDS,
    lists::COMMANDS,
    lists_edit::COMMANDS,
    sets::COMMANDS,
    zsets::COMMANDS,
    zset_range::COMMANDS,
    zset_remove::COMMANDS,
];

static TABLE: LazyLock<BTreeMap<&'static [u8], &'static Command>> = LazyLock::new(|| {
    GROUPS.into_iter().flatten().map(|command| (command.name.as_bytes(), command)).collect()
});

/// The row of a name in any case.
pub(super) fn lookup(name: &[u8]) -> Option<&'static Command> {
    TABLE.get(name.to_ascii_lowercase().as_slice()).copied()
}

/// All rows, by name.
pub(super) fn all() -> impl ExactSizeIterator<Item = &'static Command> {
    TABLE.values().copied()
}

impl Command {
    pub(super) fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    pub(super) fn accepts(&self, args: usize) -> bool {
        Self::fits(self.arity, args)
    }

    pub(super) fn fits(arity: i32, args: usize) -> bool {
        if arity < 0 { args >= arity.unsigned_abs() as usize } else { args == arity as usize }
    }

    pub(super) fn flag_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        flag::NAMES.iter().enumerate().filter(|(bit, _)| self.has(1 << bit)).map(|(_, name)| *name)
    }

    /// The keys among the arguments of a request.
    pub(super) fn keys_of<'a>(&self, args: &'a [Vec<u8>]) -> impl Iterator<Item = &'a Vec<u8>> {
        let (first, last, step) = self.keys;
        let last = if last < 0 { args.len() as i32 + last } else { last };
        let places = (first..=last).step_by(step.max(1) as usize).filter(move |_| first > 0);
        places.filter_map(|place| args.get(place as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_and_none_twice() {
        assert_eq!(all().len(), GROUPS.iter().map(|group| group.len()).sum::<usize>());
        assert!(lookup(b"GeT").is_some());
        assert!(lookup(b"debug").is_none());
    }

    #[test]
    fn keys_are_where_the_table_says() {
        let args: Vec<Vec<u8>> = ["mset", "a", "1", "b", "2"].iter().map(|s| s.as_bytes().to_vec()).collect();
        let row = lookup(b"mset").expect("in the table");
        let keys: Vec<_> = row.keys_of(&args).collect();
        assert_eq!(keys, vec![b"a", b"b"]);
        assert_eq!(lookup(b"ping").expect("in the table").keys_of(&args).count(), 0);
    }
}
