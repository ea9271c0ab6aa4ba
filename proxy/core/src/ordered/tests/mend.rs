//! Copies by value: undo, the minority, what is known to differ.

use super::*;

/// What a replica's tail says of entries of this epoch's log and one of its own.
fn diverged(world: &World) -> (Position, Vec<TailEntry>) {
    let item = |position, text: &'static str| TailEntry {
        position,
        commands: u32::from(!text.is_empty()),
        payload: Some(Bytes::from_static(text.as_bytes())),
        whole: vec![],
    };
    let start = Position::default().next(1, &[]);
    assert!(world.group.holds(start));
    let own = start.next(1, &[Bytes::from_static(b"lost=1;")]);
    (own, vec![item(start, ""), item(own, "lost=1;")])
}

#[test]
fn a_suffix_that_is_on_no_log_is_undone_by_value() {
    let mut world = World::serving(3);
    world.step(Event::Disconnected { replica: 2 });
    world.write(1, 1);
    world.apply(0, &["+OK"]);
    world.apply(1, &["+OK"]);
    let (position, tail) = diverged(&world);
    world.fx.clear();
    let attachment = Attachment { position: Some(position), tail, ..Attachment::default() };
    world.step(Event::Attached { replica: 2, attachment });
    assert_eq!(world.sent(), [(1, "read fetch 1/1,lost=1".into())], "its own keys, and those it missed");
    world.write(1, 2);
    assert_eq!(world.sent(), to_all(2, "3=1/2;"), "the others go on");
    world.step(Event::Read { replica: 1, bytes: Bytes::from_static(b"values") });
    assert_eq!(world.sent(), [(2, "read store values at 2".into())]);
    world.step(Event::Read { replica: 2, bytes: Bytes::from_static(b"+OK") });
    assert_eq!(world.sent(), [(2, "3=1/2;".into())], "fed from where the values were read");
    assert_eq!(
        world.group.health().replicas[2].state,
        ReplicaState::InSync,
        "it holds all that is committed"
    );
}

#[test]
fn what_leaves_the_ring_is_remembered_for_whoever_is_mended() {
    let mut world = World::serving_with(3, |config| config.log_bytes = 10);
    world.step(Event::Disconnected { replica: 2 });
    let (position, tail) = diverged(&world);
    let attachment = Attachment { position: Some(position), tail, ..Attachment::default() };
    world.step(Event::Attached { replica: 2, attachment });
    assert_eq!(world.sent(), [(1, "read fetch lost=1".into())]);
    for ticket in 1..=4 {
        world.write(1, ticket);
        world.apply(0, &["+OK"]);
        world.apply(1, &["+OK"]);
    }
    world.fx.clear();
    let keys = Keys::from([Bytes::from_static(b"k")]);
    world.step(Event::Mend { replica: 2, keys, like: 0b011 });
    assert_eq!(world.sent(), [(1, "read fetch 1/1,1/2,1/3,1/4,k,lost=1".into())]);
}

#[test]
fn a_replica_that_the_ring_leaves_behind_while_it_is_mended_is_mended_on() {
    let mut world = World::serving_with(3, |config| config.log_bytes = 10);
    let keys = Keys::from([Bytes::from_static(b"k")]);
    world.step(Event::Mend { replica: 2, keys, like: 0b011 });
    world.step(Event::Read { replica: 1, bytes: Bytes::from_static(b"values") });
    for ticket in 1..=4 {
        world.write(1, ticket);
        world.apply(0, &["+OK"]);
        world.apply(1, &["+OK"]);
    }
    world.fx.clear();
    world.step(Event::Read { replica: 2, bytes: Bytes::from_static(b"+OK") });
    assert_eq!(world.group.health().replicas[2].state, ReplicaState::Mending);
    world.wait(50);
    assert_eq!(world.sent(), [(1, "read fetch 1/1,1/2,1/3,1/4,k".into())]);
}

