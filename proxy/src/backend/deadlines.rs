//! What a new owner learns of deadlines: every key is looked at once, on a replica that has everything numbered
//! before. Whatever is written meanwhile the sequencer notes by itself.

use super::call::Call;
use crate::config::Backend;
use crate::drive::Driver;
use crate::group::GroupShared;
use quorate_core::ordered::{Ends, Event, Phase, Position, ReplicaState, Timed};
use quorate_wire::resp::transaction::RESERVED_PREFIX;
use quorate_wire::resp::{Value, expiry};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Keys of a page: what a server does in about a millisecond.
const PAGE: &[u8] = b"1000";
const WAIT: Duration = Duration::from_millis(20);
const WAIT_AFTER_TROUBLE: Duration = Duration::from_secs(1);

/// Learns the deadlines of one group.
pub struct Survey {
    /// The group's backends.
    pub backends: Vec<Backend>,
    /// The group.
    pub shared: Arc<GroupShared>,
    /// Its driver.
    pub driver: Rc<RefCell<Driver>>,
}

impl Survey {
    /// Ends when every deadline is known, or the group is fenced.
    pub async fn run(self) {
        let mut last_trouble = String::new();
        loop {
            let Some(replica) = self.source() else {
                if matches!(self.driver.borrow().group().phase(), Phase::Fenced { .. }) {
                    return;
                }
                sleep(WAIT).await;
                continue;
            };
            match self.look(replica).await {
                Ok(found) => {
                    tracing::debug!(group = self.shared.name, found, "the deadlines of all keys are known");
                    return;
                }
                Err(trouble) => {
                    if trouble != last_trouble {
                        let (group, replica) = (self.shared.name.as_str(), self.shared.replica(replica));
                        tracing::warn!(group, replica, "deadlines cannot be read: {trouble}");
                        last_trouble = trouble;
                    }
                    sleep(WAIT_AFTER_TROUBLE).await;
                }
            }
        }
    }

    /// A replica that holds every entry from before this ownership.
    fn source(&self) -> Option<usize> {
        let driver = self.driver.borrow();
        let health = driver.group().health();
        let in_sync = |state: &ReplicaState| *state == ReplicaState::InSync;
        let found = health.replicas.iter().position(|view| in_sync(&view.state) && !view.suspect);
        found.filter(|_| health.phase == Phase::Serving)
    }

    async fn look(&self, replica: usize) -> Result<usize, String> {
        let mut call = Call::open(&self.backends[replica]).await?;
        // Only what holds an entry of this owner holds everything from before it.
        let position = call.ask(&[b"GET", self.shared.reserved.position.as_bytes()]).await?;
        let position = position.text().and_then(|text| text.parse().ok());
        let epoch = self.driver.borrow().group().epoch();
        if position.is_none_or(|at: Position| at.epoch != epoch) {
            return Err("it does not hold this owner's first entry".into());
        }
        let (mut cursor, mut found) = ("0".to_string(), 0);
        if !has_deadlines(&mut call).await? {
            self.tell(Vec::new(), true);
            return Ok(0);
        }
        loop {
            let scan = call.ask(&[b"SCAN", cursor.as_bytes(), b"COUNT", PAGE]).await?;
            let [next, keys] = scan.items() else { return Err("it does not answer SCAN as expected".into()) };
            cursor = next.text().ok_or("it does not answer SCAN as expected")?.to_string();
            let timed = deadlines(&mut call, keys).await?;
            found += timed.len();
            let all = cursor == "0";
            self.tell(timed, all);
            if all {
                return Ok(found);
            }
        }
    }

    fn tell(&self, keys: Vec<Timed>, all: bool) {
        self.driver.borrow_mut().run([Event::Timed { keys, all }]);
    }
}

/// A server counts its keys with a deadline.
async fn has_deadlines(call: &mut Call) -> Result<bool, String> {
    let answer = call.ask(&[b"INFO", b"keyspace"]).await?;
    let text = answer.text().ok_or("it does not answer INFO as expected")?;
    Ok(text.lines().any(|line| line.starts_with("db0:") && !line.contains(",expires=0")))
}

async fn deadlines(call: &mut Call, keys: &Value) -> Result<Vec<Timed>, String> {
    let keys: Vec<&[u8]> = keys.items().iter().filter_map(Value::bytes).map(AsRef::as_ref).collect();
    let asked: Vec<Vec<&[u8]>> = keys.iter().map(|key| vec![&b"PEXPIRETIME"[..], key]).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let answers = call.ask_all(&asked).await?;
    let mut timed = Vec::new();
    for (key, answer) in keys.into_iter().zip(answers) {
        let Value::Integer(kept) = answer else {
            return Err("it does not answer PEXPIRETIME as expected".into());
        };
        if kept < 0 || key.starts_with(RESERVED_PREFIX) {
            continue;
        }
        let ends = match expiry::brought_forward(kept) {
            None => continue,
            // Not set back yet: a check does that.
            Some(at) if at == kept => Ends::Unknown,
            Some(at) => Ends::At(u64::try_from(at).unwrap_or(0)),
        };
        timed.push(Timed { key: key.into(), ends });
    }
    Ok(timed)
}
