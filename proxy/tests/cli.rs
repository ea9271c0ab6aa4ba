//! Guards against a command line that says one thing and does another: exit codes, what is printed where,
//! and processes that stay behind.

mod harness;

use harness::{Client, Cluster, Finished, Kind, LONG, Setup, free_port, quorate, signal, wait_until};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("quorate.toml");
    std::fs::write(&path, text).expect("written");
    (dir, path)
}

fn usual(group: &str) -> (TempDir, PathBuf) {
    file(&Setup::new(Kind::Redis, 3).group(group).toml(6379, 7070, &[7001, 7002, 7003]))
}

fn run(args: &[&str], file: &Path) -> Finished {
    Finished::of(quorate().args(args).arg(file))
}

fn json(finished: &Finished) -> Json {
    serde_json::from_str(&finished.out).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[test]
fn check_of_a_good_file() {
    let (_dir, path) = usual("");
    let text = run(&["check"], &path);
    assert_eq!(text.code, Some(0), "{text:?}");
    for line in [
        "group g: policy majority",
        "2 of {r1, r2, r3}",
        "an acknowledged write survives the loss of any one replica",
        "a new owner needs 2 of 3",
        ": ok",
    ] {
        assert!(text.out.contains(line), "{line}: {text:?}");
    }
    assert_eq!(text.err, "");
    let found = json(&run(&["check", "--format", "json"], &path));
    assert_eq!(found["groups"][0]["group"], "g", "{found}");
    assert_eq!(found["groups"][0]["proof"]["needed_at_takeover"], 2, "{found}");
    assert_eq!(found["problems"].as_array().map(Vec::len), Some(0), "{found}");
}

#[test]
fn check_of_a_bad_file() {
    let (_dir, path) = usual("write-quorum = 4\nwrong-key = 1");
    let text = run(&["check"], &path);
    assert_eq!(text.code, Some(3), "{text:?}");
    assert_eq!(text.out, "", "problems are talk");
    assert!(
        text.err.contains("error[C") && text.err.contains("wrong-key") && text.err.contains("help:"),
        "{text:?}"
    );
    let found = run(&["check", "--format", "json"], &path);
    assert_eq!(found.code, Some(3));
    assert!(json(&found)["problems"].as_array().is_some_and(|p| p.len() == 2), "{found:?}");
    let missing = run(&["check"], Path::new("/nowhere/quorate.toml"));
    assert_eq!(missing.code, Some(3), "{missing:?}");
    // One bad file among good ones.
    let (_other, good) = usual("");
    let both = Finished::of(quorate().arg("check").arg(&good).arg(&path));
    assert_eq!(both.code, Some(3));
    assert!(both.out.contains(": ok"), "{both:?}");
}

#[test]
fn check_holds_expectations() {
    let mut setup = Setup::new(Kind::Redis, 3);
    let expect = |down: &str, outcome: &str| {
        format!(
            "[[expect]]\nname = \"the rule\"\nrequest = \"SET k v\"\ndown = {down}\noutcome = \"{outcome}\"\n"
        )
    };
    setup.rest = expect("[\"r3\"]", "applied") + &expect("[\"r2\", \"r3\"]", "refused");
    let (_dir, path) = file(&setup.toml(6379, 7070, &[7001, 7002, 7003]));
    assert_eq!(run(&["check"], &path).code, Some(0));
    setup.rest = expect("[\"r2\", \"r3\"]", "applied");
    let (_dir, path) = file(&setup.toml(6379, 7070, &[7001, 7002, 7003]));
    let broken = run(&["check"], &path);
    assert_eq!(broken.code, Some(3), "{broken:?}");
    assert!(broken.err.contains("C305") && broken.err.contains("the rule"), "{broken:?}");
}

#[test]
fn check_probes_backends() {
    let cluster = Cluster::usual();
    let config = cluster.proxy.config();
    let probed = run(&["check", "--probe"], &config);
    assert_eq!(probed.code, Some(0), "{probed:?}");
    let (_dir, path) = file(&Setup::new(Kind::Redis, 1).toml(1, 2, &[free_port()]));
    let probed = run(&["check", "--probe"], &path);
    assert_ne!(probed.code, Some(0), "{probed:?}");
    assert!(probed.err.contains("C306"), "{probed:?}");
    assert!(cluster.proxy.group()["writable"].as_bool() == Some(true), "a probe disturbs nobody");
}

#[test]
fn explain_offline() {
    let (_dir, path) = usual("");
    let explain = |request: &str, more: &[&str]| {
        Finished::of(quorate().args(["explain", request]).args(more).arg("-c").arg(&path))
    };
    let write = explain("SET k v", &[]);
    assert_eq!(write.code, Some(0), "{write:?}");
    for part in ["SET (write", "k (slot 7629)", "group    g", "r1", "result"] {
        assert!(write.out.contains(part), "{part}: {write:?}");
    }
    assert_eq!(explain("SET k v", &["--down", "r3"]).code, Some(0));
    let lost = explain("SET k v", &["--down", "r2,r3"]);
    assert_eq!(lost.code, Some(1), "{lost:?}");
    assert_eq!(explain("PING", &[]).code, Some(0));
    let refused = explain("SAVE", &[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.out.contains("class: admin"), "{refused:?}");
    assert_eq!(explain("NOSUCH x", &[]).code, Some(1));
    assert_eq!(explain("SET k v", &["--down", "r9"]).code, Some(1));
    let found = json(&explain("SET k v EX 5", &["--format", "json"]));
    assert_eq!(found["carried"], "rewritten", "{found}");
    assert_eq!(found["plan"]["fate"], "applied", "{found}");
    assert_eq!(Finished::of(quorate().args(["explain", "SET k v", "-c", "/nowhere.toml"])).code, Some(3));
    assert_eq!(Finished::of(quorate().arg("explain")).code, Some(2), "usage");
    assert_eq!(Finished::of(quorate().arg("nonsense")).code, Some(2), "usage");
}

#[test]
fn explain_and_status_live() {
    let mut cluster = Cluster::usual();
    let at = format!("127.0.0.1:{}", cluster.proxy.admin);
    let live = |more: &[&str]| Finished::of(quorate().args(more).args(["--at", &at]));
    assert_eq!(live(&["explain", "SET k v"]).code, Some(0));
    let status = live(&["status"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    for part in ["group g: serving, writable", "r1", "in-sync", "redis 7.", "epoch 1"] {
        assert!(status.out.contains(part), "{part}: {status:?}");
    }
    let found = json(&live(&["status", "--format", "json"]));
    assert_eq!(found["groups"][0]["phase"], "serving", "{found}");
    let config = run(&["status", "-c"], &cluster.proxy.config());
    assert_eq!(config.code, Some(0), "{config:?}");

    cluster.servers[1].kill();
    cluster.servers[2].kill();
    wait_until("it is noticed", LONG, || cluster.proxy.page("/readyz").0 == 503);
    let status = live(&["status"]);
    assert_eq!(status.code, Some(1), "{status:?}");
    assert!(status.out.contains("NOT WRITABLE") && status.out.contains("down"), "{status:?}");
    assert_eq!(live(&["explain", "SET k v"]).code, Some(1), "the failures in force count");
    cluster.proxy.kill();
    let gone = live(&["status"]);
    assert_eq!(gone.code, Some(4), "{gone:?}");
    assert!(gone.out.is_empty() && gone.err.contains(&at), "{gone:?}");
    assert_eq!(live(&["explain", "SET k v"]).code, Some(4));
}

#[test]
fn run_says_what_it_cannot_do() {
    assert_eq!(Finished::of(quorate().args(["run", "-c", "/nowhere.toml"])).code, Some(3));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it has one").port();
    let (_dir, path) = file(&Setup::new(Kind::Redis, 3).toml(port, free_port(), &[7001, 7002, 7003]));
    let busy = run(&["run", "-c"], &path);
    assert_eq!(busy.code, Some(4), "{busy:?}");
    assert!(busy.err.contains(&port.to_string()), "{busy:?}");
    let (_dir, path) = file(&Setup::new(Kind::Redis, 3).toml(free_port(), port, &[7001, 7002, 7003]));
    let busy = run(&["run", "-c"], &path);
    assert_eq!(busy.code, Some(4), "{busy:?}");
    assert!(busy.err.contains(&port.to_string()), "{busy:?}");
}

/// Clients get the answers to what they asked before the end.
#[test]
fn sigterm_drains() {
    let mut cluster = Cluster::usual();
    let mut idle = cluster.client();
    idle.ok("PING");
    let mut busy = cluster.client();
    busy.ok("PING");
    // One replica answers nothing, so the requests are on their way for a moment.
    cluster.servers[1].pause();
    cluster.servers[2].pause();
    busy.send(&harness::lines(&["SET k v", "INCR n", "GET k"])).expect("sent");
    wait_until("they are on their way", LONG, || cluster.proxy.group()["head"].as_u64() > Some(1));
    signal(cluster.proxy.pid(), "TERM");
    wait_until("the listener is closed", LONG, || Client::connect(cluster.proxy.port).is_err());
    cluster.servers[1].resume();
    cluster.servers[2].resume();
    let replies: Vec<String> = (0..3).map(|_| busy.read().expect("it is answered").string()).collect();
    assert_eq!(replies, ["OK", "1", "v"]);
    assert!(busy.is_closed() && idle.is_closed());
    let status = cluster.proxy.exit();
    assert_eq!(status.code(), Some(0));
    assert!(cluster.proxy.log().contains("every client finished"), "{}", cluster.proxy.log());
}

/// A client that went away in the middle of a command must not delay the end.
#[test]
fn sigterm_does_not_wait_for_half_a_command() {
    let mut cluster = Cluster::usual();
    let mut half = cluster.client();
    half.send(b"*2\r\n$3\r\nGET\r\n$10\r\nabc").expect("sent");
    cluster.client().ok("PING");
    let start = std::time::Instant::now();
    signal(cluster.proxy.pid(), "TERM");
    assert_eq!(cluster.proxy.exit().code(), Some(0));
    let took = start.elapsed();
    assert!(took < std::time::Duration::from_secs(8), "half a command kept the proxy for {took:?}");
}

struct Demo {
    child: Child,
    out: Arc<Mutex<String>>,
}

impl Demo {
    fn start(args: &[&str]) -> Demo {
        let mut command = quorate();
        command.args(["demo", "--port", "0", "--admin-port", "0"]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = Arc::new(Mutex::new(String::new()));
        let mut reader = BufReader::new(child.stdout.take().expect("piped"));
        let copy = out.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                copy.lock().expect("not poisoned").push_str(&line);
                line.clear();
            }
        });
        let mut demo = Demo { child, out };
        wait_until("the demo says that it runs", LONG, || {
            assert!(demo.child.try_wait().expect("it can be asked").is_none(), "it ended: {}", demo.text());
            demo.text().contains("Ctrl-C stops everything")
        });
        demo
    }

    fn text(&self) -> String {
        self.out.lock().expect("not poisoned").clone()
    }

    fn port(&self) -> u16 {
        let text = self.text();
        let line = text.lines().find(|line| line.contains("proxy  redis://")).expect("it names its port");
        line.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a number")
    }

    fn set_and_get(&self, text: &str) {
        let mut client = Client::connect(self.port()).expect("it answers where it says");
        assert_eq!(client.line(&format!("SET greeting {text}")).text, b"OK");
        assert_eq!(client.line("GET greeting").text, text.as_bytes());
    }

    fn interrupt(mut self) -> String {
        signal(self.child.id(), "INT");
        let mut status = None;
        wait_until("the demo stops", LONG, || {
            status = self.child.try_wait().expect("it can be asked");
            status.is_some()
        });
        assert_eq!(status.and_then(|s| s.code()), Some(0));
        wait_until("its last words are read", LONG, || self.text().contains("Stopped."));
        self.text()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn simulate(args: &[&str]) -> Finished {
    Finished::of(quorate().arg("simulate").args(args))
}

#[test]
fn a_simulated_seed_tells_the_same_story_twice() {
    let told = simulate(&["--seed", "7", "--profile", "journal"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.out.starts_with("seed 7, profile journal: "), "{told:?}");
    assert!(told.out.ends_with("seed 7: all promises kept\n"), "{told:?}");
    assert_eq!(told.out, simulate(&["--seed", "7", "--profile", "journal"]).out);
    let found = json(&simulate(&["--seed", "7", "--profile", "journal", "--format", "json"]));
    assert_eq!(found["verdict"], "kept", "{found}");
    assert!(found["lines"].as_array().is_some_and(|lines| lines.len() > 10), "{found}");
}

#[test]
fn simulated_seeds_make_a_table() {
    let told = simulate(&["--seeds", "2"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    for word in ["profile", "acknowledged", "violations", "usual", "single", "journal", "storm", "faults: "] {
        assert!(told.out.contains(word), "{word}: {told:?}");
    }
    let found = json(&simulate(&["--seeds", "1", "--profile", "storm", "--format", "json"]));
    assert_eq!(found["profiles"][0]["violations"].as_array().map(Vec::len), Some(0), "{found}");
    assert_eq!(simulate(&["--seed", "1", "--seeds", "2"]).code, Some(2), "one story, or many");
    assert_eq!(simulate(&["--profile", "sunny"]).code, Some(2));
}

#[test]
fn the_embedded_demo() {
    let demo = Demo::start(&["--embedded"]);
    demo.set_and_get("hello");
    assert!(demo.text().contains("embedded"), "{}", demo.text());
    demo.interrupt();
}

#[test]
fn the_demo_with_real_servers() {
    let demo = Demo::start(&[]);
    demo.set_and_get("hello");
    let text = demo.text();
    let pids: Vec<u32> =
        text.lines().filter_map(|line| line.split_once("  pid ")?.1.trim().parse().ok()).collect();
    assert_eq!(pids.len(), 3, "three servers, or install redis-server: {text}");
    // The demo's own advice: kill one, go on writing.
    signal(pids[0], "KILL");
    demo.set_and_get("again");
    demo.interrupt();
    for pid in pids {
        wait_until("the server is gone", LONG, || !Path::new(&format!("/proc/{pid}")).exists());
    }
}
