//! Reads that belong to one replica, and clients that wait for several.

use super::*;

fn awaits(world: &World, session: u32, ticket: u64, replicas: usize, until_us: Option<u64>) -> Burst {
    let role = Role::Await(Arc::new(Await { replicas, until_us }));
    Burst { role, payload: Bytes::new(), ..world.burst(session, ticket, Access::Read, Bytes::new()) }
}

fn pinned(world: &World, session: u32, replica: Option<usize>) -> Burst {
    let role = Role::Pinned(Arc::new(Pin { replica, anew: Bytes::from_static(b"anew") }));
    Burst { role, ..world.burst(session, 1, Access::Read, Bytes::from_static(b"on")) }
}

fn submit(world: &mut World, bursts: Vec<Burst>) {
    world.step(Event::Submit(Submission { bursts, cancels: vec![] }));
}

fn cancel(world: &mut World, session: u32, ticket: u64, reply: Option<&'static str>) {
    let cancel = Cancel { session, ticket, reply: reply.map(Bytes::from) };
    world.step(Event::Submit(Submission { bursts: vec![], cancels: vec![cancel] }));
}

#[test]
fn a_wait_comes_after_the_sessions_writes_and_ends_with_enough_replicas() {
    let mut world = World::serving(3);
    let write = world.burst(1, 1, Access::Write, Bytes::from_static(b"w;"));
    let wait = awaits(&world, 1, 2, 2, None);
    submit(&mut world, vec![write, wait]);
    world.sent();
    world.apply(0, &["ok"]);
    assert!(world.answers().is_empty());
    world.apply(1, &["ok"]);
    assert_eq!(world.answers(), ["1/1 ok"], "two hold it, and one of them does not count");
    let other = world.burst(2, 1, Access::Write, Bytes::from_static(b"x;"));
    submit(&mut world, vec![other]);
    assert!(!world.sent().is_empty(), "nobody is held up by it");
    world.apply(2, &["ok"]);
    assert_eq!(world.answers(), ["1/2 :2\r\n"]);
}

#[test]
fn a_wait_ends_by_its_time_with_what_there_is() {
    let mut world = World::serving(3);
    let write = world.burst(1, 1, Access::Write, Bytes::from_static(b"w;"));
    let wait = awaits(&world, 1, 2, 2, Some(world.now.us + 50_000));
    submit(&mut world, vec![write, wait]);
    world.sent();
    world.apply(0, &["ok"]);
    world.apply(1, &["ok"]);
    world.wait(40);
    assert_eq!(world.answers(), ["1/1 ok"]);
    world.wait(20);
    assert_eq!(world.answers(), ["1/2 :1\r\n"]);
}

#[test]
fn who_leaves_waits_no_more_wherever_it_stood() {
    let mut world = World::serving(3);
    let writes = |world: &World| world.burst(1, 1, Access::Write, Bytes::from_static(b"w;"));
    let (first, wait) = (writes(&world), awaits(&world, 2, 1, 9, None));
    submit(&mut world, vec![first, wait]);
    cancel(&mut world, 2, 1, None);
    let again = awaits(&world, 3, 1, 9, None);
    submit(&mut world, vec![again]);
    cancel(&mut world, 3, 1, Some("*-1\r\n"));
    assert_eq!(world.answers(), ["3/1 :0\r\n"], "it is told what there is");
    let again = awaits(&world, 3, 2, 9, None);
    submit(&mut world, vec![again]);
    cancel(&mut world, 3, 2, Some("-UNBLOCKED\r\n"));
    assert_eq!(world.answers(), ["3/2 -UNBLOCKED\r\n"]);
    // Behind a write of its own that is not numbered, since another is in flight.
    let (second, behind) =
        (world.burst(4, 1, Access::Write, Bytes::from_static(b"v;")), awaits(&world, 4, 2, 9, None));
    submit(&mut world, vec![second, behind]);
    cancel(&mut world, 4, 2, None);
    world.sent();
    for _ in 0..2 {
        (0..3).for_each(|replica| world.apply(replica, &["ok"]));
    }
    world.wait(60_000);
    assert!(world.answers().iter().all(|answer| answer.ends_with(" ok")), "nobody else is answered");
}

#[test]
fn a_read_that_goes_on_stays_with_its_replica_and_begins_anew_without_it() {
    let mut world = World::serving(3);
    let burst = pinned(&world, 1, Some(2));
    submit(&mut world, vec![burst]);
    assert_eq!(world.sent(), [(2, "read on".to_string())]);
    world.step(Event::Read { replica: 2, bytes: Bytes::from_static(b"page") });
    assert_eq!(world.answers(), ["1/1 2:page"]);

    let burst = pinned(&world, 1, Some(2));
    submit(&mut world, vec![burst]);
    assert_eq!(world.sent(), [(2, "read on".to_string())]);
    world.step(Event::Disconnected { replica: 2 });
    let sent = world.sent();
    assert!(matches!(sent.as_slice(), [(0 | 1, text)] if text == "read anew"), "{sent:?}");
    let replica = sent[0].0;
    world.step(Event::Read { replica, bytes: Bytes::from_static(b"first") });
    assert_eq!(world.answers(), [format!("1/1 {replica}:first")]);

    let burst = pinned(&world, 1, Some(2));
    submit(&mut world, vec![burst]);
    assert_eq!(world.sent()[0].1, "read anew");
}
