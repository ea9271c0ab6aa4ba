//! Guards against serving over backends that cannot carry a log: each is refused in words that say what
//! to do, and the group serves as soon as that was done.

mod harness;

use harness::{Cluster, Kind, LONG, Proxy, Server, Setup, ports, wait_until};

fn servers(count: usize) -> Vec<Server> {
    (0..count).map(|_| Server::start(Kind::Redis)).collect()
}

#[track_caller]
fn wait_problem(proxy: &Proxy, replica: usize, parts: &[&str]) {
    wait_until(&format!("/status tells what is wrong with replica {}: {parts:?}", replica + 1), LONG, || {
        proxy.problems().get(replica).is_some_and(|problem| parts.iter().all(|part| problem.contains(part)))
    });
}

#[track_caller]
fn serves(proxy: &mut Proxy, servers: &[Server]) {
    proxy.wait_ready();
    proxy.wait_in_sync();
    let mut client = proxy.client();
    assert_eq!(client.line("SET mended yes").text, b"OK");
    harness::assert_equal(servers);
    for server in servers {
        assert_eq!(server.client().line("GET mended").text, b"yes");
    }
}

/// It would throw keys away by itself.
#[test]
fn a_backend_that_evicts_is_refused_until_it_does_not() {
    let mut all = servers(2);
    all.push(Server::start_with(Kind::Redis, &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]));
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 3), &ports(&all));
    wait_problem(&proxy, 2, &["allkeys-lru", "CONFIG SET maxmemory-policy noeviction"]);
    assert_ne!(proxy.states()[2], "in-sync");
    all[2].client().ok("CONFIG SET maxmemory-policy noeviction");
    serves(&mut proxy, &all);
}

/// Eviction that is switched on later does the same harm.
#[test]
fn a_backend_that_begins_to_evict_is_noticed() {
    let cluster = Cluster::usual();
    let mut direct = cluster.servers[2].client();
    direct.ok("CONFIG SET maxmemory 100mb");
    direct.ok("CONFIG SET maxmemory-policy allkeys-lru");
    wait_problem(&cluster.proxy, 2, &["allkeys-lru", "CONFIG SET maxmemory-policy noeviction"]);
    wait_until("it takes no part", LONG, || cluster.proxy.states()[2] != "in-sync");
    cluster.client().ok("SET meanwhile 1");
    direct.ok("CONFIG SET maxmemory-policy noeviction");
    cluster.assert_equal();
}

/// What it threw away before it was noticed must come back.
#[test]
fn a_backend_that_evicted_gets_a_copy() {
    let cluster = Cluster::usual();
    let mut client = cluster.client();
    for i in 0..1000 {
        client.ok(&format!("SET key:{i} {}", "x".repeat(4000)));
    }
    cluster.proxy.wait_in_sync();
    let mut direct = cluster.servers[2].client();
    direct.ok("CONFIG SET maxmemory-policy allkeys-random");
    direct.ok("CONFIG SET maxmemory 4mb");
    wait_until("it throws keys away", LONG, || direct.line("DBSIZE").number() < 1000);
    wait_problem(&cluster.proxy, 2, &["allkeys-random"]);
    wait_until("it takes no part", LONG, || cluster.proxy.states()[2] != "in-sync");
    direct.ok("CONFIG SET maxmemory-policy noeviction");
    direct.ok("CONFIG SET maxmemory 0");
    cluster.assert_equal();
    assert_eq!(cluster.client().line("DBSIZE").number(), 1000);
}

#[test]
fn a_cluster_node_is_refused() {
    let mut all = servers(2);
    all.push(Server::start_with(Kind::Redis, &["--cluster-enabled", "yes"]));
    let proxy = Proxy::start(&Setup::new(Kind::Redis, 3), &ports(&all));
    wait_problem(&proxy, 2, &["cluster node", "cluster-enabled no"]);
    let mut direct = all[2].client();
    assert!(
        !direct.line("ACL USERS").strings().iter().any(|user| user.starts_with("quorate:")),
        "nothing was changed"
    );
}

#[test]
fn a_replica_is_refused_until_it_is_promoted() {
    let mut all = servers(3);
    all[2].client().ok(&format!("REPLICAOF 127.0.0.1 {}", all[0].port));
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 3), &ports(&all));
    wait_problem(&proxy, 2, &["is a replica", "REPLICAOF NO ONE"]);
    all[2].client().ok("REPLICAOF NO ONE");
    serves(&mut proxy, &all);
    all.truncate(2);
}

