//! Commands that run on one server first: what they did there is on all of them, whoever is lost meanwhile.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Setup, Value, wait_until};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Adds one, writes a log of it, and tells how it went.
const COUNT: &str = "local n=redis.call('INCR',KEYS[1]) redis.call('RPUSH',KEYS[2],ARGV[1]) return n";

fn eval(client: &mut Client, text: &str, keys: &[&str], args: &[&str]) -> Value {
    let count = keys.len().to_string();
    let words: Vec<&[u8]> = [b"EVAL".as_slice(), text.as_bytes(), count.as_bytes()]
        .into_iter()
        .chain(keys.iter().chain(args).map(|word| word.as_bytes()))
        .collect();
    client.call(&words)
}

fn every_command(kind: Kind) {
    let cluster = Cluster::start(Setup::new(kind, 3));
    let mut client = cluster.client();
    for line in [
        "SADD s a b c d e f",
        "SADD other x y z",
        "HSET h f 1",
        "RPUSH numbers 3 1 2",
        "GEOADD places 13.36 38.11 Palermo 15.08 37.50 Catania",
        "XGROUP CREATE stream g 0 MKSTREAM",
        "XADD stream 1-1 f v",
        "XADD stream 2-1 f v",
        "SET float 10.5 EX 1000",
    ] {
        client.ok(line);
    }
    let popped = client.line("SPOP s").string();
    assert_eq!(client.line(&format!("SISMEMBER s {popped}")).number(), 0);
    assert_eq!(client.line("SPOP s 2").strings().len(), 2);
    assert_eq!(client.line("SCARD s").number(), 3);
    assert!(client.line("SPOP none").null);
    assert_eq!(client.line("INCRBYFLOAT float 0.1").string(), "10.6");
    assert!((1..=1000).contains(&client.line("TTL float").number()), "its deadline stays");
    assert_eq!(client.line("HINCRBYFLOAT h f 0.25").string(), "1.25");
    assert_eq!(client.line("GEOSEARCHSTORE near places FROMLONLAT 15 37 BYRADIUS 300 km").number(), 2);
    assert_eq!(client.line("GEORADIUS places 15 37 300 km STOREDIST far").number(), 2);
    assert_eq!(client.line("SORT numbers STORE sorted").number(), 3);
    assert_eq!(client.line("LRANGE sorted 0 -1").strings(), ["1", "2", "3"]);
    client.ok("XREADGROUP GROUP g c COUNT 1 STREAMS stream >");
    client.ok("XCLAIM stream g d 0 1-1");
    client.ok("XAUTOCLAIM stream g e 0 0");
    let error = client.line("SPOP float").string();
    assert!(error.starts_with("WRONGTYPE"), "{error}");
    assert_eq!(eval(&mut client, COUNT, &["n", "log"], &["x"]).number(), 1);
    let error =
        eval(&mut client, "redis.call('SET',KEYS[1],'1') return redis.call('LPOP',KEYS[1])", &["half"], &[]);
    assert!(error.string().contains("WRONGTYPE"));
    assert_eq!(client.line("GET half").string(), "1", "a script stops where it fails, here as everywhere");
    assert_eq!(eval(&mut client, "return 7", &[], &[]).number(), 7);
    let left = eval(&mut client, "return redis.call('PTTL',KEYS[1])", &["float"], &[]).number();
    assert!((1..=1_000_000).contains(&left), "a script sees true deadlines: {left}");
    let set = "redis.call('SET',KEYS[1],'v','PX',ARGV[1]) return redis.call('PTTL',KEYS[1])";
    let left = eval(&mut client, set, &["short"], &["700"]).number();
    assert!((600..=700).contains(&left), "{left}");
    wait_until("it ends", LONG, || client.line("EXISTS short").number() == 0);
    let digest = client.line("SCRIPT LOAD return{KEYS[1],1}").string();
    assert_eq!(client.line(&format!("SCRIPT EXISTS {digest}")).strings(), ["1"]);
    assert_eq!(client.line(&format!("EVALSHA {digest} 1 k")).strings(), ["k", "1"]);
    let library =
        "#!lua name=lib\nredis.register_function('put',function(k,a) return redis.call('SET',k[1],a[1]) end)";
    client.call(&["FUNCTION", "LOAD", library]);
    client.ok("FCALL put 1 called yes");
    assert_eq!(client.line("GET called").string(), "yes");
    let error = eval(&mut client, "return 1", &["__quorate:{g}:pos"], &[]).string();
    assert!(error.starts_with("NOPERM"), "{error}");
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
    for server in &cluster.servers {
        assert_eq!(server.client().line("EXISTS __quorate:{g}:trial").number(), 0, "no mark is left");
    }
}

