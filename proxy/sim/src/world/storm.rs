//! How faults strike and end.

use super::World;
use super::clock::Due;
use super::env::Coordinator;
use super::faults::{Fault, Healing};
use super::kind::Kind;
use super::proxy::Proxy;
use quorate_core::ordered::Phase;

/// The most processes that may live at once.
const PROXIES: usize = 2;

impl World {
    /// A fault happens now. Proxies of faults are named by their number here.
    pub fn inject(&mut self, fault: Fault) {
        self.stats.faults += 1;
        match fault {
            Fault::Crash { backend, lose, down_us, loading_us } => {
                self.crash(backend, lose, false, down_us, loading_us)
            }
            Fault::Vanish { backend, down_us } => self.crash(backend, 0, true, down_us, 0),
            Fault::Blackout { lose, down_us } => {
                for backend in 0..self.backends.len() {
                    let lose = self.env.dice.pick(lose + 1);
                    self.crash(backend, lose, false, down_us, 0);
                }
            }
            Fault::Freeze { proxy, us } => {
                self.env.note(format!("p{} stops for {us}us", proxy + 1));
                let until_us = self.env.agenda.now_us() + us;
                self.proxies[proxy].frozen_until_us = until_us;
                self.env.agenda.at(until_us, Due::Heal(Healing::Thaw { proxy }));
            }
            Fault::Clock { proxy, backend, ms } => {
                self.env.note(format!("the clocks of p{} and r{} jump by {ms}ms", proxy + 1, backend + 1));
                self.proxies[proxy].offset_ms += ms;
                self.backends[backend].offset_ms -= ms;
            }
            Fault::DiskFull { proxy, us } => {
                let folder = self.proxies[proxy].folder;
                self.env.note(format!("the disk of p{} is full for {us}us", proxy + 1));
                self.env.folders[folder].full = true;
                self.env.agenda.after(us, Due::Heal(Healing::Disk { folder }));
            }
            Fault::SyncError { proxy } => {
                let folder = self.proxies[proxy].folder;
                self.env.note(format!("the next sync of p{} fails", proxy + 1));
                self.env.folders[folder].sync_fails = true;
            }
            Fault::LoseFiles { proxy, all } => self.lose_files(proxy, all),
            Fault::Pause { backend, us } => {
                self.env.note(format!("r{} stops for {}us", backend + 1, us));
                self.backends[backend].paused = true;
                self.env.agenda.after(us, Due::Heal(Healing::Resume { backend }));
            }
            Fault::Reset { proxy, backend } => {
                self.env.note(format!("the connection of p{} and r{} is reset", proxy + 1, backend + 1));
                let conns = self.env.net.find(|c| c.proxy == proxy && c.backend == backend && c.near_open);
                conns.into_iter().for_each(|id| self.env.reset(id));
            }
            Fault::Block { proxy, backend, ways, us } => {
                let way = ["", "to the backend ", "to the proxy ", ""]
                    [usize::from(ways[0]) + 2 * usize::from(ways[1])];
                self.env.note(format!(
                    "the path {way}of p{} and r{} is cut for {us}us",
                    proxy + 1,
                    backend + 1
                ));
                self.env.net.block(proxy, backend, ways);
                self.env.agenda.after(us, Due::Heal(Healing::Unblock { proxy, backend }));
            }
            Fault::Slow { proxy, backend, delay_us, us } => {
                self.env.note(format!(
                    "the path of p{} and r{} is slow: {delay_us}us",
                    proxy + 1,
                    backend + 1
                ));
                self.env.net.slow(proxy, backend, delay_us);
                self.env.agenda.after(us, Due::Heal(Healing::Fast { proxy, backend }));
            }
            Fault::Oom { backend, us } => {
                for i in (0..self.backends.len()).filter(|i| backend.is_none_or(|one| one == *i)) {
                    self.env.note(format!("r{} is out of memory", i + 1));
                    self.backends[i].set_full(true);
                    self.env.agenda.after(us, Due::Heal(Healing::Memory { backend: i }));
                }
            }
            Fault::SpoilCopies { backend } => self.backends[backend].store.set_spoils_copies(true),
            Fault::CrashProxy { proxy } => self.crash_proxy(proxy),
            Fault::StartProxy { fresh } => self.start_proxy(fresh),
        }
    }

    /// A fault of the weather: its proxy is named by how young it is.
    pub(super) fn strike(&mut self, kind: Kind, fault: Fault) {
        self.stats.count(kind, &fault);
        let living: Vec<usize> = self.proxies.iter().rev().filter(|p| p.alive).map(|p| p.index).collect();
        let named = |age: usize| living.get(age.min(living.len().saturating_sub(1))).copied();
        let fault = match fault {
            Fault::Reset { proxy, backend } => named(proxy).map(|proxy| Fault::Reset { proxy, backend }),
            Fault::Block { proxy, backend, ways, us } => {
                named(proxy).map(|proxy| Fault::Block { proxy, backend, ways, us })
            }
            Fault::Slow { proxy, backend, delay_us, us } => {
                named(proxy).map(|proxy| Fault::Slow { proxy, backend, delay_us, us })
            }
            Fault::CrashProxy { proxy } => named(proxy).map(|proxy| Fault::CrashProxy { proxy }),
            Fault::Freeze { proxy, us } => named(proxy).map(|proxy| Fault::Freeze { proxy, us }),
            Fault::Clock { proxy, backend, ms } => {
                named(proxy).map(|proxy| Fault::Clock { proxy, backend, ms })
            }
            Fault::DiskFull { proxy, us } => named(proxy).map(|proxy| Fault::DiskFull { proxy, us }),
            Fault::SyncError { proxy } => named(proxy).map(|proxy| Fault::SyncError { proxy }),
            Fault::LoseFiles { proxy, all } => named(proxy).map(|proxy| Fault::LoseFiles { proxy, all }),
            other => Some(other),
        };
        fault.into_iter().for_each(|fault| self.inject(fault));
    }

