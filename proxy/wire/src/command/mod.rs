//! The Redis command table: what a name means, which arguments are keys, and what Quorate does
//! with it. Facts come from real servers (`table.tsv`, written by `generate.py`), decisions from
//! `classes.tsv`. Looks at arguments only; it never meets a backend, a clock or a session.

pub mod access;
mod carry;
mod classify;
mod error;
mod flags;
mod frees;
mod keys;
mod rewrite;
mod slot;
mod stamp;
mod table;
mod token;
mod wait;

pub use carry::{Carry, Filter, Local, Refusal, Rewrite, Scripting, Step, TimeLeft, Waits};
pub use classify::{classify, op_class};
pub use error::CommandError;
pub use flags::{Flags, Servers};
pub use frees::frees;
pub use keys::{
    GroupReadShape, KeySpec, Movable, SortOptions, first_key, group_read, key_positions, keys, sort_options,
};
pub(crate) use rewrite::published;
pub use rewrite::{Publication, Rewritten, publications, rewrite};
pub use slot::{SLOTS, key_hash, slot};
pub use stamp::StreamStamp;
pub use table::all;
pub use wait::{at_once, block, last_id, latest};

use crate::resp::Args;
use classify::Rule;
use quorate_core::plan::OpClass;

/// One command or sub-command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Lower case; a sub-command stands after its container: `client|list`.
    pub name: &'static str,
    /// Arguments including the name; negative means at least that many.
    pub arity: i16,
    /// Which arguments are keys.
    pub keys: KeySpec,
    /// What the servers say about it.
    pub flags: Flags,
    /// Which servers have it.
    pub servers: Servers,
    /// The server and version that first had it, as `redis 6.2.0`.
    pub since: &'static str,
    /// What it does, unless the arguments say otherwise: see [`op_class`].
    pub class: OpClass,
    /// What Quorate does with it, unless the arguments say otherwise: see [`classify`].
    pub carry: Carry,
    /// What of its answer would show reserved keys.
    pub filter: Filter,
    rule: Rule,
    /// Where its sub-commands stand in the table: first, and one past the last.
    subcommands: (u16, u16),
}

impl Command {
    /// Does the name alone not say what it does, as with `CLIENT`?
    pub fn is_container(&self) -> bool {
        self.subcommands.0 < self.subcommands.1
    }

    /// Its place in [`all`].
    #[inline]
    pub fn index(&self) -> usize {
        let base = table::all().as_ptr() as usize;
        (std::ptr::from_ref(self) as usize).wrapping_sub(base) / size_of::<Command>()
    }

    /// Is `count`, the name included, a legal number of arguments?
    pub fn accepts(&self, count: usize) -> bool {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if self.arity >= 0 { count == i64::from(self.arity) } else { count >= -i64::from(self.arity) }
    }
}

/// The command of this name in any case, or `None`. Sub-commands are found by [`resolve`] only.
#[inline]
pub fn lookup(name: &[u8]) -> Option<&'static Command> {
    table::find(name)
}

/// The command or sub-command that these arguments call.
///
/// The errors are those of Redis 7.0, word for word.
#[inline]
pub fn resolve(args: Args) -> Result<&'static Command, CommandError> {
    let name = args.get(0).unwrap_or_default();
    let Some(mut command) = lookup(name) else { return Err(CommandError::unknown(args)) };
    if command.is_container()
        && let Some(sub) = args.get(1)
    {
        command = table::find_subcommand(command, sub)
            .ok_or_else(|| CommandError::unknown_subcommand(name, sub))?;
    }
    if command.accepts(args.len()) { Ok(command) } else { Err(CommandError::Arity(command.name)) }
}
