//! A real redis-server for comparison.

#![allow(clippy::disallowed_types, reason = "a real server takes real time to start")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::parse;

/// A real server on a socket of its own, stopped when dropped.
pub struct Real {
    child: Child,
    dir: PathBuf,
    stream: UnixStream,
}

impl Real {
    /// Starts one, or says why not.
    pub fn start(name: &str) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("quorate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary folder");
        let socket = dir.join("s");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--databases", "1", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("skipped: no redis-server on the PATH");
            return None;
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "redis-server did not start: {error}"),
            }
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes a time-out");
        Some(Real { child, dir, stream })
    }

    /// Sends bytes and reads until a whole reply is there.
    pub fn ask(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.stream.write_all(bytes).expect("the server reads");
        let mut reply = Vec::new();
        let mut buffer = [0; 65536];
        loop {
            let n = self.stream.read(&mut buffer).expect("the server answers");
            assert!(n > 0, "the server closed the connection");
            reply.extend_from_slice(&buffer[..n]);
            if parse(&reply).is_some_and(|(_, used)| used == reply.len()) {
                return reply;
            }
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // The server may be gone already, and the folder is only temporary.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
