//! Commands that run on one server before they are an entry: the request, and what they did as commands that do
//! the same everywhere.
//!
//! In one `MULTI`: the mark, the deadlines of the keys brought forward so that scripts see true ones, the
//! commands, and the questions from whose answers their effects are known. In general these are the values of
//! all keys that the commands name; for `SPOP` and `XREADGROUP` the reply tells enough.

use super::encode;
use super::expiry::{RELEASE, brought_forward, set_back};
use super::reply::{Scanner, is_environment_error};
use super::transaction::{RESERVED_PREFIX, Reserved};
use super::value::Value;
use super::{Args, each_command};
use crate::command::{self, Command};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{
    Ends, Keys, Outcome, Replies, Request, Timed, TrialId, TrialMark, Tried, UnixMs,
};

/// Commands of a trial before those of the clients, and before those that make consumers known.
const BEFORE: usize = 3;

/// What the commands of a trial are, as far as their effects go.
struct Commands {
    count: usize,
    /// Every key that they name.
    keys: Keys,
    /// Keys whose values must be asked for.
    whole: Keys,
    /// Streams of which something new was given to members of groups.
    streams: Keys,
    /// By command: what its reply tells.
    told: Vec<Told>,
}

/// What the reply to a command tells of its effect.
#[derive(Default)]
enum Told {
    /// Not enough.
    #[default]
    Nothing,
    /// The members that it took from this set.
    Popped(Bytes),
    /// The ids that a member of a group was given.
    Delivered(Box<GroupRead>),
}

/// An `XREADGROUP` of what is new.
struct GroupRead {
    group: Bytes,
    consumer: Bytes,
    /// What is given is not noted as pending.
    no_ack: bool,
    keys: Vec<Bytes>,
}

impl GroupRead {
    /// `None` where something is read again: that changes what the reply does not show.
    fn read(known: &Command, args: Args) -> Option<GroupRead> {
        let shape = command::group_read(known, args)?;
        let word = |at: usize| args.get(at).map(Bytes::copy_from_slice);
        Some(GroupRead {
            group: word(shape.group)?,
            consumer: word(shape.group + 1)?,
            no_ack: shape.no_ack,
            keys: shape.keys.filter_map(word).collect(),
        })
    }
}

impl Commands {
    fn read(payload: &[Bytes]) -> Option<Commands> {
        let mut all = Commands {
            count: 0,
            keys: Keys::new(),
            whole: Keys::new(),
            streams: Keys::new(),
            told: Vec::new(),
        };
        let is_read = payload.iter().all(|part| each_command(part, |_, args| all.take(args)));
        is_read.then_some(all)
    }

    fn take(&mut self, args: Args) {
        self.count += 1;
        let Ok(known) = command::resolve(args) else { return self.told.push(Told::Nothing) };
        let told = match known.name {
            "spop" => args.get(1).map(|key| Told::Popped(Bytes::copy_from_slice(key))),
            "xreadgroup" => GroupRead::read(known, args).map(|read| Told::Delivered(Box::new(read))),
            _ => None,
        };
        let told = told.unwrap_or_default();
        command::keys(known, args, &mut |key| {
            // The proxy's own questions beside a client's name them; they are each server's own.
            if key.starts_with(RESERVED_PREFIX) {
                return;
            }
            let key = Bytes::copy_from_slice(key);
            match &told {
                Told::Nothing => drop(self.whole.insert(key.clone())),
                Told::Popped(_) => {}
                Told::Delivered(_) => drop(self.streams.insert(key.clone())),
            }
            self.keys.insert(key);
        });
        self.told.push(told);
    }

    /// Streams of which only the groups are asked for.
    fn grouped(&self) -> impl Iterator<Item = &Bytes> {
        self.streams.difference(&self.whole)
    }

    /// Reads of what is new in groups.
    fn reads(&self) -> impl Iterator<Item = &GroupRead> {
        self.told.iter().filter_map(|told| match told {
            Told::Delivered(read) => Some(&**read),
            Told::Nothing | Told::Popped(_) => None,
        })
    }
}

