//! Runs every example as a reader would, and compares what it prints with its expect.txt.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn run(name: &str) {
    let folder = folder(name);
    let output = Command::new("bash")
        .arg(folder.join("run.sh"))
        .env("QUORATE", env!("CARGO_BIN_EXE_quorate"))
        .stdin(Stdio::null())
        .output()
        .expect("bash is installed");
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}/run.sh: {}\n{said}\n{printed}", output.status);
    let file = folder.join("expect.txt");
    // QUORATE_BLESS=1 takes what was printed as what is expected.
    if std::env::var_os("QUORATE_BLESS").is_some() {
        std::fs::write(&file, printed.as_bytes()).expect("expect.txt can be written");
    }
    let expected = std::fs::read_to_string(&file).expect("every example has an expect.txt");
    let mut lines = printed.lines().zip(expected.lines()).enumerate();
    let differs = lines.find(|(_, (printed, expected))| printed != expected);
    assert!(differs.is_none(), "{name}: line, (printed, expected): {differs:?}\n{said}");
    assert_eq!(
        printed.lines().count(),
        expected.lines().count(),
        "{name} prints fewer or more lines\n{said}"
    );
}

#[test]
fn three_replicas() {
    run("three-replicas");
}

#[test]
fn survive_a_kill() {
    run("survive-a-kill");
}

#[test]
fn own_policy() {
    run("own-policy");
}

#[test]
fn users() {
    run("users");
}

#[test]
fn no_example_is_forgotten() {
    let known = ["own-policy", "survive-a-kill", "three-replicas", "users"];
    let entries = std::fs::read_dir(folder("")).expect("there are examples");
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> =
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, known, "add a test for the new example");
}
