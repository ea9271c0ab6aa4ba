//! The users of one listener. Whoever looks one up never waits for a change, and can tell a user from one of the same
//! name that was made after it.

use super::account::Account;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Users by their names.
pub type Accounts = Vec<Arc<Account>>;

/// A user as a listener lets it in.
#[derive(Debug, Clone)]
pub struct Member {
    /// What it is now.
    pub account: Arc<Account>,
    /// Stays the same while the listener lets it in without a break, whatever else changes of it.
    pub life: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Roll {
    /// The listener's name.
    pub listener: String,
    members: ArcSwap<Vec<Member>>,
    /// Grows with every change, after it.
    version: AtomicU64,
}

impl Roll {
    /// Of this listener.
    pub fn new(listener: &str, accounts: Accounts) -> Roll {
        let roll =
            Roll { listener: listener.into(), members: ArcSwap::default(), version: AtomicU64::new(0) };
        roll.put(accounts);
        roll
    }

    /// Tells whether anything changed since it was last asked. Ask it before any account.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All of them, in the order of their names.
    pub fn accounts(&self) -> Accounts {
        self.members.load().iter().map(|member| member.account.clone()).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.members.load().len()
    }

    /// The user of this name.
    pub fn member(&self, name: &[u8]) -> Option<Member> {
        let members = self.members.load();
        find(&members, name).cloned()
    }

    /// From now on it is these. One change at a time; those whose name was there before live on.
    pub fn put(&self, mut accounts: Accounts) {
        accounts.sort_by(|a, b| a.name.cmp(&b.name));
        let (old, now) = (self.members.load(), self.version.load(Ordering::Relaxed));
        let member = |account: Arc<Account>| {
            let life = find(&old, account.name.as_bytes()).map_or(now, |member| member.life);
            Member { account, life }
        };
        self.members.store(Arc::new(accounts.into_iter().map(member).collect()));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Is it one of them, as it is?
    pub fn has(&self, account: &Arc<Account>) -> bool {
        self.members.load().iter().any(|member| Arc::ptr_eq(&member.account, account))
    }
}

fn find<'a>(members: &'a [Member], name: &[u8]) -> Option<&'a Member> {
    let at = members.binary_search_by(|member| member.account.name.as_bytes().cmp(name)).ok()?;
    members.get(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_lives_until_it_is_not_let_in_any_more() {
        let made = |names: &[&str]| names.iter().map(|name| Arc::new(Account::made(name))).collect();
        let roll = Roll::new("main", made(&["bob", "ann"]));
        let life = |name: &str| roll.member(name.as_bytes()).map(|member| member.life);
        let (ann, bob) = (life("ann"), life("bob"));
        assert!(ann.is_some() && bob.is_some());
        // Changed, by a client or by the configuration.
        let version = roll.version();
        roll.put(made(&["ann", "bob", "carl"]));
        assert!(roll.version() > version && (life("ann"), life("bob")) == (ann, bob));
        // Who goes and comes again, also by the way of a change in between, is somebody else.
        roll.put(made(&["ann", "carl"]));
        assert_eq!(life("bob"), None);
        roll.put(made(&["ann", "bob"]));
        assert!(life("ann") == ann && life("bob").is_some() && life("bob") != bob);
    }
}
