//! Commands that run on one replica first.

use super::*;

pub(super) fn leads(world: &mut World, session: u32, ticket: u64, text: &'static str) {
    let payload = Bytes::from_static(text.as_bytes());
    let burst = Burst { leads: true, ..world.burst(session, ticket, Access::Write, payload) };
    world.step(Event::Submit(Submission { bursts: vec![burst], cancels: vec![] }));
}

pub(super) fn tell(world: &mut World, replica: usize, text: &'static str) {
    world.step(Event::Read { replica, bytes: Bytes::from_static(text.as_bytes()) });
}

pub(super) fn mark(number: u64, key: &'static str) -> Option<TrialMark> {
    let keys = Keys::from([Bytes::from_static(key.as_bytes())]);
    Some(TrialMark { trial: TrialId { epoch: 1, number }, keys })
}

pub(super) fn attach_marked(world: &mut World, replica: usize, position: Position, trial: Option<TrialMark>) {
    let attachment = Attachment { position: Some(position), trial, ..Attachment::default() };
    world.step(Event::Attached { replica, attachment });
}

pub(super) fn state(world: &World, replica: usize) -> ReplicaState {
    world.group.health().replicas[replica].state
}

#[test]
fn what_one_did_becomes_the_entry_of_all() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "pop;");
    assert_eq!(world.sent(), [(0, "try 1-1 pop;".into())]);
    world.write(2, 1);
    leads(&mut world, 3, 1, "more;");
    assert!(world.sent().is_empty(), "nothing is numbered meanwhile, and nobody joins");
    tell(&mut world, 0, "$x|rem x");
    assert_eq!(world.sent(), to_all(3, "2=rem x;unmark 1-1;"));
    assert!(world.answers().is_empty(), "nobody holds it yet");
    world.apply(1, &[":1", ":0"]);
    world.apply(2, &[":1", ":0"]);
    assert_eq!(world.answers(), ["1/1 $x"], "what the leader replied");
    assert!(world.fx.notes.is_empty());
    world.apply(0, &[":0", ":1"]);
    assert!(world.fx.notes.is_empty(), "the leader's replies to the effects may differ");
}

#[test]
fn nobody_reads_from_a_leader_what_is_not_numbered() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "pop;");
    world.sent();
    world.read(2, 1);
    assert_eq!(world.sent(), [(1, "read 2/1;".into())]);
    world.read(1, 2);
    assert!(world.sent().is_empty(), "it is behind its session's write");
    tell(&mut world, 0, "$x|rem x");
    assert!(world.sent().contains(&(0, "read 1/2;".into())));
    let mut alone = World::serving(1);
    leads(&mut alone, 1, 1, "pop;");
    alone.sent();
    alone.read(2, 1);
    assert!(alone.sent().is_empty());
    tell(&mut alone, 0, "$x|rem x");
    assert_eq!(alone.sent(), [(0, "2=rem x;unmark 1-1;".into()), (0, "read 2/1;".into())]);
}

#[test]
fn a_read_that_goes_on_at_a_leader_waits_for_its_entry() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "pop;");
    world.sent();
    let role = Role::Pinned(Arc::new(Pin { replica: Some(0), anew: Bytes::from_static(b"anew") }));
    let burst = Burst { role, ..world.burst(2, 1, Access::Read, Bytes::from_static(b"on;")) };
    world.step(Event::Submit(Submission { bursts: vec![burst], cancels: vec![] }));
    assert!(world.sent().is_empty());
    tell(&mut world, 0, "$x|rem x");
    assert!(world.sent().contains(&(0, "read on;".into())));
}

#[test]
fn a_lost_leader_is_replaced_and_mended_when_it_returns() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "pop;");
    world.sent();
    world.step(Event::Disconnected { replica: 0 });
    world.wait(21);
    assert_eq!(world.sent(), [(1, "try 1-2 pop;".into())]);
    let before = world.group.head();
    attach_marked(&mut world, 0, before, mark(1, "pop"));
    assert_eq!(state(&world, 0), ReplicaState::Mending);
    assert_eq!(world.sent(), [(2, "read fetch pop".into())], "not from one that is trying");
    tell(&mut world, 1, "$y|rem y");
    assert_eq!(world.sent(), to_all(3, "2=rem y;unmark 1-2;")[1..]);
    tell(&mut world, 2, "values");
    assert_eq!(world.sent(), [(0, "read store values at 1".into())]);
    tell(&mut world, 0, "+OK");
    assert_eq!(world.sent(), [(0, "2=rem y;unmark 1-2;".into())]);
}

