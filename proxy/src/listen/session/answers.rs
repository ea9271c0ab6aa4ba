//! The order of a client's answers: places that are filled when their time comes, and what must not overtake them.

use super::Session;
use crate::listen::blocking::Latest;
use crate::listen::filter::Shape;
use crate::listen::groups::merge::Merge;
use crate::listen::pubsub::Kind;
use bytes::{Bytes, BytesMut};

/// A confirmation that waits for a backend is given after so many sweeps at the latest, a second apart.
const MOST_SWEEPS: u32 = 3;

/// The answer to one burst, or its place.
#[derive(Debug)]
pub(super) enum Slot {
    Ready(Bytes),
    Waiting {
        since_us: u64,
        shape: Shape,
        /// What the slow log would show.
        brief: Option<BytesMut>,
    },
    /// An answer that messages must not overtake, and the messages that came behind it. Not to be given while so
    /// many feeds of events have not confirmed.
    Confirm {
        reply: Bytes,
        behind: Vec<Bytes>,
        feeds: usize,
        sweeps: u32,
    },
    /// An invalidation behind answers that may be older.
    Told(Bytes),
    /// The answer that ends subscriptions.
    Leave {
        reply: Bytes,
        kind: Kind,
        names: Vec<Bytes>,
    },
}

/// Slots one after another whose answers are given as one.
#[derive(Debug)]
pub(super) struct Spread {
    first: u64,
    /// The group of each, by its place among the listener's.
    groups: Vec<usize>,
    merge: Merge,
    answers: Vec<Bytes>,
}

impl Session {
    /// Answers now, in its turn.
    pub fn answer(&mut self, reply: Bytes) {
        if let Some(captured) = &mut self.capture {
            return captured.extend_from_slice(&reply);
        }
        self.open_burst = None;
        if self.spreading.is_some() {
            let reply = if self.mute { Bytes::new() } else { reply };
            return self.slots.push_back(Slot::Ready(reply));
        }
        if self.mute {
            return;
        }
        if self.slots.is_empty() {
            self.front += 1;
            self.output.push(reply);
        } else {
            self.slots.push_back(Slot::Ready(reply));
        }
    }

    /// What is answered from here on are parts of one answer.
    pub fn begin_parts(&mut self) {
        self.spreading = Some(self.front + self.slots.len() as u64);
    }

    /// All parts have their places: one for each of these groups.
    pub fn end_parts(&mut self, groups: Vec<usize>, merge: Merge) {
        self.open_burst = None;
        // All may be answered already.
        self.dirty = true;
        if let Some(first) = self.spreading.take() {
            debug_assert_eq!(first + groups.len() as u64, self.front + self.slots.len() as u64);
            self.spreads.push_back(Spread { first, groups, merge, answers: Vec::new() });
        }
    }

    /// The parts of the answer that this ticket belongs to which are still waited for, with the place of the group of
    /// each.
    pub fn waiting_parts(&self, ticket: u64) -> Vec<(u64, usize)> {
        let holds =
            |spread: &&Spread| (spread.first..spread.first + spread.groups.len() as u64).contains(&ticket);
        let parts: Vec<(u64, usize)> = match self.spreads.iter().find(holds) {
            Some(spread) => (spread.first..).zip(spread.groups.iter().copied()).collect(),
            None => vec![(ticket, self.at)],
        };
        parts.into_iter().filter(|(ticket, _)| self.is_waiting(*ticket)).collect()
    }

    /// Gives an answer whose turn it is, or keeps it as a part of one.
    fn give(&mut self, reply: Bytes) {
        let ticket = self.front - 1;
        match self.spreads.front_mut() {
            Some(spread) if ticket >= spread.first => spread.answers.push(reply),
            _ => return self.output.push(reply),
        }
        if let Some(spread) = self.spreads.pop_front_if(|spread| spread.answers.len() == spread.groups.len())
        {
            self.output.push(spread.merge.join(&spread.answers));
        }
    }

    /// Answers in its turn; what is pushed from now on comes later than this answer.
    pub fn confirm(&mut self, reply: Bytes) {
        match self.slots.is_empty() || self.capture.is_some() {
            true => self.answer(reply),
            false => {
                self.confirm_later(reply, 0);
            }
        }
    }

    /// The same, but only when [`Self::confirm_now`] was called so often with the ticket that this returns.
    pub fn confirm_later(&mut self, reply: Bytes, feeds: usize) -> u64 {
        self.open_burst = None;
        self.in_turn.0 += 1;
        let reply = if self.mute { Bytes::new() } else { reply };
        self.slots.push_back(Slot::Confirm { reply, behind: Vec::new(), feeds, sweeps: 0 });
        self.front + self.slots.len() as u64 - 1
    }

    /// One that the confirmation with this ticket waits for is there, if that is still waiting.
    pub fn confirm_now(&mut self, ticket: u64) {
        let index = ticket.checked_sub(self.front).and_then(|index| usize::try_from(index).ok());
        let slot = index.and_then(|index| self.slots.get_mut(index));
        if let Some(Slot::Confirm { feeds, .. }) = slot {
            *feeds = feeds.saturating_sub(1);
        }
    }

