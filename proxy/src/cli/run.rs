//! `quorate run`: serve until told to stop.

use super::{Exit, default_config, load, runtime};
use crate::config::Config;
use crate::listen::access::users::Users;
use crate::listen::groups::record::RecordError;
use crate::proxy::{Proxy, StartError};
use crate::telemetry::Metrics;
use crate::{admin, telemetry};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Serve clients until SIGTERM or Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value_os_t = default_config())]
    config: PathBuf,
}

pub(super) fn main(args: Args) -> Exit {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    telemetry::start_logging(&loaded.config.log);
    match runtime() {
        Ok(runtime) => runtime.block_on(serve(&loaded.config, args.config)),
        Err(exit) => exit,
    }
}

async fn serve(config: &Config, file: PathBuf) -> Exit {
    // From here on the signal does not end the process.
    let hangup = signal(SignalKind::hangup());
    let proxy = match Proxy::start(config).await {
        Ok(proxy) => proxy,
        Err(error) => return failed(&error),
    };
    proxy.users.read_from(file);
    let reload = tokio::spawn(reload_on_signal(hangup, proxy.users.clone(), proxy.metrics.clone()));
    if let Some(admin) = &config.admin {
        let address = (admin.address.host.as_str(), admin.address.port);
        match admin::serve(address, proxy.metrics.clone()).await {
            Ok((address, _)) => tracing::info!(%address, "admin"),
            Err(error) => {
                eprintln!("quorate: cannot listen on {} for [admin]: {error}", admin.address);
                return Exit::Unreachable;
            }
        }
    }
    for (name, address) in &proxy.addresses {
        tracing::info!(listener = name, %address, "listening");
    }
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    stop_signal().await;
    reload.abort();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("draining");
    if proxy.drain().await {
        tracing::info!("stopped, every client finished");
    } else {
        tracing::warn!("stopped, some clients did not finish in time");
    }
    Exit::Done
}

pub(super) fn failed(error: &StartError) -> Exit {
    eprintln!("quorate: {error}");
    match error {
        StartError::Policy { .. } | StartError::Tls { .. } | StartError::Engine(_) => Exit::Config,
        StartError::Groups(RecordError::Changed { .. }) => Exit::Config,
        StartError::Groups(_)
        | StartError::Journal { .. }
        | StartError::State(_)
        | StartError::Listen { .. } => Exit::Unreachable,
        StartError::Thread(_) => Exit::Bug,
    }
}

/// With every SIGHUP the users and the TLS files are read again. What cannot be used is logged, and not used.
async fn reload_on_signal(hangup: io::Result<Signal>, users: Arc<Users>, metrics: Arc<Metrics>) {
    let Ok(mut hangup) = hangup else { return };
    while hangup.recv().await.is_some() {
        let _ = users.clone().load().await;
        let metrics = metrics.clone();
        let read = move || {
            metrics.terminators.iter().for_each(|terminator| {
                terminator.reload();
            });
        };
        let _ = tokio::task::spawn_blocking(read).await;
    }
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn stop_signal() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
