//! A program as words, its brackets in pairs, and what each of its names is used for. Each word is looked at a bounded
//! number of times.

use super::names::{
    BACK_DOORS, CALLS, FIELD_DEADLINES, FUNCTIONS, GIVEN, HARMLESS, KEYWORDS, LEVELS, LIBRARIES, NUMBERS,
    PLAIN, READS, SET_OPTIONS, SHOWING,
};
use super::tokens::{Placed, Token, tokens};
use super::{MOST_DEPTH, MOST_STEPS};
use crate::command::{self, Carry, Flags};
use crate::resp::transaction::RESERVED_PREFIX;
use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;

/// See the module's head.
pub(super) struct Program<'a> {
    all: Vec<Placed<'a>>,
    /// Where the bracket that opens here is closed; 0 for what opens none.
    closes: Vec<usize>,
    /// Names of its own variables, wherever they hold.
    declared: HashSet<&'a str>,
    steps: Cell<usize>,
}

/// Why it is not trusted, and in which line.
type Doubt = (u32, String);

impl<'a> Program<'a> {
    /// Takes a text apart. The error says in words why that is not possible.
    pub(super) fn read(text: &'a [u8]) -> Result<Program<'a>, String> {
        if text.windows(RESERVED_PREFIX.len()).any(|window| window == RESERVED_PREFIX) {
            return Err("keys of the proxy are named".into());
        }
        let all = tokens(text).map_err(|line| format!("line {line} cannot be read"))?;
        let closes = pairs(&all).map_err(|line| format!("line {line}: its brackets cannot be followed"))?;
        let declared = declared(&all);
        let steps = Cell::new(3 * all.len());
        Ok(Program { all, closes, declared, steps })
    }

    /// How often a word was looked at.
    pub(super) fn steps(&self) -> usize {
        self.steps.get()
    }

    /// Does it do the same on every server?
    pub(super) fn look(&self) -> Result<(), Doubt> {
        (0..self.all.len()).try_for_each(|at| {
            let doubt = |why| (self.all[at].1, why);
            let looked = match self.all[at].0 {
                _ if self.is_spent(1) => Err("it takes too many steps to read".into()),
                Token::Name(name) if !self.is_field(at) => self.name(name, at),
                Token::Sign(b'^') => Err("the sign ^ is used, whose last digits are a library's own".into()),
                _ => Ok(()),
            };
            looked.map_err(doubt)
        })
    }

    fn is_spent(&self, steps: usize) -> bool {
        self.steps.set(self.steps.get() + steps);
        self.steps.get() > MOST_STEPS
    }

    fn at(&self, at: usize) -> Option<Token<'a>> {
        self.all.get(at).map(|(token, _)| *token)
    }

