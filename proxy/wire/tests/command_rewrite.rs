//! Rewriting: the forms by themselves, properties over any order of options, and real servers
//! doing the same with the rewritten form as with the original.
#![allow(clippy::disallowed_types, reason = "the servers it talks to live in real time")]

mod command_support;

use bytes::BytesMut;
use command_support::{Reply, Server, Words};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quorate_wire::command::{self, Carry, Rewritten};
use quorate_wire::resp::expiry;
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

const NOW: u64 = 1_700_000_000_000;

/// The command as it enters the log, and where an id is missing.
fn rewritten(words: &Words, now: u64) -> (Words, Option<usize>) {
    words.with(|args| {
        let command = command::resolve(args).unwrap_or_else(|error| panic!("{}: {error}", words.show()));
        let Carry::Rewritten(kind) = command::classify(command, args) else { return (words.clone(), None) };
        match command::rewrite(kind, args, now) {
            Rewritten::AsIs | Rewritten::Moves => (words.clone(), None),
            Rewritten::Args(args) => (Words::from(&args), None),
            Rewritten::Timed { args, at } => {
                let kept = expiry::set_back(at as i64).to_string();
                let words = Words::from(&args);
                assert!(words.0.iter().any(|word| *word == kept.as_bytes()), "{}: {at}", words.show());
                (words, None)
            }
            Rewritten::Stream { args, id_index } => (Words::from(&args), Some(id_index)),
        }
    })
}

fn check(from: &str, to: &str) {
    let (words, id) = rewritten(&Words::of(from), NOW);
    assert_eq!(words.show(), Words::of(to).show(), "from {from}");
    assert_eq!(id, None, "{from}");
}

/// A deadline as the backends keep it; other words stay.
fn back(word: &str) -> String {
    let time = word.parse().ok().filter(|time: &i64| *time > NOW as i64);
    time.map_or_else(|| word.to_string(), |time| expiry::set_back(time).to_string())
}

#[test]
fn what_has_passed_ends_at_once() {
    for (from, to) in [
        ("SET k v EXAT 10", "SET k v PXAT 1"),
        ("SET k v PXAT 1700000000000 NX", "SET k v PXAT 1 NX"),
        ("GETEX k EXAT 10", "GETEX k PXAT 1"),
        ("EXPIREAT k 1700000000", "PEXPIREAT k 1"),
        ("PEXPIREAT k -1 GT", "PEXPIREAT k 1 GT"),
        ("RESTORE k 10 x ABSTTL", "RESTORE k 1 x ABSTTL"),
    ] {
        check(from, to);
    }
}

