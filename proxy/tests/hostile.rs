//! Guards against clients that break the proxy, or each other: whatever one sends, it gets an answer or
//! is closed, and its neighbours notice nothing.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Load, Random, Setup, encode, lines, wait_until};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// What a neighbour may notice.
const BOUND: Duration = Duration::from_millis(2500);

/// Runs `abuse` while neighbours work, and checks that they noticed nothing.
#[track_caller]
fn neighbours_notice_nothing(cluster: &Cluster, abuse: impl FnOnce()) {
    let load = Load::start(cluster.proxy.port, 0, 2);
    load.wait_acked(20);
    abuse();
    load.wait_acked(20);
    let record = load.stop();
    assert!(record.errors().is_empty(), "neighbours saw {:?}", record.errors());
    let (slowest, what) = record.slowest();
    assert!(slowest < BOUND, "a neighbour's {what} took {slowest:?}");
    record.check(&mut cluster.client());
    cluster.assert_equal();
}

/// Memory of the proxy in MiB.
fn resident(cluster: &Cluster) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.proxy.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

#[test]
fn garbage() {
    let cluster = Cluster::usual();
    neighbours_notice_nothing(&cluster, || {
        let mut random = Random::new(7);
        for round in 0..300 {
            let Ok(mut client) = Client::connect(cluster.proxy.port) else {
                panic!("round {round}: no connection")
            };
            let len = 1 + random.below(400);
            // Mostly bytes that mean something.
            let bytes: Vec<u8> = (0..len)
                .map(|_| match random.below(3) {
                    0 => *random.pick(b"*$:+-_\r\n0123456789\"' \\"),
                    1 => *random.pick(b"GETSETPINGabc\r\n\r\n"),
                    _ => random.below(256) as u8,
                })
                .collect();
            let _ = client.send(&bytes);
            let _ = client.stream.shutdown(Shutdown::Write);
            assert!(
                client.is_closed(),
                "round {round} is left open after {:?}",
                bytes.escape_ascii().to_string()
            );
        }
    });
}

#[test]
fn commands_in_two_parts_cut_everywhere() {
    let cluster = Cluster::usual();
    let commands = [
        lines(&["SET cut value EX 1000", "GET cut", "INCR n", "MGET cut nothing"]),
        b"SET inline 'a b'\r\nGET inline\r\n\r\nPING\r\n*0\r\nINCR n\r\n".to_vec(),
        encode(&[b"XADD".as_slice(), b"stream", b"*", b"f", b"\0\r\n$-1\r\n"]),
    ];
    let counts = [4, 4, 1];
    for (bytes, count) in commands.iter().zip(counts) {
        let mut client = cluster.client();
        let mut last = 0;
        for cut in 0..=bytes.len() {
            client.send(&bytes[..cut]).expect("sent");
            if cut % 7 == 0 {
                // Something else happens meanwhile.
                cluster.client().ok("PING");
            }
            let replies = client.pipeline(&bytes[cut..], count);
            assert!(replies.iter().all(|reply| !reply.is_error()), "cut at {cut}: {replies:?}");
            if let Some(n) = replies.iter().find(|reply| reply.kind == b':') {
                assert_eq!(n.number(), last.max(n.number() - 1) + 1, "cut at {cut}");
                last = n.number();
            }
        }
    }
    cluster.assert_equal();
}

/// What never arrived whole must never take effect.
#[test]
fn a_client_that_leaves_in_the_middle_of_a_command() {
    let cluster = Cluster::usual();
    neighbours_notice_nothing(&cluster, || {
        let whole = encode(&["SET", "half", "value"]);
        for cut in 1..whole.len() {
            let mut client = cluster.client();
            client.send(&whole[..cut]).expect("sent");
            drop(client);
        }
        // And one with a large value, that was read in parts.
        let large = encode(&["SET", "half", &"x".repeat(4 << 20)]);
        let mut client = cluster.client();
        client.send(&large[..large.len() - 1]).expect("sent");
        drop(client);
    });
    wait_until("the leavers are forgotten", LONG, || cluster.proxy.metric("quorate_connections") == 0.0);
    assert!(cluster.client().line("GET half").null);
}