/// Who read from a group and found nothing is a member of it, on all servers, and still after they load their files.
fn who_found_nothing_is_known(kind: Kind) {
    let mut cluster = Cluster::start(Setup::new(kind, 3));
    let mut client = cluster.client();
    client.ok("XGROUP CREATE s g $ MKSTREAM");
    assert!(client.line("XREADGROUP GROUP g c STREAMS s >").null);
    let error = client.line("XREADGROUP GROUP g c STREAMS s other > >").string();
    assert!(error.starts_with("NOGROUP"), "{error}");
    for (option, what) in [("COUNT", "value"), ("BLOCK", "timeout")] {
        for number in ["+5", "007", "-0", "' 5'", "5x"] {
            let error =
                client.line(&format!("XREADGROUP GROUP g nobody {option} {number} STREAMS s >")).string();
            assert_eq!(error, format!("ERR {what} is not an integer or out of range"), "{option} {number}");
        }
    }
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
    for server in &mut cluster.servers {
        server.crash_and_run();
    }
    wait_until("they are written to again", LONG, || !client.line("SET x 1").is_error());
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
    for server in &cluster.servers {
        assert_eq!(server.client().line("XINFO CONSUMERS s g").items.len(), 1);
    }
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

#[test]
fn who_found_nothing_is_known_on_all_redis() {
    who_found_nothing_is_known(Kind::Redis);
}

#[test]
fn who_found_nothing_is_known_on_all_valkey() {
    who_found_nothing_is_known(Kind::Valkey);
}

#[test]
fn every_command_does_the_same_on_all_redis() {
    every_command(Kind::Redis);
}

#[test]
fn every_command_does_the_same_on_all_valkey() {
    every_command(Kind::Valkey);
}

/// Members that one client popped, answers that say that nobody knows, and what its scripts counted.
type Taken = (Vec<String>, usize, Vec<i64>);

/// Clients that pop members and count by script until they are told to stop.
struct Poppers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Taken>>,
}

impl Poppers {
    fn start(port: u16, count: usize) -> Poppers {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..count).map(|who| {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || {
                let (mut popped, mut unknown, mut counts) = (Vec::new(), 0, Vec::new());
                let mut client = None;
                while !stop.load(Ordering::Relaxed) {
                    let Some(open) = client.as_mut() else {
                        client = Client::connect(port).ok();
                        continue;
                    };
                    let Ok(reply) = open.try_line("SPOP big") else {
                        (client, unknown) = (None, unknown + 1);
                        continue;
                    };
                    match reply.is_error().then(|| reply.string()) {
                        Some(error) if error.starts_with("UNKNOWN") => unknown += 1,
                        Some(_) => {}
                        None if reply.null => break,
                        None => popped.push(reply.string()),
                    }
                    let who = who.to_string();
                    let words: [&[u8]; 6] =
                        [b"EVAL", COUNT.as_bytes(), b"2", b"count", b"counts", who.as_bytes()];
                    match open.try_call(&words) {
                        Err(_) => client = None,
                        Ok(reply) if !reply.is_error() => {
                            counts.push(reply.number());
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(_) => {}
                    }
                }
                (popped, unknown, counts)
            })
        });
        let threads = threads.collect();
        Poppers { stop, done, threads }
    }

    fn wait(&self, more: usize) {
        let until = self.done.load(Ordering::Relaxed) + more;
        wait_until("they go on", LONG, || self.done.load(Ordering::Relaxed) >= until);
    }

    /// No member was popped twice, none is lost but to those who were told that nobody knows, and no count
    /// was given twice.
    fn check(self, all: usize, client: &mut Client) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut popped, mut unknown, mut counts) = (BTreeSet::new(), 0, BTreeSet::new());
        for thread in self.threads {
            let (own, own_unknown, own_counts) = thread.join().expect("it ran");
            unknown += own_unknown;
            own.into_iter().for_each(|member| assert!(popped.insert(member.clone()), "{member} came twice"));
            own_counts.into_iter().for_each(|count| assert!(counts.insert(count), "{count} came twice"));
        }
        let left: BTreeSet<String> = client.line("SMEMBERS big").strings().into_iter().collect();
        assert!(left.is_disjoint(&popped), "what was popped is gone");
        let known = left.len() + popped.len();
        assert!(known <= all && all - known <= unknown, "{known} of {all} members, {unknown} unknown");
        let total = client.line("GET count").string().parse::<i64>().expect("a number");
        assert!(counts.last().is_none_or(|last| *last <= total));
        assert_eq!(client.line("LLEN counts").number(), total, "a script is whole or not at all");
    }
}

