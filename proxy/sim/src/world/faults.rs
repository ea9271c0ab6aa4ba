//! What goes wrong: how a seed chooses among the kinds of faults, and when they strike.

use super::Env;
use super::clock::Due;
use super::dice::Dice;
use super::kind::Kind;
use super::options::Options;
use quorate_core::ordered::Journaling;

/// A fault, as it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A backend is killed, without its last `lose` transactions, and is back after a time.
    Crash {
        /// Which.
        backend: usize,
        /// Transactions lost, as far as the disk may have missed them.
        lose: usize,
        /// Microseconds until it is back.
        down_us: u64,
        /// Microseconds it then loads.
        loading_us: u64,
    },
    /// A backend's host dies and comes back; its peers are not told.
    Vanish {
        /// Which.
        backend: usize,
        /// Microseconds until it is back.
        down_us: u64,
    },
    /// All backends are killed at once, each without up to `lose` transactions that the disk may have missed.
    Blackout {
        /// The most transactions lost.
        lose: usize,
        /// Microseconds until they are back.
        down_us: u64,
    },
    /// A backend stops.
    Pause {
        /// Which.
        backend: usize,
        /// Microseconds.
        us: u64,
    },
    /// The connection between a proxy and a backend is reset.
    Reset {
        /// Which proxy.
        proxy: usize,
        /// Which backend.
        backend: usize,
    },
    /// A path is blocked in one or both ways.
    Block {
        /// Which proxy.
        proxy: usize,
        /// Which backend.
        backend: usize,
        /// To the backend, to the proxy.
        ways: [bool; 2],
        /// Microseconds.
        us: u64,
    },
    /// A path is slow.
    Slow {
        /// Which proxy.
        proxy: usize,
        /// Which backend.
        backend: usize,
        /// Delay in microseconds.
        delay_us: u64,
        /// Microseconds until it is as before.
        us: u64,
    },
    /// From now on a backend cannot restore the last key of a copy.
    SpoilCopies {
        /// Which.
        backend: usize,
    },
    /// Backends are out of memory.
    Oom {
        /// Which; all without a number.
        backend: Option<usize>,
        /// Microseconds.
        us: u64,
    },
    /// A proxy stops, as by SIGSTOP.
    Freeze {
        /// Which.
        proxy: usize,
        /// Microseconds.
        us: u64,
    },
    /// Wall clocks jump.
    Clock {
        /// The proxy.
        proxy: usize,
        /// The backend.
        backend: usize,
        /// By how many milliseconds the proxy's goes forward and the backend's back.
        ms: i64,
    },
    /// The disk of a proxy's journal is full.
    DiskFull {
        /// Which proxy.
        proxy: usize,
        /// Microseconds.
        us: u64,
    },
    /// The next sync of a proxy's journal fails.
    SyncError {
        /// Which proxy.
        proxy: usize,
    },
    /// Files of a proxy's journal are deleted.
    LoseFiles {
        /// Which proxy.
        proxy: usize,
        /// All of them, not only older ones.
        all: bool,
    },
    /// A proxy is killed.
    CrashProxy {
        /// Which.
        proxy: usize,
    },
    /// A proxy starts.
    StartProxy {
        /// Without the state of those before.
        fresh: bool,
    },
}

/// The end of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Healing {
    Up { backend: usize, loading_us: u64 },
    Loaded { backend: usize },
    Resume { backend: usize },
    Unblock { proxy: usize, backend: usize },
    Fast { proxy: usize, backend: usize },
    Memory { backend: usize },
    Disk { folder: usize },
    Thaw { proxy: usize },
}

/// A kind in force and how often it strikes on average.
struct Habit {
    kind: Kind,
    every_us: u64,
}

/// The faults of one world.
pub(super) struct Weather {
    habits: Vec<Habit>,
    loading: bool,
    fresh: bool,
    pub(super) skewed: bool,
    longest_us: u64,
}

