//! Guards against programs that ask a server about itself and get no answer, a wrong one, or a secret; and against
//! commands that hold a client back and never let it go.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Server, Setup, Value, encode, wait_until, words};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PASSWORD: &str = "hush-7f3a";

fn with_password() -> (tempfile::TempDir, Cluster) {
    let dir = tempfile::tempdir().expect("a folder");
    let secret = dir.path().join("password");
    std::fs::write(&secret, PASSWORD).expect("written");
    let lines = format!("password = {{ file = {secret:?} }}");
    (dir, Cluster::start(Setup::new(Kind::Redis, 3).listen(&lines)))
}

fn field<'a>(reply: &'a Value, key: &str) -> Option<&'a Value> {
    reply.field(key)
}

fn text(reply: &Value) -> String {
    assert!(!reply.is_error(), "{reply:?}");
    reply.string()
}

fn number(client: &mut Client, line: &str) -> i64 {
    let reply = client.line(line);
    assert_eq!(reply.kind, b':', "{line}: {reply:?}");
    reply.number()
}

#[test]
fn settings_are_shown_and_changed_or_the_change_is_refused() {
    let (_dir, cluster) = with_password();
    for dialect in [2, 3] {
        let mut client = cluster.client();
        client.ok(&format!("HELLO {dialect} AUTH default {PASSWORD}"));
        let all = client.line("CONFIG GET *");
        assert_eq!(all.kind, if dialect == 2 { b'*' } else { b'%' });
        assert_eq!(field(&all, "databases").map(text).as_deref(), Some("1"));
        assert_eq!(field(&all, "maxmemory-policy").map(text).as_deref(), Some("noeviction"));
        for hidden in ["requirepass", "masterauth", "dir", "logfile", "aclfile"] {
            assert_eq!(field(&all, hidden), None, "{hidden}");
        }
        assert!(!format!("{all:?}").contains(PASSWORD));
        let some = client.line("CONFIG GET MAXMEM* no-such-setting save");
        assert_eq!(field(&some, "maxmemory").map(text).as_deref(), Some("0"));
        assert!(field(&some, "databases").is_none());
    }
    let mut client = cluster.client();
    client.ok(&format!("AUTH {PASSWORD}"));
    for (name, value) in [
        ("slowlog-log-slower-than", "5"),
        ("slowlog-max-len", "7"),
        ("timeout", "70"),
        ("hash-max-listpack-entries", "2"),
        ("notify-keyspace-events", "AKE"),
    ] {
        client.ok(&format!("CONFIG SET {name} {value}"));
        let reply = client.line(&format!("CONFIG GET {name}"));
        assert_eq!(field(&reply, name).map(text).as_deref(), Some(value));
    }
    cluster.proxy.wait_in_sync();
    client.ok("HSET h a 1 b 2 c 3");
    assert_eq!(client.line("OBJECT ENCODING h").string(), "hashtable");
    for server in &cluster.servers {
        assert_eq!(server.client().line("OBJECT ENCODING h").string(), "hashtable", "on every replica");
    }
    for (line, error) in [
        ("CONFIG SET port 1", "ERR CONFIG SET failed (possibly related to argument 'port') - "),
        ("CONFIG SET maxmemory 100", "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - "),
        ("CONFIG SET requirepass x", "ERR CONFIG SET failed (possibly related to argument 'requirepass') - "),
        ("CONFIG SET foo bar", "ERR Unknown option or number of arguments for CONFIG SET - 'foo'"),
        (
            "CONFIG SET timeout x",
            "ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't",
        ),
        (
            "CONFIG SET timeout 1 TIMEOUT 2",
            "ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate",
        ),
        ("CONFIG SET timeout 1 foo", "ERR wrong number of arguments for 'config|set' command"),
        (
            "CONFIG SET timeout 33 maxmemory 1",
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory')",
        ),
        ("CONFIG SET notify-keyspace-events q", "ERR CONFIG SET failed (possibly related to argument"),
        ("CONFIG REWRITE", "ERR The server is running without a config file"),
    ] {
        let reply = client.line(line);
        assert!(reply.is_error() && reply.string().starts_with(error), "{line}: {reply:?}");
    }
    assert_eq!(
        field(&client.line("CONFIG GET timeout"), "timeout").map(text).as_deref(),
        Some("70"),
        "all or nothing"
    );
    client.ok("CONFIG RESETSTAT");
    client.ok("MULTI");
    client.line("CONFIG GET databases");
    client.line("CONFIG SET timeout 0");
    client.line("CONFIG SET hash-max-listpack-entries 9");
    let exec = client.line("EXEC");
    assert_eq!(exec.items[0].strings(), ["databases", "1"]);
    assert_eq!(exec.items[1].string(), "OK");
    assert!(exec.items[2].is_error());
}

