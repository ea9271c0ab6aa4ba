//! `scripts = "verbatim"`: scripts that every server runs by itself, and those that still run on one first.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Random, Setup, Value, wait_until};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Adds one, writes a log of it, and tells how it went.
const COUNT: &str = "local n=redis.call('INCR',KEYS[1]) redis.call('RPUSH',KEYS[2],ARGV[1]) return n";

fn verbatim(kind: Kind) -> Cluster {
    Cluster::start(Setup::new(kind, 3).group("scripts = \"verbatim\""))
}

fn eval(client: &mut Client, text: &str, keys: &[&str], args: &[&str]) -> Value {
    let count = keys.len().to_string();
    let words: Vec<&str> =
        ["EVAL", text, &count].into_iter().chain(keys.iter().chain(args).copied()).collect();
    client.call(&words)
}

/// How many scripts every server ran by itself so far.
fn alike(cluster: &Cluster) -> f64 {
    cluster.proxy.metric("quorate_scripts_verbatim_total")
}

fn assert_same(cluster: &Cluster) {
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
}

fn every_script(kind: Kind) {
    let cluster = verbatim(kind);
    let mut client = cluster.client();
    assert_eq!(eval(&mut client, COUNT, &["n", "log"], &["x"]).number(), 1);
    assert_eq!(eval(&mut client, COUNT, &["n", "log"], &["y"]).number(), 2);
    assert_eq!(client.line("LRANGE log 0 -1").strings(), ["x", "y"]);
    let half = "redis.call('SET',KEYS[1],'1') return redis.call('LPOP',KEYS[1])";
    let error = eval(&mut client, half, &["half"], &[]).string();
    assert!(error.contains("WRONGTYPE"), "{error}");
    assert_eq!(client.line("GET half").string(), "1", "a script stops where it fails, everywhere");
    assert_eq!(eval(&mut client, "return 7", &[], &[]).number(), 7);
    let error = eval(&mut client, "return redis.call('GET'", &["k"], &[]).string();
    assert!(error.contains("compil"), "{error}");
    let header = "#!lua flags=no-writes\nreturn redis.call('GET',KEYS[1])";
    assert_eq!(eval(&mut client, header, &["n"], &[]).string(), "2");
    let digest = client.line("SCRIPT LOAD return{KEYS[1],1}").string();
    assert_eq!(client.line(&format!("EVALSHA {digest} 1 k")).strings(), ["k", "1"]);
    let error = eval(&mut client, "return 1", &["__quorate:{g}:pos"], &[]).string();
    assert!(error.starts_with("NOPERM"), "{error}");
    assert_eq!(alike(&cluster), 6.0, "neither what cannot be read nor what is refused counts");
    assert_same(&cluster);
}

#[test]
fn every_redis_runs_scripts_alike() {
    every_script(Kind::Redis);
}

#[test]
fn every_valkey_runs_scripts_alike() {
    every_script(Kind::Valkey);
}

#[test]
fn what_depends_on_time_or_chance_runs_on_one_server_first() {
    let cluster = verbatim(Kind::Redis);
    let mut client = cluster.client();
    client.ok("SADD s a b c d e f");
    client.ok("SET float 10.5 EX 1000");
    let popped = eval(&mut client, "return redis.call('SPOP',KEYS[1])", &["s"], &[]).string();
    assert_eq!(client.line(&format!("SISMEMBER s {popped}")).number(), 0);
    eval(&mut client, "return redis.call('SET',KEYS[1],redis.call('TIME')[2])", &["now"], &[]);
    let left = eval(&mut client, "return redis.call('PTTL',KEYS[1])", &["float"], &[]).number();
    assert!((1..=1_000_000).contains(&left), "a script sees true deadlines: {left}");
    let set = "redis.call('SET',KEYS[1],'v',ARGV[1],ARGV[2]) return redis.call(ARGV[3],KEYS[1])";
    let left = eval(&mut client, set, &["short"], &["PX", "700", "PTTL"]).number();
    assert!((600..=700).contains(&left), "{left}");
    let expire = "redis.call('INCR',KEYS[1]) return redis.call('PEXPIRE',KEYS[1],'700')";
    assert_eq!(eval(&mut client, expire, &["limit"], &[]).number(), 1);
    wait_until("they end", LONG, || client.line("EXISTS short limit").number() == 0);
    let library =
        "#!lua name=lib\nredis.register_function('put',function(k,a) return redis.call('SET',k[1],a[1]) end)";
    client.call(&["FUNCTION", "LOAD", library]);
    client.ok("FCALL put 1 called yes");
    assert_eq!(client.line("GET called").string(), "yes");
    assert_eq!(alike(&cluster), 0.0);
    assert_same(&cluster);
    assert!(cluster.proxy.log().contains("TIME is called"), "the operator is told why");
}

