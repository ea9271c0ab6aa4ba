//! The search for an order, over the operations of one key.
//! A place in it is a set of operations already ordered and the state they lead to; none is visited twice,
//! and places that can do no more than another one are left out.

#![allow(clippy::disallowed_types, reason = "asked for membership only: its order is never seen")]

use std::collections::HashSet;

use super::model::Model;
use super::unseen::{Observers, overwrites};

/// An operation as the search sees it. Without a return time it is optional: it may also never happen.
pub(super) struct Item<'a, M: Model> {
    pub(super) op: &'a M::Op,
    pub(super) ret: Option<&'a M::Ret>,
    pub(super) invoked: u64,
    pub(super) returned: Option<u64>,
}

/// What the search found.
pub(super) enum Found {
    /// An order exists.
    Order,
    /// None exists. The longest one that could be begun, and what stopped it.
    Stuck { prefix: Vec<usize>, blocked: Vec<usize> },
    /// The budget ran out.
    OutOfBudget,
}

/// The budget ran out.
struct Spent;

/// Operations already ordered.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Box<[u64]>);

impl Done {
    fn has(&self, item: usize) -> bool {
        self.0[item / 64] >> (item % 64) & 1 == 1
    }

    fn flip(&mut self, item: usize) {
        self.0[item / 64] ^= 1 << (item % 64);
    }
}

/// Operations that may come next, in this order, and the state after them.
struct Choice<S> {
    items: Vec<usize>,
    state: S,
}

/// A place on the path from the start: its state, what may come next (the last first), what led here.
struct Frame<S> {
    state: S,
    choices: Vec<Choice<S>>,
    added: Vec<usize>,
}

/// The longest order begun so far.
#[derive(Default)]
struct Best {
    required: usize,
    prefix: Vec<usize>,
    blocked: Vec<usize>,
}

/// Walks the places depth first.
pub(super) struct Search<'a, M: Model> {
    items: &'a [Item<'a, M>],
    /// Indices of items that returned, by their calls.
    required: Vec<usize>,
    optional: Vec<usize>,
    observers: Observers,
    done: Done,
    required_done: usize,
    seen: HashSet<(Done, M::State)>,
    path: Vec<Frame<M::State>>,
    steps_left: u64,
    best: Best,
}

