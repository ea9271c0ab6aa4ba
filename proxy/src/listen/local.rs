//! Commands that the proxy answers itself: the connection's own business.

use super::access::account::DEFAULT;
use super::access::{self, Login};
use super::inspect;
use super::pubsub;
use super::registry::Client;
use super::session::{Session, Speaks};
use super::tracking;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_wire::command::{Command, Local};
use quorate_wire::resp::{Args, encode};
use std::sync::atomic::Ordering;

/// Answers a local command.
pub fn answer(worker: &Worker, s: &mut Session, what: Local, command: &Command, args: Args) {
    match what {
        Local::Ping if args.len() > 2 => s.error("ERR wrong number of arguments for 'ping' command"),
        Local::Ping if s.only_subscribes() => s.answer(pubsub::pong(args.get(1).unwrap_or_default())),
        Local::Ping => match args.get(1) {
            None => ok(s, "+PONG\r\n"),
            Some(text) => bulk(s, text),
        },
        Local::Echo => bulk(s, &args[1]),
        Local::Hello => hello(worker, s, args),
        Local::Auth => auth(worker, s, args),
        Local::Select => match args.get(1) {
            Some(b"0") => ok(s, "+OK\r\n"),
            Some(other) if number(other).is_none() => s.error("ERR value is not an integer or out of range"),
            _ if s.port.cluster.is_some() => s.error("ERR SELECT is not allowed in cluster mode"),
            _ => s.error("ERR DB index is out of range"),
        },
        Local::Client => client(worker, s, args),
        Local::Subscribe => pubsub::answer(worker, s, command, args),
        Local::PubSub => pubsub::inspect(s, command, args),
        Local::Monitor => worker.watch(s),
        Local::Reset => reset(worker, s),
        Local::Quit => {
            ok(s, "+OK\r\n");
            s.closing = true;
        }
        Local::Time => {
            let us = worker.clock.unix_us();
            let parts = [(us / 1_000_000).to_string(), (us % 1_000_000).to_string()];
            let mut out = BytesMut::new();
            encode::command(parts.iter().map(|p| p.as_bytes()), &mut out);
            s.answer(out.freeze());
        }
        // Answered by a replica; see `request`.
        Local::Command | Local::Info => s.error("ERR internal error: this command is for a replica"),
        other => inspect::answer(worker, s, other, command, args),
    }
}

fn ok(s: &mut Session, text: &'static str) {
    s.answer(Bytes::from_static(text.as_bytes()));
}

fn bulk(s: &mut Session, text: &[u8]) {
    let mut out = BytesMut::with_capacity(text.len() + 16);
    encode::bulk(text, &mut out);
    s.answer(out.freeze());
}

/// Text that may hold several lines: verbatim in RESP3.
pub(super) fn text(s: &mut Session, body: &str) {
    if s.dialect == 2 {
        return bulk(s, body.as_bytes());
    }
    let mut out = BytesMut::with_capacity(body.len() + 24);
    encode::header(b'=', body.len() + 4, &mut out);
    out.extend_from_slice(b"txt:");
    out.extend_from_slice(body.as_bytes());
    out.extend_from_slice(b"\r\n");
    s.answer(out.freeze());
}

fn integer(s: &mut Session, value: u64) {
    s.answer(Bytes::from(format!(":{value}\r\n")));
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

fn auth(worker: &Worker, s: &mut Session, args: Args) {
    let open = s.port.gate.account(DEFAULT.as_bytes()).is_some_and(|account| account.rules.is_open());
    let (user, password) = match args.len() {
        2 if open => {
            return s.error(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            );
        }
        2 => (DEFAULT.as_bytes(), &args[1]),
        3 => (&args[1], &args[2]),
        _ => return s.error("ERR syntax error"),
    };
    match access::login(worker, s, user, password) {
        Login::Done => ok(s, "+OK\r\n"),
        Login::Failed(message) => s.error(&message),
        Login::Later => {}
    }
}

fn hello(worker: &Worker, s: &mut Session, args: Args) {
    let mut dialect = s.dialect;
    let mut name = None;
    let mut credentials = None;
    let mut next = 1;
    if let Some(version) = args.get(1) {
        match number(version) {
            Some(2) => dialect = 2,
            Some(3) => dialect = 3,
            Some(_) => return s.error("NOPROTO unsupported protocol version"),
            None => return s.error("ERR Protocol version is not an integer or out of range"),
        }
        next = 2;
    }
    while let Some(option) = args.get(next) {
        match (args.get(next + 1), args.get(next + 2)) {
            (Some(user), Some(password)) if is(option, "auth") => {
                credentials = Some((user, password));
                next += 3;
            }
            (Some(value), _) if is(option, "setname") => {
                if !printable(value) {
                    return s.error(NAME_ERROR);
                }
                name = Some(String::from_utf8_lossy(value).into_owned());
                next += 2;
            }
            _ => {
                let option = String::from_utf8_lossy(option).into_owned();
                return s.error(&format!("ERR Syntax error in HELLO option '{option}'"));
            }
        }
    }
    if let Some((user, password)) = credentials {
        match access::login(worker, s, user, password) {
            Login::Done => {}
            Login::Failed(message) => return s.error(&message),
            Login::Later => return,
        }
    }
    if !s.trusted {
        return s.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
             the same time",
        );
    }
    if let Some(name) = name {
        set_names(&s.client, |names| names.name = name);
    }
    set_dialect(s, dialect);
    greet(s);
}

