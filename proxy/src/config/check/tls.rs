//! `tls` of listeners and backends. The files are read, so that what is wrong with one is told of its line.

use super::super::model::{BackendTls, ClientCertificates, ListenTls};
use super::super::place::Place;
use super::super::raw::{At, RawBackendTls, RawListenTls};
use super::super::report::Problem;
use super::super::suggest::brief;
use super::Check;
use crate::tls::Part;
use crate::tls::files::{self, Unusable};
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A certificate that ends sooner than this is worth a word, in seconds.
const SOON: i64 = 7 * 86_400;

/// Where the files of a `tls` table are named.
#[derive(Debug, Clone, Copy)]
struct Places {
    certificate: Place,
    key: Place,
    authority: Place,
}

impl Check<'_> {
    pub(super) fn listen_tls(&mut self, path: &str, tls: At<RawListenTls>) -> Option<ListenTls> {
        let At { value: raw, place } = tls;
        let path = format!("{path}.tls");
        let certificate = self.required(&path, "certificate", place, raw.certificate);
        let key = self.required(&path, "key", place, raw.key);
        let words = raw.client_certificates;
        if let (Some(words), None) = (&words, &raw.client_ca) {
            let problem =
                Problem::error("C122", "client-certificates asks for certificates that no CA is given for");
            self.add(problem.at(words.place).help("name the CA with client-ca"));
        }
        let (certificate, key) = (certificate?, key?);
        let authority = raw.client_ca.as_ref().map_or(place, |file| file.place);
        let places = Places { certificate: certificate.place, key: key.place, authority };
        let tls = ListenTls {
            certificate: self.beside(&certificate),
            key: self.beside(&key),
            client_ca: raw.client_ca.map(|file| self.beside(&file)),
            client_certificates: words
                .and_then(|word| self.word("client-certificates", &word))
                .unwrap_or(ClientCertificates::Required),
        };
        match files::server(&tls) {
            Ok(_) => self.warn_expiry(&tls.certificate, places.certificate),
            Err(error) => self.unusable(&error, places),
        }
        Some(tls)
    }

    /// The settings of a backend, whose URL stands at `url` and asks for TLS where it is `secure`.
    pub(super) fn backend_tls(
        &mut self,
        path: &str,
        secure: bool,
        url: Place,
        tls: Option<At<RawBackendTls>>,
    ) -> Option<BackendTls> {
        if !secure {
            if let Some(tls) = tls {
                let problem = Problem::error(
                    "C121",
                    format!("{} is given, but the URL is plain", brief(&format!("{path}.tls"))),
                );
                self.add(problem.at(tls.place).help("write the URL as rediss://host:port"));
            }
            return None;
        }
        let (raw, place) = tls.map_or((RawBackendTls::default(), url), |tls| (tls.value, tls.place));
        if let Some(lonely) = match (&raw.certificate, &raw.key) {
            (Some(certificate), None) => Some(("key", certificate.place)),
            (None, Some(key)) => Some(("certificate", key.place)),
            _ => None,
        } {
            let problem =
                Problem::error("C122", "a certificate and its key are given together or not at all");
            self.add(problem.at(lonely.1).label(format!("{} is missing", lonely.0)));
            return None;
        }
        let at = |file: &Option<At<String>>| file.as_ref().map_or(place, |file| file.place);
        let places = Places { certificate: at(&raw.certificate), key: at(&raw.key), authority: at(&raw.ca) };
        let tls = BackendTls {
            ca: raw.ca.map(|file| self.beside(&file)),
            server_name: raw.server_name.and_then(|name| self.server_name(name)),
            certificate: raw.certificate.map(|file| self.beside(&file)),
            key: raw.key.map(|file| self.beside(&file)),
        };
        match files::client(&tls) {
            Ok(_) => {
                let own = tls.certificate.iter().map(|file| (file, places.certificate));
                let ca = tls.ca.iter().map(|file| (file, places.authority));
                own.chain(ca).for_each(|(file, place)| self.warn_expiry(file, place));
            }
            Err(error) => self.unusable(&error, places),
        }
        Some(tls)
    }

    fn server_name(&mut self, name: At<String>) -> Option<String> {
        if ServerName::try_from(name.value.as_str()).is_ok() {
            return Some(name.value);
        }
        let message = format!("'{}' is no name that a certificate has", brief(&name.value));
        self.add(
            Problem::error("C013", message).at(name.place).help("a host's name or number, without a port"),
        );
        None
    }

    /// A file beside the configuration.
    fn beside(&self, file: &At<String>) -> PathBuf {
        self.report.sources().base_dir().join(&file.value)
    }

    fn unusable(&mut self, error: &Unusable, places: Places) {
        let (what, place) = match error.part {
            Part::Certificate => ("certificate", places.certificate),
            Part::Key => ("key", places.key),
            Part::Authority => ("CA", places.authority),
        };
        let message = format!("the {what} cannot be used: {}", error.why);
        self.add(Problem::error("C023", message).at(place));
    }

    fn warn_expiry(&mut self, file: &Path, place: Place) {
        let chain = files::certificates(file).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let Some(end) = chain.iter().filter_map(|certificate| files::expiry(certificate)).min() else {
            return;
        };
        let message = match end - now {
            left if left <= 0 => "the certificate has expired".to_string(),
            left if left < SOON => format!("the certificate expires in {} hours", left / 3600),
            _ => return,
        };
        self.add(
            Problem::warning("C209", message)
                .at(place)
                .help("a new one in its place is used without a restart"),
        );
    }
}
