//! Pages of keys on their way from one server to the other: SCAN, DUMP and PEXPIRETIME here, RESTORE there.
//! Values are never shown; a key is, where an operator must know which.

use super::copy::Stop;
use super::line::Line;
use bytes::Bytes;
use quorate_core::ordered::Position;
use quorate_wire::resp::{Reserved, Value};

/// Where a SCAN begins and ends.
const START: &[u8] = b"0";
/// Keys that one SCAN asks for.
pub(super) const PAGE_KEYS: usize = 500;
/// Bytes that the values of one flight may have in memory together.
const FLIGHT_BYTES: u64 = 1 << 20;
/// A larger value is not copied: the servers, and clients behind it, would stand still for too long.
pub(super) const LARGEST: u64 = 64 << 20;
/// What the answer to one small question may have.
const SMALL: u64 = 256;

/// A key's value as a server gave it: dump, and deadline in milliseconds since 1970.
pub(super) struct Dumped {
    dump: Value,
    deadline: Value,
}

/// The server that is copied.
pub(super) struct Source {
    pub(super) line: Line,
    pub(super) reserved: Reserved,
}

impl Source {
    /// How many keys it holds.
    pub(super) async fn count(&mut self) -> Result<u64, Stop> {
        match self.line.ask(&[vec![b"DBSIZE"]], SMALL).await?.first() {
            Some(Value::Integer(count)) => Ok(u64::try_from(*count).unwrap_or(0)),
            _ => Err(odd(self.line.name(), "DBSIZE")),
        }
    }

    /// The next page of keys, without ours, and where it goes on; `None`: that was the last.
    pub(super) async fn page(&mut self, cursor: Option<&Bytes>) -> Result<(Option<Bytes>, Vec<Bytes>), Stop> {
        let (cursor, count) = (cursor.map_or(START, |cursor| cursor), PAGE_KEYS.to_string());
        let answers = self.line.ask(&[vec![b"SCAN", cursor, b"COUNT", count.as_bytes()]], SMALL).await?;
        let [next, keys] = answers.first().map(Value::items).unwrap_or_default() else {
            return Err(refused(self.line.name(), "SCAN", answers.first()));
        };
        let own = |key: &Bytes| self.reserved.all().any(|own| own.as_bytes() == key.as_ref());
        let keys = keys.items().iter().filter_map(Value::bytes).filter(|key| !own(key)).cloned().collect();
        Ok((next.bytes().filter(|next| next.as_ref() != START).cloned(), keys))
    }

    /// These keys in flights of a bearable size.
    pub(super) async fn flights<'a>(&mut self, keys: &'a [Bytes]) -> Result<Vec<&'a [Bytes]>, Stop> {
        let asked: Vec<Vec<&[u8]>> = keys.iter().map(|key| vec![&b"MEMORY"[..], b"USAGE", key]).collect();
        let answers = self.line.ask(&asked, SMALL * keys.len() as u64).await?;
        let mut flights = Vec::new();
        let (mut from, mut bytes) = (0, 0);
        for (i, (answer, key)) in answers.iter().zip(keys).enumerate() {
            let size = match answer {
                Value::Integer(size) => u64::try_from(*size).unwrap_or(0),
                Value::Null => 0,
                other => return Err(refused(self.line.name(), "MEMORY USAGE", Some(other))),
            };
            if size > LARGEST {
                return Err(too_large(key, size));
            }
            if i > from && bytes + size > FLIGHT_BYTES {
                flights.push(&keys[from..i]);
                (from, bytes) = (i, 0);
            }
            bytes += size;
        }
        flights.push(&keys[from..]);
        Ok(flights)
    }

    /// The values of these keys, and the position that the server stood at just before.
    pub(super) async fn values(&mut self, keys: &[Bytes]) -> Result<(Option<Position>, Vec<Dumped>), Stop> {
        let mut asked: Vec<Vec<&[u8]>> = vec![vec![b"GET", self.reserved.position.as_bytes()]];
        for key in keys {
            // The deadline first: a key that expires between the two is gone then, and not without one.
            asked.push(vec![b"PEXPIRETIME", key]);
            asked.push(vec![b"DUMP", key]);
        }
        let answers = self.line.ask(&asked, LARGEST + SMALL * keys.len() as u64).await?;
        let name = self.line.name();
        let Some((position, values)) = answers.split_first() else { return Err(odd(name, "GET")) };
        let position = position.text().and_then(|text| text.parse().ok());
        let dumped = |pair: &[Value]| match pair {
            [deadline @ Value::Integer(_), dump @ (Value::Bulk(_) | Value::Null)] => {
                Ok(Dumped { dump: dump.clone(), deadline: deadline.clone() })
            }
            [deadline @ Value::Error(_), _] => Err(refused(name, "PEXPIRETIME", Some(deadline))),
            other => Err(refused(name, "DUMP", other.last())),
        };
        Ok((position, values.chunks(2).map(dumped).collect::<Result<_, _>>()?))
    }
}

/// The server that gets the copy.
pub(super) struct Sink {
    pub(super) line: Line,
    pub(super) reserved: Reserved,
}

