//! The handle of a journal in SQLite: everything it does is to leave work for the journal's thread.

use super::folder::Folder;
use super::queue::Queue;
use super::read::Request;
use super::worker::{Hooks, Worker};
use super::{Journal, JournalError, JournalSettings, Notify, ReadReply, Span};
use quorate_core::ordered::Entry;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

/// A journal in files `journal-{group}-{number}.db`. Dropping it writes what is queued, and waits for that.
pub struct SqliteJournal {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl SqliteJournal {
    /// Opens or begins the journal of a group, and starts its thread. Also gives, in words, what was found wrong.
    ///
    /// Waits until everything recorded was read and verified. `notify` is called on the journal's thread.
    /// Errors: the folder cannot be used, another process uses the journal, the disk is full.
    pub fn open(
        dir: &Path,
        group: &str,
        settings: JournalSettings,
        notify: Notify,
    ) -> Result<(Self, Vec<String>), JournalError> {
        Self::open_with(dir, group, settings, notify, Hooks::default())
    }

    pub(super) fn open_with(
        dir: &Path,
        group: &str,
        settings: JournalSettings,
        notify: Notify,
        hooks: Hooks,
    ) -> Result<(Self, Vec<String>), JournalError> {
        let failed = |error: io::Error| JournalError::Folder(dir.to_path_buf(), error);
        // SQLite would take a relative path from wherever the process is by then.
        let folder = Folder::open(&std::path::absolute(dir).map_err(failed)?, group)?;
        let queue = Arc::new(Queue::new(settings.queue_bytes));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let (ready, opened) = std::sync::mpsc::sync_channel(1);
        let end = End(queue.clone());
        let work = move || {
            let opening = Worker::open(end.0.clone(), notify, folder, settings, hooks);
            runtime.block_on(serve(opening, ready));
            drop(end);
        };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(work).map_err(failed)?;
        let remarks = opened.recv().map_err(|_| JournalError::Closed)??;
        Ok((Self { queue, thread: Some(thread) }, remarks))
    }
}

/// Reports how the opening went, then works.
async fn serve(
    opening: impl Future<Output = Result<(Worker, Vec<String>), JournalError>>,
    ready: SyncSender<Result<Vec<String>, JournalError>>,
) {
    match opening.await {
        Ok((worker, remarks)) => {
            let _ = ready.send(Ok(remarks));
            worker.run().await;
        }
        Err(error) => {
            let _ = ready.send(Err(error));
        }
    }
}

/// Closes the queue when the thread ends, even by a panic: nobody must wait for an answer.
struct End(Arc<Queue>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Journal for SqliteJournal {
    fn append(&self, entries: Vec<Arc<Entry>>) {
        self.queue.append(entries);
    }

    fn retract(&self, from: u64) {
        self.queue.retract(from);
    }

    fn read(&self, from: u64, max_bytes: usize, reply: ReadReply) {
        self.queue.read(Request { from, max_bytes, reply });
    }

    fn release(&self, through: u64) {
        self.queue.release(through);
    }

    fn span(&self) -> Option<Span> {
        self.queue.span()
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.queue.close();
        // Dropped from within its own callback, it cannot be waited for.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(other) {
            let _ = thread.join();
        }
    }
}
