//! Misbehaves on request. For tests of the host only.
#![cfg_attr(target_arch = "wasm32", no_std)]

use core::sync::atomic::{AtomicU32, Ordering};
use quorate_plugin_sdk::*;

static BUILDS: AtomicU32 = AtomicU32::new(0);

/// `mode` names the hook and what goes wrong in it.
pub struct Naughty {
    mode: String,
}

impl Policy for Naughty {
    const NAME: &'static str = "naughty";

    fn configure(settings: &mut Settings) -> Self {
        let mode = settings.text("mode").unwrap_or_default();
        match mode.as_str() {
            "configure-loop" => spin(),
            "configure-trap" => panic!("configure was told to panic"),
            _ => Naughty { mode },
        }
    }

    fn build(&self, view: &Topology, why: Reason) -> Result<Table, String> {
        let mut table = Table::of(Plan::replicated("naughty", view));
        match self.mode.as_str() {
            "build-loop" => spin(),
            "build-trap" => panic!("build was told to panic"),
            "build-trap-later" if why != Reason::Start => panic!("build was told to panic later"),
            "build-memory" => hoard(),
            "build-error" => return Err("build was told to fail".to_owned()),
            "build-missing-plan" => table.default_outcome = 7,
            "build-many-plans" => table.plans = vec![table.plans[0].clone(); 20_000],
            "build-long-names" => table.plans[0].name = "n".repeat(1 << 20),
            "build-erasure" => {
                table.plans[0].layout = Layout::Erasure(Erasure { data: 2, parity: 1, stripe_bytes: 65_536 })
            }
            "build-never-met" => table.plans[0].write = AckRule::Count(200),
            "build-differs" => {
                table.plans[0].name = format!("naughty-{}", BUILDS.fetch_add(1, Ordering::Relaxed))
            }
            "log-flood" => (0..10_000).for_each(|i| log(Level::Info, &format!("line {i}"))),
            _ => table = table.with_class(OpClass::Write, ASK),
        }
        Ok(table)
    }

    fn fast(&self, _request: FastRequest) -> Outcome {
        match self.mode.as_str() {
            "fast-loop" => spin(),
            "fast-trap" => panic!("fast was told to panic"),
            "fast-made-up" => 1_234,
            _ => ASK,
        }
    }

    fn decide(&self, op: &Op) -> Decision {
        match self.mode.as_str() {
            "decide-loop" => spin(),
            "decide-trap" => panic!("decide was told to panic"),
            "decide-undecided" => Decision::plan(ASK),
            _ => Decision::reject("naughty", &describe(op)),
        }
    }
}

/// All that a guest can learn of a request, in one line.
fn describe(op: &Op) -> String {
    let keys: Vec<String> = (0..op.key_count())
        .filter_map(|at| op.key(at))
        .map(|key| String::from_utf8_lossy(&key).to_string())
        .collect();
    let none = op.key(op.key_count()).is_none();
    let (user, other) = (op.attribute("user"), op.attribute("nothing"));
    format!(
        "{} {:?} {:?} slot={} hash={} keys={keys:?} none={none} bytes={} user={user:?} other={other:?}",
        op.verb(),
        op.class(),
        op.flags(),
        op.slot(),
        op.key_hash(),
        op.value_bytes(),
    )
}

fn spin() -> ! {
    loop {
        BUILDS.fetch_add(1, Ordering::Relaxed);
    }
}

fn hoard() -> ! {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(vec![1; 1 << 20]);
    }
}

policy!(Naughty, decider);