fn fill(client: &mut Client, all: usize) {
    for from in (0..all).step_by(1000) {
        let members: Vec<String> = (from..from + 1000).map(|n| format!("m{n}")).collect();
        client.ok(&format!("SADD big {}", members.join(" ")));
    }
}

#[test]
fn no_member_is_popped_twice_or_lost_whoever_dies() {
    whoever_dies(Setup::new(Kind::Redis, 3));
}

/// The scripts are entries beside the trials of what is popped.
#[test]
fn no_script_runs_twice_where_all_run_it_whoever_dies() {
    whoever_dies(Setup::new(Kind::Redis, 3).group("scripts = \"verbatim\""));
}

fn whoever_dies(setup: Setup) {
    const ALL: usize = 60_000;
    let mut cluster = Cluster::start(setup);
    fill(&mut cluster.client(), ALL);
    let poppers = Poppers::start(cluster.proxy.port, 4);
    for round in 0..6 {
        let victim = round % 3;
        poppers.wait(150);
        if round % 2 == 0 {
            cluster.servers[victim].kill();
            poppers.wait(50);
            cluster.servers[victim].run();
        } else {
            cluster.servers[victim].pause();
            poppers.wait(50);
            cluster.servers[victim].resume();
        }
        cluster.proxy.wait_in_sync();
    }
    poppers.wait(100);
    cluster.proxy.kill();
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    poppers.wait(100);
    poppers.check(ALL, &mut cluster.client());
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
}

#[test]
fn digests_run_after_servers_and_proxy_restart() {
    let mut cluster = Cluster::usual();
    let mut client = cluster.client();
    let digest = client.line("SCRIPT LOAD return{KEYS[1],1}").string();
    for victim in 0..3 {
        cluster.servers[victim].kill();
        cluster.servers[victim].run();
        cluster.proxy.wait_in_sync();
        assert_eq!(client.line(&format!("EVALSHA {digest} 1 k")).strings(), ["k", "1"]);
    }
    let digest = client.line("SCRIPT LOAD return{KEYS[1],2}").string();
    cluster.proxy.kill();
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    let mut client = cluster.client();
    assert_eq!(client.line(&format!("EVALSHA {digest} 1 k")).strings(), ["k", "2"], "the servers know it");
    client.ok("SCRIPT FLUSH");
    let error = client.line(&format!("EVALSHA {digest} 1 k")).string();
    assert!(error.starts_with("NOSCRIPT"), "{error}");
}

#[test]
fn a_transaction_runs_on_one_server_first_as_a_whole() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("SADD s a b c d e f g h");
    client.ok("MULTI");
    for line in ["SPOP s", "SPOP s 2", "XADD log * f v", "SET lock v PX 100000", "INCR n"] {
        assert_eq!(client.line(line).string(), "QUEUED");
    }
    let replies = client.line("EXEC").items;
    assert_eq!(replies.len(), 5);
    assert_eq!(client.line("SCARD s").number(), 5);
    assert_eq!(client.line("XLEN log").number(), 1);
    assert!((90_000..=100_000).contains(&client.line("PTTL lock").number()), "its deadline holds");
    client.ok("MULTI");
    client.ok("SPOP s");
    let error = client.line("PUBLISH c m").string();
    assert!(error.contains("share a transaction"), "{error}");
    assert!(client.line("EXEC").string().starts_with("EXECABORT"));
    assert_eq!(client.line("SCARD s").number(), 5, "nothing ran");
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}
