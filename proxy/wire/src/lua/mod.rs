//! Does a script do the same on every server? Told from its text alone, and only where that can be seen: every command
//! that it calls must be written out, and whatever it uses of Lua be on a list of what leaves deadlines, time, chance
//! and addresses alone. What remains is for its author to promise.

mod names;
mod program;
mod tokens;

use crate::command;
use crate::resp::{each_command, expiry, flush};
use bytes::{Bytes, BytesMut};
use program::Program;

/// Longer texts are not read, in bytes.
const MOST_TEXT: usize = 64 << 10;
/// A text is given up after so many steps: words read, and words looked at again.
const MOST_STEPS: usize = 8 * MOST_TEXT;
/// More parentheses and brackets than this, one inside the other, are not followed; Lua takes 200.
const MOST_DEPTH: usize = 200;

/// Longer reasons are cut, in characters.
const MOST_WORDS: usize = 120;

/// Can every server run this script by itself, as far as its text goes? The error says in words why not. Servers of one
/// kind, version and machine that order strings by their bytes are meant.
///
/// Scripts that a server would refuse may pass: they do nothing on all of them.
pub fn does_the_same(text: &[u8]) -> Result<(), String> {
    look_at(text).0
}

/// The same, and how many steps that took.
fn look_at(text: &[u8]) -> (Result<(), String>, usize) {
    if text.len() > MOST_TEXT {
        return (Err(format!("it is longer than {MOST_TEXT} bytes")), 0);
    }
    match Program::read(text) {
        Ok(program) => {
            let looked = program.look().map_err(|(line, why)| format!("line {line}: {}", brief(&why)));
            (looked, program.steps())
        }
        Err(why) => (Err(why), text.len()),
    }
}

/// Does an entry of the log hold a client's script, as it is? Those of the proxy itself do the same on all versions.
pub fn holds_script(payload: &[Bytes]) -> bool {
    let mut whole = BytesMut::new();
    payload.iter().for_each(|part| whole.extend_from_slice(part));
    let mut found = false;
    each_command(&whole.freeze(), |_, args| {
        let runs = args.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"EVAL"));
        let own = || {
            args.get(1) == Some(expiry::CHECK.as_bytes())
                || flush::is_flush(args)
                || command::published(args).is_some()
        };
        found |= runs && !own();
    });
    found
}

