//! The quorum proof: by enumeration of all replica subsets, not by formula.
//!
//! Given the write rules that share one log, it finds whether every two write quorums
//! intersect, how many losses an acknowledged write survives, how many replicas may be
//! down while writes go on, and how many a new owner must fence.

use crate::plan::Table;
use crate::rule::{Mask, Rule};
use serde::Serialize;

/// What was proven of a set of write rules over `replicas` replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// How many replicas the group has.
    pub replicas: usize,
    /// Size of the smallest set that meets some write rule.
    pub smallest_quorum: usize,
    /// Any set of this many replicas may be lost for good without losing an acknowledged write.
    pub losses_survived: usize,
    /// Any set of this many replicas may be down while every write rule can still be met.
    pub down_while_writing: usize,
    /// A new owner needs this many replicas, whichever they are, to know every acknowledged write.
    pub needed_at_takeover: usize,
    /// Two quorums without a common replica, if there are any.
    pub disjoint: Option<(Mask, Mask)>,
}

/// Proves the write rules of all plans of a table, which share one log.
pub fn prove_table(table: &Table, replicas: usize) -> Proof {
    let rules: Vec<&Rule> = table.plans().iter().map(|plan| &plan.write).collect();
    prove(&rules, replicas)
}

/// Enumerates the subsets of `replicas` (at most [`crate::rule::MAX_REPLICAS`]) replicas.
pub fn prove(rules: &[&Rule], replicas: usize) -> Proof {
    let everyone: Mask = (1 << replicas) - 1;
    let meets_some = |set: Mask| rules.iter().any(|rule| rule.met(set));
    let meets_all = |set: Mask| rules.iter().all(|rule| rule.met(set));
    let sizes = || (0..=everyone).map(|set| (set, set.count_ones() as usize));

    let smallest = sizes().filter(|(set, _)| meets_some(*set)).map(|(_, n)| n).min().unwrap_or(0);
    // Losing a set is survived by every write when the set contains no quorum.
    let losses =
        sizes().filter(|(set, _)| meets_some(*set)).map(|(_, n)| n).min().map_or(0, |n| n.saturating_sub(1));
    let down = largest_tolerated(replicas, |lost| meets_all(everyone & !lost));
    // A take-over set must touch every quorum: its complement contains none.
    let needed = (0..=replicas)
        .find(|k| sizes().filter(|(_, n)| n == k).all(|(set, _)| !meets_some(everyone & !set)))
        .unwrap_or(replicas);
    Proof {
        replicas,
        smallest_quorum: smallest,
        losses_survived: losses,
        down_while_writing: down,
        needed_at_takeover: needed,
        disjoint: disjoint(everyone, meets_some),
    }
}

/// Does this set of replicas touch every quorum of the rules? Then no acknowledged write escapes it.
pub fn covers(rules: &[&Rule], replicas: usize, set: Mask) -> bool {
    let others = ((1 << replicas) - 1) & !set;
    !rules.iter().any(|rule| rule.met(others))
}

fn largest_tolerated(replicas: usize, survives: impl Fn(Mask) -> bool) -> usize {
    let everyone: Mask = (1 << replicas) - 1;
    let all_of_size = |k: usize| (0..=everyone).filter(|set| set.count_ones() as usize == k).all(&survives);
    (0..=replicas).take_while(|k| all_of_size(*k)).last().unwrap_or(0)
}

/// A quorum whose complement holds a quorum too; both reduced to minimal ones, so that they read well.
fn disjoint(everyone: Mask, meets: impl Fn(Mask) -> bool) -> Option<(Mask, Mask)> {
    let set = (0..=everyone).find(|set| meets(*set) && meets(everyone & !set))?;
    Some((shrink(set, &meets), shrink(everyone & !set, &meets)))
}

fn shrink(mut set: Mask, meets: &impl Fn(Mask) -> bool) -> Mask {
    for i in (0..64).rev() {
        let without = set & !(1 << i);
        if meets(without) {
            set = without;
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn w_of_n(w: u32, n: usize) -> Proof {
        prove(&[&Rule::count(w, (1 << n) - 1)], n)
    }

    #[test]
    fn the_recovery_arithmetic_of_three() {
        let facts = |p: Proof| (p.losses_survived, p.down_while_writing, p.needed_at_takeover);
        assert_eq!(facts(w_of_n(2, 3)), (1, 1, 2));
        assert_eq!(facts(w_of_n(3, 3)), (2, 0, 1));
        assert_eq!(facts(w_of_n(1, 3)), (0, 2, 3));
    }

    #[test]
    fn majorities_intersect() {
        for n in 1..=7 {
            assert_eq!(w_of_n(n as u32 / 2 + 1, n).disjoint, None, "{n}");
        }
    }

    #[test]
    fn one_of_three_names_two_disjoint_quorums() {
        assert_eq!(w_of_n(1, 3).disjoint, Some((0b001, 0b010)));
        assert_eq!(w_of_n(2, 4).disjoint, Some((0b0011, 0b1100)));
    }

    #[test]
    fn rules_are_proven_together() {
        let (two, one) = (Rule::count(2, 0b111), Rule::count(1, 0b111));
        assert_eq!(prove(&[&two], 3).disjoint, None);
        assert!(prove(&[&two, &one], 3).disjoint.is_some(), "the weakest rule counts");
    }

    #[test]
    fn a_cover_touches_every_quorum() {
        let rule = Rule::count(2, 0b111);
        assert!(covers(&[&rule], 3, 0b101));
        assert!(!covers(&[&rule], 3, 0b001));
    }
}
