//! `POST /scrub`: asks for a scrub, or ends the one under way. The answer says what was asked, not how it ends;
//! that is in `/status`.

use super::local::refusal;
use crate::backend::scrub::{Ask, Wish};
use crate::group::GroupShared;
use crate::telemetry::Metrics;
use axum::Json;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use quorate_core::ordered::{Phase, ReplicaState};
use serde::Deserialize;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;

const RATES: std::ops::RangeInclusive<u32> = 1..=1_000_000;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    group: String,
    /// `yes`: repair nothing.
    #[serde(default)]
    dry_run: String,
    /// `yes`: end the one that is under way.
    #[serde(default)]
    cancel: String,
    /// Keys a second.
    rate: Option<u32>,
}

pub(super) async fn ask(
    State(metrics): State<Arc<Metrics>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Query(query): Query<Wanted>,
) -> Response {
    if let Some(refusal) = refusal(&peer, &headers) {
        return refusal;
    }
    let Some(group) = metrics.groups.iter().find(|group| group.name == query.group) else {
        return (StatusCode::NOT_FOUND, format!("there is no group '{}'\n", query.group)).into_response();
    };
    match wish(group, &query).and_then(|ask| group.scrub.ask(ask)) {
        Ok(ended) => (StatusCode::ACCEPTED, Json(json!({ "scrubs_ended": ended }))).into_response(),
        Err(problem) => (StatusCode::CONFLICT, format!("{problem}\n")).into_response(),
    }
}

fn wish(group: &GroupShared, query: &Wanted) -> Result<Ask, String> {
    if query.cancel == "yes" {
        return Ok(Ask::Cancel);
    }
    if let Some(rate) = query.rate.filter(|rate| !RATES.contains(rate)) {
        return Err(format!("a rate of {rate} is out of bounds: {} to {}", RATES.start(), RATES.end()));
    }
    let health = group.health.load();
    let in_sync = health.replicas.iter().filter(|view| view.state == ReplicaState::InSync).count();
    match health.phase {
        Phase::Serving if in_sync > 1 => {
            Ok(Ask::Start(Wish { dry_run: query.dry_run == "yes", rate: query.rate }))
        }
        Phase::Serving => Err("fewer than two replicas are in sync, so there is nothing to compare".into()),
        Phase::Fenced { by } => Err(format!("epoch {by} owns the group now: ask that proxy")),
        Phase::Recovering | Phase::Barrier => Err("the group does not serve yet".into()),
    }
}
