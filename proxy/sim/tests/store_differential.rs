//! The same commands to the embedded store and to a real Redis 7.0, replies compared byte for byte.
//! Where Redis defines no order, elements are sorted first; remaining times may differ by two seconds.
//! Without a redis-server on the PATH these tests say so and pass.

#![allow(clippy::disallowed_types, reason = "the real server has a real clock")]

mod common;

use std::time::SystemTime;

use common::real::Real;
use common::{Dice, Tree, parse, request};
use quorate_sim::store::{Fate, SessionId, Store};

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_millis() as u64
}

/// Commands with holes: K key, V value, F field or member, I index, N integer, S score, B bound of scores,
/// T remaining time, A absolute time, D a time that is refused or past, O bit offset.
const TEMPLATES: &str = "
PING|PING V|ECHO V|SELECT I|KEYS *|KEYS k[0-3]|TYPE K|EXISTS K K|TOUCH K K|DEL K|UNLINK K K
RENAME K K|RENAMENX K K|COPY K K|COPY K K REPLACE|COPY K K DB 0|CLIENT GETNAME|CLIENT SETNAME V|CLIENT
SET K V|SET K N|SET K N|SET K V NX|SET K V XX|SET K V GET|SET K V EX T|SET K V PX T|SET K V KEEPTTL|SET K V PXAT A
SET K V EXAT I|SET K V NX GET|SET K V XX KEEPTTL|SET K V EX T KEEPTTL|SET K V FOO|SET K V PX 0|SET K V EX D
GET K|GETSET K V|GETDEL K|GETEX K|GETEX K PERSIST|GETEX K EX T|GETEX K PXAT 5|GETEX K PX D|SETNX K V|SETEX K T V
SETEX K D V|PSETEX K T V|MGET K K K|MSET K V K V|MSET K V K|MSETNX K V K V|APPEND K V|STRLEN K|GETRANGE K I I
SETRANGE K I V|SETRANGE K O V|SUBSTR K I I|INCR K|DECR K|INCRBY K N|DECRBY K N
SETBIT K O 1|SETBIT K O 0|SETBIT K O I|GETBIT K O|BITCOUNT K|BITCOUNT K I I|BITCOUNT K I I BIT|BITCOUNT K I I FOO|BITCOUNT K I
EXPIRE K T|EXPIRE K D|PEXPIRE K T|EXPIRE K T NX|EXPIRE K T XX|EXPIRE K T GT|EXPIRE K T LT|EXPIRE K T NX XX|EXPIRE K T GT LT
EXPIRE K T FOO|EXPIREAT K I|PEXPIREAT K A|EXPIRE K D|PEXPIRE K D|TTL K|PTTL K|EXPIRETIME K|PEXPIRETIME K|PERSIST K
HSET K F V|HSET K F V F N|HSET K F V F|HMSET K F V|HSETNX K F V|HGET K F|HMGET K F F|HGETALL K|HDEL K F F|HLEN K|HEXISTS K F
HKEYS K|HVALS K|HINCRBY K F N|HINCRBY K F I|HSTRLEN K F
LPUSH K V V|RPUSH K V V V|LPUSHX K V|RPUSHX K V|LPOP K|RPOP K|LPOP K I|RPOP K I|LPOP K V V|LLEN K|LRANGE K I I|LRANGE K 0 -1
LINDEX K I|LSET K I V|LINSERT K BEFORE V V|LINSERT K AFTER V V|LINSERT K FOO V V|LREM K I V|LTRIM K I I|LTRIM K 0 5
LMOVE K K LEFT RIGHT|LMOVE K K RIGHT LEFT|LMOVE K K LEFT FOO|RPOPLPUSH K K
SADD K F F F|SREM K F F|SMEMBERS K|SISMEMBER K F|SMISMEMBER K F F|SCARD K|SINTER K K|SUNION K K|SDIFF K K|SINTERSTORE K K K
SUNIONSTORE K K K|SDIFFSTORE K K K|SMOVE K K F|SADD K N N
ZADD K S F|ZADD K S F S F|ZADD K NX S F|ZADD K XX S F|ZADD K GT S F|ZADD K LT CH S F|ZADD K CH S F S F|ZADD K INCR S F
ZADD K NX INCR S F|ZADD K GT INCR S F|ZADD K XX INCR S F|ZADD K NX XX S F|ZADD K GT LT S F|ZADD K NX GT S F|ZADD K INCR S F S F|ZADD K S F S
ZREM K F F|ZSCORE K F|ZMSCORE K F F|ZCARD K|ZRANGE K I I|ZRANGE K I I WITHSCORES|ZRANGE K 0 -1 REV WITHSCORES|ZRANGE K B B BYSCORE
ZRANGE K B B BYSCORE REV WITHSCORES|ZRANGE K B B BYSCORE LIMIT I I|ZRANGE K I I LIMIT I I|ZRANGE K I I FOO|ZRANK K F|ZREVRANK K F
ZINCRBY K S F|ZPOPMIN K|ZPOPMAX K|ZPOPMIN K I|ZPOPMAX K I|ZCOUNT K B B|ZRANGEBYSCORE K B B|ZRANGEBYSCORE K B B WITHSCORES
ZRANGEBYSCORE K -inf +inf LIMIT I I|ZREVRANGEBYSCORE K B B WITHSCORES|ZREVRANGE K I I|ZREVRANGE K I I WITHSCORES
ZREMRANGEBYRANK K I I|ZREMRANGEBYSCORE K B B
MULTI|MULTI|EXEC|EXEC|EXEC|DISCARD|WATCH K|WATCH K|UNWATCH|FOO K V|GET|EXEC 1
HSCAN K 0|SSCAN K 0|ZSCAN K 0|SCAN 0 COUNT 1000|SCAN x|SCAN 0 COUNT 0|HSCAN K 0 COUNT 100 MATCH f1
ACL WHOAMI|ACL USERS|ACL FOO|CONFIG GET maxmemory|CONFIG GET maxmemory-policy|CONFIG SET maxmemory 0|CONFIG SET foo 1|CONFIG|RANDOMKEYS
FLUSHALL|FLUSHDB FOO|AUTH V|AUTH V V|HELLO 9 x|HELLO x y";

