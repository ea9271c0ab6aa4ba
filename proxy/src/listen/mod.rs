//! The client side: sessions that turn bytes into bursts and put answers back in order.
//!
//! Nothing here decides where data goes; it reads, classifies, and keeps each client's order.

pub mod access;
pub mod blocking;
pub mod burst;
pub mod cursor;
pub mod filter;
pub mod groups;
pub mod inspect;
pub mod local;
pub mod monitor;
pub mod output;
pub mod pubsub;
pub mod registry;
pub mod request;
pub mod scripting;
pub mod session;
pub mod tracking;
pub mod transaction;

use crate::config::Address;
use crate::group::GroupShared;
use crate::tls::Complaints;
use access::gate::Gate;
use groups::Routes;
use quorate_wire::resp::Limits;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// One listener, seen from any thread.
#[derive(Debug)]
pub struct Port {
    /// Name from the configuration.
    pub name: String,
    /// Its groups. The first answers what no key decides.
    pub groups: Vec<Arc<GroupShared>>,
    /// Which of them has which key, if there is more than one.
    pub routes: Option<Routes>,
    /// The first of them, whose is what concerns the listener as such.
    pub group: Arc<GroupShared>,
    /// Who is let in, and may do what.
    pub gate: Arc<Gate>,
    /// What one request may hold.
    pub limits: Limits,
    /// Where clients that want a cluster are told to connect; without it there is none.
    pub cluster: Option<Address>,
    /// Clients speak TLS.
    pub tls: bool,
    /// The most clients.
    pub max_clients: u64,
    /// Clients now.
    pub clients: AtomicU64,
    /// Unread replies that close a client, in bytes.
    pub output_limit: usize,
    /// Silence that closes a client, in milliseconds; zero for never. Clients may set it.
    pub idle_timeout_ms: AtomicU64,
    /// Keeps the log short about clients that begin with TLS where none is spoken.
    pub complaints: Complaints,
}

impl Port {
    /// Tells of a client that began with TLS.
    pub fn refuse_tls(&self) {
        if let Some(unsaid) = self.complaints.due() {
            tracing::warn!(listener = self.name, unsaid, "closed a client that speaks TLS to a plain port");
        }
    }
}
