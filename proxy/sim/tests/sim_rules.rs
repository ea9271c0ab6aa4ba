//! Every safety rule is switched off once: the checkers must then see a promise broken. This is
//! the proof that they would see it if the rule were missing. `barrier`, `witness`, `run`, `chain` and `proven`, which
//! chance does not find, are in `sim_directed.rs`.

use quorate_core::ordered::{Journaling, SafetyRules};
use quorate_sim::world::{Kind, Options, Outcome, Profile, ShellRules, World};

/// The first seed whose world breaks a promise.
fn search(rule: &str, most: u64, options: impl Fn(u64) -> Options) -> Outcome {
    let broken = (1..=most).map(|seed| World::run(seed, &options(seed))).find(Outcome::is_broken);
    let Some(outcome) = broken else { panic!("without '{rule}' {most} seeds kept every promise") };
    println!("without '{rule}': {outcome}");
    outcome
}

fn core(edit: fn(&mut SafetyRules)) -> impl Fn(u64) -> Options {
    move |_| {
        let mut options = Options { overtaken_reads: false, ..Options::default() };
        edit(&mut options.rules);
        options
    }
}

fn shell(edit: fn(&mut ShellRules)) -> impl Fn(u64) -> Options {
    move |_| {
        let mut options = Options { overtaken_reads: false, ..Options::default() };
        edit(&mut options.shell);
        options
    }
}

/// Worlds of proxies with a journal of this kind.
fn recorded(journal: Journaling, edit: fn(&mut SafetyRules)) -> impl Fn(u64) -> Options {
    move |seed| {
        let mut options = Profile::Journal.with_journal(seed, journal);
        edit(&mut options.rules);
        options
    }
}

#[test]
fn with_every_rule_the_same_worlds_keep_every_promise() {
    for seed in 1..=150 {
        let outcome = World::run(seed, &core(|_| {})(seed));
        assert!(!outcome.is_broken(), "{outcome}");
    }
    for seed in 1..=70 {
        let outcome = World::run(seed, &recorded(Journaling::Log, |_| {})(seed));
        assert!(!outcome.is_broken(), "{outcome}");
    }
}

#[test]
fn hold() {
    // Where both of two must have it, an entry is on its way for longest. Trials make owners wait, so that fewer
    // reads meet one.
    let options = core(|rules| rules.hold = false);
    search("hold", 400, |seed| Options { leads: false, replicas: 2, ..options(seed) });
}

#[test]
fn quorum() {
    search("quorum", 400, core(|rules| rules.quorum = false));
}

#[test]
fn amnesia() {
    search("amnesia", 400, core(|rules| rules.amnesia = false));
}

#[test]
fn cover() {
    search("cover", 400, core(|rules| rules.cover = false));
}

#[test]
fn position() {
    search("position", 400, core(|rules| rules.position = false));
}

#[test]
fn session_order() {
    search("session order", 400, core(|rules| rules.session_order = false));
}

#[test]
fn own_keys() {
    search("own keys", 400, core(|rules| rules.own_keys = false));
}

#[test]
fn missed_keys() {
    search("missed keys", 400, core(|rules| rules.missed_keys = false));
}

#[test]
fn same_position() {
    let surveys = |edit: fn(&mut SafetyRules)| move |seed| Options { surveys: true, ..core(edit)(seed) };
    let kept: Vec<Outcome> = (1..=60).map(|seed| World::run(seed, &surveys(|_| {})(seed))).collect();
    kept.iter().for_each(|outcome| assert!(!outcome.is_broken(), "{outcome}"));
    assert!(kept.iter().map(|outcome| outcome.stats.surveys).sum::<u64>() > 1000, "they do compare");
    search("same position", 400, surveys(|rules| rules.same_position = false));
}

/// Worlds whose stale replicas are copied key by key.
fn scans(edit: fn(&mut SafetyRules)) -> impl Fn(u64) -> Options {
    move |seed| {
        let mut options = Options { scans: true, log_bytes: 1_500, tail_entries: 4, ..core(edit)(seed) };
        options.steps = 240;
        options
    }
}

#[test]
fn touched_keys() {
    let kept: Vec<Outcome> = (1..=80).map(|seed| World::run(seed, &scans(|_| {})(seed))).collect();
    kept.iter().for_each(|outcome| assert!(!outcome.is_broken(), "{outcome}"));
    assert!(kept.iter().map(|outcome| outcome.stats.scans).sum::<u64>() > 20, "they do scan");
    search("touched keys", 400, scans(|rules| rules.touched_keys = false));
}

/// Two or three replicas whose writes are acknowledged by the recorded in-sync set.
fn in_sync(edit: fn(&mut SafetyRules)) -> impl Fn(u64) -> Options {
    move |seed| {
        let replicas = 2 + (seed % 2) as usize;
        Options { in_sync: true, replicas, write_quorum: 1 + (seed % 2) as usize, ..core(edit)(seed) }
    }
}

#[test]
fn with_in_sync_sets_the_same_worlds_keep_every_promise() {
    for seed in 1..=120 {
        let outcome = World::run(seed, &in_sync(|_| {})(seed));
        assert!(!outcome.is_broken(), "{outcome}");
    }
}

#[test]
fn record_first() {
    search("record first", 400, in_sync(|rules| rules.record_first = false));
}

#[test]
fn fence() {
    search("fence", 400, shell(|rules| rules.fence = false));
}

#[test]
fn comeback() {
    let options = shell(|rules| rules.comeback = false);
    // Without trials: these are few, and leave less on the wire.
    let faults = Kind::with_one_proxy;
    search("comeback", 400, |seed| Options { faults: faults(), leads: false, ..options(seed) });
}

#[test]
fn image() {
    search("image", 400, shell(|rules| rules.image = false));
}

#[test]
fn lost_reads() {
    search("lost reads", 400, shell(|rules| rules.lost_reads = false));
}

#[test]
fn entries_are_recorded() {
    // Without lives of keys: a new owner's checks of them would be in the way of what is looked for.
    let edit = |rules: &mut SafetyRules| (rules.recorded, rules.expiry) = (false, false);
    let options = recorded(Journaling::Log, edit);
    search("recorded", 400, |seed| Options { lives: false, ..options(seed) });
}

#[test]
fn restored() {
    search("restored", 400, recorded(Journaling::Log, |rules| rules.restored = false));
}

#[test]
fn trial() {
    search("trial", 400, core(|rules| rules.trial = false));
}

#[test]
fn expiry() {
    search("expiry", 400, core(|rules| rules.expiry = false));
}