    fn crash(&mut self, backend: usize, lose: usize, silent: bool, down_us: u64, loading_us: u64) {
        if !self.backends[backend].up {
            return;
        }
        let lose = if self.may_lose(backend) { lose } else { 0 };
        let lost = self.backends[backend].kill(lose, silent, &mut self.env);
        self.stats.losses += u64::from(lost > 0);
        self.stats.blackouts += u64::from(lost > 0 && self.needs_journal());
        self.env.note(format!("r{} crashes, lost {lost} transactions", backend + 1));
        self.env.agenda.after(down_us, Due::Heal(Healing::Up { backend, loading_us }));
    }

    fn crash_proxy(&mut self, proxy: usize) {
        if !std::mem::replace(&mut self.proxies[proxy].alive, false) {
            return;
        }
        self.env.note(format!("p{} crashes", proxy + 1));
        self.proxies[proxy].leave_journal(&mut self.env);
        let conns = self.env.net.find(|conn| conn.proxy == proxy && conn.near_open);
        conns.into_iter().for_each(|id| self.env.hang_up(id));
        for client in 0..self.clients.len() {
            let theirs = self.clients[client].proxy == proxy;
            if theirs && self.clients[client].cut_off(&mut self.history, &mut self.env) {
                self.think(client);
            }
        }
    }

    /// Starts a proxy; the oldest makes room where too many live.
    pub(super) fn start_proxy(&mut self, fresh: bool) {
        let living: Vec<usize> = self.proxies.iter().filter(|p| p.alive).map(|p| p.index).collect();
        // An in-sync set is recorded in one place: nobody promises what becomes of it when two keep one.
        let alone = fresh && self.options.in_sync;
        let most = if alone { 0 } else { PROXIES - 1 };
        let leaving = living.len().saturating_sub(most);
        living.into_iter().take(leaving).for_each(|proxy| self.crash_proxy(proxy));
        if self.needs_journal() {
            // Their folders are free as soon as somebody looks.
            let fenced = |p: &&Proxy| p.alive && matches!(p.group.phase(), Phase::Fenced { .. });
            let fenced: Vec<usize> = self.proxies.iter().filter(fenced).map(|p| p.index).collect();
            fenced.into_iter().for_each(|proxy| self.crash_proxy(proxy));
        }
        let Some(folder) = self.choose_folder(fresh) else { return };
        let fresh = fresh && !self.needs_journal();
        if fresh || self.env.coordinators.is_empty() {
            self.env.coordinators.push(Coordinator::default());
        }
        let coordinator = self.env.coordinators.len() - 1;
        let index = self.proxies.len();
        self.env.note(format!("p{} starts{}", index + 1, if fresh { " without state" } else { "" }));
        let proxy = Proxy::new(index, (coordinator, folder), &self.plans, &self.options, &mut self.env);
        self.proxies.push(proxy);
    }

    pub(super) fn mend(&mut self, healing: Healing) {
        match healing {
            Healing::Up { backend, loading_us } => {
                if self.backends[backend].up {
                    return;
                }
                self.env.note(format!("r{} is up again", backend + 1));
                self.backends[backend].start(loading_us > 0);
                if loading_us > 0 {
                    self.env.agenda.after(loading_us, Due::Heal(Healing::Loaded { backend }));
                }
            }
            Healing::Loaded { backend } => self.backends[backend].set_loading(false),
            Healing::Resume { backend } => {
                self.backends[backend].paused = false;
                self.env.retry();
            }
            Healing::Unblock { proxy, backend } => {
                self.env.net.block(proxy, backend, [false, false]);
                self.env.retry();
            }
            Healing::Fast { proxy, backend } => self.env.net.slow(proxy, backend, 0),
            Healing::Disk { folder } => self.env.folders[folder].full = false,
            Healing::Thaw { proxy } if self.thaws_at(proxy).is_none() => {
                self.env.note(format!("p{} goes on", proxy + 1));
                self.env.retry();
            }
            Healing::Thaw { .. } => {}
            Healing::Memory { backend } => self.backends[backend].set_full(false),
        }
    }

    /// Everything works again.
    pub(super) fn heal(&mut self) {
        self.env.note("everything heals".into());
        self.backends.iter_mut().for_each(|backend| backend.heal());
        self.env.net.heal();
        self.env.folders.iter_mut().for_each(|folder| (folder.full, folder.sync_fails) = (false, false));
        self.env.retry();
    }

    fn lose_files(&mut self, proxy: usize, all: bool) {
        if self.needs_journal() {
            return;
        }
        self.env.note(format!(
            "{} files of p{}'s journal are deleted",
            if all { "all" } else { "older" },
            proxy + 1
        ));
        self.spoil();
        self.proxies[proxy].lose_files(all, &mut self.env);
    }

    /// When a process that is stopped goes on; `None` for one that runs.
    pub(super) fn thaws_at(&self, proxy: usize) -> Option<u64> {
        let until_us = self.proxies[proxy].frozen_until_us;
        (until_us > self.env.agenda.now_us()).then_some(until_us)
    }

    /// Is it short of memory or loading?
    pub(super) fn troubled(&self, backend: usize) -> bool {
        self.backends[backend].full || self.backends[backend].loading
    }
}
