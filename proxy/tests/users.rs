//! Guards against users that are changed while the proxy runs and stay what they were for somebody: a rule that does
//! not count at once, a client that outlives its user, a file that is read by halves.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Server, Setup, free_port, signal, wait_until};

const ALL: &str = "rules = \"nopass ~* &* +@all\"";

/// A proxy over one server with these sections of users; `listen` is said of its listener.
fn cluster(listen: &str, sections: &str) -> Cluster {
    let mut setup = Setup::new(Kind::Redis, 1).listen(listen);
    setup.rest = sections.into();
    Cluster::start(setup)
}

fn plain() -> Cluster {
    cluster("", "")
}

/// A client that has become this user.
fn login(cluster: &Cluster, user: &str, password: &str) -> Client {
    let mut client = cluster.client();
    client.ok(&format!("AUTH {user} {password}"));
    client
}

#[test]
fn users_are_made_and_changed_as_redis_does() {
    let (cluster, bare) = (plain(), Server::start(Kind::Redis));
    let [add, remove] = ['#', '!'].map(|sign| format!("ACL SETUSER d {sign}{}", "a".repeat(64)));
    let script = [
        "ACL SETUSER",
        "ACL DELUSER",
        "ACL SETUSER ann",
        "ACL GETUSER ann",
        "ACL SETUSER ann on >one ~a* %R~r %W~w &news.* +get",
        "ACL LIST",
        "ACL GETUSER ann",
        "AUTH ann two",
        "AUTH ann one",
        "ACL WHOAMI",
        "AUTH default x",
        "ACL SETUSER ann >two",
        "ACL GETUSER ann",
        "ACL SETUSER ann <one",
        "ACL SETUSER ann <one",
        "ACL GETUSER ann",
        "ACL SETUSER ann (+set ~b) '(+del ~c &d)'",
        "ACL SETUSER ann (+set ~d",
        "ACL SETUSER ann ( +set ~e ) on",
        "ACL GETUSER ann",
        "ACL DRYRUN ann SET b 1",
        "ACL DRYRUN ann SET a 1",
        "ACL DRYRUN ann GET w",
        "ACL DRYRUN ann NOSUCH w",
        "ACL DRYRUN nobody GET w",
        "ACL SETUSER ann clearselectors",
        "ACL LIST",
        "ACL SETUSER ann +@read off foo",
        "ACL LIST",
        "ACL SETUSER ann ALLKEYS AllChannels ALLCOMMANDS OFF",
        "ACL LIST",
        "ACL SETUSER ann ~x",
        "ACL SETUSER ann &x",
        "ACL SETUSER ann resetkeys ~x resetchannels &x nocommands",
        "ACL LIST",
        "ACL SETUSER ann nopass",
        "ACL GETUSER ann",
        "ACL SETUSER ann resetpass",
        "ACL SETUSER ann skip-sanitize-payload",
        "ACL LIST",
        "ACL SETUSER ann on >one reset",
        "ACL LIST",
        "ACL SETUSER ann +gett",
        "ACL SETUSER ann -gett",
        "ACL SETUSER ann +@gett",
        "ACL SETUSER ann -get|x",
        "ACL SETUSER ann +get|",
        "ACL SETUSER ann +config|get|x",
        "ACL SETUSER ann +config|nosuch",
        "ACL SETUSER ann +select|0",
        "ACL SETUSER ann %X~a",
        "ACL SETUSER ann '~a b'",
        "ACL SETUSER ann (on)",
        "ACL SETUSER ann ()",
        "ACL SETUSER ann (",
        "ACL SETUSER ann )",
        "ACL SETUSER ann #abc",
        "ACL SETUSER ann !abc",
        "ACL SETUSER ann ''",
        "ACL SETUSER 'a b' on",
        &add,
        &remove,
        &remove,
        "ACL GETUSER d",
        "ACL USERS",
        "ACL LIST",
        "ACL GETUSER nobody",
        "ACL SAVE",
        "ACL DELUSER default",
        "ACL DELUSER ann default",
        "ACL DELUSER nobody ann d",
        "ACL DELUSER ann",
        "ACL SETUSER default -incr",
        "INCR n",
        "ACL SETUSER default +@all",
        "ACL USERS",
        "ACL LIST",
        "MULTI",
        "ACL SETUSER eve on nopass",
        "ACL DELUSER eve",
        "EXEC",
        "ACL USERS",
    ];
    for dialect in [2, 3] {
        let (mut ours, mut theirs) = (cluster.client(), bare.client());
        [&mut ours, &mut theirs]
            .into_iter()
            .for_each(|client| drop(client.line(&format!("HELLO {dialect}"))));
        for line in script {
            let (our, their) = (ours.line(line), theirs.line(line));
            assert_eq!(our, their, "{line}: {} but {}", our.string(), their.string());
        }
    }
}

