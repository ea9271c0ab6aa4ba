//! Keys end in the order of the log.

use super::*;

/// How many checks of what is due wait at once.
const CHECKS: usize = 2;

impl World {
    /// The deadline `past` has just passed.
    fn at(&mut self, past: u64) {
        self.now.unix_ms = past + 1;
        self.now.us = past * 1000;
        self.step(Event::Tick);
    }

    fn named(&self, ticket: u64, access: Access, key: &str, timed: &[u64]) -> Burst {
        let payload = Bytes::from(format!("{key};"));
        let buckets = Buckets::new(Arc::from([u16::from(key.as_bytes()[0])]), 0..1);
        let timed =
            timed.iter().map(|at| Timed { key: key.as_bytes().into(), ends: Ends::At(*at) }).collect();
        Burst { buckets, timed, ..self.burst(1, ticket, access, payload) }
    }

    /// A read by another session.
    fn of_another(&self, key: &str) -> Burst {
        Burst { session: 2, ..self.named(9, Access::Read, key, &[]) }
    }

    fn texts(&mut self) -> Vec<String> {
        self.sent().into_iter().map(|(_, text)| text).collect()
    }

    fn submit_all(&mut self, bursts: Vec<Burst>) {
        self.step(Event::Submit(Submission { bursts, cancels: vec![] }));
    }

    /// `b` gets the deadline of `a`, and `a` is no more.
    fn rename_a_to_b(&mut self) {
        let like = Timed { key: b"b"[..].into(), ends: Ends::Like(b"a"[..].into()) };
        let buckets = Buckets::new(Arc::from([u16::from(b'a'), u16::from(b'b')]), 0..2);
        let renamed = Burst { timed: vec![like], buckets, ..self.named(2, Access::Write, "a", &[]) };
        self.submit_all(vec![renamed]);
    }

    /// A write that gives `key` these deadlines, applied by everybody.
    fn give(&mut self, key: &str, timed: &[u64]) {
        let burst = self.named(1, Access::Write, key, timed);
        self.submit_all(vec![burst]);
        (0..3).for_each(|replica| self.apply(replica, &["+OK"]));
        self.fx.clear();
    }
}

#[test]
fn a_key_ends_by_an_entry_of_its_own() {
    let mut world = World::serving(3);
    world.give("k", &[100]);
    world.at(99);
    assert!(world.sent().is_empty());
    world.at(100);
    assert_eq!(world.sent(), to_all(3, "3=check k@100;"));
    (0..3).for_each(|replica| world.apply(replica, &["-"]));
    assert!(world.answers().is_empty(), "nobody asked for it");
    world.at(200);
    assert!(world.sent().is_empty(), "it is gone");
    assert_eq!(world.group.health().timed_keys, 0);
}

#[test]
fn whoever_comes_after_the_end_comes_after_the_check() {
    let mut world = World::serving(3);
    world.give("k", &[100]);
    world.now.unix_ms = 101;
    let (read, write) = (world.named(1, Access::Read, "k", &[]), world.named(2, Access::Write, "k", &[]));
    world.submit_all(vec![read, write]);
    let sent = world.sent();
    assert_eq!(sent[..3], to_all(3, "3=check k@100;"), "{sent:?}");
    assert_eq!(
        (sent.len(), sent[3].1.as_str()),
        (4, "read k;"),
        "behind it on the same connection, and the write later"
    );
    (0..3).for_each(|replica| world.apply(replica, &["-"]));
    assert_eq!(world.sent(), to_all(3, "4=k;"));
}

#[test]
fn a_read_waits_for_a_check_that_is_not_numbered_yet() {
    let mut world = World::serving(3);
    world.give("k", &[100]);
    world.write(2, 1);
    world.sent();
    world.now.unix_ms = 101;
    let (read, other) = (world.named(1, Access::Read, "k", &[]), world.of_another("x"));
    world.submit_all(vec![read, other]);
    assert_eq!(world.texts(), ["read x;"], "the check waits for the entry in flight");
    (0..3).for_each(|replica| world.apply(replica, &["+OK"]));
    let sent = world.sent();
    let (entries, reads): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(_, text)| text.starts_with('4'));
    assert_eq!((entries, reads.len()), (to_all(3, "4=check k@100;"), 1));
}

