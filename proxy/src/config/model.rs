//! The configuration as the rest of the proxy sees it: validated, plain types, defaults filled in.
//!
//! Values can be made in Rust code as well; [`super::parse`] is the only door for text.

mod backend;
mod expect;
mod group;
mod listen;
mod policy;
mod process;
mod text;
mod user;

pub use backend::{Backend, BackendKind, BackendTls};
pub use expect::{Expectation, ExpectationPlaces, Outcome};
pub use group::{Ack, Durability, Group, GroupPlaces, Mode, Reseed, ReseedBy, Scripts, WriteQuorum};
pub use listen::{ClientCertificates, ListenTls, Listener, Rate};
pub use policy::{Policy, PolicyLimits, PolicySource};
pub use process::{Admin, Log, LogFormat, LogLevel, Proxy, State};
pub use user::User;

use serde::Serialize;

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
