//! Guards against stale replicas that stay so, copies that lose or double writes, and servers that are
//! erased though nobody wanted it: a stale replica gets a copy of another one while traffic goes on.

mod harness;

use harness::{Client, Cluster, Finished, Kind, LONG, Load, Record, Setup, quorate, wait_until};
use serde_json::Value as Json;

const WRITERS: usize = 4;
const SOME: u64 = 400;
/// Microseconds a key for a hundred keys, and for as many as writers make meanwhile.
const SLOW: u32 = 20_000;
const SLOW_WITH_LOAD: u32 = 3_000;
/// The one that goes stale.
const VICTIM: usize = 2;

/// A log that holds little, and sources that do not wait for further replicas.
fn setup(kind: Kind, replicas: usize) -> Setup {
    let server_args = vec!["--repl-diskless-sync-delay", "0"];
    Setup { server_args, ..Setup::new(kind, replicas) }.group("log-memory = \"1MiB\"\nhints = false")
}

/// All are in sync again, equal, and hold what was acknowledged.
#[track_caller]
fn healed(cluster: &Cluster, record: &Record) {
    cluster.assert_equal();
    record.check(&mut cluster.client());
    for server in &cluster.servers {
        record.check(&mut server.client());
    }
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0, "replicas answered differently");
    nothing_left(cluster);
}

/// No server keeps anything of a reseed.
#[track_caller]
fn nothing_left(cluster: &Cluster) {
    for server in &cluster.servers {
        let mut client = server.client();
        let users = client.ok("ACL USERS").strings();
        assert!(!users.iter().any(|user| user.contains("seeding")), "{users:?}");
        assert_eq!(client.ok("ROLE").items[0].text, b"master");
        assert_eq!(client.ok("CONFIG GET masterauth").strings()[1], "");
    }
}

/// More than the log holds.
fn fill(cluster: &Cluster) {
    let mut client = cluster.client();
    let value = "x".repeat(64 << 10);
    for i in 0..100 {
        assert_eq!(client.call(&["SET", &format!("k{i}"), &value]).text, b"OK");
    }
}

fn wait_down(cluster: &Cluster) {
    wait_until("the victim is down", LONG, || cluster.proxy.states()[VICTIM] == "down");
}

/// Takes the victim away for longer than the log holds, and brings it back.
fn leave_behind(cluster: &mut Cluster) {
    cluster.servers[VICTIM].kill();
    wait_down(cluster);
    fill(cluster);
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

/// From now on sources wait this long for each key that they send.
fn slow_down(cluster: &Cluster, delay: u32) {
    for server in &cluster.servers {
        server.client().ok(&format!("CONFIG SET rdb-key-save-delay {delay}"));
    }
}

#[track_caller]
fn wait_under_way(cluster: &Cluster) -> Json {
    let mut seen = Json::Null;
    wait_until("the victim is a replica of another server", LONG, || {
        seen = victim(cluster)["reseed"].clone();
        !seen.is_null() && cluster.servers[VICTIM].client().ok("ROLE").items[0].text == b"slave"
    });
    seen
}

fn reseed(cluster: &Cluster, more: &[&str]) -> Finished {
    let at = format!("127.0.0.1:{}", cluster.proxy.admin);
    let args = ["reseed", "--group", "g", "--replica", "r3", "--at", &at];
    Finished::of(quorate().args(args).args(more))
}

fn position(client: &mut Client) -> String {
    client.line("GET __quorate:{g}:pos").string()
}

fn one_that_missed_too_much_comes_back(kind: Kind) {
    let mut cluster = Cluster::start(setup(kind, 3));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    leave_behind(&mut cluster);
    wait_outcome(&cluster, "done");
    load.wait_acked(SOME);
    cluster.proxy.wait_in_sync();
    load.wait_acked(SOME);
    let record = load.stop();
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    healed(&cluster, &record);
    let (_, metrics) = cluster.proxy.page("/metrics");
    let done = r#"quorate_reseeds_total{group="g",replica="r3",outcome="done"}"#;
    assert!(metrics.lines().any(|line| line.starts_with(done) && !line.ends_with(" 0")), "{metrics}");
}

#[test]
fn a_redis_that_missed_too_much_comes_back() {
    one_that_missed_too_much_comes_back(Kind::Redis);
}

#[test]
fn a_valkey_that_missed_too_much_comes_back() {
    one_that_missed_too_much_comes_back(Kind::Valkey);
}

#[test]
fn one_that_lost_its_disk_comes_back() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    fill(&cluster);
    cluster.servers[VICTIM].wipe();
    wait_down(&cluster);
    cluster.servers[VICTIM].run();
    wait_outcome(&cluster, "done");
    load.wait_acked(SOME);
    let record = load.stop();
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    healed(&cluster, &record);
}

