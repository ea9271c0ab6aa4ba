//! Guards against replicas that differ where nobody looks: values that were changed behind the proxy's back
//! are found by comparing all keys, and put right, while traffic goes on.

mod harness;

use harness::{Client, Cluster, Finished, Kind, LONG, Load, Setup, quorate, wait_until};
use serde_json::Value as Json;

const WRITERS: usize = 4;
const SOME: u64 = 200;
const KEYS: usize = 300;
/// 2100.
const LATER: &str = "4102444800000";

fn setup(kind: Kind, replicas: usize) -> Setup {
    Setup::new(kind, replicas).group("scrub-every = \"off\"")
}

/// Keys of all types, each in every server.
fn fill(cluster: &Cluster) {
    let mut client = cluster.client();
    for i in 0..KEYS {
        client.ok(&format!("SET k:{i} {i}"));
    }
    for line in [
        "HSET hash a 1 b 2",
        "SADD set 1 2 3",
        "ZADD zset 0.1 a 2 b",
        "RPUSH list a b c",
        "XADD stream 1-1 f v",
        "SET volatile 1 PXAT 4102444800000",
    ] {
        client.ok(line);
    }
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
}

fn scrub(cluster: &Cluster, more: &[&str]) -> Finished {
    let at = format!("127.0.0.1:{}", cluster.proxy.admin);
    Finished::of(quorate().args(["scrub", "--group", "g", "--at", &at]).args(more))
}

/// Scrubs quickly and waits for the end: the report, and the exit code.
fn scrubbed(cluster: &Cluster, more: &[&str]) -> (Json, Option<i32>) {
    let finished = scrub(cluster, &[&["--wait", "--rate", "100000", "--format", "json"], more].concat());
    let report = serde_json::from_str(&finished.out).unwrap_or_else(|_| panic!("{finished:?}"));
    (report, finished.code)
}

#[track_caller]
fn assert_counts(report: &Json, differing: u64, mended: u64, undecided: u64) {
    let count = |key: &str| report[key].as_u64().expect("a count");
    let found = (count("differing"), count("mended"), count("undecided"), count("skipped"));
    assert_eq!(found, (differing, mended, undecided, 0), "{report:#}");
    assert_eq!((&report["outcome"], &report["problem"]), (&"done".into(), &"".into()), "{report:#}");
    assert!(count("keys") >= KEYS as u64, "{report:#}");
}

fn differences(cluster: &Cluster, outcome: &str) -> f64 {
    let (_, metrics) = cluster.proxy.page("/metrics");
    let wanted = format!("quorate_scrub_differences_total{{group=\"g\",outcome=\"{outcome}\"}} ");
    let sample = metrics.lines().find_map(|line| line.strip_prefix(&wanted));
    sample.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
}

fn direct(cluster: &Cluster, server: usize, lines: &[&str]) {
    let mut client = cluster.servers[server].client();
    lines.iter().for_each(|line| drop(client.ok(line)));
}

/// Everything that can go wrong with a key, on all servers. How many keys.
fn spoil(cluster: &Cluster) -> u64 {
    direct(cluster, 0, &["DEL k:1", "SREM set 3"]);
    direct(cluster, 1, &["SET k:2 other", "DEL k:3", "RPUSH k:3 a", "HSET hash b 3", "ZADD zset 0.2 a"]);
    direct(cluster, 2, &["SET only:here x", &format!("PEXPIREAT k:4 {LATER}"), "PERSIST volatile"]);
    direct(cluster, 2, &["LSET list 1 x", "XDEL stream 1-1"]);
    11
}

fn all_that_differs_is_found_and_mended(kind: Kind) {
    let cluster = Cluster::start(setup(kind, 3));
    fill(&cluster);
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    let differing = spoil(&cluster);
    let (report, code) = scrubbed(&cluster, &[]);
    load.wait_acked(SOME);
    let record = load.stop();
    assert_eq!(code, Some(0), "{report:#}");
    assert_counts(&report, differing, differing, 0);
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    println!("slowest request: {:?}; {} keys", record.slowest(), report["keys"]);
    cluster.assert_equal();
    record.check(&mut cluster.client());
    let mut spoiled = cluster.servers[2].client();
    assert!(spoiled.line("GET only:here").null);
    assert_eq!(spoiled.line("PEXPIRETIME k:4").number(), -1);
    assert_eq!(cluster.servers[0].client().line("GET k:1").string(), "1");
    assert_eq!(differences(&cluster, "mended"), differing as f64);
    assert_eq!(cluster.proxy.metric("quorate_scrub_keys_total"), report["keys"].as_f64().expect("a count"));
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
    let (again, code) = scrubbed(&cluster, &[]);
    assert_eq!(code, Some(0));
    assert_counts(&again, 0, 0, 0);
}

