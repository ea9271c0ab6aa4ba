//! How a report reads: text for people, JSON for programs. Never shows a masked range of the file,
//! nor a control character.

use super::place::Sources;
use super::redact;
use super::report::{Problem, Report, Severity};
use serde_json::{Value, json};
use std::fmt::Write;
use std::ops::Range;

/// The most characters of a line that are shown.
const MAX_SHOWN: usize = 100;
/// Between the line and its label.
const GAP: &str = "      ";

const RESET: &str = "\x1b[0m";
const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";

impl Report {
    /// The report as text, problems separated by an empty line; empty when there is none.
    pub fn text(&self, colour: bool) -> String {
        let paint = Paint(colour);
        let mut blocks: Vec<String> =
            self.problems().iter().map(|p| block(p, self.sources(), paint)).collect();
        if self.left_out() > 0 {
            blocks.push(format!("and {} more\n", self.left_out()));
        }
        blocks.join("\n")
    }

    /// The report as JSON: the file, the counts, and the problems with their places.
    pub fn json(&self) -> Value {
        let problem = |p: &Problem| {
            let mut value = serde_json::to_value(p).expect("strings and numbers are JSON");
            value["span"] = p.span.as_ref().map_or(Value::Null, |span| json!([span.start, span.end]));
            value
        };
        json!({
            "file": self.sources().name(),
            "errors": self.errors(),
            "warnings": self.warnings(),
            "left-out": self.left_out(),
            "problems": self.problems().iter().map(problem).collect::<Vec<_>>(),
        })
    }
}

#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, colour: &str, text: &str) -> String {
        match self.0 {
            true => format!("{colour}{text}{RESET}"),
            false => text.to_string(),
        }
    }
}

fn block(problem: &Problem, sources: &Sources, paint: Paint) -> String {
    let colour = match problem.severity {
        Severity::Error => RED,
        Severity::Warning => YELLOW,
    };
    let head = paint.with(colour, &format!("{}[{}]", problem.severity.name(), problem.code));
    let mut text = format!("{head}: {}\n", printable(&problem.message));
    let gutter = problem.line.unwrap_or(0).to_string();
    let indent = " ".repeat(gutter.len() + 2);
    match (problem.line, problem.column) {
        (Some(line), Some(column)) => {
            let place = format!("{}:{line}:{column}", sources.name());
            push_line(&mut text, &format!("{indent}{}", paint.with(DIM, &printable(&place))));
            push_line(&mut text, &source_line(problem, line, &gutter, sources, paint));
        }
        _ => push_line(&mut text, &format!("{indent}{}", paint.with(DIM, &printable(sources.name())))),
    }
    if let Some(help) = &problem.help {
        push_line(&mut text, &format!("{indent}{} {}", paint.with(CYAN, "help:"), printable(help)));
    }
    text
}

fn push_line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
}

fn source_line(problem: &Problem, line: usize, gutter: &str, sources: &Sources, paint: Paint) -> String {
    let span = sources.line_span(line);
    let focus = problem.span.as_ref().map_or(span.start, |s| s.start);
    let shown = shown(sources, span, focus);
    let label = problem.label.as_ref().map_or(String::new(), |label| printable(label));
    let gap = if label.is_empty() { "" } else { GAP };
    format!("{} {shown}{gap}{}", paint.with(DIM, &format!(" {gutter} |")), paint.with(YELLOW, &label))
}

/// The part of a line around `focus` that fits, without secrets.
fn shown(sources: &Sources, line: Range<usize>, focus: usize) -> String {
    let text = &sources.text()[line.clone()];
    let masks = redact::line_masks(text, line.start, sources.masks());
    let (masked, focus) = redact::apply(text, &masks, focus.saturating_sub(line.start));
    let chars: Vec<char> = masked.chars().collect();
    let focus = masked.get(..focus).map_or(0, |before| before.chars().count());
    let start = if chars.len() <= MAX_SHOWN { 0 } else { focus.saturating_sub(MAX_SHOWN / 4) };
    let end = chars.len().min(start + MAX_SHOWN);
    let middle: String = chars[start..end].iter().collect();
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < chars.len() { "…" } else { "" });
    printable(&format!("{before}{}{after}", middle.trim_end()))
}

/// Without control characters, which could drive the terminal; a tab becomes a space.
fn printable(text: &str) -> String {
    let show = |c: char| match c {
        '\t' => " ".to_string(),
        c if c.is_control() || is_direction_mark(c) => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(show).collect()
}

/// Marks that make text look like other text.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;
    use std::path::Path;

    fn report(text: &str, problem: Problem) -> Report {
        let mut report = Report::new(&Sources::new("quorate.toml", Path::new("."), text));
        report.add(problem);
        report
    }

    #[test]
    fn reads_as_the_interface_says() {
        let text = format!("{}write-quorum = 4", "\n".repeat(7));
        let problem = Problem::error("C102", "write-quorum 4 can never be met by 3 replicas")
            .at(Place::at(22..23))
            .label("at most 3")
            .help("a majority of 3 is 2");
        let expected = "error[C102]: write-quorum 4 can never be met by 3 replicas\n   quorate.toml:8:16\n \
                        8 | write-quorum = 4      at most 3\n   help: a majority of 3 is 2\n";
        assert_eq!(report(&text, problem).text(false), expected);
    }

    #[test]
    fn colour_only_when_asked() {
        let report = report("a = 1", Problem::warning("C203", "m").at(Place::at(0..1)).label("l").help("h"));
        assert!(!report.text(false).contains('\x1b'));
        assert!(report.text(true).contains("\x1b[1;33mwarning[C203]\x1b[0m"));
    }

    #[test]
    fn the_terminal_is_not_driven_by_the_file() {
        let report = report("a = \u{9b}31m", Problem::error("C004", "bad \x1b[2J").at(Place::at(0..1)));
        let text = report.text(false);
        assert!(text.contains("\\u{1b}[2J") && text.contains("\\u{9b}31m"), "{text}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_problem() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = report(&text, Problem::error("C004", "m").at(Place::at(500..501))).text(false);
        assert!(shown.contains("aX") && shown.contains('…') && shown.len() < 250, "{shown}");
    }
}