#[test]
fn relative_times_become_absolute_milliseconds() {
    for (from, to) in [
        ("SET k v EXAT 1700000010", "SET k v PXAT 1700000010000"),
        ("GETEX k PXAT 1700000000001", "GETEX k PXAT 1700000000001"),
        ("EXPIREAT k 1700000010 LT", "PEXPIREAT k 1700000010000 LT"),
        ("PEXPIREAT k 1700000000001", "PEXPIREAT k 1700000000001"),
        ("RESTORE k 1700000000001 x ABSTTL", "RESTORE k 1700000000001 x ABSTTL"),
        ("SET k v EX 10", "SET k v PXAT 1700000010000"),
        ("set k v px 5 nx", "set k v PXAT 1700000000005 nx"),
        ("SET k v XX EX 10 GET", "SET k v XX PXAT 1700000010000 GET"),
        ("SET EX PX EX 10", "SET EX PX PXAT 1700000010000"),
        ("SET k v EX 1 ex 2", "SET k v PXAT 1700000002000 PXAT 1700000002000"),
        ("SET k v IFEQ EX EX 10", "SET k v IFEQ EX PXAT 1700000010000"),
        ("SET k v EX 10 IFEQ PX", "SET k v PXAT 1700000010000 IFEQ PX"),
        ("SET k v EX\0junk 10", "SET k v PXAT 1700000010000"),
        ("SETEX k 10 v", "SET k v PXAT 1700000010000"),
        ("PSETEX PX 10 EX", "SET PX EX PXAT 1700000000010"),
        ("GETEX k PX 10", "GETEX k PXAT 1700000000010"),
        ("EXPIRE k 10", "PEXPIREAT k 1700000010000"),
        ("EXPIRE k 10 gt", "PEXPIREAT k 1700000010000 gt"),
        ("PEXPIRE k 10 NX", "PEXPIREAT k 1700000000010 NX"),
        ("EXPIRE k 0", "PEXPIREAT k 1"),
        ("EXPIRE k -5 LT", "PEXPIREAT k 1 LT"),
        ("PEXPIRE k -9223372036854775808", "PEXPIREAT k 1"),
        ("RESTORE k 10 x REPLACE", "RESTORE k 1700000000010 x REPLACE ABSTTL"),
        ("RESTORE k 10 x IDLETIME 7", "RESTORE k 1700000000010 x IDLETIME 7 ABSTTL"),
        ("HEXPIRE h 10 NX FIELDS 1 f", "HPEXPIREAT h 1700000010000 NX FIELDS 1 f"),
        ("HPEXPIRE h 0 FIELDS 1 f", "HPEXPIREAT h 1 FIELDS 1 f"),
        ("HSETEX h FNX EX 10 FIELDS 1 EX PX", "HSETEX h FNX PXAT 1700000010000 FIELDS 1 EX PX"),
        ("HSETEX h FIELDS 1 EX 5 EX 10", "HSETEX h FIELDS 1 EX 5 PXAT 1700000010000"),
        ("HSETEX h PX 0 FIELDS 1 f v", "HSETEX h PXAT 1 FIELDS 1 f v"),
        ("HGETEX h PX 10 FIELDS 2 EX PX", "HGETEX h PXAT 1700000000010 FIELDS 2 EX PX"),
        ("MSETEX 2 EX 1 PX 2 XX EX 10", "MSETEX 2 EX 1 PX 2 XX PXAT 1700000010000"),
    ] {
        // Those of fields belong to the backends.
        let keys = |time: &str| if from.starts_with('H') { time.to_string() } else { back(time) };
        let to: Vec<String> = to.split(' ').map(keys).collect();
        check(from, &to.join(" "));
    }
}

#[test]
fn what_is_right_or_wrong_everywhere_stays() {
    for text in [
        "SET k v",
        "SET EX 10",
        "SET k v KEEPTTL",
        "SET k v EX",
        "SET k v EX 0",
        "SET k v EX -1",
        "SET k v EX abc",
        "SET k v EX +5",
        "SET k v EX 05",
        "SET k v EX 10 PX 10",
        "SET k v PXAT 10 EX 10",
        "SET k v EX 10\0",
        "SETEX k 0 v",
        "SETEX k x v",
        "GETEX k PERSIST",
        "EXPIRE k abc",
        "EXPIRE k -0",
        "EXPIREAT k 9223372036854775807",
        "PEXPIREAT k x",
        "RESTORE k 0 x",
        "RESTORE k -1 x",
        "RESTORE k x x",
        "HEXPIRE h -1 FIELDS 1 f",
        "HSETEX h EX -1 FIELDS 1 f v",
        "HSETEX h EX 10 FIELDS x f v",
        "HSETEX h FIELDS 1 EX 10",
        "HGETEX h FIELDS 2 EX 10",
        "MSETEX x a 1",
        "MSETEX 1 EX 10",
        "XADD s 1-1 f v",
        "XADD s 1-* f v",
        "XADD s MAXLEN 10 1-1 f v",
        "XADD s MAXLEN = 10 1-1 f v",
        "XTRIM s MAXLEN 10",
        "XTRIM s MINID = 10",
        "XADD s MAXLEN ~ 10 LIMIT x 1-1 f v",
        "XTRIM s MAXLEN ~ 10 LIMIT -1",
        "XTRIM s FOO ~ 10",
    ] {
        check(text, text);
    }
}

#[test]
fn what_one_clock_may_refuse_and_another_accept_is_refused_by_all() {
    for (from, to) in [
        ("SET k v PX 9223372036854775000", "SET k v PX 9223372036854775807"),
        ("SET k v EX 9223372036854770 NX", "SET k v EX 9223372036854775807 NX"),
        ("PSETEX k 9223372036854775000 v", "PSETEX k 9223372036854775807 v"),
        ("PEXPIRE k 9223372036854775000", "PEXPIRE k 9223372036854775807"),
        ("EXPIRE k -9223372036854775000", "EXPIRE k 9223372036854775807"),
    ] {
        check(from, to);
    }
}

