//! One blocking connection that speaks RESP2, with a limit on how long it waits.

use bytes::{Bytes, BytesMut};
use quorate_wire::resp::{Scanner, Value, encode};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long the suite's own questions to servers may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A connection; after an error it must not be used again.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    /// Connects; `patience` limits connecting and each reply.
    pub fn open(address: SocketAddr, patience: Duration) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: BytesMut::new() })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next reply.
    pub fn receive(&mut self) -> io::Result<Value> {
        let mut scanner = Scanner::default();
        loop {
            if let Some(len) = scanner.next(&self.buffer).map_err(io::Error::other)? {
                let reply = self.buffer.split_to(len).freeze();
                return Value::parse(&reply).ok_or_else(|| io::Error::other("not RESP2"));
            }
            let mut chunk = [0; 1 << 14];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// One command and its reply.
    pub fn call(&mut self, args: &[&[u8]]) -> io::Result<Value> {
        self.send(&encode::command_bytes(args))?;
        self.receive()
    }

    /// The same, from words.
    pub fn line(&mut self, line: &str) -> io::Result<Value> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.call(&words)
    }

    /// Many commands at once, and all their replies.
    pub fn pipeline(&mut self, commands: &[Bytes]) -> io::Result<Vec<Value>> {
        self.send(&commands.concat())?;
        commands.iter().map(|_| self.receive()).collect()
    }
}
