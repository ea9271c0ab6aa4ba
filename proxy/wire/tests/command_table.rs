//! The table against its files and against the servers it was taken from.

mod command_support;

use command_support::{Reply, Server, Words};
use quorate_core::plan::OpClass;
use quorate_wire::command::{
    self, Carry, Command, CommandError, Flags, Local, Refusal, Rewrite, Scripting, SortOptions, Waits,
};

const TABLE: &str = include_str!("../src/command/table.tsv");
const CLASSES: &str = include_str!("../src/command/classes.tsv");

fn names(file: &'static str) -> Vec<&'static str> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').next().unwrap_or_default()).collect()
}

fn by_name(name: &str) -> &'static Command {
    command::all().iter().find(|command| command.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn every_line_of_either_file_is_a_command_with_a_class() {
    let table: Vec<_> = command::all().iter().map(|command| command.name).collect();
    assert_eq!(table, names(TABLE));
    let mut classes = names(CLASSES);
    classes.sort();
    assert_eq!(table, classes);
}

#[test]
fn the_table_says_what_its_file_says() {
    for (line, command) in TABLE.lines().filter(|line| !line.starts_with('#')).zip(command::all()) {
        let fields: Vec<_> = line.split('\t').collect();
        let mut flags: Vec<_> = command.flags.names().collect();
        flags.sort();
        let flags = if flags.is_empty() { "-".to_string() } else { flags.join(",") };
        let keys = command.keys;
        let numbers = [keys.first.to_string(), keys.last.to_string(), keys.step.to_string()];
        assert_eq!(fields[..3], [command.name, &command.arity.to_string(), &flags]);
        assert_eq!(fields[3..6], numbers, "{line}");
        assert_eq!(fields[8], command.since);
    }
}

#[test]
fn a_name_is_found_in_any_case_and_nothing_else_is_found() {
    for command in command::all().iter().filter(|command| !command.name.contains('|')) {
        let mixed: String = command
            .name
            .char_indices()
            .map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c })
            .collect();
        for name in [command.name, &command.name.to_uppercase(), &mixed] {
            assert_eq!(command::lookup(name.as_bytes()).map(|c| c.name), Some(command.name));
        }
        for at in 0..command.name.len() {
            for bit in 0..8 {
                let mut name = command.name.as_bytes().to_vec();
                name[at] ^= 1 << bit;
                let found = command::lookup(&name).map(|c| c.name.as_bytes().to_vec());
                let expected = names(TABLE)
                    .into_iter()
                    .find(|known| !known.contains('|') && known.as_bytes().eq_ignore_ascii_case(&name));
                assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{}", name.escape_ascii());
            }
        }
    }
    for name in [&b""[..], b"client|list", b"get\0", b" get", b"restore\rasking", &[b'g'; 100]] {
        assert_eq!(command::lookup(name).map(|c| c.name), None);
    }
}

#[test]
fn nothing_that_writes_is_carried_as_a_read() {
    let arguments_decide = ["sort", "georadius", "georadiusbymember"];
    for command in command::all().iter().filter(|command| command.flags.has(Flags::WRITE)) {
        assert!(command.carry != Carry::Read || arguments_decide.contains(&command.name), "{}", command.name);
    }
}

#[test]
fn what_may_wait_is_refused_or_depends_on_its_arguments() {
    for command in command::all().iter().filter(|command| command.flags.has(Flags::BLOCKING)) {
        let cared_for = matches!(
            command.carry,
            Carry::Refused(_) | Carry::Waits(_) | Carry::Local(Local::Wait | Local::WaitAof)
        );
        assert!(cared_for || matches!(command.name, "xread" | "xreadgroup"), "{}", command.name);
    }
}

#[test]
fn the_random_and_the_imprecise_run_on_one_replica_first() {
    for name in
        ["spop", "incrbyfloat", "hincrbyfloat", "xclaim", "xautoclaim", "xreadgroup", "geosearchstore"]
    {
        assert_eq!(by_name(name).carry, Carry::Leads);
    }
    assert_eq!(by_name("fcall").carry, Carry::Leads);
    assert_eq!(by_name("eval").carry, Carry::Script(Scripting::Eval));
    for name in ["script|load", "script|flush"] {
        assert!(matches!(by_name(name).carry, Carry::Script(_)));
    }
    for name in ["function|load", "function|restore", "function|delete", "function|flush"] {
        assert_eq!(by_name(name).carry, Carry::Deterministic);
    }
}