#[test]
fn automatic_ids_are_left_to_the_sequencer() {
    for (from, to, at) in [
        ("XADD s * f v", "XADD s * f v", 2),
        ("XADD s NOMKSTREAM * f v", "XADD s NOMKSTREAM * f v", 3),
        ("XADD s MAXLEN ~ 10 * f *", "XADD s MAXLEN = 10 * f *", 5),
        ("XADD s maxlen ~ 10 LIMIT 5 NOMKSTREAM * f v", "XADD s maxlen = 10 NOMKSTREAM * f v", 6),
        ("XADD s LIMIT 5 MINID ~ 10 * LIMIT 5", "XADD s MINID = 10 * LIMIT 5", 5),
        ("XADD s MAXLEN 10 *\0x f v", "XADD s MAXLEN 10 *\0x f v", 4),
    ] {
        let (words, id) = rewritten(&Words::of(from), NOW);
        assert_eq!((words.show(), id), (Words::of(to).show(), Some(at)), "from {from}");
    }
    check("XADD s MAXLEN ~ 10 LIMIT 5 1-1 LIMIT ~", "XADD s MAXLEN = 10 1-1 LIMIT ~");
    check("XTRIM s MINID ~ 10 LIMIT 0", "XTRIM s MINID = 10");
    check("XTRIM s LIMIT 7 MAXLEN ~ 10", "XTRIM s MAXLEN = 10");
}

#[test]
fn the_encoded_form_is_that_of_the_rewritten_arguments() {
    for (text, expected) in [
        ("SET k v", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"),
        ("EXPIRE k 0", "*3\r\n$9\r\nPEXPIREAT\r\n$1\r\nk\r\n$1\r\n1\r\n"),
    ] {
        let out = Words::of(text).with(|args| {
            let Carry::Rewritten(kind) = command::resolve(args).expect("known").carry else {
                panic!("{text}")
            };
            let mut out = BytesMut::new();
            command::rewrite(kind, args, NOW).encode(args, &mut out);
            out
        });
        assert_eq!(out, expected.as_bytes());
    }
}

fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (100_i64..100_000_000).prop_map(|time| time.to_string()),
        1 => (-100_i64..=0).prop_map(|time| time.to_string()),
        1 => any::<i64>().prop_map(|time| time.to_string()),
        1 => prop_oneof![Just("+5"), Just("05"), Just(" 5"), Just("1e3"), Just(""), Just("-0"), Just("EX"), Just("5\x005")].prop_map(String::from),
        1 => prop_oneof![// Too late in the year 2096, not too late today.
            Just("9223370036854775807"),
            Just("9223372036854775807"), Just("9223372036854775"), Just("9223372036854776"), Just("-9223372036854775"), Just("-9223372036854776"), Just("-9223372036854775808")].prop_map(String::from),
    ]
}

/// Options with their arguments, in any order and number.
fn options(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let word = prop::sample::select(words).prop_flat_map(|word| {
        time().prop_map(move |time| match word.to_uppercase().trim_end_matches("\0X") {
            "EX" | "PX" | "EXAT" | "PXAT" | "IDLETIME" => vec![word.to_string(), time],
            "FREQ" => vec![word.to_string(), "5".to_string()],
            "IFEQ" => vec![word.to_string(), "EX".to_string()],
            _ => vec![word.to_string()],
        })
    });
    prop::collection::vec(word, 0..4).prop_map(|words| words.concat())
}

fn sentence(parts: &[&[String]]) -> Words {
    Words::from(&parts.concat())
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(String::from).collect()
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(&["k", "absent", "EX"][..]).prop_map(String::from)
}

