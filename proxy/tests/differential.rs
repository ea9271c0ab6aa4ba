//! Guards against a proxy that answers otherwise than the server behind it would: the same commands go to
//! a bare Redis and through the proxy to three of them, and the replies are compared byte for byte.

mod harness;

use harness::{Client, Cluster, Kind, Random, Server, Value, encode, words};
use std::collections::BTreeMap;

/// Keys of every type, made anew before each shape.
const KEYS: &[(&str, &[&str])] = &[
    ("none", &[]),
    ("str", &["SET str \"hello world\""]),
    ("int", &["SET int 41"]),
    ("list", &["RPUSH list a b c 1 2 3 b"]),
    ("hash", &["HSET hash f1 v1 f2 2 f3 3.5"]),
    ("ints", &["SADD ints 1 2 3 4 5"]),
    ("set", &["SADD set a b c 1 2"]),
    ("zset", &["ZADD zset 1 a 2 b 3 c 4.5 d"]),
    ("geo", &["GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"]),
    ("stream", &["XADD stream 1-1 f v", "XADD stream 2-1 f v g w", "XGROUP CREATE stream grp 0"]),
    ("hll", &["PFADD hll a b c"]),
    ("far", &["SET far 7 PXAT 4102444800000"]),
];

/// One command a line. `{k}` stands for each key in turn.
const SHAPES: &str = include_str!("differential/shapes.txt");

/// Commands whose replies cannot be compared as they are, and why. Everything else must be equal byte for byte.
const EXCEPTIONS: &[(&str, Compare, &str)] = &[
    ("smembers", Compare::Sorted, "a hash table lists its members in the order of a random seed"),
    ("spop", Compare::Sorted, "as SMEMBERS; all members are popped, so that chance has no say"),
    ("sunion", Compare::Sorted, "as SMEMBERS"),
    ("sinter", Compare::Sorted, "as SMEMBERS"),
    ("sdiff", Compare::Sorted, "as SMEMBERS"),
    ("keys", Compare::Sorted, "as SMEMBERS"),
    ("sscan", Compare::Page, "as SMEMBERS; all is on one page"),
    ("zscan", Compare::Page, "as SSCAN, once the sorted set is large or was stored by another command"),
    ("hscan", Compare::Page, "as SSCAN"),
    ("scan", Compare::Page, "as SMEMBERS; cursors are compared by what a whole scan sees, in replication.rs"),
    ("sort", Compare::SortedIfSet, "BY nosort of a set: as SMEMBERS"),
    ("sort_ro", Compare::SortedIfSet, "as SORT"),
    ("srandmember", Compare::Shape, "random"),
    ("hrandfield", Compare::Shape, "random"),
    ("zrandmember", Compare::Shape, "random"),
    ("randomkey", Compare::Kind, "random"),
    ("lolwut", Compare::Kind, "art"),
    ("time", Compare::Shape, "time passes"),
    ("ttl", Compare::Near(3), "time passes"),
    ("pttl", Compare::Near(3000), "time passes"),
    ("expiretime", Compare::Near(3), "relative times are counted from when each server was asked"),
    ("pexpiretime", Compare::Near(3000), "as EXPIRETIME"),
    ("object", Compare::Near(3), "IDLETIME: time passes"),
    ("xinfo", Compare::Shape, "idle times and node sizes; contents are compared by XRANGE"),
    ("xadd", Compare::Near(i64::MAX), "the proxy chooses automatic ids by its own clock"),
    ("memory", Compare::Kind, "depends on the allocator"),
    ("info", Compare::Kind, "speaks of the proxy"),
    ("client", Compare::Kind, "speaks of the proxy's own clients"),
    ("hello", Compare::Shape, "names the connection"),
    ("wait", Compare::Kind, "the proxy has replicas"),
    ("role", Compare::Shape, "how much was written is counted otherwise"),
    ("lastsave", Compare::Kind, "each server saves for itself"),
    ("command", Compare::Kind, "order of the command table; compared by count"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Exact,
    Sorted,
    SortedIfSet,
    Page,
    Shape,
    Kind,
    /// Numbers may differ by this much; everything else is exact.
    Near(i64),
}

fn how(args: &[Vec<u8>]) -> Compare {
    let name = args.first().map(|name| String::from_utf8_lossy(name).to_lowercase()).unwrap_or_default();
    EXCEPTIONS.iter().find(|(known, ..)| *known == name).map_or(Compare::Exact, |(_, how, _)| *how)
}

fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    value.items.sort();
    value
}

