//! The crate `redis`, as programs in Rust use it, with real servers behind the proxy: what it is told, and that
//! the servers are equal afterwards.

mod harness;

use harness::{Cluster, Kind, LONG, Setup, wait_until};
use redis::aio::{ConnectionManagerConfig, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::streams::{StreamPendingReply, StreamReadOptions, StreamReadReply};
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, Commands, Connection, ErrorKind, PushInfo, PushKind,
    RedisResult, Script, ServerErrorKind, SetExpiry, SetOptions, Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;

/// Of both protocol versions.
const VERSIONS: [&str; 2] = ["resp2", "resp3"];

/// Takes the first of the words in the list, and counts it.
const COUNT: &str = "local word = redis.call('LPOP', KEYS[1])
if not word then return redis.error_reply('NOWORD the list is empty') end
return {word, redis.call('HINCRBY', KEYS[2], word, ARGV[1])}";

fn client(cluster: &Cluster, version: &str) -> Client {
    let url = format!("redis://127.0.0.1:{}/?protocol={version}", cluster.proxy.port);
    Client::open(url).expect("an address")
}

/// A connection for threads; no reply takes longer than a test waits.
fn connect(cluster: &Cluster, version: &str) -> Connection {
    let connection = client(cluster, version).get_connection().expect("it connects");
    connection.set_read_timeout(Some(LONG)).expect("a time");
    connection
}

/// A connection that tasks share.
async fn shared(client: &Client) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(LONG));
    client.get_multiplexed_async_connection_with_config(&config).await.expect("it connects")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(3 * LONG, work).await.expect("it is done in time") })
}

fn values_and_pipelines(connection: &mut Connection) -> RedisResult<()> {
    let _: () = redis::cmd("FLUSHALL").query(connection)?;
    let _: () = connection.set("a", 1)?;
    assert_eq!(connection.incr::<_, _, i64>("a", 41)?, 42);
    assert_eq!(connection.get::<_, Option<String>>("nothing")?, None);
    let _: () = connection.set(&b"\0\xff\r\n"[..], &b"\xfe\0"[..])?;
    assert_eq!(connection.get::<_, Vec<u8>>(&b"\0\xff\r\n"[..])?, b"\xfe\0");
    let options = SetOptions::default().with_expiration(SetExpiry::EX(100)).get(true);
    assert_eq!(connection.set_options::<_, _, Option<i64>>("a", "new", options)?, Some(42));
    let left: i64 = connection.ttl("a")?;
    assert!((90..=100).contains(&left), "{left}");
    let _: () = connection.hset_multiple("h", &[("x", 1), ("y", 2)])?;
    assert_eq!(
        connection.hgetall::<_, BTreeMap<String, i64>>("h")?,
        [("x".into(), 1), ("y".into(), 2)].into()
    );
    let _: () = connection.zadd_multiple("z", &[(1.5, "one"), (2.25, "two")])?;
    let ranked: Vec<(String, f64)> = connection.zrange_withscores("z", 0, -1)?;
    assert_eq!(ranked, [("one".into(), 1.5), ("two".into(), 2.25)]);
    assert_eq!(connection.sadd::<_, _, i64>("s", &["p", "q"])?, 2);
    assert_eq!(connection.smembers::<_, BTreeSet<String>>("s")?, ["p".into(), "q".into()].into());
    assert_eq!(connection.mget::<_, Vec<Option<String>>>(&["a", "nothing"])?, [Some("new".into()), None]);

    let mut plain = redis::pipe();
    plain.set("n", 1).ignore().incr("n", 1).cmd("PING").arg("here").incr("n", 1);
    assert_eq!(plain.query::<(i64, String, i64)>(connection)?, (2, "here".into(), 3));
    let mut atomic = redis::pipe();
    atomic.atomic().incr("n", 10).rpush("l", &[1, 2]).ignore().lrange("l", 0, -1);
    assert_eq!(atomic.query::<(i64, Vec<i64>)>(connection)?, (13, vec![1, 2]));
    // A failure inside stops nothing, and is told.
    let failed = redis::pipe().atomic().incr("n", 1).incr("l", 1).incr("n", 1).query::<Value>(connection);
    assert!(failed.is_err_and(|error| error.to_string().contains("WRONGTYPE")));
    assert_eq!(connection.get::<_, i64>("n")?, 15);
    // A refusal outside lets nothing happen.
    let refused = redis::pipe().atomic().incr("n", 1).cmd("NOSUCH").query::<Value>(connection);
    assert!(refused.is_err());
    assert_eq!(connection.get::<_, i64>("n")?, 15);
    Ok(())
}

