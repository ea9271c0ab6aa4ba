//! Guards the promises against real servers and real faults, in short; and guards the suite itself, which must fail when
//! something is wrong and must leave nothing behind. The long form is in the operations manual.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn nemesis(args: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_nemesis"));
    let quorate: PathBuf = program.with_file_name("quorate");
    assert!(quorate.is_file(), "build the proxy first: cargo build -p quorate");
    Command::new(program).args(args).arg("--quorate").arg(quorate).output().expect("it can be started")
}

#[track_caller]
fn assert_code(output: &Output, expected: i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(expected), "{out}\n{err}");
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Namespaces when it runs as root, else loopback.
#[test]
fn promises_are_kept_through_every_fault() {
    let history = tempfile::tempdir().expect("a folder");
    let folder = history.path().to_string_lossy().into_owned();
    let quick = ["--profile", "quick", "--seconds", "20", "--seed", "1", "--format", "json"];
    let output = nemesis(&[&quick[..], &["--history", &folder]].concat());
    assert_code(&output, 0);
    let report = json(&output);
    assert!(report["requests"]["ok"].as_u64() > Some(1000), "{report}");
    assert!(report["faults"].as_object().is_some_and(|faults| faults.len() >= 5), "{report}");
    let objects =
        ["registers.edn", "counters.edn", "lists.edn", "deadlines.edn", "locks.edn", "accounts.edn"];
    let others = ["swaps.edn", "scripts.edn", "queues.edn", "streams.edn", "faults.edn", "p1.log"];
    for name in objects.iter().chain(&others) {
        assert!(history.path().join(name).metadata().is_ok_and(|file| file.len() > 0), "{name}");
    }
}

/// Valkey where there is one, else Redis again.
#[test]
fn promises_are_kept_when_two_things_break_without_a_network() {
    let valkey = std::env::var("QUORATE_VALKEY").unwrap_or_default();
    let server = if valkey.is_empty() { vec![] } else { vec!["--server", &valkey] };
    let double = ["--profile", "double", "--seconds", "10", "--seed", "2", "--loopback", "--rate", "1000"];
    assert_code(&nemesis(&[&double[..], &server].concat()), 0);
}

/// Without this nobody knows whether the checker looks at anything.
#[test]
fn a_write_that_is_lost_on_purpose_is_found() {
    let spoilt = ["--profile", "quick", "--seconds", "2", "--seed", "3", "--forget-one", "--format", "json"];
    let output = nemesis(&spoilt);
    assert_code(&output, 1);
    let report = json(&output);
    assert_eq!(report["judgement"]["findings"][0]["broken"], "lost", "{report}");
}

#[test]
fn no_key_diverges_in_a_race() {
    assert_code(&nemesis(&["race", "--keys", "400"]), 0);
}

#[test]
fn wrong_usage_and_missing_programs_have_their_codes() {
    assert_code(&nemesis(&["--profile", "brutal"]), 2);
    assert_code(&nemesis(&["--server", "/nowhere/redis-server"]), 4);
}
