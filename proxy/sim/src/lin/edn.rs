//! A history as Jepsen writes it: one map per line, calls and ends in order of time.
//! `knossos` and `elle` read it; values are `[key value]` pairs, as of independent keys.

use std::fmt::Write as _;

use super::history::{Operation, Outcome};
use super::models::{CounterOp, ListOp, ListRet, RegisterOp, RegisterRet};

/// How an operation is written.
pub trait Edn<R> {
    /// The keyword of `:f`, without its colon.
    fn name(&self) -> &'static str;
    /// The value: what was asked, or with an answer what was told.
    fn value(&self, ret: Option<&R>) -> String;
}

/// All operations as lines of EDN.
pub fn to_edn<O: Edn<R>, R>(operations: &[Operation<O, R>]) -> String {
    let mut events: Vec<(u64, u8, String)> = Vec::new();
    for operation in operations {
        // Calls come before ends of the same moment, which is what concurrency means to the checker.
        events.push((operation.invoked, 0, event(operation, "invoke", None, operation.invoked)));
        match &operation.outcome {
            Outcome::Ok { ret, at } => events.push((*at, 1, event(operation, "ok", Some(ret), *at))),
            Outcome::Failed { at } => events.push((*at, 1, event(operation, "fail", None, *at))),
            Outcome::Unknown { at: Some(at) } => events.push((*at, 1, event(operation, "info", None, *at))),
            Outcome::Unknown { at: None } => {}
        }
    }
    events.sort_by_key(|(at, order, _)| (*at, *order));
    let mut out = String::new();
    for (index, (_, _, fields)) in events.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{{:index {index}, {fields}}}");
    }
    out
}

fn event<O: Edn<R>, R>(operation: &Operation<O, R>, kind: &str, ret: Option<&R>, at: u64) -> String {
    let Operation { process, key, op, .. } = operation;
    let (name, value) = (op.name(), op.value(ret));
    format!(":time {at}, :process {process}, :type :{kind}, :f :{name}, :value [{} {value}]", quoted(key))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn optional(text: Option<&String>) -> String {
    text.map_or("nil".into(), |text| quoted(text))
}

impl Edn<RegisterRet> for RegisterOp {
    fn name(&self) -> &'static str {
        match self {
            RegisterOp::Get => "read",
            RegisterOp::Set(_) => "write",
            RegisterOp::Cas { .. } => "cas",
            RegisterOp::Delete => "delete",
        }
    }

    fn value(&self, ret: Option<&RegisterRet>) -> String {
        match (self, ret) {
            (RegisterOp::Get, Some(RegisterRet::Value(value))) => optional(value.as_ref()),
            (RegisterOp::Set(value), _) => quoted(value),
            (RegisterOp::Cas { from, to }, _) => format!("[{} {}]", optional(from.as_ref()), quoted(to)),
            (_, Some(RegisterRet::Changed(yes))) => yes.to_string(),
            _ => "nil".into(),
        }
    }
}

impl Edn<u64> for CounterOp {
    fn name(&self) -> &'static str {
        match self {
            CounterOp::Incr(_) => "add",
            CounterOp::Get => "read",
        }
    }

    fn value(&self, ret: Option<&u64>) -> String {
        match (self, ret) {
            (CounterOp::Incr(by), None) => by.to_string(),
            (CounterOp::Incr(by), Some(sum)) => format!("[{by} {sum}]"),
            (CounterOp::Get, ret) => ret.map_or("nil".into(), u64::to_string),
        }
    }
}

impl Edn<ListRet> for ListOp {
    fn name(&self) -> &'static str {
        match self {
            ListOp::Append(_) => "append",
            ListOp::Read => "read",
        }
    }

    fn value(&self, ret: Option<&ListRet>) -> String {
        match (self, ret) {
            (ListOp::Append(item), _) => quoted(item),
            (ListOp::Read, Some(ListRet::Items(items))) => {
                let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
                format!("[{}]", items.join(" "))
            }
            (ListOp::Read, _) => "nil".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lin::Recorder;

    #[test]
    fn a_history_reads_like_one_of_jepsen() {
        let mut history = Recorder::default();
        let write = history.invoke(0, "x", RegisterOp::Set("a\"b".into()), 1);
        let read = history.invoke(1, "x", RegisterOp::Get, 2);
        history.ok(read, RegisterRet::Value(None), 3);
        history.unknown(write, 4);
        let expected = r#"{:index 0, :time 1, :process 0, :type :invoke, :f :write, :value ["x" "a\"b"]}
{:index 1, :time 2, :process 1, :type :invoke, :f :read, :value ["x" nil]}
{:index 2, :time 3, :process 1, :type :ok, :f :read, :value ["x" nil]}
{:index 3, :time 4, :process 0, :type :info, :f :write, :value ["x" "a\"b"]}
"#;
        assert_eq!(to_edn(history.operations()), expected);
    }
}