#[test]
fn slow_commands_are_kept_without_secrets() {
    let (_dir, cluster) = with_password();
    let mut client = cluster.client();
    client.ok(&format!("AUTH {PASSWORD}"));
    assert_eq!(
        number(&mut client, "SLOWLOG LEN"),
        0,
        "nothing took ten milliseconds of this client's so far"
    );
    client.ok("CONFIG SET slowlog-log-slower-than 0");
    client.ok("CLIENT SETNAME me");
    client.ok(&format!("AUTH default {PASSWORD}"));
    client.ok("SET key value");
    let long = "x".repeat(200);
    client.line(&format!("GET {long}"));
    client.ok("MULTI");
    client.line("INCR n");
    client.line("EXEC");
    let log = client.line("SLOWLOG GET -1");
    let commands: Vec<Vec<String>> = log.items.iter().map(|entry| entry.items[3].strings()).collect();
    assert!(
        commands
            .contains(&words("SET key value").iter().map(|w| String::from_utf8_lossy(w).into()).collect())
    );
    assert!(commands.iter().any(|words| words[0] == "EXEC"), "{commands:?}");
    let cut = commands.iter().find(|words| words[0] == "GET").expect("it is there");
    assert_eq!(cut[1], format!("{}... (72 more bytes)", "x".repeat(128)));
    assert!(!format!("{log:?}").contains(PASSWORD));
    let entry = &log.items[0];
    assert_eq!(entry.items.len(), 6);
    assert!(entry.items[0].number() > log.items[1].items[0].number(), "the latest is the first");
    assert_eq!(entry.items[5].string(), "me");
    assert_eq!(client.line("SLOWLOG GET 2").items.len(), 2);
    client.ok("CONFIG SET slowlog-max-len 3");
    assert_eq!(number(&mut client, "SLOWLOG LEN"), 3);
    client.ok("CONFIG SET slowlog-log-slower-than -1");
    client.ok("SLOWLOG RESET");
    client.ok("SET key value");
    assert_eq!(number(&mut client, "SLOWLOG LEN"), 0);
}

#[test]
fn info_speaks_of_the_proxy_and_hides_what_is_not_the_clients() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("SET a 1");
    client.ok("SET b 1 PX 600000");
    client.line("NOSUCH");
    for dialect in [2, 3] {
        client.line(&format!("HELLO {dialect}"));
        for sections in
            ["", "everything", "all", "server clients stats replication keyspace commandstats errorstats"]
        {
            let info = client.line(&format!("INFO {sections}")).string();
            let line =
                |key: &str| info.lines().find(|l| l.split(':').next() == Some(key)).map(str::to_string);
            assert_eq!(line("role").as_deref(), Some("role:master"), "{sections}");
            assert_eq!(line("connected_clients").as_deref(), Some("connected_clients:1"), "{sections}");
            let keyspace = line("db0").expect("there are keys");
            assert!(keyspace.starts_with("db0:keys=2,expires=1,avg_ttl="), "{keyspace}");
            let ttl: u64 = keyspace.rsplit('=').next().and_then(|ttl| ttl.parse().ok()).expect("a number");
            assert!(ttl <= 600_000, "{keyspace}");
            if !sections.is_empty() {
                assert!(line("cmdstat_set").is_some_and(|l| l.starts_with("cmdstat_set:calls=2,")), "{info}");
                assert_eq!(line("cmdstat_exec"), None, "that is how the proxy writes");
            }
        }
    }
    client.ok("MULTI");
    client.line("INFO keyspace");
    assert!(client.line("EXEC").items[0].string().contains("db0:keys=2,"));
}

