//! Guards against copies through the proxy that lack a write, revive a deleted key, lose a deadline or mix two
//! servers' runs: a stale replica that cannot reach the others gets a copy key by key while traffic goes on.

mod harness;

use harness::{Client, Cluster, Finished, Kind, LONG, Load, Record, Setup, quorate, wait_until};
use serde_json::Value as Json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const WRITERS: usize = 3;
const SOME: u64 = 300;
/// The one that goes stale.
const VICTIM: usize = 2;
/// Keys beside those of the writers.
const KEYS: usize = 3_000;

/// Copies through the proxy only, so many bytes a second: a key counts as 1 KiB.
fn setup(kind: Kind, replicas: usize, rate: &str) -> Setup {
    let group =
        format!("log-memory = \"1MiB\"\nhints = false\nreseed-by = \"scan\"\nreseed-rate = \"{rate}\"");
    Setup::new(kind, replicas).group(&group)
}

fn fill(cluster: &Cluster) {
    let mut client = cluster.client();
    for page in (0..KEYS).collect::<Vec<_>>().chunks(500) {
        let sets: Vec<u8> =
            page.iter().flat_map(|i| harness::encode(&["SET", &format!("k{i}"), &format!("v{i}")])).collect();
        assert!(client.pipeline(&sets, page.len()).iter().all(|reply| reply.text == b"OK"));
    }
}

/// Takes the victim's data away, and brings it back blank.
fn lose_disk(cluster: &mut Cluster) {
    cluster.servers[VICTIM].wipe();
    wait_until("the victim is down", LONG, || cluster.proxy.states()[VICTIM] == "down");
    // A blank server could be fed from the beginning of a log that is still whole.
    let (mut client, value) = (cluster.client(), "x".repeat(64 << 10));
    for _ in 0..40 {
        assert_eq!(client.call(&["SET", "roll", &value]).text, b"OK");
    }
    cluster.servers[VICTIM].run();
}

fn victim(cluster: &Cluster) -> Json {
    cluster.proxy.group()["replicas"][VICTIM].clone()
}

#[track_caller]
fn wait_outcome(cluster: &Cluster, outcome: &str) {
    wait_until(&format!("a reseed ended as {outcome}"), LONG, || {
        victim(cluster)["last_reseed"]["outcome"] == outcome
    });
}

/// Waits until some keys were copied.
#[track_caller]
fn wait_under_way(cluster: &Cluster) -> Json {
    let mut seen = Json::Null;
    wait_until("some keys were copied", LONG, || {
        seen = victim(cluster)["reseed"].clone();
        seen["keys"].as_u64() > Some(200)
    });
    assert_eq!(seen["way"], "scan");
    seen
}

/// Which server `rN` is.
fn source(progress: &Json) -> usize {
    let name = progress["source"].as_str().unwrap_or_default();
    name[1..].parse::<usize>().expect("r and a number") - 1
}

fn reseed(cluster: &Cluster, more: &[&str]) -> Finished {
    let at = format!("127.0.0.1:{}", cluster.proxy.admin);
    let args = ["reseed", "--group", "g", "--replica", "r3", "--at", &at];
    Finished::of(quorate().args(args).args(more))
}

/// All are in sync again, equal, and hold what was acknowledged.
#[track_caller]
fn healed(cluster: &Cluster, record: &Record) {
    // What has a short life must not end while it is compared: this one lives longer than any of those.
    assert_eq!(cluster.client().line("SET last 1 PX 600").text, b"OK");
    wait_until("short lives are over", LONG, || cluster.client().line("GET last").null);
    cluster.assert_equal();
    for server in &cluster.servers {
        record.check(&mut server.client());
        assert!(server.client().ok("GET __quorate:{g}:partial").null, "half a copy");
    }
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0, "replicas answered differently");
}

/// Everything that may happen to a key, all the time.
struct Churn(Arc<AtomicBool>, JoinHandle<()>);

