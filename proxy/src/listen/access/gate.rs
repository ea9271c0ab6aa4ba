//! What a listener knows of those it lets in: its users, what was denied, and what was turned away.

use super::log::Log;
use super::rate::Bucket;
use super::throttle::Throttle;
use crate::config::{Config, Digest, Listener, Rate, User};
use crate::tls::Complaints;
use quorate_wire::access::Rules;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The name of the user that a client is before it logs in.
pub const DEFAULT: &str = "default";

/// A user, for all listeners that let it in.
#[derive(Debug)]
pub struct Account {
    /// As configured.
    pub user: User,
    /// Its name, for those who keep it.
    pub name: Arc<str>,
    /// Is there anything that it is not allowed?
    pub restricted: bool,
    /// What its clients together may send.
    pub bucket: Option<Bucket>,
}

impl Account {
    fn new(user: User) -> Account {
        Account {
            name: user.name.as_str().into(),
            restricted: !user.rules.is_unrestricted(),
            bucket: user.rate.map(Bucket::new),
            user,
        }
    }
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $reason:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$each])* $reason,)* }

        impl $name {
            /// All of them, in their order.
            pub const ALL: &[$name] = &[$($name::$reason),*];

            /// As metrics and the log of denials have it.
            pub fn name(self) -> &'static str {
                match self { $($name::$reason => $text,)* }
            }
        }
    };
}

reasons! {
    /// Why something of a client was turned away.
    Shed {
        /// There are as many clients as may be.
        MaxClients = "max-clients",
        /// A request was too large.
        RequestSize = "request-size",
        /// Replies were not read.
        SlowReader = "slow-reader",
        /// The client sent too fast.
        ClientRate = "client-rate",
        /// All clients of the user together sent too fast.
        UserRate = "user-rate",
        /// Too many logins failed.
        Logins = "logins",
    }
}

reasons! {
    /// What was denied.
    Denial {
        /// A command.
        Command = "command",
        /// A key.
        Key = "key",
        /// A channel.
        Channel = "channel",
        /// A login.
        Auth = "auth",
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Gate {
    /// The listener's name.
    pub listener: String,
    /// How fast one client may send.
    pub rate: Option<Rate>,
    /// What was denied.
    pub log: Log,
    /// Logins that failed, for all listeners.
    pub throttle: Arc<Throttle>,
    /// Keeps the log of the process short.
    pub complaints: Complaints,
    accounts: Vec<Arc<Account>>,
    sheds: [AtomicU64; Shed::ALL.len()],
    denials: [AtomicU64; Denial::ALL.len()],
}

/// The gates of all listeners, in their order.
pub fn gates(config: &Config) -> Vec<Arc<Gate>> {
    let accounts: Vec<Arc<Account>> =
        config.users.iter().cloned().map(|user| Arc::new(Account::new(user))).collect();
    let throttle = Arc::new(Throttle::default());
    let gate = |listener: &Listener| Arc::new(Gate::new(listener, &accounts, throttle.clone()));
    config.listeners.iter().map(gate).collect()
}

impl Gate {
    fn new(listener: &Listener, accounts: &[Arc<Account>], throttle: Arc<Throttle>) -> Gate {
        let accounts = match &listener.users {
            Some(names) => {
                accounts.iter().filter(|account| names.contains(&account.user.name)).cloned().collect()
            }
            None => vec![Arc::new(Account::new(alone(listener)))],
        };
        Gate {
            listener: listener.name.clone(),
            rate: listener.rate,
            log: Log::default(),
            throttle,
            complaints: Complaints::default(),
            accounts,
            sheds: Default::default(),
            denials: Default::default(),
        }
    }

    /// The user of this name.
    pub fn account(&self, name: &[u8]) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| account.name.as_bytes() == name)
    }

    /// All users, by name.
    pub fn accounts(&self) -> &[Arc<Account>] {
        &self.accounts
    }

    /// Who a client is that says nothing; `None` if it must log in.
    pub fn unnamed(&self) -> Option<&Arc<Account>> {
        let account = self.account(DEFAULT.as_bytes())?;
        (account.user.rules.is_enabled() && account.user.rules.is_open()).then_some(account)
    }

    /// Counts what was turned away.
    pub fn shed(&self, why: Shed) {
        self.sheds[why as usize].fetch_add(1, Relaxed);
    }

    /// Counts what was denied.
    pub fn deny(&self, what: Denial) {
        self.denials[what as usize].fetch_add(1, Relaxed);
    }

    /// How often something was turned away for this reason.
    pub fn sheds(&self, why: Shed) -> u64 {
        self.sheds[why as usize].load(Relaxed)
    }

    /// How often this was denied.
    pub fn denials(&self, what: Denial) -> u64 {
        self.denials[what as usize].load(Relaxed)
    }
}

/// The only user of a listener that names none: it may do everything.
fn alone(listener: &Listener) -> User {
    let rules = match listener.password {
        None => Rules::everything(),
        Some(_) => Rules::parse("allcommands allkeys allchannels").unwrap_or_else(|_| Rules::everything()),
    };
    let digest = |password: &crate::config::Secret| Digest::of(password.expose().as_bytes());
    User { passwords: listener.password.iter().map(digest).collect(), ..User::new(DEFAULT, rules) }
}
