//! The configuration as the rest of the proxy sees it: validated, plain types, defaults filled in.
//!
//! Values can be made in Rust code as well; [`super::parse`] is the only door for text.

use super::address::Address;
use super::place::Place;
use super::secret::{Digest, Secret};
use super::units::format_duration;
use quorate_core::plan::ReadPick;
use quorate_wire::access::Rules;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that one proxy is told.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Where clients connect, by name.
    pub listeners: Vec<Listener>,
    /// Who may connect to listeners that name them, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// The servers, by name.
    pub backends: Vec<Backend>,
    /// Which backends hold the same data, by name.
    pub groups: Vec<Group>,
    /// Where metrics, health and the API are served; `None` for nowhere.
    pub admin: Option<Admin>,
    /// Where epochs are kept.
    pub state: State,
    /// The process itself.
    pub proxy: Proxy,
    /// What is logged, and how.
    pub log: Log,
    /// What `check` must find to be true, in file order.
    pub expectations: Vec<Expectation>,
}

impl Config {
    /// The listener of that name.
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }

    /// The backend of that name.
    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.name == name)
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The backends of a group, in the order of its replicas; what is not configured is left out.
    pub fn replicas<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Backend> {
        group.replicas.iter().filter_map(|name| self.backend(name))
    }
}

/// `[listen.NAME]`: one address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listener {
    /// Name from the configuration.
    pub name: String,
    /// Where to bind; port 0 lets the system choose.
    pub address: Address,
    /// The groups that requests go to: one, or several that share the slots of keys.
    pub groups: Vec<String>,
    /// Carry MSET of keys of several groups, though not as one.
    pub split_mset: bool,
    /// TLS towards clients; `None` for plain text.
    pub tls: Option<ListenTls>,
    /// What clients must send with AUTH; `None` lets everyone in.
    pub password: Option<Secret>,
    /// The users that are let in; `None` for the one that `password` describes, who may do everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<String>>,
    /// Looks like a cluster of one node, which clients find here; `None` for no cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Address>,
    /// The most clients at the same time.
    pub max_clients: u32,
    /// Largest single argument of a request, in bytes.
    pub max_request: u64,
    /// Largest whole command, all arguments together, in bytes.
    pub max_command: u64,
    /// Replies that one client may leave unread before it is closed, in bytes.
    pub output_limit: u64,
    /// A client that is silent for this long is closed; zero means never.
    #[serde(serialize_with = "duration_text")]
    pub idle_timeout: Duration,
    /// How fast one client may send; `None` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Where the section's address stands.
    #[serde(skip)]
    pub at: Place,
}

impl Listener {
    /// A listener with every default.
    pub fn new(name: impl Into<String>, address: Address, group: impl Into<String>) -> Self {
        Listener {
            name: name.into(),
            address,
            groups: vec![group.into()],
            split_mset: false,
            tls: None,
            password: None,
            users: None,
            cluster: None,
            max_clients: 10_000,
            max_request: 512 << 20,
            max_command: 1 << 30,
            output_limit: 256 << 20,
            idle_timeout: Duration::ZERO,
            rate: None,
            at: Place::NOWHERE,
        }
    }
}

/// How fast requests may come. What is saved up in a rest may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rate {
    /// So many a second.
    pub requests_per_second: u32,
    /// So many at once.
    pub requests_burst: u32,
}

/// `[user.NAME]`: who may connect, and do what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    /// Name from the configuration.
    pub name: String,
    /// Each of them is right.
    pub passwords: Vec<Digest>,
    /// What it may do.
    #[serde(serialize_with = "rules_text")]
    pub rules: Rules,
    /// How fast its clients together may send; `None` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Where the name stands.
    #[serde(skip)]
    pub at: Place,
}

impl User {
    /// A user with these rules, and no password.
    pub fn new(name: impl Into<String>, rules: Rules) -> Self {
        User { name: name.into(), passwords: Vec::new(), rules, rate: None, at: Place::NOWHERE }
    }
}

/// Must clients show a certificate, where a CA for them is given?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// Who has none is not let in.
    #[default]
    Required,
    /// One that is shown must be right.
    Optional,
}

/// `tls` of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ListenTls {
    /// File of the certificate and those between it and the CA.
    pub certificate: PathBuf,
    /// File of its private key.
    pub key: PathBuf,
    /// File of the CA of clients; `None` asks for no certificates.
    pub client_ca: Option<PathBuf>,
    /// Must clients show one?
    pub client_certificates: ClientCertificates,
}