impl Churn {
    fn start(port: u16) -> Churn {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut client: Option<Client> = None;
            for i in 0usize.. {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let (key, other) = (i * 7919 % KEYS, i * 104_729 % KEYS);
                let line = match i % 8 {
                    0 => format!("DEL k{key}"),
                    1 => format!("SET k{key} {i} PX 400"),
                    2 => format!("RENAME k{key} k{other}"),
                    3 => format!("INCR n{}", i % 50),
                    4 => format!("HSET h{} f{} {i}", i % 20, i % 300),
                    5 => format!("XADD x{} * i {i}", i % 5),
                    6 => format!("PEXPIRE k{other} 60000"),
                    _ => format!("LPUSH q{} {i}", i % 10),
                };
                // The proxy may be dead just now.
                client = client.or_else(|| Client::connect(port).ok());
                if client.as_mut().is_some_and(|client| client.try_line(&line).is_err()) {
                    client = None;
                }
            }
        });
        Churn(stop, thread)
    }

    fn stop(self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.join().expect("it does not panic");
    }
}

fn every_type_arrives_as_it_is(kind: Kind) {
    let mut cluster = Cluster::start(setup(kind, 3, "32MiB"));
    let mut client = cluster.client();
    let mut lines: Vec<String> = [
        "SET text some",
        "SET number 12345",
        "SET soon x PX 3600000",
        "SET later y PXAT 4102444800000",
        "RPUSH list a b c",
        "SADD ints 1 2 3",
        "SADD words one two",
        "ZADD scores 1.5 a -3 b inf c",
        "HSET hash f v g w",
        "HSET volatile f v",
        "PEXPIREAT volatile 4102444800000",
        "SETBIT bits 77 1",
        "PFADD hll a b c",
        "GEOADD geo 13.36 38.11 Palermo",
        "XADD stream 1-1 a 1",
        "XADD stream 2-1 b 2",
        "XGROUP CREATE stream readers 0",
        "XDEL stream 1-1",
    ]
    .map(String::from)
    .to_vec();
    for i in 0..600 {
        lines.push(format!("RPUSH biglist item{i}"));
        lines.push(format!("SADD bigset member{i}"));
        lines.push(format!("ZADD bigzset {i}.25 member{i}"));
        lines.push(format!("HSET bighash field{i} value{i}"));
        lines.push(format!("XADD bigstream {}-1 n {i}", i + 1));
    }
    if kind == Kind::Valkey {
        lines.push("HSET fields a 1 b 2 c 3".into());
        lines.push("HPEXPIREAT fields 4102444800000 FIELDS 2 a b".into());
    }
    for line in &lines {
        let reply = client.line(line);
        assert!(!reply.is_error(), "{line}: {}", reply.string());
    }
    client.call(&["SET", "large", &"x".repeat(5 << 20)]);
    client.call(&[&b"SET"[..], &[0, 255, 13, 10], b"bytes"]);
    lose_disk(&mut cluster);
    wait_outcome(&cluster, "done");
    cluster.assert_equal();
    let mut all: Vec<Client> = cluster.servers.iter().map(harness::Server::client).collect();
    let same = |all: &mut Vec<Client>, line: &str| {
        let seen: Vec<_> = all.iter_mut().map(|client| client.line(line)).collect();
        assert!(!seen[0].is_error() && seen.iter().all(|reply| *reply == seen[0]), "{line}: {seen:?}");
    };
    for key in ["text", "number", "list", "ints", "scores", "hash", "bits", "hll", "stream", "large"] {
        same(&mut all, &format!("DUMP {key}"));
    }
    for key in ["text", "soon", "later", "volatile"] {
        same(&mut all, &format!("PEXPIRETIME {key}"));
    }
    same(&mut all, "XINFO GROUPS stream");
    same(&mut all, "DBSIZE");
    if kind == Kind::Valkey {
        same(&mut all, "HPEXPIRETIME fields FIELDS 3 a b c");
    }
    assert_eq!(client.line("XADD stream 2-2 c 3").text, b"2-2");
    assert_eq!(client.line("INCR number").number(), 12346);
    cluster.assert_equal();
}

