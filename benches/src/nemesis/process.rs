//! The processes of a run: backends and proxies that can be killed, frozen and started again.

use super::aof::{whole_transactions, without_holes};
use super::connection::{Connection, PATIENCE};
use super::network::{Host, Network};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the proxy's status may take; longer means that it does not answer.
const STATUS: Duration = Duration::from_secs(1);

/// A process that may be running or not.
#[derive(Debug)]
struct Runner {
    name: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Runner {
    fn new(name: String, dir: &Path) -> Runner {
        Runner { log: dir.join(format!("{name}.log")), name, child: None }
    }

    /// Starts it in `cwd`, by which the janitor knows it.
    fn start(&mut self, mut command: Command, cwd: &Path) -> io::Result<()> {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let out = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.current_dir(cwd).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        self.child = Some(command.spawn()?);
        Ok(())
    }

    fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let child = self.child.as_ref().ok_or_else(|| io::Error::other(format!("{} is down", self.name)))?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// An error when it ended although nobody ended it.
    fn assert_alive(&mut self) -> io::Result<()> {
        let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() else {
            return Ok(());
        };
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(1000)..]).into_owned();
        Err(io::Error::other(format!("{} ended by itself with {status}:\n{log}", self.name)))
    }
}

/// One Redis or Valkey server. It is not stopped when this is dropped: the janitor does that.
#[derive(Debug)]
pub struct Backend {
    /// Where it is in the network.
    pub host: Host,
    /// Where it listens.
    pub address: SocketAddr,
    /// Files with holes that it left behind.
    pub holes: u64,
    program: PathBuf,
    data: PathBuf,
    runner: Runner,
}

impl Backend {
    /// A backend that is not running yet. As root its data is on a file system of its own, which can be full.
    pub fn new(nth: usize, program: &Path, network: &Network, dir: &Path) -> io::Result<Backend> {
        let host = Host::Backend(nth);
        let data = dir.join(host.name());
        fs::create_dir_all(&data)?;
        let address = network.endpoint(host, 6379)?;
        let runner = Runner::new(host.name(), dir);
        Ok(Backend { host, address, holes: 0, program: program.into(), data, runner })
    }

    /// Gives it a small disk. Needs root.
    pub fn mount_small_disk(&self) -> io::Result<()> {
        super::network::run(
            "mount",
            &["-t", "tmpfs", "-o", "size=256m", "tmpfs", &self.data.to_string_lossy()],
        )
    }

