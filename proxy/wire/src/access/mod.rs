//! What a user may do, in the rule language of the servers: commands, keys and channels. A set of bits answers for
//! a command, patterns for its keys and channels. Knows no session and no password.

mod change;
mod describe;
mod parse;
mod selector;

pub use change::{Unfit, merged};
pub use describe::Described;
pub use parse::RuleError;

use crate::command::Command;
use crate::resp::Args;
use selector::Selector;

/// The rules of one user. Equal when their text is.
#[derive(Debug, Clone)]
pub struct Rules {
    text: String,
    /// May the user come in at all?
    enabled: bool,
    /// Without a password?
    open: bool,
    /// Whether payloads of RESTORE are looked at, if that was ever said. Nothing is made of it.
    sanitize: Option<bool>,
    root: Selector,
    /// Each is enough by itself.
    further: Vec<Selector>,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Rules) -> bool {
        self.text == other.text
    }
}

impl Eq for Rules {}

/// What has a server run a script, one that only reads included.
const SCRIPTS: [&str; 6] = ["eval", "evalsha", "fcall", "eval_ro", "evalsha_ro", "fcall_ro"];

/// Why a command is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denied {
    /// The command itself.
    Command,
    /// The key at this argument.
    Key(usize),
    /// The channel at this argument.
    Channel(usize),
}

impl Rules {
    /// Everything, for everybody.
    pub fn everything() -> Rules {
        Rules::parse("nopass allcommands allkeys allchannels").unwrap_or_else(|_| Rules::nothing())
    }

    fn nothing() -> Rules {
        let root = Selector::default();
        Rules { text: String::new(), enabled: true, open: false, sanitize: None, root, further: Vec::new() }
    }

    /// Reads rules as a configuration has them. A user is enabled unless they say `off`.
    pub fn parse(text: &str) -> Result<Rules, Vec<RuleError>> {
        parse::rules(text)
    }

    /// The text that was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// May the user come in at all?
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Without a password?
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Is there nothing that could be denied?
    pub fn is_unrestricted(&self) -> bool {
        self.selectors().any(Selector::is_unrestricted)
    }

    /// May the user have a server run what nobody looks into, and is there anything that this gets around?
    pub fn may_escape(&self) -> bool {
        let runs = |name: &str| crate::command::lookup(name.as_bytes()).is_some_and(|c| self.may_run(c));
        !self.is_unrestricted() && SCRIPTS.into_iter().any(runs)
    }

    /// May the user listen to this channel? A pattern must stand among its own literally.
    pub fn may_hear(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.selectors().any(|selector| selector.allows_channel(channel, is_pattern))
    }

    /// Does some selector have this command, whatever its arguments?
    pub fn may_run(&self, command: &Command) -> bool {
        self.selectors().any(|selector| selector.has(command))
    }

