//! What the simulator may do to a server: crashes, lost transactions, full memory, failing environments.
//! Each fault answers with the words Redis uses, at the moment Redis would.

use super::acl::Users;
use super::reply::Fault;
use super::scripts::is_put;
use super::session::Session;
use super::table::Command;
use super::table::flag::{ALLOW_BUSY, DENYOOM, LOADING, WRITE};
use super::{Keyspace, SessionId, Store};

/// A state of the environment in which a server refuses requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Env {
    /// It is loading its data set after a start.
    Loading,
    /// It runs a script that does not end.
    Busy,
    /// It cannot write its append-only file.
    Misconf,
    /// It is somebody's replica.
    ReadOnly,
}

const OOM: Fault = Fault::fixed("OOM command not allowed when used memory > 'maxmemory'.");
const LOADING_TEXT: Fault = Fault::fixed("LOADING Redis is loading the dataset in memory");
const BUSY_TEXT: Fault =
    Fault::fixed("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
const MISCONF_TEXT: Fault = Fault::fixed("MISCONF Errors writing to the AOF file: No space left on device");
const READONLY_TEXT: Fault = Fault::fixed("READONLY You can't write against a read only replica.");

/// Bytes an empty server uses.
pub(super) const BASE_MEMORY: u64 = 1_000_000;
/// Changes after which the estimate of used memory is taken anew.
const MEASURE_EVERY: u64 = 64;

impl Store {
    /// How many of the last transactions a crash could lose now.
    pub fn losable(&self) -> usize {
        self.history.len()
    }

    /// The server dies and starts again without its last `n` transactions (at most [`Store::losable`]).
    /// All connections and ACL users are gone, the run id is new; the configuration stays, as from a file.
    /// Needs a history: a store made without one comes back empty.
    pub fn crash_losing(&mut self, n: usize, now_ms: u64) {
        self.db = self.history.rewind(n);
        self.begin_run(now_ms);
    }

    /// Like [`Store::crash_losing`], keeping everything: a clean shutdown, or `appendfsync always`.
    pub fn restart(&mut self, now_ms: u64) {
        self.begin_run(now_ms);
    }

    /// The server starts on an empty disk.
    pub fn wipe(&mut self, now_ms: u64) {
        self.db = Keyspace::default();
        self.history.wipe();
        self.begin_run(now_ms);
    }

    pub(super) fn begin_run(&mut self, now_ms: u64) {
        self.killed.clear();
        self.sessions.clear();
        self.users = Users::new(self.config.get("requirepass"));
        self.started_ms = now_ms;
        self.starts += 1;
        let parts = [0, 1, 2].map(|part: u64| run_id_part(self.seed, self.starts, part));
        self.run_id = format!("{:016x}{:016x}{:08x}", parts[0], parts[1], parts[2] >> 32);
        self.tick(now_ms);
        self.db.take_touched();
    }

    /// From now on the last key of a copy cannot be restored.
    pub fn set_spoils_copies(&mut self, spoils: bool) {
        self.spoils_copies = spoils;
    }

    /// Sets `maxmemory` in bytes; 0 means no limit.
    pub fn set_maxmemory(&mut self, bytes: u64) {
        self.config.put("maxmemory", bytes.to_string());
    }

    /// Pretends that this many bytes are used; `None` goes back to an estimate.
    pub fn set_used_memory(&mut self, bytes: Option<u64>) {
        self.used_memory = bytes;
    }

    /// Makes requests fail for a reason of the environment, or work again.
    pub fn set_failing(&mut self, env: Option<Env>) {
        self.failing = env;
    }

    /// Connections now open, oldest first.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }

    pub(super) fn memory_in_use(&mut self) -> u64 {
        if let Some(bytes) = self.used_memory {
            return bytes;
        }
        let (at, bytes) = self.measured;
        if bytes == 0 || self.db.dirty().abs_diff(at) >= MEASURE_EVERY {
            let data: usize = self.db.iter().map(|(key, value, _)| key.len() + value.weight() + 64).sum();
            self.measured = (self.db.dirty(), BASE_MEMORY + data as u64);
        }
        self.measured.1
    }

    pub(super) fn check_memory(
        &mut self,
        session: &Session,
        command: &Command,
        args: &[Vec<u8>],
    ) -> Result<(), Fault> {
        let limit = self.config.number("maxmemory");
        let needed = needs_memory(session, command) || is_put(args);
        if limit == 0 || !needed || self.memory_in_use() <= limit {
            return Ok(());
        }
        Err(OOM)
    }

    pub(super) fn check_environment(&self, session: &Session, command: &Command) -> Result<(), Fault> {
        let Some(env) = self.failing else { return Ok(()) };
        let queue = session.queue.as_ref().filter(|_| command.name == "exec");
        let writes = command.has(WRITE) || queue.is_some_and(|queue| queue.any(WRITE));
        match env {
            Env::Misconf if writes || command.name == "ping" => Err(MISCONF_TEXT),
            Env::ReadOnly if writes => Err(READONLY_TEXT),
            Env::Loading if !command.has(LOADING) => Err(LOADING_TEXT),
            Env::Loading if queue.is_some_and(|queue| queue.any_without(LOADING)) => Err(LOADING_TEXT),
            Env::Busy if !command.has(ALLOW_BUSY) => Err(BUSY_TEXT),
            _ => Ok(()),
        }
    }
}

/// Queueing takes memory too, so that inside MULTI nearly everything counts.
fn needs_memory(session: &Session, command: &Command) -> bool {
    const FREE_IN_MULTI: [&str; 5] = ["exec", "discard", "multi", "quit", "reset"];
    match &session.queue {
        Some(queue) if command.name == "exec" => queue.any(DENYOOM),
        Some(_) => !FREE_IN_MULTI.contains(&command.name),
        None => command.has(DENYOOM),
    }
}

fn run_id_part(seed: u64, start: u64, part: u64) -> u64 {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&start.to_le_bytes());
    bytes[16..].copy_from_slice(&part.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}
