//! Counts replies in a stream of RESP bytes, whatever way the stream is cut.
//!
//! No reply is decoded and no byte is looked at twice, except a header that lies across two reads.

use super::{ERROR_TEXTS, LoadError};

/// A header line longer than this is not RESP.
const MAX_LINE: usize = 64 << 10;

/// What was counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whole replies; pushes of RESP3 are not replies.
    pub replies: u64,
    /// Replies that are errors.
    pub errors: u64,
    /// Replies that are null.
    pub nulls: u64,
    /// The first few different error texts.
    pub error_texts: Vec<String>,
}

/// Where the scan of one connection stands.
#[derive(Debug, Default)]
pub struct Replies {
    /// Values that the current reply still lacks; 0 between replies.
    need: u64,
    /// First byte of the current reply.
    kind: u8,
    /// Bytes of a bulk that are still to be passed over.
    skip: usize,
    /// Start of a header whose end has not come.
    line: Vec<u8>,
}

impl Replies {
    /// Takes the next bytes of the stream.
    pub fn feed(&mut self, mut bytes: &[u8], seen: &mut Seen) -> Result<(), LoadError> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                bytes = &bytes[passed..];
                self.skip -= passed;
                if self.skip == 0 {
                    self.value_done(seen);
                }
                continue;
            }
            let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
                return self.keep(bytes);
            };
            if self.line.is_empty() {
                self.header(&bytes[..end], seen)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.header(&line, seen)?;
            }
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        self.line.extend_from_slice(bytes);
        if self.line.len() > MAX_LINE { Err(not_resp(&self.line)) } else { Ok(()) }
    }

    fn header(&mut self, line: &[u8], seen: &mut Seen) -> Result<(), LoadError> {
        let (kind, rest) = match line {
            [kind, rest @ .., b'\r'] => (*kind, rest),
            _ => return Err(not_resp(line)),
        };
        let is_reply = self.need == 0;
        if is_reply {
            (self.need, self.kind) = (1, kind);
        }
        match kind {
            b'-' if is_reply => note_error(rest, seen),
            b'!' if is_reply => note_error(b"(a bulk error)", seen),
            b'_' if is_reply => seen.nulls += 1,
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' | b'!' | b'$' | b'=' | b'*' | b'~' | b'>'
            | b'%' => {}
            _ => return Err(not_resp(line)),
        }
        match (kind, rest) {
            (b'$' | b'*', b"-1") => {
                seen.nulls += u64::from(is_reply);
                self.value_done(seen);
            }
            (b'$' | b'=' | b'!', _) => self.skip = number(rest).ok_or_else(|| not_resp(line))? + 2,
            (b'*' | b'~' | b'>' | b'%', _) => {
                let count = number(rest).ok_or_else(|| not_resp(line))? as u64;
                self.need += if kind == b'%' { 2 * count } else { count };
                self.value_done(seen);
            }
            _ => self.value_done(seen),
        }
        Ok(())
    }

    fn value_done(&mut self, seen: &mut Seen) {
        self.need -= 1;
        if self.need == 0 && self.kind != b'>' {
            seen.replies += 1;
        }
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 12 {
        return None;
    }
    digits.iter().try_fold(0, |sum, d| d.is_ascii_digit().then(|| sum * 10 + usize::from(d - b'0')))
}

fn note_error(text: &[u8], seen: &mut Seen) {
    seen.errors += 1;
    if seen.error_texts.len() < ERROR_TEXTS {
        let text = String::from_utf8_lossy(text).into_owned();
        if !seen.error_texts.contains(&text) {
            seen.error_texts.push(text);
        }
    }
}

fn not_resp(line: &[u8]) -> LoadError {
    LoadError::NotResp(line[..line.len().min(60)].escape_ascii().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"+OK\r\n$5\r\nhe\nlo\r\n$-1\r\n_\r\n-ERR no\r\n:12\r\n*-1\r\n$0\r\n\r\n\
        *3\r\n$1\r\na\r\n-ERR inner\r\n*2\r\n:1\r\n_\r\n>2\r\n+message\r\n+x\r\n%1\r\n+k\r\n~1\r\n#t\r\n!3\r\nERR\r\n*0\r\n";

    #[test]
    fn every_way_to_cut_the_stream_counts_the_same() {
        let want = Seen {
            replies: 12,
            errors: 2,
            nulls: 3,
            error_texts: vec!["ERR no".into(), "(a bulk error)".into()],
        };
        for first in 0..STREAM.len() {
            for second in first..STREAM.len() {
                let (mut replies, mut seen) = (Replies::default(), Seen::default());
                for part in [&STREAM[..first], &STREAM[first..second], &STREAM[second..]] {
                    replies.feed(part, &mut seen).expect("RESP");
                }
                assert_eq!(seen, want, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&b"hello\r\n"[..], b"$x\r\n", b"*\r\n", b"$9999999999999\r\n", b"\n", b"\r\n"] {
            let fed = Replies::default().feed(bytes, &mut Seen::default());
            assert!(fed.is_err(), "{}", bytes.escape_ascii());
        }
    }
}
