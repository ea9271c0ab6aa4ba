//! Guards against a client that gets at what its user may not, against a user that is denied what it may, and
//! against clients that guess passwords or send more than their share.

mod harness;

use harness::{Client, Cluster, Kind, LONG, Random, Server, Setup, Value, encode, wait_until};
use quorate_wire::command::access::CATEGORIES;
use std::time::Instant;

const COMMANDS: &[&str] = &[
    "get",
    "set",
    "mget",
    "del",
    "incr",
    "copy",
    "rename",
    "lmove",
    "zunionstore",
    "sort",
    "publish",
    "subscribe",
    "config",
    "config|get",
    "client|list",
    "client",
    "eval",
    "xread",
    "exists",
    "object",
    "object|freq",
    "bitop",
    "georadius",
    "ping",
    "multi",
    "acl|whoami",
    "spublish",
    "psubscribe",
    "bitfield",
    "select",
    "memory",
];

const KEYS: &[&str] = &["~a*", "~b?", "%R~r*", "%W~w*", "%R~a1", "%RW~x[12]", "~", "resetkeys", "~r1"];
const CHANNELS: &[&str] = &["&news.*", "&a", "&n?", "resetchannels"];

/// What is tried with every set of rules; `K` is replaced by some key and `C` by some channel.
const LINES: &[&str] = &[
    "GET K",
    "SET K v",
    "SET K v GET",
    "SET K v EX 100 NX",
    "SET K GET",
    "MGET K K K",
    "MSET K 1 K 2",
    "DEL K K",
    "UNLINK K",
    "EXISTS K K",
    "TOUCH K",
    "INCR K",
    "GETEX K",
    "GETDEL K",
    "COPY K K",
    "RENAME K K",
    "RENAMENX K K",
    "LMOVE K K LEFT RIGHT",
    "BLMOVE K K LEFT RIGHT 1",
    "BLPOP K K 1",
    "SMOVE K K m",
    "SINTERSTORE K K K",
    "SUNION K K",
    "ZUNIONSTORE K 2 K K",
    "ZUNION 1 K",
    "ZRANGESTORE K K 0 1",
    "BITOP AND K K K",
    "BITFIELD K GET u8 0",
    "BITFIELD K SET u8 0 1",
    "BITFIELD K OVERFLOW SAT GET u8 0",
    "BITFIELD_RO K GET u8 0",
    "PFCOUNT K K",
    "PFMERGE K K",
    "GEORADIUS K 1 1 1 m",
    "GEORADIUS K 1 1 1 m STORE K",
    "GEOSEARCHSTORE K K FROMLONLAT 1 1 BYRADIUS 1 m",
    "SORT K",
    "SORT K STORE K",
    "SORT K LIMIT 0 1 STORE K",
    "SORT_RO K",
    "XREAD STREAMS K K 0 0",
    "XREAD COUNT 1 STREAMS K 0",
    "XREADGROUP GROUP g c STREAMS K >",
    "XADD K * f v",
    "XINFO STREAM K",
    "LMPOP 2 K K LEFT",
    "EVAL return 2 K K",
    "EVAL return 0",
    "EVAL_RO return 1 K",
    "FCALL f 1 K",
    "OBJECT FREQ K",
    "OBJECT HELP",
    "MEMORY USAGE K",
    "DUMP K",
    "RESTORE K 0 x",
    "WATCH K K",
    "EXPIRE K 100",
    "TTL K",
    "TYPE K",
    "KEYS *",
    "SCAN 0",
    "DBSIZE",
    "FLUSHALL",
    "RANDOMKEY",
    "PUBLISH C x",
    "SPUBLISH C x",
    "SUBSCRIBE C C",
    "SSUBSCRIBE C",
    "PSUBSCRIBE C",
    "PSUBSCRIBE news.*",
    "UNSUBSCRIBE C",
    "PUNSUBSCRIBE C",
    "PUBSUB CHANNELS",
    "CONFIG GET maxmemory",
    "CONFIG SET maxmemory 0",
    "CLIENT LIST",
    "CLIENT ID",
    "CLIENT KILL ID 1",
    "ACL WHOAMI",
    "ACL LIST",
    "PING",
    "ECHO x",
    "AUTH x",
    "HELLO 3",
    "RESET",
    "QUIT",
    "SELECT 0",
    "SELECT 1",
    "MULTI",
    "EXEC",
    "DISCARD",
    "INFO",
    "COMMAND COUNT",
    "TIME",
    "WAIT 0 0",
    "SCRIPT LOAD x",
    "DEBUG SLEEP 0",
    "MONITOR",
    "SLOWLOG GET",
    "LATENCY RESET",
    "LCS K K",
    "HSET K f v",
    "HRANDFIELD K",
    "GETSET K v",
    "SUBSTR K 0 1",
    "APPEND K v",
    "SETRANGE K 0 v",
    "STRLEN K",
    "LPUSH K v",
    "LINSERT K BEFORE a b",
];

