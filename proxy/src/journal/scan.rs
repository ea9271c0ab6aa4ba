//! What a folder of journal files holds: the longest unbroken run that ends at the newest readable entry.
//!
//! Every row is read and verified. What is not in the run is told in words, never claimed.

use super::batch::{Batch, ENTRY_HEADER, follows};
use super::file::{self, Found, Opening, ROW_OVERHEAD};
use super::{JournalError, Span};
use quorate_core::ordered::Position;
use sqlx::{Connection, SqliteConnection};
use std::path::PathBuf;

/// Bodies read by one query.
const CHUNK: u64 = 8 << 20;
/// Bodies held while a damaged file is read from its end.
const BACKWARD: usize = 64 << 20;
/// One row is remembered for so many bytes, to find an entry without reading the whole file.
const MARK_BYTES: u64 = 64 << 10;

/// A journal file and its part of the log.
#[derive(Debug)]
pub(super) struct LogFile {
    pub number: u64,
    pub path: PathBuf,
    /// `None`: no entry of the log.
    pub held: Option<Held>,
    /// Bytes of all rows.
    pub bytes: u64,
    damaged: bool,
}

/// The entries of the log that a file holds.
#[derive(Debug)]
pub(super) struct Held {
    pub span: Span,
    /// The row of the newest entry.
    pub last_id: i64,
    /// When the newest was recorded, in milliseconds since 1970.
    pub newest_ms: u64,
    /// First entry and id of some rows, in order; the oldest entry's row is among them.
    marks: Vec<(u64, i64)>,
    since_mark: u64,
}

impl LogFile {
    pub(super) fn new(number: u64, path: PathBuf) -> Self {
        Self { number, path, held: None, bytes: 0, damaged: false }
    }

    /// Notes a row that follows the newest.
    pub(super) fn grow(&mut self, id: i64, span: Span, created_ms: u64, bytes: u64) {
        self.bytes += bytes;
        let fresh =
            Held { span, last_id: id, newest_ms: created_ms, marks: Vec::new(), since_mark: MARK_BYTES };
        let held = self.held.get_or_insert(fresh);
        if held.since_mark >= MARK_BYTES {
            held.marks.push((span.oldest.seq, id));
            held.since_mark = 0;
        }
        held.since_mark += bytes;
        (held.span.newest, held.last_id, held.newest_ms) = (span.newest, id, created_ms);
    }

    /// Notes that entries after `cut.newest` are gone.
    pub(super) fn shrink(&mut self, cut: file::Cut) {
        if let Some(held) = &mut self.held {
            (held.span.newest, held.last_id) = (cut.newest, cut.last_id);
            held.marks.retain(|(_, id)| *id <= cut.last_id);
            held.since_mark = MARK_BYTES;
        }
    }
}

impl Held {
    /// Rows between which entry `seq` is, if it is here.
    pub(super) fn ids(&self, seq: u64) -> (i64, i64) {
        let after = self.marks.partition_point(|(first, _)| *first <= seq);
        let start = self.marks.get(after.saturating_sub(1)).map_or(0, |(_, id)| *id);
        (start, self.last_id)
    }
}

/// The outcome of looking through a folder.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The files of the run, oldest first.
    pub files: Vec<LogFile>,
    /// Files that hold nothing of use.
    pub useless: Vec<PathBuf>,
    /// Files that hold nothing of use, but may have.
    pub damaged: Vec<PathBuf>,
    /// What was found wrong.
    pub remarks: Vec<String>,
    head: Option<Position>,
}

impl Scan {
    /// Reads the files, in order of their numbers. Fails where one cannot be opened for another reason than damage.
    pub(super) async fn run(opening: &Opening, paths: Vec<(u64, PathBuf)>) -> Result<Self, JournalError> {
        let mut scan = Self::default();
        for (number, path) in paths {
            let mut file = LogFile::new(number, path);
            scan.read(opening, &mut file).await?;
            scan.place(file);
        }
        Ok(scan)
    }

