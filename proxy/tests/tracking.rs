//! Guards against clients that go on using cached values which others have changed.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Server, Setup, Value, encode, lines, wait_until, words};

/// Everything that is said until the answer to a PING that says `token`.
#[track_caller]
fn until(client: &mut Client, token: &str) -> Vec<Value> {
    client.send(&encode(&["PING", token])).expect("it can be written");
    let mut seen = Vec::new();
    loop {
        let value = client.read().unwrap_or_else(|error| panic!("no {token} after {seen:?}: {error}"));
        if value.text == token.as_bytes() {
            return seen;
        }
        seen.push(value);
    }
}

fn resp3(cluster: &Cluster) -> Client {
    let mut client = cluster.client();
    client.ok("HELLO 3");
    client
}

/// The keys of the next frame, which must be an invalidation.
#[track_caller]
fn invalidated(client: &mut Client) -> Vec<String> {
    let frame = client.read().unwrap_or_else(|error| panic!("no invalidation: {error}"));
    assert_eq!((frame.kind, frame.items[0].string().as_str()), (b'>', "invalidate"), "{frame:?}");
    frame.items[1].strings()
}

const SCRIPT: &[&str] = &[
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT CACHING YES",
    "CLIENT TRACKING ON OPTIN",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT CACHING NO",
    "CLIENT CACHING YES",
    "CLIENT TRACKINGINFO",
    "GET a",
    "SET a 1",
    "CLIENT TRACKINGINFO",
    "GET a",
    "SET a 2",
    "CLIENT TRACKING ON OPTOUT",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKING ON BCAST PREFIX a PREFIX ab",
    "CLIENT TRACKING ON BCAST PREFIX a",
    "CLIENT TRACKING ON BCAST PREFIX b",
    "CLIENT TRACKING ON BCAST PREFIX ba",
    "CLIENT TRACKING ON PREFIX a",
    "CLIENT TRACKING ON",
    "CLIENT TRACKINGINFO",
    "SET a 3",
    "SET bb 1",
    "SET c 1",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKINGINFO",
    "CLIENT TRACKING ON NOLOOP",
    "CLIENT TRACKINGINFO",
    "GET a",
    "SET a 1",
    "CLIENT TRACKING ON REDIRECT 9999",
    "CLIENT TRACKING ON REDIRECT x",
    "CLIENT TRACKING ON OPTIN OPTOUT",
    "CLIENT TRACKING ON FOO",
    "CLIENT TRACKING FOO",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKING ON OPTIN BCAST",
    "CLIENT TRACKING ON OPTOUT",
    "CLIENT CACHING YES",
    "CLIENT CACHING FOO",
    "CLIENT CACHING NO",
    "GET a",
    "SET a 5",
    "MGET a b c",
    "DEL a",
    "RESET",
    "CLIENT TRACKINGINFO",
];

#[test]
fn frames_are_those_of_a_bare_server() {
    let (bare, cluster) = (Server::start(Kind::Redis), Cluster::usual());
    for dialect in ["2", "3"] {
        let (mut bare, mut proxied) = (bare.client(), cluster.client());
        bare.ok(&format!("HELLO {dialect}"));
        proxied.ok(&format!("HELLO {dialect}"));
        for (i, line) in SCRIPT.iter().enumerate() {
            for client in [&mut bare, &mut proxied] {
                client.send(&encode(&words(line))).expect("it can be written");
            }
            let token = format!("token-{i}");
            let (mut expected, mut got) = (until(&mut bare, &token), until(&mut proxied, &token));
            // A server tells of prefixes at the end of its turn.
            expected.extend(until(&mut bare, "turn"));
            got.extend(until(&mut proxied, "turn"));
            // The proxy tells before it answers, and once more if an answer is still owed.
            expected.sort();
            got.sort();
            got.dedup();
            assert_eq!(got, expected, "RESP{dialect}: {line}");
        }
    }
}

