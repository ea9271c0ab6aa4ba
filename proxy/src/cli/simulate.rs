//! `quorate simulate`: seeded worlds with faults, and whether the promises were kept in them.
//! The same seed and profile give the same bytes.

use super::{Exit, Format};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use quorate_sim::world::{Kind, Options, Outcome, Profile, Stats, Verdict, World};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Play what may go wrong, in simulated time, and judge what clients saw.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tell the story of this seed
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "minutes", "from"])]
    seed: Option<u64>,
    /// With --seed: also what clients asked and learned
    #[arg(long, requires = "seed")]
    requests: bool,
    /// How many seeds are run of each profile
    #[arg(long, value_name = "COUNT", default_value_t = 100, conflicts_with = "minutes",
          value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Run seeds for so long, all profiles in turn
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    from: u64,
    /// The kind of world; left out: `usual` with --seed, otherwise every kind
    #[arg(long, value_parser = profiles())]
    profile: Option<Profile>,
}

fn profiles() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::ALL.map(Profile::name))
        .map(|name| Profile::ALL.into_iter().find(|p| p.name() == name).unwrap_or(Profile::Usual))
}

pub(super) fn main(args: Args, format: Format) -> Exit {
    if let Some(seed) = args.seed {
        return tell(seed, args.profile.unwrap_or(Profile::Usual), args.requests, format);
    }
    let until = args.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let chosen: Vec<Profile> = args.profile.map_or(Profile::ALL.to_vec(), |profile| vec![profile]);
    let mut tallies: Vec<Tally> = chosen.into_iter().map(Tally::new).collect();
    let goes_on = |done: u64| match until {
        Some(until) => Instant::now() < until,
        None => done < args.seeds,
    };
    let mut done = 0;
    while goes_on(done) {
        let Some(seed) = args.from.checked_add(done) else { break };
        for tally in &mut tallies {
            let outcome = World::run(seed, &tally.profile.options(seed));
            if outcome.is_broken() && format == Format::Text {
                print!("{outcome}  replay: {}\n\n", replay(seed, tally.profile));
            }
            tally.add(&outcome);
        }
        done += 1;
    }
    match format {
        Format::Text => print!("{}", table(&tallies)),
        Format::Json => println!("{:#}", summary(&tallies)),
    }
    if tallies.iter().all(|tally| tally.broken.is_empty()) { Exit::Done } else { Exit::No }
}

fn replay(seed: u64, profile: Profile) -> String {
    format!("quorate simulate --seed {seed} --profile {}", profile.name())
}

/// What was run of one profile.
struct Tally {
    profile: Profile,
    seeds: u64,
    stats: Stats,
    undecided: u64,
    /// Seeds, and what they broke.
    broken: Vec<(u64, &'static str)>,
}

impl Tally {
    fn new(profile: Profile) -> Self {
        Tally { profile, seeds: 0, stats: Stats::default(), undecided: 0, broken: Vec::new() }
    }

    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.stats = self.stats + outcome.stats;
        match outcome.verdict {
            Verdict::Kept => {}
            Verdict::Undecided { .. } => self.undecided += 1,
            Verdict::Broken { promise, .. } => self.broken.push((outcome.seed, promise)),
        }
    }
}

fn hours(stats: &Stats) -> f64 {
    stats.simulated_us as f64 / 3.6e9
}

fn operations(stats: &Stats) -> u64 {
    stats.applied + stats.refused + stats.unknown
}

/// Names and counts of the faults that struck.
fn strikes(stats: &Stats) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    Kind::ALL
        .iter()
        .zip(stats.strikes)
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| (kind.name(), count))
}

fn table(tallies: &[Tally]) -> String {
    let sum = tallies.iter().fold(Stats::default(), |sum, tally| sum + tally.stats);
    let row = |name: &str, seeds: u64, stats: &Stats, undecided: u64, broken: usize| {
        format!(
            "{name:<8} {seeds:>6} {:>7.2} {:>11} {:>12} {:>8} {:>8} {undecided:>10} {broken:>10}\n",
            hours(stats),
            operations(stats),
            stats.applied,
            stats.refused,
            stats.unknown,
        )
    };
    let mut out = format!(
        "{:<8} {:>6} {:>7} {:>11} {:>12} {:>8} {:>8} {:>10} {:>10}\n",
        "profile",
        "seeds",
        "hours",
        "operations",
        "acknowledged",
        "refused",
        "unknown",
        "undecided",
        "violations"
    );
    for tally in tallies {
        out += &row(tally.profile.name(), tally.seeds, &tally.stats, tally.undecided, tally.broken.len());
    }
    let count = |of: &dyn Fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let (seeds, undecided) = (count(&|t| t.seeds), count(&|t| t.undecided));
    out += &row("all", seeds, &sum, undecided, tallies.iter().map(|t| t.broken.len()).sum());
    let faults: Vec<String> = strikes(&sum).map(|(name, count)| format!("{name} {count}")).collect();
    out += &format!("faults: {}\n", if faults.is_empty() { "none".into() } else { faults.join(", ") });
    for tally in tallies {
        for (seed, promise) in &tally.broken {
            out += &format!("broken: {promise}: {}\n", replay(*seed, tally.profile));
        }
    }
    out
}