#[test]
fn a_change_counts_from_the_next_command_of_every_client() {
    let cluster = plain();
    let mut op = cluster.client();
    op.ok("ACL SETUSER bob on >pw ~* &* +@all -@scripting");
    let mut clients: Vec<Client> = (0..8).map(|_| login(&cluster, "bob", "pw")).collect();
    let refused = "NOPERM this user has no permissions to run the 'incr' command";
    for _ in 0..50 {
        op.ok("ACL SETUSER bob -incr");
        for client in &mut clients {
            assert_eq!(client.line("INCR n").string(), refused);
        }
        op.ok("ACL SETUSER bob +incr");
        clients.iter_mut().for_each(|client| drop(client.ok("INCR n")));
    }
    // Also for who had nothing to be looked at, and within one burst of its own.
    let mut free = cluster.client();
    free.ok("INCR n");
    let burst =
        harness::lines(&["INCR n", "ACL SETUSER default -incr", "INCR n", "ACL SETUSER default +incr"]);
    let told: Vec<bool> = op.pipeline(&burst, 4).iter().map(|reply| reply.is_error()).collect();
    assert_eq!(told, [false, false, true, false]);
    op.ok("ACL SETUSER default -incr");
    assert_eq!(free.line("INCR n").string(), refused);
    // What is queued must be allowed by EXEC as well, and is done as a whole or not at all.
    let bob = &mut clients[0];
    bob.ok("MULTI");
    ["SET a 1", "INCR n"].into_iter().for_each(|line| assert_eq!(bob.line(line).string(), "QUEUED"));
    op.ok("ACL SETUSER bob -incr");
    assert_eq!(bob.line("EXEC").string(), format!("EXECABORT Transaction discarded because of: {refused}"));
    assert_eq!(bob.line("EXISTS a").number(), 0);
    bob.ok("MULTI");
    assert_eq!(bob.line("SET a 1").string(), "QUEUED");
    op.ok("ACL SETUSER bob -decr");
    assert_eq!(bob.line("EXEC").strings(), ["OK"]);
}

/// Several clients of one thread have said something by the time it looks: what comes behind a change is refused,
/// though nobody told the others of it yet.
#[test]
fn a_change_counts_for_what_is_read_in_the_same_turn() {
    let mut setup = Setup::new(Kind::Redis, 1);
    setup.rest = "[proxy]\nworkers = 1\n".into();
    let cluster = Cluster::start(setup);
    let mut op = cluster.client();
    let mut refused = 0;
    for round in 0..5 {
        op.ok("ACL SETUSER bob on nopass ~* +@all");
        let mut bobs: Vec<Client> = (0..4).map(|_| login(&cluster, "bob", "x")).collect();
        signal(cluster.proxy.pid(), "STOP");
        let change = ["ACL SETUSER bob -rpush".into(), format!("RPUSH log:{round} changed")];
        op.send(&harness::lines(&[&change[0], &change[1]])).expect("it is kept for the proxy");
        for bob in &mut bobs {
            bob.send(&harness::lines(&[&format!("RPUSH log:{round} bob")]))
                .expect("it is kept for the proxy");
        }
        signal(cluster.proxy.pid(), "CONT");
        (0..2).for_each(|_| assert!(!op.read().expect("an answer").is_error()));
        refused += bobs.iter_mut().filter_map(|bob| bob.read().ok()).filter(|reply| reply.is_error()).count();
        let log = op.line(&format!("LRANGE log:{round} 0 -1")).strings();
        assert_eq!(log.last().map(String::as_str), Some("changed"), "{log:?}");
    }
    assert!(refused > 0, "all of them were read before the change");
}

