//! Guards against writes that are owed and forgotten: a replica that was away for longer than memory
//! reaches, a proxy that dies meanwhile, servers that all lose their last writes, a disk that fails.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Load, Record, Setup, wait_until};
use std::fs;

/// So little memory that a second's writes do not fit.
const SMALL: &str = "log-memory = \"1MiB\"\nreseed = \"manual\"";
const DURABLE: &str = "durability = \"journal\"";

/// More than the memory of [`SMALL`] holds.
fn write_much(client: &mut Client, round: usize) {
    let value = vec![b'x'; 8 << 10];
    for i in 0..400 {
        let key = format!("much:{round}:{i}");
        assert_eq!(client.call(&[b"SET".as_slice(), key.as_bytes(), &value]).text, b"OK");
        client.ok(&format!("INCR much:count:{round}"));
    }
}

fn held(cluster: &Cluster, record: &Record) {
    cluster.assert_equal();
    for server in &cluster.servers {
        record.check(&mut server.client());
    }
}

fn away_for_long(kind: Kind) {
    let mut cluster = Cluster::start(Setup::new(kind, 3).group(SMALL));
    let load = Load::start(cluster.proxy.port, 0, 4);
    load.wait_acked(200);
    // One that was lost before it took the first entry is blank, and not owed the rest.
    cluster.proxy.wait_in_sync();
    cluster.servers[2].kill();
    write_much(&mut cluster.client(), 1);
    assert!(cluster.proxy.metric("quorate_journal_entries") > 100.0);
    cluster.servers[2].run();
    cluster.proxy.wait_in_sync();
    let record = load.stop();
    assert!(record.errors().is_empty(), "{:?}", record.errors());
    held(&cluster, &record);
    assert!(!cluster.proxy.log().contains("is stale"), "{}", cluster.proxy.log());
}

#[test]
fn a_redis_that_missed_more_than_memory_holds_is_fed_from_disk() {
    away_for_long(Kind::Redis);
}

#[test]
fn a_valkey_that_missed_more_than_memory_holds_is_fed_from_disk() {
    away_for_long(Kind::Valkey);
}

#[test]
fn what_a_replica_is_owed_survives_the_proxy() {
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 3).group(SMALL));
    let load = Load::start(cluster.proxy.port, 0, 4);
    load.wait_acked(200);
    cluster.servers[2].kill();
    for round in 0..3 {
        write_much(&mut cluster.client(), round);
    }
    let record = load.stop();
    cluster.proxy.kill();
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    write_much(&mut cluster.client(), 4);
    cluster.servers[2].run();
    cluster.proxy.wait_in_sync();
    held(&cluster, &record);
    assert!(!cluster.proxy.log().contains("is stale"), "{}", cluster.proxy.log());
}

#[test]
fn a_power_loss_of_every_server_loses_nothing_that_the_journal_has() {
    let mut cluster = Cluster::start(Setup::new(Kind::Redis, 3).group(DURABLE));
    let mut client = cluster.client();
    (0..20).for_each(|_| drop(client.ok("INCR before")));
    cluster.proxy.wait_in_sync();
    let load = Load::start(cluster.proxy.port, 0, 4);
    load.wait_acked(200);
    let disks: Vec<_> = cluster.servers.iter().map(|server| server.copy_data()).collect();
    load.wait_acked(400);
    // All at once: what the servers had not written is gone, and the proxy dies too.
    cluster.proxy.kill();
    for (server, disk) in cluster.servers.iter_mut().zip(&disks) {
        server.kill_and_forget(disk);
    }
    let record = load.stop();
    cluster.servers.iter_mut().for_each(|server| server.run());
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    cluster.proxy.wait_in_sync();
    record.check(&mut cluster.client());
    held(&cluster, &record);
}

#[test]
fn a_journal_that_fails_stops_acknowledgements_and_nothing_else() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 3).group(DURABLE));
    let mut client = cluster.client();
    client.ok("SET k 1");
    let state = cluster.proxy.config().with_file_name("state");
    let is_journal = |path: &std::path::Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-"))
    };
    // A folder that cannot be written to any more: its files are gone, and no new ones can be made.
    let away = state.with_file_name("away");
    for file in fs::read_dir(&state).expect("a state folder").flatten().map(|entry| entry.path()) {
        if is_journal(&file) {
            fs::remove_file(&file).expect("removed");
        }
    }
    fs::rename(&state, &away).expect("moved");
    fs::write(&state, b"no folder").expect("written");
    let mut refused = None;
    wait_until("a write is refused", LONG, || {
        let answer = client.line("SET k 2");
        refused = answer.is_error().then(|| answer.string());
        refused.as_ref().is_some_and(|error| error.contains("NOTAPPLIED"))
    });
    assert!(refused.expect("refused").contains("journal"));
    assert_eq!(cluster.proxy.metric("quorate_journal_failed"), 1.0);
    assert!(!client.line("GET other").is_error(), "reads go on");
    fs::remove_file(&state).expect("removed");
    fs::rename(&away, &state).expect("moved back");
    wait_until("the journal records again", LONG, || !client.line("SET k 3").is_error());
    assert_eq!(client.line("GET k").string(), "3");
    cluster.assert_equal();
}
