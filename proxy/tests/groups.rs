//! Guards against keys that reach a wrong group, answers that change their order between groups, and commands over
//! several groups that half happen without a word.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Proxy, Setup, Value, free_port, lines, wait_until};
use quorate_wire::command::{SLOTS, slot};
use sha1::{Digest, Sha1};
use std::collections::BTreeSet;

const GROUPS: usize = 3;

/// Three groups of one server each.
fn three() -> Cluster {
    Cluster::start(Setup::new(Kind::Redis, GROUPS).groups(GROUPS))
}

fn home(key: &str) -> usize {
    usize::from(slot(key.as_bytes())) * GROUPS / usize::from(SLOTS)
}

fn digest(script: &str) -> String {
    Sha1::digest(script).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// So many keys of one group.
fn keys_of(group: usize, count: usize) -> Vec<String> {
    (0..).map(|i| format!("key:{i}")).filter(|key| home(key) == group).take(count).collect()
}

/// One key of each group.
fn one_each() -> [String; GROUPS] {
    [0, 1, 2].map(|group| keys_of(group, 1).remove(0))
}

#[track_caller]
fn crosses(client: &mut Client, line: &str) {
    let answer = client.line(line);
    assert_eq!(answer.string(), "CROSSSLOT Keys in request don't hash to the same slot", "{line}");
}

fn texts(value: &Value) -> Vec<String> {
    value.items.iter().map(Value::string).collect()
}

#[test]
fn a_key_goes_to_the_group_of_its_slot() {
    let cluster = three();
    let mut client = cluster.client();
    let keys: Vec<String> = (0..200).map(|i| format!("key:{i}")).chain(["{key:1}x".into()]).collect();
    for key in &keys {
        client.ok(&format!("SET {key} of-{key}"));
    }
    for (group, server) in cluster.servers.iter().enumerate() {
        let mut direct = server.client();
        for key in &keys {
            let there = direct.ok(&format!("EXISTS {key}")).number() == 1;
            assert_eq!(there, home(key) == group, "{key}");
        }
    }
    for key in &keys {
        assert_eq!(client.ok(&format!("GET {key}")).string(), format!("of-{key}"));
    }
}

#[test]
fn what_each_group_can_do_alone_is_split() {
    let cluster = three();
    let mut client = cluster.client();
    let [a, b, c] = one_each();
    for key in [&a, &b, &c] {
        client.ok(&format!("SET {key} of-{key}"));
    }
    let answer = client.ok(&format!("MGET {c} {a} nothing {b} {a} {c}"));
    let of = |key: &str| format!("of-{key}");
    assert_eq!(texts(&answer), [of(&c), of(&a), String::new(), of(&b), of(&a), of(&c)]);
    assert_eq!(client.ok(&format!("EXISTS {a} {b} {c} {a} nothing")).number(), 4);
    assert_eq!(client.ok(&format!("TOUCH {a} {b} nothing")).number(), 2);
    assert_eq!(client.ok(&format!("DEL {a} {b} nothing")).number(), 2);
    assert_eq!(client.ok(&format!("UNLINK {a} {c}")).number(), 1);
    assert_eq!(client.ok("DBSIZE").number(), 0);
}

#[test]
fn what_no_group_can_do_alone_is_refused_and_not_done() {
    let cluster = three();
    let mut client = cluster.client();
    let [a, b, _] = one_each();
    client.ok(&format!("SADD {a} x y"));
    crosses(&mut client, &format!("MSET {a} 1 {b} 2"));
    crosses(&mut client, &format!("RENAME {a} {b}"));
    crosses(&mut client, &format!("SMOVE {a} {b} x"));
    crosses(&mut client, &format!("COPY {a} {b}"));
    crosses(&mut client, &format!("SINTERSTORE {b} {a}"));
    crosses(&mut client, &format!("EVAL \"return 1\" 2 {a} {b}"));
    crosses(&mut client, &format!("BLPOP {a} {b} 0"));
    crosses(&mut client, &format!("WATCH {a} {b}"));
    let sorted = client.line(&format!("SORT {a} BY weight_*"));
    assert!(sorted.string().starts_with("ERR SORT with BY or GET"), "{sorted:?}");
    // Servers read words up to a zero byte.
    let sorted = client.call(&[b"SORT", a.as_bytes(), b"GET\0", b"weight_*"]);
    assert!(sorted.string().starts_with("ERR SORT with BY or GET"), "{sorted:?}");
    assert_eq!(client.ok(&format!("SCARD {a}")).number(), 2);
    assert_eq!(client.ok(&format!("EXISTS {b}")).number(), 0);
    // Keys of one group are one group's, whatever their slots.
    let same = keys_of(1, 3);
    client.ok(&format!("MSET {} 1 {} 2", same[0], same[1]));
    client.ok(&format!("RENAME {} {}", same[0], same[2]));
    assert_eq!(texts(&client.ok(&format!("MGET {} {} {}", same[0], same[1], same[2]))), ["", "2", "1"]);
}

#[test]
fn mset_is_split_where_that_is_asked_for() {
    let setup = Setup::new(Kind::Redis, GROUPS).groups(GROUPS).listen("split-mset = true");
    let cluster = Cluster::start(setup);
    let mut client = cluster.client();
    let [a, b, c] = one_each();
    assert_eq!(client.ok(&format!("MSET {c} 3 {a} 1 {b} 2")).string(), "OK");
    assert_eq!(texts(&client.ok(&format!("MGET {a} {b} {c}"))), ["1", "2", "3"]);
    assert!(client.line(&format!("MSET {a} 9 {b}")).is_error());
    assert!(client.line(&format!("MSET {a} 9 {b} 9 __quorate:x 9")).string().starts_with("NOPERM"));
    assert_eq!(texts(&client.ok(&format!("MGET {a} {b}"))), ["1", "2"], "all or nothing was said at once");
    crosses(&mut client, &format!("MSETNX {a} 1 {b} 2"));
    // The proxy's names are its own as keys only.
    client.ok(&format!("MSET {b} __quorate:b {a} __quorate:{{g}}:pos {c} __quorate:"));
    let values = texts(&client.ok(&format!("MGET {a} {b} {c}")));
    assert_eq!(values, ["__quorate:{g}:pos", "__quorate:b", "__quorate:"]);
}

#[test]
fn answers_come_in_the_order_of_the_requests_whatever_their_groups() {
    let cluster = three();
    let mut client = cluster.client();
    let [a, b, c] = one_each();
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for i in 0..300 {
        let key = [&a, &b, &c][i % 3];
        requests.push(format!("SET {key} {i}"));
        expected.push("OK".to_string());
        if i % 7 == 0 {
            requests.push(format!("PING at-{i}"));
            expected.push(format!("at-{i}"));
        }
        if i % 5 == 4 {
            requests.push(format!("MGET {c} {b} {a}"));
            let last = |of: usize| (0..=i).rev().find(|i| i % 3 == of).unwrap_or_default();
            expected.push(format!("{} {} {}", last(2), last(1), last(0)));
        }
        if i % 11 == 0 {
            requests.push(format!("EXISTS {a} {b} {c}"));
            expected.push((i + 1).min(3).to_string());
        }
    }
    let text: Vec<&str> = requests.iter().map(String::as_str).collect();
    let answers = client.pipeline(&lines(&text), requests.len());
    for (i, answer) in answers.iter().enumerate() {
        let said = if answer.items.is_empty() { answer.string() } else { texts(answer).join(" ") };
        assert_eq!(said, expected[i], "{}", requests[i]);
    }
}

#[test]
fn a_transaction_is_one_groups() {
    let cluster = three();
    let (mut client, mut other) = (cluster.client(), cluster.client());
    let [a, b, _] = one_each();
    for (first, second) in [(&a, &b), (&b, &a)] {
        client.ok("MULTI");
        client.ok(&format!("INCR {first}"));
        crosses(&mut client, &format!("INCR {second}"));
        assert!(client.line("EXEC").string().starts_with("EXECABORT"));
        assert_eq!(client.ok(&format!("EXISTS {first} {second}")).number(), 0);
    }
    client.ok("MULTI");
    client.ok("PING");
    client.ok(&format!("SET {b} 1"));
    client.ok(&format!("INCR {b}"));
    assert_eq!(client.ok("EXEC").items[2].number(), 2);
    client.ok("MULTI");
    assert!(client.line("DBSIZE").string().contains("every group"));
    assert!(client.line("EXEC").string().starts_with("EXECABORT"));

    client.ok(&format!("WATCH {b}"));
    crosses(&mut client, &format!("WATCH {a}"));
    other.ok(&format!("SET {b} theirs"));
    client.ok("MULTI");
    client.ok(&format!("SET {b} mine"));
    assert!(client.ok("EXEC").null, "what was watched changed");
    assert_eq!(client.ok(&format!("GET {b}")).string(), "theirs");
    // What came before decides nothing any more.
    client.ok(&format!("WATCH {b}"));
    client.ok("UNWATCH");
    client.ok(&format!("WATCH {a}"));
    client.ok("MULTI");
    client.ok(&format!("SET {a} mine"));
    assert_eq!(texts(&client.ok("EXEC")), ["OK"]);
}

#[test]
fn all_keys_are_those_of_all_groups() {
    let cluster = three();
    let mut client = cluster.client();
    let mut keys: Vec<String> = (0..500).map(|i| format!("key:{i}")).collect();
    keys.sort();
    for key in &keys {
        client.ok(&format!("SET {key} v"));
    }
    assert_eq!(client.ok("DBSIZE").number(), 500);
    let mut all = client.ok("KEYS *").strings();
    all.sort();
    assert_eq!(all, keys);
    let (mut seen, mut cursor) = (Vec::new(), "0".to_string());
    loop {
        let page = client.ok(&format!("SCAN {cursor} COUNT 50"));
        seen.extend(page.items[1].strings());
        cursor = page.items[0].string();
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, keys);
    let [a, b, c] = one_each();
    client.ok(&format!("HSET {{{b}}}h f v"));
    assert_eq!(client.ok(&format!("HSCAN {{{b}}}h 0")).items[1].strings(), ["f", "v"]);
    client.ok("FLUSHALL");
    assert_eq!(client.ok("DBSIZE").number(), 0);
    assert!(client.ok("RANDOMKEY").null);
    for key in [a, b, c] {
        client.ok(&format!("SET {key} v"));
        assert_eq!(client.ok("RANDOMKEY").string(), key);
        client.ok(&format!("DEL {key}"));
    }
}

#[test]
fn a_group_that_is_away_fails_only_what_needs_it() {
    let mut cluster = three();
    let mut client = cluster.client();
    let [a, b, _] = one_each();
    client.ok(&format!("SET {a} 1"));
    client.ok(&format!("SET {b} 2"));
    cluster.servers[1].kill();
    assert_eq!(client.ok(&format!("GET {a}")).string(), "1");
    client.ok(&format!("SET {a} 3"));
    assert!(client.line(&format!("SET {b} 4")).is_error());
    assert!(client.line(&format!("MGET {a} {b}")).is_error());
    let deleted = client.line(&format!("DEL {a} {b}"));
    assert!(deleted.string().starts_with("UNKNOWN"), "one group did it: {deleted:?}");
    assert_eq!(client.ok(&format!("EXISTS {a}")).number(), 0);
    cluster.servers[1].run();
    wait_until("the group is back", LONG, || !client.line(&format!("SET {b} 5")).is_error());
    assert_eq!(texts(&client.ok(&format!("MGET {a} {b}"))), ["", "5"]);
}

#[test]
fn waiting_scripts_and_messages_work_in_every_group() {
    let cluster = three();
    let (mut client, mut other) = (cluster.client(), cluster.client());
    let digest = client.ok("SCRIPT LOAD \"return redis.call('incr',KEYS[1])\"").string();
    for key in one_each() {
        client.send(&harness::encode(&["BLPOP", &format!("{{{key}}}l"), "0"])).expect("it is sent");
        wait_until("it waits", LONG, || other.ok("INFO clients").string().contains("blocked_clients:1"));
        other.ok(&format!("RPUSH {{{key}}}l v"));
        assert_eq!(client.read().expect("its value").strings()[1], "v");
        assert_eq!(client.ok(&format!("EVALSHA {digest} 1 {key}")).number(), 1);
        client.ok(&format!("XADD {{{key}}}s * f v"));
        client.ok(&format!("SPOP {{{key}}}none"));
    }
    client.ok("SUBSCRIBE c");
    assert_eq!(other.ok("PUBLISH c hello").number(), 1);
    assert_eq!(client.read().expect("the message").strings()[2], "hello");
}

/// No group has to be waited for: nothing else would send what is owed.
#[test]
fn what_every_group_answers_at_once_is_sent() {
    let cluster = three();
    let mut client = cluster.client();
    assert!(client.line("FLUSHALL FOO").is_error());
    assert!(client.line("WAIT x 1").is_error());
    assert_eq!(client.ok("CONFIG SET timeout 0").string(), "OK");
    let answers = client.pipeline(&lines(&["FLUSHALL FOO", "PING", "WAIT x 1"]), 3);
    assert_eq!(answers[1].string(), "PONG");
    let many = 2_000;
    let sizes = client.pipeline(&lines(&vec!["DBSIZE"; many]), many);
    assert!(sizes.iter().all(|size| size.number() == 0));
}

#[test]
fn a_script_is_known_to_all_groups() {
    let cluster = three();
    let mut client = cluster.client();
    let [a, b, c] = one_each();
    let script = "return redis.call('incr',KEYS[1])";
    let digest = digest(script);
    let unknown = |client: &mut Client| {
        for key in [&a, &b, &c] {
            let answer = client.line(&format!("EVALSHA {digest} 1 {key}"));
            assert!(answer.string().starts_with("NOSCRIPT"), "{answer:?}");
        }
    };
    unknown(&mut client);
    assert_eq!(client.call(&["EVAL", script, "1", &a]).number(), 1);
    assert_eq!(client.ok(&format!("EVALSHA {digest} 1 {b}")).number(), 1);
    client.ok("SCRIPT FLUSH");
    unknown(&mut client);
    assert_eq!(client.call(&["SCRIPT", "LOAD", script]).string(), digest);
    assert_eq!(client.ok(&format!("EVALSHA {digest} 1 {b}")).number(), 2);
    client.ok("MULTI");
    client.ok(&format!("EVALSHA {digest} 1 {c}"));
    assert!(client.line(&format!("WATCH {a}")).string().contains("WATCH inside MULTI"));
    assert_eq!(client.ok("EXEC").items[0].number(), 1);
}

#[test]
fn a_key_to_debug_is_its_groups() {
    let setup =
        Setup { server_args: vec!["--enable-debug-command", "yes"], ..Setup::new(Kind::Redis, GROUPS) };
    let cluster = Cluster::start(setup.groups(GROUPS));
    let mut client = cluster.client();
    for (key, encoding) in one_each().iter().zip(["int", "embstr", "listpack"]) {
        match encoding {
            "int" => client.ok(&format!("SET {key} 1")),
            "embstr" => client.ok(&format!("SET {key} v")),
            _ => client.ok(&format!("HSET {key} f v")),
        };
        let told = client.ok(&format!("DEBUG OBJECT {key}")).string();
        assert!(told.contains(&format!("encoding:{encoding} ")), "{told}");
    }
    assert_eq!(client.line("DEBUG OBJECT nothing").string(), "ERR no such key");
}

#[test]
fn who_waits_for_replicas_waits_for_those_of_all_groups() {
    let cluster = three();
    let (mut client, mut other) = (cluster.client(), cluster.client());
    for key in one_each() {
        client.ok(&format!("SET {key} v"));
    }
    // A server alone has no replicas.
    assert_eq!(client.ok("WAIT 0 0").number(), 0);
    let id = client.ok("CLIENT ID").number();
    client.send(&harness::encode(&["WAIT", "1", "0"])).expect("it is sent");
    wait_until("it waits", LONG, || other.ok(&format!("CLIENT UNBLOCK {id}")).number() == 1);
    assert_eq!(client.read().expect("an answer").number(), 0);
    assert_eq!(client.ok("PING").string(), "PONG");
}

/// In a transaction nothing waits, and only its group is asked.
#[test]
fn who_waits_for_replicas_in_a_transaction_counts_those_of_its_group() {
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 3 * GROUPS).groups(GROUPS));
    let mut client = cluster.client();
    let [a, b, c] = one_each();
    // One of the second group's three.
    cluster.servers[3].kill();
    wait_until("it is missed", LONG, || client.ok("WAIT 0 0").number() == 1);
    for (key, replicas) in [(&a, 2), (&b, 1), (&c, 2)] {
        for lines in
            [[format!("SET {key} v"), "WAIT 1 0".into()], ["WAIT 1 0".into(), format!("SET {key} v")]]
        {
            // What is known of replicas, and what they have, is a little late.
            wait_until(&format!("{lines:?} tells {replicas}"), LONG, || {
                client.ok("MULTI");
                lines.iter().for_each(|line| assert_eq!(client.ok(line).string(), "QUEUED"));
                let mut answers = texts(&client.ok("EXEC"));
                answers.retain(|answer| answer != "OK");
                answers == [replicas.to_string()]
            });
        }
    }
}