/// Makes a consumer known to the groups that it is about to read from, or to none where one of them is not there.
///
/// A server that gives a consumer nothing keeps it in memory or does not, and writes it to its append-only file or
/// does not, as its version likes. One that was created before reads is known to all of them, and stays so.
const MAKE_KNOWN: &str = "local function fails(...) local r=redis.pcall(...) return type(r)=='table' and r.err end \
for _,key in ipairs(KEYS) do if fails('XPENDING',key,ARGV[1]) then return 0 end end \
for _,key in ipairs(KEYS) do if fails('XGROUP','CREATECONSUMER',key,ARGV[1],ARGV[2]) then return 0 end end return 1";

fn make_known(read: &GroupRead, out: &mut BytesMut) {
    let count = read.keys.len().to_string();
    let head = [&b"EVAL"[..], MAKE_KNOWN.as_bytes(), count.as_bytes()];
    let words = head.into_iter().chain(read.keys.iter().map(AsRef::as_ref));
    encode::command(words.chain([&read.group[..], &read.consumer]).collect::<Vec<_>>(), out);
}

/// The text of a mark, as a command that nobody runs: its words are the trial and its keys.
fn mark_text(id: TrialId, keys: &Keys) -> Bytes {
    let id = id.to_string();
    let words = [id.as_bytes()].into_iter().chain(keys.iter().map(AsRef::as_ref));
    let mut out = BytesMut::new();
    encode::command(words.collect::<Vec<_>>(), &mut out);
    out.freeze()
}

/// Reads a mark, as it stands in a server.
pub fn parse_mark(text: &Bytes) -> Option<TrialMark> {
    let value = Value::parse(text)?;
    let (id, keys) = value.items().split_first()?;
    let keys: Option<Keys> = keys.iter().map(|key| key.bytes().cloned()).collect();
    Some(TrialMark { trial: id.text()?.parse().ok()?, keys: keys? })
}

/// The command that ends a mark. The second key never exists: it says which trial this is.
fn unmark(reserved: &Reserved, id: TrialId) -> Bytes {
    let name = format!("{}:{id}", reserved.trial);
    encode::command_bytes(&[b"DEL", reserved.trial.as_bytes(), name.as_bytes()])
}

/// See [`quorate_core::ordered::ByValue::settles`].
pub(super) fn settles(reserved: &Reserved, payload: &[Bytes], id: TrialId) -> bool {
    payload.last().is_some_and(|last| last.ends_with(&unmark(reserved, id)))
}

/// See [`quorate_core::ordered::ByValue::trial`].
pub(super) fn trial(reserved: &Reserved, id: TrialId, payload: &[Bytes]) -> Option<(Request, Keys)> {
    let commands = Commands::read(payload)?;
    let mut out = BytesMut::with_capacity(payload.iter().map(Bytes::len).sum::<usize>() + 512);
    encode::command([&b"MULTI"[..]], &mut out);
    let mark = mark_text(id, &commands.keys);
    encode::command([&b"SET"[..], reserved.trial.as_bytes(), &mark], &mut out);
    let whole = &commands.whole;
    let count = whole.len().to_string();
    let head = [&b"EVAL"[..], RELEASE.as_bytes(), count.as_bytes()];
    encode::command(head.into_iter().chain(whole.iter().map(AsRef::as_ref)).collect::<Vec<_>>(), &mut out);
    commands.reads().for_each(|read| make_known(read, &mut out));
    payload.iter().for_each(|part| out.extend_from_slice(part));
    for key in whole {
        encode::command([&b"DUMP"[..], key], &mut out);
        encode::command([&b"PEXPIRETIME"[..], key], &mut out);
    }
    for key in commands.grouped() {
        encode::command([&b"XINFO"[..], b"GROUPS", key], &mut out);
    }
    encode::command([&b"TIME"[..]], &mut out);
    // A script that empties a server takes these with it.
    encode::command([&b"EXISTS"[..], reserved.position.as_bytes(), reserved.trial.as_bytes()], &mut out);
    encode::command([&b"EXEC"[..]], &mut out);
    let asked = 2 * whole.len() + commands.grouped().count();
    let commands_count = u32::try_from(6 + commands.reads().count() + commands.count + asked).ok()?;
    Some((Request { payload: out.freeze(), commands: commands_count }, commands.keys))
}