#[test]
fn a_leader_whose_effects_are_the_next_entry_is_simply_fed() {
    let mut world = World::serving(3);
    let before = world.group.head();
    leads(&mut world, 1, 1, "pop;");
    tell(&mut world, 0, "$x|rem x");
    world.sent();
    world.step(Event::Disconnected { replica: 0 });
    attach_marked(&mut world, 0, before, mark(1, "pop"));
    assert_eq!(world.sent(), [(0, "2=rem x;unmark 1-1;".into())]);
    let mut other = World::serving(3);
    let before = other.group.head();
    leads(&mut other, 1, 1, "pop;");
    tell(&mut other, 0, "$x|rem x");
    other.step(Event::Disconnected { replica: 0 });
    attach_marked(&mut other, 0, before, mark(7, "pop"));
    assert_eq!(state(&other, 0), ReplicaState::Mending, "of another trial");
}

#[test]
fn a_state_that_refuses_is_tried_elsewhere_and_told_when_all_refuse() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "pop;");
    for replica in 0..3 {
        assert_eq!(world.sent().len(), 1);
        tell(&mut world, replica, "-OOM");
    }
    assert_eq!(world.answers(), ["1/1 refused"]);
    leads(&mut world, 1, 2, "odd;");
    tell(&mut world, 0, "-0:ERR");
    assert_eq!(world.answers(), ["1/2 refused"]);
    world.sent();
    world.write(1, 3);
    assert_eq!(world.sent(), to_all(3, "2=1/3;"), "it goes on");
}

#[test]
fn effects_that_nobody_takes_are_undone_on_the_leader() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "pop;");
    tell(&mut world, 0, "$x|rem x");
    world.sent();
    for replica in [1, 2, 0] {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    assert_eq!(
        world.answers(),
        ["1/1 unknown"],
        "a new owner may find it on the leader, and nobody else to ask"
    );
    assert_eq!(state(&world, 0), ReplicaState::Mending);
    assert_eq!(world.sent(), [(2, "read fetch pop".into())]);
}

#[test]
fn a_deadline_that_passes_during_a_trial_is_told_and_the_trial_goes_on() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "pop;");
    world.sent();
    (0..3).for_each(|_| {
        world.now.us += 900_000;
        world.step(Event::Progress { replica: 0, partial: 0 });
        world.wait(1);
    });
    assert_eq!(world.answers(), ["1/1 unknown"]);
    tell(&mut world, 0, "$x|rem x");
    assert_eq!(world.sent(), to_all(3, "2=rem x;unmark 1-1;"));
    (0..3).for_each(|replica| world.apply(replica, &[":1", ":1"]));
    assert!(world.answers().is_empty(), "answered once");
}

#[test]
fn a_trial_is_not_tried_for_ever() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "slow;");
    let mut tries = 0;
    while world.answers().is_empty() {
        for (replica, _) in world.sent() {
            tries += 1;
            let position = world.group.head();
            world.step(Event::Disconnected { replica });
            attach_marked(&mut world, replica, position, None);
            world.apply(replica, &[]);
        }
        world.wait(21);
        assert!(tries < 10);
    }
    assert_eq!(tries, 4);
}

#[test]
fn a_server_alone_that_ran_a_trial_says_what_holds() {
    let mut world = World::serving(1);
    let before = world.group.head();
    leads(&mut world, 1, 1, "pop;");
    world.sent();
    world.step(Event::Disconnected { replica: 0 });
    attach_marked(&mut world, 0, before, mark(1, "pop"));
    assert_eq!(world.answers(), ["1/1 unknown"]);
    assert_eq!(world.sent(), [(0, "fetch pop".into())]);
    tell(&mut world, 0, "values");
    assert_eq!(world.sent(), [(0, "2=values;unmark 1-1;".into())]);
    world.apply(0, &["+OK", ":1"]);
    assert_eq!(state(&world, 0), ReplicaState::InSync);
}

