//! What is asked of a page of keys, and what follows from the answers. Pure: no sockets, no clock.
//!
//! First cheaply, by dump: equal dumps are equal data. Different dumps may be equal data in another
//! encoding, so those keys are read whole, by type. Answers count only if all are from one position.

use crate::backend::values::{digest, hash, mixed, ordered, whole};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::Request;
use quorate_core::rule::Mask;
use quorate_wire::resp::{Value, encode};
use std::collections::BTreeSet;

/// Replicas and what they answered.
pub(super) type Answers = Vec<(usize, Bytes)>;

/// What XINFO STREAM says that is data, and no detail of the encoding.
const STREAM_FACTS: [&str; 4] = ["length", "last-generated-id", "max-deleted-entry-id", "entries-added"];

/// What the types of a key are, by the replicas' words; nearly always one.
type Kinds = BTreeSet<String>;

/// Why the answers to a page cannot be compared.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// They are not from one position.
    Positions,
    /// A server refuses what is asked, or says what cannot be read.
    Refused(String),
}

/// A key whose dumps differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) key: Bytes,
    kinds: Kinds,
}

/// What a closer look at a key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same on all who answered.
    Equal,
    /// More than half of all replicas hold the same, and the others something else.
    Minority {
        /// Those that hold the same.
        like: Mask,
        /// The others.
        differ: Mask,
    },
    /// Different, and nobody knows which is right.
    Undecided,
    /// Its type changed since it was looked at.
    Again(Suspect),
}

/// By dump: the first look at these keys.
pub(super) fn glance(position: &str, keys: &[Bytes]) -> Request {
    let mut ask = Commands::at(position);
    for key in keys {
        ask.add(&[b"TYPE", key]);
        ask.add(&[b"PEXPIRETIME", key]);
        ask.add(&[b"DUMP", key]);
    }
    ask.finish()
}

/// The keys whose dumps differ, from the answers to [`glance`].
pub(super) fn suspects(keys: &[Bytes], answers: &Answers) -> Result<Vec<Suspect>, Unfit> {
    let all = read(answers, keys.len() * 3)?;
    if let Some(error) = all.iter().flat_map(|(_, values)| values).find_map(Value::error) {
        return Err(Unfit::Refused(error));
    }
    let differs = |at: &usize| {
        let (_, first) = &all[0];
        all[1..].iter().any(|(_, values)| values[at * 3..at * 3 + 3] != first[at * 3..at * 3 + 3])
    };
    let suspect = |at: usize| {
        let kinds = all.iter().map(|(_, values)| kind(&values[at * 3])).collect();
        Suspect { key: keys[at].clone(), kinds }
    };
    Ok((0..keys.len()).filter(differs).map(suspect).collect())
}

/// By value: the second look.
pub(super) fn look(position: &str, suspects: &[Suspect]) -> Request {
    let mut ask = Commands::at(position);
    for Suspect { key, kinds } in suspects {
        ask.add(&[b"TYPE", key]);
        ask.add(&[b"PEXPIRETIME", key]);
        for kind in present(kinds) {
            ask.add(&whole(kind, key));
            if kind == "stream" {
                ask.add(&[b"XINFO", b"STREAM", key]);
                ask.add(&[b"XINFO", b"GROUPS", key]);
            }
        }
    }
    ask.finish()
}

/// What the answers to [`look`] say of each suspect; `replicas` is how many the group has.
pub(super) fn judge(suspects: &[Suspect], answers: &Answers, replicas: usize) -> Result<Vec<Verdict>, Unfit> {
    let width = |suspect: &Suspect| 2 + present(&suspect.kinds).map(replies).sum::<usize>();
    let all = read(answers, suspects.iter().map(width).sum())?;
    let mut verdicts = Vec::with_capacity(suspects.len());
    let mut at = 0;
    for suspect in suspects {
        let own: Vec<(usize, &[Value])> =
            all.iter().map(|(replica, values)| (*replica, &values[at..at + width(suspect)])).collect();
        verdicts.push(verdict(suspect, &own, replicas));
        at += width(suspect);
    }
    Ok(verdicts)
}