impl Sink {
    /// Can it read what the source dumps? Asked before anything on it is erased.
    pub(super) async fn probe(&mut self, source: &mut Source) -> Result<(), Stop> {
        let key = Bytes::from(source.reserved.position.clone());
        let (_, values) = source.values(&[key]).await?;
        let Some(Value::Bulk(dump)) = values.into_iter().next().map(|value| value.dump) else {
            return Err(Stop::Failed(format!("its source {} is blank", source.line.name())));
        };
        let key = format!("{}:probe", self.reserved.partial);
        let asked = [
            vec![&b"MULTI"[..]],
            vec![b"RESTORE", key.as_bytes(), b"0", &dump, b"REPLACE"],
            vec![b"DEL", key.as_bytes()],
            vec![b"EXEC"],
        ];
        let answers = self.line.ask(&asked, SMALL).await?;
        let all = answers.iter().chain(answers.iter().flat_map(Value::items));
        match all
            .filter_map(Value::error)
            .find(|error| !error.starts_with("OOM") && !error.starts_with("EXECABORT"))
        {
            Some(error) => Err(self.refuses(&error)),
            None => Ok(()),
        }
    }

    /// Makes it an empty server that says of itself that it holds half a copy.
    pub(super) async fn erase(&mut self, epoch: &str) -> Result<(), Stop> {
        let run_id = self.line.run_id().to_string();
        let keys = self.reserved.clone();
        let asked = [
            // By itself, as a full server takes no transaction that sets anything.
            vec![&b"FLUSHALL"[..], b"ASYNC"],
            vec![b"MULTI"],
            vec![b"SET", keys.partial.as_bytes(), b"copy"],
            vec![b"SET", keys.epoch.as_bytes(), epoch.as_bytes()],
            // So that a restart is noticed: it may have forgotten a part of the copy then.
            vec![b"SET", keys.run.as_bytes(), run_id.as_bytes()],
            vec![b"EXEC"],
        ];
        let answers = self.line.ask(&asked, SMALL).await?;
        match answers.iter().chain(answers.iter().flat_map(Value::items)).find_map(Value::error) {
            Some(error) => Err(self.refuses(&error)),
            None => Ok(()),
        }
    }

    /// Makes these keys what was dumped. Returns the bytes sent for them.
    pub(super) async fn store(&mut self, keys: &[Bytes], values: &[Dumped]) -> Result<u64, Stop> {
        let deadlines: Vec<String> = values.iter().map(Dumped::deadline).collect();
        let mut bytes = 0;
        let mut asked: Vec<Vec<&[u8]>> = Vec::with_capacity(keys.len());
        for ((key, value), deadline) in keys.iter().zip(values).zip(&deadlines) {
            asked.push(match &value.dump {
                Value::Bulk(dump) if !value.is_gone() => {
                    bytes += (key.len() + dump.len()) as u64;
                    vec![b"RESTORE", key, deadline.as_bytes(), dump, b"REPLACE", b"ABSTTL"]
                }
                _ => vec![b"DEL", key],
            });
        }
        let answers = self.line.ask(&asked, bytes + SMALL * keys.len() as u64).await?;
        match answers.iter().find_map(Value::error) {
            Some(error) => Err(self.refuses(&error)),
            None => Ok(bytes),
        }
    }

    fn refuses(&self, error: &str) -> Stop {
        let name = self.line.name();
        Stop::Failed(match () {
            () if error.contains("version or checksum") || error.contains("Bad data format") => {
                format!(
                    "{name} cannot read what its source dumps: it must not be of an older version ({error})"
                )
            }
            () if error.starts_with("OOM") => {
                format!("{name} is out of memory; raise its maxmemory: {error}")
            }
            () => format!("{name} refuses the copy: {error}"),
        })
    }
}

impl Dumped {
    /// It had a value, and its deadline was over then.
    fn is_gone(&self) -> bool {
        self.deadline == Value::Integer(-2)
    }

    /// As RESTORE wants it: 0 for none.
    fn deadline(&self) -> String {
        match self.deadline {
            Value::Integer(ms) => ms.max(0).to_string(),
            _ => "0".into(),
        }
    }
}

fn odd(name: &str, what: &str) -> Stop {
    Stop::Failed(format!("{name} does not answer {what} as expected"))
}

fn refused(name: &str, what: &str, answer: Option<&Value>) -> Stop {
    match answer.and_then(Value::error) {
        Some(error) => Stop::Failed(format!(
            "its source {name} refuses {what}, which a copy through the proxy needs (Redis 7.0 or later, or any Valkey): {error}"
        )),
        None => odd(name, what),
    }
}

fn too_large(key: &[u8], size: u64) -> Stop {
    let shown: String = key.escape_ascii().to_string().chars().take(100).collect();
    Stop::Failed(format!(
        "the value of '{shown}' has {} MiB, and more than {} MiB are not copied through the proxy; let the servers reach each other",
        size >> 20,
        LARGEST >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped(dump: Value, deadline: i64) -> Dumped {
        Dumped { dump, deadline: Value::Integer(deadline) }
    }

    #[test]
    fn a_key_that_expired_between_the_two_questions_is_gone() {
        let value = || Value::Bulk(Bytes::from_static(b"x"));
        assert!(dumped(value(), -2).is_gone());
        assert_eq!((dumped(value(), -1).is_gone(), dumped(value(), -1).deadline()), (false, "0".into()));
        assert_eq!(dumped(value(), 17).deadline(), "17");
    }

    #[test]
    fn a_value_that_is_too_large_is_named() {
        let Stop::Failed(problem) = too_large(b"big\n", 65 << 20) else { panic!("another stop") };
        assert!(problem.contains(r"'big\n' has 65 MiB"), "{problem}");
    }
}
