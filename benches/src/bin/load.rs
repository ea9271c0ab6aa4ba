//! A Redis load generator: closed loop, or open loop with honest latencies.

use clap::{Parser, ValueEnum};
use quorate_benches::load::{Load, LoadError, Mix, Outcome, STALL, Settings, Stop, fill};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

/// Sends SET and GET to a Redis server and prints throughput and latency.
///
/// Closed loop: every connection sends DEPTH requests at once, waits for all replies, and begins
/// again. With --rate: requests are due at fixed times, whether or not earlier ones are answered,
/// and latency counts from the time a request was due.
///
/// Exit codes: 0 done, 1 there were error replies, 2 usage, 4 cannot reach the server.
#[derive(Parser)]
#[command(name = "load", version)]
struct Options {
    /// Name or address of the server
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Its port
    #[arg(long, default_value_t = 6379)]
    port: u16,
    /// Client connections
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    connections: u64,
    /// Requests in flight on one connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    depth: u64,
    /// Size of the values that SET writes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=16_777_216))]
    value_bytes: u64,
    /// Size of the key space
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    keys: u64,
    /// set, get, or GET/SET per cent such as 80/20
    #[arg(long, default_value = "set")]
    mix: Mix,
    /// Write every key once before the clock starts, so that GET finds it
    #[arg(long)]
    fill: bool,
    /// Stop after so many requests
    #[arg(long, conflicts_with = "seconds")]
    requests: Option<u64>,
    /// Stop after so many seconds (default 5)
    #[arg(long, value_parser = positive)]
    seconds: Option<f64>,
    /// Open loop: requests a second over all connections
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// Open loop: what is due within so many milliseconds is sent at once
    #[arg(long, requires = "rate", default_value_t = 0)]
    burst_ms: u64,
    /// RESP version; 3 sends HELLO 3 first
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    protocol: u8,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = resolve(&options).and_then(|target| run(&options, target));
    match outcome {
        Ok(outcome) => {
            print(&outcome, options.format);
            if outcome.errors > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS }
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(4)
        }
    }
}

fn resolve(options: &Options) -> Result<SocketAddr, LoadError> {
    let mut addresses = (options.host.as_str(), options.port).to_socket_addrs()?;
    let none = || LoadError::Io(std::io::Error::other(format!("'{}' has no address", options.host)));
    addresses.next().ok_or_else(none)
}

fn run(options: &Options, target: SocketAddr) -> Result<Outcome, LoadError> {
    let settings = Settings {
        target,
        connections: options.connections as usize,
        depth: options.depth as usize,
        value_bytes: options.value_bytes as usize,
        keys: options.keys,
        mix: options.mix,
        rate: options.rate,
        burst: Duration::from_millis(options.burst_ms),
        protocol: options.protocol,
        tls: None,
    };
    let stop = match options.requests {
        Some(count) => Stop::Requests(count),
        None => Stop::After(Duration::from_secs_f64(options.seconds.unwrap_or(5.0))),
    };
    if options.fill {
        fill(&settings)?;
    }
    Load::connect(&settings)?.run(stop)
}

fn print(outcome: &Outcome, format: Format) {
    let s = outcome.summary();
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&s).expect("a summary is plain numbers and strings"));
        return;
    }
    println!("{} requests in {:.2} s: {:.0} requests/s", s.requests, s.seconds, s.requests_per_second);
    println!(
        "latency µs: mean {:.0}, p50 {}, p99 {}, p99.9 {}, max {}",
        s.mean_us, s.p50_us, s.p99_us, s.p999_us, s.max_us
    );
    println!("error replies: {}, null replies: {}", s.errors, s.nulls);
    if s.unfinished > 0 {
        println!("due but unanswered at the end: {} (in the latencies as far as they got)", s.unfinished);
    }
    for text in &s.error_texts {
        println!("  -{text}");
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let longest = STALL.as_secs_f64() * 1e6;
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= longest => Ok(value),
        _ => Err(format!("'{text}' is not a number above 0, at most {longest}")),
    }
}