#[test]
fn keys_of_scripts_end_as_others_do() {
    let cluster = verbatim(Kind::Redis);
    let mut client = cluster.client();
    let count = "return redis.call('INCR',KEYS[1])";
    client.ok("SET c 5 PX 400");
    assert_eq!(eval(&mut client, count, &["c"], &[]).number(), 6);
    assert!((1..=400).contains(&client.line("PTTL c").number()), "its deadline stays");
    let get = "return redis.call('GET',KEYS[1])";
    wait_until("it ends for scripts", LONG, || eval(&mut client, get, &["c"], &[]).null);
    assert_eq!(eval(&mut client, count, &["c"], &[]).number(), 1);
    assert_eq!(client.line("PTTL c").number(), -1);
    client.ok("SET d 1 PX 100000");
    eval(&mut client, "return redis.call('SET',KEYS[1],2,'KEEPTTL')", &["d"], &[]);
    assert!((1..=100_000).contains(&client.line("PTTL d").number()));
    eval(&mut client, "return redis.call('SET',KEYS[1],ARGV[1])", &["d"], &["EX"]);
    assert_eq!(client.line("PTTL d").number(), -1);
    assert!(alike(&cluster) >= 5.0);
    assert_same(&cluster);
}

/// What a server was sent so far, in bytes.
fn received(cluster: &Cluster) -> u64 {
    let of = |info: String| {
        let line =
            info.lines().find_map(|line| line.strip_prefix("total_net_input_bytes:")?.parse::<u64>().ok());
        line.expect("it is told")
    };
    cluster.servers.iter().map(|server| of(server.client().line("INFO stats").string())).sum()
}

#[test]
fn a_large_value_stays_where_it_is() {
    const SCRIPT: &str = "return redis.call('HINCRBY',KEYS[1],'n',1)";
    let cost = |setup: Setup| {
        let cluster = Cluster::start(setup);
        let mut client = cluster.client();
        let mut seed = Random::new(7);
        let value: String = (0..1 << 20).map(|_| char::from(b'0' + seed.below(64) as u8)).collect();
        client.call(&["HSET", "h", "large", &value]);
        cluster.proxy.wait_in_sync();
        let before = received(&cluster);
        for n in 1..=5 {
            assert_eq!(eval(&mut client, SCRIPT, &["h"], &[]).number(), n);
        }
        cluster.proxy.wait_in_sync();
        let cost = received(&cluster) - before;
        assert_same(&cluster);
        cost
    };
    let effects = cost(Setup::new(Kind::Redis, 3));
    assert!(effects > 10 << 20, "otherwise it is sent whole each time: {effects}");
    let verbatim = cost(Setup::new(Kind::Redis, 3).group("scripts = \"verbatim\""));
    assert!(verbatim < 1 << 19, "{verbatim}");
}

#[test]
fn a_server_that_was_away_runs_each_script_once() {
    let mut cluster = verbatim(Kind::Redis);
    let mut client = cluster.client();
    let mut n = 0;
    for victim in 0..3 {
        for round in 0..100 {
            match round {
                20 => cluster.servers[victim].kill(),
                80 => cluster.servers[victim].run(),
                _ => {}
            }
            let reply = eval(&mut client, COUNT, &["n", "log"], &[&round.to_string()]);
            n += 1;
            assert_eq!(reply.number(), n);
        }
        cluster.proxy.wait_in_sync();
        cluster.assert_equal();
    }
    assert_eq!(client.line("LLEN log").number(), n);
    assert_eq!(alike(&cluster), n as f64);
    assert_same(&cluster);
}

