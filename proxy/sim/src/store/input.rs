//! The unread bytes of one connection, cut into requests. A request may arrive in any pieces.
//! It never looks at a byte of a finished argument twice, and never grows past Redis's limits.

const MAX_INLINE: usize = 64 * 1024;
const MAX_ARGUMENTS: i64 = i32::MAX as i64;
const MAX_BULK: i64 = 512 * 1024 * 1024;

/// The arguments of one request; the first is the command's name.
pub(super) type Args = Vec<Vec<u8>>;

/// Bytes not yet understood, and the request being collected.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    read: usize,
    collected: Args,
    missing: usize,
    bulk_len: Option<usize>,
}

impl Input {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole request, `None` when more bytes are needed, or the text of a protocol error.
    pub(super) fn next(&mut self) -> Result<Option<Args>, String> {
        loop {
            if self.missing > 0 {
                return self.collect();
            }
            let Some(first) = self.bytes.get(self.read) else { return Ok(None) };
            if *first != b'*' {
                return self.inline();
            }
            let Some(line) = self.line("too big mbulk count string")? else { return Ok(None) };
            match super::number::integer(&line[1..]) {
                Some(n) if n > MAX_ARGUMENTS => return Err("invalid multibulk length".into()),
                Some(n) => self.missing = n.max(0) as usize,
                None => return Err("invalid multibulk length".into()),
            }
        }
    }

    fn collect(&mut self) -> Result<Option<Args>, String> {
        while self.missing > 0 {
            let Some(len) = self.bulk_len()? else { return Ok(None) };
            if self.bytes.len() - self.read < len + 2 {
                return Ok(None);
            }
            self.collected.push(self.bytes[self.read..self.read + len].to_vec());
            self.read += len + 2;
            self.bulk_len = None;
            self.missing -= 1;
        }
        Ok(Some(std::mem::take(&mut self.collected)))
    }

    fn bulk_len(&mut self) -> Result<Option<usize>, String> {
        if self.bulk_len.is_none() {
            let Some(line) = self.line("too big bulk count string")? else { return Ok(None) };
            if line.first() != Some(&b'$') {
                let got = line.first().map_or('\r', |b| char::from(*b));
                return Err(format!("expected '$', got '{got}'"));
            }
            let len = super::number::integer(&line[1..]).filter(|n| (0..=MAX_BULK).contains(n));
            self.bulk_len = Some(len.ok_or("invalid bulk length")? as usize);
        }
        Ok(self.bulk_len)
    }

    fn line(&mut self, too_long: &str) -> Result<Option<Vec<u8>>, String> {
        let rest = &self.bytes[self.read..];
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            return if rest.len() > MAX_INLINE { Err(too_long.into()) } else { Ok(None) };
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]).to_vec();
        self.read += end + 1;
        Ok(Some(line))
    }

    fn inline(&mut self) -> Result<Option<Args>, String> {
        let Some(line) = self.line("too big inline request")? else { return Ok(None) };
        match split_words(&line) {
            Some(words) if words.is_empty() => self.next(),
            Some(words) => Ok(Some(words)),
            None => Err("unbalanced quotes in request".into()),
        }
    }
}

/// Splits an inline request at blanks; `"..."` knows escapes, `'...'` only `\'`.
fn split_words(line: &[u8]) -> Option<Args> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while let Some(first) = rest.first() {
        let (word, after) = match first {
            b'"' | b'\'' => quoted(rest)?,
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                (rest[..end].to_vec(), &rest[end..])
            }
        };
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Some(words)
}

fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let quote = text[0];
    let mut word = Vec::new();
    let mut i = 1;
    loop {
        match text[i..] {
            [b, ref after @ ..] if b == quote => {
                let closed = after.first().is_none_or(u8::is_ascii_whitespace);
                return closed.then_some((word, after));
            }
            [b'\\', b'x', high, low, ..] if quote == b'"' && hex(high).is_some() && hex(low).is_some() => {
                word.push(hex(high)? * 16 + hex(low)?);
                i += 4;
            }
            [b'\\', escaped, ..] if quote == b'"' || escaped == b'\'' => {
                word.push(unescape(escaped));
                i += 2;
            }
            [b, ..] => {
                word.push(b);
                i += 1;
            }
            [] => return None,
        }
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|d| d as u8)
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&[u8]]) -> Result<Vec<Args>, String> {
        let mut input = Input::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            input.push(chunk);
            while let Some(args) = input.next()? {
                seen.push(args);
            }
        }
        Ok(seen)
    }

    #[test]
    fn requests_survive_being_cut_at_every_byte() {
        let bytes = b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n*0\r\nPING x\r\n*1\r\n$0\r\n\r\n";
        let whole = all(&[bytes]).expect("valid requests");
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0], vec![b"ECHO".to_vec(), b"a\r\n".to_vec()]);
        for cut in 0..bytes.len() {
            assert_eq!(all(&[&bytes[..cut], &bytes[cut..]]), Ok(whole.clone()), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(all(&single), Ok(whole));
    }

    #[test]
    fn nonsense_is_a_protocol_error() {
        assert_eq!(all(&[b"*1\r\n+PING\r\n"]), Err("expected '$', got '+'".into()));
        assert_eq!(all(&[b"*x\r\n"]), Err("invalid multibulk length".into()));
        assert_eq!(all(&[b"*1\r\n$-1\r\n"]), Err("invalid bulk length".into()));
        assert_eq!(all(&[b"SET a \"b\r\n"]), Err("unbalanced quotes in request".into()));
    }

    #[test]
    fn inline_quotes_are_understood() {
        let words = all(&[b"SET 'a b' \"\\x41\\n\"\r\n"]).expect("valid request");
        assert_eq!(words, vec![vec![b"SET".to_vec(), b"a b".to_vec(), b"A\n".to_vec()]]);
    }
}