fn set_dialect(s: &mut Session, dialect: u8) {
    s.dialect = dialect;
    s.client.dialect.store(u64::from(dialect), Ordering::Relaxed);
}

fn greet(s: &mut Session) {
    let (version, mode) = (server_version(s), inspect::mode(s));
    let mut out = BytesMut::new();
    encode::header(if s.dialect == 3 { b'%' } else { b'*' }, if s.dialect == 3 { 7 } else { 14 }, &mut out);
    let mut pair = |key: &str, value: &dyn Fn(&mut BytesMut)| {
        encode::bulk(key.as_bytes(), &mut out);
        value(&mut out);
    };
    pair("server", &|out| encode::bulk(b"redis", out));
    pair("version", &|out| encode::bulk(version.as_bytes(), out));
    pair("proto", &|out| encode::header(b':', usize::from(s.dialect), out));
    pair("id", &|out| encode::header(b':', s.client.id as usize, out));
    pair("mode", &|out| encode::bulk(mode.as_bytes(), out));
    pair("role", &|out| encode::bulk(b"master", out));
    pair("modules", &|out| encode::header(b'*', 0, out));
    // Messages speak the new dialect, and so must not come before this.
    s.confirm(out.freeze());
}

/// The version the backends gave; clients choose features by it.
fn server_version(s: &Session) -> String {
    let facts = s.port.group.facts.iter().filter_map(|facts| facts.lock().ok().map(|f| f.server.clone()));
    let version = facts.filter_map(|server| server.split(' ').nth(1).map(str::to_string)).min();
    version.unwrap_or_else(|| "7.0.0".into())
}

fn reset(worker: &Worker, s: &mut Session) {
    worker.unhear_all(s);
    worker.untrack(s);
    worker.unwatch(s);
    set_dialect(s, 2);
    s.speaks(Speaks::Always);
    s.become_user(None);
    s.transaction = Default::default();
    set_names(&s.client, |names| names.name.clear());
    ok(s, "+RESET\r\n");
}

const NAME_ERROR: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

fn printable(text: &[u8]) -> bool {
    text.iter().all(|b| (b'!'..=b'~').contains(b))
}

fn set_names(client: &Client, change: impl FnOnce(&mut super::registry::Names)) {
    if let Ok(mut names) = client.names.lock() {
        change(&mut names);
    }
}

fn client(worker: &Worker, s: &mut Session, args: Args) {
    let Some(sub) = args.get(1) else { return s.error("ERR wrong number of arguments for 'client' command") };
    let now_ms = worker.clock.now_us() / 1000;
    match sub.to_ascii_lowercase().as_slice() {
        b"id" => integer(s, s.client.id),
        b"getname" => {
            let name = s.client.names().name;
            match (name.is_empty(), s.dialect) {
                (true, 2) => ok(s, "$-1\r\n"),
                (true, _) => ok(s, "_\r\n"),
                (false, _) => bulk(s, name.as_bytes()),
            }
        }
        b"setname" => match printable(&args[2]) {
            true => {
                let name = String::from_utf8_lossy(&args[2]).into_owned();
                set_names(&s.client, |names| names.name = name);
                ok(s, "+OK\r\n");
            }
            false => s.error(NAME_ERROR),
        },
        b"setinfo" => set_info(s, args),
        b"info" => {
            let line = format!("{}\n", s.client.line(now_ms));
            text(s, &line);
        }
        b"list" => list(worker, s, args, now_ms),
        b"kill" => kill(worker, s, args),
        b"pause" => inspect::pause(worker, s, args),
        b"unpause" => inspect::unpause(s),
        b"reply" => reply(s, &args[2]),
        b"capa" => ok(s, "+OK\r\n"),
        b"unblock" => worker.client_unblock(s, args),
        b"no-evict" | b"no-touch" => match args.get(2) {
            Some(value) if is(value, "on") || is(value, "off") => ok(s, "+OK\r\n"),
            _ => s.error("ERR syntax error"),
        },
        b"getredir" => match tracking::redirection(s) {
            None => ok(s, ":-1\r\n"),
            Some(id) => integer(s, id),
        },
        b"tracking" => tracking::tracking(worker, s, args),
        b"trackinginfo" => tracking::info(s),
        b"caching" => tracking::caching(s, args),
        _ => {
            let name = [b"CLIENT ", sub].concat();
            s.error(&quorate_wire::command::Refusal::Admin.message(&name));
        }
    }
}

