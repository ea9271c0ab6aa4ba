//! All problems of a configuration at once, each with a stable code and its place.

use super::place::{Place, Sources};
use serde::Serialize;
use std::ops::Range;

/// The most problems one report keeps; the rest is only counted.
pub const MAX_PROBLEMS: usize = 100;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably not as meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Stable code, explained in [`super::codes`].
    pub code: &'static str,
    /// What is wrong, in one line.
    pub message: String,
    /// Words beside the line in the file.
    pub label: Option<String>,
    /// Bytes in the file.
    pub span: Option<Range<usize>>,
    /// Line from 1; filled in by [`Report::add`].
    pub line: Option<usize>,
    /// Column from 1, in characters; filled in by [`Report::add`].
    pub column: Option<usize>,
    /// What to do about it, in one line.
    pub help: Option<String>,
}

impl Problem {
    /// A problem that makes the configuration unusable.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    /// A problem that it can be used with.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    fn new(severity: Severity, code: &'static str, message: String) -> Self {
        debug_assert!(super::codes::explain(code).is_some(), "{code} is missing in codes.rs");
        let message = super::redact::message(message);
        Problem { severity, code, message, label: None, span: None, line: None, column: None, help: None }
    }

    /// Where it is; a problem at [`Place::NOWHERE`] is shown without a line.
    pub fn at(mut self, place: Place) -> Self {
        self.span = place.span();
        self
    }

    /// Words beside the line in the file.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// What to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Problems of one file, in the order of their places.
#[derive(Debug, Clone)]
pub struct Report {
    sources: Sources,
    problems: Vec<Problem>,
    left_out: usize,
    left_out_errors: usize,
}

impl Report {
    /// A report without problems.
    pub fn new(sources: &Sources) -> Self {
        Report { sources: sources.clone(), problems: Vec::new(), left_out: 0, left_out_errors: 0 }
    }

    /// Adds a problem and works out its line and column. Errors push warnings out when there are too many.
    pub fn add(&mut self, mut problem: Problem) {
        if let Some(span) = &problem.span {
            let (line, column) = self.sources.line_column(span.start);
            (problem.line, problem.column) = (Some(line), Some(column));
        }
        let key = |p: &Problem| (p.span.as_ref().map_or(usize::MAX, |s| s.start), p.severity);
        let at = self.problems.partition_point(|p| key(p) <= key(&problem));
        self.problems.insert(at, problem);
        if self.problems.len() > MAX_PROBLEMS {
            self.leave_one_out();
        }
    }

    fn leave_one_out(&mut self) {
        let warning = self.problems.iter().rposition(|p| p.severity == Severity::Warning);
        let left_out = self.problems.remove(warning.unwrap_or(self.problems.len() - 1));
        self.left_out += 1;
        self.left_out_errors += usize::from(left_out.severity == Severity::Error);
    }

    /// Adds everything another report of the same file holds.
    pub fn merge(&mut self, other: Report) {
        self.left_out += other.left_out;
        self.left_out_errors += other.left_out_errors;
        other.problems.into_iter().for_each(|problem| self.add(problem));
    }

    /// The problems kept, by place; at most [`MAX_PROBLEMS`].
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many problems were not kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The file that the places refer to.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// No problem of any kind.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many errors there are, those not kept included.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error) + self.left_out_errors
    }

    /// How many warnings there are, those not kept included.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning) + self.left_out - self.left_out_errors
    }

    /// Is the configuration unusable?
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|p| p.severity == severity).count()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text(false))
    }
}

impl std::error::Error for Report {}
