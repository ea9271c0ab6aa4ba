//! TLS towards clients: handshakes, away from the threads that serve, and certificates that may change.

use super::files::{self, Stamp, Unusable};
use super::stream::Stream;
use crate::config::ListenTls;
use arc_swap::ArcSwap;
use rustls::{Connection, ServerConfig};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;

/// Handshakes of one listener at the same time; above it the one that waits longest is given up.
pub const MOST_HANDSHAKES: usize = 256;
/// Time for one handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The files are looked at this often.
const LOOK: Duration = Duration::from_secs(2);
/// After so many looks what failed is tried again: the files may be readable now.
const AGAIN: u32 = 30;
/// The type of a record that is part of a handshake.
const HANDSHAKE_RECORD: u8 = 22;
/// What a client that speaks plain text is told.
const REFUSAL: &[u8] = b"-ERR this port takes TLS only\r\n";

/// Is this the beginning of a TLS connection? No command begins so.
#[inline]
pub fn is_hello(data: &[u8]) -> bool {
    matches!(data, [HANDSHAKE_RECORD, 3, ..])
}

/// A new client on its way to the thread that will serve it.
#[derive(Debug)]
pub struct Arrival {
    socket: std::net::TcpStream,
    tls: Option<Box<Connection>>,
}

impl Arrival {
    /// Takes a connection from the runtime that accepted it.
    pub fn new(socket: TcpStream, tls: Option<Connection>) -> io::Result<Arrival> {
        Ok(Arrival { socket: socket.into_std()?, tls: tls.map(Box::new) })
    }

    /// Gives it to the runtime of this thread.
    pub fn into_stream(self) -> io::Result<Stream> {
        let socket = TcpStream::from_std(self.socket)?;
        Ok(match self.tls {
            None => Stream::Plain(socket),
            Some(tls) => Stream::secured(socket, *tls),
        })
    }
}

/// Lets one line a second through.
#[derive(Debug, Default)]
pub struct Complaints {
    second: AtomicU64,
    unsaid: AtomicU64,
}

impl Complaints {
    /// How many were not said since the last one, if one may be said now.
    pub fn due(&self) -> Option<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        if self.second.swap(now, Relaxed) == now {
            self.unsaid.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Relaxed))
    }
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client is served.
    Done,
    /// It did not agree, or went away.
    Failed,
    /// It spoke plain text.
    Plain,
    /// It took too long.
    TimedOut,
    /// There were too many at once.
    Crowded,
}

impl Outcome {
    /// All of them, in the order of the counts.
    pub const ALL: [Outcome; 5] =
        [Outcome::Done, Outcome::Failed, Outcome::Plain, Outcome::TimedOut, Outcome::Crowded];

    /// Kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Plain => "plain",
            Outcome::TimedOut => "timed-out",
            Outcome::Crowded => "crowded",
        }
    }
}

/// Ends the TLS of one listener's clients.
#[derive(Debug)]
pub struct Terminator {
    /// Name of the listener.
    pub listener: String,
    files: ListenTls,
    config: ArcSwap<ServerConfig>,
    complaints: Complaints,
    handshakes: [AtomicU64; Outcome::ALL.len()],
    reloads: AtomicU64,
    reload_failures: AtomicU64,
    expiry: AtomicI64,
}

impl Terminator {
    /// With the files as they are now.
    pub fn new(listener: &str, files: &ListenTls) -> Result<Terminator, Unusable> {
        let config = files::server(files)?;
        Ok(Terminator {
            listener: listener.to_string(),
            config: ArcSwap::from_pointee(config),
            complaints: Complaints::default(),
            handshakes: Default::default(),
            reloads: AtomicU64::new(0),
            reload_failures: AtomicU64::new(0),
            expiry: AtomicI64::new(expiry(files)),
            files: files.clone(),
        })
    }

