//! The kinds of faults.

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A backend is killed and comes back with all its data.
    Restart,
    /// A backend is killed and comes back without its last transactions.
    Lose,
    /// All backends are killed at once, and may have lost their last transactions.
    Blackout,
    /// A backend's host dies and comes back; its peers hear nothing of it.
    HalfOpen,
    /// A backend stops for a while, as by SIGSTOP.
    Pause,
    /// A connection is reset.
    Reset,
    /// Nothing passes between a proxy and a backend for a while.
    Cut,
    /// Nothing passes in one direction.
    OneWay,
    /// A path is slow for a while.
    Slow,
    /// One backend is out of memory.
    Oom,
    /// All backends are out of memory.
    OomAll,
    /// A backend that comes back loads its data for a while.
    Loading,
    /// The proxy is killed, and a new one takes over.
    CrashProxy,
    /// A second proxy takes over while the first lives.
    TakeOver,
    /// A new proxy comes without the state of the one before: its state folder is empty.
    FreshState,
    /// A proxy stops for a while, as by SIGSTOP.
    Freeze,
    /// Wall clocks jump, and those of proxies run at rates of their own.
    Clock,
    /// The disk of a journal is full for a while.
    DiskFull,
    /// A journal's sync fails once; what it wrote is on disk or not.
    SyncError,
    /// Files of a journal are deleted.
    LostFiles,
}

impl Kind {
    /// How many there are.
    pub const COUNT: usize = 20;

    /// Every kind, in the order of their declaration.
    pub const ALL: [Kind; Self::COUNT] = [
        Kind::Restart,
        Kind::Lose,
        Kind::Blackout,
        Kind::HalfOpen,
        Kind::Pause,
        Kind::Reset,
        Kind::Cut,
        Kind::OneWay,
        Kind::Slow,
        Kind::Oom,
        Kind::OomAll,
        Kind::Loading,
        Kind::CrashProxy,
        Kind::TakeOver,
        Kind::FreshState,
        Kind::Freeze,
        Kind::Clock,
        Kind::DiskFull,
        Kind::SyncError,
        Kind::LostFiles,
    ];

    /// Kinds that leave one proxy in charge at a time.
    pub fn with_one_proxy() -> Vec<Kind> {
        Self::ALL.into_iter().filter(|kind| *kind != Kind::TakeOver).collect()
    }

    /// Does it need a journal to strike?
    pub fn is_of_journals(self) -> bool {
        matches!(self, Kind::DiskFull | Kind::SyncError | Kind::LostFiles)
    }

    /// Kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Restart => "restart",
            Kind::Lose => "lose",
            Kind::Blackout => "blackout",
            Kind::HalfOpen => "half-open",
            Kind::Pause => "pause",
            Kind::Reset => "reset",
            Kind::Cut => "cut",
            Kind::OneWay => "one-way",
            Kind::Slow => "slow",
            Kind::Oom => "oom",
            Kind::OomAll => "oom-all",
            Kind::Loading => "loading",
            Kind::CrashProxy => "crash-proxy",
            Kind::TakeOver => "take-over",
            Kind::FreshState => "fresh-state",
            Kind::Freeze => "freeze",
            Kind::Clock => "clock",
            Kind::DiskFull => "disk-full",
            Kind::SyncError => "sync-error",
            Kind::LostFiles => "lost-files",
        }
    }
}
