//! `[backend.NAME]`: a server.

use super::super::address::Address;
use super::super::place::Place;
use super::super::secret::Secret;
use super::text::duration_text;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
