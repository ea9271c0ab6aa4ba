//! A client's socket: what is read from it goes to the group, whose answers are written when their turn has come.

use super::{MAX_SLOTS, Partial, Session};
use crate::listen::Port;
use crate::listen::access::gate::Shed;
use crate::tls::{Reader, Stream, is_hello};
use crate::worker::Worker;
use bytes::BytesMut;
use quorate_wire::resp::{Args, Decoder, ProtocolError};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};

/// So many that nothing more is served of what was read already.
const CROWD: usize = 8 * MAX_SLOTS;
/// The read buffer of a command that arrives in parts grows at most this much ahead of the data.
const READ_AHEAD: usize = 1 << 20;

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
