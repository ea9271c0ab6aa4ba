//! Why a request goes where it goes, from the same plan and rules that real requests use.

use crate::plan::Plan;
use crate::rule::{Mask, indices, names};
use serde::Serialize;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is done, or answered.
    Applied,
    /// It never takes effect.
    Refused,
}

/// One replica's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its name.
    pub replica: String,
    /// Is it in reach?
    pub up: bool,
    /// What it gets, in words.
    pub gets: String,
}

/// The explanation of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Name of the plan.
    pub plan: String,
    /// Every replica's part, in order.
    pub replicas: Vec<Part>,
    /// What becomes of it.
    pub fate: Fate,
    /// When the client is answered.
    pub answered: String,
    /// Replicas that are owed the write afterwards.
    pub hints: Vec<String>,
    /// The reasons, in order.
    pub reasons: Vec<String>,
}

/// Explains a write under a plan while the replicas in `down` are out of reach.
pub fn write(plan: &Plan, replicas: &[String], down: Mask) -> Explanation {
    let name = |i: usize| replicas[i].clone();
    let everyone: Mask = (1 << replicas.len()) - 1;
    let up = everyone & !down;
    let fate = if plan.write.met(up) { Fate::Applied } else { Fate::Refused };
    let part = |i: usize| {
        let counts = plan.waited >> i & 1 == 1;
        let gets = match (up >> i & 1 == 1, counts) {
            (true, true) => "the write; its acknowledgement counts",
            (true, false) => "the write; its acknowledgement is not waited for",
            (false, _) if fate == Fate::Applied => "the write when it is back, in order",
            (false, _) => "nothing",
        };
        Part { replica: name(i), up: up >> i & 1 == 1, gets: gets.into() }
    };
    let rule = plan.write.describe(name);
    let mut reasons = vec![
        format!("plan '{}' acknowledges a write after {rule}", plan.name),
        "every replica of an ordered group gets every write, in one order".into(),
    ];
    if down != 0 {
        reasons.push(format!("{} of the group are out of reach", names(down & everyone, name)));
    }
    let answered = match fate {
        Fate::Applied => format!("when {rule} applied it"),
        Fate::Refused => {
            reasons.push(format!("{} alone cannot meet {rule}", names(up, name)));
            format!("with NOTAPPLIED after {} ms, unless enough replicas come back before", plan.deadline_ms)
        }
    };
    let owed = if fate == Fate::Applied { down & everyone } else { 0 };
    Explanation {
        plan: plan.name.clone(),
        replicas: (0..replicas.len()).map(part).collect(),
        fate,
        answered,
        hints: indices(owed).map(name).collect(),
        reasons,
    }
}

/// Explains a read under a plan while the replicas in `down` are out of reach. `covered` tells
/// whether the replicas in reach touch every write quorum; without that nothing is read.
pub fn read(plan: &Plan, replicas: &[String], down: Mask, covered: bool) -> Explanation {
    let up = |i: usize| down >> i & 1 == 0;
    let order: Vec<usize> = plan.read_order.iter().map(|i| usize::from(*i)).collect();
    let chosen = order.iter().copied().chain(0..replicas.len()).find(|i| up(*i)).filter(|_| covered);
    let part = |i: usize| {
        let gets = if chosen == Some(i) { "the read" } else { "nothing" };
        Part { replica: replicas[i].clone(), up: up(i), gets: gets.into() }
    };
    let listed: Vec<&str> = order.iter().map(|i| replicas[*i].as_str()).collect();
    let mut reasons =
        vec![format!("plan '{}' reads from the first in sync of {}", plan.name, listed.join(", "))];
    if plan.spread {
        reasons.push("reads take turns; this shows the first turn".into());
    }
    let (fate, answered) = match chosen {
        Some(i) => {
            reasons.push("a reply waits until every write it may have seen is committed".into());
            (Fate::Applied, format!("when {} answered and what it may have seen is committed", replicas[i]))
        }
        None => {
            reasons.push("with so few replicas in reach a newer owner may be writing elsewhere".into());
            (Fate::Refused, format!("with NOTAPPLIED after {} ms", plan.deadline_ms))
        }
    };
    Explanation {
        plan: plan.name.clone(),
        replicas: (0..replicas.len()).map(part).collect(),
        fate,
        answered,
        hints: vec![],
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::topology;
    use crate::plan::{Table, builtin_majority};

    fn plan() -> (Plan, Vec<String>) {
        let topology = topology(&["a", "b", "c"]);
        let table = Table::new(&builtin_majority(&topology), &topology).expect("valid");
        (table.plans()[0].clone(), topology.backends.iter().map(|b| b.name.clone()).collect())
    }

    #[test]
    fn a_write_survives_one_replica_down_and_owes_it() {
        let (plan, names) = plan();
        let explained = write(&plan, &names, 0b100);
        assert_eq!(explained.fate, Fate::Applied);
        assert_eq!(explained.hints, ["r3"]);
        assert_eq!(explained.answered, "when 2 of {r1, r2, r3} applied it");
    }

    #[test]
    fn two_down_refuse_it_and_nobody_is_owed() {
        let (plan, names) = plan();
        let explained = write(&plan, &names, 0b110);
        assert_eq!(explained.fate, Fate::Refused);
        assert!(explained.hints.is_empty());
    }

    #[test]
    fn a_read_goes_to_the_first_in_reach() {
        let (plan, names) = plan();
        let explained = read(&plan, &names, 0b100, true);
        assert_eq!(explained.replicas[0].gets, "the read", "the local zone's is down, r1 is next");
        assert_eq!(read(&plan, &names, 0b110, false).fate, Fate::Refused);
    }
}
