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

/// Compares the list with that of the last start, and keeps it where there was none. A group that was always alone keeps
/// nothing; `served` tells whether it ever had data.
pub fn hold(dir: &Path, group: &str, groups: &[String], served: bool) -> Result<(), RecordError> {
    let file = dir.join(format!("keys.{group}"));
    let failed = |error| RecordError::File { file: file.clone(), error };
    let was: Vec<String> = match std::fs::read_to_string(&file) {
        Ok(text) => text.lines().map(String::from).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && groups.len() < 2 => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && served => vec![group.into()],
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A torn file would be a list of other groups.
            let new = dir.join(format!("keys.{group}.new"));
            std::fs::write(&new, groups.join("\n")).map_err(failed)?;
            return std::fs::rename(&new, &file).map_err(failed);
        }
        Err(error) => return Err(failed(error)),
    };
    if was == groups {
        return Ok(());
    }
    Err(RecordError::Changed { group: group.into(), was, now: groups.to_vec(), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_one_of_the_last_start() {
        let dir = tempfile::tempdir().expect("a folder");
        let hold = |groups: &[&str], served: bool| {
            let groups: Vec<String> = groups.iter().map(|group| group.to_string()).collect();
            hold(dir.path(), "a", &groups, served)
        };
        hold(&["a"], true).expect("one group is nothing to remember");
        hold(&["a", "b"], true).expect_err("it has keys that would be b's");
        hold(&["a", "b"], false).expect("it is the first");
        hold(&["a", "b"], true).expect("it is the same");
        for other in [&["b", "a"][..], &["a", "b", "c"], &["a"]] {
            let error = hold(other, true).expect_err("keys would be lost").to_string();
            assert!(error.contains("keys.a"), "{error}");
        }
    }
}
