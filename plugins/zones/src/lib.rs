//! Writes are acknowledged by zones: a majority in each, in the local one, or in most of them.
#![cfg_attr(target_arch = "wasm32", no_std)]

use quorate_plugin_sdk::*;

/// More zones than this make "most of them" too long a rule.
const MAX_ZONES: usize = 8;

#[derive(Clone, Copy)]
enum Scope {
    Each,
    Local,
    TwoOfThree,
}

/// `rule` says which zones must acknowledge; reads go to the nearest backend.
pub struct Zones {
    common: Common,
    scope: Scope,
}

impl Policy for Zones {
    const NAME: &'static str = "zones";
    const SCHEMA: &'static str = include_str!("../schema.json");

    fn configure(settings: &mut Settings) -> Self {
        if settings.has("write-quorum") {
            settings.error("write-quorum", "zones counts by zone: use 'rule' instead");
        }
        let scopes = [Scope::Each, Scope::Local, Scope::TwoOfThree];
        let at = settings.word("rule", &["each", "local", "two-of-three"]).unwrap_or(0);
        let common = Common { write_quorum: None, ..settings.common() };
        Zones { common, scope: scopes[at] }
    }

    fn build(&self, view: &Topology, _why: Reason) -> Result<Table, String> {
        if let Some(backend) = view.backends.iter().find(|b| b.zone.is_empty()) {
            return Err(format!("backend '{}' has no zone: give every backend one", backend.name));
        }
        let write = match self.scope {
            Scope::Each => AckRule::EachZoneMajority,
            Scope::Local => AckRule::LocalZoneMajority,
            Scope::TwoOfThree => most_zones(view)?,
        };
        Ok(Table::of(self.common.apply(Plan { write, ..Plan::replicated(Self::NAME, view) })))
    }
}

/// Any of the smallest sets of zones that are more than half: a majority in all zones of the set.
fn most_zones(view: &Topology) -> Result<AckRule, String> {
    let zones = view.zones();
    if !(3..=MAX_ZONES).contains(&zones.len()) {
        return Err(format!("rule 'two-of-three' needs 3 to {MAX_ZONES} zones; there are {}", zones.len()));
    }
    let majorities: Vec<Threshold> = zones.iter().map(|zone| majority_in(view, zone)).collect();
    let need = zones.len() as u32 / 2 + 1;
    let sets = (0..1u32 << zones.len()).filter(|set| set.count_ones() == need);
    let pick = |set: u32| (0..zones.len()).filter(move |i| set >> i & 1 == 1).map(|i| majorities[i].clone());
    Ok(AckRule::AnyOf(sets.map(|set| pick(set).collect()).collect()))
}

fn majority_in(view: &Topology, zone: &str) -> Threshold {
    let members = view.backends.iter().enumerate().filter(|(_, b)| b.zone == zone);
    let among: Vec<u8> = members.map(|(i, _)| i as u8).collect();
    let need = among.len() as u8 / 2 + 1;
    Threshold { among, need }
}

policy!(Zones);
