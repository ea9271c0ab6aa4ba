//! `[backend.NAME]`.

use super::super::address::Address;
use super::super::model::Backend;
use super::super::place::Place;
use super::super::raw::{At, RawBackend};
use super::super::report::Problem;
use super::super::secret::Secret;
use super::super::suggest::brief;
use super::url::BackendUrl;
use super::values::A_DAY;
use super::{Check, url};
use std::time::Duration;
use toml::Spanned;

/// The most network paths to one backend.
const MAX_ADDRESSES: usize = 8;
/// The most labels of one backend.
const MAX_LABELS: usize = 64;

impl Check<'_> {
    pub(super) fn backend(&mut self, name: Spanned<String>, raw: RawBackend) -> Backend {
        let (name, head) = self.name("backend", name);
        let path = format!("backend.{name}");
        // Port 0 clashes with nothing, so a backend without a usable address causes no further complaint.
        let default = Backend::new(name, Address::new("", 0));
        let url_text = self.required(&path, "url", head, raw.url);
        let at = url_text.as_ref().map_or(head, |text| text.place);
        let url = url_text.and_then(|text| self.url(&text));
        let mut backend = Backend { at, ..default };
        if let Some(url) = &url {
            backend.kind = url.kind;
            backend.addresses = vec![url.address.clone()];
        }
        // Only where the URL is known: whether it asks for TLS is in it.
        if let Some(secure) = url.as_ref().map(|url| url.secure) {
            backend.tls = self.backend_tls(&path, secure, at, raw.tls);
        }
        self.more_addresses(&mut backend, raw.addresses.unwrap_or_default());
        let own_password = raw.password.map(|p| (p.place, self.secret(&format!("{path}.password"), p)));
        self.login(&mut backend, url, raw.username, own_password);
        let timeout =
            raw.connect_timeout.and_then(|t| self.duration("connect-timeout", &t, MIN_TIMEOUT..=A_DAY));
        backend.connect_timeout = timeout.unwrap_or(backend.connect_timeout);
        let weight = raw.weight.and_then(|weight| self.number("weight", &weight, 0..=1000));
        backend.weight = weight.and_then(|weight| u16::try_from(weight).ok()).unwrap_or(backend.weight);
        backend.zone = raw.zone.and_then(|zone| self.text("zone", zone)).unwrap_or_default();
        backend.rack = raw.rack.and_then(|rack| self.text("rack", rack)).unwrap_or_default();
        backend.labels = raw.labels.unwrap_or_default();
        if backend.labels.len() > MAX_LABELS {
            let message = format!("{} labels; at most {MAX_LABELS} are allowed", backend.labels.len());
            self.add(Problem::error("C019", message).at(head));
        }
        backend
    }

    fn url(&mut self, text: &At<String>) -> Option<BackendUrl> {
        match url::parse(&text.value) {
            Ok(url) => {
                if url.password.is_some() {
                    let problem =
                        Problem::warning("C202", "a password in a URL is seen by all who may read the file");
                    self.add(
                        problem
                            .at(text.place)
                            .help("use password = { env = \"NAME\" } or { file = \"PATH\" }"),
                    );
                }
                Some(url)
            }
            Err(problem) => {
                self.add((*problem).at(text.place));
                None
            }
        }
    }

    fn more_addresses(&mut self, backend: &mut Backend, texts: Vec<At<String>>) {
        if let Some(text) = texts.get(MAX_ADDRESSES) {
            let message = format!("{} addresses; at most {MAX_ADDRESSES} are allowed", texts.len());
            self.add(Problem::error("C019", message).at(text.place));
        }
        for text in texts.into_iter().take(MAX_ADDRESSES) {
            let Some(address) = self.peer_address(&text) else { continue };
            if backend.addresses.contains(&address) {
                let message = format!("backend '{}' names {address} twice", brief(&backend.name));
                self.add(
                    Problem::error("C118", message).at(text.place).help("addresses come after the URL's own"),
                );
            }
            backend.addresses.push(address);
        }
    }

    /// User and password, by their keys or by the URL, but not by both.
    fn login(
        &mut self,
        backend: &mut Backend,
        url: Option<BackendUrl>,
        username: Option<At<String>>,
        password: Option<(Place, Option<Secret>)>,
    ) {
        let (url_user, url_password) = url.map_or((None, None), |url| (url.username, url.password));
        if let (Some(own), Some(_)) = (&username, &url_user) {
            self.twice("username", own.place);
        }
        if let (Some((place, _)), Some(_)) = (&password, &url_password) {
            self.twice("password", *place);
        }
        backend.username = username.and_then(|name| self.text("username", name)).or(url_user);
        backend.password = password.and_then(|(_, secret)| secret).or(url_password);
    }

    fn twice(&mut self, key: &str, place: Place) {
        let message = format!("the {key} is given here and in the URL");
        self.add(Problem::error("C018", message).at(place).help(format!("take the {key} out of the URL")));
    }
}

/// The shortest time that an attempt to connect may have.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);
