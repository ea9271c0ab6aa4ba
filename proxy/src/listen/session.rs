//! One client connection: reading, the order of its answers, writing.

use super::Port;
use super::access::Pass;
use super::access::gate::Shed;
use super::blocking::Latest;
use super::filter::Shape;
use super::groups::merge::Merge;
use super::output::Output;
use super::pubsub::{Kind, Own};
use super::registry::Client;
use super::tracking::Tracking;
use super::transaction::Pending;
use crate::group::GroupShared;
use crate::tls::{Reader, Stream, Writer, is_hello};
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_wire::resp::{Args, Decoder, ProtocolError, encode};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

/// Unanswered bursts and unsent bytes at which a client is not read any more.
const MAX_SLOTS: usize = 1024;
const MAX_UNSENT: usize = 1 << 20;
/// A confirmation that waits for a backend is given after so many sweeps at the latest, a second apart.
const MOST_SWEEPS: u32 = 3;
/// So many that nothing more is served of what was read already.
const CROWD: usize = 8 * MAX_SLOTS;
/// The read buffer of a command that arrives in parts grows at most this much ahead of the data.
const READ_AHEAD: usize = 1 << 20;

/// The answer to one burst, or its place.
#[derive(Debug)]
enum Slot {
    Ready(Bytes),
    Waiting {
        since_us: u64,
        shape: Shape,
        /// What the slow log would show.
        brief: Option<Box<[u8]>>,
    },
    /// An answer that messages must not overtake, and the messages that came behind it. Not to be given while so
    /// many feeds of events have not confirmed.
    Confirm {
        reply: Bytes,
        behind: Vec<Bytes>,
        feeds: usize,
        sweeps: u32,
    },
    /// An invalidation behind answers that may be older.
    Told(Bytes),
    /// The answer that ends subscriptions.
    Leave {
        reply: Bytes,
        kind: Kind,
        names: Vec<Bytes>,
    },
}

