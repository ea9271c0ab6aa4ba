//! Keys end in the order of the log, at the proxy's time: real servers, whose own clocks play no part.

mod harness;

use harness::{Cluster, Kind, LONG, Proxy, Server, Setup, wait_until};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What no clock of a backend reaches.
const SET_BACK: i64 = 1 << 52;

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64)
}

#[test]
fn a_key_ends_on_time_and_on_all() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let cluster = Cluster::start(Setup::new(kind, 3));
        let mut client = cluster.client();
        client.ok("SET k v PX 400");
        let until = unix_ms() + 400;
        let left = client.line("PTTL k").number();
        assert!((1..=400).contains(&left), "{left}");
        for server in &cluster.servers {
            let kept = server.client().line("PEXPIRETIME k").number();
            assert!((kept - SET_BACK - until).abs() < 400, "{kept}");
        }
        wait_until("it ends", LONG, || client.line("GET k").null);
        assert!(unix_ms() >= until - 1, "not before its time");
        for server in &cluster.servers {
            wait_until("it is gone there", LONG, || server.client().line("EXISTS k").number() == 0);
        }
        wait_until("it is forgotten", LONG, || cluster.proxy.metric("quorate_timed_keys") == 0.0);
        cluster.assert_equal();
    }
}

/// Whoever gets the lock holds it for its whole time, and the next one gets it when that is over.
#[test]
fn a_lock_is_held_by_one_and_for_its_time() {
    let cluster = Cluster::usual();
    let port = cluster.proxy.port;
    let holders: Vec<_> = (0..4)
        .map(|who| {
            std::thread::spawn(move || {
                let mut client = harness::Client::connect(port).expect("the proxy listens");
                let mut held = Vec::new();
                let end = Instant::now() + Duration::from_secs(3);
                while Instant::now() < end {
                    let asked = Instant::now();
                    if !client.line(&format!("SET lock {who} NX PX 30")).null {
                        held.push((asked, Instant::now()));
                    }
                }
                held
            })
        })
        .collect();
    let mut held: Vec<(Instant, Instant)> =
        holders.into_iter().flat_map(|thread| thread.join().expect("it ran")).collect();
    held.sort();
    assert!(held.len() > 30, "{}", held.len());
    for pair in held.windows(2) {
        // The time begins when the proxy reads the request; the next request is granted at its end.
        let apart = pair[1].1.saturating_duration_since(pair[0].0);
        assert!(apart >= Duration::from_millis(30), "{apart:?}");
    }
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

#[test]
fn deadlines_survive_the_proxy_and_its_disk() {
    let mut cluster = Cluster::usual();
    let mut client = cluster.client();
    for i in 0..500 {
        client.ok(&format!("SET short{i} v PX 1500"));
        client.ok(&format!("SET long{i} v EX 1000"));
        client.ok(&format!("SET none{i} v"));
    }
    cluster.proxy.kill();
    cluster.proxy.forget();
    let ended = Instant::now() + Duration::from_millis(1600);
    wait_until("the short ones should end", LONG, || Instant::now() > ended);
    let mut direct = cluster.servers[0].client();
    assert_eq!(direct.line("EXISTS short1").number(), 1, "nobody was there to end it");
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    let mut client = cluster.client();
    for i in 0..500 {
        assert!(client.line(&format!("GET short{i}")).null, "short{i}");
        assert_eq!(client.line(&format!("GET long{i}")).string(), "v");
        let left = client.line(&format!("TTL long{i}")).number();
        assert!((900..=1000).contains(&left), "{left}");
        assert_eq!(client.line(&format!("TTL none{i}")).number(), -1);
    }
    wait_until("all are known", LONG, || cluster.proxy.metric("quorate_timed_keys") == 500.0);
    cluster.assert_equal();
}

#[test]
fn servers_with_deadlines_of_their_own_are_taken_over() {
    let servers: Vec<Server> = (0..3).map(|_| Server::start(Kind::Redis)).collect();
    let soon = unix_ms() + 3000;
    for server in &servers {
        let mut client = server.client();
        client.ok(&format!("SET soon v PXAT {soon}"));
        client.ok(&format!("SET later v PXAT {}", soon + 1_000_000));
        client.ok("SET far v PXAT 99999999999999");
        client.ok("SET none v");
    }
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 3), &harness::ports(&servers));
    proxy.wait_ready();
    let mut client = proxy.client();
    assert_eq!(client.line("PEXPIRETIME later").number(), soon + 1_000_000);
    assert_eq!(client.line("PEXPIRETIME far").number(), 99_999_999_999_999);
    assert_eq!(client.line("TTL none").number(), -1);
    for server in &servers {
        let mut direct = server.client();
        wait_until("it is set back", LONG, || {
            direct.line("PEXPIRETIME later").number() == soon + 1_000_000 + SET_BACK
        });
    }
    wait_until("it ends", LONG, || client.line("GET soon").null);
    assert!(unix_ms() >= soon, "not before its time");
    assert_eq!(client.line("GET later").string(), "v");
    harness::assert_equal(&servers);
}

