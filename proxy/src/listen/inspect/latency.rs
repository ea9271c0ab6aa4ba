//! LATENCY: there are no events that the proxy watches, as on a server whose `latency-monitor-threshold` is 0. How long
//! commands took is told by `HISTOGRAM`, `SLOWLOG` and the metrics.

use super::map;
use crate::listen::session::Session;
use bytes::{Bytes, BytesMut};
use quorate_wire::command::Command;
use quorate_wire::resp::{Args, encode};

const DOCTOR: &str = "The proxy watches no latency events. Its metrics tell how long requests, replicas and quorums take, \
                      SLOWLOG which commands took long, and LATENCY on a backend what happened there.\n";

/// Answers `LATENCY …`.
pub fn answer(s: &mut Session, command: &Command, args: Args) {
    match command.name {
        "latency|doctor" => super::super::local::text(s, DOCTOR),
        "latency|graph" => {
            let event = String::from_utf8_lossy(&args[2][..args[2].len().min(128)]).into_owned();
            s.error(&format!("ERR No samples available for event '{event}'"));
        }
        "latency|histogram" => {
            let mut out = BytesMut::new();
            map(0, s.dialect, &mut out);
            s.answer(out.freeze());
        }
        "latency|reset" => s.answer(Bytes::from_static(b":0\r\n")),
        // HISTORY and LATEST.
        _ => {
            let mut out = BytesMut::new();
            encode::header(b'*', 0, &mut out);
            s.answer(out.freeze());
        }
    }
}