/// Slots one after another whose answers are given as one.
#[derive(Debug)]
struct Spread {
    first: u64,
    /// The group of each, by its place among the listener's.
    groups: Vec<usize>,
    merge: Merge,
    answers: Vec<Bytes>,
}

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
    pub brief: Option<Box<[u8]>>,
    /// Its next command is kept back until a pause is over.
    pub postponed: bool,
    speaks: Speaks,
    /// The command that is being served gets no reply.
    mute: bool,
    /// Answers are collected here instead of being given.
    capture: Option<BytesMut>,
    /// It waits for the answer with this ticket, and nothing more of it is served before.
    parked: Option<u64>,
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
            postponed: false,
            speaks: Speaks::Always,
            mute: false,
            capture: None,
            parked: None,
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

    /// Answers now, in its turn.
    pub fn answer(&mut self, reply: Bytes) {
        if let Some(captured) = &mut self.capture {
            return captured.extend_from_slice(&reply);
        }
        self.open_burst = None;
        if self.spreading.is_some() {
            let reply = if self.mute { Bytes::new() } else { reply };
            return self.slots.push_back(Slot::Ready(reply));
        }
        if self.mute {
            return;
        }
        if self.slots.is_empty() {
            self.front += 1;
            self.output.push(reply);
        } else {
            self.slots.push_back(Slot::Ready(reply));
        }
    }

    /// The group of the command that is served.
    #[inline]
    pub fn group(&self) -> &Arc<GroupShared> {
        &self.port.groups[self.at]
    }

    /// What is answered from here on are parts of one answer.
    pub fn begin_parts(&mut self) {
        self.spreading = Some(self.front + self.slots.len() as u64);
    }

    /// All parts have their places: one for each of these groups.
    pub fn end_parts(&mut self, groups: Vec<usize>, merge: Merge) {
        self.open_burst = None;
        // All may be answered already.
        self.dirty = true;
        if let Some(first) = self.spreading.take() {
            debug_assert_eq!(first + groups.len() as u64, self.front + self.slots.len() as u64);
            self.spreads.push_back(Spread { first, groups, merge, answers: Vec::new() });
        }
    }

    /// The parts of the answer that this ticket belongs to which are still waited for, with the place of the group of
    /// each.
    pub fn waiting_parts(&self, ticket: u64) -> Vec<(u64, usize)> {
        let holds =
            |spread: &&Spread| (spread.first..spread.first + spread.groups.len() as u64).contains(&ticket);
        let parts: Vec<(u64, usize)> = match self.spreads.iter().find(holds) {
            Some(spread) => (spread.first..).zip(spread.groups.iter().copied()).collect(),
            None => vec![(ticket, self.at)],
        };
        parts.into_iter().filter(|(ticket, _)| self.is_waiting(*ticket)).collect()
    }

    /// Gives an answer whose turn it is, or keeps it as a part of one.
    fn give(&mut self, reply: Bytes) {
        let ticket = self.front - 1;
        match self.spreads.front_mut() {
            Some(spread) if ticket >= spread.first => spread.answers.push(reply),
            _ => return self.output.push(reply),
        }
        if let Some(spread) = self.spreads.pop_front_if(|spread| spread.answers.len() == spread.groups.len())
        {
            self.output.push(spread.merge.join(&spread.answers));
        }
    }

    /// Answers in its turn; what is pushed from now on comes later than this answer.
    pub fn confirm(&mut self, reply: Bytes) {
        match self.slots.is_empty() || self.capture.is_some() {
            true => self.answer(reply),
            false => {
                self.confirm_later(reply, 0);
            }
        }
    }

    /// The same, but only when [`Self::confirm_now`] was called so often with the ticket that this returns.
    pub fn confirm_later(&mut self, reply: Bytes, feeds: usize) -> u64 {
        self.open_burst = None;
        self.in_turn.0 += 1;
        let reply = if self.mute { Bytes::new() } else { reply };
        self.slots.push_back(Slot::Confirm { reply, behind: Vec::new(), feeds, sweeps: 0 });
        self.front + self.slots.len() as u64 - 1
    }

    /// One that the confirmation with this ticket waits for is there, if that is still waiting.
    pub fn confirm_now(&mut self, ticket: u64) {
        let index = ticket.checked_sub(self.front).and_then(|index| usize::try_from(index).ok());
        let slot = index.and_then(|index| self.slots.get_mut(index));
        if let Some(Slot::Confirm { feeds, .. }) = slot {
            *feeds = feeds.saturating_sub(1);
        }
    }

    /// Gives every confirmation its turn that waits for longer than a backend may take. `false`: there is none.
    pub fn confirm_overdue(&mut self) -> bool {
        let mut any = false;
        for slot in &mut self.slots {
            if let Slot::Confirm { feeds: feeds @ 1.., sweeps, .. } = slot {
                *sweeps += 1;
                if *sweeps > MOST_SWEEPS {
                    (*feeds, any) = (0, true);
                }
            }
        }
        any
    }

    /// Answers in its turn, and ends these subscriptions then.
    pub fn leave(&mut self, reply: Bytes, kind: Kind, names: Vec<Bytes>) {
        self.open_burst = None;
        let reply = if self.mute { Bytes::new() } else { reply };
        self.slots.push_back(Slot::Leave { reply, kind, names });
    }

    /// Sends what no command asked for: between answers, never before a confirmation that is still owed.
    pub fn push(&mut self, frame: Bytes) {
        if self.in_turn.0 == 0 {
            return self.output.push(frame);
        }
        let held = self.slots.iter_mut().rev().find_map(|slot| match slot {
            Slot::Confirm { behind, .. } => Some(behind),
            _ => None,
        });
        if let Some(behind) = held {
            self.in_turn.1 += frame.len();
            behind.push(frame);
        }
    }

    /// Sends something once more behind all answers that are owed now, if there are any.
    pub fn push_last(&mut self, frame: Bytes) {
        if !self.slots.is_empty() {
            self.in_turn.1 += frame.len();
            self.slots.push_back(Slot::Told(frame));
        }
    }

    /// Has the burst with this ticket no answer yet?
    pub fn is_waiting(&self, ticket: u64) -> bool {
        let index = ticket.checked_sub(self.front).and_then(|index| usize::try_from(index).ok());
        let slot = index.and_then(|index| self.slots.get(index));
        matches!(slot, Some(Slot::Waiting { .. }))
    }

    /// Takes the first slot if it is its turn. What it ends is told.
    fn take_turn(&mut self) -> Option<Option<(Kind, Vec<Bytes>)>> {
        if matches!(self.slots.front()?, Slot::Waiting { .. } | Slot::Confirm { feeds: 1.., .. }) {
            return None;
        }
        let slot = self.slots.pop_front()?;
        self.front += 1;
        match slot {
            Slot::Ready(reply) => self.give(reply),
            Slot::Confirm { reply, behind, .. } => {
                self.in_turn.0 -= 1;
                self.output.push(reply);
                for frame in behind {
                    self.in_turn.1 -= frame.len();
                    self.output.push(frame);
                }
            }
            Slot::Told(frame) => {
                self.in_turn.1 -= frame.len();
                self.output.push(frame);
            }
            Slot::Leave { reply, kind, names } => {
                self.output.push(reply);
                return Some(Some((kind, names)));
            }
            Slot::Waiting { .. } => {}
        }
        Some(None)
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

    /// Takes a place for an answer that comes later; its ticket.
    pub fn wait(&mut self, since_us: u64, shape: Shape) -> u64 {
        let brief = self.brief.take();
        let shape = if self.mute { Shape::Nothing } else { shape };
        self.slots.push_back(Slot::Waiting { since_us, shape, brief });
        self.front + self.slots.len() as u64 - 1
    }

    /// Does this place wait to learn what came last?
    pub fn seeks_latest(&self, ticket: u64) -> bool {
        let index = ticket.checked_sub(self.front).and_then(|index| usize::try_from(index).ok());
        let slot = index.and_then(|index| self.slots.get(index));
        matches!(slot, Some(Slot::Waiting { shape: Shape::Latest(_), .. }))
    }

    /// What is to be waited for in this place, once it is known what came last.
    pub fn take_latest(&mut self, ticket: u64) -> Option<Latest> {
        let index = usize::try_from(ticket.checked_sub(self.front)?).ok()?;
        let Slot::Waiting { shape, .. } = self.slots.get_mut(index)? else { return None };
        let Shape::Latest(_) = shape else { return None };
        match std::mem::replace(shape, Shape::AsIs) {
            Shape::Latest(latest) => Some(*latest),
            _ => None,
        }
    }

    /// Fills a place. `None`: there is no such place, the answer is for an earlier client of this number.
    /// Otherwise the microsecond at which the burst began, and what the slow log would show of it.
    pub fn fill(
        &mut self,
        ticket: u64,
        make: impl FnOnce(&Shape) -> Bytes,
    ) -> Option<(u64, Option<Box<[u8]>>)> {
        let index = usize::try_from(ticket.checked_sub(self.front)?).ok()?;
        let slot = self.slots.get_mut(index)?;
        let Slot::Waiting { since_us, shape, brief } = slot else { return None };
        let since = (*since_us, brief.take());
        *slot = Slot::Ready(make(shape));
        if self.open_burst == Some(ticket) {
            self.open_burst = None;
        }
        if self.parked == Some(ticket) {
            match self.waiting_parts(ticket).first() {
                Some((other, _)) => self.parked = Some(*other),
                None => self.unpark(),
            }
        }
        Some(since)
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

    /// The ticket that it waits for.
    pub fn parked(&self) -> Option<u64> {
        self.parked
    }

    fn unpark(&mut self) {
        self.parked = None;
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

/// Moves answers whose turn has come to the socket.
pub fn flush(worker: &Worker, session: &Rc<RefCell<Session>>) {
    let s = &mut *session.borrow_mut();
    s.dirty = false;
    while let Some(ended) = s.take_turn() {
        if let Some((kind, names)) = ended {
            names.iter().for_each(|name| worker.unhear(s, kind, name));
        }
    }
    if s.writing {
        check_limit(s);
        return;
    }
    match s.output.write(&s.socket) {
        Ok(true) => settle(s),
        Ok(false) => {
            check_limit(s);
            s.writing = true;
            tokio::task::spawn_local(write_rest(session.clone()));
        }
        Err(_) => s.client.kill(),
    }
}

/// After everything was written.
fn settle(s: &mut Session) {
    if s.paused && !s.is_full() {
        s.paused = false;
        s.client.wake();
    }
    if s.closing && s.slots.is_empty() {
        s.client.kill();
    }
}

/// The reply that is being written does not count: any value that was taken can be read back.
fn check_limit(s: &Session) {
    if s.output.behind_first() + s.in_turn.1 > s.port.output_limit && !s.client.is_killed() {
        if !s.own.is_empty() {
            s.port.group.hub.slow.fetch_add(1, Ordering::Relaxed);
        }
        s.port.gate.shed(Shed::SlowReader);
        tracing::warn!(
            client = s.client.id,
            bytes = s.output.len(),
            "closed a client that does not read its replies"
        );
        s.client.kill();
    }
}

async fn write_rest(session: Rc<RefCell<Session>>) {
    let (socket, client) = {
        let s = session.borrow();
        (s.socket.clone(), s.client.clone())
    };
    while !client.is_killed() {
        // Who never reads must not keep what it is owed.
        let writable = tokio::select! {
            biased;
            () = client.killed() => return,
            writable = socket.writable() => writable,
        };
        if writable.is_err() {
            return client.kill();
        }
        let s = &mut *session.borrow_mut();
        match s.output.write(&socket) {
            Ok(true) => {
                s.writing = false;
                return settle(s);
            }
            Ok(false) => {}
            Err(_) => return client.kill(),
        }
    }
}

/// After so many buffers in a row others have their turn.
const MOST_STRAIGHT: u32 = 2;

enum Turn {
    Woken,
    Read,
    Closed,
}

/// A client that says nothing for so long is asked whether it is there, and then so often again.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(15);

/// Serves one client until it leaves.
pub async fn run(worker: Rc<Worker>, stream: Stream, port: Arc<Port>) {
    let (Ok(peer), Ok(local)) = (stream.socket().peer_addr(), stream.socket().local_addr()) else {
        // Gone before it was served.
        port.clients.fetch_sub(1, Ordering::Relaxed);
        return;
    };
    // Replies are written whole; waiting for more to send would only delay them.
    let _ = stream.socket().set_nodelay(true);
    // Who vanished without a word gives its place back, and waits for no key.
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_AGAIN);
    let _ = socket2::SockRef::from(stream.socket()).set_tcp_keepalive(&keepalive);
    let client = worker.registry.enter(peer, local, worker.clock.now_us() / 1000);
    let (mut reader, writer) = stream.into_split();
    let session = worker.enter(client.clone(), port, writer);
    let mut woken = pin!(client.woken());
    // How often it was read from without a pause.
    let mut straight = 0;
    while !client.is_killed() {
        let turn = poll_fn(|cx| {
            if woken.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Turn::Woken);
            }
            let read = poll_read(&worker, &session, &mut reader, cx);
            if read.is_pending() {
                straight = 0;
            }
            read
        });
        match turn.await {
            Turn::Woken => {
                woken.set(client.woken());
                if let Some(how) = client.take_unblock() {
                    worker.unblock(&mut session.borrow_mut(), Some(how));
                    flush(&worker, &session);
                }
            }
            Turn::Read => {
                after_read(&worker, &session);
                straight += 1;
                if straight >= MOST_STRAIGHT {
                    // Somebody who sends without end must not have the thread for itself.
                    straight = 0;
                    tokio::task::yield_now().await;
                }
            }
            Turn::Closed => break,
        }
    }
    let waited = worker.unblock(&mut session.borrow_mut(), None);
    if waited {
        // Whoever sees that this client is gone may give to those who still wait.
        worker.end_turn();
    }
    worker.leave(&session);
}

