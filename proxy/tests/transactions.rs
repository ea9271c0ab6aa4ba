//! Guards against clients' transactions that are applied in part, in pieces, or though what they watched changed:
//! compared with a bare Redis, raced against each other, and raced while a backend dies.

mod harness;

use harness::{
    Client, Cluster, Kind, LONG, Server, Setup, Value, assert_equal, encode, lines, wait_until, words,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Each is one session; replies must be the same byte for byte.
const SCRIPTS: &[&[&str]] = &[
    &["MULTI", "EXEC", "EXEC", "DISCARD", "UNWATCH"],
    &["MULTI", "SET a 1", "INCR a", "LPUSH a 1", "GET a", "EXEC", "GET a"],
    &["MULTI", "MULTI", "WATCH a", "SET a 1", "EXEC"],
    &["MULTI", "SET", "SET a 2", "EXEC", "GET a"],
    &["MULTI", "NOSUCH x y", "GET a", "EXEC", "PING"],
    &["MULTI", "CLIENT NOSUCH", "EXEC"],
    &["MULTI", "EXEC x", "EXEC"],
    &["MULTI", "DISCARD x", "EXEC"],
    &["MULTI", "MULTI x", "EXEC"],
    &["MULTI", "WATCH", "EXEC"],
    &["WATCH a x", "MULTI", "EXEC x", "MULTI", "GET a", "EXEC"],
    &["MULTI", "SET a 5", "DISCARD", "GET a", "EXEC"],
    &["MULTI", "PING", "PING hello", "PING a b", "ECHO hi", "SELECT 0", "SELECT 99", "SELECT x", "EXEC"],
    &["MULTI", "CLIENT SETNAME me", "CLIENT GETNAME", "UNWATCH", "AUTH x", "EXEC", "CLIENT GETNAME"],
    &["MULTI", "SET a 1", "RESET", "GET a", "EXEC", "HELLO {d}"],
    &["MULTI", "SYNC", "EXEC"],
    &["WATCH a", "SET a 3", "MULTI", "SET a 4", "EXEC", "GET a"],
    &["WATCH a", "SET a 3", "UNWATCH", "MULTI", "SET a 4", "EXEC", "GET a"],
    &["WATCH a", "SET a 3", "MULTI", "EXEC", "MULTI", "EXEC"],
    &["WATCH a", "SET a 3", "MULTI", "PING", "EXEC"],
    &["WATCH a", "SET a 3", "MULTI", "DISCARD", "MULTI", "GET a", "EXEC"],
    &["WATCH a", "SET a 3", "MULTI", "SET", "EXEC", "MULTI", "GET a", "EXEC"],
    &["WATCH a b c a", "WATCH a", "GET a", "MULTI", "SET a 4", "GET b", "EXEC", "MULTI", "GET a", "EXEC"],
    &["SET a 1", "WATCH a", "MULTI", "INCR a", "GET a", "EXEC"],
    &["MULTI", "GET a", "HGETALL h", "ZSCORE z a", "SMEMBERS s", "LRANGE l 0 -1", "EXEC"],
    &["MULTI", "DBSIZE", "SET n 1", "DBSIZE", "DEL n", "DBSIZE", "EXISTS n", "EXEC"],
    &["MULTI", "KEYS only*", "SET only 1", "KEYS only*", "SCAN 0 MATCH only* COUNT 1000", "EXEC"],
    &["MULTI", "DBSIZE", "KEYS only*", "EXEC"],
    &["MULTI", "SET e 1 EX 1000", "TTL e", "EXPIRE e 500", "TTL e", "PERSIST e", "TTL e", "EXEC"],
    &["MULTI", "SETEX e 100 v", "GETEX e EX 50", "TTL e", "GETDEL e", "EXEC"],
    &["MULTI", "XADD st 5-5 f v", "XADD st 5-5 f v", "XLEN st", "XRANGE st - +", "DEL st", "EXEC"],
    &["MULTI", "HSET h f v", "HGETALL h", "ZADD z 1.5 a", "ZSCORE z a", "SADD s x", "SMEMBERS s", "EXEC"],
    &["multi", "set a 1", "exec"],
    &[
        "MULTI",
        "SET f 1.5",
        "INCRBYFLOAT f 0.25",
        "GET f",
        "SADD one x",
        "SPOP one",
        "SCARD one",
        "EXEC",
        "GET f",
    ],
    &["MULTI", "SET e v EX 100", "EVAL return(redis.call('TTL',KEYS[1])) 1 e", "TTL e", "EXEC", "TTL e"],
    &["WATCH f", "SET f 3", "MULTI", "INCRBYFLOAT f 1", "EXEC", "GET f"],
    &["WATCH f", "MULTI", "INCRBYFLOAT f 1", "EXEC", "MULTI", "INCRBYFLOAT f 1", "EXEC", "GET f"],
    &["MULTI", "INCRBYFLOAT h x", "INCRBYFLOAT f x", "GET f", "EXEC"],
    &[
        "MULTI",
        "BLPOP nolist 1",
        "EVAL return{1,'a'} 0",
        "EVAL return 0",
        "EVAL_RO return(2) 0",
        "PING",
        "EXEC",
    ],
    &[
        "MULTI",
        "XADD st2 5-1 f v",
        "XGROUP CREATE st2 g 0",
        "XREADGROUP GROUP g c STREAMS st2 >",
        "DEL st2",
        "EXEC",
    ],
    &["MULTI", "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0", "SPOP none", "EXEC"],
    &[
        "MULTI",
        "SCRIPT LOAD return(1)",
        "SCRIPT EXISTS 930269f31393d0be681588b6ab08dccee7d6bb67",
        "EVALSHA_RO 930269f31393d0be681588b6ab08dccee7d6bb67 0",
        "EXEC",
    ],
];

fn script(script: &[&str], dialect: &str) -> Vec<Vec<u8>> {
    let all =
        [format!("HELLO {dialect}")].into_iter().chain(script.iter().map(|l| l.replace("{d}", dialect)));
    all.map(|line| encode(&words(&line))).collect()
}

fn comparable(replies: Vec<Value>) -> Vec<Value> {
    let hello = |value: &Value| value.items.iter().any(|item| item.text == b"server");
    replies.into_iter().filter(|value| !hello(value)).collect()
}

#[test]
fn replies_are_those_of_redis() {
    let cluster = Cluster::usual();
    let server = Server::start(Kind::Redis);
    for dialect in ["2", "3"] {
        for lines in SCRIPTS {
            for pipelined in [false, true] {
                let play = |mut client: Client| {
                    let commands = script(lines, dialect);
                    let replies = match pipelined {
                        true => client.pipeline(&commands.concat(), commands.len()),
                        false => commands.iter().map(|one| client.pipeline(one, 1).remove(0)).collect(),
                    };
                    comparable(replies)
                };
                let (bare, proxied) = (play(server.client()), play(cluster.client()));
                assert_eq!(bare, proxied, "{lines:?} as RESP{dialect}, pipelined: {pipelined}");
            }
        }
    }
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

#[test]
fn what_the_proxy_does_not_carry_spoils_a_transaction() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("HELLO 3");
    for (line, error) in [
        ("GET __quorate:{g}:pos", "NOPERM"),
        ("HELLO 2", "cannot change the protocol"),
        ("FAILOVER", "is not carried"),
        ("ACL LOAD", "not allowed inside a transaction"),
    ] {
        client.ok("MULTI");
        assert_eq!(client.ok("SET spoilt 1").string(), "QUEUED");
        let refused = client.line(line).string();
        assert!(refused.contains(error), "{line}: {refused}");
        assert_eq!(client.ok("SET spoilt 2").string(), "QUEUED");
        assert!(client.line("EXEC").string().starts_with("EXECABORT"), "{line}");
    }
    assert!(client.line("WATCH __quorate:{g}:pos").string().starts_with("NOPERM"));
    assert!(client.ok("GET spoilt").null);
    // Answers of the proxy's own, and of a replica, in their places.
    client.ok("MULTI");
    for line in
        ["INFO server", "COMMAND COUNT", "RANDOMKEY", "TIME", "HELLO 3", "SET r 1", "RANDOMKEY", "INFO"]
    {
        assert_eq!(client.ok(line).string(), "QUEUED");
    }
    let items = client.ok("EXEC").items;
    assert_eq!(items.len(), 8);
    assert!(items[0].string().contains("quorate_group:"), "{:?}", items[0]);
    assert!(items[1].number() > 100 && items[2].null && items[3].items.len() == 2);
    assert_eq!(items[4].field("proto").map(Value::number), Some(3));
    assert_eq!((items[5].string(), items[6].string()), ("OK".into(), "r".into()));
    cluster.assert_equal();
}

#[test]
fn a_transaction_is_bounded() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("MULTI");
    let mut bytes = Vec::new();
    (0..65_536).for_each(|_| bytes.extend(encode(&["INCR", "n"])));
    assert!(client.pipeline(&bytes, 65_536).iter().all(|reply| reply.text == b"QUEUED"));
    assert!(client.line("INCR n").string().contains("too large"));
    assert!(client.line("EXEC").string().starts_with("EXECABORT"));
    assert!(client.ok("GET n").null);
    // What replicas are asked many times for counts as often.
    client.ok("MULTI");
    let bytes = lines(&["RANDOMKEY"; 1025]);
    let replies = client.pipeline(&bytes, 1025);
    assert!(replies[..1024].iter().all(|reply| reply.text == b"QUEUED"));
    assert!(replies[1024].string().contains("too large"));
    client.ok("DISCARD");
}