#[test]
fn values_and_pipelines_are_a_servers() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let cluster = Cluster::start(Setup::new(kind, 3));
        for version in VERSIONS {
            values_and_pipelines(&mut connect(&cluster, version)).expect(version);
        }
        cluster.assert_equal();
    }
}

#[test]
fn scripts_are_loaded_where_they_are_missing() -> RedisResult<()> {
    let cluster = Cluster::usual();
    for version in VERSIONS {
        let mut connection = connect(&cluster, version);
        let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut connection)?;
        let _: () = connection.rpush("words", &["red", "blue", "red"])?;
        let count = Script::new(COUNT);
        let mut call = count.key("words");
        call.key("counts").arg(2);
        let counted: Vec<(String, i64)> =
            (0..3).map(|_| call.invoke(&mut connection)).collect::<Result<_, _>>()?;
        assert_eq!(counted, [("red".into(), 2), ("blue".into(), 2), ("red".into(), 4)]);
        let empty = call.invoke::<Value>(&mut connection).expect_err("nothing is left");
        assert_eq!(empty.code(), Some("NOWORD"));
        assert_eq!(connection.del::<_, i64>("counts")?, 1);
    }
    cluster.assert_equal();
    Ok(())
}

/// Four threads add to the same key, each with what it read: no addition is lost.
#[test]
fn who_watches_loses_no_update() -> RedisResult<()> {
    const EACH: i64 = 25;
    let cluster = Cluster::usual();
    let add = |version: &str| -> RedisResult<()> {
        let mut connection = connect(&cluster, version);
        for _ in 0..EACH {
            let (sum, _): (i64, i64) = redis::transaction(&mut connection, &["sum"], |connection, pipe| {
                let before: Option<i64> = connection.get("sum")?;
                pipe.set("sum", before.unwrap_or_default() + 1).ignore();
                pipe.get("sum").rpush("history", before.unwrap_or_default()).query(connection)
            })?;
            assert!((1..=4 * EACH).contains(&sum));
        }
        Ok(())
    };
    std::thread::scope(|threads| {
        let all = [0, 1, 0, 1].map(|at| threads.spawn(move || add(VERSIONS[at])));
        all.into_iter().try_for_each(|thread| thread.join().expect("it ran"))
    })?;
    let mut connection = connect(&cluster, "resp3");
    assert_eq!(connection.get::<_, i64>("sum")?, 4 * EACH);
    let history: Vec<i64> = connection.lrange("history", 0, -1)?;
    assert_eq!(history, (0..4 * EACH).collect::<Vec<_>>(), "each read what the one before it wrote");
    cluster.assert_equal();
    Ok(())
}

#[test]
fn scans_find_everything() -> RedisResult<()> {
    let cluster = Cluster::usual();
    let mut connection = connect(&cluster, "resp3");
    let mut fill = redis::pipe();
    for at in 0..500 {
        fill.set(format!("key:{at}"), at).ignore().hset("h", format!("f{at}"), at).ignore();
        fill.sadd("s", at).ignore().zadd("z", at, at).ignore();
    }
    fill.exec(&mut connection)?;
    let wanted: BTreeSet<String> = (0..500).map(|at| format!("key:{at}")).collect();
    let found: BTreeSet<String> = connection.scan_match::<_, String>("key:*")?.collect::<Result<_, _>>()?;
    assert_eq!(found, wanted);
    assert_eq!(connection.scan::<String>()?.collect::<Result<BTreeSet<_>, _>>()?.len(), 503);
    let fields: BTreeMap<String, i64> =
        connection.hscan::<_, (String, i64)>("h")?.collect::<Result<_, _>>()?;
    assert_eq!(fields, (0..500).map(|at| (format!("f{at}"), at)).collect());
    let members: BTreeSet<i64> = connection.sscan::<_, i64>("s")?.collect::<Result<_, _>>()?;
    assert_eq!(members, (0..500).collect());
    let ranked: BTreeMap<i64, f64> = connection.zscan::<_, (i64, f64)>("z")?.collect::<Result<_, _>>()?;
    assert_eq!(ranked, (0..500).map(|at| (at, at as f64)).collect());
    block_on(async {
        let mut connection = shared(&client(&cluster, "resp2")).await;
        let (mut found, mut keys) = (BTreeSet::new(), connection.scan_match::<_, String>("key:*").await?);
        while let Some(key) = keys.next_item().await {
            found.insert(key?);
        }
        assert_eq!(found, wanted);
        Ok(())
    })
}