#[test]
fn a_new_owner_mends_the_marked_from_the_others_or_adopts_the_best_of_them() {
    let position = Position { epoch: 1, seq: 5, hash: 77 };
    let mut world = World::unattached(3, |config| config.epoch = 2);
    attach_marked(&mut world, 0, position, mark(3, "pop"));
    attach_marked(&mut world, 1, position, None);
    world.step(Event::Unreachable { replica: 2 });
    assert_eq!(world.sent(), [(1, "6=".into())]);
    world.apply(1, &[]);
    assert_eq!(world.sent(), [(1, "read fetch pop".into())]);
    assert_eq!(world.group.phase(), Phase::Barrier, "it does not count before it is mended");
    tell(&mut world, 1, "values");
    tell(&mut world, 0, "+OK");
    assert_eq!(world.group.phase(), Phase::Serving);

    let mut world = World::unattached(3, |config| config.epoch = 2);
    attach_marked(&mut world, 0, position, mark(3, "pop"));
    attach_marked(&mut world, 1, position, mark(4, "pop"));
    world.step(Event::Unreachable { replica: 2 });
    assert_eq!(world.sent(), [(0, "fetch pop".into())]);
    tell(&mut world, 0, "values");
    assert_eq!(world.sent(), [(0, "7=values;unmark 1-3;".into())]);
    assert_eq!(state(&world, 1), ReplicaState::Mending);
    world.apply(0, &["+OK", ":1"]);
    let keys = "read fetch pop,unmark 1-3,values";
    assert_eq!(world.sent(), [(0, keys.into())], "the other is mended from it");
}

/// Nobody but replica 0, which ran a trial alone, could be asked when it came, and it is asked for what it did.
fn asked_for_what_it_did() -> World {
    let position = Position { epoch: 1, seq: 5, hash: 77 };
    let mut world = World::unattached(3, |config| config.epoch = 2);
    attach_marked(&mut world, 0, position, mark(3, "pop"));
    attach_marked(&mut world, 1, Position { epoch: 1, seq: 2, hash: 5 }, None);
    world.step(Event::Unreachable { replica: 2 });
    assert_eq!(world.sent(), [(0, "fetch pop".into())]);
    attach_marked(&mut world, 2, position, None);
    assert_eq!(world.sent(), [(2, "6=".into())]);
    world.apply(2, &[]);
    world
}

#[test]
fn whose_values_become_an_entry_is_not_mended_too() {
    let mut world = asked_for_what_it_did();
    world.wait(100);
    assert!(world.sent().is_empty());
    tell(&mut world, 0, "values");
    let entry = "7=values;unmark 1-3;".to_string();
    assert_eq!(world.sent(), [(0, entry.clone()), (2, entry)]);
}

#[test]
fn who_turns_out_to_differ_by_more_is_mended() {
    let mut world = asked_for_what_it_did();
    let keys = Keys::from([Bytes::from_static(b"more")]);
    world.step(Event::Mend { replica: 0, keys, like: 0b100 });
    world.sent();
    tell(&mut world, 0, "values");
    world.wait(100);
    assert_eq!(world.sent(), [(2, "read fetch more,pop".into())]);
}

/// The first leader was lost with its trial, and the second with the entry that it made of it.
fn only_the_first_leader_comes_back_whole(second: Option<Position>) -> World {
    let mut world = World::serving(3);
    let before = world.group.head();
    leads(&mut world, 1, 1, "pop;");
    world.step(Event::Disconnected { replica: 0 });
    world.wait(21);
    tell(&mut world, 1, "$y|rem y");
    world.apply(1, &["+OK", ":1"]);
    assert!(world.answers().is_empty(), "one of three is no quorum");
    world.step(Event::Disconnected { replica: 1 });
    world.step(Event::Disconnected { replica: 2 });
    attach_marked(&mut world, 2, Position { epoch: 1, seq: 0, hash: 9 }, None);
    if let Some(position) = second {
        world.attach(1, Some(position));
    }
    world.sent();
    attach_marked(&mut world, 0, before, mark(1, "pop"));
    world
}

#[test]
fn what_nobody_holds_any_more_keeps_nobody_from_being_mended() {
    let mut world = only_the_first_leader_comes_back_whole(Some(Position { epoch: 1, seq: 0, hash: 8 }));
    assert_eq!(world.answers(), ["1/1 unknown"]);
    assert_eq!(world.sent(), [(0, "fetch pop".into())]);
    tell(&mut world, 0, "values");
    assert_eq!(world.sent(), [(0, "2=values;unmark 1-1;".into())], "under the number that was given back");
}

#[test]
fn what_somebody_may_still_hold_is_waited_for() {
    let mut world = only_the_first_leader_comes_back_whole(None);
    assert!(world.answers().is_empty() && world.sent().is_empty());
    world.attach(1, Some(world.group.head()));
    assert_eq!(world.sent(), [(1, "read fetch pop,rem y,unmark 1-2".into())]);
}

