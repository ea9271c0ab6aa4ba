//! Failed logins make the next ones from the same address, as the same user, wait: longer and longer. They wait
//! before they are looked at, and one behind another, so that more connections guess no faster. Nobody else waits.

use quorate_wire::command::key_hash;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

/// So many failures cost nothing.
const FREE: u32 = 5;
/// The first wait, in microseconds; each further one is twice as long.
const FIRST_US: u64 = 100_000;
/// The longest time from one login to the next.
const LONGEST_US: u64 = 4_000_000;
/// Who would wait longer than this is refused.
const PATIENCE_US: u64 = 10_000_000;
/// After so long without a failure all is forgotten.
const MEMORY_US: u64 = 60_000_000;
/// So many addresses and users are known at most; the oldest are forgotten.
const MOST: usize = 8192;

/// What is to be done with a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Look at it.
    Now,
    /// Look at it at this microsecond since the proxy's start. It counts as a failure until it succeeds.
    At(u64),
    /// Refuse it unseen: so many microseconds are taken already.
    Refused(u64),
}

/// Who tries: an address, and a user that may or may not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Who(u128, u64);

impl Who {
    /// Of IPv6 the network counts: a machine has as many addresses in it as it likes.
    pub fn new(address: IpAddr, user: &[u8]) -> Who {
        let address = match address.to_canonical() {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address) >> 64 << 64,
        };
        Who(address, key_hash(user))
    }
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last_us: u64,
    /// The next login is not looked at before.
    next_us: u64,
}

impl Failures {
    fn wait_us(&self) -> u64 {
        let doubled = FIRST_US << self.count.saturating_sub(FREE).min(16);
        if self.count < FREE { 0 } else { doubled.min(LONGEST_US) }
    }

    fn add(&mut self, now_us: u64) {
        self.count = self.count.saturating_add(1);
        self.last_us = self.last_us.max(now_us);
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<Who, Failures>>);

impl Throttle {
    /// Somebody wants to log in.
    pub fn attempt(&self, who: Who, now_us: u64) -> Attempt {
        let Ok(mut known) = self.0.lock() else { return Attempt::Refused(0) };
        let Some(failures) = known.get_mut(&who) else { return Attempt::Now };
        if failures.last_us + MEMORY_US < now_us {
            known.remove(&who);
            return Attempt::Now;
        }
        if failures.count < FREE {
            return Attempt::Now;
        }
        let at = failures.next_us.max(now_us);
        if at - now_us > PATIENCE_US {
            return Attempt::Refused(at - now_us);
        }
        failures.add(at);
        failures.next_us = at + failures.wait_us();
        Attempt::At(at)
    }

    /// A login failed that did not wait.
    pub fn failed(&self, who: Who, now_us: u64) {
        let Ok(mut known) = self.0.lock() else { return };
        if known.len() >= MOST && !known.contains_key(&who) {
            forget(&mut known, now_us);
        }
        let failures = known.entry(who).or_insert(Failures { count: 0, last_us: now_us, next_us: 0 });
        failures.add(now_us);
        failures.next_us = failures.next_us.max(now_us + failures.wait_us());
    }

    /// A login succeeded that had to wait: it costs the next one nothing. What others failed at stays.
    pub fn succeeded(&self, who: Who, now_us: u64) {
        if let Ok(mut known) = self.0.lock()
            && let Some(failures) = known.get_mut(&who)
        {
            failures.count = failures.count.saturating_sub(1);
            failures.next_us = failures.next_us.min(now_us);
        }
    }
}

/// Forgets what is over, and else half of all: first those who do not wait yet, so that names made up for the
/// purpose do not push out one that is being guessed; then the older ones.
fn forget(known: &mut HashMap<Who, Failures>, now_us: u64) {
    known.retain(|_, failures| failures.last_us + MEMORY_US >= now_us);
    if known.len() >= MOST {
        let worth = |failures: &Failures| (failures.count.min(FREE), failures.last_us);
        let mut all: Vec<_> = known.values().map(worth).collect();
        let (_, middle, _) = all.select_nth_unstable(MOST / 2);
        let middle = *middle;
        known.retain(|_, failures| worth(failures) > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(address: &str, user: &str) -> Who {
        Who::new(address.parse().expect("an address"), user.as_bytes())
    }

    #[test]
    fn failures_make_the_next_wait_longer_and_longer() {
        let (throttle, ann) = (Throttle::default(), who("10.0.0.1", "ann"));
        for _ in 0..5 {
            assert_eq!(throttle.attempt(ann, 0), Attempt::Now);
            throttle.failed(ann, 0);
        }
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let Attempt::At(at) = throttle.attempt(ann, now) else { panic!("it waits") };
            waits.push((at - now) / 1000);
            now = at;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 4000, 4000]);
        assert_eq!(throttle.attempt(who("10.0.0.1", "bob"), now), Attempt::Now, "another user");
        assert_eq!(throttle.attempt(who("10.0.0.2", "ann"), now), Attempt::Now, "another address");
        assert_eq!(throttle.attempt(ann, now + MEMORY_US + 1), Attempt::Now, "all is forgotten");
    }

    #[test]
    fn those_who_try_at_once_wait_one_behind_another() {
        let (throttle, ann) = (Throttle::default(), who("::ffff:10.0.0.1", "ann"));
        (0..5).for_each(|_| throttle.failed(ann, 0));
        let attempts: Vec<Attempt> = (0..20).map(|_| throttle.attempt(ann, 0)).collect();
        let looked_at = attempts.iter().filter(|attempt| matches!(attempt, Attempt::At(_))).count();
        assert_eq!(looked_at, 6, "{attempts:?}");
        assert!(matches!(attempts[19], Attempt::Refused(us) if us > PATIENCE_US));
    }

    #[test]
    fn whoever_is_right_is_not_counted() {
        let (throttle, ann) = (Throttle::default(), who("fe80::1:2:3:4", "ann"));
        (0..5).for_each(|_| throttle.failed(ann, 0));
        for _ in 0..100 {
            let neighbour = who("fe80::9:9:9:9", "ann");
            assert_eq!(throttle.attempt(neighbour, 3_000_000), Attempt::At(3_000_000), "the same network");
            throttle.succeeded(neighbour, 3_000_000);
        }
        assert_eq!(throttle.attempt(ann, 3_000_000), Attempt::At(3_000_000));
    }

    #[test]
    fn the_table_is_bounded() {
        let throttle = Throttle::default();
        for n in 0..3 * MOST as u32 {
            throttle.failed(Who(u128::from(n), 0), u64::from(n));
        }
        let known = throttle.0.lock().expect("nobody panicked");
        assert!(known.len() <= MOST && known.contains_key(&Who(3 * MOST as u128 - 1, 0)));
    }

    #[test]
    fn made_up_names_do_not_make_a_guess_free_again() {
        let (throttle, ann) = (Throttle::default(), who("10.0.0.1", "ann"));
        (0..5).for_each(|_| throttle.failed(ann, 0));
        for n in 0..3 * MOST {
            throttle.failed(who("10.0.0.1", &n.to_string()), 1 + n as u64);
        }
        assert_eq!(throttle.attempt(ann, 50_000), Attempt::At(100_000));
    }
}