/// More commands than an entry usually has, and more bytes.
#[test]
fn a_large_transaction_is_one_entry() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let head = cluster.proxy.group()["head"].as_u64();
    client.ok("MULTI");
    let mut bytes = Vec::new();
    for i in 0..5000 {
        bytes.extend(encode(&["SET".to_string(), format!("big:{i}"), "x".repeat(1000)]));
        bytes.extend(encode(&["INCR", "n"]));
    }
    client.pipeline(&bytes, 10_000);
    let replies = client.ok("EXEC").items;
    assert_eq!(replies.len(), 10_000);
    assert_eq!((replies[9998].string(), replies[9999].number()), ("OK".into(), 5000));
    wait_until("the status shows the entry", LONG, || {
        cluster.proxy.group()["head"].as_u64() == head.map(|head| head + 1)
    });
    cluster.assert_equal();
}

#[test]
fn stream_ids_are_chosen_in_a_transaction_too() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let asked = [
        "MULTI",
        "XADD st * f 1",
        "SET other *",
        "XADD st MAXLEN ~ 100 * f 2",
        "XADD st * f 3",
        "XLEN st",
        "EXEC",
    ];
    for _ in 0..20 {
        let replies = client.pipeline(&lines(&asked), asked.len()).pop().expect("one").items;
        let id = |i: usize| {
            let id = replies[i].string();
            id.split_once('-').map(|(ms, seq)| (ms.parse::<u64>(), seq.parse::<u64>())).expect("an id")
        };
        let ids = [0, 2, 3].map(id).map(|(ms, seq)| (ms.expect("a time"), seq.expect("a number")));
        assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
    }
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