#[test]
fn replies_are_left_out_where_the_client_does_not_want_them() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let script = [
        "SET k 1",
        "CLIENT REPLY SKIP",
        "SET k 2",
        "GET k",
        "CLIENT REPLY OFF",
        "INCR k",
        "NOSUCH",
        "GET k",
        "PING",
    ];
    let mut bytes: Vec<u8> = script.iter().flat_map(|line| encode(&words(line))).collect();
    bytes.extend(encode(&words("CLIENT REPLY ON")));
    bytes.extend(encode(&words("GET k")));
    let replies = client.pipeline(&bytes, 4);
    let replies: Vec<String> = replies.iter().map(Value::string).collect();
    assert_eq!(replies, ["OK", "2", "OK", "3"]);
    assert!(client.line("CLIENT REPLY MAYBE").is_error());
    client.ok("MULTI");
    assert!(client.line("CLIENT REPLY OFF").is_error());
    client.ok("DISCARD");
    client.send(&encode(&words("CLIENT REPLY OFF"))).expect("sent");
    assert_eq!(client.line("RESET").string(), "RESET");
}

#[test]
fn a_pause_holds_commands_back_and_loses_none() {
    let cluster = Cluster::usual();
    let (mut one, mut other) = (cluster.client(), cluster.client());
    one.ok("SET k 1");
    one.ok("CLIENT PAUSE 600000 WRITE");
    assert_eq!(other.line("GET k").string(), "1", "reads go on");
    other.send(&[encode(&words("INCR k")), encode(&words("GET k"))].concat()).expect("sent");
    assert_eq!(one.line("GET k").string(), "1");
    one.ok("CLIENT UNPAUSE");
    assert_eq!(other.read().expect("a reply").number(), 2);
    assert_eq!(other.read().expect("a reply").string(), "2");

    one.ok("CLIENT PAUSE 200");
    let began = Instant::now();
    assert_eq!(other.line("GET k").string(), "2");
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    for (line, error) in [
        ("CLIENT PAUSE x", "ERR timeout is not an integer or out of range"),
        ("CLIENT PAUSE -1", "ERR timeout is negative"),
        ("CLIENT PAUSE 1 SOME", "ERR CLIENT PAUSE mode must be WRITE or ALL"),
    ] {
        assert_eq!(one.line(line).string(), error);
    }
    one.ok("CLIENT PAUSE 600000");
    other.send(&encode(&words("GET k"))).expect("sent");
    drop(other);
    wait_until("the client that was held back is gone", LONG, || {
        one.line("CLIENT LIST").string().lines().count() == 1
    });
}

#[test]
fn wait_counts_the_replicas_that_hold_what_was_written() {
    let mut cluster = Cluster::usual();
    cluster.proxy.wait_in_sync();
    let mut client = cluster.client();
    for _ in 0..20 {
        let replies =
            client.pipeline(&[encode(&words("INCR n")), encode(&words("WAIT 2 30000"))].concat(), 2);
        assert_eq!(replies[1].number(), 2, "all three hold it");
    }
    client.ok("MULTI");
    client.line("INCR n");
    client.line("WAIT 2 0");
    assert_eq!(client.line("EXEC").items[1].number(), 2);
    for (line, error) in [
        ("WAIT x 1", "ERR value is not an integer or out of range"),
        ("WAIT 1 x", "ERR timeout is not an integer or out of range"),
        ("WAIT 1 -1", "ERR timeout is negative"),
    ] {
        assert_eq!(client.line(line).string(), error);
    }
    cluster.servers[2].kill();
    wait_until("the proxy knows", LONG, || cluster.proxy.states().iter().any(|state| state == "down"));
    client.ok("SET k v");
    assert_eq!(number(&mut client, "WAIT 2 50"), 1);
    assert_eq!(number(&mut client, "WAIT 1 0"), 1);

    // One that waits delays nobody, is made to stop, and may leave.
    let mut other = cluster.client();
    let id = number(&mut other, "CLIENT ID");
    other.send(&encode(&words("WAIT 3 0"))).expect("sent");
    wait_until("it waits", LONG, || number(&mut client, &format!("CLIENT UNBLOCK {id}")) == 1);
    assert_eq!(other.read().expect("a reply").number(), 1);
    other.send(&encode(&words("WAIT 3 0"))).expect("sent");
    client.ok("SET k w");
    drop(other);
    wait_until("it is gone", LONG, || client.line("CLIENT LIST").string().lines().count() == 1);

    let mut other = cluster.client();
    other.send(&encode(&words("WAIT 2 60000"))).expect("sent");
    cluster.servers[2].run();
    assert_eq!(other.read().expect("a reply").number(), 2, "as soon as the third has caught up");
}

