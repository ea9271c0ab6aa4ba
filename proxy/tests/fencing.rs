//! Guards against two proxies that both believe they own a group: the later one fences the earlier
//! one, which stops, says so, and whose acknowledged writes all survive.

mod harness;

use harness::{Cluster, LONG, Load, wait_until};

#[test]
fn the_second_proxy_fences_the_first() {
    let cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, 4);
    load.wait_acked(500);
    let mut second = cluster.second_proxy();
    second.wait_ready();
    let other = Load::start(second.port, 10, 4);
    other.wait_acked(500);

    wait_until("the first proxy is not ready", LONG, || cluster.proxy.page("/readyz").0 == 503);
    let (epoch, newer) = (cluster.proxy.group()["epoch"].as_u64(), second.group()["epoch"].as_u64());
    assert!(epoch < newer, "{epoch:?} {newer:?}");
    let mut client = cluster.client();
    for line in ["SET k v", "GET k", "DEL k", "KEYS *", "DBSIZE"] {
        let reply = client.line(line).string();
        assert!(reply.starts_with("NOTAPPLIED") && reply.contains("fenced"), "{line}: {reply}");
        assert!(reply.contains(&format!("epoch {}", newer.unwrap_or(0))), "{reply}");
    }
    assert_eq!(client.line("PING").text, b"PONG", "the connection goes on");
    let group = cluster.proxy.group();
    assert_eq!(group["fenced_by"].as_u64(), newer, "{group}");
    assert!(cluster.proxy.log().contains("fenced"), "{}", cluster.proxy.log());

    let record = load.stop().join(other.stop());
    second.wait_in_sync();
    harness::assert_equal(&cluster.servers);
    record.check(&mut second.client());
    assert_eq!(
        cluster.proxy.metric("quorate_divergences_total") + second.metric("quorate_divergences_total"),
        0.0
    );
}

/// The fenced proxy must not fight back by itself, and takes over when an operator restarts it.
#[test]
fn ownership_goes_to_and_fro() {
    let mut cluster = Cluster::usual();
    let mut second = cluster.second_proxy();
    second.wait_ready();
    let first_load = Load::start(cluster.proxy.port, 0, 3);
    let second_load = Load::start(second.port, 10, 3);
    for turn in 0..4 {
        let (owner, load) = match turn % 2 {
            0 => (&mut cluster.proxy, &first_load),
            _ => (&mut second, &second_load),
        };
        owner.kill();
        owner.run();
        load.wait_acked(300);
    }
    let record = first_load.stop().join(second_load.stop());
    wait_until("the first proxy is fenced", LONG, || cluster.proxy.page("/readyz").0 == 503);
    second.wait_in_sync();
    harness::assert_equal(&cluster.servers);
    record.check(&mut second.client());
}

/// Both start at the same moment, with empty state folders: one of them ends up as the owner.
#[test]
fn two_proxies_start_at_once() {
    let mut cluster = Cluster::usual();
    cluster.proxy.kill();
    cluster.proxy.forget();
    let mut one = cluster.second_proxy();
    let mut two = cluster.second_proxy();
    let loads = [Load::start(one.port, 0, 3), Load::start(two.port, 10, 3)];
    wait_until("one of them owns the group", LONG, || {
        let ready = |proxy: &harness::Proxy| proxy.page("/readyz").0 == 200;
        let fenced = |proxy: &harness::Proxy| proxy.group()["phase"].is_object();
        (ready(&one) && fenced(&two)) || (ready(&two) && fenced(&one))
    });
    let (owner, load) = match one.page("/readyz").0 {
        200 => (&mut one, &loads[0]),
        _ => (&mut two, &loads[1]),
    };
    load.wait_acked(300);
    owner.wait_ready();
    owner.wait_in_sync();
    let [a, b] = loads;
    let record = a.stop().join(b.stop());
    harness::assert_equal(&cluster.servers);
    record.check(&mut owner.client());
}

/// The old owner is frozen while it is fenced: when it thaws, what it still has on the wire must not land.
#[test]
fn a_frozen_owner_thaws_too_late() {
    let cluster = Cluster::usual();
    let load = Load::start(cluster.proxy.port, 0, 6);
    load.wait_acked(500);
    harness::signal(cluster.proxy.pid(), "STOP");
    let mut second = cluster.second_proxy();
    second.wait_ready();
    let other = Load::start(second.port, 10, 3);
    other.wait_acked(300);
    harness::signal(cluster.proxy.pid(), "CONT");
    other.wait_acked(300);
    wait_until("the first proxy is fenced", LONG, || cluster.proxy.group()["phase"].is_object());
    let record = load.stop().join(other.stop());
    second.wait_in_sync();
    harness::assert_equal(&cluster.servers);
    record.check(&mut second.client());
}