/// Emptied by hand behind the proxy's back: the server is the same, its data is not.
#[test]
fn one_that_was_emptied_comes_back() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    cluster.proxy.kill();
    cluster.servers[VICTIM].client().ok("FLUSHALL");
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    wait_outcome(&cluster, "done");
    load.wait_acked(SOME);
    let record = load.stop();
    healed(&cluster, &record);
}

/// Entries that are not on the log, as an older owner may leave them.
#[test]
fn one_with_entries_of_its_own_comes_back() {
    let cluster = Cluster::start(setup(Kind::Redis, 3));
    let mut client = cluster.client();
    assert_eq!(client.line("SET k v").text, b"OK");
    cluster.assert_equal();
    let mut direct = cluster.servers[VICTIM].client();
    direct.ok("SET own:entry 1");
    direct.ok("DEL __quorate:{g}:tail");
    direct.ok("SET __quorate:{g}:pos 1:999:0000000000000001");
    direct.ok("CLIENT KILL TYPE normal SKIPME yes");
    wait_outcome(&cluster, "done");
    assert!(cluster.proxy.log().contains("diverged"), "{}", cluster.proxy.log());
    cluster.assert_equal();
    assert!(direct.ok("GET own:entry").null);
    nothing_left(&cluster);
}

/// Where too few others are in sync, what a stale replica still has may be worth something.
#[test]
fn one_that_a_quorum_cannot_spare_is_not_erased_by_itself() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    cluster.servers[VICTIM].kill();
    wait_down(&cluster);
    fill(&cluster);
    cluster.proxy.wait_ready();
    cluster.servers[1].kill();
    wait_until("one is left", LONG, || cluster.proxy.page("/readyz").0 == 503);
    cluster.servers[VICTIM].run();
    let mut tries = 0;
    wait_until("status says why", LONG, || {
        tries += 1;
        let (states, problems) = (cluster.proxy.states(), cluster.proxy.problems());
        assert!(tries < 2_000, "{states:?} {problems:?}\n{}", cluster.proxy.log());
        problems[VICTIM].contains("too few others")
    });
    let before = position(&mut cluster.servers[VICTIM].client());
    let asked = reseed(&cluster, &[]);
    assert_eq!((asked.code, asked.out.as_str()), (Some(0), "done\n"), "{asked:?}");
    assert_ne!(position(&mut cluster.servers[VICTIM].client()), before);
    assert_eq!(cluster.client().line("SET after yes").text, b"OK", "two of three are there again");
    cluster.servers[1].run();
    cluster.assert_equal();
    nothing_left(&cluster);
}

/// It may be somebody else's server, reached by a wrong address.
#[test]
fn data_of_others_is_left_alone_until_asked() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    fill(&cluster);
    // Without the victim two must have everything.
    cluster.assert_equal();
    cluster.proxy.kill();
    let mut direct = cluster.servers[VICTIM].client();
    direct.ok("FLUSHALL");
    direct.ok("SET mine 1");
    direct.ok("SELECT 3");
    direct.ok("SET there 1");
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    wait_until("status says why, and what to do", LONG, || {
        let problem = &cluster.proxy.problems()[VICTIM];
        problem.contains("2 keys that are not this group's") && problem.contains("--replica r3 --yes")
    });
    let asked = reseed(&cluster, &[]);
    assert_eq!(asked.code, Some(1), "{asked:?}");
    assert!(asked.out.contains("2 keys that are not this group's"), "{asked:?}");
    assert_eq!(direct.ok("GET there").text, b"1");
    assert_eq!(cluster.servers[VICTIM].client().ok("GET mine").text, b"1");
    let asked = reseed(&cluster, &["--yes", "--format", "json"]);
    assert_eq!(asked.code, Some(0), "{asked:?}");
    let answer: Json = serde_json::from_str(&asked.out).expect("JSON");
    assert_eq!(answer["outcome"], "done");
    cluster.assert_equal();
    assert!(direct.ok("GET there").null, "all databases are copied");
    nothing_left(&cluster);
}

