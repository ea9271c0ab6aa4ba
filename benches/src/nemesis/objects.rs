//! What clients ask: objects of seven kinds in Redis, how each is written, read and understood.
//! Every write has a value of its own, so that a lost one and a doubled one are both seen.

use bytes::{Bytes, BytesMut};
use quorate_sim::lin::{CounterOp, ListOp, ListRet, RegisterOp, RegisterRet};
use quorate_wire::resp::{Value, encode};

/// Length of the piece that one APPEND adds.
const PIECE: usize = 12;
/// Hash fields that share one key.
const FIELDS: u64 = 4;

/// What an object is in Redis, and what it is to the checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SET, SET NX, GET, DEL: a register.
    Text,
    /// HSET, HGET, HDEL of one field: a register.
    Field,
    /// MSET and MGET of two keys that must always agree: a register.
    Pair,
    /// INCR, GET: a counter.
    Counter,
    /// RPUSH, LRANGE: a list that grows.
    List,
    /// LPUSH, LRANGE read backwards: a list that grows.
    Stack,
    /// APPEND of pieces of one length, GET: a list that grows.
    Log,
}

/// All kinds.
pub const KINDS: [Kind; 7] =
    [Kind::Text, Kind::Field, Kind::Pair, Kind::Counter, Kind::List, Kind::Stack, Kind::Log];

/// One object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct Object {
    pub kind: Kind,
    pub number: u64,
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Reads all of it.
    Read,
    /// Writes or adds the value with this number.
    Write(u64),
    /// Writes it if there is none yet.
    WriteNew(u64),
    /// Removes it.
    Remove,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Ask {
    pub object: Object,
    pub act: Act,
}

/// The request as the checker's models know it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Register(RegisterOp),
    Counter(CounterOp),
    List(ListOp),
}

/// An answer as the checker's models know it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Told {
    Register(RegisterRet),
    Counter(u64),
    List(ListRet),
}

impl Object {
    /// The name it has in the history.
    pub fn name(self) -> String {
        let number = self.number;
        match self.kind {
            Kind::Text => format!("t{number}"),
            Kind::Field => format!("h{}.f{}", number / FIELDS, number % FIELDS),
            Kind::Pair => format!("p{number}"),
            Kind::Counter => format!("c{number}"),
            Kind::List => format!("l{number}"),
            Kind::Stack => format!("s{number}"),
            Kind::Log => format!("a{number}"),
        }
    }

    /// The names of its keys in Redis.
    fn keys(self) -> Vec<String> {
        match self.kind {
            Kind::Field => vec![format!("h{}", self.number / FIELDS)],
            Kind::Pair => vec![format!("p{}:a", self.number), format!("p{}:b", self.number)],
            _ => vec![self.name()],
        }
    }
}

impl Ask {
    /// A read of everything that an object holds.
    pub fn read(object: Object) -> Ask {
        Ask { object, act: Act::Read }
    }

    /// The command.
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::new();
        let words = self.words();
        encode::command(words.iter().map(String::as_bytes).collect::<Vec<_>>(), &mut out);
        out.freeze()
    }

    fn words(self) -> Vec<String> {
        let keys = self.object.keys();
        let field = || format!("f{}", self.object.number % FIELDS);
        let (key, text) = (keys[0].as_str(), |number: u64| value(self.object.kind, number));
        let words = |all: &[&str]| all.iter().map(|word| word.to_string()).collect();
        match (self.object.kind, self.act) {
            (Kind::Text, Act::WriteNew(n)) => words(&["SET", key, &text(n), "NX"]),
            (Kind::Text, Act::Write(n)) => words(&["SET", key, &text(n)]),
            (Kind::Text, Act::Remove) => words(&["DEL", key]),
            (Kind::Text | Kind::Counter | Kind::Log, Act::Read) => words(&["GET", key]),
            (Kind::Field, Act::Write(n)) => words(&["HSET", key, &field(), &text(n)]),
            (Kind::Field, Act::Remove) => words(&["HDEL", key, &field()]),
            (Kind::Field, Act::Read) => words(&["HGET", key, &field()]),
            (Kind::Pair, Act::Write(n)) => words(&["MSET", key, &text(n), &keys[1], &text(n)]),
            (Kind::Pair, Act::Read) => words(&["MGET", key, &keys[1]]),
            (Kind::Counter, Act::Write(_)) => words(&["INCR", key]),
            (Kind::List, Act::Write(n)) => words(&["RPUSH", key, &text(n)]),
            (Kind::Stack, Act::Write(n)) => words(&["LPUSH", key, &text(n)]),
            (Kind::List | Kind::Stack, Act::Read) => words(&["LRANGE", key, "0", "-1"]),
            (Kind::Log, Act::Write(n)) => words(&["APPEND", key, &text(n)]),
            (kind, act) => unreachable!("{act:?} is not asked of a {kind:?}"),
        }
    }

    /// The same for the checker.
    pub fn op(self) -> Op {
        let text = |n| value(self.object.kind, n);
        match (self.object.kind, self.act) {
            (Kind::Text | Kind::Field | Kind::Pair, act) => Op::Register(match act {
                Act::Read => RegisterOp::Get,
                Act::Write(n) => RegisterOp::Set(text(n)),
                Act::WriteNew(n) => RegisterOp::Cas { from: None, to: text(n) },
                Act::Remove => RegisterOp::Delete,
            }),
            (Kind::Counter, Act::Read) => Op::Counter(CounterOp::Get),
            (Kind::Counter, _) => Op::Counter(CounterOp::Incr(1)),
            (_, Act::Write(n)) => Op::List(ListOp::Append(text(n))),
            _ => Op::List(ListOp::Read),
        }
    }

    /// What a reply tells. `Err`: what is wrong with a reply that this command never has.
    pub fn told(self, reply: &Value) -> Result<Told, String> {
        let odd = || format!("{} was answered {reply:?}", self.words().join(" "));
        let told = match (self.object.kind, self.act) {
            (Kind::Text | Kind::Field | Kind::Pair, _) => self.told_register(reply).map(Told::Register),
            (Kind::Counter, _) => number(reply).map(Told::Counter),
            (kind, act) => told_list(kind, act, reply).map(Told::List),
        };
        told.ok_or_else(odd)
    }

    fn told_register(self, reply: &Value) -> Option<RegisterRet> {
        match (self.object.kind, self.act, reply) {
            (Kind::Pair, Act::Read, Value::Array(both)) if both.len() == 2 && both[0] == both[1] => {
                optional(&both[0]).map(RegisterRet::Value)
            }
            (Kind::Text | Kind::Field, Act::Read, value) => optional(value).map(RegisterRet::Value),
            (_, Act::WriteNew(_), Value::Simple(_)) => Some(RegisterRet::Changed(true)),
            (_, Act::WriteNew(_), Value::Null) => Some(RegisterRet::Changed(false)),
            (_, Act::Remove, Value::Integer(count)) => Some(RegisterRet::Changed(*count == 1)),
            (Kind::Text | Kind::Pair, Act::Write(_), Value::Simple(_)) => Some(RegisterRet::Done),
            (Kind::Field, Act::Write(_), Value::Integer(_)) => Some(RegisterRet::Done),
            _ => None,
        }
    }
}