/// `CLIENT REPLY ON|OFF|SKIP`.
fn reply(s: &mut Session, how: &[u8]) {
    if is(how, "on") {
        s.speaks(Speaks::Always);
        ok(s, "+OK\r\n");
    } else if is(how, "off") {
        s.speaks(Speaks::Never);
    } else if is(how, "skip") {
        s.speaks(Speaks::NotNext);
    } else {
        s.error("ERR syntax error");
    }
}

fn set_info(s: &mut Session, args: Args) {
    let (Some(attribute), Some(value)) = (args.get(2), args.get(3)) else {
        return s.error("ERR syntax error");
    };
    let value_text = String::from_utf8_lossy(value).into_owned();
    let name = String::from_utf8_lossy(attribute).to_lowercase();
    if !printable(value) {
        return s.error(&format!("ERR {name} cannot contain spaces, newlines or special characters."));
    }
    match name.as_str() {
        "lib-name" => set_names(&s.client, |names| names.library = value_text),
        "lib-ver" => set_names(&s.client, |names| names.library_version = value_text),
        _ => return s.error(&format!("ERR Unrecognized option '{name}'")),
    }
    ok(s, "+OK\r\n");
}

fn list(worker: &Worker, s: &mut Session, args: Args, now_ms: u64) {
    let mut wanted: Option<Vec<u64>> = None;
    let mut subscribers = None;
    match (args.get(2), args.get(3)) {
        (None, _) => {}
        (Some(option), Some(_)) if is(option, "id") => {
            let ids: Option<Vec<u64>> =
                args.from(3).map(|id| number(id).and_then(|n| u64::try_from(n).ok())).collect();
            match ids {
                Some(ids) => wanted = Some(ids),
                None => return s.error("ERR Invalid client ID"),
            }
        }
        (Some(option), Some(kind)) if is(option, "type") => match kind.to_ascii_lowercase().as_slice() {
            b"normal" => subscribers = Some(false),
            b"pubsub" => subscribers = Some(true),
            b"master" | b"replica" | b"slave" => wanted = Some(vec![]),
            _ => {
                let kind = String::from_utf8_lossy(kind).into_owned();
                return s.error(&format!("ERR Unknown client type '{kind}'"));
            }
        },
        _ => return s.error("ERR syntax error"),
    }
    let all = worker.registry.all();
    let of_type = |c: &Client| subscribers.is_none_or(|wanted| c.subscribes() == wanted);
    let of_id = |c: &Client| wanted.as_ref().is_none_or(|ids| ids.contains(&c.id));
    let shown = all.iter().filter(|c| of_type(c) && of_id(c));
    let lines: String = shown.map(|c| c.line(now_ms) + "\n").collect();
    text(s, &lines);
}

/// `CLIENT KILL ip:port` and the form with filters.
fn kill(worker: &Worker, s: &mut Session, args: Args) {
    if args.len() == 3 {
        let address = String::from_utf8_lossy(&args[2]).into_owned();
        let victim = worker.registry.all().into_iter().find(|c| c.peer.to_string() == address);
        return match victim {
            Some(victim) => {
                kill_one(s, &victim);
                ok(s, "+OK\r\n");
            }
            None => s.error("ERR No such client"),
        };
    }
    let mut victims = worker.registry.all();
    let mut skip_me = true;
    let mut next = 2;
    while let Some(option) = args.get(next) {
        let Some(value) = args.get(next + 1) else { return s.error("ERR syntax error") };
        let text = String::from_utf8_lossy(value).into_owned();
        match option.to_ascii_lowercase().as_slice() {
            b"id" => match number(value).filter(|id| *id > 0) {
                Some(id) => victims.retain(|c| c.id == id as u64),
                None => return s.error("ERR client-id should be greater than 0"),
            },
            b"addr" => victims.retain(|c| c.peer.to_string() == text),
            b"laddr" => victims.retain(|c| c.local.to_string() == text),
            b"user" if text == DEFAULT || s.port.gate.account(value).is_some() => {
                victims.retain(|c| c.user() == text);
            }
            b"user" => return s.error(&format!("ERR No such user '{text}'")),
            b"type" if text.eq_ignore_ascii_case("normal") => victims.retain(|c| !c.subscribes()),
            b"type" if text.eq_ignore_ascii_case("pubsub") => victims.retain(|c| c.subscribes()),
            b"type" => victims.clear(),
            b"skipme" if is(value, "yes") => skip_me = true,
            b"skipme" if is(value, "no") => skip_me = false,
            _ => return s.error("ERR syntax error"),
        }
        next += 2;
    }
    victims.retain(|c| !skip_me || c.id != s.client.id);
    victims.iter().for_each(|victim| kill_one(s, victim));
    integer(s, victims.len() as u64);
}

/// Oneself only after the reply is written.
fn kill_one(s: &mut Session, victim: &Client) {
    if victim.id == s.client.id {
        s.closing = true;
    } else {
        victim.kill();
    }
}