fn verdict(suspect: &Suspect, answers: &[(usize, &[Value])], replicas: usize) -> Verdict {
    let kinds: Kinds = answers.iter().map(|(_, values)| kind(&values[0])).collect();
    if !present(&kinds).all(|kind| suspect.kinds.contains(kind)) {
        return Verdict::Again(Suspect { key: suspect.key.clone(), kinds });
    }
    let mut camps: Vec<(u64, Mask)> = Vec::new();
    for (replica, values) in answers {
        let digest = digest_of(suspect, values);
        match camps.iter_mut().find(|(known, _)| *known == digest) {
            Some((_, members)) => *members |= 1 << replica,
            None => camps.push((digest, 1 << replica)),
        }
    }
    let everybody = camps.iter().fold(0, |all, (_, members)| all | members);
    let most = camps.iter().map(|(_, members)| *members).max_by_key(|members| members.count_ones());
    match most {
        _ if camps.len() <= 1 => Verdict::Equal,
        Some(like) if like.count_ones() as usize * 2 > replicas => {
            Verdict::Minority { like, differ: everybody & !like }
        }
        _ => Verdict::Undecided,
    }
}

/// Type, deadline, and the value as the type's own reads show it.
fn digest_of(suspect: &Suspect, values: &[Value]) -> u64 {
    let own = kind(&values[0]);
    let mut rest = &values[2..];
    let mut found = hash(&values[0]) ^ hash(&values[1]).rotate_left(17);
    for kind in present(&suspect.kinds) {
        let (these, after) = rest.split_at(replies(kind));
        rest = after;
        if kind == own {
            let facts = these.get(1).map(stream_facts);
            found = mixed([found, digest(kind, &these[0]), facts.unwrap_or(0)].into_iter());
            found = mixed([found, these.get(2).map_or(0, hash)].into_iter());
        }
    }
    found
}

fn stream_facts(info: &Value) -> u64 {
    let data = |pair: &&[Value]| pair[0].text().is_some_and(|name| STREAM_FACTS.contains(&name));
    mixed(info.items().chunks(2).filter(data).map(ordered))
}

fn kind(value: &Value) -> String {
    value.text().unwrap_or_default().to_string()
}

fn present(kinds: &Kinds) -> impl Iterator<Item = &str> {
    kinds.iter().map(String::as_str).filter(|kind| *kind != "none")
}

/// How many commands read a value of this type.
fn replies(kind: &str) -> usize {
    if kind == "stream" { 3 } else { 1 }
}

/// Each replica's replies behind its position, if all stand at the same one.
fn read(answers: &Answers, count: usize) -> Result<Vec<(usize, Vec<Value>)>, Unfit> {
    let mut all = Vec::with_capacity(answers.len());
    let mut position = None;
    for (replica, bytes) in answers {
        let values = Value::parse_all(bytes).filter(|values| values.len() == count + 1);
        let mut values = values.ok_or_else(|| Unfit::Refused("its answer cannot be read".into()))?;
        let own = values.remove(0);
        if own.bytes().is_none() || *position.get_or_insert_with(|| own.clone()) != own {
            return Err(Unfit::Positions);
        }
        all.push((*replica, values));
    }
    if all.len() < 2 { Err(Unfit::Refused("there is nobody to compare with".into())) } else { Ok(all) }
}

#[derive(Default)]
struct Commands {
    bytes: BytesMut,
    count: u32,
}

impl Commands {
    /// The position comes first in every question.
    fn at(position: &str) -> Self {
        let mut commands = Commands::default();
        commands.add(&[b"GET", position.as_bytes()]);
        commands
    }

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

