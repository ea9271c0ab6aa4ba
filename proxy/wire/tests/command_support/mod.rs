//! Real servers for the differential tests, and arguments built from words.

#![allow(dead_code)]

use quorate_wire::resp::{Args, Span};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A command that owns its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Words(pub Vec<Vec<u8>>);

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show())
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show())
    }
}

impl Words {
    /// From words between spaces.
    pub fn of(text: &str) -> Words {
        Words(text.split(' ').map(|word| word.as_bytes().to_vec()).collect())
    }

    /// From any words.
    pub fn from<W: AsRef<[u8]>>(words: &[W]) -> Words {
        Words(words.iter().map(|word| word.as_ref().to_vec()).collect())
    }

    /// Calls `then` with these words as arguments.
    pub fn with<T>(&self, then: impl FnOnce(Args) -> T) -> T {
        let bytes = self.0.concat();
        let mut end = 0;
        let spans = self.0.iter().map(|word| {
            let start = end;
            end += word.len() as u32;
            Span { start, end }
        });
        let spans: Vec<Span> = spans.collect();
        then(Args::new(&bytes, &spans))
    }

    /// For messages of failed assertions.
    pub fn show(&self) -> String {
        self.0.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// A reply, as far as tests look into it.
#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    Status(Vec<u8>),
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reply::Status(bytes) => write!(f, "+{}", bytes.escape_ascii()),
            Reply::Error(bytes) => write!(f, "-{}", bytes.escape_ascii()),
            Reply::Integer(value) => write!(f, ":{value}"),
            Reply::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Reply::Nil => f.write_str("nil"),
            Reply::Array(elements) => f.debug_list().entries(elements).finish(),
        }
    }
}

impl Reply {
    /// The elements of an array; of anything else none.
    pub fn array(self) -> Vec<Reply> {
        if let Reply::Array(elements) = self { elements } else { Vec::new() }
    }

    /// The bytes of a bulk string, a status or an error.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Reply::Status(bytes) | Reply::Error(bytes) | Reply::Bulk(bytes) => bytes,
            other => panic!("no string: {other:?}"),
        }
    }

    /// An integer, or a panic.
    pub fn integer(self) -> i64 {
        if let Reply::Integer(value) = self { value } else { panic!("no integer: {self:?}") }
    }
}

/// A server of its own for one test, stopped when dropped.
pub struct Server {
    child: Child,
    folder: PathBuf,
    stream: BufReader<UnixStream>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// Starts `redis-server`. It must be installed: without it the table is only believed.
    pub fn redis() -> Server {
        Server::start("redis-server").unwrap_or_else(|error| {
            panic!("these tests compare with a real Redis 7: put redis-server on PATH ({error})")
        })
    }

    /// Starts the Valkey that `QUORATE_VALKEY_SERVER` names, or `valkey-server`; `None` when there is none.
    pub fn valkey() -> Option<Server> {
        let program = std::env::var("QUORATE_VALKEY_SERVER").unwrap_or("valkey-server".into());
        Server::start(&program).inspect_err(|error| eprintln!("not compared with Valkey: {error}")).ok()
    }

    fn start(program: &str) -> std::io::Result<Server> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("quorate-wire-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let socket = folder.join("socket");
        let mut child = Command::new(program)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"])
            .arg(&socket)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let log = child.stdout.take().map(BufReader::new);
        let mut lines = log.into_iter().flat_map(BufRead::lines).map_while(Result::ok);
        if !lines.any(|line| line.to_lowercase().contains("ready to accept connections")) {
            child.kill()?;
            child.wait()?;
            return Err(std::io::Error::other(format!("{program} did not start")));
        }
        let stream = BufReader::new(UnixStream::connect(&socket)?);
        Ok(Server { child, folder, stream })
    }

    /// Sends a command and reads its reply.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Reply {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&out).expect("the server is up");
        self.read()
    }

    /// Sends a command of words between spaces.
    pub fn say(&mut self, text: &str) -> Reply {
        self.ask(&Words::of(text).0)
    }

    fn read(&mut self) -> Reply {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).expect("the server is up");
        let rest = line.get(1..line.len().saturating_sub(2)).expect("a whole line");
        let number = || std::str::from_utf8(rest).expect("digits").parse::<i64>().expect("a number");
        match line[0] {
            b'+' => Reply::Status(rest.to_vec()),
            b'-' => Reply::Error(rest.to_vec()),
            b':' => Reply::Integer(number()),
            b'$' | b'*' if number() < 0 => Reply::Nil,
            b'$' => {
                let mut bulk = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut bulk).expect("a whole reply");
                bulk.truncate(bulk.len() - 2);
                Reply::Bulk(bulk)
            }
            b'*' => Reply::Array((0..number()).map(|_| self.read()).collect()),
            other => panic!("unknown reply type {}", char::from(other)),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
