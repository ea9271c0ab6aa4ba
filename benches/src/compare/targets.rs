//! The things compared, each with Redis servers of its own, all started here.

use crate::load::{Mix, Settings, fill};
use crate::process::{Server, find_program, free_port};
use crate::quota::Quota;
use rustls::ClientConfig;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a target may take until it answers.
const READY: Duration = Duration::from_secs(10);

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A server that answers and does nothing else.
    Floor,
    /// Redis with nothing in front.
    Redis,
    /// twemproxy before one Redis.
    Twemproxy,
    /// Envoy before a primary and two mirrors that get the writes.
    Envoy,
    /// Quorate before one or three Redis.
    Quorate {
        /// How many.
        replicas: u8,
        /// Worker threads.
        workers: u8,
    },
    /// The same before three Redis, one worker, with TLS towards clients.
    QuorateTls,
    /// Redis with nothing in front, which syncs its append-only file before it answers.
    RedisAlways,
    /// Quorate before one or three Redis, which has each entry on its own disk before it answers.
    QuorateJournal {
        /// How many.
        replicas: u8,
    },
}

impl Kind {
    /// All of them, in the order of the tables.
    pub const ALL: [Kind; 12] = [
        Kind::Floor,
        Kind::Redis,
        Kind::Twemproxy,
        Kind::Envoy,
        Kind::Quorate { replicas: 1, workers: 1 },
        Kind::Quorate { replicas: 1, workers: 2 },
        Kind::Quorate { replicas: 3, workers: 1 },
        Kind::Quorate { replicas: 3, workers: 2 },
        Kind::QuorateTls,
        Kind::RedisAlways,
        Kind::QuorateJournal { replicas: 1 },
        Kind::QuorateJournal { replicas: 3 },
    ];

    /// Its name in tables and for `--only`.
    pub fn name(self) -> String {
        match self {
            Kind::Floor => "floor".into(),
            Kind::Redis => "redis".into(),
            Kind::Twemproxy => "twemproxy".into(),
            Kind::Envoy => "envoy".into(),
            Kind::Quorate { replicas, workers: 1 } => format!("quorate-{replicas}"),
            Kind::Quorate { replicas, workers } => format!("quorate-{replicas}-workers-{workers}"),
            Kind::QuorateTls => "quorate-3-tls".into(),
            Kind::RedisAlways => "durable-redis".into(),
            Kind::QuorateJournal { replicas } => format!("durable-quorate-{replicas}"),
        }
    }

    /// What stands behind the name.
    pub fn description(self) -> String {
        match self {
            Kind::Floor => "answers +OK and does nothing: what no proxy can get below".into(),
            Kind::Redis => "one Redis, nothing in front".into(),
            Kind::Twemproxy => "twemproxy before one Redis".into(),
            Kind::Envoy => "Envoy, concurrency 1, before a primary and two mirrors".into(),
            Kind::QuorateTls => "Quorate before 3 Redis, answers after 2, 1 worker, clients over TLS".into(),
            Kind::RedisAlways => "one Redis with appendfsync always, nothing in front".into(),
            Kind::QuorateJournal { replicas } => {
                let quorum = replicas / 2 + 1;
                format!("Quorate before {replicas} Redis, answers after {quorum} and its own disk, 1 worker")
            }
            Kind::Quorate { replicas: 1, workers } => {
                format!("Quorate before one Redis, {workers} worker(s)")
            }
            Kind::Quorate { replicas, workers } => {
                let quorum = replicas / 2 + 1;
                format!("Quorate before {replicas} Redis, answers after {quorum}, {workers} worker(s)")
            }
        }
    }

    fn replicas(self) -> usize {
        match self {
            Kind::Floor => 0,
            Kind::Redis | Kind::RedisAlways | Kind::Twemproxy => 1,
            Kind::Envoy | Kind::QuorateTls => 3,
            Kind::Quorate { replicas, .. } | Kind::QuorateJournal { replicas } => usize::from(replicas),
        }
    }
}

/// Where the programs are; `None` when one is not installed.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Programs {
    pub redis: Option<PathBuf>,
    pub twemproxy: Option<PathBuf>,
    pub envoy: Option<PathBuf>,
    pub quorate: Option<PathBuf>,
    pub floor: Option<PathBuf>,
}

impl Programs {
    /// Looks for what was not named. Ours are taken from beside this program, where cargo builds them.
    pub fn find(self) -> Programs {
        let beside = |name: &str| {
            let own = std::env::current_exe().ok()?;
            Some(own.parent()?.join(name)).filter(|path| path.is_file())
        };
        Programs {
            redis: self.redis.or_else(|| find_program(&["redis-server", "valkey-server"])),
            twemproxy: self.twemproxy.or_else(|| find_program(&["nutcracker", "twemproxy"])),
            envoy: self.envoy.or_else(envoy_of_python).or_else(|| find_program(&["envoy"])),
            quorate: self.quorate.or_else(|| beside("quorate")),
            floor: self.floor.or_else(|| beside("floor")),
        }
    }
}

