//! What streams and commands are made of, so that random ones reach beyond the first byte; and a second opinion on
//! where the commands of a stream end.

use bolero::TypeGenerator;
use quorate_wire::resp::{Limits, args::split_inline};

/// A piece of a stream: mostly right, sometimes nearly.
#[derive(Debug, Clone, TypeGenerator)]
pub enum Stream {
    /// A whole command, or an array of strings.
    Command(Vec<Vec<u8>>),
    /// The head of something, with a length.
    Head(Kind, Length),
    /// A string with the length that it has.
    Bulk(Vec<u8>),
    /// A line of text.
    Line(Kind, Vec<u8>),
    /// One of the lines that the other end knows.
    Known(u8),
    /// Anything.
    Raw(Vec<u8>),
}

/// How a piece begins.
#[derive(Debug, Clone, Copy, TypeGenerator)]
pub struct Kind(u8);

/// A length as it may be written.
#[derive(Debug, Clone, TypeGenerator)]
pub enum Length {
    /// Of a short one.
    Short(u8),
    /// Any.
    Any(i64),
    /// As servers do not write it.
    Odd(u8),
}

const KINDS: &[u8] = b"*$+-:_#,(!=%~>|";
const ODD: &[&str] =
    &["+1", "01", "-0", "", " 1", "1 ", "-1", "99999999999999999999", "0", "1e1", "-01", "0x1"];
const KNOWN: &[&str] = &[
    "+OK\r\n",
    "+QUEUED\r\n",
    "*3\r\n",
    "*4\r\n",
    "*5\r\n",
    "-EXECABORT Transaction discarded\r\n",
    "-OOM command not allowed\r\n",
    "-ERR unknown command\r\n",
    "-\n",
    "-\r\n",
    "*-1\r\n",
    "$-1\r\n",
    ":-2\r\n",
    "\r\n",
    "set a 'b\\'c' \"\\x41\\n\"\r\n",
    "get \"a\n",
];

impl Stream {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Stream::Command(words) => {
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                quorate_wire::resp::encode::command_bytes(&words).to_vec()
            }
            Stream::Head(kind, length) => format!("{}{}\r\n", char::from(kind.byte()), length.text()).into(),
            Stream::Bulk(bytes) => [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
            Stream::Line(kind, text) => [&[kind.byte()], &text[..], b"\r\n"].concat(),
            Stream::Known(nth) => KNOWN[usize::from(*nth) % KNOWN.len()].into(),
            Stream::Raw(bytes) => bytes.clone(),
        }
    }
}

impl Kind {
    fn byte(self) -> u8 {
        KINDS[usize::from(self.0) % KINDS.len()]
    }
}

impl Length {
    fn text(&self) -> String {
        match self {
            Length::Short(length) => (length % 8).to_string(),
            Length::Any(length) => length.to_string(),
            Length::Odd(nth) => ODD[usize::from(*nth) % ODD.len()].to_string(),
        }
    }
}

/// The pieces in turn, as far as they are looked at.
pub fn stream(parts: &[Stream]) -> Vec<u8> {
    // What is found is found in short ones, and those are read often.
    const LONGEST: usize = 600;
    parts.iter().flat_map(Stream::bytes).take(LONGEST).collect()
}

/// A word of a command.
#[derive(Debug, Clone, TypeGenerator)]
pub enum Word {
    /// One that some command gives a meaning.
    Known(u8),
    /// A small number.
    Small(u8),
    /// A number.
    Number(i64),
    /// A length as servers do not write it.
    Odd(Length),
    /// Anything.
    Any(Vec<u8>),
}

