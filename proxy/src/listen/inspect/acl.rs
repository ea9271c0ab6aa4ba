//! ACL: there is one user, `default`, who may do whatever the proxy carries. Users are not made here.

use super::{NO_INTEGER, integer, list, map};
use crate::listen::session::Session;
use bytes::{Bytes, BytesMut};
use quorate_wire::command::{self, Command};
use quorate_wire::resp::{Args, encode};

/// Answers the part of `ACL` that only reads.
pub fn answer(s: &mut Session, command: &Command, args: Args) {
    match command.name {
        "acl|whoami" => s.answer(Bytes::from_static(b"$7\r\ndefault\r\n")),
        "acl|users" => s.answer(list(["default"])),
        "acl|list" => s.answer(list([format!("user default on{} ~* &* +@all", nopass(s)).as_str()])),
        "acl|getuser" if &args[2] == b"default" => user(s),
        "acl|getuser" => s.answer(Bytes::from_static(if s.dialect == 3 { b"_\r\n" } else { b"$-1\r\n" })),
        "acl|dryrun" => dry_run(s, args),
        // Nobody is ever denied anything by a rule, so there is nothing to list.
        _ => match args.get(2) {
            Some(word) if word.eq_ignore_ascii_case(b"reset") => s.answer(Bytes::from_static(b"+OK\r\n")),
            Some(count) if integer(count).is_none() => s.error(NO_INTEGER),
            _ => s.answer(Bytes::from_static(b"*0\r\n")),
        },
    }
}

/// Without a password anybody may enter. Of a password not even a digest is shown.
fn nopass(s: &Session) -> &'static str {
    if s.port.password.is_none() { " nopass" } else { "" }
}

fn user(s: &mut Session) {
    let mut out = BytesMut::new();
    map(6, s.dialect, &mut out);
    encode::bulk(b"flags", &mut out);
    let flags: &[&[u8]] = if s.port.password.is_none() { &[b"on", b"nopass"] } else { &[b"on"] };
    encode::header(if s.dialect == 3 { b'~' } else { b'*' }, flags.len(), &mut out);
    flags.iter().for_each(|flag| encode::bulk(flag, &mut out));
    encode::bulk(b"passwords", &mut out);
    encode::header(b'*', 0, &mut out);
    for (name, value) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
        encode::bulk(name.as_bytes(), &mut out);
        encode::bulk(value.as_bytes(), &mut out);
    }
    encode::bulk(b"selectors", &mut out);
    encode::header(b'*', 0, &mut out);
    s.answer(out.freeze());
}

fn dry_run(s: &mut Session, args: Args) {
    let shown = |text: &[u8]| String::from_utf8_lossy(&text[..text.len().min(128)]).into_owned();
    if &args[2] != b"default" {
        return s.error(&format!("ERR User '{}' not found", shown(&args[2])));
    }
    match command::resolve(args.behind(3)) {
        Ok(_) => s.answer(Bytes::from_static(b"+OK\r\n")),
        Err(command::CommandError::Arity(name)) => {
            s.error(&format!("ERR wrong number of arguments for '{name}' command"));
        }
        Err(_) => s.error(&format!("ERR Command '{}' not found", shown(&args[3]))),
    }
}
