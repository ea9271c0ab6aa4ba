//! The journal of a simulated proxy: what the real one promises, and how it fails.
//!
//! Commands queue and are committed as one, after a while; what was not reported may or may not be on
//! disk after a crash, from the front. A [`Folder`] survives its process, a [`Recorder`] does not.
//! It must never give back what was not recorded, nor keep what it said to have removed.

use super::Env;
use super::clock::Due;
use super::dice::Dice;
use quorate_core::ordered::{Entry, Event, Position, Record, Recorded};
use std::collections::VecDeque;
use std::sync::Arc;

/// How long a commit takes on average, and a read.
const COMMIT_US: u64 = 900;
const READ_US: u64 = 500;
/// Pause between two attempts to go on after a failure.
const RETRY_US: u64 = 30_000;

/// What is on one disk.
#[derive(Debug, Default)]
pub(super) struct Folder {
    entries: VecDeque<Arc<Entry>>,
    /// What the next entry must follow; known even when the entry itself was dropped.
    head: Option<Position>,
    /// Written by a commit that failed: may show when the files are opened anew.
    limbo: Vec<Arc<Entry>>,
    /// Nothing more can be written.
    pub(super) full: bool,
    /// The next sync fails.
    pub(super) sync_fails: bool,
}

impl Folder {
    /// Everything held, oldest first.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.iter().cloned().collect()
    }

    /// The number of the oldest entry; 0 without any.
    pub(super) fn oldest(&self) -> u64 {
        self.entries.front().map_or(0, |entry| entry.position.seq)
    }

    fn view(&self, failed: bool) -> Recorded {
        let newest = self.entries.back().map(|entry| entry.position).unwrap_or_default();
        Recorded { oldest: self.oldest(), newest, failed }
    }

    fn cut(&mut self, from: u64) {
        let kept = self.entries.partition_point(|entry| entry.position.seq < from);
        self.entries.truncate(kept);
        if self.head.is_some_and(|head| head.seq >= from) {
            self.head = self.entries.back().map(|entry| entry.position);
        }
    }

    fn append(&mut self, entries: impl IntoIterator<Item = Arc<Entry>>) {
        for entry in entries {
            self.cut(entry.position.seq);
            if !self.head.is_some_and(|head| follows(head, &entry)) {
                self.entries.clear();
            }
            self.head = Some(entry.position);
            self.entries.push_back(entry);
        }
    }

    /// As when the files are opened anew: what a failed commit wrote shows.
    fn reopen(&mut self) {
        let limbo = std::mem::take(&mut self.limbo);
        self.append(limbo);
        self.head = self.entries.back().map(|entry| entry.position);
    }

    /// Entries that were written and not synced are lost with the power.
    pub(super) fn lose_newest(&mut self, count: usize) {
        self.entries.truncate(self.entries.len().saturating_sub(count));
        self.head = self.entries.back().map(|entry| entry.position);
    }

    fn drop_through(&mut self, seq: u64) {
        while self.entries.front().is_some_and(|entry| entry.position.seq <= seq) {
            self.entries.pop_front();
        }
    }

    fn read(&self, from: u64, most: usize) -> Vec<Arc<Entry>> {
        if self.oldest() > from {
            return Vec::new();
        }
        let mut bytes = 0;
        let fits = |entry: &&Arc<Entry>| {
            let first = bytes == 0;
            bytes += entry.len().max(1);
            first || bytes <= most
        };
        self.entries.iter().filter(|entry| entry.position.seq >= from).take_while(fits).cloned().collect()
    }
}

fn follows(at: Position, entry: &Entry) -> bool {
    at.next(entry.position.epoch, &entry.payload) == entry.position
}

/// One commit: the cut comes first, then the entries, then the answers.
#[derive(Debug, Default)]
struct Commit {
    cut: Option<u64>,
    entries: Vec<Arc<Entry>>,
    retracts: Vec<u64>,
    reads: Vec<(usize, u64, usize)>,
}

