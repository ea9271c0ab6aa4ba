//! The exact effects of small histories.

use super::*;
use crate::plan::{Table, builtin_majority};
use crate::rule::Mask;
use bytes::BytesMut;
use std::sync::Arc;

struct NoStamp;

impl Stamp for NoStamp {
    fn stamp(&mut self, _: Now, command: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(command);
    }
}

/// Payloads are `key=...;` texts; values travel as they are.
struct NoValues;

impl ByValue for NoValues {
    fn touched(&self, payload: &[Bytes], keys: &mut Keys) -> bool {
        keys.extend(payload.iter().flat_map(|part| part.split(|b| *b == b';')).map(Bytes::copy_from_slice));
        keys.remove(&b""[..]);
        true
    }

    fn fetch(&self, keys: &Keys) -> Request {
        let names: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        Request { payload: Bytes::from(format!("fetch {}", names.join(","))), commands: 1 }
    }

    fn store(&self, _: &Keys, fetched: &Bytes) -> Option<Request> {
        let text = format!("store {}", String::from_utf8_lossy(fetched));
        Some(Request { payload: Bytes::from(text), commands: 1 })
    }

    fn succeeded(&self, answer: &Bytes) -> bool {
        answer.starts_with(b"+")
    }

    fn seal(&self, at: Position) -> Request {
        Request { payload: Bytes::from(format!("seal {}", at.seq)), commands: 1 }
    }
}

/// A group and what it asked for so far.
struct World {
    group: Group,
    now: Now,
    fx: Effects,
}

impl World {
    fn unattached(replicas: usize, edit: impl FnOnce(&mut GroupConfig)) -> World {
        let zones = vec!["a"; replicas];
        let topology = crate::plan::tests::topology(&zones);
        let table = Table::new(&builtin_majority(&topology), &topology).expect("valid");
        let mut config = GroupConfig::new(replicas, 1);
        edit(&mut config);
        let group = Group::new(config, table.plans(), Box::new(NoStamp), Box::new(NoValues));
        World { group, now: Now { us: 1, unix_ms: 1 }, fx: Effects::default() }
    }

    /// A group that serves: everybody attached blank, barrier applied.
    fn serving(replicas: usize) -> World {
        World::serving_with(replicas, |_| {})
    }

    fn serving_with(replicas: usize, edit: impl FnOnce(&mut GroupConfig)) -> World {
        let mut world = World::unattached(replicas, edit);
        for replica in 0..replicas {
            world.attach(replica, None);
        }
        for replica in 0..replicas {
            world.apply(replica, &[]);
        }
        assert_eq!(world.group.phase(), Phase::Serving);
        world.fx.clear();
        world
    }

    fn step(&mut self, event: Event) {
        self.group.step(self.now, &mut vec![event], &mut self.fx);
    }

    fn attach(&mut self, replica: usize, position: Option<Position>) {
        let attachment = Attachment { position, ..Attachment::default() };
        self.step(Event::Attached { replica, attachment });
    }

    /// The replica applies what is in flight, which is one entry with these replies.
    fn apply(&mut self, replica: usize, replies: &[&str]) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for reply in replies {
            bytes.extend_from_slice(reply.as_bytes());
            ends.push(bytes.len() as u32);
        }
        let replies = vec![Replies { bytes: bytes.into(), ends }];
        self.step(Event::Applied { replica, replies });
    }

    fn submit(&mut self, session: u32, ticket: u64, access: Access) {
        self.submit_payload(session, ticket, access, Bytes::from(format!("{session}/{ticket};")));
    }

    fn submit_payload(&mut self, session: u32, ticket: u64, access: Access, payload: Bytes) {
        let burst = self.burst(session, ticket, access, payload);
        self.step(Event::Submit(Submission { bursts: vec![burst] }));
    }

    fn burst(&self, session: u32, ticket: u64, access: Access, payload: Bytes) -> Burst {
        Burst {
            session,
            ticket,
            commands: 1,
            access,
            plan: 0,
            dialect: 2,
            stamp: false,
            everything: false,
            grows: false,
            payload,
            buckets: Buckets::new(Arc::from([7u16]), 0..1),
            arrived_us: self.now.us,
        }
    }

    /// A write of so many bytes as session 1, ticket 1.
    fn write_bytes(&mut self, size: usize) {
        self.submit_payload(1, 1, Access::Write, Bytes::from(vec![b'x'; size]));
    }

    fn write(&mut self, session: u32, ticket: u64) {
        self.submit(session, ticket, Access::Write);
    }

    fn read(&mut self, session: u32, ticket: u64) {
        self.submit(session, ticket, Access::Read);
    }

    fn wait(&mut self, ms: u64) {
        self.now.us += ms * 1000;
        self.step(Event::Tick);
    }

    fn sent(&mut self) -> Vec<(usize, String)> {
        let text = |outgoing: &Outgoing| match outgoing {
            Outgoing::Entries(entries) => {
                let each = entries.iter().map(|e| {
                    let payload: Vec<u8> = e.payload.iter().flatten().copied().collect();
                    format!("{}={}", e.position.seq, String::from_utf8_lossy(&payload))
                });
                each.collect::<Vec<_>>().join("+")
            }
            Outgoing::Read { payload, .. } => format!("read {}", String::from_utf8_lossy(payload)),
        };
        self.fx.sends.drain(..).map(|(i, outgoing)| (i, text(&outgoing))).collect()
    }

    fn answers(&mut self) -> Vec<String> {
        let text = |a: &Answer| match &a.reply {
            Reply::Done(bytes) => format!("{}/{} {}", a.session, a.ticket, String::from_utf8_lossy(bytes)),
            Reply::Refused(_) => format!("{}/{} refused", a.session, a.ticket),
            Reply::Unknown(_) => format!("{}/{} unknown", a.session, a.ticket),
        };
        self.fx.answers.drain(..).map(|a| text(&a)).collect()
    }
}