const NAMES: &[&str] = &["a1", "a2", "b1", "b12", "r1", "r2", "w1", "x1", "x3", "z"];
const CHANNEL_NAMES: &[&str] = &["news.art", "a", "n1", "other"];

/// Rules that Redis takes as well: no pattern behind one that allows everything.
fn some_rules(random: &mut Random) -> Vec<String> {
    let mut rules = vec![];
    for _ in 0..1 + random.below(6) {
        let sign = *random.pick(&["+", "+", "-"]);
        rules.push(match random.below(10) {
            0 => random.pick(&["allcommands", "nocommands", "+@all"]).to_string(),
            1..=4 => format!("{sign}@{}", random.pick(&CATEGORIES)),
            5 => random.pick(&["+select|0", "+config|set", "-config|set", "+debug|sleep"]).to_string(),
            _ => format!("{sign}{}", random.pick(COMMANDS)),
        });
    }
    for _ in 0..random.below(4) {
        rules.push(random.pick(KEYS).to_string());
    }
    for _ in 0..random.below(3) {
        rules.push(random.pick(CHANNELS).to_string());
    }
    if random.below(5) == 0 {
        rules.extend([random.pick(&["~*", "allkeys"]).to_string()]);
    }
    if random.below(5) == 0 {
        rules.extend([random.pick(&["&*", "allchannels"]).to_string()]);
    }
    if random.below(8) == 0 {
        rules.push("off".into());
    }
    rules
}

/// Rules with selectors behind them, each of which is one argument for Redis.
fn some_user(random: &mut Random) -> Vec<String> {
    let mut rules = some_rules(random);
    for _ in 0..random.below(3) {
        let mut inner = some_rules(random);
        inner.retain(|rule| rule != "off");
        rules.push(format!("({})", inner.join(" ")));
    }
    rules
}

fn some_line(random: &mut Random, line: &str) -> Vec<String> {
    let word = |word: &str| match word {
        "K" => random.pick(NAMES).to_string(),
        "C" => random.pick(CHANNEL_NAMES).to_string(),
        word => word.to_string(),
    };
    line.split(' ').map(word).collect()
}

/// A proxy over one server, whose listener lets all these users in.
fn users(sections: &[(&str, String)]) -> Cluster {
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    let mut setup = Setup::new(Kind::Redis, 1).listen(&format!("users = {names:?}"));
    setup.rest = sections.iter().map(|(name, lines)| format!("[user.{name}]\n{lines}\n")).collect();
    Cluster::start(setup)
}

fn open(rules: &str) -> String {
    format!("rules = \"nopass {rules}\"")
}

fn as_user(cluster: &Cluster, name: &str) -> Client {
    let mut client = cluster.client();
    client.ok(&format!("AUTH {name} x"));
    client
}