#[test]
fn a_deleted_user_is_gone_and_a_new_one_of_its_name_is_another() {
    let cluster = plain();
    let mut op = cluster.client();
    op.ok("ACL SETUSER bob on nopass +@all ~* &*");
    let (mut idle, mut busy, mut other) =
        (login(&cluster, "bob", "x"), login(&cluster, "bob", "x"), cluster.client());
    // In one burst: those of the same thread see only what came of both.
    let burst = harness::lines(&["ACL DELUSER bob", "ACL SETUSER bob on nopass +@all ~* &*"]);
    assert_eq!(op.pipeline(&burst, 2)[0].number(), 1);
    assert!(busy.try_line("SET k v").is_err(), "it is not the new bob");
    assert!(idle.is_closed());
    assert_eq!(other.line("EXISTS k").number(), 0);
    // Who deletes itself reads that it worked.
    let mut bob = login(&cluster, "bob", "x");
    assert_eq!(bob.line("ACL DELUSER bob").number(), 1);
    assert!(bob.is_closed());
    assert!(cluster.client().line("AUTH bob x").string().starts_with("WRONGPASS"));
}

#[test]
fn who_is_in_stays_in_whatever_becomes_of_the_password() {
    let cluster = plain();
    let (mut op, mut guest) = (cluster.client(), cluster.client());
    op.ok("ACL SETUSER bob on >old +@all ~*");
    let mut bob = login(&cluster, "bob", "old");
    for change in ["<old", ">new", "off", "resetpass"] {
        op.ok(&format!("ACL SETUSER bob {change}"));
        assert!(bob.line("GET k").null, "{change}");
        assert!(cluster.client().line("AUTH bob old").string().starts_with("WRONGPASS"), "{change}");
    }
    op.ok("ACL SETUSER default >secret");
    guest.ok("SET k v");
    let mut late = cluster.client();
    assert_eq!(late.line("GET k").string(), "NOAUTH Authentication required.");
    op.ok("ACL SETUSER default nopass");
    assert_eq!(late.line("GET k").string(), "v", "nobody needs to log in any more");
}

#[test]
fn a_subscriber_that_may_not_listen_any_more_is_closed() {
    let cluster = plain();
    let mut op = cluster.client();
    op.ok("ACL SETUSER bob on nopass +@all &a &b.* &c");
    let listen = |lines: &[&str]| {
        let mut client = login(&cluster, "bob", "x");
        lines.iter().for_each(|line| drop(client.ok(line)));
        client
    };
    let (mut a, mut pattern, mut shard) =
        (listen(&["SUBSCRIBE c a"]), listen(&["PSUBSCRIBE b.*"]), listen(&["SSUBSCRIBE c"]));
    let mut silent = listen(&["PING"]);
    assert_eq!(a.read().expect("the second confirmation").items[1].string(), "a");
    op.ok("ACL SETUSER bob resetchannels &c &b.* -get");
    assert!(a.is_closed());
    assert_eq!(op.line("PUBLISH b.x m").number(), 1);
    assert_eq!(pattern.read().expect("a message").items[3].string(), "m");
    op.ok("ACL SETUSER bob resetchannels &c &b.x");
    assert!(pattern.is_closed());
    assert_eq!(op.line("SPUBLISH c m").number(), 1);
    assert_eq!(shard.read().expect("a message").items[2].string(), "m");
    op.ok("ACL SETUSER bob resetchannels (&c)");
    assert_eq!(op.line("SPUBLISH c m").number(), 1);
    op.ok("ACL SETUSER bob clearselectors");
    assert!(shard.is_closed());
    silent.ok("PING");
}

