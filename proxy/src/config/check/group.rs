//! `[group.NAME]`.

use super::super::model::{Ack, Backend, Group, GroupPlaces, PolicySource, WriteQuorum};
use super::super::place::Place;
use super::super::raw::{At, Every, RawGroup, RawQuorum, Span};
use super::super::report::Problem;
use super::super::suggest::{brief, did_you_mean};
use super::Check;
use quorate_core::rule::MAX_REPLICAS;
use std::collections::BTreeSet;
use std::time::Duration;
use toml::Spanned;

/// Bounds of a request's times.
const REQUEST_TIME: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// Bounds of the time between scrubs.
const SCRUB_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600);
/// Bounds of a group's buffers, in bytes.
const RESEED_RATE: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 30;
const BUFFER_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;

/// Bounds of the age of what is kept on disk.
const JOURNAL_AGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600);

impl Check<'_> {
    pub(super) fn group(&mut self, name: Spanned<String>, raw: RawGroup, backends: &[Backend]) -> Group {
        let (name, head) = self.name("group", name);
        let path = format!("group.{name}");
        let plain = plain_settings(&raw);
        let times = [&raw.deadline, &raw.per_try].map(|time| time.as_ref().map(|time| time.place));
        let mut group = Group::new(name, Vec::new());
        group.at =
            GroupPlaces { name: head, replicas: head, policy: head, write_quorum: head, read_pick: head };
        let complete = !self.dropped.contains(&format!("{path}.replicas"));
        if let Some(replicas) = self.required(&path, "replicas", head, raw.replicas) {
            group.at.replicas = replicas.place;
            self.replicas(&mut group, replicas);
        }
        if let Some(policy) = raw.policy {
            group.at.policy = policy.place;
            group.policy = self.policy(&path, policy);
        }
        group.at.write_quorum = raw.write_quorum.as_ref().map_or(group.at.policy, |quorum| quorum.place);
        group.at.read_pick = raw.read_pick.as_ref().map_or(group.at.policy, |word| word.place);
        group.write_quorum = raw.write_quorum.and_then(|quorum| self.quorum(quorum, &group, complete));
        group.read_pick = raw.read_pick.and_then(|word| self.word("read-pick", &word));
        group.deadline = self.request_time("deadline", raw.deadline);
        group.per_try = self.request_time("per-try", raw.per_try);
        group.mode = raw.mode.and_then(|word| self.word("mode", &word)).unwrap_or(group.mode);
        group.durability =
            raw.durability.and_then(|word| self.word("durability", &word)).unwrap_or(group.durability);
        group.ack = raw.ack.as_ref().and_then(|word| self.word("ack", word)).unwrap_or(group.ack);
        self.in_sync(&mut group, raw.min_in_sync, complete);
        group.tail = raw.tail.map_or(group.tail, |tail| tail.value);
        let entries = raw.tail_entries.and_then(|number| self.number("tail-entries", &number, 1..=100_000));
        group.tail_entries = entries.and_then(|n| u32::try_from(n).ok()).unwrap_or(group.tail_entries);
        let log = raw.log_memory.and_then(|size| self.size("log-memory", &size, BUFFER_BYTES));
        group.log_memory = log.unwrap_or(group.log_memory);
        group.hints = raw.hints.map_or(group.hints, |hints| hints.value);
        let size = raw.journal_size.and_then(|size| self.size("journal-size", &size, BUFFER_BYTES));
        group.journal_size = size.unwrap_or(group.journal_size);
        let age = raw.journal_age.and_then(|age| self.duration("journal-age", &age, JOURNAL_AGE));
        group.journal_age = age.unwrap_or(group.journal_age);
        let queue = raw.queue_memory.and_then(|size| self.size("queue-memory", &size, BUFFER_BYTES));
        group.queue_memory = queue.unwrap_or(group.queue_memory);
        let mark = raw.memory_watermark.and_then(|share| self.share("memory-watermark", &share));
        group.memory_watermark = mark.unwrap_or(group.memory_watermark);
        group.scripts = raw.scripts.and_then(|word| self.word("scripts", &word)).unwrap_or(group.scripts);
        group.weak_writes = raw.weak_writes.map_or(group.weak_writes, |weak| weak.value);
        group.reseed = raw.reseed.and_then(|word| self.word("reseed", &word)).unwrap_or(group.reseed);
        group.reseed_by =
            raw.reseed_by.and_then(|word| self.word("reseed-by", &word)).unwrap_or(group.reseed_by);
        let rate = raw.reseed_rate.and_then(|size| self.size("reseed-rate", &size, RESEED_RATE));
        group.reseed_rate = rate.unwrap_or(group.reseed_rate);
        let rate = raw.scrub_rate.and_then(|number| self.number("scrub-rate", &number, 1..=1_000_000));
        group.scrub_rate = rate.and_then(|n| u32::try_from(n).ok()).unwrap_or(group.scrub_rate);
        group.scrub_every = raw.scrub_every.map_or(group.scrub_every, |every| self.every(every));
        self.plain_settings(&group, plain);
        self.times(&group, times);
        self.zones(&group, backends);
        group
    }

    fn every(&mut self, text: At<Every>) -> Option<Duration> {
        let At { value: Every(value), place } = text;
        let span = At { value: Span(value), place };
        if span.value.0 == "off" { None } else { self.duration("scrub-every", &span, SCRUB_EVERY) }
    }

    fn request_time(&mut self, key: &str, text: Option<At<Span>>) -> Option<Duration> {
        text.and_then(|text| self.duration(key, &text, REQUEST_TIME))
    }

    /// The list of replicas, without those that are no good.
    fn replicas(&mut self, group: &mut Group, list: At<Vec<At<String>>>) {
        if list.value.is_empty() {
            let problem = Problem::error("C101", format!("group '{}' has no replicas", brief(&group.name)));
            self.add(problem.at(list.place).help("name the backends that hold its data"));
        }
        if list.value.len() > MAX_REPLICAS {
            let message = format!("group '{}' has {} replicas", brief(&group.name), list.value.len());
            let label = format!("at most {MAX_REPLICAS}");
            let problem = Problem::error("C104", message).at(list.place).label(label);
            self.add(
                problem.help("scale by more groups, not by more replicas: each one slows every write down"),
            );
        }
        for name in list.value {
            if group.replicas.contains(&name.value) {
                let message = format!("replica '{}' is named twice", brief(&name.value));
                self.add(Problem::error("C107", message).at(name.place));
                continue;
            }
            self.backend_exists(&name);
            self.only_group(group, &name);
            group.replicas.push(name.value);
            if group.replicas.len() == MAX_REPLICAS {
                return;
            }
        }
    }

    fn only_group(&mut self, group: &Group, name: &At<String>) {
        match self.taken.get(&name.value) {
            Some(other) => {
                let (backend, other) = (brief(&name.value), brief(other));
                let message = format!(
                    "backend '{backend}' is in group '{other}' and in group '{}'",
                    brief(&group.name)
                );
                self.add(
                    Problem::error("C108", message).at(name.place).help("a backend holds one group's data"),
                );
            }
            None => _ = self.taken.insert(name.value.clone(), group.name.clone()),
        }
    }

    fn quorum(&mut self, quorum: At<RawQuorum>, group: &Group, complete: bool) -> Option<WriteQuorum> {
        let replicas = group.replicas.len();
        let (problem, place) = match (&quorum.value, quorum.place) {
            (RawQuorum::Word(word), place) => match word.as_str() {
                "majority" => return Some(WriteQuorum::Majority),
                "all" => return Some(WriteQuorum::All),
                _ => (unknown_quorum(word), place),
            },
            (RawQuorum::Count(count), place) if *count < 1 => {
                let message = format!("write-quorum {count} would acknowledge what no replica has");
                (Problem::error("C103", message).label("at least 1").help(majority_of(replicas)), place)
            }
            (RawQuorum::Count(count), place) => match u8::try_from(*count) {
                Ok(count) if usize::from(count) <= replicas || !complete => {
                    return Some(WriteQuorum::Count(count));
                }
                _ => (too_many(*count, replicas), place),
            },
        };
        self.add(problem.at(place));
        None
    }

    /// One ack rule a group: a quorum, or the in-sync set.
    fn in_sync(&mut self, group: &mut Group, min: Option<At<i64>>, complete: bool) {
        let in_sync = group.ack == Ack::InSync;
        if in_sync && group.write_quorum.is_some() {
            let problem = Problem::error("C120", "write-quorum says nothing with ack = \"in-sync\"");
            let help = "leave it out; min-in-sync says how few replicas may acknowledge a write";
            self.add(problem.at(group.at.write_quorum).help(help));
        }
        let Some(min) = min else { return };
        if !in_sync {
            let problem = Problem::error("C120", "min-in-sync says nothing with ack = \"quorum\"");
            self.add(problem.at(min.place).help("leave it out, or ask for ack = \"in-sync\""));
        }
        let most = if complete { group.replicas.len().max(1) as u64 } else { MAX_REPLICAS as u64 };
        group.min_in_sync =
            self.number("min-in-sync", &min, 1..=most as i64).and_then(|n| u32::try_from(n).ok());
    }

    /// Plain settings are for bundled policies, and must not say what the policy's settings say already.
    fn plain_settings(&mut self, group: &Group, given: Vec<(&'static str, Place)>) {
        for (key, place) in given {
            let names = [key.to_string(), format!("{key}-ms")];
            if names.iter().any(|name| group.policy.settings.contains_key(name)) {
                let message = format!("{key} is given here and in the policy's settings");
                self.add(Problem::error("C018", message).at(place).help("keep one of the two"));
            } else if matches!(group.policy.source, PolicySource::Wasm(_)) {
                let message =
                    format!("{key} is a setting for bundled policies; this group has one of its own");
                let help = format!("if the policy knows it: settings = {{ {key} = … }}");
                self.add(Problem::error("C112", message).at(place).help(help));
            }
        }
    }

    fn times(&mut self, group: &Group, places: [Option<Place>; 2]) {
        if let (Some(deadline), Some(per_try)) = (group.deadline, group.per_try)
            && per_try > deadline
        {
            let problem = Problem::error("C114", "per-try is longer than the deadline of the whole request");
            self.add(problem.at(places[1].unwrap_or(group.at.name)));
        }
    }

    /// The zones policy counts replicas by zone, so each needs one.
    fn zones(&mut self, group: &Group, backends: &[Backend]) {
        if group.policy.source != PolicySource::Bundled("zones".into()) {
            return;
        }
        let without: BTreeSet<&str> = backends
            .iter()
            .filter(|backend| backend.zone.is_empty())
            .map(|backend| backend.name.as_str())
            .collect();
        let missing = group.replicas.iter().filter(|name| without.contains(name.as_str()));
        let missing: Vec<String> = missing.map(|name| brief(name)).collect();
        if !missing.is_empty() {
            let message =
                format!("policy 'zones' counts by zone, but these have none: {}", missing.join(", "));
            let help = "give each backend a zone = \"…\"";
            self.add(Problem::error("C113", message).at(group.at.policy).help(help));
        }
    }
}

