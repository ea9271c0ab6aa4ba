//! One set of permissions: commands as bits, keys and channels as patterns.

use super::Denied;
use crate::command::access::{Channels, Touch, categories, channels, touches};
use crate::command::{Command, Flags, all};
use crate::glob;
use crate::resp::Args;

/// A pattern of keys, and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPattern {
    pub(super) pattern: String,
    pub(super) allows: Touch,
}

/// See the module's head. By default nothing is allowed.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    /// By a command's place in the table; empty for none.
    commands: Vec<u64>,
    /// Nothing was ever taken away from everything.
    every_command: bool,
    /// Commands that are allowed with this first argument only.
    first_arguments: Vec<(usize, String)>,
    /// What the commands' rules were, without those that later ones made void.
    pub(super) said: Vec<String>,
    /// Did the last rule about all commands allow them?
    pub(super) from_all: bool,
    pub(super) every_key: bool,
    pub(super) keys: Vec<KeyPattern>,
    pub(super) every_channel: bool,
    pub(super) channels: Vec<String>,
}

impl Selector {
    /// Allows or denies every command.
    pub(super) fn set_all(&mut self, allowed: bool) {
        let word = if allowed { u64::MAX } else { 0 };
        self.commands = vec![word; all().len().div_ceil(64)];
        (self.every_command, self.from_all) = (allowed, allowed);
        self.first_arguments.clear();
        self.said.clear();
    }

    /// Allows or denies a command, and its sub-commands with it.
    pub(super) fn set_command(&mut self, command: &Command, allowed: bool) {
        self.set_with_subcommands(std::iter::once(command), allowed);
        self.say(allowed, command.name);
    }

    /// Allows or denies a category.
    pub(super) fn set_category(&mut self, bit: u32, name: &str, allowed: bool) {
        let members = all().iter().filter(|command| categories(command) & bit != 0);
        self.set_with_subcommands(members, allowed);
        self.say(allowed, &format!("@{}", name.to_lowercase()));
    }

    /// Allows a command with this first argument.
    pub(super) fn allow_first_argument(&mut self, command: &Command, argument: &str) {
        let one = (command.index(), argument.to_lowercase());
        self.say(true, &format!("{}|{}", command.name, one.1));
        if !self.first_arguments.contains(&one) {
            self.first_arguments.push(one);
        }
    }

    fn set_with_subcommands<'a>(&mut self, commands: impl Iterator<Item = &'a Command>, allowed: bool) {
        self.every_command &= allowed;
        let mut set = vec![0; all().len().div_ceil(64)];
        let mut mark = |command: &Command| set[command.index() / 64] |= 1 << (command.index() % 64);
        for command in commands {
            mark(command);
            if command.is_container() {
                let prefix = format!("{}|", command.name);
                all().iter().filter(|sub| sub.name.starts_with(&prefix)).for_each(&mut mark);
            }
        }
        self.first_arguments.retain(|(of, _)| set[of / 64] & (1 << (of % 64)) == 0);
        self.commands.resize(set.len(), 0);
        for (word, bits) in self.commands.iter_mut().zip(set) {
            match allowed {
                true => *word |= bits,
                false => *word &= !bits,
            }
        }
    }

    fn say(&mut self, allowed: bool, what: &str) {
        let within = format!("{what}|");
        self.said.retain(|rule| &rule[1..] != what && !rule[1..].starts_with(&within));
        self.said.push(format!("{}{what}", if allowed { '+' } else { '-' }));
    }

    /// Is there nothing that it could deny?
    pub(super) fn is_unrestricted(&self) -> bool {
        self.every_command && self.every_key && self.every_channel
    }

    /// Is every key free to read?
    pub(super) fn reads_every_key(&self) -> bool {
        self.every_key || self.keys.iter().any(|key| key.allows.reads && key.pattern == "*")
    }

    /// Is the command allowed, with some arguments at least?
    pub(super) fn has(&self, command: &Command) -> bool {
        self.every_command
            || self.has_bit(command)
            || self.first_arguments.iter().any(|(index, _)| *index == command.index())
    }

    #[inline]
    fn has_bit(&self, command: &Command) -> bool {
        let index = command.index();
        self.commands.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    pub(super) fn check(&self, command: &Command, args: Args) -> Result<(), Denied> {
        if !(self.every_command || self.has_bit(command) || self.is_exempt(command, args)) {
            return Err(Denied::Command);
        }
        if !self.every_key
            && let Some(at) = self.denied_key(command, args)
        {
            return Err(Denied::Key(at));
        }
        match self.denied_channel(command, args) {
            Some(at) => Err(Denied::Channel(at)),
            None => Ok(()),
        }
    }

    /// Is it about the connection's login, or allowed with its first argument?
    fn is_exempt(&self, command: &Command, args: Args) -> bool {
        let is_first = |(index, argument): &(usize, String)| {
            let first = args.get(1).unwrap_or_default();
            *index == command.index() && first.eq_ignore_ascii_case(argument.as_bytes())
        };
        command.flags.has(Flags::NO_AUTH) || self.first_arguments.iter().any(is_first)
    }

    fn denied_key(&self, command: &Command, args: Args) -> Option<usize> {
        let mut denied = None;
        touches(command, args, &mut |at, touch| {
            if denied.is_none() && !self.allows_key(args.get(at).unwrap_or_default(), touch) {
                denied = Some(at);
            }
        });
        denied
    }

    fn allows_key(&self, key: &[u8], touch: Touch) -> bool {
        let allows = |given: Touch| (given.reads || !touch.reads) && (given.writes || !touch.writes);
        self.keys.iter().any(|one| allows(one.allows) && glob::matches(one.pattern.as_bytes(), key))
    }

    fn denied_channel(&self, command: &Command, args: Args) -> Option<usize> {
        let (count, is_pattern) = match channels(command) {
            Channels::None => return None,
            Channels::First => (2.min(args.len()), false),
            Channels::All => (args.len(), false),
            Channels::Patterns => (args.len(), true),
        };
        (1..count).find(|at| !self.allows_channel(&args[*at], is_pattern))
    }

    /// May this channel be used? A pattern must stand among its own literally.
    pub(super) fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        let mut known = self.channels.iter().map(String::as_bytes);
        self.every_channel
            || match is_pattern {
                true => known.any(|pattern| pattern == channel),
                false => known.any(|pattern| glob::matches(pattern, channel)),
            }
    }
}
