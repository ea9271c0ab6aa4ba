//! Guards against replicas that drift apart without any fault: every kind of value, written through
//! the proxy, must be the same on every backend, on every supported server and under every policy.

mod harness;

use harness::{Client, Cluster, Kind, Setup, words};

const FAR: &str = "4102444800";

/// Writes of every type. `{FAR}` is a time that no test sees.
const WRITES: &[&str] = &[
    // Strings.
    "SET s:plain hello",
    "SET s:empty \"\"",
    "SET s:bytes \"\\0\\x01\\xff\\r\\n\"",
    "SETNX s:nx 1",
    "SETNX s:nx 2",
    "SET s:nx 3 NX",
    "SET s:xx 3 XX",
    "SET s:get 1 GET",
    "SET s:get 2 GET",
    "MSET s:m1 1 s:m2 2 s:m3 3",
    "MSETNX s:m1 9 s:m4 9",
    "MSETNX s:m5 9 s:m6 9",
    "APPEND s:append abc",
    "APPEND s:append def",
    "SETRANGE s:range 5 world",
    "INCR s:int",
    "INCRBY s:int 41",
    "DECRBY s:int 2",
    "DECR s:int",
    "GETSET s:getset new",
    "SET s:getdel x",
    "GETDEL s:getdel",
    "RENAME s:m1 s:renamed",
    "RENAMENX s:m2 s:m3",
    "COPY s:plain s:copy",
    "COPY s:plain s:copy REPLACE",
    "SET s:gone 1",
    "DEL s:gone s:never",
    "SET s:gone2 1",
    "UNLINK s:gone2",
    // Bitmaps.
    "SETBIT b:1 7 1",
    "SETBIT b:1 1000 1",
    "SETBIT b:2 7 1",
    "BITOP AND b:and b:1 b:2",
    "BITOP NOT b:not b:1",
    "BITFIELD b:field SET u8 0 255 INCRBY i5 100 1 OVERFLOW SAT INCRBY u2 102 3",
    // HyperLogLog.
    "PFADD p:1 a b c d e f g",
    "PFADD p:2 e f g h i",
    "PFMERGE p:3 p:1 p:2",
    "PFCOUNT p:1",
    "PFCOUNT p:1 p:2",
    // Hashes.
    "HSET h:1 f1 v1 f2 v2 f3 v3",
    "HSETNX h:1 f1 other",
    "HMSET h:2 a 1 b 2",
    "HINCRBY h:1 n 5",
    "HDEL h:1 f2",
    "HSET h:big \"a long field that makes the hash leave its compact form, as it is longer than 64 bytes\" v",
    // Lists.
    "RPUSH l:1 a b c d e f",
    "LPUSH l:1 z y x",
    "LPUSHX l:1 w",
    "RPUSHX l:none w",
    "LINSERT l:1 BEFORE c new",
    "LSET l:1 0 first",
    "LREM l:1 1 b",
    "LTRIM l:1 0 6",
    "LPOP l:1",
    "RPOP l:1 2",
    "RPUSH l:2 1 2 3",
    "LMOVE l:1 l:2 LEFT RIGHT",
    "RPOPLPUSH l:2 l:1",
    "LMPOP 2 l:none l:2 LEFT COUNT 2",
    // Sets.
    "SADD set:ints 1 2 3 4",
    "SADD set:words alpha beta gamma delta epsilon zeta eta theta iota kappa",
    "SREM set:words alpha",
    "SMOVE set:words set:other beta",
    "SUNIONSTORE set:union set:ints set:words",
    "SINTERSTORE set:inter set:union set:words",
    "SDIFFSTORE set:diff set:union set:ints",
    // Sorted sets.
    "ZADD z:1 1 a 2 b 3 c 4 d 5 e 6 f",
    "ZADD z:1 XX CH 10 a",
    "ZADD z:1 NX 1 a 7 g",
    "ZADD z:1 GT 1 g",
    "ZADD z:1 INCR 1.5 b",
    "ZINCRBY z:1 0.1 c",
    "ZINCRBY z:1 0.2 c",
    "ZREM z:1 d",
    "ZPOPMIN z:1",
    "ZPOPMAX z:1 1",
    "ZMPOP 1 z:1 MIN",
    "ZADD z:2 1 x 2 y 3 z",
    "ZREMRANGEBYSCORE z:2 3 3",
    "ZUNIONSTORE z:union 2 z:1 z:2 WEIGHTS 2 3",
    "ZINTERSTORE z:inter 2 z:1 z:union",
    "ZDIFFSTORE z:diff 2 z:union z:2",
    "ZRANGESTORE z:stored z:union 0 1",
    "ZADD z:lex 0 a 0 b 0 c",
    "ZREMRANGEBYLEX z:lex [b [b",
    "ZREMRANGEBYRANK z:lex 0 0",
    // Geo.
    "GEOADD g:1 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "GEOADD g:1 CH 13.4 38.2 Palermo",
    // Streams.
    "XADD x:1 * f v",
    "XADD x:1 * f v2 g w",
    "XADD x:2 5-1 f v",
    "XADD x:2 5-* f v",
    "XADD x:2 MAXLEN ~ 1000 * f v",
    "XADD x:2 MAXLEN = 3 * f v",
    "XADD x:2 NOMKSTREAM * f v",
    "XADD x:none NOMKSTREAM * f v",
    "XADD x:3 1-1 a 1",
    "XADD x:3 1-2 a 2",
    "XADD x:3 1-3 a 3",
    "XDEL x:3 1-2",
    "XTRIM x:3 MAXLEN ~ 1",
    "XTRIM x:3 MAXLEN = 1",
    "XTRIM x:2 MINID ~ 1-1 LIMIT 10",
    "XGROUP CREATE x:1 grp 0",
    "XGROUP CREATE x:new grp $ MKSTREAM",
    "XGROUP CREATECONSUMER x:1 grp alice",
    "XGROUP CREATECONSUMER x:1 grp bob",
    "XGROUP DELCONSUMER x:1 grp bob",
    "XGROUP SETID x:1 grp $",
    "XGROUP CREATE x:1 gone 0",
    "XGROUP DESTROY x:1 gone",
    "XSETID x:3 9-9",
    // Expiries, all far away.
    "SET e:ex 1 EX 100000",
    "SET e:px 1 PX 100000000",
    "SET e:exat 1 EXAT {FAR}",
    "SET e:pxat 1 PXAT {FAR}000",
    "SET e:keep 1 EX 100000",
    "SET e:keep 2 KEEPTTL",
    "SETEX e:setex 100000 1",
    "PSETEX e:psetex 100000000 1",
    "SET e:expire 1",
    "EXPIRE e:expire 100000",
    "EXPIRE e:expire 200000 GT",
    "EXPIRE e:expire 100 LT NX",
    "SET e:pexpire 1",
    "PEXPIRE e:pexpire 100000000",
    "SET e:expireat 1",
    "EXPIREAT e:expireat {FAR}",
    "SET e:getex 1",
    "GETEX e:getex EX 100000",
    "GETEX e:getex PX 100000001",
    "GETEX e:ex PERSIST",
    "SET e:persist 1 EX 100000",
    "PERSIST e:persist",
    "SET e:past 1",
    "EXPIREAT e:past 1",
    "SET e:negative 1",
    "EXPIRE e:negative -1",
    // Errors that every backend must answer alike.
    "INCR s:plain",
    "LPUSH s:plain x",
    "HSET l:1 f v",
    "SETRANGE s:range 600000000 x",
];

