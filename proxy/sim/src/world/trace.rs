//! What happened, in lines that can be read aloud; the latest ones are kept.

use std::collections::VecDeque;
use std::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Lines kept.
const KEPT: usize = 2_000;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in microseconds since the world began.
    pub at_us: u64,
    /// A fault, a change of state or a verdict, not just a request.
    pub matters: bool,
    /// What.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t={:.1}ms {}", self.at_us as f64 / 1000.0, self.text)
    }
}

/// A running hash.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}

/// The latest lines, and a hash of all there ever were.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: VecDeque<Line>,
    digest: Digest,
}

impl Trace {
    /// Something that matters.
    pub(super) fn note(&mut self, at_us: u64, text: String) {
        self.push(Line { at_us, matters: true, text });
    }

    /// A request or an answer.
    pub(super) fn detail(&mut self, at_us: u64, text: String) {
        self.push(Line { at_us, matters: false, text });
    }

    fn push(&mut self, line: Line) {
        self.digest.add(&line.at_us.to_le_bytes());
        self.digest.add(line.text.as_bytes());
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.value()
    }

    pub(super) fn into_lines(self) -> Vec<Line> {
        self.lines.into()
    }
}
