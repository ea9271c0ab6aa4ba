//! The payload of DUMP: a type, a value in Redis's snapshot encoding, a version and a CRC-64.
//! It writes only the plain encodings, and reads those and small integers: not the packed and compressed
//! ones a real server may send.

use super::reply::Fault;
use super::value::{Hash, List, Set, Value};
use super::zset::SortedSet;

const VERSION: u16 = 10;
const STRING: u8 = 0;
const LIST: u8 = 1;
const SET: u8 = 2;
const HASH: u8 = 4;
const SORTED: u8 = 5;

const BAD_TRAILER: Fault = Fault::fixed("ERR DUMP payload version or checksum are wrong");
const BAD_DATA: Fault = Fault::fixed("ERR Bad data format");

/// A value as a payload real servers accept.
pub(super) fn serialize(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Text(text) => {
            out.push(STRING);
            put_text(&mut out, text);
        }
        Value::List(list) => put_items(&mut out, LIST, list.len(), list.iter()),
        Value::Set(set) => put_items(&mut out, SET, set.len(), set.iter()),
        Value::Hash(hash) => {
            put_items(&mut out, HASH, hash.len(), hash.iter().flat_map(|(field, value)| [field, value]));
        }
        Value::Sorted(sorted) => {
            out.push(SORTED);
            put_len(&mut out, sorted.len());
            for (member, score) in sorted.iter() {
                put_text(&mut out, member);
                out.extend_from_slice(&score.to_le_bytes());
            }
        }
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    let sum = crc64(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

fn put_items<'a>(out: &mut Vec<u8>, kind: u8, len: usize, items: impl Iterator<Item = &'a Vec<u8>>) {
    out.push(kind);
    put_len(out, len);
    items.for_each(|item| put_text(out, item));
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_len(out, text.len());
    out.extend_from_slice(text);
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    match len {
        0..64 => out.push(len as u8),
        64..16384 => out.extend_from_slice(&(len as u16 | 0x4000).to_be_bytes()),
        _ => {
            out.push(0x81);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// The value of a payload.
pub(super) fn deserialize(payload: &[u8]) -> Result<Value, Fault> {
    let (body, sum) = payload.split_last_chunk::<8>().ok_or(BAD_TRAILER)?;
    let (data, version) = body.split_last_chunk::<2>().ok_or(BAD_TRAILER)?;
    let sum = u64::from_le_bytes(*sum);
    if u16::from_le_bytes(*version) > VERSION || (sum != 0 && sum != crc64(body)) {
        return Err(BAD_TRAILER);
    }
    let value = read_value(&mut Reader(data)).filter(|value| !value.is_gone());
    value.ok_or(BAD_DATA)
}

fn read_value(data: &mut Reader) -> Option<Value> {
    let value = match data.byte()? {
        STRING => Value::Text(data.text()?),
        LIST => Value::List(data.many(Reader::text)?.into_iter().collect::<List>()),
        SET => Value::Set(data.many(Reader::text)?.into_iter().collect::<Set>()),
        HASH => Value::Hash(data.many(|data| data.text().zip(data.text()))?.into_iter().collect::<Hash>()),
        SORTED => {
            let mut sorted = SortedSet::default();
            for (member, score) in data.many(|data| data.text().zip(data.score()))? {
                sorted.insert(&member, score);
            }
            Value::Sorted(sorted)
        }
        _ => return None,
    };
    data.0.is_empty().then_some(value)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A length, or the number of a special encoding.
    fn len(&mut self) -> Option<Result<usize, u8>> {
        let first = self.byte()?;
        let low = usize::from(first & 0x3f);
        Some(Ok(match first >> 6 {
            0 => low,
            1 => low << 8 | usize::from(self.byte()?),
            2 if first == 0x80 => self.take(4)?.iter().fold(0, |acc, b| acc << 8 | usize::from(*b)),
            2 if first == 0x81 => {
                let bytes = self.take(8)?;
                usize::try_from(bytes.iter().fold(0, |acc, b| acc << 8 | u64::from(*b))).ok()?
            }
            3 => return Some(Err(first & 0x3f)),
            _ => return None,
        }))
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let number = match self.len()? {
            Ok(len) => return self.take(len).map(<[u8]>::to_vec),
            Err(0) => i64::from(self.byte()? as i8),
            Err(1) => i64::from(i16::from_le_bytes(self.take(2)?.try_into().ok()?)),
            Err(2) => i64::from(i32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            Err(_) => return None,
        };
        Some(number.to_string().into_bytes())
    }

    fn score(&mut self) -> Option<f64> {
        let score = f64::from_le_bytes(self.take(8)?.try_into().ok()?);
        (!score.is_nan()).then_some(score)
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // Every item takes at least a byte, so that a lying length cannot ask for much.
        let len = self.len()?.ok().filter(|len| *len <= self.0.len())?;
        (0..len).map(|_| one(self)).collect()
    }
}

/// CRC-64 with the polynomial of Jones, as Redis uses it.
fn crc64(bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
    bytes.iter().fold(0, |crc, byte| {
        let step = |crc: u64, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
        (0..8).fold(crc ^ u64::from(*byte), step)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_redis() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn payloads_come_back_as_they_went() {
        let mut sorted = SortedSet::default();
        sorted.insert(b"m", -1.5);
        let long = vec![b'x'; 20_000];
        for value in [
            Value::Text(long.clone()),
            Value::List(List::from([long, b"b".to_vec()])),
            Value::Hash(Hash::from([(b"f".to_vec(), b"v".to_vec())])),
            Value::Set(Set::from([b"a".to_vec()])),
            Value::Sorted(sorted),
        ] {
            let payload = serialize(&value);
            assert_eq!(deserialize(&payload).map(|v| v.canonical()), Ok(value.canonical()));
            for cut in 0..payload.len().min(64) {
                assert!(deserialize(&payload[..cut]).is_err());
            }
        }
    }
}