fn shape(value: &Value) -> String {
    let items: Vec<String> = value.items.iter().map(shape).collect();
    format!("{}{}{items:?}", value.kind as char, value.null)
}

fn same(how: Compare, args: &[Vec<u8>], bare: &Value, proxied: &Value) -> bool {
    if bare == proxied {
        return true;
    }
    if bare.is_error() || proxied.is_error() {
        return false;
    }
    match how {
        Compare::Exact => false,
        Compare::Sorted => sorted(bare) == sorted(proxied),
        Compare::SortedIfSet => {
            args.get(1).is_some_and(|key| key.ends_with(b"set") || key == b"ints")
                && sorted(bare) == sorted(proxied)
        }
        Compare::Page => {
            bare.items.len() == 2
                && proxied.items.len() == 2
                && sorted(&bare.items[1]) == sorted(&proxied.items[1])
        }
        Compare::Shape => shape(bare) == shape(proxied),
        Compare::Kind => bare.kind == proxied.kind,
        Compare::Near(i64::MAX) => bare.kind == proxied.kind && args.iter().any(|arg| arg == b"*"),
        Compare::Near(most) => match (bare.kind, proxied.kind) {
            (b':', b':') => {
                (bare.number() - proxied.number()).abs() <= most
                    && (bare.number() < 0) == (proxied.number() < 0)
            }
            _ => false,
        },
    }
}

/// A bare server and a proxy, with one session each.
struct Pair {
    _server: Server,
    cluster: Cluster,
    bare: Client,
    proxied: Client,
    compared: usize,
    not_carried: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

impl Pair {
    fn start(dialect: &str) -> Pair {
        // The proxy has one database.
        let server = Server::start_with(Kind::Redis, &["--databases", "1"]);
        let cluster = Cluster::usual();
        let (mut bare, mut proxied) = (server.client(), cluster.client());
        bare.ok(&format!("HELLO {dialect}"));
        proxied.ok(&format!("HELLO {dialect}"));
        Pair {
            _server: server,
            cluster,
            bare,
            proxied,
            compared: 0,
            not_carried: BTreeMap::new(),
            wrong: vec![],
        }
    }

    /// Sends it to both; the proxy first, since what it does not carry is not compared.
    fn both(&mut self, args: &[Vec<u8>]) {
        let proxied = self.proxied.call(args);
        if self.refused(args, &proxied) {
            return;
        }
        let bare = self.bare.call(args);
        self.compare(args, &bare, &proxied);
    }

    fn refused(&mut self, args: &[Vec<u8>], reply: &Value) -> bool {
        let text = reply.string();
        let Some((_, class)) = text.split_once("is not carried by this version of Quorate (class: ") else {
            return false;
        };
        let name = String::from_utf8_lossy(&args[0]).to_uppercase();
        assert!(text.starts_with(&format!("ERR '{name}")), "{args:?}: {text}");
        let class = class.split(')').next().unwrap_or_default();
        *self.not_carried.entry(class.to_string()).or_default() += 1;
        true
    }

    fn compare(&mut self, args: &[Vec<u8>], bare: &Value, proxied: &Value) {
        self.compared += 1;
        if !same(how(args), args, bare, proxied) && !self.same_sorted_set(args, bare, proxied) {
            let line = args
                .iter()
                .map(|arg| arg[..arg.len().min(60)].escape_ascii().to_string())
                .collect::<Vec<_>>()
                .join(" ");
            self.wrong.push(format!("{line}\n    Redis  {bare:.400?}\n    proxy  {proxied:.400?}"));
        }
    }

