//! A server that does nothing: what it costs to answer clients at all, below which no proxy can get.

use clap::Parser;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// Answers each request of the load generator with +OK, unread: one thread, one epoll, one read and one write for
/// whatever a connection has sent.
#[derive(Parser)]
#[command(name = "floor", version)]
struct Options {
    /// Listens here, on 127.0.0.1
    #[arg(long)]
    port: u16,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, Options::parse().port))?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let readable = epoll::EventFlags::IN;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(id(&listener)), readable)?;
    let mut clients = HashMap::new();
    let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0; 64 << 10]);
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let from = event.data.u64();
            if from == id(&listener) {
                let client = listener.accept()?.0;
                client.set_nodelay(true)?;
                epoll::add(&epoll, &client, epoll::EventData::new_u64(id(&client)), readable)?;
                clients.insert(id(&client), client);
            } else if clients.get_mut(&from).is_none_or(|client| answer(client, &mut buffer).is_err()) {
                // Closing it takes it out of the epoll.
                clients.remove(&from);
            }
        }
    }
}

fn id(socket: &impl AsRawFd) -> u64 {
    socket.as_raw_fd() as u64
}

/// Values of the load generator have no star, so that each is the beginning of a request.
fn answer(client: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let read = client.read(buffer)?;
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let requests = buffer[..read].iter().filter(|byte| **byte == b'*').count();
    client.write_all(&b"+OK\r\n".repeat(requests))
}
