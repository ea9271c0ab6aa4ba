//! Who waits, and when each is tried.

use super::trial::tell;
use super::*;

fn waits(world: &World, session: u32, keys: &[u16], until_us: Option<u64>) -> Burst {
    let awaited = |key: &u16| Awaited { bucket: *key, identity: 1 };
    let block = Block {
        keys: keys.iter().map(awaited).collect(),
        until_us,
        empty: &[b"nil"],
        late: Bytes::from_static(b"late"),
        shares: false,
    };
    Burst { role: Role::Block(Arc::new(block)), ..pushes(world, session, keys) }
}

fn pushes(world: &World, session: u32, keys: &[u16]) -> Burst {
    let buckets = Buckets::new(Arc::from(keys), 0..keys.len() as u32);
    Burst { buckets, ..world.burst(session, 1, Access::Write, Bytes::from(format!("{session};"))) }
}

fn submit(world: &mut World, bursts: Vec<Burst>) {
    world.step(Event::Submit(Submission { bursts, cancels: vec![] }));
}

fn cancel(world: &mut World, session: u32, reply: Option<&'static str>) {
    let cancel = Cancel { session, ticket: 1, reply: reply.map(Bytes::from) };
    world.step(Event::Submit(Submission { bursts: vec![], cancels: vec![cancel] }));
}

fn settle(world: &mut World, replies: &[&str]) {
    (0..3).for_each(|replica| world.apply(replica, replies));
}

/// Sessions that wait for key 5, parked in this order.
fn parked(sessions: &[u32], until_us: Option<u64>) -> World {
    let mut world = World::serving(3);
    for session in sessions {
        let burst = waits(&world, *session, &[5], until_us);
        submit(&mut world, vec![burst]);
        if *session == sessions[0] {
            assert_eq!(world.sent(), to_all(3, &format!("2={session};")));
            settle(&mut world, &["nil"]);
        }
    }
    assert!(world.sent().is_empty(), "behind others nobody is tried");
    assert!(world.answers().is_empty());
    world
}

#[test]
fn the_longest_waiter_is_tried_in_the_entry_of_the_write_and_then_the_next() {
    let mut world = parked(&[1, 2, 3], None);
    let burst = pushes(&world, 9, &[5]);
    submit(&mut world, vec![burst]);
    assert_eq!(world.sent(), to_all(3, "3=9;1;"));
    settle(&mut world, &["+OK", "one"]);
    assert_eq!(world.answers(), ["9/1 +OK", "1/1 one"]);
    assert!(world.sent().contains(&(0, "4=2;".into())), "there may be more");
    settle(&mut world, &["nil"]);
    assert!(world.sent().is_empty() && world.answers().is_empty(), "there was not");
    let burst = pushes(&world, 9, &[6]);
    submit(&mut world, vec![burst]);
    assert_eq!(world.sent(), to_all(3, "5=9;"), "another key");
}

#[test]
fn a_write_while_a_try_is_under_way_is_not_missed() {
    let mut world = World::serving(3);
    let burst = waits(&world, 1, &[5], None);
    submit(&mut world, vec![burst]);
    let burst = pushes(&world, 9, &[5]);
    submit(&mut world, vec![burst]);
    settle(&mut world, &["nil"]);
    assert!(world.sent().contains(&(0, "3=9;1;".into())));
    settle(&mut world, &["+OK", "one"]);
    assert_eq!(world.answers(), ["9/1 +OK", "1/1 one"]);
}

#[test]
fn time_ends_and_so_does_patience() {
    let mut world = parked(&[1, 2], Some(50_000));
    world.wait(51);
    let mut answers = world.answers();
    answers.sort();
    assert_eq!(answers, ["1/1 late", "2/1 late"]);
    let mut world = parked(&[1, 2, 3], None);
    cancel(&mut world, 1, None);
    cancel(&mut world, 2, Some("stopped"));
    assert_eq!(world.answers(), ["2/1 stopped"]);
    let burst = pushes(&world, 9, &[5]);
    submit(&mut world, vec![burst]);
    assert_eq!(world.sent(), to_all(3, "3=9;3;"));
}

/// Two for whom nobody looked yet: the first is being tried, the second is behind it and its time is over.
fn untried() -> World {
    let mut world = World::serving(3);
    let bursts = vec![waits(&world, 1, &[5], None), waits(&world, 2, &[5], Some(50_000))];
    submit(&mut world, bursts);
    assert_eq!(world.sent(), to_all(3, "2=1;"));
    world.wait(51);
    assert!(world.answers().is_empty(), "there may be something");
    world
}