/// Replies whose order Redis leaves open, with the width of what belongs together.
fn unordered(name: &str) -> Option<usize> {
    match name {
        "keys" | "hkeys" | "hvals" | "smembers" | "sinter" | "sunion" | "sdiff" => Some(1),
        "hgetall" => Some(2),
        _ => None,
    }
}

fn fill(dice: &mut Dice, word: &str) -> String {
    let number = |dice: &mut Dice, choices: &[&str]| dice.pick(choices).to_string();
    match word {
        "K" => format!("k{}", dice.below(7)),
        "V" => number(dice, &["a", "b", "c", "", "17", "-3", "hello world", "0x1", " 5", "a\r\nb"]),
        "F" => format!("f{}", dice.below(5)),
        "I" => number(dice, &["0", "1", "2", "-1", "-2", "3", "100", "-100", "x", "01", "1.5"]),
        "N" => number(dice, &["0", "5", "-7", "9223372036854775807", "-9223372036854775808", "+1", "12"]),
        "S" => {
            number(dice, &["0", "1", "-1.5", "0.1", "1e20", "inf", "-inf", "-0", "3.0", "nan", "x", "1e-7"])
        }
        "B" => number(dice, &["-inf", "+inf", "0", "(0", "1", "(1", "-2", "(x", "0.1", "[1"]),
        "T" if dice.below(4) == 0 => "x".into(),
        // Never the same again: whether equal times are greater, with GT, hangs on the millisecond of each.
        "T" => (100_000 + 5_000 * dice.below(60_000)).to_string(),
        "D" => number(dice, &["0", "-1", "x", "+1", "-9223372036854775808", "9223372036854775807"]),
        "A" => (4_000_000_000_000 + dice.below(1000)).to_string(),
        "O" => number(dice, &["0", "7", "8", "33", "-1", "4294967296", "x"]),
        literal => literal.to_string(),
    }
}

