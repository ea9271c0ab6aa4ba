//! Logging in. Failed logins make further ones wait; nothing here tells whether a user exists.

use super::enter;
use super::gate::{Denial, Shed};
use super::throttle::{Attempt, Who};
use crate::config::Digest;
use crate::listen::session::Session;
use crate::worker::Worker;
use std::rc::Rc;
use std::time::Duration;

/// How a login ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Login {
    /// The client is the user.
    Done,
    /// The error that it reads.
    Failed(String),
    /// The command is kept and comes again: nothing is to be answered now.
    Later,
}

/// Logs a client in.
pub fn login(worker: &Worker, s: &mut Session, user: &[u8], password: &[u8]) -> Login {
    let who = Who::new(s.client.peer.ip(), user);
    let counted = match std::mem::take(&mut s.access.waited) {
        // It was counted when it came.
        true => true,
        false => match turn(worker, s, who) {
            Ok(counted) => counted,
            Err(ended) => return ended,
        },
    };
    // Also for users that there are not, so that they take as long.
    let guess = Digest::of(password);
    let member = s.port.gate.member(user);
    match member.filter(|member| member.account.admits(&guess)) {
        Some(member) => {
            if counted {
                s.port.gate.throttle.succeeded(who, worker.clock.now_us());
            }
            s.become_user(Some(member));
            Login::Done
        }
        None => {
            if !counted {
                s.port.gate.throttle.failed(who, worker.clock.now_us());
            }
            complain(worker, s, user);
            Login::Failed("WRONGPASS invalid username-password pair or user is disabled.".into())
        }
    }
}

/// Is it this login's turn? Then whether it was counted as a failure.
fn turn(worker: &Worker, s: &mut Session, who: Who) -> Result<bool, Login> {
    let now_us = worker.clock.now_us();
    match s.port.gate.throttle.attempt(who, now_us) {
        Attempt::Now => Ok(false),
        Attempt::At(at_us) if at_us <= now_us => Ok(true),
        // An EXEC does not wait.
        Attempt::At(at_us) if s.is_captured() => Err(refused(s, at_us - now_us)),
        Attempt::At(at_us) => {
            s.access.waited = true;
            postpone(worker, s, at_us);
            Err(Login::Later)
        }
        Attempt::Refused(us) => Err(refused(s, us)),
    }
}

fn refused(s: &Session, us: u64) -> Login {
    s.port.gate.shed(Shed::Logins);
    let seconds = us.div_ceil(1_000_000);
    Login::Failed(format!(
        "ERR too many failed logins as this user from your address: try again in {seconds} seconds"
    ))
}

fn complain(worker: &Worker, s: &Session, user: &[u8]) {
    enter(worker, s, Denial::Auth, b"AUTH", user);
    let gate = &s.port.gate;
    if let Some(unsaid) = gate.complaints.due() {
        // A name that nobody has may be a password at the wrong place.
        let known = gate.account(user);
        let user = known.as_ref().map_or("one that does not exist", |account| &account.name);
        tracing::warn!(listener = gate.listener, user, address = %s.client.peer.ip(), unsaid, "a login failed");
    }
}

/// Serves nothing of this client until then.
fn postpone(worker: &Worker, s: &mut Session, at_us: u64) {
    s.postponed = true;
    s.kept_back();
    let wait = Duration::from_micros(at_us.saturating_sub(worker.clock.now_us()));
    // Who leaves meanwhile is not kept.
    let session = worker.session(s.number).map(|session| Rc::downgrade(&session));
    tokio::task::spawn_local(async move {
        tokio::time::sleep(wait).await;
        if let Some(session) = session.and_then(|session| session.upgrade()) {
            let mut s = session.borrow_mut();
            s.postponed = false;
            s.client.wake();
        }
    });
}
