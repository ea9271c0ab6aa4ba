//! Sections about the proxy itself: `[admin]`, `[state]`, `[proxy]`, `[log]`.

use super::super::model::{Admin, Log, Proxy, State};
use super::super::raw::{RawAdmin, RawLog, RawProxy, RawState};
use super::Check;
use super::values::A_DAY;
use std::time::Duration;

/// The most threads that serve clients.
const MAX_WORKERS: i64 = 64;

impl Check<'_> {
    pub(super) fn admin(&mut self, raw: RawAdmin) -> Option<Admin> {
        let text = raw.address?;
        let address = self.bind_address(&text)?;
        Some(Admin { address, at: text.place })
    }

    pub(super) fn state(&mut self, raw: RawState) -> State {
        let default = State::default().dir;
        let dir = raw.dir.and_then(|dir| self.text("state.dir", dir)).map_or(default, Into::into);
        State { dir: self.report.sources().base_dir().join(dir) }
    }

    pub(super) fn proxy(&mut self, raw: RawProxy) -> Proxy {
        let default = Proxy::default();
        let workers = raw.workers.and_then(|workers| self.number("workers", &workers, 1..=MAX_WORKERS));
        let drain =
            raw.drain_timeout.and_then(|time| self.duration("drain-timeout", &time, Duration::ZERO..=A_DAY));
        let at = raw.zone.as_ref().map_or(default.at, |zone| zone.place);
        Proxy {
            workers: workers.and_then(|workers| usize::try_from(workers).ok()).unwrap_or(default.workers),
            zone: raw.zone.and_then(|zone| self.text("proxy.zone", zone)).unwrap_or_default(),
            drain_timeout: drain.unwrap_or(default.drain_timeout),
            at,
        }
    }

    pub(super) fn log(&mut self, raw: RawLog) -> Log {
        let default = Log::default();
        Log {
            format: raw.format.and_then(|word| self.word("format", &word)).unwrap_or(default.format),
            level: raw.level.and_then(|word| self.word("level", &word)).unwrap_or(default.level),
        }
    }
}
