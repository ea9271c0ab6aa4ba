//! A backend: the model store, the process that runs it, and its disk.

use super::Env;
use super::net::{ConnId, Segment, Way};
use super::options::Options;
use crate::store::{Env as Failing, Fate, Store};
use bytes::Bytes;
use quorate_wire::resp::Value;
use std::collections::BTreeMap;

/// What a server says to bytes that are no commands.
const GARBLED: &[u8] = b"-ERR Protocol error";

/// One server.
pub(super) struct Backend {
    pub(super) store: Store,
    pub(super) index: usize,
    pub(super) up: bool,
    pub(super) paused: bool,
    /// Transactions that are surely on disk, counted as [`Store::losable`] does.
    pub(super) synced: usize,
    /// Lost transactions, and was not in sync with a serving owner since.
    pub(super) wounded: bool,
    pub(super) full: bool,
    pub(super) loading: bool,
    /// How far its clock is off.
    pub(super) offset_ms: i64,
    /// The number of the last entry that is surely on disk.
    pub(super) synced_to: u64,
}

impl Backend {
    pub(super) fn new(index: usize, seed: u64, now_ms: u64) -> Self {
        let store = Store::with_history(seed, now_ms, 1 << 16);
        Self {
            store,
            index,
            up: true,
            paused: false,
            synced: 0,
            wounded: false,
            full: false,
            loading: false,
            offset_ms: 0,
            synced_to: 0,
        }
    }

    /// A segment from a proxy.
    pub(super) fn receive(&mut self, id: ConnId, segment: Segment, env: &mut Env) {
        match segment {
            Segment::Syn if self.up => {
                env.net.conn_mut(id).session = Some(self.store.connect());
                env.say(id, Way::ToProxy, Segment::Accepted);
            }
            // A host that is down says nothing, but its connections are refused soon enough.
            Segment::Syn => env.say(id, Way::ToProxy, Segment::Close),
            Segment::Data(bytes) => self.read(id, &bytes, env),
            Segment::Close => {
                if let Some(session) = env.net.conn_mut(id).session.take() {
                    self.store.disconnect(session);
                }
            }
            Segment::Accepted => {}
        }
    }

    fn read(&mut self, id: ConnId, bytes: &[u8], env: &mut Env) {
        let Some(session) = env.net.conn(id).session else {
            // A server that does not know the connection says so.
            return if self.up {
                env.say(id, Way::ToProxy, Segment::Close)
            };
        };
        let mut out = Vec::new();
        let now_ms = env.agenda.unix_ms().saturating_add_signed(self.offset_ms);
        let fate = self.store.feed(session, bytes, now_ms, &mut out);
        if let Some(at) = out.windows(GARBLED.len()).position(|window| window == GARBLED) {
            let answer = String::from_utf8_lossy(&out[at..]).into_owned();
            env.violate(
                "what a backend is sent can be read",
                format!("r{} answers {answer}", self.index + 1),
            );
        }
        if !out.is_empty() {
            env.write(id, Way::ToProxy, Bytes::from(out));
        }
        if fate == Fate::Close {
            self.close(id, env);
        }
        for killed in self.store.take_killed() {
            let victims = env.net.find(|conn| conn.backend == self.index && conn.session == Some(killed));
            victims.into_iter().for_each(|victim| self.close(victim, env));
        }
    }

    fn close(&mut self, id: ConnId, env: &mut Env) {
        env.net.conn_mut(id).session = None;
        env.say(id, Way::ToProxy, Segment::Close);
    }

    /// The process dies; what it had not read is lost. A host that dies `silent` tells nobody.
    pub(super) fn kill(&mut self, lose: usize, silent: bool, env: &mut Env) -> usize {
        let lost = lose.min(self.store.losable().saturating_sub(self.synced));
        for id in env.net.find(|conn| conn.backend == self.index && conn.session.is_some()) {
            env.net.lose(id, Way::ToBackend);
            if silent {
                env.net.lose(id, Way::ToProxy);
                env.net.conn_mut(id).session = None;
            } else {
                self.close(id, env);
            }
        }
        match lost {
            0 => {
                self.store.restart(env.agenda.unix_ms());
                self.synced = self.store.losable();
            }
            lost => {
                self.store.crash_losing(lost, env.agenda.unix_ms());
                self.synced = 0;
                self.wounded = true;
            }
        }
        self.store.set_failing(None);
        (self.up, self.paused) = (false, false);
        lost
    }