#[test]
fn time_does_not_end_before_somebody_looked() {
    let mut world = untried();
    settle(&mut world, &["one"]);
    settle(&mut world, &["two"]);
    assert_eq!(world.answers(), ["1/1 one", "2/1 two"]);
    let mut world = untried();
    settle(&mut world, &["nil"]);
    settle(&mut world, &["nil"]);
    assert_eq!(world.answers(), ["2/1 late"]);
}

#[test]
fn a_look_after_the_time_that_is_refused_is_told() {
    let mut world = untried();
    world.step(Event::Disconnected { replica: 0 });
    world.step(Event::Disconnected { replica: 1 });
    world.wait(5000);
    let mut answers = world.answers();
    answers.sort();
    assert_eq!(answers, ["1/1 unknown", "2/1 refused"]);
    let mut world = World::serving(3);
    world.step(Event::Disconnected { replica: 0 });
    world.step(Event::Disconnected { replica: 1 });
    let bursts = vec![waits(&world, 1, &[5], None), waits(&world, 2, &[5], Some(50_000))];
    submit(&mut world, bursts);
    world.wait(51);
    world.wait(5000);
    let mut answers = world.answers();
    answers.sort();
    assert_eq!(answers, ["1/1 refused", "2/1 refused"]);
}

#[test]
fn who_leaves_while_a_try_waits_to_be_numbered_takes_nothing() {
    let mut world = World::serving(3);
    world.write(8, 1);
    let burst = waits(&world, 1, &[5], None);
    submit(&mut world, vec![burst]);
    cancel(&mut world, 1, None);
    world.sent();
    settle(&mut world, &["+OK"]);
    assert!(world.sent().is_empty());
}

#[test]
fn who_waits_stays_parked_without_a_quorum_and_ends_with_the_owner() {
    let mut world = parked(&[1, 2], None);
    world.step(Event::Disconnected { replica: 0 });
    world.step(Event::Disconnected { replica: 1 });
    world.wait(5000);
    assert!(world.answers().is_empty());
    world.step(Event::Fenced { by: 9 });
    let mut answers = world.answers();
    answers.sort();
    assert_eq!(answers, ["1/1 refused", "2/1 refused"]);
}

#[test]
fn a_first_try_that_is_refused_or_unknown_is_told() {
    let mut world = World::serving(3);
    let burst = waits(&world, 1, &[5], None);
    submit(&mut world, vec![burst]);
    world.step(Event::Disconnected { replica: 0 });
    world.step(Event::Disconnected { replica: 1 });
    let burst = waits(&world, 2, &[6], None);
    submit(&mut world, vec![burst]);
    world.wait(2001);
    let mut answers = world.answers();
    answers.sort();
    assert_eq!(
        answers,
        ["1/1 unknown", "2/1 refused"],
        "an element may have been taken: that is not kept silent"
    );
}

#[test]
fn a_later_try_that_is_refused_is_made_again() {
    let mut world = World::serving(3);
    let burst = Burst { dialect: 3, ..waits(&world, 1, &[5], None) };
    submit(&mut world, vec![burst]);
    settle(&mut world, &["nil"]);
    let burst = pushes(&world, 9, &[5]);
    submit(&mut world, vec![burst]);
    let sent = world.sent();
    assert!(sent.contains(&(0, "3=9;".into())), "of another protocol it cannot share the entry: {sent:?}");
    world.step(Event::Disconnected { replica: 0 });
    world.step(Event::Disconnected { replica: 1 });
    world.apply(2, &["+OK"]);
    world.wait(2001);
    assert_eq!(world.answers(), ["9/1 unknown"]);
    let head = world.group.head();
    world.attach(0, Some(head));
    world.wait(10);
    let sent = world.sent();
    assert!(sent.contains(&(0, "4=1;".into())), "{sent:?}");
    world.apply(0, &["one"]);
    world.apply(2, &["one"]);
    assert_eq!(world.answers(), ["1/1 one"]);
}

#[test]
fn an_error_is_told_at_the_first_try_only() {
    let mut world = World::serving(3);
    let burst = waits(&world, 1, &[5], None);
    submit(&mut world, vec![burst]);
    settle(&mut world, &["-WRONGTYPE"]);
    assert_eq!(world.answers(), ["1/1 -WRONGTYPE"]);
    let mut world = parked(&[1], None);
    let burst = pushes(&world, 9, &[5]);
    submit(&mut world, vec![burst]);
    settle(&mut world, &["+OK", "-WRONGTYPE"]);
    assert_eq!(world.answers(), ["9/1 +OK"]);
}

