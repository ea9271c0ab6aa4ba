//! Where components lie, which sources they are made of, and how they are built.
//!
//! Shared by the example that builds them and the test that checks them. The same sources and the same
//! toolchain give the same bytes, wherever the checkout is.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every policy whose component is checked in.
pub const POLICIES: [&str; 5] = ["majority", "primary", "zones", "sized", "naughty"];

const TARGET: &str = "wasm32-unknown-unknown";

/// `digests.toml`: what the components were made of, and with what.
#[derive(Debug, serde::Deserialize, serde::Serialize, PartialEq, Eq)]
pub struct Digests {
    /// Compiler and linker that built them; other ones give other bytes.
    pub toolchain: String,
    /// By policy.
    pub policy: BTreeMap<String, PolicyDigests>,
}

/// SHA-256 of a component and of its sources.
#[derive(Debug, serde::Deserialize, serde::Serialize, PartialEq, Eq)]
pub struct PolicyDigests {
    pub component: String,
    pub sources: String,
}

/// The checkout's top folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout is there")
}

/// Where the component of a policy is checked in.
pub fn component_path(policy: &str) -> PathBuf {
    root().join("plugins/dist").join(format!("{policy}.wasm"))
}

/// Where the digests are checked in.
pub fn digests_path() -> PathBuf {
    root().join("plugins/dist/digests.toml")
}

/// SHA-256 in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 over everything a component is made of: the interface, the SDK, the policy, the versions.
pub fn source_digest(policy: &str) -> String {
    let root = root();
    let mut files =
        vec![root.join("wit/policy.wit"), root.join("plugins/Cargo.toml"), root.join("plugins/Cargo.lock")];
    for package in ["sdk", policy] {
        let folder = root.join("plugins").join(package);
        files.extend(
            [folder.join("Cargo.toml"), folder.join("schema.json")].into_iter().filter(|f| f.exists()),
        );
        collect(&folder.join("src"), &mut files);
    }
    files.sort();
    let mut sum = Sha256::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        sum.update(format!("{name}\0{}\0", bytes.len()));
        sum.update(bytes);
    }
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder").flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// What builds for wasm32 on this machine.
pub struct Toolchain {
    rustc: PathBuf,
    linker: PathBuf,
    build_std: bool,
    /// Versions, as recorded in [`Digests`].
    pub version: String,
}

impl Toolchain {
    /// The wasm32 target of rustup, or Debian's `rustc-web` with the sources of `rust-web-src`.
    pub fn find() -> Option<Toolchain> {
        let ours = PathBuf::from("rustc");
        let sysroot = PathBuf::from(output(&ours, &["--print", "sysroot"])?);
        let linker = linker(&sysroot)?;
        if sysroot.join("lib/rustlib").join(TARGET).exists() {
            return Toolchain::of(ours, linker, false);
        }
        let debian = PathBuf::from("/usr/bin/rustc");
        let std_source =
            PathBuf::from(output(&debian, &["--print", "sysroot"])?).join("lib/rustlib/src/rust/library");
        std_source.exists().then(|| Toolchain::of(debian, linker, true))?
    }

    fn of(rustc: PathBuf, linker: PathBuf, build_std: bool) -> Option<Toolchain> {
        let compiler = output(&rustc, &["--version"])?;
        let lld = output(&linker, &["-flavor", "wasm", "--version"])?;
        let std = if build_std { "std built from source" } else { "std of the target" };
        Some(Toolchain { rustc, linker, build_std, version: format!("{compiler}; {lld}; {std}") })
    }

    /// Builds the core modules of all policies and makes them components.
    pub fn build(&self, target_folder: &Path) -> Result<BTreeMap<&'static str, Vec<u8>>, String> {
        let status = self.cargo(target_folder).status().map_err(|error| format!("cargo: {error}"))?;
        if !status.success() {
            return Err(format!("cargo build of the policies failed: {status}"));
        }
        let modules = target_folder.join(TARGET).join("release");
        let component = |policy: &'static str| {
            let module =
                fs::read(modules.join(format!("quorate_policy_{policy}.wasm"))).map_err(|e| e.to_string())?;
            Ok((policy, componentise(&module).map_err(|error| format!("{policy}: {error}"))?))
        };
        POLICIES.into_iter().map(component).collect()
    }

    fn cargo(&self, target_folder: &Path) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(root().join("plugins")).args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
        ]);
        cargo.env("RUSTC", &self.rustc).env("CARGO_TARGET_DIR", target_folder);
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &self.linker);
        // A test of the outer workspace hands its own settings down.
        cargo
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("RUSTC_WORKSPACE_WRAPPER");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", self.remaps().join("\x1f"));
        // Incremental builds are cut into other pieces, which gives other bytes.
        cargo.env("CARGO_INCREMENTAL", "0");
        if self.build_std {
            cargo.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core,alloc");
        }
        cargo
    }

    /// No path of this machine ends up in a component.
    fn remaps(&self) -> Vec<String> {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
        let std = output(&self.rustc, &["--print", "sysroot"]).unwrap_or_default() + "/lib/rustlib/src/rust";
        let mut remaps = vec![(root(), "quorate"), (PathBuf::from(std), "rust")];
        let registry = fs::read_dir(cargo_home.join("registry/src")).into_iter().flatten().flatten();
        remaps.extend(registry.map(|entry| (entry.path(), "crates")));
        remaps.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
    }
}

fn linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = fs::read_dir(sysroot.join("lib/rustlib")).ok()?.flatten();
    hosts.map(|host| host.path().join("bin/rust-lld")).find(|lld| lld.exists())
}

fn output(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.trim().to_owned())
}

fn componentise(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoder = wit_component::ComponentEncoder::default().validate(true);
    let encoder = encoder.module(module).map_err(|error| format!("{error:#}"));
    encoder?.encode().map_err(|error| format!("{error:#}"))
}
