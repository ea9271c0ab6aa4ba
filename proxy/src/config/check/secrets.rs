//! Secrets, from variables and files. Their values appear in no message.

use super::super::load::reason;
use super::super::place::Place;
use super::super::raw::{At, RawSecret};
use super::super::report::Problem;
use super::super::secret::Secret;
use super::super::suggest::brief;
use super::Check;
use std::fs::File;
use std::io::Read;

/// The largest secret, in bytes.
const MAX_SECRET: u64 = 64 << 10;

impl Check<'_> {
    /// The value that a secret stands for.
    pub(super) fn secret(&mut self, path: &str, secret: At<RawSecret>) -> Option<Secret> {
        let At { value: RawSecret { env, file }, place } = secret;
        match (env, file) {
            (Some(name), None) => self.variable(&name),
            (None, Some(file)) => self.file(&file),
            (None, None) if self.complained(path) => None,
            (both, _) => {
                self.neither(path, both.is_some(), place);
                None
            }
        }
    }

    fn complained(&self, path: &str) -> bool {
        ["env", "file"].iter().any(|key| self.dropped.contains(&format!("{path}.{key}")))
    }

    fn neither(&mut self, path: &str, both: bool, place: Place) {
        let problem = match both {
            true => Problem::error("C018", format!("{} is given by env and by file", brief(path))),
            false => Problem::error("C007", format!("{} has neither env nor file", brief(path))),
        };
        self.add(problem.at(place).help("write { env = \"NAME\" } or { file = \"PATH\" }"));
    }

    fn variable(&mut self, name: &At<String>) -> Option<Secret> {
        let problem = match (self.env)(&name.value) {
            Some(value) if !value.is_empty() => return Some(Secret::new(value)),
            Some(_) => format!("the environment variable {} is empty", brief(&name.value)),
            None => format!("the environment variable {} is not set", brief(&name.value)),
        };
        self.add(Problem::error("C016", problem).at(name.place));
        None
    }

    fn file(&mut self, file: &At<String>) -> Option<Secret> {
        let path = self.report.sources().base_dir().join(&file.value);
        let problem = match read(&path) {
            Ok(value) if !value.is_empty() => return Some(Secret::new(value)),
            Ok(_) => format!("the secret file {} is empty", brief(&file.value)),
            Err(why) => format!("the secret file {} cannot be read: {why}", brief(&file.value)),
        };
        self.add(Problem::error("C016", problem).at(file.place));
        None
    }
}

fn read(path: &std::path::Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| reason(&error))?;
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err("it is larger than 64 KiB".into());
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_string())
}