    fn keys() -> Vec<Bytes> {
        vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]
    }

    fn answers(texts: &[&str]) -> Answers {
        texts.iter().enumerate().map(|(i, text)| (i, Bytes::copy_from_slice(text.as_bytes()))).collect()
    }

    const SAME: &str = "+P\r\n+string\r\n:-1\r\n+x\r\n+none\r\n:-2\r\n$-1\r\n";

    #[test]
    fn only_keys_whose_dumps_differ_are_suspects() {
        assert_eq!(suspects(&keys(), &answers(&[SAME, SAME])), Ok(vec![]));
        let other = SAME.replace("+x", "+y");
        let found = suspects(&keys(), &answers(&[SAME, &other, SAME])).expect("fit");
        assert_eq!(found, [Suspect { key: keys()[0].clone(), kinds: Kinds::from(["string".into()]) }]);
        let deadline = SAME.replace(":-1", ":7");
        assert_eq!(suspects(&keys(), &answers(&[SAME, &deadline])).expect("fit").len(), 1);
    }

    #[test]
    fn answers_of_different_positions_say_nothing() {
        let ahead = SAME.replace("+P", "+Q");
        assert_eq!(suspects(&keys(), &answers(&[SAME, &ahead])), Err(Unfit::Positions));
        let none = SAME.replace("+P", "$-1");
        assert_eq!(suspects(&keys(), &answers(&[&none, &none])), Err(Unfit::Positions));
        let error = SAME.replace(":-1", "-ERR unknown command");
        assert!(matches!(suspects(&keys(), &answers(&[SAME, &error])), Err(Unfit::Refused(_))));
        assert!(matches!(suspects(&keys(), &answers(&[SAME, "+P\r\n"])), Err(Unfit::Refused(_))));
    }

    fn suspect(kinds: &[&str]) -> Vec<Suspect> {
        vec![Suspect { key: keys()[0].clone(), kinds: kinds.iter().map(|kind| kind.to_string()).collect() }]
    }

    fn judged(kinds: &[&str], texts: &[&str], replicas: usize) -> Verdict {
        judge(&suspect(kinds), &answers(texts), replicas).expect("fit").remove(0)
    }

    #[test]
    fn the_majority_of_all_replicas_is_right() {
        let (x, y) = ("+P\r\n+string\r\n:-1\r\n$1\r\nx\r\n", "+P\r\n+string\r\n:-1\r\n$1\r\ny\r\n");
        assert_eq!(judged(&["string"], &[x, x, x], 3), Verdict::Equal);
        assert_eq!(judged(&["string"], &[x, y, x], 3), Verdict::Minority { like: 0b101, differ: 0b010 });
        assert_eq!(judged(&["string"], &[x, y], 3), Verdict::Undecided, "two of three are there");
        assert_eq!(judged(&["string"], &[x, x, y], 5), Verdict::Undecided);
    }

    #[test]
    fn members_count_and_not_their_order() {
        let set = |members: &str| format!("+P\r\n+set\r\n:-1\r\n*2\r\n{members}");
        let (ab, ba) = (set("$1\r\na\r\n$1\r\nb\r\n"), set("$1\r\nb\r\n$1\r\na\r\n"));
        assert_eq!(judged(&["set"], &[&ab, &ba], 2), Verdict::Equal);
    }

    #[test]
    fn other_types_and_missing_keys_differ() {
        let wrong = "-WRONGTYPE no\r\n";
        let text = format!("+P\r\n+string\r\n:-1\r\n{wrong}$1\r\nx\r\n");
        let list = format!("+P\r\n+list\r\n:-1\r\n*1\r\n$1\r\nx\r\n{wrong}");
        let none = "+P\r\n+none\r\n:-2\r\n*0\r\n$-1\r\n";
        let kinds = ["list", "none", "string"];
        assert_eq!(
            judged(&kinds, &[&text, &text, &list], 3),
            Verdict::Minority { like: 0b011, differ: 0b100 }
        );
        assert_eq!(judged(&kinds, &[none, &text, none], 3), Verdict::Minority { like: 0b101, differ: 0b010 });
    }

    #[test]
    fn a_type_that_nobody_had_before_is_looked_at_again() {
        let hash = "+P\r\n+hash\r\n:-1\r\n-WRONGTYPE no\r\n";
        let again = Verdict::Again(suspect(&["hash"]).remove(0));
        assert_eq!(judged(&["string"], &[hash, hash], 2), again);
    }
}