#[test]
fn waitaof_counts_the_replicas_that_have_it_on_disk() {
    let bare = Server::start_with(Kind::Valkey, &["--databases", "1"]);
    let cluster = Cluster::start(Setup::new(Kind::Valkey, 3));
    cluster.proxy.wait_in_sync();
    let (mut bare, mut client) = (bare.client(), cluster.client());
    for line in ["x 0 0", "2 0 0", "-1 0 0", "0 x 0", "0 -1 0", "0 0 x", "0 0 -1", "0 0", "0 0 0 0"] {
        let line = format!("WAITAOF {line}");
        assert_eq!(client.line(&line), bare.line(&line), "{line}");
    }
    for _ in 0..20 {
        let both = [encode(&words("INCR n")), encode(&words("WAITAOF 1 2 30000"))].concat();
        assert_eq!(client.pipeline(&both, 2)[1].strings(), ["1", "2"]);
    }
    assert_eq!(client.line("DBSIZE").number(), 1, "what it takes to know is not seen");
    client.ok("MULTI");
    client.line("INCR n");
    client.line("WAITAOF 1 2 0");
    assert_eq!(client.line("EXEC").items[1].strings(), ["0", "0"], "nothing waits there");
    cluster.assert_equal();

    cluster.servers[2].pause();
    let both = [encode(&words("INCR n")), encode(&words("WAITAOF 1 2 300"))].concat();
    assert_eq!(client.pipeline(&both, 2)[1].strings(), ["1", "1"]);
    let mut other = cluster.client();
    other.ok("INCR n");
    other.send(&encode(&words("WAITAOF 1 2 60000"))).expect("sent");
    cluster.servers[2].resume();
    assert_eq!(other.read().expect("a reply").strings(), ["1", "2"], "as soon as the third has it");
    for server in &cluster.servers {
        server.client().ok("CONFIG SET appendonly no");
    }
    wait_until("every server has said that it keeps no file", LONG, || {
        client.ok("INCR n");
        client.line("WAITAOF 1 0 50").string().starts_with("ERR WAITAOF cannot be used")
    });
}

/// What must read the same as from a server with one database.
const LIKE_A_SERVER: &[&str] = &[
    "ACL WHOAMI",
    "ACL USERS",
    "ACL LIST",
    "ACL GETUSER default",
    "ACL GETUSER nobody",
    "ACL LOG",
    "ACL LOG RESET",
    "ACL LOG x",
    "ACL DRYRUN default GET k",
    "ACL DRYRUN default NOSUCH k",
    "ACL DRYRUN nobody GET k",
    "ACL HELP",
    "ACL CAT",
    "ACL GENPASS 0",
    "CLIENT HELP",
    "CLIENT PAUSE x",
    "CLIENT UNPAUSE",
    "CLIENT REPLY x",
    "CLIENT REPLY ON",
    "CLIENT NO-EVICT on",
    "CLIENT NO-EVICT x",
    "CLIENT LIST TYPE nosuch",
    "CLIENT KILL a b c",
    "CONFIG GET databases",
    "CONFIG GET save",
    "CONFIG GET no-such",
    "CONFIG HELP",
    "CONFIG SET databases",
    "CONFIG SET no-such 1",
    "CONFIG RESETSTAT",
    "CONFIG REWRITE",
    "CLUSTER INFO",
    "CLUSTER SLOTS",
    "CLUSTER MYID",
    "CLUSTER KEYSLOT k",
    "READONLY",
    "READWRITE",
    "ASKING",
    "LATENCY LATEST",
    "LATENCY HISTORY command",
    "LATENCY RESET",
    "LATENCY RESET command",
    "LATENCY GRAPH command",
    "LATENCY HELP",
    "SLOWLOG HELP",
    "SLOWLOG GET -2",
    "SLOWLOG GET x",
    "SLOWLOG LEN x",
    "SLOWLOG LEN",
    "SLOWLOG GET",
    "SLOWLOG RESET",
    "MEMORY HELP",
    "MEMORY PURGE",
    "MODULE LIST",
    "OBJECT HELP",
    "OBJECT REFCOUNT k",
    "OBJECT ENCODING none",
    "OBJECT FREQ k",
    "REPLICAOF NO ONE",
    "SLAVEOF no one",
    "SELECT 0",
    "SELECT 1",
    "SELECT x",
    "SWAPDB 0 0",
    "SWAPDB 0 1",
    "SWAPDB x 1",
    "SWAPDB 0 x",
    "MOVE k 0",
    "MOVE k 1",
    "MOVE k x",
    "COPY k l DB 1",
    "COPY k l DB x",
    "COPY k l DB",
    "BGREWRITEAOF x",
    "WAITAOF 0 0 0",
    "WAIT x 0",
    "COMMAND COUNT",
    "COMMAND GETKEYS SET k v",
    "COMMAND GETKEYS PING",
    "COMMAND GETKEYSANDFLAGS SET k v",
    "COMMAND LIST FILTERBY PATTERN xrea*",
    "COMMAND LIST FILTERBY ACLCAT hyperloglog",
    "COMMAND INFO get nosuch",
    "COMMAND DOCS get",
    "PFSELFTEST x",
];