#[test]
fn the_options_of_sort_are_read_as_servers_read_them() {
    let cases: &[(&str, Option<usize>, bool, Option<&str>)] = &[
        ("SORT k", None, false, None),
        ("SORT k BY nosort LIMIT 0 1 DESC", None, false, None),
        ("SORT k GET #", None, false, Some("GET")),
        ("SORT k get w_* by v_*", None, true, Some("GET")),
        ("SORT k BY w_* GET # STORE d", Some(7), true, Some("BY")),
        ("SORT k STORE GET STORE e", Some(5), false, None),
        ("SORT k LIMIT BY w_* STORE d", Some(6), false, None),
        ("SORT k GET", None, false, None),
        ("SORT k BY STORE", None, false, None),
    ];
    for (text, store, patterns, reads_every_key) in cases {
        let expected = SortOptions { store: *store, patterns: *patterns, reads_every_key: *reads_every_key };
        Words::of(text).with(|args| assert_eq!(command::sort_options(args), expected, "{text}"));
    }
}

#[test]
fn arguments_change_carry_and_class() {
    let leader_first = Carry::Leads;
    let cases = [
        ("GETEX k", Carry::Read, OpClass::Read),
        ("SORT k BY nosort GET #", Carry::Read, OpClass::Read),
        ("SORT k BY w_* GET STORE", Carry::Read, OpClass::Scan),
        ("SORT k LIMIT 0 1 STORE d", leader_first, OpClass::MultiKey),
        ("sort k get store store d", leader_first, OpClass::MultiKey),
        ("SORT k STORE\0x d", leader_first, OpClass::MultiKey),
        ("SORT_RO k", Carry::Read, OpClass::Read),
        ("GEORADIUS k 1 2 3 km WITHDIST", Carry::Read, OpClass::Read),
        ("GEORADIUS k 1 2 3 km STOREDIST d", leader_first, OpClass::MultiKey),
        ("GEORADIUSBYMEMBER k STORE 3 km", Carry::Read, OpClass::Read),
        ("GEORADIUSBYMEMBER k m 3 km store d", leader_first, OpClass::MultiKey),
        ("COPY a b", Carry::Rewritten(Rewrite::Moves), OpClass::MultiKey),
        ("COPY a b DB 0 REPLACE", Carry::Rewritten(Rewrite::Moves), OpClass::MultiKey),
        ("COPY a b REPLACE DB 1", Carry::Local(Local::Databases), OpClass::MultiKey),
        ("COPY a b DB 0 DB 1", Carry::Local(Local::Databases), OpClass::MultiKey),
        ("COPY a b DB", Carry::Local(Local::Databases), OpClass::MultiKey),
        ("XREAD COUNT 1 STREAMS a 0", Carry::Read, OpClass::Read),
        ("XREAD STREAMS a BLOCK 0 0", Carry::Read, OpClass::MultiKey),
        ("XREAD BLOCK 0 STREAMS a 0", Carry::Waits(Waits::Stream), OpClass::Blocking),
        ("XREADGROUP GROUP g c STREAMS a >", Carry::Leads, OpClass::Write),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS a >", Carry::Waits(Waits::StreamGroup), OpClass::Blocking),
        ("PFCOUNT a", Carry::Deterministic, OpClass::Write),
        ("PFCOUNT a b", Carry::Read, OpClass::MultiKey),
        ("EXISTS a", Carry::Read, OpClass::Read),
        ("EXISTS a b", Carry::Read, OpClass::MultiKey),
        ("MSET a 1", Carry::Deterministic, OpClass::Write),
        ("MSET a 1 b 2", Carry::Deterministic, OpClass::MultiKey),
        ("ZADD k 1 a", Carry::Deterministic, OpClass::Write),
        ("ZADD k NX 1 a", Carry::Deterministic, OpClass::ConditionalWrite),
        ("DEL a b", Carry::Deterministic, OpClass::Delete),
        ("SCAN 0", Carry::Read, OpClass::Scan),
        ("XINFO STREAM k", Carry::Read, OpClass::Read),
    ];
    for (text, carry, class) in cases {
        Words::of(text).with(|args| {
            let command = command::resolve(args).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (command::classify(command, args), command::op_class(command, args)),
                (carry, class),
                "{text}"
            );
        });
    }
    let classes = [
        ("SET k v", OpClass::Write),
        ("SET k v xx", OpClass::ConditionalWrite),
        ("EXPIRE k 1 GT", OpClass::ConditionalWrite),
    ];
    for (text, class) in classes {
        Words::of(text)
            .with(|args| assert_eq!(command::op_class(command::resolve(args).expect("known"), args), class));
    }
}

#[test]
fn a_refusal_is_one_line_whatever_the_name() {
    let message = Refusal::Admin.message(b"save");
    assert!(
        message.starts_with("ERR 'SAVE' is not carried by this version of Quorate (class: admin)"),
        "{message}"
    );
    for refusal in Refusal::ALL {
        let message = refusal.message(b"a'b\r\nc|d\xff");
        assert!(message.starts_with("ERR 'A?B??C D?' ") && message.is_ascii() && !message.contains('\n'));
    }
}

