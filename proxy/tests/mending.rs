//! Guards against replicas that stay different: an entry that is on one replica only, and a value that
//! was written behind the proxy's back, are put right by value while the others serve.

mod harness;

use bytes::Bytes;
use harness::{Client, Cluster, Kind, LONG, Load, Setup, wait_until};
use quorate_core::ordered::Position;

const POSITION: &str = "__quorate:{g}:pos";
const TAIL: &str = "__quorate:{g}:tail";

/// Puts an entry on one server that is on no log: it sets, adds to and removes keys.
fn leave_the_log(server: &mut Client) {
    let position: Position = server.line(&format!("GET {POSITION}")).string().parse().expect("a position");
    let commands = ["SET lost 1", "RPUSH both:list own", "DEL both:gone", "INCRBY both:count 100"];
    let payload = harness::lines(&commands);
    let next = position.next(position.epoch, &[Bytes::from(payload.clone())]);
    let element = [format!("{next} {}\n", commands.len()).into_bytes(), payload].concat();
    server.ok("MULTI");
    commands.iter().for_each(|line| drop(server.line(line)));
    server.call(&[b"SET", POSITION.as_bytes(), next.to_string().as_bytes()]);
    server.call(&[b"RPUSH", TAIL.as_bytes(), &element]);
    server.ok("EXEC");
}

fn an_entry_of_its_own(kind: Kind) {
    let mut cluster = Cluster::start(Setup::new(kind, 3));
    let mut client = cluster.client();
    for line in ["RPUSH both:list 1 2", "SET both:gone 1 PXAT 4102444800000", "SET both:count 5", "SET far 1"]
    {
        client.ok(line);
    }
    cluster.proxy.wait_in_sync();
    cluster.proxy.kill();
    leave_the_log(&mut cluster.servers[2].client());
    // The next owner does not see it in time.
    cluster.servers[2].pause();
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    let mut client = cluster.client();
    for line in ["RPUSH both:list 3", "INCR both:count", "SET missed 1", "DEL far"] {
        client.ok(line);
    }
    let load = Load::start(cluster.proxy.port, 0, 4);
    load.wait_acked(200);
    cluster.servers[2].resume();
    cluster.proxy.wait_in_sync();
    load.wait_acked(200);
    let record = load.stop();
    assert!(record.errors().is_empty(), "{:?}", record.errors());
    cluster.assert_equal();
    record.check(&mut cluster.servers[2].client());
    let mut mended = cluster.servers[2].client();
    assert!(mended.line("GET lost").null, "its own entry is undone");
    assert_eq!(mended.line("LRANGE both:list 0 -1").strings(), ["1", "2", "3"]);
    assert_eq!(mended.line("PEXPIRETIME both:gone").number(), 4_102_444_800_000 + (1 << 52));
    assert_eq!(mended.line("GET both:count").string(), "6");
    assert!(cluster.proxy.metric("quorate_mends_total") >= 1.0, "{}", cluster.proxy.log());
}

#[test]
fn an_entry_that_only_one_redis_has_is_undone() {
    an_entry_of_its_own(Kind::Redis);
}

#[test]
fn an_entry_that_only_one_valkey_has_is_undone() {
    an_entry_of_its_own(Kind::Valkey);
}

#[test]
fn a_write_behind_the_proxys_back_is_put_right_when_it_shows() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    client.ok("SET count 1");
    client.ok("SET other 1");
    cluster.proxy.wait_in_sync();
    cluster.servers[1].client().ok("SET count 40");
    assert_eq!(client.line("INCR other").number(), 2);
    client.ok("INCR count");
    wait_until("the divergence is mended", LONG, || cluster.proxy.metric("quorate_mends_total") >= 1.0);
    cluster.assert_equal();
    assert_eq!(client.line("GET count").string(), "2");
    assert!(cluster.proxy.metric("quorate_divergences_total") >= 1.0);
}
