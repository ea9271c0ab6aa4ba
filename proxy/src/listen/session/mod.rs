//! One client connection: what is known of it. `serve` reads and writes it, `answers` keeps its answers in order.

mod answers;
mod serve;

pub use serve::{flush, run};

use super::Port;
use super::access::Pass;
use super::output::Output;
use super::pubsub::Own;
use super::registry::Client;
use super::tracking::Tracking;
use super::transaction::Pending;
use crate::group::GroupShared;
use crate::tls::Writer;
use answers::{Slot, Spread};
use bytes::{Bytes, BytesMut};
use quorate_wire::resp::{Decoder, encode};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Unanswered bursts and unsent bytes at which a client is not read any more.
const MAX_SLOTS: usize = 1024;
const MAX_UNSENT: usize = 1 << 20;

/// Does a client want replies?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speaks {
    /// To every command.
    #[default]
    Always,
    /// To every command but the next.
    NotNext,
    /// To none.
    Never,
}

/// A command that has not arrived completely.
#[derive(Debug, Default)]
struct Partial {
    buf: BytesMut,
    decoder: Decoder,
    /// It was read while the session waited, and nobody has looked at it.
    unread: bool,
}

/// One client.
#[derive(Debug)]
pub struct Session {
    /// Dense number: worker index plus a multiple of the number of workers.
    pub number: u32,
    /// Its public side.
    pub client: Arc<Client>,
    /// The listener it came through.
    pub port: Arc<Port>,
    /// The place of the command's group among its listener's.
    pub at: usize,
    /// Protocol version.
    pub dialect: u8,
    /// May it do anything?
    pub trusted: bool,
    /// Who it is, and what it may do.
    pub access: Pass,
    /// No more is read; it is closed when all answers are written.
    pub closing: bool,
    /// The burst that the next command may join.
    pub open_burst: Option<u64>,
    /// Its subscriptions, as its commands so far say.
    pub own: Own,
    /// Its subscriptions in effect.
    pub heard: Own,
    /// It is shown what others send.
    pub watches: bool,
    /// What this client caches, if it is to be told of changes.
    pub tracking: Option<Box<Tracking>>,
    /// Slots that messages must not overtake, and bytes of messages behind slots.
    in_turn: (usize, usize),
    /// Its transaction.
    pub transaction: Pending,
    /// What the slow log would show of the next burst.
    pub brief: Option<BytesMut>,
    /// Room for the next.
    pub spare_brief: BytesMut,
    /// Its next command is kept back until a pause is over.
    pub postponed: bool,
    speaks: Speaks,
    /// The command that is being served gets no reply.
    mute: bool,
    /// Answers are collected here instead of being given.
    capture: Option<BytesMut>,
    /// It waits for the answer with this ticket, and nothing more of it is served before.
    parked: Option<u64>,
    /// The command that waits there for data; empty for others.
    parked_with: Bytes,
    slots: VecDeque<Slot>,
    /// Slots that make one answer, in their order.
    spreads: VecDeque<Spread>,
    /// Slots are taken for parts of an answer, from this ticket on.
    spreading: Option<u64>,
    /// Ticket of the first slot.
    front: u64,
    output: Output,
    socket: Rc<Writer>,
    partial: Option<Box<Partial>>,
    paused: bool,
    dirty: bool,
    writing: bool,
}

impl Session {
    /// A session whose tickets begin at `first_ticket`.
    pub fn new(number: u32, client: Arc<Client>, port: Arc<Port>, socket: Writer, first_ticket: u64) -> Self {
        let access = Pass::new(&port.gate);
        let trusted = access.is_in();
        Self {
            number,
            client,
            port,
            at: 0,
            dialect: 2,
            trusted,
            access,
            closing: false,
            open_burst: None,
            own: Own::default(),
            heard: Own::default(),
            watches: false,
            tracking: None,
            in_turn: (0, 0),
            transaction: Pending::default(),
            brief: None,
            spare_brief: BytesMut::new(),
            postponed: false,
            speaks: Speaks::Always,
            mute: false,
            capture: None,
            parked: None,
            parked_with: Bytes::new(),
            slots: VecDeque::new(),
            spreads: VecDeque::new(),
            spreading: None,
            front: first_ticket,
            output: Output::default(),
            socket: Rc::new(socket),
            partial: None,
            paused: false,
            dirty: false,
            writing: false,
        }
    }