/// The rows of a server's COMMAND answer, sub-commands included.
fn commands_of(server: &mut Server) -> Vec<Vec<Reply>> {
    let mut found = Vec::new();
    let mut pending = server.say("COMMAND").array();
    while let Some(row) = pending.pop() {
        let row = row.array();
        pending.extend(row[9].clone().array());
        found.push(row);
    }
    found
}

/// The table may be wider than a server, never narrower.
fn covers(command: &Command, row: &[Reply]) -> bool {
    let (ours, theirs) = (i64::from(command.arity), row[1].clone().integer());
    let flags: Vec<_> = command.flags.names().map(|name| Reply::Status(name.into())).collect();
    let logging = |flag: &Reply| matches!(flag, Reply::Status(name) if name.starts_with(b"skip_"));
    let keys = [i64::from(command.keys.first), i64::from(command.keys.last), i64::from(command.keys.step)];
    (ours == theirs || (ours < 0 && -ours <= theirs.abs()))
        && row[2].clone().array().iter().all(|flag| logging(flag) || flags.contains(flag))
        && row[3..6].iter().cloned().map(Reply::integer).eq(keys)
}

#[test]
fn every_command_of_the_servers_is_in_the_table() {
    let servers = [Some((Server::redis(), "redis")), Server::valkey().map(|server| (server, "valkey"))];
    for (mut server, kind) in servers.into_iter().flatten() {
        for row in commands_of(&mut server) {
            let name = String::from_utf8(row[0].clone().bytes()).expect("a name");
            let command = by_name(&name);
            assert!(covers(command, &row), "{kind}: {command:?} for {row:?}");
            let listed = if kind == "redis" { command.servers.redis } else { command.servers.valkey };
            assert!(listed, "{name} is not listed for {kind}");
        }
    }
}

/// Compares an error of ours with what the server says; what we resolve is not sent.
fn same_error(server: &mut Server, words: &Words) -> bool {
    let Err(error) = words.with(command::resolve) else { return false };
    let theirs = server.ask(&words.0);
    assert_eq!(Reply::Error(error.message()), theirs, "{}: {error}", words.show());
    true
}

#[test]
fn arity_errors_are_those_of_redis() {
    let mut server = Server::redis();
    let mut compared = 0;
    let in_redis = command::all().iter().filter(|command| command.servers.redis);
    for command in in_redis.filter(|command| !["psync", "sync"].contains(&command.name)) {
        for count in 1..usize::from(command.arity.unsigned_abs()) + 2 {
            let mut words: Vec<&[u8]> = command.name.split('|').map(str::as_bytes).collect();
            words.resize(count.max(words.len()), b"x");
            compared += usize::from(same_error(&mut server, &Words::from(&words)));
        }
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn errors_for_unknown_names_are_those_of_redis() {
    let mut server = Server::redis();
    let long = "x".repeat(300);
    let cases = [
        "foo",
        "foo a b",
        "FOO a",
        "client x",
        "CLIENT X y",
        "cOnFiG nope",
        "xgroup",
        "command nope",
        "acl foo bar",
        "get|x a",
        "client|list",
        "foo a\r\nb",
        "f\r\noo x",
        "client a\nb",
        "foo a\0b c",
        "f\0oo a",
        "client a\0b",
        "foo '",
        "client ",
        " get",
        "foo  ",
    ];
    for text in cases {
        assert!(same_error(&mut server, &Words::of(text)), "{text}");
    }
    let long = [
        format!("{long} a"),
        format!("foo {long}"),
        format!("foo {} b c", &long[..120]),
        format!("foo {} b c", &long[..122]),
        format!("foo {} b c", &long[..125]),
        format!("foo {} {}", &long[..60], long),
        format!("client {long}"),
        format!("foo{}", " a".repeat(100)),
        format!("foo {} b", &long[..128]),
        format!("foo {} b", &long[..127]),
    ];
    for text in long {
        assert!(same_error(&mut server, &Words::of(&text)), "{text}");
    }
    let odd: Vec<u8> = (0..=255).collect();
    for words in [
        Words::from(&[&odd[1..], b"a"]),
        Words::from(&[b"foo", &odd[1..]]),
        Words::from(&[b"client", &odd[1..]]),
    ] {
        assert!(same_error(&mut server, &words));
    }
}

#[test]
fn no_arguments_at_all_is_an_error_and_no_panic() {
    let error = Words(vec![]).with(command::resolve).expect_err("nothing to resolve");
    assert!(matches!(error, CommandError::Unknown(_)));
}
