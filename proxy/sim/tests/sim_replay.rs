//! The same seed and options make the same world, byte for byte; another seed makes another.

use quorate_sim::world::{Options, World};

#[test]
fn a_seed_makes_the_same_world_twice() {
    for seed in [3, 17, 100_003] {
        let first = World::run(seed, &Options::varied(seed));
        let second = World::run(seed, &Options::varied(seed));
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn seeds_make_different_worlds() {
    let digests: Vec<u64> = (1..=5).map(|seed| World::run(seed, &Options::default()).digest).collect();
    let mut unlike = digests.clone();
    unlike.sort_unstable();
    unlike.dedup();
    assert_eq!(unlike.len(), digests.len());
}
