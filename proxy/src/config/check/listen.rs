//! `[listen.NAME]`.

use super::super::address::Address;
use super::super::model::Listener;
use super::super::place::Place;
use super::super::raw::At;
use super::super::raw::RawListen;
use super::super::report::Problem;
use super::super::suggest::brief;
use super::Check;
use super::values::A_DAY;
use std::time::Duration;
use toml::Spanned;

/// The most groups of one listener.
const MOST_GROUPS: usize = 256;
/// Bounds of the limits of one client, in bytes.
const REQUEST_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=16 << 30;

impl Check<'_> {
    pub(super) fn listener(&mut self, name: Spanned<String>, raw: RawListen) -> Listener {
        let (name, head) = self.name("listener", name);
        let path = format!("listen.{name}");
        let address = self.required(&path, "address", head, raw.address);
        let at = address.as_ref().map_or(head, |text| text.place);
        let address = address.and_then(|text| self.bind_address(&text)).unwrap_or(Address::new("", 0));
        let groups = self.groups_of(&path, head, raw.group, raw.groups);
        let default = Listener::new(name, address, "");

        let max_clients =
            raw.max_clients.and_then(|number| self.number("max-clients", &number, 1..=1_000_000));
        let command_place = raw.max_command.as_ref().or(raw.max_request.as_ref()).map(|size| size.place);
        let max_request = raw.max_request.and_then(|size| self.size("max-request", &size, REQUEST_BYTES));
        let max_command = raw.max_command.and_then(|size| self.size("max-command", &size, REQUEST_BYTES));
        let output_limit = raw.output_limit.and_then(|size| self.size("output-limit", &size, REQUEST_BYTES));
        let idle_timeout =
            raw.idle_timeout.and_then(|t| self.duration("idle-timeout", &t, Duration::ZERO..=A_DAY));
        let rate = self.rate(raw.requests_per_second.as_ref(), raw.requests_burst.as_ref());
        if let (Some(users), Some(_)) = (&raw.users, &raw.password) {
            let message = format!("{path} lets users in, and has a password of its own");
            let help = "give the user 'default' that password";
            self.add(Problem::error("C018", message).at(users.place).help(help));
        }
        let listener = Listener {
            split_mset: raw.split_mset.map(|choice| self.needs_groups(&groups, choice)).unwrap_or_default(),
            groups,
            users: raw.users.map(|users| self.admitted(&path, users)),
            rate,
            tls: raw.tls.and_then(|tls| self.listen_tls(&path, tls)),
            password: raw.password.and_then(|secret| self.secret(&format!("{path}.password"), secret)),
            cluster: raw.cluster.and_then(|text| self.peer_address(&text)),
            max_clients: max_clients.and_then(|n| u32::try_from(n).ok()).unwrap_or(default.max_clients),
            max_request: max_request.unwrap_or(default.max_request),
            max_command: max_command.unwrap_or(default.max_command),
            output_limit: output_limit.unwrap_or(default.output_limit),
            idle_timeout: idle_timeout.unwrap_or(default.idle_timeout),
            at,
            ..default
        };
        if listener.max_request > listener.max_command {
            let message = "max-request, one argument, is larger than max-command, the whole command";
            self.add(Problem::error("C115", message).at(command_place.unwrap_or(head)));
        }
        listener
    }

    /// `group`, or `groups`.
    fn groups_of(
        &mut self,
        path: &str,
        head: Place,
        one: Option<At<String>>,
        several: Option<At<Vec<At<String>>>>,
    ) -> Vec<String> {
        let Some(several) = several.filter(|_| !self.dropped.contains(&format!("{path}.groups"))) else {
            let group = self.required(path, "group", head, one);
            return group
                .inspect(|group| _ = self.group_exists(group))
                .map(|group| group.value)
                .into_iter()
                .collect();
        };
        if let Some(one) = one {
            let problem = Problem::error("C125", "a listener has both group and groups");
            self.add(problem.at(one.place).help("keep one of them: group for one group, groups for several"));
        }
        if several.value.is_empty() || several.value.len() > MOST_GROUPS {
            let message = format!("a listener has between 1 and {MOST_GROUPS} groups");
            self.add(Problem::error("C126", message).at(several.place));
        }
        let mut groups: Vec<String> = Vec::new();
        for group in several.value {
            if groups.contains(&group.value) {
                let message = format!("group '{}' is named twice", brief(&group.value));
                let help = "each group has one run of slots; take one of them out";
                self.add(Problem::error("C126", message).at(group.place).help(help));
            } else if self.group_exists(&group) {
                groups.push(group.value);
            }
        }
        groups
    }

    fn needs_groups(&mut self, groups: &[String], choice: At<bool>) -> bool {
        if choice.value && groups.len() == 1 {
            let problem = Problem::error("C126", "split-mset is for listeners with several groups");
            self.add(problem.at(choice.place).help("with one group MSET is whole; take split-mset out"));
        }
        choice.value
    }
}