    async fn read(&mut self, opening: &Opening, file: &mut LogFile) -> Result<(), JournalError> {
        let mut conn = match opening.connect(&file.path).await {
            Err(JournalError::Corrupt { what, .. }) => {
                self.damage(file, what);
                return Ok(());
            }
            other => other?,
        };
        match file::is_made(&mut conn).await {
            Ok(true) => self.rows(&mut conn, file).await,
            Ok(false) => {}
            Err(error) => self.damage(file, error.to_string()),
        }
        let _ = conn.close().await;
        Ok(())
    }

    async fn rows(&mut self, conn: &mut SqliteConnection, file: &mut LogFile) {
        let mut next = 0;
        loop {
            match file::read(conn, next, i64::MAX, CHUNK).await {
                Ok(found) if found.is_empty() => return,
                Ok(found) => found.into_iter().for_each(|found| self.row(file, &mut next, found)),
                Err(_) => return self.rows_one_by_one(conn, file, next).await,
            }
        }
    }

    /// Goes on from row `next` until something cannot be read, then tries from the end.
    async fn rows_one_by_one(&mut self, conn: &mut SqliteConnection, file: &mut LogFile, mut next: i64) {
        loop {
            match file::oldest(conn, next.saturating_sub(1)).await {
                Ok(Some(found)) => self.row(file, &mut next, found),
                Ok(None) => return,
                Err(error) => break self.damage(file, error.to_string()),
            }
        }
        let (mut found, mut below, mut held) = (Vec::new(), i64::MAX, 0);
        while let Ok(Some(row)) = file::newest(conn, below).await {
            if row.0 < next || row.0 >= below || held > BACKWARD {
                break;
            }
            below = row.0;
            held += row.1.as_ref().map_or(0, Batch::len);
            found.push(row);
        }
        found.into_iter().rev().for_each(|row| self.row(file, &mut next, row));
    }

    /// Adds a row to the run, or begins the run anew where it does not follow.
    fn row(&mut self, file: &mut LogFile, next: &mut i64, (id, batch): Found) {
        // A damaged tree can give rows twice or out of order: go forward whatever it says.
        *next = (*next).max(id).saturating_add(1);
        let batch = match batch {
            Ok(batch) => batch,
            Err(what) => return self.damage(file, what),
        };
        let (Some(first), Some(last)) = (batch.entries.first(), batch.entries.last()) else { return };
        if self.head.is_some_and(|head| !follows(head, first)) {
            self.restart(file, first.position);
        }
        let span = Span { oldest: first.position, newest: last.position };
        file.grow(id, span, batch.created_ms, batch.len() as u64 + ROW_OVERHEAD);
        self.head = Some(last.position);
    }

    /// What came before does not connect: it cannot be fed to anyone.
    fn restart(&mut self, file: &mut LogFile, at: Position) {
        let oldest = self.files.iter().chain([&*file]).find_map(|file| file.held.as_ref());
        if let (Some(held), Some(head)) = (oldest, self.head) {
            let (from, to) = (held.span.oldest.seq, head.seq);
            let name = file.path.display();
            self.remarks.push(format!(
                "entries {from} to {to} are dropped: entry {} in {name} does not follow them",
                at.seq
            ));
        }
        file.held = None;
        for file in std::mem::take(&mut self.files) {
            self.discard(file);
        }
    }

    fn damage(&mut self, file: &mut LogFile, what: String) {
        // One remark a file says enough.
        if !file.damaged {
            self.remarks.push(format!("the journal file {} is damaged: {what}", file.path.display()));
        }
        file.damaged = true;
    }

    fn place(&mut self, file: LogFile) {
        match file.held {
            Some(_) => self.files.push(file),
            None => self.discard(file),
        }
    }

    fn discard(&mut self, file: LogFile) {
        match file.damaged {
            true => self.damaged.push(file.path),
            false => self.useless.push(file.path),
        }
    }
}

impl Batch {
    /// Bytes of the row, about.
    fn len(&self) -> usize {
        self.entries.iter().map(|entry| ENTRY_HEADER + entry.len()).sum()
    }
}