/// What was ordered for servers of one version is never run by another, nor counted on once one of them is.
#[test]
fn a_server_of_another_version_runs_no_script_that_it_missed() {
    let mut cluster = verbatim(Kind::Redis);
    let (mut client, mut queued) = (cluster.client(), cluster.client());
    queued.ok("MULTI");
    assert_eq!(eval(&mut queued, COUNT, &["n", "log"], &["queued"]).string(), "QUEUED");
    cluster.servers[2].kill();
    for n in 1..=20 {
        assert_eq!(eval(&mut client, COUNT, &["n", "log"], &["x"]).number(), n);
    }
    cluster.servers[2].kind = Kind::Valkey;
    cluster.servers[2].run();
    wait_until("it is told", LONG, || cluster.proxy.log().contains("and needs a copy"));
    let error = queued.line("EXEC").string();
    assert!(error.starts_with("EXECABORT") && error.contains("version"), "{error}");
    let before = alike(&cluster);
    let error = eval(&mut client, COUNT, &["n", "log"], &["x"]).string();
    assert!(error.contains("different versions"), "{error}");
    client.ok("SET k v");
    assert_same(&cluster);
    assert_eq!(client.line("GET n").string(), "20");
    assert_eq!(alike(&cluster), before);
}

/// The same where the proxy does not remember what the server was: the server itself does.
#[test]
fn a_new_proxy_learns_of_another_version_from_the_server() {
    let mut cluster = verbatim(Kind::Redis);
    let mut client = cluster.client();
    assert_eq!(eval(&mut client, COUNT, &["n", "log"], &["x"]).number(), 1);
    cluster.proxy.wait_in_sync();
    cluster.servers[2].kill();
    assert_eq!(eval(&mut client, COUNT, &["n", "log"], &["x"]).number(), 2);
    cluster.proxy.kill();
    cluster.servers[2].kind = Kind::Valkey;
    cluster.servers[2].run();
    cluster.proxy.run();
    wait_until("it is told", LONG, || cluster.proxy.log().contains("and needs a copy"));
    assert_same(&cluster);
    assert_eq!(cluster.client().line("GET n").string(), "2");
}

#[test]
fn a_digest_is_good_whatever_a_server_forgot() {
    let mut cluster = verbatim(Kind::Redis);
    let mut client = cluster.client();
    let digest = client.call(&["SCRIPT", "LOAD", COUNT]).string();
    for victim in 0..3 {
        cluster.servers[victim].kill();
        cluster.servers[victim].run();
        cluster.proxy.wait_in_sync();
        let reply = client.line(&format!("EVALSHA {digest} 2 n log x"));
        assert_eq!(reply.number(), victim as i64 + 1);
    }
    assert_eq!(alike(&cluster), 3.0);
    cluster.proxy.kill();
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    let mut client = cluster.client();
    assert_eq!(client.line(&format!("EVALSHA {digest} 2 n log x")).number(), 4, "a server knows it");
    assert_eq!(alike(&cluster), 0.0, "but the proxy does not");
    assert_eq!(eval(&mut client, COUNT, &["n", "log"], &["x"]).number(), 5);
    assert_eq!(client.line(&format!("EVALSHA {digest} 2 n log x")).number(), 6);
    assert_eq!(alike(&cluster), 2.0);
    client.ok("SCRIPT FLUSH");
    let error = client.line(&format!("EVALSHA {digest} 2 n log x")).string();
    assert!(error.starts_with("NOSCRIPT"), "{error}");
    assert_same(&cluster);
}

