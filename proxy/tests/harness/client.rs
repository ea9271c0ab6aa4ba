//! A blocking client that speaks RESP2 and RESP3 and keeps every byte it is told.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A reply as it stood on the wire: two are equal exactly when their bytes are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    /// The first byte: `+ - : $ * _ , # ( ! = % ~ >`.
    pub kind: u8,
    /// The length was -1, or the kind is `_`.
    pub null: bool,
    /// Of scalars.
    pub text: Vec<u8>,
    /// Of aggregates; keys and values of a map in turn.
    pub items: Vec<Value>,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_aggregate() {
            write!(f, "{}", self.kind as char)?;
            return f.debug_list().entries(&self.items).finish();
        }
        let null = if self.null { " null" } else { "" };
        write!(f, "{}{}{null}", self.kind as char, self.text[..self.text.len().min(300)].escape_ascii())
    }
}

impl Value {
    /// An error reply.
    pub fn is_error(&self) -> bool {
        matches!(self.kind, b'-' | b'!')
    }

    /// An array, map, set or push.
    pub fn is_aggregate(&self) -> bool {
        matches!(self.kind, b'*' | b'%' | b'~' | b'>') && !self.null
    }

    /// The text, readable.
    pub fn string(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }

    /// As a number.
    #[track_caller]
    pub fn number(&self) -> i64 {
        self.string().parse().unwrap_or_else(|_| panic!("not a number: {self:?}"))
    }

    /// The texts of the items.
    pub fn strings(&self) -> Vec<String> {
        self.items.iter().map(Value::string).collect()
    }

    /// The value beside `key` in a map, or in an array of pairs.
    pub fn field(&self, key: &str) -> Option<&Value> {
        self.items.chunks(2).find(|pair| pair[0].text == key.as_bytes()).map(|pair| &pair[1])
    }
}

/// A command line as arguments: words, `"with blanks"`, and `\xNN` or `\n`, `\r`, `\0` inside quotes.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quoted = false;
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            b' ' if !quoted => words.extend(word.take()),
            b'\\' if quoted => {
                let escaped = match bytes.next() {
                    Some(b'x') => {
                        let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                        u8::from_str_radix(&String::from_utf8_lossy(&digits), 16)
                            .expect("two digits follow \\x")
                    }
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b'0') => 0,
                    other => other.unwrap_or(b'\\'),
                };
                word.get_or_insert_default().push(escaped);
            }
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

/// A command as RESP.
pub fn encode(args: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.as_ref().len()).as_bytes());
        out.extend_from_slice(arg.as_ref());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Several command lines as one pipeline.
pub fn lines(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| encode(&words(line))).collect()
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    /// The socket, for tests that misbehave.
    pub stream: TcpStream,
    buf: Vec<u8>,
    at: usize,
}

impl Client {
    /// Connects to a port on loopback.
    pub fn connect(port: u16) -> io::Result<Client> {
        Self::connect_with(port, PATIENCE)
    }

    /// With another patience for replies.
    pub fn connect_with(port: u16, patience: Duration) -> io::Result<Client> {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, buf: Vec::new(), at: 0 })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// One command line and its reply.
    #[track_caller]
    pub fn line(&mut self, line: &str) -> Value {
        self.try_line(line).unwrap_or_else(|error| panic!("no reply to '{line}': {error}"))
    }

    /// One command line and its reply, or what went wrong with the connection.
    pub fn try_line(&mut self, line: &str) -> io::Result<Value> {
        self.try_call(&words(line))
    }

    /// One command and its reply.
    #[track_caller]
    pub fn call(&mut self, args: &[impl AsRef<[u8]>]) -> Value {
        self.try_call(args)
            .unwrap_or_else(|error| panic!("no reply to '{}': {error}", args[0].as_ref().escape_ascii()))
    }

    /// One command and its reply, or what went wrong with the connection.
    pub fn try_call(&mut self, args: &[impl AsRef<[u8]>]) -> io::Result<Value> {
        self.send(&encode(args))?;
        self.read()
    }

    /// A command line that must succeed.
    #[track_caller]
    pub fn ok(&mut self, line: &str) -> Value {
        let reply = self.line(line);
        assert!(!reply.is_error(), "'{line}' is answered {reply:?}");
        reply
    }

    /// Many commands in one write, and all their replies.
    #[track_caller]
    pub fn pipeline(&mut self, bytes: &[u8], count: usize) -> Vec<Value> {
        self.send(bytes).expect("the pipeline can be written");
        (0..count)
            .map(|i| self.read().unwrap_or_else(|error| panic!("no reply {i} of {count}: {error}")))
            .collect()
    }

    /// The next reply.
    pub fn read(&mut self) -> io::Result<Value> {
        let line = self.read_line()?;
        let (kind, rest) = (line[0], &line[1..]);
        let mut value = Value { kind, null: kind == b'_', text: Vec::new(), items: Vec::new() };
        let length = || {
            let text = std::str::from_utf8(rest).ok().and_then(|text| text.parse::<i64>().ok());
            text.ok_or_else(|| malformed(&line))
        };
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => value.text = rest.to_vec(),
            b'$' | b'!' | b'=' => match usize::try_from(length()?) {
                Ok(len) => value.text = self.read_exactly(len)?,
                Err(_) => value.null = true,
            },
            b'*' | b'%' | b'~' | b'>' => match usize::try_from(length()?) {
                Ok(len) => {
                    let count = if kind == b'%' { len * 2 } else { len };
                    value.items = (0..count).map(|_| self.read()).collect::<io::Result<_>>()?;
                }
                Err(_) => value.null = true,
            },
            _ => return Err(malformed(&line)),
        }
        Ok(value)
    }

    /// Is the connection closed by the other side? Replies that come first are thrown away.
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.fill() {
                Ok(()) => self.at = self.buf.len(),
                Err(error) => {
                    return error.kind() != ErrorKind::WouldBlock && error.kind() != ErrorKind::TimedOut;
                }
            }
        }
    }

    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let rest = &self.buf[self.at..];
            if let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
                let line = rest[..end].to_vec();
                self.at += end + 2;
                return if line.is_empty() { Err(malformed(&line)) } else { Ok(line) };
            }
            self.fill()?;
        }
    }

    fn read_exactly(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.buf.len() - self.at < len + 2 {
            self.fill()?;
        }
        let text = self.buf[self.at..self.at + len].to_vec();
        if &self.buf[self.at + len..self.at + len + 2] != b"\r\n" {
            return Err(malformed(&text));
        }
        self.at += len + 2;
        Ok(text)
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.at > 1 << 16 || self.at == self.buf.len() {
            self.buf.drain(..self.at);
            self.at = 0;
        }
        let mut space = vec![0; 1 << 16];
        let read = loop {
            match self.stream.read(&mut space) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.buf.extend_from_slice(&space[..read]);
        Ok(())
    }
}

fn malformed(line: &[u8]) -> io::Error {
    io::Error::other(format!("not a reply: {}", line[..line.len().min(200)].escape_ascii()))
}