#[test]
fn what_a_user_may_do_is_what_redis_lets_it() {
    const USERS: usize = 60;
    let mut random = Random::new(26);
    let rules: Vec<Vec<String>> = (0..USERS).map(|_| some_user(&mut random)).collect();
    let sections: Vec<(String, String)> =
        rules.iter().enumerate().map(|(n, rules)| (format!("u{n}"), open(&rules.join(" ")))).collect();
    let mut named: Vec<(&str, String)> =
        sections.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    named.push(("default", open("~* &* +@all")));
    let cluster = users(&named);
    let bare = Server::start(Kind::Redis);
    let (mut ours, mut theirs) = (cluster.client(), bare.client());
    let (mut allowed, mut denied) = (0, 0);
    for (n, rules) in rules.iter().enumerate() {
        let user = format!("u{n}");
        let answer = theirs.call(&set_user(&user, rules));
        assert!(!answer.is_error(), "{rules:?}: {answer:?}");
        let (yes, no) = try_all(&mut ours, &mut theirs, &user, &mut random);
        (allowed, denied) = (allowed + yes, denied + no);
    }
    assert!(allowed > 500 && denied > 500, "{allowed} allowed, {denied} denied");
    // What clients change, they change as in Redis: the same rules are taken and refused, and mean the same.
    (allowed, denied) = (0, 0);
    let mut refused = 0;
    for _ in 0..USERS {
        let user = format!("u{}", random.below(8));
        for _ in 0..2 {
            let mut rules = some_user(&mut random);
            rules.extend((random.below(4) == 0).then(|| "reset".to_string()));
            rules.extend((random.below(6) == 0).then(|| "clearselectors".to_string()));
            let rules = set_user(&user, &rules);
            let (our, their) = (ours.call(&rules), theirs.call(&rules));
            assert_eq!(our, their, "{rules:?}");
            refused += usize::from(their.is_error());
        }
        let (yes, no) = try_all(&mut ours, &mut theirs, &user, &mut random);
        (allowed, denied) = (allowed + yes, denied + no);
    }
    assert!(allowed > 500 && denied > 500 && refused > 5, "{allowed} {denied} {refused}");
}

fn set_user<'a>(user: &'a str, rules: &'a [String]) -> Vec<&'a str> {
    let rules = rules.iter().map(String::as_str);
    ["ACL", "SETUSER", user, "on", "nopass"].into_iter().chain(rules).collect()
}

/// Has both say what the user may do; how much is allowed and denied.
fn try_all(ours: &mut Client, theirs: &mut Client, user: &str, random: &mut Random) -> (usize, usize) {
    let (mut allowed, mut denied) = (0, 0);
    for line in LINES {
        let line = some_line(random, line);
        let mut dry: Vec<&str> = vec!["ACL", "DRYRUN", user];
        dry.extend(line.iter().map(String::as_str));
        let (our, their) = (ours.call(&dry), theirs.call(&dry));
        assert_eq!(our, their, "{line:?} {:?}", theirs.call(&["ACL", "GETUSER", user]));
        match their.kind {
            b'+' => allowed += 1,
            _ => denied += 1,
        }
    }
    (allowed, denied)
}