#[test]
fn a_deadline_goes_with_the_value_and_away_with_it() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("SET a v PX 500");
    client.ok("COPY a b");
    client.ok("RENAME a c");
    client.ok("SET d v PX 500");
    client.ok("PERSIST d");
    client.ok("SET e v PX 500");
    client.ok("SET e w");
    client.ok("SET f v PX 500");
    client.ok("SET f w KEEPTTL");
    client.ok("SET g v PX 500");
    client.ok("EXPIRE g 1000 GT");
    client.ok("SET h v PX 500");
    client.ok("PEXPIRE h 900000 LT");
    for key in ["b", "c", "f", "h"] {
        wait_until(key, LONG, || client.line(&format!("EXISTS {key}")).number() == 0);
    }
    for key in ["d", "e", "g"] {
        assert_eq!(client.line(&format!("EXISTS {key}")).number(), 1, "{key}");
    }
    assert_eq!(client.line("TTL d").number(), -1);
    assert_eq!(client.line("TTL e").number(), -1);
    assert!(client.line("TTL g").number() > 900);
    assert_eq!(client.line("TTL nothing").number(), -2);
    cluster.assert_equal();
}

/// Nobody has looked at the source since its time was over; whoever moves it comes behind its end all the same.
#[test]
fn what_has_ended_is_not_moved() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let soon = unix_ms() + 300;
    let moves = ["RENAME", "RENAMENX", "COPY"];
    for at in 0..40 {
        client.ok(&format!("SET from{at} v PXAT {soon}"));
        client.ok(&format!("SET longer{at} v PXAT {soon}"));
        client.ok(&format!("PEXPIREAT longer{at} {}", soon + 300));
    }
    // The proxy looks at its clock once a turn.
    wait_until("their time", LONG, || unix_ms() > soon + 1);
    let lines: Vec<String> = (0..40)
        .flat_map(|at| {
            let word = moves[at % 3];
            [format!("{word} from{at} to{at}"), format!("{word} longer{at} later{at}")]
        })
        .collect();
    let text: Vec<&str> = lines.iter().map(String::as_str).collect();
    let answers = client.pipeline(&harness::lines(&text), lines.len());
    for (at, pair) in answers.chunks(2).enumerate() {
        match moves[at % 3] {
            "COPY" => assert_eq!((pair[0].number(), pair[1].number()), (0, 1), "{at}"),
            _ => {
                assert_eq!(pair[0].string(), "ERR no such key", "{at}");
                assert!(!pair[1].is_error(), "{at}: {:?}", pair[1]);
            }
        }
    }
    wait_until("what was moved ends too", LONG, || client.line("DBSIZE").number() == 0);
    assert!(unix_ms() >= soon + 300, "not before its time");
    cluster.assert_equal();
}

/// A hundred thousand keys end in the same moment: nobody who asks for something else waits for them.
#[test]
fn many_keys_end_at_once() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let until = unix_ms() + 4000;
    for part in 0..100 {
        let bytes: Vec<u8> =
            (0..1000).flat_map(|i| harness::lines(&[&format!("SET k{part}:{i} v PXAT {until}")])).collect();
        client.pipeline(&bytes, 1000);
    }
    client.ok("SET other 1");
    // The proxy looks at its clock once a turn, and a turn may have begun before.
    wait_until("their time", LONG, || unix_ms() >= until + 100);
    assert!(client.line("GET k99:999").null, "it has ended, whether or not somebody came to it");
    let mut asked = 0;
    while client.line("DBSIZE").number() > 1 {
        assert_eq!(client.line("INCR other").number(), asked + 2);
        asked += 1;
        assert!(unix_ms() < until + 30_000, "they end");
    }
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

/// A server that takes no more writes must be able to let go of what has ended.
#[test]
fn keys_end_on_servers_that_are_full() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let cluster = Cluster::start(Setup::new(kind, 3).group("memory-watermark = 1.0"));
        let mut client = cluster.client();
        let value = "x".repeat(100_000);
        for i in 0..100 {
            client.ok(&format!("SET k{i} {value}"));
        }
        cluster.assert_equal();
        for server in &cluster.servers {
            let info = server.client().ok("INFO memory").string();
            let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("told");
            let used: u64 = used.trim().parse().expect("a number");
            server.client().ok(&format!("CONFIG SET maxmemory {}", used - 100_000));
        }
        assert!(client.line("SET more x").is_error(), "they are full");
        for i in 0..100 {
            assert_eq!(client.line(&format!("PEXPIRE k{i} 200")).number(), 1);
        }
        wait_until("all have ended", LONG, || client.line("DBSIZE").number() == 0);
        wait_until("there is room", LONG, || !client.line("SET more x").is_error());
        cluster.assert_equal();
    }
}

#[test]
fn deadlines_are_given_back_to_servers_that_go_on_alone() {
    let mut cluster = Cluster::usual();
    let mut client = cluster.client();
    let until = unix_ms() + 100_000;
    client.ok(&format!("SET k v PXAT {until}"));
    client.ok("SET none v");
    let config = cluster.proxy.config();
    let release = || harness::Finished::of(harness::quorate().args(["release", "-c"]).arg(&config));
    let refused = release();
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("a proxy is attached to it; stop the proxy first"), "{refused:?}");
    cluster.proxy.kill();
    let released = release();
    assert_eq!(released.code, Some(0), "{released:?}");
    assert_eq!(released.out.matches("1 deadlines given back").count(), 3, "{released:?}");
    for server in &cluster.servers {
        assert_eq!(server.client().line("PEXPIRETIME k").number(), until);
        assert_eq!(server.client().line("TTL none").number(), -1);
    }
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    assert_eq!(cluster.client().line("PEXPIRETIME k").number(), until);
}