/// Nothing is known to the next proxy but what the servers say.
fn the_proxy_dies_while_it_copies(forget: bool, setup: Setup) {
    let mut cluster = Cluster::start(setup);
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    load.wait_acked(SOME);
    slow_down(&cluster, SLOW_WITH_LOAD);
    leave_behind(&mut cluster);
    wait_under_way(&cluster);
    cluster.proxy.kill();
    assert_eq!(cluster.servers[VICTIM].client().ok("ROLE").items[0].text, b"slave", "it was in the middle");
    if forget {
        cluster.proxy.forget();
    }
    cluster.proxy.run();
    wait_until("the next one goes on with it", LONG, || cluster.proxy.log().contains("goes on"));
    slow_down(&cluster, 0);
    wait_outcome(&cluster, "done");
    load.wait_acked(SOME);
    let record = load.stop();
    healed(&cluster, &record);
}

#[test]
fn the_proxy_dies_while_it_copies_and_remembers() {
    the_proxy_dies_while_it_copies(false, setup(Kind::Redis, 3));
}

#[test]
fn the_proxy_of_valkeys_dies_while_it_copies() {
    the_proxy_dies_while_it_copies(true, setup(Kind::Valkey, 3));
}

/// The server that gets a copy tells nothing of its keys meanwhile.
#[test]
fn the_proxy_dies_while_it_copies_and_the_target_is_silent() {
    let mut setup = setup(Kind::Redis, 3);
    setup.server_args.extend(["--replica-serve-stale-data", "no"]);
    the_proxy_dies_while_it_copies(true, setup);
}

/// The old owner believes that it still copies to a server that takes part again.
#[test]
fn a_frozen_owner_that_copies_thaws_too_late() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    slow_down(&cluster, SLOW);
    leave_behind(&mut cluster);
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
    assert!(!cluster.proxy.log().contains("lost a backend"), "{}", cluster.proxy.log());
    healed(&cluster, &record);
}

/// The old owner lives, and must not touch what the new one goes on with.
#[test]
fn another_proxy_takes_over_while_it_copies() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    slow_down(&cluster, SLOW);
    leave_behind(&mut cluster);
    wait_under_way(&cluster);
    let second = cluster.second_proxy();
    let first = std::mem::replace(&mut cluster.proxy, second);
    wait_outcome(&cluster, "done");
    slow_down(&cluster, 0);
    assert!(first.group()["fenced_by"].as_u64() > Some(0), "{}", first.group());
    assert_eq!(cluster.client().line("SET after yes").text, b"OK");
    cluster.assert_equal();
    nothing_left(&cluster);
}

/// Both die: the copy can never be finished, and the next owner takes the server back.
#[test]
fn the_proxy_and_the_source_die_while_it_copies() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    slow_down(&cluster, SLOW);
    leave_behind(&mut cluster);
    let source = source(&wait_under_way(&cluster));
    cluster.proxy.kill();
    cluster.servers[source].kill();
    cluster.proxy.run();
    wait_outcome(&cluster, "failed");
    let problem = victim(&cluster)["last_reseed"]["problem"].to_string();
    assert!(problem.contains("is gone"), "{problem}");
    cluster.servers[source].run();
    wait_outcome(&cluster, "done");
    cluster.assert_equal();
    nothing_left(&cluster);
}

/// Which server `rN` is.
fn source(progress: &Json) -> usize {
    let name = progress["source"].as_str().unwrap_or_default();
    name[1..].parse::<usize>().expect("r and a number") - 1
}

#[test]
fn the_source_dies_and_another_takes_its_place() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 5));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    slow_down(&cluster, SLOW_WITH_LOAD);
    leave_behind(&mut cluster);
    let first = source(&wait_under_way(&cluster));
    assert_ne!(first, 0, "the first in read order is spared");
    cluster.servers[first].kill();
    cluster.servers.iter().enumerate().filter(|(i, _)| *i != first).for_each(|(_, server)| {
        server.client().ok("CONFIG SET rdb-key-save-delay 0");
    });
    wait_outcome(&cluster, "failed");
    let second = source(&wait_under_way(&cluster));
    assert_ne!(second, first);
    wait_outcome(&cluster, "done");
    cluster.servers[first].run();
    let record = load.stop();
    healed(&cluster, &record);
}

#[test]
fn the_target_dies_and_is_judged_anew() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    let load = Load::start(cluster.proxy.port, 0, WRITERS);
    slow_down(&cluster, SLOW_WITH_LOAD);
    leave_behind(&mut cluster);
    wait_under_way(&cluster);
    cluster.servers[VICTIM].crash_and_run();
    slow_down(&cluster, 0);
    wait_outcome(&cluster, "done");
    let record = load.stop();
    assert!(record.errors().is_empty(), "clients saw {:?}", record.errors());
    healed(&cluster, &record);
}

