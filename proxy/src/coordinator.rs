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
    /// The name under which this coordinator's owners are known; always the same.
    fn identity(&self) -> impl Future<Output = Result<String, CoordinatorError>>;
    /// A new epoch for a group, above `seen` and above every epoch given before. If the greatest owner seen is
    /// `foreign`, the recorded in-sync set is no longer known.
    fn acquire(
        &self,
        group: &str,
        seen: u64,
        foreign: bool,
    ) -> impl Future<Output = Result<u64, CoordinatorError>>;
    /// Records that the group has a log: from then on blank backends are not taken for new ones.
    fn served(&self, group: &str) -> impl Future<Output = Result<(), CoordinatorError>>;
    /// Records which replicas hold every acknowledged write, by name, for the owner of `epoch`. `false` when that is
    /// not the owner any more.
    fn record_in_sync(
        &self,
        group: &str,
        epoch: u64,
        members: &[String],
    ) -> impl Future<Output = Result<bool, CoordinatorError>>;
    /// The set recorded last; `None` when it is not known.
    fn in_sync(&self, group: &str) -> impl Future<Output = Result<Option<Vec<String>>, CoordinatorError>>;
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
                     served INTEGER NOT NULL DEFAULT 0, in_sync TEXT) STRICT";
        sqlx::query(table).execute(&pool).await.map_err(failed)?;
        let table =
            "CREATE TABLE IF NOT EXISTS identity (one INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT";
        sqlx::query(table).execute(&pool).await.map_err(failed)?;
        // A database of the time before there were in-sync sets.
        let columns = "SELECT 1 FROM pragma_table_info('owner') WHERE name = 'in_sync'";
        if sqlx::query(columns).fetch_optional(&pool).await.map_err(failed)?.is_none() {
            let add = "ALTER TABLE owner ADD COLUMN in_sync TEXT";
            sqlx::query(add).execute(&pool).await.map_err(failed)?;
        }
        Ok(Self { pool, file: file.clone() })
    }

    fn failed(&self) -> impl Fn(sqlx::Error) -> CoordinatorError + '_ {
        |error| CoordinatorError::Database(self.file.clone(), error)
    }
}

impl Coordinator for LocalCoordinator {
    async fn identity(&self) -> Result<String, CoordinatorError> {
        let make = "INSERT INTO identity (one, name) VALUES (1, lower(hex(randomblob(8)))) \
                    ON CONFLICT (one) DO UPDATE SET name = name RETURNING name";
        let row = sqlx::query(make).fetch_one(&self.pool).await.map_err(self.failed())?;
        Ok(row.get(0))
    }

    async fn acquire(&self, group: &str, seen: u64, foreign: bool) -> Result<u64, CoordinatorError> {
        let next = "INSERT INTO owner (name, epoch) VALUES (?1, ?2 + 1) \
                    ON CONFLICT (name) DO UPDATE SET epoch = max(owner.epoch, ?2) + 1, \
                    in_sync = CASE WHEN ?3 OR ?2 > owner.epoch THEN NULL ELSE in_sync END RETURNING epoch";
        let seen = i64::try_from(seen).unwrap_or(i64::MAX - 1);
        let next = sqlx::query(next).bind(group).bind(seen).bind(foreign);
        let row = next.fetch_one(&self.pool).await.map_err(self.failed())?;
        Ok(row.get::<i64, _>(0) as u64)
    }

    async fn served(&self, group: &str) -> Result<(), CoordinatorError> {
        let mark = "UPDATE owner SET served = 1 WHERE name = ?1";
        sqlx::query(mark).bind(group).execute(&self.pool).await.map_err(self.failed())?;
        Ok(())
    }

    async fn record_in_sync(
        &self,
        group: &str,
        epoch: u64,
        members: &[String],
    ) -> Result<bool, CoordinatorError> {
        // Names hold no spaces: the configuration sees to that.
        let set = "UPDATE owner SET in_sync = ?3 WHERE name = ?1 AND epoch = ?2";
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        let done = sqlx::query(set).bind(group).bind(epoch).bind(members.join(" ")).execute(&self.pool);
        Ok(done.await.map_err(self.failed())?.rows_affected() == 1)
    }

    async fn in_sync(&self, group: &str) -> Result<Option<Vec<String>>, CoordinatorError> {
        let ask = "SELECT in_sync FROM owner WHERE name = ?1";
        let row = sqlx::query(ask).bind(group).fetch_optional(&self.pool).await.map_err(self.failed())?;
        let text = row.and_then(|row| row.get::<Option<String>, _>(0));
        Ok(text.map(|text| text.split_whitespace().map(str::to_string).collect()))
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
        assert_eq!(first.acquire("g", 0, false).await.expect("epoch"), 1);
        assert_eq!(first.acquire("g", 0, false).await.expect("epoch"), 2);
        assert_eq!(first.acquire("g", 40, false).await.expect("epoch"), 41);
        assert!(!first.has_served("g").await.expect("answer"));
        first.served("g").await.expect("recorded");
        let name = first.identity().await.expect("a name");
        drop(first);
        let second = LocalCoordinator::open(dir.path()).await.expect("opens");
        assert_eq!(second.identity().await.expect("a name"), name);
        assert_eq!(second.acquire("g", 3, false).await.expect("epoch"), 42);
        assert!(second.has_served("g").await.expect("answer"));
        assert_eq!(second.acquire("other", 0, false).await.expect("epoch"), 1);
    }

    #[tokio::test]
    async fn the_in_sync_set_is_known_until_somebody_else_owned_the_group() {
        let dir = tempfile::tempdir().expect("a folder");
        let coordinator = LocalCoordinator::open(dir.path()).await.expect("opens");
        let epoch = coordinator.acquire("g", 0, false).await.expect("epoch");
        assert_eq!(coordinator.in_sync("g").await.expect("answer"), None);
        let members = vec!["r1".to_string(), "r3".to_string()];
        assert!(coordinator.record_in_sync("g", epoch, &members).await.expect("recorded"));
        assert!(!coordinator.record_in_sync("g", epoch - 1, &[]).await.expect("answer"), "not the owner");
        coordinator.acquire("g", epoch, false).await.expect("epoch");
        assert_eq!(coordinator.in_sync("g").await.expect("answer"), Some(members.clone()));
        coordinator.acquire("g", 40, false).await.expect("epoch");
        assert_eq!(coordinator.in_sync("g").await.expect("answer"), None, "somebody had epoch 40");
        let epoch = coordinator.acquire("g", 0, false).await.expect("epoch");
        assert!(coordinator.record_in_sync("g", epoch, &members).await.expect("recorded"));
        // Tried in vain, while somebody else took the very number that was tried.
        let tried = coordinator.acquire("g", epoch, false).await.expect("epoch");
        coordinator.acquire("g", tried, true).await.expect("epoch");
        assert_eq!(coordinator.in_sync("g").await.expect("answer"), None, "it was another's epoch");
    }
}
