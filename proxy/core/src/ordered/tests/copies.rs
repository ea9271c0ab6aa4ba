//! Copies made from outside: what the log touched meanwhile is copied by a mending.

use super::*;

const TARGET: usize = 2;

/// Replica 2 is stale, and gets a copy of replica 1.
fn copying(edit: impl FnOnce(&mut GroupConfig)) -> World {
    let mut world = World::serving_with(3, edit);
    world.step(Event::Disconnected { replica: TARGET });
    world.group.copies().begin(TARGET, 1);
    world.fx.clear();
    world
}

/// A write that the other two apply.
fn write(world: &mut World, session: u32, ticket: u64) {
    world.write(session, ticket);
    world.apply(0, &["+OK"]);
    world.apply(1, &["+OK"]);
}

/// The target is attached with half a copy.
fn attach(world: &mut World, restarted: bool) {
    world.fx.clear();
    let attachment = Attachment { partial: true, restarted, ..Attachment::default() };
    world.step(Event::Attached { replica: TARGET, attachment });
}

fn state(world: &World) -> ReplicaState {
    world.group.health().replicas[TARGET].state
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn what_was_touched_while_it_was_copied_is_copied_at_one_position() {
    let mut world = copying(|_| {});
    write(&mut world, 1, 1);
    assert_eq!(world.group.copies().touched(TARGET), Ok(1));
    assert_eq!(world.group.copies().take(TARGET), Ok(Keys::from([key("1/1")])));
    write(&mut world, 1, 2);
    write(&mut world, 1, 3);
    world.group.copies().finish(TARGET);
    attach(&mut world, false);
    assert_eq!(state(&world), ReplicaState::Mending);
    assert_eq!(world.sent(), [(1, "read fetch 1/2,1/3".into())]);
    world.write(1, 4);
    world.sent();
    world.step(Event::Read { replica: 1, bytes: key("values") });
    assert_eq!(world.sent(), [(TARGET, "read store values at 4".into())]);
    world.step(Event::Read { replica: TARGET, bytes: key("+OK") });
    assert_eq!(world.sent(), [(TARGET, "5=1/4;".into())], "fed from there");
    assert!(world.group.copies().touched(TARGET).is_err(), "it is forgotten");
}

/// The rule without which a copy is wrong in the keys written meanwhile.
#[test]
fn without_the_rule_touched_keys_are_not_copied() {
    let mut world = copying(|config| config.rules.touched_keys = false);
    write(&mut world, 1, 1);
    world.group.copies().finish(TARGET);
    attach(&mut world, false);
    assert_eq!(world.sent(), [(1, "read fetch ".into())]);
}

#[test]
fn half_a_copy_that_is_not_finished_is_stale() {
    let mut world = copying(|_| {});
    attach(&mut world, false);
    assert_eq!(state(&world), ReplicaState::Stale(StaleReason::Partial));
    assert_eq!(world.group.copies().touched(TARGET), Ok(0), "but it goes on");
}

#[test]
fn a_target_that_was_restarted_may_have_forgotten_a_part() {
    let mut world = copying(|_| {});
    world.group.copies().finish(TARGET);
    attach(&mut world, true);
    assert_eq!(state(&world), ReplicaState::Stale(StaleReason::Partial));
    assert!(world.group.copies().take(TARGET).is_err());
}

#[test]
fn a_position_is_never_taken_for_a_copy() {
    let mut world = copying(|_| {});
    world.group.copies().finish(TARGET);
    let position = Some(world.group.head());
    let attachment = Attachment { partial: true, position, ..Attachment::default() };
    world.step(Event::Attached { replica: TARGET, attachment });
    assert_eq!(state(&world), ReplicaState::Stale(StaleReason::Partial));
}

#[test]
fn a_mending_that_fails_leaves_the_copy_to_be_gone_on_with() {
    let mut world = copying(|_| {});
    write(&mut world, 1, 1);
    world.group.copies().finish(TARGET);
    attach(&mut world, false);
    world.step(Event::Read { replica: 1, bytes: key("values") });
    world.step(Event::Read { replica: TARGET, bytes: key("-ERR") });
    assert_eq!(state(&world), ReplicaState::Stale(StaleReason::Partial));
    assert_eq!(world.group.copies().take(TARGET), Ok(Keys::from([key("1/1")])), "nothing is forgotten");
    assert!(!world.group.copies().trouble(TARGET).is_empty());
    attach(&mut world, false);
    assert_eq!(state(&world), ReplicaState::Stale(StaleReason::Partial), "not before it is finished anew");
}

#[test]
fn a_connection_lost_in_the_mending_costs_nothing() {
    let mut world = copying(|_| {});
    write(&mut world, 1, 1);
    world.group.copies().finish(TARGET);
    attach(&mut world, false);
    world.step(Event::Disconnected { replica: TARGET });
    write(&mut world, 1, 2);
    world.step(Event::Read { replica: 1, bytes: key("values") });
    attach(&mut world, false);
    assert_eq!(world.sent(), [(1, "read fetch 1/1,1/2".into())]);
}

#[test]
fn a_source_that_is_mended_was_no_source() {
    let mut world = copying(|_| {});
    world.step(Event::Disconnected { replica: 0 });
    let position = Some(world.group.head());
    world.attach(0, position);
    world.group.copies().begin(TARGET, 0);
    write(&mut world, 1, 1);
    assert_eq!(world.group.copies().touched(TARGET), Ok(1));
    let own = Position { seq: 99, ..world.group.head() };
    world.attach(0, Some(own));
    assert!(matches!(world.group.health().replicas[0].state, ReplicaState::Stale(_)));
    assert!(world.group.copies().touched(TARGET).is_err());
}

#[test]
fn what_cannot_be_remembered_ends_the_copy() {
    let mut world = copying(|config| config.log_bytes = 150);
    write(&mut world, 1, 1);
    write(&mut world, 1, 1);
    write(&mut world, 1, 2);
    assert_eq!(world.group.copies().touched(TARGET), Ok(2));
    assert!(world.group.copies().fullness(TARGET) > 0.8);
    write(&mut world, 1, 3);
    assert!(world.group.copies().touched(TARGET).is_err());
    assert!(world.group.copies().take(TARGET).is_err());
}