impl Commit {
    fn of(records: Vec<Record>) -> Self {
        let mut commit = Self::default();
        for record in records {
            match record {
                Record::Append(entries) => entries.into_iter().for_each(|entry| commit.append(entry)),
                Record::Retract(from) => {
                    commit.entries.retain(|entry| entry.position.seq < from);
                    commit.cut_from(from);
                    commit.retracts.push(from);
                }
                Record::Read { replica, from, bytes } => commit.reads.push((replica, from, bytes)),
                Record::Release(_) => {}
            }
        }
        commit
    }

    fn append(&mut self, entry: Arc<Entry>) {
        let follows = |last: &Arc<Entry>| follows(last.position, &entry);
        if !self.entries.last().is_none_or(follows) {
            self.entries.retain(|old| old.position.seq < entry.position.seq);
            if !self.entries.last().is_none_or(follows) {
                let first = self.entries[0].position.seq;
                self.cut_from(first);
                self.entries.clear();
            }
        }
        self.entries.push(entry);
    }

    fn cut_from(&mut self, from: u64) {
        self.cut = Some(self.cut.map_or(from, |cut| cut.min(from)));
    }
}

/// What is to be removed, and confirmed, before anything else is recorded again.
#[derive(Debug, Default)]
struct Failure {
    cut: Option<u64>,
    retract: Option<u64>,
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// The journal's side of one process.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    queue: Vec<Record>,
    working: Option<Commit>,
    failure: Option<Failure>,
    released: u64,
    /// Bytes that may wait for the disk.
    most: usize,
}

impl Recorder {
    /// With a quarter of the log in memory for what may wait, which is the real proportion.
    pub(super) fn new(log_bytes: usize) -> Self {
        Recorder { most: log_bytes / 4, ..Self::default() }
    }

    /// Takes what the core wants recorded.
    pub(super) fn take(
        &mut self,
        records: Vec<Record>,
        folder: &mut Folder,
        proxy: usize,
        env: &mut Env,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for record in records {
            match record {
                Record::Release(through) => self.released = self.released.max(through),
                Record::Append(entries) if self.failure.is_none() && self.is_too_much(&entries) => {
                    self.fail(folder, &Commit::default(), proxy, env);
                    events.push(Event::Journal(self.view(folder)));
                    self.queue.push(Record::Append(entries));
                }
                record => self.queue.push(record),
            }
        }
        self.begin(proxy, env);
        events
    }

    fn is_too_much(&self, entries: &[Arc<Entry>]) -> bool {
        let size = |entries: &[Arc<Entry>]| entries.iter().map(|entry| entry.len()).sum::<usize>();
        let queued = self.queue.iter().map(|record| match record {
            Record::Append(entries) => size(entries),
            _ => 0,
        });
        let waiting = queued.sum::<usize>() + self.working.as_ref().map_or(0, |commit| size(&commit.entries));
        waiting > 0 && waiting + size(entries) > self.most
    }

    fn begin(&mut self, proxy: usize, env: &mut Env) {
        if self.working.is_none() && !self.queue.is_empty() {
            self.working = Some(Commit::of(std::mem::take(&mut self.queue)));
            let us = env.dice.delay_us(COMMIT_US);
            env.agenda.after(us, Due::Recorded { proxy });
        }
    }

    /// Where it stands.
    pub(super) fn view(&self, folder: &Folder) -> Recorded {
        folder.view(self.failure.is_some())
    }

    /// The commit ends, in one way or another. Gives what is to be told.
    pub(super) fn finish(&mut self, folder: &mut Folder, proxy: usize, env: &mut Env) -> Vec<Event> {
        let Some(commit) = self.working.take() else { return Vec::new() };
        let mut events = Vec::new();
        let writes = commit.cut.is_some() || !commit.entries.is_empty();
        if self.failure.is_some() || (writes && (folder.full || folder.sync_fails)) {
            if self.failure.is_none() {
                self.fail(folder, &commit, proxy, env);
                events.push(Event::Journal(self.view(folder)));
            }
            self.owe(&commit);
        } else {
            commit.cut.into_iter().for_each(|from| folder.cut(from));
            folder.append(commit.entries.iter().cloned());
            if env.dice.percent(50) {
                folder.drop_through(self.released);
            }
            let retracted = commit.retracts.iter().map(|from| Event::Unrecorded { from: *from });
            events.extend(retracted);
            events.push(Event::Journal(self.view(folder)));
        }
        for (replica, from, bytes) in commit.reads {
            let entries = folder.read(from, bytes);
            let us = env.dice.delay_us(READ_US);
            env.agenda.after(us, Due::Owed { proxy, replica, entries });
        }
        self.begin(proxy, env);
        events
    }

