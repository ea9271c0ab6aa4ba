//! Where in the file something stands, and the file itself. A place never holds the text,
//! so keeping places costs nothing and cannot leak a secret.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A range of bytes in the configuration file, or nowhere for values made in Rust code.
///
/// All places are equal: moving a line in the file is not a change of the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place(Option<(usize, usize)>);

impl Place {
    /// Not from a file.
    pub const NOWHERE: Place = Place(None);

    /// The bytes `span` of the file.
    pub fn at(span: Range<usize>) -> Self {
        Place(Some((span.start, span.end)))
    }

    /// The bytes, if the value came from a file.
    pub fn span(self) -> Option<Range<usize>> {
        self.0.map(|(start, end)| start..end)
    }

    /// This place, or `other` when this is nowhere.
    pub fn or(self, other: Place) -> Place {
        Place(self.0.or(other.0))
    }
}

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl Eq for Place {}

/// The file that a configuration was read from. Cloning it is cheap.
#[derive(Clone)]
pub struct Sources(Arc<Inner>);

struct Inner {
    name: String,
    base_dir: PathBuf,
    text: String,
    line_starts: Vec<usize>,
    masks: Vec<Range<usize>>,
}

impl Sources {
    /// A file by the name that messages show, the folder that relative paths start from, and its text.
    pub fn new(name: &str, base_dir: &Path, text: &str) -> Self {
        Self::with_masks(name, base_dir, text, Vec::new())
    }

    /// Like [`Sources::new`], with ranges of the text that must never be shown.
    pub(super) fn with_masks(name: &str, base_dir: &Path, text: &str, masks: Vec<Range<usize>>) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Sources(Arc::new(Inner {
            name: name.to_string(),
            base_dir: base_dir.to_path_buf(),
            text: text.to_string(),
            line_starts,
            masks,
        }))
    }

    /// The file's name as messages show it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The folder that relative paths in the file start from.
    pub fn base_dir(&self) -> &Path {
        &self.0.base_dir
    }

    /// The text. It may hold secrets: show it through a [`super::Report`] only.
    pub(super) fn text(&self) -> &str {
        &self.0.text
    }

    /// Ranges that must never be shown.
    pub(super) fn masks(&self) -> &[Range<usize>] {
        &self.0.masks
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let byte = self.floor(byte);
        let line = self.0.line_starts.partition_point(|start| *start <= byte);
        let start = self.0.line_starts[line - 1];
        (line, self.0.text[start..byte].chars().count() + 1)
    }

    /// The bytes of a line (from 1), without its end.
    pub(super) fn line_span(&self, line: usize) -> Range<usize> {
        let start = self.0.line_starts[line - 1];
        let end = self.0.line_starts.get(line).map_or(self.0.text.len(), |next| next - 1);
        let end = if self.0.text[start..end].ends_with('\r') { end - 1 } else { end };
        start..end
    }

    /// The nearest character boundary at or before a byte.
    fn floor(&self, byte: usize) -> usize {
        let mut byte = byte.min(self.0.text.len());
        while !self.0.text.is_char_boundary(byte) {
            byte -= 1;
        }
        byte
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sources({})", self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let sources = Sources::new("f", Path::new("."), "a\nüb\r\n");
        assert_eq!(sources.line_column(0), (1, 1));
        assert_eq!(sources.line_column(4), (2, 2), "ü is two bytes and one column");
        assert_eq!(sources.line_span(2), 2..5, "without the line end");
        assert_eq!(sources.line_column(999), (3, 1));
    }
}