#[test]
fn a_denied_command_is_answered_as_redis_does_and_does_nothing() {
    let rules = "~a* %R~r* %W~w* &ch* +@all -incr -exec -config|set";
    let cluster =
        users(&[("bob", open(rules)), ("root", open("~* &* +@all")), ("half", open("%R~* +@all &*"))]);
    let bare = Server::start(Kind::Redis);
    let mut set = vec!["ACL", "SETUSER", "bob", "on", "nopass"];
    set.extend(rules.split(' '));
    assert!(!bare.client().call(&set).is_error());
    bare.client().ok("ACL SETUSER half on nopass %R~* +@all &*");
    let script = [
        "AUTH bob x",
        "INCR a",
        "INCR",
        "NOSUCH x",
        "CONFIG SET maxmemory 0",
        "CONFIG NOSUCH",
        "GET z",
        "GET r1",
        "GET w1",
        "SET r1 x",
        "SET w1 x",
        "SET w1 x GET",
        "SET z x",
        "MGET a r1 z",
        "PUBLISH x y",
        "PUBLISH ch1 y",
        "SPUBLISH x y",
        "COPY r1 w1",
        "COPY w1 r1",
        "XREAD STREAMS r1 q 0 0",
        "EVAL return(1) 1 z",
        "EVAL return(1) 1 r1",
        "WATCH z",
        "SORT a1",
        "SORT a1 BY q*",
        "SORT a1 GET q*",
        "SORT a1 BY nosort",
        "SORT a1 BY nosort GET #",
        "SORT_RO a1 BY a*",
        "SORT a1 STORE r1",
        // Servers read the words of SORT up to a zero byte.
        "SORT a1 \"GET\\0\" q*",
        "SORT a1 BY nosort \"get\\0x\" #",
        "SORT a1 \"BY\\0\" q*",
        "SORT_RO a1 \"by\\0nosort\" a*",
        "SORT a1 \"BY\\0\" nosort",
        "SORT a1 \"LIMIT\\0\" GET 1",
        "SORT a1 LIMIT 0 1 \"GET\\0\" q*",
        "SORT a1 \"STORE\\0\" r1",
        "SORT a1 \"STORE\\0\" GET",
        "SUBSCRIBE ch1 x",
        "PSUBSCRIBE ch?",
        "SSUBSCRIBE x",
        "ACL WHOAMI",
        "MULTI",
        "INCR a",
        "PING",
        "EXEC",
        "PING",
        "MULTI",
        "SET z 1",
        "SET a1 1",
        "DISCARD",
        "EXEC",
        "AUTH half x",
        "SORT a1 BY q*",
        "SORT a1 GET q*",
        "SORT a1 \"GET\\0\" q*",
        "GET z",
        "SET a 1",
        "MULTI",
        "SET a 1",
        "PING",
        "EXEC",
        "DISCARD",
        "MULTI",
        "GET a",
        "EXEC",
        "ACL WHOAMI",
        "PSUBSCRIBE ch*",
    ];
    for dialect in [2, 3] {
        let (mut ours, mut theirs) = (cluster.client(), bare.client());
        for client in [&mut ours, &mut theirs] {
            client.ok(&format!("HELLO {dialect} AUTH bob x"));
        }
        for line in script {
            assert_eq!(ours.line(line), theirs.line(line), "{line}");
        }
    }
    let mut root = as_user(&cluster, "root");
    for key in ["z", "r1", "a"] {
        assert_eq!(root.line(&format!("EXISTS {key}")).number(), 0, "{key}");
    }
    assert!(cluster.proxy.metric("quorate_access_denials_total") > 30.0);
}

#[test]
fn users_log_in_with_their_passwords_and_no_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("password");
    std::fs::write(&file, "old-hush\n").expect("written");
    let digest = "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4";
    let app = format!("password = [{{ file = {file:?} }}, \"#{digest}\"]\nrules = \"~* +@all -@scripting\"");
    let off = format!("password = {{ file = {file:?} }}\nrules = \"off ~* +@all -@scripting\"");
    let cluster = users(&[("app", app), ("off", off), ("op", open("~* &* +@all"))]);
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    let mut client = cluster.client();
    assert_eq!(client.line("PING").string(), "NOAUTH Authentication required.");
    for line in ["AUTH app x", "AUTH off old-hush", "AUTH nobody pw", "AUTH pw", "HELLO 3 AUTH app bad"] {
        assert_eq!(client.line(line).string(), wrong, "{line}");
    }
    for password in ["old-hush", "pw"] {
        client.ok(&format!("AUTH app {password}"));
        assert_eq!(client.line("ACL WHOAMI").string(), "app");
    }
    assert_eq!(client.line("AUTH app bad").string(), wrong);
    assert_eq!(client.line("ACL WHOAMI").string(), "app", "who fails stays who it was");
    client.ok("RESET");
    assert_eq!(client.line("GET a").string(), "NOAUTH Authentication required.");
    let mut op = as_user(&cluster, "op");
    let all = op.line("ACL LIST").strings().join("\n") + &format!("{:?}", op.line("ACL GETUSER app"));
    assert!(!all.contains("30c952") && !all.contains("hush"), "{all}");
    assert!(cluster.proxy.metric("quorate_auth_failures_total") >= 6.0);
    wait_until("it is told", LONG, || cluster.proxy.log().contains("a login failed"));
    let log = cluster.proxy.log();
    assert!(!log.contains("hush") && !log.contains("nobody"), "{log}");
}

