//! Clients' transactions: when they are dropped, and that they stay in one piece.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A `WATCH` of these buckets.
fn watch(world: &mut World, session: u32, ticket: u64, buckets: &[u16]) -> Watch {
    let watch = Watch { mark: Arc::default(), buckets: Arc::from(buckets) };
    let burst = Burst {
        role: Role::Watch(watch.mark.clone()),
        commands: 0,
        ..world.burst(session, ticket, Access::Read, Bytes::from_static(b"watched"))
    };
    world.step(Event::Submit(Submission { bursts: vec![burst], cancels: vec![] }));
    watch
}

fn touching(world: &World, session: u32, ticket: u64, buckets: &[u16]) -> Burst {
    let payload = Bytes::from(format!("{session}/{ticket};"));
    let buckets = Buckets::new(Arc::from(buckets), 0..buckets.len() as u32);
    Burst { buckets, ..world.burst(session, ticket, Access::Write, payload) }
}

fn guarded(world: &World, session: u32, ticket: u64, buckets: &[u16], watches: &[Watch]) -> Burst {
    let transaction = Transaction { watches: watches.to_vec(), ..Transaction::default() };
    Burst { role: Role::Transaction(Arc::new(transaction)), ..touching(world, session, ticket, buckets) }
}

fn submit(world: &mut World, bursts: Vec<Burst>) {
    world.step(Event::Submit(Submission { bursts, cancels: vec![] }));
}

/// What is in flight is applied by all, and so is what follows.
fn settle(world: &mut World) {
    for replica in 0..3 {
        world.apply(replica, &["+OK"]);
    }
}

#[test]
fn a_transaction_whose_keys_were_left_alone_is_applied() {
    let mut world = World::serving(3);
    let watch = watch(&mut world, 1, 1, &[5]);
    assert_eq!(world.answers(), ["1/1 watched"]);
    let other = touching(&world, 2, 1, &[6]);
    submit(&mut world, vec![other]);
    settle(&mut world);
    let burst = guarded(&world, 1, 2, &[5], &[watch]);
    submit(&mut world, vec![burst]);
    settle(&mut world);
    assert_eq!(world.answers(), ["2/1 +OK", "1/2 +OK"]);
}

#[test]
fn a_write_since_the_watch_drops_it() {
    let mut world = World::serving(3);
    let watch = watch(&mut world, 1, 1, &[4, 5]);
    let other = touching(&world, 2, 1, &[5]);
    submit(&mut world, vec![other]);
    settle(&mut world);
    world.sent();
    let burst = guarded(&world, 1, 2, &[9], &[watch]);
    submit(&mut world, vec![burst]);
    assert_eq!(world.answers(), ["1/1 watched", "2/1 +OK", "1/2 changed"]);
    assert!(world.sent().is_empty(), "an entry of nothing is not numbered");
}

#[test]
fn so_does_a_write_before_it_in_the_same_entry_and_a_write_of_its_own() {
    let mut world = World::serving(3);
    let watched = [watch(&mut world, 1, 1, &[5])];
    let bursts = vec![
        touching(&world, 2, 1, &[5]),
        guarded(&world, 1, 2, &[6], &watched),
        touching(&world, 3, 1, &[7]),
    ];
    submit(&mut world, bursts);
    assert_eq!(world.answers(), ["1/1 watched", "1/2 changed"]);
    assert_eq!(world.sent(), to_all(3, "2=2/1;3/1;"));
    settle(&mut world);

    let watched = [watch(&mut world, 1, 3, &[6])];
    let bursts = vec![touching(&world, 1, 4, &[6]), guarded(&world, 1, 5, &[8], &watched)];
    submit(&mut world, bursts);
    assert!(world.answers().contains(&"1/5 changed".to_string()));
}

#[test]
fn a_transaction_behind_it_in_the_same_entry_does_not_count() {
    let mut world = World::serving(3);
    let watched = [watch(&mut world, 1, 1, &[5])];
    let bursts = vec![guarded(&world, 1, 2, &[5], &watched), touching(&world, 2, 1, &[5])];
    submit(&mut world, bursts);
    assert_eq!(world.sent(), to_all(3, "2=1/2;2/1;"));
}