#[test]
fn answers_are_those_of_a_server() {
    let bare = Server::start_with(Kind::Redis, &["--databases", "1"]);
    let cluster = Cluster::usual();
    for dialect in [2, 3] {
        let (mut bare, mut proxied) = (bare.client(), cluster.client());
        for client in [&mut bare, &mut proxied] {
            client.line(&format!("HELLO {dialect}"));
            client.ok("SET k 1");
            client.ok("CONFIG SET slowlog-log-slower-than 1000000000");
        }
        let mut wrong = Vec::new();
        for line in LIKE_A_SERVER {
            let (expected, answered) = (bare.line(line), proxied.line(line));
            if expected != answered && sorted(&expected) != sorted(&answered) {
                wrong.push(format!("{line}\n  {expected:?}\n  {answered:?}"));
            }
        }
        assert!(wrong.is_empty(), "protocol {dialect}:\n{}", wrong.join("\n"));
    }
}

/// Some answers are sets in the order of a random seed.
fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    value.items = value.items.iter().map(sorted).collect();
    value.items.sort();
    value
}

#[test]
fn what_concerns_the_servers_is_asked_of_them_or_refused() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("SET k v");
    for dialect in [3, 2] {
        let mut fresh = cluster.client();
        fresh.line(&format!("HELLO {dialect}"));
        fresh.ok("FLUSHALL");
        let none = fresh.line("RANDOMKEY");
        assert!(none.null && (none.kind == b'_') == (dialect == 3), "{none:?}");
        fresh.ok("SET k v");
    }
    assert_eq!(client.line("ROLE").items[0].string(), "master");
    assert!(number(&mut client, "LASTSAVE") > 1_600_000_000);
    assert!(number(&mut client, "MEMORY USAGE k") > 0);
    assert!(client.line("MEMORY STATS").is_aggregate());
    text(&client.line("MEMORY DOCTOR"));
    text(&client.line("LATENCY DOCTOR"));
    text(&client.line("LOLWUT"));
    assert_eq!(client.line("ACL GENPASS").string().len(), 64);
    assert_eq!(client.line("BGSAVE").string(), "Background saving started");
    for server in &cluster.servers {
        let saved =
            || !server.client().line("INFO persistence").string().contains("rdb_last_bgsave_time_sec:-1");
        wait_until("every server has saved", LONG, saved);
    }
    for line in [
        "SAVE",
        "SHUTDOWN",
        "FAILOVER",
        "SYNC",
        "PSYNC ? -1",
        "DEBUG SLEEP 100",
        "DEBUG SEGFAULT",
        "DEBUG JMAP",
        "DEBUG SET-ACTIVE-EXPIRE 0",
        "DEBUG OBJECT __quorate:{g}:pos",
        "MODULE LOAD x",
        "REPLICAOF localhost 1",
        "ACL SETUSER x y",
        "ACL DELUSER default",
        "ACL SAVE",
        "BGSAVE x",
        "LATENCY HELP x",
        "PFDEBUG GETREG k",
    ] {
        let reply = client.line(line);
        assert!(reply.is_error() && reply.string().starts_with("ERR"), "{line}: {reply:?}");
    }
    assert_eq!(client.line("GET k").string(), "v");
    cluster.assert_equal();
}

