//! Clients' commands: where one ends and where its arguments lie.
//!
//! The decoder is resumed where it stopped, so that no byte is looked at twice however the
//! stream is cut. Sizes are checked as soon as they are announced, before memory is spent.

use super::args::{Args, Span};
use super::encode;
use bytes::{Bytes, BytesMut};
use memchr::memchr;

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one argument; Redis: 512 MiB.
    pub bulk: usize,
    /// Arguments of one command; Redis: 1,048,576.
    pub args: usize,
    /// Bytes of an inline command; Redis: 64 KiB.
    pub inline: usize,
    /// Bytes of one whole command; below 4 GiB.
    pub frame: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bulk: 512 << 20, args: 1 << 20, inline: 64 << 10, frame: 1 << 30 }
    }
}

impl Limits {
    /// For clients that have not authenticated yet: what Redis grants them.
    pub fn unauthenticated(self) -> Self {
        Self { bulk: self.bulk.min(16_384), args: self.args.min(10), ..self }
    }
}

/// The stream cannot be understood from here on. The texts are those of Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ProtocolError {
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    #[error("Protocol error: too big mbulk count string")]
    CountString,
    #[error("Protocol error: expected '$', got '{0}'")]
    ExpectedBulk(char),
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    #[error("Protocol error: too big bulk count string")]
    BulkCountString,
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    #[error("Protocol error: the command is larger than the limit of {0} bytes")]
    FrameTooBig(usize),
}

impl ProtocolError {
    /// Was something larger than allowed?
    pub fn is_size(&self) -> bool {
        use ProtocolError::{
            BulkCountString, BulkLength, CountString, FrameTooBig, InlineTooBig, MultibulkLength,
        };
        matches!(
            self,
            MultibulkLength | CountString | BulkLength | BulkCountString | InlineTooBig | FrameTooBig(_)
        )
    }
}

/// A complete command.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the buffer it took.
    pub len: usize,
    /// The command was written inline: here it is as RESP, and the spans point into this.
    pub inline: Option<BytesMut>,
}

/// Resumable decoder of one stream.
#[derive(Debug, Default)]
pub struct Decoder {
    spans: Vec<Span>,
    /// Next byte to look at, from the start of the command.
    at: usize,
    /// Arguments still to come; `None` before the count was read.
    left: Option<usize>,
    /// Length of the argument being read.
    bulk: Option<usize>,
}

impl Decoder {
    /// The arguments of the command found last.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Bytes that the buffer must hold before going on makes sense; a hint for reserving memory.
    pub fn wants(&self) -> usize {
        self.at + self.bulk.map_or(1, |len| len + 2)
    }

    /// In the middle of a command?
    pub fn is_partial(&self) -> bool {
        self.left.is_some()
    }

