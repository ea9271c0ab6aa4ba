//! Three objects to check against: a register, a counter, a list that only grows.
//! Their answers are those of the Redis commands named beside them.

use std::sync::Arc;

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

impl RegisterOp {
    fn may_leave(&self, value: Option<&str>) -> bool {
        match self {
            RegisterOp::Get => false,
            RegisterOp::Set(to) | RegisterOp::Cas { to, .. } => value == Some(to),
            RegisterOp::Delete => value.is_none(),
        }
    }
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

    fn reads_only(op: &RegisterOp) -> bool {
        matches!(op, RegisterOp::Get)
    }

    fn overwrites(op: &RegisterOp, ret: Option<&RegisterRet>) -> bool {
        let blind = matches!(op, RegisterOp::Set(_) | RegisterOp::Delete);
        blind && matches!(ret, None | Some(RegisterRet::Done))
    }

    fn hopeless<'a>(
        state: &Option<String>,
        op: &RegisterOp,
        ret: &RegisterRet,
        mut rest: impl Iterator<Item = &'a RegisterOp>,
    ) -> bool {
        let needed = match (op, ret) {
            (_, RegisterRet::Value(value)) => value,
            (RegisterOp::Cas { from, .. }, RegisterRet::Changed(true)) => from,
            (RegisterOp::Delete, RegisterRet::Changed(false)) => &None,
            _ => return false,
        };
        state != needed && !rest.any(|other| other.may_leave(needed.as_deref()))
    }
}

/// A number that starts at 0 and never falls: INCR, INCRBY with a positive number, GET.
#[derive(Debug, Clone, Copy)]
pub struct Counter;

/// What a client asks a [`Counter`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CounterOp {
    /// Adds, and answers with the sum.
    Incr(u64),
    /// Reads.
    Get,
}

impl Model for Counter {
    type State = u64;
    type Op = CounterOp;
    type Ret = u64;

    fn initial() -> u64 {
        0
    }

    fn step(state: &u64, op: &CounterOp, ret: Option<&u64>) -> Option<u64> {
        let next = match op {
            CounterOp::Incr(by) => state.saturating_add(*by),
            CounterOp::Get => *state,
        };
        ret.is_none_or(|said| *said == next).then_some(next)
    }

    fn reads_only(op: &CounterOp) -> bool {
        matches!(op, CounterOp::Get)
    }

    fn hopeless<'a>(state: &u64, op: &CounterOp, ret: &u64, _: impl Iterator<Item = &'a CounterOp>) -> bool {
        Self::step(state, op, None).is_some_and(|least| *ret < least)
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
    type State = Vec<Arc<str>>;
    type Op = ListOp;
    type Ret = ListRet;

    fn initial() -> Vec<Arc<str>> {
        Vec::new()
    }

    fn step(state: &Vec<Arc<str>>, op: &ListOp, ret: Option<&ListRet>) -> Option<Vec<Arc<str>>> {
        let len = state.len() + usize::from(matches!(op, ListOp::Append(_)));
        let right = match ret {
            None => true,
            Some(ListRet::Length(said)) => *said == len,
            Some(ListRet::Items(said)) => said.len() == len && is_prefix(state, said),
        };
        if !right {
            return None;
        }
        let mut next = state.clone();
        if let ListOp::Append(item) = op {
            next.push(item.as_str().into());
        }
        Some(next)
    }

    fn reads_only(op: &ListOp) -> bool {
        matches!(op, ListOp::Read)
    }

    fn hopeless<'a>(
        state: &Vec<Arc<str>>,
        op: &ListOp,
        ret: &ListRet,
        _: impl Iterator<Item = &'a ListOp>,
    ) -> bool {
        match ret {
            ListRet::Length(said) => *said < state.len() + usize::from(matches!(op, ListOp::Append(_))),
            ListRet::Items(said) => !is_prefix(state, said),
        }
    }
}

fn is_prefix(state: &[Arc<str>], items: &[String]) -> bool {
    state.len() <= items.len() && state.iter().zip(items).all(|(one, other)| **one == **other)
}
