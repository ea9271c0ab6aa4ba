//! Which arguments are keys, against the answers of real servers to COMMAND GETKEYS.

mod command_support;

use command_support::{Reply, Server, Words};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quorate_core::plan::OpClass;
use quorate_wire::command::{self, Carry};

fn keys(words: &Words) -> Words {
    words.with(|args| {
        let mut found = Vec::new();
        let command = command::resolve(args).unwrap_or_else(|error| panic!("{}: {error}", words.show()));
        command::keys(command, args, &mut |key| found.push(key.to_vec()));
        assert_eq!(command::first_key(command, args), found.first().map(Vec::as_slice), "{}", words.show());
        Words(found)
    })
}

/// What the server says the keys are; `None` when it refuses the arguments.
fn their_keys(server: &mut Server, words: &Words) -> Option<Words> {
    let question = [Words::of("COMMAND GETKEYS").0, words.0.clone()].concat();
    match server.ask(&question) {
        Reply::Array(keys) => Some(Words(keys.into_iter().map(Reply::bytes).collect())),
        Reply::Error(error) if error.starts_with(b"ERR The command has no key arguments") => {
            Some(Words(vec![]))
        }
        _ => None,
    }
}

const SHAPES: &[&str] = &[
    "GET a",
    "SET a b",
    "MGET a b c",
    "DEL a",
    "MSET a 1 b 2 c 3",
    "MSETNX a 1 b 2",
    "RENAME a b",
    "COPY a b DB 1",
    "BITOP AND d a b c",
    "PFMERGE d a b",
    "SDIFFSTORE d a b",
    "LCS a b LEN",
    "OBJECT ENCODING a",
    "MEMORY USAGE a SAMPLES 3",
    "XGROUP CREATE s g $ MKSTREAM",
    "XINFO STREAM s FULL",
    "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
    "ZINTERSTORE d 1 a AGGREGATE MAX",
    "ZDIFFSTORE d 2 a b",
    "ZUNION 2 a b WITHSCORES",
    "ZINTER 1 a",
    "ZDIFF 2 a b",
    "ZINTERCARD 2 a b LIMIT 3",
    "SINTERCARD 3 a b c",
    "LMPOP 2 a b LEFT",
    "ZMPOP 1 a MIN COUNT 2",
    "BLMPOP 0 2 a b LEFT",
    "BZMPOP 0.5 1 a MAX",
    "BLPOP a b 0",
    "BZPOPMIN a 1",
    "BLMOVE a b LEFT RIGHT 0",
    "EVAL s 2 a b c",
    "EVAL s 0 a",
    "EVALSHA s 1 a",
    "FCALL f 1 a x",
    "EVAL_RO s 1 a",
    "XREAD STREAMS a 0",
    "XREAD COUNT 2 BLOCK 0 STREAMS a b 0 0",
    "xread count 1 streams STREAMS b 0 0",
    "XREADGROUP GROUP g c STREAMS a >",
    "XREADGROUP GROUP STREAMS c COUNT 1 NOACK STREAMS a b > >",
    "SORT a",
    "SORT a BY w_* GET # GET o_* LIMIT 0 1 DESC ALPHA STORE d",
    "SORT a STORE d STORE e",
    "SORT a GET store",
    "SORT_RO a BY x",
    "SORT a BY store STORE d",
    "GEORADIUS a 1 2 3 km",
    "GEORADIUS a 1 2 3 km COUNT 1 STORE d",
    "GEORADIUSBYMEMBER a store 3 km STORE d",
    "GEORADIUSBYMEMBER a m 3 km",
    "GEOSEARCHSTORE d a FROMMEMBER m BYRADIUS 1 km",
    "MIGRATE h 1 a 0 10",
    "MIGRATE h 1 a 0 10 COPY REPLACE",
    "MIGRATE h 1 keys 0 10 AUTH p",
    "XADD a * f v",
    "RESTORE a 0 x",
    "TOUCH a b",
    "SUNION a b",
    "WATCH a b",
    "SMOVE a b m",
    "LMOVE a b LEFT LEFT",
    "ZRANGESTORE d a 0 1",
    "PING x",
    "SCAN 0",
    "RPOPLPUSH a b",
];

const VALKEY_SHAPES: &[&str] =
    &["MSETEX 2 a 1 b 2 EX 10", "HSETEX a EX 10 FIELDS 1 f v", "DELIFEQ a v", "HGETDEL a FIELDS 1 f"];

#[test]
fn keys_of_many_shapes() {
    let mut redis = Server::redis();
    for text in SHAPES {
        let words = Words::of(text);
        assert_eq!(Some(keys(&words)), their_keys(&mut redis, &words), "{text}");
    }
    let empty = Words::from(&["MIGRATE", "h", "1", "", "0", "10", "REPLACE", "KEYS", "a", "b"]);
    assert_eq!(Some(keys(&empty)), their_keys(&mut redis, &empty));
    let Some(mut valkey) = Server::valkey() else { return };
    for text in SHAPES.iter().chain(VALKEY_SHAPES) {
        let words = Words::of(text);
        assert_eq!(Some(keys(&words)), their_keys(&mut valkey, &words), "{text}");
    }
}

#[test]
fn where_servers_list_other_keys_than_they_use() {
    // COMMAND GETKEYS takes the group for the word STREAMS.
    let words = Words::of("XREADGROUP COUNT 1 GROUP STREAMS STREAMS STREAMS a >");
    assert_eq!(keys(&words), Words::of("a"));
    // Of repeated options Redis lists the first, Valkey the last, and the command uses the last.
    let words = Words::of("GEORADIUS a 1 2 3 km STORE d STORE e");
    assert_eq!(keys(&words), Words::of("a d e"));
}