#[test]
fn one_that_is_cancelled_leaves_the_replica_as_it_was() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    slow_down(&cluster, SLOW);
    cluster.servers[VICTIM].kill();
    wait_down(&cluster);
    fill(&cluster);
    cluster.proxy.kill();
    cluster.servers[VICTIM].run();
    let before = position(&mut cluster.servers[VICTIM].client());
    cluster.proxy.run();
    wait_under_way(&cluster);
    let text =
        Finished::of(quorate().args(["status", "--at", &format!("127.0.0.1:{}", cluster.proxy.admin)]));
    assert!(text.out.contains("reseed from r"), "{}", text.out);
    let cancelled = reseed(&cluster, &["--cancel"]);
    assert_eq!((cancelled.code, cancelled.out.as_str()), (Some(0), "cancelled: its reseed was cancelled\n"));
    wait_until("it is stale again, and says so", LONG, || {
        cluster.proxy.problems()[VICTIM].contains("its reseed was cancelled")
    });
    assert_eq!(position(&mut cluster.servers[VICTIM].client()), before);
    nothing_left(&cluster);
    assert_eq!(reseed(&cluster, &["--cancel"]).code, Some(1), "there is none");
    slow_down(&cluster, 0);
    let again = reseed(&cluster, &[]);
    assert_eq!((again.code, again.out.as_str()), (Some(0), "done\n"), "{again:?}");
    cluster.assert_equal();
}

#[test]
fn only_a_stale_replica_is_reseeded() {
    let cluster = Cluster::start(setup(Kind::Redis, 3));
    let refused = reseed(&cluster, &["--yes"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.out.contains("only a stale replica"), "{refused:?}");
    let unknown = Finished::of(quorate().args([
        "reseed",
        "--group",
        "g",
        "--replica",
        "r9",
        "--at",
        &format!("127.0.0.1:{}", cluster.proxy.admin),
    ]));
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
}

/// A server that will not be a replica: it stays stale, and status says what it refuses.
#[test]
fn one_that_refuses_stays_stale_and_says_why() {
    let mut setup = setup(Kind::Redis, 3).group("reseed-by = \"replicaof\"");
    setup.server_args.extend(["--rename-command", "REPLICAOF", ""]);
    let mut cluster = Cluster::start(setup);
    leave_behind(&mut cluster);
    wait_outcome(&cluster, "failed");
    wait_until("status says what it refuses", LONG, || {
        cluster.proxy.problems()[VICTIM].contains("it refuses REPLICAOF")
    });
    assert_eq!(cluster.client().line("SET still yes").text, b"OK");
    let users = cluster.servers[VICTIM].client().ok("ACL USERS").strings();
    assert!(!users.iter().any(|user| user.contains("seeding")), "{users:?}");
}

/// The source asks for a password; the target has one of its own for another purpose, and keeps it.
#[test]
fn credentials_are_lent_and_taken_back() {
    let mut cluster = Cluster::start(setup(Kind::Redis, 3));
    cluster.proxy.kill();
    let folder = cluster.proxy.config().parent().expect("a folder").to_path_buf();
    std::fs::write(folder.join("secret"), "s3cret").expect("writable");
    let password = "password = { file = \"secret\" }\nzone";
    cluster.proxy.edit(|text| text.replace("zone", password));
    for server in &mut cluster.servers {
        // It must be known from the beginning, or the harness cannot see that the server is up.
        server.client().ok("CONFIG SET requirepass s3cret");
    }
    let direct = |cluster: &Cluster, i: usize| {
        let mut client = cluster.servers[i].client();
        client.ok("AUTH s3cret");
        client
    };
    let mut target = direct(&cluster, VICTIM);
    target.ok("FLUSHALL");
    target.ok("CONFIG SET masterauth former");
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    wait_outcome(&cluster, "done");
    cluster.proxy.wait_in_sync();
    assert_eq!(cluster.client().line("SET after yes").text, b"OK");
    wait_until("it is fed", LONG, || target.ok("GET after").text == b"yes");
    assert_eq!(target.ok("CONFIG GET masterauth").strings()[1], "former");
    assert_eq!(target.ok("CONFIG GET masteruser").strings()[1], "");
    assert!(!cluster.proxy.log().contains("s3cret"), "a password is shown");
    assert!(!cluster.proxy.log().contains("former"), "a password is shown");
    let users = target.ok("ACL USERS").strings();
    assert!(!users.iter().any(|user| user.contains("seeding")), "{users:?}");
}