#[test]
fn of_two_that_watch_and_write_the_same_only_the_first_is_applied() {
    let mut world = World::serving(3);
    let one = [watch(&mut world, 1, 1, &[5])];
    let two = [watch(&mut world, 2, 1, &[5])];
    let bursts = vec![guarded(&world, 1, 2, &[5], &one), guarded(&world, 2, 2, &[5], &two)];
    submit(&mut world, bursts);
    assert_eq!(world.sent(), to_all(3, "2=1/2;"));
    assert_eq!(world.answers(), ["1/1 watched", "2/1 watched", "2/2 changed"]);
}

#[test]
fn a_write_that_may_touch_any_key_drops_every_watch() {
    let mut world = World::serving(3);
    let watched = [watch(&mut world, 1, 1, &[5])];
    let everything = Burst { everything: true, ..touching(&world, 2, 1, &[]) };
    submit(&mut world, vec![everything]);
    settle(&mut world);
    let burst = guarded(&world, 1, 2, &[5], &watched);
    submit(&mut world, vec![burst]);
    assert!(world.answers().contains(&"1/2 changed".to_string()));
}

#[test]
fn a_watch_goes_behind_the_session_s_own_writes() {
    let mut world = World::serving(3);
    world.write(9, 1);
    let own = touching(&world, 1, 1, &[5]);
    submit(&mut world, vec![own]);
    let watched = [watch(&mut world, 1, 2, &[5])];
    assert!(world.answers().is_empty(), "the write before it is not numbered");
    let burst = guarded(&world, 1, 3, &[5], &watched);
    submit(&mut world, vec![burst]);
    settle(&mut world);
    settle(&mut world);
    settle(&mut world);
    assert_eq!(world.answers(), ["9/1 +OK", "1/2 watched", "1/1 +OK", "1/3 +OK"]);
}

#[test]
fn what_was_never_marked_is_taken_as_touched() {
    let mut world = World::serving(3);
    let unmarked = Watch { mark: Arc::default(), buckets: Arc::from([5]) };
    let burst = guarded(&world, 1, 1, &[5], &[unmarked]);
    submit(&mut world, vec![burst]);
    assert_eq!(world.answers(), ["1/1 changed"]);
}

#[test]
fn before_the_group_serves_nothing_is_marked() {
    let mut world = World::unattached(3, |_| {});
    let watched = watch(&mut world, 1, 1, &[5]);
    assert!(world.answers().is_empty() && watched.mark.moment().is_none());
    (0..3).for_each(|replica| world.attach(replica, None));
    (0..3).for_each(|replica| world.apply(replica, &[]));
    assert_eq!(world.answers(), ["1/1 watched"]);
}