#[track_caller]
fn closes_with(cluster: &Cluster, bytes: &[u8], error: &str) {
    refuses(cluster.client(), bytes, error);
}

#[track_caller]
fn refuses(mut client: Client, bytes: &[u8], error: &str) {
    client.send(bytes).expect("sent");
    let reply = client.read().expect("an error comes first");
    assert_eq!(reply.string(), error, "{}", bytes[..bytes.len().min(60)].escape_ascii());
    assert!(client.is_closed());
}

/// The words are those of Redis.
#[test]
fn lengths_that_are_too_large() {
    let cluster = Cluster::usual();
    closes_with(&cluster, b"*1048577\r\n", "ERR Protocol error: invalid multibulk length");
    closes_with(&cluster, b"*99999999999999999999\r\n", "ERR Protocol error: invalid multibulk length");
    closes_with(&cluster, b"*x\r\n", "ERR Protocol error: invalid multibulk length");
    closes_with(&cluster, b"*1\r\n$536870913\r\n", "ERR Protocol error: invalid bulk length");
    closes_with(&cluster, b"*1\r\n$-1\r\n", "ERR Protocol error: invalid bulk length");
    closes_with(&cluster, b"*1\r\n$99999999999999999999\r\n", "ERR Protocol error: invalid bulk length");
    closes_with(&cluster, b"*1\r\n:1\r\n", "ERR Protocol error: expected '$', got ':'");
    closes_with(&cluster, &b"x".repeat(70_000), "ERR Protocol error: too big inline request");
    closes_with(&cluster, b"SET k \"unbalanced\r\n", "ERR Protocol error: unbalanced quotes in request");
}

/// Announcing much costs nothing until it comes.
/// A command goes to the servers as it came: what they would close a connection for must not reach them.
#[test]
fn lengths_that_servers_do_not_read() {
    let cluster = Cluster::usual();
    neighbours_notice_nothing(&cluster, || {
        for odd in ["+3", "03", "-0", " 3", "3 ", "", "0x3"] {
            let count = format!("*{odd}\r\n$3\r\nSET\r\n$3\r\nodd\r\n$1\r\nv\r\n");
            let length = format!("*3\r\n${odd}\r\nSET\r\n$3\r\nodd\r\n$1\r\nv\r\n");
            for client in
                [|cluster: &Cluster| cluster.client(), |cluster: &Cluster| cluster.servers[0].client()]
            {
                let error = "ERR Protocol error: invalid multibulk length";
                refuses(client(&cluster), count.as_bytes(), error);
                refuses(client(&cluster), length.as_bytes(), "ERR Protocol error: invalid bulk length");
            }
        }
    });
    assert_eq!(cluster.proxy.metric("quorate_replica_losses_total"), 0.0);
}

#[test]
fn announced_lengths_take_no_memory() {
    let cluster = Cluster::usual();
    cluster.client().ok("PING");
    let before = resident(&cluster);
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = cluster.client();
        client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc").expect("sent");
        clients.push(client);
        let mut client = cluster.client();
        client.send(b"*1048576\r\n$3\r\nSET\r\n").expect("sent");
        clients.push(client);
    }
    wait_until("all are there", LONG, || cluster.proxy.metric("quorate_connections") >= 80.0);
    let grown = resident(&cluster).saturating_sub(before);
    assert!(grown < 200, "80 promises took {grown} MiB");
    assert_eq!(cluster.client().line("SET k v").text, b"OK");
}

