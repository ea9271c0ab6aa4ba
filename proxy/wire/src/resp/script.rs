//! Entries as a script, for a server that is out of memory.
//!
//! Such a server refuses every command inside `MULTI` (Redis) or at least `SET` and `RPUSH` (Valkey), so that no
//! transaction could ever free memory. A script is taken, and once it has written anything a server does not stop
//! it for want of memory. Only for entries of commands that need none, and whose replies a script gives as they are.

use super::decode::each_command;
use super::encode;
use super::expiry;
use super::flush::{self, is_flush};
use super::tail;
use super::transaction::{Framer, TransactionReader, trim};
use crate::command;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::Entry;
use std::sync::Arc;

/// More arguments than this in one command do not fit on a script's stack.
const ARGUMENTS: usize = 4000;

/// Ours first: nothing of it can fail, and an error of the clients' commands ends nothing.
/// `PERSIST` changes nothing, and is the write after which memory is no reason to stop.
/// A script calls no script: what ends keys is part of this one, and its arguments follow the word `EVAL`.
const SCRIPT: &str = "redis.call('PERSIST',KEYS[1]) redis.call('SET',KEYS[1],ARGV[1])\n\
local a,first=ARGV,4+tonumber(ARGV[3])\n\
if first>4 then redis.call('RPUSH',KEYS[2],unpack(a,4,first-1)) end\n\
if a[2]~='0' then redis.call('LTRIM',KEYS[2],'-'..a[2],'-1') end\n\
local replies,n={},0\n\
while a[first] do local last=first+tonumber(a[first]) n=n+1 \
if a[first+1]=='FLUSH' then replies[n]=empties({unpack(a,first+2,last)}) \
elseif a[first+1]=='EVAL' then replies[n]=ends({unpack(a,first+4,last-1)},tonumber(a[last])) \
else replies[n]=redis.pcall(unpack(a,first+1,last)) end \
if a[first+1]=='PUBLISH' or a[first+1]=='SPUBLISH' then replies[n]=0 end first=last+1 end\n\
replies[n+1]={ok='OK'} return replies";

impl Framer {
    /// The script that applies these entries; `None` where no script can.
    pub fn script(&self, entries: &[Arc<Entry>]) -> Option<Vec<Bytes>> {
        let last = entries.last()?;
        let mut commands = BytesMut::new();
        let mut count = 0;
        for entry in entries {
            count += script_arguments(entry, &mut commands)?;
        }
        let (tails, keep) = if self.tail { (entries.len(), trim(entries)) } else { (0, 0) };
        let script = [expiry::ENDS, flush::EMPTIES, SCRIPT].concat();
        let mut out = BytesMut::with_capacity(commands.len() * 2 + script.len() + 512);
        encode::header(b'*', 8 + tails + count, &mut out);
        let (position, keep) = (last.position.to_string(), keep.to_string());
        let head: [&[u8]; 7] = [
            b"EVAL",
            script.as_bytes(),
            b"2",
            self.keys.position.as_bytes(),
            self.keys.tail.as_bytes(),
            position.as_bytes(),
            keep.as_bytes(),
        ];
        head.iter().for_each(|argument| encode::bulk(argument, &mut out));
        encode::bulk(tails.to_string().as_bytes(), &mut out);
        entries.iter().take(tails).for_each(|entry| tail::element(entry, &mut out));
        out.extend_from_slice(&commands);
        Some(vec![out.freeze()])
    }

    /// A reader for the answer to [`Self::script`] of these entries.
    pub fn script_reader(&self, entries: &[Arc<Entry>]) -> TransactionReader {
        TransactionReader::of_script(entries.iter().map(|entry| entry.commands).collect())
    }
}

