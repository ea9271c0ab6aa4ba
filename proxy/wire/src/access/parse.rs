//! From the text of rules to [`Rules`]. Rules are applied in their order; all that are wrong are told.

use super::Rules;
use super::selector::{KeyPattern, Selector};
use crate::command::access::{Touch, category};
use crate::command::{Command, all};
use std::ops::Range;

/// One rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// Where in the text it stands, in bytes.
    pub at: Range<usize>,
    /// What is wrong. Quotes nothing that may be a password.
    pub message: String,
    /// What to do about it, if that is not clear.
    pub help: Option<&'static str>,
    /// The rule is or may be a password, and must not be shown.
    pub secret: bool,
    /// The word that is not known, for a suggestion: a command, or a category with its `@`.
    pub unknown: Option<String>,
}

/// What one rule is wrong about, before it is known where it stands.
pub(super) struct Wrong {
    pub(super) kind: Kind,
    message: String,
    help: Option<&'static str>,
    secret: bool,
    unknown: Option<String>,
}

/// The kinds of mistakes that servers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Syntax,
    /// A command or category that there is not.
    Unknown,
    KeyAfterAll,
    ChannelAfterAll,
    /// The first argument of a sub-command.
    Argument,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Wrong {
        Wrong { kind: Kind::Syntax, message: message.into(), help: None, secret: false, unknown: None }
    }

    fn of(self, kind: Kind) -> Wrong {
        Wrong { kind, ..self }
    }

    fn help(self, help: &'static str) -> Wrong {
        Wrong { help: Some(help), ..self }
    }

    fn unknown(kind: &str, word: &str) -> Wrong {
        let shown = word.trim_start_matches('@');
        let message = format!("there is no {kind} '{shown}'");
        Wrong { kind: Kind::Unknown, unknown: Some(word.to_string()), ..Wrong::new(message) }
    }

    fn at(self, at: Range<usize>) -> RuleError {
        let Wrong { kind: _, message, help, secret, unknown } = self;
        RuleError { at, message, help, secret, unknown }
    }
}

/// The words of a text, with their places.
fn words(text: &str, offset: usize) -> impl Iterator<Item = (Range<usize>, &str)> {
    let start = text.as_ptr() as usize;
    text.split_whitespace().map(move |word| {
        let at = word.as_ptr() as usize - start + offset;
        (at..at + word.len(), word)
    })
}

pub(super) fn rules(text: &str) -> Result<Rules, Vec<RuleError>> {
    let mut rules = Rules { text: text.to_string(), ..Rules::nothing() };
    let mut errors = Vec::new();
    let mut rest = 0;
    while let Some((at, word)) = words(&text[rest..], rest).next() {
        rest = at.end;
        if !word.starts_with('(') {
            errors.extend(user_rule(&mut rules, word).err().map(|wrong| wrong.at(at)));
            continue;
        }
        match text[at.start..].find(')') {
            Some(length) => {
                rest = at.start + length + 1;
                match selector(&text[at.start + 1..rest - 1], at.start + 1) {
                    Ok(selector) => rules.further.push(selector),
                    Err(wrong) => errors.extend(wrong),
                }
            }
            None => {
                let wrong = Wrong::new("a selector is not closed").help("it ends with ')'");
                errors.push(wrong.at(at));
                break;
            }
        }
    }
    if errors.is_empty() { Ok(rules) } else { Err(errors) }
}

/// The further selector that this text describes, without its brackets.
pub(super) fn further(text: &str) -> Result<Selector, Wrong> {
    let mut selector = Selector::default();
    text.split_whitespace().try_for_each(|word| rule(&mut selector, word))?;
    Ok(selector)
}

fn selector(text: &str, offset: usize) -> Result<Selector, Vec<RuleError>> {
    let mut selector = Selector::default();
    let wrong = words(text, offset)
        .filter_map(|(at, word)| Some(rule(&mut selector, word).err()?.at(at)))
        .collect::<Vec<_>>();
    if wrong.is_empty() { Ok(selector) } else { Err(wrong) }
}