/// See [`quorate_core::ordered::ByValue::tried`].
pub(super) fn tried(reserved: &Reserved, id: TrialId, payload: &[Bytes], answer: &Bytes) -> Tried {
    let (Some(lines), Some(commands)) = (split(answer), Commands::read(payload)) else {
        return Tried::Unclear;
    };
    let Some((exec, queued)) = lines.split_last() else { return Tried::Unclear };
    let errors = || queued.iter().chain([exec]).filter(|line| line.starts_with(b"-"));
    let text = |line: &Bytes| line.slice(1..).slice(..line.len().saturating_sub(3));
    // What is wrong with the server comes before what is wrong with a command.
    if let Some(error) = errors().find(|line| is_environment_error(trimmed(line))) {
        return Tried::Refused(text(error));
    }
    // Before the commands there are those of `trial`.
    let culprit = queued.iter().position(|line| line.starts_with(b"-"));
    if let Some(error) = errors().next() {
        let before = BEFORE + commands.reads().count();
        let number = culprit.and_then(|at| u32::try_from(at.checked_sub(before)?).ok());
        return Tried::Rejected(number.unwrap_or(u32::MAX), text(error));
    }
    outcome(reserved, id, &commands, exec).unwrap_or(Tried::Unclear)
}

fn trimmed(line: &Bytes) -> &[u8] {
    line.strip_suffix(b"\r\n").unwrap_or(line)
}

/// The replies, each by itself.
fn split(replies: &Bytes) -> Option<Vec<Bytes>> {
    let (mut rest, mut scanner, mut found) = (replies.clone(), Scanner::default(), Vec::new());
    while !rest.is_empty() {
        let len = scanner.next(&rest).ok()??;
        found.push(rest.split_to(len));
    }
    Some(found)
}

/// The elements of an array, a set or a map, in either protocol version. `None` for anything else, and for a null.
fn elements(reply: &Bytes) -> Option<Vec<Bytes>> {
    let end = memchr::memchr(b'\n', reply)?;
    let count: usize = std::str::from_utf8(reply.get(1..end.checked_sub(1)?)?).ok()?.parse().ok()?;
    let found = split(&reply.slice(end + 1..))?;
    let count = if reply[0] == b'%' { count.checked_mul(2)? } else { count };
    (matches!(reply[0], b'*' | b'~' | b'%') && found.len() == count).then_some(found)
}

/// The bytes of a string.
fn bulk(reply: &Bytes) -> Option<Bytes> {
    match Value::parse(reply)? {
        Value::Bulk(bytes) => Some(bytes),
        _ => None,
    }
}

