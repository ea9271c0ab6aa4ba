//! The files of one journal: which there are, which is written, which may go.
//!
//! Files are cut and deleted from the newest end when entries are taken back, and from the oldest when
//! they are no longer owed, so that a crash at any step leaves one unbroken run.

use super::batch::{self, follows};
use super::file::{self, Opening, ROW_OVERHEAD, Writer};
use super::folder::{self, Folder};
use super::read::{Lookup, Part, Request};
use super::scan::{LogFile, Scan};
use super::{JournalError, JournalSettings, Span};
use quorate_core::ordered::{Entry, Position};
use sqlx::{Connection, SqliteConnection};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedSender};
use tokio::task::JoinSet;

/// A batch larger than this is cut into several rows.
const ROW_BYTES: usize = 8 << 20;
/// So many bytes are written between two checkpoints. One takes a core for as long as it has to copy, and clients may
/// wait for that core.
const CHECKPOINT_BYTES: u64 = 256 << 10;

/// A checkpoint that failed, and the file it was for.
pub(super) type Fault = (PathBuf, JournalError);

pub(super) struct Store {
    folder: Arc<Folder>,
    settings: JournalSettings,
    opening: Opening,
    /// Finished files, oldest first; each holds something.
    files: VecDeque<LogFile>,
    current: LogFile,
    /// `None` once the files were let go.
    writer: Option<Writer>,
    /// What the next entry must follow. Known even when the entry itself was dropped.
    head: Option<Position>,
    checkpoints: Checkpoints,
    /// Connections that are ending by themselves.
    ending: JoinSet<()>,
    faults: UnboundedSender<Fault>,
    unchecked: u64,
}

impl Store {
    /// Begins a new file and looks through the others. The new one comes first: while the disk is full, the long
    /// look is spared.
    pub(super) async fn open(
        folder: Arc<Folder>,
        settings: JournalSettings,
        opening: Opening,
        faults: UnboundedSender<Fault>,
    ) -> Result<(Self, Vec<String>), JournalError> {
        let (paths, highest) = folder.list()?;
        let current = LogFile::new(highest + 1, folder.path(highest + 1));
        let writer = create(&folder, &opening, &current.path).await?;
        let scan = match look(&opening, paths).await {
            Ok(scan) => scan,
            Err(error) => {
                drop(writer);
                let _ = folder::remove(&current.path);
                return Err(error);
            }
        };
        let files = VecDeque::from(scan.files);
        let head = files.back().and_then(|file| file.held.as_ref()).map(|held| held.span.newest);
        let mut ending = JoinSet::new();
        let checkpoints = Checkpoints::start(&mut ending, &opening, &current.path, &faults);
        let (writer, unchecked) = (Some(writer), 0);
        let store = Self {
            folder,
            settings,
            opening,
            files,
            current,
            writer,
            head,
            checkpoints,
            ending,
            faults,
            unchecked,
        };
        Ok((store, scan.remarks))
    }

    /// What is held.
    pub(super) fn span(&self) -> Option<Span> {
        let mut held = self.files.iter().chain([&self.current]).filter_map(|file| file.held.as_ref());
        let first = held.next()?.span;
        Some(Span { oldest: first.oldest, newest: held.next_back().map_or(first, |held| held.span).newest })
    }

    /// Records entries, which follow each other. Gives the last number that was dropped for a gap.
    pub(super) async fn append(
        &mut self,
        entries: &[Arc<Entry>],
        now_ms: u64,
    ) -> Result<Option<u64>, JournalError> {
        let Some(first) = entries.first() else { return Ok(None) };
        let seq = first.position.seq;
        if self.head.is_some_and(|head| seq <= head.seq) {
            self.cut(seq).await?;
        }
        let linked = self.head.is_some_and(|head| follows(head, first));
        let gap = !linked && self.span().is_some();
        if gap {
            // In a file of its own, so that what it does not follow can go with its files.
            self.rotate().await?;
        }
        self.insert(entries, now_ms).await?;
        if gap {
            self.drop_finished(usize::MAX)?;
        }
        Ok(gap.then_some(seq.saturating_sub(1)))
    }

    async fn insert(&mut self, entries: &[Arc<Entry>], now_ms: u64) -> Result<(), JournalError> {
        let rows = batch::rows(entries, now_ms, ROW_BYTES);
        let sizes: Vec<_> = rows.iter().map(|row| (row.last, row.body.len() as u64 + ROW_OVERHEAD)).collect();
        let last_id = self.writer()?.insert(rows).await?;
        let mut rest = entries;
        for (i, (last, bytes)) in sizes.iter().enumerate() {
            let (row, after) = rest.split_at(rest.partition_point(|entry| entry.position.seq <= *last));
            rest = after;
            let (Some(a), Some(b)) = (row.first(), row.last()) else { continue };
            let span = Span { oldest: a.position, newest: b.position };
            self.current.grow(last_id - (sizes.len() - 1 - i) as i64, span, now_ms, *bytes);
            self.unchecked += bytes;
        }
        self.head = entries.last().map(|entry| entry.position);
        if self.unchecked >= CHECKPOINT_BYTES && self.checkpoints.order() {
            self.unchecked = 0;
        }
        Ok(())
    }