    /// Whether the entries of the commit are on disk is unknown from now on.
    fn fail(&mut self, folder: &mut Folder, commit: &Commit, proxy: usize, env: &mut Env) {
        if folder.sync_fails {
            tear(folder, commit, &mut env.dice);
        }
        folder.sync_fails = false;
        self.failure = Some(Failure::default());
        env.note(format!("p{}: the journal fails", proxy + 1));
        env.agenda.after(RETRY_US, Due::Retry { proxy });
    }

    fn owe(&mut self, commit: &Commit) {
        let Some(failure) = &mut self.failure else { return };
        let first = commit.entries.first().map(|entry| entry.position.seq);
        failure.cut = least(least(failure.cut, commit.cut), first);
        failure.retract = least(failure.retract, commit.retracts.iter().copied().min());
    }

    /// Tries to record again.
    pub(super) fn retry(&mut self, folder: &mut Folder, proxy: usize, env: &mut Env) -> Vec<Event> {
        if folder.full {
            env.agenda.after(RETRY_US, Due::Retry { proxy });
            return Vec::new();
        }
        // What waits is left out too, or done with the rest.
        let waiting = std::mem::take(&mut self.queue);
        let (reads, others) = waiting.into_iter().partition(|r| matches!(r, Record::Read { .. }));
        self.queue = reads;
        self.owe(&Commit::of(others));
        let working = self.working.take();
        working.iter().for_each(|commit| self.owe(commit));
        self.working = working.map(|commit| Commit { reads: commit.reads, ..Commit::default() });
        let Some(failure) = self.failure.take() else { return Vec::new() };
        folder.reopen();
        failure.cut.into_iter().for_each(|from| folder.cut(from));
        env.note(format!("p{}: the journal records again", proxy + 1));
        let retracted = failure.retract.map(|from| Event::Unrecorded { from });
        [Event::Journal(self.view(folder))].into_iter().chain(retracted).collect()
    }

    /// Files are gone: the older ones, or all, and with the last one the ability to go on at once.
    pub(super) fn lose_files(
        &mut self,
        folder: &mut Folder,
        all: bool,
        proxy: usize,
        env: &mut Env,
    ) -> Vec<Event> {
        if all {
            *folder = Folder { full: folder.full, sync_fails: folder.sync_fails, ..Folder::default() };
            if self.failure.is_none() {
                self.fail(folder, &Commit::default(), proxy, env);
            }
        } else {
            let count = env.dice.pick(folder.entries.len() + 1);
            folder.entries.drain(..count);
        }
        vec![Event::Journal(self.view(folder))]
    }

    /// The process dies: what it was writing may be on disk, from the front.
    pub(super) fn die(&mut self, folder: &mut Folder, dice: &mut Dice) {
        if let Some(commit) = self.working.take().filter(|_| self.failure.is_none() && !folder.full) {
            tear(folder, &commit, dice);
        }
        folder.reopen();
        (folder.sync_fails, self.failure) = (false, None);
        self.queue.clear();
    }
}

/// Leaves as much of a commit as chance has it, to show when the files are opened anew.
fn tear(folder: &mut Folder, commit: &Commit, dice: &mut Dice) {
    let step = dice.below(3);
    if step > 0 {
        commit.cut.into_iter().for_each(|from| folder.cut(from));
    }
    if step > 1 {
        let count = dice.pick(commit.entries.len() + 1);
        folder.limbo = commit.entries[..count].to_vec();
    }
}