#[test]
fn a_client_is_known_by_its_user() {
    let cluster = users(&[
        ("default", open("~public:* +@read +@connection")),
        ("app", open("~* +@all -@scripting")),
        ("op", open("~* &* +@all")),
    ]);
    let (mut guest, mut app, mut op) = (cluster.client(), as_user(&cluster, "app"), as_user(&cluster, "op"));
    assert_eq!(
        guest.line("ACL WHOAMI").string(),
        "NOPERM this user has no permissions to run the 'acl|whoami' command"
    );
    assert!(guest.line("GET public:x").null && guest.line("GET x").is_error());
    let info = |client: &mut Client| client.line("CLIENT INFO").string();
    assert!(info(&mut guest).contains(" user=default ") && info(&mut app).contains(" user=app "));
    assert_eq!(op.line("CLIENT LIST").string().matches(" user=app ").count(), 1);
    assert_eq!(op.line("CLIENT KILL USER nobody").string(), "ERR No such user 'nobody'");
    assert_eq!(op.line("CLIENT KILL USER app").number(), 1);
    assert!(app.is_closed() && !guest.line("PING").is_error());
    assert_eq!(op.line("CLIENT KILL USER default").number(), 1);
    assert!(guest.is_closed());
    assert_eq!(op.line("ACL USERS").strings(), ["app", "default", "op"]);
    assert_eq!(
        op.line("ACL LIST").strings(),
        [
            "user app on nopass ~* resetchannels +@all -@scripting",
            "user default on nopass ~public:* resetchannels -@all +@read +@connection",
            "user op on nopass ~* &* +@all",
        ]
    );
    let user = op.line("ACL GETUSER default");
    assert_eq!(user.field("flags").map(Value::strings), Some(vec!["on".into(), "nopass".into()]));
    assert_eq!(user.field("keys").map(Value::string).as_deref(), Some("~public:*"));
    assert_eq!(op.line("MULTI").string(), "OK");
    assert_eq!(op.line("AUTH app x").string(), "ERR a login as a user cannot be part of a transaction");
    assert!(op.line("EXEC").string().starts_with("EXECABORT"));
}

#[test]
fn what_was_denied_is_in_the_log() {
    let cluster = users(&[("bob", open("~a* &ch +@all -incr")), ("op", open("~* &* +@all"))]);
    let (mut bob, mut op) = (as_user(&cluster, "bob"), as_user(&cluster, "op"));
    for line in ["INCR a", "GET z", "GET z", "MULTI", "PUBLISH x y", "DISCARD", "AUTH ann no"] {
        bob.line(line);
    }
    let log = op.line("ACL LOG");
    let shown: Vec<Vec<String>> = log
        .items
        .iter()
        .map(|entry| {
            let fields = ["count", "reason", "context", "object", "username"];
            fields.iter().map(|field| entry.field(field).map(Value::string).unwrap_or_default()).collect()
        })
        .collect();
    assert_eq!(
        shown,
        [
            ["1", "auth", "toplevel", "AUTH", "ann"],
            ["1", "channel", "multi", "x", "bob"],
            ["2", "key", "toplevel", "z", "bob"],
            ["1", "command", "toplevel", "incr", "bob"],
        ]
    );
    let client = log.items[1].field("client-info").map(Value::string).unwrap_or_default();
    assert!(client.contains(" user=bob ") && client.contains(" cmd=publish "), "{client}");
    assert_eq!(op.line("ACL LOG 1").items.len(), 1);
    assert_eq!(op.line("ACL LOG x").string(), "ERR value is not an integer or out of range");
    op.ok("ACL LOG RESET");
    assert!(op.line("ACL LOG").items.is_empty());
}

