//! The shape of the file: what may be written, before anything is known to make sense.
//!
//! Every field is optional, because [`super::shape`] drops values of the wrong type and leaves the
//! complaint to its report. The doc comments are the descriptions in the JSON schema.

use super::place::Place;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use toml::Spanned;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Place,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let place = Place::at(spanned.span());
        Ok(At { value: spanned.into_inner(), place })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Named sections, `[kind.NAME]`, with the place of each name.
pub(super) type Sections<T> = BTreeMap<Spanned<String>, T>;

/// Configuration of Quorate, a proxy that replicates every write by quorum.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[schemars(title = "quorate.toml", rename = "Config")]
pub(super) struct RawConfig {
    /// Where clients connect: one section a listener.
    #[schemars(with = "BTreeMap<String, RawListen>")]
    pub listen: Sections<RawListen>,
    /// Who may connect, and what each may do: one section a user, for listeners that name it.
    #[schemars(with = "BTreeMap<String, RawUser>")]
    pub user: Sections<RawUser>,
    /// The servers: one section each.
    #[schemars(with = "BTreeMap<String, RawBackend>")]
    pub backend: Sections<RawBackend>,
    /// Which backends hold the same data: one section a group.
    #[schemars(with = "BTreeMap<String, RawGroup>")]
    pub group: Sections<RawGroup>,
    /// Metrics, health, API and page.
    pub admin: Option<RawAdmin>,
    /// What survives a restart of the proxy; losing it loses no acknowledged write.
    pub state: Option<RawState>,
    /// The process itself.
    pub proxy: Option<RawProxy>,
    /// What is logged, and how.
    pub log: Option<RawLog>,
    /// Requests and what must become of them; `quorate check` and every reload try them.
    pub expect: Vec<At<RawExpect>>,
}

/// One address that clients connect to.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[schemars(extend("required" = ["address", "group"]))]
pub(super) struct RawListen {
    /// Where to bind, as host:port; port 0 lets the system choose. Must be given.
    pub address: Option<At<String>>,
    /// The group that requests go to. Must be given, or groups.
    pub group: Option<At<String>>,
    /// Several groups: each has an equal run of the 16,384 slots of keys, in this order.
    pub groups: Option<At<Vec<At<String>>>>,
    /// With groups: MSET of keys of several groups is carried, though not as one.
    #[schemars(extend("default" = false))]
    pub split_mset: Option<At<bool>>,
    /// Clients speak TLS, with this certificate; plain text without it.
    pub tls: Option<At<RawListenTls>>,
    /// What clients must send with AUTH; everyone is let in without it.
    pub password: Option<At<RawSecret>>,
    /// The users that are let in, each with its own password and rules; in place of password.
    pub users: Option<At<Vec<At<String>>>>,
    /// Look like a cluster of one node, for clients that know no other way; as host:port, where they find it.
    pub cluster: Option<At<String>>,
    /// The most clients at the same time.
    #[schemars(extend("default" = 10000))]
    pub max_clients: Option<At<i64>>,
    /// Largest single argument of a request.
    #[schemars(extend("default" = "512MiB"))]
    pub max_request: Option<At<Size>>,
    /// Largest whole command, all arguments together.
    #[schemars(extend("default" = "1GiB"))]
    pub max_command: Option<At<Size>>,
    /// Replies that one client may leave unread before it is closed.
    #[schemars(extend("default" = "256MiB"))]
    pub output_limit: Option<At<Size>>,
    /// A client that is silent for this long is closed; "0s" means never.
    #[schemars(extend("default" = "0s"))]
    pub idle_timeout: Option<At<Span>>,
    /// Requests that one client may send a second; what is more is refused. No limit without it.
    pub requests_per_second: Option<At<i64>>,
    /// Requests that a client may send at once after a rest; as many as in a second by default.
    pub requests_burst: Option<At<i64>>,
}