#[test]
fn ten_thousand_commands_in_one_write() {
    let cluster = Cluster::usual();
    neighbours_notice_nothing(&cluster, || {
        let mut bytes = Vec::new();
        for i in 0..2500 {
            bytes.extend(lines(&[
                "INCR deep",
                &format!("SET deep:{i} {i}"),
                &format!("GET deep:{i}"),
                "PING",
            ]));
        }
        let replies = cluster.client().pipeline(&bytes, 10_000);
        for (i, four) in replies.chunks(4).enumerate() {
            assert_eq!(four[0].number(), i as i64 + 1);
            assert_eq!(four[1].text, b"OK");
            assert_eq!(four[2].text, i.to_string().as_bytes());
            assert_eq!(four[3].text, b"PONG");
        }
    });
}

/// Replies pile up in the proxy up to the limit, and not beyond.
#[test]
fn a_client_that_does_not_read_is_closed() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).listen("output-limit = \"16MiB\""));
    let mut client = cluster.client();
    client.call(&["SET", "big", &"x".repeat(1 << 20)]);
    let before = resident(&cluster);
    neighbours_notice_nothing(&cluster, || {
        let mut greedy = cluster.client();
        let asked: Vec<u8> = (0..200).flat_map(|_| lines(&["GET big"])).collect();
        greedy.send(&asked).expect("sent");
        wait_until("it is closed", LONG, || cluster.proxy.log().contains("does not read its replies"));
        assert!(greedy.is_closed());
    });
    assert_eq!(cluster.proxy.metric("quorate_sheds_total"), 1.0);
    let grown = resident(&cluster).saturating_sub(before);
    assert!(grown < 300, "it took {grown} MiB");
}

/// Slow is not hostile: everything comes, in order.
#[test]
fn a_client_that_reads_late_gets_everything() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    for i in 0..4 {
        client.call(&["SET", &format!("big{i}"), &i.to_string().repeat(500_000)]);
    }
    neighbours_notice_nothing(&cluster, || {
        let mut late = cluster.client();
        let asked: Vec<u8> = (0..60).flat_map(|i| lines(&[&format!("GET big{}", i % 4)])).collect();
        late.send(&asked).expect("sent");
        // Others work on; nothing of this is read until they did.
        let mut other = cluster.client();
        for i in 0..200 {
            assert_eq!(other.line("INCR meanwhile").number(), i + 1);
        }
        for i in 0..60 {
            let reply = late.read().expect("it comes");
            assert_eq!(reply.text, (i % 4).to_string().repeat(500_000).as_bytes(), "reply {i}");
        }
    });
}

#[test]
fn more_clients_than_allowed() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).listen("max-clients = 20"));
    neighbours_notice_nothing(&cluster, || {
        let mut inside = Vec::new();
        let mut refused = 0;
        for _ in 0..60 {
            let mut client = cluster.client();
            // A refused client may find its request answered by a reset.
            match client.try_line("PING") {
                Ok(reply) if reply.is_error() => {
                    assert_eq!(reply.string(), "ERR max number of clients reached");
                    refused += 1;
                }
                Ok(_) => inside.push(client),
                Err(_) => refused += 1,
            }
        }
        assert!(inside.len() <= 20 && refused >= 40, "{} inside, {refused} refused", inside.len());
    });
    wait_until("there is room again", LONG, || {
        cluster.client().try_line("PING").is_ok_and(|reply| reply.text == b"PONG")
    });
}

/// Clients that reset the connection before it was looked at must give their place back, or the
/// listener is closed for good.
#[test]
fn connections_that_are_reset_at_once_leave_no_trace() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 1).listen("max-clients = 20"));
    for _ in 0..2000 {
        let stream = TcpStream::connect(("127.0.0.1", cluster.proxy.port)).expect("connects");
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("can be set");
    }
    let reached = || cluster.client().try_line("PING").is_ok_and(|reply| reply.text == b"PONG");
    wait_until("there is room", Duration::from_secs(20), reached);
}