fn after_read(worker: &Worker, session: &Rc<RefCell<Session>>) {
    let mut s = session.borrow_mut();
    s.paused = s.is_full();
    let speak = s.dirty || !s.output.is_empty();
    drop(s);
    if speak {
        flush(worker, session);
    }
}

fn poll_read(
    worker: &Worker,
    session: &Rc<RefCell<Session>>,
    reader: &mut Reader,
    cx: &mut Context<'_>,
) -> Poll<Turn> {
    let s = &mut *session.borrow_mut();
    if s.paused || s.closing {
        return Poll::Pending;
    }
    let read = match s.partial.take() {
        Some(partial) if s.is_held() => poll_parked(s, partial, reader, cx),
        None if s.is_held() => poll_parked(s, Box::default(), reader, cx),
        Some(partial) if partial.unread => {
            let waiting = partial.buf.len();
            worker.tick();
            serve_partial(worker, s, partial);
            Poll::Ready(Ok(waiting.max(1)))
        }
        Some(partial) => poll_partial(worker, s, partial, reader, cx),
        None => poll_fresh(worker, s, reader, cx),
    };
    match ready!(read) {
        Ok(0) | Err(_) => Poll::Ready(Turn::Closed),
        Ok(_) => {
            s.client.active_ms.store(worker.now_us() / 1000, Ordering::Relaxed);
            Poll::Ready(Turn::Read)
        }
    }
}

