//! Guards against waiters that are forgotten, overtaken, served twice, or served after they left: compared with a bare
//! Redis, by the thousand, and while a backend dies.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Server, Setup, Value, lines, wait_until};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Each is one session that never has to wait for another; replies must be the same byte for byte.
const SCRIPTS: &[&[&str]] = &[
    &[
        "RPUSH l a b c d",
        "BLPOP l 0",
        "BRPOP l 0",
        "BLPOP no l 0",
        "BLMPOP 0 2 no l LEFT COUNT 5",
        "EXISTS l",
    ],
    &["ZADD z 1 a 2.5 b 3 c", "BZPOPMIN z 0", "BZPOPMAX no z 0", "BZMPOP 0 1 z MIN COUNT 3", "EXISTS z"],
    &["RPUSH l a b", "BLMOVE l d LEFT RIGHT 0", "BRPOPLPUSH l d 0", "LRANGE d 0 -1", "DEL d"],
    &["BLPOP no 0.01", "BRPOP no no2 0.01", "BLMPOP 0.01 1 no LEFT", "BLMOVE no d LEFT LEFT 0.01"],
    &["BRPOPLPUSH no d 0.01", "BZPOPMIN no 0.01", "BZPOPMAX no 0.01", "BZMPOP 0.01 1 no MAX", "PING"],
    &[
        "BLPOP no -1",
        "BLPOP no x",
        "BLPOP no 1e400",
        "BLPOP no nan",
        "BLMPOP x 1 no LEFT",
        "BLPOP no",
        "BLPOP",
    ],
    &["SET s 1", "BLPOP s 0", "BLPOP no s 0", "BZPOPMIN s 0", "DEL s"],
    &["BLMPOP 0 0 l LEFT", "BLMPOP 0 x l LEFT", "BLMPOP 0 1 l SIDE", "BZMPOP 0 1 z MIN COUNT 0"],
    &["MULTI", "BLPOP no 0", "BLMOVE no d LEFT LEFT 0", "RPUSH l x", "BLPOP l 0", "BZPOPMIN no 0", "EXEC"],
    &[
        "XADD st 1-1 f v",
        "XREAD BLOCK 0 STREAMS st 0",
        "XREAD BLOCK 5 STREAMS st $",
        "XREAD BLOCK x STREAMS st 0",
        "XREAD BLOCK -1 STREAMS st 0",
        "XREAD BLOCK 5 STREAMS none 0",
        "XREAD BLOCK 5 STREAMS",
        "XREAD BLOCK",
        "XREAD BLOCK 5 COUNT 1 STREAMS st none 0-0 $",
        "XGROUP CREATE st g 0",
        "XREADGROUP GROUP g c BLOCK 5 STREAMS st >",
        "XREADGROUP GROUP g c BLOCK 5 STREAMS st >",
        "XREADGROUP GROUP g c BLOCK 5 STREAMS st 0",
        "XREADGROUP GROUP g c BLOCK x STREAMS st >",
        "XREADGROUP GROUP no c BLOCK 5 STREAMS st >",
        "XREADGROUP GROUP g other BLOCK 5 NOACK STREAMS st none > >",
        "MULTI",
        "XREAD BLOCK 0 STREAMS st $",
        "XREADGROUP GROUP g c BLOCK 0 STREAMS st >",
        "EXEC",
        "XINFO GROUPS st",
        "XPENDING st g",
    ],
];

