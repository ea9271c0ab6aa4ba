//! The operator: compares backends, and gives a stale replica a copy of all data, as `REPLICAOF` does.

use super::World;
use super::proxy::Proxy;
use quorate_core::ordered::{Phase, ReplicaState, StaleReason};
use std::collections::BTreeMap;

impl World {
    /// Backends that claim the same position must hold the same data.
    pub(super) fn compare(&mut self) {
        let mut seen: BTreeMap<String, (usize, BTreeMap<String, String>)> = BTreeMap::new();
        for backend in &self.backends {
            let (Some(position), data) = backend.data() else { continue };
            match seen.get(&position) {
                Some((other, same)) if *same != data => {
                    let (a, b) = (other + 1, backend.index + 1);
                    let story = format!("r{a} and r{b} differ at {position}: {same:?} and {data:?}");
                    return self.env.violate("equal data at equal positions", story);
                }
                _ => drop(seen.insert(position, (backend.index, data))),
            }
        }
    }

    /// The proxy that owns the group, as far as anybody can know.
    pub(super) fn newest(&self) -> Option<&Proxy> {
        let may =
            |p: &&Proxy| p.alive && p.owner.epoch > 0 && !matches!(p.group.phase(), Phase::Fenced { .. });
        self.proxies.iter().filter(may).max_by_key(|p| p.owner.clone())
    }

    /// Notes which backends hold all that is committed again.
    pub(super) fn count_the_wounded(&mut self) {
        let Some(owner) = self.newest().filter(|p| p.is_serving()) else { return };
        let (index, health) = (owner.index, owner.group.health());
        let attendants = &self.proxies[index].attendants;
        for ((backend, view), attendant) in self.backends.iter_mut().zip(&health.replicas).zip(attendants) {
            // Whoever has not noticed that it died still counts what it forgot.
            let known = attendant.run_id == backend.store.run_id();
            let holds_all =
                known && view.state == ReplicaState::InSync && backend.applied() >= Some(health.committed);
            backend.wounded &= !holds_all;
        }
    }

    /// Copies a healthy replica over a stale one.
    pub(super) fn reseed(&mut self) {
        let Some(newest) = self.newest() else { return };
        let health = newest.group.health();
        let ready = match health.phase {
            Phase::Serving => health.committed,
            // The log is known and the barrier its last entry.
            Phase::Barrier => health.head - 1,
            Phase::Recovering | Phase::Fenced { .. } => return,
        };
        let calm = |i: &usize| {
            let backend = &self.backends[*i];
            backend.up && !backend.paused && !self.troubled(*i)
        };
        let stale = |i: &usize| matches!(health.replicas[*i].state, ReplicaState::Stale(_));
        let whole = |i: &usize| !stale(i) && health.replicas[*i].state != ReplicaState::Down;
        let count = self.backends.len();
        // A scan needs an owner that serves; a copy in one go helps any.
        let scans = self.options.scans && health.phase == Phase::Serving;
        let erased = |i: &usize| {
            matches!(
                health.replicas[*i].state,
                ReplicaState::Stale(StaleReason::Blank | StaleReason::Partial)
            )
        };
        // A scan erases first. What still has a position is erased only while a new owner that knows nothing would find
        // as many positions as it needs without it.
        let spare = |i: &usize| {
            let others = (0..count).filter(|other| other != i && !erased(other));
            others.count() > count - self.options.write_quorum
        };
        let erasable = |i: &usize| !scans || erased(i) || spare(i);
        let target = (0..count).filter(calm).filter(stale).find(erasable);
        let source =
            (0..count).filter(calm).filter(whole).find(|i| self.backends[*i].applied() >= Some(ready));
        match (target, source) {
            (Some(target), Some(source)) if !scans => self.copy(source, target),
            (Some(target), Some(source)) if self.scan.is_none() => self.begin_scan(source, target),
            _ => {}
        }
    }

    fn copy(&mut self, source: usize, target: usize) {
        let now_ms = self.env.agenda.unix_ms();
        let keys: Vec<Vec<u8>> = self.backends[source].store.keys().map(<[u8]>::to_vec).collect();
        let mut commands = vec![vec![b"MULTI".to_vec()], vec![b"FLUSHALL".to_vec()]];
        commands.extend(keys.into_iter().map(|key| self.backends[source].copy_of(key, now_ms)));
        commands.push(vec![b"EXEC".to_vec()]);
        self.backends[target].administer(&commands, now_ms);
        self.backends[target].sync();
        self.stats.reseeds += 1;
        self.env.note(format!("the operator copies r{} to r{}", source + 1, target + 1));
        self.hang_up(target);
    }
}