fn command(dice: &mut Dice, templates: &[&str]) -> Vec<String> {
    let template = dice.pick(templates);
    let mut words: Vec<String> = template.split(' ').map(|word| fill(dice, word)).collect();
    match dice.below(60) {
        0 => drop(words.pop().filter(|_| words.len() > 1)),
        1 => words.push("extra".into()),
        2 => words[0] = words[0].to_lowercase(),
        _ => {}
    }
    if words.is_empty() { vec!["PING".into()] } else { words }
}

/// A pair of servers that are told the same.
struct Pair {
    real: Real,
    store: Store,
    session: SessionId,
    protocol: u8,
    trace: Vec<String>,
    in_multi: bool,
}

impl Pair {
    fn new(name: &str) -> Option<Self> {
        let real = Real::start(name)?;
        let mut store = Store::new(1, now_ms());
        let session = store.connect();
        Some(Pair { real, store, session, protocol: 2, trace: Vec::new(), in_multi: false })
    }

    fn ask_both(&mut self, words: &[String]) -> (Vec<u8>, Vec<u8>) {
        let bytes = request(words);
        let real = self.real.ask(&bytes);
        let mut ours = Vec::new();
        let fate = self.store.feed(self.session, &bytes, now_ms(), &mut ours);
        assert_eq!(fate, Fate::Open, "{words:?}");
        (real, ours)
    }

    fn compare(&mut self, words: &[String]) {
        self.trace.push(words.join(" "));
        let (real, ours) = self.ask_both(words);
        let name = words[0].to_lowercase();
        let tail = || self.trace[self.trace.len().saturating_sub(12)..].join("\n");
        let same = real == ours || equivalent(&name, &real, &ours);
        assert!(
            same,
            "protocol {}\nreal: {:.400?}\nours: {:.400?}\nafter:\n{}",
            self.protocol,
            String::from_utf8_lossy(&real),
            String::from_utf8_lossy(&ours),
            tail()
        );
        self.in_multi = match name.as_str() {
            "multi" if ours.starts_with(b"+OK") => true,
            "exec" if !ours.starts_with(b"-ERR") => false,
            "discard" if ours.starts_with(b"+OK") => false,
            _ => self.in_multi,
        };
    }

    fn say(&mut self, line: &str) {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        self.compare(&words);
    }

    fn speak(&mut self, protocol: u8) {
        self.protocol = protocol;
        self.ask_both(&["HELLO".into(), protocol.to_string()]);
    }
}

fn equivalent(name: &str, real: &[u8], ours: &[u8]) -> bool {
    let (Some((real, _)), Some((ours, used))) = (parse(real), parse(ours)) else { return false };
    if used == 0 || real.kind != ours.kind || real.parts.len() != ours.parts.len() {
        return false;
    }
    if let Some(width) = unordered(name) {
        return sorted(&real, width) == sorted(&ours, width);
    }
    match name {
        "ttl" | "expiretime" => near(&real, &ours, 2),
        "pttl" | "pexpiretime" => near(&real, &ours, 2000),
        "scan" | "sscan" => scanned(&real, &ours, 1),
        "hscan" => scanned(&real, &ours, 2),
        "exec" => real.parts.iter().zip(&ours.parts).all(|(real, ours)| same_or_near(real, ours)),
        _ => false,
    }
}

/// Inside EXEC the command is not known: any order, or nearly the same number.
fn same_or_near(real: &Tree, ours: &Tree) -> bool {
    let bag = |tree: &Tree| {
        let mut leaves = Vec::new();
        leaves_of(tree, &mut leaves);
        leaves.sort();
        leaves
    };
    real == ours || (real.kind == ours.kind && (bag(real) == bag(ours) || near(real, ours, 2000)))
}

fn leaves_of(tree: &Tree, out: &mut Vec<Vec<u8>>) {
    if tree.parts.is_empty() {
        out.push(tree.text.clone());
    }
    tree.parts.iter().for_each(|part| leaves_of(part, out));
}

