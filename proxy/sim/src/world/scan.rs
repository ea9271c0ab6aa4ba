//! A copy key by key while clients write, as the proxy makes it where servers cannot reach each other: the owner's
//! core remembers what is touched meanwhile, and mends it when the target is attached again.

use super::World;
use quorate_core::ordered::Keys;
use quorate_wire::resp::Reserved;

/// Keys that are copied each time the operator looks.
const PAGE: usize = 4;

/// The copy under way.
pub(super) struct Scan {
    /// The proxy, and the epoch in which it began.
    proxy: usize,
    epoch: u64,
    source: usize,
    target: usize,
    runs: [String; 2],
    /// The source must have applied this entry.
    floor: u64,
    left: Vec<Vec<u8>>,
    /// Touched keys were taken so often.
    rounds: u64,
}

impl World {
    /// Begins to copy `source` to `target`.
    pub(super) fn begin_scan(&mut self, source: usize, target: usize) {
        let Some(newest) = self.newest() else { return };
        let (proxy, epoch, owner) = (newest.index, newest.owner.epoch, newest.owner.clone());
        let reserved = Reserved::new("g");
        let run = |world: &World, i: usize| world.backends[i].store.run_id().to_string();
        let runs = [run(self, source), run(self, target)];
        let set = |key: &str, value: &str| {
            vec![b"SET".to_vec(), key.as_bytes().to_vec(), value.as_bytes().to_vec()]
        };
        let erase = [
            vec![b"FLUSHALL".to_vec()],
            set(&reserved.partial, "copy"),
            set(&reserved.run, &runs[1]),
            set(&reserved.epoch, &format!("{}:{}", owner.epoch, owner.id)),
        ];
        let now_ms = self.env.agenda.unix_ms();
        self.backends[target].administer(&erase, now_ms);
        self.hang_up(target);
        let group = &mut self.proxies[proxy].group;
        group.copies().begin(target, source);
        let floor = group.head().seq;
        self.env.note(format!("a scan of r{} to r{} begins", source + 1, target + 1));
        self.scan = Some(Scan { proxy, epoch, source, target, runs, floor, left: Vec::new(), rounds: 0 });
    }

    /// Copies a page, and what follows when all was copied.
    pub(super) fn go_on_scanning(&mut self) {
        let Some(mut scan) = self.scan.take() else { return };
        if !self.may_scan(&scan) {
            self.proxies[scan.proxy].group.copies().end(scan.target);
            return self.env.note("the scan is given up".into());
        }
        let calm = |i: usize| !self.backends[i].paused && !self.troubled(i);
        if !calm(scan.source) || !calm(scan.target) || self.backends[scan.source].applied() < Some(scan.floor)
        {
            self.scan = Some(scan);
            return;
        }
        if scan.rounds == 0 {
            let own = quorate_wire::resp::transaction::RESERVED_PREFIX;
            let keys = self.backends[scan.source].store.keys().filter(|key| !key.starts_with(own));
            (scan.left, scan.rounds) = (keys.map(<[u8]>::to_vec).collect(), 1);
        }
        let page: Vec<Vec<u8>> = scan.left.drain(..scan.left.len().min(PAGE)).collect();
        self.copy_keys(&scan, page);
        if !scan.left.is_empty() {
            self.scan = Some(scan);
        } else if scan.rounds < 2 + self.seed % 2 {
            let group = &mut self.proxies[scan.proxy].group;
            let touched: Keys = group.copies().take(scan.target).unwrap_or_default();
            (scan.floor, scan.rounds) = (group.head().seq, scan.rounds + 1);
            scan.left = touched.iter().map(|key| key.to_vec()).collect();
            self.scan = Some(scan);
        } else {
            self.proxies[scan.proxy].group.copies().finish(scan.target);
            self.stats.scans += 1;
            self.env.note("the scan ends".into());
            self.hang_up(scan.target);
        }
    }

    fn may_scan(&mut self, scan: &Scan) -> bool {
        let is_same = |i: usize, run: &str| self.backends[i].up && self.backends[i].store.run_id() == run;
        let runs = is_same(scan.source, &scan.runs[0]) && is_same(scan.target, &scan.runs[1]);
        let newest = self.newest().map(|proxy| (proxy.index, proxy.owner.epoch));
        let owns = newest == Some((scan.proxy, scan.epoch));
        runs && owns && self.proxies[scan.proxy].group.copies().touched(scan.target).is_ok()
    }

    fn copy_keys(&mut self, scan: &Scan, keys: Vec<Vec<u8>>) {
        let now_ms = self.env.agenda.unix_ms();
        for key in keys {
            let command = self.backends[scan.source].copy_of(key, now_ms);
            self.backends[scan.target].administer(&[command], now_ms);
        }
    }

    /// Its connections are lost, so that it is attached anew.
    pub(super) fn hang_up(&mut self, target: usize) {
        let conns = self.env.net.find(|conn| conn.backend == target && conn.near_open);
        conns.into_iter().for_each(|id| self.env.reset(id));
    }
}
