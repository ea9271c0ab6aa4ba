//! Every policy does what its `cases.toml` says, from the component that is checked in.

use quorate_host::{Host, Limits, Source, cases};
use std::fs;
use std::path::Path;

const POLICIES: [&str; 4] = ["majority", "primary", "zones", "sized"];

#[test]
fn every_policy_passes_its_own_cases() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let host = Host::new(None).expect("an engine");
    for name in POLICIES {
        let wasm = fs::read(plugins.join("dist").join(format!("{name}.wasm"))).expect("a component");
        let text = fs::read_to_string(plugins.join(name).join("cases.toml")).expect("cases");
        let policy = host.load(name, Source::Bytes(&wasm), Limits::default()).expect("loads");
        let cases = cases::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}")).cases;
        assert!(cases.len() > 3, "{name} has cases");
        for case in cases {
            case.run(&policy).unwrap_or_else(|error| panic!("{name}, '{}': {error}", case.name));
        }
    }
}

#[test]
fn a_case_that_is_wrong_says_what_came_out() {
    let host = Host::new(None).expect("an engine");
    let policy = host.load("m", Source::Bundled("majority"), Limits::default()).expect("loads");
    let wrong = |expectation: &str| {
        let text = format!("[[case]]\nname = \"x\"\nbackends = [\"r1\", \"r2\", \"r3\"]\n{expectation}");
        cases::parse(&text).expect("well-formed").cases[0].run(&policy).expect_err("wrong on purpose")
    };
    assert_eq!(wrong("plan = \"other\""), "plan: Some(\"majority\") came out, Some(\"other\") was expected");
    assert_eq!(
        wrong("met-by = [[\"r1\"]]"),
        "the write rule is 2 of {r1, r2, r3}: met by [\"r1\"] should be true"
    );
    assert_eq!(wrong("error = \"no\""), "a table came out instead of an error");
    assert!(wrong("rejected = \"x\"").starts_with("rejected: None came out"));
    assert!(wrong("met-by = [[\"r9\"]]").contains("'r9', which is no backend"));
}