fn sorted(tree: &Tree, width: usize) -> Vec<Vec<Tree>> {
    let mut groups: Vec<Vec<Tree>> = tree.parts.chunks(width).map(<[Tree]>::to_vec).collect();
    groups.sort();
    groups
}

fn scanned(real: &Tree, ours: &Tree, width: usize) -> bool {
    matches!((&real.parts[..], &ours.parts[..]), ([c1, l1], [c2, l2])
        if c1 == c2 && sorted(l1, width) == sorted(l2, width))
}

fn near(real: &Tree, ours: &Tree, tolerance: i64) -> bool {
    let number = |tree: &Tree| std::str::from_utf8(&tree.text).ok().and_then(|text| text.parse::<i64>().ok());
    match (number(real), number(ours)) {
        (Some(real), Some(ours)) => real > 0 && ours > 0 && (real - ours).abs() <= tolerance,
        _ => false,
    }
}

fn run(seed: u64, commands: usize) {
    let Some(mut pair) = Pair::new(&format!("diff{seed}")) else { return };
    let templates: Vec<&str> =
        TEMPLATES.lines().flat_map(|line| line.split('|')).filter(|t| !t.is_empty()).collect();
    let mut dice = Dice(seed);
    for i in 0..commands {
        if i % 200 == 0 && !pair.in_multi {
            pair.speak(if dice.below(2) == 0 { 2 } else { 3 });
        }
        let words = command(&mut dice, &templates);
        pair.compare(&words);
    }
}

#[test]
fn replies_equal_those_of_redis() {
    for seed in 1..=4 {
        run(seed, 5000);
    }
}

/// The checks that random commands meet too rarely: users, refusals, transactions.
#[test]
fn doors_and_refusals_equal_those_of_redis() {
    let Some(mut pair) = Pair::new("doors") else { return };
    let script = "
        ACL SETUSER bob on >x ~a* &* +@all|ACL LIST|ACL USERS|ACL GETUSER bob|ACL GETUSER nobody|AUTH bob y|AUTH bob x
        ACL WHOAMI|SET a1 1|SET b1 1|GET b1|MULTI|SET a1 2|SET b2 1|EXEC|GET a1|AUTH default whatever|ACL WHOAMI
        ACL SETUSER bob -@all +get|ACL LIST|AUTH bob x|GET a1|SET a1 3|ACL LIST|CLIENT ID extra|AUTH default x
        ACL SETUSER bob foo|ACL SETUSER bob +foo|ACL SETUSER bob off|AUTH bob x|ACL DELUSER default|ACL DELUSER bob nobody
        ACL LIST|ACL SETUSER carl|ACL LIST|ACL GETUSER carl|ACL DELUSER carl|CLIENT KILL ID 0|CLIENT KILL ID 99999|CLIENT KILL USER zz
        CLIENT KILL FOO bar|CLIENT SETNAME a|CLIENT GETNAME|CONFIG SET maxmemory xx|CONFIG SET maxmemory 1|SET k v|GET k|DEL k
        MULTI|GET k|DEL k|EXEC|MULTI|EXEC|CONFIG SET maxmemory 64mb|CONFIG GET maxmemory|CONFIG SET maxmemory 0|SET k v
        CONFIG SET maxmemory-policy foo|CONFIG SET appendonly foo|CONFIG GET appendonl[x]|CONFIG SET a|CONFIG SET a b c
        CONFIG REWRITE|CONFIG RESETSTAT|CONFIG GET|MULTI|INCR k|SET n 5|INCR n|EXEC|WATCH n|SET n 6|MULTI|GET n|EXEC|GET n
        WATCH n|MULTI|GET n|EXEC|MULTI|WATCH n|EXEC|DISCARD|EXEC|MULTI|DISCARD|MULTI|MULTI|FOO|EXEC|MULTI|GET|EXEC
        COMMAND INFO get set mset ping multi exec acl flushall watch|COMMAND GETKEYS mset a 1 b 2|COMMAND GETKEYS ping x|COMMAND GETKEYS echo x|COMMAND FOO
        HELLO 3 FOO|HELLO 2 SETNAME|CLIENT SETNAME x|CLIENT GETNAME|RESET|CLIENT GETNAME|TYPE k|RESTORE k 0 xx|RESTORE z 0 xx|RESTORE z -1 xx";
    for line in script.lines().flat_map(|line| line.trim().split('|')).filter(|line| !line.is_empty()) {
        if line.starts_with("COMMAND INFO") {
            compare_tables(&mut pair, line);
        } else {
            pair.say(line);
        }
    }
}

