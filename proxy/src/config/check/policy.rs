//! `policy` of a group: a bundled one by name, or a component in a file. Loading it is a later pass.

use super::super::model::{Policy, PolicyLimits, PolicySource};
use super::super::place::Place;
use super::super::raw::{At, RawLimits, RawPolicy, RawPolicyTable};
use super::super::report::Problem;
use super::super::suggest::{brief, did_you_mean};
use super::Check;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;
use toml::Spanned;

/// The policies that come with the proxy.
pub const BUNDLED_POLICIES: &[&str] = &["majority", "primary", "zones"];

/// Bounds of the memory of an instance; WebAssembly addresses 4 GiB.
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=4 << 30;
/// Bounds of the time for one call.
const CALL_TIME: std::ops::RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_secs(60);

impl Check<'_> {
    pub(super) fn policy(&mut self, group: &str, policy: At<RawPolicy>) -> Policy {
        let path = format!("{group}.policy");
        match policy.value {
            RawPolicy::Name(value) => {
                let name = At { value, place: policy.place };
                self.bundled(&name).map_or(Policy::default(), |source| Policy { source, ..Policy::default() })
            }
            RawPolicy::Table(table) => self.policy_table(&path, *table, policy.place),
        }
    }

    fn policy_table(&mut self, path: &str, table: RawPolicyTable, place: Place) -> Policy {
        let source = match (table.name, table.wasm) {
            (Some(name), None) => self.bundled(&name),
            (None, Some(wasm)) => self.wasm(wasm),
            (name, wasm) => {
                let complained =
                    ["name", "wasm"].iter().any(|key| self.dropped.contains(&format!("{path}.{key}")));
                self.not_one(name.is_some() && wasm.is_some(), complained, place);
                None
            }
        };
        Policy {
            source: source.unwrap_or(Policy::default().source),
            sha256: table.sha256.and_then(|digest| self.digest(&digest)),
            settings: self.settings(table.settings),
            limits: self.limits(table.limits.unwrap_or_default()),
        }
    }

    fn not_one(&mut self, both: bool, complained: bool, place: Place) {
        let message = match both {
            true => "this policy is given by name and by wasm",
            false if complained => return,
            false => "this policy has neither name nor wasm",
        };
        let help = "name = \"majority\" for a bundled one, wasm = \"FILE\" for one of your own";
        self.add(Problem::error("C111", message).at(place).help(help));
    }

    fn bundled(&mut self, name: &At<String>) -> Option<PolicySource> {
        if BUNDLED_POLICIES.contains(&name.value.as_str()) {
            return Some(PolicySource::Bundled(name.value.clone()));
        }
        let message = format!("there is no bundled policy '{}'", brief(&name.value));
        let help = match name.value.ends_with(".wasm") {
            true => "a file is given as { wasm = \"FILE\" }".to_string(),
            false => did_you_mean(&name.value, BUNDLED_POLICIES),
        };
        self.add(Problem::error("C110", message).at(name.place).help(help));
        None
    }

    fn wasm(&mut self, file: At<String>) -> Option<PolicySource> {
        let file = self.text("wasm", file)?;
        Some(PolicySource::Wasm(self.report.sources().base_dir().join(file)))
    }

    fn digest(&mut self, digest: &At<String>) -> Option<String> {
        let text = digest.value.as_str();
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Some(text.to_ascii_lowercase());
        }
        let message = format!("sha256 has {} characters", text.chars().count());
        let problem = Problem::error("C021", message).at(digest.place).label("64 hexadecimal digits");
        self.add(problem.help("'sha256sum FILE' or 'quorate policy inspect FILE' prints it"));
        None
    }

    fn settings(&mut self, settings: BTreeMap<Spanned<String>, At<toml::Value>>) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, value) in settings {
            match to_json(value.value) {
                Some(json) => _ = map.insert(key.into_inner(), json),
                None => {
                    let message = format!("setting '{}' cannot be handed to a policy", brief(key.get_ref()));
                    let problem = Problem::error("C020", message).at(value.place);
                    self.add(problem.help("settings are JSON: no dates, no infinities"));
                }
            }
        }
        map
    }

    fn limits(&mut self, raw: RawLimits) -> PolicyLimits {
        let default = PolicyLimits::default();
        let memory = raw.memory.and_then(|size| self.size("memory", &size, MEMORY_BYTES));
        let deadline = raw.deadline.and_then(|time| self.duration("deadline", &time, CALL_TIME));
        let decide = raw.decide_deadline.and_then(|time| self.duration("decide-deadline", &time, CALL_TIME));
        PolicyLimits {
            memory: memory.unwrap_or(default.memory),
            deadline: deadline.unwrap_or(default.deadline),
            decide_deadline: decide.unwrap_or(default.decide_deadline),
        }
    }
}

/// The same in JSON; `None` for what JSON cannot express.
fn to_json(value: toml::Value) -> Option<Value> {
    match value {
        toml::Value::String(text) => Some(Value::from(text)),
        toml::Value::Integer(number) => Some(Value::from(number)),
        toml::Value::Float(number) => serde_json::Number::from_f64(number).map(Value::Number),
        toml::Value::Boolean(yes) => Some(Value::from(yes)),
        toml::Value::Datetime(_) => None,
        toml::Value::Array(items) => {
            items.into_iter().map(to_json).collect::<Option<Vec<_>>>().map(Value::from)
        }
        toml::Value::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| Some((key, to_json(value)?)));
            entries.collect::<Option<Map<_, _>>>().map(Value::from)
        }
    }
}
