//! ACL and AUTH: who a connection is and what it may do.
//! Deleting a user closes that user's connections and throws away what they had sent but the server had
//! not read: this is the fence the proxy relies on.

use std::collections::BTreeMap;

use super::acl_rules::User;
use super::reply::{Answer, Fault, Reply};
use super::session::{DEFAULT_USER, Session};
use super::table::flag::{ANYTIME, DOOR, NOSCRIPT};
use super::table::{Command, flag, server};
use super::{SessionId, Store, number};

pub(super) const COMMANDS: &[Command] =
    &[server("acl", -2, NOSCRIPT | ANYTIME, acl), server("auth", -2, DOOR, auth)];

const WRONG_PASSWORD: Fault = Fault::fixed("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD: Fault = Fault::fixed(
    "ERR AUTH <password> called without any password configured for the default user. \
     Are you sure your configuration is correct?",
);
const NOAUTH: Fault = Fault::fixed("NOAUTH Authentication required.");
const NO_KEY_PERMISSION: Fault =
    Fault::fixed("NOPERM this user has no permissions to access one of the keys used as arguments");

/// All users of a server. They live in memory only: a restart leaves the default user.
pub(super) struct Users(BTreeMap<String, User>);

impl Users {
    pub(super) fn new(password: Option<&str>) -> Self {
        let mut user = User::unrestricted();
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            // A password rule has no wrong form.
            let _ = user.apply(format!(">{password}").as_bytes());
        }
        Users(BTreeMap::from([(DEFAULT_USER.into(), user)]))
    }

    pub(super) fn find(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }
}

impl Store {
    pub(super) fn check_user(
        &self,
        session: &Session,
        command: &Command,
        sub: Option<&str>,
        args: &[Vec<u8>],
    ) -> Result<(), Fault> {
        if command.has(flag::NO_AUTH) {
            return Ok(());
        }
        let user = self.users.find(&session.user).filter(|_| session.authenticated).ok_or(NOAUTH)?;
        if !user.may_run(command.name, sub) {
            let name = sub.map_or(command.name.to_string(), |sub| format!("{}|{sub}", command.name));
            return Err(Fault::said(format!(
                "NOPERM this user has no permissions to run the '{name}' command"
            )));
        }
        let allowed = command.keys_of(args).all(|key| user.may_touch(key));
        if allowed { Ok(()) } else { Err(NO_KEY_PERMISSION) }
    }

    /// Checks a password and makes the session that user.
    pub(super) fn log_in(&self, session: &mut Session, name: &[u8], password: &[u8]) -> Result<(), Fault> {
        let name = String::from_utf8_lossy(name).into_owned();
        let known = self.users.find(&name).is_some_and(|user| user.accepts(password));
        if !known {
            return Err(WRONG_PASSWORD);
        }
        session.user = name;
        session.authenticated = true;
        Ok(())
    }

    /// Applies rules that cannot be wrong to an existing user.
    pub(super) fn change_user(&mut self, name: &str, rules: &[Vec<u8>]) {
        if let Some(user) = self.users.0.get_mut(name) {
            rules.iter().for_each(|rule| drop(user.apply(rule)));
        }
    }

    /// Closes a connection from the server's side.
    pub(super) fn kill(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_some() {
            self.killed.push(session);
        }
    }
}

fn auth(store: &mut Store, session: &mut Session, args: &[Vec<u8>]) -> Answer {
    match &args[1..] {
        [password] => {
            if store.users.find(DEFAULT_USER).is_some_and(|user| user.no_password) {
                return Err(NO_PASSWORD);
            }
            store.log_in(session, DEFAULT_USER.as_bytes(), password)?;
        }
        [name, password] => store.log_in(session, name, password)?,
        _ => return Err(Fault::SYNTAX),
    }
    Ok(Reply::OK)
}

fn acl(store: &mut Store, session: &mut Session, args: &[Vec<u8>]) -> Answer {
    match (args[1].to_ascii_lowercase().as_slice(), &args[2..]) {
        (b"whoami", _) => Ok(Reply::bulk(&session.user)),
        (b"users", _) => Ok(Reply::array(store.users.0.keys())),
        (b"list", _) => Ok(list(store)),
        (b"getuser", [name, ..]) => Ok(get_user(store, name)),
        (b"setuser", [name, rules @ ..]) => set_user(store, name, rules),
        (b"deluser", names) => delete_users(store, session, names),
        _ => Err(Fault::SYNTAX),
    }
}

fn list(store: &Store) -> Reply {
    Reply::array(store.users.0.iter().map(|(name, user)| format!("user {name} {}", user.describe())))
}

fn get_user(store: &Store, name: &[u8]) -> Reply {
    let Some(user) = store.users.find(&String::from_utf8_lossy(name)) else { return Reply::Null };
    let field = |name: &str, value: Reply| (Reply::bulk(name), value);
    Reply::Map(vec![
        field("flags", Reply::Set(Reply::bulks(user.flags()))),
        field("passwords", Reply::array(&user.passwords)),
        field("commands", Reply::bulk(user.command_rules())),
        field("keys", Reply::bulk(user.key_rules())),
        field("channels", Reply::bulk(user.channel_rules())),
        field("selectors", Reply::Array(Vec::new())),
    ])
}

fn set_user(store: &mut Store, name: &[u8], rules: &[Vec<u8>]) -> Answer {
    if name.iter().any(|b| b.is_ascii_whitespace() || *b == 0) {
        return Err(Fault::fixed("ERR Usernames can't contain spaces or null characters"));
    }
    let name = String::from_utf8_lossy(name).into_owned();
    let mut user = store.users.find(&name).cloned().unwrap_or_default();
    for rule in rules {
        user.apply(rule)?;
    }
    store.users.0.insert(name, user);
    Ok(Reply::OK)
}

fn delete_users(store: &mut Store, session: &mut Session, names: &[Vec<u8>]) -> Answer {
    if names.iter().any(|name| name == DEFAULT_USER.as_bytes()) {
        return Err(Fault::fixed("ERR The 'default' user cannot be removed"));
    }
    let mut deleted = 0;
    for name in names {
        let name = String::from_utf8_lossy(name).into_owned();
        if store.users.0.remove(&name).is_some() {
            deleted += 1;
            expel(store, session, &name);
        }
    }
    Ok(Reply::Int(deleted))
}

fn expel(store: &mut Store, session: &mut Session, name: &str) {
    let theirs = |session: &Session| session.user == name;
    let others: Vec<SessionId> =
        store.sessions.values().filter(|other| theirs(other)).map(|other| other.id).collect();
    others.into_iter().for_each(|other| store.kill(other));
    session.closing |= theirs(session);
}

/// The `ID` argument of CLIENT KILL and the like.
pub(super) fn session_arg(arg: &[u8]) -> Result<SessionId, Fault> {
    let id = number::integer(arg).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    id.map(SessionId).ok_or(Fault::fixed("ERR client-id should be greater than 0"))
}
