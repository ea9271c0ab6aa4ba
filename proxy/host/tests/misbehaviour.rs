//! Guests that loop, trap, hoard or talk nonsense harm nobody but their own instance.

mod support;

use quorate_core::plan::{ASK, OpClass, PlanError};
use quorate_host::{Decider, Fault, HostError, Level, Limits, Op, OpFlags, Reason, Source, Verdict};
use std::time::{Duration, Instant};
use support::{NAUGHTY, code, host, looping, mode, naughty, patient, planner, topology};

fn build_code(how: &str) -> &'static str {
    let mut planner = planner(how);
    code(planner.build(&topology(&["a", "b", "c"]), Reason::Start))
}

#[test]
fn a_loop_in_build_ends_at_its_deadline() {
    let start = Instant::now();
    let mut planner = looping().configure(&mode("build-loop")).expect("configures");
    assert_eq!(code(planner.build(&topology(&["a"]), Reason::Start)), "deadline");
    assert!(start.elapsed() < Duration::from_secs(30), "the limit is half a second");
}

#[test]
fn a_loop_in_configure_ends_at_its_deadline() {
    let error = looping().configure(&mode("configure-loop")).err().expect("it loops");
    assert_eq!(
        error.to_string(),
        "policy 'naughty': 'configure' took longer than 500 ms; simplify the policy or raise its deadline"
    );
}

#[test]
fn a_panic_is_a_trap_that_tells_its_message() {
    let mut planner = planner("build-trap");
    let error = planner.build(&topology(&["a"]), Reason::Start).expect_err("it panics");
    assert_eq!(error.code(), "trap");
    assert!(error.to_string().contains("build was told to panic"), "{error}");
    assert_eq!(code(naughty().configure(&mode("configure-trap"))), "trap");
}

#[test]
fn memory_has_a_bound() {
    assert_eq!(build_code("build-memory"), "out-of-memory");
}

#[test]
fn nonsense_is_refused_by_name() {
    assert_eq!(build_code("build-missing-plan"), "incoherent");
    assert_eq!(build_code("build-never-met"), "incoherent");
    assert_eq!(build_code("build-erasure"), "unsupported");
    assert_eq!(build_code("build-long-names"), "unsupported");
    assert_eq!(build_code("build-error"), "declined");
}

#[test]
fn a_table_too_large_is_refused_before_and_after_it_is_copied() {
    let build = |limits: Limits| {
        let policy = host().load("naughty", Source::Bytes(NAUGHTY), limits).expect("loads");
        let mut planner = policy.configure(&mode("build-many-plans")).expect("configures");
        planner.build(&topology(&["a"]), Reason::Start).expect_err("20,000 plans")
    };
    assert_eq!(build(Limits { transfer_bytes: 64 << 10, ..Limits::default() }).code(), "too-much");
    let error = build(Limits { transfer_bytes: 64 << 20, ..Limits::default() });
    assert!(error.to_string().ends_with("20000 plans; max-plans allows 256"), "{error}");
}

#[test]
fn every_problem_of_a_table_is_named() {
    let mut planner = planner("build-missing-plan");
    let error = planner.build(&topology(&["a"]), Reason::Start).expect_err("there is no plan 7");
    let wanted = PlanError::NoSuchPlan { class: "default".into(), outcome: 7, count: 1 };
    assert_eq!(error, HostError::Incoherent { policy: "naughty".into(), problems: vec![wanted] });
}

#[test]
fn after_a_trap_the_next_call_has_a_new_instance() {
    let mut planner = planner("build-trap-later");
    let world = topology(&["a", "b", "c"]);
    let first = planner.build(&world, Reason::Start).expect("fine at the start");
    assert_eq!(code(planner.build(&world, Reason::TopologyChanged)), "trap");
    let again = planner.build(&world, Reason::Start).expect("fine again");
    assert_eq!(first.table_digest, again.table_digest);
}

