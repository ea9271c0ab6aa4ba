//! The five kinds of value a key may hold, and their canonical text.
//! It never knows under which key it is stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use super::number::format_score;
use super::zset::SortedSet;

/// A string.
pub(super) type Text = Vec<u8>;
/// A list; the front is the left end.
pub(super) type List = VecDeque<Vec<u8>>;
/// A hash, ordered by field.
pub(super) type Hash = BTreeMap<Vec<u8>, Vec<u8>>;
/// A set, ordered by member.
pub(super) type Set = BTreeSet<Vec<u8>>;

/// What a key holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(Text),
    List(List),
    Hash(Hash),
    Set(Set),
    Sorted(SortedSet),
}

impl Value {
    /// The name TYPE answers with.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::Sorted(_) => "zset",
        }
    }

    /// Empty collections do not exist in Redis; an empty string does.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Value::Text(_) => false,
            Value::List(list) => list.is_empty(),
            Value::Hash(hash) => hash.is_empty(),
            Value::Set(set) => set.is_empty(),
            Value::Sorted(sorted) => sorted.is_empty(),
        }
    }

    /// Bytes of payload, the measure behind `used_memory`.
    pub(super) fn weight(&self) -> usize {
        const PER_ITEM: usize = 16;
        match self {
            Value::Text(text) => text.len(),
            Value::List(list) => list.iter().map(|v| v.len() + PER_ITEM).sum(),
            Value::Hash(hash) => hash.iter().map(|(f, v)| f.len() + v.len() + PER_ITEM).sum(),
            Value::Set(set) => set.iter().map(|v| v.len() + PER_ITEM).sum(),
            Value::Sorted(sorted) => sorted.iter().map(|(m, _)| m.len() + 2 * PER_ITEM).sum(),
        }
    }

    /// One line that is equal for equal values and for no others.
    pub(super) fn canonical(&self) -> String {
        let mut out = String::from(self.kind());
        match self {
            Value::Text(text) => show(&mut out, text),
            Value::List(list) => list.iter().for_each(|v| show(&mut out, v)),
            Value::Set(set) => set.iter().for_each(|v| show(&mut out, v)),
            Value::Hash(hash) => {
                for (field, value) in hash {
                    show(&mut out, field);
                    show(&mut out, value);
                }
            }
            Value::Sorted(sorted) => {
                for (member, score) in sorted.iter() {
                    show(&mut out, member);
                    // Writing to a String cannot fail.
                    let _ = write!(out, " {}", format_score(score));
                }
            }
        }
        out
    }
}

fn show(out: &mut String, bytes: &[u8]) {
    // Writing to a String cannot fail.
    let _ = write!(out, " \"{}\"", bytes.escape_ascii());
}

/// The link between a Rust type and the kind of value it is stored as.
pub(super) trait Kind: Sized + Default {
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;
}

macro_rules! kind {
    ($type:ty, $variant:ident) => {
        impl Kind for $type {
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(inner) = value { Some(inner) } else { None }
            }
            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(inner) = value { Some(inner) } else { None }
            }
            fn into_value(self) -> Value {
                Value::$variant(self)
            }
        }
    };
}

kind!(Text, Text);
kind!(List, List);
kind!(Hash, Hash);
kind!(Set, Set);
kind!(SortedSet, Sorted);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_tells_values_apart() {
        let one = Value::List(VecDeque::from([b"a b".to_vec()]));
        let two = Value::List(VecDeque::from([b"a".to_vec(), b"b".to_vec()]));
        assert_eq!(one.canonical(), "list \"a b\"");
        assert_ne!(one.canonical(), two.canonical());
        let quote = Value::Set(BTreeSet::from([b"a\" \"b".to_vec()]));
        let plain = Value::Set(BTreeSet::from([b"a".to_vec(), b"b".to_vec()]));
        assert_ne!(quote.canonical(), plain.canonical());
    }
}
