//! Reading entries back, on a connection of its own, so that no reader holds up the writer.
//!
//! What is handed out was verified: checksum, numbers, chain hash.

use super::batch::follows;
use super::file::{self, Found, Opening};
use super::{JournalError, ReadReply};
use quorate_core::ordered::Entry;
use sqlx::{Connection, SqliteConnection};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

/// What is asked of a journal.
pub(super) struct Request {
    /// Number of the first entry.
    pub from: u64,
    /// Bytes of payload.
    pub max_bytes: usize,
    pub reply: ReadReply,
}

/// A request and where to look, oldest file first.
pub(super) struct Lookup {
    pub request: Request,
    pub parts: Vec<Part>,
}

/// What the reader is told.
pub(super) enum Order {
    Find(Lookup),
    /// Close all files, then say so: they are about to be opened anew.
    LetGo(oneshot::Sender<()>),
}

/// Rows of one file.
pub(super) struct Part {
    pub path: PathBuf,
    pub ids: (i64, i64),
}

/// Answers lookups one after the other, until the journal ends.
pub(super) async fn serve(opening: Opening, mut orders: Receiver<Order>) {
    let mut reader = Reader { opening, open: None };
    while let Some(order) = orders.recv().await {
        match order {
            Order::Find(Lookup { request, parts }) => {
                let result = reader.collect(request.from, request.max_bytes, &parts).await;
                if result.is_err() {
                    reader.close().await;
                }
                (request.reply)(result);
            }
            Order::LetGo(done) => {
                reader.close().await;
                let _ = done.send(());
            }
        }
    }
    reader.close().await;
}

struct Reader {
    opening: Opening,
    /// The file read last stays open: the next request mostly goes on there.
    open: Option<(PathBuf, SqliteConnection)>,
}

impl Reader {
    /// Entries from `from` on. Damage is reported when nothing good comes before it.
    async fn collect(&mut self, from: u64, max: usize, parts: &[Part]) -> Result<Vec<Entry>, JournalError> {
        let mut taken = Taken { from, room: max, entries: Vec::new() };
        for part in parts {
            match self.part(part, &mut taken).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if !taken.entries.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        match parts.first().filter(|_| taken.entries.is_empty()) {
            Some(part) => Err(JournalError::Corrupt {
                file: part.path.clone(),
                what: format!("entry {from} is missing"),
            }),
            None => Ok(taken.entries),
        }
    }

    /// Reads one file; says whether there is room for more.
    async fn part(&mut self, part: &Part, taken: &mut Taken) -> Result<bool, JournalError> {
        let path = &part.path;
        let (mut next, last) = part.ids;
        let opening = self.opening.clone();
        let conn = self.connection(path, &opening).await?;
        while next <= last {
            let budget = taken.room as u64;
            let found = file::read(conn, next, last, budget).await;
            let found = found.map_err(|error| JournalError::database(path, error))?;
            let Some((id, _)) = found.last() else { break };
            next = next.max(*id).saturating_add(1);
            for row in found {
                if !taken.take(path, row)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn connection(
        &mut self,
        path: &Path,
        opening: &Opening,
    ) -> Result<&mut SqliteConnection, JournalError> {
        let conn = match self.open.take() {
            // A deleted file could still be read, but is no longer part of the journal.
            Some((open, conn)) if open == path && path.exists() => conn,
            other => {
                self.open = other;
                self.close().await;
                opening.connect(path).await?
            }
        };
        Ok(&mut self.open.insert((path.to_path_buf(), conn)).1)
    }

    async fn close(&mut self) {
        if let Some((_, conn)) = self.open.take() {
            let _ = conn.close().await;
        }
    }
}

/// The entries collected so far.
struct Taken {
    from: u64,
    room: usize,
    entries: Vec<Entry>,
}

impl Taken {
    /// Takes what fits of a row; says whether there is room for more.
    fn take(&mut self, path: &Path, (_, batch): Found) -> Result<bool, JournalError> {
        let corrupt = |what| JournalError::Corrupt { file: path.to_path_buf(), what };
        for entry in batch.map_err(corrupt)?.entries {
            let seq = entry.position.seq;
            match self.entries.last() {
                None if seq < self.from => continue,
                None if seq > self.from => return Err(corrupt(format!("entry {} is missing", self.from))),
                Some(before) if !follows(before.position, &entry) => {
                    return Err(corrupt(format!("entry {seq} does not follow the one before")));
                }
                Some(_) if entry.len() > self.room => return Ok(false),
                _ => {}
            }
            self.room = self.room.saturating_sub(entry.len());
            self.entries.push(entry);
        }
        Ok(self.room > 0)
    }
}
