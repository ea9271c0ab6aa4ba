//! Copying keys whole between servers: DUMP and PEXPIRETIME on one, RESTORE on the other.
//!
//! A RESTORE can fail inside EXEC without stopping the others, so a script writes the values, and their position
//! once all of them are there.

use super::flush::is_flush;
use super::transaction::{RESERVED_PREFIX, Reserved};
use super::value::Value;
use super::{Args, each_command, encode, expiry, trial};
use crate::command::{self, Carry, Command, Flags, Scripting};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{ByValue, Keys, Outcome, Position, Request, TrialId, Tried, UnixMs};

/// A script of a client without keys, which may change any.
fn names_no_key(known: &Command, args: Args) -> bool {
    let runs = matches!(command::classify(known, args), Carry::Script(Scripting::Eval));
    runs && command::published(args).is_none() && command::first_key(known, args).is_none()
}

/// Makes keys what they were elsewhere, the group's tail the first of them, then writes the position and removes the
/// marks. What fails at the first key changed nothing. Later it leaves the mark of half a copy.
pub const PUT: &str = "local puts=#KEYS-3 for i=1,puts do local at,done=ARGV[2*i] \
if at=='' then done=redis.pcall('DEL',KEYS[i]) \
else done=redis.pcall('RESTORE',KEYS[i],at,ARGV[2*i+1],'REPLACE','ABSTTL') end \
if type(done)=='table' and done.err then \
if i>1 then redis.call('SET',KEYS[puts+2],'1') end return done end end \
redis.call('SET',KEYS[puts+1],ARGV[1]) redis.call('DEL',KEYS[puts+2],KEYS[puts+3]) \
return redis.status_reply('OK')";

/// Copies keys between servers of one group.
#[derive(Debug, Clone)]
pub struct Copier {
    reserved: Reserved,
}

impl Copier {
    /// For the group with these reserved keys.
    pub fn new(reserved: Reserved) -> Self {
        Self { reserved }
    }
}

impl ByValue for Copier {
    fn touched(&self, payload: &[Bytes], keys: &mut Keys) -> bool {
        let whole = match payload {
            [one] => one.clone(),
            many => many.concat().into(),
        };
        let mut known_all = true;
        let whole = each_command(&whole, |_, args| {
            known_all &= !is_flush(args);
            // What is no command was refused by every server. A transaction may hold reads, which touch nothing.
            let Ok(known) = command::resolve(args) else { return };
            // Functions are under no key.
            known_all &= !(known.name.starts_with("function|") && known.flags.has(Flags::WRITE));
            known_all &= !names_no_key(known, args);
            if !matches!(command::classify(known, args), Carry::Read | Carry::Deadline(_)) {
                add_keys(known, args, keys);
            }
        });
        whole && known_all
    }

    fn named(&self, payload: &Bytes, keys: &mut Keys) -> bool {
        each_command(payload, |_, args| {
            if let Ok(known) = command::resolve(args) {
                add_keys(known, args, keys);
            }
        })
    }

    fn fetch(&self, keys: &Keys) -> Request {
        let mut commands = Commands::default();
        commands.add(&[b"DUMP", self.reserved.tail.as_bytes()]);
        for key in keys {
            commands.add(&[b"DUMP", key]);
            commands.add(&[b"PEXPIRETIME", key]);
        }
        commands.finish()
    }

    fn store(&self, keys: &Keys, fetched: &Bytes, at: Position) -> Option<Request> {
        let replies = Value::parse_all(fetched)?;
        let (tail, values) = replies.split_first()?;
        if values.len() != keys.len() * 2 {
            return None;
        }
        let mut puts = vec![Put::of(tail, &Value::Integer(-1))?];
        for pair in values.chunks(2) {
            puts.push(Put::of(&pair[0], &pair[1])?);
        }
        let Reserved { position, tail, partial, trial, .. } = &self.reserved;
        let (count, at) = ((puts.len() + 3).to_string(), at.to_string());
        let mut words = vec![&b"EVAL"[..], PUT.as_bytes(), count.as_bytes(), tail.as_bytes()];
        words.extend(keys.iter().map(AsRef::<[u8]>::as_ref));
        words.extend([position.as_bytes(), partial.as_bytes(), trial.as_bytes(), at.as_bytes()]);
        words.extend(puts.iter().flat_map(|put| [put.deadline.as_bytes(), put.dump]));
        let mut commands = Commands::default();
        commands.add(&words);
        Some(commands.finish())
    }

    fn succeeded(&self, answer: &Bytes) -> bool {
        Value::parse_all(answer)
            .is_some_and(|all| matches!(all.as_slice(), [Value::Simple(ok)] if ok.as_ref() == b"OK"))
    }

    fn expire(&self, keys: &[Bytes], now: UnixMs) -> Bytes {
        expiry::check(keys, now)
    }

    fn deadlines(&self, answer: &Bytes, keys: usize) -> Option<Vec<Option<UnixMs>>> {
        expiry::checked(answer, keys)
    }

    fn bucket(&self, key: &[u8]) -> u16 {
        command::key_hash(key) as u16
    }

    fn trial(&self, id: TrialId, payload: &[Bytes]) -> Option<(Request, Keys)> {
        trial::trial(&self.reserved, id, payload)
    }

    fn tried(&self, id: TrialId, payload: &[Bytes], answer: &Bytes) -> Tried {
        trial::tried(&self.reserved, id, payload, answer)
    }

