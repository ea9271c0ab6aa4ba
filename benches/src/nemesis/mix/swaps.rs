//! Compare-and-set by WATCH, GET, MULTI, SET, EXEC. An EXEC that is answered `nil` did nothing; one that is answered
//! otherwise found the value that was read: no update is lost. The judge is that of registers.

use super::super::judge::{Wrong, order};
use super::super::suite::LAST_READER;
use super::actor::{Actor, Family, Meaning, command, optional, transaction};
use crate::nemesis::clients::Heard;
use quorate_sim::lin::{Budget, Operation, Outcome, Register, RegisterOp, RegisterRet};
use quorate_wire::resp::Value;
use std::collections::BTreeSet;

/// What is asked.
pub type Op = RegisterOp;
/// What is told.
pub type Ret = RegisterRet;

/// Replaces the value that it read, or, now and then, any value.
pub fn swap(actor: &mut Actor, _: u64) {
    let key = format!("w{}", actor.number(Family::Swaps));
    let to = format!("v{}", actor.value());
    if actor.dice.percent(10) {
        let set = [command(&["SET", &key, &to])];
        actor.perform(
            |all| &mut all.swaps,
            (&key, RegisterOp::Set(to.clone())),
            &set,
            |reply| Meaning::of(reply.text().map(|_| RegisterRet::Done)),
        );
        return;
    }
    let Some(Heard::Reply(Value::Simple(_))) = actor.call(&[command(&["WATCH", &key])]) else {
        actor.leave();
        return;
    };
    let Some(Outcome::Ok { ret: RegisterRet::Value(from), .. }) = get(actor, &key) else {
        actor.leave();
        return;
    };
    if !actor.is_connected() {
        return;
    }
    let commands = transaction([command(&["SET", &key, &to])]);
    let op = RegisterOp::Cas { from, to };
    actor.perform(
        |all| &mut all.swaps,
        (&key, op),
        &commands,
        |reply| match reply {
            Value::Null => Meaning::Nothing,
            Value::Array(items) if matches!(items[..], [Value::Simple(_)]) => {
                Meaning::Told(RegisterRet::Changed(true))
            }
            _ => Meaning::Odd,
        },
    );
}

fn get(actor: &mut Actor, key: &str) -> Option<Outcome<Ret>> {
    actor.perform(
        |all| &mut all.swaps,
        (key, RegisterOp::Get),
        &[command(&["GET", key])],
        |reply| Meaning::of(optional(reply).map(RegisterRet::Value)),
    )
}

/// Reads them all.
pub fn read_last(actor: &mut Actor, keys: &BTreeSet<String>) {
    for key in keys {
        get(actor, key);
    }
}

/// One register.
pub fn judge(operations: &[Operation<Op, Ret>], budget: Budget) -> Option<Wrong> {
    order::<Register>(operations, LAST_READER, budget)
}

#[cfg(test)]
mod tests {
    use super::super::super::judge::Broken;
    use super::super::samples::{done, refused};
    use super::*;

    fn cas(process: u64, invoked: u64, from: Option<&str>, to: &str) -> Operation<Op, Ret> {
        let op = RegisterOp::Cas { from: from.map(str::to_string), to: to.into() };
        done(process, op, invoked, RegisterRet::Changed(true))
    }

    fn last(value: &str) -> Operation<Op, Ret> {
        done(LAST_READER, RegisterOp::Get, 50, RegisterRet::Value(Some(value.into())))
    }

    #[test]
    fn one_of_two_swaps_wins() {
        let nil = refused(2, RegisterOp::Cas { from: None, to: "v2".into() }, 2);
        let all = [cas(1, 0, None, "v1"), nil, cas(3, 20, Some("v1"), "v3"), last("v3")];
        assert!(judge(&all, Budget::default()).is_none());
    }

    #[test]
    fn a_lost_update_is_caught() {
        let all = [cas(1, 0, None, "v1"), cas(2, 2, None, "v2"), last("v2")];
        assert!(matches!(judge(&all, Budget::default()), Some(Wrong::Found(Broken::Lost, _))));
    }

    #[test]
    fn a_transaction_that_was_dropped_and_yet_done_is_caught() {
        let nil = refused(2, RegisterOp::Cas { from: Some("v1".into()), to: "v2".into() }, 20);
        let all = [cas(1, 0, None, "v1"), nil, last("v2")];
        assert!(matches!(judge(&all, Budget::default()), Some(Wrong::Found(Broken::Ghost, _))));
    }
}
