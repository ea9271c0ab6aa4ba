//! Guards against lost, doubled and ghost writes, hangs and replicas that never come back: servers and
//! the proxy are killed, stopped and restarted under load, and every answer is held against the data.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Load, Record, Server, Setup, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WRITERS: usize = 6;
/// Rounds of five writes that are acknowledged before and after each fault.
const SOME: u64 = 600;
/// No write of a client that waits for one answer at a time takes longer while a majority is up.
const BOUND: Duration = Duration::from_millis(1500);

/// All are in sync again, equal, and hold what was acknowledged.
#[track_caller]
fn healed(cluster: &Cluster, record: &Record) {
    cluster.assert_equal();
    record.check(&mut cluster.client());
    for server in &cluster.servers {
        record.check(&mut server.client());
    }
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0, "replicas answered differently");
}

#[track_caller]
fn nobody_noticed(record: &Record) {
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    let (slowest, what) = record.slowest();
    assert!(slowest < BOUND, "{what} took {slowest:?}");
}

fn wait_state(cluster: &Cluster, replica: usize, wanted: &[&str]) {
    wait_until(&format!("replica {} is {wanted:?}", replica + 1), LONG, || {
        cluster.proxy.states().get(replica).is_some_and(|state| wanted.contains(&state.as_str()))
    });
}

/// A kernel that kills a backend: nobody notices, and it catches up.
fn a_backend_is_killed(kind: Kind) {
    let mut cluster = Cluster::start(Setup::new(kind, 3));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    for victim in 0..3 {
        load.wait_acked(SOME);
        cluster.servers[victim].kill();
        wait_state(&cluster, victim, &["down"]);
        load.wait_acked(SOME);
        cluster.servers[victim].run();
        cluster.proxy.wait_in_sync();
    }
    load.wait_acked(SOME);
    let record = load.stop();
    healed(&cluster, &record);
    nobody_noticed(&record);
}

#[test]
fn a_redis_is_killed_and_comes_back() {
    a_backend_is_killed(Kind::Redis);
}

#[test]
fn a_valkey_is_killed_and_comes_back() {
    a_backend_is_killed(Kind::Valkey);
}

/// A backend that keeps its connection and says nothing: the worst kind of slow.
#[test]
fn a_backend_is_frozen_and_thaws() {
    let cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    for victim in 0..3 {
        load.wait_acked(SOME);
        cluster.servers[victim].pause();
        wait_state(&cluster, victim, &["down", "lagging"]);
        load.wait_acked(SOME);
        cluster.servers[victim].resume();
        cluster.proxy.wait_in_sync();
    }
    load.wait_acked(SOME);
    let record = load.stop();
    healed(&cluster, &record);
    nobody_noticed(&record);
}

/// A freeze that is too short to be noticed: what was half sent must not be sent twice.
#[test]
fn a_backend_stutters() {
    let cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    for turn in 0..12 {
        let server = &cluster.servers[turn % 3];
        server.pause();
        load.wait_acked(SOME / 10);
        server.resume();
        load.wait_acked(SOME / 10);
    }
    let record = load.stop();
    healed(&cluster, &record);
    nobody_noticed(&record);
}

#[test]
fn a_backend_is_restarted() {
    let mut cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    for victim in [0, 1, 2, 0] {
        load.wait_acked(SOME);
        cluster.servers[victim].stop();
        cluster.servers[victim].run();
        wait_state(&cluster, victim, &["in-sync"]);
        cluster.proxy.wait_in_sync();
    }
    let record = load.stop();
    healed(&cluster, &record);
    nobody_noticed(&record);
}

/// The proxy dies with requests on their way. It must find out what was acknowledged, from the
/// backends alone.
fn the_proxy_is_killed(forget: bool, setup: Setup) {
    let mut cluster = Cluster::start(setup);
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    for _ in 0..3 {
        load.wait_acked(SOME);
        cluster.proxy.kill();
        if forget {
            cluster.proxy.forget();
        }
        cluster.proxy.run();
        load.wait_acked(SOME);
    }
    let record = load.stop();
    cluster.proxy.wait_ready();
    healed(&cluster, &record);
}

#[test]
fn the_proxy_is_killed_and_remembers() {
    the_proxy_is_killed(false, Setup::new(Kind::Redis, 3));
}

#[test]
fn the_proxy_is_killed_and_forgets() {
    the_proxy_is_killed(true, Setup::new(Kind::Redis, 3));
}

#[test]
fn the_proxy_of_all_of_two_is_killed() {
    the_proxy_is_killed(false, Setup::new(Kind::Redis, 2).group("write-quorum = \"all\""));
}