    /// It runs again, and may have to load its data first.
    pub(super) fn start(&mut self, loading: bool) {
        self.up = true;
        self.set_loading(loading);
    }

    pub(super) fn set_loading(&mut self, loading: bool) {
        self.loading = loading;
        self.store.set_failing(loading.then_some(Failing::Loading));
    }

    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
        self.store.set_maxmemory(if full { 1_000 } else { 0 });
    }

    /// All that was written is on disk.
    pub(super) fn sync(&mut self) {
        self.synced = self.store.losable();
        self.synced_to = self.applied().unwrap_or(0);
    }

    /// The number of the last entry it holds.
    pub(super) fn applied(&self) -> Option<u64> {
        self.position(1)
    }

    /// Under which epoch that entry was numbered.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.position(0)
    }

    fn position(&self, part: usize) -> Option<u64> {
        let mut dump = self.store.dump();
        let line = dump.remove(b"__quorate:{g}:pos".as_slice())?;
        line.split(':').nth(part)?.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    }

    /// Nothing is wrong with it any more.
    pub(super) fn heal(&mut self) {
        if !self.up {
            self.start(false);
        }
        self.paused = false;
        self.set_loading(false);
        self.set_full(false);
        self.store.set_spoils_copies(false);
    }

    /// Runs commands as an administrator on this machine.
    pub(super) fn administer(&mut self, commands: &[Vec<Vec<u8>>], now_ms: u64) -> Vec<u8> {
        let session = self.store.connect();
        let mut bytes = bytes::BytesMut::new();
        for command in commands {
            quorate_wire::resp::encode::command(command.iter().map(Vec::as_slice), &mut bytes);
        }
        let mut out = Vec::new();
        let _ = self.store.feed(session, &bytes, now_ms, &mut out);
        self.store.disconnect(session);
        out
    }

    /// The command that gives another server this key as it is here: its value and its deadline, or nothing.
    pub(super) fn copy_of(&mut self, key: Vec<u8>, now_ms: u64) -> Vec<Vec<u8>> {
        let deadline = self.store.deadlines().find(|(other, _)| *other == key).map_or(0, |(_, at)| at);
        let dump = self.administer(&[vec![b"DUMP".to_vec(), key.clone()]], now_ms);
        let Some(Value::Bulk(dump)) = Value::parse(&dump.into()) else { return vec![b"DEL".to_vec(), key] };
        let at = deadline.to_string().into_bytes();
        vec![b"RESTORE".to_vec(), key, at, dump.to_vec(), b"REPLACE".to_vec(), b"ABSTTL".to_vec()]
    }

    /// Clients' data, and the position it claims. One that ran a trial alone, or is half a copy, says that it holds
    /// something else, and claims none.
    pub(super) fn data(&self) -> (Option<String>, BTreeMap<String, String>) {
        let mut dump = self.store.dump();
        let position = dump.remove(b"__quorate:{g}:pos".as_slice());
        let marked = [b"__quorate:{g}:trial".as_slice(), b"__quorate:{g}:partial"];
        let position = position.filter(|_| !marked.iter().any(|mark| dump.contains_key(*mark)));
        let own = quorate_wire::resp::transaction::RESERVED_PREFIX;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let data = dump.into_iter().filter(|(key, _)| !key.starts_with(own));
        (position, data.map(|(key, line)| (text(key), line)).collect())
    }
}

/// All backends of a world.
pub(super) fn backends(seed: u64, options: &Options, now_ms: u64) -> Vec<Backend> {
    (0..options.replicas)
        .map(|index| Backend::new(index, seed.wrapping_mul(31) + index as u64, now_ms))
        .collect()
}
