//! Loading: from bytes to a policy that is known to fit, before any of its code has run but `describe`.

use crate::bindings::deciding::quorate::policy::request;
use crate::bindings::{deciding, pure};
use crate::cache::Cache;
use crate::engine::Ticker;
use crate::policy::{Parts, Policy};
use crate::store::State;
use crate::{HostError, Limits, bundled, digest, engine};
use std::path::Path;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

/// Interfaces a policy may import; the set of imports is the set of capabilities. Patch releases match.
const GRANTED: [&str; 3] =
    ["quorate:policy/types@0.1.", "quorate:policy/log@0.1.", "quorate:policy/request@0.1."];

/// First bytes of a component: magic, version 13, layer 1.
const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

/// The engine all policies of a proxy run in.
pub struct Host {
    engine: Engine,
    ticker: Arc<Ticker>,
    linker: Linker<State>,
    cache: Option<Cache>,
}

/// Where a component comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// One of [`crate::BUNDLED`], by name.
    Bundled(&'a str),
    /// A component's bytes.
    Bytes(&'a [u8]),
}

impl Host {
    /// Starts the engine. `cache_folder` keeps compiled components, for a quicker start the next time.
    pub fn new(cache_folder: Option<&Path>) -> Result<Host, HostError> {
        let engine = engine::start()?;
        let linker = linker(&engine).map_err(|error| HostError::Engine(format!("{error:#}")))?;
        let ticker = Ticker::new(engine.clone());
        Ok(Host { engine, ticker, linker, cache: cache_folder.and_then(Cache::open) })
    }

    /// Loads a policy: checks its size, its imports and its exports, compiles it and asks it to describe itself.
    pub fn load(&self, name: &str, source: Source<'_>, limits: Limits) -> Result<Policy, HostError> {
        let wasm = bytes(source)?;
        check_shape(name, wasm, &limits)?;
        let wasm_digest = digest::hex(wasm);
        let component = self.compile(name, wasm, &wasm_digest)?;
        let (imports, exports) = self.surface(&component);
        check_imports(name, &imports)?;
        let mismatch =
            |error: wasmtime::Error| HostError::Mismatch { policy: name.into(), why: format!("{error:#}") };
        let pre = self.linker.instantiate_pre(&component).map_err(mismatch)?;
        let hooks = pure::PurePolicyIndices::new(&pre).map_err(mismatch)?;
        let decides = exports.iter().any(|export| export.starts_with("quorate:policy/decider@"));
        let decider = decides.then(|| deciding::DecidingIndices::new(&pre)).transpose().map_err(mismatch)?;
        Policy::describe(Parts {
            name: name.to_owned(),
            digest: wasm_digest,
            bytes: wasm.len(),
            imports,
            exports,
            limits,
            ticker: Arc::clone(&self.ticker),
            engine: self.engine.clone(),
            pre,
            hooks,
            decider,
        })
    }

    /// Do deadlines hold? Starts the ticker again if it died; for a health check.
    pub fn watch(&self) -> Result<(), HostError> {
        self.ticker.watch()
    }

    fn compile(&self, name: &str, wasm: &[u8], wasm_digest: &str) -> Result<Component, HostError> {
        let compiled = match &self.cache {
            Some(cache) => cache.compile(&self.engine, wasm, wasm_digest),
            None => Component::new(&self.engine, wasm),
        };
        compiled
            .map_err(|error| HostError::NotAComponent { policy: name.to_owned(), why: format!("{error:#}") })
    }

    fn surface(&self, component: &Component) -> (Vec<String>, Vec<String>) {
        let shape = component.component_type();
        let mut imports: Vec<String> = shape.imports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        let mut exports: Vec<String> = shape.exports(&self.engine).map(|(name, _)| name.to_owned()).collect();
        imports.sort();
        exports.sort();
        (imports, exports)
    }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    pure::PurePolicy::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    request::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

fn bytes(source: Source<'_>) -> Result<&[u8], HostError> {
    match source {
        Source::Bytes(bytes) => Ok(bytes),
        Source::Bundled(name) => bundled::find(name)
            .ok_or_else(|| HostError::NotBundled { name: name.to_owned(), known: bundled::names() }),
    }
}

fn check_shape(policy: &str, wasm: &[u8], limits: &Limits) -> Result<(), HostError> {
    if wasm.len() > limits.component_bytes {
        let (policy, bytes, limit) = (policy.to_owned(), wasm.len(), limits.component_bytes);
        return Err(HostError::TooLarge { policy, bytes, limit });
    }
    if wasm.starts_with(COMPONENT_HEADER) {
        return Ok(());
    }
    let core_module = wasm.starts_with(b"\0asm\x01\0\0\0");
    let why = if core_module { "it is a core module, not a component" } else { "it does not start like one" };
    Err(HostError::NotAComponent { policy: policy.to_owned(), why: why.to_owned() })
}

fn check_imports(policy: &str, imports: &[String]) -> Result<(), HostError> {
    let granted = |import: &&String| GRANTED.iter().any(|granted| import.starts_with(granted));
    let unknown: Vec<String> = imports.iter().filter(|import| !granted(import)).cloned().collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let granted = GRANTED.map(|name| format!("{name}x")).join(", ");
    Err(HostError::UnknownImport { policy: policy.to_owned(), imports: unknown, granted })
}
