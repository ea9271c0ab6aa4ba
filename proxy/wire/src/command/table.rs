//! The two data files as one static table, and the look-up by name on the hot path. The files
//! are part of the binary, so a mistake in them is a mistake in the program: tests read them all.

use super::classify::Rule;
use super::{
    Carry, Command, Filter, Flags, KeySpec, Local, Movable, Refusal, Rewrite, Scripting, Servers, Step,
    TimeLeft, Waits,
};
use quorate_core::plan::OpClass;
use std::collections::HashMap;
use std::sync::LazyLock;

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::parse(include_str!("table.tsv"), include_str!("classes.tsv")));

/// Every command and sub-command, by name.
pub fn all() -> &'static [Command] {
    &TABLE.commands
}

/// The command of this name; no sub-commands.
#[inline]
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    let table = &*TABLE;
    let words = Words::of(name)?;
    let mut at = words.place();
    loop {
        match table.places[at] {
            0 => return None,
            index => {
                let entry = &table.entries[usize::from(index)];
                if entry.is(words, name) {
                    return Some(&table.commands[usize::from(entry.command)]);
                }
            }
        }
        at = (at + 1) % PLACES;
    }
}

/// The sub-command of this name.
pub(super) fn find_subcommand(container: &Command, sub: &[u8]) -> Option<&'static Command> {
    let (first, end) = container.subcommands;
    let prefix = container.name.len() + 1;
    let commands = &TABLE.commands[usize::from(first)..usize::from(end)];
    commands.iter().find(|command| command.name.as_bytes()[prefix..].eq_ignore_ascii_case(sub))
}

/// About four times the number of commands, so that most names are found at their first place.
const PLACES: usize = 1024;
/// Names up to this length are compared as two words.
const WORDS: usize = 16;
const LONGEST: usize = 32;

struct Table {
    commands: Vec<Command>,
    /// Number 0 is no entry.
    entries: Vec<Entry>,
    places: Box<[u16; PLACES]>,
}

/// A name as its first and its last eight bytes, which overlap when it is short.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Words {
    length: usize,
    first: u64,
    last: u64,
}

impl Words {
    #[inline]
    fn of(name: &[u8]) -> Option<Words> {
        let length = name.len();
        let (first, last) = match length {
            0 => return None,
            1..4 => {
                let ends = u64::from(name[0]) | u64::from(name[length - 1]) << 8;
                (ends | u64::from(name[length / 2]) << 16, 0)
            }
            4..8 => (u64::from(half(&name[..4])) | u64::from(half(&name[length - 4..])) << 32, 0),
            8..=LONGEST => (whole(&name[..8]), whole(&name[length - 8..])),
            _ => return None,
        };
        Some(Words { length, first, last })
    }

    /// Where the search begins. The case bit is set in every byte: this joins more than letters,
    /// which only costs a comparison.
    #[inline]
    fn place(self) -> usize {
        const CASE: u64 = 0x2020_2020_2020_2020;
        let mixed = (self.first | CASE) ^ (self.last | CASE).rotate_left(23) ^ self.length as u64;
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize
    }
}

#[inline]
fn half(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

#[inline]
fn whole(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

struct Entry {
    words: Words,
    /// The case bit of each letter, and nothing else: what a comparison may ignore.
    ignore: Words,
    command: u16,
    name: &'static str,
}

impl Entry {
    fn new(command: u16, name: &'static str) -> Entry {
        let case: Vec<u8> = name.bytes().map(|b| if b.is_ascii_lowercase() { 0x20 } else { 0 }).collect();
        let words = |bytes| Words::of(bytes).expect("names in the table are short");
        Entry { words: words(name.as_bytes()), ignore: words(&case), command, name }
    }

    #[inline]
    fn is(&self, words: Words, name: &[u8]) -> bool {
        self.words.length == words.length
            && (self.words.first ^ words.first) & !self.ignore.first == 0
            && (self.words.last ^ words.last) & !self.ignore.last == 0
            && (words.length <= WORDS || self.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

impl Table {
    fn parse(table: &'static str, classes: &'static str) -> Table {
        let classes: HashMap<&str, [&str; 5]> = rows(classes).map(|row: [&str; 5]| (row[0], row)).collect();
        let mut commands: Vec<Command> = rows(table).map(|row| command(row, &classes)).collect();
        link_subcommands(&mut commands);
        let mut entries = vec![Entry::new(0, "none")];
        let mut places = Box::new([0; PLACES]);
        for (index, command) in commands.iter().enumerate().filter(|(_, c)| !c.name.contains('|')) {
            let entry = Entry::new(index as u16, command.name);
            let mut at = entry.words.place();
            while places[at] != 0 {
                at = (at + 1) % PLACES;
            }
            places[at] = entries.len() as u16;
            entries.push(entry);
        }
        Table { commands, entries, places }
    }
}

/// The rows of a data file, comments left out.
fn rows<const N: usize>(text: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        fields.try_into().unwrap_or_else(|_| panic!("not {N} fields: {line}"))
    })
}

fn command(row: [&'static str; 9], classes: &HashMap<&str, [&'static str; 5]>) -> Command {
    let [name, arity, flags, first, last, step, movable, servers, since] = row;
    let class = classes.get(name).unwrap_or_else(|| panic!("{name} has no class"));
    try_command(name, class, arity, flags, [first, last, step, movable], servers, since)
        .unwrap_or_else(|| panic!("the rows of {name} cannot be read: {row:?} {class:?}"))
}

fn try_command(
    name: &'static str,
    class: &[&'static str; 5],
    arity: &str,
    flags: &str,
    [first, last, step, movable]: [&str; 4],
    servers: &str,
    since: &'static str,
) -> Option<Command> {
    let [_, carry, class, filter, rule] = class;
    Some(Command {
        name,
        arity: arity.parse().ok()?,
        keys: KeySpec {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
            step: step.parse().ok()?,
            movable: Movable::parse(movable)?,
        },
        flags: Flags::parse(flags)?,
        servers: Servers::parse(servers)?,
        since,
        class: OpClass::ALL.into_iter().find(|known| known.name() == *class)?,
        carry: carry_of(carry)?,
        filter: Filter::parse(filter)?,
        rule: Rule::parse(rule)?,
        subcommands: (0, 0),
    })
}

fn carry_of(text: &str) -> Option<Carry> {
    let (kind, detail) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "read" => Some(Carry::Read),
        "deterministic" => Some(Carry::Deterministic),
        "flush" => Some(Carry::Flush),
        "deadline" => TimeLeft::parse(detail).map(Carry::Deadline),
        "rewrite" => Rewrite::parse(detail).map(Carry::Rewritten),
        "leads" => Some(Carry::Leads),
        "script" => Scripting::parse(detail).map(Carry::Script),
        "local" => Local::parse(detail).map(Carry::Local),
        "waits" => Waits::parse(detail).map(Carry::Waits),
        "transaction" => Step::parse(detail).map(Carry::Transaction),
        "refuse" => Refusal::parse(detail).map(Carry::Refused),
        _ => None,
    }
}

/// Sub-commands stand together, since they share a prefix and the table is in order.
fn link_subcommands(commands: &mut [Command]) {
    assert!(commands.is_sorted_by_key(|command| command.name), "table.tsv is in order");
    for index in 0..commands.len() {
        let prefix = format!("{}|", commands[index].name);
        let first = commands.partition_point(|command| command.name < prefix.as_str());
        let count = commands[first..].iter().take_while(|command| command.name.starts_with(&prefix)).count();
        commands[index].subcommands = (first as u16, (first + count) as u16);
    }
}