/// A rule about the user as such, or else one of the root's permissions.
pub(super) fn user_rule(rules: &mut Rules, word: &str) -> Result<(), Wrong> {
    match word.to_lowercase().as_str() {
        "on" => rules.enabled = true,
        "off" => rules.enabled = false,
        "nopass" => rules.open = true,
        "clearselectors" => rules.further.clear(),
        _ => return rule(&mut rules.root, word),
    }
    Ok(())
}

fn rule(selector: &mut Selector, word: &str) -> Result<(), Wrong> {
    match word.to_lowercase().as_str() {
        "allcommands" | "+@all" => selector.set_all(true),
        "nocommands" | "-@all" => selector.set_all(false),
        "allkeys" | "~*" => {
            selector.every_key = true;
            selector.keys.clear();
        }
        "resetkeys" => {
            selector.every_key = false;
            selector.keys.clear();
        }
        "allchannels" | "&*" => {
            selector.every_channel = true;
            selector.channels.clear();
        }
        "resetchannels" => {
            selector.every_channel = false;
            selector.channels.clear();
        }
        "on" | "off" | "nopass" => {
            return Err(Wrong::new(format!("'{word}' is about the user, and cannot stand in a selector")));
        }
        _ => return by_sign(selector, word),
    }
    Ok(())
}

fn by_sign(selector: &mut Selector, word: &str) -> Result<(), Wrong> {
    match word.as_bytes()[0] {
        sign @ (b'+' | b'-') if word[1..].starts_with('@') => {
            let name = &word[2..];
            let bit = category(name).ok_or_else(|| Wrong::unknown("category", &word[1..]))?;
            selector.set_category(bit, name, sign == b'+');
            Ok(())
        }
        b'+' => allow(selector, &word[1..]),
        b'-' => {
            let command = find(&word[1..]).ok_or_else(|| not_to_deny(&word[1..]))?;
            selector.set_command(command, false);
            Ok(())
        }
        b'~' | b'%' => key(selector, word),
        b'&' if selector.every_channel => Err(Wrong::new("every channel is allowed before this pattern")
            .help("leave it out, or begin anew with resetchannels")
            .of(Kind::ChannelAfterAll)),
        b'&' => {
            if !selector.channels.iter().any(|known| *known == word[1..]) {
                selector.channels.push(word[1..].to_string());
            }
            Ok(())
        }
        b'>' | b'<' | b'#' | b'!' => Err(Wrong {
            secret: true,
            ..Wrong::new("passwords do not stand among the rules")
                .help("write password = { env = \"NAME\" } or { file = \"PATH\" }, or a list of them and of \"#SHA256\"")
        }),
        _ => Err(unreadable(word)),
    }
}

fn unreadable(word: &str) -> Wrong {
    const WORDS: [&str; 11] = [
        "on",
        "off",
        "nopass",
        "allcommands",
        "nocommands",
        "allkeys",
        "resetkeys",
        "allchannels",
        "resetchannels",
        "clearselectors",
        "reset",
    ];
    let wrong = Wrong::new(format!("'{}' is not a rule", shown(word)));
    let bare = word.to_lowercase();
    let begin: String = bare.chars().take(3).collect();
    let is_command = find(&bare).is_some() || category(bare.trim_start_matches('@')).is_some();
    match () {
        () if is_command => wrong.help("'+' before it allows it, '-' denies it"),
        () if word.starts_with(')') => wrong.help("a selector begins with '('"),
        () if WORDS.iter().any(|known| known.starts_with(&begin)) => wrong.help(
            "words: on, off, nopass, allcommands, nocommands, allkeys, resetkeys, allchannels, resetchannels",
        ),
        () => wrong.help("as in +get, -@dangerous, ~cache:*, %R~shared:* or &news.*"),
    }
}

/// Short enough for a message.
fn shown(word: &str) -> String {
    word.chars().take(40).collect()
}

/// The command of this name, or the sub-command.
fn find(name: &str) -> Option<&'static Command> {
    let name = name.to_lowercase();
    all().iter().find(|command| command.name == name)
}

