//! What programs ask a server about itself: settings, slow commands, users, statistics, its place in a cluster.
//!
//! The proxy answers for itself here. What speaks of the data is asked of a replica. Never shows a secret.

mod acl;
mod cluster;
mod databases;
mod info;
mod latency;
mod pause;
mod roles;
mod settings;
mod slowlog;
mod stats;
mod wait;

pub use cluster::{CROSS_SLOT, crosses};
pub use info::{InfoParts, apply as apply_info, mode};
pub use pause::{Pause, pause, unpause};
pub use settings::{apply as apply_settings, asked, set};
pub use slowlog::SlowLog;
pub use stats::Stats;

use super::session::Session;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_wire::command::{Command, Local};
use quorate_wire::resp::{Args, encode};

/// What the clients of one group may read and set of the proxy.
#[derive(Debug)]
pub struct Inspection {
    /// Commands that took long.
    pub slow: SlowLog,
    /// Whether clients are held back.
    pub pause: Pause,
    /// How often commands were called.
    pub stats: Stats,
}

impl Inspection {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self { slow: SlowLog::default(), pause: Pause::default(), stats: Stats::new(workers) }
    }
}

/// Answers a command of this kind.
pub fn answer(worker: &Worker, s: &mut Session, what: Local, command: &Command, args: Args) {
    match what {
        Local::Acl => acl::answer(worker, s, command, args),
        Local::Cluster => cluster::answer(s, command, args),
        Local::Config => settings::answer(worker, s, command, args),
        Local::Databases => databases::answer(s, command, args),
        Local::Debug => debug(s, args),
        Local::Latency => latency::answer(s, command, args),
        Local::SlowLog => slowlog::answer(s, command, args),
        _ => roles::answer(worker, s, what, command, args),
    }
}

/// Of DEBUG, what looks at a key goes to a replica; here is what is left.
fn debug(s: &mut Session, args: Args) {
    match (args.get(1), args.get(2)) {
        (Some(sub), Some(text)) if sub.eq_ignore_ascii_case(b"error") => {
            s.error(&String::from_utf8_lossy(&text[..text.len().min(1024)]));
        }
        _ => s.error(
            "ERR DEBUG command not allowed: the proxy carries DEBUG ERROR, and OBJECT, LISTPACK, PROTOCOL and STRINGMATCH-LEN \
             where the backends allow them",
        ),
    }
}

/// An array of bulk strings.
fn list<'a>(items: impl IntoIterator<Item = &'a str, IntoIter: ExactSizeIterator>) -> Bytes {
    let mut out = BytesMut::new();
    encode::command(items.into_iter().map(str::as_bytes).collect::<Vec<_>>(), &mut out);
    out.freeze()
}

/// Begins a map of so many pairs.
fn map(pairs: usize, dialect: u8, out: &mut BytesMut) {
    match dialect {
        3 => encode::header(b'%', pairs, out),
        _ => encode::header(b'*', 2 * pairs, out),
    }
}

/// A number as servers read it.
fn integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    // Neither a plus sign nor zeros in front, as servers want it.
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// What is wrong with a text that should be a number.
const NO_INTEGER: &str = "ERR value is not an integer or out of range";
