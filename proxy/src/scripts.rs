//! The texts of scripts by their digests, so that `EVALSHA` runs on whichever server leads, whatever that server
//! knows. Bounded: what was kept first goes first.

use bytes::Bytes;
use sha1::{Digest, Sha1};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Bytes of texts that a group keeps.
const MOST_BYTES: usize = 16 << 20;

type Key = [u8; 20];

/// See the module's head.
#[derive(Debug, Default)]
pub struct Scripts(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    texts: HashMap<Key, Bytes>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl Scripts {
    /// Keeps a text, unless it is larger than everything that is kept.
    pub fn keep(&self, text: &[u8]) {
        let key: Key = Sha1::digest(text).into();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if text.len() > MOST_BYTES || kept.texts.contains_key(&key) {
            return;
        }
        kept.bytes += text.len();
        kept.texts.insert(key, Bytes::copy_from_slice(text));
        kept.order.push_back(key);
        while kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            kept.bytes -= kept.texts.remove(&oldest).map_or(0, |text| text.len());
        }
    }

    /// The text with this digest, given as 40 hexadecimal digits in any case.
    pub fn text(&self, digest: &[u8]) -> Option<Bytes> {
        let mut key = Key::default();
        if digest.len() != 2 * key.len() || !digest.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(digest.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).texts.get(&key).cloned()
    }

    /// Forgets all of them.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_its_digest_until_it_is_forgotten() {
        let scripts = Scripts::default();
        scripts.keep(b"return 1");
        let digest = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(scripts.text(digest).as_deref(), Some(&b"return 1"[..]));
        assert_eq!(scripts.text(&digest.to_ascii_uppercase()).as_deref(), Some(&b"return 1"[..]));
        assert_eq!(scripts.text(b"e0e1"), None);
        assert_eq!(scripts.text(&[b'+'; 40]), None);
        scripts.forget();
        assert_eq!(scripts.text(digest), None);
    }

    #[test]
    fn what_was_kept_first_goes_first() {
        let scripts = Scripts::default();
        let text = |n: u8| vec![n; MOST_BYTES / 2];
        (0..3).for_each(|n| scripts.keep(&text(n)));
        let kept = scripts.0.lock().expect("no panic");
        assert_eq!((kept.texts.len(), kept.bytes), (2, MOST_BYTES));
        assert!(!kept.texts.contains_key(&Key::from(Sha1::digest(text(0)))));
    }
}
