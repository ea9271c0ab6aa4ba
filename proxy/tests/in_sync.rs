//! Guards against writes that only a replica outside the in-sync set would know of: with
//! `ack = "in-sync"` the last member is the only one that may begin again.

mod harness;

use harness::{Cluster, Kind, LONG, Load, Proxy, Setup, wait_until};

const IN_SYNC: &str = "ack = \"in-sync\"";

fn members(proxy: &Proxy) -> Vec<String> {
    let group = proxy.group();
    let names = group["in_sync"].as_array().cloned().unwrap_or_default();
    names.iter().filter_map(|name| name.as_str().map(str::to_string)).collect()
}

fn wait_set(cluster: &Cluster, wanted: &[&str]) {
    wait_members(&cluster.proxy, wanted);
}

fn wait_members(proxy: &Proxy, wanted: &[&str]) {
    wait_until(&format!("the in-sync set is {wanted:?}"), LONG, || members(proxy) == wanted);
}

/// It is looked at often, and never serves.
#[track_caller]
fn does_not_begin(proxy: &Proxy, why: &str) {
    let mut looks = 0;
    wait_until("it was looked at often enough", LONG, || {
        assert_ne!(proxy.page("/readyz").0, 200, "{why}");
        looks += 1;
        looks >= 200
    });
}

/// The first server is there, the last word is on the second: nobody serves without that one.
#[track_caller]
fn only_the_second_knows(cluster: &mut Cluster, last: &str, why: &str) {
    cluster.servers[1].kill();
    cluster.proxy.run();
    does_not_begin(&cluster.proxy, why);
    cluster.servers[1].run();
    cluster.proxy.wait_ready();
    assert_eq!(cluster.client().line("GET k").string(), last);
    cluster.assert_equal();
}

/// The first of two servers died and left the set, the second took a write, and then the proxy died.
fn left_by_the_first() -> Cluster {
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 2).group(IN_SYNC));
    wait_set(&cluster, &["r1", "r2"]);
    cluster.servers[0].kill();
    wait_set(&cluster, &["r2"]);
    cluster.client().ok("SET k after");
    cluster.proxy.kill();
    cluster
}

fn one_of_two_is_lost(kind: Kind) {
    let mut cluster = Cluster::start(Setup::new(kind, 2).group(IN_SYNC));
    wait_set(&cluster, &["r1", "r2"]);
    let load = Load::start(cluster.proxy.port, 0, 4);
    for victim in 0..2 {
        load.wait_acked(300);
        cluster.servers[victim].kill();
        wait_set(&cluster, if victim == 0 { &["r2"] } else { &["r1"] });
        load.wait_acked(300);
        cluster.servers[victim].run();
        wait_set(&cluster, &["r1", "r2"]);
    }
    load.wait_acked(300);
    let record = load.stop();
    assert!(record.errors().is_empty(), "{:?}", record.errors());
    cluster.assert_equal();
    for server in &cluster.servers {
        record.check(&mut server.client());
    }
}

#[test]
fn one_redis_of_two_is_lost_and_writes_go_on() {
    one_of_two_is_lost(Kind::Redis);
}

#[test]
fn one_valkey_of_two_is_lost_and_writes_go_on() {
    one_of_two_is_lost(Kind::Valkey);
}

#[test]
fn a_frozen_member_leaves_the_set() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group(IN_SYNC));
    wait_set(&cluster, &["r1", "r2", "r3"]);
    let load = Load::start(cluster.proxy.port, 0, 4);
    load.wait_acked(300);
    cluster.servers[1].pause();
    wait_set(&cluster, &["r1", "r3"]);
    load.wait_acked(300);
    cluster.servers[1].resume();
    wait_set(&cluster, &["r1", "r2", "r3"]);
    let record = load.stop();
    assert!(record.errors().is_empty(), "{:?}", record.errors());
    cluster.assert_equal();
}

#[test]
fn who_left_the_set_does_not_begin_again_without_the_last_member() {
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 2).group(IN_SYNC));
    wait_set(&cluster, &["r1", "r2"]);
    cluster.client().ok("SET k before");
    cluster.servers[0].kill();
    wait_set(&cluster, &["r2"]);
    cluster.client().ok("SET k after");
    cluster.proxy.kill();
    cluster.servers[0].run();
    only_the_second_knows(&mut cluster, "after", "r1 does not know what was acknowledged");
    // The last member alone is enough, though it restarted.
    cluster.servers[0].kill();
    wait_set(&cluster, &["r2"]);
    cluster.client().ok("SET k last");
    cluster.proxy.kill();
    cluster.servers[1].kill();
    cluster.servers[1].run();
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    assert_eq!(cluster.client().line("GET k").string(), "last");
}

#[test]
fn without_the_record_everybody_is_needed() {
    let mut cluster = left_by_the_first();
    cluster.proxy.forget();
    cluster.proxy.run();
    does_not_begin(&cluster.proxy, "nobody knows who was a member");
    cluster.servers[0].run();
    cluster.proxy.wait_ready();
    cluster.assert_equal();
    assert_eq!(cluster.client().line("GET k").string(), "after");
}

/// What an earlier owner recorded says nothing of the time of another one, whose members it does not know.
#[test]
fn a_record_of_an_earlier_owner_is_not_believed() {
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 2).group(IN_SYNC));
    wait_set(&cluster, &["r1", "r2"]);
    cluster.client().ok("SET k first");
    cluster.proxy.kill();
    // The second owner, with a record of its own, loses r1 and goes on.
    let mut second = cluster.second_proxy();
    second.wait_ready();
    wait_members(&second, &["r1", "r2"]);
    cluster.servers[0].pause();
    wait_members(&second, &["r2"]);
    second.client().ok("SET k second");
    second.kill();
    // By the first one's record r1 is a member, and it has not even restarted since.
    cluster.servers[0].resume();
    only_the_second_knows(&mut cluster, "second", "r1 does not know what the second owner acknowledged");
}

/// A state folder that moves to another machine takes the record along.
#[test]
fn a_second_proxy_goes_on_with_the_first_ones_record() {
    let mut cluster = left_by_the_first();
    let mut second = cluster.second_proxy();
    does_not_begin(&second, "nobody knows who was a member");
    second.kill();
    second.inherit(&cluster.proxy);
    second.run();
    second.wait_ready();
    wait_members(&second, &["r2"]);
    assert_eq!(second.client().line("GET k").string(), "after");
    cluster.servers[0].run();
    wait_members(&second, &["r1", "r2"]);
    second.client().ok("SET k last");
    second.wait_in_sync();
    harness::assert_equal(&cluster.servers);
}
