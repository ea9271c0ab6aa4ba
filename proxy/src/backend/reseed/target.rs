//! The conversation with the server that gets a copy.
//!
//! It is spoken as the owner's ACL user: a newer owner that fences the server ends it, so that an
//! old one can never make a replica of a server that takes part again. Credentials are never shown.

use super::super::attach::{self, AttachError, Owner, owners, permissions};
use super::super::call::Call;
use super::meter::Info;
use crate::config::{Address, Backend};
use bytes::Bytes;
use quorate_wire::resp::{Reserved, Value};

/// A copying that an earlier connection, or an earlier owner, left behind.
#[derive(Debug)]
pub struct Seeding {
    /// The server that it copies, as it names it.
    pub source: (String, u16),
    /// `masteruser` and `masterauth` were empty before, and are not now.
    credentials: bool,
}

/// `masteruser` and `masterauth` as they were before.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    user: Bytes,
    password: Bytes,
}

/// See the module's head.
pub(super) struct Target<'a> {
    call: Call,
    backend: &'a Backend,
    group: &'a str,
    /// What to put back when it ends.
    former: Option<Credentials>,
}

/// The marker: an ACL user, because those are not replicated, that can do nothing.
fn marker(group: &str) -> String {
    format!("quorate:{group}:seeding")
}

/// The marker beside it: the credentials were empty before.
fn credentials_marker(group: &str) -> String {
    format!("quorate:{group}:seeding-credentials")
}

fn has(users: &Value, name: &str) -> bool {
    users.items().iter().any(|user| user.text() == Some(name))
}

/// Is a reseed of this server under way, or was left behind?
pub(in super::super) fn is_seeding(users: &Value, group: &str) -> bool {
    has(users, &marker(group))
}

/// Why a server that is a replica cannot be attached.
pub(in super::super) async fn left_behind(
    call: &mut Call,
    group: &str,
    info: &Info,
) -> Result<Option<Seeding>, String> {
    if info.get("role").is_none_or(|role| role == "master") {
        return Ok(None);
    }
    let users = call.ask(&[b"ACL", b"USERS"]).await?;
    let host = info.get("master_host").cloned().unwrap_or_default();
    let port = info.get("master_port").and_then(|port| port.parse().ok()).unwrap_or(0);
    let credentials = has(&users, &credentials_marker(group));
    Ok(is_seeding(&users, group).then_some(Seeding { source: (host, port), credentials }))
}

/// Takes away what a reseed left on a server that is no replica any more.
pub(in super::super) async fn tidy(call: &mut Call, group: &str) -> Result<(), String> {
    let users = call.ask(&[b"ACL", b"USERS"]).await?;
    if has(&users, &credentials_marker(group)) {
        set_credentials(call, &Credentials::default()).await?;
    }
    if has(&users, &marker(group)) {
        drop_markers(call, group).await?;
    }
    Ok(())
}

async fn drop_markers(call: &mut Call, group: &str) -> Result<(), String> {
    let (one, other) = (marker(group), credentials_marker(group));
    fine(call.ask(&[b"ACL", b"DELUSER", one.as_bytes(), other.as_bytes()]).await?)
}

async fn set_credentials(call: &mut Call, to: &Credentials) -> Result<(), String> {
    let set = [
        vec![&b"CONFIG"[..], b"SET", b"masteruser", &to.user],
        vec![b"CONFIG", b"SET", b"masterauth", &to.password],
    ];
    // The server's words may repeat the password.
    match call.ask_all(&set).await?.iter().any(|answer| answer.error().is_some()) {
        true => Err("it refuses CONFIG SET of masteruser and masterauth".into()),
        false => Ok(()),
    }
}

fn fine(answer: Value) -> Result<(), String> {
    answer.error().map_or(Ok(()), |error| Err(permissions(&error)))
}

impl<'a> Target<'a> {
    /// Opens a conversation in the name of the owner that fenced the server.
    pub(super) async fn open(
        backend: &'a Backend,
        group: &'a str,
        owner: &Owner,
        password: &str,
    ) -> Result<Self, String> {
        let mut call = Call::open(backend).await?;
        login(&mut call, group, owner, password).await?;
        Ok(Self { call, backend, group, former: None })
    }

