//! Writes that nobody can tell apart from writes that were overwritten at once.
//! Such a write may be ordered just before the next overwriting one: nothing is lost by it, and the search
//! need not try all the other places.

use super::model::Model;
use super::search::Item;

/// For each operation, those that could still show that it took effect.
pub(super) struct Observers(Vec<Option<Vec<usize>>>);

impl Observers {
    pub(super) fn new<M: Model>(items: &[Item<M>]) -> Self {
        let observers = |write: usize| {
            let returned = items[write].returned.filter(|_| overwrites(&items[write]))?;
            let horizon = horizon(items, returned);
            let left = M::step(&M::initial(), items[write].op, items[write].ret)?;
            let seen_by = |item: &Item<M>| {
                item.invoked <= horizon
                    && item.returned.is_none_or(|at| at >= items[write].invoked)
                    && !overwrites(item)
                    && !(item.returned.is_none() && M::reads_only(item.op))
                    && M::step(&left, item.op, item.ret).is_some()
            };
            Some((0..items.len()).filter(|other| *other != write && seen_by(&items[*other])).collect())
        };
        Observers((0..items.len()).map(observers).collect())
    }

    /// True when no operation left can tell whether this write was the last one.
    pub(super) fn unseen(&self, write: usize, done: impl Fn(usize) -> bool) -> bool {
        self.0[write].as_ref().is_some_and(|observers| observers.iter().all(|observer| done(*observer)))
    }
}

pub(super) fn overwrites<M: Model>(item: &Item<M>) -> bool {
    M::overwrites(item.op, item.ret)
}

/// The time after which some later write is sure to have covered one that returned at `returned`.
fn horizon<M: Model>(items: &[Item<M>], returned: u64) -> u64 {
    let later = items.iter().filter(|item| item.invoked > returned && overwrites(item));
    later.filter_map(|item| item.returned).min().unwrap_or(u64::MAX)
}
