//! The outbox of a worker for one group: commands of many sessions on their way to the sequencer.

use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{Access, Buckets, Burst, Cancel, Role, Submission, Timed};
use std::sync::Arc;

/// A burst takes no further command beyond these, so that entries can be cut between bursts.
const BURST_COMMANDS: u32 = 128;
const BURST_BYTES: usize = 32 << 10;
/// Replies to reads may be large, and those of one burst are held together.
const BURST_READS: u32 = 32;
/// Commands from this size on are passed on as they lie in the read buffer.
pub const LARGE: usize = 32 << 10;

/// What the commands of a burst have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Reads or writes.
    pub access: Access,
    /// The sequencer's number of the plan.
    pub plan: u16,
    /// Protocol version of the replies.
    pub dialect: u8,
    /// Alone, and stamped in log order.
    pub stamp: bool,
    /// May touch any key.
    pub everything: bool,
    /// Some command needs memory.
    pub grows: bool,
    /// It runs on one replica first.
    pub leads: bool,
    /// A backend is short of memory: what needs it shares no burst with what does not.
    pub apart: bool,
}

impl Kind {
    /// What asks for nothing special.
    pub const fn plain(access: Access, plan: u16, dialect: u8) -> Self {
        Self {
            access,
            plan,
            dialect,
            stamp: false,
            everything: false,
            grows: false,
            leads: false,
            apart: false,
        }
    }
}

#[derive(Debug)]
struct Draft {
    session: u32,
    ticket: u64,
    commands: u32,
    kind: Kind,
    /// Its part of the shared payload, or a payload of its own.
    range: (usize, usize),
    own: Option<Bytes>,
    buckets: (u32, u32),
    timed: Vec<Timed>,
    role: Role,
}

/// Collects until the worker flushes.
#[derive(Debug, Default)]
pub struct Outbox {
    payload: BytesMut,
    buckets: Vec<u16>,
    timed: Vec<Timed>,
    drafts: Vec<Draft>,
    cancels: Vec<Cancel>,
}

impl Outbox {
    /// Nothing collected?
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.cancels.is_empty()
    }

    /// Somebody waits no more.
    pub fn cancel(&mut self, cancel: Cancel) {
        self.cancels.push(cancel);
    }

    /// Bucket of a key of the command that is added next.
    #[inline]
    pub fn bucket(&mut self, bucket: u16) {
        self.buckets.push(bucket);
    }

    /// A key that the command that is added next gives a deadline.
    pub fn timed(&mut self, timed: Timed) {
        self.timed.push(timed);
    }

    /// The command that was about to be added is not: its keys do not count.
    pub fn drop_keys(&mut self) {
        self.timed.clear();
        self.buckets.truncate(self.drafts.last().map_or(0, |draft| draft.buckets.1 as usize));
    }

    /// Adds a command to the burst `ticket` if that is still the last one and of the same kind.
    #[inline]
    pub fn extend(&mut self, session: u32, ticket: u64, kind: Kind, command: &[u8]) -> bool {
        let Some(last) = self.drafts.last_mut() else { return false };
        let most = if kind.access == Access::Read { BURST_READS } else { BURST_COMMANDS };
        let fits = last.commands < most && last.range.1 - last.range.0 + command.len() <= BURST_BYTES;
        let alike = last.kind == Kind { grows: last.kind.grows, ..kind }
            && (last.kind.grows == kind.grows || !kind.apart);
        if last.session != session || last.ticket != ticket || !alike || kind.stamp || !fits {
            return false;
        }
        if last.own.is_some() || command.len() >= LARGE {
            return false;
        }
        self.payload.extend_from_slice(command);
        last.range.1 = self.payload.len();
        last.commands += 1;
        last.kind.grows |= kind.grows;
        last.buckets.1 = self.buckets.len() as u32;
        last.timed.append(&mut self.timed);
        true
    }

    /// Begins a burst of `commands` commands. The buckets pushed since the last burst are its own.
    pub fn begin(&mut self, session: u32, ticket: u64, kind: Kind, commands: u32, payload: Payload) {
        self.begin_as(session, ticket, kind, commands, payload, Role::Plain);
    }

    /// The same for a burst that is more than a run of commands; nothing may join it.
    pub fn begin_as(
        &mut self,
        session: u32,
        ticket: u64,
        kind: Kind,
        commands: u32,
        payload: Payload,
        role: Role,
    ) {
        let start = self.payload.len();
        let own = match payload {
            Payload::Copy(bytes) => {
                self.payload.extend_from_slice(bytes);
                None
            }
            Payload::Own(bytes) => Some(bytes),
        };
        let range = (start, self.payload.len());
        let from = self.drafts.last().map_or(0, |last| last.buckets.1);
        let buckets = (from, self.buckets.len() as u32);
        let timed = std::mem::take(&mut self.timed);
        self.drafts.push(Draft { session, ticket, commands, kind, range, own, buckets, timed, role });
    }

    /// Everything collected, as of `now_us`.
    pub fn take(&mut self, now_us: u64) -> Submission {
        let payload = self.payload.split().freeze();
        let buckets: Arc<[u16]> = Arc::from(self.buckets.as_slice());
        self.buckets.clear();
        let finish = |draft: Draft| Burst {
            session: draft.session,
            ticket: draft.ticket,
            commands: draft.commands,
            access: draft.kind.access,
            plan: draft.kind.plan,
            dialect: draft.kind.dialect,
            stamp: draft.kind.stamp,
            everything: draft.kind.everything,
            grows: draft.kind.grows,
            leads: draft.kind.leads,
            payload: draft.own.unwrap_or_else(|| payload.slice(draft.range.0..draft.range.1)),
            buckets: Buckets::new(buckets.clone(), draft.buckets.0..draft.buckets.1),
            timed: draft.timed,
            arrived_us: now_us,
            role: draft.role,
        };
        Submission {
            bursts: self.drafts.drain(..).map(finish).collect(),
            cancels: std::mem::take(&mut self.cancels),
        }
    }
}