#[test]
fn a_client_is_told_when_another_changes_what_it_read() {
    let cluster =
        Cluster::start(Setup { rest: "[proxy]\nworkers = 2\n".into(), ..Setup::new(Kind::Redis, 3) });
    let mut writer = cluster.client();
    writer.ok("MSET a 1 b 2 c 3");
    let mut readers: Vec<Client> = (0..4).map(|_| resp3(&cluster)).collect();
    for reader in &mut readers {
        reader.ok("CLIENT TRACKING ON");
        // An owner that has not seen all keys yet ends these first, in case, and tells that too.
        wait_until("it reads, and is told nothing", LONG, || {
            reader.send(&encode(&["MGET", "a", "b"])).expect("it can be written");
            until(reader, "read").len() == 1
        });
        let info = reader.ok("CLIENT INFO");
        assert!(info.string().contains("flags=t "), "{info:?}");
    }
    writer.ok("SET c 4");
    writer.ok("RENAME a d");
    for reader in &mut readers {
        assert_eq!(invalidated(reader), ["a"]);
        assert!(until(reader, "end").is_empty(), "it did not read c");
        reader.ok("GET a");
    }
    writer.ok("SET b 3");
    for reader in &mut readers {
        assert_eq!(invalidated(reader), ["b"]);
    }
    assert_eq!(cluster.proxy.metric("quorate_tracking_clients"), 4.0);
    drop(readers);
    wait_until("nobody caches", LONG, || cluster.proxy.metric("quorate_tracking_clients") == 0.0);
}

/// A cache that does what it is told must never keep a value older than the last one written.
#[test]
fn a_cache_is_never_stale_for_good() {
    let cluster =
        Cluster::start(Setup { rest: "[proxy]\nworkers = 2\n".into(), ..Setup::new(Kind::Redis, 3) });
    let (mut writer, mut reader) = (cluster.client(), resp3(&cluster));
    reader.ok("CLIENT TRACKING ON");
    for round in 0..300 {
        writer.send(&lines(&[&format!("SET k {round}.1"), &format!("SET k {round}.2")])).expect("written");
        reader.send(&encode(&["GET", "k"])).expect("written");
        let mut cached = None;
        let mut note = |value: Value| match value.kind {
            b'>' => cached = None,
            _ => cached = Some(value.string()),
        };
        note(reader.read().expect("a frame"));
        (0..2).for_each(|_| assert_eq!(writer.read().expect("a reply").text, b"OK"));
        // Both writes are acknowledged: whatever must be told was told before.
        until(&mut reader, "all-told").into_iter().for_each(&mut note);
        assert!(cached.as_ref().is_none_or(|value| *value == format!("{round}.2")), "{round}: {cached:?}");
    }
}

#[test]
fn another_client_is_told_in_its_place() {
    let cluster =
        Cluster::start(Setup { rest: "[proxy]\nworkers = 2\n".into(), ..Setup::new(Kind::Redis, 3) });
    let (mut told, mut reader, mut writer) = (cluster.client(), cluster.client(), cluster.client());
    let id = told.ok("CLIENT ID").number();
    told.ok("SUBSCRIBE __redis__:invalidate");
    reader.ok(&format!("CLIENT TRACKING ON REDIRECT {id}"));
    assert_eq!(reader.ok("CLIENT GETREDIR").number(), id);
    writer.ok("SET k 1");
    reader.ok("GET k");
    writer.ok("SET k 2");
    let frame = told.read().expect("an invalidation");
    assert_eq!(frame.strings()[..2], ["message", "__redis__:invalidate"]);
    assert_eq!(frame.items[2].strings(), ["k"]);
    reader.ok("HELLO 3");
    reader.ok("GET k");
    drop(told);
    wait_until("it is gone", LONG, || !writer.ok("CLIENT LIST").string().contains(&format!("id={id} ")));
    writer.ok("SET k 3");
    let frame = reader.read().expect("it is told");
    assert_eq!((frame.items[0].string().as_str(), frame.items[1].number()), ("tracking-redir-broken", id));
}

#[test]
fn prefixes_are_told_to_all_and_own_writes_not_to_those_who_know() {
    let cluster = Cluster::usual();
    let (mut all, mut users, mut writer) = (resp3(&cluster), resp3(&cluster), cluster.client());
    all.ok("CLIENT TRACKING ON BCAST NOLOOP");
    users.ok("CLIENT TRACKING ON BCAST PREFIX user:");
    for round in 0..20 {
        all.ok(&format!("SET user:{round} own"));
        writer.ok(&format!("SET other:{round} v"));
        assert_eq!(invalidated(&mut users), [format!("user:{round}")]);
        assert_eq!(invalidated(&mut all), [format!("other:{round}")]);
    }
    assert!(until(&mut users, "end").is_empty());
}

#[test]
fn whoever_caches_is_told_to_forget_everything_when_another_proxy_takes_over() {
    let cluster = Cluster::usual();
    let mut reader = resp3(&cluster);
    reader.ok("CLIENT TRACKING ON");
    reader.ok("GET k");
    let mut second = cluster.second_proxy();
    second.wait_ready();
    let frame = reader.read().expect("it is told");
    assert_eq!(frame.items[0].string(), "invalidate");
    assert!(frame.items[1].null);
}
