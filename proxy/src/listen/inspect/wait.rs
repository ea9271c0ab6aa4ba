//! WAIT and WAITAOF: how many replicas hold what this client wrote, in memory or on disk. The sequencer answers it, in its session's order.

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
pub fn of(command: &Command, args: Args, now_us: u64) -> Result<Await, &'static str> {
    let on_disk = command.name == "waitaof";
    let (local, others) = if on_disk { copies(args)? } else { (0, integer(&args[1]).ok_or(NO_INTEGER)?) };
    let timeout = args.get(if on_disk { 3 } else { 2 }).and_then(integer);
    let ms = u64::try_from(timeout.ok_or("ERR timeout is not an integer or out of range")?)
        .map_err(|_| "ERR timeout is negative")?;
    let until_us = (ms > 0).then(|| now_us.saturating_add(ms.saturating_mul(1000)));
    let others = usize::try_from(others).unwrap_or(0);
    // One of the replicas is the server that the client sees.
    let replicas = if others > 0 { others.saturating_add(1) } else { local };
    Ok(Await { replicas, on_disk, until_us })
}

/// What `WAITAOF` asks for: of the server itself, none or one, and of others.
fn copies(args: Args) -> Result<(usize, i64), &'static str> {
    let local = match integer(&args[1]).ok_or(NO_INTEGER)? {
        0 => 0,
        1 => 1,
        _ => return Err("ERR value is out of range, value must between 0 and 1"),
    };
    let others = args.get(2).and_then(integer).filter(|count| *count >= 0);
    Ok((local, others.ok_or("ERR value is out of range, must be positive")?))
}

impl Worker {
    /// Answers `WAIT` or `WAITAOF` when its time has come. Nothing more of the client is served before.
    pub(in crate::listen) fn wait_for_replicas(
        &self,
        s: &mut Session,
        command: &'static Command,
        args: Args,
    ) {
        let waits = match of(command, args, self.now_us()) {
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
