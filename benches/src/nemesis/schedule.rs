//! When what is broken: by a seed, and by a profile that says how much at once.

use super::clients::Clients;
use super::cluster::{BACKENDS, Cluster};
use super::dice::Dice;
use super::faults::{Fault, Kinds};
use std::io;
use std::time::{Duration, Instant};

/// How much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// One short fault at a time, of each kind
    Quick,
    /// One fault at a time
    Single,
    /// Two at a time: two backends, or a backend and the proxy
    Double,
    /// The proxy is killed, frozen and taken over, half of the time with a backend away
    Proxy,
}

/// Faults that overlap, and the times between, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    faults: Vec<Fault>,
    stagger: u64,
    hold: u64,
}

/// A stretch of the run with these faults in it. Times are those of the history.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Window {
    pub faults: Vec<Fault>,
    pub from: u64,
    /// All faults are taken back.
    pub healed: u64,
    /// All replicas are in sync again.
    pub until: u64,
}

/// Draws steps until the time is over: all kinds once, in a new order each time.
#[derive(Debug)]
pub struct Schedule {
    profile: Profile,
    kinds: Kinds,
    dice: Dice,
    deck: Vec<usize>,
}

impl Schedule {
    /// A schedule for this cluster.
    pub fn new(profile: Profile, kinds: Kinds, seed: u64) -> Schedule {
        Schedule { profile, kinds, dice: Dice::new(seed), deck: Vec::new() }
    }

    fn next(&mut self, owner: usize) -> Step {
        let (of_backends, of_proxies) = self.kinds.counts();
        if self.deck.is_empty() {
            let cards = match self.profile {
                Profile::Proxy => of_backends..of_backends + of_proxies,
                _ => 0..of_backends + of_proxies,
            };
            self.deck = cards.collect();
            self.dice.shuffle(&mut self.deck);
        }
        let card = self.deck.pop().expect("just filled");
        let first = self.dice.below(BACKENDS as u64) as usize;
        let mut faults = vec![match card.checked_sub(of_backends) {
            None => self.kinds.backend(card, first, owner, &mut self.dice),
            Some(kind) => self.kinds.proxy(kind, owner, &mut self.dice),
        }];
        let second = match self.profile {
            Profile::Quick | Profile::Single => false,
            Profile::Double => true,
            Profile::Proxy => self.dice.percent(50),
        };
        if second {
            faults.push(self.another(first, owner, &faults));
        }
        if self.dice.percent(50) {
            faults.reverse();
        }
        let (stagger, hold) = match self.profile {
            Profile::Quick => (0, self.dice.between(100, 700)),
            _ => (self.dice.between(0, 800), self.dice.between(100, 3000)),
        };
        Step { faults, stagger, hold }
    }

    /// A fault of another backend. Data of only one backend at a time is lost: the contract asks for that.
    fn another(&mut self, first: usize, owner: usize, with: &[Fault]) -> Fault {
        let backend = first + 1 + self.dice.below(BACKENDS as u64 - 1) as usize;
        loop {
            let kind = self.dice.below(self.kinds.counts().0 as u64) as usize;
            let fault = self.kinds.backend(kind, backend, owner, &mut self.dice);
            let loses = |fault: &Fault| matches!(fault, Fault::Amnesia { .. } | Fault::Torn { .. });
            if !(loses(&fault) && with.iter().any(loses)) {
                return fault;
            }
        }
    }

    /// Breaks and heals for so long, waiting each time until all replicas are in sync again. What was done is
    /// added to `windows`, also when it ends with an error.
    pub fn run(
        &mut self,
        cluster: &mut Cluster,
        clients: &Clients,
        time: Duration,
        windows: &mut Vec<Window>,
        log: impl Fn(&str),
    ) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let step = self.next(cluster.owner);
            let names: Vec<String> =
                step.faults.iter().map(|f| format!("{} {}", f.name(), f.victim())).collect();
            log(&format!("{:>8.3} s  {}", clients.now() as f64 / 1e9, names.join(" + ")));
            let from = clients.now();
            windows.push(Window { faults: step.faults.clone(), from, healed: from, until: from });
            step.break_and_heal(cluster)?;
            let window = windows.last_mut().expect("just pushed");
            window.healed = clients.now();
            let in_sync = cluster.wait_in_sync();
            window.until = clients.now();
            in_sync?;
        }
        Ok(())
    }
}

impl Step {
    fn break_and_heal(&self, cluster: &mut Cluster) -> io::Result<()> {
        let rest = |ms| std::thread::sleep(Duration::from_millis(ms));
        for (nth, fault) in self.faults.iter().enumerate() {
            if nth > 0 {
                rest(self.stagger);
            }
            fault.inject(cluster)?;
        }
        rest(self.hold);
        for (nth, fault) in self.faults.iter().enumerate() {
            if nth > 0 {
                rest(self.stagger);
            }
            fault.heal(cluster)?;
        }
        Ok(())
    }
}

/// The longest time without a success from the first fault until all are in sync again. `successes` is sorted.
pub fn longest_gap(window: &Window, successes: &[u64]) -> Duration {
    let start = successes.partition_point(|at| *at < window.from);
    let end = successes.partition_point(|at| *at < window.until);
    let mut last = window.from;
    let mut longest = 0;
    for at in successes[start..end].iter().copied().chain([window.until]) {
        longest = longest.max(at - last);
        last = at;
    }
    Duration::from_nanos(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_looked_for_inside_its_window() {
        let window = Window { faults: vec![], from: 10, healed: 20, until: 30 };
        let gap = |successes: &[u64]| longest_gap(&window, successes).as_nanos();
        assert_eq!(gap(&[]), 20);
        assert_eq!(gap(&[1, 9, 12, 25, 29, 60]), 13);
        assert_eq!(gap(&[11]), 19);
    }
}
