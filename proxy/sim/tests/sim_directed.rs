//! Schedules that chance does not find: each is played with the rule it is about, and without it.

use quorate_core::ordered::{Journaling, Phase, SafetyRules};
use quorate_sim::world::{Ask, Fault, Options, Outcome, ShellRules, World};

const LONG: u64 = 60_000_000;
/// Proxies in the order they start, and backends.
const P: [usize; 4] = [0, 1, 2, 3];
const R: [usize; 3] = [0, 1, 2];

fn world(seed: u64, options: &Options) -> World {
    let mut world = World::new(seed, options);
    world.warm_up();
    world
}

fn cut(world: &mut World, proxy: usize, backend: usize) {
    world.inject(Fault::Block { proxy, backend, ways: [true, true], us: LONG });
}

fn join(world: &mut World, proxy: usize, backend: usize) {
    world.inject(Fault::Block { proxy, backend, ways: [false, false], us: 0 });
    world.pass(1);
}

fn start(world: &mut World) {
    world.inject(Fault::StartProxy { fresh: false });
}

fn crash(world: &mut World, proxy: usize) {
    world.inject(Fault::CrashProxy { proxy });
}

fn push(world: &mut World, client: usize, proxy: usize, item: &str) {
    world.ask(client, proxy, vec![Ask::Push(0, item.into())]);
}

fn knows_its_log(proxy: usize) -> impl Fn(&World) -> bool {
    move |world| world.phase(proxy) != Phase::Recovering
}

fn any_broken(options: &Options, schedule: fn(u64, &Options) -> Outcome) -> Option<Outcome> {
    (1..=12).map(|seed| schedule(seed, options)).find(Outcome::is_broken)
}

fn assert_kept(options: &Options, schedule: fn(u64, &Options) -> Outcome) {
    if let Some(outcome) = any_broken(options, schedule) {
        panic!("{outcome}");
    }
}

fn assert_broken(options: &Options, schedule: fn(u64, &Options) -> Outcome) {
    let outcome = any_broken(options, schedule).expect("a broken promise");
    println!("{outcome}");
}

/// Figure 8 of the Raft paper. A write that only r1 has is read by an owner without an entry of its own
/// on a quorum; a later owner that does not meet r1 then forgets it.
fn figure_eight(seed: u64, options: &Options) -> Outcome {
    let mut world = world(seed, options);
    cut(&mut world, P[0], R[1]);
    cut(&mut world, P[0], R[2]);
    push(&mut world, 0, P[0], "v1");
    world.pass(5_000);
    crash(&mut world, P[0]);

    cut(&mut world, P[1], R[0]);
    world.inject(Fault::Slow { proxy: P[1], backend: R[2], delay_us: 15_000, us: LONG });
    start(&mut world);
    assert!(world.pass_until(knows_its_log(P[1])));
    cut(&mut world, P[1], R[2]);
    world.pass(5_000);
    crash(&mut world, P[1]);

    cut(&mut world, P[2], R[1]);
    world.inject(Fault::Slow { proxy: P[2], backend: R[2], delay_us: 15_000, us: LONG });
    start(&mut world);
    assert!(world.pass_until(knows_its_log(P[2])));
    cut(&mut world, P[2], R[2]);
    for client in 1..3 {
        world.ask(client, P[2], vec![Ask::List(0)]);
    }
    world.pass(20_000);
    crash(&mut world, P[2]);

    cut(&mut world, P[3], R[0]);
    start(&mut world);
    assert!(world.pass_until(|world| world.serves(P[3])));
    world.ask(1, P[3], vec![Ask::List(0)]);
    world.pass(10_000);
    world.finish()
}

#[test]
fn barrier() {
    assert_kept(&Options::directed(), figure_eight);
    // A new owner orders checks of the keys that it is asked for, which do as well as its own first entry.
    let rules = SafetyRules { expiry: false, ..SafetyRules::ALL };
    assert_kept(&Options { rules, ..Options::directed() }, figure_eight);
    let rules = SafetyRules { barrier: false, ..rules };
    assert_broken(&Options { rules, ..Options::directed() }, figure_eight);
}

