//! The admin endpoint: metrics, health, status, explanations, reseeds and scrubs over HTTP.

mod local;
mod reseed;
mod scrub;

use crate::backend::reseed::describe;
use crate::backend::scrub::{Report, ScrubFacts};
use crate::cli::explain;
use crate::group::GroupShared;
use crate::memory::Pressure;
use crate::telemetry::{Metrics, render};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use quorate_core::ordered::Phase;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Serves until the task is aborted. The address it ended up with, and the task.
pub async fn serve(
    address: (&str, u16),
    metrics: Arc<Metrics>,
) -> std::io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let local = listener.local_addr()?;
    let routes = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(|State(m): State<Arc<Metrics>>| async move { Json(status(&m)) }))
        .route("/explain", get(explain_live))
        .route("/reseed", post(reseed::ask))
        .route("/scrub", post(scrub::ask))
        .with_state(metrics)
        .into_make_service_with_connect_info::<SocketAddr>();
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the admin endpoint ended");
        }
    });
    Ok((local, task))
}

async fn metrics_text(State(metrics): State<Arc<Metrics>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], render(&metrics)).into_response()
}

async fn ready(State(metrics): State<Arc<Metrics>>) -> Response {
    let not_ready = |g: &&Arc<GroupShared>| !g.health.load().writable;
    let names: Vec<&str> = metrics.groups.iter().filter(not_ready).map(|g| g.name.as_str()).collect();
    match names.as_slice() {
        [] => (StatusCode::OK, "ready\n".to_string()).into_response(),
        names => {
            let text = format!("not ready: no write rule can be met in {}\n", names.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// One group, for `quorate status`.
#[derive(Debug, Serialize)]
struct GroupStatus {
    name: String,
    phase: Phase,
    waits_for: &'static str,
    writable: bool,
    memory_full: bool,
    epoch: u64,
    fenced_by: u64,
    policy: String,
    table: String,
    head: u64,
    committed: u64,
    log_from: u64,
    log_bytes: usize,
    queued_bytes: usize,
    /// Names of the recorded in-sync set, where writes are acknowledged by it.
    in_sync: Option<Vec<String>>,
    scrub: Option<Report>,
    scrubs_ended: u64,
    last_scrub: Option<Report>,
    replicas: Vec<Value>,
}

/// The state of everything, as JSON.
pub fn status(metrics: &Metrics) -> Value {
    let groups: Vec<GroupStatus> = metrics.groups.iter().map(|group| group_status(group)).collect();
    json!({ "version": env!("CARGO_PKG_VERSION"), "connections": metrics.clients.len(), "groups": groups })
}

fn group_status(group: &GroupShared) -> GroupStatus {
    let health = group.health.load();
    let memory = group.memory.usages();
    let replica = |(i, view): (usize, &quorate_core::ordered::ReplicaView)| {
        let facts = group.facts[i].lock().map(|facts| facts.clone()).unwrap_or_default();
        json!({
            "name": group.replica(i),
            "state": view.state.name(),
            "applied": view.applied,
            "lag": view.lag,
            "suspect": view.suspect,
            "server": facts.server,
            "address": facts.address,
            "memory_used": memory.get(i).copied().flatten().map(|usage| usage.used),
            "memory_max": memory.get(i).copied().flatten().map(|usage| usage.max),
            "reseed": facts.reseed.progress,
            "reseeds_ended": facts.reseed.ended(),
            "last_reseed": facts.reseed.last,
            "problem": problem(view, facts.problem, &facts.reseed.advice),
        })
    };
    let ScrubFacts { progress: scrub, ended: scrubs_ended, last: last_scrub, .. } = group.scrub.facts();
    GroupStatus {
        name: group.name.clone(),
        phase: health.phase,
        waits_for: health.waits_for,
        writable: health.writable,
        memory_full: group.memory.pressure() == Pressure::Full,
        epoch: health.epoch,
        fenced_by: group.fenced.load(Ordering::Relaxed),
        policy: group.policy.lock().map(|policy| policy.clone()).unwrap_or_default(),
        table: group.routing.load().digest.clone(),
        head: health.head,
        committed: health.committed,
        log_from: health.log_from,
        log_bytes: health.log_bytes,
        queued_bytes: health.queued_bytes,
        in_sync: group
            .fewest_in_sync
            .and(health.in_sync)
            .map(|set| quorate_core::rule::indices(set).map(|i| group.replica(i)).collect()),
        scrub,
        scrubs_ended,
        last_scrub,
        replicas: health.replicas.iter().enumerate().map(replica).collect(),
    }
}

fn problem(view: &quorate_core::ordered::ReplicaView, told: String, advice: &str) -> String {
    use quorate_core::ordered::ReplicaState;
    match view.state {
        ReplicaState::Stale(reason) if advice.is_empty() => describe(reason).into(),
        ReplicaState::Stale(reason) => format!("{}; {advice}", describe(reason)),
        _ => told,
    }
}

#[derive(Debug, Deserialize)]
struct Question {
    request: String,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    down: String,
}

/// Explains a request by the tables and the replica states in force.
async fn explain_live(State(metrics): State<Arc<Metrics>>, Query(question): Query<Question>) -> Response {
    let wanted = |g: &&Arc<GroupShared>| question.group.as_ref().is_none_or(|name| *name == g.name);
    let Some(group) = metrics.groups.iter().find(wanted) else {
        return (StatusCode::NOT_FOUND, "no such group\n").into_response();
    };
    let health = group.health.load();
    let mut down: Vec<String> =
        question.down.split(',').filter(|d| !d.is_empty()).map(str::to_string).collect();
    for (i, view) in health.replicas.iter().enumerate() {
        if matches!(view.state.name(), "down" | "stale") {
            down.push(group.replica(i));
        }
    }
    let routing = group.routing.load();
    match explain::explain(&question.request, &group.name, &routing.table, &group.replicas, &down) {
        Ok(explained) => Json(explained).into_response(),
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response(),
    }
}
