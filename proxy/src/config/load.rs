//! From a file to a configuration: reading, parsing, and the two passes in turn.

use super::check;
use super::model::Config;
use super::place::{Place, Sources};
use super::raw::RawConfig;
use super::report::{Problem, Report};
use super::{Env, redact, shape};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

/// The largest configuration file, in bytes.
pub const MAX_FILE_BYTES: usize = 10 << 20;
/// The most syntax errors shown: one mistake often looks like several.
const MAX_SYNTAX_ERRORS: usize = 5;

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is probably not meant. It knows the file, so later passes can add their problems to it.
    pub warnings: Report,
}

/// Reads a file. Relative paths inside it start from its folder; `env` looks variables up.
pub fn load(path: &Path, env: Env<'_>) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let base_dir = path.parent().unwrap_or(Path::new(""));
    let bytes = read(path).map_err(|problem| alone(*problem, &name, base_dir, ""))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &name, base_dir, env),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            let place = Place::at(valid.len()..valid.len());
            let message = format!("the file is not UTF-8: byte {:#04x}", bytes[valid.len()]);
            let problem = Problem::error("C003", message).at(place).help("save it as UTF-8");
            Err(alone(problem, &name, base_dir, &valid))
        }
    }
}

/// Reads text. `file_name` is what messages show; relative paths start from `base_dir`.
pub fn parse(text: &str, file_name: &str, base_dir: &Path, env: Env<'_>) -> Result<Loaded, Report> {
    if text.len() > MAX_FILE_BYTES {
        return Err(alone(too_large(), file_name, base_dir, ""));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax_errors(text, file_name, base_dir, &errors));
    }
    let shape = shape::fit(table.get_mut(), text);
    let sources = Sources::with_masks(file_name, base_dir, text, shape.masks);
    let mut report = Report::new(&sources);
    shape.problems.into_iter().for_each(|problem| report.add(problem));
    let raw = into_raw(table, &mut report);
    let (config, report) = check::check(raw, shape.dropped, report, env);
    if report.has_errors() { Err(report) } else { Ok(Loaded { config, warnings: report }) }
}

/// The first pass leaves nothing that does not fit, so an error here is a gap in the schema; it is
/// still the file's author who reads about it. The message of serde may quote values: it is not shown.
fn into_raw(table: Spanned<DeTable<'_>>, report: &mut Report) -> RawConfig {
    RawConfig::deserialize(Deserializer::from(table)).unwrap_or_else(|error| {
        let place = Place::at(error.span().unwrap_or(0..0));
        report.add(Problem::error("C006", "this value does not fit").at(place));
        RawConfig::default()
    })
}

fn syntax_errors(text: &str, file_name: &str, base_dir: &Path, errors: &[toml::de::Error]) -> Report {
    let plain = Sources::new(file_name, base_dir, text);
    let line_of = |span: &Range<usize>| plain.line_column(span.start).0;
    let mut found: Vec<(Range<usize>, &str)> =
        errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    found.sort_by_key(|(span, _)| span.start);
    found.dedup_by_key(|(span, _)| line_of(span));
    found.truncate(MAX_SYNTAX_ERRORS);
    let mask = |(span, _): &(Range<usize>, &str)| {
        let line = plain.line_span(line_of(span));
        let mask = redact::broken_line(&text[line.clone()], shape::is_harmless_key)?;
        Some(line.start + mask.start..line.start + mask.end)
    };
    let masks = found.iter().filter_map(mask).collect();
    let mut report = Report::new(&Sources::with_masks(file_name, base_dir, text, masks));
    for (span, message) in found {
        let problem = Problem::error("C004", format!("not TOML: {message}"));
        report.add(problem.at(Place::at(span)).label("here"));
    }
    report
}

fn alone(problem: Problem, name: &str, base_dir: &Path, text: &str) -> Report {
    let mut report = Report::new(&Sources::new(name, base_dir, text));
    report.add(problem);
    report
}

/// The bytes of a file, at most [`MAX_FILE_BYTES`].
fn read(path: &Path) -> Result<Vec<u8>, Box<Problem>> {
    let unreadable = |error: io::Error| {
        let problem = Problem::error("C001", format!("the file cannot be read: {}", reason(&error)));
        Box::new(match error.kind() {
            io::ErrorKind::NotFound => problem.help("name the file; examples/ has some to start from"),
            _ => problem,
        })
    };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        let problem = Problem::error("C001", "the file cannot be read: it is a directory");
        return Err(Box::new(problem.help("name the file inside it")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES { Err(Box::new(too_large())) } else { Ok(bytes) }
}

fn too_large() -> Problem {
    Problem::error("C002", "the file is larger than 10 MiB").help("it is probably not a configuration")
}

/// The system's word for an error, without its number, which differs between systems.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        kind => kind.to_string(),
    }
}
