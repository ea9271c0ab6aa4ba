//! Where the group's owner leaves work for the journal's thread, without ever waiting for it.
//!
//! Bounded in bytes. Once something had to be left out, everything is, until the worker listens again:
//! otherwise a gap could look like a record.

use super::batch::ENTRY_HEADER;
use super::read::Request;
use super::{JournalError, Span};
use quorate_core::ordered::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Reads that may wait.
const READS: usize = 64;

/// Work for the journal's thread.
pub(super) enum Command {
    Append(Vec<Arc<Entry>>),
    Retract(u64),
    Read(Request),
}

/// Everything that queued.
pub(super) struct Taken {
    pub commands: Vec<Command>,
    /// Bytes of the entries among them; to be given back by [`Queue::done`].
    pub bytes: usize,
    /// So many bytes were waiting when an append had to be left out.
    pub overload: Option<usize>,
    /// Entries up to here may be deleted.
    pub released: u64,
    pub closing: bool,
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// Rung when there is something to do.
    pub bell: Notify,
    limit: usize,
}

#[derive(Default)]
struct Inner {
    commands: Vec<Command>,
    reads: usize,
    queued: usize,
    /// Bytes that the worker took and has not written.
    in_work: usize,
    /// Appends are left out.
    deaf: bool,
    overload: Option<usize>,
    /// The last number that was appended, or would have been.
    seen: Option<u64>,
    /// The least number of an append that was left out: what the files hold from there on was superseded.
    lost: Option<u64>,
    released: u64,
    closing: bool,
    closed: bool,
    span: Option<Span>,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { inner: Mutex::default(), bell: Notify::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change under this lock is complete at each step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, entries: Vec<Arc<Entry>>) {
        let Some((first, last)) = ends(&entries) else { return };
        let bytes = size(&entries);
        let mut inner = self.lock();
        inner.seen = Some(last);
        if inner.deaf || inner.closed {
            return inner.lose(first);
        }
        let waiting = inner.queued + inner.in_work;
        // An entry larger than the limit must be possible when nothing else waits.
        if waiting > 0 && waiting + bytes > self.limit {
            inner.deaf = true;
            inner.overload = Some(waiting + bytes);
            inner.lose(first);
        } else {
            inner.queued += bytes;
            inner.commands.push(Command::Append(entries));
        }
        drop(inner);
        self.bell.notify_one();
    }

    pub(super) fn retract(&self, from: u64) {
        let mut inner = self.lock();
        let before = from.saturating_sub(1);
        inner.seen = inner.seen.map(|seen| seen.min(before));
        if !inner.closed {
            inner.commands.push(Command::Retract(from));
        }
        drop(inner);
        self.bell.notify_one();
    }

    pub(super) fn read(&self, request: Request) {
        let mut inner = self.lock();
        let refusal = match () {
            _ if inner.closed => Some(JournalError::Closed),
            _ if inner.reads >= READS => Some(JournalError::Busy),
            _ => None,
        };
        let Some(refusal) = refusal else {
            inner.reads += 1;
            inner.commands.push(Command::Read(request));
            drop(inner);
            return self.bell.notify_one();
        };
        drop(inner);
        (request.reply)(Err(refusal));
    }

    /// Rings no bell: deleting can wait.
    pub(super) fn release(&self, through: u64) {
        let mut inner = self.lock();
        inner.released = inner.released.max(through);
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.bell.notify_one();
    }

    pub(super) fn span(&self) -> Option<Span> {
        self.lock().span
    }
}

/// The worker's side.
impl Queue {
    pub(super) fn take(&self) -> Taken {
        let mut inner = self.lock();
        let bytes = std::mem::take(&mut inner.queued);
        inner.in_work += bytes;
        inner.reads = 0;
        Taken {
            commands: std::mem::take(&mut inner.commands),
            bytes,
            overload: inner.overload.take(),
            released: inner.released,
            closing: inner.closing,
        }
    }

    /// These bytes wait no longer.
    pub(super) fn done(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.in_work = inner.in_work.saturating_sub(bytes);
    }

    pub(super) fn publish(&self, span: Option<Span>) {
        self.lock().span = span;
    }

    /// Leaves out all appends from now on, and those that wait.
    pub(super) fn deafen(&self) {
        let mut inner = self.lock();
        inner.deaf = true;
        inner.overload = None;
        inner.queued = 0;
        // Taken out to be freed after the lock is: they may be many.
        let (lost, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.commands)
            .into_iter()
            .partition(|command| matches!(command, Command::Append(_)));
        inner.commands = kept;
        lost.iter().filter_map(Command::first).for_each(|first| inner.lose(first));
        drop(inner);
        drop(lost);
    }

    /// Takes appends again; gives the last number seen. Refuses while the files may hold what an append that was
    /// left out supersedes, and gives that one's number: cut there first.
    pub(super) fn listen(&self) -> Result<Option<u64>, u64> {
        let mut inner = self.lock();
        match inner.lost.take() {
            Some(first) => Err(first),
            None => {
                inner.deaf = false;
                Ok(inner.seen)
            }
        }
    }

    /// Nobody serves the queue any more: refuses the reads that wait, and everything to come.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.queued = 0;
        let commands = std::mem::take(&mut inner.commands);
        drop(inner);
        for command in commands {
            if let Command::Read(request) = command {
                (request.reply)(Err(JournalError::Closed));
            }
        }
    }
}

impl Inner {
    fn lose(&mut self, first: u64) {
        self.lost = Some(self.lost.map_or(first, |lost| lost.min(first)));
    }
}

impl Command {
    /// The number of the first entry of an append.
    fn first(&self) -> Option<u64> {
        match self {
            Command::Append(entries) => ends(entries).map(|(first, _)| first),
            _ => None,
        }
    }
}

/// The least number and the last: an append may hold more than one run.
fn ends(entries: &[Arc<Entry>]) -> Option<(u64, u64)> {
    let first = entries.iter().map(|entry| entry.position.seq).min()?;
    Some((first, entries.last()?.position.seq))
}

fn size(entries: &[Arc<Entry>]) -> usize {
    entries.iter().map(|entry| ENTRY_HEADER + entry.len()).sum()
}
