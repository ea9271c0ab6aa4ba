//! Guards against messages that are lost, doubled, out of order or seen by the wrong client, and against
//! frames other than a server's own.

mod harness;

use harness::{
    Client, Cluster, Kind, LONG, Proxy, Server, Setup, Value, encode, lines, ports, signal, wait_until, words,
};
use std::collections::BTreeSet;

/// Everything that is said until the answer to a PING that says `token`.
#[track_caller]
fn until(client: &mut Client, token: &str) -> Vec<Value> {
    client.send(&encode(&["PING", token])).expect("it can be written");
    let mut seen = Vec::new();
    loop {
        let value = client.read().unwrap_or_else(|error| panic!("no {token} after {seen:?}: {error}"));
        let said = value.items.get(1).map_or(&value.text, |item| &item.text);
        if said == token.as_bytes() && value.items.len() != 3 {
            return seen;
        }
        seen.push(value);
    }
}

#[track_caller]
fn subscriber(cluster: &Cluster, line: &str) -> Client {
    let mut client = cluster.client();
    let confirmed = client.ok(line);
    assert_eq!(confirmed.items.len(), 3, "{confirmed:?}");
    client
}

/// The text of the next message.
#[track_caller]
fn next(client: &mut Client) -> String {
    let message = client.read().unwrap_or_else(|error| panic!("no message: {error}"));
    message.items.last().unwrap_or_else(|| panic!("no message: {message:?}")).string()
}

const SCRIPT: &[&str] = &[
    "SUBSCRIBE a a b",
    "GET x",
    "CLIENT GETNAME",
    "PING",
    "PING hi",
    "PING too many",
    "PSUBSCRIBE p* p*",
    "SSUBSCRIBE s",
    "UNSUBSCRIBE zz",
    "SUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "UNSUBSCRIBE a b",
    "PUNSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "PUNSUBSCRIBE x y",
    "GET x",
    "PING",
    "SUBSCRIBE",
    "PUBLISH a",
    "PUBLISH a b c",
    "PUBLISH nobody x",
    "SPUBLISH nobody x",
    "SUBSCRIBE a",
    "PUBLISH a x",
    "EXEC",
    "HELLO 9",
    "NOPE",
    "RESET",
    "GET x",
    "PUBSUB",
    "PUBSUB HELP",
    "PUBSUB NOPE",
    "PUBSUB NUMPAT",
    "PUBSUB NUMPAT x",
    "PUBSUB NUMSUB",
    "PUBSUB NUMSUB a b",
    "PUBSUB CHANNELS",
    "PUBSUB CHANNELS a b",
    "PUBSUB CHANNELS a*",
    "PUBSUB SHARDCHANNELS",
    "PUBSUB SHARDNUMSUB a b",
    "SUBSCRIBE \"\" \"\\r\\n\\0\"",
    "UNSUBSCRIBE \"\" \"\\r\\n\\0\"",
];

/// Only where commands go on working beside subscriptions.
const PUSHES: &[&str] = &[
    "SUBSCRIBE a",
    "PUBLISH a x",
    "PUBLISH a \"\\r\\n\\0\"",
    "SET k v",
    "GET k",
    "PSUBSCRIBE a* *a nothing",
    "PUBLISH a twice",
    "PUBLISH bab by-pattern",
    "SSUBSCRIBE a",
    "SPUBLISH a sharded",
    "PUBSUB NUMSUB a",
    "PUBSUB CHANNELS",
    "PUBSUB NUMPAT",
    "PUBSUB SHARDNUMSUB a",
    "PUBSUB SHARDCHANNELS",
    "UNSUBSCRIBE a",
    "PUNSUBSCRIBE a* nothing",
    "PUBLISH a once",
    "HELLO 2",
    "GET k",
    "HELLO 3",
    "RESET",
];