#[test]
fn every_type_of_redis_arrives_as_it_is() {
    every_type_arrives_as_it_is(Kind::Redis);
}

#[test]
fn every_type_of_valkey_arrives_as_it_is() {
    every_type_arrives_as_it_is(Kind::Valkey);
}

fn writes_go_on_while_it_copies(kind: Kind, rate: &str) {
    let mut cluster = Cluster::start(setup(kind, 3, rate));
    fill(&cluster);
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    let churn = Churn::start(cluster.proxy.port);
    load.wait_acked(SOME);
    lose_disk(&mut cluster);
    wait_under_way(&cluster);
    load.wait_acked(SOME);
    wait_outcome(&cluster, "done");
    load.wait_acked(SOME);
    churn.stop();
    let record = load.stop();
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    healed(&cluster, &record);
}

#[test]
fn writes_go_on_while_a_redis_is_copied() {
    writes_go_on_while_it_copies(Kind::Redis, "2MiB");
}

#[test]
fn writes_go_on_while_a_valkey_is_copied() {
    writes_go_on_while_it_copies(Kind::Valkey, "2MiB");
}

/// More keys are written than the rate allows to copy.
#[test]
fn a_copy_that_is_too_slow_is_sped_up() {
    writes_go_on_while_it_copies(Kind::Redis, "512KiB");
}

#[test]
fn the_source_dies_and_another_takes_its_place() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 5, "1MiB"));
    fill(&cluster);
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    lose_disk(&mut cluster);
    let first = source(&wait_under_way(&cluster));
    cluster.servers[first].crash_and_run();
    wait_outcome(&cluster, "failed");
    assert!(victim(&cluster)["last_reseed"]["problem"].to_string().contains("was restarted"));
    wait_outcome(&cluster, "done");
    let record = load.stop();
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    healed(&cluster, &record);
}

#[test]
fn the_target_dies_and_is_copied_anew() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3, "1MiB"));
    fill(&cluster);
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    lose_disk(&mut cluster);
    wait_under_way(&cluster);
    cluster.servers[VICTIM].crash_and_run();
    wait_outcome(&cluster, "failed");
    wait_outcome(&cluster, "done");
    let record = load.stop();
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    healed(&cluster, &record);
}

/// Connections are lost, the servers live: the copy goes on where it was.
#[test]
fn lost_connections_do_not_end_a_copy() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3, "1MiB"));
    fill(&cluster);
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    lose_disk(&mut cluster);
    let from = source(&wait_under_way(&cluster));
    for i in [VICTIM, from, VICTIM] {
        cluster.servers[i].client().ok("CLIENT KILL TYPE normal SKIPME yes");
        load.wait_acked(SOME);
    }
    wait_outcome(&cluster, "done");
    assert_eq!(victim(&cluster)["reseeds_ended"], 1, "{}", cluster.proxy.log());
    let record = load.stop();
    healed(&cluster, &record);
}

#[test]
fn the_proxy_dies_while_it_copies() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3, "1MiB"));
    fill(&cluster);
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    lose_disk(&mut cluster);
    wait_under_way(&cluster);
    cluster.proxy.kill();
    let mut direct = cluster.servers[VICTIM].client();
    assert!(!direct.ok("GET __quorate:{g}:partial").null, "it says that it is half a copy");
    assert!(direct.ok("GET __quorate:{g}:pos").null);
    cluster.proxy.run();
    wait_outcome(&cluster, "done");
    load.wait_acked(SOME);
    let record = load.stop();
    healed(&cluster, &record);
}