fn to_all(replicas: usize, text: &str) -> Vec<(usize, String)> {
    (0..replicas).map(|i| (i, text.to_string())).collect()
}

#[test]
fn a_write_goes_to_all_and_is_answered_by_the_second() {
    let mut world = World::serving(3);
    world.write(1, 1);
    assert_eq!(world.sent(), to_all(3, "2=1/1;"));
    world.apply(2, &["+OK"]);
    assert!(world.answers().is_empty(), "one of three is no quorum");
    world.apply(0, &["+OK"]);
    assert_eq!(world.answers(), ["1/1 +OK"]);
    world.apply(1, &["+OK"]);
    assert!(world.answers().is_empty(), "answered once");
}

#[test]
fn what_queues_while_an_entry_is_in_flight_becomes_one_entry() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.sent();
    world.write(2, 1);
    world.write(3, 1);
    assert!(world.sent().is_empty());
    world.apply(0, &["+OK"]);
    world.apply(1, &["+OK"]);
    assert_eq!(world.sent(), [(0, "3=2/1;3/1;".into()), (1, "3=2/1;3/1;".into())]);
    world.apply(2, &["+OK"]);
    assert_eq!(world.sent(), [(2, "3=2/1;3/1;".into())]);
}

#[test]
fn a_slow_replica_is_fed_several_entries_at_once() {
    let mut world = World::serving(3);
    for ticket in 1..=3 {
        world.write(1, ticket);
        world.apply(0, &["+OK"]);
        world.apply(1, &["+OK"]);
    }
    world.sent();
    world.apply(2, &["+OK"]);
    assert_eq!(world.sent(), [(2, "3=1/2;+4=1/3;".into())]);
}

#[test]
fn a_read_waits_until_what_it_may_have_seen_is_committed() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.sent();
    world.read(2, 1);
    assert_eq!(world.sent(), [(0, "read 2/1;".into())]);
    world.apply(0, &["+OK"]);
    world.step(Event::Read { replica: 0, bytes: Bytes::from_static(b"$1") });
    assert!(world.answers().is_empty(), "the write is on one replica only");
    world.apply(1, &["+OK"]);
    let mut answers = world.answers();
    answers.sort();
    assert_eq!(answers, ["1/1 +OK", "2/1 $1"]);
}

#[test]
fn a_session_never_overtakes_itself() {
    let mut world = World::serving(3);
    world.write(9, 1);
    world.sent();
    world.write(1, 1);
    world.read(1, 2);
    world.write(1, 3);
    assert!(world.sent().is_empty(), "the read is behind a write that is not numbered");
    world.apply(0, &["+OK"]);
    world.apply(1, &["+OK"]);
    let sent = world.sent();
    assert_eq!(sent, [(0, "3=1/1;".into()), (1, "3=1/1;".into()), (0, "read 1/2;".into())]);
}

#[test]
fn a_lost_replica_gives_its_reads_to_another() {
    let mut world = World::serving(3);
    world.read(1, 1);
    assert_eq!(world.sent(), [(0, "read 1/1;".into())]);
    world.step(Event::Disconnected { replica: 0 });
    assert_eq!(world.sent(), [(1, "read 1/1;".into())]);
}

#[test]
fn a_read_whose_place_is_taken_is_refused_rather_than_answered_from_the_future() {
    let mut world = World::serving(3);
    world.read(1, 1);
    world.write(1, 2);
    world.step(Event::Disconnected { replica: 0 });
    assert_eq!(world.answers(), ["1/1 refused"]);
}

#[test]
fn a_silent_replica_gives_its_reads_away_after_one_try() {
    let mut world = World::serving(3);
    world.read(1, 1);
    world.sent();
    world.wait(101);
    assert_eq!(world.sent(), [(1, "read 1/1;".into())]);
    world.wait(5000);
    assert!(world.fx.drops.iter().any(|(i, _)| *i == 0));
}

#[test]
fn of_two_tries_of_a_read_the_first_answer_counts() {
    let mut world = World::serving(3);
    world.read(1, 1);
    world.wait(101);
    world.step(Event::Read { replica: 0, bytes: Bytes::from_static(b"+first") });
    world.step(Event::Read { replica: 1, bytes: Bytes::from_static(b"+second") });
    assert_eq!(world.answers(), ["1/1 +first"]);
    world.wait(30_000);
    assert!(world.answers().is_empty() && world.fx.drops.is_empty());
}