#[test]
fn frames_are_those_of_a_bare_server() {
    let (bare, cluster) = (Server::start(Kind::Redis), Cluster::usual());
    for (dialect, script) in [("2", SCRIPT), ("3", SCRIPT), ("3", PUSHES)] {
        let (mut bare, mut proxied) = (bare.client(), cluster.client());
        assert!(!bare.line(&format!("HELLO {dialect}")).is_error());
        assert!(!proxied.line(&format!("HELLO {dialect}")).is_error());
        for (i, line) in script.iter().enumerate() {
            // Only the refusal of a subscriber's EXEC is compared here.
            if *line == "EXEC" && dialect == "3" {
                continue;
            }
            for client in [&mut bare, &mut proxied] {
                client.send(&encode(&words(line))).expect("it can be written");
            }
            let token = format!("token-{i}");
            let (expected, mut got) = (until(&mut bare, &token), until(&mut proxied, &token));
            if line.starts_with("HELLO 2") {
                got.clone_from(&expected);
            }
            assert_eq!(sorted(got), sorted(expected), "RESP{dialect}: {line}");
        }
    }
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

/// Pushes for several patterns come in an order of the server's own.
fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort();
    values
}

#[test]
fn messages_reach_those_who_listen_and_the_publisher_is_told_how_many() {
    let cluster = Cluster::usual();
    let mut exact = subscriber(&cluster, "SUBSCRIBE news.art");
    let mut pattern = subscriber(&cluster, "PSUBSCRIBE news.*");
    let mut shard = subscriber(&cluster, "SSUBSCRIBE news.art");
    let mut publisher = cluster.client();
    assert_eq!(publisher.ok("PUBLISH news.art one").number(), 2);
    assert_eq!(publisher.ok("PUBLISH news.law two").number(), 1);
    assert_eq!(publisher.ok("SPUBLISH news.art three").number(), 1);
    assert_eq!(publisher.ok("PUBLISH other four").number(), 0);
    assert_eq!(exact.read().expect("a message").strings(), ["message", "news.art", "one"]);
    assert_eq!(pattern.read().expect("a message").strings(), ["pmessage", "news.*", "news.art", "one"]);
    assert_eq!(pattern.read().expect("a message").strings(), ["pmessage", "news.*", "news.law", "two"]);
    assert_eq!(shard.read().expect("a message").strings(), ["smessage", "news.art", "three"]);
    for client in [&mut exact, &mut pattern, &mut shard] {
        assert!(until(client, "end").is_empty());
    }
    assert_eq!(publisher.ok("PUBSUB NUMSUB news.art x").strings(), ["news.art", "1", "x", "0"]);
    let list = publisher.ok("CLIENT LIST TYPE pubsub").string();
    assert_eq!(list.lines().filter(|line| line.contains(" flags=P ")).count(), 3, "{list}");
    assert!(list.contains("sub=0 psub=1 ssub=0"), "{list}");
    let info = publisher.ok("INFO").string();
    assert!(info.contains("pubsub_channels:1") && info.contains("pubsub_patterns:1"), "{info}");
    assert_eq!(cluster.proxy.metric("quorate_pubsub_subscriptions"), 3.0);
    drop((exact, pattern, shard));
    wait_until("subscriptions end with their clients", LONG, || {
        publisher.ok("PUBSUB NUMPAT").number() == 0
            && publisher.ok("PUBSUB CHANNELS").items.is_empty()
            && publisher.ok("PUBSUB SHARDCHANNELS").items.is_empty()
    });
}