#[test]
fn servers_of_all_groups_save_their_data() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 2 * GROUPS).groups(GROUPS));
    let mut direct: Vec<Client> = cluster.servers.iter().map(harness::Server::client).collect();
    let mut saved = |times: &str| {
        direct.iter_mut().all(|server| {
            let told = server.ok("INFO persistence").string();
            told.contains(&format!("rdb_saves:{times}\r\n")) && told.contains("rdb_bgsave_in_progress:0")
        })
    };
    assert!(saved("0"), "nobody asked for it");
    assert_eq!(cluster.client().ok("BGSAVE").string(), "Background saving started");
    wait_until("all have saved", LONG, || saved("1"));
}

/// Where not every group can take its part, none gets one.
#[test]
fn what_is_for_every_group_is_refused_while_one_is_away() {
    let mut cluster = three();
    let mut client = cluster.client();
    let [a, b, c] = one_each();
    for key in [&a, &b, &c] {
        client.ok(&format!("SET {key} v"));
    }
    let script = "return redis.call('incr',KEYS[1])";
    let digest = digest(script);
    cluster.servers[1].kill();
    let group = |at: usize| {
        let status: serde_json::Value = serde_json::from_str(&cluster.proxy.page("/status").1).expect("JSON");
        status["groups"][at]["writable"] == true
    };
    wait_until("it is missed", LONG, || !group(1));
    assert!(group(0) && group(2));
    for line in ["FLUSHALL", "FLUSHDB ASYNC", &format!("SCRIPT LOAD \"{script}\"")] {
        let answer = client.line(line).string();
        assert!(answer.starts_with("NOTAPPLIED") && answer.contains("'g2'"), "{line}: {answer}");
    }
    assert_eq!(client.ok(&format!("GET {a}")).string(), "v");
    assert_eq!(client.ok(&format!("GET {c}")).string(), "v");
    assert!(client.line(&format!("EVALSHA {digest} 1 {a}")).string().starts_with("NOSCRIPT"));
    client.ok("CONFIG SET slowlog-max-len 7");
    cluster.servers[1].run();
    wait_until("the group is back", LONG, || !client.line("FLUSHALL").is_error());
    assert_eq!(client.ok("DBSIZE").number(), 0);
}

