//! Does a script do the same on every server? Told from its text alone, and only where that can be seen: every command
//! that it calls must be written out, and be one that leaves deadlines, time and chance alone. What remains is for its
//! author to promise.

mod tokens;

use crate::command::{self, Carry, Flags};
use crate::resp::transaction::RESERVED_PREFIX;
use tokens::{Placed, Token, tokens};

/// Longer texts are not read, in bytes.
const MOST_TEXT: usize = 64 << 10;
/// More parentheses and brackets than this, one inside the other, are not followed; Lua takes 200.
const MOST_DEPTH: usize = 200;

/// Longer reasons are cut, in characters.
const MOST_WORDS: usize = 120;

/// Reads whose reply depends on the data alone: not on the order in which a server keeps what has none, on its clock,
/// or on how it stores a value.
const READS: &[&str] = &[
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
const FIELD_DEADLINES: &[&str] = &["hexpireat", "hpexpireat", "hpersist"];

/// Of the servers' interface: what neither calls a command nor changes how commands are carried.
const HARMLESS: &[&str] = &[
    "error_reply",
    "status_reply",
    "sha1hex",
    "log",
    "setresp",
    "LOG_DEBUG",
    "LOG_VERBOSE",
    "LOG_NOTICE",
    "LOG_WARNING",
];

/// Names by which a program reaches what it does not name, or what differs between servers.
const BACK_DOORS: &[&str] = &[
    "_G",
    "collectgarbage",
    "debug",
    "dofile",
    "gcinfo",
    "getmetatable",
    "getfenv",
    "io",
    "load",
    "loadfile",
    "loadstring",
    "module",
    "newproxy",
    "os",
    "package",
    "require",
    "setfenv",
];

/// Functions that give exactly one value.
const ONE_VALUE: &[&[&str]] = &[
    &["tostring"],
    &["tonumber"],
    &["cjson", "encode"],
    &["cmsgpack", "pack"],
    &["math", "ceil"],
    &["math", "floor"],
    &["math", "max"],
    &["math", "min"],
    &["redis", "call"],
    &["redis", "pcall"],
    &["server", "call"],
    &["server", "pcall"],
    &["string", "format"],
    &["string", "lower"],
    &["string", "rep"],
    &["string", "sub"],
    &["string", "upper"],
];

/// Options of `SET` that have nothing to do with time.
const SET_OPTIONS: &[&[u8]] = &[b"NX", b"XX", b"GET", b"KEEPTTL"];

/// Can every server run this script by itself, as far as its commands go? The error says in words why not.
///
/// Scripts that a server would refuse may pass: they do nothing on all of them.
pub fn does_the_same(text: &[u8]) -> Result<(), String> {
    if text.len() > MOST_TEXT {
        return Err(format!("it is longer than {MOST_TEXT} bytes"));
    }
    if text.windows(RESERVED_PREFIX.len()).any(|window| window == RESERVED_PREFIX) {
        return Err("keys of the proxy are named".into());
    }
    let all = tokens(text).map_err(|line| format!("line {line} cannot be read"))?;
    (0..all.len()).try_for_each(|at| {
        let fields = at > 0 && matches!(all[at - 1].0, Token::Sign(b'.' | b':'));
        match all[at].0 {
            Token::Name(name) if !fields => {
                look(name, at, &all).map_err(|why| format!("line {}: {}", all[at].1, brief(&why)))
            }
            _ => Ok(()),
        }
    })
}

/// What a client sent may be long, and no log wants it whole.
fn brief(why: &str) -> String {
    why.chars().take(MOST_WORDS).collect()
}

/// Looks at one name that is no field of something.
fn look(name: &str, at: usize, all: &[Placed]) -> Result<(), String> {
    let field = || match (token(all, at + 1), token(all, at + 2)) {
        (Some(Token::Sign(b'.')), Some(Token::Name(field))) => Ok(field),
        _ => Err(format!("{name} is handed on")),
    };
    match name {
        "redis" | "server" => match field()? {
            called @ ("call" | "pcall") => call(called, &all[at + 3..]),
            harmless if HARMLESS.contains(&harmless) => Ok(()),
            other => Err(format!("{name}.{other} is used")),
        },
        "math" => match field()? {
            random @ ("random" | "randomseed") => Err(format!("math.{random} is used")),
            _ => Ok(()),
        },
        "cjson" | "cmsgpack" | "string" => field().map(drop),
        "tostring" | "tonumber" => {
            let declared = at > 0 && all[at - 1].0 == Token::Name("function");
            let called = token(all, at + 1) == Some(Token::Sign(b'('));
            if called && !declared { Ok(()) } else { Err(format!("{name} is handed on")) }
        }
        door if BACK_DOORS.contains(&door) => Err(format!("{door} is used")),
        // Under such a name older servers keep another script.
        script if script.len() == 42 && script.starts_with("f_") => Err(format!("{script} is used")),
        _ => Ok(()),
    }
}

fn token<'a>(all: &[Placed<'a>], at: usize) -> Option<Token<'a>> {
    all.get(at).map(|(token, _)| *token)
}

