//! A load generator for Redis that is cheap enough not to be what is measured.
//!
//! One thread, one epoll, requests encoded before the clock starts, replies counted without
//! being decoded. Closed loop by default; open loop when a rate is given.

mod connection;
mod drive;
mod replies;
mod script;

use hdrhistogram::Histogram;
use rustls::ClientConfig;
use serde::Serialize;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use drive::Load;
pub use replies::{Replies, Seen};
pub use script::Script;

/// How many different error texts an [`Outcome`] keeps.
pub const ERROR_TEXTS: usize = 5;
/// With no reply for this long while some are due, a run fails.
pub const STALL: Duration = Duration::from_secs(10);

/// What is sent, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to.
    pub target: SocketAddr,
    /// Client connections.
    pub connections: usize,
    /// Requests in flight on one connection.
    pub depth: usize,
    /// Size of the values that SET writes.
    pub value_bytes: usize,
    /// Size of the key space.
    pub keys: u64,
    /// Which commands.
    pub mix: Mix,
    /// Requests a second over all connections, sent on time whether or not replies came (open
    /// loop). `None` is the closed loop: `depth` requests, then all their replies, and again.
    pub rate: Option<f64>,
    /// Open loop: what is due within such a time is due at its beginning, all at once. Zero: each request has a
    /// time of its own, which costs a core where there are many.
    pub burst: Duration,
    /// RESP version, 2 or 3.
    pub protocol: u8,
    /// TLS as this says, for the host `127.0.0.1`; plain text without.
    pub tls: Option<Arc<ClientConfig>>,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// After this many requests.
    Requests(u64),
    /// After this time; what is in flight then is still waited for.
    After(Duration),
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Mix {
    /// So many of a hundred requests are GET; the others are SET.
    Get(u8),
    /// SET with a time to live.
    SetTtl,
    /// MULTI, SET, EXEC; each of the three counts as a request.
    Multi,
    /// EVAL of a script that sets a key.
    Eval,
}

impl Mix {
    /// Only SET.
    pub const SET: Mix = Mix::Get(0);
    /// Only GET.
    pub const GET: Mix = Mix::Get(100);

    /// The share of requests that write, 0 to 1.
    pub fn written(self) -> f64 {
        match self {
            Mix::Get(percent) => f64::from(100 - percent) / 100.0,
            Mix::SetTtl | Mix::Eval => 1.0,
            Mix::Multi => 1.0 / 3.0,
        }
    }

    /// As it is written on the command line.
    pub fn name(self) -> String {
        match self {
            Mix::SET => "set".into(),
            Mix::GET => "get".into(),
            Mix::Get(percent) => format!("{percent}/{}", 100 - percent),
            Mix::SetTtl => "set-ttl".into(),
            Mix::Multi => "multi".into(),
            Mix::Eval => "eval".into(),
        }
    }
}

impl From<Mix> for String {
    fn from(mix: Mix) -> String {
        mix.name()
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let wanted =
            || format!("'{text}' is not set, get, set-ttl, multi, eval, or GET/SET per cent such as 80/20");
        match text {
            "set" => return Ok(Mix::SET),
            "get" => return Ok(Mix::GET),
            "set-ttl" => return Ok(Mix::SetTtl),
            "multi" => return Ok(Mix::Multi),
            "eval" => return Ok(Mix::Eval),
            _ => {}
        }
        let (get, set) = text.split_once('/').ok_or_else(wanted)?;
        let (get, set) = (get.parse::<u8>().ok(), set.parse::<u8>().ok());
        match (get, set) {
            (Some(get), Some(set)) if u32::from(get) + u32::from(set) == 100 => Ok(Mix::Get(get)),
            _ => Err(wanted()),
        }
    }
}

/// What a run saw.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Replies of any kind.
    pub answered: u64,
    /// Replies that were errors.
    pub errors: u64,
    /// Replies that were null: reads of keys that are not there.
    pub nulls: u64,
    /// The first few different error texts.
    pub error_texts: Vec<String>,
    /// Open loop only: requests that were due but had no reply when the run was given up.
    /// Their latency so far is in the histogram, so that they do not vanish from it.
    pub unfinished: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Microseconds from the intended time of sending to the reply.
    pub latency: Histogram<u64>,
}

impl Outcome {
    /// Replies a second.
    pub fn throughput(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The figures as they are printed.
    pub fn summary(&self) -> Summary {
        let quantile = |q| self.latency.value_at_quantile(q);
        Summary {
            requests: self.answered,
            seconds: self.elapsed.as_secs_f64(),
            requests_per_second: self.throughput(),
            mean_us: self.latency.mean(),
            p50_us: quantile(0.50),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: self.latency.max(),
            errors: self.errors,
            nulls: self.nulls,
            unfinished: self.unfinished,
            error_texts: self.error_texts.clone(),
        }
    }
}

/// An [`Outcome`] in numbers; latencies in microseconds.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Summary {
    pub requests: u64,
    pub seconds: f64,
    pub requests_per_second: f64,
    pub mean_us: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    pub errors: u64,
    pub nulls: u64,
    pub unfinished: u64,
    pub error_texts: Vec<String>,
}

/// Why a run has no outcome.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LoadError {
    #[error("cannot connect to {target}: {source}")]
    Connect { target: SocketAddr, source: std::io::Error },
    #[error("the server refused HELLO {protocol}: {reply}")]
    Hello { protocol: u8, reply: String },
    #[error("the server closed a connection after {answered} replies")]
    Closed { answered: u64 },
    #[error("the server sent what is not RESP: {0}")]
    NotResp(String),
    #[error("no reply for {} s, {outstanding} outstanding", STALL.as_secs())]
    Stalled { outstanding: u64 },
    #[error("no reply at all")]
    Silent,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Writes every key of the key space once, so that reads find something.
pub fn fill(settings: &Settings) -> Result<(), LoadError> {
    let one = Settings { connections: 1, depth: 64, rate: None, mix: Mix::SET, ..settings.clone() };
    let script = Script::sequential(&one);
    let outcome = Load::with_script(&one, script)?.run(Stop::Requests(settings.keys))?;
    match outcome.error_texts.first() {
        Some(text) => Err(LoadError::Io(std::io::Error::other(format!("filling the keys: {text}")))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_reads_back_as_it_is_written() {
        for text in ["set", "get", "80/20", "1/99"] {
            assert_eq!(text.parse::<Mix>().expect("valid").name(), text);
        }
        for text in ["", "put", "80", "80/21", "-1/101", "200/200"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }
}