/// r1 and r2 hold what was acknowledged. r1 ran a trial alone and is half mended when its owner dies; the next one meets
/// only it and r3, which holds less.
fn half_mended(seed: u64, options: &Options) -> Outcome {
    let mut world = world(seed, options);
    cut(&mut world, P[0], R[2]);
    for item in ["a", "b"] {
        push(&mut world, 0, P[0], item);
        world.pass(5_000);
    }
    world.inject(Fault::Slow { proxy: P[0], backend: R[0], delay_us: 15_000, us: LONG });
    push(&mut world, 0, P[0], "tried");
    world.pass(10_000);
    let deaf = Fault::Block { proxy: P[0], backend: R[0], ways: [false, true], us: LONG };
    world.inject(deaf);
    assert!(world.pass_until(|world| !world.attached(P[0], R[0])));
    world.inject(Fault::SpoilCopies { backend: R[0] });
    join(&mut world, P[0], R[0]);
    assert!(world.pass_until(|world| world.attached(P[0], R[0])));
    world.inject(deaf);
    world.pass(20_000);
    crash(&mut world, P[0]);

    cut(&mut world, P[1], R[1]);
    start(&mut world);
    world.pass(300_000);
    world.finish()
}

#[test]
fn witness() {
    let options = || Options { leads: true, ..Options::directed() };
    assert_kept(&options(), half_mended);
    let rules = SafetyRules { witness: false, ..SafetyRules::ALL };
    assert_broken(&Options { rules, ..options() }, half_mended);
}

/// r1 loses acknowledged entries and is fed again, but not to the end, before its owner dies. It must not
/// pass for a backend that remembers, or the next owner adopts what it has.
fn half_fed(seed: u64, options: &Options) -> Outcome {
    let mut world = world(seed, options);
    cut(&mut world, P[0], R[2]);
    for item in 0..90 {
        push(&mut world, 0, P[0], &format!("i{item}"));
        world.pass(4_000);
    }
    crash(&mut world, P[0]);
    world.inject(Fault::Crash { backend: R[0], lose: 1_000, down_us: 1_000, loading_us: 0 });

    cut(&mut world, P[1], R[0]);
    world.inject(Fault::Slow { proxy: P[1], backend: R[2], delay_us: 15_000, us: LONG });
    start(&mut world);
    assert!(world.pass_until(knows_its_log(P[1])));
    cut(&mut world, P[1], R[2]);
    join(&mut world, P[1], R[0]);
    assert!(world.pass_until(|world| world.attached(P[1], R[0])));
    world.inject(Fault::Block { proxy: P[1], backend: R[0], ways: [false, true], us: LONG });
    world.pass(30_000);
    crash(&mut world, P[1]);

    world.inject(Fault::Pause { backend: R[1], us: 900_000 });
    start(&mut world);
    world.pass(800_000);
    world.finish()
}

#[test]
fn a_backend_that_is_fed_does_not_remember_yet() {
    let options = Options { tail_entries: 200, ..Options::directed() };
    assert_kept(&options, half_fed);
}

#[test]
fn run_is_recorded_in_sync() {
    let shell = ShellRules { run: false, ..ShellRules::ALL };
    assert_broken(&Options { shell, tail_entries: 200, ..Options::directed() }, half_fed);
}

/// p2 fences r1 and r2; p1 hears nothing of it and still holds r3.
fn two_owners(seed: u64, options: &Options) -> World {
    let mut world = world(seed, options);
    cut(&mut world, P[0], R[0]);
    cut(&mut world, P[0], R[1]);
    cut(&mut world, P[1], R[2]);
    start(&mut world);
    assert!(world.pass_until(|world| world.serves(P[1])));
    push(&mut world, 0, P[1], "new");
    world.pass(5_000);
    world
}

fn reads_of_the_older(seed: u64, options: &Options) -> Outcome {
    let mut world = two_owners(seed, options);
    for client in 1..4 {
        world.ask(client, P[0], vec![Ask::List(0)]);
    }
    world.pass(50_000);
    world.finish()
}