#[test]
fn replies_are_those_of_redis() {
    let cluster = Cluster::usual();
    let server = Server::start(Kind::Redis);
    for dialect in ["2", "3"] {
        for script in SCRIPTS {
            for pipelined in [false, true] {
                let play = |mut client: Client| -> Vec<Value> {
                    client.ok(&format!("HELLO {dialect}"));
                    match pipelined {
                        true => client.pipeline(&lines(script), script.len()),
                        false => script.iter().map(|line| client.line(line)).collect(),
                    }
                };
                let (bare, proxied) = (play(server.client()), play(cluster.client()));
                assert_eq!(bare, proxied, "{script:?} as RESP{dialect}, pipelined: {pipelined}");
            }
        }
    }
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

/// A client that waits, once the proxy knows of it.
fn waiting(cluster: &Cluster, line: &str) -> Client {
    let mut client = cluster.client();
    let before = waited(cluster);
    client.send(&lines(&[line])).expect("it can be sent");
    wait_until("the proxy has ordered the try", LONG, || waited(cluster) > before);
    client
}

/// Requests that may wait, so far.
fn waited(cluster: &Cluster) -> u64 {
    let (_, page) = cluster.proxy.page("/metrics");
    let samples = page
        .lines()
        .filter(|line| line.starts_with("quorate_requests_total") && line.contains("class=\"blocking\""));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn the_longest_waiter_is_served_first() {
    let cluster = Cluster::usual();
    let mut waiters: Vec<Client> = (0..5).map(|_| waiting(&cluster, "BLPOP other l 0")).collect();
    let mut client = cluster.client();
    client.ok("RPUSH l 0");
    client.ok("RPUSH l 1 2 3");
    client.ok("RPUSH l 4 5");
    for (i, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(waiter.read().expect("served").strings(), ["l".to_string(), i.to_string()]);
    }
    assert_eq!(client.ok("LRANGE l 0 -1").strings(), ["5"]);
    cluster.assert_equal();
}

#[test]
fn who_left_takes_nothing() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    // Leaving and pushing go through different threads: whether one overtakes the other is a matter of luck.
    for _ in 0..20 {
        let mut killed = cluster.client();
        let id = killed.ok("CLIENT ID").number();
        let before = waited(&cluster);
        killed.send(&lines(&["BLPOP l 0"])).expect("it can be sent");
        wait_until("it waits", LONG, || waited(&cluster) > before);
        drop(waiting(&cluster, "BLPOP l 0"));
        client.ok(&format!("CLIENT KILL ID {id}"));
        assert!(killed.is_closed());
        wait_until("both are gone", LONG, || client.ok("CLIENT LIST").string().lines().count() == 1);
        client.ok("RPUSH l stays");
        assert_eq!(client.ok("LRANGE l 0 -1").strings(), ["stays"]);
        client.ok("DEL l");
    }
    cluster.assert_equal();
}

#[test]
fn a_waiter_is_made_to_stop() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let mut other = cluster.client();
    let id = other.ok("CLIENT ID").number();
    assert_eq!(client.ok(&format!("CLIENT UNBLOCK {id}")).number(), 0);
    for (how, error) in [("", false), (" TIMEOUT", false), (" ERROR", true)] {
        let before = waited(&cluster);
        other.send(&lines(&["BLPOP l 0", "PING"])).expect("it can be sent");
        wait_until("it waits", LONG, || waited(&cluster) > before);
        wait_until("it is made to stop", LONG, || {
            client.ok(&format!("CLIENT UNBLOCK {id}{how}")).number() == 1
        });
        let reply = other.read().expect("an answer");
        assert_eq!((reply.is_error(), reply.null), (error, !error), "{reply:?}");
        assert_eq!(other.read().expect("what was sent behind it").string(), "PONG");
    }
    client.ok("RPUSH l stays");
    assert_eq!(client.ok("LLEN l").number(), 1);
}

#[test]
fn what_is_moved_serves_others_and_kinds_do_not_mix() {
    let cluster = Cluster::usual();
    let mut last = waiting(&cluster, "BLPOP c 0");
    let mut second = waiting(&cluster, "BLMOVE b c LEFT RIGHT 0");
    let mut first = waiting(&cluster, "BRPOPLPUSH a b 0");
    let mut sorted = waiting(&cluster, "BZPOPMIN a 0");
    let mut client = cluster.client();
    client.ok("SET a text");
    client.ok("DEL a");
    client.ok("RPUSH a x");
    assert_eq!(first.read().expect("served").string(), "x");
    assert_eq!(second.read().expect("served").string(), "x");
    assert_eq!(last.read().expect("served").strings(), ["c", "x"]);
    client.ok("MULTI");
    client.ok("ZADD a 1 m");
    client.ok("EXEC");
    assert_eq!(sorted.read().expect("served").strings(), ["a", "m", "1"]);
    cluster.assert_equal();
}

/// Many wait for one key, and a backend dies: each element goes to one of them, and each of them gets one.
fn many(workers: &str, count: usize, kill: bool) {
    let mut cluster = Cluster::start(Setup { rest: workers.into(), ..Setup::new(Kind::Redis, 3) });
    let mut waiters: Vec<Client> = (0..count).map(|_| cluster.client()).collect();
    for (i, waiter) in waiters.iter_mut().enumerate() {
        let dialect = if i % 7 == 0 { "HELLO 3" } else { "HELLO 2" };
        waiter.ok(dialect);
        waiter.send(&lines(&["BLPOP l 0"])).expect("it can be sent");
    }
    let port = cluster.proxy.port;
    let pushers = (0..4).map(|k| {
        thread::spawn(move || {
            let mut client = Client::connect(port).expect("the proxy accepts a client");
            (k..count)
                .step_by(4)
                .filter(|i| {
                    let reply = client.line(&format!("RPUSH l {i}"));
                    assert!(!reply.is_error() || kill, "{reply:?}");
                    reply.is_error()
                })
                .count()
        })
    });
    let pushers: Vec<_> = pushers.collect();
    if kill {
        cluster.servers[0].kill();
    }
    let failed: usize = pushers.into_iter().map(|pusher| pusher.join().expect("it ends well")).sum();
    assert_eq!(failed, 0, "one backend of three may die");
    let mut seen = BTreeSet::new();
    for waiter in &mut waiters {
        let reply = waiter.read().expect("everybody is served");
        assert!(!reply.is_error(), "{reply:?}");
        assert!(seen.insert(reply.strings()[1].clone()), "{reply:?} was given twice");
    }
    assert_eq!(seen.len(), count);
    if kill {
        cluster.servers[0].run();
    }
    cluster.assert_equal();
    let mut client = cluster.client();
    assert_eq!(client.ok("EXISTS l").number(), 0);
}

#[test]
fn two_thousand_waiters() {
    many("[proxy]\nworkers = 2\n", 2000, false);
}

