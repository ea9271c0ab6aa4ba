//! One user as it is now. It never changes: a change makes another one, that takes its place in the table.

use super::rate::Bucket;
use crate::config::{Digest, Listener, Secret, User};
use quorate_wire::access::Rules;
use std::borrow::Cow;
use std::sync::Arc;

/// The name of the user that a client is before it logs in.
pub const DEFAULT: &str = "default";

/// What all of a user may take when it is written down, in bytes, and what one command that changes it may.
pub const MOST_BYTES: usize = 64 << 10;

/// A password that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Password {
    digest: Digest,
    /// It came from a client. Of one in the configuration not even the digest is shown: it has no salt.
    shown: bool,
}

/// Who says what a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A section `[user.NAME]`.
    Section,
    /// A listener that names no users.
    Listener,
    /// A client.
    Client,
}

/// See the module's head.
#[derive(Debug)]
pub struct Account {
    /// Its name, for those who keep it.
    pub name: Arc<str>,
    /// What it may do.
    pub rules: Rules,
    /// Is there anything that it is not allowed?
    pub restricted: bool,
    /// What its clients together may send.
    pub bucket: Option<Arc<Bucket>>,
    passwords: Vec<Password>,
    origin: Origin,
}

impl Account {
    /// As configured.
    pub fn configured(user: &User) -> Account {
        let passwords = user.passwords.iter().map(|digest| Password { digest: *digest, shown: false });
        Account {
            bucket: user.rate.map(|rate| Arc::new(Bucket::new(rate))),
            passwords: passwords.collect(),
            origin: Origin::Section,
            ..Account::new(&user.name, user.rules.clone())
        }
    }

    /// The only user of a listener that names none: it may do everything.
    pub fn alone(listener: &Listener) -> Account {
        let rules = match listener.password {
            None => Rules::everything(),
            Some(_) => {
                Rules::parse("allcommands allkeys allchannels").unwrap_or_else(|_| Rules::everything())
            }
        };
        let digest = |password: &Secret| Digest::of(password.expose().as_bytes());
        let passwords = listener.password.iter().map(digest).collect();
        let user = User { passwords, ..User::new(DEFAULT, rules) };
        Account { origin: Origin::Listener, ..Account::configured(&user) }
    }

    /// One that a client makes: it may do nothing, and cannot log in.
    pub fn made(name: &str) -> Account {
        Account::new(name, Rules::new())
    }

    fn new(name: &str, rules: Rules) -> Account {
        Account {
            name: name.into(),
            restricted: !rules.is_unrestricted(),
            rules,
            bucket: None,
            passwords: Vec::new(),
            origin: Origin::Client,
        }
    }

    /// The same user after these rules of `ACL SETUSER`, all or none of them. The error is for the client.
    pub fn changed(&self, rules: &[Vec<u8>]) -> Result<Account, String> {
        let mut next = Account {
            name: self.name.clone(),
            bucket: self.bucket.clone(),
            passwords: self.passwords.clone(),
            ..Account::new(&self.name, self.rules.clone())
        };
        for rule in rules {
            next.change(rule).map_err(|why| {
                let rule = String::from_utf8_lossy(&rule[..rule.len().min(1024)]).into_owned();
                format!("ERR Error in ACL SETUSER modifier '{rule}': {why}")
            })?;
        }
        next.rules.settle();
        next.restricted = !next.rules.is_unrestricted();
        if next.rules.text().len() + 66 * next.passwords.len() > MOST_BYTES {
            return Err("ERR a user's rules and passwords may be 64 KiB long at most".into());
        }
        Ok(next)
    }