/// The bytes of a new burst.
#[derive(Debug)]
pub enum Payload<'a> {
    /// To be copied.
    Copy(&'a [u8]),
    /// Large, and kept as it is.
    Own(Bytes),
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Kind = Kind::plain(Access::Write, 0, 2);

    #[test]
    fn commands_of_one_session_and_kind_share_a_burst() {
        let mut outbox = Outbox::default();
        outbox.bucket(1);
        outbox.begin(7, 1, WRITE, 1, Payload::Copy(b"one"));
        outbox.bucket(2);
        assert!(outbox.extend(7, 1, WRITE, b"two"));
        assert!(!outbox.extend(8, 1, WRITE, b"x"), "another session");
        assert!(!outbox.extend(7, 1, Kind { access: Access::Read, ..WRITE }, b"x"), "another kind");
        outbox.bucket(3);
        outbox.begin(8, 1, WRITE, 1, Payload::Own(Bytes::from_static(b"big")));
        let bursts = outbox.take(5).bursts;
        assert_eq!(bursts[0].payload.as_ref(), b"onetwo");
        assert_eq!(bursts[0].commands, 2);
        assert_eq!(bursts[0].buckets.iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(bursts[1].payload.as_ref(), b"big");
        assert_eq!(bursts[1].buckets.iter().collect::<Vec<_>>(), [3]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_needs_memory_has_a_burst_of_its_own_only_while_memory_is_short() {
        for apart in [false, true] {
            let mut outbox = Outbox::default();
            let frees = Kind { apart, ..WRITE };
            let grows = Kind { grows: true, ..frees };
            outbox.begin(1, 1, frees, 1, Payload::Copy(b"x"));
            assert!(outbox.extend(1, 1, frees, b"x"));
            assert_eq!(outbox.extend(1, 1, grows, b"x"), !apart);
            assert_eq!(outbox.take(5).bursts[0].grows, !apart);
        }
    }

    #[test]
    fn a_burst_is_bounded() {
        let mut outbox = Outbox::default();
        outbox.begin(1, 1, WRITE, 1, Payload::Copy(b"x"));
        let added = (0..1000).take_while(|_| outbox.extend(1, 1, WRITE, b"x")).count();
        assert_eq!(added, BURST_COMMANDS as usize - 1);
    }
}
