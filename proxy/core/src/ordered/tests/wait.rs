//! Reads that belong to one replica, and clients that wait for several.

use super::*;

/// It waits for so many replicas beside one.
fn awaits(world: &World, session: u32, ticket: u64, others: usize, until_us: Option<u64>) -> Burst {
    let what = Await { replicas: others + 1, on_disk: false, until_us };
    awaits_what(world, session, ticket, what)
}

fn awaits_what(world: &World, session: u32, ticket: u64, what: Await) -> Burst {
    let role = Role::Await(Arc::new(what));
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

fn synced(world: &mut World, replica: usize, through: Result<u64, &'static str>) {
    world.step(Event::Synced { replica, through: through.map_err(Bytes::from) });
}

#[test]
fn disks_are_asked_when_they_are_waited_for_and_only_once_for_what_they_have() {
    let mut world = World::serving(3);
    let write = world.burst(1, 1, Access::Write, Bytes::from_static(b"w;"));
    let until_us = Some(world.now.us + 500_000);
    let wait = |world: &World, ticket, replicas| {
        awaits_what(world, 1, ticket, Await { replicas, on_disk: true, until_us })
    };
    let (two, all) = (wait(&world, 2, 2), wait(&world, 3, 3));
    submit(&mut world, vec![write, two, all]);
    world.sent();
    assert!(world.syncs().is_empty(), "nothing is applied");
    (0..2).for_each(|replica| world.apply(replica, &["ok"]));
    let through = world.group.health().head;
    assert_eq!(world.syncs(), [(0, through), (1, through)]);
    assert_eq!(world.answers(), ["1/1 ok"], "memory is not enough");
    synced(&mut world, 0, Ok(through));
    world.apply(2, &["ok"]);
    assert_eq!(world.syncs(), [(2, through)], "an answer is waited for");
    synced(&mut world, 1, Ok(through));
    assert_eq!(world.answers(), ["1/2 *2\r\n:1\r\n:1\r\n"]);
    synced(&mut world, 2, Err(""));
    assert!(world.syncs().is_empty(), "it is not asked again at once");
    world.wait(600);
    assert_eq!(world.answers(), ["1/3 *2\r\n:1\r\n:1\r\n"], "its time is over");
    let late = awaits_what(&world, 1, 4, Await { replicas: 2, on_disk: true, until_us: None });
    submit(&mut world, vec![late]);
    assert_eq!(world.answers(), ["1/4 *2\r\n:1\r\n:1\r\n"], "what is known is not asked");
}

#[test]
fn where_nothing_is_kept_on_disk_nobody_waits_for_it() {
    let mut world = World::serving(3);
    let write = world.burst(1, 1, Access::Write, Bytes::from_static(b"w;"));
    let wait = awaits_what(&world, 1, 2, Await { replicas: 1, on_disk: true, until_us: None });
    submit(&mut world, vec![write, wait]);
    world.sent();
    (0..3).for_each(|replica| world.apply(replica, &["ok"]));
    assert_eq!(world.answers(), ["1/1 ok"]);
    (0..2).for_each(|replica| synced(&mut world, replica, Err("ERR no file")));
    assert!(world.answers().is_empty(), "the third may have one");
    synced(&mut world, 2, Err("ERR no file"));
    assert_eq!(world.answers(), ["1/2 -ERR no file\r\n"]);
    world.syncs();
    world.wait(1_100);
    let again = awaits_what(&world, 1, 3, Await { replicas: 1, on_disk: true, until_us: None });
    submit(&mut world, vec![again]);
    assert!(world.answers().is_empty(), "that may have changed");
    assert_eq!(world.syncs().len(), 3);
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
