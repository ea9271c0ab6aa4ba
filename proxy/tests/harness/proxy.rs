//! The real proxy as a process, with its configuration, its log and its admin endpoint.

use super::server::copy_folder;
use super::{Client, Kind, LONG, Server, free_port, signal, wait_until};
use serde_json::Value as Json;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// The command line tool.
pub fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// How a run of the tool ended.
#[derive(Debug)]
pub struct Finished {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Finished {
    /// Runs to the end.
    pub fn of(command: &mut Command) -> Finished {
        let output = command.output().expect("the tool can be started");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Finished { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// `GET` of a path on loopback: the status code and the body.
pub fn http(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), LONG)?;
    stream.set_read_timeout(Some(LONG))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no HTTP"))?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or_else(|| std::io::Error::other("no HTTP"))?, body.to_string()))
}

/// What a proxy shall be.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which servers.
    pub kind: Kind,
    /// How many.
    pub replicas: usize,
    /// Further arguments of the servers.
    pub server_args: Vec<&'static str>,
    /// Further lines of each backend, which is then reached over TLS.
    pub backend_tls: Option<String>,
    /// How many groups the backends are dealt to, in their order: `g`, `g2`, …
    pub groups: usize,
    /// Further lines of `[listen.main]`.
    pub listen: String,
    /// Further lines of `[group.g]`.
    pub group: String,
    /// Further sections, placed last.
    pub rest: String,
}

impl Setup {
    /// A group with every default.
    pub fn new(kind: Kind, replicas: usize) -> Setup {
        let (listen, group) = (String::new(), String::new());
        Setup {
            kind,
            replicas,
            server_args: vec![],
            backend_tls: None,
            groups: 1,
            listen,
            group,
            rest: String::new(),
        }
    }

    /// With so many groups behind the listener.
    pub fn groups(mut self, groups: usize) -> Setup {
        self.groups = groups;
        self
    }

    /// With further lines in the group's section.
    pub fn group(mut self, lines: &str) -> Setup {
        self.group.push_str(lines);
        self.group.push('\n');
        self
    }

    /// With further lines in the listener's section.
    pub fn listen(mut self, lines: &str) -> Setup {
        self.listen.push_str(lines);
        self.listen.push('\n');
        self
    }

    /// The configuration; backend `i` is `r{i+1}` in zone `a`, `b`, `c`…
    pub fn toml(&self, port: u16, admin: u16, backends: &[u16]) -> String {
        let mut text =
            format!("[listen.main]\naddress = \"127.0.0.1:{port}\"\n{}\n{}", self.led_to(), self.listen);
        let names: Vec<String> = (1..=backends.len()).map(|i| format!("r{i}")).collect();
        for (i, backend) in backends.iter().enumerate() {
            let zone = char::from(b'a' + i as u8);
            let scheme = if self.backend_tls.is_some() { "rediss" } else { "redis" };
            let tls = self.backend_tls.as_deref().unwrap_or_default();
            text += &format!(
                "[backend.{}]\nurl = \"{scheme}://127.0.0.1:{backend}\"\nzone = \"{zone}\"\n{tls}\n",
                names[i]
            );
        }
        for (i, replicas) in names.chunks(names.len() / self.groups).enumerate() {
            text += &format!("[group.{}]\nreplicas = {replicas:?}\n{}\n", group_name(i), self.group);
        }
        text += &format!("[admin]\naddress = \"127.0.0.1:{admin}\"\n[state]\ndir = \"state\"\n{}", self.rest);
        text
    }

    fn led_to(&self) -> String {
        match self.groups {
            1 => "group = \"g\"".into(),
            _ => format!("groups = {:?}", (0..self.groups).map(group_name).collect::<Vec<_>>()),
        }
    }
}

fn group_name(i: usize) -> String {
    if i == 0 { "g".into() } else { format!("g{}", i + 1) }
}

/// A running proxy; it is killed when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect.
    pub port: u16,
    /// Where status and metrics are.
    pub admin: u16,
    dir: TempDir,
    child: Option<Child>,
    log: Arc<Mutex<String>>,
}

