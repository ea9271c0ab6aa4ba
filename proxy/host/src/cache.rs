//! Compiled components on disk, so that a start does not compile again. Local only, never distributed.
//!
//! A file holds a magic, the SHA-256 of the compiled code, and the code; its name holds the digest of the
//! component and of the engine. A file that does not match in every part is compiled anew and replaced.
#![allow(unsafe_code)]

use crate::digest;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use wasmtime::{Engine, component::Component};

const MAGIC: &[u8; 8] = b"QRTCWASM";
const HEADER_BYTES: usize = MAGIC.len() + 32;

/// A folder of compiled components that only its owner can write to.
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Opens the folder, making it where needed. `None`, with a warning, where it cannot be trusted.
    pub(crate) fn open(folder: &Path) -> Option<Cache> {
        match make_private(folder) {
            Ok(()) => Some(Cache { folder: folder.to_owned() }),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "compiled policies are not kept");
                None
            }
        }
    }

    /// The component, compiled earlier or now. Answers `Err` only for bytes that do not compile.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        wasm: &[u8],
        wasm_digest: &str,
    ) -> wasmtime::Result<Component> {
        let path = self.folder.join(file_name(engine, wasm_digest));
        if let Some(component) = load(engine, &path) {
            return Ok(component);
        }
        let component = Component::new(engine, wasm)?;
        if let Err(error) =
            component.serialize().map_err(io::Error::other).and_then(|code| store(&path, &code))
        {
            tracing::warn!(path = %path.display(), %error, "a compiled policy is not kept");
        }
        Ok(component)
    }
}

fn file_name(engine: &Engine, wasm_digest: &str) -> String {
    let mut hasher = EngineHasher(Vec::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{wasm_digest}-{}.cwasm", &digest::hex(&hasher.0)[..16])
}

fn load(engine: &Engine, path: &Path) -> Option<Component> {
    let bytes = fs::read(path).ok()?;
    let code = verified(&bytes);
    if code.is_none() {
        tracing::warn!(path = %path.display(), "a compiled policy is damaged and is compiled again");
    }
    // SAFETY: `deserialize` trusts that the bytes came from `serialize`. They lie in a folder that only this
    // user can write to, under a name of this component and this engine, and their checksum is the one
    // recorded when `store` wrote them. wasmtime itself checks its version and the target on top.
    unsafe { Component::deserialize(engine, code?) }.ok()
}

fn verified(bytes: &[u8]) -> Option<&[u8]> {
    let (header, code) = bytes.split_at_checked(HEADER_BYTES)?;
    let (magic, checksum) = header.split_at(MAGIC.len());
    (magic == MAGIC && checksum == digest::sha256(code)).then_some(code)
}

/// Writes beside the file and renames, so that a reader sees the old one or the new one.
fn store(path: &Path, code: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::File::create(&beside)?;
    file.write_all(MAGIC)?;
    file.write_all(&digest::sha256(code))?;
    file.write_all(code)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(io::Error::other("others can write to the folder; chmod 700 makes it usable"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Collects what is hashed, so that the name does not depend on the standard library's hasher.
struct EngineHasher(Vec<u8>);

impl Hasher for EngineHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
