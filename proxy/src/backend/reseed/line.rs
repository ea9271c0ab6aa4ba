//! A conversation with one server that outlives lost connections, as long as the server is the same run:
//! one that was restarted may have forgotten what it was told, or tell what is older than before.

use super::super::attach::{self, AttachError, Owner};
use super::super::call::Call;
use super::copy::Stop;
use crate::config::Backend;
use crate::group::GroupShared;
use quorate_wire::resp::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A server that does not come back within this time is given up.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(5);
/// The slowest line on which large answers are waited for, in bytes a second.
const SLOWEST: u64 = 1 << 20;

/// In whose name a server is written to.
#[derive(Clone)]
pub(super) struct Fence {
    pub(super) shared: Arc<GroupShared>,
    pub(super) owner: Owner,
    pub(super) password: String,
}

/// See the module's head.
pub(super) struct Line {
    backend: Backend,
    call: Option<Call>,
    run_id: String,
    /// Of a server that is written to: whatever an earlier connection still has on the wire must not arrive
    /// after what a later one sends.
    fence: Option<Fence>,
}

enum Trouble {
    Lost(String),
    Stop(Stop),
}

impl Line {
    /// To a server that is only read.
    pub(super) async fn to_source(backend: &Backend) -> Result<Line, Stop> {
        Self::open(backend, None).await.map_err(Stop::Failed)
    }

    /// To the server that gets the copy.
    pub(super) async fn to_target(backend: &Backend, fence: Fence) -> Result<Line, Stop> {
        Self::open(backend, Some(fence)).await.map_err(Stop::Lost)
    }

    async fn open(backend: &Backend, fence: Option<Fence>) -> Result<Line, String> {
        let mut call = Call::open(backend).await?;
        let info = attach::info(&mut call).await?;
        let run_id = info.get("run_id").cloned().unwrap_or_default();
        // The connection comes with the first question.
        Ok(Line { backend: backend.clone(), call: None, run_id, fence })
    }

    /// The server's run.
    pub(super) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.backend.name
    }

    /// Lets go of the connection until the next question.
    pub(super) fn close(&mut self) {
        self.call = None;
    }

    /// Several commands in one flight, asked again if the connection is lost: they must bear that. `bytes` may
    /// travel for them.
    pub(super) async fn ask(&mut self, commands: &[Vec<&[u8]>], bytes: u64) -> Result<Vec<Value>, Stop> {
        let limit = ANSWER + Duration::from_secs(bytes / SLOWEST);
        let since = Instant::now();
        loop {
            let problem = match self.try_ask(commands, limit).await {
                Ok(answers) => return Ok(answers),
                Err(Trouble::Stop(stop)) => return Err(stop),
                Err(Trouble::Lost(problem)) => problem,
            };
            self.call = None;
            if since.elapsed() > limit + PATIENCE {
                return Err(match self.fence {
                    Some(_) => Stop::Lost(problem),
                    None => Stop::Failed(format!("its source {} is gone: {problem}", self.name())),
                });
            }
            sleep(LOOK).await;
        }
    }

    async fn try_ask(&mut self, commands: &[Vec<&[u8]>], limit: Duration) -> Result<Vec<Value>, Trouble> {
        if self.call.is_none() {
            self.call = Some(self.reopen().await?);
        }
        let call = self.call.as_mut().ok_or_else(|| Trouble::Lost("it is not connected".into()))?;
        call.ask_all_within(commands, limit).await.map_err(Trouble::Lost)
    }

    async fn reopen(&self) -> Result<Call, Trouble> {
        let mut call = Call::open(&self.backend).await.map_err(Trouble::Lost)?;
        let info = attach::info(&mut call).await.map_err(Trouble::Lost)?;
        if info.get("run_id") != Some(&self.run_id) {
            let who = if self.fence.is_some() { "it" } else { "its source" };
            return Err(Trouble::Stop(Stop::Failed(format!("{who} was restarted in the middle of a copy"))));
        }
        if let Some(Fence { shared, owner, password }) = &self.fence {
            let fenced = attach::fence(&mut call, shared, owner, password).await;
            fenced.map_err(|error| match error {
                AttachError::Fenced(by) => Trouble::Stop(Stop::Fenced(by)),
                AttachError::Seeding(_) => Trouble::Lost("it is a replica".into()),
                AttachError::Problem(problem) => Trouble::Lost(problem),
            })?;
            super::target::login(&mut call, &shared.name, owner, password).await.map_err(Trouble::Lost)?;
        }
        Ok(call)
    }
}