fn outcome(reserved: &Reserved, id: TrialId, commands: &Commands, exec: &Bytes) -> Option<Tried> {
    let all = elements(exec)?;
    let replies_from = 2 + commands.reads().count();
    let values_from = replies_from + commands.count;
    let groups_from = values_from + 2 * commands.whole.len();
    let time_at = groups_from + commands.grouped().count();
    let whole = all.len() == time_at + 2;
    if whole && all[time_at + 1] != b":2\r\n"[..] {
        return Some(Tried::Emptied);
    }
    let intact =
        all.first()? == &b"+OK\r\n"[..] && all.get(1)?.starts_with(b":") && all.last()? == &b":2\r\n"[..];
    if !whole || !intact {
        return None;
    }
    let mut out = Effects::default();
    let replies = &all[replies_from..values_from];
    let time = milliseconds(&all[time_at])?;
    let mut known = all[2..replies_from].iter().map(|reply| reply == &b":1\r\n"[..]);
    for (told, reply) in commands.told.iter().zip(replies) {
        match told {
            Told::Popped(key) if !commands.whole.contains(key) => out.remove(key, reply),
            Told::Delivered(read) => {
                // A group that an earlier command of the same transaction made was not there before.
                let is_known = known.next()? || !reply.starts_with(b"-");
                out.deliver(read, &commands.whole, is_known.then_some(reply), &time);
            }
            Told::Nothing | Told::Popped(_) => {}
        }
    }
    for (key, groups) in commands.grouped().zip(&all[groups_from..time_at]) {
        out.set_groups(key, groups, &commands.told);
    }
    for (key, pair) in commands.whole.iter().zip(all[values_from..groups_from].chunks_exact(2)) {
        let Value::Integer(deadline) = Value::parse(&pair[1])? else { return None };
        let dump = bulk(&pair[0]);
        if dump.is_none() && !matches!(pair[0].first(), Some(b'_' | b'$')) {
            return None;
        }
        out.hold(key, dump.as_ref(), deadline);
    }
    Some(Tried::Ran(out.finish(reserved, id, taken(replies))))
}

/// The reply to `TIME`, in milliseconds.
fn milliseconds(reply: &Bytes) -> Option<String> {
    let parts = elements(reply)?;
    let number = |at: usize| std::str::from_utf8(&bulk(parts.get(at)?)?).ok()?.parse::<u64>().ok();
    Some((number(0)? * 1000 + number(1)? / 1000).to_string())
}

/// Keys and their entries, from the reply to a read of streams.
fn entries_of(reply: &Bytes) -> Vec<(Bytes, Vec<Bytes>)> {
    let mut outer = elements(reply).unwrap_or_default();
    if reply.starts_with(b"*") {
        outer = outer.iter().flat_map(|pair| elements(pair).unwrap_or_default()).collect();
    }
    let pair = |pair: &[Bytes]| {
        let entries = elements(&pair[1]).unwrap_or_default();
        let id = |entry: &Bytes| bulk(elements(entry)?.first()?);
        Some((bulk(&pair[0])?, entries.iter().filter_map(id).collect()))
    };
    outer.chunks_exact(2).filter_map(pair).collect()
}

/// The replies of the commands, one after the other.
fn taken(replies: &[Bytes]) -> Replies {
    let mut taken = Replies { bytes: replies.concat().into(), ends: Vec::with_capacity(replies.len()) };
    let mut end = 0;
    for reply in replies {
        end += reply.len() as u32;
        taken.ends.push(end);
    }
    taken
}

/// See [`quorate_core::ordered::ByValue::adopt`].
pub(super) fn adopt(reserved: &Reserved, id: TrialId, keys: &Keys, fetched: &Bytes) -> Option<Outcome> {
    let answers = Value::parse_all(fetched)?;
    let (_, values) = answers.split_first()?;
    let mut out = Effects::default();
    if values.len() != keys.len() * 2 {
        return None;
    }
    for (key, pair) in keys.iter().zip(values.chunks_exact(2)) {
        match pair {
            [Value::Null, Value::Integer(_)] => out.hold(key, None, -2),
            [Value::Bulk(dump), Value::Integer(deadline)] => out.hold(key, Some(dump), *deadline),
            _ => return None,
        }
    }
    Some(out.finish(reserved, id, Replies::default()))
}

/// See [`quorate_core::ordered::ByValue::all_done`].
pub(super) fn all_done(replies: &Bytes) -> bool {
    split(replies).is_some_and(|all| all.iter().all(|reply| !reply.starts_with(b"-")))
}

#[derive(Default)]
struct Effects {
    bytes: BytesMut,
    count: u32,
    timed: Vec<Timed>,
}

