//! Kinds of worlds by name, as the tests and `quorate simulate` run them.

use super::dice::Dice;
use super::kind::Kind;
use super::options::Options;
use quorate_core::ordered::Journaling;

/// A kind of world. Sizes, quorums, limits and delays are chosen by the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Some kinds of faults, proxies without a journal.
    Usual,
    /// One proxy at a time.
    Single,
    /// Proxies with a journal, as hints or as the log.
    Journal,
    /// Writes are acknowledged by the recorded in-sync set.
    InSync,
    /// Nearly every kind of fault at once, with a journal or without.
    Storm,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 5] =
        [Profile::Usual, Profile::Single, Profile::Journal, Profile::InSync, Profile::Storm];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Usual => "usual",
            Profile::Single => "single",
            Profile::Journal => "journal",
            Profile::InSync => "in-sync",
            Profile::Storm => "storm",
        }
    }

    /// The world of a seed, but with this kind of journal.
    pub fn with_journal(self, seed: u64, journal: Journaling) -> Options {
        recorded(self.options(seed), journal, &mut Dice::new(seed))
    }

    /// The world of a seed.
    pub fn options(self, seed: u64) -> Options {
        // Reads that see what their session sent behind them are judged in worlds of their own.
        let usual = Options { overtaken_reads: false, ..Options::varied(seed) };
        let mut dice = Dice::new(seed ^ 0x6a6f_7572_6e61_6c21);
        match self {
            Profile::Usual => usual,
            Profile::Single => Options { faults: Kind::with_one_proxy(), ..usual },
            Profile::Journal => journal(usual, &mut dice),
            Profile::InSync => {
                let replicas = [2, 2, 3, 5][dice.pick(4)];
                // The set never becomes smaller than this.
                let write_quorum = dice.between(1, replicas as u64 / 2 + 1) as usize;
                Options { in_sync: true, replicas, write_quorum, ..usual }
            }
            Profile::Storm if dice.percent(50) => Options { storm: true, ..usual },
            Profile::Storm => Options { storm: true, ..journal(usual, &mut dice) },
        }
    }
}

fn journal(usual: Options, dice: &mut Dice) -> Options {
    let takes_over = dice.percent(30);
    let faults = if takes_over { Kind::ALL.to_vec() } else { Kind::with_one_proxy() };
    let kind = if dice.below(3) == 0 { Journaling::Hints } else { Journaling::Log };
    Options { faults, ..recorded(usual, kind, dice) }
}

fn recorded(usual: Options, journal: Journaling, dice: &mut Dice) -> Options {
    let log_bytes = match journal {
        // So little memory that it spills.
        Journaling::Hints => [1, 200, 600][dice.pick(3)],
        // More than may wait for the disk.
        Journaling::Log => [4_000, 20_000, 1 << 20][dice.pick(3)],
        Journaling::None => usual.log_bytes,
    };
    Options { journal, log_bytes, ..usual }
}