/// What a client sent may be long, and no log wants it whole.
fn brief(why: &str) -> String {
    why.chars().take(MOST_WORDS).collect()
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
        same("return math.floor(tonumber(redis.call('ZSCORE',KEYS[1],'m'))) .. table.concat({KEYS[1]})");
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
    fn scripts_of_clients_are_found_in_entries() {
        let command = |words: &[&[u8]]| encode::command_bytes(words);
        let publish = b"redis.call(ARGV[1],ARGV[2],ARGV[3]) return 0";
        let own = [
            command(&[b"SET", b"EVAL", b"return 1"]),
            expiry::check(&[], 1),
            command(&[b"EVAL", publish, b"0", b"PUBLISH", b"c", b"m"]),
        ];
        assert!(!holds_script(&own));
        let script = command(&[b"eval", b"return 1", b"0"]);
        assert!(holds_script(&[own[0].clone(), script.clone(), own[1].clone()]));
        assert!(holds_script(&[script.slice(..9), script.slice(9..)]), "however it is cut");
    }

    #[test]
    fn long_and_deep_texts_are_not_followed() {
        same(&format!("local a {}", "a=1 ".repeat(1000)));
        differs(&format!("local a {}", "a=1 ".repeat(100_000)));
        let nested = |depth: usize| {
            let open = "redis.call('SET',KEYS[1],tostring(1+tonumber(".repeat(depth);
            format!("return {open}1{}", ")))".repeat(depth))
        };
        same(&nested(50));
        differs(&nested(5000));
        for unpaired in ["return (1", "return 1)", "return KEYS[1)"] {
            assert!(differs(unpaired).contains("brackets"), "{unpaired}");
        }
    }

    /// Whoever may send scripts must not hold a worker by one.
    #[test]
    fn no_text_takes_many_steps() {
        let full = |part: &str| part.repeat(MOST_TEXT / part.len());
        let nest = |open: &str, close: &str, depth: usize| {
            let one = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            full(&format!("return {one} "))
        };
        let hostile = [
            full(";"),
            full("("),
            full("redis.call('SET',"),
            full("redis.call('SET',KEYS[1],tostring("),
            full("redis.call('SET',KEYS[1],1)"),
            full("--[[x]]"),
            full("[=[]=]"),
            format!("--[{}[", full("=")),
            format!("--[{0}[{1}]{0}]", "=".repeat(15), "]===============".repeat(4000)),
            format!("redis.call('SET',KEYS[1],{})", full("1,")),
            format!("redis.call('SET',KEYS[1],tostring({}1))", full("1+")),
            nest("redis.call('SET',KEYS[1],", ")", 190),
            nest("redis.call('SET',tostring(1,1,1,1,1,1,1,1,1,1,1),tostring(", "))", 99),
            nest("tostring(", ")", 199),
        ];
        for text in hostile {
            let text = &text.as_bytes()[..text.len().min(MOST_TEXT)];
            let (_, steps) = look_at(text);
            assert!(steps <= 6 * MOST_TEXT, "{steps} for {:?}", &text[..40]);
        }
    }

    /// What these do depends on addresses, on what ran before, or on the order of a table.
    #[test]
    fn what_the_servers_keep_to_themselves_is_not_trusted() {
        for text in [
            // Addresses.
            "return redis.call('SET',KEYS[1],tostring({}))",
            "local t={} return tostring(t)",
            "return tostring(redis.call('SET',KEYS[1],1))",
            "return tostring(KEYS[1] and {} or 1)",
            "local f f=tostring return f({})",
            "error(function() end)",
            "error({})",
            "return pcall(error,{})",
            // Settings that another script left behind.
            "return redis.call('RPUSH',KEYS[1],cjson.encode(ARGV))",
            "return cjson.decode(ARGV[1])",
            "cjson.encode_number_precision(3)",
            // The order in which a table lies in memory, which the collector changes.
            "for k,v in pairs(ARGV) do redis.call('RPUSH',KEYS[1],v) end",
            "return next(ARGV)",
            "table.foreach(ARGV,print)",
            "return cmsgpack.pack(ARGV)",
            "local w=setmetatable({},{__mode='k'})",
            "return collectgarbage('count')",
            "return gcinfo()",
            // Another library of numbers.
            "return redis.call('SET',KEYS[1],math.exp(1))",
            "return 2^0.5",
            "return math.random()",
            "math.randomseed(1)",
        ] {
            differs(text);
        }
    }

    #[test]
    fn libraries_are_called_by_their_functions_names_and_left_as_they_are() {
        for text in [
            "return string.format('%d',#ARGV)..string.rep('x',3)",
            "local s=ARGV[1] return s:sub(1,2)..s:upper()",
            "local t={} table.insert(t,1) table.sort(t) return table.concat(t,',')",
            "return bit.band(5,bit.bnot(1))+math.floor(1.5)+math.max(1,math.huge)",
            "if math.pi == 3 then return redis.LOG_DEBUG end",
            "return struct.unpack('I4',struct.pack('I4',7))",
            "return cmsgpack.unpack(ARGV[1])",
            "for i,v in ipairs(ARGV) do redis.call('RPUSH',KEYS[1],v) end",
            "local ok,e=pcall(function(a) return a end,1) return type(e)..select('#',unpack(ARGV))",
            "local function f(a,b) error('no '..a) end return f(1,2)",
            "return tostring(tonumber(ARGV[1]))..tostring(1)..tostring(#ARGV)..tostring(1+#ARGV)",
            "local r={} r.string=1 r.format=2 return {x=1,y=r.pairs}",
            "local function f(...) for k=1,3 do local a,b=k,... end end",
        ] {
            same(text);
        }
        for text in [
            "string.format=function() return 1 end",
            "function string.format() return 1 end",
            "function redis.log() end",
            "math.floor=nil",
            "math.huge=1",
            "redis.LOG_DEBUG=1",
            "local s=string s.rep=nil",
            "local f=string.rep return f('x',2)",
            "local t={string} return t[1].dump(f)",
            "return string['dump'](f)",
            "return string:rep(2)",
            "return string.dump(function() end)",
            "return ipairs",
            "return pcall(unpack,ARGV)",
            "local function type() return 1 end",
            "local function f(math) end",
            "rawset(string,'rep',1)",
            "setmetatable(_G,{})",
            "getmetatable('').__index.rep=nil",
            "table.foreachi({},1)",
            "math.sin(1)",
            "coroutine.create(1)",
            "bit.nosuch(1)",
            "struct.nosuch(1)",
            "return os",
            "local os=1 return os",
            "do local pairs=1 end return pairs(ARGV)",
            "return nosuch(1)",
            "return __redis__err__handler(1)",
        ] {
            differs(text);
        }
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
            "KEYS[1],tostring(1+f(1,2))",
            "KEYS[1],table.concat({a=1,b={2,3}})",
            "KEYS[1],f(x),'NX'",
            "KEYS[1],ARGV[1] or 'none'",
            "KEYS[2],redis.call('GET',KEYS[1])",
            "KEYS[1],string.format('%d',f(1))",
            "KEYS[1],math.max(a,b)",
            "f(1),v,'keepttl','GET'",
        ] {
            same(&format!("local v,a,n,f,x,b return redis.call('SET',{args})"));
            same(&format!("local v,a,n,f,x,b return redis.pcall(\"set\",{args})"));
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
            "KEYS[1],tonumber(1)(2)",
            "KEYS[1],string.find(a,b)",
            "KEYS[1],a or f(1)",
            "KEYS[1],v,'N'..'X'",
            "KEYS[1],v,o",
            "KEYS[1],t:get'x'",
            "KEYS[1],function() return 1,2 end",
            "KEYS[1],(f)(1)",
        ] {
            let why = differs(&format!("local v,a,f,o,t return redis.call('SET',{args})"));
            assert!(why.contains("SET may be given"), "{why}");
        }
        differs("return redis.call('SET')(KEYS[1],v,'PX',5)(");
    }
}
