//! Certificates and keys, from PEM files. No message repeats what is in a key's file.

use crate::config::{BackendTls, ClientCertificates, ListenTls};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, ServerConfig};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The largest file that is read, in bytes: a bundle of all public authorities is far smaller.
const MAX_FILE: u64 = 4 << 20;

/// Which file of a `tls` table something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `certificate`.
    Certificate,
    /// `key`.
    Key,
    /// `client-ca` or `ca`.
    Authority,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Certificate => "certificate",
            Part::Key => "key",
            Part::Authority => "CA",
        }
    }
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {} in {} cannot be used: {why}", part.name(), path.display())]
pub struct Unusable {
    /// Which.
    pub part: Part,
    /// The file; empty for the system's own authorities.
    pub path: PathBuf,
    /// What is wrong, as a sentence about "it".
    pub why: String,
}

impl Unusable {
    fn new(part: Part, path: &Path, why: impl Into<String>) -> Self {
        Unusable { part, path: path.to_path_buf(), why: why.into() }
    }
}

/// What a listener answers a handshake with.
pub fn server(tls: &ListenTls) -> Result<ServerConfig, Unusable> {
    let provider = provider();
    let (chain, key) = identity(&tls.certificate, &tls.key)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Unusable::new(Part::Certificate, &tls.certificate, error.to_string()))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let verifier = match tls.client_certificates {
                ClientCertificates::Required => verifier,
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
            };
            let failed = |error: rustls::client::VerifierBuilderError| {
                Unusable::new(Part::Authority, path, error.to_string())
            };
            builder.with_client_cert_verifier(verifier.build().map_err(failed)?)
        }
    };
    builder.with_single_cert(chain, key).map_err(|error| mismatch(&tls.certificate, &tls.key, &error))
}

/// What a backend is called with.
pub fn client(tls: &BackendTls) -> Result<ClientConfig, Unusable> {
    let provider = provider();
    let nowhere = PathBuf::new();
    let path = tls.ca.as_ref().unwrap_or(&nowhere);
    let failed = |why: String| Unusable::new(Part::Authority, path, why);
    let roots = match &tls.ca {
        Some(path) => authorities(path)?,
        None => system_authorities()?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier = verifier.map_err(|error| failed(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_webpki_verifier(verifier);
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key_path)) => {
            let (chain, key) = identity(certificate, key_path)?;
            let built = builder.with_client_auth_cert(chain, key);
            built.map_err(|error| mismatch(certificate, key_path, &error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn identity(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Unusable> {
    let chain =
        certificates(certificate).map_err(|why| Unusable::new(Part::Certificate, certificate, why))?;
    let key = private_key(key).map_err(|why| Unusable::new(Part::Key, key, why))?;
    Ok((chain, key))
}

fn mismatch(certificate: &Path, key: &Path, error: &Error) -> Unusable {
    match error {
        Error::InconsistentKeys(_) => {
            let why = format!("it does not belong to the certificate in {}", certificate.display());
            Unusable::new(Part::Key, key, why)
        }
        Error::InvalidCertificate(CertificateError::BadEncoding) => {
            Unusable::new(Part::Certificate, certificate, "it is no X.509 certificate")
        }
        Error::InvalidCertificate(_) => Unusable::new(Part::Certificate, certificate, error.to_string()),
        _ => Unusable::new(Part::Key, key, "it is no private key of a kind that is known here"),
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, Unusable> {
    let failed = |why: String| Unusable::new(Part::Authority, path, why);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path).map_err(failed)? {
        roots.add(certificate).map_err(|error| failed(format!("a certificate in it is none: {error}")))?;
    }
    Ok(roots)
}

fn system_authorities() -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    // One that the system has and this library cannot read takes nothing from the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => {
            Err(Unusable::new(Part::Authority, Path::new(""), "the system has none; name a file with ca"))
        }
        false => Ok(roots),
    }
}

/// The certificates of a file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("it holds no certificate in PEM".into()),
        Err(_) => Err("it is not PEM".into()),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let encrypted = bytes.windows(9).any(|word| word == b"ENCRYPTED");
        match error {
            _ if encrypted => "it needs a passphrase; 'openssl pkey' writes it without one".to_string(),
            PemError::NoItemsFound => "it holds no private key in PEM".into(),
            _ => "it is not PEM".into(),
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let reason = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_string(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        kind => kind.to_string(),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(reason)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(reason)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err("it is larger than 4 MiB".into());
    }
    Ok(bytes)
}

/// What tells whether a file was changed: when its bytes and when its owner or rights, how long, which.
pub type Stamp = Option<(SystemTime, (i64, i64), u64, u64)>;

/// The stamps of files; `None` for one that is not there.
pub fn stamps(paths: &[&Path]) -> Vec<Stamp> {
    let stamp = |path: &&Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, (found.ctime(), found.ctime_nsec()), found.len(), found.ino()))
    };
    paths.iter().map(stamp).collect()
}

/// Unix time in seconds from which on a certificate is not valid any more; `None` if it cannot be told.
pub fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (whole, _) = Der::new(certificate).take(0x30)?;
    let (mut body, _) = whole.take(0x30)?;
    // The version may be left out.
    if let Some((_, rest)) = body.take(0xa0) {
        body = rest;
    }
    // Serial number, algorithm and issuer come first.
    for tag in [0x02, 0x30, 0x30] {
        body = body.take(tag)?.1;
    }
    let (validity, _) = body.take(0x30)?;
    let (_, end) = validity.any()?;
    let (tag, text, _) = end.element()?;
    let text = std::str::from_utf8(text).ok()?;
    match tag {
        0x17 => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            unix(year + if year < 50 { 2000 } else { 1900 }, text.get(2..)?)
        }
        0x18 => unix(text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => None,
    }
}

/// From `MMDDHHMMSSZ` of a year.
fn unix(year: i64, rest: &str) -> Option<i64> {
    let number = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day) = (number(0)?, number(2)?);
    // Days since 1970, with a year that begins in March.
    let (year, shifted) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (shifted * 153 + 2) / 5
        + day
        - 1
        - 719_468;
    Some(((days * 24 + number(4)?) * 60 + number(6)?) * 60 + number(8)?)
}

/// Elements of DER, one after another.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Der(bytes)
    }

    /// Tag and content of the next element, and what follows.
    fn element(self) -> Option<(u8, &'a [u8], Der<'a>)> {
        let (tag, first, rest) = (*self.0.first()?, *self.0.get(1)?, self.0.get(2..)?);
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        Some((tag, content, Der(rest)))
    }

    /// The inside of the next element, if it has this tag, and what follows.
    fn take(self, tag: u8) -> Option<(Der<'a>, Der<'a>)> {
        let (found, content, rest) = self.element()?;
        (found == tag).then_some((Der(content), rest))
    }

    /// The inside of the next element, whatever it is, and what follows.
    fn any(self) -> Option<(Der<'a>, Der<'a>)> {
        let (_, content, rest) = self.element()?;
        Some((Der(content), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, month, day, expected) in
            [(2031, 2, 28, 1_930_003_200), (2049, 12, 31, 2_524_521_600), (2050, 3, 1, 2_529_705_600)]
        {
            let mut made = rcgen::CertificateParams::new(vec!["h".to_string()]).expect("a name");
            made.not_after = rcgen::date_time_ymd(year, month, day);
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = made.self_signed(&key).expect("a certificate");
            assert_eq!(expiry(certificate.der()), Some(expected), "{year}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for bytes in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\0\0", b"hello"] {
            assert_eq!(expiry(&CertificateDer::from(bytes)), None);
        }
    }
}
