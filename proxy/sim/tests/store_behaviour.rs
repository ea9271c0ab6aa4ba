//! What the simulator leans on: fences, crashes, full memory, failing environments, deadlines.

mod common;

use common::{Dice, request};
use quorate_sim::store::{Env, Fate, SessionId, Store};

/// A store with one connection and a clock moved by hand.
struct Desk {
    store: Store,
    session: SessionId,
    now_ms: u64,
}

impl Desk {
    fn new() -> Self {
        let mut store = Store::new(7, 1000);
        let session = store.connect();
        Desk { store, session, now_ms: 1000 }
    }

    fn say(&mut self, line: &str) -> String {
        let session = self.session;
        self.say_on(session, line).0
    }

    fn say_on(&mut self, session: SessionId, line: &str) -> (String, Fate) {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        let mut out = Vec::new();
        let fate = self.store.feed(session, &request(&words), self.now_ms, &mut out);
        (String::from_utf8_lossy(&out).replace("\r\n", " ").trim_end().to_string(), fate)
    }

    fn expect(&mut self, script: &[(&str, &str)]) {
        for (line, reply) in script {
            assert_eq!(self.say(line), *reply, "{line}");
        }
    }
}

#[test]
fn deleting_a_user_closes_its_connections_and_drops_what_they_sent() {
    let mut desk = Desk::new();
    desk.expect(&[("ACL SETUSER e1 on >p ~* &* +@all", "+OK")]);
    let old = desk.store.connect();
    assert_eq!(desk.say_on(old, "AUTH e1 p").0, "+OK");
    assert_eq!(desk.say_on(old, "SET k 1").0, "+OK");
    let half = request(&["SET".into(), "k".into(), "2".into()]);
    assert_eq!(desk.store.feed(old, &half[..half.len() - 3], 1000, &mut Vec::new()), Fate::Open);
    desk.expect(&[("ACL DELUSER e1", ":1")]);
    assert_eq!(desk.store.take_killed(), vec![old]);
    assert_eq!(desk.store.feed(old, &half[half.len() - 3..], 1000, &mut Vec::new()), Fate::Close);
    desk.expect(&[("GET k", "$1 1"), ("ACL USERS", "*1 $7 default")]);
}

#[test]
fn a_user_may_delete_itself_and_hears_of_it() {
    let mut desk = Desk::new();
    desk.expect(&[("ACL SETUSER e1 on nopass ~* +@all", "+OK"), ("AUTH e1 x", "+OK")]);
    let session = desk.session;
    assert_eq!(desk.say_on(session, "ACL DELUSER e1"), (":1".into(), Fate::Close));
}

#[test]
fn password_rotation_and_off_do_not_close_connections() {
    let mut desk = Desk::new();
    desk.expect(&[
        ("ACL SETUSER e1 on >p ~* +@all", "+OK"),
        ("AUTH e1 p", "+OK"),
        ("ACL SETUSER e1 off resetpass >q", "+OK"),
        ("SET k 1", "+OK"),
    ]);
}

#[test]
fn a_crash_forgets_the_last_transactions_whole() {
    let mut desk = Desk::new();
    desk.expect(&[
        ("SET a 1", "+OK"),
        ("MULTI", "+OK"),
        ("SET b 1", "+QUEUED"),
        ("INCR a", "+QUEUED"),
        ("EXEC", "*2 +OK :2"),
        ("GET a", "$1 2"),
        ("DEL nothing", ":0"),
        ("ACL SETUSER e1 on", "+OK"),
    ]);
    let (run_id, session) = (desk.store.run_id().to_string(), desk.session);
    desk.store.crash_losing(1, desk.now_ms);
    assert_ne!(desk.store.run_id(), run_id);
    assert!(!desk.store.is_connected(session));
    assert_eq!(desk.say_on(session, "PING").1, Fate::Close);
    desk.session = desk.store.connect();
    desk.expect(&[("GET a", "$1 1"), ("EXISTS b", ":0"), ("ACL USERS", "*1 $7 default")]);
}

/// Losing n transactions leaves what was there before them, whatever came in between.
#[test]
fn any_crash_leaves_a_state_that_was() {
    const LINES: [&str; 12] = [
        "SET K V",
        "INCR K",
        "RPUSH K V",
        "LPOP K",
        "HSET K f V",
        "SADD K V",
        "ZADD K 1 V",
        "DEL K",
        "SET K V PX 40",
        "PEXPIRE K 25",
        "RENAME K K",
        "FLUSHALL",
    ];
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let mut desk = Desk::new();
        let mut states = vec![desk.store.dump()];
        for _ in 0..60 {
            desk.now_ms += dice.below(20) as u64;
            let before = desk.store.losable();
            desk.store.tick(desk.now_ms);
            if desk.store.losable() > before {
                states.push(desk.store.dump());
            }
            let line = dice
                .pick(&LINES)
                .replace('K', ["x", "y", "z"][dice.below(3)])
                .replace('V', ["1", "2"][dice.below(2)]);
            let before = desk.store.losable();
            desk.say(&line);
            if desk.store.losable() > before {
                states.push(desk.store.dump());
            }
        }
        let lost = dice.below(desk.store.losable() + 1);
        // Time stands still in the crash: what is past its deadline by now goes at once.
        let mut expected = states[states.len() - 1 - lost].clone();
        expected.retain(|_, line| {
            let deadline = line.rsplit_once(" @").map(|(_, at)| at.parse::<u64>().expect("a deadline"));
            deadline.is_none_or(|at| at >= desk.now_ms)
        });
        desk.store.crash_losing(lost, desk.now_ms);
        assert_eq!(desk.store.dump(), expected, "seed {seed}, {lost} lost");
    }
}