    fn before(&self, at: usize) -> Option<Token<'a>> {
        self.at(at.checked_sub(1)?)
    }

    fn is_field(&self, at: usize) -> bool {
        matches!(self.before(at), Some(Token::Sign(b'.' | b':')))
    }

    /// Is this name called, and not given a new meaning?
    fn is_called(&self, from: usize, end: usize) -> bool {
        self.at(end) == Some(Token::Sign(b'(')) && self.before(from) != Some(Token::Name("function"))
    }

    /// Looks at one name that is no field of something.
    fn name(&self, name: &str, at: usize) -> Result<(), String> {
        if let Some((_, fields)) = LIBRARIES.iter().find(|(library, _)| *library == name) {
            return self.library(name, fields, at);
        }
        match name {
            "redis" | "server" => self.interface(name, at),
            word if KEYWORDS.contains(&word) || GIVEN.contains(&word) => Ok(()),
            function if FUNCTIONS.contains(&function) => match self.is_called(at, at + 1) {
                true => Ok(()),
                false => Err(format!("{name} is handed on")),
            },
            function if SHOWING.contains(&function) => match self.is_called(at, at + 1) {
                true if self.shows_no_address(at + 1) => Ok(()),
                true => Err(format!("{name} is given what may be a table")),
                false => Err(format!("{name} is handed on")),
            },
            door if BACK_DOORS.contains(&door) => Err(format!("{door} is used")),
            // Under such names servers keep things of their own, other scripts among them.
            hidden if hidden.starts_with("__") || (hidden.len() == 42 && hidden.starts_with("f_")) => {
                Err(format!("{hidden} is used"))
            }
            own if self.declared.contains(own) || self.is_key(at) => Ok(()),
            unknown => Err(format!("{unknown} is used, which is not known here")),
        }
    }

    /// Does `name =` stand in a table? (Or it is an assignment that a server refuses.)
    fn is_key(&self, at: usize) -> bool {
        let first = matches!(self.before(at), Some(Token::Sign(b'{' | b',' | b';')));
        first && self.at(at + 1) == Some(Token::Sign(b'='))
    }

    /// What follows the name of a library, and a dot.
    fn field(&self, name: &str, at: usize) -> Result<&'a str, String> {
        match (self.at(at + 1), self.at(at + 2)) {
            (Some(Token::Sign(b'.')), Some(Token::Name(field))) => Ok(field),
            _ => Err(format!("{name} is handed on")),
        }
    }

    fn library(&self, name: &str, fields: &[&str], at: usize) -> Result<(), String> {
        let field = self.field(name, at)?;
        match field {
            number if name == "math" && NUMBERS.contains(&number) => self.number(name, field, at),
            known if fields.contains(&known) => self.function(name, field, at),
            _ => Err(format!("{name}.{field} is used")),
        }
    }

    fn function(&self, name: &str, field: &str, at: usize) -> Result<(), String> {
        match self.is_called(at, at + 3) {
            true => Ok(()),
            false => Err(format!("{name}.{field} is handed on")),
        }
    }

    /// A number may be handed on, but not be given another value.
    fn number(&self, name: &str, field: &str, at: usize) -> Result<(), String> {
        let assigned =
            self.at(at + 3) == Some(Token::Sign(b'=')) && self.at(at + 4) != Some(Token::Sign(b'='));
        if assigned { Err(format!("{name}.{field} is changed")) } else { Ok(()) }
    }

    fn interface(&self, name: &str, at: usize) -> Result<(), String> {
        let field = self.field(name, at)?;
        match field {
            "call" | "pcall" => self.call(field, at + 3),
            harmless if HARMLESS.contains(&harmless) => self.function(name, field, at),
            level if LEVELS.contains(&level) => self.number(name, field, at),
            _ => Err(format!("{name}.{field} is used")),
        }
    }

    /// A call of a command, from behind `redis.call`.
    fn call(&self, called: &str, open: usize) -> Result<(), String> {
        let unseen = || format!("redis.{called} is not followed by the name of a command in quotes");
        let (Some(Token::Sign(b'(')), Some(Token::Text(Some(name)))) = (self.at(open), self.at(open + 1))
        else {
            return Err(unseen());
        };
        match self.at(open + 2) {
            Some(Token::Sign(b',')) if name.eq_ignore_ascii_case(b"set") => {
                let timeless = self.arguments(open).is_some_and(|args| self.is_timeless_set(&args));
                timeless
                    .then_some(())
                    .ok_or_else(|| "SET may be given options that cannot be seen, or a deadline".to_string())
            }
            Some(Token::Sign(b')' | b',')) => allowed(name),
            _ => Err(unseen()),
        }
    }

    /// The arguments of a call, by its `(`. `None` where they cannot be told apart.
    fn arguments(&self, open: usize) -> Option<Vec<Range<usize>>> {
        let end = self.closes[open];
        let (mut from, mut at, mut all) = (open + 1, open + 1, Vec::new());
        while at < end {
            if self.is_spent(1) {
                return None;
            }
            match self.all[at].0 {
                // It may hold statements, which are not looked at here.
                Token::Name("function") => return None,
                Token::Sign(b',') => {
                    all.push(from..at);
                    from = at + 1;
                }
                _ => {}
            }
            at = self.closes[at].max(at) + 1;
        }
        all.push(from..end);
        Some(all)
    }

    /// Are these `SET`, a key, a value and harmless options, and nothing else?
    fn is_timeless_set(&self, args: &[Range<usize>]) -> bool {
        let [_, _, value, options @ ..] = args else { return false };
        let harmless = |option: &Range<usize>| match self.all[option.clone()] {
            [(Token::Text(Some(word)), _)] => {
                SET_OPTIONS.iter().any(|known| word.eq_ignore_ascii_case(known))
            }
            _ => false,
        };
        // Only the last argument can be more than one value.
        options.iter().all(harmless) && (!options.is_empty() || self.is_one_value(value.clone()))
    }

    /// Is this expression one value, and never several?
    fn is_one_value(&self, expression: Range<usize>) -> bool {
        let Some(((last, _), before)) = self.all[expression.clone()].split_last() else { return false };
        match last {
            Token::Name(_) | Token::Number | Token::Sign(b']') => true,
            // Otherwise it is the argument of a call.
            Token::Text(_) => {
                matches!(before.last(), None | Some((Token::Concat | Token::Name("and" | "or"), _)))
            }
            Token::Sign(b')') => self.is_call_of(PLAIN, &expression) || self.is_call_of(CALLS, &expression),
            _ => false,
        }
    }

    /// Is it a call of one of these functions, and nothing behind it?
    fn is_call_of(&self, functions: &[&[&str]], expression: &Range<usize>) -> bool {
        let words = &self.all[expression.clone()];
        functions.iter().any(|path| {
            let len = 2 * path.len() - 1;
            let is_it = path.iter().enumerate().all(|(i, part)| {
                let dot = i == 0 || matches!(words.get(2 * i - 1), Some((Token::Sign(b'.'), _)));
                dot && matches!(words.get(2 * i), Some((Token::Name(name), _)) if name == part)
            });
            let opens = matches!(words.get(len), Some((Token::Sign(b'('), _)));
            is_it && opens && self.closes[expression.start + len] + 1 == expression.end
        })
    }

    /// Is the first argument of this call neither a table nor a function?
    fn shows_no_address(&self, open: usize) -> bool {
        let first = self.arguments(open).and_then(|args| args.into_iter().next());
        first.is_some_and(|first| match self.all[first.clone()] {
            [(Token::Text(_) | Token::Number, _)] => true,
            _ => self.is_call_of(PLAIN, &first) || self.is_computed(first),
        })
    }

    /// Is it the result of a sign that gives a number or a string? Metatables, which could give another meaning to one,
    /// are out of a script's reach.
    fn is_computed(&self, expression: Range<usize>) -> bool {
        let (mut at, mut computed) = (expression.start, false);
        while at < expression.end {
            if self.is_spent(1) {
                return false;
            }
            match self.all[at].0 {
                // One side of it is the result as it is.
                Token::Name("and" | "or") => return false,
                Token::Concat | Token::Sign(b'+' | b'-' | b'*' | b'/' | b'%' | b'#') => computed = true,
                _ => {}
            }
            at = self.closes[at].max(at) + 1;
        }
        computed
    }
}

