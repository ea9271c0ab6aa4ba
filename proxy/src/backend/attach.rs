//! Attaching a backend: what must be true of it, the fence, and where it stands.
//!
//! The fence is one transaction under WATCH: an owner that is too old never creates its user
//! again, and a newer owner's DELUSER throws away what the older one still has on the wire.

use super::call::Call;
use super::reseed::{Seeding, is_seeding, left_behind, tidy};
use super::values::{self, whole};
use crate::config::Backend;
use crate::group::GroupShared;
use crate::tls::Stream;
use quorate_core::ordered::{Attachment, Position, TailEntry};
use quorate_wire::resp::{Reserved, Value, tail, trial};
use std::collections::{BTreeMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

/// Who owns a group: ranks by epoch, then by the random id that breaks ties.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Owner {
    /// Number of the ownership.
    pub epoch: u64,
    /// The name of its state folder, and a random number of its process.
    pub id: String,
}

impl Owner {
    fn user_prefix(group: &str) -> String {
        format!("quorate:{group}:")
    }

    pub(super) fn user(&self, group: &str) -> String {
        format!("{}{}:{}", Self::user_prefix(group), self.epoch, self.id)
    }

    /// Was somebody else there first? Two who took the same number both begin again, so that neither
    /// mistakes the other's ownership for its own later.
    fn yields_to(&self, other: &Owner) -> bool {
        other.epoch > self.epoch || (other.epoch == self.epoch && other.id != self.id)
    }

    fn parse(text: &str) -> Option<Owner> {
        let (epoch, id) = text.split_once(':')?;
        Some(Owner { epoch: epoch.parse().ok()?, id: id.to_string() })
    }
}

/// Why a backend could not be attached.
#[derive(Debug)]
pub enum AttachError {
    /// A newer owner fenced it.
    Fenced(u64),
    /// It is a replica by our own doing: a reseed is under way.
    Seeding(Seeding),
    /// Anything else, as a sentence for an operator.
    Problem(String),
}

impl From<String> for AttachError {
    fn from(problem: String) -> Self {
        AttachError::Problem(problem)
    }
}

/// A backend ready for service.
pub struct Attached {
    /// The connection, logged in as this epoch's user.
    pub stream: Stream,
    /// Where the backend stands.
    pub attachment: Attachment,
    /// The server's run id.
    pub run_id: String,
    /// `redis 7.0.15`.
    pub server: String,
    /// What it runs scripts by.
    pub build: Build,
    /// It is of another build than when it was last in sync.
    pub rebuilt: bool,
    /// Address in use.
    pub address: String,
    /// Its append-only file may end in half a transaction, which it would mix with a later one.
    pub torn: bool,
    /// Names of the commands it has, sub-commands as `client|list`.
    pub commands: HashSet<String>,
    /// Count and digest of its data, when it has no position.
    pub data: Option<Data>,
}

/// What a script may do otherwise on another server by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Kind, whole version and machine: `redis 7.0.15 x86_64 64`.
    pub name: String,
    /// It orders strings by their bytes, and not as some language does.
    pub bytewise: bool,
}

impl Build {
    async fn of(
        call: &mut Call,
        server: &str,
        info: &BTreeMap<String, String>,
        ask: bool,
    ) -> Result<Build, String> {
        let machine = info.get("os").and_then(|os| os.split_whitespace().last()).unwrap_or_default();
        let bits = info.get("arch_bits").map_or("", String::as_str);
        let name = format!("{server} {machine} {bits}");
        let bytewise = ask && call.ask(&[b"EVAL_RO", COLLATES, b"0"]).await? == Value::Integer(1);
        Ok(Build { name, bytewise })
    }
}

/// Lua compares strings by the server's locale.
const COLLATES: &[u8] = b"return ('B'<'_' and '_'<'a' and 'z'<'\\195\\169') and 1 or 0";

/// What is worth reading from a backend beside its position.
#[derive(Clone, Copy)]
pub struct Want<'a> {
    /// Its tail, if it stands there.
    pub tail: &'a dyn Fn(Position) -> bool,
    /// A digest of its data, if it has no position.
    pub data: bool,
    /// Index of the replica.
    pub replica: usize,
}

/// How much data a backend without a position holds, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data {
    /// Keys, without those of ours.
    pub keys: u64,
    /// Order-free digest of all keys, values and deadlines.
    pub digest: u64,
}

