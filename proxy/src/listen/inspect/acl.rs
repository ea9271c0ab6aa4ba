//! ACL: the users of the listener, how they are made and changed, and what was denied to whom.

use super::{NO_INTEGER, integer, list, map};
use crate::listen::access::account::Account;
use crate::listen::access::users::NO_FILE;
use crate::listen::session::Session;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use quorate_wire::access::{Denied, Described, merged};
use quorate_wire::command::access::{CATEGORIES, categories, category};
use quorate_wire::command::{self, Command};
use quorate_wire::resp::{Args, encode};

const OK: Bytes = Bytes::from_static(b"+OK\r\n");

/// Entries of the log that are told if nobody says how many.
const FEW: usize = 10;

/// Answers `ACL`, but for what a replica answers.
pub fn answer(worker: &Worker, s: &mut Session, command: &Command, args: Args) {
    let gate = s.port.gate.clone();
    match command.name {
        "acl|whoami" => {
            let mut out = BytesMut::new();
            encode::bulk(s.access.name().as_bytes(), &mut out);
            s.answer(out.freeze());
        }
        "acl|users" => {
            let accounts = gate.roll.accounts();
            s.answer(list(accounts.iter().map(|account| &*account.name).collect::<Vec<_>>()));
        }
        "acl|list" => {
            let lines: Vec<String> = gate.roll.accounts().iter().map(|account| account.line()).collect();
            s.answer(list(lines.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        "acl|getuser" => match gate.account(&args[2]) {
            Some(account) => user(s, &account),
            None => s.answer(Bytes::from_static(if s.dialect == 3 { b"_\r\n" } else { b"$-1\r\n" })),
        },
        "acl|cat" => cat(s, args),
        "acl|dryrun" => dry_run(s, args),
        "acl|setuser" => set_user(s, args),
        "acl|deluser" => delete_users(s, args),
        "acl|save" => s.error(NO_FILE),
        "acl|load" => match worker.load_users(s) {
            None => {}
            Some(Ok(())) => s.answer(OK),
            Some(Err(message)) => s.error(&message),
        },
        _ => log(worker, s, args),
    }
}

fn user(s: &mut Session, account: &Account) {
    let rules = &account.rules;
    let mut out = BytesMut::new();
    map(6, s.dialect, &mut out);
    encode::bulk(b"flags", &mut out);
    let flags = rules.flags();
    encode::header(if s.dialect == 3 { b'~' } else { b'*' }, flags.len(), &mut out);
    flags.iter().for_each(|flag| encode::bulk(flag.as_bytes(), &mut out));
    encode::bulk(b"passwords", &mut out);
    out.extend_from_slice(&list(account.digests().iter().map(String::as_str).collect::<Vec<_>>()));
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

/// Makes a user, or changes one.
fn set_user(s: &mut Session, args: Args) {
    let gate = s.port.gate.clone();
    let name = &args[2];
    if name.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b)) {
        return s.error("ERR Usernames can't contain spaces or null characters");
    }
    let Ok(name) = std::str::from_utf8(name) else {
        return s.error("ERR the proxy takes names of users in UTF-8 only");
    };
    let rules = match merged(args.from(3)) {
        Ok(rules) => rules,
        Err(word) => {
            let word = shown(word);
            return s.error(&format!("ERR Unmatched parenthesis in acl selector starting at '{word}'."));
        }
    };
    match gate.users.set(&gate.roll, name, &rules) {
        Ok(()) => {
            tracing::info!(listener = gate.listener, user = name, by = %s.access.name(), "a client set a user");
            s.keep_up_itself();
            s.answer(OK);
        }
        Err(message) => s.error(&message),
    }
}

fn delete_users(s: &mut Session, args: Args) {
    let gate = s.port.gate.clone();
    let names: Vec<&[u8]> = args.from(2).collect();
    match gate.users.delete(&gate.roll, &names) {
        Ok(users) => {
            tracing::info!(listener = gate.listener, ?users, by = %s.access.name(), "a client deleted users");
            s.keep_up_itself();
            s.answer(Bytes::from(format!(":{}\r\n", users.len())));
        }
        Err(message) => s.error(&message),
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
    let Some(account) = s.port.gate.account(&args[2]) else {
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
    let text = match account.rules.check(command, inner) {
        Ok(()) => return s.answer(OK),
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
            return s.answer(OK);
        }
        Some(count) => match integer(count) {
            Some(count) => usize::try_from(count).unwrap_or(0),
            None => return s.error(NO_INTEGER),
        },
        None => FEW,
    };
    s.answer(gate.log.encode(most, worker.clock.now_us(), s.dialect).freeze());
}