    fn change(&mut self, rule: &[u8]) -> Result<(), Cow<'static, str>> {
        match rule {
            [b'>', password @ ..] => self.admit(Digest::of(password)),
            [b'#', hex @ ..] => self.admit(digest(hex)?),
            [b'<', password @ ..] => self.forget(Digest::of(password))?,
            [b'!', hex @ ..] => self.forget(digest(hex)?)?,
            _ => {
                let rule = std::str::from_utf8(rule).map_err(|_| "the proxy takes rules in UTF-8 only")?;
                self.rules.change(rule).map_err(|unfit| unfit.0)?;
                if ["nopass", "resetpass", "reset"].iter().any(|word| rule.eq_ignore_ascii_case(word)) {
                    self.passwords.clear();
                }
            }
        }
        Ok(())
    }

    fn admit(&mut self, digest: Digest) {
        match self.passwords.iter_mut().find(|password| password.digest == digest) {
            Some(known) => known.shown = true,
            None => self.passwords.push(Password { digest, shown: true }),
        }
        self.rules.close();
    }

    fn forget(&mut self, digest: Digest) -> Result<(), &'static str> {
        let at = self.passwords.iter().position(|password| password.digest == digest);
        let at = at.ok_or("The password you are trying to remove from the user does not exist")?;
        self.passwords.remove(at);
        Ok(())
    }

    /// Is it let in with this? A user without a password is let in with any. The time it takes does not tell how
    /// much of a guess is right.
    pub fn admits(&self, guess: &Digest) -> bool {
        let is_right = |right, password: &Password| password.digest.equals(guess) | right;
        let right = self.passwords.iter().fold(false, is_right);
        self.rules.is_enabled() && (right || self.rules.is_open())
    }

    /// The digests that may be shown, in hexadecimal digits.
    pub fn digests(&self) -> Vec<String> {
        self.passwords
            .iter()
            .filter(|password| password.shown)
            .map(|password| password.digest.hex())
            .collect()
    }

    /// As `ACL LIST` has it.
    pub fn line(&self) -> String {
        let passwords: Vec<String> = self.digests().iter().map(|digest| format!("#{digest}")).collect();
        format!("user {} {}", self.name, self.rules.line_with(&passwords))
    }

    /// Is it, all in all, what the other one is? Then its clients need not notice that the table is new.
    pub fn is_like(&self, other: &Account) -> bool {
        let rate = |account: &Account| account.bucket.as_ref().map(|bucket| bucket.rate());
        (self.origin, &self.name) == (other.origin, &other.name)
            && self.rules == other.rules
            && self.passwords == other.passwords
            && rate(self) == rate(other)
    }
}

fn digest(hex: &[u8]) -> Result<Digest, &'static str> {
    let digest = std::str::from_utf8(hex).ok().and_then(Digest::from_hex);
    digest.ok_or(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(account: &Account, rules: &[&str]) -> Result<Account, String> {
        account.changed(&rules.iter().map(|rule| rule.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn passwords_come_and_go() {
        let ann = changed(&Account::made("ann"), &["on", ">one", ">two", ">one"]).expect("rules");
        assert!(ann.admits(&Digest::of(b"one")) && ann.admits(&Digest::of(b"two")));
        assert!(!ann.admits(&Digest::of(b"three")) && ann.digests().len() == 2);
        let ann = changed(&ann, &["<one"]).expect("rules");
        assert!(!ann.admits(&Digest::of(b"one")) && ann.admits(&Digest::of(b"two")));
        assert!(changed(&ann, &["<one"]).is_err_and(|error| error.contains("does not exist")));
        let open = changed(&ann, &["nopass"]).expect("rules");
        assert!(open.admits(&Digest::of(b"any")) && open.digests().is_empty());
        let shut = changed(&open, &[">new"]).expect("rules");
        assert!(!shut.admits(&Digest::of(b"any")) && shut.admits(&Digest::of(b"new")));
        assert!(!changed(&shut, &["off"]).expect("rules").admits(&Digest::of(b"new")));
    }

    #[test]
    fn a_configured_password_is_not_shown() {
        let passwords = vec![Digest::of(b"one")];
        let user = User { passwords, ..User::new("ann", Rules::everything()) };
        let ann = changed(&Account::configured(&user), &[">two"]).expect("rules");
        assert!(ann.admits(&Digest::of(b"one")) && ann.admits(&Digest::of(b"two")));
        assert_eq!(ann.digests(), [Digest::of(b"two").hex()]);
    }

    #[test]
    fn a_user_is_bounded() {
        let long: Vec<Vec<u8>> = (0..9000).map(|n| format!("~key{n}").into_bytes()).collect();
        assert!(Account::made("ann").changed(&long).is_err_and(|error| error.contains("64 KiB")));
        let many: Vec<Vec<u8>> = (0..1000).map(|n| format!(">{n}").into_bytes()).collect();
        assert!(Account::made("ann").changed(&many).is_err_and(|error| error.contains("64 KiB")));
    }
}