    /// Two dumps of a sorted set in different encodings. `SORT` and `SORT_RO` turn a sorted set into a
    /// skiplist for good even when they only read it (sort.c, `zsetConvert`), and only on the server that
    /// answers: through the proxy that is one replica, and a later `DUMP` may be answered by another.
    /// Such dumps are compared by what the bare server restores from them.
    fn same_sorted_set(&mut self, args: &[Vec<u8>], bare: &Value, proxied: &Value) -> bool {
        if same_set_dump(args, bare, proxied) {
            return true;
        }
        const SKIPLIST: u8 = 5;
        const LISTPACK: u8 = 17;
        let encoding = |dump: &Value| dump.text.first().copied().filter(|_| dump.kind == b'$');
        let encodings = [encoding(bare), encoding(proxied)];
        if !args[0].eq_ignore_ascii_case(b"DUMP")
            || ![[SKIPLIST, LISTPACK], [LISTPACK, SKIPLIST]].map(|pair| pair.map(Some)).contains(&encodings)
        {
            return false;
        }
        let [bare, proxied] = [bare, proxied].map(|dump| {
            self.bare.call(&[&b"RESTORE"[..], b"__restored", b"0", dump.text.as_slice()]);
            let members = self.bare.line("ZRANGE __restored 0 -1 WITHSCORES");
            self.bare.ok("DEL __restored");
            members
        });
        !bare.items.is_empty() && bare == proxied
    }

    /// Fresh keys on both sides, in two writes.
    fn refresh(&mut self) {
        let mut bytes =
            encode(&words("DEL none str int list hash ints set zset geo stream hll far dst dst2 {x}1 {x}2"));
        let mut count = 1;
        for line in KEYS.iter().flat_map(|(_, lines)| *lines) {
            bytes.extend(encode(&words(line)));
            count += 1;
        }
        let bare = self.bare.pipeline(&bytes, count);
        let proxied = self.proxied.pipeline(&bytes, count);
        assert_eq!(bare[1..], proxied[1..], "the keys are made alike");
    }

