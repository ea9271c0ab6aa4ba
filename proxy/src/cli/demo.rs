//! `quorate demo`: three backends, a proxy, and three commands to try.

use super::{Exit, run, runtime};
use crate::admin;
use crate::backend::embedded;
use crate::config::{Address, Backend, Config, Group, Listener, LogLevel};
use crate::proxy::Proxy;
use crate::telemetry;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const REPLICAS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(15);

/// A playable cluster in one command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port for clients; 0 lets the system choose
    #[arg(long, default_value_t = 6400)]
    port: u16,
    /// Port for metrics, health and status; 0 lets the system choose
    #[arg(long, default_value_t = 7070)]
    admin_port: u16,
    /// Use the embedded store even if a real server is installed
    #[arg(long)]
    embedded: bool,
}

/// The three backends, however they run.
struct Backends {
    what: String,
    addresses: Vec<Address>,
    /// Real servers; they are killed when this is dropped.
    children: Vec<Child>,
}

pub(super) fn main(args: Args) -> Exit {
    telemetry::start_logging(&crate::config::Log { level: LogLevel::Error, ..Default::default() });
    let Ok(dir) = tempfile::tempdir() else {
        eprintln!("quorate: cannot create a temporary folder");
        return Exit::Bug;
    };
    match runtime() {
        Ok(runtime) => runtime.block_on(play(&args, dir.path())),
        Err(exit) => exit,
    }
}

async fn play(args: &Args, dir: &Path) -> Exit {
    let mut backends = match start_backends(args.embedded, dir).await {
        Ok(backends) => backends,
        Err(problem) => {
            eprintln!("quorate: {problem}");
            return Exit::Bug;
        }
    };
    let config = config(args, dir, &backends.addresses);
    let proxy = match Proxy::start(&config).await {
        Ok(proxy) => proxy,
        Err(error) => return run::failed(&error),
    };
    let admin = admin::serve(("127.0.0.1", args.admin_port), proxy.metrics.clone()).await;
    let Ok((admin, _)) =
        admin.inspect_err(|error| eprintln!("quorate: port {} for admin: {error}", args.admin_port))
    else {
        return Exit::Unreachable;
    };
    let serving = async {
        while !proxy.groups[0].health.load().writable {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(PATIENCE, serving).await.is_err() {
        eprintln!("quorate: the group does not serve; see http://{admin}/status");
        return Exit::Bug;
    }
    let port = proxy.addresses[0].1.port();
    introduce(&backends, port, admin.port());
    run::stop_signal().await;
    println!("\nStopping.");
    proxy.drain().await;
    for child in &mut backends.children {
        let _ = child.kill().await;
    }
    println!("Stopped. The demo's data is gone; nothing is left behind.");
    Exit::Done
}

fn introduce(backends: &Backends, port: u16, admin: u16) {
    println!(
        "Quorate is running: 3 backends ({}), every write on all of them, answered by 2.\n",
        backends.what
    );
    for (i, address) in backends.addresses.iter().enumerate() {
        let pid = backends
            .children
            .get(i)
            .and_then(Child::id)
            .map(|pid| format!("  pid {pid}"))
            .unwrap_or_default();
        println!("  r{}     redis://{address}{pid}", i + 1);
    }
    println!(
        "  proxy  redis://127.0.0.1:{port}\n  admin  http://127.0.0.1:{admin}/status\n\nTry, in another terminal:\n"
    );
    let victim = backends.children.first().and_then(Child::id);
    let first = &backends.addresses[0];
    println!("  1. Write through the proxy:      redis-cli -p {port} SET greeting hello");
    println!("  2. Read it from a backend:       redis-cli -p {} GET greeting", first.port);
    match victim {
        Some(pid) => println!(
            "  3. Kill a backend, keep writing: kill -9 {pid}; redis-cli -p {port} SET greeting again"
        ),
        None => println!(
            "  3. See where a write goes:       curl 'http://127.0.0.1:{admin}/explain?request=SET+k+v'"
        ),
    }
    println!(
        "\nThen look at the state:            quorate status --at 127.0.0.1:{admin}\nCtrl-C stops everything."
    );
}

fn config(args: &Args, dir: &Path, addresses: &[Address]) -> Config {
    let names: Vec<String> = (1..=REPLICAS).map(|i| format!("r{i}")).collect();
    let backends = names.iter().zip(addresses).map(|(name, address)| Backend::new(name, address.clone()));
    let mut config = Config {
        listeners: vec![Listener::new("main", Address::new("127.0.0.1", args.port), "demo")],
        backends: backends.collect(),
        groups: vec![Group::new("demo", names)],
        ..Config::default()
    };
    config.state.dir = dir.join("state");
    config
}

async fn start_backends(embedded: bool, dir: &Path) -> Result<Backends, String> {
    let found = ["valkey-server", "redis-server"].into_iter().find(|name| !embedded && on_path(name));
    let Some(program) = found else {
        let mut addresses = Vec::new();
        for seed in 0..REPLICAS as u64 {
            let address =
                embedded::start(seed).await.map_err(|error| format!("no port for a backend: {error}"))?;
            addresses.push(Address::new("127.0.0.1", address.port()));
        }
        let what = "embedded in-process stores: no redis-server or valkey-server on the PATH".to_string();
        let what = if embedded { "embedded in-process stores, as asked".to_string() } else { what };
        return Ok(Backends { what, addresses, children: vec![] });
    };
    let (mut addresses, mut children) = (Vec::new(), Vec::new());
    for i in 1..=REPLICAS {
        let port = free_port().map_err(|error| format!("no port for a backend: {error}"))?;
        let folder = dir.join(format!("r{i}"));
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let port_text = port.to_string();
        let child = Command::new(program)
            .args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"])
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for us; we stop them ourselves, after the clients.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        children.push(child.map_err(|error| format!("cannot start {program}: {error}"))?);
        addresses.push(Address::new("127.0.0.1", port));
    }
    Ok(Backends { what: program.to_string(), addresses, children })
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