/// Every byte that a server sends for these lines, up to the marker behind them.
fn bytes_of(port: u16, lines: &[String]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    socket.set_read_timeout(Some(LONG)).expect("a time");
    socket.write_all((lines.join("\r\n") + "\r\nECHO THE-END\r\n").as_bytes()).expect("sent");
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    while !all.ends_with(b"THE-END\r\n") {
        let count = socket.read(&mut chunk).expect("an answer");
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn every_kind_of_reply_passes_as_it_is() {
    let args = vec!["--enable-debug-command", "yes"];
    let bare = Server::start_with(Kind::Redis, &args);
    let cluster = Cluster::start(Setup { server_args: args, ..Setup::new(Kind::Redis, 3) });
    cluster.proxy.wait_in_sync();
    let kinds = "string integer double null array set map attrib verbatim true false bignum";
    let kinds = || kinds.split(' ').map(|kind| format!("DEBUG PROTOCOL {kind}"));
    for dialect in [2, 3] {
        let in_transaction = ["MULTI".to_string()].into_iter().chain(kinds()).chain(["EXEC".to_string()]);
        for lines in [kinds().collect::<Vec<_>>(), in_transaction.collect()] {
            // What HELLO says differs from server to server.
            let hello = ["CLIENT REPLY OFF".into(), format!("HELLO {dialect}"), "CLIENT REPLY ON".into()];
            let lines: Vec<String> = hello.into_iter().chain(lines).collect();
            let answered = bytes_of(cluster.proxy.port, &lines);
            assert_eq!(answered, bytes_of(bare.port, &lines), "protocol {dialect}");
            assert_eq!(answered.contains("|1\r\n"), dialect == 3, "an attribute comes before its value");
        }
    }
    let refused = cluster.client().line("DEBUG PROTOCOL push").string();
    assert!(refused.starts_with("ERR DEBUG command not allowed"), "a push is no reply: {refused}");
}

#[test]
fn a_listener_may_look_like_a_cluster_of_one_node() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).listen("cluster = \"cache.internal:7000\""));
    let mut client = cluster.client();
    let slots = client.line("CLUSTER SLOTS");
    let shard = &slots.items[0].items;
    assert_eq!((shard[0].number(), shard[1].number()), (0, 16_383));
    let id = client.line("CLUSTER MYID").string();
    assert_eq!(
        shard[2].items[..3].iter().map(Value::string).collect::<Vec<_>>(),
        ["cache.internal", "7000", &id]
    );
    assert_eq!(id.len(), 40);
    let nodes = client.line("CLUSTER NODES").string();
    assert_eq!(nodes, format!("{id} cache.internal:7000@17000 myself,master - 0 0 0 connected 0-16383\n"));
    let shards = client.line("CLUSTER SHARDS");
    let node = &shards.items[0].field("nodes").expect("nodes").items[0];
    assert_eq!(node.field("endpoint").map(text).as_deref(), Some("cache.internal"));
    assert_eq!(node.field("id").map(text).as_deref(), Some(id.as_str()));
    assert!(
        client
            .line("CLUSTER INFO")
            .string()
            .starts_with("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n")
    );
    assert_eq!(number(&mut client, "CLUSTER KEYSLOT foo"), 12_182);
    assert!(client.line("INFO cluster").string().contains("cluster_enabled:1"));
    assert!(client.line("INFO server").string().contains("redis_mode:cluster"));
    for line in ["READONLY", "READWRITE", "ASKING", "SET {t}a 1", "SET {t}b 2", "MSET {t}c 1 {t}d 2"] {
        client.ok(line);
    }
    assert_eq!(client.line("MGET {t}a {t}b").strings(), ["1", "2"]);
    for line in ["MGET a b", "MSET a 1 b 2", "RENAME a b", "ZUNIONSTORE a 1 b"] {
        assert_eq!(
            client.line(line).string(),
            "CROSSSLOT Keys in request don't hash to the same slot",
            "{line}"
        );
    }
    client.ok("MULTI");
    assert!(client.line("DEL a b").is_error());
    assert!(client.line("EXEC").string().starts_with("EXECABORT"));
    assert_eq!(
        client.line("CLUSTER KEYSLOT").string(),
        "ERR wrong number of arguments for 'cluster|keyslot' command"
    );
    assert_eq!(client.line("CLUSTER COUNTKEYSINSLOT 16384").string(), "ERR Invalid slot");
    for line in ["CLUSTER MEET a 1", "CLUSTER FAILOVER", "CLUSTER RESET", "CLUSTER ADDSLOTS 1", "SELECT 1"] {
        assert!(client.line(line).is_error(), "{line}");
    }
}