/// One user: how it logs in, and what it may do.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[schemars(extend("required" = ["rules"]))]
pub(super) struct RawUser {
    /// What it logs in with: a secret, or a list of secrets and of SHA-256 digests as "#HEX", any of which is right.
    pub password: Option<At<RawPasswords>>,
    /// What it may do, in the rule language of Redis's ACLs, as in "~cache:* +@read +@write -@dangerous". Must be given.
    pub rules: Option<At<String>>,
    /// Requests that all its clients together may send a second; what is more is refused. No limit without it.
    pub requests_per_second: Option<At<i64>>,
    /// Requests that they may send at once after a rest; as many as in a second by default.
    pub requests_burst: Option<At<i64>>,
}

/// TLS towards clients. The files are PEM, relative to this one, and read again when they change.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[schemars(rename = "ListenTls", extend("required" = ["certificate", "key"]))]
pub(super) struct RawListenTls {
    /// The certificate, and behind it those between it and the CA. Must be given.
    pub certificate: Option<At<String>>,
    /// The certificate's private key, without a passphrase. Must be given.
    pub key: Option<At<String>>,
    /// The CA, or several, that clients' certificates are signed by; clients need none without it.
    pub client_ca: Option<At<String>>,
    /// With client-ca: must every client have a certificate?
    #[schemars(extend("default" = "required"))]
    pub client_certificates: Option<At<Word<super::model::ClientCertificates>>>,
}

/// TLS towards a backend. The files are PEM, relative to this one, and read again when they change.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[schemars(rename = "BackendTls")]
pub(super) struct RawBackendTls {
    /// The CA, or several, that the server's certificate is signed by; the system's own without it.
    pub ca: Option<At<String>>,
    /// The name that the server's certificate must have; the address's host without it.
    pub server_name: Option<At<String>>,
    /// The proxy's certificate, where the server asks for one.
    pub certificate: Option<At<String>>,
    /// The private key of the proxy's certificate, without a passphrase.
    pub key: Option<At<String>>,
}

/// One server.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub(super) struct RawBackend {
    /// Kind and address, as redis://host:port, or rediss://host:port for TLS. Must be given.
    pub url: Option<At<String>>,
    /// Further network paths to the same server, as host:port, tried in turn after the URL's.
    pub addresses: Option<Vec<At<String>>>,
    /// TLS towards it; with a rediss:// URL only.
    pub tls: Option<At<RawBackendTls>>,
    /// User to log in as.
    pub username: Option<At<String>>,
    /// Password to log in with.
    pub password: Option<At<RawSecret>>,
    /// Failure domain.
    pub zone: Option<At<String>>,
    /// Rack.
    pub rack: Option<At<String>>,
    /// Relative share of reads, 0 to 1000.
    #[schemars(extend("default" = 1))]
    pub weight: Option<At<i64>>,
    /// Free labels that policies see.
    pub labels: Option<BTreeMap<String, String>>,
    /// Time for one attempt to connect.
    #[schemars(extend("default" = "1s"))]
    pub connect_timeout: Option<At<Span>>,
}