    /// The same with a replica that an earlier conversation made one: it is fenced here, by its users alone,
    /// as a replica takes no writes.
    pub(super) async fn take_over(
        backend: &'a Backend,
        group: &'a str,
        owner: &Owner,
        password: &str,
        former: Option<Credentials>,
        left: &Seeding,
    ) -> Result<Self, AttachError> {
        let mut call = Call::open(backend).await?;
        fence(&mut call, group, owner, password).await?;
        login(&mut call, group, owner, password).await?;
        let former = former.or_else(|| left.credentials.then(Credentials::default));
        Ok(Self { call, backend, group, former })
    }

    /// What to put back when it ends.
    pub(super) fn former(&self) -> Option<Credentials> {
        self.former.clone()
    }

    /// The address in use.
    pub(super) fn address(&self) -> &Address {
        &self.call.address
    }

    /// What the server says of itself.
    pub(super) async fn info(&mut self) -> Result<Info, String> {
        attach::info(&mut self.call).await
    }

    /// Keys that a copy would erase and that are not the group's. A server with a position, or with a copy
    /// that was not finished, belongs to the group, but only in database 0.
    pub(super) async fn foreign_keys(&mut self, keys: &Reserved) -> Result<u64, String> {
        let info = self.info().await?;
        let mut own: Vec<&[u8]> = vec![b"EXISTS"];
        own.extend(keys.all().map(str::as_bytes));
        let answers = self
            .call
            .ask_all(&[own, vec![b"EXISTS", keys.position.as_bytes(), keys.partial.as_bytes()]])
            .await?;
        let [Value::Integer(own), Value::Integer(position)] = answers.as_slice() else {
            return Err("it does not answer EXISTS as expected".into());
        };
        Ok(foreign(&info, u64::try_from(*own).unwrap_or(0), *position > 0))
    }

    /// Makes the server a replica of the source. What a broken conversation leaves behind is for the next
    /// attach to find.
    pub(super) async fn begin(&mut self, source: &Backend, address: &Address) -> Result<(), String> {
        self.check_tls(source).await?;
        fine(self.call.ask(&[b"ACL", b"SETUSER", marker(self.group).as_bytes(), b"reset"]).await?)?;
        self.lend_credentials(source).await?;
        let port = address.port.to_string();
        let answer = self.call.ask(&[b"REPLICAOF", address.host.as_bytes(), port.as_bytes()]).await?;
        let Some(error) = answer.error() else { return Ok(()) };
        self.restore().await?;
        Err(format!("it refuses REPLICAOF: {error}; allow the command, or copy the data by hand"))
    }

    /// Whether the copy comes over TLS is set on the server itself; it must fit the port that it is sent to.
    async fn check_tls(&mut self, source: &Backend) -> Result<(), String> {
        let answer = self.call.ask(&[b"CONFIG", b"GET", b"tls-replication"]).await?;
        if let Some(error) = answer.error() {
            return Err(permissions(&error));
        }
        let on = answer.items().get(1).and_then(Value::text).is_some_and(|on| on == "yes");
        match (source.tls.is_some(), on) {
            (true, false) => Err(format!(
                "{} is reached over TLS, but this server would copy in plain text: set 'tls-replication yes' and \
                 'tls-ca-cert-file' on it",
                source.name
            )),
            (false, true) => Err(format!(
                "{} is reached in plain text, but this server would copy over TLS: set 'tls-replication no' on it, \
                 or use rediss://",
                source.name
            )),
            _ => Ok(()),
        }
    }

    async fn lend_credentials(&mut self, source: &Backend) -> Result<(), String> {
        let Some(password) = &source.password else { return Ok(()) };
        let user = Bytes::from(source.username.clone().unwrap_or_default());
        let needed = Credentials { user, password: Bytes::copy_from_slice(password.expose().as_bytes()) };
        let former = self.credentials().await?;
        if former == needed {
            return Ok(());
        }
        if former == Credentials::default() {
            let marker = credentials_marker(self.group);
            fine(self.call.ask(&[b"ACL", b"SETUSER", marker.as_bytes(), b"reset"]).await?)?;
        }
        self.former = Some(former);
        set_credentials(&mut self.call, &needed).await
    }

    async fn credentials(&mut self) -> Result<Credentials, String> {
        let ask = [vec![&b"CONFIG"[..], b"GET", b"masteruser"], vec![b"CONFIG", b"GET", b"masterauth"]];
        let answers = self.call.ask_all(&ask).await?;
        if let Some(error) = answers.iter().find_map(Value::error) {
            return Err(permissions(&error));
        }
        let value =
            |answer: &Value| answer.items().get(1).and_then(Value::bytes).cloned().unwrap_or_default();
        Ok(Credentials { user: value(&answers[0]), password: value(&answers[1]) })
    }