/// Enough of everything to leave the compact encodings.
fn bulk(client: &mut Client) {
    let mut bytes = Vec::new();
    for i in 0..600 {
        bytes.extend(harness::lines(&[
            &format!("HSET bulk:h f{i} v{i}"),
            &format!("SADD bulk:s m{i}"),
            &format!("ZADD bulk:z {i} m{i}"),
            &format!("RPUSH bulk:l {i}"),
            &format!("XADD bulk:x MAXLEN ~ 100 * i {i}"),
        ]));
    }
    let replies = client.pipeline(&bytes, 3000);
    assert!(replies.iter().all(|reply| !reply.is_error()), "{:?}", replies.iter().find(|r| r.is_error()));
}

fn write_everything(client: &mut Client) {
    for line in WRITES {
        let line = line.replace("{FAR}", FAR);
        let reply = client.line(&line);
        let text = reply.string();
        assert!(
            !text.starts_with("NOTAPPLIED") && !text.starts_with("UNKNOWN"),
            "'{line}' is answered {text}"
        );
        assert!(!text.contains("not carried"), "'{line}' is answered {text}");
    }
    let dump = client.line("DUMP z:1").text;
    for args in [vec!["0"], vec!["100000000"], vec!["4102444800000", "ABSTTL"], vec!["100000000", "REPLACE"]]
    {
        let mut command: Vec<Vec<u8>> = words(&format!("RESTORE e:restored:{}{}", args[0], args.len()));
        command.extend([args[0].as_bytes().to_vec(), dump.clone()]);
        command.extend(args[1..].iter().map(|arg| arg.as_bytes().to_vec()));
        let reply = client.call(&command);
        assert_eq!(reply.text, b"OK", "RESTORE {args:?}: {reply:?}");
    }
    bulk(client);
}

fn all_equal(setup: Setup) {
    let cluster = Cluster::start(setup);
    write_everything(&mut cluster.client());
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
    // What was read back is what is on the backends, deadlines included.
    let mut client = cluster.client();
    assert_eq!(client.line("GET s:plain").text, b"hello");
    let expected = cluster.servers[0].client().line("PEXPIRETIME e:ex2");
    assert_eq!(client.line("PEXPIRETIME e:ex2"), expected);
}