    /// How many handshakes ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.handshakes[outcome as usize].load(Relaxed)
    }

    /// How often changed files were taken, and how often they could not be.
    pub fn reloads(&self) -> (u64, u64) {
        (self.reloads.load(Relaxed), self.reload_failures.load(Relaxed))
    }

    /// Unix second at which the certificate ends; 0 if that is not known.
    pub fn expiry(&self) -> i64 {
        self.expiry.load(Relaxed)
    }

    /// Counts one that was given up because there were too many.
    pub fn crowded(&self) {
        self.end(Outcome::Crowded, "too many handshakes at once, the oldest was given up");
    }

    /// Does a client's handshake. `None`: it did not work, and was counted and told.
    pub async fn greet(&self, socket: TcpStream) -> Option<Arrival> {
        match timeout(HANDSHAKE, self.shake(socket)).await {
            Ok(Ok(arrival)) => {
                self.handshakes[Outcome::Done as usize].fetch_add(1, Relaxed);
                Some(arrival)
            }
            Ok(Err((outcome, why))) => {
                self.end(outcome, &why);
                None
            }
            Err(_) => {
                self.end(Outcome::TimedOut, &format!("the handshake was not done in {HANDSHAKE:?}"));
                None
            }
        }
    }

    fn end(&self, outcome: Outcome, why: &str) {
        self.handshakes[outcome as usize].fetch_add(1, Relaxed);
        if let Some(unsaid) = self.complaints.due() {
            tracing::warn!(listener = self.listener, why, unsaid, "no TLS with a client");
        }
    }

    async fn shake(&self, socket: TcpStream) -> Result<Arrival, (Outcome, String)> {
        let failed = |error: io::Error| (Outcome::Failed, error.to_string());
        let mut first = [0];
        match socket.peek(&mut first).await.map_err(failed)? {
            0 => return Err((Outcome::Failed, "it left before the handshake".into())),
            _ if first[0] != HANDSHAKE_RECORD => {
                refuse(&socket);
                return Err((Outcome::Plain, "it speaks plain text to a TLS port".into()));
            }
            _ => {}
        }
        let stream = TlsAcceptor::from(self.config.load_full()).accept(socket).await.map_err(failed)?;
        let (socket, tls) = stream.into_inner();
        Arrival::new(socket, Some(Connection::Server(tls))).map_err(failed)
    }

    /// Takes new files into use as long as it is polled.
    pub async fn watch(self: Arc<Self>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = self.stamps().await;
        // Looks until what failed is tried again, although no file changed.
        let mut again = None;
        loop {
            look.tick().await;
            let now = self.stamps().await;
            again = again.map(|looks: u32| looks.saturating_sub(1));
            if now != known || again == Some(0) {
                let own = self.clone();
                let done = spawn_blocking(move || own.reload()).await.unwrap_or(false);
                again = (!done).then_some(AGAIN);
                known = now;
            }
        }
    }

    async fn stamps(&self) -> Vec<Stamp> {
        let files = self.files.clone();
        spawn_blocking(move || files::stamps(&files.files().collect::<Vec<_>>())).await.unwrap_or_default()
    }

    /// Takes the files as they are now. Did it work?
    pub fn reload(&self) -> bool {
        match files::server(&self.files) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                self.expiry.store(expiry(&self.files), Relaxed);
                self.reloads.fetch_add(1, Relaxed);
                tracing::info!(listener = self.listener, "new TLS files are in use");
                true
            }
            Err(error) => {
                self.reload_failures.fetch_add(1, Relaxed);
                tracing::error!(
                    listener = self.listener,
                    "new TLS files are not used, the old ones are: {error}"
                );
                false
            }
        }
    }
}

fn expiry(files: &ListenTls) -> i64 {
    let chain = files::certificates(&files.certificate).unwrap_or_default();
    chain.first().and_then(files::expiry).unwrap_or(0)
}

/// Says why in the client's own words. What it sent is read first: bytes that nobody read would reset the
/// connection before it hears that.
fn refuse(socket: &TcpStream) {
    let _ = socket.try_read(&mut [0; 4096]);
    let _ = socket.try_write(REFUSAL);
}
