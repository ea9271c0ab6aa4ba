//! The components that are checked in are the ones the sources give.

#[path = "../examples/build-plugins/dist.rs"]
#[allow(missing_docs)]
mod dist;

use dist::{Digests, POLICIES, Toolchain};
use std::fs;

const AGAIN: &str = "run `cargo run -p quorate-host --example build-plugins` and check the result in";

fn digests() -> Digests {
    let text = fs::read_to_string(dist::digests_path()).expect("plugins/dist/digests.toml");
    toml::from_str(&text).expect("well-formed digests")
}

#[test]
fn components_match_their_recorded_digests_and_sources() {
    let digests = digests();
    assert_eq!(digests.policy.len(), POLICIES.len());
    for policy in POLICIES {
        let recorded = &digests.policy[policy];
        let component = fs::read(dist::component_path(policy)).expect("a component");
        assert_eq!(
            recorded.component,
            dist::hex(&component),
            "{policy}.wasm is not the one recorded: {AGAIN}"
        );
        assert_eq!(recorded.sources, dist::source_digest(policy), "{policy} is stale: {AGAIN}");
    }
}

#[test]
fn components_hold_no_path_of_a_machine() {
    for policy in POLICIES {
        let component = fs::read(dist::component_path(policy)).expect("a component");
        for path in ["/home/", "/root/", "/usr/", "/.cargo/", "/Users/"] {
            let found = component.windows(path.len()).any(|bytes| bytes == path.as_bytes());
            assert!(!found, "{policy}.wasm holds '{path}'");
        }
    }
}

#[test]
fn a_rebuild_gives_the_same_bytes() {
    let Some(toolchain) = Toolchain::find() else {
        println!("skipped: no wasm toolchain (rustup target add wasm32-unknown-unknown)");
        return;
    };
    let recorded = digests();
    if toolchain.version != recorded.toolchain {
        println!("skipped: built with {}, here is {}", recorded.toolchain, toolchain.version);
        return;
    }
    let components = toolchain.build(&dist::root().join("plugins/target")).expect("the policies build");
    for policy in POLICIES {
        let rebuilt = dist::hex(&components[policy]);
        assert_eq!(rebuilt, recorded.policy[policy].component, "{policy}.wasm differs when rebuilt: {AGAIN}");
    }
}