impl ListenTls {
    /// All files that are named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }
}

/// `tls` of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackendTls {
    /// File of the CA; `None` trusts those that the system does.
    pub ca: Option<PathBuf>,
    /// The name that its certificate must have; `None` for the address's host.
    pub server_name: Option<String>,
    /// File of the proxy's own certificate.
    pub certificate: Option<PathBuf>,
    /// File of that one's private key.
    pub key: Option<PathBuf>,
}

impl BackendTls {
    /// All files that are named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.ca, &self.certificate, &self.key].into_iter().flatten().map(PathBuf::as_path)
    }
}

/// What kind of server a backend is: the scheme of its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendKind {
    /// Redis or Valkey, RESP over TCP.
    Redis,
}

impl BackendKind {
    /// The URL scheme.
    pub fn name(self) -> &'static str {
        match self {
            BackendKind::Redis => "redis",
        }
    }
}

/// `[backend.NAME]`: one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Backend {
    /// Name from the configuration.
    pub name: String,
    /// Kind of server.
    pub kind: BackendKind,
    /// Network paths to the one server, tried in turn. Never empty.
    pub addresses: Vec<Address>,
    /// TLS towards it; `None` for plain text.
    pub tls: Option<BackendTls>,
    /// User to log in as; `None` for the server's default user.
    pub username: Option<String>,
    /// Password to log in with.
    pub password: Option<Secret>,
    /// Failure domain; empty where none was given.
    pub zone: String,
    /// Rack; empty where none was given.
    pub rack: String,
    /// Relative share of reads.
    pub weight: u16,
    /// Free labels that policies see.
    pub labels: BTreeMap<String, String>,
    /// Time for one attempt to connect.
    #[serde(serialize_with = "duration_text")]
    pub connect_timeout: Duration,
    /// Where the section's URL stands.
    #[serde(skip)]
    pub at: Place,
}

impl Backend {
    /// A Redis backend with every default.
    pub fn new(name: impl Into<String>, address: Address) -> Self {
        Backend {
            name: name.into(),
            kind: BackendKind::Redis,
            addresses: vec![address],
            tls: None,
            username: None,
            password: None,
            zone: String::new(),
            rack: String::new(),
            weight: 1,
            labels: BTreeMap::new(),
            connect_timeout: Duration::from_secs(1),
            at: Place::NOWHERE,
        }
    }
}

/// How a group keeps its replicas equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One total order of writes for the group.
    #[default]
    Ordered,
}

/// What an acknowledged write has been put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// The replicas of its quorum.
    #[default]
    Replicas,
    /// Those, and the proxy's disk.
    Journal,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// When the policy's write rule is met.
    #[default]
    Quorum,
    /// When every replica of the recorded in-sync set has it.
    InSync,
}

/// How scripts are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scripts {
    /// One replica runs a script, and what it did is copied to the others by value.
    #[default]
    Effects,
    /// Every replica runs a script itself, as far as its text shows that it does the same on all.
    Verbatim,
}

/// Who begins the copying of all data to a stale replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reseed {
    /// The proxy, by itself.
    #[default]
    Auto,
    /// An operator, with `quorate reseed`.
    Manual,
}

/// How all data comes to a stale replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReseedBy {
    /// By REPLICAOF; through the proxy if the servers do not reach each other.
    #[default]
    Auto,
    /// By REPLICAOF only.
    Replicaof,
    /// Through the proxy.
    Scan,
}

/// How many replicas a write waits for, where the user said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteQuorum {
    /// This many.
    Count(u8),
    /// More than half.
    Majority,
    /// All.
    All,
}

impl WriteQuorum {
    /// As a policy's settings say it: a number, `"majority"` or `"all"`.
    pub fn setting(self) -> Value {
        match self {
            WriteQuorum::Count(count) => Value::from(count),
            WriteQuorum::Majority => Value::from("majority"),
            WriteQuorum::All => Value::from("all"),
        }
    }

    /// How many of `replicas` that is.
    pub fn needed(self, replicas: usize) -> usize {
        match self {
            WriteQuorum::Count(count) => usize::from(count),
            WriteQuorum::Majority => replicas / 2 + 1,
            WriteQuorum::All => replicas,
        }
    }
}

