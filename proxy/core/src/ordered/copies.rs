//! What must be known while somebody copies all data to a stale replica: the keys that the log touched since.
//!
//! Whoever copies reads a source key by key while the log goes on. What it read is the state at the log's head,
//! but for the keys that entries touched since the copying began. Those are remembered here, handed out to be
//! copied once more, and the last of them are copied by a mending, at one position of the log. A key that is
//! forgotten here would be wrong on the target for ever, so whatever cannot be remembered ends the copy.

use super::by_value::{ByValue, Keys};
use bytes::Bytes;

/// What a remembered key costs beyond its own bytes, about.
const KEY_BYTES: usize = 64;

/// One replica's copy.
#[derive(Debug)]
struct Copy {
    source: usize,
    /// Touched and not handed out.
    keys: Keys,
    bytes: usize,
    /// Everything else was copied.
    finished: bool,
    /// Why it leads to nothing any more.
    lost: Option<&'static str>,
    /// Why its last mending failed.
    trouble: &'static str,
}

/// The copies of one group. See the module's head.
#[derive(Debug)]
pub struct Copies {
    all: Vec<Option<Copy>>,
    /// The most bytes of keys that are remembered for one copy.
    limit: usize,
}

impl Copies {
    pub(super) fn new(replicas: usize, limit: usize) -> Self {
        Self { all: (0..replicas).map(|_| None).collect(), limit }
    }

    /// A copy to `replica` begins. What is read of `source` from here on counts, if `source` stands where the
    /// log's head is now, or later.
    pub fn begin(&mut self, replica: usize, source: usize) {
        let (keys, bytes, finished, lost) = (Keys::new(), 0, false, None);
        self.all[replica] = Some(Copy { source, keys, bytes, finished, lost, trouble: "" });
    }

    /// How many keys were touched since they were taken last. `Err`: why the copy is worth nothing any more.
    pub fn touched(&self, replica: usize) -> Result<usize, &'static str> {
        let copy = self.all[replica].as_ref().ok_or("the group was taken over anew")?;
        copy.lost.map_or(Ok(copy.keys.len()), Err)
    }

    /// How full the memory for touched keys is, 0 to 1.
    pub fn fullness(&self, replica: usize) -> f64 {
        self.all[replica].as_ref().map_or(0.0, |copy| copy.bytes as f64 / self.limit as f64)
    }

    /// Takes the keys that were touched. They must be copied again, from the source where the log's head is now,
    /// or later.
    pub fn take(&mut self, replica: usize) -> Result<Keys, &'static str> {
        self.touched(replica)?;
        let copy = self.all[replica].as_mut().ok_or("there is no copy")?;
        copy.bytes = 0;
        Ok(std::mem::take(&mut copy.keys))
    }

    /// Everything was copied but the keys that are touched now: the next time it is attached, it is mended.
    pub fn finish(&mut self, replica: usize) {
        if let Some(copy) = &mut self.all[replica] {
            copy.finished = true;
        }
    }

    /// Why its mending failed; nothing if it did not.
    pub fn trouble(&self, replica: usize) -> &'static str {
        self.all[replica].as_ref().map_or("", |copy| copy.trouble)
    }

    /// There is no copy to `replica` any more.
    pub fn end(&mut self, replica: usize) {
        self.all[replica] = None;
    }

    /// The keys that a finished copy lacks.
    pub(super) fn lacking(&self, replica: usize) -> Option<Keys> {
        let copy = self.all[replica].as_ref()?;
        (copy.finished && copy.lost.is_none()).then(|| copy.keys.clone())
    }

    pub(super) fn is_under_way(&self, replica: usize) -> bool {
        self.all[replica].is_some()
    }

    /// The mending of what it lacks failed: it is not finished after all.
    pub(super) fn unfinish(&mut self, replica: usize, why: &'static str) {
        if let Some(copy) = &mut self.all[replica] {
            (copy.finished, copy.trouble) = (false, why);
        }
    }

    /// What this replica holds, or held, is not the log's.
    pub(super) fn distrust(&mut self, replica: usize) {
        for (target, copy) in self.all.iter_mut().enumerate() {
            if let Some(copy) = copy.as_mut().filter(|copy| copy.source == replica && target != replica) {
                copy.lose("its source held something else than the log says");
            }
        }
    }

    /// The target is not what was copied to.
    pub(super) fn restarted(&mut self, replica: usize) {
        if let Some(copy) = &mut self.all[replica] {
            copy.lose("it was restarted, and may have forgotten a part");
        }
    }

    /// An entry was appended to the log.
    pub(super) fn appended(&mut self, payload: &[Bytes], by_value: &dyn ByValue) {
        let mut copies = self.all.iter_mut().flatten().filter(|copy| copy.lost.is_none()).peekable();
        if payload.is_empty() || copies.peek().is_none() {
            return;
        }
        let mut keys = Keys::new();
        let known = by_value.touched(payload, &mut keys);
        for copy in copies {
            copy.touch(&keys, self.limit);
            if !known {
                copy.lose("it cannot be told which keys a write changed");
            }
        }
    }

    /// The group is taken over, here or by somebody else.
    pub(super) fn end_all(&mut self) {
        self.all.iter_mut().for_each(|copy| *copy = None);
    }
}

impl Copy {
    fn touch(&mut self, keys: &Keys, limit: usize) {
        for key in keys {
            if self.keys.insert(key.clone()) {
                self.bytes += key.len() + KEY_BYTES;
            }
        }
        if self.bytes > limit {
            self.lose("more keys are written than can be copied or remembered");
        }
    }

    fn lose(&mut self, why: &'static str) {
        self.lost.get_or_insert(why);
        self.keys.clear();
        self.bytes = 0;
    }
}
