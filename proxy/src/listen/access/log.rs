//! ACL LOG: what was denied to whom, the latest first. Bounded; the same again within a minute counts up.

use bytes::BytesMut;
use quorate_wire::resp::encode;
use std::collections::VecDeque;
use std::sync::Mutex;

/// So many entries are kept, as servers do.
const MOST: usize = 128;
/// What is denied again within this time is the same entry, in microseconds.
const SAME_US: u64 = 60_000_000;
/// Of a key, channel or name so many bytes are kept.
const MOST_BYTES: usize = 128;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `command`, `key`, `channel` or `auth`.
    pub reason: &'static str,
    /// `toplevel` or `multi`.
    pub context: &'static str,
    /// What was denied.
    pub object: Vec<u8>,
    /// Whom.
    pub user: Vec<u8>,
}

#[derive(Debug)]
struct Kept {
    entry: Entry,
    count: u64,
    at_us: u64,
    client: String,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Log(Mutex<VecDeque<Kept>>);

impl Log {
    /// Enters what was denied at this microsecond since the proxy's start.
    pub fn enter(&self, mut entry: Entry, at_us: u64, client: String) {
        entry.object.truncate(MOST_BYTES);
        entry.user.truncate(MOST_BYTES);
        let Ok(mut kept) = self.0.lock() else { return };
        let same = |old: &Kept| old.entry == entry && at_us.saturating_sub(old.at_us) <= SAME_US;
        let before = kept.iter().position(same).and_then(|at| kept.remove(at));
        let count = before.map_or(0, |before| before.count) + 1;
        kept.push_front(Kept { entry, count, at_us, client });
        kept.truncate(MOST);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        if let Ok(mut kept) = self.0.lock() {
            kept.clear();
        }
    }

    /// The latest entries as a reply.
    pub fn encode(&self, most: usize, now_us: u64, dialect: u8) -> BytesMut {
        let mut out = BytesMut::new();
        let Ok(kept) = self.0.lock() else { return out };
        encode::header(b'*', most.min(kept.len()), &mut out);
        kept.iter().take(most).for_each(|one| one.encode(now_us, dialect, &mut out));
        out
    }
}

impl Kept {
    fn encode(&self, now_us: u64, dialect: u8, out: &mut BytesMut) {
        let (kind, length) = if dialect == 3 { (b'%', 7) } else { (b'*', 14) };
        encode::header(kind, length, out);
        encode::bulk(b"count", out);
        encode::header(b':', self.count as usize, out);
        let texts: [(&str, &[u8]); 4] = [
            ("reason", self.entry.reason.as_bytes()),
            ("context", self.entry.context.as_bytes()),
            ("object", &self.entry.object),
            ("username", &self.entry.user),
        ];
        for (key, value) in texts {
            encode::bulk(key.as_bytes(), out);
            encode::bulk(value, out);
        }
        encode::bulk(b"age-seconds", out);
        let age = format!("{:.3}", now_us.saturating_sub(self.at_us) as f64 / 1e6);
        match dialect {
            3 => out.extend_from_slice(format!(",{age}\r\n").as_bytes()),
            _ => encode::bulk(age.as_bytes(), out),
        }
        encode::bulk(b"client-info", out);
        encode::bulk(self.client.as_bytes(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(object: &str) -> Entry {
        Entry { reason: "key", context: "toplevel", object: object.into(), user: b"ann".to_vec() }
    }

    #[test]
    fn the_same_counts_up_and_comes_first() {
        let log = Log::default();
        log.enter(entry("a"), 0, "x".into());
        log.enter(entry("b"), 1, "x".into());
        log.enter(entry("a"), 2, "y".into());
        let text = String::from_utf8_lossy(&log.encode(10, 1_500_002, 2)).replace("\r\n", " ");
        assert!(text.starts_with("*2 *14 $5 count :2 $6 reason $3 key "), "{text}");
        assert!(
            text.contains("$1 a $8 username $3 ann $11 age-seconds $5 1.500 $11 client-info $1 y *14"),
            "{text}"
        );
        log.enter(entry("a"), SAME_US + 3, "y".into());
        assert!(
            log.encode(1, 0, 2).starts_with(b"*1\r\n*14\r\n$5\r\ncount\r\n:1"),
            "a minute later it is new"
        );
        log.clear();
        assert_eq!(&log.encode(10, 0, 2)[..], b"*0\r\n");
    }

    #[test]
    fn it_is_bounded() {
        let log = Log::default();
        (0..500).for_each(|n| log.enter(entry(&format!("{n}{}", "x".repeat(1000))), 0, String::new()));
        let kept = log.0.lock().expect("nobody panicked");
        assert!(kept.len() == MOST && kept.iter().all(|one| one.entry.object.len() == MOST_BYTES));
    }
}
