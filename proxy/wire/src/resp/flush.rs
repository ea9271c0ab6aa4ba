//! FLUSHALL and FLUSHDB in the log: everything goes but the keys by which a group knows its servers.
//!
//! They travel as a script, which does the same on every server and in one piece. It empties database 0, the only
//! one that is served, and always in the background: a server that is busy with it would be taken for dead.

use super::transaction::Reserved;
use super::{Args, encode};
use bytes::Bytes;

macro_rules! empties {
    () => {
        "local function empties(keys) local kept={} \
for i,key in ipairs(keys) do kept[i]=redis.call('DUMP',key) end redis.call('FLUSHDB','ASYNC') \
for i,key in ipairs(keys) do if kept[i] then redis.call('RESTORE',key,'0',kept[i]) end end \
return {ok='OK'} end "
    };
}

/// Empties the database but for some keys, as a function of Lua.
pub(super) const EMPTIES: &str = empties!();

/// What an entry runs; also what such a command is known by.
const FLUSH: &str = concat!(empties!(), "return empties(KEYS)");

/// The command of the log for FLUSHALL or FLUSHDB with these arguments; `None` where servers answer a syntax error.
pub fn flush(reserved: &Reserved, args: Args) -> Option<Bytes> {
    let known = |arg: &[u8]| arg.eq_ignore_ascii_case(b"ASYNC") || arg.eq_ignore_ascii_case(b"SYNC");
    if args.len() > 2 || !args.from(1).all(known) {
        return None;
    }
    let keys: Vec<&[u8]> = reserved.all().map(str::as_bytes).collect();
    let count = keys.len().to_string();
    let head = [&b"EVAL"[..], FLUSH.as_bytes(), count.as_bytes()];
    Some(encode::command_bytes(&head.into_iter().chain(keys).collect::<Vec<_>>()))
}

/// Does this command of the log empty the database?
pub fn is_flush(args: Args) -> bool {
    args.get(1) == Some(FLUSH.as_bytes()) && args.get(0) == Some(b"EVAL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::each_command;

    fn of(words: &[&[u8]]) -> Option<Bytes> {
        let mut made = None;
        each_command(&encode::command_bytes(words), |_, args| made = Some(flush(&Reserved::new("g"), args)));
        made.flatten()
    }

    #[test]
    fn it_keeps_the_keys_of_the_group_and_is_known() {
        for words in [&[&b"FLUSHALL"[..]][..], &[b"flushdb", b"sync"], &[b"FLUSHALL", b"ASYNC"]] {
            let command = of(words).expect("right");
            assert!(command.windows(16).any(|part| part == b"__quorate:{g}:po"));
            let mut known = false;
            each_command(&command, |_, args| known = is_flush(args));
            assert!(known);
        }
    }

    #[test]
    fn wrong_arguments_are_an_error() {
        assert_eq!(of(&[b"FLUSHALL", b"NOW"]), None);
        assert_eq!(of(&[b"FLUSHDB", b"ASYNC", b"SYNC"]), None);
    }
}
