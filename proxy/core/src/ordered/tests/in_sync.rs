//! The ack rule of the recorded set.

use super::trial::{attach_marked, mark, state, tell};
use super::*;

/// A group of two whose writes are acknowledged by the recorded in-sync set.
fn pair(in_sync: Option<Mask>) -> World {
    let mut world = World::unattached(2, |config| config.ack = Ack::InSync { min: 1 });
    world.group.restart(2, Past { in_sync, ..Past::default() });
    world.know_deadlines();
    world
}

fn serving_pair() -> World {
    let mut world = pair(None);
    (0..2).for_each(|replica| world.attach(replica, None));
    assert_eq!(world.fx.in_sync.take(), Some(0b11), "recorded before anything is acknowledged");
    world.step(Event::InSync(0b11));
    (0..2).for_each(|replica| world.apply(replica, &[]));
    assert_eq!(world.group.phase(), Phase::Serving);
    world.fx.clear();
    world
}

#[test]
fn a_member_is_taken_out_of_the_record_before_anything_is_acknowledged_without_it() {
    let mut world = serving_pair();
    world.write(1, 1);
    world.apply(0, &["+OK"]);
    assert!(world.answers().is_empty(), "all members must have it");
    world.step(Event::Disconnected { replica: 1 });
    assert_eq!(world.fx.in_sync.take(), Some(0b01));
    assert!(world.answers().is_empty(), "not recorded yet");
    world.step(Event::InSync(0b01));
    assert_eq!(world.answers(), ["1/1 +OK"]);
}

#[test]
fn a_replica_that_caught_up_is_waited_for_before_it_is_a_member() {
    let mut world = serving_pair();
    world.step(Event::Disconnected { replica: 1 });
    world.step(Event::InSync(0b01));
    let at = world.group.head();
    world.fx.clear();
    world.attach(1, Some(at));
    assert_eq!(world.fx.in_sync.take(), Some(0b11));
    world.write(1, 1);
    world.apply(0, &["+OK"]);
    assert!(world.answers().is_empty(), "it may be a member already");
    world.step(Event::InSync(0b11));
    world.apply(1, &["+OK"]);
    assert_eq!(world.answers(), ["1/1 +OK"]);
}

#[test]
fn the_last_member_knows_the_log_and_nobody_else_does() {
    let at = |hash| Some(Position { epoch: 1, seq: 5, hash });
    let mut world = pair(Some(0b01));
    world.attach(1, at(1));
    world.wait(10_000);
    assert_eq!(world.group.phase(), Phase::Recovering, "it was not a member at the end");
    world.attach(0, at(2));
    assert_eq!(world.group.phase(), Phase::Barrier);

    let mut world = pair(None);
    world.attach(0, at(1));
    world.wait(10_000);
    assert_eq!(world.group.phase(), Phase::Recovering, "nobody knows who was a member");
}

#[test]
fn a_member_that_restarted_is_enough_when_it_is_the_only_one() {
    let mut world = pair(Some(0b01));
    let position = Some(Position { epoch: 1, seq: 5, hash: 1 });
    let attachment = Attachment { position, restarted: true, ..Attachment::default() };
    world.step(Event::Attached { replica: 0, attachment });
    world.wait(3_000);
    assert_eq!(world.group.phase(), Phase::Barrier);
    world.apply(0, &[]);
    assert_eq!(world.group.phase(), Phase::Serving);
}

#[test]
fn nothing_is_acknowledged_before_there_is_a_record() {
    let mut world = pair(None);
    (0..2).for_each(|replica| world.attach(replica, None));
    world.apply(0, &[]);
    assert_eq!(world.group.phase(), Phase::Barrier, "one replica is not enough because nobody knows the set");
    world.step(Event::InSync(0b11));
    assert_eq!(world.group.phase(), Phase::Barrier, "both are members, and one has it");
    world.apply(1, &[]);
    assert_eq!(world.group.phase(), Phase::Serving);
}

