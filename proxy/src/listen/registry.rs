//! All clients of the proxy, for CLIENT LIST, CLIENT KILL and the metrics of connections.

use super::blocking::Unblock;
use dashmap::DashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Names a client gave itself, and the one that it logged in by.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// `CLIENT SETNAME`.
    pub name: String,
    /// `CLIENT SETINFO lib-name`.
    pub library: String,
    /// `CLIENT SETINFO lib-ver`.
    pub library_version: String,
    /// The user that it is, if that was ever said.
    pub user: Option<Arc<str>>,
}

/// One client, seen from any thread.
#[derive(Debug)]
pub struct Client {
    /// `CLIENT ID`; grows, never reused.
    pub id: u64,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// Where it connected to.
    pub local: SocketAddr,
    /// When.
    pub since: Instant,
    /// Protocol version.
    pub dialect: AtomicU64,
    /// Milliseconds since the proxy's start at its last command.
    pub active_ms: AtomicU64,
    /// Subscriptions to channels, patterns and shard channels.
    pub subscriptions: [AtomicU64; 3],
    /// Number of its session.
    pub session: AtomicU32,
    /// Who is told what it must not cache: another client's id, 0 for itself, -1 for nobody.
    pub tracking: AtomicI64,
    /// It is told of every key with a prefix.
    pub broadcast: AtomicBool,
    /// It is shown what others send.
    pub watches: AtomicBool,
    /// Names it gave itself.
    pub names: Mutex<Names>,
    /// Its latest command, by its place in the table; `u32::MAX` before the first.
    pub command: AtomicU32,
    /// It waits for a key.
    pub blocked: AtomicBool,
    unblock: Mutex<Option<Unblock>>,
    killed: CancellationToken,
    wake: Notify,
}

impl Client {
    /// Asks the client's own thread to close it.
    pub fn kill(&self) {
        self.killed.cancel();
        self.wake.notify_one();
    }

    /// Asks the client's own thread to end its waiting. `false`: somebody else did already.
    pub fn unblock(&self, how: Unblock) -> bool {
        let first = self.unblock.lock().is_ok_and(|mut asked| asked.replace(how).is_none());
        self.wake.notify_one();
        first
    }

    /// Was it asked to stop waiting?
    pub fn take_unblock(&self) -> Option<Unblock> {
        self.unblock.lock().ok()?.take()
    }

    /// Was it asked to close?
    pub fn is_killed(&self) -> bool {
        self.killed.is_cancelled()
    }

    /// Waits until it is asked to close.
    pub async fn killed(&self) {
        self.killed.cancelled().await;
    }

    /// Wakes the client's task: there may be something to do.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits to be woken.
    pub fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.wake.notified()
    }

    /// A copy of the names.
    pub fn names(&self) -> Names {
        self.names.lock().map(|names| names.clone()).unwrap_or_default()
    }

    /// The name of the user that it is.
    pub fn user(&self) -> String {
        self.names().user.map_or_else(|| "default".into(), |user| user.to_string())
    }

    /// Has it subscriptions?
    pub fn subscribes(&self) -> bool {
        self.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    fn flags(&self) -> String {
        let tracks = self.tracking.load(Ordering::Relaxed) >= 0;
        let flags = [
            ("O", self.watches.load(Ordering::Relaxed)),
            ("P", self.subscribes()),
            ("t", tracks),
            ("B", tracks && self.broadcast.load(Ordering::Relaxed)),
        ];
        let set: String = flags.iter().filter(|(_, set)| *set).map(|(flag, _)| *flag).collect();
        if set.is_empty() { "N".into() } else { set }
    }

    fn command_name(&self) -> &'static str {
        let index = usize::try_from(self.command.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        quorate_wire::command::all().get(index).map_or("NULL", |command| command.name)
    }

    /// One line of CLIENT LIST.
    pub fn line(&self, now_ms: u64) -> String {
        let names = self.names();
        let told = |kind: usize| self.subscriptions[kind].load(Ordering::Relaxed);
        let age = self.since.elapsed().as_secs();
        let idle = now_ms.saturating_sub(self.active_ms.load(Ordering::Relaxed)) / 1000;
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={age} idle={idle} flags={} db=0 sub={} psub={} ssub={} multi=-1 \
             qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} \
             user={} redir={} resp={} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            names.name,
            self.flags(),
            told(0),
            told(1),
            told(2),
            self.command_name(),
            names.user.as_deref().unwrap_or("default"),
            self.tracking.load(Ordering::Relaxed),
            self.dialect.load(Ordering::Relaxed),
            names.library,
            names.library_version,
        )
    }
}

/// The clients by id.
#[derive(Debug, Default)]
pub struct Registry {
    clients: DashMap<u64, Arc<Client>>,
    last: AtomicU64,
}

impl Registry {
    /// Enters a new client.
    pub fn enter(&self, peer: SocketAddr, local: SocketAddr, now_ms: u64) -> Arc<Client> {
        let client = Arc::new(Client {
            id: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            peer,
            local,
            since: Instant::now(),
            dialect: AtomicU64::new(2),
            active_ms: AtomicU64::new(now_ms),
            subscriptions: Default::default(),
            session: AtomicU32::new(u32::MAX),
            tracking: AtomicI64::new(-1),
            broadcast: AtomicBool::new(false),
            watches: AtomicBool::new(false),
            names: Mutex::default(),
            command: AtomicU32::new(u32::MAX),
            blocked: AtomicBool::new(false),
            unblock: Mutex::default(),
            killed: CancellationToken::new(),
            wake: Notify::new(),
        });
        self.clients.insert(client.id, client.clone());
        client
    }

    /// Removes a client that is gone.
    pub fn leave(&self, id: u64) {
        self.clients.remove(&id);
    }

    /// The client of this id.
    pub fn find(&self, id: u64) -> Option<Arc<Client>> {
        self.clients.get(&id).map(|entry| entry.value().clone())
    }

    /// How many ever were.
    pub fn entered(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Nobody?
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// All clients, by id.
    pub fn all(&self) -> Vec<Arc<Client>> {
        let mut all: Vec<_> = self.clients.iter().map(|entry| entry.value().clone()).collect();
        all.sort_by_key(|client| client.id);
        all
    }
}
