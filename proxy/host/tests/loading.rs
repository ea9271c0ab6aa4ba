//! What is loaded, what is refused, and what the cache of compiled code is worth.

mod support;

use quorate_host::{BUNDLED, Host, HostError, Limits, Source};
use std::fs;
use std::path::{Path, PathBuf};
use support::{SIZED, code, host, topology};

fn load(wasm: &[u8]) -> Result<quorate_host::Policy, HostError> {
    host().load("p", Source::Bytes(wasm), Limits::default())
}

fn refusal(wasm: &[u8]) -> HostError {
    load(wasm).err().expect("refused")
}

#[test]
fn bundled_policies_describe_themselves_and_import_no_more_than_a_log() {
    for (name, bytes) in BUNDLED {
        let policy = host().load("mine", Source::Bundled(name), Limits::default()).expect("loads");
        assert_eq!((policy.name(), policy.manifest().name.as_str()), ("mine", name));
        assert_eq!(policy.bytes(), bytes.len());
        assert_eq!(policy.digest().len(), 64);
        assert_eq!(policy.imports(), ["quorate:policy/log@0.1.0", "quorate:policy/types@0.1.0"]);
        assert!(!policy.decides());
        assert!(policy.decider("").expect("nothing to configure").is_none());
        serde_json::from_str::<serde_json::Value>(&policy.manifest().config_schema).expect("a JSON schema");
    }
}

#[test]
fn a_decider_is_found_by_its_export() {
    let policy = load(SIZED).expect("loads");
    assert!(policy.decides());
    assert!(policy.imports().contains(&"quorate:policy/request@0.1.0".to_owned()));
    assert!(policy.exports().contains(&"quorate:policy/decider@0.1.0".to_owned()));
}

#[test]
fn an_import_beyond_the_granted_ones_is_refused_by_name() {
    let wat = r#"(component (import "wasi:sockets/tcp@0.2.0" (instance (export "connect" (func)))))"#;
    let error = refusal(&wat::parse_str(wat).expect("valid text"));
    assert_eq!(error.code(), "unknown-import");
    assert!(error.to_string().contains("imports wasi:sockets/tcp@0.2.0, which is not granted"), "{error}");
}

#[test]
fn a_granted_interface_in_another_shape_is_refused() {
    let wat = r#"(component (import "quorate:policy/log@0.1.0" (instance (export "shout" (func)))))"#;
    let error = refusal(&wat::parse_str(wat).expect("valid text"));
    assert_eq!(error.code(), "mismatch");
    assert!(error.to_string().contains("shout"), "{error}");
}

#[test]
fn a_component_without_the_hooks_is_refused() {
    let error = refusal(&wat::parse_str("(component)").expect("valid text"));
    assert_eq!(error.code(), "mismatch");
    assert!(error.to_string().contains("quorate:policy/lifecycle@0.1.0"), "{error}");
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let module = wat::parse_str("(module)").expect("valid text");
    assert!(refusal(&module).to_string().contains("a core module, not a component"));
    assert!(refusal(b"#!/bin/sh").to_string().contains("does not start like one"));
    assert_eq!(code(load(&SIZED[..SIZED.len() / 2])), "not-a-component");
}

#[test]
fn a_component_has_a_largest_size() {
    let limits = Limits { component_bytes: 1_000, ..Limits::default() };
    assert_eq!(code(host().load("p", Source::Bytes(SIZED), limits)), "too-large");
}

#[test]
fn an_unknown_bundled_name_lists_the_known_ones() {
    let error = host().load("p", Source::Bundled("major"), Limits::default()).err().expect("refused");
    assert_eq!(error.to_string(), "no bundled policy is called 'major'; there are majority, primary, zones");
}

#[test]
fn refused_settings_come_with_their_paths() {
    let error =
        load(SIZED).expect("loads").configure(r#"{"max-bytes": "big", "turbo": 1}"#).err().expect("refused");
    let HostError::Settings { settings, .. } = error else { panic!("{error}") };
    let paths: Vec<&str> = settings.iter().map(|s| s.path.as_str()).collect();
    assert_eq!(paths, ["max-bytes", "turbo"]);
}

#[test]
fn compiled_code_is_kept_and_damage_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("compiled");
    let build = || {
        let policy = Host::new(Some(&cache))
            .expect("an engine")
            .load("p", Source::Bundled("majority"), Limits::default())
            .expect("loads");
        let mut planner = policy.configure("").expect("configures");
        planner.build(&topology(&["a", "b"]), quorate_host::Reason::Start).expect("builds").table_digest
    };
    let first = build();
    let file = only_file(&cache);
    let (good, written) = (fs::read(&file).expect("a file"), modified(&file));
    assert_eq!(build(), first);
    assert_eq!(modified(&file), written, "a good file is used, not written again");
    for damage in [flipped(&good), good[..good.len() / 2].to_vec(), b"short".to_vec(), vec![]] {
        fs::write(&file, damage).expect("written");
        assert_eq!(build(), first);
        assert_eq!(fs::read(&file).expect("a file")[..40], good[..40], "it was compiled again");
    }
}

#[cfg(unix)]
#[test]
fn a_cache_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("permissions");
    let host = Host::new(Some(folder.path())).expect("an engine");
    host.load("p", Source::Bundled("majority"), Limits::default()).expect("loads anyway");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn modified(file: &Path) -> std::time::SystemTime {
    fs::metadata(file).and_then(|data| data.modified()).expect("a time")
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}