/// Relative times count from EXEC, as with Redis.
#[test]
fn a_time_to_live_begins_with_exec() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("MULTI");
    client.ok("SET e 1 PX 100000");
    let mut other = cluster.client();
    let mut time = || {
        let parts = other.ok("TIME").strings();
        let number = |part: &String| part.parse::<i64>().expect("a number");
        number(&parts[0]) * 1000 + number(&parts[1]) / 1000
    };
    let queued = time();
    wait_until("time passes", LONG, || time() > queued + 50);
    client.ok("EXEC");
    let ends = client.ok("PEXPIRETIME e").number();
    assert!(ends > queued + 100_050, "{ends}");
}

/// What is queued goes with the connection, and so do its watches.
#[test]
fn a_client_that_leaves_applies_nothing() {
    let cluster = Cluster::usual();
    for _ in 0..20 {
        let mut leaving = cluster.client();
        leaving.ok("WATCH a");
        leaving.ok("MULTI");
        leaving.ok("SET a 1");
    }
    let mut client = cluster.client();
    assert!(client.ok("GET a").null);
    assert!(client.line("EXEC").string().contains("EXEC without MULTI"));
}

/// One client's optimistic increment: `None` when nobody knows whether it was applied.
fn increment(client: &mut Client, pipelined: bool) -> std::io::Result<Option<bool>> {
    if pipelined {
        // Nothing is learnt in between: only the watch keeps the value from being set twice.
        client.send(&lines(&["WATCH n", "GET n"]))?;
        client.read()?;
    } else {
        let watched = client.try_line("WATCH n")?;
        if watched.is_error() {
            return Ok(Some(false));
        }
        client.send(&lines(&["GET n"]))?;
    }
    let value = client.read()?;
    if value.is_error() {
        client.try_line("UNWATCH")?;
        return Ok(Some(false));
    }
    let next = value.string().parse::<u64>().unwrap_or(0) + 1;
    client.send(&lines(&["MULTI", &format!("SET n {next}"), "INCR m", "EXEC"]))?;
    (0..3).try_for_each(|_| client.read().map(drop))?;
    let done = client.read()?;
    Ok(match done.is_error() {
        true if done.string().starts_with("UNKNOWN") => None,
        true => Some(false),
        false => Some(!done.null),
    })
}

