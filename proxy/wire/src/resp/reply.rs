//! Backends' replies: where one ends. Any nesting, no recursion, no rescans.

use memchr::memchr;

/// The backend sent something that is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ReplyError {
    #[error("a reply begins with byte {0:#04x}")]
    Type(u8),
    #[error("a reply announces a length that is no number")]
    Length,
    #[error("expected {expected}, got {got}")]
    Unexpected { expected: String, got: String },
}

impl ReplyError {
    /// Something else was expected. Of what came only the kind is kept, for it may be a client's data.
    pub fn unexpected(expected: impl Into<String>, got: &[u8]) -> Self {
        let word = got.split(|b| b.is_ascii_whitespace()).next().unwrap_or_default();
        let got = match got.first() {
            Some(b'-') => format!("the error '{}'", String::from_utf8_lossy(&word[..word.len().min(32)])),
            Some(kind) => format!("{} bytes of kind '{}'", got.len(), kind.escape_ascii()),
            None => "nothing".into(),
        };
        ReplyError::Unexpected { expected: expected.into(), got }
    }
}

/// Resumable search for the end of a reply.
#[derive(Debug, Clone, Default)]
pub struct Scanner {
    /// Next byte to look at, from the start of the reply.
    at: usize,
    /// Values still to come before the reply is complete; 0 before the first byte.
    left: u64,
}

impl Scanner {
    /// The length of the reply at the start of `buf`, or `None` when more bytes are needed.
    ///
    /// The buffer must begin at the same reply until its length was returned.
    #[inline]
    pub fn next(&mut self, buf: &[u8]) -> Result<Option<usize>, ReplyError> {
        if self.left == 0 {
            self.left = 1;
            self.at = 0;
        }
        while self.left > 0 {
            let Some((len, children)) = value(&buf[self.at..])? else { return Ok(None) };
            // A string that is announced but not here yet is waited for without looking at it again.
            if len > buf.len() - self.at {
                return Ok(None);
            }
            self.at += len;
            self.left = self.left - 1 + children;
        }
        Ok(Some(self.at))
    }
}

/// Length of the value at the start of `buf` without its children, and how many children follow.
#[inline]
fn value(buf: &[u8]) -> Result<Option<(usize, u64)>, ReplyError> {
    // By far the most frequent reply of all.
    if buf.starts_with(b"+OK\r\n") {
        return Ok(Some((5, 0)));
    }
    let Some(kind) = buf.first() else { return Ok(None) };
    let Some(end) = line_end(buf) else { return Ok(None) };
    let line = end + 1;
    match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => Ok(Some((line, 0))),
        b'$' | b'=' | b'!' => {
            let len = length(&buf[1..end])?;
            Ok(Some((usize::try_from(len).map_or(line, |len| line + len + 2), 0)))
        }
        b'*' | b'~' | b'>' => Ok(Some((line, u64::try_from(length(&buf[1..end])?).unwrap_or(0)))),
        b'%' => Ok(Some((line, 2 * u64::try_from(length(&buf[1..end])?).unwrap_or(0)))),
        // Attributes come before the value they belong to.
        b'|' => Ok(Some((line, 2 * u64::try_from(length(&buf[1..end])?).unwrap_or(0) + 1))),
        other => Err(ReplyError::Type(*other)),
    }
}

/// Most lines are so short that looking at each byte is quicker than calling a search.
#[inline]
fn line_end(buf: &[u8]) -> Option<usize> {
    const SHORT: usize = 12;
    let short = buf.iter().take(SHORT).position(|b| *b == b'\n');
    short.or_else(|| memchr(b'\n', buf.get(SHORT..)?).map(|at| at + SHORT))
}

/// A length; -1 is RESP2's null.
#[inline]
pub(super) fn length(line: &[u8]) -> Result<i64, ReplyError> {
    let digits = line.strip_suffix(b"\r").unwrap_or(line);
    let mut value: i64 = 0;
    match digits {
        b"-1" => return Ok(-1),
        [] => return Err(ReplyError::Length),
        _ if digits.len() > 12 => return Err(ReplyError::Length),
        _ => {}
    }
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return Err(ReplyError::Length);
        }
        value = value * 10 + i64::from(digit);
    }
    Ok(value)
}

/// Errors that say "not applied on this backend" rather than something about the data.
const ENVIRONMENT: [&[u8]; 13] = [
    b"OOM",
    b"MISCONF",
    b"LOADING",
    b"BUSY",
    b"READONLY",
    b"NOREPLICAS",
    b"CLUSTERDOWN",
    b"MASTERDOWN",
    b"NOAUTH",
    b"NOPERM",
    b"NOSCRIPT",
    b"MOVED",
    b"ASK",
];

/// Is this error line (with or without its leading `-`) about the backend and not about the data?
pub fn is_environment_error(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"-").unwrap_or(line);
    let word = line.split(|b| b.is_ascii_whitespace()).next().unwrap_or(line);
    ENVIRONMENT.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[&[u8]] = &[
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":12\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
        b"%1\r\n+k\r\n~2\r\n,1.5\r\n#t\r\n",
        b"|1\r\n+ttl\r\n:3\r\n*1\r\n_\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"(123456789012345678901234567890\r\n",
        b">2\r\n+message\r\n$1\r\nx\r\n",
    ];

    #[test]
    fn every_kind_of_reply_ends_where_it_ends() {
        for reply in REPLIES {
            let mut scanner = Scanner::default();
            let mut more = reply.to_vec();
            more.extend_from_slice(b"+next\r\n");
            assert_eq!(scanner.next(&more), Ok(Some(reply.len())), "{}", String::from_utf8_lossy(reply));
            let mut scanner = Scanner::default();
            for cut in 0..reply.len() {
                assert_eq!(scanner.next(&reply[..cut]), Ok(None));
            }
            assert_eq!(scanner.next(reply), Ok(Some(reply.len())));
        }
    }

    #[test]
    fn deep_nesting_needs_no_stack() {
        let mut reply = b"*1\r\n".repeat(1_000_000);
        reply.extend_from_slice(b":1\r\n");
        assert_eq!(Scanner::default().next(&reply), Ok(Some(reply.len())));
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        assert_eq!(Scanner::default().next(b"HTTP/1.1 200\r\n"), Err(ReplyError::Type(b'H')));
        assert_eq!(Scanner::default().next(b"$x\r\n"), Err(ReplyError::Length));
        assert_eq!(Scanner::default().next(b"*99999999999999999\r\n"), Err(ReplyError::Length));
    }

    #[test]
    fn environment_errors_are_known_by_their_first_word() {
        assert!(is_environment_error(b"-OOM command not allowed"));
        assert!(is_environment_error(b"LOADING Redis is loading"));
        assert!(!is_environment_error(b"-OOMPH"));
        assert!(!is_environment_error(b"-WRONGTYPE Operation"));
    }
}