/// The greatest owner that this backend has seen, by its fence, its users or its position, which tells no name.
pub async fn greatest_owner(backend: &Backend, group: &GroupShared) -> Result<Owner, String> {
    let mut call = Call::open(backend).await?;
    let keys = &group.reserved;
    let answers = call
        .ask_all(&[
            vec![b"GET", keys.position.as_bytes()],
            vec![b"GET", keys.epoch.as_bytes()],
            vec![b"ACL", b"USERS"],
        ])
        .await?;
    // What gets a copy may not tell its keys; it is in reach all the same.
    let told = if is_seeding(&answers[2], &group.name) { &answers[2..] } else { &answers };
    if let Some(error) = told.iter().find_map(Value::error) {
        return Err(permissions(&error));
    }
    let position = answers[0].text().and_then(|t| t.parse::<Position>().ok()).map_or(0, |p| p.epoch);
    let fence = answers[1].text().and_then(Owner::parse);
    let nameless = Owner { epoch: position, id: String::new() };
    Ok(owners(&answers[2], &group.name).chain(fence).chain([nameless]).max().unwrap_or_default())
}

/// Checks a backend without changing anything on it; what it is.
pub async fn examine(call: &mut Call) -> Result<String, String> {
    let address = call.address.to_string();
    check(&info(call).await?, &address)
}

pub(super) fn permissions(error: &str) -> String {
    if error.starts_with("OOM") {
        return format!(
            "it is out of memory, and takes no owner until it has some; raise its maxmemory: {error}"
        );
    }
    format!("it refuses what the proxy needs (all commands, ACL among them, on all keys): {error}")
}

pub(super) fn owners<'a>(users: &'a Value, group: &str) -> impl Iterator<Item = Owner> + use<'a> {
    let prefix = Owner::user_prefix(group);
    users.items().iter().filter_map(move |user| Owner::parse(user.text()?.strip_prefix(&prefix)?))
}

/// Checks, fences and questions a backend.
pub async fn attach(
    backend: &Backend,
    group: &GroupShared,
    owner: &Owner,
    password: &str,
    want: Want<'_>,
) -> Result<Attached, AttachError> {
    let mut call = Call::open(backend).await?;
    let address = call.address.to_string();
    let info = info(&mut call).await?;
    if let Some(seeding) = left_behind(&mut call, &group.name, &info).await? {
        return Err(AttachError::Seeding(seeding));
    }
    let server = check(&info, &address)?;
    let commands = command_names(&call.ask(&[b"COMMAND"]).await?);
    fence(&mut call, group, owner, password).await?;
    let user = owner.user(&group.name);
    let login = call.ask(&[b"AUTH", user.as_bytes(), password.as_bytes()]).await?;
    if login.error().is_some() {
        // Deleted between the fence and now: somebody newer was quicker.
        return Err(AttachError::Problem("the fence was taken by another proxy meanwhile".into()));
    }
    tidy(&mut call, &group.name).await?;
    let run_id = info.get("run_id").cloned().unwrap_or_default();
    own_up(&mut call, group, want.replica, &run_id, &info).await?;
    let build = Build::of(&mut call, &server, &info, group.scripts.are_verbatim()).await?;
    let (mut attachment, last) = standing(&mut call, &group.reserved, &run_id, want.tail).await?;
    let rebuilt = attachment.restarted && last.as_ref() != Some(&build.name);
    if attachment.position.is_none() {
        attachment.empty = is_empty(&mut call, &group.reserved).await?;
    }
    let data = match attachment.position {
        None if want.data && !attachment.partial => Some(data(&mut call, &group.reserved).await?),
        _ => None,
    };
    // Redis cuts a torn file before the half command, not before its MULTI; Valkey cuts it right.
    let is_redis = !info.contains_key("valkey_version");
    let torn = is_redis
        && attachment.restarted
        && attachment.position.is_some()
        && info.get("aof_enabled").is_some_and(|on| on == "1");
    let stream = call.into_stream();
    Ok(Attached { stream, attachment, run_id, server, build, rebuilt, address, torn, commands, data })
}

pub(super) async fn info(call: &mut Call) -> Result<BTreeMap<String, String>, String> {
    let answer = call.ask(&[b"INFO"]).await?;
    if let Some(error) = answer.error() {
        return Err(permissions(&error));
    }
    Ok(pairs(answer.text().unwrap_or_default()))
}