#[test]
fn scripts_are_part_of_transactions_and_wake_who_waits() {
    let cluster = verbatim(Kind::Redis);
    let (mut client, mut other) = (cluster.client(), cluster.client());
    let digest = client.call(&["SCRIPT", "LOAD", COUNT]).string();
    client.ok("MULTI");
    assert_eq!(eval(&mut client, COUNT, &["n", "log"], &["x"]).string(), "QUEUED");
    assert_eq!(client.line("PUBLISH c m").string(), "QUEUED", "nothing here runs on one server first");
    assert_eq!(client.line(&format!("EVALSHA {digest} 2 n log y")).string(), "QUEUED");
    assert_eq!(client.line("GET n").string(), "QUEUED");
    client.ok("SCRIPT FLUSH");
    assert_eq!(client.line("EXEC").strings()[..4], ["1", "0", "2", "2"]);

    client.ok("MULTI");
    eval(&mut client, COUNT, &["n", "log"], &["z"]);
    client.ok("INCRBYFLOAT f 0.5");
    assert_eq!(client.line("EXEC").strings(), ["3", "0.5"], "and with what does, it does so too");

    client.ok("WATCH n");
    assert_eq!(eval(&mut other, COUNT, &["n", "log"], &["w"]).number(), 4);
    client.ok("MULTI");
    client.ok("SET n 0");
    assert!(client.line("EXEC").null, "what a script changed is seen");

    client.send(&harness::lines(&["BLPOP queue 30"])).expect("sent");
    wait_until("it waits or is served", LONG, || {
        eval(&mut other, "return redis.call('RPUSH',KEYS[1],'job')", &["queue"], &[]).number() >= 1
    });
    assert_eq!(client.read().expect("served").strings(), ["queue", "job"]);

    client.ok("HELLO 3");
    client.ok("CLIENT TRACKING ON");
    assert_eq!(client.line("GET n").string(), "4");
    eval(&mut other, COUNT, &["n", "log"], &["v"]);
    let told = client.read().expect("a push").strings();
    assert!(told.iter().any(|word| word == "invalidate"), "{told:?}");
    assert_same(&cluster);
}

#[test]
fn a_server_that_answers_a_script_otherwise_is_mended() {
    let cluster = verbatim(Kind::Redis);
    let mut client = cluster.client();
    assert_eq!(eval(&mut client, COUNT, &["n", "log"], &["x"]).number(), 1);
    cluster.proxy.wait_in_sync();
    cluster.servers[2].client().ok("SET n 10");
    // The first answer counts, and this one may be the changed server's.
    assert!([2, 11].contains(&eval(&mut client, COUNT, &["n", "log"], &["y"]).number()));
    wait_until("it is mended", LONG, || cluster.proxy.metric("quorate_mends_total") >= 1.0);
    cluster.proxy.wait_in_sync();
    cluster.assert_equal();
}

#[test]
fn scripts_go_to_the_group_of_their_keys() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 2).groups(2).group("scripts = \"verbatim\""));
    let mut client = cluster.client();
    for n in 0..20 {
        let (key, log) = (format!("{{{n}}}n"), format!("{{{n}}}log"));
        assert_eq!(eval(&mut client, COUNT, &[&key, &log], &["x"]).number(), 1);
        assert_eq!(client.line(&format!("GET {key}")).string(), "1");
    }
    let keys: Vec<String> = (0..20).map(|n| format!("{{{n}}}n")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let error = eval(&mut client, "return redis.call('DEL',unpack(KEYS))", &keys, &[]).string();
    assert!(error.starts_with("CROSSSLOT"), "{error}");
}

/// In the moment in which memory ends, a script may share an entry with what frees memory, which is not refused
/// with it.
#[test]
fn what_frees_memory_is_not_refused_with_scripts() {
    const KEYS: usize = 3000;
    let cluster = Cluster::start(Setup::new(Kind::Redis, 1).group("scripts = \"verbatim\""));
    let mut client = cluster.client();
    for i in 0..KEYS {
        client.ok(&format!("SET k:{i} 1"));
    }
    let (freed, kept, refused) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (mut deleter, freed, kept, refused) = (cluster.client(), &freed, &kept, &refused);
        scope.spawn(move || {
            for i in 0..KEYS {
                kept.fetch_add(usize::from(deleter.line(&format!("DEL k:{i}")).text != b"1"), Relaxed);
                freed.fetch_add(1, Relaxed);
            }
        });
        for name in 0..4 {
            let mut client = cluster.client();
            scope.spawn(move || {
                while freed.load(Relaxed) < KEYS {
                    let set = "return redis.call('SET',KEYS[1],1)";
                    let reply = eval(&mut client, set, &[&format!("s:{name}")], &[]);
                    let full = reply.string().starts_with("OOM");
                    assert!(full || reply.text == b"OK", "{reply:?}");
                    refused.fetch_add(usize::from(full), Relaxed);
                }
            });
        }
        wait_until("some are freed", LONG, || freed.load(Relaxed) > 200);
        cluster.servers[0].client().ok("CONFIG SET maxmemory 1");
    });
    assert!(refused.load(Relaxed) > 0, "it was full");
    assert_eq!(kept.load(Relaxed), 0, "keys that could not be deleted");
}