/// Name, arity, flags, first key, last key and step; what follows is left empty by the store.
fn compare_tables(pair: &mut Pair, line: &str) {
    let words: Vec<String> = line.split(' ').map(String::from).collect();
    let (real, ours) = pair.ask_both(&words);
    let rows = |bytes: &[u8]| -> Vec<(Tree, Tree, Vec<Tree>, Vec<Tree>)> {
        let (tree, _) = parse(bytes).expect("a reply");
        let row = |row: Tree| {
            let mut flags = row.parts[2].parts.clone();
            flags.sort();
            // Redis gives containers no flags of their own: they are on the subcommands.
            if row.parts[0].text == b"acl" {
                flags.clear();
            }
            (row.parts[0].clone(), row.parts[1].clone(), flags, row.parts[3..6].to_vec())
        };
        tree.parts.into_iter().map(row).collect()
    };
    assert_eq!(rows(&real), rows(&ours));
}

#[test]
fn protocol_errors_equal_those_of_redis() {
    for bytes in
        ["*x\r\n", "*1\r\n+PING\r\n", "*1\r\n$x\r\n", "*1\r\n$-1\r\n", "SET \"a\r\n", "*2147483648\r\n"]
    {
        let Some(mut pair) = Pair::new("protocol") else { return };
        let mut ours = Vec::new();
        let fate = pair.store.feed(pair.session, bytes.as_bytes(), now_ms(), &mut ours);
        assert_eq!(fate, Fate::Close);
        assert_eq!(pair.real.ask(bytes.as_bytes()), ours, "{bytes:?}");
    }
}

/// A payload written here is read there, and gives the same value.
#[test]
fn dumped_values_are_understood_by_redis() {
    let Some(mut pair) = Pair::new("dump") else { return };
    let long = "x".repeat(20_000);
    let makers = [
        "SET k 12".to_string(),
        format!("SET k {long}"),
        format!("RPUSH k a b {long} c"),
        "SADD k 1 2 3 x".into(),
        "HSET k a 1 b 2".into(),
        "ZADD k 1.5 a inf b -0.1 c".into(),
    ];
    for maker in makers {
        pair.say("FLUSHALL");
        pair.say(&maker);
        let mut ours = Vec::new();
        let dump = request(&["DUMP".into(), "k".into()]);
        assert_eq!(pair.store.feed(pair.session, &dump, now_ms(), &mut ours), Fate::Open);
        let payload = parse(&ours).expect("a payload").0.text;
        let mut restore = b"*4\r\n$7\r\nRESTORE\r\n$1\r\nr\r\n$1\r\n0\r\n".to_vec();
        restore.extend_from_slice(format!("${}\r\n", payload.len()).as_bytes());
        restore.extend_from_slice(&payload);
        restore.extend_from_slice(b"\r\n");
        assert_eq!(pair.real.ask(&restore), b"+OK\r\n", "{maker:.40}");
        assert_eq!(pair.store.feed(pair.session, &restore, now_ms(), &mut Vec::new()), Fate::Open);
        let reader = match maker.split(' ').next() {
            Some("SET") => "GET r",
            Some("RPUSH") => "LRANGE r 0 -1",
            Some("SADD") => "SMEMBERS r",
            Some("HSET") => "HGETALL r",
            _ => "ZRANGE r 0 -1 WITHSCORES",
        };
        pair.say(reader);
    }
}
