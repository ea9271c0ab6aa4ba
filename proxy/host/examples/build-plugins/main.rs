//! Builds the bundled policies' components into `plugins/dist/`, with the digests of what they are made of.
//!
//! `cargo run -p quorate-host --example build-plugins`; needs `rustup target add wasm32-unknown-unknown`, or
//! Debian's `rustc-web` and `rust-web-src` beside a rustup toolchain, whose linker is used.

#[allow(missing_docs)]
mod dist;

use dist::{Digests, POLICIES, PolicyDigests, Toolchain};
use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    let toolchain =
        Toolchain::find().ok_or("no wasm toolchain: `rustup target add wasm32-unknown-unknown`")?;
    let components = toolchain.build(&dist::root().join("plugins/target"))?;
    let mut digests = Digests { toolchain: toolchain.version.clone(), policy: Default::default() };
    for policy in POLICIES {
        let component = &components[policy];
        fs::write(dist::component_path(policy), component)?;
        let (component, sources, bytes) =
            (dist::hex(component), dist::source_digest(policy), component.len());
        println!("{policy:10} {bytes:7} bytes  {component}");
        digests.policy.insert(policy.to_owned(), PolicyDigests { component, sources });
    }
    let header = "# Written by `cargo run -p quorate-host --example build-plugins`; checked by proxy/host/tests/dist.rs.\n";
    fs::write(dist::digests_path(), format!("{header}{}", toml::to_string(&digests)?))?;
    Ok(())
}