/// A browser that is made to send commands: Redis closes such connections at the first header.
#[test]
fn http_on_the_wrong_port() {
    let cluster = Cluster::usual();
    for head in ["POST / HTTP/1.1\r\nHost: localhost\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut client = cluster.client();
        client
            .send(format!("{head}Content-Type: text/plain\r\n\r\nSET evil 1\r\n").as_bytes())
            .expect("sent");
        client.stream.shutdown(Shutdown::Write).expect("shut");
        assert!(client.is_closed());
        assert!(cluster.client().line("GET evil").null, "the body of a web request was run: {head:?}");
    }
    assert_eq!(cluster.proxy.page("/healthz").0, 200);
}

fn large_value(cluster: &Cluster, size: usize) {
    let value = vec![b'v'; size];
    let mut client = Client::connect_with(cluster.proxy.port, Duration::from_secs(120)).expect("connects");
    let reply = client.call(&[b"SET".as_slice(), b"large", &value]);
    assert_eq!(reply.text, b"OK", "{reply:?}");
    assert_eq!(client.line("STRLEN large").number(), size as i64);
    assert!(client.line("GET large").text == value, "it comes back as it was");
}

#[test]
fn a_value_of_64_mb() {
    let cluster = Cluster::usual();
    large_value(&cluster, 64 << 20);
    cluster.assert_equal();
    assert!(!cluster.proxy.log().contains("lost a backend"), "{}", cluster.proxy.log());
}

#[test]
fn a_value_of_512_mb() {
    if std::env::var_os("QUORATE_BIG").is_some_and(|big| big == "1") {
        let cluster = Cluster::usual();
        large_value(&cluster, 512 << 20);
        cluster.assert_equal();
    }
}

#[test]
fn any_byte_is_a_key() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let mut all: Vec<Vec<u8>> = (0..=255).map(|byte| vec![b'k', byte, b'k']).collect();
    all.extend([vec![], vec![0], b"\r\n".to_vec(), b"*1\r\n$4\r\nPING\r\n".to_vec(), vec![b'x'; 100_000]]);
    for key in &all {
        assert_eq!(
            client.call(&[b"SET", key.as_slice(), key.as_slice()]).text,
            b"OK",
            "{}",
            key.escape_ascii()
        );
        assert_eq!(client.call(&[b"GET", key.as_slice()]).text, *key);
    }
    let mut seen: Vec<Vec<u8>> = client.line("KEYS *").items.into_iter().map(|key| key.text).collect();
    seen.sort();
    all.sort();
    assert!(seen == all, "KEYS tells of {} keys of {}", seen.len(), all.len());
    cluster.assert_equal();
}

