//! The arguments of one command, as slices of the buffer they were read into.

/// Where one argument lies in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The arguments of a command; number 0 is its name. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// Arguments at `spans` of `bytes`.
    pub fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    /// How many, the name included.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The argument at `index`, if there is one.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| &self.bytes[span.start as usize..span.end as usize])
    }

    /// The arguments from `index` on as a command of their own.
    pub fn behind(&self, index: usize) -> Args<'a> {
        Args { bytes: self.bytes, spans: self.spans.get(index..).unwrap_or(&[]) }
    }

    /// All arguments from `index` on.
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        let spans = self.spans.get(index..).unwrap_or(&[]);
        spans.iter().map(move |span| &bytes[span.start as usize..span.end as usize])
    }
}

impl std::ops::Index<usize> for Args<'_> {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        let span = self.spans[index];
        &self.bytes[span.start as usize..span.end as usize]
    }
}

/// Splits an inline command as Redis does: blanks, double quotes with escapes, single quotes.
/// `None` when the quotes are unbalanced.
pub fn split_inline(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(args);
        }
        let (arg, after) = inline_word(rest)?;
        args.push(arg);
        rest = after;
    }
}

fn inline_word(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' | b'\'' => {
                let (used, quoted) = inline_quoted(&text[at + 1..], *byte)?;
                word.extend_from_slice(&quoted);
                at += 1 + used;
                // A closing quote must end the word.
                if text.get(at).is_some_and(|next| !next.is_ascii_whitespace()) {
                    return None;
                }
            }
            b if b.is_ascii_whitespace() || *b == 0 => break,
            b => {
                word.push(*b);
                at += 1;
            }
        }
    }
    let after = if text.get(at) == Some(&0) { &[] } else { &text[at..] };
    Some((word, after))
}

/// The inside of a quoted part and how many bytes it took, the closing quote included.
fn inline_quoted(text: &[u8], quote: u8) -> Option<(usize, Vec<u8>)> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        match (*text.get(at)?, text.get(at + 1)) {
            (b, _) if b == quote => return Some((at + 1, out)),
            (b'\\', Some(b'\'')) if quote == b'\'' => {
                out.push(b'\'');
                at += 2;
            }
            (b'\\', Some(next)) if quote == b'"' => {
                let hex = (*next == b'x').then(|| text.get(at + 2..at + 4)).flatten().and_then(hex_byte);
                out.push(hex.unwrap_or_else(|| escaped(*next)));
                at += if hex.is_some() { 4 } else { 2 };
            }
            (b, _) => {
                out.push(b);
                at += 1;
            }
        }
    }
}

fn escaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex_byte(text: &[u8]) -> Option<u8> {
    let digits = text.iter().all(u8::is_ascii_hexdigit).then_some(text)?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::split_inline;

    fn split(line: &str) -> Option<Vec<String>> {
        let words = split_inline(line.as_bytes())?;
        Some(words.iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect())
    }

    #[test]
    fn inline_commands_are_split_as_redis_does() {
        assert_eq!(split("  set  a\tb "), Some(vec!["set".into(), "a".into(), "b".into()]));
        assert_eq!(split(r#"set "a b" 'c\'d'"#), Some(vec!["set".into(), "a b".into(), "c'd".into()]));
        assert_eq!(split(r#"set "\x41\n" "#), Some(vec!["set".into(), "A\n".into()]));
        assert_eq!(split(r#"set "" x"#), Some(vec!["set".into(), "".into(), "x".into()]));
        assert_eq!(split(""), Some(vec![]));
        for bad in [r#"set "a"#, "set 'a", r#"set "a"b"#] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