/// `[group.NAME]`: the backends that hold the same data.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// Name from the configuration.
    pub name: String,
    /// Names of backends; their order is the order of preference.
    pub replicas: Vec<String>,
    /// Who decides where requests go.
    pub policy: Policy,
    /// How the replicas are kept equal.
    pub mode: Mode,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// When a write is acknowledged.
    pub ack: Ack,
    /// With `ack = "in-sync"`: fewer replicas than this acknowledge nothing; half of them, rounded up, if not given.
    pub min_in_sync: Option<u32>,
    /// Setting for a bundled policy; `None` leaves it to the policy.
    pub write_quorum: Option<WriteQuorum>,
    /// Setting for a bundled policy; `None` leaves it to the policy.
    pub read_pick: Option<ReadPick>,
    /// Time until the client gets an error; `None` leaves it to the policy.
    #[serde(serialize_with = "optional_duration_text")]
    pub deadline: Option<Duration>,
    /// Time until a read is tried on another replica; `None` leaves it to the policy.
    #[serde(serialize_with = "optional_duration_text")]
    pub per_try: Option<Duration>,
    /// Keep the last entries inside each backend, so that a fail-over finds them.
    pub tail: bool,
    /// How many entries the tail holds.
    pub tail_entries: u32,
    /// Entries kept in memory to feed lagging replicas, in bytes.
    pub log_memory: u64,
    /// Record on disk what a replica is owed that is far behind.
    pub hints: bool,
    /// Entries kept on disk, in bytes.
    pub journal_size: u64,
    /// Entries older than this are not kept on disk, owed or not.
    #[serde(serialize_with = "duration_text")]
    pub journal_age: Duration,
    /// Writes that wait to be ordered, in bytes; above it, new ones are refused.
    pub queue_memory: u64,
    /// Share of a backend's maxmemory from which on commands that need memory are refused.
    pub memory_watermark: f64,
    /// How scripts are carried.
    pub scripts: Scripts,
    /// Allow write quorums that do not intersect, which can lose acknowledged writes.
    pub weak_writes: bool,
    /// Who begins the copying of all data to a stale replica.
    pub reseed: Reseed,
    /// How it is copied.
    pub reseed_by: ReseedBy,
    /// Bytes a second that are copied through the proxy.
    pub reseed_rate: u64,
    /// Keys a second that a scrub compares.
    pub scrub_rate: u32,
    /// How often all keys are compared; `None` for only when asked.
    #[serde(serialize_with = "optional_duration_text")]
    pub scrub_every: Option<Duration>,
    /// Where the group's values stand.
    #[serde(skip)]
    pub at: GroupPlaces,
}

/// Where the values of a group stand, for problems that later passes find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupPlaces {
    /// The name in the section's head.
    pub name: Place,
    /// The list of replicas.
    pub replicas: Place,
    /// The policy; the name where none was given.
    pub policy: Place,
    /// `write-quorum`; the policy where none was given.
    pub write_quorum: Place,
    /// `read-pick`; the policy where none was given.
    pub read_pick: Place,
}

impl Group {
    /// A group with every default: majority writes, ordered.
    pub fn new(name: impl Into<String>, replicas: Vec<String>) -> Self {
        Group {
            name: name.into(),
            replicas,
            policy: Policy::default(),
            mode: Mode::Ordered,
            durability: Durability::Replicas,
            ack: Ack::Quorum,
            min_in_sync: None,
            write_quorum: None,
            read_pick: None,
            deadline: None,
            per_try: None,
            tail: true,
            tail_entries: 128,
            log_memory: 256 << 20,
            hints: true,
            journal_size: 1 << 30,
            journal_age: Duration::from_secs(24 * 60 * 60),
            queue_memory: 128 << 20,
            memory_watermark: 0.9,
            scripts: Scripts::Effects,
            weak_writes: false,
            reseed: Reseed::Auto,
            reseed_by: ReseedBy::Auto,
            reseed_rate: 32 << 20,
            scrub_rate: 1000,
            scrub_every: Some(Duration::from_secs(24 * 3600)),
            at: GroupPlaces::default(),
        }
    }

    /// With `ack = "in-sync"`: how few replicas may acknowledge a write.
    pub fn fewest_in_sync(&self) -> u32 {
        self.min_in_sync.unwrap_or((self.replicas.len() as u32).div_ceil(2))
    }