    /// Makes the server its own master again, with everything as it was. `Ok(false)`: not yet, as it
    /// cannot be interrupted while it loads.
    pub(super) async fn end(&mut self) -> Result<bool, String> {
        if let Some(error) = self.call.ask(&[b"REPLICAOF", b"NO", b"ONE"]).await?.error() {
            let loads = error.starts_with("LOADING") || error.starts_with("BUSY");
            return if loads { Ok(false) } else { Err(format!("it refuses REPLICAOF NO ONE: {error}")) };
        }
        self.restore().await.map(|()| true)
    }

    async fn restore(&mut self) -> Result<(), String> {
        if let Some(former) = &self.former {
            set_credentials(&mut self.call, former).await?;
        }
        drop_markers(&mut self.call, self.group).await
    }

    /// Its name, for sentences.
    pub(super) fn name(&self) -> &str {
        &self.backend.name
    }
}

pub(super) async fn login(call: &mut Call, group: &str, owner: &Owner, password: &str) -> Result<(), String> {
    let answer = call.ask(&[b"AUTH", owner.user(group).as_bytes(), password.as_bytes()]).await?;
    match answer.error() {
        Some(_) => Err("the fence was taken by another proxy meanwhile, or it was restarted".into()),
        None => Ok(()),
    }
}

async fn fence(call: &mut Call, group: &str, owner: &Owner, password: &str) -> Result<(), AttachError> {
    let (user, secret) = (owner.user(group), format!(">{password}"));
    let set: Vec<&[u8]> =
        vec![b"ACL", b"SETUSER", user.as_bytes(), b"reset", b"on", secret.as_bytes(), b"~*", b"&*", b"+@all"];
    // Whoever comes second sees the other one: the newer stays.
    let answers = call.ask_all(&[set, vec![b"ACL", b"USERS"]]).await?;
    if let Some(error) = answers.iter().find_map(Value::error) {
        return Err(AttachError::Problem(permissions(&error)));
    }
    let others: Vec<Owner> = owners(&answers[1], group).filter(|other| other != owner).collect();
    let newer = others.iter().filter(|other| *other > owner).max();
    let gone: Vec<String> = match newer {
        Some(_) => vec![user],
        None => others.iter().map(|other| other.user(group)).collect(),
    };
    if !gone.is_empty() {
        let mut delete: Vec<&[u8]> = vec![b"ACL", b"DELUSER"];
        delete.extend(gone.iter().map(|user| user.as_bytes()));
        fine(call.ask(&delete).await?)?;
    }
    newer.map_or(Ok(()), |newer| Err(AttachError::Fenced(newer.epoch)))
}

/// See [`Target::foreign_keys`]; `own` of the keys in database 0 are ours.
fn foreign(info: &Info, own: u64, has_position: bool) -> u64 {
    let keys = |text: &String| {
        let count = text.strip_prefix("keys=").and_then(|rest| rest.split(',').next());
        count.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
    };
    let database = |name: &str| name.strip_prefix("db").is_some_and(|n| n.parse::<u32>().is_ok());
    let databases = info.iter().filter(|(name, _)| database(name));
    databases
        .map(|(name, text)| match name.as_str() {
            "db0" if has_position => 0,
            "db0" => keys(text).saturating_sub(own),
            _ => keys(text),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(pairs: &[(&str, &str)]) -> Info {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn data_of_others_is_counted_in_all_databases() {
        let both =
            info(&[("db0", "keys=12,expires=0,avg_ttl=0"), ("db3", "keys=5,expires=0"), ("db_x", "keys=9")]);
        assert_eq!(foreign(&both, 2, false), 15);
        assert_eq!(foreign(&both, 4, true), 5, "what is beside the position is the group's");
        assert_eq!(foreign(&info(&[("db0", "keys=2,expires=0")]), 2, false), 0);
        assert_eq!(foreign(&info(&[]), 0, false), 0);
    }

    #[test]
    fn markers_are_no_owners() {
        let names = [marker("g"), credentials_marker("g")];
        let users = Value::Array(names.iter().map(|name| Value::Bulk(name.clone().into())).collect());
        assert_eq!(owners(&users, "g").count(), 0);
        assert!(has(&users, "quorate:g:seeding"));
        assert!(!has(&users, "quorate:gg:seeding"));
    }
}
