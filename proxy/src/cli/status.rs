//! `quorate status`: what a running proxy says of itself.

use super::{Exit, Format, default_config, load};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: u64 = 16 << 20;

/// The state of a running proxy.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Which proxy is asked.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// Its admin endpoint; taken from the configuration when left out
    #[arg(long, visible_alias = "admin", value_name = "HOST:PORT")]
    at: Option<String>,
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value_os_t = default_config())]
    config: PathBuf,
}

pub(super) fn main(args: Args, format: Format) -> Exit {
    let at = match args.admin.endpoint() {
        Ok(at) => at,
        Err(exit) => return exit,
    };
    let status = match fetch(&at, "/status") {
        Ok((200, body)) => body,
        Ok((code, _)) => return unreachable(&format!("{at} answers {code}; is it the [admin] address?")),
        Err(problem) => return unreachable(&problem),
    };
    let Ok(value) = serde_json::from_str::<Value>(&status) else {
        return unreachable(&format!("{at} does not answer as a proxy would"));
    };
    match format {
        Format::Json => println!("{value:#}"),
        Format::Text => print!("{}", text(&value)),
    }
    let writable = |group: &Value| group["writable"].as_bool() == Some(true);
    let all = value["groups"].as_array().is_some_and(|groups| groups.iter().all(writable));
    if all { Exit::Done } else { Exit::No }
}

pub(super) fn unreachable(problem: &str) -> Exit {
    eprintln!("quorate: {problem}");
    Exit::Unreachable
}

impl AdminArgs {
    pub(super) fn endpoint(&self) -> Result<String, Exit> {
        if let Some(at) = &self.at {
            return Ok(at.clone());
        }
        match load(&self.config)?.config.admin {
            Some(admin) => Ok(admin.address.to_string()),
            None => {
                eprintln!("quorate: {} has no [admin] section; add one, or use --at", self.config.display());
                Err(Exit::Config)
            }
        }
    }
}

/// A GET of a small local page: the status code and the body.
pub(super) fn fetch(at: &str, path: &str) -> Result<(u16, String), String> {
    request("GET", at, path)
}

/// A request without a body: the status code and the body of the answer.
pub(super) fn request(method: &str, at: &str, path: &str) -> Result<(u16, String), String> {
    let failed = |error: std::io::Error| format!("cannot reach the admin endpoint {at}: {error}");
    let mut addresses = at.to_socket_addrs().map_err(failed)?;
    let address = addresses.next().ok_or_else(|| format!("{at} is no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {at}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{at} does not speak HTTP"))?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or_else(|| format!("{at} does not speak HTTP"))?, body.to_string()))
}

fn text(status: &Value) -> String {
    let mut out = format!("quorate {}, {} clients\n", word(&status["version"]), status["connections"]);
    for group in status["groups"].as_array().into_iter().flatten() {
        let phase = match &group["phase"] {
            Value::String(phase) => phase.clone(),
            _ => format!("FENCED by epoch {}: another proxy owns this group", group["fenced_by"]),
        };
        let writable = if group["writable"].as_bool() == Some(true) { "writable" } else { "NOT WRITABLE" };
        out += &format!("\ngroup {}: {phase}, {writable}\n", word(&group["name"]));
        if group["memory_full"].as_bool() == Some(true) {
            out += "  MEMORY FULL: commands that need memory are refused\n";
        }
        if !word(&group["waits_for"]).is_empty() {
            out += &format!("  waits for {}\n", word(&group["waits_for"]));
        }
        out += &format!("  epoch {}, policy {}\n", group["epoch"], word(&group["policy"]));
        out += &format!("  log at entry {}, committed to {}", group["head"], group["committed"]);
        out += &format!(", catch-up from {} in memory\n", group["log_from"]);
        if group["scrub"].is_object() {
            out += &format!("  scrub: {}\n", scrub_line(&group["scrub"]));
        } else if group["last_scrub"].is_object() {
            let (last, problem) = (&group["last_scrub"], word(&group["last_scrub"]["problem"]));
            out += &format!("  last scrub {}: {}", word(&last["outcome"]), scrub_line(last));
            out += &if problem.is_empty() { "\n".into() } else { format!("; {problem}\n") };
        }
        for replica in group["replicas"].as_array().into_iter().flatten() {
            let (name, state) = (word(&replica["name"]), word(&replica["state"]));
            let server = format!("{} {}", word(&replica["server"]), word(&replica["address"]));
            out += &format!(
                "  {name:<10} {state:<8} applied {:<8} owed {:<6} {server}\n",
                replica["applied"], replica["lag"]
            );
            if let Some(memory) = memory_line(replica) {
                out += &format!("             {memory}\n");
            }
            let problem = word(&replica["problem"]);
            if let Some(progress) = reseed_line(&replica["reseed"]) {
                out += &format!("             {progress}\n");
            } else if !problem.is_empty() {
                out += &format!("             {problem}\n");
            }
        }
    }
    out
}

