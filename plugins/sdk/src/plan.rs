//! Short ways to say what most policies say.

use crate::{
    AckMode, AckRule, Backend, CacheScope, Decision, Layout, OpClass, Outcome, Plan, ReadPick, Rejection,
    RepairMode, SlotMap, Table, Target, Timing, Topology, Verdict,
};
use crate::{ClassRow, String, ToOwned, Vec, vec};

impl Plan {
    /// Every backend holds a copy and is waited for; a majority acknowledges; the nearest is read.
    pub fn replicated(name: &str, view: &Topology) -> Plan {
        Plan::over(name, &view.backends)
    }

    /// The same over some backends, in order of preference.
    pub fn over<'a>(name: &str, backends: impl IntoIterator<Item = &'a Backend>) -> Plan {
        Plan {
            name: name.to_owned(),
            targets: backends.into_iter().map(Target::waited).collect(),
            layout: Layout::Replicas,
            write: AckRule::Majority,
            read: AckRule::Count(1),
            read_pick: ReadPick::Nearest,
            timing: Timing { deadline_ms: 0, per_try_ms: 0, retries: 0, hedge: None },
            handoff: None,
            repair: RepairMode::Off,
            rewrite: None,
            extra: Vec::new(),
        }
    }
}

impl Target {
    /// A target that counts for the ack rule, with the backend's own share of reads.
    pub fn waited(backend: &Backend) -> Target {
        let weight = backend.weight.min(u16::from(u8::MAX)) as u8;
        Target { backend: backend.id, mode: AckMode::Waited, weight }
    }
}

impl Table {
    /// One plan for everything.
    pub fn of(plan: Plan) -> Table {
        Table { plans: vec![plan], rows: Vec::new(), default_outcome: 0 }
    }

    /// Gives a class an outcome of its own, whatever the slot.
    pub fn with_class(mut self, class: OpClass, outcome: Outcome) -> Table {
        self.rows.push(ClassRow { class, slots: SlotMap::All(outcome) });
        self
    }
}

impl Topology {
    /// The zones of the backends, in order of first appearance.
    pub fn zones(&self) -> Vec<&str> {
        let mut zones: Vec<&str> = Vec::new();
        for backend in &self.backends {
            if !zones.contains(&backend.zone.as_str()) {
                zones.push(&backend.zone);
            }
        }
        zones
    }

    /// `r1, r2, r3`: for messages.
    pub fn names(&self) -> String {
        self.backends.iter().map(|b| b.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Decision {
    /// Use this plan, and ask again next time.
    pub fn plan(outcome: Outcome) -> Decision {
        Decision { verdict: Verdict::Plan(outcome), cache: CacheScope::None, cache_ms: 0 }
    }

    /// Refuse, with a stable code and a sentence for the client.
    pub fn reject(code: &str, message: &str) -> Decision {
        let rejection =
            Rejection { code: code.to_owned(), message: message.to_owned(), retry_after_ms: None };
        Decision { verdict: Verdict::Reject(rejection), cache: CacheScope::None, cache_ms: 0 }
    }
}
