//! What a listener knows of those it lets in: its users, what was denied, and what was turned away.

use super::account::{Account, DEFAULT};
use super::log::Log;
use super::roll::{Member, Roll};
use super::throttle::Throttle;
use super::users::Users;
use crate::config::{Config, Listener, Rate};
use crate::tls::Complaints;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    /// Its users.
    pub roll: Arc<Roll>,
    /// Those of all listeners.
    pub users: Arc<Users>,
    sheds: [AtomicU64; Shed::ALL.len()],
    denials: [AtomicU64; Denial::ALL.len()],
}

/// The gates of all listeners, in their order.
pub fn gates(config: &Config, users: &Arc<Users>) -> Vec<Arc<Gate>> {
    let throttle = Arc::new(Throttle::default());
    let gate = |listener: &Listener| {
        Some(Arc::new(Gate::new(listener, users.roll(&listener.name)?.clone(), users, throttle.clone())))
    };
    config.listeners.iter().filter_map(gate).collect()
}

impl Gate {
    fn new(listener: &Listener, roll: Arc<Roll>, users: &Arc<Users>, throttle: Arc<Throttle>) -> Gate {
        Gate {
            listener: listener.name.clone(),
            rate: listener.rate,
            log: Log::default(),
            throttle,
            complaints: Complaints::default(),
            roll,
            users: users.clone(),
            sheds: Default::default(),
            denials: Default::default(),
        }
    }

    /// The user of this name, and which one of that name it is.
    pub fn member(&self, name: &[u8]) -> Option<Member> {
        self.roll.member(name)
    }

    /// The user of this name.
    pub fn account(&self, name: &[u8]) -> Option<Arc<Account>> {
        self.roll.member(name).map(|member| member.account)
    }

    /// Who a client is that says nothing; `None` if it must log in.
    pub fn unnamed(&self) -> Option<Member> {
        self.member(DEFAULT.as_bytes())
            .filter(|member| member.account.rules.is_enabled() && member.account.rules.is_open())
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
