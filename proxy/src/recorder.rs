//! A group's journal as its driver uses it: what the core wants recorded goes there, and what the
//! journal has to say comes back through the worker's letter box.

use crate::config::{Durability, Group};
use crate::journal::{Journal, JournalError, JournalEvent, JournalSettings, SqliteJournal, SyncLevel};
use crate::worker::{Mail, Mailbox};
use quorate_core::ordered::{Entry, Journaling, Record, Recorded};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Bytes read at once when the newest entries are looked for.
const CHUNK: usize = 4 << 20;

/// What a journal says to the owner of its group.
#[derive(Debug)]
pub enum News {
    /// Something happened to it.
    Event(JournalEvent),
    /// It was read for a replica.
    Read {
        /// Index of the replica.
        replica: usize,
        /// From this number on.
        from: u64,
        /// What came of it.
        result: Result<Vec<Entry>, JournalError>,
    },
}

/// See the module's head.
pub struct Recorder {
    journal: Arc<SqliteJournal>,
    group: usize,
    owner: Arc<Mailbox>,
}

impl Clone for Recorder {
    fn clone(&self) -> Self {
        Self { journal: self.journal.clone(), group: self.group, owner: self.owner.clone() }
    }
}

/// What a group shall record.
pub fn journaling(group: &Group, replicas: usize) -> Journaling {
    match group.durability {
        Durability::Journal => Journaling::Log,
        Durability::Replicas if group.hints && replicas > 1 => Journaling::Hints,
        Durability::Replicas => Journaling::None,
    }
}

impl Recorder {
    /// Opens the journal of group number `index`, and says what was found wrong with it. Waits for the disk.
    ///
    /// Errors: those of [`SqliteJournal::open`].
    pub fn open(
        dir: &Path,
        group: &Group,
        index: usize,
        owner: Arc<Mailbox>,
    ) -> Result<(Self, Vec<String>), JournalError> {
        let sync = match group.durability {
            Durability::Journal => SyncLevel::Full,
            Durability::Replicas => SyncLevel::Normal,
        };
        let settings = JournalSettings {
            sync,
            max_bytes: group.journal_size,
            max_age: group.journal_age,
            // Memory must not let go of what still waits for the disk.
            queue_bytes: usize::try_from(group.log_memory / 4).unwrap_or(usize::MAX).min(64 << 20),
            ..JournalSettings::default()
        };
        let letters = owner.clone();
        let notify = Box::new(move |event| letters.post(Mail::Journal(index, News::Event(event))));
        let (journal, remarks) = SqliteJournal::open(dir, &group.name, settings, notify)?;
        Ok((Self { journal: Arc::new(journal), group: index, owner }, remarks))
    }

    /// Where the journal stands.
    pub fn stands(&self, failed: bool) -> Recorded {
        let span = self.journal.span();
        let (oldest, newest) = span.map_or((0, Default::default()), |span| (span.oldest.seq, span.newest));
        Recorded { oldest, newest, failed }
    }

    /// Does what the core wants.
    pub fn record(&self, record: Record) {
        match record {
            Record::Append(entries) => self.journal.append(entries),
            Record::Retract(from) => self.journal.retract(from),
            Record::Release(through) => self.journal.release(through),
            Record::Read { replica, from, bytes } => self.read(replica, from, bytes),
        }
    }

    fn read(&self, replica: usize, from: u64, bytes: usize) {
        let (group, owner) = (self.group, self.owner.clone());
        let reply = move |result| owner.post(Mail::Journal(group, News::Read { replica, from, result }));
        self.journal.read(from, bytes, Box::new(reply));
    }

    /// The newest entries, at most `bytes` of payload; none when they cannot be read.
    pub async fn newest(&self, bytes: usize) -> Result<Vec<Arc<Entry>>, JournalError> {
        let mut found: VecDeque<Arc<Entry>> = VecDeque::new();
        let mut held = 0;
        let Some(span) = self.journal.span() else { return Ok(Vec::new()) };
        let mut from = span.oldest.seq;
        loop {
            let (reply, answer) = oneshot::channel();
            self.journal.read(from, CHUNK, Box::new(move |result| drop(reply.send(result))));
            let entries = answer.await.map_err(|_| JournalError::Closed)??;
            let Some(last) = entries.last() else { return Ok(found.into()) };
            from = last.position.seq + 1;
            held += entries.iter().map(Entry::len).sum::<usize>();
            found.extend(entries.into_iter().map(Arc::new));
            while held > bytes && found.len() > 1 {
                held -= found.pop_front().map_or(0, |old| old.len());
            }
        }
    }
}