    /// Looks for a complete command at the start of `buf`; `None` when more bytes are needed.
    ///
    /// The buffer must begin at the same command until one was returned. A frame without
    /// arguments (`*0`, an empty line) is to be ignored, as Redis does.
    pub fn next(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<Frame>, ProtocolError> {
        if self.left.is_none() {
            self.spans.clear();
            self.at = 0;
            match buf.first() {
                None => return Ok(None),
                Some(b'*') => {}
                Some(_) => return self.inline(buf, limits),
            }
            let Some((count, next)) = number(buf, 1, limits.inline, ProtocolError::CountString)? else {
                return Ok(None);
            };
            let count = count.ok_or(ProtocolError::MultibulkLength)?;
            if count > limits.args as i64 {
                return Err(ProtocolError::MultibulkLength);
            }
            self.at = next;
            self.left = Some(count.max(0) as usize);
        }
        self.arguments(buf, limits)
    }

    fn arguments(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<Frame>, ProtocolError> {
        let mut left = self.left.unwrap_or(0);
        while left > 0 {
            let len = match self.bulk {
                Some(len) => len,
                None => match self.bulk_header(buf, limits)? {
                    Some(len) => len,
                    None => break,
                },
            };
            let end = self.at + len;
            if buf.len() < end + 2 {
                self.bulk = Some(len);
                break;
            }
            self.spans.push(Span { start: self.at as u32, end: end as u32 });
            self.at = end + 2;
            self.bulk = None;
            left -= 1;
        }
        if left > 0 {
            self.left = Some(left);
            return Ok(None);
        }
        self.left = None;
        Ok(Some(Frame { len: self.at, inline: None }))
    }

    /// Reads `$LEN\r\n` and moves behind it.
    #[inline]
    fn bulk_header(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        match buf.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::ExpectedBulk(char::from(*other))),
        }
        let Some((len, next)) = number(buf, self.at + 1, limits.inline, ProtocolError::BulkCountString)?
        else {
            return Ok(None);
        };
        let len = len.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= limits.bulk);
        let len = len.ok_or(ProtocolError::BulkLength)?;
        if next + len > limits.frame {
            return Err(ProtocolError::FrameTooBig(limits.frame));
        }
        self.at = next;
        Ok(Some(len))
    }

    fn inline(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<Frame>, ProtocolError> {
        let Some(end) = memchr(b'\n', &buf[..buf.len().min(limits.inline + 1)]) else {
            return if buf.len() > limits.inline { Err(ProtocolError::InlineTooBig) } else { Ok(None) };
        };
        let line = buf[..end].strip_suffix(b"\r").unwrap_or(&buf[..end]);
        let args = super::args::split_inline(line).ok_or(ProtocolError::Quotes)?;
        let mut out = BytesMut::new();
        encode::header(b'*', args.len(), &mut out);
        for arg in &args {
            encode::header(b'$', arg.len(), &mut out);
            let start = out.len() as u32;
            out.extend_from_slice(arg);
            self.spans.push(Span { start, end: out.len() as u32 });
            out.extend_from_slice(b"\r\n");
        }
        Ok(Some(Frame { len: end + 1, inline: Some(out) }))
    }
}

/// A decimal number that starts at `at` and ends with a line end, and the place behind it.
/// The inner `None` is not a number; the outer one needs more bytes. A number is what servers take for one: commands
/// reach them as they came, and a server closes the connection of all clients for a sign or a zero too much.
#[inline]
fn number(
    buf: &[u8],
    at: usize,
    longest: usize,
    too_long: ProtocolError,
) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let mut value: i64 = 0;
    let mut i = at;
    // The usual case: up to nine digits and the line end, all there.
    while let Some(digit) = buf.get(i).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        if i - at >= 10 {
            break;
        }
        value = value * 10 + i64::from(digit);
        i += 1;
    }
    let is_usual = i > at && (buf[at] != b'0' || i == at + 1);
    if is_usual && buf.get(i) == Some(&b'\r') && buf.len() > i + 1 {
        return Ok(Some((Some(value), i + 2)));
    }
    let rest = buf.get(at..).unwrap_or(&[]);
    match memchr(b'\r', rest) {
        // Wherever the stream is cut: what is too long is so before its end is seen.
        found if found.unwrap_or(rest.len()) > longest => Err(too_long),
        Some(end) if rest.len() > end + 1 => Ok(Some((plain(&rest[..end]), at + end + 2))),
        _ => Ok(None),
    }
}

/// The number that is written so, in its shortest form.
fn plain(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let shortest = digits.first().is_some_and(|first| matches!(first, b'1'..=b'9')) || text == b"0";
    std::str::from_utf8(text).ok().filter(|_| shortest)?.parse().ok()
}