/// The old owner believes that it still copies to a server that takes part again.
#[test]
fn a_frozen_owner_that_copies_thaws_too_late() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3, "1MiB"));
    fill(&cluster);
    lose_disk(&mut cluster);
    wait_under_way(&cluster);
    harness::signal(cluster.proxy.pid(), "STOP");
    let second = cluster.second_proxy();
    let first = std::mem::replace(&mut cluster.proxy, second);
    wait_outcome(&cluster, "done");
    cluster.proxy.wait_in_sync();
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    harness::signal(first.pid(), "CONT");
    wait_until("the first one knows", LONG, || first.group()["fenced_by"].as_u64() > Some(0));
    load.wait_acked(SOME);
    let record = load.stop();
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    healed(&cluster, &record);
}

#[test]
fn one_that_is_cancelled_is_stale_until_it_is_asked_for() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3, "256KiB"));
    fill(&cluster);
    lose_disk(&mut cluster);
    wait_under_way(&cluster);
    let at = format!("127.0.0.1:{}", cluster.proxy.admin);
    let text = Finished::of(quorate().args(["status", "--at", &at]));
    assert!(text.out.contains("copying through the proxy"), "{}", text.out);
    let cancelled = reseed(&cluster, &["--cancel"]);
    assert_eq!((cancelled.code, cancelled.out.as_str()), (Some(0), "cancelled: its reseed was cancelled\n"));
    wait_until("it is stale again, and says so", LONG, || {
        cluster.proxy.problems()[VICTIM].contains("its reseed was cancelled")
    });
    assert_eq!(cluster.proxy.states()[VICTIM], "stale");
    let again = reseed(&cluster, &[]);
    assert_eq!((again.code, again.out.as_str()), (Some(0), "done\n"), "{again:?}");
    cluster.assert_equal();
}

/// Servers that refuse to be replicas, or to have any, are found out.
#[test]
fn where_replication_is_refused_the_proxy_copies() {
    let mut setup = Setup::new(Kind::Redis, 3).group("log-memory = \"1MiB\"\nhints = false");
    setup.server_args.extend(["--rename-command", "REPLICAOF", ""]);
    let mut cluster = Cluster::start(setup);
    fill(&cluster);
    lose_disk(&mut cluster);
    wait_outcome(&cluster, "done");
    assert!(
        cluster.proxy.log().contains("it is copied through the proxy instead"),
        "{}",
        cluster.proxy.log()
    );
    cluster.assert_equal();
}

#[test]
fn where_the_link_does_not_come_up_the_proxy_copies() {
    let mut setup = Setup::new(Kind::Redis, 3).group("log-memory = \"1MiB\"\nhints = false");
    setup.server_args.extend(["--rename-command", "PSYNC", "", "--rename-command", "SYNC", ""]);
    let mut cluster = Cluster::start(setup);
    fill(&cluster);
    lose_disk(&mut cluster);
    wait_outcome(&cluster, "done");
    let log = cluster.proxy.log();
    assert!(log.contains("no progress for 10 s") && log.contains("through the proxy instead"), "{log}");
    cluster.assert_equal();
    let users = cluster.servers[VICTIM].client().ok("ACL USERS").strings();
    assert!(!users.iter().any(|user| user.contains("seeding")), "{users:?}");
}

/// What cannot be copied through the proxy is told, and the replica stays stale.
#[test]
fn a_value_that_is_too_large_is_named() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3, "32MiB"));
    fill(&cluster);
    for server in &cluster.servers {
        server.client().ok("SETRANGE huge 70000000 x");
    }
    lose_disk(&mut cluster);
    wait_outcome(&cluster, "failed");
    let problem = victim(&cluster)["last_reseed"]["problem"].to_string();
    assert!(
        problem.contains("'huge' has 66 MiB") || problem.contains("MiB, and more than 64 MiB"),
        "{problem}"
    );
    assert_eq!(cluster.client().line("SET still yes").text, b"OK");
}
