//! The journal's thread: takes what queued, commits it as one, tells what became of it.
//!
//! After a failure it records nothing until the files were opened anew, and says so.

use super::file::Opening;
use super::folder::Folder;
use super::pending::Pending;
use super::queue::{Queue, Taken};
use super::read::{self, Order, Request};
use super::store::{Fault, Store};
use super::{JournalError, JournalEvent, JournalSettings, Notify};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// Lookups handed to the reader before the worker answers that it is busy.
const LOOKUPS: usize = 64;

/// What tests put their hands on.
#[derive(Clone)]
pub(super) struct Hooks {
    /// Milliseconds since 1970.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Pages that a file may have; 0 is no limit.
    pub max_pages: Arc<AtomicU32>,
    /// Pause between two looks at what can be dropped.
    pub tick: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        let clock = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        };
        Self { clock: Arc::new(clock), max_pages: Arc::default(), tick: Duration::from_secs(1) }
    }
}

/// A failure that has not been got over.
struct Failure {
    /// The files are suspect: open them anew. Otherwise only the queue ran over.
    reopen: bool,
    /// Entries to be removed before anything else.
    cut: Option<u64>,
    /// The least number whose retraction is to be confirmed.
    retract: Option<u64>,
    retry_at: Instant,
}

pub(super) struct Worker {
    queue: Arc<Queue>,
    notify: Notify,
    folder: Arc<Folder>,
    settings: JournalSettings,
    hooks: Hooks,
    store: Store,
    failure: Option<Failure>,
    lookups: Sender<Order>,
    reader: JoinHandle<()>,
    faults: (UnboundedSender<Fault>, UnboundedReceiver<Fault>),
}

impl Worker {
    /// Opens the files; gives remarks on what was found wrong with them.
    pub(super) async fn open(
        queue: Arc<Queue>,
        notify: Notify,
        folder: Folder,
        settings: JournalSettings,
        hooks: Hooks,
    ) -> Result<(Self, Vec<String>), JournalError> {
        let folder = Arc::new(folder);
        let faults = mpsc::unbounded_channel();
        let opened =
            Store::open(folder.clone(), settings.clone(), opening(&settings, &hooks), faults.0.clone());
        let (store, remarks) = opened.await?;
        queue.publish(store.span());
        let (lookups, asked) = mpsc::channel(LOOKUPS);
        // Readers are not held to the limits of a writer.
        let reading = Opening { sync: settings.sync, max_pages: 0 };
        let reader = tokio::spawn(read::serve(reading, asked));
        let failure = None;
        Ok((
            Self { queue, notify, folder, settings, hooks, store, failure, lookups, reader, faults },
            remarks,
        ))
    }

