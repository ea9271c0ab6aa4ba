//! The texts of scripts by their digests, so that `EVALSHA` runs on whichever server gets it, whatever that server
//! knows; and which of them every server can run by itself. Bounded: what was kept first goes first.

use bytes::Bytes;
use quorate_wire::lua;
use sha1::{Digest, Sha1};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of texts that a group keeps.
const MOST_BYTES: usize = 16 << 20;

type Key = [u8; 20];

/// See the module's head.
#[derive(Debug, Default)]
pub struct Scripts {
    verbatim: bool,
    kept: Mutex<Kept>,
}

/// A script that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its text.
    pub text: Bytes,
    /// Its text shows that it does the same on every server.
    pub alike: bool,
}

#[derive(Debug, Default)]
struct Kept {
    texts: HashMap<Key, Script>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl Scripts {
    /// None yet, for a group whose replicas may run scripts themselves (`verbatim`), or shall not.
    pub fn new(verbatim: bool) -> Scripts {
        Scripts { verbatim, kept: Mutex::default() }
    }

    /// Shall the group's replicas run scripts themselves where they can?
    pub fn are_verbatim(&self) -> bool {
        self.verbatim
    }

    /// Keeps a text, unless it is larger than everything that is kept. Does it do the same on every server, as far as
    /// is known?
    pub fn keep(&self, text: &[u8]) -> bool {
        if text.len() > MOST_BYTES {
            return false;
        }
        let key: Key = Sha1::digest(text).into();
        if let Some(known) = self.lock().texts.get(&key) {
            return known.alike;
        }
        // Texts are kept for all groups of a listener, and another one's replicas may run them.
        let looked_at = lua::does_the_same(text);
        if let (Err(why), true) = (&looked_at, self.verbatim) {
            let digest: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            tracing::info!(digest, "a script runs on one replica first: {why}");
        }
        let alike = looked_at.is_ok();
        self.lock().add(key, Script { text: Bytes::copy_from_slice(text), alike });
        alike
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script with this digest, given as 40 hexadecimal digits in any case.
    pub fn find(&self, digest: &[u8]) -> Option<Script> {
        let mut key = Key::default();
        if digest.len() != 2 * key.len() || !digest.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(digest.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        self.lock().texts.get(&key).cloned()
    }

    /// Forgets all of them.
    pub fn forget(&self) {
        *self.lock() = Kept::default();
    }
}

impl Kept {
    fn add(&mut self, key: Key, script: Script) {
        let bytes = script.text.len();
        if self.texts.insert(key, script).is_some() {
            return;
        }
        self.bytes += bytes;
        self.order.push_back(key);
        while self.bytes > MOST_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.texts.remove(&oldest).map_or(0, |script| script.text.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_its_digest_until_it_is_forgotten() {
        let scripts = Scripts::default();
        assert!(scripts.keep(b"return 1"));
        let digest = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        let script = Script { text: Bytes::from_static(b"return 1"), alike: true };
        assert_eq!(scripts.find(digest), Some(script.clone()));
        assert_eq!(scripts.find(&digest.to_ascii_uppercase()), Some(script));
        assert_eq!(scripts.find(b"e0e1"), None);
        assert_eq!(scripts.find(&[b'+'; 40]), None);
        scripts.forget();
        assert_eq!(scripts.find(digest), None);
    }

    #[test]
    fn what_was_kept_first_goes_first() {
        let scripts = Scripts::default();
        let text = |n: u8| vec![n; MOST_BYTES / 2];
        (0..3).for_each(|n| assert!(!scripts.keep(&text(n))));
        let kept = scripts.lock();
        assert_eq!((kept.texts.len(), kept.bytes), (2, MOST_BYTES));
        assert!(!kept.texts.contains_key(&Key::from(Sha1::digest(text(0)))));
    }
}
