//! `POST /reseed`: what an operator asks of a stale replica. The answer says what was asked, not how it ends;
//! that is in `/status`.

use super::local::refusal;
use crate::backend::reseed::Ask;
use crate::group::{BackendFacts, GroupShared};
use crate::telemetry::Metrics;
use axum::Json;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    group: String,
    replica: String,
    /// `yes`: data that is not the group's may be erased.
    #[serde(default)]
    erase: String,
    /// `yes`: end the one that is under way.
    #[serde(default)]
    cancel: String,
}

pub(super) async fn ask(
    State(metrics): State<Arc<Metrics>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Query(wish): Query<Wish>,
) -> Response {
    if let Some(refusal) = refusal(&peer, &headers) {
        return refusal;
    }
    let Some(group) = metrics.groups.iter().find(|group| group.name == wish.group) else {
        return (StatusCode::NOT_FOUND, format!("there is no group '{}'\n", wish.group)).into_response();
    };
    let Some(replica) = group.replicas.iter().position(|name| *name == wish.replica) else {
        let text = format!("group '{}' has no replica '{}'\n", wish.group, wish.replica);
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    match note(group, replica, &wish) {
        Ok(ended) => (StatusCode::ACCEPTED, Json(json!({ "reseeds_ended": ended }))).into_response(),
        Err(problem) => (StatusCode::CONFLICT, format!("{problem}\n")).into_response(),
    }
}

/// Leaves the wish for the replica's attendant; how many reseeds ended before.
fn note(group: &GroupShared, replica: usize, wish: &Wish) -> Result<u64, String> {
    let state = group.health.load().replicas[replica].state.name();
    let mut facts = group.facts[replica].lock().map_err(|_| "its state is not known".to_string())?;
    let asked = match wish.cancel == "yes" {
        true => cancel(&facts, &wish.replica)?,
        false => start(&facts, &wish.replica, state, wish.erase == "yes")?,
    };
    facts.reseed.asked = Some(asked);
    Ok(facts.reseed.ended())
}

fn cancel(facts: &BackendFacts, replica: &str) -> Result<Ask, String> {
    match facts.reseed.progress {
        Some(_) => Ok(Ask::Cancel),
        None => Err(format!("no reseed of {replica} is under way")),
    }
}

fn start(facts: &BackendFacts, replica: &str, state: &str, erase: bool) -> Result<Ask, String> {
    if let Some(progress) = &facts.reseed.progress {
        return Err(format!("{replica} is being reseeded from {} already", progress.source));
    }
    if facts.reseed.stale {
        return Ok(Ask::Start { erase });
    }
    let problem = if facts.problem.is_empty() { String::new() } else { format!(": {}", facts.problem) };
    Err(format!("{replica} is {state}, and only a stale replica is reseeded{problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stale_replica_is_reseeded_and_only_once() {
        let mut facts = BackendFacts::default();
        assert!(start(&facts, "r3", "in-sync", false).is_err_and(|text| text.contains("in-sync")));
        assert!(cancel(&facts, "r3").is_err());
        facts.reseed.stale = true;
        assert_eq!(start(&facts, "r3", "stale", true), Ok(Ask::Start { erase: true }));
        facts.reseed.progress = Some(Default::default());
        assert!(start(&facts, "r3", "down", false).is_err_and(|text| text.contains("already")));
        assert_eq!(cancel(&facts, "r3"), Ok(Ask::Cancel));
    }
}