/// The PyPI package puts a script on PATH that starts the real program as a child, which would be measured instead.
fn envoy_of_python() -> Option<PathBuf> {
    let script = "import envoy, os; print(os.path.dirname(envoy.__file__))";
    let output = Command::new("python3").args(["-c", script]).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(Path::new(folder.trim()).join("_bin/envoy")).filter(|path| output.status.success() && path.is_file())
}

/// A started [`Kind`], ready to answer. Dropping it stops its processes.
#[derive(Debug)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    /// The proxy, when there is one.
    pub proxy: Option<Server>,
    /// Its Redis servers.
    pub backends: Vec<Server>,
    /// How clients speak TLS to it, where they do.
    pub tls: Option<Arc<ClientConfig>>,
    // After the servers: a group with a process cannot be removed.
    _quotas: Vec<Quota>,
    // Last, so that nothing writes there any more when it is removed.
    _dir: TempDir,
}

impl Target {
    /// Starts the servers and waits until they answer. Each may be held to a share of a processor.
    pub fn start(kind: Kind, programs: &Programs, share: Option<f64>) -> io::Result<Target> {
        let dir = tempfile::Builder::new().prefix("quorate-bench-").tempdir()?;
        let mut backends = Vec::new();
        for nth in 1..=kind.replicas() {
            let redis = needed(&programs.redis, "redis-server")?;
            backends.push(start_redis(redis, &format!("r{nth}"), dir.path(), kind == Kind::RedisAlways)?);
        }
        let ports: Vec<u16> = backends.iter().map(|backend| backend.address.port()).collect();
        let mut tls = None;
        let mut proxy = match kind {
            Kind::Redis | Kind::RedisAlways => None,
            Kind::Floor => Some(start_floor(needed(&programs.floor, "floor")?, dir.path())?),
            Kind::Twemproxy => {
                Some(start_twemproxy(needed(&programs.twemproxy, "nutcracker")?, ports[0], dir.path())?)
            }
            Kind::Envoy => Some(start_envoy(needed(&programs.envoy, "envoy")?, &ports, dir.path())?),
            Kind::Quorate { workers, .. } => {
                let program = needed(&programs.quorate, "quorate")?;
                Some(start_quorate(program, &ports, workers, ("", ""), dir.path())?)
            }
            Kind::QuorateTls => {
                tls = Some(certificate(dir.path())?);
                let listen = "tls = { certificate = \"proxy.pem\", key = \"proxy.key\" }\n";
                Some(start_quorate(
                    needed(&programs.quorate, "quorate")?,
                    &ports,
                    1,
                    (listen, ""),
                    dir.path(),
                )?)
            }
            Kind::QuorateJournal { .. } => {
                let durability = "durability = \"journal\"\n";
                let program = needed(&programs.quorate, "quorate")?;
                Some(start_quorate(program, &ports, 1, ("", durability), dir.path())?)
            }
        };
        match (&mut proxy, &tls) {
            (Some(proxy), Some(tls)) => wait_for_tls(proxy, tls)?,
            (Some(proxy), None) => proxy.wait_until_ready()?,
            (None, _) => {}
        }
        let servers = backends.iter().chain(&proxy);
        let quotas = servers.flat_map(|server| share.map(|share| Quota::of(server.pid(), share)));
        let quotas = quotas.collect::<io::Result<_>>()?;
        Ok(Target { kind, proxy, backends, tls, _quotas: quotas, _dir: dir })
    }

    /// What clients connect to.
    pub fn front(&self) -> &Server {
        self.proxy.as_ref().unwrap_or_else(|| &self.backends[0])
    }

    /// The processes of the Redis servers.
    pub fn backend_pids(&self) -> Vec<u32> {
        self.backends.iter().map(Server::pid).collect()
    }
}

fn needed<'a>(program: &'a Option<PathBuf>, name: &str) -> io::Result<&'a PathBuf> {
    program.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} not found")))
}

fn start_redis(program: &Path, name: &str, dir: &Path, durable: bool) -> io::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new(program);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", if durable { "yes" } else { "no" }, "--appendfsync", "always"]);
    command.arg("--dir").arg(dir);
    let mut server = Server::start(name, command, port, dir)?;
    server.wait_until_ready()?;
    Ok(server)
}

fn start_floor(program: &Path, dir: &Path) -> io::Result<Server> {
    let port = free_port()?;
    let mut command = Command::new(program);
    command.args(["--port", &port.to_string()]);
    Server::start("floor", command, port, dir)
}

