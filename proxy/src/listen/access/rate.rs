//! Rates of requests: a bucket that fills evenly. One number that all threads share, without a lock.

use crate::config::Rate;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the module's head.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    /// When it will be full again, in nanoseconds since the proxy's start.
    full_at_ns: AtomicU64,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate) -> Bucket {
        Bucket { rate, full_at_ns: AtomicU64::new(0) }
    }

    /// How fast it fills.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one request out, at this microsecond since the proxy's start. `false`: it is empty.
    #[inline]
    pub fn take(&self, now_us: u64) -> bool {
        let now = now_us.saturating_mul(1000);
        let each = 1_000_000_000 / u64::from(self.rate.requests_per_second.max(1));
        let room = each * u64::from(self.rate.requests_burst.max(1));
        let take = |full_at: u64| {
            let next = full_at.max(now) + each;
            (next <= now + room).then_some(next)
        };
        self.full_at_ns.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_up_comes_at_once_and_the_rest_evenly() {
        let bucket = Bucket::new(Rate { requests_per_second: 10, requests_burst: 3 });
        let taken = |now_us: u64| (0..100).filter(|_| bucket.take(now_us)).count();
        assert_eq!(taken(1), 3);
        assert_eq!(taken(99_000), 0);
        assert_eq!(taken(100_001), 1);
        assert_eq!(taken(300_001), 2);
        assert_eq!(taken(60_000_000), 3, "no more is saved up than the burst");
    }

    #[test]
    fn a_high_rate_is_kept() {
        let bucket = Bucket::new(Rate { requests_per_second: 10_000_000, requests_burst: 1 });
        assert_eq!((0..1000).filter(|us| bucket.take(*us)).count(), 1000);
    }
}
