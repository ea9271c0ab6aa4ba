//! The journal: hints, the log on disk, what is fed from there.

use super::trial::{attach_marked, leads, mark, state, tell};
use super::*;

/// A group with a small memory and a journal, which has everything recorded that it was given.
struct Recorder {
    world: World,
    held: Vec<Arc<Entry>>,
}

impl Recorder {
    fn serving(journal: Journaling) -> Recorder {
        Recorder::with_memory(journal, 8)
    }

    fn with_memory(journal: Journaling, log_bytes: usize) -> Recorder {
        let mut world =
            World::unattached(3, |config| (config.journal, config.log_bytes) = (journal, log_bytes));
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
fn hints_are_recorded_together_as_long_as_the_tails_hold_them() {
    let mut r = Recorder::with_memory(Journaling::Hints, 1 << 20);
    r.world.step(Event::Disconnected { replica: 2 });
    let mut appends = 0;
    for ticket in 1..=128 {
        r.write(ticket);
        appends += usize::from(!r.world.fx.records.is_empty());
        r.record();
        let (head, given) = (r.world.group.head().seq, r.held.last().map_or(0, |entry| entry.position.seq));
        assert!(given == 0 || head - given < 16, "{given} of {head}: a tail of 128 is to hold the rest");
    }
    assert_eq!(appends, 4, "at once as soon as it is owed many, then by the sixteen");
    assert_eq!(r.held.first().map(|entry| entry.position.seq), Some(2));
    r.world.write_bytes(256 << 10);
    assert!(matches!(&r.world.fx.records[..], [Record::Append(_)]), "the tails need not hold so much");
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
fn what_was_read_from_the_journal_at_once_is_sent_in_parts() {
    let mut r = Recorder::serving(Journaling::Hints);
    let at = r.world.group.head();
    r.world.step(Event::Disconnected { replica: 2 });
    for _ in 0..4 {
        r.world.write_bytes(40 << 10);
        r.world.apply(0, &["+OK"]);
        r.world.apply(1, &["+OK"]);
    }
    r.record();
    r.world.sent();
    r.world.attach(2, Some(at));
    r.record();
    let mut parts = 0;
    while r.world.group.health().replicas[2].state != ReplicaState::InSync {
        let sent = r.world.sent();
        assert_eq!(sent.len(), 1, "nobody waits for all of it");
        assert_eq!(sent[0].1.matches('+').count(), 0, "two are more than one send takes");
        assert!(r.world.fx.records.is_empty(), "it is not read twice");
        r.world.apply(2, &["+OK"]);
        parts += 1;
    }
    assert_eq!(parts, 4);
}

#[test]
fn one_that_ran_a_trial_and_missed_more_than_memory_holds_is_fed_if_the_journal_carries_it() {
    for (number, ends) in [(1, ReplicaState::InSync), (7, ReplicaState::Stale(StaleReason::TooFarBehind))] {
        let mut r = Recorder::serving(Journaling::Hints);
        let at = r.world.group.head();
        leads(&mut r.world, 1, 1, "pop;");
        tell(&mut r.world, 0, "$x|rem x");
        r.world.step(Event::Disconnected { replica: 0 });
        let both = |world: &mut World| (1..3).for_each(|replica| world.apply(replica, &["+OK", ":1"]));
        both(&mut r.world);
        for ticket in 2..=10 {
            r.world.write(1, ticket);
            both(&mut r.world);
        }
        r.record();
        r.world.sent();
        attach_marked(&mut r.world, 0, at, mark(number, "pop"));
        r.record();
        let fed: usize = r.world.sent().iter().map(|(_, text)| text.split('+').count()).sum();
        if ends == ReplicaState::InSync {
            r.world.step(Event::Applied { replica: 0, replies: vec![Replies::default(); fed] });
        }
        assert_eq!(state(&r.world, 0), ends);
    }
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
    world.know_deadlines();
    for replica in 0..3 {
        let attachment = Attachment { position: Some(before), restarted: true, ..Attachment::default() };
        world.step(Event::Attached { replica, attachment });
    }
    assert!(world.sent()[0].1.starts_with("2=1/1;+3="), "the write that all forgot, and the barrier");

    let mut world = World::unattached(3, |config| config.journal = Journaling::Log);
    world.group.restart(2, Past { history: true, restored: restored[1..].to_vec(), ..Past::default() });
    world.know_deadlines();
    for replica in 0..3 {
        let attachment =
            Attachment { position: Some(Position::default()), restarted: true, ..Attachment::default() };
        world.step(Event::Attached { replica, attachment });
    }
    assert_eq!(world.group.phase(), Phase::Recovering, "between them an acknowledged write is missing");
    assert!(world.group.health().waits_for.contains("journal"));
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

#[test]
fn a_journal_that_is_the_log_keeps_what_servers_may_still_forget() {
    let mut r = Recorder::serving(Journaling::Log);
    let released = |r: &mut Recorder| {
        r.world.step(Event::Tick);
        let records = std::mem::take(&mut r.world.fx.records);
        let through =
            |record: &Record| if let Record::Release(through) = record { Some(*through) } else { None };
        records.iter().find_map(through)
    };
    for ticket in 1..=5 {
        r.world.write(1, ticket);
        r.record();
        (0..3).for_each(|replica| r.world.apply(replica, &["+OK"]));
    }
    let base = r.world.group.health().log_from - 1;
    assert!(base > 2, "memory holds less: {base}");
    assert_eq!(released(&mut r), None);
    r.world.wait(5_000);
    assert_eq!(released(&mut r), None, "they have not had the time to write it to their disks");
    r.world.wait(10_000);
    assert_eq!(released(&mut r), Some(base));
}

#[test]
fn what_a_journal_lost_is_recorded_again() {
    let mut r = Recorder::serving(Journaling::Log);
    r.world.write(1, 1);
    r.record();
    r.world.apply(0, &["+OK"]);
    r.held.clear();
    r.record();
    r.world.apply(1, &["+OK"]);
    assert!(r.world.answers().is_empty(), "the journal does not hold it");
    r.record();
    assert_eq!(r.world.answers(), ["1/1 +OK"]);
}