#[test]
fn groups_read_streams() -> RedisResult<()> {
    let cluster = Cluster::usual();
    for version in VERSIONS {
        let mut connection = connect(&cluster, version);
        let stream = &format!("stream:{version}");
        let _: () = connection.xgroup_create_mkstream(stream, "g", "$")?;
        let ids: Vec<String> =
            (0..10).map(|n| connection.xadd(stream, "*", &[("n", n)])).collect::<Result<_, _>>()?;
        let options = |name| StreamReadOptions::default().group("g", name).count(4);
        let one: StreamReadReply = connection.xread_options(&[stream], &[">"], &options("one"))?;
        let two: StreamReadReply = connection.xread_options(&[stream], &[">"], &options("two"))?;
        let read: Vec<&str> =
            [&one, &two].iter().flat_map(|r| &r.keys[0].ids).map(|id| id.id.as_str()).collect();
        assert_eq!(read, ids[..8]);
        assert_eq!(two.keys[0].ids[0].get::<i64>("n"), Some(4));
        assert_eq!(connection.xack::<_, _, _, i64>(stream, "g", &ids[..4])?, 4);
        let left: StreamPendingReply = connection.xpending(stream, "g")?;
        assert_eq!(left.count(), 4);
        let _: Value = connection.xclaim(stream, "g", "one", 0, &ids[4..6])?;
        let again: StreamReadReply = connection.xread_options(&[stream], &["0"], &options("one"))?;
        assert_eq!(again.keys[0].ids.iter().map(|id| id.id.as_str()).collect::<Vec<_>>(), ids[4..6]);
        // Whoever waits gets what comes.
        let (mut waiting, name) = (connect(&cluster, version), stream.clone());
        let waiter = std::thread::spawn(move || {
            let patient = StreamReadOptions::default().block(0).count(1);
            waiting.xread_options::<_, _, StreamReadReply>(&[name], &["$"], &patient)
        });
        let mut other = cluster.client();
        wait_until("it waits", LONG, || other.ok("INFO clients").string().contains("blocked_clients:1"));
        let last: String = connection.xadd(stream, "*", &[("n", "last")])?;
        let told = waiter.join().expect("it ran")?;
        assert_eq!(told.keys[0].ids[0].id, last);
    }
    cluster.assert_equal();
    Ok(())
}

#[test]
fn subscribers_hear_what_is_published() -> RedisResult<()> {
    let cluster = Cluster::usual();
    let mut publisher = connect(&cluster, "resp2");
    let mut connection = connect(&cluster, "resp2");
    let mut heard = connection.as_pubsub();
    heard.set_read_timeout(Some(LONG))?;
    heard.subscribe("news")?;
    heard.psubscribe("n*s")?;
    assert_eq!(publisher.publish::<_, _, i64>("news", "one")?, 2);
    let messages = [heard.get_message()?, heard.get_message()?];
    let told: Vec<String> = messages.iter().map(|m| m.get_payload()).collect::<Result<_, _>>()?;
    assert_eq!(told, ["one", "one"]);
    assert_eq!(messages.iter().filter(|message| message.from_pattern()).count(), 1);
    drop(heard);
    assert_eq!(connection.incr::<_, _, i64>("n", 1)?, 1, "it is a usual connection again");

    // With RESP3 messages come beside replies.
    block_on(async {
        let (sender, mut pushed) = unbounded_channel::<PushInfo>();
        let config = AsyncConnectionConfig::new().set_push_sender(sender).set_response_timeout(Some(LONG));
        let client = client(&cluster, "resp3");
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        connection.subscribe("news").await?;
        for n in 0..100 {
            let (heard, count): (i64, i64) =
                redis::pipe().publish("news", n).incr("n", 1).query_async(&mut connection).await?;
            assert_eq!((heard, count), (1, n + 2));
        }
        let mut messages = Vec::new();
        while messages.len() < 100 {
            let push = pushed.recv().await.expect("the connection lives");
            if push.kind == PushKind::Message {
                messages.push(redis::from_redis_value::<i64>(push.data[1].clone())?);
            }
        }
        assert_eq!(messages, (0..100).collect::<Vec<_>>());
        Ok(())
    })
}

