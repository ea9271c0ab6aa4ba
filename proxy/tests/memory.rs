//! Guards against servers that run out of memory: a group stops what needs memory before they are full,
//! memory can be freed even when they are, and one full server holds nobody back.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Server, Setup, Value, assert_equal, wait_until};
use std::sync::atomic::{AtomicUsize, Ordering};

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

fn is_oom(reply: &Value) -> bool {
    reply.kind == b'-' && reply.string() == OOM
}

fn used(server: &Server) -> i64 {
    let info = server.client().ok("INFO memory").string();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("told");
    line.trim().parse().expect("a number")
}

fn limit(server: &Server, bytes: i64) {
    server.client().ok(&format!("CONFIG SET maxmemory {bytes}"));
}

fn wait_full(cluster: &Cluster, full: bool) {
    wait_until(&format!("the group is full: {full}"), LONG, || {
        cluster.proxy.metric("quorate_group_memory_full") == f64::from(u8::from(full))
            && cluster.proxy.group()["memory_full"].as_bool() == Some(full)
    });
}

/// Twenty values of half a megabyte.
fn fill(client: &mut Client) {
    let value = vec![b'x'; 500_000];
    for i in 0..20 {
        let reply = client.call(&[b"SET", format!("big:{i}").as_bytes(), value.as_slice()]);
        assert_eq!(reply.text, b"OK");
    }
}

/// At the watermark nothing that needs memory is taken; reads and what frees memory go on, and then all does.
fn the_watermark_holds(kind: Kind) {
    let cluster = Cluster::start(Setup::new(kind, 3));
    let mut client = cluster.client();
    fill(&mut client);
    client.ok("RPUSH list a b c");
    cluster.assert_equal();
    // Only one is nearly full: the smallest counts.
    limit(&cluster.servers[1], used(&cluster.servers[1]) * 100 / 94);
    wait_full(&cluster, true);
    for line in ["SET k v", "INCR n", "RPUSH list d", "SETEX k 10 v", "ZADD z 1 a"] {
        let reply = client.line(line);
        assert!(is_oom(&reply), "'{line}' is answered {reply:?}");
    }
    assert_eq!(cluster.proxy.metric("quorate_memory_refusals_total"), 5.0);
    assert_eq!(client.line("STRLEN big:0").number(), 500_000);
    assert_eq!(client.line("LPOP list").text, b"a");
    assert_eq!(client.line("EXPIRE list 1000").number(), 1);
    // In one pipeline every command has its own fate, in its own place.
    let replies = client.pipeline(&harness::lines(&["SET a 1", "DEL big:0", "SET a 2", "EXISTS big:0 a"]), 4);
    assert!(is_oom(&replies[0]) && is_oom(&replies[2]), "{replies:?}");
    assert_eq!((replies[1].number(), replies[3].number()), (1, 0));
    assert!(cluster.proxy.metric("quorate_replica_memory_max_bytes") > 0.0);
    assert!(cluster.proxy.metric("quorate_replica_memory_used_bytes") > 0.0);
    for i in 1..10 {
        assert_eq!(client.line(&format!("DEL big:{i}")).number(), 1);
    }
    wait_full(&cluster, false);
    assert_eq!(client.line("SET k v").text, b"OK");
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_backend_refusals_total"), 0.0, "no backend was ever full");
}

#[test]
fn the_watermark_holds_on_redis() {
    the_watermark_holds(Kind::Redis);
}

#[test]
fn the_watermark_holds_on_valkey() {
    the_watermark_holds(Kind::Valkey);
}

