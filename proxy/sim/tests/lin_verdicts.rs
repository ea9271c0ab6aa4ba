//! Histories whose verdict is known: the mistakes a replicated store makes, and what is allowed though odd.

use quorate_sim::lin::{
    AppendList, Budget, Counter, CounterOp, ListOp, ListRet, OpId, Recorder, Register, RegisterOp,
    RegisterRet, Verdict, Witness, check,
};

type Registers = Recorder<RegisterOp, RegisterRet>;

fn set(history: &mut Registers, process: u64, value: &str, from: u64, to: u64) -> OpId {
    let id = history.invoke(process, "k", RegisterOp::Set(value.into()), from);
    history.ok(id, RegisterRet::Done, to);
    id
}

fn get(history: &mut Registers, process: u64, value: Option<&str>, from: u64, to: u64) -> OpId {
    let id = history.invoke(process, "k", RegisterOp::Get, from);
    history.ok(id, RegisterRet::Value(value.map(String::from)), to);
    id
}

fn judge(history: &Registers) -> Verdict {
    check::<Register>(history.operations(), Budget::default())
}

fn witness(verdict: Verdict) -> Witness {
    match verdict {
        Verdict::NotLinearizable(witness) => *witness,
        other => panic!("expected a violation, got {other:?}"),
    }
}

#[test]
fn nothing_happened() {
    assert_eq!(judge(&Registers::default()), Verdict::Linearizable);
}

#[test]
fn concurrent_writes_may_land_in_either_order() {
    for last in ["a", "b"] {
        let mut history = Registers::default();
        set(&mut history, 0, "a", 0, 10);
        set(&mut history, 1, "b", 5, 15);
        get(&mut history, 2, Some(last), 20, 21);
        assert_eq!(judge(&history), Verdict::Linearizable, "{last}");
    }
}

#[test]
fn a_stale_read_is_found_and_named() {
    let mut history = Registers::default();
    let first = set(&mut history, 0, "a", 0, 1);
    let second = set(&mut history, 0, "b", 2, 3);
    let stale = get(&mut history, 1, Some("a"), 4, 5);
    let witness = witness(judge(&history));
    assert_eq!(witness.prefix, vec![first, second]);
    assert_eq!(witness.blocked, vec![stale]);
    assert!(!witness.refused_took_effect);
}

#[test]
fn reads_may_not_go_back() {
    let mut history = Registers::default();
    set(&mut history, 0, "a", 0, 100);
    get(&mut history, 1, Some("a"), 10, 20);
    get(&mut history, 2, None, 30, 40);
    assert!(matches!(judge(&history), Verdict::NotLinearizable(_)));
}

#[test]
fn a_value_cannot_be_read_before_it_is_written() {
    let mut history = Registers::default();
    get(&mut history, 1, Some("a"), 0, 1);
    set(&mut history, 0, "a", 2, 3);
    assert!(matches!(judge(&history), Verdict::NotLinearizable(_)));
}

#[test]
fn a_lost_write_is_found() {
    let mut history = Registers::default();
    set(&mut history, 0, "a", 0, 1);
    get(&mut history, 1, None, 2, 3);
    assert!(matches!(judge(&history), Verdict::NotLinearizable(_)));
}

#[test]
fn an_unknown_write_may_show_late_or_never() {
    for (first, second, fine) in
        [(None, None, true), (None, Some("a"), true), (Some("a"), Some("a"), true), (Some("a"), None, false)]
    {
        let mut history = Registers::default();
        let write = history.invoke(0, "k", RegisterOp::Set("a".into()), 0);
        history.unknown(write, 1);
        get(&mut history, 1, first, 10, 11);
        get(&mut history, 1, second, 20, 21);
        assert_eq!(judge(&history) == Verdict::Linearizable, fine, "{first:?} {second:?}");
    }
}