/// Forty tasks on one connection, which the crate multiplexes: each gets its own answers.
#[test]
fn tasks_share_a_connection() -> RedisResult<()> {
    let cluster = Cluster::usual();
    for version in VERSIONS {
        block_on(async {
            let connection = shared(&client(&cluster, version)).await;
            let mut tasks = tokio::task::JoinSet::new();
            for task in 0..40_i64 {
                let mut connection = connection.clone();
                tasks.spawn(async move {
                    let key = format!("own:{task}");
                    let _: () = connection.set(&key, task * 1000).await?;
                    for turn in 1..=20 {
                        let mut pipe = redis::pipe();
                        pipe.atomic().incr(&key, 1).incr("all", 1).ignore().get(&key);
                        let got: (i64, i64) = pipe.query_async(&mut connection).await?;
                        assert_eq!(got, (task * 1000 + turn, task * 1000 + turn));
                    }
                    Script::new("return ARGV[1]").arg(task).invoke_async::<i64>(&mut connection).await
                });
            }
            let echoed = tasks.join_all().await.into_iter().collect::<RedisResult<BTreeSet<_>>>()?;
            assert_eq!(echoed, (0..40).collect());
            let mut connection = connection;
            assert_eq!(connection.get_del::<_, i64>("all").await?, 800);
            RedisResult::Ok(())
        })?;
    }
    cluster.assert_equal();
    Ok(())
}

/// A server is killed, then the proxy itself: the manager connects again, and what was acknowledged is there.
#[test]
fn a_managed_connection_survives_servers_and_proxies() -> RedisResult<()> {
    let mut cluster = Cluster::start(Setup::new(Kind::Valkey, 3));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(200)
        .set_max_delay(Duration::from_millis(200))
        .set_connection_timeout(Some(LONG))
        .set_response_timeout(Some(LONG));
    let client = client(&cluster, "resp3");
    let mut manager = runtime.block_on(client.get_connection_manager_with_config(config))?;
    let mut count = 0;
    let mut write = |what: &str, count: &mut i64| {
        *count += 1;
        runtime.block_on(manager.rpush::<_, _, i64>("l", *count)).map_err(|error| format!("{what}: {error}"))
    };
    for _ in 0..100 {
        assert_eq!(write("all are there", &mut count), Ok(count));
    }
    cluster.servers[0].kill();
    for _ in 0..100 {
        assert_eq!(write("one server is gone", &mut count), Ok(count));
    }
    cluster.servers[0].run();
    cluster.proxy.wait_in_sync();
    cluster.proxy.kill();
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    // It may find out only with a request that fails.
    wait_until("the manager has connected again", LONG, || {
        runtime.block_on(manager.exists::<_, bool>("l")).is_ok_and(|there| there)
    });
    let all: Vec<i64> = runtime.block_on(manager.lrange("l", 0, -1))?;
    assert_eq!(all, (1..=count).collect::<Vec<_>>());
    assert_eq!(runtime.block_on(manager.rpush::<_, _, i64>("l", "last"))?, count + 1);
    cluster.assert_equal();
    Ok(())
}

/// Where the listener is a cluster of one node.
#[test]
fn a_client_for_clusters_finds_its_only_node() -> RedisResult<()> {
    let mut cluster = Cluster::usual();
    let address = format!("127.0.0.1:{}", cluster.proxy.port);
    cluster.proxy.kill();
    cluster
        .proxy
        .edit(|text| text.replace("[listen.main]\n", &format!("[listen.main]\ncluster = \"{address}\"\n")));
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    let mut connection = ClusterClient::new([format!("redis://{address}")])?.get_connection()?;
    for at in 0..50 {
        let _: () = connection.set(format!("key:{at}"), at)?;
    }
    let mut pipe = redis::cluster::cluster_pipe();
    (0..50).for_each(|at| _ = pipe.get(format!("key:{at}")));
    assert_eq!(pipe.query::<Vec<i64>>(&mut connection)?, (0..50).collect::<Vec<_>>());
    // The crate splits what it can, and leaves the rest to the node.
    let _: () = connection.mset(&[("{a}x", 1), ("{b}x", 2)])?;
    let crossing = connection.rename::<_, _, ()>("{a}x", "{b}x").expect_err("two slots");
    assert_eq!(crossing.kind(), ErrorKind::Server(ServerErrorKind::CrossSlot));
    cluster.assert_equal();
    Ok(())
}
