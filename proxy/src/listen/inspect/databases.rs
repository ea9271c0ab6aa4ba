//! Commands that name other databases: there is one, as on a server with `databases 1`, and the words are its own.

use super::{NO_INTEGER, integer};
use crate::listen::session::Session;
use bytes::Bytes;
use quorate_wire::command::Command;
use quorate_wire::resp::Args;

/// What a client reads that names a database which is not there.
pub const NO_DATABASE: &str = "ERR DB index is out of range";

/// Answers `MOVE`, `SWAPDB` and `COPY … DB`.
pub fn answer(s: &mut Session, command: &Command, args: Args) {
    match command.name {
        "swapdb" => swap(s, args),
        "move" => match integer(&args[2]) {
            None => s.error(NO_INTEGER),
            Some(0) => s.error("ERR source and destination objects are the same"),
            Some(_) => s.error(NO_DATABASE),
        },
        _ => {
            let named = (3..args.len()).find(|at| args[*at].eq_ignore_ascii_case(b"db"));
            match named.and_then(|at| args.get(at + 1)) {
                None => s.error("ERR syntax error"),
                Some(index) if integer(index).is_none() => s.error(NO_INTEGER),
                Some(_) => s.error(NO_DATABASE),
            }
        }
    }
}

fn swap(s: &mut Session, args: Args) {
    match (integer(&args[1]), integer(&args[2])) {
        (None, _) => s.error("ERR invalid first DB index"),
        (_, None) => s.error("ERR invalid second DB index"),
        (Some(0), Some(0)) => s.answer(Bytes::from_static(b"+OK\r\n")),
        _ => s.error(NO_DATABASE),
    }
}