#[test]
fn all_that_differs_between_redises_is_found_and_mended() {
    all_that_differs_is_found_and_mended(Kind::Redis);
}

#[test]
fn all_that_differs_between_valkeys_is_found_and_mended() {
    all_that_differs_is_found_and_mended(Kind::Valkey);
}

/// One of the minority must not be the source for the other.
#[test]
fn a_minority_of_two_is_mended_from_the_majority() {
    let cluster = Cluster::start(setup(Kind::Redis, 5));
    fill(&cluster);
    direct(&cluster, 3, &["SET k:1 this"]);
    direct(&cluster, 4, &["SET k:1 that", "DEL k:2"]);
    let (report, code) = scrubbed(&cluster, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_counts(&report, 2, 2, 0);
    cluster.assert_equal();
    assert_eq!(cluster.servers[4].client().line("GET k:1").string(), "1");
}

/// Makes `key` hold what it held, laid out as if it had been large.
fn lay_out_anew(cluster: &Cluster) {
    let mut server = cluster.servers[1].client();
    let members = |first: usize| (first..first + 600).map(|i| format!("m{i}")).collect::<Vec<_>>();
    for (add, remove) in [("HSET hash", "HDEL hash"), ("SADD set", "SREM set"), ("ZADD zset", "ZREM zset")] {
        let each = members(0);
        let added: Vec<String> = match add {
            "HSET hash" => each.iter().map(|m| format!("{m} 1")).collect(),
            "ZADD zset" => each.iter().map(|m| format!("7 {m}")).collect(),
            _ => each.clone(),
        };
        server.ok(&format!("{add} {}", added.join(" ")));
        server.ok(&format!("{remove} {}", each.join(" ")));
    }
    server.ok(&format!("RPUSH list {}", "x".repeat(20_000)));
    server.ok("RPOP list");
}

#[test]
fn equal_data_in_another_encoding_is_no_difference() {
    let cluster = Cluster::start(setup(Kind::Redis, 3));
    fill(&cluster);
    lay_out_anew(&cluster);
    let dump = |server: usize, key: &str| cluster.servers[server].client().line(&format!("DUMP {key}")).text;
    for key in ["hash", "set", "zset"] {
        assert_ne!(dump(0, key), dump(1, key), "{key} has the same encoding, so this test shows nothing");
    }
    let (report, code) = scrubbed(&cluster, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_counts(&report, 0, 0, 0);
    assert_eq!(cluster.proxy.metric("quorate_mends_total"), 0.0);
}

fn dumps(cluster: &Cluster) -> Vec<Vec<Vec<u8>>> {
    let keys = ["k:1", "k:2", "k:3", "only:here", "hash", "set", "zset", "list", "stream", "volatile"];
    let of = |client: &mut Client, key: &&str| client.line(&format!("DUMP {key}")).text;
    let all = |mut client: Client| keys.iter().map(|key| of(&mut client, key)).collect();
    cluster.servers.iter().map(|server| all(server.client())).collect()
}

#[test]
fn a_dry_run_reports_and_changes_nothing() {
    let cluster = Cluster::start(setup(Kind::Redis, 3));
    fill(&cluster);
    let differing = spoil(&cluster);
    direct(&cluster, 2, &["SET \"odd\\r\\n\\xff\" x"]);
    let before = dumps(&cluster);
    let (report, code) = scrubbed(&cluster, &["--dry-run"]);
    assert_eq!(code, Some(1), "{report:#}");
    assert_counts(&report, differing + 1, 0, 0);
    assert_eq!(dumps(&cluster), before);
    let names: Vec<&str> =
        report["names"].as_array().expect("names").iter().filter_map(Json::as_str).collect();
    assert_eq!(names.len() as u64, differing + 1);
    assert!(names.contains(&"k:3") && names.contains(&"only:here"), "{names:?}");
    assert!(names.iter().all(|name| name.is_ascii() && !name.contains('\n')), "{names:?}");
    let text = scrub(&cluster, &["--wait", "--dry-run", "--rate", "100000"]);
    assert!(text.out.contains("nothing was repaired\n  "), "{text:?}");
    assert_eq!(cluster.proxy.metric("quorate_mends_total"), 0.0);
}

#[test]
fn of_two_replicas_nobody_knows_which_is_right() {
    let cluster = Cluster::start(setup(Kind::Redis, 2));
    fill(&cluster);
    direct(&cluster, 1, &["SET k:2 other", "DEL k:3"]);
    let (report, code) = scrubbed(&cluster, &[]);
    assert_eq!(code, Some(1), "{report:#}");
    assert_counts(&report, 2, 0, 2);
    assert_eq!(cluster.servers[0].client().line("GET k:2").string(), "2");
    assert_eq!(cluster.servers[1].client().line("GET k:2").string(), "other");
    assert_eq!(differences(&cluster, "undecided"), 2.0);
}

#[test]
fn a_value_too_large_to_be_compared_is_told() {
    let cluster = Cluster::start(setup(Kind::Redis, 3));
    fill(&cluster);
    let value = "x".repeat(5 << 20);
    assert_eq!(cluster.client().call(&["SET", "large", &value]).text, b"OK");
    let (report, code) = scrubbed(&cluster, &[]);
    assert_eq!((code, report["skipped"].as_u64()), (Some(0), Some(1)), "{report:#}");
}

fn progress(cluster: &Cluster) -> u64 {
    cluster.proxy.group()["scrub"]["keys"].as_u64().unwrap_or(0)
}

fn a_server_dies_in_the_middle(victim: usize) {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    fill(&cluster);
    let load = Load::start(cluster.proxy.port, 0, 2);
    load.wait_acked(SOME);
    assert_eq!(scrub(&cluster, &["--rate", "300"]).code, Some(0));
    wait_until("some keys are compared", LONG, || progress(&cluster) > 60);
    cluster.servers[victim].kill();
    let record = load.stop();
    wait_until("it ended", LONG, || cluster.proxy.group()["scrubs_ended"] == 1);
    let report = cluster.proxy.group()["last_scrub"].clone();
    assert_eq!(report["outcome"], "done", "{report:#}");
    assert_eq!((&report["differing"], &report["undecided"]), (&0.into(), &0.into()), "{report:#}");
    let name = format!("r{} was lost", victim + 1);
    assert!(victim != 0 || report["problem"].as_str().is_some_and(|text| text.contains(&name)), "{report:#}");
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    cluster.servers[victim].run();
    cluster.assert_equal();
    let (report, code) = scrubbed(&cluster, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_counts(&report, 0, 0, 0);
}

#[test]
fn the_server_whose_keys_are_scanned_dies_in_the_middle() {
    a_server_dies_in_the_middle(0);
}

#[test]
fn another_server_dies_in_the_middle() {
    a_server_dies_in_the_middle(2);
}

/// It is not known to be lost at once, and writes must not wait for it meanwhile.
#[test]
fn a_server_is_silent_in_the_middle() {
    let cluster = Cluster::start(setup(Kind::Redis, 3));
    fill(&cluster);
    let load = Load::start(cluster.proxy.port, 0, 2);
    load.wait_acked(SOME);
    assert_eq!(scrub(&cluster, &["--rate", "300"]).code, Some(0));
    wait_until("some keys are compared", LONG, || progress(&cluster) > 60);
    cluster.servers[1].pause();
    wait_until("it is lost", LONG, || cluster.proxy.states()[1] == "down");
    load.wait_acked(SOME);
    let compared = progress(&cluster);
    wait_until("it goes on with the others", LONG, || progress(&cluster) > compared + 60);
    cluster.servers[1].resume();
    let record = load.stop();
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    println!("slowest request: {:?}", record.slowest());
    // The writers made more keys than it can be waited for at this rate.
    assert_eq!(scrub(&cluster, &["--cancel", "--wait"]).code, Some(0));
    let report = cluster.proxy.group()["last_scrub"].clone();
    assert_eq!((&report["differing"], &report["undecided"]), (&0.into(), &0.into()), "{report:#}");
    cluster.assert_equal();
    let (report, code) = scrubbed(&cluster, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_counts(&report, 0, 0, 0);
}

#[test]
fn it_begins_by_itself() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group("scrub-every = \"1s\""));
    fill(&cluster);
    direct(&cluster, 1, &["SET k:2 other"]);
    wait_until("it is found and mended", LONG, || differences(&cluster, "mended") == 1.0);
    cluster.assert_equal();
}

#[test]
fn one_at_a_time_and_it_can_be_ended() {
    let cluster = Cluster::start(setup(Kind::Redis, 3));
    fill(&cluster);
    let none = scrub(&cluster, &["--cancel"]);
    assert_eq!((none.code, none.out.as_str()), (Some(1), "refused: no scrub is under way\n"));
    let asked = scrub(&cluster, &["--rate", "20"]);
    assert_eq!((asked.code, asked.out.as_str()), (Some(0), "asked\n"));
    wait_until("it is under way", LONG, || progress(&cluster) > 0);
    let refused = scrub(&cluster, &[]);
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), "refused: a scrub is under way already\n"));
    let status =
        Finished::of(quorate().args(["status", "--at", &format!("127.0.0.1:{}", cluster.proxy.admin)]));
    assert!(status.out.contains("scrub: "), "{status:?}");
    let ended = scrub(&cluster, &["--cancel", "--wait"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.starts_with("cancelled\n"), "{ended:?}");
    let at = format!("127.0.0.1:{}", cluster.proxy.admin);
    let unknown = Finished::of(quorate().args(["scrub", "--group", "x", "--at", &at]));
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
}
