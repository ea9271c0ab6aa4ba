//! Ack rules: which sets of replicas are enough.
//!
//! A rule is "any of (all of (at least `need` among these))", compiled to bit masks, so that
//! asking it costs a few `popcount`s. Every monotone rule can be written this way.

use serde::{Deserialize, Serialize};

/// A set of replicas of one group, by index: bit `i` is replica `i`.
pub type Mask = u64;

/// The most replicas a group may have. The quorum proof enumerates all subsets of them.
pub const MAX_REPLICAS: usize = 16;

/// At least `need` of the replicas in `among`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Threshold {
    /// Candidates.
    pub among: Mask,
    /// How many of them are enough.
    pub need: u32,
}

impl Threshold {
    fn met(self, acked: Mask) -> bool {
        (acked & self.among).count_ones() >= self.need
    }
}

/// Any of all of thresholds. `Rule::any` empty is never met.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    any: Vec<Vec<Threshold>>,
}

impl Rule {
    /// A rule from its disjunctive form.
    pub fn any_of(any: Vec<Vec<Threshold>>) -> Self {
        Self { any }
    }

    /// `need` of the replicas in `among`.
    pub fn count(need: u32, among: Mask) -> Self {
        Self::any_of(vec![vec![Threshold { among, need }]])
    }

    /// More than half of the replicas in `among`.
    pub fn majority(among: Mask) -> Self {
        Self::count(among.count_ones() / 2 + 1, among)
    }

    /// All replicas in `among`.
    pub fn all(among: Mask) -> Self {
        Self::count(among.count_ones(), among)
    }

    /// Is the set `acked` enough?
    #[inline]
    pub fn met(&self, acked: Mask) -> bool {
        self.any.iter().any(|all| all.iter().all(|threshold| threshold.met(acked)))
    }

    /// How many replicas the smallest set has that is enough; one more than there may be, if none is.
    pub fn fewest(&self) -> u32 {
        let members = self.members();
        let subsets = std::iter::successors(Some(members), |set| Some(set.checked_sub(1)? & members));
        let enough = subsets.filter(|set| self.met(*set)).map(Mask::count_ones);
        enough.min().unwrap_or(MAX_REPLICAS as u32 + 1)
    }

    /// Every replica the rule looks at.
    pub fn members(&self) -> Mask {
        self.any.iter().flatten().fold(0, |mask, threshold| mask | threshold.among)
    }

    /// Reads like a sentence: `2 of {r1, r2, r3}`, `(1 of {a}) and (2 of {b, c})`.
    pub fn describe(&self, name: impl Fn(usize) -> String) -> String {
        let one = |t: &Threshold| format!("{} of {}", t.need, names(t.among, &name));
        let all = |ts: &Vec<Threshold>| ts.iter().map(one).collect::<Vec<_>>().join(" and ");
        match self.any.len() {
            0 => "never".into(),
            _ => self.any.iter().map(all).collect::<Vec<_>>().join(", or "),
        }
    }
}

/// The members of `mask` as indices, lowest first.
pub fn indices(mask: Mask) -> impl Iterator<Item = usize> {
    (0..64).filter(move |i| mask >> i & 1 == 1)
}

/// The members of `mask` by name: `{r1, r3}`.
pub fn names(mask: Mask, name: impl Fn(usize) -> String) -> String {
    let members: Vec<String> = indices(mask).map(name).collect();
    format!("{{{}}}", members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majority_of_three_needs_two() {
        let rule = Rule::majority(0b111);
        assert!(!rule.met(0b001));
        assert!(rule.met(0b101));
        assert!(rule.met(0b111));
    }

    #[test]
    fn the_smallest_set_is_found() {
        assert_eq!(Rule::majority(0b11011).fewest(), 3);
        let two = |need| Threshold { among: 0b0011, need };
        let zones = vec![
            vec![two(2), Threshold { among: 0b1110, need: 1 }],
            vec![Threshold { among: 0b1111, need: 4 }],
        ];
        assert_eq!(Rule::any_of(zones).fewest(), 2, "one replica may count for both");
        assert_eq!(Rule::any_of(vec![]).fewest(), 17);
        assert_eq!(Rule::count(0, 0b111).fewest(), 0);
    }

    #[test]
    fn outsiders_do_not_count() {
        let rule = Rule::count(2, 0b011);
        assert!(!rule.met(0b101));
        assert!(rule.met(0b011));
    }

    #[test]
    fn each_zone_majority_is_a_conjunction() {
        let rule = Rule::any_of(vec![vec![
            Threshold { among: 0b0011, need: 2 },
            Threshold { among: 0b1100, need: 1 },
        ]]);
        assert!(!rule.met(0b1101));
        assert!(rule.met(0b0111));
        let text = rule.describe(|i| format!("r{}", i + 1));
        assert_eq!(text, "2 of {r1, r2} and 1 of {r3, r4}");
    }

    #[test]
    fn an_empty_rule_is_never_met() {
        assert!(!Rule::any_of(vec![]).met(u64::MAX));
    }
}