fn summary(tallies: &[Tally]) -> Value {
    let broken = |tally: &Tally| -> Vec<Value> {
        let one = |(seed, promise): &(u64, &str)| json!({ "seed": seed, "promise": promise, "replay": replay(*seed, tally.profile) });
        tally.broken.iter().map(one).collect()
    };
    let profiles: Vec<Value> = tallies
        .iter()
        .map(|tally| {
            json!({
                "profile": tally.profile.name(), "seeds": tally.seeds, "undecided": tally.undecided,
                "violations": broken(tally), "stats": stats_of(&tally.stats),
            })
        })
        .collect();
    json!({ "profiles": profiles })
}

fn stats_of(stats: &Stats) -> Value {
    let faults: serde_json::Map<String, Value> =
        strikes(stats).map(|(name, count)| (name.to_string(), json!(count))).collect();
    json!({
        "simulated_seconds": stats.simulated_us as f64 / 1e6, "operations": operations(stats),
        "acknowledged": stats.applied, "refused": stats.refused, "unknown": stats.unknown,
        "faults": faults, "crashes_that_lost": stats.losses, "lost_by_a_quorum": stats.blackouts,
        "owners": stats.ownerships, "reseeds": stats.reseeds,
    })
}

fn tell(seed: u64, profile: Profile, requests: bool, format: Format) -> Exit {
    let options = profile.options(seed);
    let outcome = World::run(seed, &options);
    match format {
        Format::Text => print!("{}", story(&outcome, &options, profile, requests)),
        Format::Json => println!("{:#}", story_json(&outcome, &options, profile, requests)),
    }
    if outcome.is_broken() { Exit::No } else { Exit::Done }
}

fn journal(options: &Options) -> String {
    format!("{:?}", options.journal).to_lowercase()
}

fn story(outcome: &Outcome, options: &Options, profile: Profile, requests: bool) -> String {
    let mut out = format!(
        "seed {}, profile {}: {} replicas r1 to r{}, {} acknowledge a write, journal: {}\n",
        outcome.seed,
        profile.name(),
        options.replicas,
        options.replicas,
        options.write_quorum,
        journal(options),
    );
    for line in outcome.trace.iter().filter(|line| requests || line.matters) {
        out += &format!("{line}\n");
    }
    let stats = &outcome.stats;
    out += &format!(
        "\n{} operations: {} acknowledged, {} refused, {} unknown; {} owners, {:.1} s\n",
        operations(stats),
        stats.applied,
        stats.refused,
        stats.unknown,
        stats.ownerships,
        stats.simulated_us as f64 / 1e6,
    );
    let last = outcome.to_string();
    out + last.trim_end() + "\n"
}

fn story_json(outcome: &Outcome, options: &Options, profile: Profile, requests: bool) -> Value {
    let (verdict, promise, story) = match &outcome.verdict {
        Verdict::Kept => ("kept", None, None),
        Verdict::Undecided { key } => ("undecided", None, Some(key.as_str())),
        Verdict::Broken { promise, story } => ("broken", Some(*promise), Some(story.as_str())),
    };
    let lines = outcome.trace.iter().filter(|line| requests || line.matters);
    let lines: Vec<Value> =
        lines.map(|l| json!({ "at_us": l.at_us, "matters": l.matters, "text": l.text })).collect();
    json!({
        "seed": outcome.seed, "profile": profile.name(), "replicas": options.replicas,
        "write_quorum": options.write_quorum, "journal": journal(options),
        "verdict": verdict, "promise": promise, "story": story,
        "stats": stats_of(&outcome.stats), "lines": lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No seed that breaks a promise is known, so one is made up.
    fn broken() -> Outcome {
        let kept = World::run(3, &Options { steps: 20, ..Options::default() });
        Outcome { verdict: Verdict::Broken { promise: "liveness", story: "nobody answers".into() }, ..kept }
    }

    #[test]
    fn a_violation_names_its_seed_and_how_to_see_it_again() {
        let mut tally = Tally::new(Profile::Journal);
        tally.add(&broken());
        let text = table(&[tally]);
        assert!(text.contains("broken: liveness: quorate simulate --seed 3 --profile journal\n"), "{text}");
    }

    #[test]
    fn a_story_ends_with_ten_lines_that_matter() {
        let outcome = broken();
        let text = story(&outcome, &Options::default(), Profile::Usual, false);
        let end = text.rsplit("seed 3: liveness: nobody answers\n").next().unwrap_or_default();
        assert_eq!(end.lines().count(), 10, "{text}");
        assert!(end.lines().all(|line| line.starts_with("  t=")), "{text}");
    }
}
