//! The Prometheus text: everything is summed up when somebody asks, nothing on the hot path.

use super::{BOUNDS_US, WorkerCounters};
use crate::backend::reseed::Outcome;
use crate::backend::scrub::Totals;
use crate::group::GroupShared;
use crate::listen::access::gate::{Denial, Gate, Shed};
use crate::listen::registry::Registry;
use crate::memory::{Pressure, Usage};
use crate::tls::Terminator;
use crate::tls::accept::Outcome as Handshake;
use crate::tls::connect;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry;
use quorate_core::ordered::{Phase, ReplicaState};
use quorate_core::plan::OpClass;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Everything that is told.
#[derive(Debug)]
pub struct Metrics {
    /// One a worker.
    pub workers: Vec<Arc<WorkerCounters>>,
    /// One a group.
    pub groups: Vec<Arc<GroupShared>>,
    /// The clients.
    pub clients: Arc<Registry>,
    /// One a listener.
    pub gates: Vec<Arc<Gate>>,
    /// One a listener with TLS.
    pub terminators: Vec<Arc<Terminator>>,
}

/// The metrics as Prometheus reads them.
pub fn render(metrics: &Arc<Metrics>) -> String {
    let mut registry = registry::Registry::default();
    registry.register_collector(Box::new(Collected(metrics.clone())));
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

#[derive(Debug)]
struct Collected(Arc<Metrics>);

type Sample = (Vec<(&'static str, String)>, f64);

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, samples: Vec<Sample>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, samples: Vec<Sample>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in samples {
        ConstCounter::new(value as u64).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Metrics {
    fn sum(&self, field: impl Fn(&WorkerCounters) -> &AtomicU64) -> f64 {
        self.workers.iter().map(|worker| field(worker).load(Relaxed)).sum::<u64>() as f64
    }

    fn by_group(&self, value: impl Fn(&GroupShared) -> f64) -> Vec<Sample> {
        self.groups.iter().map(|g| (vec![("group", g.name.clone())], value(g))).collect()
    }

    fn by_replica(&self, value: impl Fn(&quorate_core::ordered::ReplicaView) -> f64) -> Vec<Sample> {
        let mut samples = Vec::new();
        for group in &self.groups {
            for (i, view) in group.health.load().replicas.iter().enumerate() {
                let labels = vec![("group", group.name.clone()), ("replica", group.replica(i))];
                samples.push((labels, value(view)));
            }
        }
        samples
    }

    fn states(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for group in &self.groups {
            for (i, view) in group.health.load().replicas.iter().enumerate() {
                for state in ["down", "waiting", "lagging", "in-sync", "mending", "stale"] {
                    let labels = vec![
                        ("group", group.name.clone()),
                        ("replica", group.replica(i)),
                        ("state", state.to_string()),
                    ];
                    samples.push((labels, f64::from(u8::from(view.state.name() == state))));
                }
            }
        }
        samples
    }

    fn reseeds(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for group in &self.groups {
            for (i, facts) in group.facts.iter().enumerate() {
                let counts = facts.lock().map(|facts| facts.reseed.counts).unwrap_or_default();
                for (outcome, count) in Outcome::ALL.iter().zip(counts) {
                    let labels = vec![
                        ("group", group.name.clone()),
                        ("replica", group.replica(i)),
                        ("outcome", outcome.name().to_string()),
                    ];
                    samples.push((labels, count as f64));
                }
            }
        }
        samples
    }

    fn reseed_progress(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for group in &self.groups {
            for (i, facts) in group.facts.iter().enumerate() {
                let ratio = facts.lock().ok().and_then(|facts| Some(facts.reseed.progress.as_ref()?.ratio));
                let labels = vec![("group", group.name.clone()), ("replica", group.replica(i))];
                samples.extend(ratio.map(|ratio| (labels, ratio)));
            }
        }
        samples
    }

    fn messages(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for group in &self.groups {
            let hub = &group.hub;
            let counts =
                [("published", &hub.published), ("event", &hub.events), ("delivered", &hub.delivered)];
            for (what, count) in counts {
                let labels = vec![("group", group.name.clone()), ("what", what.to_string())];
                samples.push((labels, count.load(Relaxed) as f64));
            }
        }
        samples
    }

    fn scrub_totals(&self, group: &GroupShared) -> Totals {
        let facts = group.scrub.facts();
        facts.progress.map_or(facts.totals, |report| facts.totals.with(&report))
    }

    fn scrub_differences(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for group in &self.groups {
            let Totals { mended, undecided, reported, .. } = self.scrub_totals(group);
            for (outcome, count) in [("mended", mended), ("undecided", undecided), ("reported", reported)] {
                let labels = vec![("group", group.name.clone()), ("outcome", outcome.to_string())];
                samples.push((labels, count as f64));
            }
        }
        samples
    }

    /// Of the backends that told their memory.
    fn memory(&self, value: impl Fn(Usage) -> u64) -> Vec<Sample> {
        let mut samples = Vec::new();
        for group in &self.groups {
            for (i, usage) in group.memory.usages().into_iter().enumerate() {
                let labels = vec![("group", group.name.clone()), ("replica", group.replica(i))];
                samples.extend(usage.map(|usage| (labels, value(usage) as f64)));
            }
        }
        samples
    }

    fn scrub_progress(&self) -> Vec<Sample> {
        let ratio =
            |g: &Arc<GroupShared>| Some((vec![("group", g.name.clone())], g.scrub.facts().progress?.ratio));
        self.groups.iter().filter_map(ratio).collect()
    }

    fn handshakes(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for terminator in &self.terminators {
            for outcome in Handshake::ALL {
                let labels =
                    vec![("listener", terminator.listener.clone()), ("outcome", outcome.name().to_string())];
                samples.push((labels, terminator.count(outcome) as f64));
            }
        }
        samples
    }

    /// Changed files, by whether they could be used.
    fn tls_reloads(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for terminator in &self.terminators {
            let (done, failed) = terminator.reloads();
            for (outcome, count) in [("done", done), ("failed", failed)] {
                let labels =
                    vec![("listener", terminator.listener.clone()), ("outcome", outcome.to_string())];
                samples.push((labels, count as f64));
            }
        }
        samples
    }

    fn auth_failures(&self) -> Vec<Sample> {
        let failures =
            |gate: &Arc<Gate>| (vec![("listener", gate.listener.clone())], gate.denials(Denial::Auth) as f64);
        self.gates.iter().map(failures).collect()
    }

    fn denials(&self) -> Vec<Sample> {
        let told = Denial::ALL.iter().filter(|what| **what != Denial::Auth);
        let of = |gate: &Arc<Gate>, what: Denial| {
            let labels = vec![("listener", gate.listener.clone()), ("what", what.name().to_string())];
            (labels, gate.denials(what) as f64)
        };
        told.flat_map(|what| self.gates.iter().map(|gate| of(gate, *what))).collect()
    }

    fn sheds(&self) -> Vec<Sample> {
        let of = |gate: &Arc<Gate>, why: Shed| {
            let labels = vec![("listener", gate.listener.clone()), ("reason", why.name().to_string())];
            (labels, gate.sheds(why) as f64)
        };
        Shed::ALL.iter().flat_map(|why| self.gates.iter().map(|gate| of(gate, *why))).collect()
    }

    fn requests(&self) -> Vec<Sample> {
        let class = |class: &OpClass| {
            let labels = vec![("protocol", "redis".to_string()), ("class", class.name().to_string())];
            (labels, self.sum(|w| &w.requests[*class as usize]))
        };
        OpClass::ALL.iter().map(class).collect()
    }

    fn failures(&self) -> Vec<Sample> {
        let labels = |reason: &str| vec![("outcome", reason.to_string())];
        vec![
            (labels("refused"), self.sum(|w| &w.refused)),
            (labels("unknown"), self.sum(|w| &w.unknown)),
            (labels("not-carried"), self.sum(|w| &w.not_carried)),
        ]
    }

    fn latency(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let buckets: Vec<(f64, u64)> = (0..=BOUNDS_US.len())
            .map(|i| {
                let bound = BOUNDS_US.get(i).map_or(f64::MAX, |us| *us as f64 / 1e6);
                (bound, self.sum(|w| &w.latency[i]) as u64)
            })
            .collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        let help = "Time from reading a burst of requests to its answer";
        let mut family =
            encoder.encode_descriptor("quorate_request_seconds", help, None, MetricType::Histogram)?;
        family.encode_histogram::<NoLabelSet>(self.sum(|w| &w.latency_us) / 1e6, count, &buckets, None)
    }
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let m = &*self.0;
        let e = &mut encoder;
        let flag = |yes: bool| f64::from(u8::from(yes));
        let load = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        counter(e, "quorate_requests", "Requests that went to their group, by class", m.requests())?;
        counter(e, "quorate_failures", "Requests that ended in an error of the proxy", m.failures())?;
        let local = vec![(vec![], m.sum(|w| &w.local))];
        counter(e, "quorate_local_requests", "Requests that the proxy answered itself", local)?;
        m.latency(e)?;
        gauge(e, "quorate_connections", "Clients now", vec![(vec![], m.clients.len() as f64)])?;
        gauge(e, "quorate_epoch", "Epoch of this owner", m.by_group(|g| g.health.load().epoch as f64))?;
        let serving = m.by_group(|g| flag(g.health.load().phase == Phase::Serving));
        gauge(e, "quorate_serving", "1 while the group serves", serving)?;
        let writable = m.by_group(|g| flag(g.health.load().writable));
        gauge(e, "quorate_writable", "1 while a write rule can be met", writable)?;
        gauge(
            e,
            "quorate_log_head",
            "Number of the last entry",
            m.by_group(|g| g.health.load().head as f64),
        )?;
        let committed = m.by_group(|g| g.health.load().committed as f64);
        gauge(e, "quorate_log_committed", "Number of the last committed entry", committed)?;
        let log = m.by_group(|g| g.health.load().log_bytes as f64);
        gauge(e, "quorate_log_bytes", "Log kept in memory for catch-up", log)?;
        let timed = m.by_group(|g| g.health.load().timed_keys as f64);
        gauge(e, "quorate_timed_keys", "Keys that may have a deadline", timed)?;
        let queued = m.by_group(|g| g.health.load().queued_bytes as f64);
        gauge(e, "quorate_queue_bytes", "Requests that wait to be numbered", queued)?;
        gauge(e, "quorate_replica_state", "1 for the state that the replica is in", m.states())?;
        let lag = m.by_replica(|r| if r.state == ReplicaState::InSync { 0.0 } else { r.lag as f64 });
        gauge(e, "quorate_replica_lag_entries", "Entries that a replica out of sync is owed", lag)?;
        gauge(e, "quorate_replica_applied", "Last entry applied", m.by_replica(|r| r.applied as f64))?;
        let divergences = m.by_group(|g| load(&g.counters.divergences));
        counter(e, "quorate_divergences", "Entries that replicas answered differently", divergences)?;
        let recorded = m.by_group(|g| {
            let journal = g.health.load().journal;
            if journal.oldest == 0 { 0.0 } else { (journal.newest.seq + 1 - journal.oldest) as f64 }
        });
        gauge(e, "quorate_journal_entries", "Entries that the journal holds", recorded)?;
        let failed = m.by_group(|g| flag(g.health.load().journal.failed));
        gauge(e, "quorate_journal_failed", "1 while nothing can be recorded", failed)?;
        let alike = m.by_group(|g| load(&g.counters.scripts_alike));
        counter(e, "quorate_scripts_verbatim", "Scripts that every replica ran by itself", alike)?;
        let failures = m.by_group(|g| load(&g.counters.journal_failures));
        counter(e, "quorate_journal_failures", "Times that the journal failed", failures)?;
        let mends = m.by_group(|g| load(&g.counters.mends));
        counter(e, "quorate_mends", "Times that a replica that differed was mended key by key", mends)?;
        let failures = m.by_group(|g| load(&g.counters.mend_failures));
        counter(e, "quorate_mend_failures", "Times that a replica could not be mended so", failures)?;
        let refusals = m.by_group(|g| load(&g.counters.refusals));
        counter(e, "quorate_backend_refusals", "Entries that a backend refused", refusals)?;
        let retracted = m.by_group(|g| load(&g.counters.retracted));
        counter(e, "quorate_retracted_entries", "Entries that no backend took", retracted)?;
        let losses = m.by_group(|g| load(&g.counters.losses));
        counter(e, "quorate_replica_losses", "Times that a replica went down", losses)?;
        let used = m.memory(|usage| usage.used);
        gauge(e, "quorate_replica_memory_used_bytes", "Memory held against the backend's limit", used)?;
        let max = m.memory(|usage| usage.max);
        gauge(e, "quorate_replica_memory_max_bytes", "The backend's limit, 0 for none", max)?;
        let full = m.by_group(|g| flag(g.memory.pressure() == Pressure::Full));
        gauge(e, "quorate_group_memory_full", "1 while commands that need memory are refused", full)?;
        let refused = m.by_group(|g| g.memory.refusals() as f64);
        counter(e, "quorate_memory_refusals", "Commands refused because memory is nearly full", refused)?;
        counter(e, "quorate_reseeds", "Reseeds that ended, by outcome", m.reseeds())?;
        let progress = m.reseed_progress();
        gauge(e, "quorate_reseed_progress_ratio", "Share of the data that a reseed has copied", progress)?;
        let compared = m.by_group(|g| m.scrub_totals(g).keys as f64);
        counter(e, "quorate_scrub_keys", "Keys that scrubs compared", compared)?;
        let differences = m.scrub_differences();
        counter(e, "quorate_scrub_differences", "Keys that differed, by what became of them", differences)?;
        let progress = m.scrub_progress();
        gauge(e, "quorate_scrub_progress_ratio", "Share of the keys that a scrub has looked at", progress)?;
        let subscriptions = m.by_group(|g| g.hub.subscriptions() as f64);
        gauge(e, "quorate_pubsub_subscriptions", "Subscriptions of clients now", subscriptions)?;
        counter(e, "quorate_pubsub_messages", "Messages, by what became of them", m.messages())?;
        let slow = m.by_group(|g| load(&g.hub.slow));
        counter(e, "quorate_pubsub_slow_closed", "Subscribers closed because they did not read", slow)?;
        let moves = m.by_group(|g| load(&g.hub.moves));
        counter(e, "quorate_pubsub_feeds", "Connections made for events of keys", moves)?;
        let clients = m.by_group(|g| g.tracker.clients() as f64);
        gauge(e, "quorate_tracking_clients", "Clients that cache", clients)?;
        let keys = m.by_group(|g| g.tracker.len() as f64);
        gauge(e, "quorate_tracking_keys", "Keys that clients may hold", keys)?;
        let invalidations = m.by_group(|g| load(&g.tracker.invalidations));
        counter(e, "quorate_tracking_invalidations", "Changes that clients were told", invalidations)?;
        let evictions = m.by_group(|g| load(&g.tracker.evictions));
        counter(e, "quorate_tracking_evictions", "Keys forgotten because there were too many", evictions)?;
        counter(e, "quorate_auth_failures", "Logins that failed", m.auth_failures())?;
        counter(e, "quorate_access_denials", "Commands denied by a user's rules, by what", m.denials())?;
        counter(e, "quorate_sheds", "What clients sent that was turned away, by reason", m.sheds())?;
        counter(e, "quorate_tls_handshakes", "Handshakes with clients, by how they ended", m.handshakes())?;
        counter(e, "quorate_tls_reloads", "Changed TLS files of listeners, by outcome", m.tls_reloads())?;
        let ends = m.terminators.iter().map(|t| (vec![("listener", t.listener.clone())], t.expiry() as f64));
        let help = "Unix time at which the certificate ends, 0 if unknown";
        gauge(e, "quorate_tls_certificate_expiry_seconds", help, ends.collect())?;
        let failures = vec![(vec![], connect::failures() as f64)];
        let help = "Changed TLS files of backends that could not be used";
        counter(e, "quorate_tls_backend_reload_failures", help, failures)?;
        let faults = m.by_group(|g| load(&g.counters.policy_faults));
        counter(e, "quorate_policy_faults", "Calls of the policy that failed", faults)
    }
}
