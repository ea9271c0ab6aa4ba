//! Invalidations on their way to clients.

use super::{Reader, Tracking};
use crate::listen::session::{self, Session};
use crate::worker::{Mail, Worker};
use bytes::{Bytes, BytesMut};
use quorate_wire::command::{self, Command, Flags};
use quorate_wire::resp::{Args, encode};
use std::sync::atomic::Ordering::Relaxed;

/// Whom to tell, and which key changed; `None` for all.
pub type Invalidation = (Reader, Option<Bytes>);

const CHANNEL: &[u8] = b"__redis__:invalidate";

fn keys(key: Option<&Bytes>, dialect: u8, out: &mut BytesMut) {
    match (key, dialect) {
        (Some(key), _) => encode::command([&key[..]], out),
        (None, 3) => out.extend_from_slice(b"_\r\n"),
        (None, _) => out.extend_from_slice(b"$-1\r\n"),
    }
}

/// A client in RESP3 gets a push, another one only what looks like a message, if it expects messages.
fn frame(s: &Session, key: Option<&Bytes>, redirected: bool) -> Option<Bytes> {
    let mut out = BytesMut::new();
    if s.dialect == 3 {
        encode::header(b'>', 2, &mut out);
        encode::bulk(b"invalidate", &mut out);
    } else if redirected && !s.own.is_empty() {
        encode::header(b'*', 3, &mut out);
        encode::bulk(b"message", &mut out);
        encode::bulk(CHANNEL, &mut out);
    } else {
        return None;
    }
    keys(key, s.dialect, &mut out);
    Some(out.freeze())
}

fn reader(s: &Session) -> Reader {
    Reader { session: s.number, id: s.client.id }
}

impl Worker {
    /// The client caches from now on.
    pub(super) fn track(&self, s: &mut Session, tracking: Tracking) {
        let broadcast = (tracking.mode == super::Mode::Broadcast).then_some(&tracking.prefixes);
        s.port.groups.iter().for_each(|group| group.tracker.enter(reader(s), broadcast));
        s.client.tracking.store(tracking.redirect.unwrap_or(0) as i64, Relaxed);
        s.client.broadcast.store(broadcast.is_some(), Relaxed);
        s.tracking = Some(Box::new(tracking));
    }

    /// The client caches no more.
    pub fn untrack(&self, s: &mut Session) {
        if s.tracking.take().is_some() {
            s.port.groups.iter().for_each(|group| group.tracker.leave(reader(s)));
            s.client.tracking.store(-1, Relaxed);
            s.client.broadcast.store(false, Relaxed);
        }
    }

    /// Remembers what a client that caches reads, and its own writes. Its answer has this ticket.
    pub(in crate::listen) fn follow(&self, s: &mut Session, command: &Command, args: Args, ticket: u64) {
        let Some(mut tracking) = s.tracking.take() else { return };
        let me = reader(s);
        let group = s.group().clone();
        if command.flags.has(Flags::READONLY) {
            if tracking.remembers() {
                command::keys(command, args, &mut |key| {
                    if let Some((key, readers)) = group.tracker.record(key, me) {
                        let told = readers.into_iter().map(|reader| (reader, Some(key.clone())));
                        self.send_invalidations(group.index, told.collect());
                    }
                });
            }
        } else if tracking.noloop {
            tracking.writes.retain(|(ticket, _)| s.is_waiting(*ticket));
            command::keys(command, args, &mut |key| {
                tracking.writes.push((ticket, Bytes::copy_from_slice(key)));
            });
        }
        s.tracking = Some(tracking);
    }

    /// Through the letter boxes, its own too: a session may be in use just now.
    fn send_invalidations(&self, group: usize, told: Vec<Invalidation>) {
        for one in told {
            self.mailbox_of(one.0.session).post(Mail::Invalidate(group, vec![one]));
        }
    }

    /// Tells this worker's clients that keys changed.
    pub fn invalidate(&self, group: usize, invalidations: &[Invalidation]) {
        let mut told = 0;
        for (reader, key) in invalidations {
            let Some(session) = self.session(reader.session) else { continue };
            let mut s = session.borrow_mut();
            if s.client.id != reader.id || s.tracking.is_none() || is_own(&mut s, key.as_ref()) {
                continue;
            }
            told += 1;
            match s.tracking.as_deref().and_then(|tracking| tracking.redirect) {
                Some(id) => self.redirect(&mut s, id, key.clone()),
                None => {
                    if let Some(frame) = frame(&s, key.as_ref(), false) {
                        s.push(frame.clone());
                        // What is on its way to the client may be older than the change: it is told again behind it.
                        // Who waits for a key has nothing older on its way, and may wait for long.
                        if s.parked().is_none() {
                            s.push_last(frame);
                        }
                    }
                }
            }
            drop(s);
            session::flush(self, &session);
        }
        self.groups[group].shared.tracker.invalidations.fetch_add(told, Relaxed);
    }

    fn redirect(&self, s: &mut Session, id: u64, key: Option<Bytes>) {
        if let Some(client) = self.registry.find(id) {
            let reader = Reader { session: client.session.load(Relaxed), id };
            return self.mailbox_of(reader.session).post(Mail::Redirected(reader, key));
        }
        let dialect = s.dialect;
        let Some(tracking) = &mut s.tracking else { return };
        tracking.broken = true;
        if dialect == 3 {
            let mut out = BytesMut::new();
            encode::header(b'>', 2, &mut out);
            encode::bulk(b"tracking-redir-broken", &mut out);
            encode::header(b':', id as usize, &mut out);
            s.push(out.freeze());
        }
    }

    /// Tells a client in another's place.
    pub fn tell_redirected(&self, reader: Reader, key: Option<&Bytes>) {
        let Some(session) = self.session(reader.session) else { return };
        let mut s = session.borrow_mut();
        if s.client.id != reader.id {
            return;
        }
        if let Some(frame) = frame(&s, key, true) {
            s.push(frame);
        }
        drop(s);
        session::flush(self, &session);
    }
}

/// Is the change one of the client's own writes, of which it does not want to hear? Its answer is still owed:
/// invalidations come before it.
fn is_own(s: &mut Session, key: Option<&Bytes>) -> bool {
    let (Some(tracking), Some(key)) = (&s.tracking, key) else { return false };
    let own = tracking.writes.iter().position(|(ticket, own)| own == key && s.is_waiting(*ticket));
    let (Some(at), Some(tracking)) = (own, &mut s.tracking) else { return false };
    tracking.writes.remove(at);
    true
}
