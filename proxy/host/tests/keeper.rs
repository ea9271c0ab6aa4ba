//! A good table stays in force, whatever the policy does.

mod support;

use quorate_core::plan::OpClass;
use quorate_host::{
    Applied, Builder, Built, Coherence, HostError, Keeper, Limits, Origin, Planner, Reason, Source,
    prove_coherent,
};
use std::collections::VecDeque;
use support::{code, host, planner, topology};

/// Answers what it is told to.
struct Scripted(VecDeque<Result<Built, HostError>>);

impl Builder for Scripted {
    fn build(&mut self, _: &quorate_core::topology::Topology, _: Reason) -> Result<Built, HostError> {
        self.0.pop_front().expect("the script is long enough")
    }
}

fn bundled(name: &str, settings: &str) -> Planner {
    let policy = host().load(name, Source::Bundled(name), Limits::default()).expect("loads");
    policy.configure(settings).expect("configures")
}

fn built(settings: &str) -> Built {
    bundled("majority", settings).build(&topology(&["a", "b", "c"]), Reason::Start).expect("builds")
}

fn declined() -> HostError {
    HostError::Declined { policy: "p".into(), message: "no".into() }
}

fn scripted(script: Vec<Result<Built, HostError>>) -> Box<Scripted> {
    Box::new(Scripted(script.into()))
}

#[test]
fn the_builtin_majority_stands_in_at_the_start() {
    let world = topology(&["a", "b", "c"]);
    let good = built("");
    let script = scripted(vec![Err(declined()), Ok(good.clone())]);
    let (mut keeper, fault) = Keeper::start("p", script, Coherence::Any, &world).expect("there are backends");
    assert_eq!(fault, Some(declined()));
    let now = keeper.handle().load();
    assert_eq!(now.origin, Origin::Builtin);
    assert_eq!(now.table.plan(0).expect("a plan").name, "majority");
    let applied = keeper.rebuild(&world, Reason::Asked).expect("the second try works");
    assert_eq!(applied, Applied::Published(good.table_digest));
    assert_eq!(keeper.handle().load().origin, Origin::Policy);
}

#[test]
fn a_failed_rebuild_keeps_the_table_and_is_counted_by_kind() {
    let world = topology(&["a", "b", "c"]);
    let (first, second) = (built(""), built(r#"{"write-quorum": "all"}"#));
    let script =
        vec![Ok(first.clone()), Err(declined()), Err(declined()), Ok(first.clone()), Ok(second.clone())];
    let (mut keeper, fault) = Keeper::start("p", scripted(script), Coherence::Any, &world).expect("starts");
    assert_eq!(fault, None);
    let mut seen = keeper.handle().cached();
    for _ in 0..2 {
        assert_eq!(keeper.rebuild(&world, Reason::TopologyChanged), Err(declined()));
        assert_eq!(seen.load().digest, first.table_digest);
    }
    assert_eq!(keeper.faults().get("declined"), Some(&2));
    assert_eq!(keeper.rebuild(&world, Reason::Asked), Ok(Applied::Unchanged));
    assert_eq!(keeper.rebuild(&world, Reason::Asked), Ok(Applied::Published(second.table_digest.clone())));
    assert_eq!(seen.load().table, second.table, "a thread's cached view follows");
}

#[test]
fn a_real_trap_keeps_the_last_good_table() {
    let world = topology(&["a", "b", "c"]);
    let builder = Box::new(planner("build-trap-later"));
    let (mut keeper, fault) = Keeper::start("naughty", builder, Coherence::Any, &world).expect("starts");
    assert_eq!(fault, None);
    let before = keeper.handle().load();
    assert_eq!(code(keeper.rebuild(&world, Reason::TopologyChanged)), "trap");
    assert_eq!(keeper.handle().load(), before);
    assert_eq!((before.origin, keeper.faults().get("trap")), (Origin::Policy, Some(&1)));
}

#[test]
fn a_bad_successor_does_not_take_over() {
    let world = topology(&["a", "b", "c"]);
    let first = Box::new(bundled("majority", ""));
    let (mut keeper, _) = Keeper::start("m", first, Coherence::Fleet, &world).expect("starts");
    let before = keeper.handle().load();
    let bad = Box::new(planner("build-error"));
    assert_eq!(code(keeper.replace("naughty", bad, &world)), "declined");
    assert_eq!(keeper.handle().load(), before);
    assert_eq!(keeper.rebuild(&world, Reason::Asked), Ok(Applied::Unchanged), "the first one still builds");
    let good = Box::new(bundled("primary", ""));
    keeper.replace("primary", good, &world).expect("it builds");
    assert_eq!(keeper.handle().load().table.plan(0).expect("a plan").name, "primary");
}

#[test]
fn disjoint_quorums_are_refused_with_both_sets_named() {
    let world = topology(&["a", "b", "c"]);
    let one = Box::new(bundled("majority", r#"{"write-quorum": 1}"#));
    let (keeper, fault) = Keeper::start("m", one, Coherence::OwnZone, &world).expect("starts");
    let said = fault.expect("one of three is incoherent").to_string();
    assert!(said.starts_with("policy 'm': {r1} and {r2} may both acknowledge writes"), "{said}");
    assert_eq!(keeper.handle().load().origin, Origin::Builtin);
    let one = Box::new(bundled("majority", r#"{"write-quorum": 1}"#));
    let (_, fault) = Keeper::start("m", one, Coherence::Any, &world).expect("starts");
    assert_eq!(fault, None, "nobody asked for order");
}

#[test]
fn a_local_rule_is_coherent_in_its_zone_and_not_across_the_fleet() {
    let world = topology(&["a", "a", "a", "b", "b", "b"]);
    let mut local = bundled("zones", r#"{"rule": "local"}"#);
    prove_coherent("zones", &mut local, &world, Coherence::OwnZone).expect("all writers are in zone a");
    let error =
        prove_coherent("zones", &mut local, &world, Coherence::Fleet).expect_err("zone b writes, too");
    assert_eq!(error.code(), "disjoint");
    let mut each = bundled("zones", r#"{"rule": "each"}"#);
    let proof =
        prove_coherent("zones", &mut each, &world, Coherence::Fleet).expect("each zone has its majority");
    assert_eq!((proof.smallest_quorum, proof.down_while_writing), (4, 1));
}

#[test]
fn all_proxies_of_a_fleet_show_the_same_digest() {
    let mut zones = bundled("zones", r#"{"rule": "local"}"#);
    let mut world = topology(&["a", "b", "b"]);
    let in_a = zones.build(&world, Reason::Start).expect("builds");
    world.local_zone = "b".into();
    let in_b = zones.build(&world, Reason::Start).expect("builds");
    assert_eq!(in_a.table_digest, in_b.table_digest);
    assert_ne!(in_a.table, in_b.table, "compiled for different zones");
}

#[test]
fn no_backends_allow_no_table() {
    let world = quorate_core::topology::Topology { backends: vec![], ..topology(&["a"]) };
    assert_eq!(code(Keeper::start("p", scripted(vec![]), Coherence::Any, &world)), "incoherent");
}

#[test]
fn a_look_up_goes_from_class_and_slot_to_a_plan() {
    let world = topology(&["a", "b", "c"]);
    let (keeper, _) =
        Keeper::start("p", scripted(vec![Ok(built(""))]), Coherence::Any, &world).expect("starts");
    let mut cached = keeper.handle().cached();
    let table = &cached.load().table;
    assert!(table.plan(table.outcome(OpClass::Write, 5)).expect("a plan").write.met(0b011));
}
