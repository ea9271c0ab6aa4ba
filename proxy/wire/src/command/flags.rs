//! Flags of a command as the servers give them, and which servers have it. Sets of bits, so
//! that a question about a command on the hot path is one `and`.

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        /// A set of command flags.
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct Flags(u32);

        impl Flags {
            $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)*

            const NAMES: &[(&str, Flags)] = &[$(($text, Flags::$name)),*];
        }
    };
}

flags! {
    /// May change data.
    WRITE = 0, "write";
    /// Changes no data.
    READONLY = 1, "readonly";
    /// May need memory: refused when there is none.
    DENYOOM = 2, "denyoom";
    /// Administration.
    ADMIN = 3, "admin";
    /// Pub/sub.
    PUBSUB = 4, "pubsub";
    /// Not from scripts.
    NOSCRIPT = 5, "noscript";
    /// May wait.
    BLOCKING = 6, "blocking";
    /// Allowed while loading.
    LOADING = 7, "loading";
    /// Allowed on a replica with stale data.
    STALE = 8, "stale";
    /// Not shown by MONITOR.
    SKIP_MONITOR = 9, "skip_monitor";
    /// Allowed after ASKING.
    ASKING = 10, "asking";
    /// Constant or logarithmic time.
    FAST = 11, "fast";
    /// Allowed before AUTH.
    NO_AUTH = 12, "no_auth";
    /// first, last and step do not say all keys.
    MOVABLE_KEYS = 13, "movablekeys";
    /// Not inside MULTI.
    NO_MULTI = 14, "no_multi";
    /// Allowed while a script runs too long.
    ALLOW_BUSY = 15, "allow_busy";
    /// Not while loading asynchronously.
    NO_ASYNC_LOADING = 16, "no_async_loading";
    /// Legal without any key.
    NO_MANDATORY_KEYS = 17, "no_mandatory_keys";
}

impl Flags {
    /// Are all flags of `other` set?
    #[inline]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names, in the order of the bits.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().filter(move |(_, flag)| self.has(*flag)).map(|(name, _)| *name)
    }

    /// From a comma-separated list, or `-` for none.
    pub(super) fn parse(list: &str) -> Option<Flags> {
        list.split(',').filter(|name| *name != "-").try_fold(Flags::default(), |sum, name| {
            let (_, flag) = Self::NAMES.iter().find(|(known, _)| *known == name)?;
            Some(Flags(sum.0 | flag.0))
        })
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Which of the servers behind the table have a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Servers {
    /// Redis.
    pub redis: bool,
    /// Valkey.
    pub valkey: bool,
}

impl Servers {
    pub(super) fn parse(list: &str) -> Option<Servers> {
        let has = |name| list.split(',').any(|server| server == name);
        let servers = Servers { redis: has("redis"), valkey: has("valkey") };
        (servers.redis || servers.valkey).then_some(servers)
    }
}