/// A number that was given back is given again, to a write that touches what is watched.
fn after_a_number_was_given_back(edit: impl FnOnce(&mut GroupConfig)) -> Vec<String> {
    let mut world = World::serving_with(3, edit);
    let refused = touching(&world, 2, 1, &[6]);
    submit(&mut world, vec![refused]);
    let watched = [watch(&mut world, 1, 1, &[5])];
    for replica in 0..3 {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    let other = touching(&world, 3, 1, &[5]);
    submit(&mut world, vec![other]);
    settle(&mut world);
    world.answers();
    let burst = guarded(&world, 1, 2, &[5], &watched);
    submit(&mut world, vec![burst]);
    settle(&mut world);
    world.answers()
}

#[test]
fn a_number_given_twice_hides_no_write() {
    assert_eq!(after_a_number_was_given_back(|_| {}), ["1/2 changed"]);
    let missed = after_a_number_was_given_back(|config| config.rules.given_back = false);
    assert_eq!(missed, ["1/2 +OK"], "the rule is needed");
}

#[test]
fn a_transaction_of_reads_asks_as_well() {
    let mut world = World::serving(3);
    let watched = [watch(&mut world, 1, 1, &[5])];
    let read = |world: &World, ticket: u64, commands: u32| {
        let burst = guarded(world, 1, ticket, &[5], &watched);
        Burst { access: Access::Read, commands, ..burst }
    };
    let bursts = vec![read(&world, 2, 1), read(&world, 3, 0)];
    submit(&mut world, bursts);
    assert_eq!(world.sent(), [(0, "read 1/2;".into())]);
    assert_eq!(world.answers(), ["1/1 watched", "1/3 "], "nothing is asked of a replica for nothing");
    let other = touching(&world, 2, 1, &[5]);
    submit(&mut world, vec![other]);
    let bursts = vec![read(&world, 4, 1), read(&world, 5, 0)];
    submit(&mut world, bursts);
    assert_eq!(world.answers(), ["1/4 changed", "1/5 changed"]);
}

#[test]
fn an_entry_says_which_commands_belong_together_also_when_it_is_numbered_again() {
    let mut world = World::serving(3);
    let grows = Burst { grows: true, commands: 2, ..touching(&world, 1, 1, &[1]) };
    let whole = Burst { commands: 3, ..guarded(&world, 2, 1, &[2], &[]) };
    submit(&mut world, vec![grows, whole]);
    let runs = |world: &mut World| match world.fx.sends.drain(..).next() {
        Some((_, Outgoing::Entries(entries))) => entries[0].whole.first().cloned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(runs(&mut world), Some(2..5));
    for replica in 0..3 {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    assert_eq!(runs(&mut world), Some(0..3));
}

#[test]
fn a_transaction_that_needs_memory_is_refused_as_a_whole() {
    let mut world = World::serving(3);
    let whole = Burst { grows: true, commands: 3, ..guarded(&world, 1, 1, &[2], &[]) };
    let spared = touching(&world, 2, 1, &[3]);
    submit(&mut world, vec![whole, spared]);
    world.sent();
    for replica in 0..3 {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    assert_eq!(world.answers(), ["1/1 refused"]);
    assert_eq!(world.sent(), to_all(3, "2=2/1;"));
}

#[test]
fn a_transaction_larger_than_an_entry_may_be_is_one_entry() {
    let mut world = World::serving_with(3, |config| (config.entry_commands, config.entry_bytes) = (4, 8));
    world.write(9, 1);
    world.sent();
    let bursts = vec![
        touching(&world, 2, 1, &[3]),
        Burst { commands: 100, ..guarded(&world, 1, 1, &[2], &[]) },
        touching(&world, 3, 1, &[3]),
    ];
    submit(&mut world, bursts);
    settle(&mut world);
    assert!(world.sent().contains(&(0, "3=2/1;3/1;".to_string())));
    settle(&mut world);
    assert!(world.sent().contains(&(0, "4=1/1;".to_string())));
}

#[test]
fn replies_to_reads_inside_a_transaction_are_not_compared() {
    let diverges = |unlike: Option<std::ops::Range<u32>>, theirs: [&str; 3]| {
        let mut world = World::serving(3);
        let unlike = unlike.into_iter().collect();
        let transaction = Transaction { unlike, ..Transaction::default() };
        let burst = Burst {
            commands: 2,
            role: Role::Transaction(Arc::new(transaction)),
            ..touching(&world, 1, 1, &[5])
        };
        let bursts = vec![touching(&world, 2, 1, &[6]), burst];
        submit(&mut world, bursts);
        world.apply(0, &["+OK", ":7", "+OK"]);
        world.apply(1, &theirs);
        world.fx.notes.iter().any(|note| matches!(note, Note::Divergence { .. }))
    };
    assert!(diverges(None, ["+OK", ":8", "+OK"]));
    assert!(!diverges(Some(0..1), ["+OK", ":8", "+OK"]));
    assert!(diverges(Some(0..1), ["+OK", ":8", "+NO"]));
    assert!(diverges(Some(0..1), ["+NO", ":8", "+OK"]));
    assert!(diverges(Some(1..2), ["+OK", ":8", "+OK"]));
}

/// A step of the small world in which watches are tried.
#[derive(Debug, Clone, Copy)]
enum Move {
    Watch(u32, u16),
    Write(u32, u16),
    Exec(u32, u16),
    Apply,
    Refuse,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (1u32..4, 0u16..3).prop_map(|(s, b)| Move::Watch(s, b)),
        3 => (1u32..4, 0u16..3).prop_map(|(s, b)| Move::Write(s, b)),
        3 => (1u32..4, 0u16..3).prop_map(|(s, b)| Move::Exec(s, b)),
        4 => Just(Move::Apply),
        1 => Just(Move::Refuse),
    ];
    prop::collection::vec(one, 1..40)
}

/// Plays the moves, and gives the first transaction that was applied though what it watched had been written after
/// its watch was answered: what Redis would never do.
fn missed(moves: &[Move], edit: impl FnOnce(&mut GroupConfig)) -> Option<String> {
    let mut world = World::serving_with(3, edit);
    // Of each session: watches with the number of effects that had happened when it was answered.
    let mut watched: Vec<Vec<(Watch, u16, u64)>> = vec![Vec::new(); 4];
    // By ticket: what was watched then.
    let mut asked: BTreeMap<u64, Vec<(Watch, u16, u64)>> = BTreeMap::new();
    let mut touched: BTreeMap<u64, u16> = BTreeMap::new();
    // Entries as they stand in the log now: tickets that are in it, in order.
    let mut marks: BTreeMap<u64, usize> = BTreeMap::new();
    let mut log: Vec<Vec<u64>> = Vec::new();
    let base = world.group.head().seq;
    let mut ticket = 0;
    for step in moves.iter().copied().chain([Move::Apply; 8]) {
        ticket += 1;
        match step {
            Move::Watch(session, bucket) => {
                let seen = watch(&mut world, session, ticket, &[bucket]);
                watched[session as usize].push((seen, bucket, ticket));
            }
            Move::Write(session, bucket) => {
                touched.insert(ticket, bucket);
                let burst = touching(&world, session, ticket, &[bucket]);
                submit(&mut world, vec![Burst { grows: true, ..burst }]);
            }
            Move::Exec(session, bucket) => {
                touched.insert(ticket, bucket);
                let mine = std::mem::take(&mut watched[session as usize]);
                let watches: Vec<Watch> = mine.iter().map(|(watch, ..)| watch.clone()).collect();
                let burst = guarded(&world, session, ticket, &[bucket], &watches);
                asked.insert(ticket, mine);
                submit(&mut world, vec![Burst { grows: true, ..burst }]);
            }
            Move::Apply => (0..3).for_each(|replica| {
                world.step(Event::Applied {
                    replica,
                    replies: vec![Replies { bytes: Bytes::from_static(b"+"), ends: vec![1; 64] }],
                })
            }),
            Move::Refuse => {
                (0..3).for_each(|replica| {
                    world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
                });
                world.wait(2000);
            }
        }
        // What stands in the log now, read back from what was sent.
        for (_, outgoing) in world.fx.sends.drain(..) {
            let Outgoing::Entries(entries) = outgoing else { continue };
            for entry in entries {
                let text: Vec<u8> = entry.payload.iter().flatten().copied().collect();
                let tickets = String::from_utf8_lossy(&text)
                    .split_terminator(';')
                    .filter_map(|item| item.split('/').nth(1)?.parse().ok())
                    .collect();
                let index = (entry.position.seq - base - 1) as usize;
                log.truncate(index);
                log.push(tickets);
            }
        }
        log.truncate((world.group.head().seq - base) as usize);
        // What was in the log then may have left it: all that is there beyond came later.
        let length: usize = log.iter().map(Vec::len).sum();
        marks.values_mut().for_each(|place| *place = length.min(*place));
        for answer in world.answers() {
            if let Some(text) = answer.strip_suffix(" watched") {
                let number: u64 = text.split('/').nth(1).and_then(|n| n.parse().ok()).unwrap_or_default();
                marks.insert(number, log.iter().map(Vec::len).sum());
            }
        }
    }
    let order: Vec<u64> = log.into_iter().flatten().collect();
    for (at, number) in order.iter().enumerate() {
        for (_, bucket, watch) in asked.get(number).into_iter().flatten() {
            let Some(since) = marks.get(watch).filter(|since| **since <= at) else { continue };
            if order[*since..at].iter().any(|other| touched.get(other) == Some(bucket)) {
                return Some(format!("{number} of {order:?} in {moves:?}"));
            }
        }
    }
    None
}

proptest! {
    #[test]
    fn no_touched_watch_is_missed(moves in moves()) {
        prop_assert_eq!(missed(&moves, |_| {}), None);
    }
}

#[test]
fn the_property_sees_a_missing_check() {
    let moves = [Move::Watch(1, 0), Move::Write(2, 0), Move::Exec(1, 1), Move::Apply];
    assert!(missed(&moves, |config| config.rules.watch = false).is_some());
    assert!(missed(&moves, |_| {}).is_none());
    let moves = [
        Move::Write(2, 1),
        Move::Watch(1, 0),
        Move::Refuse,
        Move::Write(3, 0),
        Move::Apply,
        Move::Exec(1, 2),
        Move::Apply,
    ];
    assert!(missed(&moves, |config| config.rules.given_back = false).is_some());
    assert!(missed(&moves, |_| {}).is_none());
}