    /// Starts it with the data it has. Holes in its files, which no server loads, are closed and counted.
    pub fn start(&mut self, network: &Network) -> io::Result<()> {
        for part in self.parts()? {
            self.close_holes(&part)?;
        }
        let mut command = network.command(self.host, &self.program);
        let (ip, port) = (self.address.ip().to_string(), self.address.port().to_string());
        command.args(["--port", &port, "--bind", &ip, "--save", "", "--protected-mode", "no"]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
        command.args(["--auto-aof-rewrite-min-size", "16mb", "--repl-diskless-sync-delay", "0"]);
        command.arg("--dir").arg(&self.data);
        self.runner.start(command, &self.data)
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> io::Result<()> {
        self.runner.kill()
    }

    /// Loses all its data. It must not be running.
    pub fn wipe(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.data)?;
        fs::create_dir_all(&self.data)
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> io::Result<()> {
        self.runner.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> io::Result<()> {
        self.runner.signal(Signal::CONT)
    }

    /// Removes the last bytes of its append-only file, as a power loss does. It must not be running. Unless the end
    /// may be torn, it is cut further, to the end of a transaction, which is what `redis-check-aof --fix` leaves.
    pub fn forget_last(&mut self, bytes: u64, torn: bool) -> io::Result<()> {
        let Some(last) = self.parts()?.pop() else { return Ok(()) };
        self.close_holes(&last)?;
        let content = fs::read(&last)?;
        let kept = &content[..content.len().saturating_sub(bytes as usize)];
        let len = if torn { kept.len() } else { whole_transactions(kept) };
        OpenOptions::new().write(true).open(last)?.set_len(len as u64)
    }

    fn close_holes(&mut self, part: &Path) -> io::Result<()> {
        let Some(whole) = without_holes(&fs::read(part)?) else { return Ok(()) };
        self.holes += 1;
        fs::write(part, whole)
    }

    /// What its append-only file is made of beside the base, the newest part last.
    fn parts(&self) -> io::Result<Vec<PathBuf>> {
        let folder = match fs::read_dir(self.data.join("appendonlydir")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            folder => folder?,
        };
        let mut parts = folder.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        parts.retain(|path| path.to_string_lossy().ends_with(".incr.aof"));
        parts.sort_by_key(|path| part_number(path));
        Ok(parts)
    }

    /// Uses up its small disk.
    pub fn fill_disk(&self) -> io::Result<()> {
        let mut file = File::create(self.filler())?;
        let block = vec![0; 1 << 20];
        for size in [block.len(), 4096] {
            loop {
                match file.write_all(&block[..size]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Gives the space back.
    pub fn empty_disk(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }

    fn filler(&self) -> PathBuf {
        self.data.join("filler")
    }

    /// A connection to the server itself.
    pub fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.address, PATIENCE)
    }

    /// Does it carry out commands?
    pub fn answers(&self) -> bool {
        Connection::open(self.address, STATUS)
            .and_then(|mut c| c.line("PING"))
            .is_ok_and(|pong| pong.text().is_some())
    }

    /// An error when it ended although nobody ended it.
    pub fn assert_alive(&mut self) -> io::Result<()> {
        self.runner.assert_alive()
    }
}

/// `appendonly.aof.12.incr.aof` is 12.
fn part_number(path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.split('.').filter_map(|word| word.parse().ok()).next().unwrap_or(0)
}

/// One proxy. It is not stopped when this is dropped: the janitor does that.
#[derive(Debug)]
pub struct Proxy {
    /// Where it is in the network.
    pub host: Host,
    /// Where clients connect.
    pub address: SocketAddr,
    admin: SocketAddr,
    program: PathBuf,
    dir: PathBuf,
    runner: Runner,
}

impl Proxy {
    /// A proxy that is not running yet, with a state folder of its own.
    pub fn new(
        nth: usize,
        program: &Path,
        network: &Network,
        (backends, group): (&[SocketAddr], &str),
        dir: &Path,
    ) -> io::Result<Proxy> {
        let host = Host::Proxy(nth);
        let home = dir.join(host.name());
        fs::create_dir_all(&home)?;
        let (address, admin) = (network.endpoint(host, 6400)?, network.endpoint(host, 9400)?);
        fs::write(home.join("quorate.toml"), configuration(address, admin, backends, group))?;
        let runner = Runner::new(host.name(), dir);
        Ok(Proxy { host, address, admin, program: program.into(), dir: home, runner })
    }

    /// Starts it with the state it has.
    pub fn start(&mut self, network: &Network) -> io::Result<()> {
        let mut command = network.command(self.host, &self.program);
        command.args(["run", "-c", "quorate.toml"]).env_remove("QUORATE_LOG");
        self.runner.start(command, &self.dir)
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> io::Result<()> {
        self.runner.kill()
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> io::Result<()> {
        self.runner.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> io::Result<()> {
        self.runner.signal(Signal::CONT)
    }

    /// Loses its state folder.
    pub fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(self.dir.join("state"))
    }

    /// Its group as `/status` has it; null while it does not answer.
    pub fn group(&self) -> Json {
        let body = self.page("/status").unwrap_or_default();
        let status: Json = serde_json::from_str(&body).unwrap_or_default();
        status["groups"][0].clone()
    }

    /// Does it own the group and serve it?
    pub fn serves(&self) -> bool {
        let group = self.group();
        group["phase"] == "serving" && group["writable"] == true
    }

    /// A sample of `/metrics`: the sum over all labels.
    pub fn metric(&self, name: &str) -> f64 {
        let body = self.page("/metrics").unwrap_or_default();
        let samples = body.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn page(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, STATUS)?;
        stream.set_read_timeout(Some(STATUS))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: nemesis\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_string());
        body.ok_or_else(|| io::Error::other("no HTTP"))
    }

    /// Lines of its log that tell of a bug.
    pub fn panics(&self) -> Vec<String> {
        let log = fs::read(&self.runner.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().filter(|line| line.contains("panicked at")).map(str::to_string).collect()
    }

    /// An error when it ended although nobody ended it.
    pub fn assert_alive(&mut self) -> io::Result<()> {
        self.runner.assert_alive()
    }
}

fn configuration(address: SocketAddr, admin: SocketAddr, backends: &[SocketAddr], group: &str) -> String {
    let mut text = format!("[listen.main]\naddress = \"{address}\"\ngroup = \"g\"\n");
    for (nth, backend) in (1..).zip(backends) {
        text += &format!("\n[backend.b{nth}]\nurl = \"redis://{backend}\"\n");
    }
    let names: Vec<String> = (1..=backends.len()).map(|nth| format!("b{nth}")).collect();
    text += &format!("\n[group.g]\nreplicas = {names:?}\n{group}");
    text + &format!("\n[admin]\naddress = \"{admin}\"\n\n[state]\ndir = \"state\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_sort_by_number() {
        assert_eq!(part_number(Path::new("x/appendonly.aof.12.incr.aof")), 12);
    }
}
