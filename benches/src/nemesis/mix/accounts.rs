//! Transfers between the accounts of a bank by MULTI and EXEC. All accounts begin with nothing, so their sum is always 0:
//! another one means that somebody saw half of a transfer. All answers must also fit one order.

use super::super::judge::{Broken, Wrong, order};
use super::super::suite::LAST_READER;
use super::actor::{Actor, Family, Meaning, command, integer, transaction};
use quorate_sim::lin::{Budget, Edn, Model, Operation, Outcome};
use quorate_wire::resp::Value;
use std::collections::BTreeSet;

/// Accounts of a bank, each a key.
const ACCOUNTS: usize = 4;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    /// MULTI, DECRBY, INCRBY, EXEC.
    Transfer { from: usize, to: usize, amount: i64 },
    /// MGET, or MULTI, GETs, EXEC.
    Read,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ret {
    /// Of a transfer: the two balances after it.
    After(i64, i64),
    /// Of a read: all balances.
    Balances([i64; ACCOUNTS]),
}

impl Edn<Ret> for Op {
    fn name(&self) -> &'static str {
        match self {
            Op::Transfer { .. } => "transfer",
            Op::Read => "read",
        }
    }

    fn value(&self, ret: Option<&Ret>) -> String {
        match (self, ret) {
            (Op::Transfer { from, to, amount }, Some(Ret::After(a, b))) => {
                format!("[{from} {to} {amount} {a} {b}]")
            }
            (Op::Transfer { from, to, amount }, _) => format!("[{from} {to} {amount}]"),
            (Op::Read, Some(Ret::Balances(all))) => {
                format!("[{}]", all.map(|balance| balance.to_string()).join(" "))
            }
            _ => "nil".into(),
        }
    }
}

/// A bank by the book.
#[derive(Debug, Clone, Copy)]
struct Bank;

impl Model for Bank {
    type State = [i64; ACCOUNTS];
    type Op = Op;
    type Ret = Ret;

    fn initial() -> Self::State {
        [0; ACCOUNTS]
    }

    fn step(state: &Self::State, op: &Op, ret: Option<&Ret>) -> Option<Self::State> {
        let mut next = *state;
        let right = match (op, ret) {
            (Op::Transfer { from, to, amount }, ret) => {
                next[*from] -= amount;
                next[*to] += amount;
                ret.is_none_or(|ret| *ret == Ret::After(next[*from], next[*to]))
            }
            (Op::Read, ret) => ret.is_none_or(|ret| *ret == Ret::Balances(next)),
        };
        right.then_some(next)
    }

    fn reads_only(op: &Op) -> bool {
        *op == Op::Read
    }
}

/// Moves money, or looks at all accounts.
pub fn transfer(actor: &mut Actor, _: u64) {
    let bank = format!("b{}", actor.number(Family::Accounts));
    if actor.dice.percent(40) {
        read(actor, &bank);
        return;
    }
    let from = actor.dice.below(ACCOUNTS as u64) as usize;
    let to = (from + 1 + actor.dice.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
    let amount = actor.value() as i64;
    let text = amount.to_string();
    let steps = [
        command(&["DECRBY", &account(&bank, from), &text]),
        command(&["INCRBY", &account(&bank, to), &text]),
    ];
    let op = Op::Transfer { from, to, amount };
    actor.perform(
        |all| &mut all.accounts,
        (&bank, op),
        &transaction(steps),
        |reply| {
            let balances: Option<Vec<i64>> = reply.items().iter().map(integer).collect();
            Meaning::of(balances.filter(|all| all.len() == 2).map(|all| Ret::After(all[0], all[1])))
        },
    );
}

fn read(actor: &mut Actor, bank: &str) {
    let names: Vec<String> = (0..ACCOUNTS).map(|nth| account(bank, nth)).collect();
    let commands = if actor.dice.percent(50) {
        let words: Vec<&str> = std::iter::once("MGET").chain(names.iter().map(String::as_str)).collect();
        vec![command(&words)]
    } else {
        transaction(names.iter().map(|name| command(&["GET", name])))
    };
    actor.perform(|all| &mut all.accounts, (bank, Op::Read), &commands, |reply| Meaning::of(balances(reply)));
}

fn balances(reply: &Value) -> Option<Ret> {
    let balances: Option<Vec<i64>> = reply.items().iter().map(integer).collect();
    Some(Ret::Balances(balances?.try_into().ok()?))
}

fn account(bank: &str, nth: usize) -> String {
    format!("{bank}:{nth}")
}

/// Reads them all.
pub fn read_last(actor: &mut Actor, keys: &BTreeSet<String>) {
    keys.iter().for_each(|bank| read(actor, bank));
}

/// One bank.
pub fn judge(operations: &[Operation<Op, Ret>], budget: Budget) -> Option<Wrong> {
    for operation in operations {
        if let Outcome::Ok { ret: Ret::Balances(all), at } = &operation.outcome
            && all.iter().sum::<i64>() != 0
        {
            return Some(Wrong::Found(Broken::Torn, format!("{all:?}, told at {} µs", at / 1000)));
        }
    }
    order::<Bank>(operations, LAST_READER, budget)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{done, refused, unknown};
    use super::*;

    fn transfer(invoked: u64, amount: i64, after: (i64, i64)) -> Operation<Op, Ret> {
        done(1, Op::Transfer { from: 0, to: 1, amount }, invoked, Ret::After(after.0, after.1))
    }

    fn read(process: u64, invoked: u64, all: [i64; ACCOUNTS]) -> Operation<Op, Ret> {
        done(process, Op::Read, invoked, Ret::Balances(all))
    }

    #[track_caller]
    fn assert_found(operations: &[Operation<Op, Ret>], expected: Option<Broken>) {
        let found = judge(operations, Budget::default()).map(|wrong| match wrong {
            Wrong::Found(broken, _) => broken,
            Wrong::Undecided => unreachable!("it is short"),
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_sound_bank_is_not_blamed() {
        let lost = unknown(2, Op::Transfer { from: 1, to: 2, amount: 3 }, 6);
        assert_found(&[transfer(0, 5, (-5, 5)), lost, read(3, 20, [-5, 2, 3, 0])], None);
    }

    #[test]
    fn half_a_transfer_is_caught() {
        assert_found(&[transfer(0, 5, (-5, 5)), read(2, 3, [-5, 0, 0, 0])], Some(Broken::Torn));
    }

    #[test]
    fn a_transfer_that_was_lost_or_refused_and_yet_done_is_caught() {
        let last = |all| read(LAST_READER, 50, all);
        assert_found(&[transfer(0, 5, (-5, 5)), last([0; ACCOUNTS])], Some(Broken::Lost));
        let op = Op::Transfer { from: 0, to: 1, amount: 5 };
        assert_found(&[refused(1, op, 0), last([-5, 5, 0, 0])], Some(Broken::Ghost));
    }

    #[test]
    fn a_read_of_yesterday_is_caught() {
        let all = [transfer(0, 5, (-5, 5)), read(2, 20, [0; ACCOUNTS]), read(LAST_READER, 50, [-5, 5, 0, 0])];
        assert_found(&all, Some(Broken::Stale));
    }
}