#[test]
fn who_caches_is_told_of_every_group() {
    let cluster = three();
    let (mut client, mut other) = (cluster.client(), cluster.client());
    client.ok("HELLO 3");
    client.ok("CLIENT TRACKING ON");
    for key in one_each() {
        // An owner that has not seen all keys yet ends this one first, in case, and tells that too.
        wait_until("it reads, and is told nothing", LONG, || {
            client.send(&lines(&[&format!("GET {key}"), "PING read"])).expect("it can be written");
            let frames = std::iter::from_fn(|| client.read().ok().filter(|frame| frame.string() != "read"));
            frames.count() == 1
        });
        other.ok(&format!("SET {key} v"));
        let told = client.read().expect("an invalidation");
        assert_eq!(told.items.get(1).map(Value::strings), Some(vec![key]), "{told:?}");
    }
}

#[test]
fn another_order_of_groups_is_not_taken_for_the_same() {
    let mut cluster = three();
    let [a, ..] = one_each();
    cluster.client().ok(&format!("SET {a} v"));
    cluster.proxy.kill();
    let turned = |text: String| text.replace("\"g\", \"g2\"", "\"g2\", \"g\"");
    cluster.proxy.edit(turned);
    cluster.proxy.run();
    assert_eq!(cluster.proxy.exit().code(), Some(3));
    let log = cluster.proxy.log();
    assert!(log.contains("shared the keys of groups [\"g\", \"g2\", \"g3\"] before"), "{log}");
    cluster.proxy.edit(|text| text.replace("\"g2\", \"g\"", "\"g\", \"g2\""));
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    let mut client = cluster.client();
    wait_until("it serves", LONG, || client.line(&format!("GET {a}")).string() == "v");
}

