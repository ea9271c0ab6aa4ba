//! Which commands a server that is out of memory can still be given.

use super::{Command, Flags};
use crate::resp::Args;

/// Their replies are numbers, words, single strings or null: a script passes these on as they are.
/// An empty reply to `LPOP key count` becomes another kind of null, so that form is not among them.
const PLAIN: &[&str] = &[
    "del",
    "delifeq",
    "expire",
    "expireat",
    "getdel",
    "getex",
    "hdel",
    "lpop",
    "lrem",
    "ltrim",
    "persist",
    "pexpire",
    "pexpireat",
    "rename",
    "renamenx",
    "rpop",
    "smove",
    "spop",
    "srem",
    "unlink",
    "xack",
    "xdel",
    "xgroup|delconsumer",
    "xgroup|destroy",
    "xtrim",
    "zrem",
    "zremrangebylex",
    "zremrangebyrank",
    "zremrangebyscore",
];

/// Does this command need no memory, and is its reply the same when a script calls it?
pub fn frees(command: &Command, args: Args, dialect: u8) -> bool {
    let plain = match command.name {
        "lpop" | "rpop" | "spop" => args.len() == 2,
        // Scores are strings in RESP2 and numbers in RESP3.
        "zpopmin" | "zpopmax" => return dialect == 2,
        name => PLAIN.contains(&name),
    };
    plain && command.flags.has(Flags::WRITE) && !command.flags.has(Flags::DENYOOM)
}