/// Goes on with a scan until its end; what it saw.
fn scan_on(
    client: &mut Client,
    name: &str,
    mut cursor: String,
    seen: &mut Vec<String>,
    pages: usize,
) -> String {
    for _ in 0..pages {
        let (command, key) = name.split_once(' ').unwrap_or((name, ""));
        let page = client.line(&format!("{command} {key} {cursor} COUNT 20"));
        assert!(!page.is_error(), "{page:?}");
        seen.extend(page.items[1].strings());
        cursor = page.items[0].string();
        if cursor == "0" {
            break;
        }
    }
    cursor
}

#[test]
fn a_scan_sees_all_that_is_there_though_its_replica_is_lost_or_restarts() {
    let mut cluster = Cluster::usual();
    cluster.proxy.wait_in_sync();
    let mut client = cluster.client();
    let count = 2000;
    let commands: Vec<u8> =
        (0..count).flat_map(|i| encode(&words(&format!("SADD big member:{i}")))).collect();
    client.pipeline(&commands, count);
    let commands: Vec<u8> = (0..count).flat_map(|i| encode(&words(&format!("SET key:{i} v")))).collect();
    client.pipeline(&commands, count);
    let all = |prefix: &str, seen: &[String]| {
        let distinct: std::collections::BTreeSet<_> =
            seen.iter().filter(|one| one.starts_with(prefix)).collect();
        assert_eq!(distinct.len(), count);
        seen.len()
    };
    for (name, prefix) in [("SCAN", "key:"), ("SSCAN big", "member:")] {
        let mut seen = Vec::new();
        assert_eq!(scan_on(&mut client, name, "0".into(), &mut seen, usize::MAX), "0");
        assert!(all(prefix, &seen) <= count + 1, "nothing twice while nothing changes");

        // The replica is lost: the same cursor goes on, from the beginning.
        let mut seen = Vec::new();
        let cursor = scan_on(&mut client, name, "0".into(), &mut seen, 20);
        let replica = (cursor.parse::<u64>().expect("a number") & 63) as usize;
        cluster.servers[replica].kill();
        wait_until("the proxy knows", LONG, || cluster.proxy.states()[replica] == "down");
        assert_eq!(scan_on(&mut client, name, cursor.clone(), &mut seen, usize::MAX), "0");
        all(prefix, &seen);

        // It came back with another seed: its own cursor means nothing to it any more.
        cluster.servers[replica].run();
        cluster.proxy.wait_in_sync();
        let mut again = Vec::new();
        assert_eq!(scan_on(&mut client, name, cursor, &mut again, usize::MAX), "0");
        all(prefix, &again);
    }
    assert!(client.line("SCAN x").is_error());
    assert!(client.line("SSCAN __quorate:{g}:tail 0").is_error());
    let cursor = scan_on(&mut client, "SCAN", "0".into(), &mut Vec::new(), 1);
    client.ok("MULTI");
    assert_eq!(client.line("SCAN 0").string(), "QUEUED");
    assert!(client.line(&format!("SCAN {cursor}")).is_error());
    client.ok("DISCARD");
    client.ok("MULTI");
    client.line("SCAN 0 COUNT 10");
    let next = client.line("EXEC").items[0].items[0].string();
    let mut seen = Vec::new();
    scan_on(&mut client, "SCAN", next, &mut seen, usize::MAX);
    all("key:", &seen);
}
