//! The names that a script may use, and how. Whatever is on no list is a reason not to trust it.

/// Reads whose reply depends on the data alone: not on the order in which a server keeps what has none, on its clock,
/// or on how it stores a value.
pub(super) const READS: &[&str] = &[
    "bitcount",
    "bitfield_ro",
    "bitpos",
    "exists",
    "geohash",
    "geopos",
    "get",
    "getbit",
    "getrange",
    "hexists",
    "hget",
    "hlen",
    "hmget",
    "hstrlen",
    "lindex",
    "llen",
    "lpos",
    "lrange",
    "mget",
    "scard",
    "sintercard",
    "sismember",
    "smismember",
    "strlen",
    "substr",
    "type",
    "xlen",
    "xrange",
    "xrevrange",
    "zcard",
    "zcount",
    "zintercard",
    "zlexcount",
    "zmscore",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrank",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zrevrank",
    "zscore",
];

/// Writes that are ordered as they are when a client sends them, and are left out here: the deadlines of fields are
/// the servers' own.
pub(super) const FIELD_DEADLINES: &[&str] = &["hexpireat", "hpexpireat", "hpersist"];

/// Of the servers' interface: functions that neither call a command nor change how commands are carried.
pub(super) const HARMLESS: &[&str] = &["error_reply", "status_reply", "sha1hex", "log", "setresp"];

/// Of the servers' interface: numbers.
pub(super) const LEVELS: &[&str] = &["LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING"];

/// Numbers of `math`.
pub(super) const NUMBERS: &[&str] = &["huge", "pi"];

/// Functions of libraries whose result depends on what they are given alone. Of `math`, only what is exact on every
/// processor. Not here: what walks a table in the order in which it happens to lie in memory, as `table.foreach` and
/// `cmsgpack.pack` do, and `cjson`, whose settings one script can change for all that follow it on the same server.
pub(super) const LIBRARIES: &[(&str, &[&str])] = &[
    (
        "bit",
        &[
            "arshift", "band", "bnot", "bor", "bswap", "bxor", "lshift", "rol", "ror", "rshift", "tobit",
            "tohex",
        ],
    ),
    ("cmsgpack", &["unpack", "unpack_limit", "unpack_one"]),
    ("math", &["abs", "ceil", "floor", "fmod", "max", "min", "mod", "modf", "sqrt"]),
    (
        "string",
        &[
            "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse",
            "sub", "upper",
        ],
    ),
    ("struct", &["pack", "size", "unpack"]),
    ("table", &["concat", "getn", "insert", "maxn", "remove", "sort"]),
];

/// Functions that may be called, and not handed on.
pub(super) const FUNCTIONS: &[&str] =
    &["assert", "ipairs", "pcall", "select", "tonumber", "type", "unpack", "xpcall"];

/// Functions that show the address of a table or a function, unless what they are given is neither. (`error` with a
/// table ends some servers, too.)
pub(super) const SHOWING: &[&str] = &["error", "tostring"];

/// What every script is given.
pub(super) const GIVEN: &[&str] = &["ARGV", "KEYS"];

/// Words of the language.
pub(super) const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// Names by which a program reaches what it does not name, or what differs between servers. They are not allowed as
/// names of its own, either: which of the two is meant would have to be told apart.
pub(super) const BACK_DOORS: &[&str] = &[
    "_G",
    "_VERSION",
    "cjson",
    "collectgarbage",
    "coroutine",
    "debug",
    "dofile",
    "gcinfo",
    "getfenv",
    "getmetatable",
    "io",
    "load",
    "loadfile",
    "loadstring",
    "module",
    "newproxy",
    "next",
    "os",
    "package",
    "pairs",
    "print",
    "rawequal",
    "rawget",
    "rawset",
    "require",
    "setfenv",
    "setmetatable",
];

/// Functions that give exactly one value, which is neither a table nor a function.
pub(super) const PLAIN: &[&[&str]] = &[
    &["tostring"],
    &["tonumber"],
    &["math", "abs"],
    &["math", "ceil"],
    &["math", "floor"],
    &["math", "max"],
    &["math", "min"],
    &["redis", "sha1hex"],
    &["server", "sha1hex"],
    &["string", "format"],
    &["string", "len"],
    &["string", "lower"],
    &["string", "rep"],
    &["string", "sub"],
    &["string", "upper"],
    &["table", "concat"],
];

/// Functions that give exactly one value, whatever that is.
pub(super) const CALLS: &[&[&str]] =
    &[&["redis", "call"], &["redis", "pcall"], &["server", "call"], &["server", "pcall"]];

/// Options of `SET` that have nothing to do with time.
pub(super) const SET_OPTIONS: &[&[u8]] = &[b"NX", b"XX", b"GET", b"KEEPTTL"];