#[test]
fn without_a_quorum_numbered_writes_are_unknown_and_waiting_ones_refused() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.step(Event::Disconnected { replica: 0 });
    world.step(Event::Disconnected { replica: 1 });
    world.apply(2, &["+OK"]);
    world.write(2, 1);
    world.wait(2001);
    let mut answers = world.answers();
    answers.sort();
    assert_eq!(answers, ["1/1 unknown", "2/1 refused"]);
}

#[test]
fn a_returning_replica_is_fed_from_its_own_position() {
    let mut world = World::serving(3);
    let before = world.group.head();
    world.step(Event::Disconnected { replica: 2 });
    for ticket in 1..=2 {
        world.write(1, ticket);
        world.apply(0, &["+OK"]);
        world.apply(1, &["+OK"]);
    }
    world.sent();
    world.attach(2, Some(before));
    assert_eq!(world.sent(), [(2, "2=1/1;+3=1/2;".into())]);
}

#[test]
fn a_replica_with_another_history_is_not_fed() {
    let mut world = World::serving(3);
    world.step(Event::Disconnected { replica: 2 });
    world.attach(2, Some(Position { epoch: 1, seq: 1, hash: 1 }));
    assert!(world.sent().is_empty());
    let state = world.group.health().replicas[2].state;
    assert_eq!(state, ReplicaState::Stale(StaleReason::Diverged));
}

#[test]
fn one_refusal_does_not_fail_the_group() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.sent();
    world.step(Event::Refused { replica: 0, error: Bytes::from_static(b"OOM") });
    world.apply(1, &["+OK"]);
    world.apply(2, &["+OK"]);
    assert_eq!(world.answers(), ["1/1 +OK"]);
    world.wait(50);
    assert_eq!(world.sent(), [(0, "2=1/1;".into())], "tried again later");
}

#[test]
fn what_was_refused_together_is_tried_one_by_one() {
    let mut world = World::serving(3);
    let before = world.group.head();
    world.step(Event::Disconnected { replica: 2 });
    for ticket in 1..4 {
        world.write(1, ticket);
        world.apply(0, &["+OK"]);
        world.apply(1, &["+OK"]);
    }
    world.sent();
    world.attach(2, Some(before));
    assert_eq!(world.sent(), [(2, "2=1/1;+3=1/2;+4=1/3;".into())]);
    world.step(Event::Refused { replica: 2, error: Bytes::from_static(b"OOM") });
    world.wait(50);
    assert_eq!(world.sent(), [(2, "2=1/1;".into())]);
    world.apply(2, &["+OK"]);
    assert_eq!(world.sent(), [(2, "3=1/2;+4=1/3;".into())]);
}

