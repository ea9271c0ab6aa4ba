//! Where the processes live: each in a network namespace of its own around one bridge, so that cables can be
//! pulled; or all on loopback, where only processes can be hurt.

use crate::process::{find_program, free_port};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

/// A place in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// A proxy, from 0.
    Proxy(usize),
    /// A backend, from 0.
    Backend(usize),
    /// All clients, and this program.
    Clients,
}

/// All places of a run.
pub const HOSTS: [Host; 6] =
    [Host::Proxy(0), Host::Proxy(1), Host::Backend(0), Host::Backend(1), Host::Backend(2), Host::Clients];

impl Host {
    /// Its name: `p1`, `b1`, `c`.
    pub fn name(self) -> String {
        match self {
            Host::Proxy(i) => format!("p{}", i + 1),
            Host::Backend(i) => format!("b{}", i + 1),
            Host::Clients => "c".into(),
        }
    }

    fn last_byte(self) -> u8 {
        match self {
            Host::Proxy(i) => 11 + i as u8,
            Host::Backend(i) => 21 + i as u8,
            Host::Clients => 31,
        }
    }
}

/// The network of a run.
#[derive(Debug)]
pub enum Network {
    /// Everything on 127.0.0.1.
    Loopback,
    /// A namespace for each host; the prefix of their names.
    Namespaces(String),
}

impl Network {
    /// Names of namespaces that no other run has.
    pub fn plan() -> Network {
        Network::Namespaces(format!("qn{}", std::process::id()))
    }

    /// What the janitor must remove.
    pub fn namespaces(&self) -> Vec<String> {
        match self {
            Network::Loopback => Vec::new(),
            Network::Namespaces(_) => {
                HOSTS.iter().map(|host| self.namespace(*host)).chain([self.hub()]).collect()
            }
        }
    }

    /// Makes the namespaces and the cables, and moves this thread, and all that it starts, to the clients.
    pub fn build(&self) -> io::Result<()> {
        let Network::Namespaces(_) = self else { return Ok(()) };
        let hub = self.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        for host in HOSTS {
            let (space, port) = (self.namespace(host), port(host));
            ip(&["netns", "add", &space])?;
            ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &space, "address", "add", &format!("{}/24", self.address(host)), "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        let file = File::open(Path::new("/run/netns").join(self.namespace(Host::Clients)))?;
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// The address of a host.
    pub fn address(&self, host: Host) -> IpAddr {
        match self {
            Network::Loopback => Ipv4Addr::LOCALHOST.into(),
            Network::Namespaces(_) => Ipv4Addr::new(10, 213, 0, host.last_byte()).into(),
        }
    }

    /// An address with a port that is free there; `usual` where nobody else can have taken it.
    pub fn endpoint(&self, host: Host, usual: u16) -> io::Result<SocketAddr> {
        let port = if matches!(self, Network::Loopback) { free_port()? } else { usual };
        Ok((self.address(host), port).into())
    }

    /// A program that will run on that host. The process is the program's own, not a wrapper's.
    pub fn command(&self, host: Host, program: &Path) -> Command {
        match self {
            Network::Loopback => Command::new(program),
            Network::Namespaces(_) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &self.namespace(host)]).arg(program);
                command
            }
        }
    }

    /// Can cables be pulled here?
    pub fn has_cables(&self) -> bool {
        matches!(self, Network::Namespaces(_))
    }

    /// Can packets be dropped at random here?
    pub fn has_loss(&self) -> bool {
        self.has_cables() && find_program(&["nft"]).is_some()
    }

    /// Pulls a host's cable, or puts it back.
    pub fn set_cable(&self, host: Host, connected: bool) -> io::Result<()> {
        ip(&["-n", &self.hub(), "link", "set", &port(host), if connected { "up" } else { "down" }])
    }

    /// What `from` sends to `to` disappears, or no longer does; nobody is told.
    pub fn set_blackhole(&self, from: Host, to: Host, on: bool) -> io::Result<()> {
        let target = format!("{}/32", self.address(to));
        ip(&["-n", &self.namespace(from), "route", if on { "add" } else { "del" }, "blackhole", &target])
    }

    /// What is sent to a host comes at this rate, such as `1mbit`; `None` takes the limit away.
    pub fn set_rate(&self, host: Host, rate: Option<&str>) -> io::Result<()> {
        let (hub, port) = (self.hub(), port(host));
        match rate {
            Some(rate) => run(
                "tc",
                &[
                    "-n", &hub, "qdisc", "add", "dev", &port, "root", "tbf", "rate", rate, "burst", "8kb",
                    "latency", "400ms",
                ],
            ),
            None => run("tc", &["-n", &hub, "qdisc", "del", "dev", &port, "root"]),
        }
    }

    /// So many of a hundred packets to a host are lost; 0 takes the rule away.
    pub fn set_loss(&self, host: Host, percent: u8) -> io::Result<()> {
        let rules = match percent {
            0 => "delete table inet nemesis".to_string(),
            percent => format!(
                "add table inet nemesis; \
                 add chain inet nemesis input {{ type filter hook input priority 0; }}; \
                 add rule inet nemesis input numgen random mod 100 < {percent} drop"
            ),
        };
        run("ip", &["netns", "exec", &self.namespace(host), "nft", &rules])
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix())
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.prefix(), host.name())
    }

    fn prefix(&self) -> &str {
        match self {
            Network::Namespaces(prefix) => prefix,
            Network::Loopback => "",
        }
    }
}

/// The bridge's end of a host's cable.
fn port(host: Host) -> String {
    format!("to-{}", host.name())
}

fn ip(args: &[&str]) -> io::Result<()> {
    run("ip", args)
}

/// Runs a tool of the system that prints nothing unless it fails.
pub fn run(program: &str, args: &[&str]) -> io::Result<()> {
    let explain = |what: String| io::Error::other(format!("{program} {}: {what}", args.join(" ")));
    let output = Command::new(program).args(args).output().map_err(|e| explain(e.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(explain(String::from_utf8_lossy(&output.stderr).trim().to_string())),
    }
}
