//! Who a client is and what it may do: looked at before anything of a command is done or ordered.

pub mod account;
pub mod gate;
pub mod log;
mod login;
pub mod rate;
mod renew;
pub mod roll;
pub mod throttle;
pub mod users;

pub use login::{Login, login};

use super::session::Session;
use crate::worker::Worker;
use account::{Account, DEFAULT};
use gate::{Denial, Gate, Shed};
use log::Entry;
use quorate_wire::access::Denied;
use quorate_wire::command::{Carry, Command, Flags, Step, sort_options};
use quorate_wire::resp::Args;
use rate::Bucket;
use roll::Member;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What one client may do.
#[derive(Debug, Default)]
pub struct Pass {
    account: Option<Arc<Account>>,
    /// Which one of that name.
    life: u64,
    /// What it alone may send.
    bucket: Option<Box<Bucket>>,
    /// Is there anything to look at before a command is served?
    looked_at: bool,
    /// Its login has waited, and is to be looked at now.
    waited: bool,
    /// That of the users when its own was last looked up.
    version: u64,
    /// How often its user became another one, or was changed.
    turns: u64,
    /// How the reading of the users ended that it waits for.
    loaded: Option<Result<(), String>>,
}

impl Pass {
    /// Of a client that has said nothing yet.
    pub fn new(gate: &Gate) -> Pass {
        let bucket = gate.rate.map(|rate| Box::new(Bucket::new(rate)));
        let mut pass = Pass { bucket, version: gate.roll.version(), ..Pass::default() };
        pass.become_user(gate.unnamed());
        pass
    }

    /// May it do anything at all?
    pub fn is_in(&self) -> bool {
        self.account.is_some()
    }

    /// The user that it is.
    pub fn name(&self) -> Arc<str> {
        self.account.as_ref().map_or_else(|| DEFAULT.into(), |account| account.name.clone())
    }

    /// Must its commands be looked at?
    #[inline]
    pub fn is_looked_at(&self) -> bool {
        self.looked_at
    }

    /// Differs when what it may do may differ.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    fn become_user(&mut self, member: Option<Member>) {
        self.turns += 1;
        self.life = member.as_ref().map_or(0, |member| member.life);
        let account = member.map(|member| member.account);
        let binds = |account: &Arc<Account>| account.restricted || account.bucket.is_some();
        self.looked_at = self.bucket.is_some() || account.as_ref().is_some_and(binds);
        self.account = account;
    }
}

impl Session {
    /// It is this user from now on; `None` for who it was before it said anything.
    pub(super) fn become_user(&mut self, member: Option<Member>) {
        let member = member.or_else(|| self.port.gate.unnamed());
        self.access.become_user(member);
        self.trusted = self.access.is_in();
        let name = self.access.name();
        if let Ok(mut names) = self.client.names.lock() {
            names.user = Some(name);
        }
    }
}

impl Worker {
    /// What the client reads that may not do this.
    pub(super) fn denied(&self, s: &Session, command: &'static Command, args: Args) -> Option<String> {
        denied(self, s, command, args)
    }

    /// Looks at a command before it is served. `false`: the client has its error.
    #[inline(never)]
    pub(super) fn may_pass(
        &self,
        s: &mut Session,
        command: &'static Command,
        carry: Carry,
        args: Args,
    ) -> bool {
        // It passed when it came, and is done: only its answer is left.
        if s.access.loaded.is_some() {
            return true;
        }
        let refusal = too_fast(s, command, carry, self.now_us()).or_else(|| denied(self, s, command, args));
        let Some(message) = refusal else { return true };
        // An EXEC that is refused ends the transaction.
        if carry == Carry::Transaction(Step::Exec) {
            s.transaction = Default::default();
            s.error(&format!("EXECABORT Transaction discarded because of: {message}"));
        } else {
            s.transaction.spoil();
            s.error(&message);
        }
        false
    }
}

/// Is this one request too many? What ends a transaction or a connection never is, nor a login.
fn too_fast(s: &Session, command: &Command, carry: Carry, now_us: u64) -> Option<String> {
    let ends = matches!(carry, Carry::Transaction(Step::Exec | Step::Discard));
    if ends || command.flags.has(Flags::NO_AUTH) { None } else { over_rate(s, now_us) }
}

/// Takes one request out of the client's bucket and its user's. What it reads if one is empty.
pub(super) fn over_rate(s: &Session, now_us: u64) -> Option<String> {
    let of_user = s.access.account.as_deref().and_then(|account| account.bucket.as_deref());
    let buckets =
        [(s.access.bucket.as_deref(), Shed::ClientRate, "a client"), (of_user, Shed::UserRate, "this user")];
    let (bucket, why, whom) = buckets
        .into_iter()
        .filter_map(|(bucket, why, whom)| Some((bucket?, why, whom)))
        .find(|(bucket, ..)| !bucket.take(now_us))?;
    s.port.gate.shed(why);
    let most = bucket.rate().requests_per_second;
    Some(format!("ERR rate limit exceeded: {whom} may send {most} requests per second; nothing was done"))
}

/// What the client reads that may not do this.
fn denied(worker: &Worker, s: &Session, command: &'static Command, args: Args) -> Option<String> {
    let account = s.access.account.as_ref().filter(|account| account.restricted)?;
    let rules = &account.rules;
    match rules.check(command, args) {
        Ok(()) => match sort_option(command, args) {
            Some(option) if !rules.reads_every_key(command, args) => {
                s.port.gate.deny(Denial::Key);
                Some(format!("ERR {option} option of SORT denied due to insufficient ACL permissions."))
            }
            _ => None,
        },
        Err(denied) => {
            let (what, object) = match denied {
                Denied::Command => (Denial::Command, command.name.as_bytes()),
                Denied::Key(at) => (Denial::Key, args.get(at).unwrap_or_default()),
                Denied::Channel(at) => (Denial::Channel, args.get(at).unwrap_or_default()),
            };
            s.client.command.store(command.index() as u32, Relaxed);
            enter(worker, s, what, object, account.name.as_bytes());
            Some(message(denied, command))
        }
    }
}

/// What a client reads, in the words of Redis 7.0.
fn message(denied: Denied, command: &Command) -> String {
    match denied {
        Denied::Command => {
            format!("NOPERM this user has no permissions to run the '{}' command", command.name)
        }
        Denied::Key(_) => {
            "NOPERM this user has no permissions to access one of the keys used as arguments".into()
        }
        Denied::Channel(_) => {
            "NOPERM this user has no permissions to access one of the channels used as arguments".into()
        }
    }
}

/// Counts what was denied, and enters it into the log.
fn enter(worker: &Worker, s: &Session, what: Denial, object: &[u8], user: &[u8]) {
    let gate = &s.port.gate;
    gate.deny(what);
    let context = if s.transaction.is_open() { "multi" } else { "toplevel" };
    let entry = Entry { reason: what.name(), context, object: object.to_vec(), user: user.to_vec() };
    let now_us = worker.clock.now_us();
    gate.log.enter(entry, now_us, s.client.line(now_us / 1000));
}

/// The first option of SORT by which keys are read that it does not name.
fn sort_option(command: &Command, args: Args) -> Option<&'static str> {
    if !matches!(command.name, "sort" | "sort_ro") {
        return None;
    }
    sort_options(args).reads_every_key
}