#[test]
fn a_key_that_lives_on_is_looked_at_again_when_it_is_due() {
    let mut world = World::serving(3);
    world.give("k", &[100]);
    world.give("k", &[300]);
    world.at(100);
    (0..3).for_each(|replica| world.apply(replica, &["300"]));
    world.sent();
    world.at(299);
    assert!(world.sent().is_empty());
    world.at(300);
    assert_eq!(world.sent(), to_all(3, "5=check k@300;"));
}

#[test]
fn a_deadline_that_only_the_backends_know_is_asked_for_at_once_and_by_everybody_until_it_is_known() {
    let mut world = World::serving(3);
    let renamed = world.named(1, Access::Write, "k", &[0]);
    world.submit_all(vec![renamed]);
    (0..3).for_each(|replica| world.apply(replica, &["+OK"]));
    assert!(world.texts().contains(&"3=check k@0;".to_string()));
    world.now.unix_ms = 52;
    let read = world.named(1, Access::Read, "k", &[]);
    world.submit_all(vec![read]);
    assert!(world.sent().is_empty(), "it may have ended since");
    (0..3).for_each(|replica| world.apply(replica, &["60"]));
    let sent = world.texts();
    assert_eq!(sent.iter().filter(|text| *text == "4=check k@51;").count(), 3, "{sent:?}");
    (0..3).for_each(|replica| world.apply(replica, &["60"]));
    world.at(59);
    assert!(world.sent().len() <= 1, "only the read");
    world.at(60);
    assert_eq!(world.sent(), to_all(3, "5=check k@60;"));
}

#[test]
fn an_owner_that_does_not_know_the_deadlines_checks_what_is_asked_for() {
    let mut world = World::unattached(3, |_| {});
    world.group.restart(2, Past::default());
    (0..3).for_each(|replica| world.attach(replica, None));
    (0..3).for_each(|replica| world.apply(replica, &[]));
    world.fx.clear();
    let read = world.named(1, Access::Read, "k", &[]);
    world.submit_all(vec![read]);
    assert_eq!(world.sent()[..3], to_all(3, "2=check k@0;"));
    (0..3).for_each(|replica| world.apply(replica, &["70"]));
    let keys = vec![Timed { key: b"j"[..].into(), ends: Ends::At(70) }];
    world.step(Event::Timed { keys, all: true });
    world.fx.clear();
    let read = world.named(2, Access::Read, "k", &[]);
    world.submit_all(vec![read]);
    assert_eq!(world.sent().len(), 1, "known by now");
    world.at(70);
    let sent = world.sent();
    assert!(sent[0].1 == "3=check k,j@70;" || sent[0].1 == "3=check j,k@70;", "{sent:?}");
}

#[test]
fn a_request_that_waits_keeps_its_check_when_the_owner_begins_again() {
    let mut world = World::unattached(3, |_| {});
    world.group.restart(2, Past::default());
    let write = world.named(1, Access::Write, "k", &[]);
    world.submit_all(vec![write]);
    world.group.restart(3, Past::default());
    (0..3).for_each(|replica| world.attach(replica, None));
    (0..3).for_each(|replica| world.apply(replica, &[]));
    assert_eq!(world.sent()[3..], to_all(3, "2=check k@0;k;"), "the write comes behind it");
    (0..3).for_each(|replica| world.apply(replica, &["-", "+OK"]));
    assert_eq!(world.answers(), ["1/1 +OK"], "the check answers nobody");
}

