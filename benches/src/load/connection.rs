//! One client connection: bytes out from the script, replies in.

use super::{LoadError, Replies, Script, Seen, Settings};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for connecting and for HELLO.
const CONNECT: Duration = Duration::from_secs(5);

/// The bytes of a connection, in the clear or not.
enum Wire {
    Plain,
    Secure(Box<ClientConnection>),
}

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    wire: Wire,
    replies: Replies,
    cursor: usize,
    /// Part of the script that the socket has not taken yet.
    unsent: Range<usize>,
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// Open loop: requests whose time has come.
    pub(super) due: u64,
    /// Closed loop: when the batch in flight was sent.
    pub(super) batch_at: Instant,
}

impl Connection {
    pub(super) fn open(settings: &Settings, cursor: usize) -> Result<Connection, LoadError> {
        let target = settings.target;
        let refused = |source| LoadError::Connect { target, source };
        let stream = TcpStream::connect_timeout(&target, CONNECT).map_err(refused)?;
        stream.set_nodelay(true)?;
        let mut wire = match &settings.tls {
            None => Wire::Plain,
            Some(config) => Wire::Secure(Box::new(handshake(&stream, config)?)),
        };
        if settings.protocol != 2 {
            hello(&stream, &mut wire, settings.protocol)?;
        }
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            wire,
            replies: Replies::default(),
            cursor,
            unsent: 0..0,
            sent: 0,
            answered: 0,
            due: 0,
            batch_at: Instant::now(),
        })
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.sent - self.answered
    }

    /// Ready for more: all that was handed over is in the socket.
    pub(super) fn is_flushed(&self) -> bool {
        let sealed = matches!(&self.wire, Wire::Secure(tls) if tls.wants_write());
        self.unsent.is_empty() && !sealed
    }

    pub(super) fn send(&mut self, script: &Script, count: usize) -> Result<(), LoadError> {
        self.unsent = script.take(&mut self.cursor, count);
        self.sent += count as u64;
        self.flush(script)
    }

    pub(super) fn flush(&mut self, script: &Script) -> Result<(), LoadError> {
        while !self.is_flushed() {
            match self.wire.write(&self.stream, script.bytes(&self.unsent)) {
                Ok(written) => self.unsent.start += written,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.broken(e)),
            }
        }
        Ok(())
    }

    /// Reads until the socket is empty, as edge-triggered polling wants; says how many replies came.
    pub(super) fn receive(&mut self, buffer: &mut [u8], seen: &mut Seen) -> Result<u64, LoadError> {
        let before = seen.replies;
        loop {
            match self.wire.read(&self.stream, buffer) {
                Ok(0) => return Err(LoadError::Closed { answered: self.answered }),
                Ok(count) => {
                    self.replies.feed(&buffer[..count], seen)?;
                    // A stream socket that gave less than was asked for is empty.
                    if count < buffer.len() && matches!(self.wire, Wire::Plain) {
                        break;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.broken(e)),
            }
        }
        let replies = seen.replies - before;
        if replies > self.outstanding() {
            return Err(LoadError::NotResp("more replies than requests".into()));
        }
        self.answered += replies;
        Ok(replies)
    }

    fn broken(&self, e: std::io::Error) -> LoadError {
        match e.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                LoadError::Closed { answered: self.answered }
            }
            _ => LoadError::Io(e),
        }
    }
}

impl Wire {
    /// Takes some of the bytes, and puts what it can into the socket.
    fn write(&mut self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain => stream.write(bytes),
            Wire::Secure(tls) => {
                let taken = tls.writer().write(bytes)?;
                while tls.wants_write() {
                    match tls.write_tls(&mut stream) {
                        Ok(_) => {}
                        // What was taken is on its way, if not all of it is in the socket.
                        Err(e) if e.kind() == ErrorKind::WouldBlock && taken > 0 => break,
                        Err(e) => return Err(e),
                    }
                }
                Ok(taken)
            }
        }
    }

    fn read(&mut self, mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let Wire::Secure(tls) = self else { return stream.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(&mut stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

fn handshake(mut stream: &TcpStream, config: &Arc<ClientConfig>) -> io::Result<ClientConnection> {
    stream.set_read_timeout(Some(CONNECT))?;
    let host = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(config.clone(), host).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(tls)
}

fn hello(stream: &TcpStream, wire: &mut Wire, protocol: u8) -> Result<(), LoadError> {
    stream.set_read_timeout(Some(CONNECT))?;
    wire.write(stream, format!("*2\r\n$5\r\nHELLO\r\n$1\r\n{protocol}\r\n").as_bytes())?;
    let (mut replies, mut seen, mut buffer) = (Replies::default(), Seen::default(), [0; 4096]);
    while seen.replies == 0 {
        let count = wire.read(stream, &mut buffer)?;
        if count == 0 {
            return Err(LoadError::Hello { protocol, reply: "connection closed".into() });
        }
        replies.feed(&buffer[..count], &mut seen)?;
    }
    match seen.error_texts.pop() {
        Some(reply) => Err(LoadError::Hello { protocol, reply }),
        None => Ok(()),
    }
}
