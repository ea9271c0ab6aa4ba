//! Backend URLs: `redis[s]://[user[:password]@]host[:port][/0]`. No error repeats the URL, which may hold a password.

use super::super::address::Address;
use super::super::model::BackendKind;
use super::super::report::Problem;
use super::super::secret::Secret;
use super::super::suggest::did_you_mean;
use super::values::reachable;

/// Schemes that other versions carry or are planned to.
const PLANNED: &[&str] = &[
    "valkey",
    "valkeys",
    "unix",
    "postgres",
    "postgresql",
    "s3",
    "cos",
    "webhdfs",
    "hdfs",
    "file",
    "memcached",
];
/// Port of a URL that names none.
const REDIS_PORT: u16 = 6379;

/// A URL in its parts.
#[derive(Debug, PartialEq)]
pub(super) struct BackendUrl {
    pub kind: BackendKind,
    /// Is TLS spoken?
    pub secure: bool,
    pub address: Address,
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// Reads a URL; the problem has no place yet.
pub(super) fn parse(text: &str) -> Result<BackendUrl, Box<Problem>> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| unusable("it has no scheme"))?;
    let (kind, secure) = kind_of(scheme)?;
    let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |i| rest.split_at(i));
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    check_path(path)?;
    let address = address_of(host).map_err(|why| unusable(&why))?;
    let (username, password) = user.split_once(':').unwrap_or((user, ""));
    let (username, password) = (decoded(username)?, decoded(password)?.map(Secret::new));
    Ok(BackendUrl { kind, secure, address, username, password })
}

fn unusable(why: &str) -> Box<Problem> {
    let problem = Problem::error("C014", format!("the URL cannot be used: {why}"));
    Box::new(problem.help("as in \"redis://127.0.0.1:6379\""))
}

/// The kind, and whether TLS is spoken.
fn kind_of(scheme: &str) -> Result<(BackendKind, bool), Box<Problem>> {
    let lower = scheme.to_ascii_lowercase();
    let is_word =
        |text: &str| text.len() <= 16 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+');
    let problem = match lower.as_str() {
        "redis" => return Ok((BackendKind::Redis, false)),
        "rediss" => return Ok((BackendKind::Redis, true)),
        "valkeys" => planned(&lower).help("Valkey speaks the same protocol: use rediss://"),
        "valkey" => planned(&lower).help("Valkey speaks the same protocol: use redis://"),
        known if PLANNED.contains(&known) => planned(known).help("this version replicates redis:// backends"),
        // What is no word may be the larger part of a URL, with its password.
        other if !is_word(other) => return Err(unusable("its scheme is no word")),
        other => {
            let problem = Problem::error("C014", format!("'{other}' is no kind of backend"));
            problem.help(did_you_mean(other, &["redis", "rediss"]))
        }
    };
    Err(Box::new(problem))
}

fn planned(scheme: &str) -> Problem {
    Problem::error("C009", format!("{scheme}:// backends are not carried by this version"))
}

fn check_path(path: &str) -> Result<(), Box<Problem>> {
    let database = path.strip_prefix('/').unwrap_or(path);
    let problem = match database {
        "" | "0" => return Ok(()),
        _ if database.bytes().all(|b| b.is_ascii_digit()) => {
            Problem::error("C009", "databases other than 0 are not carried by this version")
                .help("use one group per data set instead of databases")
        }
        _ => Problem::error("C014", "the URL cannot be used: something follows host and port")
            .help("options have keys of their own in the backend's section"),
    };
    Err(Box::new(problem))
}

fn address_of(host: &str) -> Result<Address, String> {
    let has_port = !host.ends_with(']') && host.contains(':');
    let address = match has_port {
        true => Address::parse(host),
        false => Address::parse(&format!("{host}:{REDIS_PORT}")),
    };
    address.and_then(reachable)
}

/// User or password; `None` for an empty one.
fn decoded(text: &str) -> Result<Option<String>, Box<Problem>> {
    let why = "a % in its user or password is not followed by two hexadecimal digits of UTF-8";
    let text = percent_decoded(text).ok_or_else(|| unusable(why))?;
    Ok((!text.is_empty()).then_some(text))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'%' => (hex_pair(after.get(..2)?)?, &after[2..]),
            _ => (*first, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_found() {
        let url = parse("redis://ann:p%40ss@[::1]:7001/0").expect("valid");
        assert_eq!(url.address, Address::new("::1", 7001));
        assert_eq!(url.username.as_deref(), Some("ann"));
        assert_eq!(url.password, Some(Secret::new("p@ss")));
        assert_eq!(parse("redis://h").map(|url| url.address), Ok(Address::new("h", 6379)));
        assert_eq!(parse("rediss://h:1").map(|url| url.secure), Ok(true));
        assert_eq!(parse("redis://h:1").map(|url| url.secure), Ok(false));
        assert_eq!(parse("redis://:pw@h:1").map(|url| url.username), Ok(None));
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_its_password() {
        let bad = [
            "",
            "h:1",
            "redis://",
            "redis://:hunter2@",
            "redis://u:hunter2@h:x",
            "redis://u:hunter2@h:1/1",
            "redis://u:hunter2@h:1?db=0",
            "redis://u:hunter2%zz@h:1",
            "rediss://u:hunter2@h:1/1",
            "redi://:hunter2@h",
            "redis://u:hunter/2@h:1",
            "redis://h:0",
            "redis://u:hunter2@0.0.0.0:1",
            "redis://%ff:hunter2@h",
        ];
        for text in bad {
            let problem = parse(text).expect_err(text);
            assert!(!format!("{problem:?}").contains("hunter"), "{problem:?}");
        }
    }
}
