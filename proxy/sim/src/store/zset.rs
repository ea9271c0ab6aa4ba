//! The sorted set itself: members with scores, ordered by score and then by bytes.
//! It never holds a score that is not a number.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A score that orders: not NaN, and zero has one sign (Redis stores small sets so).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rank(f64);

impl Rank {
    fn of(score: f64) -> Self {
        Rank(if score == 0.0 { 0.0 } else { score })
    }
}

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Members and their scores.
#[derive(Debug, Clone, Default)]
pub(super) struct SortedSet {
    scores: BTreeMap<Vec<u8>, f64>,
    order: BTreeSet<(Rank, Vec<u8>)>,
}

impl SortedSet {
    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.scores.get(member).copied()
    }

    /// Sets the score of a member; the score must be a number.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) {
        assert!(!score.is_nan(), "a score that is not a number has no place in an order");
        self.remove(member);
        let rank = Rank::of(score);
        self.scores.insert(member.to_vec(), rank.0);
        self.order.insert((rank, member.to_vec()));
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> bool {
        let Some(score) = self.scores.remove(member) else { return false };
        self.order.remove(&(Rank::of(score), member.to_vec()))
    }

    /// Members from the lowest score on.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Vec<u8>, f64)> {
        self.order.iter().map(|(_, member)| (member, self.scores[member]))
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<usize> {
        let score = self.score(member)?;
        Some(self.order.range(..(Rank::of(score), member.to_vec())).count())
    }

    /// The ranks whose scores lie within bounds.
    pub(super) fn ranks_within(&self, bounds: Bounds) -> Range<usize> {
        let below = self.order.iter().take_while(|(rank, _)| bounds.min.is_above(rank.0)).count();
        let inside = self.order.iter().skip(below).take_while(|(rank, _)| bounds.max.is_at_or_above(rank.0));
        below..below + inside.count()
    }

    pub(super) fn slice(&self, ranks: Range<usize>) -> Vec<(Vec<u8>, f64)> {
        let (skip, take) = (ranks.start, ranks.len());
        self.iter().skip(skip).take(take).map(|(member, score)| (member.clone(), score)).collect()
    }
}

/// One end of a range of scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    score: f64,
    exclusive: bool,
}

impl Bound {
    /// Reads `1.5`, `(1.5`, `-inf`.
    pub(super) fn parse(arg: &[u8]) -> Option<Self> {
        let (exclusive, number) = match arg {
            [b'(', number @ ..] => (true, number),
            number => (false, number),
        };
        super::number::float(number).map(|score| Bound { score, exclusive })
    }

    /// As a lower end, excludes this score.
    fn is_above(self, score: f64) -> bool {
        if self.exclusive { score <= self.score } else { score < self.score }
    }

    /// As an upper end, includes this score.
    fn is_at_or_above(self, score: f64) -> bool {
        if self.exclusive { score < self.score } else { score <= self.score }
    }
}

/// A range of scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) min: Bound,
    pub(super) max: Bound,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SortedSet {
        let mut set = SortedSet::default();
        for (member, score) in [("b", 1.0), ("a", 1.0), ("z", -0.0), ("y", 0.0), ("top", f64::INFINITY)] {
            set.insert(member.as_bytes(), score);
        }
        set
    }

    fn bounds(min: &str, max: &str) -> Bounds {
        let bound = |text: &str| Bound::parse(text.as_bytes()).expect("a bound");
        Bounds { min: bound(min), max: bound(max) }
    }

    #[test]
    fn equal_scores_order_by_bytes() {
        let order: Vec<_> = sample().iter().map(|(m, _)| String::from_utf8_lossy(m).into_owned()).collect();
        assert_eq!(order, ["y", "z", "a", "b", "top"]);
        assert_eq!(sample().rank(b"a"), Some(2));
    }

    #[test]
    fn bounds_may_exclude_their_ends() {
        assert_eq!(sample().ranks_within(bounds("0", "1")), 0..4);
        assert_eq!(sample().ranks_within(bounds("(0", "(1")), 2..2);
        assert_eq!(sample().ranks_within(bounds("(0", "+inf")), 2..5);
        assert_eq!(sample().ranks_within(bounds("5", "2")).len(), 0);
    }
}