const WORDS: &[&str] = &[
    "k",
    "EX",
    "px",
    "EXAT",
    "PXAT",
    "NX",
    "xx",
    "GT",
    "lt",
    "KEEPTTL",
    "GET",
    "PERSIST",
    "IFEQ",
    "FIELDS",
    "FNX",
    "STREAMS",
    "COUNT",
    "BLOCK",
    "GROUP",
    "MAXLEN",
    "MINID",
    "~",
    "=",
    "LIMIT",
    "*",
    "1-*",
    "1-1",
    "$",
    ">",
    "NOMKSTREAM",
    "STORE",
    "STOREDIST",
    "BY",
    "KEYS",
    "COPY",
    "REPLACE",
    "ABSTTL",
    "IDLETIME",
    "FREQ",
    "DB",
    "AUTH",
    "WEIGHTS",
    "AGGREGATE",
    "LEFT",
    "MIN",
    "MAX",
    "ASYNC",
    "sync",
    "inf",
    "nan",
    "1e400",
    "-0",
    "0.5",
    "__quorate:{g}:pos",
    "9223372036854775807",
    "9223372036854775",
    "-9223372036854775808",
    "\0",
];

impl Word {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Word::Known(nth) => WORDS[usize::from(*nth) % WORDS.len()].into(),
            Word::Small(number) => (number % 8).to_string().into(),
            Word::Number(number) => number.to_string().into(),
            Word::Odd(length) => length.text().into(),
            Word::Any(bytes) => bytes.clone(),
        }
    }
}

/// The commands of a stream that is there whole, and whether it ends in nonsense: as servers read it, in the plainest
/// way that it can be read.
pub fn model(stream: &[u8], limits: &Limits) -> (Vec<Vec<Vec<u8>>>, bool) {
    let (mut rest, mut found) = (stream, Vec::new());
    loop {
        match first(rest, limits) {
            Ok(Some((command, len))) => {
                found.push(command);
                rest = &rest[len..];
            }
            Ok(None) => return (found, false),
            Err(Nonsense) => return (found, true),
        }
    }
}

struct Nonsense;

type Found<T> = Result<Option<(T, usize)>, Nonsense>;

fn first(stream: &[u8], limits: &Limits) -> Found<Vec<Vec<u8>>> {
    if stream.first().is_some_and(|byte| *byte != b'*') {
        let end = stream.iter().position(|byte| *byte == b'\n');
        return match end {
            Some(end) if end <= limits.inline => {
                let line = stream[..end].strip_suffix(b"\r").unwrap_or(&stream[..end]);
                Ok(Some((split_inline(line).ok_or(Nonsense)?, end + 1)))
            }
            _ if stream.len() > limits.inline => Err(Nonsense),
            _ => Ok(None),
        };
    }
    let Some((count, mut at)) = length(stream, limits)? else { return Ok(None) };
    if count > limits.args as i64 {
        return Err(Nonsense);
    }
    let mut words = Vec::new();
    for _ in 0..count {
        match stream.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(_) => return Err(Nonsense),
        }
        let Some((len, head)) = length(&stream[at..], limits)? else { return Ok(None) };
        let len = usize::try_from(len).ok().filter(|len| *len <= limits.bulk).ok_or(Nonsense)?;
        if at + head + len > limits.frame {
            return Err(Nonsense);
        }
        at += head;
        let Some(word) = stream.get(at..at + len + 2) else { return Ok(None) };
        words.push(word[..len].to_vec());
        at += len + 2;
    }
    Ok(Some((words, at)))
}

/// The number behind the first byte, and where what follows it begins. Servers do not look at the byte after the
/// carriage return.
fn length(stream: &[u8], limits: &Limits) -> Found<i64> {
    let Some(text) = stream.get(1..) else { return Ok(None) };
    match text.iter().position(|byte| *byte == b'\r') {
        end if end.unwrap_or(text.len()) > limits.inline => Err(Nonsense),
        Some(end) if text.len() > end + 1 => {
            let text = std::str::from_utf8(&text[..end]).map_err(|_| Nonsense)?;
            let number: i64 = text.parse().map_err(|_| Nonsense)?;
            // Servers read a number only in the form that they write it in.
            if number.to_string() == text { Ok(Some((number, end + 3))) } else { Err(Nonsense) }
        }
        _ => Ok(None),
    }
}
