//! Which groups a listener dealt its keys to, remembered in the state folder: with another list the same keys would be
//! looked for in other groups than those that have them.

use std::io;
use std::path::{Path, PathBuf};

/// Why a listener must not start with its list of groups.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It had another one.
    #[error(
        "listener '{listener}' had groups = {was:?} before, and has {now:?} now: keys would be looked for in other \
         groups than those that have them. Put the list back; or remove {} when the keys were moved, or when \
         there are none",
        file.display()
    )]
    Changed {
        /// The listener.
        listener: String,
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

/// Compares the list with that of the last start, and keeps it where there was none. A listener that always had one
/// group keeps nothing.
pub fn hold(dir: &Path, listener: &str, groups: &[String]) -> Result<(), RecordError> {
    let file = dir.join(format!("groups.{listener}"));
    let failed = |error| RecordError::File { file: file.clone(), error };
    let was: Vec<String> = match std::fs::read_to_string(&file) {
        Ok(text) => text.lines().map(String::from).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && groups.len() < 2 => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A torn file would be a list of other groups.
            let new = dir.join(format!("groups.{listener}.new"));
            std::fs::write(&new, groups.join("\n")).map_err(failed)?;
            return std::fs::rename(&new, &file).map_err(failed);
        }
        Err(error) => return Err(failed(error)),
    };
    if was == groups {
        return Ok(());
    }
    Err(RecordError::Changed { listener: listener.into(), was, now: groups.to_vec(), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_one_of_the_last_start() {
        let dir = tempfile::tempdir().expect("a folder");
        let hold = |groups: &[&str]| {
            hold(dir.path(), "main", &groups.iter().map(|group| group.to_string()).collect::<Vec<_>>())
        };
        hold(&["a"]).expect("one group is nothing to remember");
        hold(&["a", "b"]).expect("it is the first");
        hold(&["a", "b"]).expect("it is the same");
        for other in [&["b", "a"][..], &["a", "b", "c"], &["a"]] {
            let error = hold(other).expect_err("keys would be lost").to_string();
            assert!(error.contains("groups.main"), "{error}");
        }
    }
}