/// Appends each command of an entry as the number of its arguments and these; how many were appended.
fn script_arguments(entry: &Entry, out: &mut BytesMut) -> Option<usize> {
    let mut payload = BytesMut::with_capacity(entry.len());
    entry.payload.iter().for_each(|part| payload.extend_from_slice(part));
    let (mut count, mut fits) = (0, true);
    let whole = each_command(&payload.freeze(), |_, args| {
        // A script calls no script: the message itself goes along, and its count is made the same everywhere.
        let message = command::published(args);
        let args = message.unwrap_or(args);
        let ends_keys = args.len() > 4 && &args[0] == b"EVAL" && &args[1] == expiry::CHECK.as_bytes();
        let frees = message.is_some()
            || ends_keys
            || command::resolve(args).is_ok_and(|c| command::frees(c, args, entry.dialect));
        if is_flush(args) {
            let keys = args.from(3);
            encode::bulk((1 + keys.len()).to_string().as_bytes(), out);
            encode::bulk(b"FLUSH", out);
            count += 2 + keys.len();
            return keys.for_each(|key| encode::bulk(key, out));
        }
        fits &= frees && args.len() <= ARGUMENTS;
        encode::bulk(args.len().to_string().as_bytes(), out);
        args.from(0).for_each(|argument| encode::bulk(argument, out));
        count += 1 + args.len();
    });
    (whole && fits).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Outcome, Reserved};
    use quorate_core::ordered::Position;

    fn entry(commands: &[&[&[u8]]], trim: u32) -> Arc<Entry> {
        let payload = commands.iter().map(|args| encode::command_bytes(args)).collect();
        let position = Position { epoch: 1, seq: 5, hash: 0 };
        let commands = commands.len() as u32;
        Arc::new(Entry { position, payload, commands, dialect: 2, trim, elided: false, whole: vec![] })
    }

    fn framer() -> Framer {
        Framer::new(Reserved::new("g"), true)
    }

    #[test]
    fn what_frees_memory_travels_with_position_and_tail() {
        let frees = entry(&[&[b"DEL", b"a", b"b"], &[b"LPOP", b"l"]], 3);
        let image = framer().script(&[frees]).expect("it frees");
        let (mut seen, mut at) = (Vec::new(), 0);
        assert!(each_command(&image[0], |_, args| {
            seen = args.from(5).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
            at += 1;
        }));
        assert_eq!(at, 1, "one command");
        assert_eq!(&seen[..3], ["1:5:0000000000000000", "3", "1"]);
        assert_eq!(&seen[4..], ["3", "DEL", "a", "b", "2", "LPOP", "l"]);
    }

    #[test]
    fn what_needs_memory_or_answers_otherwise_does_not() {
        let refused: [&[&[u8]]; 4] =
            [&[b"SET", b"a", b"1"], &[b"LPOP", b"l", b"2"], &[b"LMPOP", b"1", b"l", b"LEFT"], &[b"NOSUCH"]];
        for command in refused {
            assert!(framer().script(&[entry(&[&[b"DEL", b"k"], command], 0)]).is_none(), "{command:?}");
        }
        assert!(framer().script(&[entry(&[], 0)]).is_some(), "a barrier");
    }

    #[test]
    fn replies_are_those_of_a_transaction() {
        let frees = entry(&[&[b"DEL", b"a"], &[b"LPOP", b"l"]], 0);
        let mut reader = framer().script_reader(std::slice::from_ref(&frees));
        let mut answer = BytesMut::from(&b"*3\r\n:1\r\n$-1\r\n+OK\r\n"[..]);
        let Ok(Some(Outcome::Applied(replies))) = reader.read(&mut answer) else { panic!("applied") };
        assert_eq!(replies[0].bytes.as_ref(), b":1\r\n$-1\r\n");
        let mut reader = framer().script_reader(std::slice::from_ref(&frees));
        let mut answer = BytesMut::from(&b"-OOM no\r\n"[..]);
        assert!(matches!(reader.read(&mut answer), Ok(Some(Outcome::Refused(_)))));
        let mut reader = framer().script_reader(&[frees]);
        assert!(reader.read(&mut BytesMut::from(&b"-ERR it stopped\r\n"[..])).is_err());
    }
}