impl Effects {
    fn add<'a>(&mut self, words: impl IntoIterator<Item = &'a [u8]>) {
        encode::command(words.into_iter().collect::<Vec<_>>(), &mut self.bytes);
        self.count += 1;
    }

    /// Takes the members of the reply to `SPOP` out of a set.
    fn remove(&mut self, key: &Bytes, reply: &Bytes) {
        let members: Vec<Bytes> = match elements(reply) {
            Some(members) => members.iter().filter_map(bulk).collect(),
            None => bulk(reply).into_iter().collect(),
        };
        if !members.is_empty() {
            self.add([&b"SREM"[..], key].into_iter().chain(members.iter().map(AsRef::as_ref)));
        }
    }

    /// Notes a member of a group, and what it was given. Without a reply the group was not there.
    fn deliver(&mut self, read: &GroupRead, whole: &Keys, reply: Option<&Bytes>, time: &str) {
        let Some(reply) = reply else { return };
        for key in read.keys.iter().filter(|key| !whole.contains(*key)) {
            self.add([&b"XGROUP"[..], b"CREATECONSUMER", key, &read.group, &read.consumer]);
        }
        for (key, ids) in entries_of(reply) {
            if read.no_ack || ids.is_empty() || whole.contains(&key) {
                continue;
            }
            let head = [&b"XCLAIM"[..], &key, &read.group, &read.consumer, b"0"];
            let noted = [&b"TIME"[..], time.as_bytes(), b"RETRYCOUNT", b"1", b"FORCE", b"JUSTID"];
            self.add(head.into_iter().chain(ids.iter().map(AsRef::as_ref)).chain(noted));
        }
    }

    /// Brings the groups of a stream that were read from to where they stand, from the reply to `XINFO GROUPS`.
    fn set_groups(&mut self, key: &Bytes, groups: &Bytes, told: &[Told]) {
        let reads = |name: &Bytes| {
            told.iter().any(|told| {
                matches!(told, Told::Delivered(read) if read.group == *name && read.keys.contains(key))
            })
        };
        for group in elements(groups).unwrap_or_default() {
            let fields = elements(&group).unwrap_or_default();
            let field = |name: &[u8]| {
                let named = |pair: &&[Bytes]| bulk(&pair[0]).is_some_and(|found| found == name);
                fields.chunks_exact(2).find(named).map(|pair| &pair[1])
            };
            let Some(name) = field(b"name").and_then(bulk).filter(|name| reads(name)) else { continue };
            let Some(last) = field(b"last-delivered-id").and_then(bulk) else { continue };
            let count = field(b"entries-read")
                .filter(|count| count.starts_with(b":"))
                .map(|n| n.slice(1..n.len() - 2));
            let words = [&b"XGROUP"[..], b"SETID", key, &name, &last];
            let counted = count.iter().flat_map(|count| [&b"ENTRIESREAD"[..], count]);
            self.add(words.into_iter().chain(counted));
        }
    }

    /// Makes a key hold this value, with its deadline as the server said it.
    fn hold(&mut self, key: &Bytes, dump: Option<&Bytes>, deadline: i64) {
        // It may have ended between the two questions.
        let Some(dump) = dump.filter(|_| deadline != -2) else { return self.add([&b"DEL"[..], key]) };
        if deadline < 0 {
            return self.add([&b"RESTORE"[..], key, b"0", dump, b"REPLACE"]);
        }
        let kept = match brought_forward(deadline) {
            // Set back already, or beyond every clock.
            None => deadline,
            Some(true_one) if true_one != deadline => deadline,
            Some(_) => set_back(deadline),
        };
        // Beyond every clock there is nothing to look for; a check finds it without a deadline.
        let ends = brought_forward(kept).and_then(|at| UnixMs::try_from(at).ok());
        self.timed.push(Timed { key: key.as_ref().into(), ends: ends.map_or(Ends::Unknown, Ends::At) });
        self.add([&b"RESTORE"[..], key, kept.to_string().as_bytes(), dump, b"REPLACE", b"ABSTTL"]);
    }

    fn finish(mut self, reserved: &Reserved, id: TrialId, replies: Replies) -> Outcome {
        self.bytes.extend_from_slice(&unmark(reserved, id));
        let Effects { bytes, count, timed } = self;
        Outcome { replies, payload: bytes.freeze(), commands: count + 1, timed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TrialId = TrialId { epoch: 3, number: 9 };

    fn reserved() -> Reserved {
        Reserved::new("g")
    }

    fn payload(commands: &[&[&[u8]]]) -> Vec<Bytes> {
        commands.iter().map(|words| encode::command_bytes(words)).collect()
    }

    fn lines(payload: &Bytes) -> Vec<String> {
        let mut lines = Vec::new();
        assert!(each_command(payload, |_, args| {
            let words: Vec<_> = args.from(0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
            lines.push(words.join(" "));
        }));
        lines
    }

    /// The array of replies with one more, that to `TIME`, in its place.
    fn timed(exec: &str) -> String {
        let (count, rest) = exec[1..].split_once("\r\n").expect("an array");
        let rest = rest.strip_suffix(":2\r\n").expect("the look at position and mark");
        let count: usize = count.parse().expect("a number");
        format!("*{}\r\n{rest}*2\r\n$4\r\n1700\r\n$4\r\n9000\r\n:2\r\n", count + 1)
    }

    fn ran(commands: &[&[&[u8]]], queued: usize, exec: &str) -> Outcome {
        let answer = format!("+OK\r\n{}{}", "+QUEUED\r\n".repeat(queued), timed(exec));
        match tried(&reserved(), ID, &payload(commands), &Bytes::from(answer)) {
            Tried::Ran(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let keys = Keys::from([Bytes::from_static(b"a b\r\n"), Bytes::from_static(b"c")]);
        assert_eq!(parse_mark(&mark_text(ID, &keys)), Some(TrialMark { trial: ID, keys }));
        for bad in ["", "x", "*0\r\n", "*1\r\n$1\r\nx\r\n", "*2\r\n$3\r\n1-2\r\n:1\r\n"] {
            assert_eq!(parse_mark(&Bytes::from(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_trial_marks_runs_and_asks_in_one_batch() {
        let commands = payload(&[&[b"SPOP", b"s"], &[b"INCRBYFLOAT", b"f", b"1"]]);
        let (request, keys) = trial(&reserved(), ID, &commands).expect("valid");
        let lines = lines(&request.payload);
        assert_eq!(lines.len(), request.commands as usize);
        assert_eq!(lines[0], "MULTI");
        assert!(lines[1].starts_with("SET __quorate:{g}:trial "));
        assert!(lines[2].ends_with(" 1 f"), "{}", lines[2]);
        assert_eq!(lines[3..7], ["SPOP s", "INCRBYFLOAT f 1", "DUMP f", "PEXPIRETIME f"]);
        assert_eq!(lines[7..], ["TIME", "EXISTS __quorate:{g}:pos __quorate:{g}:trial", "EXEC"]);
        assert_eq!(keys, Keys::from([Bytes::from_static(b"f"), Bytes::from_static(b"s")]));
    }

    #[test]
    fn what_the_proxy_asks_beside_a_client_is_not_copied() {
        let commands = payload(&[&[b"SPOP", b"s"], &[b"DBSIZE"], &[b"EXISTS", b"__quorate:{g}:pos"]]);
        let (request, keys) = trial(&reserved(), ID, &commands).expect("valid");
        assert_eq!(keys, Keys::from([Bytes::from_static(b"s")]));
        assert!(!lines(&request.payload).iter().any(|line| line.starts_with("DUMP")));
    }

    #[test]
    fn what_was_popped_is_removed_and_values_are_held() {
        let commands: [&[&[u8]]; 3] =
            [&[b"SPOP", b"s"], &[b"SPOP", b"s", b"5"], &[b"INCRBYFLOAT", b"f", b"1"]];
        let exec =
            "*8\r\n+OK\r\n:0\r\n$1\r\nx\r\n*2\r\n$1\r\ny\r\n$1\r\nz\r\n$1\r\n1\r\n$3\r\nabc\r\n:-1\r\n:2\r\n";
        let outcome = ran(&commands, 8, exec);
        let unmark = "DEL __quorate:{g}:trial __quorate:{g}:trial:3-9";
        let effects = ["SREM s x", "SREM s y z", "RESTORE f 0 abc REPLACE", unmark];
        assert_eq!(lines(&outcome.payload), effects);
        assert_eq!(outcome.commands, 4);
        assert_eq!(outcome.replies.slice(1, 1).as_deref(), Some(&b"*2\r\n$1\r\ny\r\n$1\r\nz\r\n"[..]));
        assert!(settles(&reserved(), std::slice::from_ref(&outcome.payload), ID));
        assert!(!settles(&reserved(), &[outcome.payload], TrialId { epoch: 3, number: 8 }));
    }

    #[test]
    fn the_newer_protocol_is_read_as_well() {
        let exec = "*4\r\n+OK\r\n:0\r\n~2\r\n$1\r\ny\r\n$1\r\nz\r\n:2\r\n";
        assert_eq!(lines(&ran(&[&[b"SPOP", b"s", b"2"]], 4, exec).payload)[0], "SREM s y z");
        let exec = "*6\r\n+OK\r\n:0\r\n_\r\n_\r\n:-2\r\n:2\r\n";
        let outcome = ran(&[&[b"EVAL", b"x", b"1", b"k"]], 6, exec);
        assert_eq!(lines(&outcome.payload)[0], "DEL k");
        let exec = "*4\r\n+OK\r\n:0\r\n-WRONGTYPE no\r\n:2\r\n";
        assert_eq!(ran(&[&[b"SPOP", b"s", b"2"]], 4, exec).commands, 1, "nothing was popped");
    }

    #[test]
    fn a_set_that_something_else_touches_is_held_by_value() {
        let commands: [&[&[u8]]; 2] = [&[b"SPOP", b"s"], &[b"EVAL", b"x", b"1", b"s"]];
        let exec = "*7\r\n+OK\r\n:0\r\n$1\r\nx\r\n:1\r\n$1\r\nd\r\n:-1\r\n:2\r\n";
        assert_eq!(lines(&ran(&commands, 7, exec).payload)[0], "RESTORE s 0 d REPLACE");
    }

    #[test]
    fn members_of_groups_are_given_what_the_reply_says() {
        let read: [&[&[u8]]; 1] =
            [&[b"XREADGROUP", b"GROUP", b"g", b"me", b"COUNT", b"2", b"STREAMS", b"a", b"b", b">", b">"]];
        let made_known = format!("EVAL {MAKE_KNOWN} 2 a b g me");
        let known = ["XGROUP CREATECONSUMER a g me", "XGROUP CREATECONSUMER b g me"];
        let (request, _) = trial(&reserved(), ID, &payload(&read)).expect("valid");
        let asked = lines(&request.payload);
        assert_eq!(asked[3], made_known);
        assert_eq!(asked[5..8], ["XINFO GROUPS a", "XINFO GROUPS b", "TIME"], "no value is copied");
        assert_eq!(asked.len(), request.commands as usize);
        let groups = |last: &str| {
            format!("*1\r\n*4\r\n$4\r\nname\r\n$1\r\ng\r\n$17\r\nlast-delivered-id\r\n$3\r\n{last}\r\n")
        };
        let counted = groups("2-1").replacen("*4", "*6", 1) + "$12\r\nentries-read\r\n:2\r\n";
        let entry = |id: &str| format!("*2\r\n$3\r\n{id}\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
        let given = format!("$1\r\na\r\n*2\r\n{}{}", entry("1-1"), entry("2-1"));
        for reply in [format!("*1\r\n*2\r\n{given}"), format!("%1\r\n{given}")] {
            let exec = format!("*7\r\n+OK\r\n:0\r\n:1\r\n{reply}{counted}{}:2\r\n", groups("0-0"));
            let effects = lines(&ran(&read, 7, &exec).payload);
            assert_eq!(effects[..2], known);
            assert_eq!(
                effects[2..5],
                [
                    "XCLAIM a g me 0 1-1 2-1 TIME 1700009 RETRYCOUNT 1 FORCE JUSTID",
                    "XGROUP SETID a g 2-1 ENTRIESREAD 2",
                    "XGROUP SETID b g 0-0",
                ]
            );
        }
        let nothing = format!("*7\r\n+OK\r\n:0\r\n:1\r\n*-1\r\n{}{}:2\r\n", groups("1-1"), groups("0-0"));
        assert_eq!(lines(&ran(&read, 7, &nothing).payload)[..2], known);
        let none = "*7\r\n+OK\r\n:0\r\n:0\r\n-NOGROUP x\r\n*0\r\n-ERR no such key\r\n:2\r\n";
        assert_eq!(ran(&read, 7, none).commands, 1, "only the mark is removed");
        let odd = "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n-ERR odd\r\n-EXECABORT x\r\n";
        let rejected = tried(&reserved(), ID, &payload(&read), &Bytes::from_static(odd.as_bytes()));
        assert!(matches!(rejected, Tried::Rejected(0, _)), "of the client's commands the first");
        let again: [&[&[u8]]; 1] = [&[b"XREADGROUP", b"GROUP", b"g", b"me", b"STREAMS", b"a", b"0"]];
        let (request, _) = trial(&reserved(), ID, &payload(&again)).expect("valid");
        assert_eq!(lines(&request.payload)[4], "DUMP a", "how often it was given is not in the reply");
    }

    #[test]
    fn deadlines_are_kept_set_back() {
        let at = 1_800_000_000_000_i64;
        let exec = |at: i64| format!("*6\r\n+OK\r\n:1\r\n:1\r\n$1\r\nd\r\n:{at}\r\n:2\r\n");
        let eval: [&[&[u8]]; 1] = [&[b"EVAL", b"x", b"1", b"k"]];
        for kept in [at, set_back(at)] {
            let outcome = ran(&eval, 6, &exec(kept));
            assert_eq!(lines(&outcome.payload)[0], format!("RESTORE k {} d REPLACE ABSTTL", set_back(at)));
            let timed = Timed { key: b"k".as_slice().into(), ends: Ends::At(at as u64) };
            assert_eq!(outcome.timed, [timed]);
        }
    }

    #[test]
    fn what_did_not_run_is_told_from_what_may_have() {
        let commands = payload(&[&[b"SPOP", b"s"]]);
        let end =
            |text: &'static str| tried(&reserved(), ID, &commands, &Bytes::from_static(text.as_bytes()));
        let oom = "+OK\r\n-OOM no\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n-EXECABORT x\r\n";
        assert!(matches!(end(oom), Tried::Refused(line) if line == "OOM no"));
        let odd = "+OK\r\n+QUEUED\r\n+QUEUED\r\n-ERR odd\r\n+QUEUED\r\n-EXECABORT x\r\n";
        assert!(matches!(end(odd), Tried::Rejected(0, line) if line == "ERR odd"));
        let emptied = "+OK\r\n*5\r\n+OK\r\n:0\r\n$-1\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n:0\r\n";
        assert!(matches!(end(emptied), Tried::Emptied), "the position is gone");
        assert!(matches!(end("+OK\r\n*1\r\n+OK\r\n"), Tried::Unclear));
    }

    #[test]
    fn values_of_a_mark_become_an_entry() {
        let keys = Keys::from([Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        let fetched = Bytes::from_static(b"$-1\r\n$1\r\nd\r\n:-1\r\n$-1\r\n:-2\r\n");
        let outcome = adopt(&reserved(), ID, &keys, &fetched).expect("whole");
        assert_eq!(lines(&outcome.payload)[..2], ["RESTORE a 0 d REPLACE", "DEL b"]);
        assert!(adopt(&reserved(), ID, &keys, &Bytes::from_static(b"$-1\r\n")).is_none());
        assert!(all_done(&Bytes::from_static(b"+OK\r\n:1\r\n")));
        assert!(!all_done(&Bytes::from_static(b"+OK\r\n-ERR\r\n")));
    }
}
