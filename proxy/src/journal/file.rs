//! One journal file: a SQLite database in WAL mode, a row for each batch, in the order of the log.
//!
//! Rows are added at the end; only a cut takes some away, at the end too. A second connection checkpoints beside
//! the writer, which then does the little that is left: only from a log that was copied whole does SQLite begin
//! again at its start, and to sync what a file has room for takes half as long as to sync a file that grows.

use super::batch::{self, Batch, Row};
use super::{JournalError, SyncLevel, folder};
use quorate_core::ordered::Position;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _, SqliteConnection};
use std::io;
use std::path::{Path, PathBuf};

/// Rows examined by one query at most.
const ROWS: i64 = 512;
/// Bytes of a page. A commit of some kilobytes is one to three of them, where smaller ones would be six.
const PAGE_BYTES: u32 = 16 << 10;
/// Written and removed again in a new file, so that a disk that is all but full is not taken for a good one.
const PROBE_BYTES: i64 = 256 << 10;
/// What a row takes beside its body, about.
pub(super) const ROW_OVERHEAD: u64 = 32;

/// How files are opened.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub sync: SyncLevel,
    /// Pages that a file may have; 0 is no limit. Only tests set one.
    pub max_pages: u32,
}

impl Opening {
    fn options(&self, path: &Path) -> SqliteConnectOptions {
        let sync = match self.sync {
            SyncLevel::Normal => SqliteSynchronous::Normal,
            SyncLevel::Full => SqliteSynchronous::Full,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .synchronous(sync)
            .pragma("wal_autocheckpoint", "0")
            .disable_statement_logging();
        match self.max_pages {
            0 => options,
            pages => options.pragma("max_page_count", pages.to_string()),
        }
    }

    /// Opens a file that exists.
    pub(super) async fn connect(&self, path: &Path) -> Result<SqliteConnection, JournalError> {
        let opened = self.options(path).connect().await;
        opened.map_err(|error| JournalError::database(path, error))
    }

    /// Makes a file, and writes to it to see whether that can be done.
    pub(super) async fn create(&self, path: &Path) -> Result<Writer, JournalError> {
        let failed = |error| JournalError::database(path, error);
        let options = self.options(path).page_size(PAGE_BYTES).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let mut conn = options.connect().await.map_err(failed)?;
        let table = "CREATE TABLE batch (id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, \
                     sum INTEGER NOT NULL, body BLOB NOT NULL) STRICT";
        sqlx::query(table).execute(&mut conn).await.map_err(failed)?;
        // In a table of its own: a crash must not leave a row that looks damaged.
        sqlx::query("CREATE TABLE probe (body BLOB)").execute(&mut conn).await.map_err(failed)?;
        let probe = sqlx::query("INSERT INTO probe VALUES (zeroblob(?1))").bind(PROBE_BYTES);
        probe.execute(&mut conn).await.map_err(failed)?;
        sqlx::query("DROP TABLE probe").execute(&mut conn).await.map_err(failed)?;
        Ok(Writer { conn, path: path.to_path_buf(), inodes: inodes(path)? })
    }
}

/// The connection that adds rows to the newest file.
#[derive(Debug)]
pub(super) struct Writer {
    conn: SqliteConnection,
    path: PathBuf,
    inodes: [u64; 2],
}

impl Writer {
    /// Adds rows in one transaction; gives the id of the last. When this returns they are as durable as asked.
    pub(super) async fn insert(&mut self, rows: Vec<Row>) -> Result<i64, JournalError> {
        let path = self.path.clone();
        let id = insert(&mut self.conn, rows).await.map_err(|error| JournalError::database(&path, error))?;
        self.check().map(|()| id)
    }

    /// Is the file still in its folder?
    pub(super) fn check(&self) -> Result<(), JournalError> {
        match inodes(&self.path) {
            Ok(found) if found == self.inodes => Ok(()),
            _ => Err(JournalError::Removed(self.path.clone())),
        }
    }