#[test]
fn a_flood_of_lines_is_cut_and_counted() {
    let mut planner = planner("log-flood");
    let built = planner.build(&topology(&["a"]), Reason::Start).expect("a table");
    assert_eq!(built.log[0].message, "line 0");
    let last = built.log.last().expect("a remark");
    assert_eq!(last.level, Level::Warn);
    assert!(last.message.ends_with("more lines were dropped"), "{}", last.message);
    assert!(built.log.len() <= 101);
}

#[test]
fn a_policy_that_is_not_pure_is_found_out() {
    let world = topology(&["a", "b", "c"]);
    let error = naughty().check_pure(&mode("build-differs"), &world).expect_err("it counts");
    assert_eq!(error.code(), "not-pure");
    let majority = host().load("m", Source::Bundled("majority"), patient()).expect("loads");
    majority.check_pure("", &world).expect("majority is pure");
}

fn decider(how: &str) -> Decider {
    naughty().decider(&mode(how)).expect("configures").expect("it has a decider")
}

fn looping_decider(how: &str) -> Decider {
    looping().decider(&mode(how)).expect("configures").expect("it has a decider")
}

fn fast(decider: &mut Decider) -> Result<u16, HostError> {
    decider.fast(OpClass::Write, OpFlags::default(), 0, 1, 2)
}

fn op() -> Op {
    Op {
        class: OpClass::MultiKey,
        flags: OpFlags::HAS_TTL.with(OpFlags::FROM_HINT),
        slot: 77,
        key_hash: u64::MAX,
        keys: vec![b"one".to_vec(), b"two".to_vec()],
        verb: "MSET".into(),
        value_bytes: 12,
        attributes: vec![("user".into(), "ada".into())],
    }
}

#[test]
fn a_loop_in_fast_ends_within_its_deadline() {
    let mut decider = looping_decider("fast-loop");
    let error = fast(&mut decider).expect_err("it loops");
    assert_eq!(
        error,
        HostError::Fault { policy: "naughty".into(), fault: Fault::Deadline { hook: "fast", limit_ms: 20 } }
    );
}

#[test]
fn a_loop_in_decide_ends_within_its_deadline() {
    assert_eq!(code(looping_decider("decide-loop").decide(&op())), "deadline");
}

#[test]
fn a_decider_that_always_fails_is_not_asked_for_ever() {
    let mut decider = decider("fast-trap");
    let codes: Vec<_> = (0..10).map(|_| code(fast(&mut decider))).collect();
    assert_eq!(codes[..8], ["trap"; 8]);
    assert_eq!(codes[8..], ["suspended"; 2]);
}

#[test]
fn an_answer_in_between_starts_the_count_again() {
    let mut decider = decider("decide-trap");
    for _ in 0..10 {
        assert_eq!(code(decider.decide(&op())), "trap");
        assert_eq!(fast(&mut decider), Ok(ASK));
    }
}

#[test]
fn decide_must_come_to_a_verdict() {
    let mut decider = decider("decide-undecided");
    assert_eq!(code(decider.decide(&op())), "undecided");
}

#[test]
fn an_outcome_made_up_by_a_decider_has_no_plan() {
    let mut decider = decider("fast-made-up");
    let table = planner("").build(&topology(&["a"]), Reason::Start).expect("a table").table;
    let outcome = fast(&mut decider).expect("an answer");
    assert!(table.plan(outcome).is_none());
}

#[test]
fn a_guest_sees_every_field_of_the_request() {
    let mut decider = decider("");
    let decision = decider.decide(&op()).expect("a verdict");
    let Verdict::Reject { code, message, .. } = decision.verdict else { panic!("it rejects everything") };
    assert_eq!(code, "naughty");
    assert_eq!(
        message,
        "MSET OpClass::MultiKey OpFlags(HAS_TTL | FROM_HINT) slot=77 hash=18446744073709551615 \
         keys=[\"one\", \"two\"] none=true bytes=12 user=Some(\"ada\") other=None"
    );
}