fn allow(selector: &mut Selector, name: &str) -> Result<(), Wrong> {
    if let Some(command) = find(name) {
        selector.set_command(command, true);
        return Ok(());
    }
    let Some((name, argument)) = name.rsplit_once('|') else { return Err(Wrong::unknown("command", name)) };
    match find(name) {
        None => Err(Wrong::unknown("command", name)),
        Some(_) if argument.is_empty() => {
            Err(Wrong::new(format!("nothing stands behind '{}|'", shown(name))))
        }
        Some(command) if command.is_container() => {
            let whole = format!("{name}|{argument}");
            Err(Wrong::unknown("command", &whole))
        }
        Some(command) if command.name.contains('|') => {
            Err(Wrong::new("a sub-command cannot be allowed by its first argument").of(Kind::Argument))
        }
        Some(command) => {
            selector.allow_first_argument(command, argument);
            Ok(())
        }
    }
}

fn not_to_deny(name: &str) -> Wrong {
    match name.rsplit_once('|') {
        Some((command, _)) if find(command).is_some_and(|command| !command.is_container()) => {
            Wrong::new(format!("'{}' has no sub-commands that could be denied", shown(command)))
                .help("deny the command, and allow what is left with '+COMMAND|ARGUMENT'")
                .of(Kind::Unknown)
        }
        _ => Wrong::unknown("command", name),
    }
}

/// `~pattern`, `%R~pattern`, `%W~pattern` or `%RW~pattern`.
fn key(selector: &mut Selector, word: &str) -> Result<(), Wrong> {
    if selector.every_key {
        return Err(Wrong::new("every key is allowed before this pattern")
            .help("leave it out, or begin anew with resetkeys")
            .of(Kind::KeyAfterAll));
    }
    let (letters, pattern) = match word.strip_prefix('%') {
        Some(rest) => {
            rest.split_once('~').ok_or_else(|| Wrong::new(format!("'{}' has no '~'", shown(word))))?
        }
        None => ("RW", &word[1..]),
    };
    let allows = match letters.to_uppercase().as_str() {
        "R" => Touch { reads: true, writes: false },
        "W" => Touch { reads: false, writes: true },
        "RW" | "WR" => Touch { reads: true, writes: true },
        _ => return Err(Wrong::new(format!("'{}' is not a rule", shown(word))).help("%R~, %W~ or %RW~")),
    };
    match selector.keys.iter_mut().find(|known| known.pattern == pattern) {
        Some(known) => {
            known.allows.reads |= allows.reads;
            known.allows.writes |= allows.writes;
        }
        None => selector.keys.push(KeyPattern { pattern: pattern.to_string(), allows }),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<(usize, String)> {
        let errors = rules(text).expect_err("it is wrong");
        errors.into_iter().map(|error| (error.at.start, error.message)).collect()
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_place() {
        let told = wrong("on +gte ~a* -@reed (~* +sett ~x) +set");
        let told: Vec<(usize, &str)> = told.iter().map(|(at, message)| (*at, message.as_str())).collect();
        assert_eq!(
            told,
            [
                (3, "there is no command 'gte'"),
                (12, "there is no category 'reed'"),
                (23, "there is no command 'sett'"),
                (29, "every key is allowed before this pattern"),
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in [
            "get",
            "(+get",
            "+config|gett",
            "-get|x",
            "+config|get|x",
            "%X~a",
            "%R",
            "+",
            "-",
            "+@",
            "~* ~a",
            "&* &a",
            "(on)",
            ")",
            "+select|",
            "(+get))",
            "\u{e9}",
        ] {
            assert!(rules(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_password_is_quoted() {
        for text in [">hunter2", "<hunter2", "#hunter2", "!hunter2", "(>hunter2)"] {
            let errors = rules(text).expect_err("it is refused");
            assert!(errors[0].secret && !errors[0].message.contains("hunter2"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([-+~%&@()|a-z \u{e9}\u{1f600}RW*]|get|read|config|all){0,40}") {
            match Rules::parse(&text) {
                Ok(rules) => {
                    let line = rules.line();
                    proptest::prop_assert_eq!(Rules::parse(&line).expect("its own words").line(), line);
                }
                Err(errors) => {
                    for error in errors {
                        proptest::prop_assert!(text.get(error.at.clone()).is_some(), "{error:?}");
                    }
                }
            }
        }
    }
}
