//! Guards against a policy that takes the proxy down with it, or that quietly allows what loses data.

mod harness;

use harness::{Cluster, Finished, Kind, LONG, Proxy, Server, Setup, ports, quorate, repository, wait_until};

fn wasm(name: &str, settings: &str) -> String {
    let path = repository(&format!("plugins/dist/{name}.wasm"));
    assert!(path.is_file(), "{} is missing", path.display());
    format!("policy = {{ wasm = {path:?}, settings = {{ {settings} }} }}")
}

/// The built-in majority stands in for a policy that fails, and says so.
#[track_caller]
fn majority_stands_in(mode: &str) -> Cluster {
    let cluster =
        Cluster::start(Setup::new(Kind::Redis, 3).group(&wasm("naughty", &format!("mode = \"{mode}\""))));
    let mut client = cluster.client();
    assert_eq!(client.line("SET k v").text, b"OK", "{mode}");
    assert_eq!(client.line("GET k").text, b"v");
    assert!(cluster.proxy.metric("quorate_policy_faults_total") > 0.0, "{mode} is not counted");
    let log = cluster.proxy.log();
    assert!(log.contains("ERROR") && log.contains("the built-in majority stands in"), "{mode}: {log}");
    cluster.assert_equal();
    cluster
}

#[test]
fn a_policy_that_never_ends_is_stood_in_for() {
    majority_stands_in("build-loop");
}

#[test]
fn a_policy_that_never_configures_is_stood_in_for() {
    majority_stands_in("configure-loop");
}

#[test]
fn a_policy_that_traps_is_stood_in_for() {
    majority_stands_in("build-trap");
}

#[test]
fn a_policy_that_eats_memory_is_stood_in_for() {
    majority_stands_in("build-memory");
}

/// Only the requests that it is asked about suffer, each in its own time.
#[test]
fn a_decider_that_never_ends_costs_only_its_own_requests() {
    let cluster =
        Cluster::start(Setup::new(Kind::Redis, 3).group(&wasm("naughty", "mode = \"decide-loop\"")));
    let mut client = cluster.client();
    for _ in 0..20 {
        let reply = client.line("SET k v").string();
        assert!(reply.starts_with("NOTAPPLIED"), "{reply}");
    }
    assert!(client.line("GET k").null, "reads are not asked about");
    assert!(cluster.proxy.metric("quorate_policy_faults_total") >= 20.0);
    assert_eq!(cluster.proxy.page("/readyz").0, 200);
}

#[test]
fn a_decider_that_traps_costs_only_its_own_requests() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group(&wasm("naughty", "mode = \"fast-trap\"")));
    let mut client = cluster.client();
    for _ in 0..3 {
        let reply = client.line("SET k v").string();
        assert!(reply.starts_with("NOTAPPLIED"), "{reply}");
    }
    assert!(client.line("GET k").null);
    assert!(cluster.proxy.metric("quorate_policy_faults_total") >= 3.0);
}

/// An outcome that is no plan must not be taken for one.
#[test]
fn a_decider_that_makes_plans_up_is_refused() {
    let cluster =
        Cluster::start(Setup::new(Kind::Redis, 3).group(&wasm("naughty", "mode = \"fast-made-up\"")));
    let reply = cluster.client().line("SET k v").string();
    assert!(reply.starts_with("NOTAPPLIED"), "{reply}");
    assert!(cluster.client().line("GET k").null);
}

#[test]
fn a_decider_rejects_in_its_own_words() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group(&wasm("sized", "max-bytes = 100")));
    let mut client = cluster.client();
    let small = "x".repeat(100);
    assert_eq!(client.call(&["SET", "k", &small]).text, b"OK");
    let large = client.call(&["SET", "k", &"x".repeat(101)]);
    assert!(large.is_error(), "{large:?}");
    assert_eq!(large.string(), "TOOLARGE SET of 101 bytes; at most 100 are allowed");
    assert_eq!(client.line("GET k").text, small.as_bytes(), "nothing was changed");
    let mut pipeline = harness::encode(&["SET", "a", "1"]);
    pipeline.extend(harness::encode(&["SET", "b", &"x".repeat(5000)]));
    pipeline.extend(harness::encode(&["SET", "c", "3"]));
    let replies = client.pipeline(&pipeline, 3);
    assert!(!replies[0].is_error() && replies[1].is_error() && !replies[2].is_error(), "{replies:?}");
    assert_eq!(client.line("MGET a b c").items.iter().filter(|item| item.null).count(), 1);
    cluster.assert_equal();
}

