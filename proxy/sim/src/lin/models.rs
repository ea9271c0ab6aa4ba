//! Three objects to check against: a register, a counter, a list that only grows.
//! Their answers are those of the Redis commands named beside them.

use super::model::Model;

/// One value, or none: SET, GET, DEL, and compare-and-set (SET NX is `from: None`).
#[derive(Debug, Clone, Copy)]
pub struct Register;

/// What a client asks a [`Register`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RegisterOp {
    /// Reads the value.
    Get,
    /// Writes a value.
    Set(String),
    /// Writes `to` when the value is `from`.
    Cas {
        /// The value expected; `None` when there should be none.
        from: Option<String>,
        /// The value to write.
        to: String,
    },
    /// Removes the value.
    Delete,
}

/// What a [`Register`] answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RegisterRet {
    /// Of a read: the value. Of a write: the value it replaced (SET with GET).
    Value(Option<String>),
    /// Of a write that says no more.
    Done,
    /// Of a compare-and-set or a delete: whether it changed something.
    Changed(bool),
}

impl Model for Register {
    type State = Option<String>;
    type Op = RegisterOp;
    type Ret = RegisterRet;

    fn initial() -> Self::State {
        None
    }

    fn step(state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State> {
        let (next, changed) = match op {
            RegisterOp::Get => (state.clone(), false),
            RegisterOp::Set(value) => (Some(value.clone()), true),
            RegisterOp::Cas { from, to } if from == state => (Some(to.clone()), true),
            RegisterOp::Cas { .. } => (state.clone(), false),
            RegisterOp::Delete => (None, state.is_some()),
        };
        let right = match ret {
            None | Some(RegisterRet::Done) => true,
            Some(RegisterRet::Value(value)) => value == state,
            Some(RegisterRet::Changed(said)) => *said == changed,
        };
        right.then_some(next)
    }
}

/// A number that starts at 0: INCRBY, GET.
#[derive(Debug, Clone, Copy)]
pub struct Counter;

/// What a client asks a [`Counter`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CounterOp {
    /// Adds, and answers with the sum.
    Incr(i64),
    /// Reads.
    Get,
}

impl Model for Counter {
    type State = i64;
    type Op = CounterOp;
    type Ret = i64;

    fn initial() -> i64 {
        0
    }

    fn step(state: &i64, op: &CounterOp, ret: Option<&i64>) -> Option<i64> {
        let next = match op {
            CounterOp::Incr(by) => state.wrapping_add(*by),
            CounterOp::Get => *state,
        };
        ret.is_none_or(|said| *said == next).then_some(next)
    }
}

/// A list that is only appended to: RPUSH, LRANGE 0 -1.
#[derive(Debug, Clone, Copy)]
pub struct AppendList;

/// What a client asks an [`AppendList`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListOp {
    /// Appends one item, and answers with the length.
    Append(String),
    /// Reads the whole list.
    Read,
}

/// What an [`AppendList`] answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListRet {
    /// Items after an append.
    Length(usize),
    /// All items.
    Items(Vec<String>),
}

impl Model for AppendList {
    type State = Vec<String>;
    type Op = ListOp;
    type Ret = ListRet;

    fn initial() -> Vec<String> {
        Vec::new()
    }

    fn step(state: &Vec<String>, op: &ListOp, ret: Option<&ListRet>) -> Option<Vec<String>> {
        let len = state.len() + usize::from(matches!(op, ListOp::Append(_)));
        let right = match ret {
            None => true,
            Some(ListRet::Length(said)) => *said == len,
            Some(ListRet::Items(said)) => said == state,
        };
        if !right {
            return None;
        }
        let mut next = state.clone();
        if let ListOp::Append(item) = op {
            next.push(item.clone());
        }
        Some(next)
    }
}