#[test]
fn the_proxy_of_one_is_killed() {
    the_proxy_is_killed(true, Setup::new(Kind::Redis, 1));
}

/// The proxy dies while a backend is away: the backend has a suffix that nobody else may know, or
/// lacks one that was acknowledged without it.
#[test]
fn the_proxy_is_killed_while_a_backend_is_down() {
    let mut cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    for victim in 0..3 {
        load.wait_acked(SOME);
        cluster.servers[victim].pause();
        load.wait_acked(SOME / 10);
        cluster.proxy.kill();
        cluster.proxy.run();
        load.wait_acked(SOME / 10);
        cluster.servers[victim].resume();
        cluster.proxy.wait_ready();
        cluster.proxy.wait_in_sync();
    }
    let record = load.stop();
    healed(&cluster, &record);
}

/// The same, and the backend is down for the whole of the take-over and longer than the tail reaches.
#[test]
fn everything_is_killed_at_once() {
    let mut cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    cluster.proxy.kill();
    cluster.servers.iter_mut().for_each(|server| server.kill());
    cluster.servers.iter_mut().for_each(|server| server.run());
    cluster.proxy.run();
    load.wait_acked(SOME);
    let record = load.stop();
    cluster.proxy.wait_ready();
    healed(&cluster, &record);
}

/// Without a quorum every request is refused in time, and none of them comes true later.
#[test]
fn a_lost_quorum_refuses_in_time_and_recovers() {
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 3).group("deadline = \"1s\""));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    cluster.servers[1].kill();
    cluster.servers[2].kill();
    wait_until("the proxy says that it cannot write", LONG, || cluster.proxy.page("/readyz").0 == 503);
    let mut client = cluster.client();
    for i in 0..5 {
        let start = Instant::now();
        let reply = client.line(&format!("SET lost:{i} x"));
        let text = reply.string();
        assert!(reply.is_error() && text.starts_with("NOTAPPLIED"), "a write without a quorum got {reply:?}");
        assert!(text.contains("1 of 3 replicas"), "{text}");
        assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
    }
    cluster.servers[2].run();
    load.wait_acked(SOME);
    cluster.servers[1].run();
    let record = load.stop();
    healed(&cluster, &record);
    for i in 0..5 {
        let reply = client.line(&format!("GET lost:{i}"));
        assert!(reply.null, "a refused write came true: {reply:?}");
    }
    let known = |e: &String| e.starts_with("NOTAPPLIED") || e.starts_with("UNKNOWN");
    assert!(record.errors().iter().all(known), "{:?}", record.errors());
    let (slowest, what) = record.slowest();
    assert!(slowest < Duration::from_secs(5), "{what} took {slowest:?}");
}

/// With two of three frozen nothing is known to be down: still nobody may wait for ever.
#[test]
fn a_frozen_majority_does_not_hang_clients() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group("deadline = \"1s\""));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    cluster.servers[0].pause();
    cluster.servers[1].pause();
    let mut client = cluster.client();
    for line in ["SET k v", "GET k", "INCR n"] {
        let start = Instant::now();
        let reply = client.line(line);
        assert!(start.elapsed() < Duration::from_secs(4), "{line} took {:?}: {reply:?}", start.elapsed());
    }
    wait_until("the proxy says that it cannot write", LONG, || cluster.proxy.page("/readyz").0 == 503);
    cluster.servers[0].resume();
    cluster.servers[1].resume();
    load.wait_acked(SOME);
    let record = load.stop();
    healed(&cluster, &record);
    let (slowest, what) = record.slowest();
    assert!(slowest < Duration::from_secs(5), "{what} took {slowest:?}");
}

/// A backend whose disk was lost must not be taken for one that has everything.
#[test]
fn a_wiped_backend_is_never_a_source() {
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 3).group("reseed = \"manual\""));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    cluster.servers[0].wipe();
    cluster.servers[0].run();
    load.wait_acked(SOME);
    // It may be fed from the beginning of the log, or wait for a copy; it must not answer reads from nothing.
    let record = load.stop();
    record.check(&mut cluster.client());
    wait_state(&cluster, 0, &["in-sync", "stale"]);
    if cluster.proxy.states()[0] == "in-sync" {
        healed(&cluster, &record);
    } else {
        assert!(cluster.proxy.problems()[0].contains("blank"), "{:?}", cluster.proxy.problems());
        harness::assert_equal(&cluster.servers[1..]);
    }
    cluster.proxy.kill();
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    record.check(&mut cluster.client());
}