#[test]
fn categories_are_those_of_redis() {
    let cluster = Cluster::start(Setup::new(Kind::Redis, 1));
    let server = Server::start(Kind::Redis);
    let (mut op, mut server) = (cluster.client(), server.client());
    assert_eq!(op.line("ACL CAT"), server.line("ACL CAT"));
    assert_eq!(op.line("ACL CAT nosuch"), server.line("ACL CAT nosuch"));
    for category in CATEGORIES {
        let line = format!("ACL CAT {category}");
        let (ours, theirs) = (op.line(&line).strings(), server.line(&line).strings());
        let lost: Vec<_> = theirs.iter().filter(|command| !ours.contains(command)).collect();
        assert!(lost.is_empty(), "{category}: {lost:?}");
        // Of the others this Redis knows none: Valkey has them.
        for command in ours.iter().filter(|command| !theirs.contains(command)) {
            assert!(server.line(&format!("COMMAND INFO {command}")).items[0].null, "{category}: {command}");
        }
    }
}

#[test]
fn whoever_guesses_waits_and_nobody_else_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("password");
    std::fs::write(&file, "right").expect("written");
    let lines = format!("password = {{ file = {file:?} }}\nrules = \"~* +@all -@scripting\"");
    let cluster = users(&[("app", lines.clone()), ("other", lines)]);
    let mut guesser = cluster.client();
    for _ in 0..5 {
        guesser.ok("AUTH app right");
        assert!(guesser.line("AUTH app wrong").is_error());
    }
    // From now on the same user waits from the same address; the seventh waits longer than a round trip takes.
    let began = Instant::now();
    for _ in 0..2 {
        assert!(guesser.line("AUTH app wrong").is_error());
    }
    guesser.send(&encode(&["AUTH", "app", "wrong"])).expect("sent");
    guesser.send(&encode(&["PING"])).expect("sent");
    let mut other = cluster.client();
    other.ok("AUTH other right");
    other.ok("SET k v");
    let mut right = cluster.client();
    right.send(&encode(&["AUTH", "app", "right"])).expect("sent");
    assert!(guesser.read().expect("a reply").is_error());
    assert_eq!(guesser.read().expect("a reply").string(), "PONG", "it is still who it was");
    assert_eq!(right.read().expect("a reply").string(), "OK", "a right password waits, and works");
    assert!(began.elapsed().as_millis() >= 700, "{:?}", began.elapsed());
    // Many at once do not guess faster: those who would wait too long are told so.
    let mut crowd: Vec<Client> = (0..20).map(|_| cluster.client()).collect();
    for client in &mut crowd {
        client.send(&encode(&["HELLO", "2", "AUTH", "app", "wrong"])).expect("sent");
    }
    wait_until("some are refused", LONG, || cluster.proxy.metric("quorate_sheds_total") > 5.0);
    let refused = crowd.last_mut().expect("twenty").read().expect("a reply").string();
    assert!(refused.starts_with("ERR too many failed logins"), "{refused}");
    other.ok("GET k");
    assert_eq!(cluster.client().line("AUTH other right").string(), "OK");
}

