//! A connection, plain or under TLS, whole or in halves that live on one thread.
//!
//! A plain half is the system's own, so nothing comes between it and its user. Under TLS both halves share the
//! state of the encryption, which keeps at most one buffer of what the socket did not take yet.

use rustls::Connection;
use std::cell::RefCell;
use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What one step of the encryption reads from a socket at most. A step that got so much is followed by another.
const STEP: usize = 4096;

/// A connection whose handshake, if it needs one, is done.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<Secured>),
}

impl Stream {
    /// An encrypted connection, from the socket and the state that the handshake left.
    pub fn secured(socket: TcpStream, tls: Connection) -> Stream {
        Stream::Tls(Box::new(Secured { socket, tls: RefCell::new(tls) }))
    }

    /// The socket, for its addresses and options.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(secured) => &secured.socket,
        }
    }

    /// Both directions by themselves.
    pub fn into_split(self) -> (Reader, Writer) {
        match self {
            Stream::Plain(socket) => {
                let (reader, writer) = socket.into_split();
                (Reader::Plain(reader), Writer::Plain(writer))
            }
            Stream::Tls(secured) => {
                let secured = Rc::new(*secured);
                (Reader::Tls(secured.clone()), Writer::Tls(secured))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Tls(secured) => secured.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Stream::Tls(secured) => secured.poll(cx, || secured.try_write_vectored(&[IoSlice::new(buf)])),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(secured) => secured.poll(cx, || match secured.try_flush()? {
                true => Ok(()),
                false => Err(ErrorKind::WouldBlock.into()),
            }),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(secured) => Pin::new(&mut secured.socket).poll_shutdown(cx),
        }
    }
}

/// What the other side says.
#[derive(Debug)]
pub enum Reader {
    /// As it is.
    Plain(OwnedReadHalf),
    /// Decrypted.
    Tls(Rc<Secured>),
}

impl AsyncRead for Reader {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Reader::Plain(half) => Pin::new(half).poll_read(cx, buf),
            Reader::Tls(secured) => secured.poll_read(cx, buf),
        }
    }
}

/// What is said to the other side.
#[derive(Debug)]
pub enum Writer {
    /// As it is.
    Plain(OwnedWriteHalf),
    /// Encrypted.
    Tls(Rc<Secured>),
}

impl Writer {
    /// Writes what is taken now; `WouldBlock` when that is nothing. Under TLS something may be left that
    /// [`Self::try_flush`] writes.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Writer::Plain(half) => half.try_write(bytes),
            Writer::Tls(secured) => secured.try_write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    /// The same of several pieces.
    #[inline]
    pub fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Writer::Plain(half) => half.try_write_vectored(parts),
            Writer::Tls(secured) => secured.try_write_vectored(parts),
        }
    }

    /// Writes what is left of earlier writes. `Ok(false)`: the socket takes no more now.
    #[inline]
    pub fn try_flush(&self) -> io::Result<bool> {
        match self {
            Writer::Plain(_) => Ok(true),
            Writer::Tls(secured) => secured.try_flush(),
        }
    }

    /// Waits until the socket takes something.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Writer::Plain(half) => half.writable().await,
            Writer::Tls(secured) => secured.socket.writable().await,
        }
    }

    /// The socket, where what is on it is what was written.
    pub fn plain(&self) -> Option<&TcpStream> {
        match self {
            Writer::Plain(half) => Some(half.as_ref()),
            Writer::Tls(_) => None,
        }
    }
}

/// A socket and the state of its encryption.
#[derive(Debug)]
pub struct Secured {
    socket: TcpStream,
    tls: RefCell<Connection>,
}

impl Secured {
    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tls = &mut *self.tls.borrow_mut();
        let before = buf.filled().len();
        loop {
            if take_plain(tls, buf)? || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let read = match tls.read_tls(&mut Direct(&self.socket)) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                    ready!(self.socket.poll_read_ready(cx))?;
                    continue;
                }
                Err(error) => return Poll::Ready(Err(error)),
            };
            if let Err(error) = tls.process_new_packets() {
                // The other side is told why, if it listens.
                let _ = self.push(tls);
                return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, error)));
            }
            if tls.wants_write() {
                self.push(tls)?;
            }
            let ended = take_plain(tls, buf)?;
            if ended || (read < STEP && buf.filled().len() > before) {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let tls = &mut *self.tls.borrow_mut();
        // What was taken earlier goes first: so no more than one buffer is ever kept.
        if !self.push(tls)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = tls.writer().write_vectored(parts)?;
        self.push(tls)?;
        Ok(taken)
    }

    fn try_flush(&self) -> io::Result<bool> {
        self.push(&mut self.tls.borrow_mut())
    }

    /// Writes what is encrypted. `false`: the socket takes no more now.
    fn push(&self, tls: &mut Connection) -> io::Result<bool> {
        while tls.wants_write() {
            match tls.write_tls(&mut Direct(&self.socket)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Tries until it is done, or waits for the socket.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match attempt() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let tls = self.tls.get_mut();
        tls.send_close_notify();
        let mut rest = Direct(&self.socket);
        while tls.wants_write() && tls.write_tls(&mut rest).is_ok_and(|written| written > 0) {}
    }
}

/// Moves decrypted bytes to `buf`. `true`: the other side says no more.
fn take_plain(tls: &mut Connection, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
    let before = buf.filled().len();
    let mut reader = tls.reader();
    while buf.remaining() > 0 {
        let taken = match reader.fill_buf() {
            Ok([]) => return Ok(true),
            Ok(plain) => {
                let some = &plain[..plain.len().min(buf.remaining())];
                buf.put_slice(some);
                some.len()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // It ended without saying so; what it said before counts.
            Err(_) if buf.filled().len() > before => return Ok(true),
            Err(error) => return Err(error),
        };
        reader.consume(taken);
    }
    Ok(false)
}

/// The socket for the encryption, which never waits.
struct Direct<'a>(&'a TcpStream);

impl Read for Direct<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
