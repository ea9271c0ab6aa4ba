//! Chance, from a seed: the same seed rolls the same numbers everywhere.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.roll() % n }
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True this often of a hundred times.
    pub(super) fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// Half the time around a tenth of `mean`, sometimes several times it: delays have long tails.
    pub(super) fn delay_us(&mut self, mean: u64) -> u64 {
        match self.below(10) {
            0..5 => self.between(1, 1 + mean / 5),
            5..9 => self.between(mean / 2, mean + mean / 2),
            _ => self.between(mean, mean * 6),
        }
    }
}