#[test]
fn values_that_are_not_taken_leave_the_replica_stale() {
    let mut world = World::serving(3);
    world.step(Event::Disconnected { replica: 2 });
    let (position, tail) = diverged(&world);
    let attachment = Attachment { position: Some(position), tail, ..Attachment::default() };
    world.step(Event::Attached { replica: 2, attachment });
    world.step(Event::Read { replica: 1, bytes: Bytes::from_static(b"values") });
    world.step(Event::Read { replica: 2, bytes: Bytes::from_static(b"-ERR bad format") });
    let state = world.group.health().replicas[2].state;
    assert_eq!(state, ReplicaState::Stale(StaleReason::Diverged));
}

#[test]
fn a_replica_without_memory_for_the_values_is_waited_for() {
    let mut world = World::serving(3);
    let keys = Keys::from([Bytes::from_static(b"k")]);
    world.step(Event::Mend { replica: 2, keys, like: 0b011 });
    for _ in 0..20 {
        assert_eq!(world.sent(), [(1, "read fetch k".into())]);
        world.step(Event::Read { replica: 1, bytes: Bytes::from_static(b"values") });
        assert_eq!(world.sent(), [(2, "read store values at 1".into())]);
        world.step(Event::ReadLost { replica: 2 });
        world.wait(1_000);
    }
    world.step(Event::Read { replica: 1, bytes: Bytes::from_static(b"values") });
    world.step(Event::Read { replica: 2, bytes: Bytes::from_static(b"+OK") });
    assert_eq!(world.group.health().replicas[2].state, ReplicaState::InSync);
}

#[test]
fn the_minority_is_mended() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.sent();
    world.apply(1, &[":2"]);
    world.apply(0, &[":1"]);
    assert_eq!(world.group.health().replicas[1].state, ReplicaState::InSync, "one against one says nothing");
    world.apply(2, &[":1"]);
    assert_eq!(world.group.health().replicas[1].state, ReplicaState::Mending);
    assert_eq!(world.sent(), [(2, "read fetch 1/1".into())]);
    world.step(Event::Disconnected { replica: 2 });
    world.step(Event::Tick);
    world.wait(50);
    assert_eq!(world.sent(), [(0, "read fetch 1/1".into())], "another source is asked");
}

#[test]
fn nobody_is_mended_when_a_rule_could_not_be_met_without_it() {
    let mut world = World::serving(3);
    world.step(Event::Disconnected { replica: 0 });
    world.write(1, 1);
    world.apply(1, &[":1"]);
    world.apply(2, &[":2"]);
    assert!(world.group.health().replicas[1..].iter().all(|r| r.state == ReplicaState::InSync));
}

#[test]
fn a_replica_with_half_a_copy_is_no_source() {
    let mut world = World::unattached(3, |_| {});
    let partial = || Attachment { partial: true, ..Attachment::default() };
    (0..3).for_each(|replica| world.step(Event::Attached { replica, attachment: partial() }));
    assert_eq!(world.group.phase(), Phase::Recovering, "half a copy is no beginning");
    let mut world = World::serving(3);
    world.step(Event::Disconnected { replica: 2 });
    world.step(Event::Attached { replica: 2, attachment: partial() });
    assert_eq!(world.group.health().replicas[2].state, ReplicaState::Stale(StaleReason::Partial));
}

#[test]
fn what_is_known_to_differ_is_mended_unless_a_rule_could_not_be_met() {
    let keys = || Keys::from([Bytes::from_static(b"k")]);
    let mut world = World::serving(3);
    world.step(Event::Mend { replica: 2, keys: keys(), like: 0b011 });
    assert_eq!(world.group.health().replicas[2].state, ReplicaState::Mending);
    assert_eq!(world.sent(), [(1, "read fetch k".into())]);
    world.step(Event::Mend { replica: 2, keys: Keys::from([Bytes::from_static(b"l")]), like: 0b001 });
    assert_eq!(
        world.sent(),
        [(0, "read fetch k,l".into())],
        "the first copy lacks one, and its source is wrong"
    );
    world.step(Event::Mend { replica: 1, keys: keys(), like: 0b001 });
    assert_eq!(world.group.health().replicas[1].state, ReplicaState::InSync);
}