/// A full server refuses every transaction, and still must take what frees memory. The replies are those
/// that it gives at any other time.
fn frees_work_on_full_backends(kind: Kind) {
    let restarted = |mut cluster: Cluster| {
        cluster.proxy.kill();
        cluster.proxy.run();
        cluster.proxy.wait_ready();
        cluster.client().ok("SET k w");
        cluster.assert_equal();
    };
    // A short tail is cut often, by scripts too.
    let cluster = Cluster::start(Setup::new(kind, 3).group("tail-entries = 1"));
    let alone = Server::start(kind);
    let mut clients = [cluster.client(), alone.client()];
    let mut resp3 = [cluster.client(), alone.client()];
    resp3.iter_mut().for_each(|client| drop(client.ok("HELLO 3")));
    for client in &mut clients {
        fill(client);
        for line in [
            "MSET a 1 b 2 c 3",
            "RPUSH list a b c d e",
            "SADD set a b c",
            "HSET hash a 1 b 2",
            "ZADD z 1 a 2.5 b 3 c",
            "XADD stream 1-1 f v",
        ] {
            client.ok(line);
        }
    }
    cluster.assert_equal();
    cluster.servers.iter().for_each(|server| limit(server, 1));
    let frees = [
        "DEL a big:0 nothing",
        "PUBLISH nobody hello",
        "SPUBLISH nobody hello",
        "UNLINK b",
        "LPOP list",
        "RPOP list",
        "LPOP nothing",
        "LPOP set",
        "LTRIM list 0 0",
        "LREM list 0 c",
        "SREM set a x",
        "SMOVE set other b",
        "HDEL hash a",
        "ZREM z a",
        "ZREMRANGEBYSCORE z 2 2.5",
        "GETDEL c",
        "GETDEL nothing",
        "EXPIRE big:1 1000",
        "PERSIST big:1",
        "RENAME big:2 big:3",
        "RENAME nothing big:3",
        "XDEL stream 1-1",
        "XTRIM stream MAXLEN 0",
    ];
    for (i, line) in frees.iter().enumerate() {
        let pair = if i % 2 == 0 { &mut clients } else { &mut resp3 };
        let [through, direct] = pair.each_mut().map(|client| client.line(line));
        assert_eq!(through, direct, "'{line}'");
        let [through, direct] = pair.each_mut().map(|client| client.line("ZCARD z"));
        assert_eq!(through, direct, "a read behind '{line}'");
    }
    // Wherever it was refused: the client reads the server's own words.
    let reply = clients[0].line("SET k v");
    assert!(is_oom(&reply), "{reply:?}");
    wait_full(&cluster, true);
    assert_eq!(clients[0].line("ZPOPMIN z").strings(), ["c", "3"]);
    assert_eq!(clients[0].line("DEL big:4").number(), 1);
    cluster.assert_equal();
    let kept = |server: &Server| {
        ["GET __quorate:{g}:pos", "LRANGE __quorate:{g}:tail 0 -1"].map(|l| server.client().ok(l))
    };
    let first = kept(&cluster.servers[0]);
    assert!(first[1].items.len() < frees.len(), "the tail is cut");
    assert!(cluster.servers.iter().all(|server| kept(server) == first), "positions and tails are equal");
    cluster.servers.iter().for_each(|server| limit(server, 0));
    wait_full(&cluster, false);
    assert_eq!(clients[0].line("SET k v").text, b"OK");
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
    // What scripts wrote is a log like any other.
    restarted(cluster);
}

#[test]
fn frees_work_on_full_redis() {
    frees_work_on_full_backends(Kind::Redis);
}

#[test]
fn frees_work_on_full_valkey() {
    frees_work_on_full_backends(Kind::Valkey);
}

/// Two of three are enough: the full one is behind until it has memory, and then has everything.
#[test]
fn one_full_backend_holds_nobody_back() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    fill(&mut client);
    limit(&cluster.servers[2], 1);
    for i in 0..200 {
        client.ok(&format!("SET k:{i} {i}"));
        assert_eq!(client.line(&format!("DEL k:{}", i / 2)).number(), i64::from(i % 2 == 0));
    }
    wait_until("the full one is told to be", LONG, || cluster.proxy.states()[2] == "lagging");
    wait_until("its limit is told", LONG, || {
        cluster.proxy.group()["replicas"][2]["memory_max"].as_i64() == Some(1)
    });
    assert_eq!(cluster.proxy.metric("quorate_group_memory_full"), 0.0);
    client.ok("SET k v");
    limit(&cluster.servers[2], 0);
    cluster.assert_equal();
    // And what was refused then shares entries again: nothing else changed.
    client.ok("SET k w");
    assert_equal(&cluster.servers);
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

