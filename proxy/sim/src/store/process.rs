//! One request from its arguments to its reply: lookup, arity, permission, environment, queue, run.
//! The order of the checks is that of Redis's `processCommand`, because clients can see it.

use super::Store;
use super::input::Args;
use super::reply::{Fault, Reply};
use super::scripts::is_put;
use super::session::Session;
use super::subcommands;
use super::table::{self, Command, Run};

/// Commands that run at once inside MULTI.
const NOT_QUEUED: [&str; 6] = ["exec", "discard", "multi", "watch", "quit", "reset"];

impl Store {
    pub(super) fn process(&mut self, session: &mut Session, mut args: Args) -> Reply {
        self.commands += 1;
        if self.spoils_copies && is_put(&args) {
            args.extend([b"0".to_vec(), b"spoiled".to_vec()]);
            let kept = args.len() - 4;
            args.drain(kept..kept + 2);
        }
        let Some(command) = args.first().and_then(|name| table::lookup(name)) else {
            session.abort_queue();
            return Reply::Error(unknown(&args));
        };
        session.last_command = command.name;
        if let Err(fault) = self.admit(session, command, &args) {
            return self.reject(session, command, fault);
        }
        match &mut session.queue {
            Some(queue) if !NOT_QUEUED.contains(&command.name) => {
                queue.requests.push((command, args));
                Reply::Status("QUEUED")
            }
            _ => self.run_alone(session, command, args),
        }
    }

    fn admit(&mut self, session: &Session, command: &Command, args: &Args) -> Result<(), Fault> {
        if !command.accepts(args.len()) {
            return Err(Fault::arity(command.name));
        }
        let sub = subcommands::resolve(command, args)?;
        self.check_user(session, command, sub, args)?;
        self.check_memory(session, command, args)?;
        self.check_environment(session, command)
    }

    fn reject(&mut self, session: &mut Session, command: &Command, fault: Fault) -> Reply {
        session.abort_queue();
        if command.name != "exec" {
            return Reply::Error(fault);
        }
        session.discard();
        let text = fault.text();
        Reply::Error(Fault::said(format!("EXECABORT Transaction discarded because of: {text}")))
    }

    fn run_alone(&mut self, session: &mut Session, command: &Command, args: Args) -> Reply {
        let mut transaction = Vec::new();
        let reply = match command.run {
            Run::Server(run) => run(self, session, &args).unwrap_or_else(Reply::Error),
            Run::Data(_) => self.run_data(session, command, args, &mut transaction),
        };
        self.history.record_if_any(&mut self.db, transaction);
        reply
    }

    /// Runs one request inside a transaction or alone; what changed data is added to `transaction`.
    pub(super) fn run_data(
        &mut self,
        session: &mut Session,
        command: &Command,
        args: Args,
        transaction: &mut Vec<Args>,
    ) -> Reply {
        let reply = match command.run {
            Run::Server(run) => return run(self, session, &args).unwrap_or_else(Reply::Error),
            Run::Data(run) => {
                let before = self.db.dirty();
                let answer = run(&mut self.db, &args);
                let now_ms = self.db.now_ms();
                self.db.set_now(now_ms);
                if self.db.dirty() != before {
                    transaction.push(args);
                }
                answer.unwrap_or_else(Reply::Error)
            }
        };
        self.spread_changes(Some(session));
        reply
    }
}

/// The error for a name that is not in the table, with its arguments as Redis quotes them.
fn unknown(args: &Args) -> Fault {
    const LIMIT: usize = 128;
    let mut quoted = String::new();
    for arg in args.iter().skip(1) {
        if quoted.len() >= LIMIT {
            break;
        }
        let room = LIMIT - quoted.len();
        quoted.push_str(&format!("'{}' ", printable(arg, room)));
    }
    let name = args.first().map_or(String::new(), |name| printable(name, LIMIT));
    Fault::said(format!("ERR unknown command '{name}', with args beginning with: {quoted}"))
}

/// The text of an argument as far as Redis would print it.
pub(super) fn printable(bytes: &[u8], limit: usize) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()).min(limit);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
