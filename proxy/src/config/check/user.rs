//! `[user.NAME]`, and what listeners say about users.

use super::super::model::{Rate, User};
use super::super::place::Place;
use super::super::raw::{At, RawPassword, RawPasswords, RawUser};
use super::super::report::Problem;
use super::super::secret::{Digest, Secret};
use super::super::suggest::{brief, nearest};
use super::Check;
use quorate_wire::access::{RuleError, Rules};
use quorate_wire::command;
use quorate_wire::command::access::CATEGORIES;
use toml::Spanned;

/// The most bytes of one user's rules.
const MAX_RULES: usize = 64 << 10;
/// The most passwords of one user.
const MAX_PASSWORDS: usize = 16;
/// Bounds of rates and bursts.
const REQUESTS: std::ops::RangeInclusive<i64> = 1..=10_000_000;

impl Check<'_> {
    pub(super) fn user(&mut self, name: Spanned<String>, raw: RawUser) -> User {
        let (name, at) = self.name("user", name);
        let path = format!("user.{name}");
        let given = raw.password.is_some() || self.dropped.iter().any(|key| key.starts_with(&path));
        let passwords = raw.password.map(|passwords| self.passwords(&path, passwords)).unwrap_or_default();
        let rate = self.rate(raw.requests_per_second.as_ref(), raw.requests_burst.as_ref());
        let text = self.required(&path, "rules", at, raw.rules);
        let place = text.as_ref().map_or(at, |text| text.place);
        let rules = text.and_then(|text| self.rules(&text));
        if let Some(rules) = &rules {
            self.doubt(&name, rules, given, place);
        }
        User { passwords, rate, at, ..User::new(name, rules.unwrap_or_else(Rules::everything)) }
    }

    /// What is probably not meant.
    fn doubt(&mut self, name: &str, rules: &Rules, has_password: bool, place: Place) {
        if !has_password && rules.is_enabled() && !rules.is_open() {
            let problem =
                Problem::warning("C210", format!("user '{}' cannot log in: it has no password", brief(name)));
            self.add(problem.at(place).help("give it one, or write nopass among its rules"));
        }
        if rules.may_escape() {
            let message =
                format!("user '{}' may run scripts, which its other rules do not bind", brief(name));
            let help = "deny them with -@scripting, unless its scripts are all trusted";
            self.add(Problem::warning("C212", message).at(place).help(help));
        }
    }

    fn passwords(&mut self, path: &str, passwords: At<RawPasswords>) -> Vec<Digest> {
        let place = passwords.place;
        let path = format!("{path}.password");
        let of = |secret: Secret| Digest::of(secret.expose().as_bytes());
        let items = match passwords.value {
            RawPasswords::One(secret) => {
                return self.secret(&path, At { value: secret, place }).map(of).into_iter().collect();
            }
            RawPasswords::Several(items) => items,
        };
        if items.len() > MAX_PASSWORDS {
            let message = format!("{} passwords; at most {MAX_PASSWORDS} are allowed", items.len());
            self.add(Problem::error("C019", message).at(place));
        }
        let digests = items.into_iter().take(MAX_PASSWORDS).enumerate();
        digests
            .filter_map(|(i, item)| match item.value {
                RawPassword::Secret(value) => {
                    self.secret(&format!("{path}[{i}]"), At { value, place: item.place }).map(of)
                }
                RawPassword::Digest(text) => self.password_digest(&path, &text, item.place),
            })
            .collect()
    }

    fn password_digest(&mut self, path: &str, text: &str, place: Place) -> Option<Digest> {
        let digest = text.strip_prefix('#').and_then(Digest::from_hex);
        if digest.is_none() {
            let problem = match text.starts_with('#') {
                true => Problem::error(
                    "C021",
                    format!("a digest of {} is not 64 hexadecimal digits in lower case", brief(path)),
                ),
                false => Problem::error("C017", format!("{} is in plain text", brief(path))),
            };
            self.add(problem.at(place).help(
                "write { env = \"NAME\" } or { file = \"PATH\" }, or \"#\" and the password's SHA-256 digest",
            ));
        }
        digest
    }

    fn rules(&mut self, text: &At<String>) -> Option<Rules> {
        if text.value.len() > MAX_RULES {
            self.add(Problem::error("C019", "these rules are longer than 64 KiB").at(text.place));
            return None;
        }
        match Rules::parse(&text.value) {
            Ok(rules) => Some(rules),
            Err(errors) => {
                errors.iter().for_each(|error| self.wrong_rule(text, error));
                None
            }
        }
    }

    fn wrong_rule(&mut self, text: &At<String>, error: &RuleError) {
        let code = if error.secret { "C017" } else { "C024" };
        let problem = Problem::error(code, error.message.clone()).at(self.place_in(text, error));
        let help = error.help.map(str::to_string).or_else(|| suggestion(error.unknown.as_deref()?));
        self.add(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }

    /// Where the rule stands in the file. Text with escapes is not taken apart.
    fn place_in(&self, text: &At<String>, error: &RuleError) -> Place {
        let Some(span) = text.place.span() else { return text.place };
        let source = self.report.sources().text().get(span.clone()).unwrap_or_default();
        match source.find(&text.value) {
            Some(begin) => Place::at(span.start + begin + error.at.start..span.start + begin + error.at.end),
            None => text.place,
        }
    }

    /// The users of a listener, each once.
    pub(super) fn admitted(&mut self, path: &str, users: At<Vec<At<String>>>) -> Vec<String> {
        if users.value.is_empty() {
            let message = format!("{} lets nobody in", brief(path));
            self.add(Problem::error("C007", message).at(users.place).label("a user is missing"));
        }
        let mut names: Vec<String> = Vec::new();
        for name in users.value {
            if self.user_exists(&name) && !names.contains(&name.value) {
                names.push(name.value);
            }
        }
        names
    }

    /// How fast requests may come.
    pub(super) fn rate(&mut self, rate: Option<&At<i64>>, burst: Option<&At<i64>>) -> Option<Rate> {
        let number = |check: &mut Self, key, number: &At<i64>| {
            check.number(key, number, REQUESTS).and_then(|number| u32::try_from(number).ok())
        };
        let requests_burst = burst.and_then(|burst| number(self, "requests-burst", burst));
        let Some(rate) = rate else {
            if let Some(burst) = burst {
                let problem =
                    Problem::error("C124", "requests-burst says nothing without requests-per-second");
                self.add(problem.at(burst.place));
            }
            return None;
        };
        let requests_per_second = number(self, "requests-per-second", rate)?;
        Some(Rate { requests_per_second, requests_burst: requests_burst.unwrap_or(requests_per_second) })
    }
}

/// The command or category that was probably meant.
fn suggestion(unknown: &str) -> Option<String> {
    match unknown.strip_prefix('@') {
        Some(category) => {
            let meant = nearest(category, CATEGORIES)?;
            Some(format!("did you mean '@{meant}'?"))
        }
        None => {
            let meant = nearest(unknown, command::all().iter().map(|command| command.name))?;
            Some(format!("did you mean '{meant}'?"))
        }
    }
}
