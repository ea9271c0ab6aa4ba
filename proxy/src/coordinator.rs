//! Who owns a group, under which epoch. One proxy keeps this in SQLite.
//!
//! Epochs only grow. They are made unique by the fence in the backends, not by this file: an
//! empty state folder is harmless.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Row, SqlitePool};
use std::path::{Path, PathBuf};

/// The state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The folder cannot be made.
    #[error("the state folder {0} cannot be created: {1}")]
    Folder(PathBuf, std::io::Error),
    /// SQLite's own words.
    #[error("the state database {0} cannot be used: {1}")]
    Database(PathBuf, sqlx::Error),
}

/// What a proxy asks of whoever keeps ownership.
pub trait Coordinator {
    /// A new epoch for a group, above `seen` and above every epoch given before.
    fn acquire(&self, group: &str, seen: u64) -> impl Future<Output = Result<u64, CoordinatorError>>;
    /// Records that the group has a log: from then on blank backends are not taken for new ones.
    fn served(&self, group: &str) -> impl Future<Output = Result<(), CoordinatorError>>;
    /// Was [`Self::served`] ever recorded?
    fn has_served(&self, group: &str) -> impl Future<Output = Result<bool, CoordinatorError>>;
}

/// The coordinator of a single proxy: `state.db` in its state folder.
#[derive(Debug, Clone)]
pub struct LocalCoordinator {
    pool: SqlitePool,
    file: PathBuf,
}

impl LocalCoordinator {
    /// Opens or creates the database.
    pub async fn open(dir: &Path) -> Result<Self, CoordinatorError> {
        std::fs::create_dir_all(dir).map_err(|error| CoordinatorError::Folder(dir.to_path_buf(), error))?;
        let file = dir.join("state.db");
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let failed = |error| CoordinatorError::Database(file.clone(), error);
        let pool = SqlitePool::connect_with(options).await.map_err(failed)?;
        let table = "CREATE TABLE IF NOT EXISTS owner (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, \
                     served INTEGER NOT NULL DEFAULT 0) STRICT";
        sqlx::query(table).execute(&pool).await.map_err(failed)?;
        Ok(Self { pool, file: file.clone() })
    }

    fn failed(&self) -> impl Fn(sqlx::Error) -> CoordinatorError + '_ {
        |error| CoordinatorError::Database(self.file.clone(), error)
    }
}

impl Coordinator for LocalCoordinator {
    async fn acquire(&self, group: &str, seen: u64) -> Result<u64, CoordinatorError> {
        let next = "INSERT INTO owner (name, epoch) VALUES (?1, ?2 + 1) \
                    ON CONFLICT (name) DO UPDATE SET epoch = max(owner.epoch, ?2) + 1 RETURNING epoch";
        let seen = i64::try_from(seen).unwrap_or(i64::MAX - 1);
        let row =
            sqlx::query(next).bind(group).bind(seen).fetch_one(&self.pool).await.map_err(self.failed())?;
        Ok(row.get::<i64, _>(0) as u64)
    }

    async fn served(&self, group: &str) -> Result<(), CoordinatorError> {
        let mark = "UPDATE owner SET served = 1 WHERE name = ?1";
        sqlx::query(mark).bind(group).execute(&self.pool).await.map_err(self.failed())?;
        Ok(())
    }

    async fn has_served(&self, group: &str) -> Result<bool, CoordinatorError> {
        let ask = "SELECT served FROM owner WHERE name = ?1";
        let row = sqlx::query(ask).bind(group).fetch_optional(&self.pool).await.map_err(self.failed())?;
        Ok(row.is_some_and(|row| row.get::<i64, _>(0) != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn epochs_only_grow_and_survive_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = LocalCoordinator::open(dir.path()).await.expect("opens");
        assert_eq!(first.acquire("g", 0).await.expect("epoch"), 1);
        assert_eq!(first.acquire("g", 0).await.expect("epoch"), 2);
        assert_eq!(first.acquire("g", 40).await.expect("epoch"), 41);
        assert!(!first.has_served("g").await.expect("answer"));
        first.served("g").await.expect("recorded");
        drop(first);
        let second = LocalCoordinator::open(dir.path()).await.expect("opens");
        assert_eq!(second.acquire("g", 3).await.expect("epoch"), 42);
        assert!(second.has_served("g").await.expect("answer"));
        assert_eq!(second.acquire("other", 0).await.expect("epoch"), 1);
    }
}