/// A backend out of memory refuses what the others took: it must leave, not pretend.
#[test]
fn a_backend_without_memory_leaves_and_returns() {
    let cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    let mut direct = cluster.servers[1].client();
    direct.ok("CONFIG SET maxmemory-policy noeviction");
    direct.ok("CONFIG SET maxmemory 1");
    wait_state(&cluster, 1, &["down", "lagging"]);
    load.wait_acked(SOME);
    direct.ok("CONFIG SET maxmemory 0");
    let record = load.stop();
    healed(&cluster, &record);
    nobody_noticed(&record);
}

/// A disk that lost its last seconds: the backend is behind, and must be fed what it forgot.
#[test]
fn a_backend_forgets_its_last_writes() {
    let mut cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    for victim in 0..3 {
        load.wait_acked(SOME);
        let copy = cluster.servers[victim].copy_data();
        load.wait_acked(SOME);
        cluster.servers[victim].kill_and_forget(&copy);
        cluster.servers[victim].run();
        cluster.proxy.wait_in_sync();
    }
    let record = load.stop();
    healed(&cluster, &record);
    nobody_noticed(&record);
}

/// A was one of the two that acknowledged, and forgot; B was frozen and never knew; C is away. A and B
/// are a majority and still must not serve: only C has what was acknowledged.
#[test]
fn a_forgetful_majority_waits_for_the_one_who_knows() {
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 3).group("tail-entries = 100000"));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    let copy = cluster.servers[0].copy_data();
    cluster.servers[1].pause();
    load.wait_acked(SOME);
    cluster.proxy.kill();
    let record = load.stop();
    cluster.servers[0].kill_and_forget(&copy);
    cluster.servers[2].kill();
    cluster.servers[0].run();
    cluster.servers[1].resume();
    cluster.proxy.run();
    let mut looks = 0;
    wait_until("both are attached for a while", LONG, || {
        assert_ne!(cluster.proxy.page("/readyz").0, 200, "it serves without the one who knows");
        let states = cluster.proxy.states();
        if states.len() == 3 && states[0] != "down" && states[1] != "down" {
            looks += 1;
        }
        looks >= 100
    });
    cluster.servers[2].run();
    cluster.proxy.wait_ready();
    healed(&cluster, &record);
}

/// More was missed than the log in memory holds: it must say so, and not pretend to be equal.
#[test]
fn a_backend_that_missed_too_much_is_stale() {
    let setup = Setup::new(Kind::Redis, 3).group("log-memory = \"1MiB\"\nhints = false\nreseed = \"manual\"");
    let mut cluster = Cluster::start(setup);
    // One that was lost before it took the first entry is blank, which is another reason.
    cluster.proxy.wait_in_sync();
    cluster.servers[2].kill();
    wait_state(&cluster, 2, &["down"]);
    let mut client = cluster.client();
    let value = "x".repeat(64 << 10);
    for i in 0..100 {
        assert_eq!(client.call(&["SET", &format!("k{i}"), &value]).text, b"OK");
    }
    assert!(cluster.proxy.group()["log_bytes"].as_u64() < Some(3 << 20), "{}", cluster.proxy.group());
    cluster.servers[2].run();
    wait_state(&cluster, 2, &["stale", "in-sync"]);
    if cluster.proxy.states()[2] == "in-sync" {
        return cluster.assert_equal();
    }
    wait_until("status says why, and what to do", LONG, || {
        let problem = &cluster.proxy.problems()[2];
        problem.contains("missed more") && problem.contains("quorate reseed --group g --replica r3")
    });
    assert_eq!(client.line("SET still yes").text, b"OK");
    harness::assert_equal(&cluster.servers[..2]);
    // A stale one does not count, and is not read.
    cluster.servers[1].kill();
    wait_until("a stale replica is no quorum", LONG, || cluster.proxy.page("/readyz").0 == 503);
}

/// Writes that nobody can take must not pile up without end.
#[test]
fn a_flood_without_a_quorum_is_refused() {
    let setup = Setup::new(Kind::Redis, 3).group("queue-memory = \"8MiB\"\ndeadline = \"3s\"");
    let mut cluster = Cluster::start(setup);
    cluster.servers[1].kill();
    cluster.servers[2].kill();
    wait_until("the proxy says that it cannot write", LONG, || cluster.proxy.page("/readyz").0 == 503);
    let value = "x".repeat(100 << 10);
    let bytes: Vec<u8> =
        (0..400).flat_map(|i| harness::encode(&["SET", &format!("flood:{i}"), &value])).collect();
    let replies = cluster.client().pipeline(&bytes, 400);
    assert!(replies.iter().all(|r| r.string().starts_with("NOTAPPLIED")), "{:?}", replies[0]);
    let overloaded = replies.iter().filter(|r| r.string().contains("too many")).count();
    assert!(overloaded > 0, "{:?}", replies[399]);
    cluster.servers[1].run();
    cluster.servers[2].run();
    cluster.proxy.wait_in_sync();
    assert_eq!(cluster.client().line("DBSIZE").number(), 0, "a refused write came true");
}