/// Reads into the worker's own buffer: a client at rest owns none.
fn poll_fresh(
    worker: &Worker,
    s: &mut Session,
    reader: &mut Reader,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let scratch = &mut *worker.scratch.borrow_mut();
    let mut space = ReadBuf::new(scratch);
    ready!(Pin::new(reader).poll_read(cx, &mut space))?;
    let data = space.filled();
    if is_hello(data) {
        s.port.refuse_tls();
        return Poll::Ready(Ok(0));
    }
    worker.tick();
    s.keep_up();
    let mut decoder = worker.decoder.borrow_mut();
    let mut at = 0;
    while at < data.len() && !s.closing {
        if s.parked.is_some() || s.slots.len() >= CROWD {
            s.keep_unread(BytesMut::from(&data[at..]));
            break;
        }
        let rest = &data[at..];
        match decoder.next(rest, &s.limits()) {
            Ok(Some(frame)) => {
                let source = frame.inline.as_deref().unwrap_or(&rest[..frame.len]);
                worker.request(s, source, Args::new(source, decoder.spans()), None);
                if s.postponed {
                    s.keep_unread(BytesMut::from(rest));
                    break;
                }
                at += frame.len;
            }
            Ok(None) => {
                let decoder = std::mem::take(&mut *decoder);
                s.partial = Some(Box::new(Partial { buf: BytesMut::from(rest), decoder, unread: false }));
                break;
            }
            Err(error) => protocol_error(s, &error),
        }
    }
    if s.closing {
        *decoder = Decoder::default();
    }
    Poll::Ready(Ok(data.len()))
}