/// All workers, and more subscribers than one turn serves.
#[test]
fn everybody_sees_all_messages_in_one_order() {
    const MESSAGES: usize = 200;
    let cluster =
        Cluster::start(Setup { rest: "[proxy]\nworkers = 2\n".into(), ..Setup::new(Kind::Redis, 3) });
    let mut readers: Vec<Client> = (0..100)
        .map(|i| subscriber(&cluster, if i % 2 == 0 { "SUBSCRIBE c" } else { "PSUBSCRIBE c*" }))
        .collect();
    let publish = |name: &str| -> Vec<u8> {
        (0..MESSAGES).flat_map(|i| encode(&["PUBLISH", "c", &format!("{name}{i}")])).collect()
    };
    let (mut a, mut b) = (cluster.client(), cluster.client());
    a.send(&publish("a")).expect("written");
    b.send(&publish("b")).expect("written");
    for publisher in [&mut a, &mut b] {
        (0..MESSAGES).for_each(|_| assert_eq!(publisher.read().expect("a reply").number(), 100));
    }
    let mut first: Option<Vec<String>> = None;
    for reader in &mut readers {
        let seen: Vec<String> = (0..2 * MESSAGES).map(|_| next(reader)).collect();
        for name in ["a", "b"] {
            let own: Vec<&String> = seen.iter().filter(|text| text.starts_with(name)).collect();
            assert!(own.iter().enumerate().all(|(i, text)| **text == format!("{name}{i}")), "{own:?}");
        }
        assert_eq!(first.get_or_insert_with(|| seen.clone()), &seen);
        assert!(until(reader, "end").is_empty());
    }
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

#[test]
fn a_message_comes_after_the_confirmation_and_between_replies() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("HELLO 3");
    client.ok("SET k v");
    let pipeline = lines(&["GET k", "SUBSCRIBE c", "PUBLISH c x", "GET k", "UNSUBSCRIBE c", "SET k v"]);
    for _ in 0..200 {
        client.send(&pipeline).expect("written");
        let seen: Vec<Value> = (0..7).map(|_| client.read().expect("a frame")).collect();
        let at = |kind: u8, text: &str| {
            let is = |v: &Value| {
                v.kind == kind && (v.text == text.as_bytes() || v.strings().contains(&text.into()))
            };
            seen.iter().position(is).unwrap_or_else(|| panic!("no {text} in {seen:?}"))
        };
        assert_eq!(seen[0].text, b"v");
        assert!(at(b'>', "subscribe") < at(b'>', "message"), "{seen:?}");
        assert!(at(b'>', "message") < at(b'>', "unsubscribe"), "{seen:?}");
        assert!(at(b'>', "subscribe") < at(b':', "1"), "{seen:?}");
    }
}

