//! One backend is first: it is read, and every acknowledged write is on it.
#![cfg_attr(target_arch = "wasm32", no_std)]

use quorate_plugin_sdk::*;

/// `primary` names the first backend, `require-primary` says whether a write needs it.
pub struct Primary {
    common: Common,
    primary: Option<String>,
    required: bool,
}

impl Policy for Primary {
    const NAME: &'static str = "primary";
    const SCHEMA: &'static str = include_str!("../schema.json");

    fn configure(settings: &mut Settings) -> Self {
        let primary = settings.text("primary");
        let required = settings.flag("require-primary").unwrap_or(true);
        Primary { common: settings.common(), primary, required }
    }

    fn build(&self, view: &Topology, _why: Reason) -> Result<Table, String> {
        let first = self.position(view)?;
        let others = view.backends.iter().filter(|b| b.id as usize != first);
        let plan = Plan::over(Self::NAME, view.backends.get(first).into_iter().chain(others));
        let mut plan = self.common.apply(Plan { read_pick: ReadPick::PrimaryFirst, ..plan });
        if self.required {
            plan.write = self.with_primary(plan.targets.len());
        }
        Ok(Table::of(plan))
    }
}

impl Primary {
    fn position(&self, view: &Topology) -> Result<usize, String> {
        let Some(name) = &self.primary else { return Ok(0) };
        let found = view.backends.iter().position(|b| b.name == *name);
        found.ok_or_else(|| {
            format!("setting 'primary': no backend is called '{name}'; there are {}", view.names())
        })
    }

    /// The primary, which is target 0, and as many of the others as the quorum still needs.
    fn with_primary(&self, replicas: usize) -> AckRule {
        let quorum = self.common.write_quorum.unwrap_or(WriteQuorum::Majority).of(replicas);
        let mut all = vec![Threshold { among: vec![0], need: 1 }];
        if quorum > 1 {
            all.push(Threshold { among: (1..replicas as u8).collect(), need: quorum - 1 });
        }
        AckRule::AnyOf(vec![all])
    }
}

policy!(Primary);