/// Commands with expiry that Redis 7 knows.
fn expiring() -> impl Strategy<Value = Words> {
    const SET: &[&str] =
        &["EX", "px", "EXAT", "PXAT", "NX", "xx", "GET", "KEEPTTL", "EX", "PX", "nonsense", "Ex\0x", "IFEQ"];
    const GETEX: &[&str] = &["EX", "px", "EXAT", "PXAT", "PERSIST"];
    const EXPIRE: &[&str] = &["NX", "xx", "GT", "lt", "nonsense"];
    let set = (key(), prop::sample::select(&["v", "EX", "px"][..]), options(SET));
    let set =
        set.prop_map(|(key, value, options)| sentence(&[&words("SET"), &[key, value.into()], &options]));
    let getex =
        (key(), options(GETEX)).prop_map(|(key, options)| sentence(&[&words("GETEX"), &[key], &options]));
    let setex = (prop::sample::select(&["SETEX", "psetex"][..]), key(), time());
    let setex = setex.prop_map(|(name, key, time)| sentence(&[&[name.into(), key, time, "v".into()]]));
    let expire = (
        prop::sample::select(&["EXPIRE", "pexpire", "EXPIREAT", "pexpireat"][..]),
        key(),
        time(),
        options(EXPIRE),
    );
    let expire =
        expire.prop_map(|(name, key, time, options)| sentence(&[&[name.into(), key, time], &options]));
    prop_oneof![set, getex, setex, expire]
}

/// Commands with expiry that only Valkey knows.
fn expiring_in_valkey() -> impl Strategy<Value = Words> {
    const HSETEX: &[&str] = &["EX", "px", "EXAT", "PXAT", "NX", "XX", "FNX", "fxx", "KEEPTTL"];
    const HGETEX: &[&str] = &["EX", "px", "EXAT", "PXAT", "PERSIST"];
    const MSETEX: &[&str] = &["EX", "px", "EXAT", "PXAT", "NX", "xx", "KEEPTTL"];
    const HEXPIRE: &[&str] = &["NX", "xx", "GT", "lt"];
    let fields = || {
        prop::sample::select(
            &["FIELDS 1 f", "fields 2 EX f", "FIELDS 2 f", "FIELDS x f", "FIELDS 1 none"][..],
        )
    };
    let pairs =
        prop::sample::select(&["FIELDS 1 f v", "FIELDS 2 EX 5 PX 5", "FIELDS 1 EX 5", "FIELDS 2 f v"][..]);
    let hsetex = (options(HSETEX), pairs, options(HSETEX).prop_filter("rare", |o| o.len() < 3));
    let hsetex = hsetex
        .prop_map(|(options, fields, more)| sentence(&[&words("HSETEX h"), &options, &words(fields), &more]));
    let hgetex = (options(HGETEX), fields());
    let hgetex =
        hgetex.prop_map(|(options, fields)| sentence(&[&words("HGETEX h"), &options, &words(fields)]));
    let hexpire = (prop::sample::select(&["HEXPIRE", "hpexpire"][..]), time(), options(HEXPIRE), fields());
    let hexpire = hexpire.prop_map(|(name, time, options, fields)| {
        sentence(&[&[name.into(), "h".into(), time], &options, &words(fields)])
    });
    let msetex = (prop::sample::select(&["1 k v", "2 k EX EX 5", "2 k v"][..]), options(MSETEX));
    let msetex = msetex.prop_map(|(pairs, options)| sentence(&[&words("MSETEX"), &words(pairs), &options]));
    prop_oneof![hsetex, hgetex, hexpire, msetex, expiring()]
}

const SETUPS: &[&[&str]] = &[
    &["SET k 1", "SET EX 1", "HSET h f v EX 1"],
    &["SET k 1 PX 500000", "SET EX 1 EX 9000000", "HSET h f v"],
    &["LPUSH k 1", "PEXPIRE k 77777", "SET EX EX", "SET h x"],
];

/// Everything that expiry can change, times as distances from now.
fn state(server: &mut Server) -> Vec<Reply> {
    let mut seen = Vec::new();
    for question in [
        "GET k",
        "PEXPIRETIME k",
        "GET absent",
        "PEXPIRETIME absent",
        "GET EX",
        "PEXPIRETIME EX",
        "EXISTS h",
        "HVALS h",
        "HPEXPIRETIME h FIELDS 3 f EX PX",
    ] {
        match server.say(question) {
            Reply::Array(elements) => seen.extend(elements),
            reply => seen.push(reply),
        }
    }
    seen
}

