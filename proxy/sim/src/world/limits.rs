//! What nobody promised: losses that a world leaves out, because no rule could make them good.
//!
//! Replicas remember as long as fewer than a write quorum of them forget at once. A journal that is
//! the log remembers what all of them forget, as long as nobody takes it away.

use super::World;
use quorate_core::ordered::Journaling;

/// What may still be lost.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// The folder of the newest owner.
    folder: usize,
    /// Its journal may lack something that only the backends hold, and that they may still lose.
    spoiled: bool,
}

impl World {
    /// May this backend lose writes now?
    pub(super) fn may_lose(&self, backend: usize) -> bool {
        let others = self.backends.iter().filter(|b| b.wounded && b.index != backend).count();
        others + 1 < self.options.write_quorum || (self.has_log() && !self.limits.spoiled)
    }

    fn has_log(&self) -> bool {
        self.options.journal == Journaling::Log
    }

    /// Does only the journal know what was acknowledged?
    pub(super) fn needs_journal(&self) -> bool {
        let wounded = self.backends.iter().filter(|b| b.wounded).count();
        self.has_log() && wounded >= self.options.write_quorum
    }

    /// From now on the journal may lack something.
    pub(super) fn spoil(&mut self) {
        self.limits.spoiled = true;
    }

    /// The state folder for a process that starts, if it may start now.
    pub(super) fn choose_folder(&mut self, fresh: bool) -> Option<usize> {
        let folders = self.env.folders.len();
        let taken = |folder: &usize| self.proxies.iter().any(|p| p.alive && p.folder == *folder);
        let usual = Some(self.limits.folder).filter(|folder| *folder < folders && !taken(folder));
        if self.needs_journal() {
            return usual;
        }
        let other = (0..folders).filter(|folder| !taken(folder)).find(|folder| *folder != self.limits.folder);
        let choice = if fresh { None } else { usual.filter(|_| !self.env.dice.percent(10)).or(other) };
        let folder = choice.unwrap_or_else(|| {
            self.env.folders.push(super::journal::Folder::default());
            folders
        });
        if folder != self.limits.folder {
            (self.limits.folder, self.limits.spoiled) = (folder, true);
        }
        Some(folder)
    }

    /// Does the newest owner's journal continue what all backends surely hold?
    pub(super) fn look_at_limits(&mut self) {
        if !self.limits.spoiled || self.proxies.iter().filter(|p| p.alive).count() != 1 {
            return;
        }
        let Some(owner) = self.newest().filter(|p| p.is_serving()) else { return };
        let folder = owner.folder;
        let view = owner.group.health().journal;
        let whole = !view.failed && view.oldest > 0 && self.env.folders[folder].oldest() == view.oldest;
        let safe = self.backends.iter().all(|b| b.up && !b.wounded && b.synced_to + 1 >= view.oldest);
        if whole && safe {
            self.limits = Limits { folder, spoiled: false };
        }
    }
}
