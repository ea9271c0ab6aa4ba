//! The configuration file as its author meets it: every sample under `configs/` has a snapshot of
//! what it leads to, and every code is led to by some sample.

use quorate::config::{self, Config, Report};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn env(name: &str) -> Option<String> {
    match name {
        "PW" => Some("hunter2".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn samples() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/configs").expect("the samples are beside the tests");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}

/// The report of a file; of a good one, its warnings.
fn report(path: &Path) -> Report {
    config::load(path, &env).map_or_else(|report| report, |loaded| loaded.warnings)
}

fn parse(text: &str) -> Result<config::Loaded, Report> {
    config::parse(text, "quorate.toml", Path::new("/etc/quorate"), &env)
}

fn good(name: &str) -> Config {
    let path = format!("tests/configs/{name}.toml");
    config::load(Path::new(&path), &env).unwrap_or_else(|report| panic!("{report}")).config
}

#[test]
fn every_sample_reads_as_its_snapshot() {
    for path in samples() {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("plain names").to_string();
        insta::assert_snapshot!(name, report(&path).text(false));
    }
}

/// A certificate that has expired.
fn expired() -> Report {
    let dir = tempfile::tempdir().expect("a folder");
    let mut params = rcgen::CertificateParams::new(vec!["h".to_string()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    fs::write(dir.path().join("old.pem"), certificate.pem()).expect("a file");
    fs::write(dir.path().join("old.key"), key.serialize_pem()).expect("a file");
    let text = "[listen.main]\naddress = \"127.0.0.1:7000\"\ngroup = \"g\"\n\
                tls = { certificate = \"old.pem\", key = \"old.key\" }\n\
                [backend.r1]\nurl = \"redis://127.0.0.1:7001\"\n[group.g]\nreplicas = [\"r1\"]\n";
    fs::write(dir.path().join("quorate.toml"), text).expect("a file");
    report(&dir.path().join("quorate.toml"))
}

#[test]
fn every_code_below_c300_is_led_to_by_a_sample() {
    let seen: BTreeSet<&str> = samples()
        .iter()
        .map(|path| report(path))
        .chain([report(Path::new("tests/configs/missing.toml")), too_large(), too_many_entries(), expired()])
        .flat_map(|report| report.problems().iter().map(|problem| problem.code).collect::<Vec<_>>())
        .collect();
    let own = config::codes::CODES.iter().map(|(code, _)| *code).filter(|code| *code < "C300");
    let unseen: Vec<&str> = own.filter(|code| !seen.contains(code)).collect();
    assert!(unseen.is_empty(), "no sample leads to {unseen:?}");
}

#[test]
fn every_code_in_the_sources_is_in_the_table() {
    let mut unknown = Vec::new();
    for path in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&path).expect("a source file");
        let quoted = text.split('"').filter(|word| is_code(word));
        unknown.extend(quoted.filter(|code| config::codes::explain(code).is_none()).map(str::to_string));
    }
    // One is used by a test of the table itself.
    unknown.retain(|code| code != "C999");
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn is_code(word: &str) -> bool {
    word.len() == 4 && word.starts_with('C') && word[1..].bytes().all(|b| b.is_ascii_digit())
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("a folder of sources").map(|entry| entry.expect("readable").path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    files.chain(folders.iter().flat_map(|folder| rust_files(folder))).collect()
}

#[test]
fn no_secret_shows_in_any_form() {
    for path in samples() {
        let report = report(&path);
        for text in [report.text(true), report.json().to_string(), format!("{report:?}")] {
            assert!(!text.contains("hunter"), "{}: {text}", path.display());
        }
    }
    let full = good("good-full");
    assert_eq!(full.listener("main").and_then(|l| l.password.as_ref()).map(|p| p.expose()), Some("hunter2"));
    assert_eq!(full.backend("r1").and_then(|b| b.password.as_ref()).map(|p| p.expose()), Some("hunter2"));
    let json = serde_json::to_string(&full).expect("a configuration is JSON");
    assert!(!format!("{full:?} {json}").contains("hunter"));
}

#[test]
fn a_full_file_becomes_plain_values() {
    let mut full = serde_json::to_value(good("good-full")).expect("a configuration is JSON");
    full["policy-settings"] = good("good-full").groups[0].policy_settings().into();
    insta::assert_snapshot!("full-as-json", serde_json::to_string_pretty(&full).expect("JSON"));
}

#[test]
fn users_become_plain_values() {
    let full = serde_json::to_value(good("good-users")).expect("a configuration is JSON");
    let values = serde_json::json!({ "users": full["users"], "listeners": full["listeners"] });
    insta::assert_snapshot!("users-as-json", serde_json::to_string_pretty(&values).expect("JSON"));
    let app = good("good-users").users.into_iter().find(|user| user.name == "app").expect("it is there");
    let admits = |password: &str| {
        app.passwords.iter().any(|known| known.equals(&config::Digest::of(password.as_bytes())))
    };
    assert!(admits("hunter2") && admits("pw") && !admits("PW") && !admits(""));
}

#[test]
fn what_is_made_in_code_equals_what_is_read() {
    use config::{Address, Backend, Group, Listener, State};
    let at = |port| Address::new("127.0.0.1", port);
    let made = Config {
        listeners: vec![Listener::new("main", at(6379), "cache")],
        backends: vec![
            Backend::new("r1", at(7001)),
            Backend::new("r2", at(7002)),
            Backend::new("r3", at(7003)),
        ],
        groups: vec![Group::new("cache", vec!["r1".into(), "r2".into(), "r3".into()])],
        state: State { dir: "tests/configs/quorate-state".into() },
        ..Config::default()
    };
    assert_eq!(made, good("good-minimal"));
}

/// Writes every default of the schema out, and expects no difference.
#[test]
fn the_defaults_in_the_schema_are_the_defaults() {
    let schema = config::schema();
    let of = |node: &serde_json::Value| {
        let keys = node["properties"].as_object().expect("a section has keys");
        let lines = keys.iter().filter_map(|(key, node)| Some(format!("{key} = {}\n", node.get("default")?)));
        lines.collect::<String>()
    };
    let named = |section: &str| of(&schema["properties"][section]["additionalProperties"]);
    let plain = |section: &str| of(&schema["properties"][section]);
    let listen = format!("[listen.main]\naddress = \"h:1\"\ngroup = \"g\"\n{}", named("listen"));
    let backend = format!("[backend.b]\nurl = \"redis://h:2\"\n{}", named("backend"));
    let group = format!("[group.g]\nreplicas = [\"b\"]\n{}", named("group"));
    let process: String = ["state", "proxy", "log"].map(|name| format!("[{name}]\n{}", plain(name))).concat();
    let written =
        parse(&[listen, backend, group, process].concat()).unwrap_or_else(|report| panic!("{report}"));
    let minimal = "listen.main = { address = 'h:1', group = 'g' }\nbackend.b.url = 'redis://h:2'\ngroup.g.replicas = ['b']";
    assert_eq!(written.config, parse(minimal).unwrap_or_else(|report| panic!("{report}")).config);
}

#[test]
fn the_schema_beside_the_documentation_is_current() {
    let current = serde_json::to_string_pretty(&config::schema()).expect("JSON") + "\n";
    let path = "docs/quorate.schema.json";
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, &current).expect("writable");
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(written == current, "{path} is out of date: run this test with UPDATE=1");
}

#[test]
fn a_file_that_is_none() {
    insta::assert_snapshot!("missing", report(Path::new("tests/configs/missing.toml")).text(false));
    insta::assert_snapshot!("directory", report(Path::new("tests/configs")).text(false));
    insta::assert_snapshot!("too-large", too_large().text(false));
    let endless = config::load(Path::new("/dev/zero"), &env).expect_err("it has no end");
    assert_eq!(endless.problems()[0].code, "C002");
}

fn too_large() -> Report {
    parse(&"#".repeat(config::MAX_FILE_BYTES + 1)).expect_err("too large")
}

fn too_many_entries() -> Report {
    let backends: String =
        (0..1025).map(|i| format!("[backend.b{i}]\nurl = 'redis://h:{}'\n", i + 1)).collect();
    parse(&backends).expect_err("too many")
}

#[test]
fn a_file_at_the_limit_is_read() {
    let minimal = fs::read_to_string("tests/configs/good-minimal.toml").expect("a sample");
    let padding = "#".repeat(config::MAX_FILE_BYTES - minimal.len());
    assert!(parse(&format!("{minimal}{padding}")).is_ok());
}

/// A parser that follows brackets by recursion would leave through the end of its stack.
#[test]
fn deep_nesting_is_an_error() {
    let deep = 1_000_000;
    for text in [
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{a=".repeat(deep)),
        format!("a{} = 1", ".a".repeat(deep)),
        format!("[a{}]", ".a".repeat(deep)),
        "[a.a.a]\n".repeat(1000),
    ] {
        let report = parse(&text).expect_err("nobody means that");
        assert!(report.problems().iter().all(|problem| problem.line.is_some()));
        assert!(report.text(false).len() < 20_000);
    }
    let some = format!("group.g.policy.settings.a = {}1{}", "[".repeat(100), "]".repeat(100));
    insta::assert_snapshot!("nested", parse(&some).expect_err("too deep").text(false));
}

#[test]
fn many_problems_are_counted_and_a_hundred_are_shown() {
    let text: String = (0..200_000).map(|i| format!("key{i} = 1\n")).collect();
    let report = parse(&text).expect_err("unknown keys");
    assert_eq!(report.problems().len(), config::MAX_PROBLEMS);
    assert_eq!(report.errors(), 200_001, "one of them is about the missing listener");
    assert!(report.text(false).ends_with("and 199901 more\n"));
}

#[test]
fn a_later_pass_adds_its_problems_at_their_places() {
    let path = Path::new("tests/configs/good-full.toml");
    let text = fs::read_to_string(path).expect("a sample");
    let mut loaded = config::load(path, &env).unwrap_or_else(|report| panic!("{report}"));
    let group = loaded.config.groups[0].at;
    let expectation = loaded.config.expectations[0].at;
    for (place, line) in [
        (group.name, "[group.cache]"),
        (group.replicas, "replicas ="),
        (group.policy, "policy ="),
        (group.write_quorum, "write-quorum ="),
        (group.read_pick, "read-pick ="),
        (expectation.name, "name ="),
        (expectation.outcome, "outcome ="),
        (expectation.hints, "hints ="),
    ] {
        let mut report = Report::new(loaded.warnings.sources());
        report.add(config::Problem::error("C102", "a later pass says so").at(place));
        let expected = text.lines().position(|text| text.starts_with(line)).map(|index| index + 1);
        assert_eq!(report.problems()[0].line, expected, "{line}");
        loaded.warnings.merge(report);
    }
    assert_eq!(loaded.warnings.errors(), 8);
}

#[test]
fn the_report_is_json_too() {
    let report = report(Path::new("tests/configs/write-quorum-too-large.toml"));
    insta::assert_snapshot!("report-as-json", serde_json::to_string_pretty(&report.json()).expect("JSON"));
}

#[test]
fn places_do_not_make_two_configurations_differ() {
    let text = fs::read_to_string("tests/configs/good-minimal.toml").expect("a sample");
    let moved = parse(&format!("\n\n# moved\n{text}")).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(moved.config, parse(&text).unwrap_or_else(|report| panic!("{report}")).config);
}