/// May a script call this command, whatever its arguments?
fn allowed(name: &[u8]) -> Result<(), String> {
    let shown = String::from_utf8_lossy(name).to_ascii_uppercase();
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

/// Which bracket closes which. The error is the line of one that cannot be paired, or lies too deep.
fn pairs(all: &[Placed]) -> Result<Vec<usize>, u32> {
    let (mut closes, mut open) = (vec![0; all.len()], Vec::new());
    for (at, (token, line)) in all.iter().enumerate() {
        let closed = match token {
            Token::Sign(b'(' | b'[' | b'{') if open.len() == MOST_DEPTH => return Err(*line),
            Token::Sign(b'(') => b')',
            Token::Sign(b'[') => b']',
            Token::Sign(b'{') => b'}',
            Token::Sign(sign @ (b')' | b']' | b'}')) => {
                let (from, wanted) = open.pop().ok_or(*line)?;
                if wanted != *sign {
                    return Err(*line);
                }
                closes[from] = at;
                continue;
            }
            _ => continue,
        };
        open.push((at, closed));
    }
    open.last().map_or(Ok(closes), |(at, _)| Err(all[*at].1))
}

/// The names behind `local` and `for`, and those of parameters.
fn declared<'a>(all: &[Placed<'a>]) -> HashSet<&'a str> {
    let mut names = HashSet::from(["self"]);
    // Where a list of names goes on: at its next name, or behind one.
    let (mut lists, mut parameters) = (false, false);
    for (token, _) in all {
        match token {
            Token::Name("local" | "for") => (lists, parameters) = (true, false),
            Token::Name("function") => parameters = true,
            Token::Sign(b'(') if parameters => (lists, parameters) = (true, false),
            Token::Name(name) if lists && !KEYWORDS.contains(name) => drop(names.insert(name)),
            Token::Name(_) | Token::Sign(b'.' | b':') if parameters => {}
            Token::Sign(b',') if lists => {}
            _ => (lists, parameters) = (false, false),
        }
    }
    names
}
