//! What operators write: the configuration, addresses, times and sizes, certificates.

use bolero::TypeGenerator;
use quorate::config::{self, Address, Report};
use quorate::tls::files;
use rustls::pki_types::CertificateDer;
use std::fs;
use std::path::Path;

fn parse(text: &str) -> Report {
    let env = |name: &str| (name == "PW").then(|| "hunter2".to_string());
    let parsed = config::parse(text, "quorate.toml", Path::new("/etc/quorate"), &env);
    parsed.map_or_else(|report| report, |loaded| loaded.warnings)
}

fn sample(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/configs");
    fs::read_to_string(format!("{folder}/{name}.toml")).expect("a sample")
}

/// What a slip of the hand or a bad merge does to a file.
#[derive(Debug, Clone, TypeGenerator)]
enum Slip {
    Cut(u16, u8),
    Insert(u16, u8),
    Type(u16, Vec<char>),
    Double(u16),
    Swap(u16, u16),
}

const PIECES: [&str; 24] = [
    "\"",
    "=",
    "[",
    "]",
    "{",
    "}",
    "\n",
    ".",
    "'",
    "[[expect]]\n",
    "= 5\n",
    "é",
    "\u{0}",
    "-",
    "99999999999999999999",
    "true",
    "password = \"x\"\n",
    "\"\"\"",
    "\\",
    "#",
    "inf",
    "1979-05-27",
    "\u{feff}",
    "\r",
];

impl Slip {
    fn done_to(&self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        let mut lines: Vec<&str> = text.lines().collect();
        let place = |at: &u16| usize::from(*at) % (chars.len() + 1);
        match self {
            Slip::Cut(at, len) => {
                let at = place(at);
                chars.drain(at..chars.len().min(at + usize::from(*len) % 40));
                chars.into_iter().collect()
            }
            Slip::Insert(at, piece) => {
                let at = place(at);
                chars.splice(at..at, PIECES[usize::from(*piece) % PIECES.len()].chars());
                chars.into_iter().collect()
            }
            Slip::Type(at, typed) => {
                let at = place(at);
                chars.splice(at..at, typed.iter().copied());
                chars.into_iter().collect()
            }
            Slip::Double(at) if !lines.is_empty() => {
                let at = usize::from(*at) % lines.len();
                lines.insert(at, lines[at]);
                lines.join("\n")
            }
            Slip::Swap(a, b) if !lines.is_empty() => {
                let count = lines.len();
                lines.swap(usize::from(*a) % count, usize::from(*b) % count);
                lines.join("\n")
            }
            Slip::Double(_) | Slip::Swap(..) => text.to_string(),
        }
    }
}

fn every_problem_has_a_place(text: &str) {
    let report = parse(text);
    let lines = text.lines().count().max(1);
    for problem in report.problems() {
        assert!(problem.line.is_some_and(|line| line <= lines + 1), "{report}");
    }
    assert!(!report.text(true).is_empty() || report.problems().is_empty());
    assert!(report.problems().len() <= config::MAX_PROBLEMS);
}

#[test]
fn configurations() {
    bolero::check!().for_each(|bytes| every_problem_has_a_place(&String::from_utf8_lossy(bytes)));
}

#[test]
fn configurations_with_slips() {
    let good = sample("good-full");
    bolero::check!().with_type::<Vec<Slip>>().for_each(|slips| {
        every_problem_has_a_place(&slips.iter().fold(good.clone(), |text, slip| slip.done_to(&text)));
    });
}

#[test]
fn secrets_after_a_slip() {
    let plain = sample("secrets-do-not-show");
    bolero::check!().with_type::<Slip>().for_each(|slip| {
        let text = slip.done_to(&plain);
        if !text.lines().any(is_misled) {
            let report = parse(&text);
            assert!(!report.text(false).contains("hunter2"), "{report}");
        }
    });
}

/// A slip may join a secret to what is none, as in `group = "hunter2"`; nobody can tell then.
fn is_misled(line: &str) -> bool {
    let key = line.split('=').next().unwrap_or_default().trim();
    let value_of_another = ["group", "address", "username"].contains(&key) && line.contains("hunter2");
    let joined = line.match_indices("hunter2").any(|(i, secret)| {
        let end_of_address = line[..i].ends_with(':') && line[i + secret.len()..].starts_with('"');
        end_of_address || line[..i].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '@' | '/'))
    });
    let section = line.trim_start().starts_with('[') && line.contains("hunter2");
    value_of_another || joined || section
}

/// A part of a URL, of an address, of a time or of a size.
#[derive(Debug, Clone, TypeGenerator)]
enum Part {
    Known(u8),
    Number(u32),
    Any(Vec<char>),
}

const PARTS: [&str; 32] = [
    "redis://",
    "rediss://",
    "http://",
    ":",
    "@",
    "/",
    "[",
    "]",
    "::1",
    "127.0.0.1",
    "localhost",
    "?",
    "#",
    "%41",
    "%",
    "%zz",
    ".",
    "-",
    " ",
    "ms",
    "s",
    "m",
    "h",
    "d",
    "us",
    "KiB",
    "GB",
    "B",
    "1.5",
    "18446744073709551616",
    "0",
    "[::1]:6379",
];

fn text(parts: &[Part]) -> String {
    let text = |part: &Part| match part {
        Part::Known(nth) => PARTS[usize::from(*nth) % PARTS.len()].to_string(),
        Part::Number(number) => number.to_string(),
        Part::Any(chars) => chars.iter().collect(),
    };
    parts.iter().map(text).collect()
}

#[test]
fn urls() {
    bolero::check!().with_type::<Vec<Part>>().for_each(|parts| {
        let url = serde_json::to_string(&text(parts)).expect("a string").replace('\u{7f}', "\\u007f");
        every_problem_has_a_place(&format!(
            "[listen.main]\naddress = \"127.0.0.1:6379\"\ngroup = \"g\"\n[backend.b]\nurl = {url}\naddresses = [{url}]\n\
             [group.g]\nreplicas = [\"b\"]\n"
        ));
    });
}

#[test]
fn addresses_times_and_sizes() {
    bolero::check!().with_type::<Vec<Part>>().for_each(|parts| {
        let text = text(parts);
        if let Ok(address) = Address::parse(&text) {
            assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }
        if let Ok(duration) = config::parse_duration(&text) {
            assert_eq!(config::parse_duration(&config::format_duration(duration)), Ok(duration), "{text}");
        }
        if let Ok(size) = config::parse_size(&text) {
            assert_eq!(config::parse_size(&config::format_size(size)), Ok(size), "{text}");
        }
    });
}

/// When a certificate ends is read from its bytes, before anybody trusts them.
#[test]
fn certificates() {
    bolero::check!().for_each(|bytes| {
        let _ = files::expiry(&CertificateDer::from(bytes));
    });
}

#[test]
fn certificates_that_are_nearly_right() {
    let mut params = rcgen::CertificateParams::new(vec!["h".to_string()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(2050, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let good = params.self_signed(&key).expect("a certificate").der().to_vec();
    assert!(files::expiry(&CertificateDer::from(good.as_slice())).is_some());
    bolero::check!().with_type::<(u16, Vec<(u16, u8)>)>().for_each(|(len, changes)| {
        let mut bytes = good.clone();
        for (at, byte) in changes {
            let at = usize::from(*at) % bytes.len();
            bytes[at] = *byte;
        }
        bytes.truncate(bytes.len() - usize::from(*len) % bytes.len() / 8);
        let _ = files::expiry(&CertificateDer::from(bytes));
    });
}