#[test]
fn the_configuration_is_read_again_whole_or_not_at_all() {
    let user = "rules = \"nopass ~a* +@all -@scripting\"";
    let sections = format!("[user.default]\n{ALL}\n[user.app]\n{user}\n[user.old]\n{user}\n");
    let mut cluster = cluster("users = [\"default\", \"app\", \"old\"]", &sections);
    let (mut op, mut app, mut old) =
        (cluster.client(), login(&cluster, "app", "x"), login(&cluster, "old", "x"));
    op.ok("ACL SETUSER app ~b* >hunter2");
    op.ok("ACL SETUSER made on nopass +ping");
    let mut made = login(&cluster, "made", "x");
    app.ok("SET b 1");
    // Nothing of a wrong file is taken.
    let before = op.line("ACL LIST").strings();
    let right = std::fs::read_to_string(cluster.proxy.config()).expect("it is there");
    cluster.proxy.edit(|text| text.replace("~a* +@all", "~c* +@alll"));
    let line = 1 + right.lines().position(|line| line == user).expect("it is there");
    let config = cluster.proxy.config();
    let told = op.line("ACL LOAD").string();
    assert!(told.starts_with(&format!("ERR {}:{line}: C024 ", config.display())), "{told}");
    assert_eq!(op.line("ACL LIST").strings(), before);
    // The right one is, and what clients made is dropped.
    let names = |text: &str| text.replace("\"app\", \"old\"", "\"app\", \"new\"");
    cluster.proxy.edit(|_| names(&right).replace("[user.old]", "[user.new]"));
    op.ok("ACL LOAD");
    assert_eq!(op.line("ACL USERS").strings(), ["app", "default", "new"]);
    assert_eq!(app.line("SET b 1").string(), DENIED_KEY);
    app.ok("SET a 1");
    assert!(made.is_closed() && old.is_closed());
    let mut new = login(&cluster, "new", "x");
    new.ok("SET a 2");
    assert_eq!(
        op.line("ACL SAVE").string().split(' ').take(4).collect::<Vec<_>>(),
        ["ERR", "This", "Redis", "instance"]
    );
    assert!(op.line("MULTI").string() == "OK" && op.line("ACL LOAD").is_error());
    op.line("DISCARD");
    // A signal does the same.
    let reads = |cluster: &Cluster| cluster.proxy.log().matches("users were read again").count();
    op.ok("ACL SETUSER app -set");
    signal(cluster.proxy.pid(), "HUP");
    // Once by the command above, whose line may be written late, and once by the signal.
    wait_until("the signal is heard", LONG, || reads(&cluster) == 2);
    app.ok("SET a 3");
    assert_eq!(op.line("ACL USERS").strings(), ["app", "default", "new"]);
    let log = cluster.proxy.log();
    let shown = ["added=[\"new\"]", "removed=[\"made\", \"old\"]", "changed=[\"app\"]"];
    assert!(shown.iter().all(|words| log.contains(words)) && !log.contains("hunter2"), "{log}");
    // A listener that is gone needs a restart, and after one what clients made is gone.
    cluster.proxy.edit(|text| text.replace("[listen.main]", "[listen.other]"));
    assert!(op.line("ACL LOAD").string().contains("[listen.main] is not in the configuration"));
    cluster.proxy.edit(|text| text.replace("[listen.other]", "[listen.main]"));
    op.ok("ACL SETUSER made on");
    cluster.proxy.kill();
    cluster.proxy.run();
    cluster.proxy.wait_ready();
    assert_eq!(cluster.client().line("ACL USERS").strings(), ["app", "default", "new"]);
}

const DENIED_KEY: &str = "NOPERM this user has no permissions to access one of the keys used as arguments";

#[test]
fn a_user_of_several_listeners_is_one() {
    let port = free_port();
    let second =
        format!("[listen.second]\naddress = \"127.0.0.1:{port}\"\ngroup = \"g\"\nusers = [\"app\"]\n");
    let sections = format!("[user.default]\n{ALL}\n[user.app]\n{ALL}\n{second}");
    let cluster = cluster("users = [\"default\", \"app\"]", &sections);
    let second = || Client::connect(port).expect("the second listener");
    let (mut op, mut app) = (cluster.client(), second());
    app.ok("AUTH app x");
    app.ok("SET k v");
    op.ok("ACL SETUSER app -set");
    assert!(app.line("SET k v").is_error());
    // Who is made is of the listener at which it is.
    op.ok("ACL SETUSER bob on nopass +@all ~*");
    assert!(second().line("AUTH bob x").string().starts_with("WRONGPASS"));
    app.ok("ACL SETUSER bob on >other");
    assert!(login(&cluster, "bob", "any").line("GET k").string() == "v");
    assert_eq!(op.line("ACL DELUSER app").number(), 1);
    assert!(app.is_closed() && second().line("AUTH app x").string().starts_with("WRONGPASS"));
}

