//! Which keys may reach the end of their life, and when at the earliest.
//!
//! What is kept is a lower bound: a key may live longer than is known here, because a later command moved its
//! deadline or removed it, but never shorter. Whoever acts on a bound asks the backends what is true.

use hashbrown::HashTable;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use xxhash_rust::xxh3::xxh3_64;

/// Wall clock milliseconds since 1970.
pub type UnixMs = u64;

/// A key that a command may have given a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// The key.
    pub key: Box<[u8]>,
    /// When it ends.
    pub ends: Ends,
}

/// When a key ends, as far as its command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ends {
    /// Then.
    At(UnixMs),
    /// With this other key, whose value it gets.
    Like(Box<[u8]>),
    /// The command does not say.
    Unknown,
}

const NEVER: UnixMs = UnixMs::MAX;

#[derive(Debug)]
struct Slot {
    key: Box<[u8]>,
    /// It does not end before.
    bound: UnixMs,
    /// The least of the other deadlines that it was given.
    later: UnixMs,
    /// It was given more than these two.
    more: bool,
    /// Its place in the heap, `NEVER` for none. Older places are passed over.
    queued: UnixMs,
    /// The backends were asked for its deadline, and nothing better than `bound` is known until they answer.
    asked: bool,
}

/// See the module's head. About 70 bytes a key, and the key.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    heap: BinaryHeap<Reverse<(UnixMs, u32)>>,
}

impl Deadlines {
    /// How many keys.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Takes note of a command that gives a key a deadline. Where not all deadlines are known (`complete`), the
    /// lack of one says nothing.
    pub(super) fn note(&mut self, timed: &Timed, complete: bool) {
        match &timed.ends {
            Ends::At(at) => self.add(&timed.key, *at),
            Ends::Unknown => self.add(&timed.key, 0),
            Ends::Like(_) if !complete => self.add(&timed.key, 0),
            Ends::Like(other) => {
                let Some(id) = self.find(other) else { return };
                let Slot { bound, later, asked, .. } = self.slots[id as usize];
                self.add(&timed.key, if asked { 0 } else { bound });
                if later != NEVER {
                    self.add(&timed.key, later);
                }
            }
        }
    }

    /// Takes note that the key may end at `at`; 0 when only the backends know.
    pub(super) fn add(&mut self, key: &[u8], at: UnixMs) {
        let id = self.find(key).unwrap_or_else(|| self.insert(key));
        let slot = &mut self.slots[id as usize];
        let other = at.max(slot.bound);
        if at < slot.bound {
            (slot.bound, slot.asked) = (at, false);
        }
        if other != slot.bound && other != slot.later {
            slot.more |= slot.later != NEVER;
            slot.later = slot.later.min(other);
        }
        self.queue(id);
    }

    /// A key whose bound has passed, but for those that the backends were asked for.
    pub(super) fn next_due(&mut self, now: UnixMs) -> Option<&[u8]> {
        while let Some(Reverse((at, id))) = self.heap.peek().copied()
            && at <= now
        {
            self.heap.pop();
            let slot = &mut self.slots[id as usize];
            if slot.queued != at {
                continue;
            }
            slot.queued = NEVER;
            if slot.bound > now {
                self.queue(id);
            } else if !slot.asked {
                return Some(&self.slots[id as usize].key);
            }
        }
        None
    }

    /// Is there a bound that has passed and was not looked at?
    pub(super) fn is_behind(&self, now: UnixMs) -> bool {
        self.heap.peek().is_some_and(|Reverse((at, _))| *at <= now)
    }

    /// May this key have ended?
    pub(super) fn may_have_ended(&self, key: &[u8], now: UnixMs) -> bool {
        self.find(key).is_some_and(|id| self.slots[id as usize].bound <= now)
    }

    /// The backends are asked for the deadline of this key, as of `now`. `true` when it may end at any time
    /// before they answer.
    pub(super) fn ask(&mut self, key: &[u8], now: UnixMs) -> bool {
        let Some(id) = self.find(key) else { return false };
        let slot = &mut self.slots[id as usize];
        // Of several other deadlines not all are known, and the one that is may have passed as well.
        let uncertain = slot.bound == 0 || slot.asked || slot.more || slot.later <= now;
        if uncertain {
            (slot.bound, slot.asked, slot.more) = (1, true, false);
            slot.later = if slot.later <= now { NEVER } else { slot.later };
        } else if slot.later == NEVER {
            self.remove(id);
        } else {
            (slot.bound, slot.later) = (slot.later, NEVER);
            self.queue(id);
        }
        uncertain
    }

    /// The backends answered: `Some` deadline, or the key is gone or has none.
    pub(super) fn answered(&mut self, key: &[u8], deadline: Option<UnixMs>) {
        if let Some(id) = self.find(key)
            && self.slots[id as usize].asked
        {
            let slot = &mut self.slots[id as usize];
            // What was added since stands.
            (slot.bound, slot.later, slot.asked) = (slot.later, NEVER, false);
            if slot.bound == NEVER {
                self.remove(id);
            } else {
                self.queue(id);
            }
        }
        if let Some(at) = deadline {
            self.add(key, at);
        }
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        self.table.find(xxh3_64(key), |id| *self.slots[*id as usize].key == *key).copied()
    }

