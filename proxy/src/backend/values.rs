//! Whole values by type, and digests of them that do not depend on how a server lays them out.
//! Never compares dumps: equal data may be encoded differently.

use quorate_wire::resp::Value;
use xxhash_rust::xxh3::xxh3_64;

/// The command that reads the whole value of a key of this type.
pub(super) fn whole<'a>(kind: &str, key: &'a [u8]) -> Vec<&'a [u8]> {
    match kind {
        "string" => vec![b"GET", key],
        "list" => vec![b"LRANGE", key, b"0", b"-1"],
        "set" => vec![b"SMEMBERS", key],
        "zset" => vec![b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"],
        "hash" => vec![b"HGETALL", key],
        "stream" => vec![b"XRANGE", key, b"-", b"+"],
        _ => vec![b"DUMP", key],
    }
}

/// Digest of what [`whole`] read. Servers give sets and hashes in orders of their own, so their members are
/// summed up; versions of servers print the same score differently.
pub(super) fn digest(kind: &str, value: &Value) -> u64 {
    match kind {
        "set" => value.items().iter().map(hash).fold(0, u64::wrapping_add),
        "hash" => value.items().chunks(2).map(ordered).fold(0, u64::wrapping_add),
        "zset" => mixed(value.items().chunks(2).flat_map(|pair| [hash(&pair[0]), score(pair.get(1))])),
        _ => hash(value),
    }
}

/// Digest of a value as it is.
pub(super) fn hash(value: &Value) -> u64 {
    match value {
        Value::Array(items) => ordered(items),
        Value::Integer(n) => xxh3_64(&n.to_le_bytes()),
        Value::Error(text) => !xxh3_64(text),
        other => xxh3_64(other.bytes().map_or(&[], |bytes| bytes.as_ref())),
    }
}

/// Digest of several, in their order.
pub(super) fn ordered(items: &[Value]) -> u64 {
    mixed(items.iter().map(hash)).wrapping_add(items.len() as u64)
}

/// Digest of digests, in their order.
pub(super) fn mixed(digests: impl Iterator<Item = u64>) -> u64 {
    digests.fold(0, |sum, next| sum.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ next)
}

fn score(value: Option<&Value>) -> u64 {
    let number = value.and_then(Value::text).and_then(|text| text.parse::<f64>().ok());
    number.map_or(0, |number| xxh3_64(&number.to_bits().to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::Bulk(bytes::Bytes::copy_from_slice(text.as_bytes()))
    }

    fn of(kind: &str, items: &[&str]) -> u64 {
        digest(kind, &Value::Array(items.iter().map(|item| bulk(item)).collect()))
    }

    #[test]
    fn the_order_counts_where_it_is_data() {
        assert_ne!(of("list", &["a", "b"]), of("list", &["b", "a"]));
        assert_eq!(of("set", &["a", "b"]), of("set", &["b", "a"]));
        assert_eq!(of("hash", &["a", "1", "b", "2"]), of("hash", &["b", "2", "a", "1"]));
        assert_ne!(of("hash", &["a", "1", "b", "2"]), of("hash", &["a", "2", "b", "1"]));
        assert_ne!(of("set", &["a"]), of("set", &["a", "b"]));
    }

    #[test]
    fn scores_are_numbers() {
        assert_eq!(of("zset", &["a", "0.1"]), of("zset", &["a", "0.10000000000000001"]));
        assert_ne!(of("zset", &["a", "0.1"]), of("zset", &["a", "0.2"]));
        assert_ne!(of("zset", &["a", "1", "b", "2"]), of("zset", &["b", "1", "a", "2"]));
    }

    #[test]
    fn nothing_an_error_and_an_empty_text_are_three_things() {
        let error = digest("string", &Value::Error(bytes::Bytes::new()));
        assert_ne!(digest("string", &bulk("")), error);
        assert_ne!(of("list", &[]), of("list", &[""]));
    }
}