/// For the query of a URL.
pub(super) fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// How far a scrub is, or what it found.
pub(super) fn scrub_line(report: &Value) -> String {
    let number = |key: &str| report[key].as_u64().unwrap_or(0);
    let mut line = format!("{} keys compared, {} differing", number("keys"), number("differing"));
    match report["dry_run"].as_bool() {
        Some(true) => line += &format!(", {} skipped; nothing was repaired", number("skipped")),
        _ => {
            let (mended, undecided) = (number("mended"), number("undecided"));
            line += &format!(", {mended} mended, {undecided} undecided, {} skipped", number("skipped"));
        }
    }
    if report["finished_unix_ms"].is_null() {
        line += &format!(", {:.0} %", report["ratio"].as_f64().unwrap_or(0.0) * 100.0);
    }
    line
}

/// How full a replica is; `None` where it has no limit, or did not tell.
fn memory_line(replica: &Value) -> Option<String> {
    let (used, max) = (replica["memory_used"].as_u64()?, replica["memory_max"].as_u64()?);
    let percent = (used as f64 / max as f64 * 100.0).round();
    (max > 0).then(|| format!("memory {percent} %, {} of {}", size(used), size(max)))
}

/// How far a reseed is; `None` when there is none.
pub(super) fn reseed_line(progress: &Value) -> Option<String> {
    let number = |key: &str| progress[key].as_u64().unwrap_or(0);
    let (stage, source) = (progress["stage"].as_str()?, word(&progress["source"]));
    let mut line = format!("reseed from {source}: {stage}");
    if progress["way"] == "scan" {
        let percent = progress["ratio"].as_f64().unwrap_or(0.0) * 100.0;
        let (keys, total, rate) = (number("keys"), number("total_keys"), number("keys_per_second"));
        line += &format!(" through the proxy, {percent:.0} %, {keys} keys copied of {total}, {rate} keys/s");
    } else if number("bytes") > 0 {
        let about = if progress["estimated"].as_bool() == Some(true) { "about " } else { "" };
        let percent = progress["ratio"].as_f64().unwrap_or(0.0) * 100.0;
        let (bytes, total) = (size(number("bytes")), size(number("total_bytes").max(number("bytes"))));
        let rate = size(number("bytes_per_second"));
        line += &format!(", {about}{percent:.0} %, {bytes} of {about}{total}, {rate}/s");
    }
    if let Some(seconds) = progress["seconds_left"].as_u64() {
        line += &format!(", {seconds} s left");
    }
    Some(line)
}

/// For people: three digits are enough.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (0..units.len() - 1).take_while(|power| bytes >> (10 * (power + 1)) > 0).count();
    match power {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / (1u64 << (10 * power)) as f64, units[power]),
    }
}

pub(super) fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_are_short() {
        let all = [0, 1023, 1024, 1536 << 10, 3 << 30].map(size);
        assert_eq!(all, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "3.0 GiB"]);
    }

    #[test]
    fn memory_is_shown_where_there_is_a_limit() {
        let line = |used, max| memory_line(&json!({ "memory_used": used, "memory_max": max }));
        assert_eq!(line(3 << 20, 4 << 20).as_deref(), Some("memory 75 %, 3.0 MiB of 4.0 MiB"));
        assert_eq!(line(3 << 20, 0), None);
        assert_eq!(memory_line(&json!({ "memory_used": null })), None);
    }

    #[test]
    fn a_reseed_is_one_line() {
        assert_eq!(reseed_line(&Value::Null), None);
        let waiting = json!({ "stage": "waiting", "source": "r1", "bytes": 0 });
        assert_eq!(reseed_line(&waiting).as_deref(), Some("reseed from r1: waiting"));
        let copying = json!({
            "stage": "copying", "source": "r1", "bytes": 1 << 20, "total_bytes": 4 << 20, "estimated": true,
            "ratio": 0.25, "bytes_per_second": 1 << 19, "seconds_left": 6
        });
        let line = "reseed from r1: copying, about 25 %, 1.0 MiB of about 4.0 MiB, 512.0 KiB/s, 6 s left";
        assert_eq!(reseed_line(&copying).as_deref(), Some(line));
        let scan = json!({
            "stage": "copying", "way": "scan", "source": "r1", "bytes": 1, "ratio": 0.25, "keys": 100,
            "total_keys": 400, "keys_per_second": 50, "seconds_left": 6
        });
        let line =
            "reseed from r1: copying through the proxy, 25 %, 100 keys copied of 400, 50 keys/s, 6 s left";
        assert_eq!(reseed_line(&scan).as_deref(), Some(line));
    }
}
