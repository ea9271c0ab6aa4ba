//! All backends hold a copy, and a majority acknowledges a write.
#![cfg_attr(target_arch = "wasm32", no_std)]

use quorate_plugin_sdk::*;

/// The settings every bundled policy knows, and nothing else.
pub struct Majority {
    common: Common,
}

impl Policy for Majority {
    const NAME: &'static str = "majority";
    const SCHEMA: &'static str = include_str!("../schema.json");

    fn configure(settings: &mut Settings) -> Self {
        Majority { common: settings.common() }
    }

    fn build(&self, view: &Topology, _why: Reason) -> Result<Table, String> {
        Ok(Table::of(self.common.apply(Plan::replicated(Self::NAME, view))))
    }
}

policy!(Majority);
