//! What can go wrong with a journal, in sentences an operator can act on.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder cannot be made, listed or locked.
    #[error("the journal folder {0} cannot be used: {1}")]
    Folder(PathBuf, io::Error),
    /// Another process has this group's journal open.
    #[error("the journal is in use by another process, which holds {0}")]
    Locked(PathBuf),
    /// No space left where the file is.
    #[error("the disk is full: the journal file {0} cannot grow; free some space")]
    Full(PathBuf),
    /// The file system or SQLite failed; its own words.
    #[error("the journal file {file} cannot be used: {what}")]
    File {
        /// The file.
        file: PathBuf,
        /// What was said.
        what: String,
    },
    /// The file in use is no longer in its folder: what was written since is lost.
    #[error("the journal file {0} was removed or replaced while in use")]
    Removed(PathBuf),
    /// The journal starts later.
    #[error("the journal does not reach back that far (oldest entry: {})", oldest.map_or("none".into(), |seq| seq.to_string()))]
    Gone {
        /// The oldest number held.
        oldest: Option<u64>,
    },
    /// What is in the file is not what was written.
    #[error("the journal file {file} is damaged: {what}")]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Too many reads are waiting; ask again.
    #[error("too many journal reads are waiting")]
    Busy,
    /// The queue is over its limit: the disk cannot keep up.
    #[error("{0} bytes wait for the journal's disk, which is over the limit; it cannot keep up")]
    Overloaded(usize),
    /// The journal has ended.
    #[error("the journal is closed")]
    Closed,
}

impl JournalError {
    /// Puts an error of SQLite's in words.
    pub(super) fn database(file: &Path, error: sqlx::Error) -> Self {
        let file = file.to_path_buf();
        let code = match &error {
            sqlx::Error::Database(error) => error.code().and_then(|code| code.parse().ok()).unwrap_or(0),
            _ => 0,
        };
        match code {
            FULL => Self::Full(file),
            IOERR_FSYNC | IOERR_DIR_FSYNC => {
                Self::File { file, what: format!("sync failed, what was written last may be lost ({error})") }
            }
            _ if matches!(code & 0xff, CORRUPT | NOTADB) => Self::Corrupt { file, what: error.to_string() },
            _ => Self::File { file, what: error.to_string() },
        }
    }

    /// An error of the file system.
    pub(super) fn io(file: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull => Self::Full(file.to_path_buf()),
            _ => Self::File { file: file.to_path_buf(), what: error.to_string() },
        }
    }
}

// SQLite's result codes.
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const NOTADB: i32 = 26;
const IOERR_FSYNC: i32 = 1034;
const IOERR_DIR_FSYNC: i32 = 1290;
