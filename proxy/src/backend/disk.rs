//! What a backend has on its disk, for `WAITAOF`: asked on a connection of its own, and only when somebody waits.

use super::call::Call;
use crate::config::Backend;
use crate::drive::Driver;
use crate::group::GroupShared;
use bytes::Bytes;
use quorate_core::ordered::Event;
use quorate_wire::resp::Value;
use std::cell::RefCell;
use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many milliseconds a server may take for it; about a second where it syncs its file once a second.
const PATIENCE_MS: &[u8] = b"4000";
/// The answer is there by then.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks one backend.
pub struct Disk {
    /// The replica's index.
    pub replica: usize,
    /// The backend.
    pub backend: Backend,
    /// The group.
    pub shared: Arc<GroupShared>,
    /// Its driver, which holds the other end of `asked`.
    pub driver: Weak<RefCell<Driver>>,
    /// Numbers of entries that it has applied.
    pub asked: mpsc::UnboundedReceiver<u64>,
}

impl Disk {
    /// Serves until the driver is gone, and nobody can ask any more.
    pub async fn run(mut self) {
        let mut call = None;
        while let Some(through) = self.asked.recv().await {
            let synced = match self.sync(&mut call, through).await {
                Ok(synced) => synced.map(|()| through),
                Err(problem) => {
                    let (group, replica) = (self.shared.name.as_str(), self.backend.name.as_str());
                    tracing::debug!(group, replica, "it does not say what is on its disk: {problem}");
                    call = None;
                    Err(Bytes::new())
                }
            };
            // It may be gone since it asked.
            let Some(driver) = self.driver.upgrade() else { return };
            driver.borrow_mut().push([Event::Synced { replica: self.replica, through: synced }]);
        }
    }

    /// The inner error is the server's own, or empty when it took too long.
    async fn sync(&self, call: &mut Option<Call>, through: u64) -> Result<Result<(), Bytes>, String> {
        let call = match call {
            Some(call) => call,
            None => call.insert(Call::open(&self.backend).await?),
        };
        // A server looks at what the connection that asks has written itself, and all before that.
        let number = through.to_string();
        let write = vec![&b"SET"[..], self.shared.reserved.synced.as_bytes(), number.as_bytes()];
        let wait = vec![&b"WAITAOF"[..], b"1", b"0", PATIENCE_MS];
        let answers = call.ask_all_within(&[write, wait], LIMIT).await?;
        if let Some(error) = answers.iter().find_map(Value::error) {
            return Ok(Err(Bytes::copy_from_slice(error.as_bytes())));
        }
        let synced = answers.last().map(Value::items).and_then(<[Value]>::first);
        Ok(if synced == Some(&Value::Integer(1)) { Ok(()) } else { Err(Bytes::new()) })
    }
}