/// The backends that hold the same data.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[schemars(extend("required" = ["replicas"]))]
pub(super) struct RawGroup {
    /// Names of backends, 1 to 16; their order is the order of preference. Must be given.
    pub replicas: Option<At<Vec<At<String>>>>,
    /// Who decides where requests go: the name of a bundled policy, or a table.
    #[schemars(extend("default" = "majority"))]
    pub policy: Option<At<RawPolicy>>,
    /// How the replicas are kept equal.
    #[schemars(extend("default" = "ordered"))]
    pub mode: Option<At<Word<super::model::Mode>>>,
    /// What an acknowledged write has been put on.
    #[schemars(extend("default" = "replicas"))]
    pub durability: Option<At<Word<super::model::Durability>>>,
    /// When a write is acknowledged: when the policy's write rule is met, or when every replica of the recorded in-sync set has it.
    #[schemars(extend("default" = "quorum"))]
    pub ack: Option<At<Word<super::model::Ack>>>,
    /// With ack = "in-sync": fewer replicas than this acknowledge nothing. Half of them, rounded up, by default.
    pub min_in_sync: Option<At<i64>>,
    /// How many replicas a write waits for: a number, "majority" or "all". A setting for bundled policies.
    pub write_quorum: Option<At<RawQuorum>>,
    /// Which replica answers reads. A setting for bundled policies.
    pub read_pick: Option<At<Word<quorate_core::plan::ReadPick>>>,
    /// Time until the client gets an error. A setting for bundled policies.
    pub deadline: Option<At<Span>>,
    /// Time until a read is tried on another replica. A setting for bundled policies.
    pub per_try: Option<At<Span>>,
    /// Keep the last entries inside each backend, so that a fail-over finds them.
    #[schemars(extend("default" = true))]
    pub tail: Option<At<bool>>,
    /// How many entries the tail holds, 1 to 100000.
    #[schemars(extend("default" = 128))]
    pub tail_entries: Option<At<i64>>,
    /// Entries kept in memory to feed lagging replicas.
    #[schemars(extend("default" = "256MiB"))]
    pub log_memory: Option<At<Size>>,
    /// Record on disk what a replica is owed that is far behind. Always so with durability = "journal".
    #[schemars(extend("default" = true))]
    pub hints: Option<At<bool>>,
    /// Entries kept on disk for replicas that are behind.
    #[schemars(extend("default" = "1GiB"))]
    pub journal_size: Option<At<Size>>,
    /// Entries older than this are not kept on disk.
    #[schemars(extend("default" = "1d"))]
    pub journal_age: Option<At<Span>>,
    /// Writes that wait to be ordered; above it, new ones are refused.
    #[schemars(extend("default" = "128MiB"))]
    pub queue_memory: Option<At<Size>>,
    /// Share of a backend's maxmemory from which on commands that need memory are refused, above 0 and at most 1.
    #[schemars(extend("default" = 0.9, "exclusiveMinimum" = 0, "maximum" = 1))]
    pub memory_watermark: Option<At<f64>>,
    /// How scripts are carried: as what they did on one replica, or as they are where their text shows that they do the same on all.
    #[schemars(extend("default" = "effects"))]
    pub scripts: Option<At<Word<super::model::Scripts>>>,
    /// Allow write quorums that do not intersect, which can lose acknowledged writes.
    #[schemars(extend("default" = false))]
    pub weak_writes: Option<At<bool>>,
    /// Who begins the copying of all data to a stale replica: the proxy, or an operator with `quorate reseed`.
    #[schemars(extend("default" = "auto"))]
    pub reseed: Option<At<Word<super::model::Reseed>>>,
    /// How all data comes to a stale replica: by REPLICAOF, by a scan through the proxy, or by whatever works.
    #[schemars(extend("default" = "auto"))]
    pub reseed_by: Option<At<Word<super::model::ReseedBy>>>,
    /// Bytes a second that a copy through the proxy takes, 64KiB to 16GiB; a key counts as 1KiB at least.
    #[schemars(extend("default" = "32MiB"))]
    pub reseed_rate: Option<At<Size>>,
    /// Keys a second that are compared between the replicas, 1 to 1000000.
    #[schemars(extend("default" = 1000))]
    pub scrub_rate: Option<At<i64>>,
    /// How often all keys are compared between the replicas: a duration, or "off" for only when asked.
    #[schemars(extend("default" = "24h"))]
    pub scrub_every: Option<At<Every>>,
}

/// A policy in full.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(super) struct RawPolicyTable {
    /// A bundled policy. Either this or wasm.
    pub name: Option<At<String>>,
    /// A component in a file, relative to this one. Either this or name.
    pub wasm: Option<At<String>>,
    /// Digest that the component must have, in hexadecimal.
    pub sha256: Option<At<String>>,
    /// The policy's own settings.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub settings: BTreeMap<Spanned<String>, At<toml::Value>>,
    /// What the component may use.
    pub limits: Option<RawLimits>,
}