/// Not promised: an owner that was not told yet reads from a backend that the newer one cannot fence.
#[test]
fn an_older_owner_may_answer_stale_reads_for_a_while() {
    assert_kept(&Options::directed(), reads_of_the_older);
    assert_broken(&Options { late_reads: true, ..Options::directed() }, reads_of_the_older);
}

fn fence_forgotten(seed: u64, options: &Options) -> Outcome {
    let mut world = two_owners(seed, options);
    cut(&mut world, P[1], R[0]);
    world.inject(Fault::Crash { backend: R[0], lose: 1_000, down_us: 1_000, loading_us: 0 });
    world.pass(2_000);
    join(&mut world, P[0], R[0]);
    world.pass(300_000);
    push(&mut world, 1, P[0], "old");
    world.pass(20_000);
    world.finish()
}

/// Not promised: a backend that crashes soon after a take-over may forget the fence with its last
/// writes, and an older owner that lives and reaches it then has a quorum again.
#[test]
fn a_lost_fence_lets_an_older_owner_back_in() {
    assert_kept(&Options::directed(), fence_forgotten);
    assert_broken(&Options { lost_fences: true, ..Options::directed() }, fence_forgotten);
}

/// r3 has a write that is on no log, and is away while the next owner writes `writes` times with hardly any memory.
fn strayed(seed: u64, options: &Options, writes: usize) -> Outcome {
    let mut world = world(seed, options);
    // It is owed something for a while, so that there is a journal.
    cut(&mut world, P[0], R[2]);
    for item in 0..6 {
        push(&mut world, 0, P[0], &format!("i{item}"));
        world.pass(4_000);
    }
    join(&mut world, P[0], R[2]);
    world.pass(300_000);
    cut(&mut world, P[0], R[0]);
    cut(&mut world, P[0], R[1]);
    push(&mut world, 0, P[0], "stray");
    world.pass(5_000);
    crash(&mut world, P[0]);

    cut(&mut world, P[1], R[2]);
    start(&mut world);
    assert!(world.pass_until(|world| world.serves(P[1])));
    for item in 0..writes {
        push(&mut world, 1, P[1], &format!("j{item}"));
        world.pass(4_000);
    }
    join(&mut world, P[1], R[2]);
    world.pass(300_000);
    world.finish()
}

fn hints(edit: fn(&mut SafetyRules)) -> Options {
    let mut rules = SafetyRules::ALL;
    edit(&mut rules);
    Options { rules, journal: Journaling::Hints, log_bytes: 1, ..Options::directed() }
}

/// What is recorded continues the log, not the stray write.
#[test]
fn chain() {
    let schedule = |seed, options: &Options| strayed(seed, options, 40);
    assert_kept(&hints(|_| {}), schedule);
    assert_broken(&hints(|rules| rules.chain = false), schedule);
}

/// The stray write has the number at which the memory begins: nothing recorded is between the two.
#[test]
fn proven() {
    let schedule = |seed, options: &Options| strayed(seed, options, 1);
    assert_kept(&hints(|_| {}), schedule);
    assert_broken(&hints(|rules| rules.proven = false), schedule);
}

/// An entry that no backend took is taken back while r3 is owed it from the journal, where it was recorded.
fn taken_back(seed: u64, options: &Options) -> Outcome {
    let mut world = world(seed, options);
    cut(&mut world, P[0], R[2]);
    for item in 0..30 {
        push(&mut world, 0, P[0], &format!("i{item}"));
        world.pass(4_000);
    }
    join(&mut world, P[0], R[2]);
    world.inject(Fault::Oom { backend: Some(R[0]), us: 200_000 });
    world.inject(Fault::Oom { backend: Some(R[1]), us: 200_000 });
    push(&mut world, 1, P[0], "never");
    world.pass(300_000);
    world.finish()
}

/// A hint of an entry that was refused must not be fed to a replica that comes back.
#[test]
fn what_was_taken_back_is_not_fed_from_the_journal() {
    for tail_entries in [4, 24] {
        assert_kept(&Options { tail_entries, ..hints(|_| {}) }, taken_back);
    }
}
