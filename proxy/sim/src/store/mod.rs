//! A Redis-compatible store in memory: the model backend of the simulator and the embedded one of `quorate demo`.
//! It never reads a clock, opens a socket or rolls a die: bytes, time and seeds are given to it.
//!
//! Its parser and table are its own, not those of `quorate-wire`: a model that shared the code
//! it is there to judge would share its mistakes.

mod acl;
mod acl_rules;
mod bits;
mod client;
mod config;
mod connection;
mod copy;
mod counters;
mod dump;
mod dump_format;
mod expire;
mod faults;
mod glob;
mod hashes;
mod history;
mod info;
mod input;
mod introspect;
mod keys;
mod keyspace;
mod lists;
mod lists_edit;
mod number;
mod process;
mod reply;
mod scan;
mod scripts;
mod session;
mod sets;
mod sha256;
mod strings;
mod strings_set;
mod subcommands;
mod table;
mod transaction;
mod value;
mod zset;
mod zset_range;
mod zset_remove;
mod zsets;

use std::collections::BTreeMap;

use acl::Users;
use config::Config;
pub use faults::Env;
use history::History;
use keyspace::Keyspace;
pub use session::SessionId;
use session::{DEFAULT_USER, Session};

/// What becomes of a connection after it was fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// It stays open.
    Open,
    /// The server closes it, after the bytes it wrote.
    Close,
}

/// How many of the last transactions a store made by [`Store::new`] can lose in a crash.
pub const HISTORY: usize = 1024;

/// One server: its data, users, configuration and connections.
pub struct Store {
    db: Keyspace,
    history: History,
    users: Users,
    config: Config,
    sessions: BTreeMap<SessionId, Session>,
    next_session: u64,
    killed: Vec<SessionId>,
    failing: Option<Env>,
    used_memory: Option<u64>,
    spoils_copies: bool,
    measured: (u64, u64),
    seed: u64,
    dice: u64,
    starts: u64,
    run_id: String,
    started_ms: u64,
    commands: u64,
}

impl Store {
    /// An empty server that remembers its last [`HISTORY`] transactions, so that a crash may lose them.
    pub fn new(run_id_seed: u64, now_ms: u64) -> Self {
        Self::with_history(run_id_seed, now_ms, HISTORY)
    }

    /// An empty server that can lose up to `history` transactions in a crash; with 0 it keeps one copy
    /// of the data, otherwise two.
    pub fn with_history(run_id_seed: u64, now_ms: u64, history: usize) -> Self {
        let mut store = Store {
            db: Keyspace::default(),
            history: History::new(history),
            users: Users::new(None),
            config: Config::default(),
            sessions: BTreeMap::new(),
            next_session: 1,
            killed: Vec::new(),
            failing: None,
            used_memory: None,
            spoils_copies: false,
            measured: (0, 0),
            seed: run_id_seed,
            dice: run_id_seed,
            starts: 0,
            run_id: String::new(),
            started_ms: now_ms,
            commands: 0,
        };
        store.db.set_now(now_ms);
        store.begin_run(now_ms);
        store
    }

    /// Opens a connection.
    pub fn connect(&mut self) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let trusted = self.users.find(DEFAULT_USER).is_some_and(|user| user.enabled && user.no_password);
        self.sessions.insert(id, Session::new(id, self.db.now_ms(), trusted));
        id
    }

    /// Closes a connection from the client's side. Unread bytes and an open transaction are gone.
    pub fn disconnect(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// Gives a connection the next bytes from its client, appends the replies, runs what is complete.
    /// A connection the store does not know (closed, killed, from before a restart) is closed.
    pub fn feed(&mut self, session: SessionId, bytes: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Fate {
        self.tick(now_ms);
        let Some(mut session) = self.sessions.remove(&session) else { return Fate::Close };
        session.input.push(bytes);
        while !session.closing {
            match session.input.next() {
                Ok(None) => break,
                Ok(Some(args)) => {
                    let reply = self.process(&mut session, args);
                    reply.encode(session.protocol, out);
                }
                Err(text) => {
                    out.extend_from_slice(format!("-ERR Protocol error: {text}\r\n").as_bytes());
                    session.closing = true;
                }
            }
        }
        if session.closing {
            return Fate::Close;
        }
        self.sessions.insert(session.id, session);
        Fate::Open
    }

    /// Moves the clock; keys past their deadline go. [`Store::feed`] does this too.
    pub fn tick(&mut self, now_ms: u64) {
        let expired = self.db.set_now(now_ms);
        if expired {
            self.spread_changes(None);
            self.history.record(&mut self.db, Vec::new());
        }
    }

    /// Connections the server closed by itself since the last call (ACL DELUSER, CLIENT KILL), their
    /// unread bytes thrown away.
    pub fn take_killed(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.killed)
    }

    /// True while the server keeps this connection open.
    pub fn is_connected(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The 40 hexadecimal digits that change at every start.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// All keys, in byte order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.db.keys().map(Vec::as_slice)
    }

    /// Keys with a deadline, and each deadline as it is kept, in milliseconds.
    pub fn deadlines(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.db.iter().filter_map(|(key, _, deadline)| Some((key.as_slice(), deadline?)))
    }

    /// One canonical line per key, deadline included: equal dumps are equal data.
    pub fn dump(&self) -> BTreeMap<Vec<u8>, String> {
        self.db.iter().map(|(key, value, deadline)| (key.clone(), line(value, deadline))).collect()
    }

    /// A hash of [`Store::dump`].
    pub fn digest(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for (key, value, deadline) in self.db.iter() {
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key);
            hasher.update(line(value, deadline).as_bytes());
            hasher.update(b"\n");
        }
        hasher.digest()
    }

    fn spread_changes(&mut self, current: Option<&mut Session>) {
        let touched = self.db.take_touched();
        if touched.is_empty() {
            return;
        }
        for session in self.sessions.values_mut().chain(current) {
            session.note_changes(&touched);
        }
    }

    fn roll(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn line(value: &value::Value, deadline_ms: Option<u64>) -> String {
    let text = value.canonical();
    deadline_ms.map_or(text.clone(), |at| format!("{text} @{at}"))
}
