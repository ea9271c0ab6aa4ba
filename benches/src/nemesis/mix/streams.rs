//! Streams with one group of consumers. Ids grow; every entry is handed to one consumer, who has it pending until it
//! is acknowledged or another one claims it; nothing is forgotten.

use super::super::judge::{Broken, Wrong};
use super::actor::{Actor, Family, Meaning, command, integer};
use quorate_sim::lin::{Edn, Operation, Outcome};
use quorate_wire::resp::Value;
use std::collections::{BTreeMap, BTreeSet};

const GROUP: &str = "g";
/// Milliseconds that a consumer waits.
const WAIT: &str = "200";
/// More than any stream has.
const ALL: &str = "1000000";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// XADD of an entry with this token.
    Add(u64),
    /// XREADGROUP of what is new, by this consumer.
    Take(String),
    /// XAUTOCLAIM of what is pending with anyone, by this consumer.
    Claim(String),
    /// XACK.
    Ack(Vec<Id>),
    /// XRANGE and XPENDING.
    Read,
}

/// The id of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(u64, u64);

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Ret {
    Added(Id),
    /// Ids and tokens.
    Entries(Vec<(Id, u64)>),
    Acked(u64),
    /// All entries, and who has which pending.
    Left {
        entries: Vec<(Id, u64)>,
        pending: Vec<(Id, String)>,
    },
}

impl Id {
    fn parse(text: &str) -> Option<Id> {
        let (ms, number) = text.split_once('-')?;
        Some(Id(ms.parse().ok()?, number.parse().ok()?))
    }

    fn text(self) -> String {
        format!("{}-{}", self.0, self.1)
    }
}

impl Edn<Ret> for Op {
    fn name(&self) -> &'static str {
        match self {
            Op::Add(_) => "add",
            Op::Take(_) => "take",
            Op::Claim(_) => "claim",
            Op::Ack(_) => "ack",
            Op::Read => "read",
        }
    }

    fn value(&self, ret: Option<&Ret>) -> String {
        let entry = |(id, token): &(Id, u64)| format!("[\"{}\" {token}]", id.text());
        let entries = |all: &[(Id, u64)]| all.iter().map(entry).collect::<Vec<_>>().join(" ");
        let ids =
            |all: &[Id]| all.iter().map(|id| format!("\"{}\"", id.text())).collect::<Vec<_>>().join(" ");
        match (self, ret) {
            (Op::Add(token), Some(Ret::Added(id))) => entry(&(*id, *token)),
            (Op::Add(token), _) => token.to_string(),
            (Op::Take(who) | Op::Claim(who), Some(Ret::Entries(all))) => {
                format!("[\"{who}\" [{}]]", entries(all))
            }
            (Op::Take(who) | Op::Claim(who), _) => format!("[\"{who}\" nil]"),
            (Op::Ack(all), Some(Ret::Acked(count))) => format!("[[{}] {count}]", ids(all)),
            (Op::Ack(all), _) => format!("[[{}] nil]", ids(all)),
            (_, Some(Ret::Left { entries: all, pending })) => {
                let pending: Vec<String> =
                    pending.iter().map(|(id, who)| format!("[\"{}\" \"{who}\"]", id.text())).collect();
                format!("[[{}] [{}]]", entries(all), pending.join(" "))
            }
            _ => "nil".into(),
        }
    }
}

/// Adds an entry.
pub fn produce(actor: &mut Actor, _: u64) {
    let key = format!("z{}", actor.number(Family::Streams));
    let token = actor.value();
    let add = [command(&["XADD", &key, "*", "token", &token.to_string()])];
    actor.perform(
        |all| &mut all.streams,
        (&key, Op::Add(token)),
        &add,
        |reply| Meaning::of(reply.text().and_then(Id::parse).map(Ret::Added)),
    );
}

/// Takes what is new, or what others have; and acknowledges most of it.
pub fn consume(actor: &mut Actor, nth: u64) {
    let key = format!("z{}", actor.number(Family::Streams));
    let who = format!("c{nth}");
    let taken = if actor.dice.percent(15) {
        let claim = command(&["XAUTOCLAIM", &key, GROUP, &who, "0", "0", "COUNT", "2"]);
        actor.perform(
            |all| &mut all.streams,
            (&key, Op::Claim(who)),
            &[claim],
            |reply| Meaning::of(reply.items().get(1).and_then(entries).map(Ret::Entries)),
        )
    } else {
        let count = actor.dice.between(1, 3).to_string();
        let take = command(&[
            "XREADGROUP",
            "GROUP",
            GROUP,
            &who,
            "COUNT",
            &count,
            "BLOCK",
            WAIT,
            "STREAMS",
            &key,
            ">",
        ]);
        take_new(actor, &key, &who, &[take])
    };
    if let Some(Outcome::Failed { .. }) = taken {
        // Most likely there is no group yet.
        actor.call(&[create(&key)]);
    }
    let Some(Outcome::Ok { ret: Ret::Entries(entries), .. }) = taken else { return };
    let ids: Vec<Id> = entries.into_iter().map(|(id, _)| id).collect();
    if ids.is_empty() || actor.dice.percent(20) {
        return;
    }
    let texts: Vec<String> = ids.iter().map(|id| id.text()).collect();
    let words: Vec<&str> =
        ["XACK", &key, GROUP].into_iter().chain(texts.iter().map(String::as_str)).collect();
    actor.perform(
        |all| &mut all.streams,
        (&key, Op::Ack(ids.clone())),
        &[command(&words)],
        |reply| Meaning::of(integer(reply).and_then(|count| u64::try_from(count).ok()).map(Ret::Acked)),
    );
}

