//! Rules that are changed one by one, as `ACL SETUSER` does. What is wrong is said in the words of Redis 7.0.
//! Passwords are not among them: whoever keeps them changes them.

use super::Rules;
use super::parse::{self, Kind};

/// Why a rule cannot be applied, as a client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit(pub &'static str);

impl From<parse::Wrong> for Unfit {
    fn from(wrong: parse::Wrong) -> Unfit {
        Unfit(match wrong.kind {
            Kind::Syntax => "Syntax error",
            Kind::Unknown => "Unknown command or category name in ACL",
            Kind::KeyAfterAll => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any \
                 effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            Kind::ChannelAfterAll => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any \
                 effect. Try 'resetchannels' to start with an empty list of channels"
            }
            Kind::Argument => "Allowing first-arg of a subcommand is not supported",
        })
    }
}

impl Rules {
    /// Those of a user that was just made: it may do nothing, and is off.
    pub fn new() -> Rules {
        Rules { enabled: false, ..Rules::nothing() }
    }

    /// Applies one rule. An empty one changes nothing. [`Self::settle`] is due after the last one.
    pub fn change(&mut self, rule: &str) -> Result<(), Unfit> {
        match rule.to_lowercase().as_str() {
            "" => {}
            "resetpass" => self.open = false,
            "sanitize-payload" => self.sanitize = Some(true),
            "skip-sanitize-payload" => self.sanitize = Some(false),
            "reset" => *self = Rules { sanitize: Some(true), ..Rules::new() },
            _ if has_gaps(rule) => return Err(Unfit("Syntax error")),
            _ => match rule.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
                Some(inner) => self.further.push(parse::further(inner)?),
                None => parse::user_rule(self, rule)?,
            },
        }
        Ok(())
    }

    /// A password was given: nobody comes in without one.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// Makes the text that of the rules as they are now.
    pub fn settle(&mut self) {
        self.text = self.line();
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::new()
    }
}

/// A pattern is one word: elsewhere it could not be told from the rules behind it.
fn has_gaps(rule: &str) -> bool {
    rule.starts_with(['~', '%', '&'])
        && rule.contains(|c: char| c.is_ascii_whitespace() || c == '\x0b' || c == '\0')
}

/// Rules as they were sent, with the words of each selector as one. The error is the word that opens a selector
/// that nothing closes.
pub fn merged<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, &'a [u8]> {
    let mut rules = Vec::new();
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for word in words {
        let ends = word.ends_with(b")");
        open = match open {
            None if word.starts_with(b"(") && !ends => Some((word, word.to_vec())),
            None => {
                rules.push(word.to_vec());
                None
            }
            Some((first, mut rule)) => {
                rule.push(b' ');
                rule.extend_from_slice(word);
                match ends {
                    true => {
                        rules.push(rule);
                        None
                    }
                    false => Some((first, rule)),
                }
            }
        };
    }
    match open {
        Some((first, _)) => Err(first),
        None => Ok(rules),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(rules: &[&str]) -> Rules {
        let mut user = Rules::new();
        rules.iter().for_each(|rule| user.change(rule).expect(rule));
        user.settle();
        user
    }

    #[test]
    fn rules_are_applied_one_by_one() {
        assert_eq!(changed(&[]).line(), "off resetchannels -@all");
        let user = changed(&["ON", "~a*", "+get", "(+set ~b)", "", "&x"]);
        assert_eq!(user.line(), "on ~a* resetchannels &x -@all +get (~b resetchannels -@all +set)");
        assert_eq!(user.text(), user.line());
        let user = changed(&["on", "nopass", "allkeys", "+@all", "(+set ~b)", "reset", "~a"]);
        assert_eq!(user.line(), "off sanitize-payload ~a resetchannels -@all");
        assert!(!changed(&["nopass", "resetpass"]).is_open());
    }

    #[test]
    fn what_does_not_fit_is_told_and_changes_nothing_else() {
        let told = [
            ("foo", "Syntax error"),
            ("~a b", "Syntax error"),
            ("(on)", "Syntax error"),
            ("(+gett)", "Unknown command or category name in ACL"),
            ("-get|x", "Unknown command or category name in ACL"),
            ("-@foo", "Unknown command or category name in ACL"),
            ("+config|get|x", "Allowing first-arg of a subcommand is not supported"),
            ("+get|", "Syntax error"),
        ];
        for (rule, text) in told {
            assert_eq!(Rules::new().change(rule), Err(Unfit(text)), "{rule}");
        }
        let mut user = changed(&["~*", "&*"]);
        assert!(user.change("~a").is_err_and(|unfit| unfit.0.contains("'allkeys'")));
        assert!(user.change("&a").is_err_and(|unfit| unfit.0.contains("'allchannels'")));
    }

    #[test]
    fn the_words_of_a_selector_become_one() {
        let rules = |words: &[&'static str]| {
            merged(words.iter().map(|word| word.as_bytes())).map(|rules| {
                rules.iter().map(|rule| String::from_utf8_lossy(rule).into_owned()).collect::<Vec<_>>()
            })
        };
        assert_eq!(
            rules(&["on", "(+get", "~a", "&b)", "~c"]),
            Ok(vec!["on".into(), "(+get ~a &b)".into(), "~c".into()])
        );
        assert_eq!(rules(&["on", "(+get", "~a"]), Err(&b"(+get"[..]));
        assert_eq!(rules(&["("]), Err(&b"("[..]));
        assert_eq!(rules(&["()", ")"]), Ok(vec!["()".into(), ")".into()]));
    }
}
