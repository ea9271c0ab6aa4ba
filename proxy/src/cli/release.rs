//! `quorate release`: gives keys' deadlines back to the servers, for those who stop using the proxy.

use super::{Exit, Format, default_config, load, runtime};
use crate::backend::call::Call;
use crate::config::Backend;
use quorate_wire::resp::{Value, expiry};
use serde_json::json;
use std::path::PathBuf;

/// Keys of a page.
const PAGE: &[u8] = b"1000";

/// Give keys' deadlines back to the servers, before they serve without the proxy.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value_os_t = default_config())]
    config: PathBuf,
}

pub(super) fn main(args: Args, format: Format) -> Exit {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let mut exit = Exit::Done;
    for backend in &loaded.config.backends {
        let released = runtime.block_on(release(backend));
        match (&released, format) {
            (Ok(keys), Format::Text) => println!("{}: {keys} deadlines given back", backend.name),
            (Ok(keys), Format::Json) => println!("{}", json!({ "backend": backend.name, "keys": keys })),
            (Err(problem), Format::Text) => eprintln!("quorate: {}: {problem}", backend.name),
            (Err(problem), Format::Json) => {
                println!("{}", json!({ "backend": backend.name, "problem": problem }));
            }
        }
        if released.is_err() {
            exit = Exit::Unreachable;
        }
    }
    exit
}

/// How many keys got their deadline back.
async fn release(backend: &Backend) -> Result<u64, String> {
    let mut call = Call::open(backend).await?;
    let clients = call.ask(&[b"CLIENT", b"LIST"]).await?;
    if clients.text().is_some_and(|text| text.contains(" user=quorate:")) {
        return Err("a proxy is attached to it; stop the proxy first".into());
    }
    let (mut cursor, mut released) = ("0".to_string(), 0);
    loop {
        let page = call.ask(&[b"SCAN", cursor.as_bytes(), b"COUNT", PAGE]).await?;
        let [next, keys] = page.items() else { return Err("it does not answer SCAN as expected".into()) };
        cursor = next.text().ok_or("it does not answer SCAN as expected")?.to_string();
        let keys: Vec<&[u8]> = keys.items().iter().filter_map(Value::bytes).map(AsRef::as_ref).collect();
        let count = keys.len().to_string();
        let mut command = vec![&b"EVAL"[..], expiry::RELEASE.as_bytes(), count.as_bytes()];
        command.extend(keys);
        match call.ask(&command).await? {
            Value::Integer(some) => released += u64::try_from(some).unwrap_or(0),
            other => return Err(format!("it refuses a script: {}", other.error().unwrap_or("?".into()))),
        }
        if cursor == "0" {
            return Ok(released);
        }
    }
}
