//! `[listen.NAME]`: where clients connect.

use super::super::address::Address;
use super::super::place::Place;
use super::super::secret::Secret;
use super::text::duration_text;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