/// Adopting three different sets of data as equal would make every read a matter of luck.
#[test]
fn backends_with_different_data_are_refused_until_made_equal() {
    let all = servers(3);
    for (i, server) in all.iter().enumerate() {
        server.client().ok(&format!("SET who {i}"));
    }
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 3), &ports(&all));
    let anyone = |proxy: &Proxy, part: &str| proxy.problems().iter().any(|problem| problem.contains(part));
    wait_until("/status tells of different data", LONG, || anyone(&proxy, "different data"));
    // Many attempts later it must still hold.
    let mut looks = 0;
    wait_until("it was looked at many times", LONG, || {
        looks += 1;
        let group = proxy.group();
        assert_ne!(group["phase"].as_str(), Some("serving"), "it serves over different data: {group}");
        looks >= 200
    });
    assert!(anyone(&proxy, "different data"), "{:?}", proxy.problems());
    for server in &all {
        server.client().ok("SET who me");
    }
    serves(&mut proxy, &all);
}

/// One of three differs, and there would be a quorum without it.
#[test]
fn one_backend_with_other_data_never_joins_unseen() {
    let mut all = servers(3);
    all[2].client().ok("SET only here");
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 3), &ports(&all));
    let mut looks = 0;
    wait_until("it was looked at many times", LONG, || {
        looks += 1;
        let in_sync = proxy.states().iter().filter(|state| *state == "in-sync").count();
        assert!(in_sync < 3, "a backend with other data is in sync");
        looks >= 200
    });
    all[2].client().ok("DEL only");
    serves(&mut proxy, &all);
    all.truncate(2);
}

/// Equal data that every server lays out in its own way: a hash table is dumped in the order of a
/// random seed.
#[test]
fn backends_with_equal_data_are_adopted_with_it() {
    let all = servers(3);
    for server in &all {
        let mut client = server.client();
        for i in 0..200 {
            client.ok(&format!("SADD set member:{i}"));
            client.ok(&format!("HSET hash field:{i} {i}"));
            client.ok(&format!("ZADD zset {i} member:{i}"));
        }
        client.ok("SET volatile 1 PXAT 4102444800000");
    }
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 3), &ports(&all));
    serves(&mut proxy, &all);
    assert!(!proxy.log().contains("different data"), "equal data was taken for different:\n{}", proxy.log());
    assert_eq!(proxy.client().line("SCARD set").number(), 200);
}

/// The advice that is printed must work.
#[test]
fn backends_made_equal_by_replicaof_are_adopted() {
    let all = servers(3);
    for i in 0..200 {
        all[0].client().ok(&format!("SADD set member:{i}"));
    }
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 3), &ports(&all));
    let different = |proxy: &Proxy| proxy.problems().iter().any(|problem| problem.contains("different data"));
    wait_until("/status tells of different data", LONG, || different(&proxy));
    for server in &all[1..] {
        server.client().ok(&format!("REPLICAOF 127.0.0.1 {}", all[0].port));
    }
    for server in &all[1..] {
        let mut client = server.client();
        wait_until("the copy is made", LONG, || {
            let info = client.line("INFO replication").string();
            info.contains("master_link_status:up") && client.line("SCARD set").number() == 200
        });
        client.ok("REPLICAOF NO ONE");
    }
    serves(&mut proxy, &all);
}

/// A user without the right to ACL cannot be fenced with.
#[test]
fn a_user_without_rights_is_told_so() {
    let all = servers(1);
    all[0].client().ok("ACL SETUSER weak on >secret ~* &* +@all -acl");
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 1), &ports(&all));
    proxy.wait_ready();
    proxy.kill();
    std::fs::write(proxy.config().with_file_name("secret"), "secret").expect("writable");
    let login = "zone = \"a\"\nusername = \"weak\"\npassword = { file = \"secret\" }";
    proxy.edit(|text| text.replace("zone = \"a\"", login));
    proxy.run();
    wait_problem(&proxy, 0, &["ACL", "refuses what the proxy needs"]);
    all[0].client().ok("ACL SETUSER weak +@all");
    proxy.wait_ready();
}

/// Nobody listens there.
#[test]
fn a_backend_out_of_reach_is_named() {
    let mut all = servers(3);
    all[1].kill();
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 3), &ports(&all));
    wait_problem(&proxy, 1, &[&all[1].port.to_string()]);
    all[1].run();
    serves(&mut proxy, &all);
}

/// Redis with a password, and a wrong one.
#[test]
fn a_backend_with_a_password() {
    let server = Server::start(Kind::Redis);
    server.client().ok("CONFIG SET requirepass right");
    let mut proxy = Proxy::start(&Setup::new(Kind::Redis, 1), &[server.port]);
    wait_problem(&proxy, 0, &["NOAUTH"]);
    proxy.kill();
    let secret = proxy.config().with_file_name("secret");
    proxy.edit(|text| text.replace("zone = \"a\"", "zone = \"a\"\npassword = { file = \"secret\" }"));
    std::fs::write(&secret, "wrong\n").expect("writable");
    proxy.run();
    wait_problem(&proxy, 0, &["WRONGPASS"]);
    assert!(!proxy.log().contains("wrong\n"), "a password is in the log");
    proxy.kill();
    std::fs::write(&secret, "right\n").expect("writable");
    proxy.run();
    proxy.wait_ready();
    let mut client = proxy.client();
    assert_eq!(client.line("SET k v").text, b"OK");
}
