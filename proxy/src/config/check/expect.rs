//! `[[expect]]`: references only. What really becomes of the request is found out elsewhere.

use super::super::model::{Expectation, ExpectationPlaces, Group};
use super::super::raw::{At, RawExpect};
use super::super::report::Problem;
use super::super::suggest::{brief, did_you_mean};
use super::Check;

impl Check<'_> {
    pub(super) fn expectation(
        &mut self,
        index: usize,
        raw: At<RawExpect>,
        groups: &[Group],
    ) -> Option<Expectation> {
        let path = format!("expect[{index}]");
        let At { value: raw, place: head } = raw;
        let request = self.required(&path, "request", head, raw.request);
        let outcome = self.required(&path, "outcome", head, raw.outcome);
        let outcome_place = outcome.as_ref().map_or(head, |word| word.place);
        let request_place = request.as_ref().map_or(head, |text| text.place);
        let at = ExpectationPlaces {
            name: raw.name.as_ref().map_or(request_place, |name| name.place),
            request: request_place,
            outcome: outcome_place,
            hints: raw.hints.as_ref().map_or(outcome_place, |hints| hints.place),
        };
        let request = request.and_then(|text| self.text("request", text));
        let outcome = outcome.and_then(|word| self.word("outcome", &word));
        let group = self.expected_group(&path, raw.group, groups, at);
        let down = self.members(raw.down.unwrap_or_default(), group);
        let hints = raw.hints.map(|hints| self.members(hints.value, group));
        let (request, group) = (request?, group?.name.clone());
        let name = raw.name.map_or_else(|| request.clone(), |name| name.value);
        Some(Expectation { name, request, group, down, outcome: outcome?, hints, at })
    }

    /// The group by its name, or the only one.
    fn expected_group<'g>(
        &mut self,
        path: &str,
        name: Option<At<String>>,
        groups: &'g [Group],
        at: ExpectationPlaces,
    ) -> Option<&'g Group> {
        match (name, groups) {
            (Some(name), _) => {
                self.group_exists(&name);
                groups.iter().find(|group| group.name == name.value)
            }
            (None, [only]) => Some(only),
            (None, []) => None,
            (None, _) => {
                self.required::<()>(path, "group", at.name, None);
                None
            }
        }
    }

    /// Names of replicas of the group, each once.
    fn members(&mut self, names: Vec<At<String>>, group: Option<&Group>) -> Vec<String> {
        let mut members: Vec<String> = Vec::new();
        for name in names {
            if members.contains(&name.value) {
                let message = format!("replica '{}' is named twice", brief(&name.value));
                self.add(Problem::error("C107", message).at(name.place));
                continue;
            }
            if let Some(group) = group {
                self.is_member(&name, group);
            }
            members.push(name.value);
        }
        members
    }

    fn is_member(&mut self, name: &At<String>, group: &Group) {
        let unknown_list = self.dropped.contains(&format!("group.{}.replicas", group.name));
        if unknown_list || group.replicas.contains(&name.value) || !self.backend_exists(name) {
            return;
        }
        let known: Vec<&str> = group.replicas.iter().map(String::as_str).collect();
        let message = format!("backend '{}' is not in group '{}'", brief(&name.value), brief(&group.name));
        self.add(Problem::error("C109", message).at(name.place).help(did_you_mean(&name.value, &known)));
    }
}
