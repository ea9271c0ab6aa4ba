//! Guards against a replica that catches up taking the machines from clients, and against clients waiting for
//! one that rests.

use super::super::*;
use super::World;

const MISSED: u64 = 500;

/// Replica 2 missed much, took its first part within four milliseconds, and clients wrote meanwhile.
fn catching_up() -> World {
    let mut world = World::serving(3);
    let before = world.group.head();
    world.step(Event::Disconnected { replica: 2 });
    for ticket in 1..=MISSED {
        write(&mut world, ticket, &[0, 1]);
    }
    world.attach(2, Some(before));
    world
}

/// One more write, which these replicas apply.
fn write(world: &mut World, ticket: u64, replicas: &[usize]) {
    world.write(1, ticket);
    for replica in replicas {
        world.apply(*replica, &["+OK"]);
    }
    world.sent();
}

/// What replica 2 is sent.
fn fed(world: &mut World) -> usize {
    world.sent().iter().filter(|(replica, _)| *replica == 2).count()
}

#[test]
fn it_works_half_of_the_time_while_clients_write() {
    let mut world = catching_up();
    assert_eq!(fed(&mut world), 1);
    write(&mut world, MISSED + 1, &[0, 1]);
    world.wait(4);
    world.apply(2, &["+OK"]);
    world.wait(3);
    assert_eq!(fed(&mut world), 0);
    world.wait(1);
    assert_eq!(fed(&mut world), 1);
}

#[test]
fn it_always_gains_on_clients() {
    let mut world = catching_up();
    write(&mut world, MISSED + 1, &[0, 1]);
    world.wait(4);
    world.apply(2, &["+OK"]);
    world.sent();
    // The first part was 64 entries, hardly smaller ones.
    let mut written = 1;
    let mut ticket = MISSED + 1;
    loop {
        ticket += 1;
        written += 1;
        world.write(1, ticket);
        if fed(&mut world) > 0 {
            break;
        }
        world.apply(0, &["+OK"]);
        world.apply(1, &["+OK"]);
        assert!(written < 64, "clients write faster than it is fed");
    }
    assert!(written > 16, "it hardly rests: {written}");
}

#[test]
fn it_does_not_rest_while_nobody_writes() {
    let mut world = catching_up();
    assert_eq!(fed(&mut world), 1);
    world.wait(4);
    world.apply(2, &["+OK"]);
    assert_eq!(fed(&mut world), 1);
}

#[test]
fn it_does_not_rest_while_a_write_waits_for_it() {
    let mut world = catching_up();
    write(&mut world, MISSED + 1, &[0, 1]);
    world.wait(4);
    world.step(Event::Disconnected { replica: 1 });
    world.sent();
    world.apply(2, &["+OK"]);
    assert_eq!(fed(&mut world), 1);
}

/// Entries that tails kept when they were cut, which is what looking for the place takes: each time, all of them.
fn kept(world: &mut World) -> usize {
    let sends = world.fx.sends.iter().filter(|(replica, _)| *replica == 0);
    let trims = sends.map(|(_, outgoing)| match outgoing {
        Outgoing::Entries(entries) => entries.iter().map(|entry| entry.trim as usize).sum(),
        _ => 0,
    });
    trims.sum()
}

#[test]
fn long_tails_are_cut_seldom() {
    let (missed, mut looked_at) = (20_000, 0);
    let mut world = World::serving(3);
    let before = world.group.head();
    let mut write = |world: &mut World, ticket| {
        world.write(1, ticket);
        looked_at += kept(world);
        world.apply(0, &["+OK"]);
        world.apply(1, &["+OK"]);
    };
    world.step(Event::Disconnected { replica: 2 });
    for ticket in 1..=missed {
        write(&mut world, ticket);
        world.sent();
    }
    world.attach(2, Some(before));
    let mut ticket = missed;
    while world.group.health().replicas[2].lag > 1 {
        ticket += 1;
        write(&mut world, ticket);
        let fed = world.sent().into_iter().find(|(replica, _)| *replica == 2);
        let entries = fed.map_or(0, |(_, text)| text.split('+').count());
        if entries > 0 {
            world.step(Event::Applied { replica: 2, replies: vec![Replies::default(); entries] });
        }
        world.wait(101);
    }
    assert!(looked_at < 10 * ticket as usize, "{looked_at} for {ticket} entries");
}
