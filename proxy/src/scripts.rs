//! The texts of scripts by their digests, so that `EVALSHA` runs on whichever server gets it, whatever that server
//! knows; and which of them every server can run by itself. Bounded: what was kept first goes first.

use bytes::Bytes;
use quorate_wire::lua;
use sha1::{Digest, Sha1};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of texts that a group keeps.
const MOST_BYTES: usize = 16 << 20;

/// So many lines a minute say why a script runs on one replica first.
const MOST_LINES: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

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
    texts: HashMap<Key, Known>,
    order: VecDeque<Key>,
    bytes: usize,
    lines: Lines,
}

#[derive(Debug)]
struct Known {
    text: Bytes,
    /// Why it is not said to do the same on every server.
    doubt: Option<Box<str>>,
    /// The operator was told.
    told: bool,
}

/// How much was said of late.
#[derive(Debug, Default)]
struct Lines {
    since: Option<Instant>,
    said: u32,
}

impl Lines {
    /// May one more line be said now? The last one of a minute tells that the others are left out.
    fn next(&mut self, now: Instant) -> Option<&'static str> {
        if self.since.is_none_or(|since| now.duration_since(since) >= MINUTE) {
            *self = Lines { since: Some(now), said: 0 };
        }
        self.said = self.said.saturating_add(1);
        match self.said {
            ..MOST_LINES => Some(""),
            MOST_LINES => Some(" (of further scripts this minute nothing is said)"),
            _ => None,
        }
    }
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
    /// is known? Where that is `asked` and not so, the operator is told why, once.
    pub fn keep(&self, text: &[u8], asked: bool) -> bool {
        if text.len() > MOST_BYTES {
            return false;
        }
        let key: Key = Sha1::digest(text).into();
        if let Some(known) = self.known(&key, asked) {
            return known.alike;
        }
        // Not under the lock: others wait for it.
        let doubt = lua::does_the_same(text).err().map(String::into_boxed_str);
        self.lock().add(key, Known { text: Bytes::copy_from_slice(text), doubt, told: false });
        self.known(&key, asked).is_some_and(|known| known.alike)
    }

    fn known(&self, key: &Key, asked: bool) -> Option<Script> {
        let mut kept = self.lock();
        let (script, line) = kept.look(key, asked, Instant::now())?;
        drop(kept);
        if let Some(line) = line {
            let digest: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            tracing::info!(digest, "a script runs on one replica first: {line}");
        }
        Some(script)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The script with this digest, given as 40 hexadecimal digits in any case; `asked` as for [`Scripts::keep`].
    pub fn find(&self, digest: &[u8], asked: bool) -> Option<Script> {
        let mut key = Key::default();
        if digest.len() != 2 * key.len() || !digest.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in key.iter_mut().zip(digest.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        self.known(&key, asked)
    }

    /// Forgets all of them.
    pub fn forget(&self) {
        *self.lock() = Kept::default();
    }
}

impl Kept {
    /// A script, and what to say of it.
    fn look(&mut self, key: &Key, asked: bool, now: Instant) -> Option<(Script, Option<String>)> {
        let known = self.texts.get_mut(key)?;
        let script = Script { text: known.text.clone(), alike: known.doubt.is_none() };
        let line = match &known.doubt {
            Some(why) if asked && !known.told => self.lines.next(now).map(|rest| {
                known.told = true;
                format!("{why}{rest}")
            }),
            _ => None,
        };
        Some((script, line))
    }

    fn add(&mut self, key: Key, script: Known) {
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
        assert!(scripts.keep(b"return 1", true));
        let digest = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        let script = Script { text: Bytes::from_static(b"return 1"), alike: true };
        assert_eq!(scripts.find(digest, true), Some(script.clone()));
        assert_eq!(scripts.find(&digest.to_ascii_uppercase(), true), Some(script));
        assert_eq!(scripts.find(b"e0e1", true), None);
        assert_eq!(scripts.find(&[b'+'; 40], true), None);
        scripts.forget();
        assert_eq!(scripts.find(digest, true), None);
    }

    #[test]
    fn what_was_kept_first_goes_first() {
        let scripts = Scripts::default();
        let text = |n: u8| vec![n; MOST_BYTES / 2];
        (0..3).for_each(|n| assert!(!scripts.keep(&text(n), true)));
        let kept = scripts.lock();
        assert_eq!((kept.texts.len(), kept.bytes), (2, MOST_BYTES));
        assert!(!kept.texts.contains_key(&Key::from(Sha1::digest(text(0)))));
    }

    #[test]
    fn why_a_script_is_not_trusted_is_said_once_and_not_too_often() {
        let now = Instant::now();
        let mut kept = Kept::default();
        let mut line = |n: u8, asked: bool, now: Instant| {
            if !kept.texts.contains_key(&[n; 20]) {
                let doubt = Some("why".into());
                kept.add([n; 20], Known { text: Bytes::new(), doubt, told: false });
            }
            kept.look(&[n; 20], asked, now).expect("kept").1
        };
        assert_eq!(line(0, false, now), None, "its group does not ask");
        assert_eq!(line(0, true, now), Some("why".into()));
        assert_eq!(line(0, true, now), None);
        let said = (1..200).filter(|n| line(*n, true, now).is_some()).count();
        assert_eq!(said, MOST_LINES as usize - 1);
        assert_eq!(line(199, true, now + MINUTE), Some("why".into()), "what was left out is said later");
    }
}