    /// Chooses which commands get replies.
    pub fn speaks(&mut self, how: Speaks) {
        // The switch itself: only the one that switches on is answered.
        self.mute = how != Speaks::Always;
        if how != Speaks::NotNext || self.speaks == Speaks::Always {
            self.speaks = how;
        }
        self.open_burst = None;
    }

    /// A command begins.
    #[inline]
    pub fn next_command(&mut self) {
        if self.mute || self.speaks != Speaks::Always {
            self.mute = self.speaks != Speaks::Always;
            self.open_burst = None;
            if self.speaks == Speaks::NotNext {
                self.speaks = Speaks::Always;
            }
        }
    }

    /// The command that began is not served now, but begins once more later.
    pub fn kept_back(&mut self) {
        if self.mute && self.speaks == Speaks::Always {
            self.speaks = Speaks::NotNext;
        }
    }

    /// The group of the command that is served.
    #[inline]
    pub fn group(&self) -> &Arc<GroupShared> {
        &self.port.groups[self.at]
    }

    /// In RESP2 a client with subscriptions can do little else.
    pub fn only_subscribes(&self) -> bool {
        self.dialect == 2 && !self.own.is_empty()
    }

    /// Answers with an error line.
    pub fn error(&mut self, text: &str) {
        self.port.group.inspection.stats.failed(text);
        let mut out = BytesMut::with_capacity(text.len() + 3);
        encode::error(text, &mut out);
        self.answer(out.freeze());
    }

    /// Are answers collected, so that each must come at once?
    pub fn is_captured(&self) -> bool {
        self.capture.is_some()
    }

    /// What `work` would answer now.
    pub fn captured(&mut self, work: impl FnOnce(&mut Self)) -> Bytes {
        self.capture = Some(BytesMut::new());
        work(self);
        self.capture.take().unwrap_or_default().freeze()
    }

    /// Serves nothing more before the answer with this ticket.
    pub fn park(&mut self, ticket: u64) {
        if self.parked.is_none() {
            // Of an earlier wait. That of this one may come between two of its parts.
            self.client.take_unblock();
        }
        self.parked = Some(ticket);
        self.client.blocked.store(true, Ordering::Release);
    }

    /// The same, for a command that waits for data until somebody gives it some.
    pub fn park_with(&mut self, ticket: u64, command: &[u8]) {
        self.park(ticket);
        self.parked_with = Bytes::copy_from_slice(command);
    }

    /// The command that waits for data; empty if none does.
    pub fn parked_with(&self) -> Bytes {
        self.parked_with.clone()
    }

    /// The ticket that it waits for.
    pub fn parked(&self) -> Option<u64> {
        self.parked
    }

    fn unpark(&mut self) {
        self.parked = None;
        self.parked_with = Bytes::new();
        self.client.blocked.store(false, Ordering::Release);
        self.client.wake();
    }

    /// Marks it for a flush; `false` when it was marked already.
    pub fn mark(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// Nothing is owed to it and nothing half read from it.
    pub fn is_quiet(&self) -> bool {
        self.slots.is_empty() && self.output.is_empty() && self.partial.is_none()
    }

    /// Nothing is owed to it.
    pub fn is_paid(&self) -> bool {
        self.slots.is_empty() && self.output.is_empty()
    }

    /// No answer waits for its turn.
    pub fn is_paid_in_turn(&self) -> bool {
        self.slots.is_empty()
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= MAX_SLOTS || self.output.len() >= MAX_UNSENT
    }
}
