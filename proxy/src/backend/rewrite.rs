//! Makes a server write its append-only file anew where it could not load the one it has; the two cases are in
//! docs/decisions/0013-torn-append-only-files.md.

use super::serve::Attendant;
use quorate_wire::resp::encode;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a server is left alone after a rewrite that failed.
const REST: Duration = Duration::from_secs(60);

/// How the append-only file of one attached server stands, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// It can be loaded.
    Whole,
    /// It may not, and is to be written anew, at this time or later.
    Due(Option<Instant>),
    /// It is being written anew.
    Asked,
}

impl Rewrite {
    /// For a server whose file may end in half a transaction, or not.
    pub(super) fn new(torn: bool) -> Rewrite {
        if torn { Rewrite::Due(None) } else { Rewrite::Whole }
    }

    /// Takes in what the server told of itself, and whether it refused writes for its file's sake. True: it is to be
    /// asked for a rewrite now.
    fn told(&mut self, unwritten: bool, info: &BTreeMap<String, String>, now: Instant) -> bool {
        // A busy server tells nothing.
        if !info.contains_key("aof_enabled") {
            return false;
        }
        let is = |key: &str, value: &str| info.get(key).is_some_and(|found| found == value);
        let failing = is("aof_last_write_status", "err");
        if failing || unwritten {
            *self = match *self {
                Rewrite::Due(rest) => Rewrite::Due(rest),
                // A rewrite that runs began a file that is spoiled too.
                _ => Rewrite::Due(None),
            };
        }
        if !is("aof_enabled", "1") {
            *self = Rewrite::Whole;
        }
        if is("aof_rewrite_in_progress", "1") || is("aof_rewrite_scheduled", "1") {
            return false;
        }
        match *self {
            Rewrite::Due(rest) if !failing && rest.is_none_or(|until| now >= until) => {
                *self = Rewrite::Asked;
                true
            }
            Rewrite::Asked if is("aof_last_bgrewrite_status", "ok") => {
                *self = Rewrite::Whole;
                false
            }
            Rewrite::Asked => {
                *self = Rewrite::Due(Some(now + REST));
                false
            }
            Rewrite::Due(_) | Rewrite::Whole => false,
        }
    }
}

impl Attendant {
    /// Asks for a rewrite when one is due and can succeed.
    pub(super) fn keep_whole(&self, rewrite: &mut Rewrite, info: &BTreeMap<String, String>) {
        if rewrite.told(self.link.take_unwritten(), info, Instant::now()) {
            tracing::info!(
                group = self.shared.name,
                replica = self.backend.name,
                "its append-only file may be spoiled and is written anew"
            );
            self.link.aside(encode::command_bytes(&[b"BGREWRITEAOF"]));
            self.link.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(write: &str, rewrite: &str, running: &str) -> BTreeMap<String, String> {
        let pairs = [
            ("aof_enabled", "1"),
            ("aof_last_write_status", write),
            ("aof_last_bgrewrite_status", rewrite),
            ("aof_rewrite_in_progress", running),
            ("aof_rewrite_scheduled", "0"),
        ];
        pairs.map(|(key, value)| (key.to_string(), value.to_string())).into()
    }

    #[test]
    fn a_torn_file_is_written_anew_once() {
        let (mut rewrite, now) = (Rewrite::new(true), Instant::now());
        assert!(rewrite.told(false, &info("ok", "ok", "0"), now));
        assert!(!rewrite.told(false, &info("ok", "ok", "1"), now), "it runs");
        assert!(!rewrite.told(false, &info("ok", "ok", "0"), now));
        assert_eq!(rewrite, Rewrite::Whole);
        assert!(!Rewrite::new(false).told(false, &info("ok", "ok", "0"), now), "nothing is wrong");
    }

    #[test]
    fn a_full_disk_is_waited_out() {
        let (mut rewrite, now) = (Rewrite::new(false), Instant::now());
        assert!(!rewrite.told(false, &info("err", "ok", "0"), now));
        assert!(!rewrite.told(true, &info("err", "ok", "0"), now));
        assert!(rewrite.told(false, &info("ok", "ok", "0"), now));
        // Full again before the rewrite has ended: what that one began is spoiled too.
        assert!(!rewrite.told(true, &info("ok", "ok", "1"), now));
        assert!(rewrite.told(false, &info("ok", "ok", "0"), now));
    }

    #[test]
    fn a_refusal_between_two_looks_is_enough() {
        let mut rewrite = Rewrite::new(false);
        assert!(rewrite.told(true, &info("ok", "ok", "0"), Instant::now()));
    }

    #[test]
    fn a_rewrite_that_fails_is_tried_again_later() {
        let (mut rewrite, now) = (Rewrite::new(true), Instant::now());
        assert!(rewrite.told(false, &info("ok", "ok", "0"), now));
        assert!(!rewrite.told(false, &info("ok", "err", "0"), now));
        assert!(!rewrite.told(true, &info("ok", "err", "0"), now + REST / 2), "not at once");
        assert!(rewrite.told(false, &info("ok", "err", "0"), now + REST));
    }

    #[test]
    fn without_an_append_only_file_there_is_nothing_to_do() {
        let mut rewrite = Rewrite::new(true);
        let mut off = info("ok", "ok", "0");
        off.insert("aof_enabled".into(), "0".into());
        assert!(!rewrite.told(false, &off, Instant::now()));
        assert_eq!(rewrite, Rewrite::Whole);
    }
}
