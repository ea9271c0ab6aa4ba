//! A user that changed or went, as its clients notice it: before the next of their commands that is read, and soon
//! if they send none.

use super::account::Account;
use crate::listen::pubsub::Kind;
use crate::listen::session::{Session, flush};
use crate::worker::Worker;
use std::rc::Rc;
use std::sync::Arc;

impl Session {
    /// Its user is from now on what the table has. To be called before anything that was read is served.
    #[inline]
    pub(in crate::listen) fn keep_up(&mut self) {
        if self.port.gate.roll.version() != self.access.version && !self.renew() {
            self.client.kill();
            self.closing = true;
        }
    }

    /// The same for the client that changed users: it is closed only after its reply.
    pub(in crate::listen) fn keep_up_itself(&mut self) {
        self.closing |= !self.renew();
    }

    /// `false`: it must be closed, its user is gone or may not hear any more what it listens to.
    #[cold]
    fn renew(&mut self) -> bool {
        let gate = self.port.gate.clone();
        self.access.version = gate.roll.version();
        let Some(old) = self.access.account.clone() else {
            // Nobody so far. Perhaps the default user is open now.
            self.become_user(None);
            return true;
        };
        // One of that name that came after it is somebody else.
        let life = self.access.life;
        let Some(new) = gate.member(old.name.as_bytes()).filter(|new| new.life == life) else {
            return false;
        };
        if Arc::ptr_eq(&old, &new.account) {
            return true;
        }
        self.become_user(Some(new.clone()));
        self.may_still_hear(&new.account)
    }

    fn may_still_hear(&self, account: &Account) -> bool {
        let may = |kind: Kind| {
            let names = self.own.all(kind);
            names.iter().all(|name| account.rules.may_hear(name, kind == Kind::Pattern))
        };
        self.own.is_empty() || [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().all(may)
    }
}

impl Worker {
    /// Every client of this thread notices what became of its user.
    pub fn look_at_users(&self) {
        for session in self.all_sessions() {
            let mut s = session.borrow_mut();
            let before = s.access.turns();
            s.keep_up();
            let stops = s.access.turns() != before && self.recheck_wait(&mut s);
            drop(s);
            if stops {
                flush(self, &session);
            }
        }
    }

    /// Has the users read again, away from this thread. `None`: nothing is to be answered now, the command comes again.
    pub(in crate::listen) fn load_users(&self, s: &mut Session) -> Option<Result<(), String>> {
        if let Some(done) = s.access.loaded.take() {
            return Some(done);
        }
        let users = s.port.gate.users.clone();
        s.postponed = true;
        s.kept_back();
        // Who leaves meanwhile is not kept.
        let session = self.session(s.number).map(|session| Rc::downgrade(&session));
        tokio::task::spawn_local(async move {
            let done = users.load().await;
            if let Some(session) = session.and_then(|session| session.upgrade()) {
                let mut s = session.borrow_mut();
                s.access.loaded = Some(done);
                s.postponed = false;
                s.client.wake();
            }
        });
        None
    }
}
