//! How fast a copy through the proxy may go, so that clients keep their share of both servers.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A key costs the servers as much as so many bytes, however small it is.
const KEY_COST: u64 = 1024;
/// What was not used of the rate is kept for this long.
const CREDIT: Duration = Duration::from_millis(50);
/// The most that a copy which does not come to an end is sped up.
const MOST_HURRY: u32 = 64;

/// See the module's head.
pub(super) struct Pace {
    /// Bytes a second.
    rate: u64,
    hurry: u32,
    due: Instant,
}

impl Pace {
    /// At most so many bytes a second.
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        Self { rate: rate.max(1), hurry: 1, due: now }
    }

    /// Waits for the turn of the next flight.
    pub(super) async fn wait(&self) {
        sleep_until(self.due).await;
    }

    /// So much was copied.
    pub(super) fn spend(&mut self, keys: u64, bytes: u64, now: Instant) {
        let cost = bytes.max(keys * KEY_COST);
        let time = Duration::from_secs_f64(cost as f64 / (self.rate as f64 * f64::from(self.hurry)));
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        self.due = self.due.max(earliest) + time;
    }

    /// Doubles the rate: at the present one the copy never comes to an end.
    pub(super) fn hurry(&mut self) {
        self.hurry = (self.hurry * 2).min(MOST_HURRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_keys_cost_as_much_as_a_kibibyte() {
        let now = Instant::now() + CREDIT;
        let mut pace = Pace::new(1 << 20, now);
        pace.spend(1024, 10, now);
        assert_eq!(pace.due, now + Duration::from_secs(1));
        pace.spend(1, 1 << 20, now);
        assert_eq!(pace.due, now + Duration::from_secs(2));
        pace.hurry();
        pace.spend(1, 1 << 20, now);
        assert_eq!(pace.due, now + Duration::from_millis(2500));
    }

    #[test]
    fn what_was_not_used_is_kept_for_a_moment_only() {
        let now = Instant::now() + CREDIT;
        let mut pace = Pace::new(1 << 20, now);
        let later = now + Duration::from_secs(60);
        pace.spend(1, 1 << 20, later);
        assert_eq!(pace.due, later - CREDIT + Duration::from_secs(1));
    }
}