fn start_twemproxy(program: &Path, redis: u16, dir: &Path) -> io::Result<Server> {
    let port = free_port()?;
    let config = dir.join("twemproxy.yml");
    let text = format!(
        "bench:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  \
         auto_eject_hosts: false\n  preconnect: true\n  redis: true\n  servers:\n   - 127.0.0.1:{redis}:1\n"
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config).arg("-p").arg(dir.join("twemproxy.pid"));
    command.args(["-a", "127.0.0.1", "-s", &free_port()?.to_string()]);
    Server::start("twemproxy", command, port, dir)
}

fn start_envoy(program: &Path, redis: &[u16], dir: &Path) -> io::Result<Server> {
    let port = free_port()?;
    let config = dir.join("envoy.yaml");
    let clusters: String = redis.iter().enumerate().map(|(i, port)| envoy_cluster(i + 1, *port)).collect();
    let text = format!("{}  clusters:\n{clusters}", envoy_listener(port));
    std::fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
    Server::start("envoy", command, port, dir)
}

fn envoy_listener(port: u16) -> String {
    format!(
        r#"static_resources:
  listeners:
  - name: bench
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: bench
          settings: {{ op_timeout: 5s }}
          prefix_routes:
            catch_all_route:
              cluster: r1
              request_mirror_policy:
              - {{ cluster: r2, exclude_read_commands: true }}
              - {{ cluster: r3, exclude_read_commands: true }}
"#
    )
}

fn envoy_cluster(nth: usize, port: u16) -> String {
    format!(
        "  - name: r{nth}\n    type: STATIC\n    connect_timeout: 1s\n    load_assignment:\n      \
         cluster_name: r{nth}\n      endpoints:\n      - lb_endpoints:\n        - endpoint: {{ address: \
         {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"
    )
}

/// Waits until a write over TLS is answered.
fn wait_for_tls(proxy: &Server, tls: &Arc<ClientConfig>) -> io::Result<()> {
    let settings = Settings {
        target: proxy.address,
        connections: 1,
        depth: 1,
        value_bytes: 1,
        keys: 1,
        mix: Mix::SET,
        rate: None,
        burst: Duration::ZERO,
        protocol: 2,
        tls: Some(tls.clone()),
    };
    let until = Instant::now() + READY;
    loop {
        match fill(&settings) {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() >= until => return Err(proxy.failure(&e.to_string())),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A certificate and a key for `127.0.0.1` in this folder, and how clients trust them.
fn certificate(dir: &Path) -> io::Result<Arc<ClientConfig>> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
    std::fs::write(dir.join("proxy.pem"), made.cert.pem())?;
    std::fs::write(dir.join("proxy.key"), made.signing_key.serialize_pem())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).map_err(io::Error::other)?;
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn start_quorate(
    program: &Path,
    redis: &[u16],
    workers: u8,
    more: (&str, &str),
    dir: &Path,
) -> io::Result<Server> {
    let port = free_port()?;
    let config = dir.join("quorate.toml");
    std::fs::write(&config, quorate_toml(port, redis, workers, more, &dir.join("state")))?;
    let mut command = Command::new(program);
    command.args(["run", "-c"]).arg(config);
    Server::start("quorate", command, port, dir)
}

/// `more` are lines for the listener and for the group.
fn quorate_toml(port: u16, redis: &[u16], workers: u8, more: (&str, &str), state: &Path) -> String {
    let names: Vec<String> = (1..=redis.len()).map(|nth| format!("\"r{nth}\"")).collect();
    let mut text = format!("[listen.main]\naddress = \"127.0.0.1:{port}\"\ngroup = \"bench\"\n{}", more.0);
    for (nth, port) in (1..).zip(redis) {
        text.push_str(&format!("\n[backend.r{nth}]\nurl = \"redis://127.0.0.1:{port}\"\n"));
    }
    let (names, quorum, state) = (names.join(", "), redis.len() / 2 + 1, state.display());
    text.push_str(&format!("\n[group.bench]\nreplicas = [{names}]\nwrite-quorum = {quorum}\n{}", more.1));
    text.push_str(&format!("\n[proxy]\nworkers = {workers}\n\n[state]\ndir = \"{state}\"\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let names: std::collections::BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn three_replicas_need_two() {
        let text = quorate_toml(1, &[2, 3, 4], 2, ("", ""), Path::new("state"));
        assert!(text.contains("replicas = [\"r1\", \"r2\", \"r3\"]\nwrite-quorum = 2\n"), "{text}");
        assert!(text.contains("workers = 2\n") && text.contains("url = \"redis://127.0.0.1:4\"\n"), "{text}");
    }
}