/// The plain settings that the file gives, with their places.
fn plain_settings(raw: &RawGroup) -> Vec<(&'static str, Place)> {
    let given = [
        ("write-quorum", raw.write_quorum.as_ref().map(|value| value.place)),
        ("read-pick", raw.read_pick.as_ref().map(|value| value.place)),
        ("deadline", raw.deadline.as_ref().map(|value| value.place)),
        ("per-try", raw.per_try.as_ref().map(|value| value.place)),
    ];
    given.into_iter().filter_map(|(key, place)| Some((key, place?))).collect()
}

fn unknown_quorum(word: &str) -> Problem {
    let message = format!("write-quorum cannot be '{}'", brief(word));
    let number = word.trim().parse::<i64>().is_ok();
    let help = if number {
        "write the number without quotes".into()
    } else {
        did_you_mean(word, &["majority", "all"])
    };
    Problem::error("C008", message).help(help)
}

fn too_many(count: i64, replicas: usize) -> Problem {
    let are = if replicas == 1 { "1 replica".to_string() } else { format!("{replicas} replicas") };
    Problem::error("C102", format!("write-quorum {count} can never be met by {are}"))
        .label(format!("at most {replicas}"))
        .help(majority_of(replicas))
}

fn majority_of(replicas: usize) -> String {
    format!("a majority of {replicas} is {}", replicas / 2 + 1)
}