    /// Serves the queue until it closes, and what is in it then.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.hooks.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let queue = self.queue.clone();
        loop {
            tokio::select! {
                _ = queue.bell.notified() => {}
                _ = ticks.tick() => self.tick().await,
                Some(fault) = self.faults.1.recv() => self.fault(fault),
            }
            let taken = queue.take();
            let closing = taken.closing;
            self.serve(taken).await;
            if closing {
                break;
            }
        }
        // With the answers that are still owed.
        drop(self.lookups);
        let _ = self.reader.await;
        self.store.let_go().await;
    }

    async fn serve(&mut self, taken: Taken) {
        let pending = Pending::new(taken.commands);
        if self.failure.is_none() {
            match self.commit(&pending).await {
                Ok(()) => self.tend(taken.released).await,
                Err(error) => {
                    self.fail(error, true);
                    self.owe(&pending);
                }
            }
        } else {
            self.owe(&pending);
        }
        self.queue.done(taken.bytes);
        if let Some(bytes) = taken.overload.filter(|_| self.failure.is_none()) {
            self.fail(JournalError::Overloaded(bytes), false);
        }
        pending.reads.into_iter().for_each(|request| self.look_up(request));
    }

    /// Does the work, and tells of each step that is done.
    async fn commit(&mut self, pending: &Pending) -> Result<(), JournalError> {
        if let Some(from) = pending.cut {
            self.store.cut(from).await?;
            self.queue.publish(self.store.span());
        }
        let dropped = self.store.append(&pending.entries, (self.hooks.clock)()).await?;
        self.queue.publish(self.store.span());
        self.tell_dropped(dropped);
        pending.retracts.iter().for_each(|&from| (self.notify)(JournalEvent::Retracted { from }));
        if let Some(last) = pending.entries.last() {
            (self.notify)(JournalEvent::Durable { through: last.position });
        }
        Ok(())
    }

    /// Begins and drops files as need be. What was reported durable stays so if that fails.
    async fn tend(&mut self, released: u64) {
        let dropped = self.store.tend(released, (self.hooks.clock)()).await;
        self.queue.publish(self.store.span());
        match dropped {
            Ok(dropped) => self.tell_dropped(dropped),
            Err(error) => self.fail(error, true),
        }
    }

    /// Leaves to the recovery what could not be done. What was to be appended is lost, and what it was to
    /// supersede must not stay.
    fn owe(&mut self, pending: &Pending) {
        let Some(failure) = &mut self.failure else { return };
        let first = pending.entries.first().map(|entry| entry.position.seq);
        failure.cut = [failure.cut, pending.cut, first].into_iter().flatten().min();
        failure.retract = failure.retract.into_iter().chain(pending.retracts.iter().copied()).min();
    }

    fn tell_dropped(&self, dropped: Option<u64>) {
        if let Some(through) = dropped {
            (self.notify)(JournalEvent::Dropped { through });
        }
    }

    async fn tick(&mut self) {
        match &self.failure {
            Some(failure) if Instant::now() >= failure.retry_at => self.recover().await,
            Some(_) => {}
            None => match self.store.inspect() {
                Ok(lost) => {
                    self.queue.publish(self.store.span());
                    self.tell_dropped(lost);
                }
                Err(error) => self.fail(error, true),
            },
        }
    }

    /// A checkpoint failed: what the database file holds is uncertain from then on.
    fn fault(&mut self, (path, error): Fault) {
        if self.failure.is_none() && self.store.writes(&path) {
            self.fail(error, true);
        }
    }

    fn fail(&mut self, error: JournalError, reopen: bool) {
        self.queue.deafen();
        if matches!(error, JournalError::Removed(_)) {
            self.store.forget_current();
        }
        self.queue.publish(self.store.span());
        let retry_at = Instant::now() + self.settings.retry;
        self.failure = Some(Failure { reopen, cut: None, retract: None, retry_at });
        (self.notify)(JournalEvent::Failed { error: error.to_string() });
    }

    /// Tries to record again. A failure that lasts is not told twice.
    async fn recover(&mut self) {
        let Some(mut failure) = self.failure.take() else { return };
        match self.restore(&mut failure).await {
            Ok(seen) => self.resume(failure, seen),
            Err(error) => {
                tracing::debug!(%error, "the journal cannot go on yet");
                (failure.reopen, failure.retry_at) = (true, Instant::now() + self.settings.retry);
                self.failure = Some(failure);
            }
        }
    }

    /// Finds out what the files hold, removes what was retracted or superseded meanwhile, and takes appends again.
    /// Gives the last number seen.
    async fn restore(&mut self, failure: &mut Failure) -> Result<u64, JournalError> {
        let before = self.queue.span();
        if failure.reopen {
            self.let_go().await;
            let opening = opening(&self.settings, &self.hooks);
            let opened =
                Store::open(self.folder.clone(), self.settings.clone(), opening, self.faults.0.clone());
            let (store, remarks) = opened.await?;
            self.store = store;
            remarks.iter().for_each(|remark| tracing::warn!("{remark}"));
        }
        if let Some(from) = failure.cut {
            self.store.cut(from).await?;
        }
        let seen = loop {
            match self.queue.listen() {
                Ok(seen) => break seen,
                Err(lost) => {
                    failure.cut = Some(failure.cut.map_or(lost, |cut| cut.min(lost)));
                    self.store.cut(lost).await?
                }
            }
        };
        let span = self.store.span();
        self.queue.publish(span);
        let lost = before.and_then(|before| match span {
            Some(span) => (span.oldest.seq > before.oldest.seq).then(|| span.oldest.seq - 1),
            None => Some(before.newest.seq),
        });
        self.tell_dropped(lost);
        Ok(seen.unwrap_or(span.map_or(0, |span| span.newest.seq)))
    }

    /// Closes everything: a connection that is left could see the files otherwise than a new one.
    async fn let_go(&mut self) {
        let (done, closed) = oneshot::channel();
        if self.lookups.send(Order::LetGo(done)).await.is_ok() {
            let _ = closed.await;
        }
        self.store.let_go().await;
    }

    fn resume(&mut self, failure: Failure, seen: u64) {
        (self.notify)(JournalEvent::Recovered { from: seen.saturating_add(1) });
        if let Some(from) = failure.retract {
            (self.notify)(JournalEvent::Retracted { from });
        }
    }

    fn look_up(&self, request: Request) {
        match self.store.find(&request) {
            Ok(Some(parts)) => match self.lookups.try_reserve() {
                Ok(place) => place.send(Order::Find(request.at(parts))),
                Err(_) => (request.reply)(Err(JournalError::Busy)),
            },
            Ok(None) => (request.reply)(Ok(Vec::new())),
            Err(error) => (request.reply)(Err(error)),
        }
    }
}

fn opening(settings: &JournalSettings, hooks: &Hooks) -> Opening {
    Opening { sync: settings.sync, max_pages: hooks.max_pages.load(Ordering::Relaxed) }
}