/// A call of a command, from behind `redis.call`.
fn call(called: &str, rest: &[Placed]) -> Result<(), String> {
    let (Some(Token::Sign(b'(')), Some(Token::Text(Some(name)))) = (token(rest, 0), token(rest, 1)) else {
        return Err(format!("redis.{called} is not followed by the name of a command in quotes"));
    };
    let shown = String::from_utf8_lossy(name).to_ascii_uppercase();
    match token(rest, 2) {
        Some(Token::Sign(b')')) => {}
        Some(Token::Sign(b',')) if name.eq_ignore_ascii_case(b"set") => {
            return arguments(&rest[3..])
                .filter(|args| is_timeless_set(args))
                .map(drop)
                .ok_or_else(|| "SET may be given options that cannot be seen, or a deadline".to_string());
        }
        Some(Token::Sign(b',')) => {}
        _ => return Err(format!("redis.{called} is not followed by the name of a command in quotes")),
    }
    match command::lookup(name) {
        Some(known) if is_alike(known) => Ok(()),
        Some(_) => Err(format!("{shown} is called")),
        None => Err(format!("{shown} is called, which is not known here")),
    }
}

/// Does it do and answer the same wherever the data is the same, whatever its arguments?
fn is_alike(command: &command::Command) -> bool {
    match command.carry {
        Carry::Deterministic => {
            command.flags.has(Flags::WRITE)
                && !command.flags.has(Flags::NOSCRIPT)
                && !FIELD_DEADLINES.contains(&command.name)
        }
        Carry::Read => READS.contains(&command.name),
        _ => false,
    }
}

