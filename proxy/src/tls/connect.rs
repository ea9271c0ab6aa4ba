//! TLS towards backends. Certificates are read again when their files change, for every new connection.

use super::files::{self, Stamp};
use super::stream::Stream;
use crate::config::{Address, BackendTls};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Connection, Error};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What was made of the files last, and how they looked.
struct Made {
    stamps: Vec<Stamp>,
    config: Arc<ClientConfig>,
}

static MADE: LazyLock<Mutex<HashMap<BackendTls, Made>>> = LazyLock::new(Mutex::default);
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// How often changed files of backends could not be used.
pub fn failures() -> u64 {
    FAILURES.load(Relaxed)
}

/// Does the handshake with a backend. Problems are sentences about "it".
pub async fn secure(socket: TcpStream, tls: &BackendTls, address: &Address) -> Result<Stream, String> {
    let config = config(tls)?;
    let name = tls.server_name.as_ref().unwrap_or(&address.host);
    let server = ServerName::try_from(name.clone())
        .map_err(|_| format!("'{name}' is no name that a certificate has; set server-name"))?;
    let stream = TlsConnector::from(config).connect(server, socket).await;
    let (socket, connection) = stream.map_err(|error| explain(&error, name))?.into_inner();
    Ok(Stream::secured(socket, Connection::Client(connection)))
}

fn config(tls: &BackendTls) -> Result<Arc<ClientConfig>, String> {
    let paths: Vec<&Path> = tls.files().collect();
    // Before they are read: what changes later is seen next time.
    let stamps = files::stamps(&paths);
    let mut made = MADE.lock().map_err(|_| "its certificates cannot be read".to_string())?;
    if let Some(known) = made.get(tls)
        && known.stamps == stamps
    {
        return Ok(known.config.clone());
    }
    match (files::client(tls), made.get_mut(tls)) {
        (Ok(config), _) => {
            let config = Arc::new(config);
            made.insert(tls.clone(), Made { stamps, config: config.clone() });
            Ok(config)
        }
        (Err(error), None) => Err(error.to_string()),
        (Err(error), Some(known)) => {
            FAILURES.fetch_add(1, Relaxed);
            tracing::error!("new TLS files for a backend are not used, the old ones are: {error}");
            known.stamps = stamps;
            Ok(known.config.clone())
        }
    }
}

/// Why a handshake failed, for an operator.
fn explain(error: &std::io::Error, name: &str) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let certificate = match inner {
        Some(Error::InvalidCertificate(certificate)) => certificate,
        Some(Error::InvalidMessage(_)) => {
            return "it does not speak TLS at this port: use redis://, or its TLS port".into();
        }
        _ => return format!("the TLS handshake failed: {error}"),
    };
    match certificate {
        CertificateError::UnknownIssuer => {
            "its certificate is not signed by a CA that is trusted: see ca in the backend's tls".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not for '{name}': set server-name to a name that it has")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".into()
        }
        other => format!("its certificate cannot be trusted: {other}"),
    }
}
