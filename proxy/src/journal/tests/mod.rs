//! Tests of the whole journal, through its handle, on real files. Nothing here sleeps: events have deadlines.

mod faults;
mod fuzz;
mod log;
mod speed;

use super::worker::Hooks;
use super::*;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

const DEADLINE: Duration = Duration::from_secs(60);
const START: Position = Position { epoch: 0, seq: 0, hash: 0 };

/// A folder, and how journals are opened in it.
struct Rig {
    dir: tempfile::TempDir,
    settings: JournalSettings,
    hooks: Hooks,
    now_ms: Arc<AtomicU64>,
}

impl Rig {
    fn new() -> Self {
        let now_ms = Arc::new(AtomicU64::new(1_000_000));
        let clock = now_ms.clone();
        let hooks = Hooks {
            clock: Arc::new(move || clock.load(Ordering::Relaxed)),
            tick: Duration::from_millis(5),
            ..Hooks::default()
        };
        let settings = JournalSettings {
            sync: SyncLevel::Normal,
            retry: Duration::from_millis(5),
            ..JournalSettings::default()
        };
        Self { dir: tempfile::tempdir().expect("a folder"), settings, hooks, now_ms }
    }

    fn open(&self) -> Open {
        self.open_in(self.dir.path())
    }

    fn open_in(&self, dir: &Path) -> Open {
        let (sender, events) = channel();
        let notify = Box::new(move |event| drop(sender.send(event)));
        let opened = SqliteJournal::open_with(dir, "g", self.settings.clone(), notify, self.hooks.clone());
        let (journal, remarks) = opened.expect("opens");
        Open { journal, events, remarks }
    }

    fn files(&self) -> Vec<PathBuf> {
        databases(self.dir.path())
    }
}

fn databases(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).expect("a folder").map(|item| item.expect("a file").path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "db")).collect();
    found.sort();
    found
}

/// An open journal.
struct Open {
    journal: SqliteJournal,
    events: Receiver<JournalEvent>,
    remarks: Vec<String>,
}

impl Open {
    /// The next event that `wanted` takes; those before it are passed over, but not a failure.
    fn wait<T>(&self, what: &str, mut wanted: impl FnMut(&JournalEvent) -> Option<T>) -> T {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).unwrap_or_else(|_| panic!("no {what}"));
            if let Some(found) = wanted(&event) {
                return found;
            }
            assert!(!matches!(event, JournalEvent::Failed { .. }), "{event:?} instead of {what}");
        }
    }

    fn wait_durable(&self, position: Position) {
        self.wait("durable", |event| (*event == JournalEvent::Durable { through: position }).then_some(()))
    }

    fn wait_failed(&self) -> String {
        self.wait("failure", |event| match event {
            JournalEvent::Failed { error } => Some(error.clone()),
            _ => None,
        })
    }

    fn wait_recovered(&self) -> u64 {
        self.wait("recovery", |event| match event {
            JournalEvent::Recovered { from } => Some(*from),
            _ => None,
        })
    }

    fn wait_dropped(&self) -> u64 {
        self.wait("drop", |event| match event {
            JournalEvent::Dropped { through } => Some(*through),
            _ => None,
        })
    }

    /// Appends, and waits until it is recorded.
    fn put(&self, entries: &[Arc<Entry>]) {
        self.journal.append(entries.to_vec());
        self.wait_durable(entries.last().expect("some").position);
    }

    fn retract(&self, from: u64) {
        self.journal.retract(from);
        self.wait("retraction", |event| (*event == JournalEvent::Retracted { from }).then_some(()));
    }

    fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Entry>, JournalError> {
        let (sender, answer) = channel();
        self.journal.read(from, max_bytes, Box::new(move |result| drop(sender.send(result))));
        answer.recv_timeout(DEADLINE).expect("an answer")
    }

    /// Everything held, in reads of some entries.
    fn all(&self) -> Vec<Entry> {
        let Some(span) = self.journal.span() else { return Vec::new() };
        let mut entries: Vec<Entry> = Vec::new();
        while entries.last().is_none_or(|last| last.position != span.newest) {
            let next = entries.last().map_or(span.oldest.seq, |last| last.position.seq + 1);
            let more = self.read(next, 5_000).expect("what the span says");
            assert!(!more.is_empty(), "entry {next} of {span:?} is missing");
            entries.extend(more);
        }
        assert_eq!(entries[0].position, span.oldest);
        entries
    }

    /// Holds exactly these.
    fn expect(&self, entries: &[Arc<Entry>]) {
        let found = self.all();
        let positions = |entries: Vec<Position>| entries.iter().map(Position::to_string).collect::<Vec<_>>();
        assert_eq!(
            positions(found.iter().map(|entry| entry.position).collect()),
            positions(entries.iter().map(|entry| entry.position).collect())
        );
        found.iter().zip(entries).for_each(|(found, entry)| expect_equal(found, entry));
    }
}

fn expect_equal(found: &Entry, entry: &Entry) {
    assert_eq!(found.position, entry.position);
    assert_eq!(found.payload.concat(), entry.payload.concat());
    let rest = |entry: &Entry| (entry.commands, entry.dialect, entry.trim, entry.elided, entry.whole.clone());
    assert_eq!(rest(found), rest(entry));
}

/// An entry that follows `before`.
fn entry(before: Position, epoch: u64, payload: Vec<Bytes>) -> Arc<Entry> {
    let position = before.next(epoch, &payload);
    Arc::new(Entry {
        position,
        commands: payload.len() as u32,
        payload,
        dialect: 3,
        trim: 7,
        elided: false,
        whole: vec![],
    })
}

/// `count` entries that follow `before`, each with `size` bytes.
fn chain(before: Position, epoch: u64, count: usize, size: usize) -> Vec<Arc<Entry>> {
    let mut last = before;
    let mut next = |i: usize| {
        let entry = entry(last, epoch, vec![vec![b'a' + (i % 26) as u8; size].into()]);
        last = entry.position;
        entry
    };
    (0..count).map(&mut next).collect()
}

fn head(entries: &[Arc<Entry>]) -> Position {
    entries.last().map_or(START, |entry| entry.position)
}
