//! Second pass: plain types out of raw ones, and sections held against each other.
//!
//! A value that cannot be used is reported and replaced by its default, so that the rest is
//! still checked; the result is handed out only when there was no error.

mod across;
mod backend;
mod expect;
mod group;
mod listen;
mod policy;
mod process;
mod secrets;
mod tls;
mod url;
mod user;
mod values;
mod words;

pub use policy::BUNDLED_POLICIES;

use super::Env;
use super::model::{Config, Expectation, Group};
use super::place::Place;
use super::raw::{At, RawConfig, RawExpect, Sections};
use super::report::{Problem, Report};
use super::suggest::{brief, did_you_mean};
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;

/// The most sections of one kind, and the most expectations.
const MAX_ENTRIES: usize = 1024;
/// The longest name of a section, in characters.
const MAX_NAME: usize = 64;

/// The checked configuration and everything found. It may be used when there is no error.
pub(super) fn check(
    raw: RawConfig,
    dropped: BTreeSet<String>,
    report: Report,
    env: Env<'_>,
) -> (Config, Report) {
    let names = Names::of(&raw, &dropped);
    let mut check = Check { report, dropped, env, names, taken: BTreeMap::new() };
    let config = check.config(raw);
    if !check.report.has_errors() {
        across::warn(&mut check, &config);
    }
    (config, check.report)
}

/// What the checks share.
struct Check<'a> {
    report: Report,
    dropped: BTreeSet<String>,
    env: Env<'a>,
    names: Names,
    /// Backend to the first group that has it.
    taken: BTreeMap<String, String>,
}

/// Every user, backend and group that the file names, even those that are wrong in some way.
#[derive(Debug, Default)]
struct Names {
    users: Vec<String>,
    backends: Vec<String>,
    groups: Vec<String>,
}

impl Names {
    fn of(raw: &RawConfig, dropped: &BTreeSet<String>) -> Self {
        let gone = |prefix: &str| -> Vec<String> {
            {
                let names = dropped.iter().filter_map(|path| path.strip_prefix(prefix));
                names.filter(|name| !name.contains('.')).map(str::to_string).collect()
            }
        };
        let users = raw.user.keys().map(|name| name.get_ref().clone()).chain(gone("user."));
        let backends = raw.backend.keys().map(|name| name.get_ref().clone()).chain(gone("backend."));
        let groups = raw.group.keys().map(|name| name.get_ref().clone()).chain(gone("group."));
        Names { users: users.collect(), backends: backends.collect(), groups: groups.collect() }
    }
}

impl Check<'_> {
    fn config(&mut self, raw: RawConfig) -> Config {
        let nothing = raw.listen.is_empty() && !self.dropped.iter().any(|path| path.starts_with("listen"));
        if nothing {
            let help = "a listener is [listen.NAME] with an address and a group";
            self.add(Problem::error("C119", "nothing to serve: no listener").at(Place::at(0..0)).help(help));
        }
        let users = self.sections("users", raw.user);
        let users = by_name(users.into_iter().map(|(n, r)| self.user(n, r)), |u| &u.name);
        let backends = self.sections("backends", raw.backend);
        let backends = by_name(backends.into_iter().map(|(n, r)| self.backend(n, r)), |b| &b.name);
        let groups = self.sections("groups", raw.group);
        let groups = by_name(groups.into_iter().map(|(n, r)| self.group(n, r, &backends)), |g| &g.name);
        let listeners = self.sections("listeners", raw.listen);
        let config = Config {
            listeners: by_name(listeners.into_iter().map(|(n, r)| self.listener(n, r)), |l| &l.name),
            admin: raw.admin.and_then(|admin| self.admin(admin)),
            state: self.state(raw.state.unwrap_or_default()),
            proxy: self.proxy(raw.proxy.unwrap_or_default()),
            log: self.log(raw.log.unwrap_or_default()),
            expectations: self.expectations(raw.expect, &groups),
            users,
            backends,
            groups,
        };
        across::check(self, &config);
        config
    }

    fn add(&mut self, problem: Problem) {
        self.report.add(problem);
    }

    /// Named sections in file order, so that the second of two that clash is the one reported.
    fn sections<T>(&mut self, what: &str, sections: Sections<T>) -> Vec<(Spanned<String>, T)> {
        let mut sections: Vec<_> = sections.into_iter().collect();
        sections.sort_by_key(|(name, _)| name.span().start);
        if let Some((name, _)) = sections.get(MAX_ENTRIES) {
            self.too_many(what, sections.len(), Place::at(name.span()));
        }
        sections.truncate(MAX_ENTRIES);
        sections
    }

    fn expectations(&mut self, raw: Vec<At<RawExpect>>, groups: &[Group]) -> Vec<Expectation> {
        if let Some(first_over) = raw.get(MAX_ENTRIES) {
            self.too_many("expectations", raw.len(), first_over.place);
        }
        let raw = raw.into_iter().take(MAX_ENTRIES).enumerate();
        raw.filter_map(|(i, expect)| self.expectation(i, expect, groups)).collect()
    }

    fn too_many(&mut self, what: &str, count: usize, place: Place) {
        let message = format!("{count} {what}; at most {MAX_ENTRIES} are allowed");
        self.add(Problem::error("C019", message).at(place));
    }

    /// The name of a section, checked, and its place.
    fn name(&mut self, what: &str, name: Spanned<String>) -> (String, Place) {
        let place = Place::at(name.span());
        let name = name.into_inner();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
            let message = format!("'{}' cannot name a {what}", brief(&name));
            let help = format!("letters, digits, '-', '_' and '.', 1 to {MAX_NAME} of them");
            self.add(Problem::error("C015", message).at(place).help(help));
        }
        (name, place)
    }

    /// Reports a missing key, unless the first pass has already complained about it.
    fn required<T>(&mut self, path: &str, key: &str, place: Place, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.dropped.contains(&format!("{path}.{key}")) {
            let message = format!("{} has no {key}", brief(path));
            self.add(Problem::error("C007", message).at(place).label(format!("{key} is missing")));
        }
        value
    }

    fn backend_exists(&mut self, name: &At<String>) -> bool {
        let known = std::mem::take(&mut self.names.backends);
        let exists = self.dropped.contains("backend") || known.contains(&name.value);
        if !exists {
            self.missing("C105", "backend", name, &known);
        }
        self.names.backends = known;
        exists
    }

    fn user_exists(&mut self, name: &At<String>) -> bool {
        let known = std::mem::take(&mut self.names.users);
        let exists = self.dropped.contains("user") || known.contains(&name.value);
        if !exists {
            self.missing("C123", "user", name, &known);
        }
        self.names.users = known;
        exists
    }

    fn group_exists(&mut self, name: &At<String>) -> bool {
        let known = std::mem::take(&mut self.names.groups);
        let exists = self.dropped.contains("group") || known.contains(&name.value);
        if !exists {
            self.missing("C106", "group", name, &known);
        }
        self.names.groups = known;
        exists
    }

    fn missing(&mut self, code: &'static str, what: &str, name: &At<String>, known: &[String]) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let message = format!("there is no {what} named '{}'", brief(&name.value));
        self.add(Problem::error(code, message).at(name.place).help(did_you_mean(&name.value, &known)));
    }
}

fn by_name<T>(items: impl Iterator<Item = T>, name: impl Fn(&T) -> &String) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_by(|a, b| name(a).cmp(name(b)));
    items
}
