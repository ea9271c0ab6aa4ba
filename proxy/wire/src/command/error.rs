//! Errors of a command that no backend needs to see, in the words of Redis 7.0.

use crate::resp::Args;

/// Redis cuts what it quotes at this many bytes.
const QUOTED: usize = 128;

/// Why a command cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// No such command; the message quotes the first arguments.
    Unknown(Vec<u8>),
    /// No such sub-command.
    UnknownSubcommand(Vec<u8>),
    /// Too few or too many arguments for the command of this name.
    Arity(&'static str),
}

impl CommandError {
    /// For a command that no server here knows.
    #[cold]
    pub fn unknown(args: Args) -> Self {
        let mut quoted = Vec::new();
        for arg in args.from(1) {
            if quoted.len() >= QUOTED {
                break;
            }
            let room = QUOTED - quoted.len();
            quoted.push(b'\'');
            quoted.extend_from_slice(cut(arg, room));
            quoted.extend_from_slice(b"' ");
        }
        let mut message = b"ERR unknown command '".to_vec();
        message.extend_from_slice(cut(args.get(0).unwrap_or_default(), QUOTED));
        message.extend_from_slice(b"', with args beginning with: ");
        message.extend_from_slice(&quoted);
        CommandError::Unknown(one_line(message))
    }

    #[cold]
    pub(super) fn unknown_subcommand(name: &[u8], sub: &[u8]) -> Self {
        let mut message = b"ERR unknown subcommand '".to_vec();
        message.extend_from_slice(cut(sub, QUOTED));
        message.extend_from_slice(b"'. Try ");
        message.extend(cut(name, name.len()).iter().map(u8::to_ascii_uppercase));
        message.extend_from_slice(b" HELP.");
        CommandError::UnknownSubcommand(one_line(message))
    }

    /// What the client reads, without the leading `-` and the end of line. May hold any byte but
    /// CR and LF, since Redis quotes arguments as they are.
    pub fn message(&self) -> Vec<u8> {
        match self {
            CommandError::Unknown(message) | CommandError::UnknownSubcommand(message) => message.clone(),
            // An EXEC that cannot be also ends the transaction, and Redis says so.
            CommandError::Arity(name) if *name == "exec" => {
                b"EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"
                    .to_vec()
            }
            CommandError::Arity(name) => {
                format!("ERR wrong number of arguments for '{name}' command").into_bytes()
            }
        }
    }
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.message()))
    }
}

impl std::error::Error for CommandError {}

/// As `%.*s` of C prints: up to the first NUL, and at most `limit` bytes.
fn cut(arg: &[u8], limit: usize) -> &[u8] {
    super::token::word(&arg[..arg.len().min(limit)])
}

/// A line break in what is quoted would end the error and start a reply of the client's making.
fn one_line(mut message: Vec<u8>) -> Vec<u8> {
    for byte in &mut message {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    message
}
