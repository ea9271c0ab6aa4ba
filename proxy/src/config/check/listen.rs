//! `[listen.NAME]`.

use super::super::address::Address;
use super::super::model::Listener;
use super::super::raw::RawListen;
use super::super::report::Problem;
use super::Check;
use super::values::A_DAY;
use std::time::Duration;
use toml::Spanned;

/// Bounds of the limits of one client, in bytes.
const REQUEST_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=16 << 30;

impl Check<'_> {
    pub(super) fn listener(&mut self, name: Spanned<String>, raw: RawListen) -> Listener {
        let (name, head) = self.name("listener", name);
        let path = format!("listen.{name}");
        let address = self.required(&path, "address", head, raw.address);
        let at = address.as_ref().map_or(head, |text| text.place);
        let address = address.and_then(|text| self.bind_address(&text)).unwrap_or(Address::new("", 0));
        let group = self.required(&path, "group", head, raw.group);
        let group =
            group.inspect(|group| _ = self.group_exists(group)).map_or(String::new(), |group| group.value);
        let default = Listener::new(name, address, group);

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
}