#[test]
fn a_login_inside_a_transaction_never_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("password");
    std::fs::write(&file, "right").expect("written");
    let cluster =
        Cluster::start(Setup::new(Kind::Redis, 1).listen(&format!("password = {{ file = {file:?} }}")));
    let mut client = cluster.client();
    client.ok("AUTH right");
    client.ok("MULTI");
    (0..7).for_each(|_| assert_eq!(client.line("AUTH wrong").string(), "QUEUED"));
    let answers = client.line("EXEC").strings();
    assert!(answers[4].starts_with("WRONGPASS"), "{answers:?}");
    assert!(answers[5].starts_with("ERR too many failed logins"), "{answers:?}");
    client.ok("PING");
}

#[test]
fn who_sends_more_than_the_rate_is_told_so_and_nothing_is_done() {
    let rate = "\nrequests-per-second = 1\nrequests-burst = 20";
    let mut setup = Setup::new(Kind::Redis, 1).listen(&format!("users = [\"slow\", \"default\"]{rate}"));
    setup.rest =
        format!("[user.default]\n{}\n[user.slow]\n{}{rate}\n", open("~* &* +@all"), open("~* &* +@all"));
    let cluster = Cluster::start(setup);
    let send = |client: &mut Client, key: &str| {
        let many = encode(&["INCR", key]).repeat(50);
        let replies = client.pipeline(&many, 50);
        let refused = "ERR rate limit exceeded: a client may send 1 requests per second; nothing was done";
        replies.iter().filter(|reply| reply.string() == refused).count()
    };
    let mut first = cluster.client();
    let refused = send(&mut first, "a");
    assert!((20..=30).contains(&refused), "{refused} of 50 refused");
    let others = send(&mut cluster.client(), "b");
    assert!((20..=30).contains(&others), "each client has its own: {others} of 50 refused");
    assert_eq!(cluster.client().line("GET a").string(), (50 - refused).to_string());
    first.send(&encode(&["AUTH", "slow", "x"])).expect("sent");
    assert_eq!(first.read().expect("a reply").string(), "OK", "a login is never too much");
    let mut told = 0;
    for _ in 0..3 {
        let mut client = as_user(&cluster, "slow");
        let replies = client.pipeline(&encode(&["INCR", "c"]).repeat(15), 15);
        told +=
            replies.iter().filter(|reply| reply.string().contains("this user may send 1 requests")).count();
    }
    assert!((20..=25).contains(&told), "45 were sent, 20 at once may be: {told} refused");
    let mut client = cluster.client();
    client.ok("MULTI");
    let queued = client.pipeline(&encode(&["INCR", "d"]).repeat(30), 30);
    assert!(queued[29].string().starts_with("ERR rate limit exceeded"), "{queued:?}");
    assert!(client.line("EXEC").string().starts_with("EXECABORT"), "nothing of it is done");
    assert!(cluster.proxy.metric("quorate_sheds_total") > 60.0);
}

#[test]
fn what_is_turned_away_is_counted() {
    let setup =
        Setup::new(Kind::Redis, 1).listen("max-clients = 2\nmax-request = \"1KiB\"\nmax-command = \"2KiB\"");
    let cluster = Cluster::start(setup);
    let mut clients: Vec<Client> = (0..2).map(|_| cluster.client()).collect();
    clients.iter_mut().for_each(|client| drop(client.ok("PING")));
    let mut third = cluster.client();
    assert_eq!(third.read().expect("a reply").string(), "ERR max number of clients reached");
    clients[0].send(&encode(&["SET", "k", &"x".repeat(2000)])).expect("sent");
    assert_eq!(clients[0].read().expect("a reply").string(), "ERR Protocol error: invalid bulk length");
    let (_, page) = cluster.proxy.page("/metrics");
    for reason in ["max-clients", "request-size"] {
        let line = format!("quorate_sheds_total{{listener=\"main\",reason=\"{reason}\"}} 1");
        assert!(page.contains(&line), "{line}: {page}");
    }
}
