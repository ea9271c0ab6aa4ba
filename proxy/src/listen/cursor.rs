//! Cursors of SCAN and its kin. A server's cursor means something to that run of that server only, so what clients see
//! names the replica and its run as well. Where that is gone, the scan begins anew at another replica: whatever is there
//! all the time is still seen, some of it twice.
//!
//! In a cursor the lowest 6 bits are the replica, the next 12 tell its run, and the rest is the server's own. The
//! number stays small, since some clients keep it as a float.

use super::burst::{Kind, Payload};
use super::filter::{self, Shape, bulk, line};
use super::request::{OWN_KEYS, names_reserved};
use super::session::Session;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Access, Pin, Role};
use quorate_wire::command::{self, Command, Filter};
use quorate_wire::resp::{Args, encode};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const REPLICA_BITS: u32 = 6;
const RUN_BITS: u32 = 12;
const OURS: u32 = REPLICA_BITS + RUN_BITS;
/// Stands for no replica.
const NOBODY: u64 = (1 << REPLICA_BITS) - 1;

/// Tells a run of a server from others of it.
pub fn run_tag(run_id: &str) -> u16 {
    (command::key_hash(run_id.as_bytes()) >> 16) as u16 & ((1 << RUN_BITS) - 1)
}

/// Where the cursor stands among the arguments.
fn place(command: &Command) -> usize {
    if command.filter == Filter::Scan { 1 } else { 2 }
}

fn cursor(command: &Command, args: Args) -> Option<u64> {
    std::str::from_utf8(args.get(place(command))?).ok()?.parse().ok()
}

/// Does this command go on with a scan?
pub fn goes_on(command: &Command, args: Args) -> bool {
    matches!(command.filter, Filter::Scan | Filter::Cursor) && cursor(command, args).is_some_and(|at| at > 0)
}

/// The command with another cursor.
fn with(command: &Command, args: Args, cursor: u64) -> Bytes {
    let (place, text) = (place(command), cursor.to_string());
    let words = args.from(0).enumerate().map(|(at, arg)| if at == place { text.as_bytes() } else { arg });
    encode::command_bytes(&words.collect::<Vec<_>>())
}

/// What the client reads of a page, from this replica and run.
pub fn page(keys: bool, reply: Bytes, run: Option<(usize, u16)>, round: Round) -> Bytes {
    let reply = if keys { filter::scan(&reply).unwrap_or(reply) } else { reply };
    own(&reply, run, round).unwrap_or(reply)
}

/// Where a scan stands that goes through several groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// The group's place.
    pub at: u64,
    /// How many groups there are.
    pub groups: u64,
}

impl Round {
    /// A scan of one group, or of one key.
    pub const ONE: Round = Round { at: 0, groups: 1 };

    /// What the client sees of a cursor: behind the end of a group comes the beginning of the next.
    fn shown(self, cursor: u64) -> Option<u64> {
        match cursor {
            0 => Some((self.at + 1) % self.groups),
            cursor => cursor.checked_mul(self.groups)?.checked_add(self.at),
        }
    }
}

fn own(reply: &Bytes, run: Option<(usize, u16)>, round: Round) -> Option<Bytes> {
    let (2, start) = line(reply, b'*')? else { return None };
    let (text, length) = bulk(reply.get(start..)?)?;
    let cursor: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if cursor == 0 && round.shown(0) == Some(0) {
        return None;
    }
    let mut out = BytesMut::with_capacity(reply.len() + 16);
    let (replica, tag) = run.map_or((NOBODY, 0), |(replica, tag)| (replica as u64, tag));
    let named = match cursor {
        0 => Some(0),
        _ if cursor >> (u64::BITS - OURS) != 0 => None,
        _ => Some(cursor << OURS | u64::from(tag) << REPLICA_BITS | replica.min(NOBODY)),
    };
    let Some(shown) = named.and_then(|cursor| round.shown(cursor)) else {
        encode::error("ERR the cursor of the replica is too large to be passed on", &mut out);
        return Some(out.freeze());
    };
    out.extend_from_slice(&reply[..start]);
    encode::bulk(shown.to_string().as_bytes(), &mut out);
    out.extend_from_slice(&reply[start + length..]);
    Some(out.freeze())
}

/// The group where a scan goes on, which becomes the session's, and the cursor there.
fn take_round(s: &mut Session, command: &Command, args: Args) -> (Round, Option<u64>) {
    let (cursor, groups) = (cursor(command, args), s.port.groups.len() as u64);
    if command.filter != Filter::Scan || groups == 1 {
        return (Round::ONE, cursor);
    }
    let at = cursor.map_or(0, |cursor| cursor % groups);
    s.at = at as usize;
    (Round { at, groups }, cursor.map(|cursor| cursor / groups))
}

impl Worker {
    /// Orders a scan's next page from the replica that gave its cursor.
    pub(super) fn scan(&self, s: &mut Session, command: &'static Command, args: Args, raw: &[u8]) {
        if names_reserved(command, args) {
            return s.error(OWN_KEYS);
        }
        let (round, at) = take_round(s, command, args);
        let class = command::op_class(command, args);
        let plan = match self.plan(s, command, class, args) {
            Ok(plan) => plan,
            Err(message) => return s.error(&message),
        };
        let raw = Bytes::copy_from_slice(raw);
        let (replica, payload) = match at {
            // What is no cursor is the server's to refuse.
            None => (None, raw.clone()),
            Some(0) if round == Round::ONE => (None, raw.clone()),
            Some(0) => (None, with(command, args, 0)),
            Some(at) => {
                let (replica, tag) =
                    ((at & NOBODY) as usize, (at >> REPLICA_BITS) as u16 & ((1 << RUN_BITS) - 1));
                let run = s.group().runs.get(replica).map(|run| run.load(Ordering::Relaxed));
                match run == Some(tag) && at >> OURS > 0 {
                    true => (Some(replica), with(command, args, at >> OURS)),
                    false => (None, with(command, args, 0)),
                }
            }
        };
        let anew = if replica.is_some() { with(command, args, 0) } else { payload.clone() };
        let kind = Kind { everything: true, ..Kind::plain(Access::Read, plan, s.dialect) };
        self.counters.request(class);
        let spare = std::mem::take(&mut s.spare_brief);
        s.brief = s.port.group.inspection.slow.brief(command, args, spare);
        let ticket = s.wait(self.now_us(), Shape::Page { keys: command.filter == Filter::Scan, round });
        let outbox = &mut *self.groups[s.group().index].outbox.borrow_mut();
        let role = Role::Pinned(Arc::new(Pin { replica, anew }));
        outbox.begin_as(s.number, ticket, kind, 1, Payload::Own(payload), role);
        s.open_burst = None;
        self.schedule();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_names_its_replica_and_the_end_stays_the_end() {
        let shown = |cursor: u64| {
            let text = cursor.to_string();
            let reply = Bytes::from(format!("*2\r\n${}\r\n{text}\r\n*0\r\n", text.len()));
            String::from_utf8_lossy(&page(true, reply, Some((2, 5)), Round::ONE)).replace("\r\n", " ")
        };
        assert_eq!(shown(0), "*2 $1 0 *0 ");
        let cursor = 7 << OURS | 5 << REPLICA_BITS | 2;
        assert_eq!(shown(7), format!("*2 $7 {cursor} *0 "));
        assert!(shown(u64::MAX).starts_with("-ERR "));
    }

    #[test]
    fn an_error_is_passed_on() {
        assert_eq!(page(false, Bytes::from_static(b"-ERR x\r\n"), None, Round::ONE), "-ERR x\r\n");
    }
}