impl<'a, M: Model> Search<'a, M> {
    pub(super) fn new(items: &'a [Item<'a, M>], budget: u64) -> Self {
        let by_call = |wanted: bool| {
            let mut indices: Vec<usize> =
                (0..items.len()).filter(|i| items[*i].returned.is_some() == wanted).collect();
            indices.sort_by_key(|i| items[*i].invoked);
            indices
        };
        Search {
            items,
            required: by_call(true),
            optional: by_call(false),
            observers: Observers::new(items),
            done: Done(vec![0; items.len().div_ceil(64)].into()),
            required_done: 0,
            seen: HashSet::new(),
            path: Vec::new(),
            steps_left: budget,
            best: Best::default(),
        }
    }

    pub(super) fn run(mut self) -> Found {
        match self.walk() {
            Err(Spent) => Found::OutOfBudget,
            Ok(true) => Found::Order,
            Ok(false) => Found::Stuck { prefix: self.best.prefix, blocked: self.best.blocked },
        }
    }

    fn walk(&mut self) -> Result<bool, Spent> {
        self.visit(M::initial(), Vec::new())?;
        while self.required_done < self.required.len() {
            let Some(frame) = self.path.last_mut() else { return Ok(false) };
            let Some(Choice { items, state }) = frame.choices.pop() else {
                let dead = self.path.pop().map_or(Vec::new(), |frame| frame.added);
                self.toggle(&dead);
                continue;
            };
            self.toggle(&items);
            if self.seen.insert((self.done.clone(), state.clone())) {
                self.visit(state, items)?;
            } else {
                self.toggle(&items);
            }
        }
        Ok(true)
    }

    fn toggle(&mut self, items: &[usize]) {
        for item in items {
            self.done.flip(*item);
            match (self.items[*item].returned.is_some(), self.done.has(*item)) {
                (true, true) => self.required_done += 1,
                (true, false) => self.required_done -= 1,
                (false, _) => {}
            }
        }
    }

    /// Works out what may come next and goes there.
    fn visit(&mut self, state: M::State, added: Vec<usize>) -> Result<(), Spent> {
        let (open, latest_call) = self.open_required();
        let (mut fitting, mut blocked) = (Vec::new(), Vec::new());
        for item in open {
            match self.step(&state, item)? {
                // Wherever an order has this read, it may have it now instead.
                Some(next) if M::reads_only(self.items[item].op) => {
                    let choices = vec![Choice { items: vec![item], state: next }];
                    self.path.push(Frame { state, choices, added });
                    return Ok(());
                }
                Some(next) => fitting.push((item, next)),
                None => blocked.push(item),
            }
        }
        let dead = blocked.iter().any(|item| self.is_hopeless(&state, *item));
        self.note_best(&added, blocked);
        let choices = if dead { Vec::new() } else { self.choices(&state, fitting, latest_call, &added)? };
        self.path.push(Frame { state, choices, added });
        Ok(())
    }

    fn choices(
        &mut self,
        state: &M::State,
        mut fitting: Vec<(usize, M::State)>,
        latest_call: u64,
        added: &[usize],
    ) -> Result<Vec<Choice<M::State>>, Spent> {
        let unseen: Vec<usize> =
            fitting.iter().map(|(item, _)| *item).filter(|item| self.is_unseen(*item)).collect();
        // What must happen is tried before what may, the earliest answer before all.
        fitting.sort_by_key(|(item, _)| std::cmp::Reverse(self.items[*item].returned));
        let mut all = self.open_optional(state, latest_call)?;
        all.append(&mut fitting);
        // Of writes that nobody will see, any one stands for the others.
        all.retain(|(item, _)| !unseen.contains(item) || unseen.first() == Some(item));
        let with_unseen = |(item, state): (usize, M::State)| {
            let mut items = vec![item];
            if overwrites(&self.items[item]) {
                items = unseen.iter().copied().filter(|other| *other != item).collect();
                items.push(item);
            }
            Choice { items, state }
        };
        let choices = all.into_iter().map(with_unseen).collect();
        self.without_detours(choices, added)
    }

    /// Drops what would have led to the same state without the optional operation just added: the order
    /// without it is tried too, and can do all that this one can.
    fn without_detours(
        &mut self,
        mut choices: Vec<Choice<M::State>>,
        added: &[usize],
    ) -> Result<Vec<Choice<M::State>>, Spent> {
        let items = self.items;
        let detour = added.last().map(|item| &items[*item]).filter(|item| item.returned.is_none());
        let (Some(detour), Some(before)) = (detour, self.path.last()) else { return Ok(choices) };
        self.steps_left = self.steps_left.checked_sub(choices.len() as u64).ok_or(Spent)?;
        choices.retain(|choice| {
            let [.., last] = choice.items.as_slice() else { return true };
            let same_company = choice.items.len() == 1 || overwrites(detour);
            let without = M::step(&before.state, items[*last].op, items[*last].ret);
            !(same_company && without.as_ref() == Some(&choice.state))
        });
        Ok(choices)
    }

    /// What may come next among what must come: calls not later than the first answer outstanding.
    fn open_required(&self) -> (Vec<usize>, u64) {
        let mut open = Vec::new();
        let mut first_answer = u64::MAX;
        for item in self.required.iter().copied().filter(|item| !self.done.has(*item)) {
            if self.items[item].invoked > first_answer {
                break;
            }
            first_answer = first_answer.min(self.items[item].returned.unwrap_or(u64::MAX));
            open.push(item);
        }
        (open, first_answer)
    }

    fn open_optional(&mut self, state: &M::State, latest_call: u64) -> Result<Vec<(usize, M::State)>, Spent> {
        let mut open = Vec::new();
        for i in (0..self.optional.len()).rev() {
            let item = self.optional[i];
            if self.done.has(item) || self.items[item].invoked > latest_call {
                continue;
            }
            if let Some(next) = self.step(state, item)?.filter(|next| next != state) {
                open.push((item, next));
            }
        }
        Ok(open)
    }

    fn is_unseen(&self, item: usize) -> bool {
        self.observers.unseen(item, |observer| self.done.has(observer))
    }

    fn is_hopeless(&self, state: &M::State, item: usize) -> bool {
        let Item { op, ret: Some(ret), returned: Some(returned), .. } = self.items[item] else {
            return false;
        };
        let rest = self.required.iter().take_while(|other| self.items[**other].invoked <= returned);
        let rest = rest.chain(&self.optional).filter(|other| **other != item && !self.done.has(**other));
        M::hopeless(state, op, ret, rest.map(|other| self.items[*other].op))
    }

    fn step(&mut self, state: &M::State, item: usize) -> Result<Option<M::State>, Spent> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or(Spent)?;
        Ok(M::step(state, self.items[item].op, self.items[item].ret))
    }

    fn note_best(&mut self, added: &[usize], blocked: Vec<usize>) {
        let Best { required, blocked: ref known, .. } = self.best;
        if self.required_done > required || (self.required_done == required && known.is_empty()) {
            let path = self.path.iter().flat_map(|frame| &frame.added);
            let prefix = path.chain(added).copied().collect();
            self.best = Best { required: self.required_done, prefix, blocked };
        }
    }
}