/// Some keys wait for all replicas, by hash: with one down only those are refused.
#[test]
fn a_decider_chooses_the_plan_for_each_key() {
    let policy = wasm("sized", "all-percent = 50, deadline-ms = 500");
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 3).group(&policy));
    cluster.servers[2].kill();
    wait_until("the replica is down", LONG, || cluster.proxy.states()[2] == "down");
    let mut client = cluster.client();
    let replies: Vec<String> = (0..20).map(|i| client.line(&format!("SET k{i} v")).string()).collect();
    let done = replies.iter().filter(|reply| *reply == "OK").count();
    assert!((1..20).contains(&done), "{replies:?}");
    assert!(
        replies.iter().all(|r| r == "OK" || r.starts_with("NOTAPPLIED") || r.starts_with("UNKNOWN")),
        "{replies:?}"
    );
    cluster.servers[2].run();
    cluster.assert_equal();
}

/// `run` and `check` must refuse alike.
#[track_caller]
fn refused(setup: &Setup) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("quorate.toml");
    std::fs::write(&file, setup.toml(harness::free_port(), harness::free_port(), &[7001, 7002, 7003]))
        .expect("written");
    let run = Finished::of(quorate().args(["run", "-c"]).arg(&file));
    assert_eq!(run.code, Some(3), "{run:?}");
    let check = Finished::of(quorate().arg("check").arg(&file));
    assert_eq!(check.code, Some(3), "{check:?}");
    format!("{}{}", run.err, check.err)
}

#[test]
fn disjoint_quorums_refuse_to_start() {
    let text = refused(&Setup::new(Kind::Redis, 3).group("write-quorum = 1"));
    assert!(text.contains("share no replica"), "{text}");
    for name in ["r1", "r2"] {
        assert!(text.matches(name).count() >= 2, "both quorums are named, by run and by check: {text}");
    }
    assert!(text.contains("weak-writes"), "{text}");
}

#[test]
fn a_table_that_makes_no_sense_refuses_to_start() {
    for mode in ["build-missing-plan", "build-never-met", "build-error"] {
        let text =
            refused(&Setup::new(Kind::Redis, 3).group(&wasm("naughty", &format!("mode = \"{mode}\""))));
        assert!(text.contains("naughty"), "{mode}: {text}");
    }
}

#[test]
fn weak_writes_are_allowed_by_name() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group("write-quorum = 1\nweak-writes = true"));
    assert_eq!(cluster.client().line("SET k v").text, b"OK");
    cluster.assert_equal();
}

fn digest(path: &std::path::Path) -> String {
    let out = std::process::Command::new("sha256sum")
        .arg(path)
        .output()
        .expect("sha256sum is installed: coreutils");
    String::from_utf8_lossy(&out.stdout).split(' ').next().unwrap_or_default().to_string()
}

/// A user's own component, by path, pinned.
#[test]
fn a_pinned_component_must_be_the_one() {
    let path = repository("plugins/dist/sized.wasm");
    let right = digest(&path);
    let wrong = right.replace(|c: char| c.is_ascii_digit(), "0");
    let policy = |sha: &str| {
        format!("policy = {{ wasm = {path:?}, sha256 = \"{sha}\", settings = {{ max-bytes = 5 }} }}")
    };
    let text = refused(&Setup::new(Kind::Redis, 3).group(&policy(&wrong)));
    assert!(text.contains(&right) && text.contains(&wrong), "{text}");

    let servers: Vec<Server> = (0..3).map(|_| Server::start(Kind::Redis)).collect();
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 3).group(&policy(&right)), &ports(&servers));
    proxy.wait_ready();
    assert!(proxy.client().line("SET k 123456").string().starts_with("TOOLARGE"));
    let label = proxy.group()["policy"].as_str().unwrap_or_default().to_string();
    assert_eq!(label, format!("sized {}", &right[..12]));
}

#[test]
fn a_component_that_is_none_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("mine.wasm");
    std::fs::write(&file, "not wasm").expect("written");
    let text = refused(&Setup::new(Kind::Redis, 3).group(&format!("policy = {{ wasm = {file:?} }}")));
    assert!(text.contains("mine"), "{text}");
    let text = refused(&Setup::new(Kind::Redis, 3).group("policy = { wasm = \"/nowhere/mine.wasm\" }"));
    assert!(text.contains("/nowhere/mine.wasm"), "{text}");
}
