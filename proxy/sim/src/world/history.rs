//! What clients ask, and the record of it for the checker.

use crate::lin::{CounterOp, ListOp, ListRet, OpId, Recorder, RegisterOp, RegisterRet};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Access, Ends, Timed};
use quorate_wire::command;
use quorate_wire::resp::{Scanner, Value, encode, expiry};

/// One command of a client; the number is that of the key among those of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `SET r value`.
    Set(u8, String),
    /// `GET r`.
    Get(u8),
    /// `INCRBY c by`.
    Add(u8, u64),
    /// `GET c`.
    Count(u8),
    /// `RPUSH l item`.
    Push(u8, String),
    /// `LRANGE l 0 -1`.
    List(u8),
    /// `SET t 1` with a deadline, in milliseconds since 1970. What is left of the value at which moment is not
    /// judged; that all replicas agree on it is.
    Lease(u8, u64),
    /// `INCR t`.
    Touch(u8),
}

impl Ask {
    /// The key's name.
    pub fn key(&self) -> String {
        match self {
            Ask::Set(k, _) | Ask::Get(k) => format!("r{k}"),
            Ask::Add(k, _) | Ask::Count(k) => format!("c{k}"),
            Ask::Push(k, _) | Ask::List(k) => format!("l{k}"),
            Ask::Lease(k, _) | Ask::Touch(k) => format!("t{k}"),
        }
    }

    pub(super) fn access(&self) -> Access {
        match self {
            Ask::Get(_) | Ask::Count(_) | Ask::List(_) => Access::Read,
            Ask::Set(..) | Ask::Add(..) | Ask::Push(..) | Ask::Lease(..) | Ask::Touch(_) => Access::Write,
        }
    }

    pub(super) fn bucket(&self) -> u16 {
        command::key_hash(self.key().as_bytes()) as u16
    }

    /// The deadline that it gives its key.
    pub(super) fn timed(&self) -> Option<Timed> {
        let Ask::Lease(_, at) = self else { return None };
        Some(Timed { key: self.key().into_bytes().into(), ends: Ends::At(*at) })
    }

    /// `set_back`: as proxies write deadlines while they own them.
    pub(super) fn encode(&self, set_back: bool, out: &mut BytesMut) {
        let key = self.key();
        let key = key.as_bytes();
        match self {
            Ask::Set(_, value) => encode::command([&b"SET"[..], key, value.as_bytes()], out),
            Ask::Get(_) | Ask::Count(_) => encode::command([&b"GET"[..], key], out),
            Ask::Add(_, by) => encode::command([&b"INCRBY"[..], key, by.to_string().as_bytes()], out),
            Ask::Push(_, item) => encode::command([&b"RPUSH"[..], key, item.as_bytes()], out),
            Ask::List(_) => encode::command([&b"LRANGE"[..], key, b"0", b"-1"], out),
            Ask::Touch(_) => encode::command([&b"INCR"[..], key], out),
            Ask::Lease(_, at) => {
                let kept = if set_back { expiry::set_back(*at as i64) } else { *at as i64 }.to_string();
                encode::command([&b"SET"[..], key, b"1", b"PXAT", kept.as_bytes()], out);
            }
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Ok(Value),
    Failed,
    Unknown,
}

/// Cuts the replies of one burst.
pub(super) fn replies(bytes: &Bytes) -> Option<Vec<Value>> {
    let (mut rest, mut values) = (bytes.clone(), Vec::new());
    while !rest.is_empty() {
        let len = Scanner::default().next(&rest).ok()??;
        values.push(Value::parse(&rest.split_to(len))?);
    }
    Some(values)
}

/// Three histories, by kind of key.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) registers: Recorder<RegisterOp, RegisterRet>,
    pub(super) counters: Recorder<CounterOp, u64>,
    pub(super) lists: Recorder<ListOp, ListRet>,
    /// What is not judged.
    others: Recorder<RegisterOp, RegisterRet>,
}

impl History {
    pub(super) fn invoke(&mut self, client: usize, ask: &Ask, at: u64) -> OpId {
        let (client, key) = (client as u64, ask.key());
        match ask {
            Ask::Set(_, value) => self.registers.invoke(client, key, RegisterOp::Set(value.clone()), at),
            Ask::Get(_) => self.registers.invoke(client, key, RegisterOp::Get, at),
            Ask::Add(_, by) => self.counters.invoke(client, key, CounterOp::Incr(*by), at),
            Ask::Count(_) => self.counters.invoke(client, key, CounterOp::Get, at),
            Ask::Push(_, item) => self.lists.invoke(client, key, ListOp::Append(item.clone()), at),
            Ask::List(_) => self.lists.invoke(client, key, ListOp::Read, at),
            Ask::Lease(..) | Ask::Touch(_) => self.others.invoke(client, key, RegisterOp::Get, at),
        }
    }

    /// `Err`: the answer is not one that this command has.
    pub(super) fn end(&mut self, ask: &Ask, id: OpId, end: &End, at: u64) -> Result<(), String> {
        let odd = || format!("{ask:?} was answered {end:?}");
        match ask {
            Ask::Set(..) | Ask::Get(_) => {
                let ret = match (ask, end) {
                    (Ask::Set(..), End::Ok(Value::Simple(_))) => Some(RegisterRet::Done),
                    (Ask::Get(_), End::Ok(value)) => {
                        Some(RegisterRet::Value(optional(value).ok_or_else(odd)?))
                    }
                    (_, End::Ok(_)) => return Err(odd()),
                    _ => None,
                };
                close(&mut self.registers, id, ret, end, at);
            }
            Ask::Add(..) | Ask::Count(_) => {
                let ret = match end {
                    End::Ok(value) => Some(number(value).ok_or_else(odd)?),
                    _ => None,
                };
                close(&mut self.counters, id, ret, end, at);
            }
            Ask::Push(..) | Ask::List(_) => {
                let ret = match end {
                    End::Ok(Value::Integer(length)) => Some(ListRet::Length(*length as usize)),
                    End::Ok(Value::Array(values)) => Some(ListRet::Items(items(values).ok_or_else(odd)?)),
                    End::Ok(_) => return Err(odd()),
                    _ => None,
                };
                close(&mut self.lists, id, ret, end, at);
            }
            Ask::Lease(..) | Ask::Touch(_) => {
                let fine = match (ask, end) {
                    (Ask::Lease(..), End::Ok(value)) => matches!(value, Value::Simple(_)),
                    (_, End::Ok(value)) => matches!(value, Value::Integer(1..)),
                    _ => true,
                };
                close(&mut self.others, id, Some(RegisterRet::Done), end, at);
                return if fine { Ok(()) } else { Err(odd()) };
            }
        }
        Ok(())
    }
}

fn close<O, R>(recorder: &mut Recorder<O, R>, id: OpId, ret: Option<R>, end: &End, at: u64) {
    match (ret, end) {
        (Some(ret), _) => recorder.ok(id, ret, at),
        (None, End::Failed) => recorder.fail(id, at),
        (None, _) => recorder.unknown(id, at),
    }
}

fn optional(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        value => Some(Some(value.text()?.to_string())),
    }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::Null => Some(0),
        value => value.text()?.parse().ok(),
    }
}

pub(super) fn items(values: &[Value]) -> Option<Vec<String>> {
    values.iter().map(|value| value.text().map(str::to_string)).collect()
}