fn told_list(kind: Kind, act: Act, reply: &Value) -> Option<ListRet> {
    match (kind, act, reply) {
        (Kind::Log, Act::Write(_), Value::Integer(bytes)) => {
            let bytes = usize::try_from(*bytes).ok()?;
            bytes.is_multiple_of(PIECE).then_some(ListRet::Length(bytes / PIECE))
        }
        (Kind::Log, Act::Read, Value::Null) => Some(ListRet::Items(Vec::new())),
        (Kind::Log, Act::Read, value) => {
            let text = value.text().filter(|text| text.is_ascii() && text.len().is_multiple_of(PIECE))?;
            let pieces = text.as_bytes().chunks(PIECE);
            Some(ListRet::Items(pieces.map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()))
        }
        (_, Act::Write(_), Value::Integer(length)) => Some(ListRet::Length(usize::try_from(*length).ok()?)),
        (_, Act::Read, Value::Array(values)) => {
            let items: Option<Vec<String>> = values.iter().map(|v| v.text().map(str::to_string)).collect();
            let mut items = items?;
            if kind == Kind::Stack {
                items.reverse();
            }
            Some(ListRet::Items(items))
        }
        _ => None,
    }
}

/// The value with a number: pieces of a log all have one length.
fn value(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Log => format!("{number:0width$};", width = PIECE - 1),
        _ => format!("v{number}"),
    }
}

fn optional(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        value => Some(Some(value.text()?.to_string())),
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Null => Some(0),
        value => value.text()?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_torn_pair_is_no_answer() {
        let ask = Ask::read(Object { kind: Kind::Pair, number: 3 });
        let whole = ask.told(&Value::Array(vec![bulk("v1"), bulk("v1")])).expect("they agree");
        assert_eq!(whole, Told::Register(RegisterRet::Value(Some("v1".into()))));
        let torn = ask.told(&Value::Array(vec![bulk("v1"), bulk("v2")])).expect_err("they do not");
        assert!(torn.starts_with("MGET p3:a p3:b was answered"), "{torn}");
    }

    #[test]
    fn a_log_is_a_list_of_its_pieces() {
        let object = Object { kind: Kind::Log, number: 0 };
        let append = Ask { object, act: Act::Write(7) };
        assert_eq!(append.op(), Op::List(ListOp::Append("00000000007;".into())));
        assert_eq!(append.told(&Value::Integer(24)), Ok(Told::List(ListRet::Length(2))));
        assert!(append.told(&Value::Integer(25)).is_err());
        let both = Ask::read(object).told(&bulk("00000000007;00000000008;")).expect("two pieces");
        assert_eq!(both, Told::List(ListRet::Items(vec!["00000000007;".into(), "00000000008;".into()])));
    }

    #[test]
    fn a_stack_reads_backwards() {
        let read = Ask::read(Object { kind: Kind::Stack, number: 0 });
        let told = read.told(&Value::Array(vec![bulk("v2"), bulk("v1")])).expect("items");
        assert_eq!(told, Told::List(ListRet::Items(vec!["v1".into(), "v2".into()])));
    }
}