    /// Gives every confirmation its turn that waits for longer than a backend may take. `false`: there is none.
    pub fn confirm_overdue(&mut self) -> bool {
        let mut any = false;
        for slot in &mut self.slots {
            if let Slot::Confirm { feeds: feeds @ 1.., sweeps, .. } = slot {
                *sweeps += 1;
                if *sweeps > MOST_SWEEPS {
                    (*feeds, any) = (0, true);
                }
            }
        }
        any
    }

    /// Answers in its turn, and ends these subscriptions then.
    pub fn leave(&mut self, reply: Bytes, kind: Kind, names: Vec<Bytes>) {
        self.open_burst = None;
        let reply = if self.mute { Bytes::new() } else { reply };
        self.slots.push_back(Slot::Leave { reply, kind, names });
    }

    /// Sends what no command asked for: between answers, never before a confirmation that is still owed.
    pub fn push(&mut self, frame: Bytes) {
        if self.in_turn.0 == 0 {
            return self.output.push(frame);
        }
        let held = self.slots.iter_mut().rev().find_map(|slot| match slot {
            Slot::Confirm { behind, .. } => Some(behind),
            _ => None,
        });
        if let Some(behind) = held {
            self.in_turn.1 += frame.len();
            behind.push(frame);
        }
    }

    /// Sends something once more behind all answers that are owed now, if there are any.
    pub fn push_last(&mut self, frame: Bytes) {
        if !self.slots.is_empty() {
            self.in_turn.1 += frame.len();
            self.slots.push_back(Slot::Told(frame));
        }
    }

    /// Has the burst with this ticket no answer yet?
    pub fn is_waiting(&self, ticket: u64) -> bool {
        let index = ticket.checked_sub(self.front).and_then(|index| usize::try_from(index).ok());
        let slot = index.and_then(|index| self.slots.get(index));
        matches!(slot, Some(Slot::Waiting { .. }))
    }

    /// Takes the first slot if it is its turn. What it ends is told.
    pub(super) fn take_turn(&mut self) -> Option<Option<(Kind, Vec<Bytes>)>> {
        if matches!(self.slots.front()?, Slot::Waiting { .. } | Slot::Confirm { feeds: 1.., .. }) {
            return None;
        }
        let slot = self.slots.pop_front()?;
        self.front += 1;
        match slot {
            Slot::Ready(reply) => self.give(reply),
            Slot::Confirm { reply, behind, .. } => {
                self.in_turn.0 -= 1;
                self.output.push(reply);
                for frame in behind {
                    self.in_turn.1 -= frame.len();
                    self.output.push(frame);
                }
            }
            Slot::Told(frame) => {
                self.in_turn.1 -= frame.len();
                self.output.push(frame);
            }
            Slot::Leave { reply, kind, names } => {
                self.output.push(reply);
                return Some(Some((kind, names)));
            }
            Slot::Waiting { .. } => {}
        }
        Some(None)
    }

    /// Takes a place for an answer that comes later; its ticket.
    pub fn wait(&mut self, since_us: u64, shape: Shape) -> u64 {
        let brief = self.brief.take();
        let shape = if self.mute { Shape::Nothing } else { shape };
        self.slots.push_back(Slot::Waiting { since_us, shape, brief });
        self.front + self.slots.len() as u64 - 1
    }

    /// Does this place wait to learn what came last?
    pub fn seeks_latest(&self, ticket: u64) -> bool {
        let index = ticket.checked_sub(self.front).and_then(|index| usize::try_from(index).ok());
        let slot = index.and_then(|index| self.slots.get(index));
        matches!(slot, Some(Slot::Waiting { shape: Shape::Latest(_), .. }))
    }

    /// What is to be waited for in this place, once it is known what came last.
    pub fn take_latest(&mut self, ticket: u64) -> Option<Latest> {
        let index = usize::try_from(ticket.checked_sub(self.front)?).ok()?;
        let Slot::Waiting { shape, .. } = self.slots.get_mut(index)? else { return None };
        let Shape::Latest(_) = shape else { return None };
        match std::mem::replace(shape, Shape::AsIs) {
            Shape::Latest(latest) => Some(*latest),
            _ => None,
        }
    }

    /// Fills a place. `None`: there is no such place, the answer is for an earlier client of this number.
    /// Otherwise the microsecond at which the burst began, and what the slow log would show of it.
    pub fn fill(
        &mut self,
        ticket: u64,
        make: impl FnOnce(&Shape) -> Bytes,
    ) -> Option<(u64, Option<BytesMut>)> {
        let index = usize::try_from(ticket.checked_sub(self.front)?).ok()?;
        let slot = self.slots.get_mut(index)?;
        let Slot::Waiting { since_us, shape, brief } = slot else { return None };
        let since = (*since_us, brief.take());
        *slot = Slot::Ready(make(shape));
        if self.open_burst == Some(ticket) {
            self.open_burst = None;
        }
        if self.parked == Some(ticket) {
            match self.waiting_parts(ticket).first() {
                Some((other, _)) => self.parked = Some(*other),
                None => self.unpark(),
            }
        }
        Some(since)
    }
}
