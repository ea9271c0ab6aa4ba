//! One client connection: who it is, how it speaks, what it queues and watches.
//! It never touches data; the store does, on its behalf.

use std::collections::BTreeSet;

use super::input::{Args, Input};
use super::table::Command;

/// Names a connection; never reused by the same store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The user every connection starts as.
pub(super) const DEFAULT_USER: &str = "default";

/// The state of one connection.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) user: String,
    pub(super) authenticated: bool,
    pub(super) protocol: u8,
    pub(super) name: Vec<u8>,
    pub(super) last_command: &'static str,
    pub(super) created_ms: u64,
    pub(super) input: Input,
    pub(super) queue: Option<Queue>,
    pub(super) watched: BTreeSet<Vec<u8>>,
    pub(super) watch_broken: bool,
    /// Set to close the connection once the current reply is written.
    pub(super) closing: bool,
}

/// An open MULTI.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) requests: Vec<(&'static Command, Args)>,
    /// A request was refused while queueing: EXEC will apply nothing.
    pub(super) aborted: bool,
}

impl Queue {
    pub(super) fn any(&self, flags: u16) -> bool {
        self.requests.iter().any(|(command, _)| command.has(flags))
    }

    pub(super) fn any_without(&self, flags: u16) -> bool {
        self.requests.iter().any(|(command, _)| !command.has(flags))
    }
}

impl Session {
    pub(super) fn new(id: SessionId, now_ms: u64, authenticated: bool) -> Self {
        Session {
            id,
            user: DEFAULT_USER.into(),
            authenticated,
            protocol: 2,
            name: Vec::new(),
            last_command: "NULL",
            created_ms: now_ms,
            input: Input::default(),
            queue: None,
            watched: BTreeSet::new(),
            watch_broken: false,
            closing: false,
        }
    }

    /// A request was refused: an open transaction can no longer be executed.
    pub(super) fn abort_queue(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.aborted = true;
        }
    }

    pub(super) fn unwatch(&mut self) {
        self.watched.clear();
        self.watch_broken = false;
    }

    /// Ends a transaction, whatever became of it.
    pub(super) fn discard(&mut self) -> Option<Queue> {
        self.unwatch();
        self.queue.take()
    }

    pub(super) fn note_changes(&mut self, keys: &[Vec<u8>]) {
        if !self.watched.is_empty() && keys.iter().any(|key| self.watched.contains(key)) {
            self.watch_broken = true;
        }
    }
}