#[test]
fn a_leader_that_is_taken_off_the_log_is_mended_in_what_it_tried_too() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "pop;");
    world.sent();
    let keys = Keys::from([Bytes::from_static(b"other")]);
    world.step(Event::Mend { replica: 0, keys, like: 0b110 });
    let sent = world.sent();
    assert!(sent.contains(&(1, "try 1-2 pop;".into())) || sent.contains(&(2, "try 1-2 pop;".into())));
    assert!(sent.iter().any(|(_, text)| text == "read fetch other,pop"), "{sent:?}");
    tell(&mut world, 0, "$x|rem x");
    assert!(world.sent().is_empty(), "its answer does not count");
}

#[test]
fn commands_that_empty_a_server_do_so_on_one_only() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "flush;");
    world.sent();
    tell(&mut world, 0, "-EMPTY");
    assert_eq!(world.answers(), ["1/1 refused"]);
    assert_eq!(state(&world, 0), ReplicaState::Stale(StaleReason::Blank), "it gets a copy of all");
    assert!(world.sent().is_empty(), "nobody else runs them");
}

#[test]
fn whoever_cannot_take_the_effects_is_stale() {
    let mut world = World::serving(3);
    leads(&mut world, 1, 1, "pop;");
    tell(&mut world, 0, "$x|rem x");
    world.apply(2, &["-ERR Bad data format", ":0"]);
    assert_eq!(state(&world, 2), ReplicaState::Stale(StaleReason::Diverged));
    world.apply(0, &[":1", ":1"]);
    assert!(world.answers().is_empty(), "it does not count");
    world.apply(1, &[":1", ":1"]);
    assert_eq!(world.answers(), ["1/1 $x"]);
}

#[test]
fn a_command_that_can_never_run_takes_nobody_with_it() {
    let mut world = World::serving(3);
    let burst = |world: &World, session: u32, text: &'static [u8]| Burst {
        leads: true,
        ..world.burst(session, 1, Access::Write, Bytes::from_static(text))
    };
    let bursts = vec![burst(&world, 1, b"pop;"), burst(&world, 2, b"odd;"), burst(&world, 3, b"more;")];
    world.step(Event::Submit(Submission { bursts, cancels: vec![] }));
    assert_eq!(world.sent(), [(0, "try 1-1 pop;odd;more;".into())]);
    tell(&mut world, 0, "-1:ERR");
    assert_eq!(world.answers(), ["2/1 refused"]);
    assert_eq!(world.sent(), [(0, "try 1-2 pop;more;".into())]);
    tell(&mut world, 0, "$x $y|rem x y");
    (0..3).for_each(|replica| world.apply(replica, &[":1", ":1"]));
    assert_eq!(world.answers(), ["1/1 $x", "3/1 $y"]);
}

#[test]
fn a_transaction_that_leads_is_dropped_when_what_it_watches_was_touched() {
    let mut world = World::serving(3);
    let guarded = |world: &World, ticket: u64, watch: &Watch| {
        let transaction = Transaction { watches: vec![watch.clone()], ..Transaction::default() };
        let role = Role::Transaction(Arc::new(transaction));
        let buckets = Buckets::new(Arc::from([5]), 0..1);
        let burst = world.burst(1, ticket, Access::Write, Bytes::from_static(b"pop;"));
        Burst { leads: true, role, buckets, ..burst }
    };
    let watch = |world: &mut World, ticket: u64| {
        let watch = Watch { mark: Arc::default(), buckets: Arc::from([5]) };
        let payload = Bytes::from_static(b"watched");
        let role = Role::Watch(watch.mark.clone());
        let burst = Burst { role, commands: 0, ..world.burst(1, ticket, Access::Read, payload) };
        world.step(Event::Submit(Submission { bursts: vec![burst], cancels: vec![] }));
        world.answers();
        watch
    };
    let submit = |world: &mut World, bursts: Vec<Burst>| {
        world.step(Event::Submit(Submission { bursts, cancels: vec![] }));
    };
    let untouched = watch(&mut world, 1);
    let (first, second) = (guarded(&world, 2, &untouched), guarded(&world, 3, &untouched));
    submit(&mut world, vec![first, second]);
    assert_eq!(world.sent(), [(0, "try 1-1 pop;".into())], "not both at once");
    tell(&mut world, 0, "$x|rem x");
    (0..3).for_each(|replica| world.apply(replica, &[":1", ":1"]));
    assert_eq!(world.answers(), ["1/2 $x", "1/3 changed"], "the first one touched what the second watches");
    world.sent();
    world.write(2, 1);
    assert_eq!(world.sent(), to_all(3, "3=2/1;"), "nothing is left over");
}