    /// Does what a checkpoint of another connection left, so that the write-ahead log begins again at its start.
    pub(super) async fn checkpoint(&mut self) -> Result<(), JournalError> {
        checkpoint(&mut self.conn).await.map_err(|error| JournalError::database(&self.path, error))
    }

    /// Takes away entries from number `from` on; see [`cut`].
    pub(super) async fn cut(&mut self, from: u64, ids: (i64, i64)) -> Result<Cut, JournalError> {
        cut(&mut self.conn, &self.path, from, ids).await
    }

    /// Takes away all entries.
    pub(super) async fn clear(&mut self) -> Result<(), JournalError> {
        let done = sqlx::query("DELETE FROM batch").execute(&mut self.conn).await;
        done.map(drop).map_err(|error| JournalError::database(&self.path, error))
    }

    /// Moves the rows from the write-ahead log to the database, and ends.
    pub(super) async fn close(mut self) {
        let done = checkpoint(&mut self.conn).await;
        if let Err(error) = done.and(self.conn.close().await) {
            // The rows stay in the write-ahead log, where every reader finds them.
            tracing::warn!(file = %self.path.display(), %error, "a journal file keeps its write-ahead log");
        }
    }
}

/// SQLite goes on writing to a file that was deleted: only the folder tells.
fn inodes(path: &Path) -> Result<[u64; 2], JournalError> {
    let failed = |error| JournalError::io(path, error);
    Ok([inode(path).map_err(failed)?, inode(&folder::wal(path)).map_err(failed)?])
}

/// Asks for nothing else: newer kernels note that somebody saw a file's times, change them with the next write
/// then, and have to write them to the disk with the next sync.
#[cfg(target_os = "linux")]
fn inode(path: &Path) -> io::Result<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    Ok(statx(CWD, path, AtFlags::empty(), StatxFlags::INO)?.stx_ino)
}

#[cfg(not(target_os = "linux"))]
fn inode(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|meta| meta.ino())
}

async fn insert(conn: &mut SqliteConnection, rows: Vec<Row>) -> Result<i64, sqlx::Error> {
    // A single statement is a transaction of its own, and costs a third of three.
    if rows.len() == 1 {
        return insert_each(conn, rows).await;
    }
    let mut transaction = conn.begin().await?;
    let id = insert_each(&mut transaction, rows).await?;
    transaction.commit().await?;
    Ok(id)
}

async fn insert_each(conn: &mut SqliteConnection, rows: Vec<Row>) -> Result<i64, sqlx::Error> {
    let mut id = 0;
    for row in rows {
        let insert = sqlx::query("INSERT INTO batch (first, last, sum, body) VALUES (?1, ?2, ?3, ?4)")
            .bind(row.first as i64)
            .bind(row.last as i64)
            .bind(row.sum as i64)
            .bind(row.body);
        id = insert.execute(&mut *conn).await?.last_insert_rowid();
    }
    Ok(id)
}

/// The end of a file after a cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// The newest row.
    pub last_id: i64,
    /// The newest entry.
    pub newest: Position,
}

/// Takes away entries from number `from` on, in one transaction. The entry before is in a row between `ids`.
pub(super) async fn cut(
    conn: &mut SqliteConnection,
    path: &Path,
    from: u64,
    ids: (i64, i64),
) -> Result<Cut, JournalError> {
    let failed = |error| JournalError::database(path, error);
    // A transaction that begins by reading is refused, not kept waiting, when a checkpoint is under way.
    let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let query = "SELECT id, first, last, sum, body FROM batch WHERE id BETWEEN ?1 AND ?2 AND first < ?3 \
                 ORDER BY id DESC LIMIT 1";
    let query = sqlx::query(query).bind(ids.0).bind(ids.1).bind(from as i64);
    let missing =
        || JournalError::Corrupt { file: path.to_path_buf(), what: format!("entry {from} is missing") };
    let row = query.fetch_optional(&mut *transaction).await.map_err(failed)?.ok_or_else(missing)?;
    let (id, batch) = parse(path, &row)?;
    let delete = sqlx::query("DELETE FROM batch WHERE id > ?1").bind(id);
    delete.execute(&mut *transaction).await.map_err(failed)?;
    let keep = batch.entries.iter().take_while(|entry| entry.position.seq < from);
    let newest = keep.clone().last().map(|entry| entry.position).ok_or_else(missing)?;
    if keep.clone().count() < batch.entries.len() {
        let row = batch::encode(keep, batch.created_ms);
        replace(&mut transaction, id, row).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(Cut { last_id: id, newest })
}

async fn replace(conn: &mut SqliteConnection, id: i64, row: Row) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE batch SET last = ?2, sum = ?3, body = ?4 WHERE id = ?1")
        .bind(id)
        .bind(row.last as i64)
        .bind(row.sum as i64)
        .bind(row.body)
        .execute(conn)
        .await
        .map(drop)
}