/// The arguments of a call, from behind its `(`. `None` where they cannot be told apart.
fn arguments<'a, 'b>(rest: &'b [Placed<'a>]) -> Option<Vec<&'b [Placed<'a>]>> {
    let (mut depth, mut from, mut all) = (0_usize, 0, Vec::new());
    for (at, (token, _)) in rest.iter().enumerate() {
        match token {
            // It may hold statements, which are not looked at here.
            Token::Name("function") => return None,
            _ if depth > MOST_DEPTH => return None,
            Token::Sign(b'(' | b'[' | b'{') => depth += 1,
            Token::Sign(b')') if depth == 0 => {
                all.push(&rest[from..at]);
                return Some(all);
            }
            Token::Sign(b')' | b']' | b'}') => depth = depth.checked_sub(1)?,
            Token::Sign(b',') if depth == 0 => {
                all.push(&rest[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    None
}

/// Are these, behind `SET`, a key, a value and harmless options, and nothing else?
fn is_timeless_set(args: &[&[Placed]]) -> bool {
    let [_, value, options @ ..] = args else { return false };
    let harmless = |option: &&[Placed]| match option {
        [(Token::Text(Some(word)), _)] => SET_OPTIONS.iter().any(|known| word.eq_ignore_ascii_case(known)),
        _ => false,
    };
    // Only the last argument can be more than one value.
    options.iter().all(harmless) && (!options.is_empty() || is_one_value(value))
}

/// Is this expression one value, and never several?
fn is_one_value(expression: &[Placed]) -> bool {
    let Some(((last, _), before)) = expression.split_last() else { return false };
    match last {
        Token::Name(_) | Token::Number | Token::Sign(b']') => true,
        // Otherwise it is the argument of a call.
        Token::Text(_) => {
            matches!(before.last(), None | Some((Token::Concat | Token::Name("and" | "or"), _)))
        }
        Token::Sign(b')') => calls_for_one(expression),
        _ => false,
    }
}

/// Is it a call of a function that gives one value, and nothing behind it?
fn calls_for_one(expression: &[Placed]) -> bool {
    ONE_VALUE.iter().any(|path| {
        let names: Vec<Token> = expression.iter().map(|(token, _)| *token).collect();
        let len = 2 * path.len() - 1;
        let is_it = path.iter().enumerate().all(|(i, part)| {
            let dot = i == 0 || names.get(2 * i - 1) == Some(&Token::Sign(b'.'));
            dot && names.get(2 * i) == Some(&Token::Name(part))
        });
        is_it && names.get(len) == Some(&Token::Sign(b'(')) && closes_last(&names[len..])
    })
}

/// Is the first parenthesis closed by the last token?
fn closes_last(tokens: &[Token]) -> bool {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign(b'(') => depth += 1,
            Token::Sign(b')') if depth == 1 => return at + 1 == tokens.len(),
            Token::Sign(b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Reserved, each_command, encode, expiry, flush};

    fn same(text: &str) {
        assert_eq!(does_the_same(text.as_bytes()), Ok(()), "{text}");
    }

    fn differs(text: &str) -> String {
        does_the_same(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn what_touches_data_alone_does_the_same() {
        same("return 1");
        same("local n=redis.call('INCR',KEYS[1]) redis.call('RPUSH',KEYS[2],ARGV[1]) return n");
        same(
            "#!lua flags=allow-oom\nif redis.pcall(\"hget\", KEYS[1], ARGV[1]) then return server.call([[DEL]],KEYS[1]) end",
        );
        same("redis.log(redis.LOG_NOTICE,'TIME') return redis.error_reply('RANDOMKEY') -- redis.call('TTL')");
        same("return redis.call('LRANGE',KEYS[1],0,-1)");
        same("return math.floor(tonumber(redis.call('ZSCORE',KEYS[1],'m'))) .. cjson.encode({KEYS[1]})");
        same("local t={} t.os=1 t.load=2 t.redis=3 return redis.call('ZADD',unpack(ARGV))");
    }

    #[test]
    fn commands_that_differ_are_found() {
        for name in [
            "TIME",
            "TTL",
            "PEXPIRETIME",
            "EXPIRE",
            "PEXPIREAT",
            "SETEX",
            "GETEX",
            "SPOP",
            "SRANDMEMBER",
            "RANDOMKEY",
            "HGETALL",
            "SMEMBERS",
            "KEYS",
            "SCAN",
            "SUNION",
            "SORT",
            "INCRBYFLOAT",
            "XADD",
            "RENAME",
            "COPY",
            "RESTORE",
            "PUBLISH",
            "FLUSHALL",
            "SELECT",
            "EVAL",
            "OBJECT",
            "DBSIZE",
            "INFO",
            "BLPOP",
            "HPEXPIREAT",
            "NOSUCH",
            "DEBUG",
            "DUMP",
            "SCRIPT",
            "FUNCTION",
            "CONFIG",
        ] {
            let why = differs(&format!("\nreturn redis.call('{}',KEYS[1])", name.to_lowercase()));
            assert!(why.starts_with(&format!("line 2: {name} is called")), "{why}");
        }
    }

    #[test]
    fn commands_that_cannot_be_seen_are_not_trusted() {
        for text in [
            "return redis.call(ARGV[1],KEYS[1])",
            "return redis.call('GE'..'TEX',KEYS[1])",
            "return redis.call('\\84IME')",
            "return redis.call 'TIME'",
            "return redis.call[[TIME]]",
            "return redis.call(unpack(ARGV))",
            "local call=redis.call return call('TIME')",
            "local r=redis return r.call('TIME')",
            "return redis['call']('TIME')",
            "return redis:call('TIME')",
            "return pcall(redis.call,'TIME')",
            "--\rreturn redis.call('TIME')",
            "#!lua\r[[\nreturn redis.call('TIME')--]]",
            "return _G['redis'].call('TIME')",
            "return getfenv().redis.call('TIME')",
            "return loadstring(ARGV[1])()",
            "return math.random(9)",
            "return f_e0e1f9fabfc9d4800c877a703b823ac0578ff8db()",
            "local string={sub=f} redis.call('SET',KEYS[1],string.sub(a,1))",
            "local m=math return m.random(9)",
            "return os.clock()",
            "redis.set_repl(redis.REPL_NONE)",
            "return redis.call('DEL','__quorate:{g}:pos')",
            "local function tostring() return 1,'PX',5 end redis.call('SET',KEYS[1],tostring(1))",
            "return 'open",
        ] {
            differs(text);
        }
    }

    /// A client that sends one of them must not be taken for the proxy.
    #[test]
    fn the_scripts_of_the_proxy_itself_are_not_for_clients() {
        let publish = b"redis.call(ARGV[1],ARGV[2],ARGV[3]) return 0";
        let publish = encode::command_bytes(&[b"EVAL", publish, b"0", b"PUBLISH", b"c", b"m"]);
        let mut flush = None;
        each_command(&encode::command_bytes(&[b"FLUSHALL"]), |_, args| {
            flush = flush::flush(&Reserved::new("g"), args);
        });
        for entry in [expiry::check(&[], 1), flush.expect("an entry"), publish] {
            let mut count = 0;
            each_command(&entry, |_, args| {
                assert!(does_the_same(&args[1]).is_err());
                count += 1;
            });
            assert_eq!(count, 1);
        }
    }

    #[test]
    fn long_and_deep_texts_are_not_followed() {
        same(&"a=1 ".repeat(1000));
        differs(&"a=1 ".repeat(100_000));
        let nested = |depth: usize| {
            let open = "redis.call('SET',k,tostring(".repeat(depth);
            format!("return {open}1{}", "))".repeat(depth))
        };
        same(&nested(50));
        differs(&nested(5000));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_is_read_to_an_end(text in "(redis|[.]call|[(]|[)]|'SET'|,|\\[=*\\[|\\]=*\\]|--|\"|\\\\|\n|k|[.]|.){0,60}") {
            drop(does_the_same(text.as_bytes()));
        }

        #[test]
        fn a_command_is_found_wherever_it_stands(before in "[a-z0-9 =,;(){}+*\n]{0,30}", after in "[ -~]{0,30}") {
            // Unless it is part of a name or a number.
            let text = format!("{before} redis.call('TIME') {after}");
            proptest::prop_assert!(does_the_same(text.as_bytes()).is_err());
        }
    }

    #[test]
    fn a_set_shows_that_it_gives_no_deadline() {
        for args in [
            "KEYS[1],ARGV[1]",
            "KEYS[1],1",
            "KEYS[1],v",
            "KEYS[1],'EX'",
            "KEYS[1],a..'b'",
            "KEYS[1],n+1",
            "KEYS[1],tostring(f(1,2))",
            "KEYS[1],cjson.encode({a=1,b={2,3}})",
            "KEYS[1],f(x),'NX'",
            "KEYS[1],ARGV[1] or 'none'",
            "KEYS[2],redis.call('GET',KEYS[1])",
            "KEYS[1],string.format('%d',f(1))",
            "KEYS[1],math.max(a,b)",
            "f(1),v,'keepttl','GET'",
        ] {
            same(&format!("return redis.call('SET',{args})"));
            same(&format!("return redis.pcall(\"set\",{args})"));
        }
        for args in [
            "KEYS[1],v,'PX',5",
            "KEYS[1],v,ARGV[2]",
            "unpack(ARGV)",
            "KEYS[1],unpack(ARGV)",
            "KEYS[1],f(1)",
            "KEYS[1],...",
            "KEYS[1],f'x'",
            "KEYS[1],f{1}",
            "KEYS[1],tostring(1)(2)",
            "KEYS[1],string.find(a,b)",
            "KEYS[1],a or f(1)",
            "KEYS[1],v,'N'..'X'",
            "KEYS[1],v,o",
            "KEYS[1],t:get'x'",
            "KEYS[1],function() return 1,2 end",
            "KEYS[1],(f)(1)",
        ] {
            let why = differs(&format!("return redis.call('SET',{args})"));
            assert!(why.contains("SET may be given"), "{why}");
        }
        differs("return redis.call('SET')(KEYS[1],v,'PX',5)(");
    }
}
