//! What idle client connections cost the server in memory.

use clap::Parser;
use quorate_benches::cpu::resident_bytes;
use quorate_benches::process::START;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::process::ExitCode;

/// Connections from one loopback address; the kernel has about 28,000 ports for each.
const PER_ADDRESS: u64 = 20_000;
/// Descriptors for everything but the connections.
const SPARE: u64 = 64;

/// Opens connections that send one PING each and then nothing, and prints the resident memory of
/// a process before and after.
///
/// The server must be allowed as many open files: ulimit -n.
/// Exit codes: 0 done, 2 usage, 4 cannot reach the server or open so many connections.
#[derive(Parser)]
#[command(name = "idle", version)]
struct Options {
    /// Name or address of the server
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Its port
    #[arg(long, default_value_t = 6379)]
    port: u16,
    /// The process whose memory is read
    #[arg(long)]
    pid: u32,
    /// How many connections
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    connections: u64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(4)
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    raise_open_files(options.connections + SPARE)?;
    let mut addresses = (options.host.as_str(), options.port).to_socket_addrs()?;
    let target = addresses.next().ok_or_else(|| io::Error::other("the host has no address"))?;
    let before = resident_bytes(options.pid)?;
    let mut connections = Vec::new();
    for nth in 0..options.connections {
        let connection = connect(target, nth).and_then(ping);
        let explain = |e| io::Error::other(format!("connection {} of {}: {e}", nth + 1, options.connections));
        connections.push(connection.map_err(explain)?);
    }
    let after = resident_bytes(options.pid)?;
    let grown = after.saturating_sub(before);
    println!("connections        {}", connections.len());
    println!("resident before    {} KiB", before >> 10);
    println!("resident after     {} KiB", after >> 10);
    println!("for a connection   {} bytes", grown / options.connections);
    Ok(())
}

fn connect(target: SocketAddr, nth: u64) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    if let IpAddr::V4(address) = target.ip()
        && address.is_loopback()
    {
        socket.bind(&SocketAddr::from((source(nth), 0)).into())?;
    }
    socket.connect_timeout(&target.into(), START)?;
    Ok(socket.into())
}

/// 127.0.0.1 for the first connections, then 127.0.0.2, …
fn source(nth: u64) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 1 + (nth / PER_ADDRESS) as u8)
}

fn ping(mut stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(START))?;
    stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
    let mut reply = [0; 7];
    stream.read_exact(&mut reply)?;
    if &reply != b"+PONG\r\n" {
        return Err(io::Error::other(format!("PING was answered with {}", reply.escape_ascii())));
    }
    Ok(stream)
}

fn raise_open_files(wanted: u64) -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    // Only a privileged process may go above the present maximum.
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let explain = |e| io::Error::other(format!("cannot open {wanted} files: {e}; see ulimit -n"));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).map_err(explain)
}
