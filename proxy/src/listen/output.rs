//! What waits to be written to one client.

use crate::tls::Writer;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Replies up to this many bytes are copied together, so that one write sends many of them.
const COPY_BYTES: usize = 1024;
const SLICES: usize = 32;

/// A client's unsent bytes.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Bytes>,
    small: BytesMut,
    bytes: usize,
    /// The encryption keeps something that the socket did not take.
    unflushed: bool,
}

impl Output {
    /// Unsent bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Unsent bytes behind the reply that is being written.
    pub fn behind_first(&self) -> usize {
        self.bytes - self.chunks.front().map_or(0, Bytes::len)
    }

    /// Everything is written?
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && !self.unflushed
    }

    /// Adds a reply at the end.
    pub fn push(&mut self, reply: Bytes) {
        if reply.is_empty() {
            return;
        }
        self.bytes += reply.len();
        if self.small.is_empty() && self.chunks.is_empty() {
            // Usually the only one: no copy.
            self.chunks.push_back(reply);
        } else if reply.len() <= COPY_BYTES {
            self.small.extend_from_slice(&reply);
        } else {
            self.seal();
            self.chunks.push_back(reply);
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push_back(self.small.split().freeze());
        }
    }

    /// Writes what the socket takes. `Ok(false)`: it takes no more now.
    pub fn write(&mut self, socket: &Writer) -> io::Result<bool> {
        self.seal();
        while let Some(first) = self.chunks.front() {
            let written = if self.chunks.len() == 1 {
                socket.try_write(first)
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = self.chunks.len().min(SLICES);
                self.chunks
                    .iter()
                    .take(SLICES)
                    .enumerate()
                    .for_each(|(i, chunk)| slices[i] = IoSlice::new(chunk));
                socket.try_write_vectored(&slices[..count])
            };
            match written {
                Ok(n) => self.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.unflushed = !socket.try_flush()?;
        // An idle client keeps no buffer.
        if self.small.capacity() > 0 {
            self.small = BytesMut::new();
        }
        Ok(!self.unflushed)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.chunks.front_mut() {
            if written < first.len() {
                bytes::Buf::advance(first, written);
                return;
            }
            written -= first.len();
            self.chunks.pop_front();
        }
    }
}