/// The proxy itself is stopped for a while, as by a debugger or a suspended machine.
#[test]
fn the_proxy_is_frozen_and_thaws() {
    let cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    for _ in 0..3 {
        load.wait_acked(SOME);
        harness::signal(cluster.proxy.pid(), "STOP");
        // The backends live on, and time passes for the proxy.
        let start = Instant::now();
        let mut direct = cluster.servers[0].client();
        wait_until("time has passed", LONG, || {
            direct.ok("PING");
            start.elapsed() > Duration::from_millis(2500)
        });
        harness::signal(cluster.proxy.pid(), "CONT");
        load.wait_acked(SOME);
    }
    let record = load.stop();
    healed(&cluster, &record);
}

/// Deep pipelines over a backend's death: answers stay in order, one for each request.
#[test]
fn pipelines_survive_a_killed_backend() {
    let mut cluster = Cluster::usual();
    let port = cluster.proxy.port;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let pipeliner = std::thread::spawn(move || {
        let mut client = Client::connect(port).expect("connects");
        let mut value = 0;
        while !stopped.load(Ordering::Relaxed) {
            let bytes: Vec<u8> = (0..200).flat_map(|_| harness::lines(&["INCR n", "GET n"])).collect();
            let replies = client.pipeline(&bytes, 400);
            for pair in replies.chunks(2) {
                assert!(!pair[0].is_error(), "a majority was there: {pair:?}");
                value += 1;
                assert_eq!(pair[0].number(), value);
                // A read may be refused when its replica is lost after the session wrote on.
                let refused = pair[1].string().starts_with("NOTAPPLIED");
                assert!(
                    refused || pair[1].number() == value,
                    "after INCR gave {value}, GET gave {:?}",
                    pair[1]
                );
            }
        }
        value
    });
    for turn in 0..9 {
        cluster.servers[turn % 3].crash_and_run();
        wait_state(&cluster, turn % 3, &["in-sync"]);
        cluster.proxy.wait_in_sync();
    }
    stop.store(true, Ordering::Relaxed);
    let value = pipeliner.join().expect("every reply was right");
    assert_eq!(cluster.client().line("GET n").number(), value);
    cluster.assert_equal();
}

/// A server whose file was rewritten while it ran leaves a hole in it when the disk is full for a while, and could not
/// load it: the proxy has it written anew as soon as there is room.
fn a_full_disk_leaves_nothing_behind(kind: Kind) {
    let mut cluster = Cluster::start(Setup::new(kind, 3));
    let mut client = cluster.client();
    client.ok("SET before 1");
    let server = &cluster.servers[0];
    server.client().ok("BGREWRITEAOF");
    let last = || {
        let mut parts = server.append_only_parts();
        parts.retain(|(name, _)| name.ends_with(".incr.aof"));
        parts.sort();
        parts.pop().expect("there is one")
    };
    wait_until("the file is rewritten", LONG, || last().0.contains(".2.") && rewritten(server));
    for i in 0..10 {
        client.ok(&format!("SET before:{i} {i}"));
    }
    wait_state(&cluster, 0, &["in-sync"]);
    server.limit_files(Some(last().1.len() as u64 + 100));
    wait_until("its disk is full and it says so", LONG, || {
        client.ok("INCR meanwhile");
        cluster.proxy.metric("quorate_backend_refusals_total") > 0.0
    });
    server.limit_files(None);
    wait_until("its file is whole", LONG, || rewritten(server) && !last().1.contains(&0));
    client.ok("SET after 1");
    cluster.proxy.wait_in_sync();
    cluster.servers[0].crash_and_run();
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
}

fn rewritten(server: &Server) -> bool {
    let info = server.client().line("INFO persistence").string();
    ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0", "aof_last_write_status:ok"]
        .iter()
        .all(|field| info.contains(field))
}

#[test]
fn a_full_disk_leaves_nothing_behind_on_redis() {
    a_full_disk_leaves_nothing_behind(Kind::Redis);
}

#[test]
fn a_full_disk_leaves_nothing_behind_on_valkey() {
    a_full_disk_leaves_nothing_behind(Kind::Valkey);
}