/// The group begins with the first entry, whoever makes it.
fn create(key: &str) -> bytes::Bytes {
    command(&["XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM"])
}

fn take_new(actor: &mut Actor, key: &str, who: &str, commands: &[bytes::Bytes]) -> Option<Outcome<Ret>> {
    actor.perform(
        |all| &mut all.streams,
        (key, Op::Take(who.into())),
        commands,
        |reply| match reply {
            Value::Null => Meaning::Told(Ret::Entries(vec![])),
            reply => {
                let stream = reply.items().first().and_then(|stream| stream.items().get(1));
                Meaning::of(stream.and_then(entries).map(Ret::Entries))
            }
        },
    )
}

/// Ids and tokens of a reply's entries; of those that were removed nothing is left.
fn entries(reply: &Value) -> Option<Vec<(Id, u64)>> {
    let Value::Array(items) = reply else { return None };
    items
        .iter()
        .map(|item| {
            let [id, fields] = item.items() else { return None };
            let token = fields.items().get(1)?.text()?.parse().ok()?;
            Some((Id::parse(id.text()?)?, token))
        })
        .collect()
}

/// Takes what nobody took, and reads everything.
pub fn read_last(actor: &mut Actor, keys: &BTreeSet<String>) {
    for key in keys {
        let take = command(&["XREADGROUP", "GROUP", GROUP, "last", "COUNT", ALL, "STREAMS", key, ">"]);
        take_new(actor, key, "last", &[create(key), take]);
        let commands = [
            command(&["MULTI"]),
            command(&["XRANGE", key, "-", "+"]),
            command(&["XPENDING", key, GROUP, "-", "+", ALL]),
            command(&["EXEC"]),
        ];
        actor.perform(|all| &mut all.streams, (key, Op::Read), &commands, |reply| Meaning::of(left(reply)));
    }
}

fn left(reply: &Value) -> Option<Ret> {
    let [range, waiting] = reply.items() else { return None };
    let pending = waiting.items().iter().map(|item| {
        let [id, who, ..] = item.items() else { return None };
        Some((Id::parse(id.text()?)?, who.text()?.to_string()))
    });
    Some(Ret::Left { entries: entries(range)?, pending: pending.collect::<Option<_>>()? })
}

/// What is known of the entries of one stream.
#[derive(Debug, Default)]
struct Known<'a> {
    entries: BTreeMap<Id, u64>,
    pending: BTreeMap<Id, &'a str>,
    /// Who was given it as new.
    taken: BTreeMap<Id, Vec<&'a str>>,
    /// Who had it from others.
    claimed: BTreeMap<Id, Vec<&'a str>>,
    /// Acknowledged for sure, and how often; and perhaps.
    acked: BTreeMap<Id, u64>,
    perhaps: BTreeSet<Id>,
    /// Consumers of which some question has an unknown end.
    unknown: BTreeSet<&'a str>,
}

type Found = (Broken, String);

/// One stream.
pub fn judge(operations: &[Operation<Op, Ret>]) -> Option<Wrong> {
    let last = operations.iter().find_map(|operation| match &operation.outcome {
        Outcome::Ok { ret: Ret::Left { entries, pending }, .. } => Some((entries, pending)),
        _ => None,
    });
    let (entries, pending) = last?;
    let mut known = Known { entries: entries.iter().copied().collect(), ..Known::default() };
    known.pending = pending.iter().map(|(id, who)| (*id, who.as_str())).collect();
    operations.iter().for_each(|operation| known.learn(operation));
    known
        .additions(operations, entries)
        .or_else(|| known.order(operations))
        .or_else(|| known.deliveries())
        .or_else(|| known.acknowledgements(operations))
        .map(|(broken, detail)| Wrong::Found(broken, detail))
}