#[test]
fn when_more_is_due_than_can_be_checked_requests_look_out_for_themselves() {
    let mut world = World::serving(3);
    let keys = (0..2000)
        .map(|i| Timed { key: format!("k{i:04}").into_bytes().into(), ends: Ends::At(100) })
        .collect();
    world.step(Event::Timed { keys, all: true });
    world.write(2, 1);
    world.sent();
    world.at(100);
    let (ended, other) = (world.named(1, Access::Write, "k1999", &[]), world.of_another("x"));
    world.submit_all(vec![ended, other]);
    assert_eq!(world.texts(), ["read x;"], "what has not ended does not wait");
    (0..3).for_each(|replica| world.apply(replica, &["+OK"]));
    let sent = world.sent();
    let (_, entry) = sent.iter().find(|(_, text)| text.starts_with("3=")).expect("the next entry");
    assert!(entry.ends_with(";check k1999@100;k1999;"), "{entry}");
    assert_eq!(entry.matches("check").count(), CHECKS + 1, "the others come later");
}

#[test]
fn a_check_that_failed_is_made_again() {
    let mut world = World::serving(3);
    world.give("k", &[100]);
    world.at(100);
    (0..3).for_each(|replica| world.apply(replica, &["nonsense from a backend"]));
    world.sent();
    world.at(101);
    assert!(world.sent().is_empty(), "not at once");
    world.at(301);
    assert_eq!(world.sent(), to_all(3, "4=check k@301;"));
}

#[test]
fn a_key_that_gets_the_deadline_of_another_ends_with_it() {
    let mut world = World::serving(3);
    world.give("a", &[100]);
    world.give("a", &[300]);
    let like = Timed { key: b"b"[..].into(), ends: Ends::Like(b"a"[..].into()) };
    let renamed = Burst { timed: vec![like], ..world.named(1, Access::Write, "b", &[]) };
    world.submit_all(vec![renamed]);
    (0..3).for_each(|replica| world.apply(replica, &["+OK"]));
    world.fx.clear();
    world.at(100);
    let check = world.texts().remove(0);
    assert!(check == "5=check a,b@100;" || check == "5=check b,a@100;", "{check}");
    (0..3).for_each(|replica| world.apply(replica, &["- 300"]));
    world.at(300);
    assert!(world.texts().remove(0).contains("b"));
    (0..3).for_each(|replica| world.apply(replica, &["- -"]));
    let like = Timed { key: b"d"[..].into(), ends: Ends::Like(b"c"[..].into()) };
    let without = Burst { timed: vec![like], ..world.named(2, Access::Write, "d", &[]) };
    world.submit_all(vec![without]);
    (0..3).for_each(|replica| world.apply(replica, &["+OK"]));
    assert_eq!(world.group.health().timed_keys, 0, "what has no deadline gives none: {:?}", world.texts());
}

/// `a` becomes `b` behind the check of `a`: no bound of `a` is known any more, and `b` may have a deadline all the same.
#[test]
fn a_key_that_is_renamed_behind_its_check_still_ends() {
    let mut world = World::serving(3);
    world.give("a", &[100]);
    world.now.unix_ms = 101;
    world.rename_a_to_b();
    assert_eq!(world.sent(), to_all(3, "3=check a@100;a;"), "the check first");
    (0..3).for_each(|replica| world.apply(replica, &["300", "+OK"]));
    let asked = world.texts();
    assert!(asked.iter().any(|text| text.starts_with("4=check") && text.contains('b')), "{asked:?}");
    (0..3).for_each(|replica| world.apply(replica, &["300"]));
    world.fx.clear();
    world.at(300);
    let checks = world.texts().concat();
    assert!(checks.contains("@300") && checks.contains('b'), "{checks}");
}

/// The source has ended: what follows it finds nothing, and the target is nobody's to end.
#[test]
fn a_key_whose_source_ended_just_before_is_forgotten() {
    let mut world = World::serving(3);
    world.give("a", &[100]);
    world.now.unix_ms = 101;
    world.rename_a_to_b();
    assert_eq!(world.sent(), to_all(3, "3=check a@100;a;"));
    (0..3).for_each(|replica| world.apply(replica, &["-", "-ERR no such key"]));
    assert_eq!(world.answers(), ["1/2 -ERR no such key"]);
    (0..3).for_each(|replica| world.apply(replica, &["-"]));
    world.at(400);
    assert_eq!(world.group.health().timed_keys, 0, "{:?}", world.texts());
}