/// What concurrent optimistic increments amounted to.
#[derive(Default)]
struct Race {
    applied: AtomicU64,
    unknown: AtomicU64,
    dropped: AtomicU64,
}

impl Race {
    fn run(self: &Arc<Self>, port: u16, clients: usize, wins: u64) -> Vec<thread::JoinHandle<()>> {
        let one = |index: usize| {
            let race = self.clone();
            thread::spawn(move || {
                let mut client = Client::connect(port).expect("the proxy accepts a client");
                let mut own = 0;
                while own < wins {
                    match increment(&mut client, index.is_multiple_of(2)).expect("the proxy answers") {
                        Some(true) => {
                            own += 1;
                            race.applied.fetch_add(1, Ordering::Relaxed);
                        }
                        Some(false) => drop(race.dropped.fetch_add(1, Ordering::Relaxed)),
                        None => drop(race.unknown.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            })
        };
        (0..clients).map(one).collect()
    }

    #[track_caller]
    fn check(&self, cluster: &Cluster) {
        let (applied, unknown) = (self.applied.load(Ordering::Relaxed), self.unknown.load(Ordering::Relaxed));
        cluster.proxy.wait_in_sync();
        for server in &cluster.servers {
            let mut client = server.client();
            let (n, m) = (client.ok("GET n").number() as u64, client.ok("GET m").number() as u64);
            assert!(
                (applied..=applied + unknown).contains(&m),
                "{m} were applied, {applied} + {unknown} were told"
            );
            assert_eq!(n, m, "an increment was lost, or one was applied though its key had changed");
        }
        assert_equal(&cluster.servers);
    }
}

#[test]
fn optimistic_increments_lose_nothing() {
    let setup = Setup { rest: "[proxy]\nworkers = 2\n".into(), ..Setup::new(Kind::Redis, 3) };
    let cluster = Cluster::start(setup);
    let race = Arc::new(Race::default());
    for writer in race.run(cluster.proxy.port, 6, 100) {
        writer.join().expect("it ends well");
    }
    assert_eq!(race.unknown.load(Ordering::Relaxed), 0);
    assert!(race.dropped.load(Ordering::Relaxed) > 0, "nobody ever met another");
    race.check(&cluster);
}

#[test]
fn optimistic_increments_lose_nothing_while_backends_die() {
    let mut cluster = Cluster::usual();
    let race = Arc::new(Race::default());
    let writers = race.run(cluster.proxy.port, 4, 150);
    for victim in [0, 1] {
        let before = race.applied.load(Ordering::Relaxed);
        let moved = |more: u64| race.applied.load(Ordering::Relaxed) >= (before + more).min(600);
        wait_until("some increments", LONG, || moved(40));
        cluster.servers[victim].kill();
        wait_until("increments without it", LONG, || moved(80));
        cluster.servers[victim].run();
        cluster.proxy.wait_in_sync();
    }
    for writer in writers {
        writer.join().expect("it ends well");
    }
    race.check(&cluster);
}

/// Everybody sees all of a transaction or nothing of it, also from another connection.
#[test]
fn nobody_sees_half_of_a_transaction() {
    let cluster = Cluster::usual();
    let port = cluster.proxy.port;
    let writer = thread::spawn(move || {
        let mut client = Client::connect(port).expect("the proxy accepts a client");
        for i in 0..500 {
            let bytes = lines(&["MULTI", &format!("SET one {i}"), &format!("SET two {i}"), "EXEC"]);
            let replies = client.pipeline(&bytes, 4);
            assert_eq!(replies[3].items.len(), 2, "{replies:?}");
        }
    });
    let mut client = cluster.client();
    while !writer.is_finished() {
        let pair = client.ok("MGET one two").strings();
        assert_eq!(pair[0], pair[1]);
        let bytes = lines(&["MULTI", "GET one", "GET two", "EXEC"]);
        let pair = client.pipeline(&bytes, 4).pop().expect("one").strings();
        assert_eq!(pair[0], pair[1]);
    }
    writer.join().expect("it ends well");
}

/// What a transaction says of deadlines and of subscribers is true, and its keys end like any others.
#[test]
fn deadlines_and_messages_in_a_transaction() {
    let cluster = Cluster::usual();
    let mut listener = cluster.client();
    listener.ok("SUBSCRIBE news");
    let mut client = cluster.client();
    for line in [
        "MULTI",
        "SET k v PX 700",
        "TTL k",
        "RENAME k l",
        "EXPIRE l 900 GT",
        "COPY l m",
        "PERSIST l",
        "PTTL m",
        "PEXPIRE m 600 LT",
        "PUBLISH news hello",
    ] {
        client.ok(line);
    }
    let replies = client.ok("EXEC").items;
    assert_eq!(replies.len(), 9);
    assert_eq!(replies[1].number(), 1, "TTL");
    assert!((1..=900_000).contains(&replies[6].number()), "PTTL: {:?}", replies[6]);
    assert_eq!(replies[8].number(), 1, "one listens");
    assert_eq!(listener.read().expect("a message").items[2].string(), "hello");
    wait_until("it ends", LONG, || client.line("EXISTS m").number() == 0);
    assert_eq!(client.line("TTL l").number(), -1);
    cluster.assert_equal();
}

#[test]
fn a_key_that_ends_while_it_is_watched_is_a_change() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("SET k v PX 200");
    client.ok("WATCH k");
    let mut other = cluster.client();
    wait_until("it ends", LONG, || other.line("EXISTS k").number() == 0);
    client.ok("MULTI");
    client.ok("SET k new");
    assert!(client.line("EXEC").null);
    assert!(client.line("GET k").null);
}

#[test]
fn what_subscribes_is_no_part_of_a_transaction() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    for line in ["SUBSCRIBE x", "MONITOR"] {
        client.ok("MULTI");
        assert_eq!(client.line(line).string(), "ERR Command not allowed inside a transaction");
        assert!(client.line("EXEC").string().starts_with("EXECABORT"));
    }
}

/// Answers are still owed when EXEC collects those of its commands.
#[test]
fn what_the_proxy_confirms_inside_a_transaction_is_an_element_of_it() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let answers = client.pipeline(&lines(&["SET k 1", "MULTI", "HELLO 2", "PING", "EXEC"]), 5);
    assert_eq!(answers[4].items.len(), 2, "{answers:?}");
    assert_eq!(client.ok("ECHO next").string(), "next");
}