/// The fields of an answer to `INFO`.
pub(super) fn pairs(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// Why it cannot carry a log, if it throws keys away by itself.
pub(super) fn evicts(info: &BTreeMap<String, String>, address: &str) -> Option<String> {
    let policy = info.get("maxmemory_policy").map_or("", String::as_str);
    let limited = info.get("maxmemory").is_none_or(|max| max != "0");
    (limited && policy != "noeviction").then(|| {
        format!(
            "{address} evicts keys by itself (maxmemory-policy {policy}), so replicas would differ; \
             run 'CONFIG SET maxmemory-policy noeviction' on it"
        )
    })
}

/// What must be true of a server that carries a log. The result names it.
fn check(info: &BTreeMap<String, String>, address: &str) -> Result<String, String> {
    let is = |key: &str, value: &str| info.get(key).is_some_and(|found| found == value);
    let version = info.get("redis_version").cloned().unwrap_or_default();
    let number = |i: usize| version.split('.').nth(i).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    if (number(0), number(1)) < (7, 0) {
        return Err(format!("{address} runs version '{version}'; 7.0 or later is needed"));
    }
    if is("cluster_enabled", "1") || is("redis_mode", "cluster") {
        return Err(format!("{address} is a cluster node; use servers with 'cluster-enabled no'"));
    }
    if is("redis_mode", "sentinel") {
        return Err(format!("{address} is a Sentinel, not a data server"));
    }
    if !is("role", "master") {
        let of = info.get("master_host").cloned().unwrap_or_default();
        return Err(format!("{address} is a replica of {of}; run 'REPLICAOF NO ONE' on it"));
    }
    if is("loading", "1") {
        return Err(format!("{address} is still loading its data"));
    }
    if let Some(problem) = evicts(info, address) {
        return Err(problem);
    }
    Ok(match info.get("valkey_version") {
        Some(valkey) => format!("valkey {valkey}"),
        None => format!("redis {version}"),
    })
}

fn command_names(answer: &Value) -> HashSet<String> {
    let mut names = HashSet::new();
    for item in answer.items() {
        let parts = item.items();
        let Some(name) = parts.first().and_then(Value::text) else { continue };
        names.insert(name.to_ascii_lowercase());
        for sub in parts.get(9).map(Value::items).unwrap_or_default() {
            if let Some(sub) = sub.items().first().and_then(Value::text) {
                names.insert(sub.to_ascii_lowercase());
            }
        }
    }
    names
}

/// A server that threw keys away since it was attached before holds a part of the data, and says so from now on.
async fn own_up(
    call: &mut Call,
    group: &GroupShared,
    replica: usize,
    run_id: &str,
    info: &BTreeMap<String, String>,
) -> Result<(), String> {
    let keys = info.get("evicted_keys").and_then(|text| text.parse().ok()).unwrap_or(0);
    if group.memory.has_evicted(replica, run_id, keys) {
        // Without the run id nobody takes it for a copy that is nearly whole.
        let (partial, run) = (group.reserved.partial.as_bytes(), group.reserved.run.as_bytes());
        let own_up = [vec![&b"SET"[..], partial, b"evicted"], vec![b"DEL", run]];
        if let Some(error) = call.ask_all(&own_up).await?.iter().find_map(Value::error) {
            return Err(permissions(&error));
        }
        tracing::error!(
            group = group.name,
            replica = group.replica(replica),
            "it threw keys away by itself, and needs a copy of all data"
        );
    }
    group.memory.attached(replica, run_id, keys);
    Ok(())
}

/// Makes this owner the only one, unless a newer one is there already.
pub(super) async fn fence(
    call: &mut Call,
    group: &GroupShared,
    owner: &Owner,
    password: &str,
) -> Result<(), AttachError> {
    let key = group.reserved.epoch.as_bytes();
    for _ in 0..10 {
        let position = group.reserved.position.as_bytes();
        let look =
            [vec![&b"WATCH"[..], key], vec![b"GET", key], vec![b"ACL", b"USERS"], vec![b"GET", position]];
        let seen = call.ask_all(&look).await?;
        if let Some(error) = seen.iter().find_map(Value::error) {
            return Err(AttachError::Problem(permissions(&error)));
        }
        let users: Vec<Owner> = owners(&seen[2], &group.name).collect();
        let fenced = seen[1].text().and_then(Owner::parse);
        let position = seen[3].text().and_then(|t| t.parse::<Position>().ok()).map_or(0, |p| p.epoch);
        if let Some(newer) = users.iter().chain(&fenced).filter(|other| owner.yields_to(other)).max() {
            return Err(AttachError::Fenced(newer.epoch));
        }
        if position > owner.epoch {
            return Err(AttachError::Fenced(position));
        }
        if take(call, group, owner, password, &users).await? {
            return Ok(());
        }
    }
    Err(AttachError::Problem("another proxy is fencing it at the same time; trying again".into()))
}

/// `false`: the fence was changed since it was looked at.
async fn take(
    call: &mut Call,
    group: &GroupShared,
    owner: &Owner,
    password: &str,
    users: &[Owner],
) -> Result<bool, AttachError> {
    let value = format!("{}:{}", owner.epoch, owner.id);
    let secret = format!(">{password}");
    let user = owner.user(&group.name);
    // Our own user too: what an earlier connection of ours still has on the wire must not be applied
    // after the position is read.
    let before: Vec<String> = users.iter().map(|o| o.user(&group.name)).collect();
    let mut commands: Vec<Vec<&[u8]>> =
        vec![vec![b"MULTI"], vec![b"SET", group.reserved.epoch.as_bytes(), value.as_bytes()]];
    if !before.is_empty() {
        let mut delete: Vec<&[u8]> = vec![b"ACL", b"DELUSER"];
        delete.extend(before.iter().map(|user| user.as_bytes()));
        commands.push(delete);
    }
    let set: [&[u8]; 9] =
        [b"ACL", b"SETUSER", user.as_bytes(), b"reset", b"on", secret.as_bytes(), b"~*", b"&*", b"+@all"];
    commands.push(set.to_vec());
    commands.push(vec![b"EXEC"]);
    let answers = call.ask_all(&commands).await?;
    let exec = answers.last().cloned().unwrap_or(Value::Null);
    let error = answers.iter().chain(exec.items()).find_map(Value::error);
    match (exec, error) {
        (_, Some(error)) => Err(AttachError::Problem(permissions(&error))),
        (Value::Null, None) => Ok(false),
        _ => Ok(true),
    }
}

/// Where it stands, and of which build it was when that was last noted.
async fn standing(
    call: &mut Call,
    keys: &Reserved,
    run_id: &str,
    want_tail: &dyn Fn(Position) -> bool,
) -> Result<(Attachment, Option<String>), String> {
    let asked = [
        vec![&b"GET"[..], keys.position.as_bytes()],
        vec![b"GET", keys.run.as_bytes()],
        vec![b"EXISTS", keys.partial.as_bytes()],
        vec![b"GET", keys.trial.as_bytes()],
    ];
    let answers = call.ask_all(&asked).await?;
    if let Some(error) = answers.iter().find_map(Value::error) {
        return Err(format!("its reserved keys cannot be read: {error}"));
    }
    let position = match answers[0].text() {
        None => None,
        Some(text) => Some(text.parse().map_err(|()| format!("its position '{text}' cannot be read"))?),
    };
    let trial = match answers[3].bytes() {
        None => None,
        Some(text) => Some(trial::parse_mark(text).ok_or("the mark of a trial on it cannot be read")?),
    };
    let noted = answers[1].text().unwrap_or_default();
    let (run, build) = noted.split_once(' ').map_or((noted, None), |(run, build)| (run, Some(build)));
    let restarted = run != run_id;
    let partial = answers[2] == Value::Integer(1);
    let tail = match position {
        Some(position) if want_tail(position) => tail(call, keys).await?,
        _ => Vec::new(),
    };
    Ok((Attachment { position, tail, restarted, trial, partial, empty: false }, build.map(str::to_string)))
}

async fn tail(call: &mut Call, keys: &Reserved) -> Result<Vec<TailEntry>, String> {
    let answer = call.ask(&[b"LRANGE", keys.tail.as_bytes(), b"0", b"-1"]).await?;
    match answer.error() {
        Some(error) => Err(format!("its tail cannot be read: {error}")),
        None => Ok(answer.items().iter().filter_map(|element| tail::parse(element.bytes()?)).collect()),
    }
}

/// No keys but ours?
async fn is_empty(call: &mut Call, reserved: &Reserved) -> Result<bool, String> {
    let mut own: Vec<&[u8]> = vec![b"EXISTS"];
    own.extend(reserved.all().map(str::as_bytes));
    let answers = call.ask_all(&[vec![b"DBSIZE"], own]).await?;
    match answers.as_slice() {
        [Value::Integer(all), Value::Integer(ours)] => Ok(all == ours),
        _ => Err("it does not answer DBSIZE as expected".into()),
    }
}

/// Digest of all data: equal for equal data, whatever the order of keys.
async fn data(call: &mut Call, reserved: &Reserved) -> Result<Data, String> {
    let mut data = Data { keys: 0, digest: 0 };
    let mut cursor = b"0".to_vec();
    loop {
        let page = call.ask(&[b"SCAN", &cursor, b"COUNT", b"1000"]).await?;
        if let Some(error) = page.error() {
            return Err(permissions(&error));
        }
        let [next, keys] = page.items() else { return Err("it does not answer SCAN as expected".into()) };
        let keys: Vec<_> = keys.items().iter().filter_map(Value::bytes).collect();
        let foreign = |key: &&&bytes::Bytes| !reserved.all().any(|own| own.as_bytes() == key.as_ref());
        let keys: Vec<_> = keys.iter().filter(foreign).collect();
        let asked: Vec<Vec<&[u8]>> =
            keys.iter().flat_map(|key| [vec![&b"TYPE"[..], key], vec![b"PTTL", key]]).collect();
        let kinds = call.ask_all(&asked).await?;
        let asked: Vec<Vec<&[u8]>> = keys
            .iter()
            .zip(kinds.chunks(2))
            .map(|(key, kind)| whole(kind[0].text().unwrap_or_default(), key))
            .collect();
        let values = call.ask_all(&asked).await?;
        for ((key, kind), value) in keys.iter().zip(kinds.chunks(2)).zip(&values) {
            data.keys += 1;
            data.digest = data.digest.wrapping_add(digest(key, kind, value));
        }
        cursor = next.bytes().map(|b| b.to_vec()).unwrap_or_default();
        if cursor == b"0" || cursor.is_empty() {
            return Ok(data);
        }
    }
}

/// Name, type, whether there is a deadline (it cannot be read exactly on every version), and value.
fn digest(key: &[u8], kind: &[Value], value: &Value) -> u64 {
    let kind_name = kind[0].text().unwrap_or_default();
    let volatile = u8::from(matches!(kind.get(1), Some(Value::Integer(ms)) if *ms >= 0));
    let mut text = values::digest(kind_name, value).to_le_bytes().to_vec();
    text.push(volatile);
    text.extend_from_slice(kind_name.as_bytes());
    text.push(0);
    text.extend_from_slice(key);
    xxh3_64(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info_of(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base = [
            ("redis_version", "7.0.15"),
            ("redis_mode", "standalone"),
            ("role", "master"),
            ("maxmemory", "0"),
            ("maxmemory_policy", "allkeys-lru"),
        ];
        base.iter().chain(changes).map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn problem(changes: &[(&str, &str)]) -> String {
        check(&info_of(changes), "h:1").expect_err("refused")
    }

    #[test]
    fn servers_that_cannot_carry_a_log_are_told_why() {
        assert_eq!(check(&info_of(&[]), "h:1"), Ok("redis 7.0.15".into()));
        assert_eq!(check(&info_of(&[("valkey_version", "9.0.1")]), "h:1"), Ok("valkey 9.0.1".into()));
        assert!(problem(&[("redis_version", "5.0.1")]).contains("7.0 or later"));
        assert!(problem(&[("cluster_enabled", "1")]).contains("cluster node"));
        assert!(problem(&[("role", "slave"), ("master_host", "a")]).contains("REPLICAOF NO ONE"));
        assert!(problem(&[("maxmemory", "100")]).contains("CONFIG SET maxmemory-policy noeviction"));
    }

    #[test]
    fn owners_rank_by_epoch_and_then_by_id() {
        let owner = |text| Owner::parse(text).expect("valid");
        assert!(owner("10:a") > owner("9:z"));
        assert!(owner("9:b") > owner("9:a"));
        assert_eq!(Owner::parse("x:a"), None);
        let user = Value::Bulk(bytes::Bytes::from_static(b"quorate:g:3:xy"));
        let other = Value::Bulk(bytes::Bytes::from_static(b"quorate:gg:4:xy"));
        let found: Vec<Owner> = owners(&Value::Array(vec![user, other]), "g").collect();
        assert_eq!(found, [owner("3:xy")]);
    }
}