#[test]
fn an_entry_that_everybody_refused_is_taken_back() {
    let mut world = World::serving(3);
    let before = world.group.head();
    world.write(1, 1);
    for replica in 0..3 {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    assert_eq!(world.answers(), ["1/1 refused"]);
    assert_eq!(world.group.head(), before);
    world.sent();
    world.write(1, 2);
    assert_eq!(world.sent(), to_all(3, "2=1/2;"));
}

#[test]
fn what_needs_no_memory_is_not_refused_with_what_does() {
    let mut world = World::serving(3);
    let one = |world: &World, session: u32, grows: bool| {
        let payload = Bytes::from(format!("{session}/1;"));
        Burst { grows, ..world.burst(session, 1, Access::Write, payload) }
    };
    let bursts: Vec<Burst> =
        [(1, true), (2, false), (3, true), (4, false)].map(|(s, grows)| one(&world, s, grows)).into();
    world.step(Event::Submit(Submission { bursts }));
    assert_eq!(world.sent(), to_all(3, "2=1/1;2/1;3/1;4/1;"));
    for replica in 0..3 {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    assert_eq!(world.answers(), ["1/1 refused", "3/1 refused"]);
    assert_eq!(world.sent(), to_all(3, "2=2/1;4/1;"), "under the number that was given back");
    // Whoever refuses that too refuses all of it.
    for replica in 0..3 {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    assert_eq!(world.answers(), ["2/1 refused", "4/1 refused"]);
    assert!(world.sent().is_empty());
    let bursts = vec![one(&world, 5, true), one(&world, 6, false)];
    world.step(Event::Submit(Submission { bursts }));
    assert_eq!(world.sent(), to_all(3, "2=5/1;"), "apart from now on");
    (0..3).for_each(|replica| world.apply(replica, &["+OK"]));
    assert_eq!(world.sent(), to_all(3, "3=6/1;"));
    (0..3).for_each(|replica| world.apply(replica, &["+OK"]));
    assert_eq!(world.answers(), ["5/1 +OK", "6/1 +OK"]);
}

#[test]
fn a_replica_that_refuses_late_is_not_suspect_for_ever() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.wait(200);
    assert!(!world.group.health().writable, "nobody has answered for a while");
    for replica in 0..3 {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    assert!(world.group.health().writable);
    world.sent();
    world.read(2, 1);
    assert_eq!(world.sent(), [(0, "read 2/1;".into())]);
}

#[test]
fn an_entry_with_an_uncertain_fate_is_never_taken_back() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.step(Event::Disconnected { replica: 0 });
    for replica in 1..3 {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    assert!(world.answers().is_empty(), "the lost replica may have applied it");
}

#[test]
fn a_fenced_group_stops_and_says_what_it_knows() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.write(2, 1);
    world.read(3, 1);
    world.step(Event::Fenced { by: 9 });
    let mut answers = world.answers();
    answers.sort();
    assert_eq!(answers, ["1/1 unknown", "2/1 refused", "3/1 refused"]);
    world.sent();
    world.write(4, 1);
    assert_eq!(world.answers(), ["4/1 refused"]);
    assert!(world.sent().is_empty());
}

#[test]
fn nothing_is_served_before_the_barrier_is_committed() {
    let mut world = World::unattached(3, |_| {});
    for replica in 0..3 {
        world.attach(replica, None);
    }
    world.write(1, 1);
    world.read(2, 1);
    assert_eq!(world.sent(), to_all(3, "1="));
    world.apply(0, &[]);
    assert!(world.sent().is_empty());
    world.apply(1, &[]);
    assert!(world.sent().contains(&(0, "2=1/1;".into())));
}

#[test]
fn a_log_is_adopted_from_the_greatest_and_the_others_are_fed_from_its_tail() {
    let start = Position { epoch: 1, seq: 1, hash: 77 };
    let payload = Bytes::from_static(b"SET");
    let head = start.next(1, std::slice::from_ref(&payload));
    let items = [(start, Bytes::new()), (head, payload)];
    let tail = items.map(|(position, p)| TailEntry { position, commands: 1, payload: Some(p) }).to_vec();
    let mut world = World::unattached(3, |config| config.epoch = 2);
    world.attach(0, Some(start));
    world.step(Event::Attached {
        replica: 2,
        attachment: Attachment { position: Some(head), tail, ..Attachment::default() },
    });
    assert!(world.sent().is_empty(), "the third may hold more");
    world.step(Event::Unreachable { replica: 1 });
    assert_eq!(world.sent(), [(0, "2=SET+3=".into()), (2, "3=".into())]);
    assert_eq!(world.group.head().epoch, 2);
}

#[test]
fn a_recovering_group_waits_a_moment_for_a_longer_log() {
    let short = Position { epoch: 1, seq: 1, hash: 77 };
    let long = short.next(1, &[]);
    let mut world = World::unattached(2, |config| config.epoch = 2);
    world.attach(0, Some(short));
    world.wait(100);
    assert_eq!(world.group.phase(), Phase::Recovering);
    world.attach(1, Some(long));
    assert_eq!(world.group.head().seq, 3, "the longer log and the barrier");

    let mut alone = World::unattached(3, |config| config.epoch = 2);
    alone.attach(0, Some(long));
    alone.attach(1, Some(long));
    alone.wait(3000);
    assert_eq!(alone.group.phase(), Phase::Barrier, "it does not wait for ever");
}

#[test]
fn a_replica_that_takes_a_large_entry_is_not_taken_for_dead() {
    let mut world = World::serving(3);
    world.write_bytes(64 << 20);
    world.sent();
    world.wait(3000);
    assert!(world.fx.drops.is_empty() && world.answers().is_empty());
    (0..3).for_each(|replica| world.step(Event::Progress { replica, partial: 0 }));
    world.wait(3000);
    assert!(world.fx.drops.is_empty(), "bytes moved meanwhile");
    world.wait(3000);
    assert_eq!(world.fx.drops.len(), 3, "patience has an end");
}

/// What a replica's tail says of entries of this epoch's log and one of its own.
fn diverged(world: &World) -> (Position, Vec<TailEntry>) {
    let item = |position, text: &'static str| TailEntry {
        position,
        commands: u32::from(!text.is_empty()),
        payload: Some(Bytes::from_static(text.as_bytes())),
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
    assert_eq!(world.sent(), [(2, "read store values".into())]);
    world.step(Event::Read { replica: 2, bytes: Bytes::from_static(b"+OK") });
    assert_eq!(world.sent(), [(2, "read seal 2".into())]);
    world.step(Event::Read { replica: 2, bytes: Bytes::from_static(b"+OK") });
    assert_eq!(world.sent(), [(2, "3=1/2;".into())], "fed from where the values were read");
    assert_eq!(
        world.group.health().replicas[2].state,
        ReplicaState::InSync,
        "it holds all that is committed"
    );
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

/// Asks all for their position, as far as these payloads go.
fn survey(world: &mut World, id: u64) {
    let request = Request { payload: Bytes::from_static(b"survey"), commands: 1 };
    world.step(Event::Survey { id, request, bytes: 0 });
}

/// The surveys that ended, as `id: replica=answer …`.
fn surveyed(world: &mut World) -> Vec<String> {
    let text = |s: &Surveyed| match &s.answers {
        Some(answers) => {
            let each = answers.iter().map(|(i, bytes)| format!(" {i}={}", String::from_utf8_lossy(bytes)));
            format!("{}:{}", s.id, each.collect::<String>())
        }
        None => format!("{}: failed", s.id),
    };
    world.fx.surveys.drain(..).map(|s| text(&s)).collect()
}

#[test]
fn a_survey_asks_all_at_the_same_position_and_writes_go_on_behind_it() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.apply(0, &["+OK"]);
    world.sent();
    survey(&mut world, 7);
    world.apply(1, &["+OK"]);
    assert!(world.sent().is_empty(), "the third has not applied the entry");
    world.submit(2, 1, Access::Read);
    assert_eq!(world.sent(), [(0, "read 2/1;".into())], "reads do not wait for it");
    world.apply(2, &["+OK"]);
    assert_eq!(world.sent(), to_all(3, "read survey"));
    world.write(1, 2);
    assert_eq!(world.sent(), to_all(3, "3=1/2;"), "nobody waits for the answers");
    world.step(Event::Read { replica: 0, bytes: Bytes::from_static(b"the client's") });
    for (replica, answer) in [(2, "c"), (0, "a"), (1, "b")] {
        assert!(surveyed(&mut world).is_empty());
        world.step(Event::Read { replica, bytes: Bytes::from_static(answer.as_bytes()) });
    }
    assert_eq!(surveyed(&mut world), ["7: 0=a 1=b 2=c"]);
}

#[test]
fn numbering_is_held_for_a_survey_and_the_moment_comes() {
    let mut world = World::serving(3);
    world.write(1, 1);
    survey(&mut world, 1);
    world.apply(0, &["+OK"]);
    world.apply(1, &["+OK"]);
    world.sent();
    world.write(1, 2);
    assert_eq!(world.sent(), [(0, "3=1/2;".into()), (1, "3=1/2;".into())], "not held yet");
    world.wait(30);
    world.write(1, 3);
    world.apply(0, &["+OK"]);
    world.apply(1, &["+OK"]);
    assert!(world.sent().is_empty(), "held");
    world.apply(2, &["+OK"]);
    assert_eq!(world.sent(), [(2, "3=1/2;".into())]);
    world.apply(2, &["+OK"]);
    let mut expected = to_all(3, "read survey");
    expected.extend(to_all(3, "4=1/3;"));
    assert_eq!(world.sent(), expected);
}

#[test]
fn held_numbering_goes_on_when_a_replica_is_silent() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.apply(0, &["+OK"]);
    world.apply(1, &["+OK"]);
    survey(&mut world, 1);
    world.wait(40);
    world.write(1, 2);
    world.sent();
    assert!(surveyed(&mut world).is_empty());
    world.wait(40);
    assert_eq!(surveyed(&mut world), ["1: failed"]);
    assert_eq!(world.sent(), [(0, "3=1/2;".into()), (1, "3=1/2;".into())]);
}

#[test]
fn a_survey_goes_on_without_a_replica_that_is_lost() {
    let mut world = World::serving(3);
    survey(&mut world, 1);
    world.step(Event::Read { replica: 0, bytes: Bytes::from_static(b"a") });
    world.step(Event::Disconnected { replica: 1 });
    assert!(surveyed(&mut world).is_empty());
    world.step(Event::Read { replica: 2, bytes: Bytes::from_static(b"c") });
    assert_eq!(surveyed(&mut world), ["1: 0=a 2=c"]);
    survey(&mut world, 2);
    world.step(Event::Read { replica: 0, bytes: Bytes::from_static(b"a") });
    world.step(Event::ReadLost { replica: 2 });
    assert_eq!(surveyed(&mut world), ["2: failed"], "one alone cannot be compared");
    world.step(Event::Disconnected { replica: 2 });
    survey(&mut world, 3);
    assert_eq!(surveyed(&mut world), ["3: failed"]);
}

#[test]
fn a_survey_that_is_not_answered_ends_and_late_answers_are_not_taken_for_others() {
    let mut world = World::serving(3);
    survey(&mut world, 1);
    survey(&mut world, 2);
    assert_eq!(surveyed(&mut world), ["2: failed"], "one at a time");
    world.step(Event::Read { replica: 0, bytes: Bytes::from_static(b"a") });
    world.step(Event::Read { replica: 1, bytes: Bytes::from_static(b"b") });
    world.step(Event::Progress { replica: 2, partial: 1 });
    world.now.us += 5_000_000;
    world.step(Event::Progress { replica: 2, partial: 2 });
    assert_eq!(surveyed(&mut world), ["1: 0=a 1=b"]);
    survey(&mut world, 3);
    for replica in 0..3 {
        world.step(Event::Read { replica, bytes: Bytes::from_static(b"x") });
    }
    assert!(surveyed(&mut world).is_empty(), "the third answered the first survey only now");
    world.step(Event::Read { replica: 2, bytes: Bytes::from_static(b"y") });
    assert_eq!(surveyed(&mut world), ["3: 0=x 1=x 2=y"]);
}

#[test]
fn a_fenced_group_fails_its_survey() {
    let mut world = World::serving(3);
    survey(&mut world, 1);
    world.step(Event::Fenced { by: 9 });
    assert_eq!(surveyed(&mut world), ["1: failed"]);
    survey(&mut world, 2);
    assert_eq!(surveyed(&mut world), ["2: failed"]);
}

/// The last entry that each replica was sent before a survey, in one order of answers to three entries.
fn surveyed_at(schedule: u32, moment: u32, same_position: bool) -> Vec<Vec<u64>> {
    let mut world = World::serving_with(3, |config| config.rules.same_position = same_position);
    let (mut at, mut sent) = (vec![Vec::new(); 3], [1_u64; 3]);
    for turn in 0..6 {
        world.now.us += 12_000;
        if turn < 3 {
            world.write(1, u64::from(turn) + 1);
        }
        if turn == moment {
            survey(&mut world, 1);
        }
        let replica = (schedule / 3_u32.pow(turn) % 3) as usize;
        if world.group.health().replicas[replica].applied < sent[replica] {
            world.apply(replica, &["+OK"]);
        }
        for (i, text) in world.sent() {
            match text.rsplit('+').next().and_then(|last| last.split_once('=')) {
                None => at[i].push(sent[i]),
                Some((seq, _)) => sent[i] = seq.parse().expect("a number"),
            }
        }
    }
    at
}

#[test]
fn small_scope_every_survey_is_at_one_position() {
    let schedules = || (0..3_u32.pow(6)).flat_map(|schedule| [(schedule, 1), (schedule, 3)]);
    let equal = |at: &[Vec<u64>]| at.iter().all(|positions| *positions == at[0]);
    for (schedule, moment) in schedules() {
        let at = surveyed_at(schedule, moment, true);
        assert!(equal(&at), "schedule {schedule}: {at:?}");
    }
    let asked = |(schedule, moment)| !surveyed_at(schedule, moment, true)[0].is_empty();
    let differs = |(schedule, moment)| !equal(&surveyed_at(schedule, moment, false));
    assert!(schedules().any(asked) && schedules().any(differs), "the rule is needed");
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

#[test]
fn a_large_answer_has_the_time_it_takes_to_arrive() {
    let mut world = World::serving(3);
    world.read(1, 1);
    let asked = world.sent();
    let (replica, _) = asked[0];
    for mib in 1..=10 {
        world.step(Event::Progress { replica, partial: mib * (40 << 20) });
        world.wait(900);
    }
    assert!(world.fx.drops.is_empty() && world.answers().is_empty());
    assert!(world.sent().is_empty(), "nobody else is asked for it");
    world.step(Event::Read { replica, bytes: Bytes::from_static(b"+large") });
    assert_eq!(world.answers(), ["1/1 +large"]);
    world.read(1, 2);
    world.wait(30_000);
    assert_eq!(world.answers(), ["1/2 refused"], "what does not arrive is late as ever");
}

#[test]
fn what_was_large_to_write_may_be_slow_to_read() {
    let mut world = World::serving(3);
    world.write_bytes(64 << 20);
    (0..3).for_each(|replica| world.apply(replica, &["+OK"]));
    world.sent();
    world.answers();
    world.read(1, 2);
    assert_eq!(world.sent().len(), 1);
    world.wait(3900);
    assert!(world.answers().is_empty() && world.sent().is_empty() && world.fx.drops.is_empty());
    world.wait(3000);
    assert_eq!(world.answers(), ["1/2 refused"]);
}

#[test]
fn replicas_that_disagree_are_noted() {
    let mut world = World::serving(3);
    world.write(1, 1);
    world.apply(0, &[":1"]);
    world.apply(1, &[":1"]);
    assert_eq!(world.fx.notes, []);
    world.apply(2, &[":2"]);
    assert_eq!(world.fx.notes[0], Note::Divergence { seq: 2, replica: 2 });
}

#[test]
fn a_blank_server_is_fed_from_the_start_only_if_the_log_began_over_nothing() {
    for (began_with_data, comes_with_data) in [(false, false), (true, false), (false, true)] {
        let mut world = World::unattached(3, |_| {});
        for replica in 0..3 {
            let attachment = Attachment { empty: !began_with_data, ..Attachment::default() };
            world.step(Event::Attached { replica, attachment });
        }
        (0..3).for_each(|replica| world.apply(replica, &[]));
        world.step(Event::Disconnected { replica: 2 });
        let attachment = Attachment { empty: !comes_with_data, ..Attachment::default() };
        world.step(Event::Attached { replica: 2, attachment });
        let stale = world.group.health().replicas[2].state == ReplicaState::Stale(StaleReason::Blank);
        assert_eq!(stale, began_with_data || comes_with_data);
    }
}

#[test]
fn too_much_waiting_is_shed() {
    let mut world = World::unattached(1, |config| config.queue_bytes = 10);
    world.write(1, 1);
    world.write(1, 2);
    world.write(1, 3);
    assert_eq!(world.answers(), ["1/3 refused"]);
}

/// Every subset of replicas that answers, for groups of one to four: a write is answered
/// exactly when the answers are a majority, and the others are fed when they return.
#[test]
fn small_scope_every_set_of_answers() {
    for n in 1..=4usize {
        for answering in 0..(1u64 << n) as Mask {
            let mut world = World::serving(n);
            world.write(1, 1);
            for replica in (0..n).filter(|i| answering >> i & 1 == 1) {
                world.apply(replica, &["+OK"]);
            }
            let majority = answering.count_ones() as usize * 2 > n;
            assert_eq!(world.answers().len(), usize::from(majority), "{n} replicas, {answering:b}");
            for replica in (0..n).filter(|i| answering >> i & 1 == 0) {
                world.step(Event::Disconnected { replica });
                world.attach(replica, Some(Position { epoch: 1, seq: 1, hash: first_hash() }));
                world.apply(replica, &["+OK"]);
            }
            assert_eq!(
                world.answers().len(),
                usize::from(!majority),
                "{n} replicas, {answering:b}: liveness"
            );
            let health = world.group.health();
            assert!(health.replicas.iter().all(|r| r.state == ReplicaState::InSync && r.lag == 0));
        }
    }
}

fn first_hash() -> u64 {
    Position::default().next(1, &[]).hash
}

/// A group with a small memory and a journal, which has everything recorded that it was given.
struct Recorder {
    world: World,
    held: Vec<Arc<Entry>>,
}

impl Recorder {
    fn serving(journal: Journaling) -> Recorder {
        let mut world = World::unattached(3, |config| (config.journal, config.log_bytes) = (journal, 8));
        (0..3).for_each(|replica| world.attach(replica, None));
        let mut recorder = Recorder { world, held: Vec::new() };
        recorder.record();
        (0..3).for_each(|replica| recorder.world.apply(replica, &[]));
        assert_eq!(recorder.world.group.phase(), Phase::Serving);
        recorder.world.fx.clear();
        recorder
    }

    fn view(&self, failed: bool) -> Recorded {
        let oldest = self.held.first().map_or(0, |entry| entry.position.seq);
        let newest = self.held.last().map(|entry| entry.position).unwrap_or_default();
        Recorded { oldest, newest, failed }
    }

    /// Does what the group asked of the journal, and tells it.
    fn record(&mut self) {
        for record in std::mem::take(&mut self.world.fx.records) {
            match record {
                Record::Append(entries) => {
                    self.held.retain(|old| old.position.seq < entries[0].position.seq);
                    self.held.extend(entries);
                }
                Record::Retract(from) => {
                    self.held.retain(|old| old.position.seq < from);
                    self.world.step(Event::Unrecorded { from });
                }
                Record::Release(through) => self.held.retain(|old| old.position.seq > through),
                Record::Read { replica, from, .. } => {
                    let entries = self.held.iter().filter(|e| e.position.seq >= from).cloned().collect();
                    self.world.step(Event::Owed { replica, entries });
                }
            }
        }
        self.world.step(Event::Journal(self.view(false)));
    }

    /// A write that the first two replicas apply.
    fn write(&mut self, ticket: u64) {
        self.world.write(1, ticket);
        self.world.apply(0, &["+OK"]);
        self.world.apply(1, &["+OK"]);
    }
}

#[test]
fn what_the_memory_cannot_hold_is_recorded_only_while_somebody_is_owed_it() {
    let mut r = Recorder::serving(Journaling::Hints);
    (1..=5).for_each(|ticket| {
        r.write(ticket);
        r.world.apply(2, &["+OK"]);
    });
    assert!(r.world.fx.records.is_empty(), "nobody is owed anything");
    r.world.step(Event::Disconnected { replica: 2 });
    (6..=12).for_each(|ticket| r.write(ticket));
    r.record();
    let held: Vec<u64> = r.held.iter().map(|entry| entry.position.seq).collect();
    assert_eq!(
        held,
        (7..=held[held.len() - 1]).collect::<Vec<_>>(),
        "from the first that it misses, without a gap"
    );
}

#[test]
fn a_replica_that_missed_more_than_the_memory_holds_is_fed_from_the_journal() {
    let mut r = Recorder::serving(Journaling::Hints);
    let at = r.world.group.head();
    r.world.step(Event::Disconnected { replica: 2 });
    (1..=9).for_each(|ticket| r.write(ticket));
    r.record();
    r.world.sent();
    r.world.attach(2, Some(at));
    assert_eq!(r.world.sent(), [], "it is being read");
    r.record();
    let from_journal = r.world.sent();
    assert!(from_journal[0].1.starts_with("2=1/1;+3=1/2;"), "{from_journal:?}");
    let count = from_journal[0].1.split('+').count();
    r.world.step(Event::Applied { replica: 2, replies: vec![Replies::default(); count] });
    assert!(from_journal[0].1.ends_with("10=1/9;"), "{from_journal:?}");
    assert_eq!(r.world.group.health().replicas[2].state, ReplicaState::InSync);
    r.world.step(Event::Tick);
    assert!(
        matches!(r.world.fx.records[..], [Record::Release(through)] if through > 5),
        "nobody is owed that"
    );
}

#[test]
fn a_replica_of_another_history_is_not_fed_from_the_journal() {
    let mut r = Recorder::serving(Journaling::Hints);
    let mut at = r.world.group.head();
    r.world.step(Event::Disconnected { replica: 2 });
    (1..=9).for_each(|ticket| r.write(ticket));
    r.record();
    r.world.sent();
    at.hash ^= 1;
    r.world.attach(2, Some(at));
    r.record();
    assert_eq!(r.world.sent(), []);
    let state = r.world.group.health().replicas[2].state;
    assert_eq!(state, ReplicaState::Stale(StaleReason::Diverged));
}

#[test]
fn a_journal_that_lost_its_hints_leaves_the_replica_stale() {
    let mut r = Recorder::serving(Journaling::Hints);
    let at = r.world.group.head();
    r.world.step(Event::Disconnected { replica: 2 });
    (1..=9).for_each(|ticket| r.write(ticket));
    let failed = r.view(true);
    r.world.step(Event::Journal(failed));
    r.world.fx.records.clear();
    r.world.step(Event::Journal(r.view(false)));
    r.world.attach(2, Some(at));
    let state = r.world.group.health().replicas[2].state;
    assert_eq!(state, ReplicaState::Stale(StaleReason::TooFarBehind));
}

#[test]
fn a_write_is_acknowledged_when_it_is_recorded_too() {
    let mut r = Recorder::serving(Journaling::Log);
    r.write(1);
    assert!(r.world.answers().is_empty());
    r.record();
    assert_eq!(r.world.answers(), ["1/1 +OK"]);
}

#[test]
fn a_failed_journal_refuses_writes_and_acknowledges_none() {
    let mut r = Recorder::serving(Journaling::Log);
    r.write(1);
    r.world.step(Event::Journal(r.view(true)));
    r.world.write(1, 2);
    r.world.read(2, 1);
    assert_eq!(r.world.answers(), ["1/2 refused"]);
    r.world.fx.records.clear();
    r.world.step(Event::Journal(r.view(false)));
    assert!(r.world.answers().is_empty(), "what was lost is not taken for recorded");
    assert!(matches!(&r.world.fx.records[..], [Record::Append(_)]), "it is recorded anew");
    r.record();
    assert!(r.world.answers().contains(&"1/1 +OK".to_string()));
}

#[test]
fn what_was_taken_back_is_refused_when_it_cannot_come_back() {
    let mut r = Recorder::serving(Journaling::Log);
    r.world.write(1, 1);
    for replica in 0..3 {
        r.world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM no") });
    }
    assert!(r.world.answers().is_empty());
    r.record();
    assert_eq!(r.world.answers(), ["1/1 refused"]);
}

#[test]
fn the_journal_knows_what_every_backend_forgot() {
    let mut r = Recorder::serving(Journaling::Log);
    let before = r.world.group.head();
    r.write(1);
    r.record();
    let restored = r.held.clone();
    let mut world = World::unattached(3, |config| config.journal = Journaling::Log);
    world.group.restart(2, Past { history: true, restored: restored.clone(), ..Past::default() });
    for replica in 0..3 {
        let attachment = Attachment { position: Some(before), restarted: true, ..Attachment::default() };
        world.step(Event::Attached { replica, attachment });
    }
    assert!(world.sent()[0].1.starts_with("2=1/1;+3="), "the write that all forgot, and the barrier");

    let mut world = World::unattached(3, |config| config.journal = Journaling::Log);
    world.group.restart(2, Past { history: true, restored: restored[1..].to_vec(), ..Past::default() });
    for replica in 0..3 {
        let attachment =
            Attachment { position: Some(Position::default()), restarted: true, ..Attachment::default() };
        world.step(Event::Attached { replica, attachment });
    }
    assert_eq!(world.group.phase(), Phase::Recovering, "between them an acknowledged write is missing");
    assert!(world.group.health().waits_for.contains("journal"));
}

/// A group of two whose writes are acknowledged by the recorded in-sync set.
fn pair(in_sync: Option<Mask>) -> World {
    let mut world = World::unattached(2, |config| config.ack = Ack::InSync { min: 1 });
    world.group.restart(2, Past { in_sync, ..Past::default() });
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
fn the_set_never_becomes_smaller_than_it_must_be() {
    let mut world = World::unattached(3, |config| config.ack = Ack::InSync { min: 2 });
    world.group.restart(2, Past::default());
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
fn a_slow_replica_that_memory_has_passed_is_fed_from_the_journal() {
    let mut r = Recorder::serving(Journaling::Hints);
    (1..=9).for_each(|ticket| r.write(ticket));
    r.record();
    r.world.sent();
    r.world.apply(2, &["+OK"]);
    r.record();
    let sent = r.world.sent();
    assert!(sent[0].1.starts_with("3=1/2;+4=1/3;"), "{sent:?}");
    assert!(r.world.fx.notes.iter().all(|note| !matches!(note, Note::Stale { .. })));
}

#[test]
fn hints_are_kept_for_a_replica_that_nobody_has_seen_yet() {
    let mut world = World::unattached(3, |config| {
        (config.journal, config.log_bytes) = (Journaling::Hints, 8);
    });
    let at = Position { epoch: 1, seq: 5, hash: 1 };
    world.attach(0, Some(at));
    world.attach(1, Some(at));
    world.wait(10_000);
    (0..2).for_each(|replica| world.apply(replica, &[]));
    assert_eq!(world.group.phase(), Phase::Serving);
    let mut r = Recorder { world, held: Vec::new() };
    (1..=9).for_each(|ticket| r.write(ticket));
    r.record();
    assert_eq!(r.held.first().map(|entry| entry.position.seq), Some(6), "from the first that it may miss");
}
