//! Which groups a group shares keys with, remembered in the state folder: with another list the same keys would be
//! looked for in other groups than those that have them.

use std::io;
use std::path::{Path, PathBuf};

/// Why a listener must not start with its list of groups.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It had another one.
    #[error(
        "group '{group}' shared the keys of groups {was:?} before, and shares those of {now:?} now: keys would be looked \
         for in other groups than those that have them. Put the list back; or, when the keys were moved or there are none, \
         write the new list into {}, a group a line",
        file.display()
    )]
    Changed {
        /// The group.
        group: String,
        /// The list of old.
        was: Vec<String>,
        /// The list of today.
        now: Vec<String>,
        /// Where the old one is kept.
        file: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("{}: {error}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

/// Compares the list with that of the last start, and keeps it. A group that was always alone keeps nothing; `served`
/// tells of each whether it ever had data: what never had any may be dealt anew.
pub fn hold(dir: &Path, groups: &[String], served: &[bool]) -> Result<(), RecordError> {
    for (group, _) in groups.iter().zip(served).filter(|(_, served)| **served) {
        let (was, file) = (recorded(dir, group)?, path(dir, group));
        if was != groups {
            return Err(RecordError::Changed { group: group.clone(), was, now: groups.to_vec(), file });
        }
    }
    // Only when nothing is wrong with any: a refusal leaves everything as it was.
    groups.iter().try_for_each(|group| record(dir, group, groups))
}

fn path(dir: &Path, group: &str) -> PathBuf {
    dir.join(format!("keys.{group}"))
}

fn recorded(dir: &Path, group: &str) -> Result<Vec<String>, RecordError> {
    let file = path(dir, group);
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(text.lines().map(String::from).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![group.into()]),
        Err(error) => Err(RecordError::File { file, error }),
    }
}

fn record(dir: &Path, group: &str, groups: &[String]) -> Result<(), RecordError> {
    if recorded(dir, group)? == groups {
        return Ok(());
    }
    let (file, new) = (path(dir, group), dir.join(format!("keys.{group}.new")));
    // A torn file would be a list of other groups.
    let written = std::fs::write(&new, groups.join("\n")).and_then(|()| std::fs::rename(&new, &file));
    written.map_err(|error| RecordError::File { file, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_one_of_the_last_start() {
        let dir = tempfile::tempdir().expect("a folder");
        let hold = |groups: &[&str], served: &[bool]| {
            let groups: Vec<String> = groups.iter().map(|group| group.to_string()).collect();
            hold(dir.path(), &groups, served)
        };
        hold(&["a"], &[true]).expect("one group is nothing to remember");
        hold(&["a", "b"], &[true, false]).expect_err("a has keys that would be b's");
        hold(&["c", "a"], &[false, true]).expect_err("the same");
        hold(&["c"], &[true]).expect("the refusal changed nothing");
        hold(&["b", "d"], &[false, false]).expect("it is the first");
        hold(&["d", "b"], &[false, false]).expect("there are no keys yet");
        hold(&["d", "b"], &[true, true]).expect("it is the same");
        for other in [&["b", "d"][..], &["d", "b", "c"], &["b"]] {
            let error = hold(other, &vec![true; other.len()]).expect_err("keys would be lost").to_string();
            assert!(error.contains("keys."), "{error}");
        }
    }
}