    /// Is this allowed? What is denied is what was nearest to being allowed, as the servers choose it.
    pub fn check(&self, command: &Command, args: Args) -> Result<(), Denied> {
        let mut worst = Denied::Command;
        for selector in self.selectors() {
            match selector.check(command, args) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// Is it allowed by rules that let every key be read? What names keys by patterns needs that.
    pub fn reads_every_key(&self, command: &Command, args: Args) -> bool {
        self.selectors().any(|selector| selector.reads_every_key() && selector.check(command, args).is_ok())
    }

    fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.further)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::resolve;
    use crate::resp::{Decoder, Limits, encode};

    fn check(rules: &str, line: &str) -> Result<(), Denied> {
        let rules = Rules::parse(rules).expect("rules");
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let source = encode::command_bytes(&words);
        let mut decoder = Decoder::default();
        decoder.next(&source, &Limits::default()).expect("valid").expect("whole");
        let args = Args::new(&source, decoder.spans());
        rules.check(resolve(args).expect("known"), args)
    }

    #[test]
    fn the_last_rule_wins() {
        let denied = Err(Denied::Command);
        assert_eq!(check("+get -@all ~*", "GET k"), denied);
        assert_eq!(check("-@all +get ~*", "GET k"), Ok(()));
        assert_eq!(check("+@all -@read ~*", "GET k"), denied);
        assert_eq!(check("+@all -@read +get ~*", "GET k"), Ok(()));
        assert_eq!(check("+@all -config|set", "CONFIG GET x"), Ok(()));
        assert_eq!(check("+@all -config|set", "CONFIG SET x y"), denied);
        assert_eq!(check("+config -config|set", "CONFIG SET x y"), denied);
        assert_eq!(check("+config|set", "CONFIG GET x"), denied);
        assert_eq!(check("+select|0", "SELECT 0"), Ok(()));
        assert_eq!(check("+select|0", "SELECT 1"), denied);
        assert_eq!(check("", "AUTH x"), Ok(()), "nobody is kept from logging in");
    }

    #[test]
    fn keys_are_matched_with_what_is_done_to_them() {
        assert_eq!(check("+@all ~a*", "MGET a1 b"), Err(Denied::Key(2)));
        assert_eq!(check("+@all %R~a* %W~b*", "COPY a b"), Ok(()));
        assert_eq!(check("+@all %R~a* %W~b*", "COPY b a"), Err(Denied::Key(1)));
        assert_eq!(check("+@all %W~a", "SET a v"), Ok(()));
        assert_eq!(check("+@all %W~a", "SET a v GET"), Err(Denied::Key(1)));
        assert_eq!(check("+@all %W~a", "EXISTS a"), Ok(()), "nothing of the value is told");
        assert_eq!(check("+@all ~a resetkeys", "GET a"), Err(Denied::Key(1)));
    }

    #[test]
    fn patterns_of_channels_are_taken_literally() {
        assert_eq!(check("+@all &news.*", "SUBSCRIBE news.a news.b"), Ok(()));
        assert_eq!(check("+@all &news.*", "SUBSCRIBE news.a x"), Err(Denied::Channel(2)));
        assert_eq!(check("+@all &news.*", "PSUBSCRIBE news.*"), Ok(()));
        assert_eq!(check("+@all &news.*", "PSUBSCRIBE news.a*"), Err(Denied::Channel(1)));
        assert_eq!(check("+@all", "UNSUBSCRIBE x"), Ok(()));
        assert_eq!(check("+@all &x", "SPUBLISH y m"), Err(Denied::Channel(1)));
    }

    #[test]
    fn one_selector_must_allow_all_of_it() {
        let rules = "+get ~a* (+set ~b* &c) (+@all ~c* -incr)";
        assert_eq!(check(rules, "GET a"), Ok(()));
        assert_eq!(check(rules, "SET b 1"), Ok(()));
        assert_eq!(check(rules, "SET a 1"), Err(Denied::Key(1)));
        assert_eq!(check(rules, "DEL c1 c2"), Ok(()));
        assert_eq!(check(rules, "INCR c1"), Err(Denied::Command));
        assert_eq!(check(rules, "PUBLISH c m"), Err(Denied::Channel(1)));
    }

    #[test]
    fn what_needs_no_look_is_known() {
        let parse = |text: &str| Rules::parse(text).expect("rules");
        assert!(parse("+@all ~* &*").is_unrestricted());
        assert!(parse("+@all ~* &* -get +get").may_escape(), "a server may know more commands");
        assert!(!parse("+@all allkeys").is_unrestricted());
        assert!(parse("+@all ~a*").may_escape());
        assert!(parse("+fcall_ro ~a*").may_escape(), "it reads whatever it likes");
        assert!(!parse("+@all -@scripting ~a*").may_escape());
        assert!(Rules::everything().is_unrestricted() && Rules::everything().is_open());
        assert!(!parse("off").is_enabled() && parse("").is_enabled());
    }
}