fn poll_partial(
    worker: &Worker,
    s: &mut Session,
    mut partial: Box<Partial>,
    reader: &mut Reader,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let have = partial.buf.len();
    let missing = partial.decoder.wants().saturating_sub(have);
    partial.buf.reserve(missing.clamp(4096, READ_AHEAD.max(have)));
    let read = match tokio_util::io::poll_read_buf(Pin::new(reader), cx, &mut partial.buf) {
        Poll::Ready(Ok(read)) => read,
        other => {
            s.partial = Some(partial);
            return other;
        }
    };
    worker.tick();
    serve_partial(worker, s, partial);
    Poll::Ready(Ok(read))
}

/// While it waits: what comes is kept, up to a limit, so that its end is noticed.
fn poll_parked(
    s: &mut Session,
    mut partial: Box<Partial>,
    reader: &mut Reader,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    partial.unread = true;
    while partial.buf.len() < READ_AHEAD {
        match tokio_util::io::poll_read_buf(Pin::new(&mut *reader), cx, &mut partial.buf) {
            Poll::Ready(Ok(read)) if read > 0 => {}
            Poll::Ready(ended) => return Poll::Ready(ended),
            Poll::Pending => break,
        }
    }
    if !partial.buf.is_empty() {
        s.partial = Some(partial);
    }
    Poll::Pending
}

/// Serves the commands that are complete.
fn serve_partial(worker: &Worker, s: &mut Session, mut partial: Box<Partial>) {
    partial.unread = false;
    s.keep_up();
    while !partial.buf.is_empty() && !s.closing {
        if s.parked.is_some() || s.slots.len() >= CROWD {
            return s.keep_unread(partial.buf);
        }
        match partial.decoder.next(&partial.buf, &s.limits()) {
            Ok(Some(frame)) => {
                let bytes = partial.buf.split_to(frame.len).freeze();
                match &frame.inline {
                    Some(inline) => {
                        worker.request(s, inline, Args::new(inline, partial.decoder.spans()), None)
                    }
                    None => {
                        worker.request(s, &bytes, Args::new(&bytes, partial.decoder.spans()), Some(&bytes))
                    }
                }
                if s.postponed {
                    let mut unread = BytesMut::from(&bytes[..]);
                    unread.extend_from_slice(&partial.buf);
                    return s.keep_unread(unread);
                }
            }
            Ok(None) => {
                s.partial = Some(partial);
                break;
            }
            Err(error) => protocol_error(s, &error),
        }
    }
}

impl Session {
    /// It is not served now, only listened to.
    fn is_held(&self) -> bool {
        self.parked.is_some() || self.postponed
    }

    /// Keeps what comes behind a command that waits.
    fn keep_unread(&mut self, buf: BytesMut) {
        self.partial = Some(Box::new(Partial { buf, decoder: Decoder::default(), unread: true }));
    }

    fn limits(&self) -> quorate_wire::resp::Limits {
        if self.trusted { self.port.limits } else { self.port.limits.unauthenticated() }
    }
}

fn protocol_error(s: &mut Session, error: &ProtocolError) {
    if error.is_size() {
        s.port.gate.shed(Shed::RequestSize);
    }
    s.error(&format!("ERR {error}"));
    s.closing = true;
}
