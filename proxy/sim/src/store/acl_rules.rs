//! One ACL user and the rules that shape it.
//! It knows all commands, no commands, and single ones; not categories other than `@all`, nor selectors.

use super::glob;
use super::reply::Fault;
use super::sha256;

/// What a user may do. Rules are kept in the order given, the last that fits decides.
#[derive(Debug, Clone, Default)]
pub(super) struct User {
    pub(super) enabled: bool,
    pub(super) no_password: bool,
    pub(super) passwords: Vec<String>,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) channels: Vec<Vec<u8>>,
    pub(super) all_commands: bool,
    pub(super) exceptions: Vec<(bool, String)>,
}

impl User {
    /// The user of a server nobody configured: everything, without a password.
    pub(super) fn unrestricted() -> Self {
        let star = vec![b"*".to_vec()];
        let open = User { enabled: true, no_password: true, all_commands: true, ..User::default() };
        User { keys: star.clone(), channels: star, ..open }
    }

    pub(super) fn accepts(&self, password: &[u8]) -> bool {
        self.enabled && (self.no_password || self.passwords.contains(&sha256::hex(password)))
    }

    pub(super) fn may_run(&self, command: &str, sub: Option<&str>) -> bool {
        let full = sub.map(|sub| format!("{command}|{sub}"));
        let fits = |name: &str| name == command || Some(name) == full.as_deref();
        let last = self.exceptions.iter().rev().find(|(_, name)| fits(name));
        last.map_or(self.all_commands, |(allow, _)| *allow)
    }

    pub(super) fn may_touch(&self, key: &[u8]) -> bool {
        self.keys.iter().any(|pattern| glob::matches(pattern, key))
    }

    /// Applies one rule of ACL SETUSER.
    pub(super) fn apply(&mut self, rule: &[u8]) -> Result<(), Fault> {
        match rule.to_ascii_lowercase().as_slice() {
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"nopass" => (self.no_password, self.passwords) = (true, Vec::new()),
            b"resetpass" => (self.no_password, self.passwords) = (false, Vec::new()),
            b"allkeys" => self.keys = vec![b"*".to_vec()],
            b"resetkeys" => self.keys.clear(),
            b"allchannels" => self.channels = vec![b"*".to_vec()],
            b"resetchannels" => self.channels.clear(),
            b"allcommands" | b"+@all" => (self.all_commands, self.exceptions) = (true, Vec::new()),
            b"nocommands" | b"-@all" => (self.all_commands, self.exceptions) = (false, Vec::new()),
            b"reset" => *self = User::default(),
            b"sanitize-payload" | b"skip-sanitize-payload" => {}
            _ => return self.apply_prefixed(rule),
        }
        Ok(())
    }

    fn apply_prefixed(&mut self, rule: &[u8]) -> Result<(), Fault> {
        match rule {
            [b'>', password @ ..] => self.add_password(sha256::hex(password)),
            [b'#', hash @ ..] => self.add_password(hash_text(hash).ok_or_else(|| bad_rule(rule))?),
            [b'<', password @ ..] => self.drop_password(&sha256::hex(password)),
            [b'~', pattern @ ..] => self.keys.push(pattern.to_vec()),
            [b'&', pattern @ ..] => self.channels.push(pattern.to_vec()),
            [sign @ (b'+' | b'-'), name @ ..] if known_command(name) => {
                let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                self.exceptions.retain(|(_, other)| *other != name);
                self.exceptions.push((*sign == b'+', name));
            }
            _ => return Err(bad_rule(rule)),
        }
        Ok(())
    }

    fn add_password(&mut self, hash: String) {
        self.no_password = false;
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
    }

    fn drop_password(&mut self, hash: &str) {
        self.passwords.retain(|other| other != hash);
    }

    pub(super) fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.enabled { "on" } else { "off" }];
        if self.no_password {
            flags.push("nopass");
        }
        flags
    }

    /// The command rules as ACL GETUSER shows them.
    pub(super) fn command_rules(&self) -> String {
        let mut text = String::from(if self.all_commands { "+@all" } else { "-@all" });
        for (allow, name) in &self.exceptions {
            text.push_str(if *allow { " +" } else { " -" });
            text.push_str(name);
        }
        text
    }

    pub(super) fn key_rules(&self) -> String {
        patterns(&self.keys, '~')
    }

    pub(super) fn channel_rules(&self) -> String {
        patterns(&self.channels, '&')
    }

    /// The line of ACL LIST, after the name.
    pub(super) fn describe(&self) -> String {
        let hashes = self.passwords.iter().map(|hash| format!("#{hash}"));
        let mut words: Vec<String> = self.flags().into_iter().map(String::from).chain(hashes).collect();
        let channels = self.channel_rules();
        words.push(self.key_rules());
        words.push(if channels.is_empty() { "resetchannels".into() } else { channels });
        words.push(self.command_rules());
        words.retain(|word| !word.is_empty());
        words.join(" ")
    }
}

fn patterns(patterns: &[Vec<u8>], sign: char) -> String {
    let words: Vec<String> =
        patterns.iter().map(|pattern| format!("{sign}{}", String::from_utf8_lossy(pattern))).collect();
    words.join(" ")
}

fn hash_text(hash: &[u8]) -> Option<String> {
    let valid = hash.len() == 64 && hash.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| String::from_utf8_lossy(hash).into_owned())
}

fn known_command(name: &[u8]) -> bool {
    let container = name.split(|b| *b == b'|').next().unwrap_or(name);
    super::table::lookup(container).is_some()
}

fn bad_rule(rule: &[u8]) -> Fault {
    let rule = String::from_utf8_lossy(rule);
    let why = match rule.as_bytes() {
        [b'+' | b'-', ..] => "Unknown command or category name in ACL",
        _ => "Syntax error",
    };
    Fault::said(format!("ERR Error in ACL SETUSER modifier '{rule}': {why}"))
}
