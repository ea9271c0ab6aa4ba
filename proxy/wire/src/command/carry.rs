//! What Quorate does with a command: send it to one replica, order it, rewrite it first,
//! answer it itself, or refuse it with a reason that the client can read.

/// What Quorate does with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// Sent to one replica.
    Read,
    /// A read of a key's deadline, which the backends keep set back.
    Deadline(TimeLeft),
    /// An entry of the log, sent as it is: it does the same on every replica.
    Deterministic,
    /// An entry of the log, after its relative times or choices were replaced by fixed ones.
    Rewritten(Rewrite),
    /// A request that does not wait at the replicas; until something is there it is parked.
    Waits(Waits),
    /// An entry of the log that removes every key but the reserved ones.
    Flush,
    /// Runs on one replica first; what it did there is the entry.
    Leads,
    /// Concerns scripts by their text or digest.
    Script(Scripting),
    /// Answered by the proxy.
    Local(Local),
    /// Part of a client's transaction.
    Transaction(Step),
    /// Not carried.
    Refused(Refusal),
}

impl Carry {
    /// Which part of the proxy answers, if it does.
    pub fn local(self) -> Option<Local> {
        match self {
            Carry::Local(what) => Some(what),
            _ => None,
        }
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &[$type] = &[$($type::$variant),*];

            /// The stable name, in metrics, in `classes.tsv` and in what clients read.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name,)* }
            }

            pub(super) fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == name)
            }
        }
    };
}

named! {
    /// How arguments are made independent of time and chance.
    Rewrite {
        /// `SET` with `EX` or `PX`.
        Set = "set",
        /// `GETEX` with `EX` or `PX`.
        GetEx = "getex",
        /// `SETEX` becomes `SET … PXAT`.
        SetEx = "setex",
        /// `PSETEX` becomes `SET … PXAT`.
        PsetEx = "psetex",
        /// `EXPIRE` becomes `PEXPIREAT`.
        Expire = "expire",
        /// `PEXPIRE` becomes `PEXPIREAT`.
        Pexpire = "pexpire",
        /// `EXPIREAT` becomes `PEXPIREAT`.
        ExpireAt = "expireat",
        /// `PEXPIREAT` at a time that the backends do not act on.
        PexpireAt = "pexpireat",
        /// A key gets the value and the deadline of another.
        Moves = "moves",
        /// `RESTORE` gets `ABSTTL`.
        Restore = "restore",
        /// `HEXPIRE` becomes `HPEXPIREAT`.
        Hexpire = "hexpire",
        /// `HPEXPIRE` becomes `HPEXPIREAT`.
        Hpexpire = "hpexpire",
        /// `HSETEX` with `EX` or `PX`.
        HsetEx = "hsetex",
        /// `HGETEX` with `EX` or `PX`.
        HgetEx = "hgetex",
        /// `MSETEX` with `EX` or `PX`.
        MsetEx = "msetex",
        /// `XADD` with `*`, or with approximate trimming.
        StreamId = "stream-id",
        /// `XTRIM` with approximate trimming.
        StreamTrim = "stream-trim",
        /// `PUBLISH`, with a reply that is the same on every server.
        Publish = "publish",
        /// `SPUBLISH`, likewise.
        Spublish = "spublish",
    }
}

named! {
    /// In which way a client asks for a deadline.
    TimeLeft {
        /// Seconds from now.
        Ttl = "ttl",
        /// Milliseconds from now.
        Pttl = "pttl",
        /// Seconds since 1970.
        ExpireTime = "expiretime",
        /// Milliseconds since 1970.
        PexpireTime = "pexpiretime",
    }
}

named! {
    /// What is done with a script.
    Scripting {
        /// It runs, given by its text.
        Eval = "eval",
        /// It runs, given by its digest.
        EvalSha = "evalsha",
        /// Its text is kept.
        Load = "load",
        /// Is it known?
        Exists = "exists",
        /// All are forgotten.
        Flush = "flush",
    }
}

named! {
    /// Which part of the proxy answers.
    #[allow(missing_docs)]
    Local {
        Ping = "ping",
        Echo = "echo",
        Hello = "hello",
        Auth = "auth",
        Select = "select",
        Client = "client",
        Command = "command",
        Info = "info",
        Reset = "reset",
        Quit = "quit",
        Time = "time",
        Subscribe = "subscribe",
        PubSub = "pubsub",
        Monitor = "monitor",
        Acl = "acl",
        Cluster = "cluster",
        Config = "config",
        Databases = "databases",
        Debug = "debug",
        Latency = "latency",
        Maintain = "maintain",
        Module = "module",
        ReplicaOf = "replicaof",
        Role = "role",
        SlowLog = "slowlog",
        Wait = "wait",
        WaitAof = "waitaof",
    }
}

named! {
    /// For what a command waits.
    Waits {
        /// Something in a list.
        List = "list",
        /// Something in a sorted set.
        SortedSet = "sorted-set",
        /// Something new in a stream, which all who wait for it read.
        Stream = "stream",
        /// Something new in a stream for one member of a group.
        StreamGroup = "stream-group",
    }
}

named! {
    /// What a command does to its session's transaction.
    Step {
        /// Begins one.
        Multi = "multi",
        /// Applies it.
        Exec = "exec",
        /// Ends it without applying it.
        Discard = "discard",
        /// Makes the next one depend on keys.
        Watch = "watch",
        /// Forgets what was watched.
        Unwatch = "unwatch",
    }
}

named! {
    /// Why a command is not carried.
    Refusal {
        /// Administration of one server.
        Admin = "admin",
        /// Redis Cluster and moving keys between servers.
        Cluster = "cluster",
        /// A name that needs a sub-command; `resolve` never returns it.
        Container = "container",
    }
}

named! {
    /// What of an answer would show reserved keys, and so must be filtered.
    Filter {
        /// Nothing.
        None = "-",
        /// An array of keys.
        Keys = "keys",
        /// A cursor and an array of keys.
        Scan = "scan",
        /// A number of keys.
        DbSize = "dbsize",
        /// One key.
        RandomKey = "randomkey",
        /// A cursor, and no keys.
        Cursor = "cursor",
        /// Settings and their values: not keys, but what a client must not see of a server is left out likewise.
        Config = "config",
    }
}

impl Refusal {
    /// What the client reads, without the leading `-`. `name` is cut and made printable, so that
    /// it cannot end the line.
    pub fn message(self, name: &[u8]) -> String {
        let name = name.iter().take(128).map(|byte| match byte {
            b' '..=b'~' if *byte != b'\'' => char::from(*byte).to_ascii_uppercase(),
            _ => '?',
        });
        let name: String = name.map(|c| if c == '|' { ' ' } else { c }).collect();
        format!(
            "ERR '{name}' is not carried by this version of Quorate (class: {}): {}",
            self.name(),
            self.why()
        )
    }

    /// One clause on what stands in the way.
    pub fn why(self) -> &'static str {
        match self {
            Refusal::Admin => "it concerns one server; ask the backend itself",
            Refusal::Cluster => "the proxy is not a cluster node",
            Refusal::Container => "it needs a sub-command",
        }
    }
}