fn parse(path: &Path, row: &SqliteRow) -> Result<(i64, Batch), JournalError> {
    let (id, batch) = decode(row);
    batch.map(|batch| (id, batch)).map_err(|what| JournalError::Corrupt { file: path.to_path_buf(), what })
}

/// A row's id, and its batch or what is wrong with it.
pub(super) type Found = (i64, Result<Batch, String>);

fn decode(row: &SqliteRow) -> Found {
    let id = row.try_get::<i64, _>(0).unwrap_or(0);
    let number = |column| row.try_get::<i64, _>(column).map(|n| n as u64);
    let read = || {
        Ok::<_, sqlx::Error>(Row {
            first: number(1)?,
            last: number(2)?,
            sum: number(3)?,
            body: row.try_get(4)?,
        })
    };
    let decoded = read().map_err(|error| error.to_string()).and_then(batch::decode);
    (id, decoded.map_err(|what| format!("row {id}: {what}")))
}

/// Ids and body sizes of the next rows from `from` to `to`.
async fn sizes(conn: &mut SqliteConnection, from: i64, to: i64) -> Result<Vec<(i64, u64)>, sqlx::Error> {
    let query = "SELECT id, length(body) FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3";
    let rows = sqlx::query(query).bind(from).bind(to).bind(ROWS).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? as u64))).collect()
}

/// The next rows from `from` to `to`: as many as have bodies of `budget` bytes together, or one. Empty at the end.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    from: i64,
    to: i64,
    budget: u64,
) -> Result<Vec<Found>, sqlx::Error> {
    let sizes = sizes(conn, from, to).await?;
    let mut sum = 0;
    let fits = sizes.iter().take_while(|(_, size)| {
        sum += size;
        sum <= budget
    });
    let count = fits.count().max(1);
    let Some((last, _)) = sizes.get(count - 1) else { return Ok(Vec::new()) };
    let query = "SELECT id, first, last, sum, body FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
    let rows = sqlx::query(query).bind(from).bind(last).fetch_all(conn).await?;
    Ok(rows.iter().map(decode).collect())
}

/// The newest row below `below`, for files that cannot be read from their start.
pub(super) async fn newest(conn: &mut SqliteConnection, below: i64) -> Result<Option<Found>, sqlx::Error> {
    let query = "SELECT id, first, last, sum, body FROM batch WHERE id < ?1 ORDER BY id DESC LIMIT 1";
    Ok(sqlx::query(query).bind(below).fetch_optional(conn).await?.as_ref().map(decode))
}

/// The oldest row above `above`, read alone.
pub(super) async fn oldest(conn: &mut SqliteConnection, above: i64) -> Result<Option<Found>, sqlx::Error> {
    let query = "SELECT id, first, last, sum, body FROM batch WHERE id > ?1 ORDER BY id LIMIT 1";
    Ok(sqlx::query(query).bind(above).fetch_optional(conn).await?.as_ref().map(decode))
}

/// Does the database have the table at all? A file whose making was cut short has none.
pub(super) async fn is_made(conn: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'batch'";
    Ok(sqlx::query(query).fetch_optional(conn).await?.is_some())
}

/// Copies what it can from the write-ahead log to the database, beside the writer.
pub(super) async fn checkpoint(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(conn).await.map(drop)
}
