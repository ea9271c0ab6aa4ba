//! Surveys: all replicas asked at one position.

use super::*;

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
