//! COMMAND: the table as clients read it. Categories, tips, key specifications and subcommands are empty.
//! It never mentions a command that would not run.

use super::Store;
use super::reply::{Answer, Fault, Reply};
use super::session::Session;
use super::table::flag::ANYTIME;
use super::table::{self, Command, server};

pub(super) const COMMANDS: &[Command] = &[server("command", -1, ANYTIME, command)];

fn command(_: &mut Store, _: &mut Session, args: &[Vec<u8>]) -> Answer {
    let Some(sub) = args.get(1) else { return Ok(Reply::Array(table::all().map(describe).collect())) };
    match sub.to_ascii_lowercase().as_slice() {
        b"count" => Ok(Reply::count(table::all().len())),
        b"list" => Ok(Reply::array(table::all().map(|row| row.name))),
        b"docs" => Ok(Reply::Map(Vec::new())),
        b"info" if args.len() == 2 => Ok(Reply::Array(table::all().map(describe).collect())),
        b"info" => Ok(Reply::Array(args[2..].iter().map(|name| describe_or_null(name)).collect())),
        b"getkeys" => keys(&args[2..]),
        _ => Err(Fault::SYNTAX),
    }
}

fn describe_or_null(name: &[u8]) -> Reply {
    table::lookup(name).map_or(Reply::NullArray, describe)
}

fn describe(row: &Command) -> Reply {
    let (first, last, step) = row.keys;
    let mut fields = vec![
        Reply::bulk(row.name),
        Reply::Int(i64::from(row.arity)),
        Reply::Set(row.flag_names().map(Reply::Status).collect()),
    ];
    fields.extend([first, last, step].map(|place| Reply::Int(i64::from(place))));
    fields.push(Reply::Set(Vec::new()));
    fields.extend([(); 3].map(|()| Reply::Array(Vec::new())));
    Reply::Array(fields)
}

fn keys(request: &[Vec<u8>]) -> Answer {
    let Some(row) = table::lookup(&request[0]) else {
        return Err(Fault::fixed("ERR Invalid command specified"));
    };
    if !row.accepts(request.len()) {
        return Err(Fault::fixed("ERR Invalid number of arguments specified for command"));
    }
    let keys: Vec<_> = row.keys_of(request).collect();
    if keys.is_empty() {
        return Err(Fault::fixed("ERR The command has no key arguments"));
    }
    Ok(Reply::array(keys))
}
