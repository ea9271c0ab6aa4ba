//! Coherence of write rules, within one proxy and across a fleet whose proxies stand in different zones.

use crate::{Builder, HostError, Reason};
use quorate_core::quorum::{Proof, prove};
use quorate_core::rule::{Rule, names};
use quorate_core::topology::Topology;

/// How far write quorums must intersect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coherence {
    /// Not at all: the servers, or nobody, keep order. For `native`, `eventual` and `mirror`.
    Any,
    /// Among all proxies in this one's zone.
    OwnZone,
    /// Among all proxies, one in every zone that has a backend. For `ordered` and `register`.
    Fleet,
}

/// Builds the tables that matter and proves all their write rules together; refuses disjoint quorums.
pub fn prove_coherent(
    policy: &str,
    builder: &mut dyn Builder,
    topology: &Topology,
    coherence: Coherence,
) -> Result<Proof, HostError> {
    let mut rules: Vec<Rule> = Vec::new();
    for zone in zones(topology, coherence) {
        let there = Topology { local_zone: zone, ..topology.clone() };
        let built = builder.build(&there, Reason::Asked)?;
        for plan in built.table.plans() {
            if !rules.contains(&plan.write) {
                rules.push(plan.write.clone());
            }
        }
    }
    let proof = prove(&rules.iter().collect::<Vec<_>>(), topology.backends.len());
    match (coherence, proof.disjoint) {
        (Coherence::OwnZone | Coherence::Fleet, Some((one, other))) => {
            let show = |mask| names(mask, |i| topology.backends[i].name.clone());
            Err(HostError::Disjoint { policy: policy.to_owned(), one: show(one), other: show(other) })
        }
        _ => Ok(proof),
    }
}

fn zones(topology: &Topology, coherence: Coherence) -> Vec<String> {
    let mut zones = vec![topology.local_zone.clone()];
    if coherence == Coherence::Fleet {
        for backend in &topology.backends {
            if !zones.contains(&backend.zone) {
                zones.push(backend.zone.clone());
            }
        }
    }
    zones
}