impl Weather {
    /// Some of the kinds allowed, each at a rate of its own.
    pub(super) fn of(options: &Options, dice: &mut Dice) -> Self {
        let chance = if options.storm { 90 } else { [30, 50, 80][dice.pick(3)] };
        let possible = |kind: &Kind| !kind.is_of_journals() || options.journal != Journaling::None;
        let allowed = options.faults.iter().copied().filter(possible);
        let mut taken: Vec<Kind> = allowed.filter(|_| dice.percent(chance)).collect();
        taken.sort_unstable();
        let (loading, fresh) = (taken.contains(&Kind::Loading), taken.contains(&Kind::FreshState));
        let skewed = taken.contains(&Kind::Clock);
        taken.retain(|kind| !matches!(kind, Kind::Loading | Kind::FreshState));
        let slowest_us = if options.storm { 250_000 } else { 700_000 };
        let habits = taken.into_iter().map(|kind| Habit { kind, every_us: dice.between(60_000, slowest_us) });
        Weather {
            habits: habits.collect(),
            loading,
            fresh,
            skewed,
            longest_us: dice.between(20_000, 600_000),
        }
    }

    /// The kinds in force, for the trace.
    pub(super) fn describe(&self) -> String {
        let kinds: Vec<String> = self.habits.iter().map(|habit| format!("{:?}", habit.kind)).collect();
        format!("faults: {}", if kinds.is_empty() { "none".into() } else { kinds.join(", ") })
    }

    /// Plans every fault up to `until_us`. Proxies are named by how young they are: 0 is the youngest.
    pub(super) fn plan(&self, until_us: u64, replicas: usize, env: &mut Env) {
        for habit in &self.habits {
            let mut at_us = env.agenda.now_us();
            loop {
                at_us += env.dice.between(1, 2 * habit.every_us);
                if at_us >= until_us {
                    break;
                }
                for fault in self.draw(habit.kind, replicas, &mut env.dice) {
                    env.agenda.at(at_us, Due::Fault(habit.kind, fault));
                }
            }
        }
    }

    fn draw(&self, kind: Kind, replicas: usize, dice: &mut Dice) -> Vec<Fault> {
        let backend = dice.pick(replicas);
        let proxy = usize::from(dice.percent(25));
        let us = dice.between(1_000, self.longest_us);
        let loading_us = if self.loading && dice.percent(50) { dice.between(1_000, 200_000) } else { 0 };
        let down_us = if dice.percent(50) { dice.between(1, 5_000) } else { us };
        match kind {
            Kind::Restart => vec![Fault::Crash { backend, lose: 0, down_us, loading_us }],
            Kind::Lose => {
                let lose = dice.between(1, 12) as usize;
                vec![Fault::Crash { backend, lose, down_us, loading_us }]
            }
            Kind::HalfOpen => vec![Fault::Vanish { backend, down_us }],
            Kind::Blackout => {
                let blackout = Fault::Blackout { lose: dice.between(1, 12) as usize, down_us };
                let proxy_too = dice.percent(50);
                let crash = [Fault::CrashProxy { proxy: 0 }, Fault::StartProxy { fresh: false }];
                [blackout].into_iter().chain(crash.into_iter().filter(|_| proxy_too)).collect()
            }
            Kind::Freeze => vec![Fault::Freeze { proxy, us }],
            Kind::Clock => {
                let ms = dice.between(1, 3_600_000) as i64;
                vec![Fault::Clock { proxy, backend, ms: if dice.percent(50) { ms } else { -ms } }]
            }
            Kind::DiskFull => vec![Fault::DiskFull { proxy, us }],
            Kind::SyncError => vec![Fault::SyncError { proxy }],
            Kind::LostFiles => vec![Fault::LoseFiles { proxy, all: dice.percent(30) }],
            Kind::Pause => vec![Fault::Pause { backend, us }],
            Kind::Reset => vec![Fault::Reset { proxy, backend }],
            Kind::Cut => vec![Fault::Block { proxy, backend, ways: [true, true], us }],
            Kind::OneWay => {
                let to_backend = dice.percent(50);
                vec![Fault::Block { proxy, backend, ways: [to_backend, !to_backend], us }]
            }
            Kind::Slow => {
                let delay_us = dice.between(1_000, 60_000);
                vec![Fault::Slow { proxy, backend, delay_us, us }]
            }
            Kind::Oom => vec![Fault::Oom { backend: Some(backend), us }],
            Kind::OomAll => vec![Fault::Oom { backend: None, us }],
            Kind::CrashProxy => {
                let fresh = self.fresh && dice.percent(50);
                vec![Fault::CrashProxy { proxy: 0 }, Fault::StartProxy { fresh }]
            }
            Kind::TakeOver => vec![Fault::StartProxy { fresh: self.fresh && dice.percent(50) }],
            Kind::Loading | Kind::FreshState => Vec::new(),
        }
    }
}
