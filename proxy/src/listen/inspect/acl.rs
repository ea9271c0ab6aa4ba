//! ACL: the users of the listener, as its configuration has them, and what was denied to whom. Users are not made
//! here.

use super::{NO_INTEGER, integer, list, map};
use crate::listen::access::gate::Account;
use crate::listen::session::Session;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_wire::access::{Denied, Described};
use quorate_wire::command::access::{CATEGORIES, categories, category};
use quorate_wire::command::{self, Command};
use quorate_wire::resp::{Args, encode};

/// Entries of the log that are told if nobody says how many.
const FEW: usize = 10;

/// Answers the part of `ACL` that only reads.
pub fn answer(worker: &Worker, s: &mut Session, command: &Command, args: Args) {
    let gate = s.port.gate.clone();
    match command.name {
        "acl|whoami" => {
            let mut out = BytesMut::new();
            encode::bulk(s.access.name().as_bytes(), &mut out);
            s.answer(out.freeze());
        }
        "acl|users" => {
            let names: Vec<&str> = gate.accounts().iter().map(|account| &*account.name).collect();
            s.answer(list(names));
        }
        // Of a password not even a digest is shown: it has no salt.
        "acl|list" => {
            let line = |account: &std::sync::Arc<Account>| {
                format!("user {} {}", account.name, account.user.rules.line())
            };
            let lines: Vec<String> = gate.accounts().iter().map(line).collect();
            s.answer(list(lines.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        "acl|getuser" => match gate.account(&args[2]) {
            Some(account) => user(s, account),
            None => s.answer(Bytes::from_static(if s.dialect == 3 { b"_\r\n" } else { b"$-1\r\n" })),
        },
        "acl|cat" => cat(s, args),
        "acl|dryrun" => dry_run(s, args),
        _ => log(worker, s, args),
    }
}

fn user(s: &mut Session, account: &Account) {
    let rules = &account.user.rules;
    let mut out = BytesMut::new();
    map(6, s.dialect, &mut out);
    encode::bulk(b"flags", &mut out);
    let enabled = if rules.is_enabled() { "on" } else { "off" };
    let flags: Vec<&str> = [enabled].into_iter().chain(rules.is_open().then_some("nopass")).collect();
    encode::header(if s.dialect == 3 { b'~' } else { b'*' }, flags.len(), &mut out);
    flags.iter().for_each(|flag| encode::bulk(flag.as_bytes(), &mut out));
    encode::bulk(b"passwords", &mut out);
    encode::header(b'*', 0, &mut out);
    let described = rules.describe();
    let (root, further) = described.split_first().unwrap_or((&NOTHING, &[]));
    permissions(root, &mut out);
    encode::bulk(b"selectors", &mut out);
    encode::header(b'*', further.len(), &mut out);
    for selector in further {
        map(3, s.dialect, &mut out);
        permissions(selector, &mut out);
    }
    s.answer(out.freeze());
}

static NOTHING: Described =
    Described { commands: String::new(), keys: String::new(), channels: String::new() };

fn permissions(described: &Described, out: &mut BytesMut) {
    let Described { commands, keys, channels } = described;
    for (name, value) in [("commands", commands), ("keys", keys), ("channels", channels)] {
        encode::bulk(name.as_bytes(), out);
        encode::bulk(value.as_bytes(), out);
    }
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(128)]).replace(['\r', '\n'], " ")
}

fn cat(s: &mut Session, args: Args) {
    match (args.get(2), args.len()) {
        (None, _) => s.answer(list(CATEGORIES)),
        (Some(name), 3) => match std::str::from_utf8(name).ok().and_then(category) {
            Some(bit) => {
                let known = command::all().iter().filter(|command| categories(command) & bit != 0);
                s.answer(list(known.map(|command| command.name).collect::<Vec<_>>()));
            }
            None => s.error(&format!("ERR Unknown category '{}'", shown(name))),
        },
        _ => s.error("ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP."),
    }
}

fn dry_run(s: &mut Session, args: Args) {
    let Some(account) = s.port.gate.account(&args[2]).cloned() else {
        return s.error(&format!("ERR User '{}' not found", shown(&args[2])));
    };
    let inner = args.behind(3);
    let command = match command::resolve(inner) {
        Ok(command) => command,
        Err(command::CommandError::Arity(name)) => {
            return s.error(&format!("ERR wrong number of arguments for '{name}' command"));
        }
        Err(_) => return s.error(&format!("ERR Command '{}' not found", shown(&args[3]))),
    };
    let object = |at: usize| shown(inner.get(at).unwrap_or_default());
    let text = match account.user.rules.check(command, inner) {
        Ok(()) => return s.answer(Bytes::from_static(b"+OK\r\n")),
        Err(Denied::Command) => format!("run the '{}' command", command.name),
        Err(Denied::Key(at)) => format!("access the '{}' key", object(at)),
        Err(Denied::Channel(at)) => format!("access the '{}' channel", object(at)),
    };
    let mut out = BytesMut::new();
    encode::bulk(format!("This user has no permissions to {text}").as_bytes(), &mut out);
    s.answer(out.freeze());
}

fn log(worker: &Worker, s: &mut Session, args: Args) {
    let gate = s.port.gate.clone();
    let most = match args.get(2) {
        Some(word) if word.eq_ignore_ascii_case(b"reset") => {
            gate.log.clear();
            return s.answer(Bytes::from_static(b"+OK\r\n"));
        }
        Some(count) => match integer(count) {
            Some(count) => usize::try_from(count).unwrap_or(0),
            None => return s.error(NO_INTEGER),
        },
        None => FEW,
    };
    s.answer(gate.log.encode(most, worker.clock.now_us(), s.dialect).freeze());
}