impl Proxy {
    /// Starts one over these backends; it may not serve yet.
    pub fn start(setup: &Setup, backends: &[u16]) -> Proxy {
        let (port, admin) = (free_port(), free_port());
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("quorate.toml"), setup.toml(port, admin, backends))
            .expect("the configuration");
        let mut proxy = Proxy { port, admin, dir, child: None, log: Arc::default() };
        proxy.run();
        proxy
    }

    /// Starts it again with what it left behind.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let mut child = quorate()
            .args(["run", "-c"])
            .arg(self.config())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the proxy can be started");
        let stderr = child.stderr.take().expect("piped");
        let log = self.log.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if let Ok(mut log) = log.lock() {
                    log.push_str(&String::from_utf8_lossy(&line));
                }
                line.clear();
            }
        });
        self.child = Some(child);
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("quorate.toml")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// All that it wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        let mut child = self.child.take().expect("it runs");
        wait_until("the proxy ends", LONG, || {
            status = child.try_wait().expect("it can be asked");
            status.is_some()
        });
        status.expect("just seen")
    }

    /// Loses the state folder.
    pub fn forget(&self) {
        fs::remove_dir_all(self.dir.path().join("state")).expect("the state folder is there");
    }

    /// Gets a copy of another one's state folder instead of its own.
    pub fn inherit(&self, other: &Proxy) {
        self.forget();
        copy_folder(&other.dir.path().join("state"), &self.dir.path().join("state"));
    }

    /// A client of the proxy.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port).expect("the proxy accepts a client")
    }

    /// A page of the admin endpoint; code 0 when it does not answer.
    pub fn page(&self, path: &str) -> (u16, String) {
        http(self.admin, path).unwrap_or_default()
    }

    /// The group as `/status` has it; null while it does not answer.
    pub fn group(&self) -> Json {
        let (_, body) = self.page("/status");
        let status: Json = serde_json::from_str(&body).unwrap_or_default();
        status["groups"][0].clone()
    }

    /// The state of each replica.
    pub fn states(&self) -> Vec<String> {
        let group = self.group();
        let replicas = group["replicas"].as_array().cloned().unwrap_or_default();
        replicas.iter().map(|r| r["state"].as_str().unwrap_or_default().to_string()).collect()
    }

    /// What `/status` says is wrong with each replica.
    pub fn problems(&self) -> Vec<String> {
        let group = self.group();
        let replicas = group["replicas"].as_array().cloned().unwrap_or_default();
        replicas.iter().map(|r| r["problem"].as_str().unwrap_or_default().to_string()).collect()
    }

    /// A sample of `/metrics`: the sum over all labels.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, body) = self.page("/metrics");
        let samples = body.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Changes its configuration, for the next start.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.config()).expect("the configuration is there");
        fs::write(self.config(), change(text)).expect("it can be changed");
    }

    /// Waits until `/readyz` says so.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait_until("the proxy is ready", LONG, || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("the proxy ended with {status}:\n{}", self.log());
            }
            self.page("/readyz").0 == 200
        });
    }

    /// Waits until every replica takes part and has everything.
    #[track_caller]
    pub fn wait_in_sync(&self) {
        let mut last = Vec::new();
        let start = std::time::Instant::now();
        while last.is_empty() || last.iter().any(|state| state != "in-sync") {
            assert!(
                start.elapsed() < LONG,
                "the replicas stay {last:?} {:?}:\n{}",
                self.problems(),
                tail(&self.log())
            );
            std::thread::sleep(Duration::from_millis(10));
            last = self.states();
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- the proxy's last lines ---\n{}", tail(&log));
        } else {
            // The panic of a policy's component is told in other words.
            let panicked =
                log.lines().any(|line| line.starts_with("thread '") && line.contains("panicked at"));
            assert!(!panicked, "the proxy panicked:\n{log}");
        }
    }
}

/// Servers and a proxy over them.
#[derive(Debug)]
pub struct Cluster {
    /// The proxy; first, so that it ends first.
    pub proxy: Proxy,
    /// The servers.
    pub servers: Vec<Server>,
    /// What it was made from.
    pub setup: Setup,
}

impl Cluster {
    /// Starts everything and waits until all replicas are in sync.
    #[track_caller]
    pub fn start(setup: Setup) -> Cluster {
        let servers: Vec<Server> =
            (0..setup.replicas).map(|_| Server::start_with(setup.kind, &setup.server_args)).collect();
        let mut proxy = Proxy::start(&setup, &ports(&servers));
        proxy.wait_ready();
        proxy.wait_in_sync();
        Cluster { proxy, servers, setup }
    }

    /// Three Redis servers and every default.
    #[track_caller]
    pub fn usual() -> Cluster {
        Cluster::start(Setup::new(Kind::Redis, 3))
    }

    /// A client of the proxy.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.proxy.client()
    }

    /// Another proxy over the same servers, with a state folder of its own.
    pub fn second_proxy(&self) -> Proxy {
        Proxy::start(&self.setup, &ports(&self.servers))
    }

    /// Waits until all are in sync, and compares all data.
    #[track_caller]
    pub fn assert_equal(&self) {
        self.proxy.wait_in_sync();
        super::assert_equal(&self.servers);
    }
}

/// The ports of servers.
pub fn ports(servers: &[Server]) -> Vec<u16> {
    servers.iter().map(|server| server.port).collect()
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
