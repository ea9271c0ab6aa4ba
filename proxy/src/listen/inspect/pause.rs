//! CLIENT PAUSE: commands of a group's clients are kept unread until it is over. Nothing is lost by it, and the
//! command that ends it is always served.

use super::integer;
use crate::listen::session::Session;
use crate::worker::{Clock, Worker};
use bytes::Bytes;
use quorate_wire::command::{Carry, Local, Step};
use quorate_wire::resp::Args;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Whether clients of a group are held back, and which commands.
#[derive(Debug, Default)]
pub struct Pause {
    /// In microseconds since the proxy's start; 0 for none.
    until_us: AtomicU64,
    everything: AtomicBool,
    changed: Notify,
}

impl Pause {
    /// Does one last, or did the last one not end long ago?
    #[inline]
    fn may_last(&self) -> bool {
        self.until_us.load(Ordering::Acquire) > 0
    }

    fn lasts(&self, now_us: u64) -> bool {
        self.until_us.load(Ordering::Acquire) > now_us
    }

    fn set(&self, until_us: u64, everything: bool) {
        self.everything.store(everything, Ordering::Release);
        self.until_us.store(until_us, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until none lasts.
    async fn over(&self, clock: Clock) {
        loop {
            let changed = self.changed.notified();
            let left = self.until_us.load(Ordering::Acquire).saturating_sub(clock.now_us());
            if left == 0 {
                return;
            }
            // Whichever comes first is looked at again.
            let _ = tokio::time::timeout(Duration::from_micros(left), changed).await;
        }
    }
}

/// Does this wait while only writes are held back?
fn writes(s: &Session, carry: Carry) -> bool {
    match carry {
        Carry::Read | Carry::Deadline(_) | Carry::Local(_) | Carry::Refused(_) => false,
        Carry::Transaction(step) => step == Step::Exec && s.transaction.has_writes(),
        _ => true,
    }
}

impl Worker {
    /// Holds a session back whose command must not be served now; `true` if so.
    #[inline]
    pub(in crate::listen) fn held_back(&self, s: &mut Session, carry: Carry) -> bool {
        s.port.group.inspection.pause.may_last() && self.hold_back(s, carry)
    }

    #[cold]
    fn hold_back(&self, s: &mut Session, carry: Carry) -> bool {
        let pause = &s.port.group.inspection.pause;
        let held = pause.everything.load(Ordering::Acquire) || writes(s, carry);
        if !pause.lasts(self.clock.now_us()) || !held || carry == Carry::Local(Local::Client) {
            return false;
        }
        s.postponed = true;
        let (group, clock) = (s.port.group.clone(), self.clock);
        // Who leaves meanwhile is not kept.
        let session = self.session(s.number).map(|session| Rc::downgrade(&session));
        tokio::task::spawn_local(async move {
            group.inspection.pause.over(clock).await;
            if let Some(session) = session.and_then(|session| session.upgrade()) {
                let mut s = session.borrow_mut();
                s.postponed = false;
                s.client.wake();
            }
        });
        true
    }
}

/// Answers `CLIENT PAUSE milliseconds [WRITE|ALL]`.
pub fn pause(worker: &Worker, s: &mut Session, args: Args) {
    let everything = match args.get(3) {
        None => true,
        Some(mode) if mode.eq_ignore_ascii_case(b"all") => true,
        Some(mode) if mode.eq_ignore_ascii_case(b"write") => false,
        Some(_) => return s.error("ERR CLIENT PAUSE mode must be WRITE or ALL"),
    };
    match args.get(2).and_then(integer) {
        None => s.error("ERR timeout is not an integer or out of range"),
        Some(ms) if ms < 0 => s.error("ERR timeout is negative"),
        Some(ms) => {
            let until_us = worker.clock.now_us().saturating_add((ms as u64).saturating_mul(1000));
            s.port.group.inspection.pause.set(until_us, everything);
            s.answer(Bytes::from_static(b"+OK\r\n"));
        }
    }
}

/// Answers `CLIENT UNPAUSE`.
pub fn unpause(s: &mut Session) {
    s.port.group.inspection.pause.set(0, false);
    s.answer(Bytes::from_static(b"+OK\r\n"));
}