#[test]
fn a_refused_write_must_not_show_and_is_blamed() {
    let mut history = Registers::default();
    let write = history.invoke(0, "k", RegisterOp::Set("a".into()), 0);
    history.fail(write, 1);
    get(&mut history, 1, Some("a"), 2, 3);
    assert!(witness(judge(&history)).refused_took_effect);
}

#[test]
fn of_two_equal_compare_and_sets_one_wins() {
    let mut history = Registers::default();
    for process in 0..2 {
        let op = RegisterOp::Cas { from: None, to: process.to_string() };
        let id = history.invoke(process, "k", op, 0);
        history.ok(id, RegisterRet::Changed(true), 10);
    }
    assert!(matches!(judge(&history), Verdict::NotLinearizable(_)));
}

#[test]
fn a_delete_says_whether_there_was_something() {
    let mut history = Registers::default();
    set(&mut history, 0, "a", 0, 1);
    for (at, existed) in [(2, true), (4, false)] {
        let id = history.invoke(0, "k", RegisterOp::Delete, at);
        history.ok(id, RegisterRet::Changed(existed), at + 1);
    }
    assert_eq!(judge(&history), Verdict::Linearizable);
}

#[test]
fn keys_are_judged_apart_and_the_wrong_one_is_named() {
    let mut history = Registers::default();
    set(&mut history, 0, "a", 0, 1);
    let other = history.invoke(1, "other", RegisterOp::Get, 2);
    history.ok(other, RegisterRet::Value(Some("a".into())), 3);
    let witness = witness(judge(&history));
    assert_eq!((witness.key.as_str(), witness.blocked), ("other", vec![other]));
}

fn increments(answers: &[(u64, u64, u64)]) -> Verdict {
    let mut history = Recorder::default();
    for (process, (from, to, sum)) in answers.iter().enumerate() {
        let id = history.invoke(process as u64, "n", CounterOp::Incr(1), *from);
        history.ok(id, *sum, *to);
    }
    check::<Counter>(history.operations(), Budget::default())
}

#[test]
fn increments_are_counted_once() {
    assert_eq!(increments(&[(0, 9, 2), (1, 8, 1), (10, 11, 3)]), Verdict::Linearizable);
    let lost_update = increments(&[(0, 9, 1), (1, 8, 1)]);
    assert!(matches!(lost_update, Verdict::NotLinearizable(_)));
    let doubled = increments(&[(0, 1, 1), (2, 3, 3)]);
    assert!(matches!(doubled, Verdict::NotLinearizable(_)));
}

#[test]
fn a_list_keeps_what_was_acknowledged_in_order() {
    let items = |items: &[&str]| ListRet::Items(items.iter().map(|item| item.to_string()).collect());
    for (seen, fine) in [(items(&["a", "b"]), true), (items(&["b", "a"]), false), (items(&["a"]), false)] {
        let mut history = Recorder::default();
        for (at, item) in [(0, "a"), (2, "b")] {
            let id = history.invoke(0, "l", ListOp::Append(item.into()), at);
            history.ok(id, ListRet::Length(at as usize / 2 + 1), at + 1);
        }
        let read = history.invoke(1, "l", ListOp::Read, 4);
        history.ok(read, seen.clone(), 5);
        let verdict = check::<AppendList>(history.operations(), Budget::default());
        assert_eq!(verdict == Verdict::Linearizable, fine, "{seen:?}");
    }
}

#[test]
fn a_spent_budget_is_not_a_verdict() {
    let mut history = Registers::default();
    set(&mut history, 0, "a", 0, 1);
    get(&mut history, 0, None, 2, 3);
    let verdict = check::<Register>(history.operations(), Budget { steps_per_key: 1 });
    assert_eq!(verdict, Verdict::Unknown { key: "k".into() });
}

#[test]
#[should_panic(expected = "an operation ends once")]
fn an_operation_ends_once() {
    let mut history = Registers::default();
    let id = set(&mut history, 0, "a", 0, 1);
    history.fail(id, 2);
}