impl<'a> Known<'a> {
    fn learn(&mut self, operation: &'a Operation<Op, Ret>) {
        match (&operation.op, &operation.outcome) {
            (Op::Take(who), Outcome::Ok { ret: Ret::Entries(all), .. }) => {
                all.iter().for_each(|(id, _)| self.taken.entry(*id).or_default().push(who));
            }
            (Op::Claim(who), Outcome::Ok { ret: Ret::Entries(all), .. }) => {
                all.iter().for_each(|(id, _)| self.claimed.entry(*id).or_default().push(who));
            }
            (Op::Take(who) | Op::Claim(who), Outcome::Unknown { .. }) => {
                self.unknown.insert(who);
            }
            (Op::Ack(ids), Outcome::Ok { ret: Ret::Acked(count), .. }) if *count == ids.len() as u64 => {
                ids.iter().for_each(|id| *self.acked.entry(*id).or_default() += 1);
            }
            (Op::Ack(ids), Outcome::Ok { .. } | Outcome::Unknown { .. }) => self.perhaps.extend(ids),
            _ => {}
        }
    }

    /// What was acknowledged to producers is there once, with the id that they were told; what was refused is not.
    fn additions(&self, operations: &[Operation<Op, Ret>], entries: &[(Id, u64)]) -> Option<Found> {
        let mut times: BTreeMap<u64, Vec<Id>> = BTreeMap::new();
        entries.iter().for_each(|(id, token)| times.entry(*token).or_default().push(*id));
        for operation in operations {
            let Op::Add(token) = operation.op else { continue };
            let ids = times.get(&token).map(Vec::as_slice).unwrap_or_default();
            let broken = match (&operation.outcome, ids) {
                (_, [_, _, ..]) => Broken::Doubled,
                (Outcome::Ok { .. }, []) => Broken::Lost,
                (Outcome::Ok { ret: Ret::Added(told), .. }, [id]) if told != id => Broken::Stale,
                (Outcome::Failed { .. }, [_]) => Broken::Ghost,
                _ => continue,
            };
            return Some((broken, format!("{operation:?} and {ids:?}")));
        }
        None
    }

    /// Of two additions one after the other, the later has the greater id.
    fn order(&self, operations: &[Operation<Op, Ret>]) -> Option<Found> {
        let mut ended: Vec<(u64, Id)> = Vec::new();
        for operation in operations {
            let Outcome::Ok { ret: Ret::Added(id), at } = operation.outcome else { continue };
            let before = ended.iter().filter(|(at, _)| *at < operation.invoked);
            if let Some((_, other)) = before.max_by_key(|(_, other)| *other).filter(|(_, other)| *other >= id)
            {
                return Some((Broken::Disorder, format!("{} came after {}", id.text(), other.text())));
            }
            ended.push((at, id));
        }
        None
    }

    /// Each entry went to one consumer, and is with one to whom it may have gone.
    fn deliveries(&self) -> Option<Found> {
        for (id, token) in &self.entries {
            let (taken, claimed) = (list(&self.taken, id), list(&self.claimed, id));
            let detail = || {
                let (id, pending) = (id.text(), self.pending.get(id));
                format!(
                    "{id} ({token}) was taken by {taken:?}, claimed by {claimed:?}, is pending with {pending:?}"
                )
            };
            if taken.len() > 1 {
                return Some((Broken::Doubled, detail()));
            }
            let somebody = !taken.is_empty() || !claimed.is_empty() || self.pending.contains_key(id);
            let with = self.pending.get(id);
            let rightly = with
                .is_none_or(|who| taken.contains(who) || claimed.contains(who) || self.unknown.contains(who));
            if !somebody {
                return Some((Broken::Lost, detail()));
            }
            if !rightly {
                return Some((Broken::Ghost, detail()));
            }
        }
        let strange = self.taken.keys().chain(self.pending.keys()).find(|id| !self.entries.contains_key(id));
        strange.map(|id| (Broken::Lost, format!("{} was handed out and is not in the stream", id.text())))
    }

    /// What was acknowledged is not pending, what was not is; and nothing is acknowledged twice.
    fn acknowledgements(&self, operations: &[Operation<Op, Ret>]) -> Option<Found> {
        if let Some((id, _)) = self.acked.iter().find(|(_, times)| **times > 1) {
            return Some((Broken::Doubled, format!("{} was acknowledged twice", id.text())));
        }
        let handed = self.taken.keys().chain(self.claimed.keys());
        let forgotten = |id: &&Id| {
            !self.pending.contains_key(id) && !self.acked.contains_key(id) && !self.perhaps.contains(id)
        };
        if let Some(id) = handed.copied().collect::<Vec<_>>().iter().find(forgotten) {
            return Some((Broken::Lost, format!("{} is not pending, and nobody acknowledged it", id.text())));
        }
        let back = self.acked.keys().find(|id| self.pending.contains_key(id));
        if let Some(id) = back {
            return Some((Broken::Lost, format!("the acknowledgement of {} was lost", id.text())));
        }
        // Only one consumer has it, unless it was claimed: then the acknowledgement finds it.
        operations.iter().find_map(|operation| match (&operation.op, &operation.outcome) {
            (Op::Ack(ids), Outcome::Ok { ret: Ret::Acked(count), .. })
                if *count < ids.len() as u64 && ids.iter().all(|id| !self.claimed.contains_key(id)) =>
            {
                Some((Broken::Lost, format!("{operation:?}: it was not pending")))
            }
            _ => None,
        })
    }
}

