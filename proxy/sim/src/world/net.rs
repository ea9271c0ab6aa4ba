//! Byte streams between proxies and backends: ordered, delayed, cut into segments anywhere.
//!
//! A path that is blocked keeps what is on it, as retransmission does, and delivers it when it
//! heals; a reset loses what had not arrived. A side that closes says so behind its data.

use super::clock::{Agenda, Due};
use super::dice::Dice;
use super::trace::Digest;
use crate::store::SessionId;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Names a connection; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnId(pub(super) usize);

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ToBackend,
    ToProxy,
}

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Syn,
    Accepted,
    Data(Bytes),
    Close,
}

#[derive(Debug, Default)]
struct Pipe {
    queue: VecDeque<Segment>,
    last_us: u64,
    /// Segments whose time came while the way was blocked.
    overdue: u32,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) proxy: usize,
    pub(super) backend: usize,
    /// The proxy has it open.
    pub(super) near_open: bool,
    /// The backend's session, once accepted and until closed.
    pub(super) session: Option<SessionId>,
    pipes: [Pipe; 2],
}

/// All connections and the state of the paths.
#[derive(Debug, Default)]
pub(super) struct Net {
    conns: Vec<Conn>,
    blocked: BTreeMap<(usize, usize), [bool; 2]>,
    slow_us: BTreeMap<(usize, usize), u64>,
    /// Usual delay of a segment.
    pub(super) delay_us: u64,
    /// Cut streams at arbitrary bytes.
    pub(super) cuts: bool,
    digest: Digest,
}

impl Net {
    pub(super) fn conn(&self, id: ConnId) -> &Conn {
        &self.conns[id.0]
    }

    pub(super) fn conn_mut(&mut self, id: ConnId) -> &mut Conn {
        &mut self.conns[id.0]
    }

    /// Connections for which `test` holds.
    pub(super) fn find(&self, test: impl Fn(&Conn) -> bool) -> Vec<ConnId> {
        (0..self.conns.len()).filter(|i| test(&self.conns[*i])).map(ConnId).collect()
    }

    /// A hash of everything that was ever sent.
    pub(super) fn digest(&self) -> u64 {
        self.digest.value()
    }

    pub(super) fn open(
        &mut self,
        proxy: usize,
        backend: usize,
        agenda: &mut Agenda,
        dice: &mut Dice,
    ) -> ConnId {
        let pipes = [Pipe::default(), Pipe::default()];
        self.conns.push(Conn { proxy, backend, near_open: true, session: None, pipes });
        let id = ConnId(self.conns.len() - 1);
        self.send(id, Way::ToBackend, Segment::Syn, agenda, dice);
        id
    }

    pub(super) fn send(
        &mut self,
        id: ConnId,
        way: Way,
        segment: Segment,
        agenda: &mut Agenda,
        dice: &mut Dice,
    ) {
        self.digest.add(&[id.0 as u8, way as u8]);
        if let Segment::Data(bytes) = &segment {
            self.digest.add(bytes);
        }
        let conn = &mut self.conns[id.0];
        let slow_us = self.slow_us.get(&(conn.proxy, conn.backend)).copied().unwrap_or(0);
        let delay_us = dice.delay_us(self.delay_us) + if slow_us > 0 { dice.delay_us(slow_us) } else { 0 };
        let pipe = &mut conn.pipes[way as usize];
        pipe.last_us = pipe.last_us.max(agenda.now_us() + delay_us);
        pipe.queue.push_back(segment);
        agenda.at(pipe.last_us, Due::Segment { conn: id, way });
    }

    /// Sends bytes, in one or a few segments.
    pub(super) fn write(
        &mut self,
        id: ConnId,
        way: Way,
        mut bytes: Bytes,
        agenda: &mut Agenda,
        dice: &mut Dice,
    ) {
        while self.cuts && bytes.len() > 1 && dice.percent(25) {
            let head = bytes.split_to(1 + dice.pick(bytes.len() - 1));
            self.send(id, way, Segment::Data(head), agenda, dice);
        }
        if !bytes.is_empty() {
            self.send(id, way, Segment::Data(bytes), agenda, dice);
        }
    }

    /// The segment that is due, unless it cannot pass now.
    pub(super) fn arrive(&mut self, id: ConnId, way: Way, held: bool) -> Option<Segment> {
        let conn = &mut self.conns[id.0];
        let blocked = self.blocked.get(&(conn.proxy, conn.backend)).is_some_and(|b| b[way as usize]);
        let pipe = &mut conn.pipes[way as usize];
        if blocked || held {
            pipe.overdue += 1;
            return None;
        }
        pipe.queue.pop_front()
    }

    /// Blocks or frees a path in the ways given.
    pub(super) fn block(&mut self, proxy: usize, backend: usize, ways: [bool; 2]) {
        self.blocked.insert((proxy, backend), ways);
    }

    /// Makes a path slower by about this much.
    pub(super) fn slow(&mut self, proxy: usize, backend: usize, us: u64) {
        self.slow_us.insert((proxy, backend), us);
    }

    /// All paths are as in the beginning.
    pub(super) fn heal(&mut self) {
        self.blocked.clear();
        self.slow_us.clear();
    }

    /// Lets everything that waited try again.
    pub(super) fn retry(&mut self, agenda: &mut Agenda, dice: &mut Dice) {
        for (index, conn) in self.conns.iter_mut().enumerate() {
            for (way, pipe) in [Way::ToBackend, Way::ToProxy].into_iter().zip(&mut conn.pipes) {
                let at_us = agenda.now_us() + dice.below(300);
                for _ in 0..std::mem::take(&mut pipe.overdue) {
                    agenda.at(at_us, Due::Segment { conn: ConnId(index), way });
                }
            }
        }
    }

    /// What is on its way in this direction is lost.
    pub(super) fn lose(&mut self, id: ConnId, way: Way) {
        let pipe = &mut self.conns[id.0].pipes[way as usize];
        pipe.queue.clear();
        pipe.overdue = 0;
    }

    /// Both sides learn that the connection is gone; what is on its way is lost.
    pub(super) fn reset(&mut self, id: ConnId, agenda: &mut Agenda, dice: &mut Dice) {
        for way in [Way::ToBackend, Way::ToProxy] {
            self.lose(id, way);
            self.send(id, way, Segment::Close, agenda, dice);
        }
    }

    /// The proxy closes it: the backend still reads what was sent before.
    pub(super) fn hang_up(&mut self, id: ConnId, agenda: &mut Agenda, dice: &mut Dice) {
        if std::mem::replace(&mut self.conns[id.0].near_open, false) {
            self.send(id, Way::ToBackend, Segment::Close, agenda, dice);
        }
    }
}