fn run(server: &mut Server, setup: &[&str], command: &Words) -> (Reply, Vec<Reply>) {
    prepare(server, setup);
    let reply = server.ask(&command.0);
    (reply, state(server))
}

fn prepare(server: &mut Server, setup: &[&str]) {
    server.say("FLUSHALL");
    for line in setup {
        server.say(line);
    }
}

/// The same on keys whose deadlines are set back, as they are behind the proxy.
fn run_rewritten(server: &mut Server, setup: &[&str], command: &Words) -> (Reply, Vec<Reply>) {
    prepare(server, setup);
    server.ask(&["EVAL", expiry::CHECK, "3", "k", "EX", "absent", "0"].map(|word| word.as_bytes().to_vec()));
    let reply = server.ask(&command.0);
    // Of what is asked there, the deadlines of the three keys; those of fields are not set back.
    let forward = |(place, reply)| match reply {
        Reply::Integer(kept) if [1, 3, 5].contains(&place) => {
            Reply::Integer(expiry::brought_forward(kept).unwrap_or(kept))
        }
        other => other,
    };
    (reply, state(server).into_iter().enumerate().map(forward).collect())
}

/// Equal, but for times that were taken from two readings of the clock.
fn close(a: &Reply, b: &Reply) -> bool {
    match (a, b) {
        // There is no setting back beyond what 64 bits hold.
        (Reply::Integer(a), Reply::Integer(b))
            if a.min(b) >= &expiry::brought_forward(i64::MAX).unwrap_or(0) =>
        {
            true
        }
        (Reply::Integer(a), Reply::Integer(b)) if *a > 1_000_000_000_000 => a.abs_diff(*b) < 60_000,
        _ => a == b,
    }
}

fn compare(server: &RefCell<Server>, setup: &[&str], original: &Words) -> Result<(), TestCaseError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    let (form, _) = rewritten(original, now);
    let mut server = server.borrow_mut();
    let (reply, before) = run(&mut server, setup, original);
    let (same, after) = run_rewritten(&mut server, setup, &form);
    prop_assert_eq!(reply, same, "{} as {} after {:?}", original, form, setup);
    prop_assert!(
        before.iter().zip(&after).all(|(a, b)| close(a, b)),
        "{} as {} after {:?}: {:?} {:?}",
        original,
        form,
        setup,
        before,
        after
    );
    Ok(())
}