    /// Removes entries from number `from` on, the newest first.
    pub(super) async fn cut(&mut self, from: u64) -> Result<(), JournalError> {
        if let Some(held) = self.current.held.as_ref() {
            if held.span.oldest.seq >= from {
                self.writer()?.clear().await?;
                (self.current.held, self.current.bytes) = (None, 0);
            } else if held.span.newest.seq >= from {
                let ids = held.ids(from - 1);
                let cut = self.writer()?.cut(from, ids).await?;
                self.current.shrink(cut);
            }
        }
        while let Some(file) = self.files.back_mut() {
            let Some(held) = file.held.as_ref() else { break };
            if held.span.oldest.seq >= from {
                folder::remove(&file.path)?;
                // Must not come back after what replaces it was written.
                self.folder.sync()?;
                self.files.pop_back();
                continue;
            }
            if held.span.newest.seq >= from {
                let mut conn = self.opening.connect(&file.path).await?;
                let cut = file::cut(&mut conn, &file.path, from, held.ids(from - 1)).await?;
                file.shrink(cut);
                let _ = conn.close().await;
            }
            break;
        }
        if self.head.is_some_and(|head| head.seq >= from) {
            self.head = self.span().map(|span| span.newest);
        }
        Ok(())
    }

    /// Ends a checkpoint, begins a new file when this one is full, and drops files that nobody is owed, or that are
    /// over the bounds. Gives the last number dropped though it may have been owed.
    pub(super) async fn tend(&mut self, released: u64, now_ms: u64) -> Result<Option<u64>, JournalError> {
        if self.checkpoints.copied.swap(false, Ordering::Relaxed) {
            self.writer()?.checkpoint().await?;
        }
        let limit = self.settings.file_bytes.min(self.settings.max_bytes / 2);
        if self.current.held.is_some() && (self.current.bytes >= limit || self.is_old(&self.current, now_ms))
        {
            self.rotate().await?;
        }
        let done = self.files.iter().take_while(|file| newest(file).seq <= released).count();
        self.drop_finished(done)?;
        let mut total: u64 = self.files.iter().chain([&self.current]).map(|file| file.bytes).sum();
        let too_much = |file: &&LogFile| {
            let over = total > self.settings.max_bytes || self.is_old(file, now_ms);
            total -= file.bytes;
            over
        };
        let count = self.files.iter().take_while(too_much).count();
        self.drop_finished(count)
    }

    /// Notices files that someone deleted. Gives the last number that is lost.
    pub(super) fn inspect(&mut self) -> Result<Option<u64>, JournalError> {
        self.writer()?.check()?;
        let lost = self.files.iter().rposition(|file| !file.path.exists());
        self.drop_finished(lost.map_or(0, |index| index + 1))
    }

    fn is_old(&self, file: &LogFile, now_ms: u64) -> bool {
        let age = u64::try_from(self.settings.max_age.as_millis()).unwrap_or(u64::MAX);
        file.held.as_ref().is_some_and(|held| held.newest_ms.saturating_add(age) < now_ms)
    }

    /// Deletes up to `count` finished files, the oldest first; gives the last number in them.
    fn drop_finished(&mut self, count: usize) -> Result<Option<u64>, JournalError> {
        let mut dropped = None;
        for _ in 0..count.min(self.files.len()) {
            let Some(file) = self.files.front() else { break };
            folder::remove(&file.path)?;
            dropped = Some(newest(file).seq);
            self.files.pop_front();
        }
        Ok(dropped)
    }

    /// Begins a new file, unless the newest is still empty.
    async fn rotate(&mut self) -> Result<(), JournalError> {
        if self.current.held.is_none() {
            return Ok(());
        }
        let number = self.current.number + 1;
        let path = self.folder.path(number);
        let writer = create(&self.folder, &self.opening, &path).await?;
        if let Some(done) = self.writer.replace(writer) {
            self.ending.spawn(done.close());
        }
        self.checkpoints = Checkpoints::start(&mut self.ending, &self.opening, &path, &self.faults);
        self.unchecked = 0;
        while self.ending.try_join_next().is_some() {}
        let done = std::mem::replace(&mut self.current, LogFile::new(number, path));
        self.files.push_back(done);
        Ok(())
    }