#[test]
fn waiters_while_a_backend_dies() {
    many("", 300, true);
}

#[test]
fn whoever_waits_gets_what_a_script_puts_there() {
    let cluster = Cluster::usual();
    let (mut first, mut second) = (waiting(&cluster, "BLPOP queue 0"), waiting(&cluster, "BLPOP queue 0"));
    let mut client = cluster.client();
    let push = "return redis.call('RPUSH',KEYS[1],'one','two','three')";
    assert_eq!(client.call(&["EVAL", push, "1", "queue"]).number(), 3);
    assert_eq!(first.read().expect("a reply").strings(), ["queue", "one"]);
    assert_eq!(second.read().expect("a reply").strings(), ["queue", "two"]);
    assert_eq!(client.line("LRANGE queue 0 -1").strings(), ["three"]);
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
}

#[test]
fn all_who_read_a_stream_get_what_is_new_and_one_of_a_group() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("XADD s 1-1 f old");
    client.ok("XGROUP CREATE s g $");
    client.ok("XGROUP CREATE s other $");
    let mut readers: Vec<Client> =
        (0..3).map(|_| waiting(&cluster, "XREAD BLOCK 0 STREAMS s missing $ $")).collect();
    let mut members: Vec<Client> = ["a", "b"]
        .map(|name| waiting(&cluster, &format!("XREADGROUP GROUP g {name} BLOCK 0 STREAMS s >")))
        .into();
    let mut other = waiting(&cluster, "XREADGROUP GROUP other c BLOCK 0 COUNT 1 NOACK STREAMS s >");
    client.ok("XADD s 2-1 f first");
    let of = |client: &mut Client| format!("{:?}", client.read().expect("a reply"));
    for client in readers.iter_mut().chain([&mut members[0], &mut other]) {
        let reply = of(client);
        assert!(reply.contains("first") && !reply.contains("old"), "{reply}");
    }
    client.ok("XADD s 3-1 f second");
    let reply = of(&mut members[1]);
    assert!(reply.contains("second") && !reply.contains("first"), "{reply}");
    assert_eq!(client.line("XPENDING s g").items[0].number(), 2);
    assert_eq!(client.line("XPENDING s other").items[0].number(), 0, "without acknowledgement");
    // From nothing, and from what is there already.
    let mut empty = waiting(&cluster, "XREAD BLOCK 0 STREAMS new $");
    client.ok("XADD new 1-1 f v");
    assert!(of(&mut empty).contains("1-1"));
    assert!(format!("{:?}", client.line("XREAD BLOCK 0 STREAMS s 2-1")).contains("second"));
    assert!(client.line("XREAD BLOCK 10 STREAMS s $").null);
    assert!(client.line("XREADGROUP GROUP g a BLOCK 10 STREAMS s >").null);
    client.ok("SET text v");
    let error = client.line("XREAD BLOCK 0 STREAMS text $").string();
    assert!(error.starts_with("WRONGTYPE"), "{error}");
    let error = client.line("XREADGROUP GROUP none a BLOCK 0 STREAMS s >").string();
    assert!(error.starts_with("NOGROUP"), "{error}");
    let error = client.line("XREAD BLOCK -1 STREAMS s $").string();
    assert_eq!(error, "ERR timeout is negative");
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

/// Members of a group share a stream while servers die: nobody is given what another one was given.
#[test]
fn members_of_a_group_share_a_stream_whoever_dies() {
    const ALL: usize = 1500;
    let mut cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("XGROUP CREATE s g 0 MKSTREAM");
    let port = cluster.proxy.port;
    let given = Arc::new(AtomicU64::new(0));
    let members: Vec<_> = (0..4)
        .map(|who| {
            let given = given.clone();
            thread::spawn(move || {
                let mut got = Vec::new();
                let mut client = Client::connect(port).expect("the proxy is there");
                let line = format!("XREADGROUP GROUP g m{who} COUNT 3 BLOCK 300 STREAMS s >");
                while (given.load(Ordering::Relaxed) as usize) < ALL {
                    let reply = client.line(&line);
                    if reply.is_error() || reply.null {
                        continue;
                    }
                    let entries = &reply.items[0].items[1].items;
                    given.fetch_add(entries.len() as u64, Ordering::Relaxed);
                    got.extend(entries.iter().map(|entry| entry.items[0].string()));
                }
                got
            })
        })
        .collect();
    for n in 0..ALL {
        while client.line(&format!("XADD s {}-1 f v", n + 1)).is_error() {}
        if n % 500 == 250 {
            cluster.servers[n / 500].kill();
        } else if n % 500 == 400 {
            cluster.servers[n / 500].run();
            cluster.proxy.wait_in_sync();
        }
    }
    wait_until("all is given", LONG, || given.load(Ordering::Relaxed) as usize >= ALL);
    let mut all: Vec<String> =
        members.into_iter().flat_map(|member| member.join().expect("it ran")).collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), count), (ALL, ALL), "each entry once");
    assert_eq!(client.line("XPENDING s g").items[0].number() as usize, ALL);
    cluster.assert_equal();
}