/// Calls `each` with every command of a payload that was decoded before: its bytes and its arguments.
/// `false` when the payload does not end where a command ends.
pub fn each_command(payload: &Bytes, mut each: impl FnMut(Bytes, Args)) -> bool {
    let limits = Limits { bulk: usize::MAX >> 1, args: usize::MAX >> 1, inline: 64, frame: usize::MAX >> 1 };
    let (mut rest, mut decoder) = (payload.clone(), Decoder::default());
    while !rest.is_empty() {
        let Ok(Some(frame)) = decoder.next(&rest, &limits) else { return false };
        let command = rest.split_to(frame.len);
        // A payload may also be a reply of the proxy's own, which reads like an inline command.
        let source = frame.inline.as_deref().unwrap_or(&command);
        each(command.clone(), Args::new(source, decoder.spans()));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Args;

    fn all(stream: &[u8], cuts: &[usize]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let (mut decoder, mut buf, mut found) = (Decoder::default(), Vec::new(), Vec::new());
        let mut start = 0;
        for cut in cuts.iter().copied().chain([stream.len()]) {
            buf.extend_from_slice(&stream[start..cut.max(start)]);
            start = cut.max(start);
            while let Some(frame) = decoder.next(&buf, &Limits::default())? {
                let source = frame.inline.as_deref().unwrap_or(&buf);
                let args = Args::new(source, decoder.spans());
                found.push(args.from(0).map(<[u8]>::to_vec).collect());
                buf.drain(..frame.len);
            }
        }
        Ok(found)
    }

    #[test]
    fn a_reply_in_place_of_a_payload_is_no_command_with_arguments() {
        let mut found = Vec::new();
        let whole = each_command(&Bytes::from_static(b"+OK\r\n"), |raw, args| {
            found.push((raw, args.from(0).map(<[u8]>::to_vec).collect::<Vec<_>>()));
        });
        assert_eq!((whole, found), (true, vec![(Bytes::from_static(b"+OK\r\n"), vec![b"+OK".to_vec()])]));
    }

    fn fails(stream: &[u8]) -> String {
        all(stream, &[]).expect_err("not RESP").to_string()
    }

    #[test]
    fn commands_are_found_wherever_the_stream_is_cut() {
        let stream = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*0\r\n*1\r\n$0\r\n\r\nset a \"b c\"\r\n";
        let whole = all(stream, &[]).expect("valid");
        assert_eq!(whole.len(), 5);
        assert_eq!(whole[4], [b"set".to_vec(), b"a".to_vec(), b"b c".to_vec()]);
        for cut in 0..stream.len() {
            assert_eq!(all(stream, &[cut]).as_ref(), Ok(&whole), "cut at {cut}");
        }
        let every: Vec<usize> = (0..stream.len()).collect();
        assert_eq!(all(stream, &every), Ok(whole));
    }

    #[test]
    fn nonsense_is_told_as_redis_tells_it() {
        assert_eq!(fails(b"*x\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(fails(b"*1048577\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(fails(b"*1\r\n:3\r\n"), "Protocol error: expected '$', got ':'");
        assert_eq!(fails(b"*1\r\n$-1\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(fails(b"*1\r\n$536870913\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(fails(b"*1\r\n$99999999999999999999\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(fails(b"set \"a\r\n"), "Protocol error: unbalanced quotes in request");
        assert_eq!(fails(&vec![b'a'; 70_000]), "Protocol error: too big inline request");
    }

    #[test]
    fn a_length_is_too_long_wherever_it_is_cut() {
        let limits = Limits { inline: 64, ..Limits::default() };
        for digits in [64, 65] {
            let stream = [&b"*"[..], &b"1".repeat(digits), b"\r"].concat();
            let (mut whole, mut pieces) = (Decoder::default(), Decoder::default());
            let in_pieces = (1..=stream.len()).any(|end| pieces.next(&stream[..end], &limits).is_err());
            assert_eq!((whole.next(&stream, &limits).is_err(), in_pieces), (digits > 64, digits > 64));
        }
    }

    #[test]
    fn a_huge_announcement_reserves_nothing_and_is_remembered() {
        let mut decoder = Decoder::default();
        let announced = b"*2\r\n$3\r\nSET\r\n$536870912\r\nab";
        assert_eq!(decoder.next(announced, &Limits::default()), Ok(None));
        assert!(decoder.wants() > 500 << 20);
        assert!(decoder.is_partial());
    }

    #[test]
    fn strangers_get_small_limits() {
        let strict = Limits::default().unauthenticated();
        let mut decoder = Decoder::default();
        assert_eq!(decoder.next(b"*11\r\n", &strict), Err(ProtocolError::MultibulkLength));
        let mut decoder = Decoder::default();
        assert_eq!(decoder.next(b"*1\r\n$16385\r\n", &strict), Err(ProtocolError::BulkLength));
    }
}