    #[track_caller]
    fn finish(mut self, at_least: usize) {
        let count = self.wrong.len();
        self.wrong.truncate(40);
        assert!(count == 0, "{count} of {} replies differ:\n{}", self.compared, self.wrong.join("\n"));
        assert!(self.compared >= at_least, "only {} were compared", self.compared);
        self.cluster.assert_equal();
        assert_eq!(self.cluster.proxy.metric("quorate_divergences_total"), 0.0);
    }
}

/// Two dumps of a hash table of members: the same bytes in the order of another random seed, and so another checksum.
fn same_set_dump(args: &[Vec<u8>], bare: &Value, proxied: &Value) -> bool {
    const SET: u8 = 2;
    const FOOTER: usize = 10;
    let members = |dump: &Value| {
        let body = dump.text.len().checked_sub(FOOTER).map(|len| &dump.text[..len])?;
        let mut bytes = body.strip_prefix(&[SET])?.to_vec();
        bytes.sort();
        Some(bytes)
    };
    args[0].eq_ignore_ascii_case(b"DUMP") && members(bare).is_some() && members(bare) == members(proxied)
}

fn shapes() -> impl Iterator<Item = &'static str> {
    SHAPES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn every_shape(dialect: &str) {
    let mut pair = Pair::start(dialect);
    for shape in shapes() {
        pair.refresh();
        if !shape.contains("{k}") {
            pair.both(&words(shape));
            continue;
        }
        for (key, _) in KEYS {
            pair.both(&words(&shape.replace("{k}", key)));
        }
    }
    let refused = pair.not_carried.clone();
    pair.finish(3000);
    assert!(refused.is_empty(), "every shape is carried: {refused:?}");
}

#[test]
fn every_shape_resp2() {
    every_shape("2");
}

#[test]
fn every_shape_resp3() {
    every_shape("3");
}

/// Not compared here: they end or change the connection, or are long. Those of subscribers are in pubsub.rs, transactions in
/// transactions.rs, what is asked of a server in introspection.rs.
const OWN: &[&str] = &[
    "acl",
    "bgrewriteaof",
    "bgsave",
    // Valkey takes more arguments, and the proxy as many.
    "cluster|replicate",
    "config",
    "debug",
    "latency",
    "memory",
    "replicaof",
    "slaveof",
    "slowlog",
    "multi",
    "quit",
    "reset",
    "client",
    "hello",
    "auth",
    "command",
    "info",
    "select",
    "monitor",
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
];

/// Every command that the server has, with too few, too many and senseless arguments.
#[test]
fn every_command_with_senseless_arguments() {
    let mut pair = Pair::start("2");
    let names: Vec<String> = pair.bare.line("COMMAND LIST").strings();
    assert!(names.len() > 200, "{}", names.len());
    for name in names {
        if OWN.contains(&name.as_str()) || OWN.contains(&name.split('|').next().unwrap_or_default()) {
            continue;
        }
        for arguments in
            ["", "str", "str x", "list 1", "zset 0 -1", "none a b", "hash 1 2 3", "1 set x y z w v u t s"]
        {
            if pair.compared.is_multiple_of(64) {
                pair.refresh();
            }
            pair.both(&words(&format!("{} {arguments}", name.replace('|', " "))));
            // Some arguments mean a life of a millisecond, and the two sides do not begin it together.
            if name.contains("expire") {
                pair.refresh();
            }
        }
    }
    pair.finish(1000);
}

/// Shapes in random order over few keys, so that they meet values that other shapes left.
fn random_lines(seed: u64, count: usize) -> Vec<Vec<Vec<u8>>> {
    let mut random = Random::new(seed);
    let shapes: Vec<&str> = shapes()
        .filter(|line| {
            // What depends on time or chance would set the two sides apart for good.
            let name = line.split(' ').next().unwrap_or_default().to_lowercase();
            let relative =
                [" EX ", " PX ", "EXPIRE ", "SETEX", "RESTORE"].iter().any(|part| line.contains(part));
            let random = matches!(how(&words(line)), Compare::Shape | Compare::Kind) || line.contains('*');
            // The proxy trims exactly where `~` lets Redis leave more, so that all replicas trim alike.
            let approximate = line.contains('~');
            !relative && !random && !approximate && name != "object" && !OWN.contains(&name.as_str())
        })
        .collect();
    let keys = ["str", "int", "list", "hash", "ints", "set", "zset", "stream", "dst", "none"];
    let mut one = || {
        let key: &str = random.pick::<&str>(&keys);
        words(&random.pick::<&str>(&shapes).replace("{k}", key))
    };
    (0..count).map(|_| one()).collect()
}

#[test]
fn random_commands_one_by_one() {
    let mut pair = Pair::start("2");
    for (turn, args) in random_lines(20, 3000).into_iter().enumerate() {
        if turn % 200 == 0 {
            pair.refresh();
        }
        pair.both(&args);
    }
    pair.finish(2000);
}

/// Many at once, reads and writes mixed: the same replies in the same order.
#[test]
fn random_commands_in_pipelines() {
    let mut pair = Pair::start("3");
    for seed in 0..8 {
        pair.refresh();
        let all = random_lines(100 + seed, 500);
        let bytes: Vec<u8> = all.iter().flat_map(|args| encode(args)).collect();
        let proxied = pair.proxied.pipeline(&bytes, all.len());
        let carried: Vec<bool> =
            all.iter().zip(&proxied).map(|(args, reply)| !pair.refused(args, reply)).collect();
        let sent: Vec<&Vec<Vec<u8>>> =
            all.iter().zip(&carried).filter(|(_, c)| **c).map(|(args, _)| args).collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|args| encode(args)).collect();
        let bare = pair.bare.pipeline(&bytes, sent.len());
        let kept = proxied.iter().zip(&carried).filter(|(_, c)| **c).map(|(reply, _)| reply);
        for ((args, bare), proxied) in sent.into_iter().zip(&bare).zip(kept) {
            pair.compare(args, bare, proxied);
        }
    }
    pair.finish(3000);
}

/// A session that changes its protocol in the middle of a pipeline.
#[test]
fn the_protocol_changes_in_a_pipeline() {
    let mut pair = Pair::start("2");
    pair.refresh();
    let asked: Vec<Vec<Vec<u8>>> = [
        "HGETALL hash",
        "HELLO 3",
        "HGETALL hash",
        "ZSCORE zset a",
        "GET none",
        "INCR int",
        "HELLO 2",
        "HGETALL hash",
        "ZSCORE zset a",
        "GET none",
        "INCR int",
        "HELLO 3",
        "SMEMBERS ints",
        "ZADD zset INCR 1 a",
    ]
    .iter()
    .map(|line| words(line))
    .collect();
    let bytes: Vec<u8> = asked.iter().flat_map(|args| encode(args)).collect();
    let bare = pair.bare.pipeline(&bytes, asked.len());
    let proxied = pair.proxied.pipeline(&bytes, asked.len());
    for ((args, bare), proxied) in asked.iter().zip(&bare).zip(&proxied) {
        pair.compare(args, bare, proxied);
    }
    pair.finish(10);
}
