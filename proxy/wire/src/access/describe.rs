//! Rules as servers show them in `ACL LIST` and `ACL GETUSER`. Commands stand in the order in which they were
//! given, without those that a later rule made void.

use super::Rules;
use super::selector::{KeyPattern, Selector};

/// One set of permissions as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// As `-@all +get`.
    pub commands: String,
    /// As `~a* %R~b*`.
    pub keys: String,
    /// As `&news.*`.
    pub channels: String,
}

impl Rules {
    /// The permissions of the user itself, and of its further selectors.
    pub fn describe(&self) -> Vec<Described> {
        self.selectors().map(Selector::describe).collect()
    }

    /// `on` or `off`, and what else is said of the user as such.
    pub fn flags(&self) -> Vec<&'static str> {
        let sanitize = self.sanitize.map(|is| if is { "sanitize-payload" } else { "skip-sanitize-payload" });
        let enabled = if self.enabled { "on" } else { "off" };
        [Some(enabled), self.open.then_some("nopass"), sanitize].into_iter().flatten().collect()
    }

    /// What stands behind the name of a user in `ACL LIST`, passwords left out.
    pub fn line(&self) -> String {
        self.line_with(&[])
    }

    /// The same with passwords, each as `#` and a digest.
    pub fn line_with(&self, passwords: &[String]) -> String {
        let mut line = self.flags().join(" ");
        passwords.iter().for_each(|password| line.extend([" ", password]));
        for (index, selector) in self.selectors().enumerate() {
            let text = selector.line();
            match index {
                0 => line.extend([" ", &text]),
                _ => line.extend([" (", &text, ")"]),
            }
        }
        line
    }
}

impl Selector {
    fn describe(&self) -> Described {
        let keys: Vec<String> = self.keys.iter().map(KeyPattern::text).collect();
        let channels: Vec<String> = self.channels.iter().map(|channel| format!("&{channel}")).collect();
        let base = if self.from_all { "+@all" } else { "-@all" };
        let commands: Vec<&str> = std::iter::once(base).chain(self.said.iter().map(String::as_str)).collect();
        Described {
            commands: commands.join(" "),
            keys: if self.every_key { "~*".into() } else { keys.join(" ") },
            channels: if self.every_channel { "&*".into() } else { channels.join(" ") },
        }
    }

    fn line(&self) -> String {
        let Described { commands, keys, channels } = self.describe();
        let reset = if self.every_channel { "" } else { "resetchannels" };
        let parts = [keys.as_str(), reset, &channels, &commands];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

impl KeyPattern {
    fn text(&self) -> String {
        let letters = match (self.allows.reads, self.allows.writes) {
            (true, false) => "%R",
            (false, true) => "%W",
            _ => "",
        };
        format!("{letters}~{}", self.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        Rules::parse(text).expect("rules").line()
    }

    #[test]
    fn a_line_says_what_counts() {
        assert_eq!(line("nopass +@all ~* &*"), "on nopass ~* &* +@all");
        assert_eq!(line("off +get"), "off resetchannels -@all +get");
        assert_eq!(
            line("+get ~a %R~b %W~b %W~c -@all +config|get +Set -set &x (+get ~z)"),
            "on ~a ~b %W~c resetchannels &x -@all +config|get -set (~z resetchannels -@all +get)"
        );
        assert_eq!(line("+config|get +config"), "on resetchannels -@all +config");
    }

    #[test]
    fn a_line_can_be_read_again() {
        for text in ["+@all -@dangerous ~* &*", "+get|x ~a (&x +publish)", "off nopass -@all +@read"] {
            assert_eq!(line(&line(text)), line(text));
        }
    }
}