#[test]
fn one_redis() {
    all_equal(Setup::new(Kind::Redis, 1));
}

#[test]
fn two_redis() {
    all_equal(Setup::new(Kind::Redis, 2));
}

#[test]
fn three_redis_majority() {
    all_equal(Setup::new(Kind::Redis, 3));
}

#[test]
fn three_redis_all() {
    all_equal(Setup::new(Kind::Redis, 3).group("write-quorum = \"all\""));
}

#[test]
fn three_redis_primary() {
    all_equal(Setup::new(Kind::Redis, 3).group("policy = \"primary\""));
}

#[test]
fn three_redis_zones() {
    all_equal(
        Setup::new(Kind::Redis, 3)
            .group("policy = { name = \"zones\", settings = { rule = \"two-of-three\" } }"),
    );
}

#[test]
fn three_valkey_majority() {
    all_equal(Setup::new(Kind::Valkey, 3));
}

#[test]
fn two_valkey_all() {
    all_equal(Setup::new(Kind::Valkey, 2).group("write-quorum = 2"));
}

/// A key may end while entries for it are on their way: one backend sees it alive and another not,
/// and from then on they differ for good. Rate limiters do this all day.
#[test]
fn counters_that_expire_stay_equal() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let mut bytes = Vec::new();
    for key in 0..40 {
        bytes.extend(harness::lines(&[&format!("SET e{key} 5 PX 40")]));
    }
    client.pipeline(&bytes, 40);
    for round in 0..100 {
        let bytes: Vec<u8> = (0..40).flat_map(|key| harness::lines(&[&format!("INCR e{key}")])).collect();
        let replies = client.pipeline(&bytes, 40);
        assert!(replies.iter().all(|r| r.kind == b':'), "round {round}: {replies:?}");
    }
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
    cluster.assert_equal();
}

/// The same, for certain: a replica is behind when the key ends, and applies what came before its end
/// after it. It must not count from nothing.
#[test]
fn a_key_that_ends_while_a_replica_is_behind() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("SET e 5 PX 2000");
    cluster.servers[2].pause();
    assert_eq!(client.line("INCR e").number(), 6);
    let mut direct = cluster.servers[0].client();
    harness::wait_until("the key ends", harness::LONG, || direct.line("GET e").null);
    cluster.servers[2].resume();
    cluster.assert_equal();
    assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
    assert!(client.line("GET e").null);
}

/// Every page of SCAN must come from the same replica, or the cursor means something else.
#[test]
fn a_scan_sees_every_key_however_reads_are_spread() {
    for pick in ["nearest", "spread"] {
        let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group(&format!("read-pick = \"{pick}\"")));
        let mut client = cluster.client();
        let bytes: Vec<u8> = (0..2000).flat_map(|i| harness::lines(&[&format!("SET k{i} {i}")])).collect();
        client.pipeline(&bytes, 2000);
        let mut seen = std::collections::BTreeSet::new();
        let mut cursor = "0".to_string();
        loop {
            let page = client.line(&format!("SCAN {cursor} COUNT 50"));
            seen.extend(page.items[1].strings());
            cursor = page.items[0].string();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 2000, "read-pick = {pick}");
        assert_eq!(client.line("DBSIZE").number(), 2000);
        assert_eq!(client.line("KEYS *").items.len(), 2000);
    }
}

/// Everything goes on all servers, at one place in the order, and the servers are still known.
#[test]
fn everything_is_flushed_and_nothing_else() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let mut cluster = Cluster::start(Setup::new(kind, 3));
        let mut client = cluster.client();
        cluster.servers[2].stop();
        for i in 0..50 {
            client.ok(&format!("SET k{i} v"));
            client.ok(&format!("SET t{i} v EX 1000"));
        }
        client.ok("FLUSHALL");
        assert_eq!(client.line("DBSIZE").number(), 0);
        client.ok("SET after 1");
        cluster.servers[2].run();
        cluster.proxy.wait_in_sync();
        cluster.assert_equal();
        assert_eq!(cluster.servers[2].client().line("GET after").string(), "1");
        let replies = client.pipeline(
            &harness::lines(&["MULTI", "SET a 1", "FLUSHDB ASYNC", "DBSIZE", "SET b 1", "EXEC"]),
            6,
        );
        assert_eq!(replies[5].items[2].number(), 0);
        assert_eq!(client.line("KEYS *").strings(), ["b"]);
        assert_eq!(client.line("FLUSHALL NOW").string(), "ERR syntax error");
        cluster.proxy.kill();
        cluster.proxy.run();
        cluster.proxy.wait_in_sync();
        assert_eq!(cluster.client().line("GET b").string(), "1");
        cluster.assert_equal();
        assert_eq!(cluster.proxy.metric("quorate_divergences_total"), 0.0);
    }
}