/// The log's own keys: no way to see or to change them.
#[test]
fn reserved_keys_are_out_of_reach() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    let names = [
        "__quorate:{g}:pos",
        "__quorate:{g}:tail",
        "__quorate:{g}:run",
        "__quorate:{g}:epoch",
        "__quorate:new",
    ];
    client.ok("SET k 1");
    client.ok("RPUSH pos e:{g}:pos");
    for name in names {
        for line in [
            "GET {}",
            "SET {} 1",
            "DEL {}",
            "UNLINK k {}",
            "EXISTS k {}",
            "EXPIRE {} 1",
            "RENAME {} k2",
            "RENAME k {}",
            "COPY {} k2",
            "COPY k {}",
            "MGET k {}",
            "MSET k 1 {} 2",
            "MSETNX {} 2",
            "APPEND {} x",
            "DUMP {}",
            "TYPE {}",
            "OBJECT ENCODING {}",
            "MEMORY USAGE {}",
            "LRANGE {} 0 -1",
            "LMPOP 2 k {} LEFT",
            "ZMPOP 1 {} MIN",
            "SUNIONSTORE {} k",
            "SUNIONSTORE k {}",
            "ZUNIONSTORE {} 1 k",
            "ZUNIONSTORE k 1 {}",
            "BITOP AND k {} k",
            "PFMERGE {} k",
            "PFCOUNT k {}",
            "LMOVE {} k LEFT LEFT",
            "XREAD STREAMS {} 0",
            "XADD {} * f v",
            "SORT {}",
            "GEOADD {} 1 1 x",
            "GETEX {} EX 1",
            "TOUCH {}",
            "SINTERCARD 2 k {}",
            "RESTORE {} 0 x",
            "PERSIST {}",
            "SETEX {} 10 x",
            "XGROUP CREATE {} g $ MKSTREAM",
            "XINFO STREAM {}",
            "LCS k {}",
            "SETRANGE {} 0 x",
        ] {
            let line = line.replace("{}", name);
            let reply = client.line(&line);
            assert!(reply.string().starts_with("NOPERM"), "'{line}' is answered {reply:?}");
        }
    }
    for line in
        ["SORT pos BY nosort GET __quorat*", "SORT_RO pos BY __quorat* GET #", "SORT pos BY nosort GET *"]
    {
        let before = client.line(line);
        let shown = format!("{before:?}");
        assert!(!shown.contains(':') || before.is_error() || !shown.contains("1:"), "'{line}' shows {shown}");
    }
    assert_eq!(client.line("DBSIZE").number(), 2);
    let mut keys = client.line("KEYS *").strings();
    keys.sort();
    assert_eq!(keys, ["k", "pos"]);
    assert!(client.line("KEYS __quorate*").items.is_empty());
    assert!(client.line("SCAN 0 MATCH __quorate* COUNT 1000").items[1].items.is_empty());
    for _ in 0..50 {
        assert!(["k", "pos"].contains(&client.line("RANDOMKEY").string().as_str()));
    }
    client.ok("DEL k pos");
    assert!(client.line("RANDOMKEY").null);
    for line in ["SWAPDB 0 1", "MOVE k 1", "SELECT 1", "DEBUG SET-ACTIVE-EXPIRE 0", "CONFIG SET save x"] {
        assert!(client.line(line).is_error(), "{line}");
    }
    client.ok("FLUSHALL");
    let mut direct = cluster.servers[0].client();
    assert!(direct.line("KEYS __quorate:*").items.len() >= 3, "they are not flushed");
    cluster.assert_equal();
}

#[test]
fn unknown_commands_leave_the_connection_open() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    for line in [
        "NOSUCH",
        "NOSUCH a b",
        "\"\\r\\n\"",
        "\"\" x",
        "\"\\0\"",
        "GET",
        "GET a b c",
        "OBJECT",
        "OBJECT NOSUCH k",
        "XGROUP",
        "XGROUP NOSUCH a",
        "CLIENT NOSUCH",
        "COMMAND NOSUCH",
        "DISCARD",
        "EXEC",
        "BLPOP k x",
        "EVAL x 0",
        "SWAPDB 0 1",
        "CLUSTER NODES",
        "SHUTDOWN",
        "ACL SETUSER x y",
        "WAIT 1 x",
        "HELLO 9",
        "HELLO x",
        "CLIENT REPLY MAYBE",
        "CLIENT PAUSE x",
        "ASKING",
        "REPLICAOF a b",
        "SYNC",
        "PSYNC a b",
        "AUTH x",
        "AUTH a b c d",
    ] {
        let reply = client.line(line);
        assert!(reply.is_error(), "'{line}' is answered {reply:?}");
        assert_eq!(client.line("PING").text, b"PONG", "after '{line}'");
    }
    let long = "x".repeat(1 << 20);
    let reply = client.call(&[&long, &long]);
    assert!(reply.is_error() && reply.text.len() < 1000, "{} bytes", reply.text.len());
    assert_eq!(client.line("PING").text, b"PONG");
}