    /// The newest file is lost: its entries are not claimed any more.
    pub(super) fn forget_current(&mut self) {
        self.current.held = None;
    }

    /// Is this the file being written?
    pub(super) fn writes(&self, path: &Path) -> bool {
        self.current.path == path
    }

    /// Where to look for what is asked. `Ok(None)`: there is nothing newer.
    pub(super) fn find(&self, request: &Request) -> Result<Option<Vec<Part>>, JournalError> {
        let from = request.from;
        let span = self.span();
        if self.head.is_some_and(|head| from > head.seq) || span.is_some_and(|span| from > span.newest.seq) {
            return Ok(None);
        }
        if span.is_none_or(|span| from < span.oldest.seq) {
            return Err(JournalError::Gone { oldest: span.map(|span| span.oldest.seq) });
        }
        let held =
            self.files.iter().chain([&self.current]).filter_map(|file| Some((file, file.held.as_ref()?)));
        let parts = held
            .skip_while(|(_, held)| held.span.newest.seq < from)
            .map(|(file, held)| Part { path: file.path.clone(), ids: held.ids(from) });
        Ok(Some(parts.collect()))
    }

    /// Closes all files; they can still be found, and read.
    pub(super) async fn let_go(&mut self) {
        self.checkpoints = Checkpoints::default();
        if let Some(writer) = self.writer.take() {
            writer.close().await;
        }
        while self.ending.join_next().await.is_some() {}
    }

    fn writer(&mut self) -> Result<&mut Writer, JournalError> {
        self.writer.as_mut().ok_or(JournalError::Closed)
    }
}

impl Request {
    pub(super) fn at(self, parts: Vec<Part>) -> Lookup {
        Lookup { request: self, parts }
    }
}

fn newest(file: &LogFile) -> Position {
    file.held.as_ref().map(|held| held.span.newest).unwrap_or_default()
}

async fn create(folder: &Folder, opening: &Opening, path: &Path) -> Result<Writer, JournalError> {
    let made = match opening.create(path).await {
        Ok(writer) => folder.sync().map(|()| writer),
        Err(error) => Err(error),
    };
    if made.is_err() {
        let _ = folder::remove(path);
    }
    made
}

/// Looks through the files, and puts away those of no use.
async fn look(opening: &Opening, paths: Vec<(u64, PathBuf)>) -> Result<Scan, JournalError> {
    let mut scan = Scan::run(opening, paths).await?;
    for path in &scan.damaged {
        let aside = folder::set_aside(path)?;
        scan.remarks.push(format!("{} was set aside as {}", path.display(), aside.display()));
    }
    scan.useless.iter().try_for_each(|path| folder::remove(path))?;
    Ok(scan)
}

/// Who checkpoints the newest file beside its writer.
#[derive(Default)]
struct Checkpoints {
    /// `None` once the file was let go.
    orders: Option<Sender<()>>,
    /// A checkpoint is done, save what was written meanwhile.
    copied: Arc<AtomicBool>,
}

impl Checkpoints {
    fn start(
        tasks: &mut JoinSet<()>,
        opening: &Opening,
        path: &Path,
        faults: &UnboundedSender<Fault>,
    ) -> Self {
        let (orders, received) = mpsc::channel(1);
        let copied = Arc::new(AtomicBool::new(false));
        tasks.spawn(checkpoint(
            received,
            opening.clone(),
            path.to_path_buf(),
            copied.clone(),
            faults.clone(),
        ));
        Self { orders: Some(orders), copied }
    }

    /// Asks for one; false when it is still busy with the last.
    fn order(&self) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.try_send(()).is_ok())
    }
}

/// Checkpoints one file whenever it is told to, until nobody can tell it any more.
async fn checkpoint(
    mut orders: Receiver<()>,
    opening: Opening,
    path: PathBuf,
    copied: Arc<AtomicBool>,
    faults: UnboundedSender<Fault>,
) {
    let mut open = None;
    while orders.recv().await.is_some() {
        match checkpoint_once(&mut open, &opening, &path).await {
            Ok(()) => copied.store(true, Ordering::Relaxed),
            Err(error) => drop(faults.send((path.clone(), error))),
        }
    }
    if let Some(conn) = open {
        let _ = conn.close().await;
    }
}

async fn checkpoint_once(
    open: &mut Option<SqliteConnection>,
    opening: &Opening,
    path: &Path,
) -> Result<(), JournalError> {
    let conn = match open {
        Some(conn) => conn,
        None => open.insert(opening.connect(path).await?),
    };
    file::checkpoint(conn).await.map_err(|error| JournalError::database(path, error))
}