fn compare_all(server: Server, cases: u32, commands: impl Strategy<Value = Words>) {
    let server = RefCell::new(server);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner
        .run(&(commands, prop::sample::select(SETUPS)), |(command, setup)| compare(&server, setup, &command));
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn redis_does_the_same_with_the_rewritten_form() {
    compare_all(Server::redis(), 6000, expiring());
}

#[test]
fn valkey_does_the_same_with_the_rewritten_form() {
    if let Some(server) = Server::valkey() {
        compare_all(server, 4000, expiring_in_valkey());
    }
}

/// A time in the log that is neither absolute nor an error for every server would be a relative one.
#[test]
fn no_server_accepts_a_relative_time_that_is_left() {
    for (server, valkey) in [(Some(Server::redis()), false), (Server::valkey(), true)] {
        let Some(server) = server else { continue };
        let server = RefCell::new(server);
        let mut runner =
            TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
        let commands = if valkey { expiring_in_valkey().boxed() } else { expiring().boxed() };
        let result = runner.run(&(commands, prop::sample::select(SETUPS)), |(command, setup)| {
            let (far, _) = rewritten(&command, 4_000_000_000_000);
            let mut server = server.borrow_mut();
            let (reply, state) = run(&mut server, setup, &far);
            // From the setups come times near now; from the command, of the year 2096 or absolute.
            let written = match (reply, absolute(&command)) {
                (Reply::Error(_), _) | (_, true) => return Ok(()),
                _ => state,
            };
            let (_, untouched) = run(&mut server, setup, &Words::of("PING"));
            let times = written.iter().zip(&untouched).filter(|(a, b)| !close(a, b)).map(|(a, _)| a);
            for time in times {
                if let Reply::Integer(time) = time {
                    prop_assert!(
                        *time < 1_000_000_000_000 || *time > 3_990_000_000_000,
                        "{} as {}: {}",
                        command,
                        far,
                        time
                    );
                }
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    }
}

fn absolute(words: &Words) -> bool {
    words.0.iter().any(|word| word.eq_ignore_ascii_case(b"EXAT") || word.eq_ignore_ascii_case(b"PXAT"))
}

#[test]
fn a_restored_key_expires_when_it_would_have() {
    for server in [Some(Server::redis()), Server::valkey()].into_iter().flatten() {
        let server = RefCell::new(server);
        server.borrow_mut().say("SET k 1");
        let payload = server.borrow_mut().say("DUMP k").bytes();
        const RESTORE: &[&str] = &["REPLACE", "replace", "ABSTTL", "IDLETIME", "FREQ", "nonsense"];
        let mut runner =
            TestRunner::new(Config { cases: 2000, failure_persistence: None, ..Config::default() });
        // A time beyond all clocks overflows unseen in the servers; ours means what was asked.
        let sane = time().prop_filter("overflow", |time| time.len() < 14);
        let commands = (key(), sane, options(RESTORE)).prop_map(|(key, time, options)| {
            let mut words = sentence(&[&["RESTORE".into(), key, time, "payload".into()], &options]);
            words.0[3] = payload.clone();
            words
        });
        let result = runner.run(&(commands, prop::sample::select(SETUPS)), |(command, setup)| {
            compare(&server, setup, &command)
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// XADD and XTRIM with options in any order.
fn trimming() -> impl Strategy<Value = Words> {
    let option = prop::sample::select(
        &[
            "MAXLEN ~ 3",
            "MAXLEN = 2",
            "maxlen 4",
            "MINID ~ 3",
            "MINID 2-0",
            "LIMIT 5",
            "LIMIT 0",
            "LIMIT -1",
            "NOMKSTREAM",
            "MAXLEN ~ x",
            "MAXLEN\0x ~\0x 3",
        ][..],
    );
    let options = prop::collection::vec(option, 0..4)
        .prop_map(|options| options.iter().flat_map(|o| words(o)).collect::<Vec<_>>());
    let tail = prop::sample::select(
        &["9-1 f v", "9-* LIMIT 5", "1-1 f v", "* f v", "*\0x * ~", "* f v g", "x f v"][..],
    );
    let add = (prop::sample::select(&["s", "absent"][..]), options.clone(), tail);
    let add = add
        .prop_map(|(key, options, tail)| sentence(&[&words("XADD"), &[key.into()], &options, &words(tail)]));
    let trim = options
        .prop_filter("arity", |options| options.len() > 1)
        .prop_map(|options| sentence(&[&words("XTRIM s"), &options]));
    prop_oneof![3 => add, 1 => trim]
}

#[test]
fn exact_trimming_fails_where_approximate_trimming_fails_and_ids_are_found() {
    for mut server in [Some(Server::redis()), Server::valkey()].into_iter().flatten() {
        // One entry a node: approximate trimming is exact then, unless LIMIT stops it.
        server.say("CONFIG SET stream-node-max-entries 1");
        let server = RefCell::new(server);
        let mut runner =
            TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
        let result = runner.run(&trimming(), |command| {
            let (mut form, id) = rewritten(&command, NOW);
            let setup =
                ["XADD s 1-1 f v", "XADD s 2-1 f v", "XADD s 3-1 f v", "XADD s 4-1 f v", "XADD s 5-1 f v"];
            let mut server = server.borrow_mut();
            let (reply, _) = run(&mut server, &setup, &command);
            let entries = server.say("XLEN s");
            if let Some(at) = id {
                prop_assert!(form.0[at].starts_with(b"*"));
                form.0[at] = b"99999999999999-7".to_vec();
            }
            let (same, _) = run(&mut server, &setup, &form);
            prop_assert_eq!(entries, server.say("XLEN s"), "{} as {}", command, form);
            let stamped = Reply::Bulk(b"99999999999999-7".to_vec());
            match (&reply, id) {
                (Reply::Bulk(_), Some(_)) => prop_assert_eq!(same, stamped, "{} as {}", command, form),
                _ => prop_assert_eq!(reply, same, "{} as {}", command, form),
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    }
}