/// What a policy's component may use.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(super) struct RawLimits {
    /// Memory of one instance.
    #[schemars(extend("default" = "16MiB"))]
    pub memory: Option<At<Size>>,
    /// Time for one call that builds a table.
    #[schemars(extend("default" = "1s"))]
    pub deadline: Option<At<Span>>,
    /// Time for one call that decides a request.
    #[schemars(extend("default" = "5ms"))]
    pub decide_deadline: Option<At<Span>>,
}

/// Metrics, health, API and page.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(super) struct RawAdmin {
    /// Where to bind, as host:port; nothing is served without it.
    pub address: Option<At<String>>,
}

/// What survives a restart of the proxy.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(super) struct RawState {
    /// The folder, relative to this file.
    #[schemars(extend("default" = "quorate-state"))]
    pub dir: Option<At<String>>,
}

/// The process itself.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(super) struct RawProxy {
    /// Threads that serve clients, 1 to 64; the number of cores by default.
    pub workers: Option<At<i64>>,
    /// The zone that this proxy runs in.
    pub zone: Option<At<String>>,
    /// Time for clients to finish when the proxy stops.
    #[schemars(extend("default" = "10s"))]
    pub drain_timeout: Option<At<Span>>,
}

/// What is logged, and how.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(super) struct RawLog {
    /// How lines look.
    #[schemars(extend("default" = "text"))]
    pub format: Option<At<Word<super::model::LogFormat>>>,
    /// The least important lines that are logged.
    #[schemars(extend("default" = "info"))]
    pub level: Option<At<Word<super::model::LogLevel>>>,
}

/// A request and what must become of it.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[schemars(extend("required" = ["request", "outcome"]))]
pub(super) struct RawExpect {
    /// What it is about, in words.
    pub name: Option<At<String>>,
    /// A command line, such as SET k v. Must be given.
    pub request: Option<At<String>>,
    /// The group that it is sent to; may be left out where there is only one.
    pub group: Option<At<String>>,
    /// Replicas that are down.
    pub down: Option<Vec<At<String>>>,
    /// What must become of it. Must be given.
    pub outcome: Option<At<Word<super::model::Outcome>>>,
    /// Replicas that must be owed the write afterwards.
    pub hints: Option<At<Vec<At<String>>>>,
}

/// A secret: the name of a variable or of a file.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
#[schemars(rename = "Secret")]
pub(super) struct RawSecret {
    /// An environment variable. Either this or file.
    pub env: Option<At<String>>,
    /// A file, relative to this one; the line end after the secret is left out. Either this or env.
    pub file: Option<At<String>>,
}

/// A duration as text; read later, so that all mistakes are found.
#[derive(Debug, Clone, serde::Deserialize)]
pub(super) struct Span(pub String);

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9.]+ ?(us|µs|ms|s|m|h|d))+$", "examples": ["250ms"] })
    }
}

/// A duration as text, or "off"; read later, so that all mistakes are found.
#[derive(Debug, Clone, serde::Deserialize)]
pub(super) struct Every(pub String);

impl JsonSchema for Every {
    fn schema_name() -> Cow<'static, str> {
        "Every".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^(off|([0-9.]+ ?(us|µs|ms|s|m|h|d))+)$";
        json_schema!({ "type": "string", "pattern": pattern, "examples": ["24h", "off"] })
    }
}

/// A size as text; read later, so that all mistakes are found.
#[derive(Debug, Clone, serde::Deserialize)]
pub(super) struct Size(pub String);

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9.]+ ?[KMGT]?i?B$", "examples": ["16MiB"] })
    }
}

/// A type whose values are words in the file.
pub(super) trait Words: Copy + 'static {
    /// Word and value.
    const WORDS: &'static [(&'static str, Self)];
    /// Words that are planned or belong to other versions, and what to say about each.
    const REFUSED: &'static [(&'static str, &'static str)] = &[];
}