#[test]
fn events_of_keys_are_told_whichever_group_they_are_in() {
    let server_args = vec!["--notify-keyspace-events", "KEA"];
    let cluster = Cluster::start(Setup { server_args, ..Setup::new(Kind::Redis, 2).groups(2) });
    let mut client = cluster.client();
    let mut by_name = cluster.client();
    by_name.ok("SUBSCRIBE __keyevent@0__:set");
    let mut by_pattern = cluster.client();
    by_pattern.ok("PSUBSCRIBE __key*");
    // Both groups have some of them.
    let keys: BTreeSet<String> = (0..12).map(|n| format!("k{n}")).collect();
    for key in &keys {
        client.ok(&format!("SET {key} v"));
    }
    let next = |client: &mut Client, at: usize| client.read().expect("an event").strings()[at].clone();
    let told: BTreeSet<String> = keys.iter().map(|_| next(&mut by_name, 2)).collect();
    assert_eq!(told, keys);
    let mut channels: Vec<String> =
        keys.iter().flat_map(|_| [2, 2]).map(|at| next(&mut by_pattern, at)).collect();
    channels.sort();
    let mut expected: Vec<String> = keys.iter().map(|key| format!("__keyspace@0__:{key}")).collect();
    expected.extend(keys.iter().map(|_| "__keyevent@0__:set".to_string()));
    expected.sort();
    assert_eq!(channels, expected);
    assert_eq!(client.ok("PUBSUB NUMSUB __keyevent@0__:set").items[1].number(), 1, "it is one subscription");
    by_name.ok("UNSUBSCRIBE");
    client.ok("SET more v");
    by_name.ok("PING");
}

/// Another proxy owns the second group: its events would never come.
#[test]
fn events_of_a_group_that_is_fenced_are_not_confirmed() {
    let cluster = three();
    let mut client = cluster.client();
    client.ok("PSUBSCRIBE news.*");
    client.ok("PUNSUBSCRIBE");
    let _other = Proxy::start(&cluster.setup, &[free_port(), cluster.servers[1].port, free_port()]);
    let [a, b, _] = one_each();
    wait_until("it is fenced", LONG, || client.line(&format!("SET {b} v")).string().contains("was fenced"));
    client.ok(&format!("SET {a} v"));
    for line in ["SUBSCRIBE __keyevent@0__:set", "PSUBSCRIBE *", "SUBSCRIBE news __keyspace@0__:k"] {
        let answer = client.line(line).string();
        assert!(answer.starts_with("NOTAPPLIED") && answer.contains("'g2'"), "{line}: {answer}");
    }
    assert_eq!(client.ok("PUBSUB NUMSUB news").items[1].number(), 0, "none of them is there");
    assert_eq!(client.ok("SUBSCRIBE news").items[2].number(), 1, "messages are the first group's");
}
