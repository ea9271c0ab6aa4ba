//! CLIENT: what connections there are, their names, and closing them.
//! Addresses are invented from the connection's number.

use super::acl::session_arg;
use super::connection::valid_name;
use super::reply::{Answer, Fault, Reply};
use super::session::Session;
use super::table::flag::{ANYTIME, NOSCRIPT};
use super::table::{Command, server};
use super::{SessionId, Store};

pub(super) const COMMANDS: &[Command] = &[server("client", -2, NOSCRIPT | ANYTIME, client)];

fn client(store: &mut Store, session: &mut Session, args: &[Vec<u8>]) -> Answer {
    match (args[1].to_ascii_lowercase().as_slice(), &args[2..]) {
        (b"id", _) => Ok(Reply::Int(session.id.0 as i64)),
        (b"getname", _) => Ok(name_of(session)),
        (b"info", _) => Ok(Reply::Text(describe(session, store.db.now_ms()))),
        (b"list", _) => Ok(list(store, session)),
        (b"setinfo" | b"no-evict", _) => Ok(Reply::OK),
        (b"setname", [name, ..]) => {
            session.name = valid_name(name)?;
            Ok(Reply::OK)
        }
        (b"kill", victims) => kill(store, session, victims),
        _ => Err(Fault::SYNTAX),
    }
}

fn name_of(session: &Session) -> Reply {
    Reply::bulk_or_null(Some(&session.name).filter(|name| !name.is_empty()))
}

fn list(store: &Store, session: &Session) -> Reply {
    let mut all: Vec<&Session> = store.sessions.values().chain([session]).collect();
    all.sort_by_key(|session| session.id);
    Reply::Text(all.into_iter().map(|one| describe(one, store.db.now_ms())).collect())
}

fn describe(session: &Session, now_ms: u64) -> String {
    let queued = session.queue.as_ref().map_or(-1, |queue| queue.requests.len() as i64);
    format!(
        "id={} addr={} laddr=127.0.0.1:6379 fd=0 name={} age={} idle=0 flags={} db=0 sub=0 psub=0 ssub=0 \
         multi={queued} cmd={} user={} redir=-1 resp={}\n",
        session.id.0,
        address(session.id),
        String::from_utf8_lossy(&session.name),
        now_ms.saturating_sub(session.created_ms) / 1000,
        if session.queue.is_some() { 'x' } else { 'N' },
        session.last_command,
        session.user,
        session.protocol,
    )
}

fn address(id: SessionId) -> String {
    format!("127.0.0.1:{}", id.0)
}

/// Conditions of CLIENT KILL; all that are given must hold.
#[derive(Default)]
struct Victims {
    id: Option<SessionId>,
    user: Option<String>,
    address: Option<String>,
    spare_self: bool,
}

impl Victims {
    fn parse(options: &[Vec<u8>]) -> Result<Self, Fault> {
        let mut victims = Victims { spare_self: true, ..Victims::default() };
        for pair in options.chunks(2) {
            let [option, value] = pair else { return Err(Fault::SYNTAX) };
            let text = String::from_utf8_lossy(value).into_owned();
            match option.to_ascii_lowercase().as_slice() {
                b"id" => victims.id = Some(session_arg(value)?),
                b"user" => victims.user = Some(text),
                b"addr" => victims.address = Some(text),
                b"type" if text.eq_ignore_ascii_case("normal") => {}
                b"skipme" => victims.spare_self = text.eq_ignore_ascii_case("yes"),
                _ => return Err(Fault::SYNTAX),
            }
        }
        Ok(victims)
    }

    fn include(&self, session: &Session) -> bool {
        self.id.is_none_or(|id| id == session.id)
            && self.user.as_ref().is_none_or(|user| *user == session.user)
            && self.address.as_ref().is_none_or(|wanted| *wanted == address(session.id))
    }
}

fn kill(store: &mut Store, session: &mut Session, options: &[Vec<u8>]) -> Answer {
    if let [addr] = options {
        let victims = Victims {
            address: Some(String::from_utf8_lossy(addr).into_owned()),
            spare_self: false,
            ..Victims::default()
        };
        let killed = kill_all(store, session, &victims);
        return if killed > 0 { Ok(Reply::OK) } else { Err(Fault::fixed("ERR No such client")) };
    }
    let victims = Victims::parse(options)?;
    if let Some(user) = victims.user.as_ref().filter(|user| store.users.find(user).is_none()) {
        return Err(Fault::said(format!("ERR No such user '{user}'")));
    }
    Ok(Reply::count(kill_all(store, session, &victims)))
}

fn kill_all(store: &mut Store, session: &mut Session, victims: &Victims) -> usize {
    let others: Vec<SessionId> =
        store.sessions.values().filter(|one| victims.include(one)).map(|one| one.id).collect();
    others.iter().for_each(|id| store.kill(*id));
    let own = !victims.spare_self && victims.include(session);
    session.closing |= own;
    others.len() + usize::from(own)
}
