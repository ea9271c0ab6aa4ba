//! The exact effects of small histories.

mod block;
mod catch_up;
mod copies;
mod expiry;
mod in_sync;
mod mend;
mod record;
mod survey;
mod trial;
mod wait;
mod watch;

use super::*;
use crate::plan::{Table, builtin_majority};
use crate::rule::Mask;
use bytes::BytesMut;
use std::sync::Arc;

struct NoStamp;

impl Stamp for NoStamp {
    fn stamp(&mut self, _: Now, command: &Bytes, out: &mut BytesMut) {
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

    fn named(&self, payload: &Bytes, keys: &mut Keys) -> bool {
        self.touched(std::slice::from_ref(payload), keys)
    }

    fn fetch(&self, keys: &Keys) -> Request {
        let names: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        Request { payload: Bytes::from(format!("fetch {}", names.join(","))), commands: 1 }
    }

    fn store(&self, _: &Keys, fetched: &Bytes, at: Position) -> Option<Request> {
        let text = format!("store {} at {}", String::from_utf8_lossy(fetched), at.seq);
        Some(Request { payload: Bytes::from(text), commands: 1 })
    }

    fn succeeded(&self, answer: &Bytes) -> bool {
        answer.starts_with(b"+")
    }

    fn expire(&self, keys: &[Bytes], now: u64) -> Bytes {
        let names: Vec<_> = keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        Bytes::from(format!("check {}@{now};", names.join(",")))
    }

    /// As texts: `-` for none.
    fn deadlines(&self, answer: &Bytes, keys: usize) -> Option<Vec<Option<u64>>> {
        let text = String::from_utf8_lossy(answer);
        let all: Vec<_> = text.split(' ').map(|one| one.parse().ok()).collect();
        (all.len() == keys).then_some(all)
    }

    fn trial(&self, id: TrialId, payload: &[Bytes]) -> Option<(Request, Keys)> {
        let (text, mut keys) = (payload.concat(), Keys::new());
        self.touched(payload, &mut keys);
        let text = format!("try {id} {}", String::from_utf8_lossy(&text));
        Some((Request { payload: Bytes::from(text), commands: 1 }, keys))
    }

    /// Replies and effects, as `a b|effects`.
    fn tried(&self, id: TrialId, _: &[Bytes], answer: &Bytes) -> Tried {
        let text = String::from_utf8_lossy(answer);
        match (text.strip_prefix("-"), text.split_once('|')) {
            (Some("EMPTY"), _) => Tried::Emptied,
            (Some("OOM"), _) => Tried::Refused(Bytes::from_static(b"OOM")),
            (Some(error), _) => {
                let (number, text) = error.split_once(':').expect("a command's number");
                Tried::Rejected(number.parse().expect("a number"), Bytes::copy_from_slice(text.as_bytes()))
            }
            (None, None) => Tried::Unclear,
            (None, Some((replies, effects))) => {
                let mut out = Replies::default();
                let mut bytes = Vec::new();
                for reply in replies.split(' ') {
                    bytes.extend_from_slice(reply.as_bytes());
                    out.ends.push(bytes.len() as u32);
                }
                out.bytes = bytes.into();
                let payload = Bytes::from(format!("{effects};unmark {id};"));
                Tried::Ran(Outcome { replies: out, payload, commands: 2, timed: vec![] })
            }
        }
    }

    fn adopt(&self, id: TrialId, _: &Keys, fetched: &Bytes) -> Option<Outcome> {
        let payload = Bytes::from(format!("{};unmark {id};", String::from_utf8_lossy(fetched)));
        Some(Outcome { replies: Replies::default(), payload, commands: 2, timed: vec![] })
    }

    fn settles(&self, payload: &[Bytes], id: TrialId) -> bool {
        payload.concat().ends_with(format!("unmark {id};").as_bytes())
    }

    fn all_done(&self, replies: &Bytes) -> bool {
        !replies.starts_with(b"-")
    }

    fn bucket(&self, key: &[u8]) -> u16 {
        u16::from(key[0])
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
        let mut world = World { group, now: Now { us: 1, unix_ms: 1 }, fx: Effects::default() };
        world.know_deadlines();
        world
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

    /// No key has a deadline.
    fn know_deadlines(&mut self) {
        self.step(Event::Timed { keys: Vec::new(), all: true });
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
        self.step(Event::Submit(Submission { bursts: vec![burst], cancels: vec![] }));
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
            leads: false,
            payload,
            buckets: Buckets::new(Arc::from([7u16]), 0..1),
            timed: Vec::new(),
            arrived_us: self.now.us,
            role: Role::Plain,
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
            Outgoing::Trial { payload, .. } => String::from_utf8_lossy(payload).into_owned(),
        };
        self.fx.sends.drain(..).map(|(i, outgoing)| (i, text(&outgoing))).collect()
    }

    fn syncs(&mut self) -> Vec<(usize, u64)> {
        std::mem::take(&mut self.fx.syncs)
    }

    fn answers(&mut self) -> Vec<String> {
        let text = |a: &Answer| match &a.reply {
            Reply::Done(bytes) => format!("{}/{} {}", a.session, a.ticket, String::from_utf8_lossy(bytes)),
            Reply::Refused(_) => format!("{}/{} refused", a.session, a.ticket),
            Reply::DoneBy(replica, bytes) => {
                format!("{}/{} {replica}:{}", a.session, a.ticket, String::from_utf8_lossy(bytes))
            }
            Reply::Changed => format!("{}/{} changed", a.session, a.ticket),
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
fn what_was_acknowledged_is_not_taken_back_when_all_who_held_it_forgot_it() {
    let mut world = World::serving(3);
    let before = world.group.head();
    world.step(Event::Disconnected { replica: 2 });
    world.write(1, 1);
    (0..2).for_each(|replica| world.apply(replica, &["+OK"]));
    assert_eq!(world.answers(), ["1/1 +OK"]);
    (0..2).for_each(|replica| world.step(Event::Disconnected { replica }));
    (0..2).for_each(|replica| world.attach(replica, Some(before)));
    world.sent();
    for _ in 0..2 {
        (0..2).for_each(|i| world.step(Event::Refused { replica: i, error: Bytes::from_static(b"OOM") }));
        world.wait(1_000);
        assert_eq!(world.sent(), to_all(2, "2=1/1;"), "it is tried again");
    }
    assert_eq!(world.group.head().seq, 2);
}

#[test]
fn what_needs_no_memory_is_found_beside_what_nobody_waits_for_any_more() {
    let mut world = World::serving(3);
    world.now.us = 60_000_000;
    let patience_us = u64::from(crate::plan::DEFAULT_DEADLINE_MS) * 1000;
    let one = |world: &World, session: u32, payload: Bytes| {
        let arrived_us = world.now.us - if session == 1 { patience_us - 100 } else { 0 };
        Burst { grows: session == 2, arrived_us, ..world.burst(session, 1, Access::Write, payload) }
    };
    let large = Bytes::from(vec![b'x'; 40 << 10]);
    let text = |session: u32| Bytes::from(format!("{session}/1;"));
    let bursts = vec![
        one(&world, 1, large),
        one(&world, 2, Bytes::from_static(b"twenty-two")),
        one(&world, 3, text(3)),
        one(&world, 4, text(4)),
    ];
    world.step(Event::Submit(Submission { bursts, cancels: vec![] }));
    world.sent();
    world.wait(1);
    assert_eq!(world.answers(), ["1/1 unknown"]);
    for replica in 0..3 {
        world.step(Event::Refused { replica, error: Bytes::from_static(b"OOM") });
    }
    assert_eq!(world.answers(), ["2/1 refused"]);
    assert_eq!(world.sent(), to_all(3, "2=3/1;4/1;"));
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
    world.step(Event::Submit(Submission { bursts, cancels: vec![] }));
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
    world.step(Event::Submit(Submission { bursts, cancels: vec![] }));
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
    let tail = items
        .map(|(position, p)| TailEntry { position, commands: 1, payload: Some(p), whole: vec![] })
        .to_vec();
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
fn a_replica_that_must_not_be_fed_what_it_misses_needs_a_copy() {
    let mut world = World::serving(3);
    world.step(Event::Unfit { replica: 2 });
    assert_eq!(world.group.health().replicas[2].state, ReplicaState::Stale(StaleReason::TooFarBehind));
    world.step(Event::Disconnected { replica: 2 });
    world.step(Event::Unfit { replica: 2 });
    assert_eq!(world.group.health().replicas[2].state, ReplicaState::Down, "it is gone already");
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
