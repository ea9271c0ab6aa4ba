//! Servers that a benchmark starts: each is stopped when its guard goes, whatever happens.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it answers.
pub const START: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// A running server that listens on a loopback port. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts `command`; what it prints goes to a file in `dir`.
    pub fn start(name: &str, mut command: Command, port: u16, dir: &Path) -> io::Result<Server> {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn()?;
        Ok(Server { child, name: name.into(), log, address: loopback(port) })
    }

    /// Waits until it carries out a SET, which for a proxy means that its backends answer too.
    pub fn wait_until_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("ended with {status}")));
            }
            let answer = try_set(self.address);
            if matches!(&answer, Ok(reply) if reply.starts_with(b"+OK\r\n")) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let last = match answer {
                    Ok(reply) => reply.escape_ascii().to_string(),
                    Err(e) => e.to_string(),
                };
                return Err(self.failure(&format!("not ready after {} s: {last}", START.as_secs())));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error that names the server and ends with the last lines it printed.
    pub fn failure(&self, what: &str) -> io::Error {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let mut text = format!("{} {what}", self.name);
        for line in &lines[lines.len().saturating_sub(5)..] {
            text.push_str("\n    | ");
            text.push_str(line);
        }
        io::Error::other(text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback port that nobody listened on a moment ago.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(loopback(0))?.local_addr()?.port())
}

/// 127.0.0.1 with a port.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The first of `names` that is an executable: as a path, else on PATH, else where daemons live.
pub fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    names.iter().find_map(|name| {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| path.is_file());
        }
        folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    })
}

fn try_set(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, START)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"*3\r\n$3\r\nSET\r\n$5\r\nready\r\n$3\r\nyes\r\n")?;
    let mut reply = Vec::new();
    let mut buffer = [0; 512];
    while !reply.ends_with(b"\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed")),
            count => reply.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_is_reported_with_its_last_words() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such port >&2; exit 3"]);
        let mut server = Server::start("broken", command, 1, dir.path()).expect("sh starts");
        let error = server.wait_until_ready().expect_err("it ended").to_string();
        assert!(error.contains("broken ended") && error.contains("no such port"), "{error}");
    }
}