    /// What the policy is configured with: its own settings, and the group's plain ones as
    /// `write-quorum`, `read-pick`, `deadline-ms` and `per-try-ms`.
    pub fn policy_settings(&self) -> Map<String, Value> {
        let ms = |duration: Duration| Value::from(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX));
        let pick = |pick| serde_json::to_value(pick).expect("a unit variant is a string");
        let plain = [
            ("write-quorum", self.write_quorum.map(WriteQuorum::setting)),
            ("read-pick", self.read_pick.map(pick)),
            ("deadline-ms", self.deadline.map(ms)),
            ("per-try-ms", self.per_try.map(ms)),
        ];
        let plain = plain.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
        self.policy.settings.clone().into_iter().chain(plain).collect()
    }
}

/// Where a policy comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicySource {
    /// One of [`super::BUNDLED_POLICIES`].
    Bundled(String),
    /// A component in a file.
    Wasm(PathBuf),
}

/// Who decides where a group's requests go.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// The component.
    pub source: PolicySource,
    /// Digest that the component must have, as 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// The policy's own settings; see [`Group::policy_settings`].
    pub settings: Map<String, Value>,
    /// What the component may use.
    pub limits: PolicyLimits,
}

impl Policy {
    /// A bundled policy with every default.
    pub fn bundled(name: impl Into<String>) -> Self {
        Policy {
            source: PolicySource::Bundled(name.into()),
            sha256: None,
            settings: Map::new(),
            limits: PolicyLimits::default(),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy::bundled("majority")
    }
}

/// What a policy's component may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PolicyLimits {
    /// Memory of one instance, in bytes.
    pub memory: u64,
    /// Time for one call that builds a table.
    #[serde(serialize_with = "duration_text")]
    pub deadline: Duration,
    /// Time for one call that decides a request.
    #[serde(serialize_with = "duration_text")]
    pub decide_deadline: Duration,
}

impl Default for PolicyLimits {
    fn default() -> Self {
        PolicyLimits {
            memory: 16 << 20,
            deadline: Duration::from_secs(1),
            decide_deadline: Duration::from_millis(50),
        }
    }
}

/// `[admin]`: metrics, health, API and page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Admin {
    /// Where to bind; port 0 lets the system choose.
    pub address: Address,
    /// Where the address stands.
    #[serde(skip)]
    pub at: Place,
}

/// `[state]`: what survives a restart of the proxy. Losing it loses no acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct State {
    /// The folder.
    pub dir: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        State { dir: PathBuf::from("quorate-state") }
    }
}

/// `[proxy]`: the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Proxy {
    /// Threads that serve clients, 1 to 64.
    pub workers: usize,
    /// The zone that this proxy runs in; empty where none was given.
    pub zone: String,
    /// Time for clients to finish when the proxy stops.
    #[serde(serialize_with = "duration_text")]
    pub drain_timeout: Duration,
    /// Where the zone stands.
    #[serde(skip)]
    pub at: Place,
}

impl Default for Proxy {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Proxy {
            workers: cores.clamp(1, 64),
            zone: String::new(),
            drain_timeout: Duration::from_secs(10),
            at: Place::NOWHERE,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important lines that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// Lower-case name, as `tracing` filters read it.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// `[log]`: what is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least important lines that are logged.
    pub level: LogLevel,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done, or answered.
    Applied,
    /// Never takes effect.
    Refused,
    /// May take effect.
    Unknown,
}

/// `[[expect]]`: a request and what must become of it. Evaluated elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Expectation {
    /// What it is about, in words; the request where none was given.
    pub name: String,
    /// A command line, such as `SET k v`.
    pub request: String,
    /// The group that it is sent to.
    pub group: String,
    /// Replicas that are down.
    pub down: Vec<String>,
    /// What must become of it.
    pub outcome: Outcome,
    /// Replicas that must be owed the write afterwards; `None` if that does not matter.
    pub hints: Option<Vec<String>>,
    /// Where its values stand.
    #[serde(skip)]
    pub at: ExpectationPlaces,
}

/// Where the values of an expectation stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpectationPlaces {
    /// The whole expectation: its name, or else its request.
    pub name: Place,
    /// The request.
    pub request: Place,
    /// The outcome.
    pub outcome: Place,
    /// The hints; the outcome where none were given.
    pub hints: Place,
}

fn rules_text<S: Serializer>(rules: &Rules, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(rules.text())
}

/// Durations are written as the file has them.
fn duration_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(*duration))
}

fn optional_duration_text<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(format_duration).serialize(serializer)
}