/// One server dies and comes back, again and again, while messages are published.
#[test]
fn no_message_is_lost_or_doubled_while_a_replica_is_away_and_caught_up() {
    let mut cluster = Cluster::usual();
    let mut reader = subscriber(&cluster, "SUBSCRIBE c");
    let mut publisher = cluster.client();
    let mut sent = 0;
    let mut publish = |count: usize| {
        for _ in 0..count {
            let reply = publisher.line(&format!("PUBLISH c {sent}"));
            assert_eq!(reply.text, b"1", "{reply:?}");
            sent += 1;
        }
    };
    for victim in 0..3 {
        publish(50);
        cluster.servers[victim].kill();
        publish(50);
        cluster.servers[victim].run();
        publish(50);
        cluster.proxy.wait_in_sync();
    }
    publish(50);
    let seen: Vec<String> = (0..sent).map(|_| next(&mut reader)).collect();
    let expected: Vec<String> = (0..sent).map(|i: usize| i.to_string()).collect();
    assert_eq!(seen, expected);
    assert!(until(&mut reader, "end").is_empty());
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

/// Programs that listen at a backend itself; the replies of the backends differ then.
#[test]
fn whoever_listens_at_a_backend_sees_each_message_once_behind_the_writes_before_it() {
    let cluster = Cluster::usual();
    let mut direct = cluster.servers[1].client();
    direct.ok("SUBSCRIBE c");
    let mut look = cluster.servers[1].client();
    let mut publisher = cluster.client();
    for i in 0..100 {
        publisher.ok(&format!("SET k {i}"));
        assert_eq!(publisher.ok(&format!("PUBLISH c {i}")).number(), 0);
        assert_eq!(next(&mut direct), i.to_string());
        assert!(look.ok("GET k").number() >= i);
    }
    assert!(until(&mut direct, "end").is_empty());
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
    assert_eq!(cluster.proxy.metric("quorate_mends_total"), 0.0);
}

#[test]
fn subscribers_of_a_proxy_that_takes_over_get_what_is_published_there() {
    let cluster = Cluster::usual();
    let mut old = subscriber(&cluster, "SUBSCRIBE c");
    cluster.client().ok("PUBLISH c before");
    assert_eq!(next(&mut old), "before");
    let mut second = cluster.second_proxy();
    second.wait_ready();
    let mut reader = second.client();
    reader.ok("SUBSCRIBE c");
    assert_eq!(second.client().ok("PUBLISH c after").number(), 1);
    assert_eq!(next(&mut reader), "after");
    let refused = cluster.client().line("PUBLISH c late");
    assert!(refused.is_error(), "{refused:?}");
    assert!(old.is_closed(), "its proxy does not own the group any more");
    let refused = cluster.client().line("SUBSCRIBE c");
    assert!(refused.string().starts_with("NOTAPPLIED"), "{refused:?}");
}

fn with_events() -> Cluster {
    let server_args = vec!["--notify-keyspace-events", "KEA"];
    Cluster::start(Setup { server_args, ..Setup::new(Kind::Redis, 3) })
}

#[test]
fn events_of_keys_are_told_from_the_confirmation_on_and_ours_are_hidden() {
    let cluster = with_events();
    for round in 0..5 {
        let mut reader = subscriber(&cluster, "SUBSCRIBE __keyevent@0__:set");
        let key = format!("k{round}");
        cluster.client().ok(&format!("SET {key} v"));
        assert_eq!(reader.read().expect("an event").strings(), ["message", "__keyevent@0__:set", &key]);
    }
    let mut all = subscriber(&cluster, "PSUBSCRIBE *");
    let mut writer = cluster.client();
    writer.ok("SET k v");
    writer.ok("PUBLISH news hello");
    writer.ok("DEL k");
    let expected = [
        "__keyspace@0__:k set",
        "__keyevent@0__:set k",
        "news hello",
        "__keyspace@0__:k del",
        "__keyevent@0__:del k",
    ];
    let seen: BTreeSet<String> =
        expected.iter().map(|_| all.read().expect("told").strings()[2..].join(" ")).collect();
    assert_eq!(seen, expected.iter().map(|text| text.to_string()).collect());
    assert!(until(&mut all, "end").is_empty());
}

#[test]
fn events_come_from_another_replica_when_theirs_is_lost() {
    let mut cluster = with_events();
    let mut reader = subscriber(&cluster, "PSUBSCRIBE __keyevent@0__:del*");
    let mut writer = cluster.client();
    // The feed is with the first replica in sync.
    for victim in 0..2 {
        writer.ok("SET k v");
        writer.ok("DEL k");
        assert_eq!(next(&mut reader), "k");
        let feeds = cluster.proxy.metric("quorate_pubsub_feeds_total");
        cluster.servers[victim].kill();
        wait_until("the feed has moved", LONG, || cluster.proxy.metric("quorate_pubsub_feeds_total") > feeds);
        // A subscription of its own is confirmed once the new replica tells.
        let _confirmed = subscriber(&cluster, &format!("SUBSCRIBE __keyevent@0__:other{victim}"));
        writer.ok("SET k v");
        writer.ok("DEL k");
        assert_eq!(next(&mut reader), "k");
        cluster.servers[victim].run();
        cluster.proxy.wait_in_sync();
    }
    assert!(until(&mut reader, "end").is_empty());
}

/// Whether some process still has the socket at `port` that leads to `peer`; the kernel may keep it longer,
/// to send what is left.
fn holds(port: u16, peer: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let (ours, theirs) = (format!(":{port:04X}"), format!(":{peer:04X}"));
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        fields.len() > 9 && fields[1].ends_with(&ours) && fields[2].ends_with(&theirs) && fields[9] != "0"
    })
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_without_harm_to_others() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).listen("output-limit = \"1MiB\""));
    let mut quick = subscriber(&cluster, "SUBSCRIBE c");
    let mut publisher = cluster.client();
    let mut slow = subscriber(&cluster, "SUBSCRIBE c");
    let port = slow.stream.local_addr().expect("a socket has one").port();
    assert!(holds(cluster.proxy.port, port));
    let large = "x".repeat(100_000);
    let mut published = 0;
    wait_until("the slow one is closed", LONG, || {
        publisher.call(&["PUBLISH", "c", &large]);
        assert_eq!(next(&mut quick).len(), large.len());
        published += 1;
        cluster.proxy.metric("quorate_pubsub_slow_closed_total") == 1.0
    });
    wait_until("one is left", LONG, || publisher.ok("PUBSUB NUMSUB c").items[1].number() == 1);
    // Though it still does not read: what it was owed is kept no longer.
    wait_until("its connection is gone", LONG, || !holds(cluster.proxy.port, port));
    assert!(slow.is_closed());
    assert_eq!(publisher.ok("PUBLISH c end").number(), 1);
    assert_eq!(next(&mut quick), "end", "after {published}");
}