#[test]
fn what_is_older_than_the_history_is_safe() {
    let mut store = Store::with_history(1, 0, 2);
    let session = store.connect();
    for i in 0..5 {
        let line = request(&["RPUSH".into(), "l".into(), i.to_string()]);
        assert_eq!(store.feed(session, &line, i, &mut Vec::new()), Fate::Open);
    }
    assert_eq!(store.losable(), 2);
    store.crash_losing(9, 5);
    assert_eq!(store.dump()[&b"l"[..]], "list \"0\" \"1\" \"2\"");
    assert_eq!(store.losable(), 0);
}

#[test]
fn equal_requests_give_equal_digests() {
    let (mut one, mut two) = (Desk::new(), Desk::new());
    for desk in [&mut one, &mut two] {
        desk.expect(&[("RPUSH l a b", ":2"), ("ZADD z 1.5 m", ":1"), ("SET s v PXAT 5000", "+OK")]);
    }
    assert_eq!(one.store.digest(), two.store.digest());
    two.expect(&[("PERSIST s", ":1")]);
    assert_ne!(one.store.digest(), two.store.digest());
    assert_ne!(one.store.dump(), two.store.dump());
}

#[test]
fn full_memory_refuses_what_needs_memory_and_says_so_in_transactions() {
    let mut desk = Desk::new();
    desk.expect(&[("SET k 1", "+OK")]);
    desk.store.set_maxmemory(100);
    desk.store.set_used_memory(Some(101));
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
    desk.expect(&[
        ("SET k 2", oom),
        ("GET k", "$1 1"),
        ("MULTI", "+OK"),
        ("SET k 2", oom),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("DEL k", ":1"),
    ]);
    desk.store.set_used_memory(Some(50));
    desk.expect(&[("MULTI", "+OK"), ("SET k 3", "+QUEUED")]);
    desk.store.set_used_memory(Some(101));
    desk.expect(&[
        ("EXEC", &format!("-EXECABORT Transaction discarded because of: {}", &oom[1..])),
        ("EXEC", "-ERR EXEC without MULTI"),
    ]);
    desk.store.set_used_memory(None);
    desk.store.set_maxmemory(0);
    desk.expect(&[("SET k 4", "+OK")]);
}

#[test]
fn a_failing_environment_refuses_at_queue_time() {
    let refused = [
        (Env::Loading, "-LOADING ", true),
        (Env::Busy, "-BUSY ", true),
        (Env::Misconf, "-MISCONF ", false),
        (Env::ReadOnly, "-READONLY ", false),
    ];
    for (env, code, reads_too) in refused {
        let mut desk = Desk::new();
        desk.store.set_failing(Some(env));
        assert!(desk.say("SET k 1").starts_with(code), "{env:?}");
        assert_eq!(desk.say("GET k").starts_with(code), reads_too, "{env:?}");
        assert_eq!(desk.say("MULTI"), "+OK");
        assert!(desk.say("SET k 1").starts_with(code));
        assert!(desk.say("EXEC").starts_with("-EXECABORT Transaction discarded because of"), "{env:?}");
        desk.store.set_failing(None);
        assert_eq!(desk.say("EXISTS k"), ":0");
    }
}

#[test]
fn keys_live_up_to_their_deadline_by_the_time_given() {
    let mut desk = Desk::new();
    desk.expect(&[("SET k v PX 50", "+OK"), ("PTTL k", ":50"), ("PEXPIRETIME k", ":1050")]);
    desk.now_ms = 1050;
    desk.expect(&[("GET k", "$1 v"), ("WATCH k", "+OK"), ("MULTI", "+OK"), ("SET other 1", "+QUEUED")]);
    desk.now_ms = 1051;
    desk.expect(&[("EXEC", "*-1"), ("EXISTS k", ":0"), ("EXISTS other", ":0")]);
}

#[test]
fn a_scan_returns_every_standing_key_once_while_others_come_and_go() {
    let mut desk = Desk::new();
    for i in 0..200 {
        desk.say(&format!("SET stays{i} 1"));
    }
    let (mut cursor, mut seen, mut round) = (String::from("0"), Vec::new(), 0);
    loop {
        let reply = desk.say(&format!("SCAN {cursor} COUNT 7"));
        let words: Vec<&str> = reply.split(' ').collect();
        seen.extend(words.iter().filter(|word| word.starts_with("stays")).map(|word| word.to_string()));
        cursor = words[2].to_string();
        round += 1;
        desk.say(&format!("SET comes{round} 1"));
        desk.say(&format!("DEL comes{}", round - 1));
        if cursor == "0" {
            break;
        }
        assert!(round < 200, "a scan ends");
    }
    seen.sort();
    let all = seen.len();
    seen.dedup();
    assert_eq!((all, seen.len()), (200, 200));
}

#[test]
fn it_says_what_it_is() {
    let mut desk = Desk::new();
    let info = desk.say("INFO server");
    for field in ["redis_version:7.0.15", "redis_mode:standalone", "quorate_embedded:1"] {
        assert!(info.contains(field), "{info}");
    }
    assert!(info.contains(&format!("run_id:{}", desk.store.run_id())));
    assert_eq!(desk.store.run_id().len(), 40);
}

#[test]
fn same_seed_same_bytes() {
    let run = |seed: u64| {
        let mut store = Store::new(seed, 5);
        let session = store.connect();
        let mut out = Vec::new();
        for line in ["MSET a 1 b 2 c 3", "RANDOMKEY", "RANDOMKEY", "INFO", "SCAN 0", "HELLO 3"] {
            let words: Vec<String> = line.split(' ').map(String::from).collect();
            assert_eq!(store.feed(session, &request(&words), 6, &mut out), Fate::Open);
        }
        out
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