    fn insert(&mut self, key: &[u8]) -> u32 {
        let slot = Slot {
            key: Box::from(key),
            bound: NEVER,
            later: NEVER,
            more: false,
            queued: NEVER,
            asked: false,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.table.insert_unique(xxh3_64(key), id, |id| xxh3_64(&slots[*id as usize].key));
        id
    }

    fn remove(&mut self, id: u32) {
        let key = std::mem::take(&mut self.slots[id as usize].key);
        if let Ok(entry) = self.table.find_entry(xxh3_64(&key), |other| *other == id) {
            entry.remove();
        }
        self.slots[id as usize].queued = NEVER;
        self.free.push(id);
    }

    /// Each key has one place in the heap that counts, at its bound or before.
    fn queue(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        if slot.bound < slot.queued {
            slot.queued = slot.bound;
            self.heap.push(Reverse((slot.bound, id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn due(deadlines: &mut Deadlines, now: UnixMs) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(key) = deadlines.next_due(now) {
            let key = key.to_vec();
            deadlines.ask(&key, now);
            all.push(String::from_utf8(key).expect("text"));
        }
        all
    }

    #[test]
    fn keys_come_when_they_are_due_and_once() {
        let mut deadlines = Deadlines::default();
        deadlines.add(b"b", 20);
        deadlines.add(b"a", 10);
        deadlines.add(b"c", 30);
        assert_eq!(due(&mut deadlines, 9), [""; 0]);
        assert!(deadlines.is_behind(20));
        assert_eq!(due(&mut deadlines, 20), ["a", "b"]);
        assert_eq!(due(&mut deadlines, 20), [""; 0]);
        assert_eq!(deadlines.len(), 1);
    }

    #[test]
    fn a_deadline_that_was_moved_is_looked_at_once_at_its_first_time() {
        let mut deadlines = Deadlines::default();
        (1..100).for_each(|at| deadlines.add(b"session", at * 10));
        assert_eq!(deadlines.heap.len(), 1, "refreshing a key costs nothing");
        assert_eq!(due(&mut deadlines, 10), ["session"]);
        deadlines.answered(b"session", Some(990));
        assert!(!deadlines.may_have_ended(b"session", 15));
        assert!(deadlines.may_have_ended(b"session", 25), "the next known bound, which may be the true one");
        deadlines.answered(b"session", None);
        assert!(deadlines.may_have_ended(b"session", 25), "not asked since");
    }

    #[test]
    fn what_only_the_backends_know_may_end_until_they_answer() {
        let mut deadlines = Deadlines::default();
        deadlines.add(b"renamed", 0);
        assert_eq!(due(&mut deadlines, 5), ["renamed"]);
        assert!(deadlines.may_have_ended(b"renamed", 6));
        assert!(deadlines.ask(b"renamed", 6));
        assert_eq!(due(&mut deadlines, 7), [""; 0], "it is asked for already");
        deadlines.answered(b"renamed", Some(50));
        assert!(!deadlines.may_have_ended(b"renamed", 49));
        assert_eq!(due(&mut deadlines, 50), ["renamed"]);
        deadlines.add(b"renamed", 0);
        deadlines.ask(b"renamed", 51);
        deadlines.add(b"renamed", 60);
        deadlines.answered(b"renamed", None);
        assert_eq!(due(&mut deadlines, 60), ["renamed"], "given after it was asked for");
        assert_eq!(deadlines.len(), 0);
    }

    proptest! {
        /// Whatever deadlines a key is given, and whichever of them holds, it is never believed to live on
        /// after the one that holds.
        #[test]
        fn a_bound_is_never_beyond_the_truth(ops in proptest::collection::vec((0u8..4, 1u64..40), 1..60)) {
            let mut deadlines = Deadlines::default();
            let (mut truth, mut now) = (None::<UnixMs>, 0);
            let mut asked: Option<Option<UnixMs>> = None;
            for (op, number) in ops {
                match op {
                    0 => {
                        truth = Some(now + number);
                        deadlines.add(b"k", now + number);
                    }
                    // A deadline that was not taken.
                    1 => deadlines.add(b"k", now + number),
                    2 => now += number / 4,
                    _ => if let Some(answer) = asked.take() {
                        deadlines.answered(b"k", answer);
                    },
                }
                if asked.is_none() && deadlines.next_due(now).is_some() {
                    deadlines.ask(b"k", now);
                    truth = truth.filter(|at| *at > now);
                    asked = Some(truth);
                }
                if truth.is_some_and(|at| at <= now) {
                    prop_assert!(deadlines.may_have_ended(b"k", now));
                    deadlines.ask(b"k", now);
                    truth = None;
                }
            }
        }
    }
}