#[test]
fn the_end_of_the_proxy_closes_subscribers() {
    let mut cluster = Cluster::usual();
    let mut reader = subscriber(&cluster, "SUBSCRIBE c");
    signal(cluster.proxy.pid(), "TERM");
    assert!(cluster.proxy.exit().success());
    assert!(reader.is_closed());
}

/// Nobody can tell events, and a client must not wait for ever to hear that it is subscribed.
#[test]
fn a_subscription_to_events_is_confirmed_without_any_backend() {
    let mut server = Server::start(Kind::Redis);
    let setup = Setup::new(Kind::Redis, 1);
    let mut proxy = Proxy::start(&setup, &ports(std::slice::from_ref(&server)));
    proxy.wait_ready();
    server.kill();
    let mut client = proxy.client();
    assert_eq!(client.ok("SUBSCRIBE __keyevent@0__:del").items[2].number(), 1);
    proxy.kill();
    proxy.run();
    wait_until("it listens", LONG, || Client::connect(proxy.port).is_ok());
    let mut client = proxy.client();
    assert_eq!(client.ok("SUBSCRIBE __keyevent@0__:del").items[2].number(), 1);
}

/// The clock and the address differ; everything else is a server's own.
#[test]
fn whoever_monitors_is_shown_what_others_send_but_no_secrets() {
    const LINES: &[&str] = &[
        "SeT k \"a\\x00\\x22\\n \\xc3\\xa9\"",
        "GET k",
        "NOPE x",
        "GET",
        "AUTH x",
        "AUTH u x",
        "HELLO 3 AUTH default x SETNAME n",
        "PING",
        "SUBSCRIBE a",
        "PUBLISH a b",
        "CLIENT GETNAME",
        "CLIENT LIST",
        "RESET",
        "ECHO end",
    ];
    let (bare, cluster) = (Server::start(Kind::Redis), Cluster::usual());
    let shown = |mut monitor: Client, mut client: Client| -> Vec<String> {
        assert_eq!(monitor.ok("MONITOR").text, b"OK");
        assert!(monitor.line("GET k").string().contains("can't interact with the keyspace"));
        client.send(&lines(LINES)).expect("written");
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.contains("ECHO")) {
            let line = monitor.read().expect("a line").string();
            seen.push(line.split_once("] ").expect("a line").1.to_string());
        }
        seen
    };
    let expected = shown(bare.client(), bare.client());
    assert_eq!(shown(cluster.client(), cluster.client()), expected);
    assert!(expected.iter().any(|line| line.contains("(redacted)")), "{expected:?}");
}