#[test]
fn a_write_behind_a_try_in_the_same_entry_is_not_missed() {
    let mut world = World::serving(3);
    let bursts = vec![waits(&world, 1, &[5], None), pushes(&world, 2, &[5])];
    submit(&mut world, bursts);
    assert_eq!(world.sent(), to_all(3, "2=1;2;"));
    settle(&mut world, &["nil", "+OK"]);
    assert_eq!(world.answers(), ["2/1 +OK"]);
    assert_eq!(world.sent(), to_all(3, "3=1;"), "it is tried again");
    settle(&mut world, &["one"]);
    assert_eq!(world.answers(), ["1/1 one"]);
}

#[test]
fn who_leaves_as_it_comes_is_forgotten() {
    let mut world = World::serving(3);
    let bursts = vec![waits(&world, 1, &[5], None)];
    let cancels = vec![Cancel { session: 1, ticket: 1, reply: None }];
    world.step(Event::Submit(Submission { bursts, cancels }));
    assert!(world.sent().is_empty());
    let burst = pushes(&world, 2, &[5]);
    submit(&mut world, vec![burst]);
    assert_eq!(world.sent(), to_all(3, "2=2;"), "nobody takes what is pushed");
}

#[test]
fn who_leaves_during_a_trial_leaves_the_others_their_replies() {
    let mut world = World::serving(3);
    let first = Burst { leads: true, ..waits(&world, 1, &[5], None) };
    let second = Burst { leads: true, ..pushes(&world, 2, &[6]) };
    submit(&mut world, vec![first, second]);
    assert_eq!(world.sent(), [(0, "try 1-1 1;2;".into())]);
    cancel(&mut world, 1, None);
    tell(&mut world, 0, "mine yours|done");
    settle(&mut world, &[":1", ":1"]);
    assert_eq!(world.answers(), ["1/1 mine", "2/1 yours"]);
}

#[test]
fn who_is_refused_by_a_trial_stands_in_nobodys_way() {
    let mut world = World::serving(3);
    let burst = Burst { leads: true, ..waits(&world, 1, &[5], None) };
    submit(&mut world, vec![burst]);
    for replica in 0..3 {
        tell(&mut world, replica, "-OOM");
    }
    assert_eq!(world.answers(), ["1/1 refused"]);
    world.sent();
    let burst = Burst { leads: true, ..waits(&world, 2, &[5], None) };
    submit(&mut world, vec![burst]);
    assert_eq!(world.sent().len(), 1, "the next one is tried, not parked behind it");
}

/// Sessions that read a stream, at key 5, and found nothing.
fn readers(sessions: &[u32]) -> World {
    let mut world = World::serving(3);
    for session in sessions {
        let block = Block {
            keys: vec![Awaited { bucket: 5, identity: 2 }],
            until_us: None,
            empty: &[b"nil"],
            late: Bytes::from_static(b"late"),
            shares: true,
        };
        let burst = Burst {
            access: Access::Read,
            role: Role::Block(Arc::new(block)),
            ..pushes(&world, *session, &[5])
        };
        submit(&mut world, vec![burst]);
        assert_eq!(world.sent(), [(0, format!("read {session};"))], "each is tried at once");
        tell(&mut world, 0, "nil");
    }
    assert!(world.answers().is_empty());
    world
}

#[test]
fn all_who_only_read_are_served_by_one_write_and_cost_no_entry() {
    let mut world = readers(&[1, 2, 3]);
    let burst = pushes(&world, 9, &[5]);
    submit(&mut world, vec![burst]);
    let sent = world.sent();
    assert_eq!(sent[..3], to_all(3, "2=9;")[..]);
    let reads: Vec<&str> = sent[3..].iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(reads, ["read 1;", "read 2;", "read 3;"]);
    let reader = sent[3].0;
    settle(&mut world, &["+OK"]);
    for reply in ["one", "nil", "three"] {
        tell(&mut world, reader, reply);
    }
    assert_eq!(world.answers(), ["9/1 +OK", "1/1 one", "3/1 three"]);
    // What the second one was shown may have been older than the write.
    let again = world.sent();
    assert_eq!(again.len(), 1, "{again:?}");
    tell(&mut world, again[0].0, "nil");
    assert!(world.sent().is_empty(), "it saw all there is, and waits on");
    cancel(&mut world, 2, Some("stopped"));
    assert_eq!(world.answers(), ["2/1 stopped"]);
}

#[test]
fn a_reader_that_leaves_while_it_is_tried_is_forgotten() {
    let mut world = readers(&[1, 2]);
    let burst = pushes(&world, 9, &[5]);
    submit(&mut world, vec![burst]);
    let reader = world.sent()[3].0;
    cancel(&mut world, 1, None);
    settle(&mut world, &["+OK"]);
    for reply in ["nil", "two"] {
        tell(&mut world, reader, reply);
    }
    assert_eq!(world.answers(), ["9/1 +OK", "2/1 two"]);
    assert!(world.sent().is_empty(), "it is not tried again");
}
