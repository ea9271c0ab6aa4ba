//! The names of journal files, and what is done to whole files.
//!
//! A file goes away by its database first: a write-ahead log without its database is never read,
//! while a database without its log could be a state that never was.

use super::JournalError;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const SIDES: [&str; 2] = ["-wal", "-shm"];

/// Where one group's journal lives; locked against other processes for as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    prefix: String,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, and takes the lock.
    pub(super) fn open(dir: &Path, group: &str) -> Result<Self, JournalError> {
        let failed = |error| JournalError::Folder(dir.to_path_buf(), error);
        fs::create_dir_all(dir).map_err(failed)?;
        let prefix = format!("journal-{}-", safe(group));
        let path = dir.join(format!("{prefix}lock"));
        let lock = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_path_buf(), prefix, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(JournalError::Locked(path)),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The path of file `number`.
    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{}{number:04}.db", self.prefix))
    }

    /// Every database of this group by number, and the highest number that any file bears.
    pub(super) fn list(&self) -> Result<(Vec<(u64, PathBuf)>, u64), JournalError> {
        let failed = |error| JournalError::Folder(self.dir.clone(), error);
        let (mut found, mut highest) = (Vec::new(), 0);
        for item in fs::read_dir(&self.dir).map_err(failed)? {
            let name = item.map_err(failed)?.file_name();
            let Some((number, rest)) = name.to_str().and_then(|name| self.parse(name)) else { continue };
            highest = highest.max(number);
            match rest {
                ".db" => found.push((number, self.dir.join(&name))),
                // What a deletion left over that was cut short.
                ".db-wal" | ".db-shm" if !self.path(number).exists() => {
                    fs::remove_file(self.dir.join(&name)).map_err(failed)?
                }
                _ => {}
            }
        }
        found.sort();
        Ok((found, highest))
    }

    /// Number and ending of one of this group's file names.
    fn parse<'a>(&self, name: &'a str) -> Option<(u64, &'a str)> {
        let rest = name.strip_prefix(&self.prefix)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, ending) = rest.split_at(digits);
        let known = ending.starts_with(".db");
        number.parse().ok().filter(|_| known).map(|number| (number, ending))
    }

    /// Makes creations and deletions survive a power loss.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| JournalError::Folder(self.dir.clone(), error))
    }
}

/// Deletes a database and what SQLite put beside it. One that is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), JournalError> {
    let all = std::iter::once(path.to_path_buf()).chain(sides(path));
    for path in all {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(JournalError::io(&path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Renames a damaged database, for someone to look at; gives the new name.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, JournalError> {
    let aside = with_ending(path, ".damaged");
    fs::rename(path, &aside).map_err(|error| JournalError::io(path, error))?;
    for (from, to) in sides(path).zip(sides(&aside)) {
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(JournalError::io(&from, error));
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// The write-ahead log and its index.
fn sides(path: &Path) -> impl Iterator<Item = PathBuf> {
    SIDES.into_iter().map(move |ending| with_ending(path, ending))
}

/// The write-ahead log of a database.
pub(super) fn wal(path: &Path) -> PathBuf {
    with_ending(path, SIDES[0])
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}

/// A group's name as part of a file name: what is not surely harmless is written as %XX.
fn safe(group: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    group.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_name_leaves_the_folder_or_meets_another() {
        let dir = tempfile::tempdir().expect("a folder");
        let names = ["a", "a-0001", "../a", "a/b", "a.db", "", "%61", "ä"];
        let folders: Vec<Folder> =
            names.iter().map(|name| Folder::open(dir.path(), name).expect("a lock of its own")).collect();
        for folder in &folders {
            let path = folder.path(7);
            assert_eq!(path.parent(), Some(dir.path()));
            fs::write(&path, "").expect("a file");
        }
        for folder in &folders {
            assert_eq!(folder.list().expect("a list"), (vec![(7, folder.path(7))], 7));
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Folder::open(dir.path(), "g").expect("the lock");
        assert!(matches!(Folder::open(dir.path(), "g"), Err(JournalError::Locked(_))));
        drop(first);
        Folder::open(dir.path(), "g").expect("the lock is free");
    }

    #[test]
    fn numbers_of_orphaned_logs_are_not_used_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(dir.path(), "g").expect("the lock");
        fs::write(wal(&folder.path(9)), "").expect("a file");
        assert_eq!(folder.list().expect("a list"), (vec![], 9));
        assert!(!wal(&folder.path(9)).exists(), "nobody will ever read it");
    }
}