/// With all of them needed, one full backend is enough to stop what needs memory before it hangs.
#[test]
fn a_full_backend_that_is_needed_stops_what_needs_memory() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group("write-quorum = \"all\""));
    let mut client = cluster.client();
    fill(&mut client);
    limit(&cluster.servers[0], 1);
    wait_full(&cluster, true);
    let reply = client.line("SET k v");
    assert!(is_oom(&reply), "{reply:?}");
    assert_eq!(client.line("DEL big:0").number(), 1);
    limit(&cluster.servers[0], 0);
    wait_full(&cluster, false);
    client.ok("SET k v");
    cluster.assert_equal();
}

/// In the moment in which memory ends, what frees it may share an entry with what needs it, and is not
/// refused with it.
#[test]
fn frees_are_not_refused_with_what_needs_memory() {
    const KEYS: usize = 3000;
    let cluster = Cluster::start(Setup::new(Kind::Redis, 1));
    let mut client = cluster.client();
    for i in 0..KEYS {
        client.ok(&format!("MSET a:{i} 1 b:{i} 1"));
    }
    let freed = AtomicUsize::new(0);
    let (kept, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let (mut client, freed, kept) = (cluster.client(), &freed, &kept);
            scope.spawn(move || {
                for i in 0..KEYS {
                    let reply = client.line(&format!("DEL {name}:{i}"));
                    kept.fetch_add(usize::from(reply.text != b"1"), Ordering::Relaxed);
                    freed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for name in 0..6 {
            let (mut client, freed, refused) = (cluster.client(), &freed, &refused);
            scope.spawn(move || {
                while freed.load(Ordering::Relaxed) < 2 * KEYS {
                    let reply = client.line(&format!("SET s:{name} 1"));
                    assert!(reply.text == b"OK" || is_oom(&reply), "{reply:?}");
                    refused.fetch_add(usize::from(is_oom(&reply)), Ordering::Relaxed);
                }
            });
        }
        wait_until("some are freed", LONG, || freed.load(Ordering::Relaxed) > 200);
        limit(&cluster.servers[0], 1);
    });
    assert!(refused.load(Ordering::Relaxed) > 0, "it was full");
    assert_eq!(kept.load(Ordering::Relaxed), 0, "keys that could not be deleted");
    limit(&cluster.servers[0], 0);
    wait_full(&cluster, false);
    client.ok("SET k v");
}

#[test]
fn a_full_server_can_be_flushed() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let cluster = Cluster::start(Setup::new(kind, 3).group("memory-watermark = 1.0"));
        let mut client = cluster.client();
        fill(&mut client);
        cluster.assert_equal();
        for server in &cluster.servers {
            limit(server, used(server) - 100_000);
        }
        assert!(is_oom(&client.line("SET more x")));
        client.ok("FLUSHALL");
        assert_eq!(client.line("DBSIZE").number(), 0);
        wait_until("there is room", LONG, || !client.line("SET more x").is_error());
        cluster.assert_equal();
    }
}

/// One server did it, and then all refuse to hold what it did: nobody may say that it was not done.
#[test]
fn what_ran_where_no_memory_is_left_is_not_said_to_be_refused() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group("memory-watermark = 1.0"));
    let mut client = cluster.client();
    fill(&mut client);
    cluster.assert_equal();
    // The first one has room when the script begins, and none for the entry of what it did.
    let room = [used(&cluster.servers[0]) + 100_000, 1, 1];
    cluster.servers.iter().zip(room).for_each(|(server, bytes)| limit(server, bytes));
    let script = "return redis.call('SET',KEYS[1],string.rep('x',300000))";
    let reply = client.call(&["EVAL", script, "1", "k"]).string();
    assert_eq!(
        reply,
        "UNKNOWN OOM command not allowed when used memory > 'maxmemory'; it may take effect on all replicas; check \
         before retrying"
    );
    cluster.servers.iter().for_each(|server| limit(server, 0));
    wait_until("it is written to again", LONG, || !client.line("SET other v").is_error());
    cluster.assert_equal();
    assert_eq!(client.line("EXISTS k").number(), 0, "it was undone where it ran");
}