/// A word that stands for a `T`; looked up later, so that all mistakes are found.
#[derive(Debug, Clone)]
pub(super) struct Word<T>(pub String, PhantomData<T>);

impl<'de, T> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Word(String::deserialize(deserializer)?, PhantomData))
    }
}

impl<T: Words> JsonSchema for Word<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        json_schema!({ "type": "string", "enum": words })
    }
}

/// A policy by name, or in full.
#[derive(Debug)]
pub(super) enum RawPolicy {
    Name(String),
    Table(Box<RawPolicyTable>),
}

impl JsonSchema for RawPolicy {
    fn schema_name() -> Cow<'static, str> {
        "Policy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<RawPolicyTable>();
        json_schema!({ "anyOf": [{ "type": "string", "enum": super::check::BUNDLED_POLICIES }, table] })
    }
}

impl<'de> Deserialize<'de> for RawPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PolicyVisitor)
    }
}

struct PolicyVisitor;

impl<'de> Visitor<'de> for PolicyVisitor {
    type Value = RawPolicy;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or a table")
    }

    fn visit_str<E>(self, name: &str) -> Result<RawPolicy, E> {
        Ok(RawPolicy::Name(name.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawPolicy, A::Error> {
        let table = RawPolicyTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RawPolicy::Table(Box::new(table)))
    }
}

/// A write quorum by number or by word.
#[derive(Debug)]
pub(super) enum RawQuorum {
    Count(i64),
    Word(String),
}

impl JsonSchema for RawQuorum {
    fn schema_name() -> Cow<'static, str> {
        "WriteQuorum".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": quorate_core::rule::MAX_REPLICAS },
            { "type": "string", "enum": ["majority", "all"] },
        ] })
    }
}

impl<'de> Deserialize<'de> for RawQuorum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuorumVisitor)
    }
}

struct QuorumVisitor;

impl Visitor<'_> for QuorumVisitor {
    type Value = RawQuorum;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an integer or a string")
    }

    fn visit_i64<E>(self, count: i64) -> Result<RawQuorum, E> {
        Ok(RawQuorum::Count(count))
    }

    fn visit_str<E>(self, word: &str) -> Result<RawQuorum, E> {
        Ok(RawQuorum::Word(word.to_string()))
    }
}

/// One secret, or several.
#[derive(Debug)]
pub(super) enum RawPasswords {
    One(RawSecret),
    Several(Vec<At<RawPassword>>),
}

/// A secret, or a digest.
#[derive(Debug)]
pub(super) enum RawPassword {
    Secret(RawSecret),
    Digest(String),
}

impl JsonSchema for RawPasswords {
    fn schema_name() -> Cow<'static, str> {
        "Passwords".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<RawSecret>();
        let digest = json_schema!({ "type": "string", "pattern": "^#[0-9a-f]{64}$" });
        json_schema!({ "anyOf": [one.clone(), { "type": "array", "items": { "anyOf": [one, digest] } }] })
    }
}

impl<'de> Deserialize<'de> for RawPasswords {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PasswordsVisitor)
    }
}

struct PasswordsVisitor;

impl<'de> Visitor<'de> for PasswordsVisitor {
    type Value = RawPasswords;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a table or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawPasswords, A::Error> {
        Ok(RawPasswords::Several(Vec::deserialize(SeqAccessDeserializer::new(list))?))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawPasswords, A::Error> {
        Ok(RawPasswords::One(RawSecret::deserialize(MapAccessDeserializer::new(map))?))
    }
}

impl<'de> Deserialize<'de> for RawPassword {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PasswordVisitor)
    }
}

struct PasswordVisitor;

impl<'de> Visitor<'de> for PasswordVisitor {
    type Value = RawPassword;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a table or a string")
    }

    fn visit_str<E>(self, digest: &str) -> Result<RawPassword, E> {
        Ok(RawPassword::Digest(digest.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawPassword, A::Error> {
        Ok(RawPassword::Secret(RawSecret::deserialize(MapAccessDeserializer::new(map))?))
    }
}
