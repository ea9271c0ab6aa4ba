//! PING, ECHO, HELLO, SELECT, QUIT, RESET, TIME: about the connection, not the data.
//! There is one database, number 0.

use super::Store;
use super::info::VERSION;
use super::number::{int_arg, integer};
use super::reply::{Answer, Fault, Reply};
use super::session::{DEFAULT_USER, Session};
use super::table::flag::{ANYTIME, DOOR, FAST};
use super::table::{Command, server};

pub(super) const COMMANDS: &[Command] = &[
    server("ping", -1, FAST, ping),
    server("echo", 2, ANYTIME | FAST, |_, _, args| Ok(Reply::bulk(&args[1]))),
    server("hello", -1, DOOR, hello),
    server("select", 2, ANYTIME | FAST, select),
    server("quit", -1, DOOR, quit),
    server("reset", 1, DOOR, reset),
    server("time", 1, ANYTIME | FAST, time),
];

fn ping(_: &mut Store, _: &mut Session, args: &[Vec<u8>]) -> Answer {
    match &args[1..] {
        [] => Ok(Reply::Status("PONG")),
        [text] => Ok(Reply::bulk(text)),
        _ => Err(Fault::arity("ping")),
    }
}

fn select(_: &mut Store, _: &mut Session, args: &[Vec<u8>]) -> Answer {
    match int_arg(&args[1])? {
        0 => Ok(Reply::OK),
        _ => Err(Fault::fixed("ERR DB index is out of range")),
    }
}

fn quit(_: &mut Store, session: &mut Session, _: &[Vec<u8>]) -> Answer {
    session.closing = true;
    Ok(Reply::OK)
}

fn reset(store: &mut Store, session: &mut Session, _: &[Vec<u8>]) -> Answer {
    session.discard();
    session.protocol = 2;
    session.name.clear();
    session.user = DEFAULT_USER.into();
    session.authenticated = store.users.find(DEFAULT_USER).is_some_and(|user| user.no_password);
    Ok(Reply::Status("RESET"))
}

fn time(store: &mut Store, _: &mut Session, _: &[Vec<u8>]) -> Answer {
    let now = store.db.now_ms();
    Ok(Reply::array([(now / 1000).to_string(), (now % 1000 * 1000).to_string()]))
}

fn hello(store: &mut Store, session: &mut Session, args: &[Vec<u8>]) -> Answer {
    let version = match args.get(1) {
        None => i64::from(session.protocol),
        Some(arg) => {
            integer(arg).ok_or(Fault::fixed("ERR Protocol version is not an integer or out of range"))?
        }
    };
    if !(2..=3).contains(&version) {
        return Err(Fault::fixed("NOPROTO unsupported protocol version"));
    }
    let name = hello_options(store, session, args.get(2..).unwrap_or_default())?;
    if !session.authenticated {
        return Err(Fault::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    session.name = name.unwrap_or(std::mem::take(&mut session.name));
    session.protocol = version as u8;
    Ok(greeting(session))
}

fn hello_options(
    store: &Store,
    session: &mut Session,
    mut options: &[Vec<u8>],
) -> Result<Option<Vec<u8>>, Fault> {
    let mut name = None;
    while let Some(option) = options.first() {
        match (option.to_ascii_lowercase().as_slice(), &options[1..]) {
            (b"auth", [user, password, rest @ ..]) => {
                store.log_in(session, user, password)?;
                options = rest;
            }
            (b"setname", [wanted, rest @ ..]) => {
                name = Some(valid_name(wanted)?);
                options = rest;
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(Fault::said(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        }
    }
    Ok(name)
}

fn greeting(session: &Session) -> Reply {
    let field = |name: &str, value: Reply| (Reply::bulk(name), value);
    Reply::Map(vec![
        field("server", Reply::bulk("redis")),
        field("version", Reply::bulk(VERSION)),
        field("proto", Reply::Int(i64::from(session.protocol))),
        field("id", Reply::Int(session.id.0 as i64)),
        field("mode", Reply::bulk("standalone")),
        field("role", Reply::bulk("master")),
        field("modules", Reply::Array(Vec::new())),
    ])
}

/// A client name is printable ASCII without blanks.
pub(super) fn valid_name(name: &[u8]) -> Result<Vec<u8>, Fault> {
    if name.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Ok(name.to_vec());
    }
    Err(Fault::fixed("ERR Client names cannot contain spaces, newlines or special characters."))
}