#[test]
fn every_command_with_plain_arguments() {
    let mut redis = Server::redis();
    let mut compared = 0;
    // Channels of sharded pub/sub have a slot, but are no keys.
    for command in
        command::all().iter().filter(|command| command.servers.redis && command.class != OpClass::PubSub)
    {
        for extra in 0..4 {
            let mut words: Vec<Vec<u8>> =
                command.name.split('|').map(|word| word.as_bytes().to_vec()).collect();
            let least = usize::from(command.arity.unsigned_abs());
            let count = if command.arity < 0 { least + extra } else { least };
            words.extend((words.len()..count).map(|n| format!("k{n}").into_bytes()));
            let words = Words(words);
            // Where the table is wider than this server, its answer is an error.
            if let Some(theirs) = their_keys(&mut redis, &words) {
                assert_eq!(keys(&words), theirs, "{}", words.show());
                compared += 1;
            }
        }
    }
    assert!(compared > 500, "{compared}");
}

/// Each once: of a repeated STORE servers list the first and store to the last; we list both.
const GEO_OPTIONS: &[&str] = &["WITHDIST", "COUNT 3", "ASC", "store d", "STOREDIST e"];

/// Options in any order for the commands whose keys move; only what a server could accept.
fn movable() -> impl Strategy<Value = Words> {
    let name = || {
        prop_oneof![
            Just("a"),
            Just("STORE"),
            Just("streams"),
            Just("BY"),
            Just("keys"),
            Just("2"),
            Just("BLOCK")
        ]
    };
    let sort_option = prop_oneof![
        Just("ASC".to_string()),
        Just("alpha".to_string()),
        Just("LIMIT 0 5".to_string()),
        Just("BY w_*".to_string()),
        Just("get #".to_string()),
    ];
    let sort = (name(), prop::collection::vec(sort_option, 0..4), prop::option::of(name()));
    let sort = sort.prop_map(|(key, options, store)| {
        let store = store.map(|key| format!("STORE {key}"));
        [vec!["SORT".to_string(), key.to_string()], options, store.into_iter().collect()].concat().join(" ")
    });
    let stream_option = prop_oneof![Just("COUNT 5"), Just("block 10")];
    let xread = (prop::collection::vec(stream_option, 0..3), prop::collection::vec(name(), 1..4));
    let xread = xread.prop_map(|(options, keys)| {
        let ids = vec!["0"; keys.len()];
        [vec!["XREAD"], options, vec!["STREAMS"], keys, ids].concat().join(" ")
    });
    let counted = (
        prop_oneof![Just("ZUNION"), Just("SINTERCARD"), Just("ZUNIONSTORE d"), Just("EVAL s"), Just("LMPOP")],
        prop::collection::vec(name(), 1..5),
    );
    let counted = counted.prop_map(|(head, keys)| format!("{head} {} {} LEFT", keys.len(), keys.join(" ")));
    let geo = (
        prop_oneof![Just("GEORADIUS a 1 2"), Just("GEORADIUSBYMEMBER a STORE")],
        prop::sample::subsequence(GEO_OPTIONS, 0..4).prop_shuffle(),
    );
    let geo = geo.prop_map(|(head, options)| [vec![head, "3 km"], options].concat().join(" "));
    prop_oneof![sort, xread, counted, geo].prop_map(|text| Words::of(&text))
}

#[test]
fn movable_keys_in_any_order() {
    let mut redis = Server::redis();
    let mut runner = TestRunner::new(Config { cases: 1500, failure_persistence: None, ..Config::default() });
    let server = std::cell::RefCell::new(&mut redis);
    let result = runner.run(&movable(), |words| {
        let (mut ours, theirs) = (keys(&words), their_keys(&mut server.borrow_mut(), &words));
        let mut theirs = theirs.unwrap_or_else(|| panic!("refused: {}", words.show()));
        // The order is of no consequence, and differs for STORE behind STOREDIST.
        ours.0.sort();
        theirs.0.sort();
        prop_assert_eq!(ours, theirs, "{}", words.show());
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn any_arguments_are_survived() {
    let all: Vec<_> = command::all().iter().filter(|command| !command.is_container()).collect();
    let word = prop_oneof![
        "[a-z0-9]{0,3}",
        Just("-1".to_string()),
        Just("9223372036854775807".to_string()),
        Just("STORE".to_string()),
        Just("STREAMS".to_string()),
        Just("KEYS".to_string()),
        Just("FIELDS".to_string()),
        Just("EX".to_string()),
        Just("MAXLEN".to_string()),
        Just("~".to_string()),
        Just("LIMIT".to_string()),
        Just("*".to_string()),
    ];
    let case = (0..all.len(), prop::collection::vec(word, 0..10));
    let mut runner =
        TestRunner::new(Config { cases: 20_000, failure_persistence: None, ..Config::default() });
    let result = runner.run(&case, |(index, words)| {
        let name = all[index].name.split('|').map(str::to_string);
        let words = Words::from(&name.chain(words).collect::<Vec<_>>());
        words.with(|args| {
            if let Ok(command) = command::resolve(args) {
                command::op_class(command, args);
                command::key_positions(command, args, &mut |index| assert!(index > 0 && index < args.len()));
                if let Carry::Rewritten(kind) = command::classify(command, args) {
                    command::rewrite(kind, args, u64::MAX);
                }
            }
        });
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
