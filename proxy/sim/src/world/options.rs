//! What a world is made of and what may go wrong in it.

use super::dice::Dice;
use super::kind::Kind;
use quorate_core::ordered::{Journaling, SafetyRules};

/// Rules that the shell around the core keeps; each can be switched off to see what it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShellRules {
    /// A new owner deletes the users of older ones, and an older owner gives way.
    pub fence: bool,
    /// An owner that comes back to a backend deletes its own user too, and with it what its
    /// earlier connection may still have on the wire.
    pub comeback: bool,
    /// A transaction's bytes are used again only for the same entries, not for the same numbers.
    /// A number is given again after an entry was taken back.
    pub image: bool,
    /// A backend's run id is recorded when it is in sync, not when it is attached.
    pub run: bool,
    /// Reads sent behind entries that a backend then refused are lost, not answered.
    pub lost_reads: bool,
}

impl ShellRules {
    /// Every rule in force.
    pub const ALL: Self = Self { fence: true, comeback: true, image: true, run: true, lost_reads: true };
}

/// A world.
#[derive(Debug, Clone)]
pub struct Options {
    /// Safety rules of the core.
    pub rules: SafetyRules,
    /// Safety rules of the shell.
    pub shell: ShellRules,
    /// Faults that may occur; each seed takes some of them.
    pub faults: Vec<Kind>,
    /// Nearly all of the faults at once, and often.
    pub storm: bool,
    /// How many backends, 1 to 5.
    pub replicas: usize,
    /// How many of them acknowledge a write.
    pub write_quorum: usize,
    /// How many clients ask by themselves.
    pub clients: usize,
    /// How many pipelines the clients send in all while faults occur.
    pub steps: usize,
    /// Entries kept in each backend's tail.
    pub tail_entries: u32,
    /// Bytes of log that a proxy keeps.
    pub log_bytes: usize,
    /// What proxies record in a journal.
    pub journal: Journaling,
    /// Usual delay of a network segment, in microseconds.
    pub delay_us: u64,
    /// Count reads that an owner answers after a newer one began to serve. An owner that was not
    /// told yet may answer those from a backend that the newer one could not fence.
    pub late_reads: bool,
    /// Count reads that see a write their session sent behind them.
    pub overtaken_reads: bool,
    /// A crash may also lose the fence of a newer owner while an older one lives. The fence is as
    /// durable as the backend's writes, and no more.
    pub lost_fences: bool,
    /// Writes are acknowledged by the recorded in-sync set, of at least `write_quorum` members.
    pub in_sync: bool,
    /// Clients also give keys a life.
    pub lives: bool,
    /// Some writes run on one replica first.
    pub leads: bool,
    /// Owners compare the replicas all the time, by surveys of their positions.
    pub surveys: bool,
    /// Stale replicas are copied key by key, while clients write.
    pub scans: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rules: SafetyRules::ALL,
            shell: ShellRules::ALL,
            faults: Kind::ALL.to_vec(),
            storm: false,
            replicas: 3,
            write_quorum: 2,
            clients: 5,
            steps: 120,
            tail_entries: 24,
            log_bytes: 1 << 20,
            journal: Journaling::None,
            delay_us: 300,
            late_reads: false,
            overtaken_reads: true,
            lost_fences: false,
            in_sync: false,
            lives: true,
            leads: true,
            surveys: false,
            scans: false,
        }
    }
}

impl Options {
    /// The usual world, but with its size, quorum, limits and delays chosen by the seed.
    pub fn varied(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x7061_7261_6d65_7472);
        let replicas = [3, 3, 3, 3, 5, 2, 4, 1][dice.pick(8)];
        let write_quorum = match dice.below(6) {
            0 => replicas,
            1 if replicas > 1 => replicas - 1,
            _ => replicas / 2 + 1,
        };
        Self {
            replicas,
            write_quorum,
            clients: dice.between(3, 7) as usize,
            tail_entries: [4, 24, 128][dice.pick(3)],
            log_bytes: [600, 4_000, 1 << 20][dice.pick(3)],
            delay_us: dice.between(80, 1_500),
            ..Self::default()
        }
    }

    /// No client of its own and no fault but those that are ordered.
    pub fn directed() -> Self {
        Self { clients: 0, faults: Vec::new(), leads: false, ..Self::default() }
    }
}