fn list<'a, 'b>(map: &'b BTreeMap<Id, Vec<&'a str>>, id: &Id) -> &'b [&'a str] {
    map.get(id).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::super::suite::LAST_READER;
    use super::super::samples::{done, refused, unknown};
    use super::*;

    type One = Operation<Op, Ret>;

    fn add(token: u64, id: u64, invoked: u64) -> One {
        done(1, Op::Add(token), invoked, Ret::Added(Id(id, 0)))
    }

    fn take(who: &str, entries: &[(u64, u64)], invoked: u64) -> One {
        let entries = entries.iter().map(|(id, token)| (Id(*id, 0), *token)).collect();
        done(2, Op::Take(who.into()), invoked, Ret::Entries(entries))
    }

    fn ack(id: u64, count: u64, invoked: u64) -> One {
        done(2, Op::Ack(vec![Id(id, 0)]), invoked, Ret::Acked(count))
    }

    fn last(entries: &[(u64, u64)], pending: &[(u64, &str)]) -> One {
        let entries = entries.iter().map(|(id, token)| (Id(*id, 0), *token)).collect();
        let pending = pending.iter().map(|(id, who)| (Id(*id, 0), who.to_string())).collect();
        done(LAST_READER, Op::Read, 100, Ret::Left { entries, pending })
    }

    #[track_caller]
    fn assert_found(operations: &[One], expected: Option<Broken>) {
        let found = judge(operations).map(|wrong| match wrong {
            Wrong::Found(broken, _) => broken,
            Wrong::Undecided => unreachable!("nothing is searched"),
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_sound_stream_is_not_blamed() {
        let lost = unknown(3, Op::Take("c1".into()), 20);
        let all = [add(7, 1, 0), add(8, 2, 10), take("c0", &[(1, 7)], 12), lost, ack(1, 1, 30)];
        assert_found(&[&all[..], &[last(&[(1, 7), (2, 8)], &[(2, "c1")])]].concat(), None);
    }

    #[test]
    fn an_entry_for_two_consumers_is_caught() {
        let all = [
            add(7, 1, 0),
            take("c0", &[(1, 7)], 10),
            take("c1", &[(1, 7)], 20),
            last(&[(1, 7)], &[(1, "c1")]),
        ];
        assert_found(&all, Some(Broken::Doubled));
    }

    #[test]
    fn an_entry_for_nobody_is_caught() {
        assert_found(&[add(7, 1, 0), last(&[(1, 7)], &[])], Some(Broken::Lost));
        assert_found(&[add(7, 1, 0), last(&[(1, 7)], &[(1, "c0")])], Some(Broken::Ghost));
    }

    #[test]
    fn an_entry_that_was_lost_doubled_or_refused_is_caught() {
        assert_found(&[add(7, 1, 0), last(&[], &[])], Some(Broken::Lost));
        let both = last(&[(1, 7), (2, 7)], &[(1, "last"), (2, "last")]);
        assert_found(&[unknown(1, Op::Add(7), 0), both], Some(Broken::Doubled));
        assert_found(&[refused(1, Op::Add(7), 0), last(&[(1, 7)], &[(1, "last")])], Some(Broken::Ghost));
    }

    #[test]
    fn ids_that_do_not_grow_are_caught() {
        let all = [add(7, 2, 0), add(8, 1, 10), take("c0", &[(1, 8), (2, 7)], 20)];
        assert_found(&[&all[..], &[last(&[(1, 8), (2, 7)], &[])]].concat(), Some(Broken::Disorder));
    }

    #[test]
    fn forgotten_and_undone_acknowledgements_are_caught() {
        let all = [add(7, 1, 0), take("c0", &[(1, 7)], 10)];
        assert_found(&[&all[..], &[last(&[(1, 7)], &[])]].concat(), Some(Broken::Lost));
        assert_found(
            &[&all[..], &[ack(1, 1, 20), last(&[(1, 7)], &[(1, "c0")])]].concat(),
            Some(Broken::Lost),
        );
        assert_found(&[&all[..], &[ack(1, 0, 20), last(&[(1, 7)], &[])]].concat(), Some(Broken::Lost));
        let twice = [ack(1, 1, 20), ack(1, 1, 30), last(&[(1, 7)], &[])];
        assert_found(&[&all[..], &twice].concat(), Some(Broken::Doubled));
    }
}
