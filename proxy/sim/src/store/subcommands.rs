//! The subcommands of ACL, CLIENT, CONFIG and COMMAND, with their arity.
//! Redis checks them before permissions and before queueing, so that they are known apart from what runs them.

use super::process::printable;
use super::reply::Fault;
use super::table::Command;

/// Container, subcommand, arity counting both names; negative means at least.
const SUBCOMMANDS: [(&str, &str, i32); 23] = [
    ("acl", "deluser", -3),
    ("acl", "getuser", 3),
    ("acl", "list", 2),
    ("acl", "setuser", -3),
    ("acl", "users", 2),
    ("acl", "whoami", 2),
    ("client", "getname", 2),
    ("client", "id", 2),
    ("client", "info", 2),
    ("client", "kill", -3),
    ("client", "list", -2),
    ("client", "no-evict", 3),
    ("client", "setinfo", 4),
    ("client", "setname", 3),
    ("command", "count", 2),
    ("command", "docs", -2),
    ("command", "getkeys", -4),
    ("command", "info", -2),
    ("command", "list", -2),
    ("config", "get", -3),
    ("config", "resetstat", 2),
    ("config", "rewrite", 2),
    ("config", "set", -4),
];

/// The name of the subcommand a request asks for: `None` for a command that has none, or none given.
/// An unknown one, or one with too few or many arguments, is a fault.
pub(super) fn resolve(command: &Command, args: &[Vec<u8>]) -> Result<Option<&'static str>, Fault> {
    let mut rows = SUBCOMMANDS.iter().filter(|(container, ..)| *container == command.name).peekable();
    let (Some(_), Some(wanted)) = (rows.peek(), args.get(1)) else { return Ok(None) };
    let row = rows.find(|(_, sub, _)| wanted.eq_ignore_ascii_case(sub.as_bytes()));
    let (_, sub, arity) = row.ok_or_else(|| unknown(command, wanted))?;
    if Command::fits(*arity, args.len()) {
        Ok(Some(sub))
    } else {
        Err(Fault::arity(&format!("{}|{sub}", command.name)))
    }
}

/// The error for a subcommand nobody knows.
pub(super) fn unknown(command: &Command, sub: &[u8]) -> Fault {
    let container = command.name.to_ascii_uppercase();
    Fault::said(format!("ERR unknown subcommand '{}'. Try {container} HELP.", printable(sub, 128)))
}
