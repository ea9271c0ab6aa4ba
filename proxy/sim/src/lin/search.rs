//! The search for an order, over the operations of one key.
//! A place in it is a set of operations already ordered and the state they lead to; none is visited twice.

use std::collections::HashSet;

use super::model::Model;

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

/// A place on the path from the start: its state, what may come next, and what brought us there.
struct Frame<S> {
    state: S,
    choices: Vec<(usize, S)>,
    added: Option<usize>,
}

/// Walks the places depth first.
pub(super) struct Search<'a, M: Model> {
    items: &'a [Item<'a, M>],
    /// Indices of items that returned, by their calls.
    required: Vec<usize>,
    optional: Vec<usize>,
    done: Done,
    required_done: usize,
    seen: HashSet<(Done, M::State)>,
    steps_left: u64,
    best: (usize, Vec<usize>, Vec<usize>),
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
            done: Done(vec![0; items.len().div_ceil(64)].into()),
            required_done: 0,
            seen: HashSet::new(),
            steps_left: budget,
            best: (0, Vec::new(), Vec::new()),
        }
    }

    pub(super) fn run(mut self) -> Found {
        let mut path: Vec<Frame<M::State>> = Vec::new();
        let Some(first) = self.visit(M::initial(), None, &path) else { return Found::OutOfBudget };
        path.push(first);
        while self.required_done < self.required.len() {
            let Some(frame) = path.last_mut() else {
                let (_, prefix, blocked) = self.best;
                return Found::Stuck { prefix, blocked };
            };
            let Some((item, state)) = frame.choices.pop() else {
                let dead = path.pop().and_then(|frame| frame.added);
                dead.into_iter().for_each(|item| self.toggle(item));
                continue;
            };
            self.toggle(item);
            if !self.seen.insert((self.done.clone(), state.clone())) {
                self.toggle(item);
                continue;
            }
            match self.visit(state, Some(item), &path) {
                Some(frame) => path.push(frame),
                None => return Found::OutOfBudget,
            }
        }
        Found::Order
    }

    fn toggle(&mut self, item: usize) {
        self.done.flip(item);
        if self.items[item].returned.is_some() {
            self.required_done =
                if self.done.has(item) { self.required_done + 1 } else { self.required_done - 1 };
        }
    }

    /// Works out what may come next. `None` when the budget is spent.
    fn visit(
        &mut self,
        state: M::State,
        added: Option<usize>,
        path: &[Frame<M::State>],
    ) -> Option<Frame<M::State>> {
        let (open, latest_call) = self.open_required();
        let mut choices = Vec::new();
        let mut blocked = Vec::new();
        for item in open {
            match self.step(&state, item)? {
                // It changes nothing and fits now: any order that has it later may have it now.
                Some(next) if next == state => {
                    choices = vec![(item, next)];
                    return Some(Frame { state, choices, added });
                }
                Some(next) => choices.push((item, next)),
                None => blocked.push(item),
            }
        }
        self.note_best(added, path, blocked);
        let mut optional = self.open_optional(&state, latest_call)?;
        // The last is tried first: what must happen before what may, the earliest answer before all.
        choices.sort_by_key(|(item, _)| std::cmp::Reverse(self.items[*item].returned));
        optional.append(&mut choices);
        Some(Frame { state, choices: optional, added })
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

    fn open_optional(&mut self, state: &M::State, latest_call: u64) -> Option<Vec<(usize, M::State)>> {
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
        Some(open)
    }

    fn step(&mut self, state: &M::State, item: usize) -> Option<Option<M::State>> {
        self.steps_left = self.steps_left.checked_sub(1)?;
        Some(M::step(state, self.items[item].op, self.items[item].ret))
    }

    fn note_best(&mut self, added: Option<usize>, path: &[Frame<M::State>], blocked: Vec<usize>) {
        if self.required_done < self.best.0 || (self.required_done == self.best.0 && !self.best.2.is_empty())
        {
            return;
        }
        let prefix = path.iter().filter_map(|frame| frame.added).chain(added).collect();
        self.best = (self.required_done, prefix, blocked);
    }
}