#[test]
fn nobody_is_recorded_who_may_lack_what_was_acknowledged() {
    let at = |seq| Some(Position { epoch: 1, seq, hash: seq });
    let mut world = World::unattached(3, |config| config.ack = Ack::InSync { min: 2 });
    world.group.restart(2, Past::default());
    world.know_deadlines();
    world.attach(0, at(9));
    world.attach(1, at(2));
    world.attach(2, at(3));
    assert_eq!(state(&world, 1), ReplicaState::Stale(StaleReason::TooFarBehind));
    world.apply(0, &[]);
    assert_eq!(world.fx.in_sync.take(), None, "one is not enough, and the others may not be called members");
    world.step(Event::Disconnected { replica: 1 });
    world.attach(1, Some(world.group.head()));
    assert_eq!(world.group.phase(), Phase::Barrier, "nothing is acknowledged before");
    assert_eq!(world.fx.in_sync.take(), Some(0b011), "a copy was made");
}

#[test]
fn the_set_never_becomes_smaller_than_it_must_be() {
    let mut world = World::unattached(3, |config| config.ack = Ack::InSync { min: 2 });
    world.group.restart(2, Past::default());
    world.know_deadlines();
    (0..3).for_each(|replica| world.attach(replica, None));
    world.step(Event::InSync(0b111));
    (0..3).for_each(|replica| world.apply(replica, &[]));
    world.fx.clear();
    world.step(Event::Disconnected { replica: 2 });
    assert_eq!(world.fx.in_sync.take(), Some(0b011));
    world.step(Event::InSync(0b011));
    world.step(Event::Disconnected { replica: 1 });
    assert_eq!(world.fx.in_sync.take(), None);
    world.write(1, 1);
    world.wait(2_100);
    assert_eq!(world.answers(), ["1/1 refused"]);
}

#[test]
fn a_member_that_differs_is_mended_while_the_others_are_enough() {
    let keys = || Keys::from([Bytes::from_static(b"k")]);
    let mut world = serving_pair();
    world.step(Event::Mend { replica: 1, keys: keys(), like: 0b01 });
    assert_eq!(world.group.health().replicas[1].state, ReplicaState::Mending);
    assert_eq!(world.fx.in_sync.take(), Some(0b01), "it is no member meanwhile");
    world.step(Event::InSync(0b01));
    world.step(Event::Mend { replica: 0, keys: keys(), like: 0b10 });
    assert_eq!(world.group.health().replicas[0].state, ReplicaState::InSync, "the last member stays");
}

#[test]
fn the_only_member_keeps_its_position_until_somebody_else_is_one() {
    let position = Position { epoch: 1, seq: 5, hash: 1 };
    let mut world = pair(Some(0b01));
    attach_marked(&mut world, 0, position, mark(3, "pop"));
    world.attach(1, Some(position));
    assert_eq!(state(&world, 0), ReplicaState::Mending, "it ran a trial alone");
    assert_eq!(world.sent(), [(1, "6=".into())]);
    world.apply(1, &[]);
    assert_eq!(world.fx.in_sync.take(), Some(0b10), "the other one holds all that was adopted");
    assert!(world.sent().is_empty(), "without its position nobody would know the log");
    world.step(Event::InSync(0b10));
    assert_eq!(world.sent(), [(1, "read fetch pop".into())]);
    tell(&mut world, 1, "values");
    tell(&mut world, 0, "+OK");
    tell(&mut world, 0, "+OK");
    assert_eq!(world.group.phase(), Phase::Serving);
}

#[test]
fn a_copy_that_was_broken_off_does_not_stop_a_group_whose_record_is_lost() {
    let position = Position { epoch: 1, seq: 5, hash: 1 };
    let mut world = pair(None);
    let partial = Attachment { partial: true, ..Attachment::default() };
    world.step(Event::Attached { replica: 0, attachment: partial });
    assert_eq!(world.group.phase(), Phase::Recovering, "the other one may hold something");
    world.attach(1, Some(position));
    assert_eq!(world.group.phase(), Phase::Barrier, "it held everything when the copy began");
}