#[test]
fn users_are_bounded_and_only_those_who_may_change_them() {
    let cluster = plain();
    let mut op = cluster.client();
    op.ok("ACL SETUSER bob on nopass ~* +@all -@admin");
    let mut bob = login(&cluster, "bob", "x");
    for line in
        ["ACL SETUSER bob +@all", "ACL DELUSER bob", "ACL LOAD", "ACL SAVE", "ACL LIST", "ACL GETUSER bob"]
    {
        assert!(bob.line(line).string().starts_with("NOPERM "), "{line}");
    }
    let names: Vec<String> = (0..998).map(|n| format!("ACL SETUSER u{n} +get")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(op.pipeline(&harness::lines(&names), names.len()).iter().all(|reply| reply.string() == "OK"));
    assert_eq!(op.line("ACL SETUSER more").string(), "ERR there are 1000 users already, more are not made");
    op.ok("ACL SETUSER u1 +set");
    let long = format!("~{}", "x".repeat(66_000));
    assert!(op.call(&["ACL", "SETUSER", "u1", &long]).string().contains("64 KiB"));
    let many: Vec<String> = (0..5).map(|n| format!("~{n}{}", "z".repeat(15_000))).collect();
    let told: Vec<String> =
        many.iter().map(|rule| op.call(&["ACL", "SETUSER", "u1", rule]).string()).collect();
    assert!(told.last().is_some_and(|told| told.contains("64 KiB")), "{told:?}");
    assert!(op.call(&[&b"ACL"[..], b"SETUSER", b"u1", b"~\xff"]).string().contains("UTF-8"));
    assert!(op.call(&[&b"ACL"[..], b"SETUSER", b"\xff"]).string().contains("UTF-8"));
    op.ok("PING");
}

/// What it may not do any more it does not wait for either; who may do it waits on.
#[test]
fn who_waits_stops_when_it_may_not_any_more() {
    let cluster = plain();
    let mut op = cluster.client();
    let command = |name: &str| format!("NOPERM this user has no permissions to run the '{name}' command");
    for (line, change, error) in [
        ("BLPOP list 0", "-blpop", command("blpop")),
        ("BZPOPMIN zset 0", "resetkeys ~other", DENIED_KEY.into()),
        ("BLMOVE list to LEFT RIGHT 0", "resetkeys ~list", DENIED_KEY.into()),
        ("XREAD BLOCK 0 STREAMS stream $", "-@blocking", command("xread")),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS stream >", "resetkeys ~list", DENIED_KEY.into()),
    ] {
        op.ok("DEL list zset to stream");
        op.ok("XGROUP CREATE stream g $ MKSTREAM");
        op.ok("ACL SETUSER bob reset on nopass ~* +@all");
        op.ok("ACL SETUSER ann reset on nopass ~* +@all");
        let (mut bob, mut ann) = (login(&cluster, "bob", "x"), login(&cluster, "ann", "x"));
        [&mut bob, &mut ann].into_iter().for_each(|who| who.send(&harness::lines(&[line])).expect("sent"));
        wait_until("both wait", LONG, || blocked(&cluster) == 2);
        op.ok(&format!("ACL SETUSER bob {change}"));
        assert_eq!(bob.read().expect("an error").string(), error, "{line}");
        assert_eq!(bob.line("PING").string(), "PONG", "{line}");
        assert_eq!(blocked(&cluster), 1, "{line}");
        // A change that leaves it what it needs is none for it.
        op.ok("ACL SETUSER ann -get");
        ["RPUSH list v", "ZADD zset 1 v", "XADD stream * f v"].iter().for_each(|line| drop(op.ok(line)));
        assert!(!ann.read().expect("what it waited for").is_error(), "{line}");
    }
    let denied = op.ok("ACL LOG").items.len();
    assert_eq!(denied, 5, "each of them is in the log");
}

fn blocked(cluster: &Cluster) -> usize {
    let info = cluster.client().ok("INFO clients").string();
    let line = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}
