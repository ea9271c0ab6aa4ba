//! Sessions that wait: nothing more of them is served until they are answered, but their leaving is noticed.

use super::burst::{Kind, Payload};
use super::filter::Shape;
use super::request::OWN_KEYS;
use super::session::Session;
use crate::memory::{OUT_OF_MEMORY, Pressure};
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Access, Block, Cancel, Role};
use quorate_wire::command::{self, Command, Flags};
use quorate_wire::resp::transaction::RESERVED_PREFIX;
use quorate_wire::resp::{Args, encode};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How a client is made to stop waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unblock {
    /// As if its time were over.
    Timeout,
    /// With an error.
    Error,
}

impl Worker {
    /// Orders a command that waits where nothing is there.
    pub(super) fn wait_for(
        &self,
        s: &mut Session,
        command: &'static Command,
        args: Args,
        raw: &[u8],
        block: Block,
    ) {
        let group = &self.groups[s.port.group.index];
        let grows = command.flags.has(Flags::DENYOOM);
        if grows && group.shared.memory.pressure() == Pressure::Full {
            group.shared.memory.count_refusal();
            return s.error(OUT_OF_MEMORY);
        }
        let (mut reserved, mut buckets) = (false, Vec::new());
        command::keys(command, args, &mut |key| {
            reserved |= key.starts_with(RESERVED_PREFIX);
            buckets.push(command::key_hash(key) as u16);
        });
        if reserved {
            return s.error(OWN_KEYS);
        }
        let class = command::op_class(command, args);
        let plan = match self.plan(s, command, class, args) {
            Ok(plan) => plan,
            Err(message) => return s.error(&message),
        };
        self.counters.request(class);
        let (access, dialect, everything) = (Access::Write, s.dialect, buckets.is_empty());
        let kind =
            Kind { access, plan, dialect, stamp: false, everything, grows, leads: false, apart: false };
        let ticket = s.wait(self.now_us(), Shape::AsIs);
        s.park(ticket);
        let outbox = &mut *group.outbox.borrow_mut();
        buckets.into_iter().for_each(|bucket| outbox.bucket(bucket));
        let payload = Payload::Own(Bytes::copy_from_slice(raw));
        outbox.begin_as(s.number, ticket, kind, 1, payload, Role::Block(Arc::new(block)));
        s.open_burst = None;
        self.schedule();
    }

    /// A session does not wait any more: it left, or somebody made it stop.
    pub fn unblock(&self, s: &Session, how: Option<Unblock>) {
        let Some(ticket) = s.parked() else { return };
        let reply = how.map(|how| match how {
            Unblock::Timeout if s.dialect == 3 => Bytes::from_static(b"_\r\n"),
            Unblock::Timeout => Bytes::from_static(b"*-1\r\n"),
            Unblock::Error => {
                let mut out = BytesMut::new();
                encode::error("UNBLOCKED client unblocked via CLIENT UNBLOCK", &mut out);
                out.freeze()
            }
        });
        let cancel = Cancel { session: s.number, ticket, reply };
        self.groups[s.port.group.index].outbox.borrow_mut().cancel(cancel);
        self.schedule();
    }

    /// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`.
    pub(super) fn client_unblock(&self, s: &mut Session, args: Args) {
        if args.len() > 4 {
            let sub: String = args[1].iter().take(128).map(|byte| char::from(*byte)).collect();
            return s.error(&format!(
                "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try CLIENT HELP."
            ));
        }
        let how = match args.get(3) {
            None => Unblock::Timeout,
            Some(word) if word.eq_ignore_ascii_case(b"timeout") => Unblock::Timeout,
            Some(word) if word.eq_ignore_ascii_case(b"error") => Unblock::Error,
            Some(_) => return s.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
        };
        let id = args.get(2).and_then(|id| std::str::from_utf8(id).ok()?.parse::<i64>().ok());
        let Some(id) = id else { return s.error("ERR value is not an integer or out of range") };
        let client = u64::try_from(id).ok().and_then(|id| self.registry.find(id));
        let waits = client.filter(|client| client.blocked.load(Ordering::Acquire));
        let count = waits.map_or(0, |client| u8::from(client.unblock(how)));
        s.answer(Bytes::from(format!(":{count}\r\n")));
    }
}
