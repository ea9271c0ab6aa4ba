//! WAIT: how many replicas hold what this client wrote. The sequencer answers it, in its session's order.

use super::{NO_INTEGER, integer};
use crate::listen::burst::{Kind, Payload};
use crate::listen::filter::Shape;
use crate::listen::session::Session;
use crate::worker::Worker;
use bytes::Bytes;
use quorate_core::ordered::{Access, Await, Role};
use quorate_core::plan::OpClass;
use quorate_wire::command::Command;
use quorate_wire::resp::Args;
use std::sync::Arc;

/// What is waited for, as of `now_us`. The error is for the client.
pub fn of(args: Args, now_us: u64) -> Result<Await, &'static str> {
    let (Some(count), Some(timeout)) = (integer(&args[1]), args.get(2)) else { return Err(NO_INTEGER) };
    let timeout = integer(timeout).ok_or("ERR timeout is not an integer or out of range")?;
    let ms = u64::try_from(timeout).map_err(|_| "ERR timeout is negative")?;
    let until_us = (ms > 0).then(|| now_us.saturating_add(ms.saturating_mul(1000)));
    Ok(Await { replicas: usize::try_from(count).unwrap_or(0), until_us })
}

impl Worker {
    /// Answers `WAIT` when its time has come. Nothing more of the client is served before.
    pub(in crate::listen) fn wait_for_replicas(
        &self,
        s: &mut Session,
        command: &'static Command,
        args: Args,
    ) {
        let waits = match of(args, self.now_us()) {
            Ok(waits) => waits,
            Err(message) => return s.error(message),
        };
        let plan = match self.plan(s, command, OpClass::Read, args) {
            Ok(plan) => plan,
            Err(message) => return s.error(&message),
        };
        self.counters.request(OpClass::Blocking);
        let kind = Kind::plain(Access::Read, plan, s.dialect);
        let ticket = s.wait(self.now_us(), Shape::AsIs);
        s.park(ticket);
        let outbox = &mut *self.groups[s.group().index].outbox.borrow_mut();
        let role = Role::Await(Arc::new(waits));
        outbox.begin_as(s.number, ticket, kind, 1, Payload::Own(Bytes::new()), role);
        s.open_burst = None;
        self.schedule();
    }
}
