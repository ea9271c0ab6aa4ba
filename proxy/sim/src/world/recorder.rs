//! Where a simulated proxy and its journal meet.

use super::Env;
use super::journal::Folder;
use super::options::Options;
use super::proxy::Proxy;
use quorate_core::ordered::{Entry, Event, Journaling, Record};
use std::sync::Arc;

/// What a process is told of its journal when it starts.
pub(super) fn first_events(options: &Options, folder: &Folder) -> Vec<Event> {
    match options.journal {
        Journaling::None => Vec::new(),
        _ => vec![Event::Journal(super::journal::Recorder::default().view(folder))],
    }
}

impl Proxy {
    /// The entries that a journal which is the log knows.
    pub(super) fn restored(&self, env: &Env) -> Vec<Arc<Entry>> {
        match self.options.journal {
            Journaling::Log => env.folders[self.folder].entries(),
            Journaling::None | Journaling::Hints => Vec::new(),
        }
    }

    /// The journal does something, and the group is told.
    fn with_journal(
        &mut self,
        env: &mut Env,
        act: impl FnOnce(&mut super::journal::Recorder, &mut Folder, usize, &mut Env) -> Vec<Event>,
    ) {
        let mut folder = std::mem::take(&mut env.folders[self.folder]);
        let events = act(&mut self.recorder, &mut folder, self.index, env);
        env.folders[self.folder] = folder;
        self.events.extend(events);
        self.run(env);
    }

    /// What the core wants recorded. A failure is told with the next events.
    pub(super) fn record(&mut self, records: Vec<Record>, env: &mut Env) {
        let mut folder = std::mem::take(&mut env.folders[self.folder]);
        let events = self.recorder.take(records, &mut folder, self.index, env);
        env.folders[self.folder] = folder;
        self.events.extend(events);
    }

    /// A commit ends.
    pub(super) fn recorded(&mut self, env: &mut Env) {
        self.with_journal(env, |recorder, folder, proxy, env| recorder.finish(folder, proxy, env));
    }

    /// A failed journal tries again.
    pub(super) fn record_again(&mut self, env: &mut Env) {
        self.with_journal(env, |recorder, folder, proxy, env| recorder.retry(folder, proxy, env));
    }

    /// Somebody deletes files.
    pub(super) fn lose_files(&mut self, all: bool, env: &mut Env) {
        self.with_journal(env, |recorder, folder, proxy, env| recorder.lose_files(folder, all, proxy, env));
    }

    /// What was read from the journal.
    pub(super) fn owed(&mut self, replica: usize, entries: Vec<Arc<Entry>>, env: &mut Env) {
        self.events.push(Event::Owed { replica, entries });
        self.run(env);
    }

    /// The process is gone; what it had not recorded may be, too.
    pub(super) fn leave_journal(&mut self, env: &mut Env) {
        let folder = &mut env.folders[self.folder];
        self.recorder.die(folder, &mut env.dice);
        if self.options.journal == Journaling::Hints && env.dice.percent(30) {
            folder.lose_newest(env.dice.pick(6));
        }
    }
}