    fn adopt(&self, id: TrialId, keys: &Keys, fetched: &Bytes) -> Option<Outcome> {
        trial::adopt(&self.reserved, id, keys, fetched)
    }

    fn settles(&self, payload: &[Bytes], id: TrialId) -> bool {
        trial::settles(&self.reserved, payload, id)
    }

    fn all_done(&self, replies: &Bytes) -> bool {
        trial::all_done(replies)
    }
}

/// What becomes of a key.
struct Put<'a> {
    /// As RESTORE takes it with ABSTTL; empty for a key that is gone.
    deadline: String,
    dump: &'a [u8],
}

impl<'a> Put<'a> {
    /// What DUMP and PEXPIRETIME said of it. `None` when they said nothing of use.
    fn of(dump: &'a Value, deadline: &Value) -> Option<Put<'a>> {
        match (dump, deadline) {
            // -2: it was there, and expired before its deadline was asked for.
            (Value::Null, _) | (_, Value::Integer(-2)) => Some(Put { deadline: String::new(), dump: b"" }),
            (dump, Value::Integer(at)) => {
                Some(Put { deadline: (*at).max(0).to_string(), dump: dump.bytes()? })
            }
            _ => None,
        }
    }
}

/// The reserved keys, which the proxy itself asks for beside some commands of clients, are each server's own.
fn add_keys(known: &Command, args: Args, keys: &mut Keys) {
    command::keys(known, args, &mut |key| {
        if !key.starts_with(RESERVED_PREFIX) {
            keys.insert(Bytes::copy_from_slice(key));
        }
    });
}

#[derive(Default)]
struct Commands {
    bytes: BytesMut,
    count: u32,
}

impl Commands {
    fn add(&mut self, words: &[&[u8]]) {
        encode::command(words.iter().copied(), &mut self.bytes);
        self.count += 1;
    }

    fn finish(self) -> Request {
        Request { payload: self.bytes.freeze(), commands: self.count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Among them is what the proxy itself asks for in a transaction, with keys that must never be copied.
    #[test]
    fn a_read_inside_a_transaction_touches_nothing() {
        let reserved = Reserved::new("g");
        let commands: [&[&[u8]]; 4] = [
            &[b"SET", b"a", b"1"],
            &[b"GET", b"b"],
            &[b"EXISTS", reserved.position.as_bytes()],
            &[b"COPY", b"c", b"d"],
        ];
        let payload = commands.map(encode::command_bytes).to_vec();
        let mut keys = Keys::new();
        assert!(Copier::new(reserved).touched(&payload, &mut keys));
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["a", "c", "d"]);
    }

    #[test]
    fn a_script_touches_what_it_names_and_without_a_name_anything() {
        let touched = |words: &[&[u8]]| {
            let mut keys = Keys::new();
            let known = Copier::new(Reserved::new("g")).touched(&[encode::command_bytes(words)], &mut keys);
            known.then(|| keys.into_iter().collect::<Vec<_>>())
        };
        let named: &[&[u8]] = &[b"EVAL", b"return 1", b"2", b"a", b"b", b"x"];
        assert_eq!(touched(named), Some(vec!["a".into(), "b".into()]));
        assert_eq!(touched(&[b"EVAL", b"return 1", b"0", b"x"]), None);
        let publish: &[&[u8]] =
            &[b"EVAL", b"redis.call(ARGV[1],ARGV[2],ARGV[3]) return 0", b"0", b"PUBLISH", b"c", b"m"];
        assert_eq!(touched(publish), Some(vec![]), "a message is under no key");
    }

    #[test]
    fn a_key_that_expired_while_it_was_read_is_gone() {
        let copier = Copier::new(Reserved::new("g"));
        let keys = Keys::from([Bytes::from_static(b"k")]);
        let store = |deadline: &str| {
            let answer = Bytes::from(format!("$-1\r\n$1\r\nx\r\n:{deadline}\r\n"));
            copier.store(&keys, &answer, Position::default()).expect("a full answer").payload
        };
        let has = |payload: Bytes, word: &[u8]| payload.windows(word.len()).any(|part| part == word);
        let at = b"0:0:0000000000000000\r\n$0\r\n\r\n$0\r\n\r\n";
        assert!(has(store("-2"), &[&at[..], b"$0\r\n\r\n$0\r\n\r\n"].concat()));
        assert!(has(store("-1"), &[&at[..], b"$1\r\n0\r\n$1\r\nx\r\n"].concat()));
    }

    /// A check of them would be an entry that touches them, and mending would copy them.
    #[test]
    fn the_keys_of_the_group_are_never_among_those_of_clients() {
        let copier = Copier::new(Reserved::new("g"));
        let payload = encode::command_bytes(&[b"EXISTS", b"__quorate:{g}:pos", b"a"]);
        let (mut named, mut touched) = (Keys::new(), Keys::new());
        assert!(copier.named(&payload, &mut named));
        assert_eq!(named.into_iter().collect::<Vec<_>>(), ["a"]);
        let check = copier.expire(&[Bytes::from_static(b"__quorate:{g}:run"), Bytes::from_static(b"b")], 1);
        assert!(copier.touched(&[check], &mut touched));
        assert_eq!(touched.into_iter().collect::<Vec<_>>(), ["b"]);
    }
}