#[test]
fn a_password_is_needed() {
    let dir = tempfile::tempdir().expect("a folder");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "open sesame").expect("written");
    let cluster =
        Cluster::start(Setup::new(Kind::Redis, 3).listen(&format!("password = {{ file = {secret:?} }}")));
    let mut client = cluster.client();
    for line in [
        "PING",
        "GET k",
        "SET k v",
        "INFO",
        "CLIENT LIST",
        "COMMAND",
        "NOSUCH",
        "EVAL x 0",
        "SELECT 0",
        "ECHO x",
    ] {
        let reply = client.line(line).string();
        assert_eq!(reply, "NOAUTH Authentication required.", "{line}");
    }
    assert!(client.line("HELLO 3").string().starts_with("NOAUTH"));
    for line in
        ["AUTH wrong", "AUTH default wrong", "AUTH other \"open sesame\"", "HELLO 3 AUTH default wrong"]
    {
        assert!(client.line(line).string().starts_with("WRONGPASS"), "{line}");
        assert_eq!(client.line("GET k").string(), "NOAUTH Authentication required.");
    }
    // Before that nobody may make the proxy hold much.
    closes_with(&cluster, b"*11\r\n", "ERR Protocol error: invalid multibulk length");
    closes_with(&cluster, b"*2\r\n$3\r\nGET\r\n$16385\r\n", "ERR Protocol error: invalid bulk length");
    assert_eq!(client.line("AUTH \"open sesame\"").text, b"OK");
    assert_eq!(client.line("SET k v").text, b"OK");
    assert_eq!(client.line("RESET").text, b"RESET");
    assert_eq!(client.line("GET k").string(), "NOAUTH Authentication required.");
    assert_eq!(client.line("HELLO 3 AUTH default \"open sesame\" SETNAME me").kind, b'%');
    assert_eq!(client.line("CLIENT GETNAME").text, b"me");
    assert_eq!(client.line("GET k").text, b"v");
    // In one write, as clients do.
    let replies = cluster.client().pipeline(&lines(&["GET k", "AUTH \"open sesame\"", "GET k"]), 3);
    assert!(replies[0].is_error() && replies[1].text == b"OK" && replies[2].text == b"v", "{replies:?}");
    assert!(!cluster.proxy.log().contains("sesame"), "the password is in the log");
}

#[test]
fn clients_are_listed() {
    let cluster = Cluster::usual();
    let (mut one, mut two) = (cluster.client(), cluster.client());
    one.ok("CLIENT SETNAME first");
    two.ok("HELLO 3 SETNAME second");
    let list = one.line("CLIENT LIST").string();
    assert!(
        list.lines().count() == 2 && list.contains("name=first") && list.contains("name=second"),
        "{list}"
    );
    assert!(list.contains("resp=3") && list.contains("resp=2"), "{list}");
    let id = two.line("CLIENT ID").number();
    assert!(one.line(&format!("CLIENT LIST ID {id}")).string().contains("name=second"));
    assert!(two.line("CLIENT INFO").string().contains("name=second"));
    assert!(one.line("CLIENT SETNAME \"a b\"").is_error());
}

/// Operators end a client that runs wild without ending the others.
#[test]
fn clients_are_killed() {
    let cluster = Cluster::usual();
    let (mut one, mut two, mut three) = (cluster.client(), cluster.client(), cluster.client());
    three.ok("PING");
    let id = two.line("CLIENT ID").number();
    assert_eq!(one.line(&format!("CLIENT KILL ID {id}")).number(), 1);
    assert!(two.is_closed());
    assert_eq!(one.line("CLIENT KILL ID 999999").number(), 0);
    let address = three.stream.local_addr().expect("it has one");
    assert_eq!(one.line(&format!("CLIENT KILL {address}")).text, b"OK");
    assert!(three.is_closed());
    assert_eq!(one.line("CLIENT KILL 1.2.3.4:5").string(), "ERR No such client");
    let own = one.line("CLIENT ID").number();
    assert_eq!(one.line(&format!("CLIENT KILL ID {own} SKIPME no")).number(), 1);
    assert!(one.is_closed());
}

/// One with nothing to say is closed, if so configured; one that waits for an answer is not.
#[test]
fn silent_clients_are_closed() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 1).listen("idle-timeout = \"1s\""));
    let mut client = cluster.client();
    client.ok("PING");
    let start = Instant::now();
    assert!(client.is_closed());
    assert!(start.elapsed() >= Duration::from_millis(900), "closed after {:?}", start.elapsed());
}
