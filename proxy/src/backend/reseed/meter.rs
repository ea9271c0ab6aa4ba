//! How far a reseed is, from what the two servers say of themselves. It decides when the copy is
//! complete; it must never say so of a copy of another server.

use super::facts::{Progress, Stage};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// The answer to INFO.
pub(super) type Info = BTreeMap<String, String>;

/// Without any progress for this long it is given up.
pub(super) const STALL: Duration = Duration::from_secs(60);
/// An append-only file that is written anew is waited for at most this long.
const SETTLE: Duration = Duration::from_secs(600);

/// A target that gets nothing, and that the source has never heard of, is believed not to reach it after this long.
pub(super) const UNLINKED: Duration = Duration::from_secs(10);

/// A source names its history anew when its first replica comes; the two were not asked at once.
const DIFFER: Duration = Duration::from_secs(2);

/// What a look at both servers says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Going,
    /// The target has all that the source had a moment ago.
    Complete,
    /// Nothing moved for too long.
    Stalled,
    /// The target does not reach the source, it seems.
    Unlinked,
    /// The target copies some other server.
    Elsewhere,
}

/// See the module's head.
pub(super) struct Meter {
    progress: Progress,
    since: Instant,
    flows_since: Option<Instant>,
    caught_up_since: Option<Instant>,
    differs_since: Option<Instant>,
    unlinked_since: Option<Instant>,
    moved: Instant,
    /// What changes while something happens.
    trace: [i64; 6],
    /// The source's offset at the look before.
    goal: Option<i64>,
}

impl Meter {
    /// Of a copy of the replica with this name.
    pub(super) fn new(source: &str, now: Instant) -> Self {
        let progress = Progress { source: source.to_string(), ..Progress::default() };
        Self {
            progress,
            since: now,
            flows_since: None,
            caught_up_since: None,
            differs_since: None,
            unlinked_since: None,
            moved: now,
            trace: [0; 6],
            goal: None,
        }
    }

    /// How far it is.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Takes a look. Without the source's word nothing is complete.
    pub(super) fn look(&mut self, target: &Info, source: Option<&Info>, now: Instant) -> Verdict {
        self.measure(target, source, now);
        self.watch(target, source, now);
        let up = is(target, "master_link_status", "up") && !busy(target);
        let unlinked = self.is_unlinked(source, now);
        let Some(source) = source.filter(|_| up) else {
            self.goal = None;
            return match () {
                () if now - self.moved > STALL => Verdict::Stalled,
                () if unlinked => Verdict::Unlinked,
                () => Verdict::Going,
            };
        };
        if target.get("master_replid") != source.get("master_replid") {
            self.goal = None;
            let since = *self.differs_since.get_or_insert(now);
            return if now - since > DIFFER { Verdict::Elsewhere } else { Verdict::Going };
        }
        self.differs_since = None;
        // Asked before the target was: what the source had then is what must have arrived by now.
        let goal = self.goal.replace(number(source, "master_repl_offset"));
        let has_all = goal.is_some_and(|goal| number(target, "slave_repl_offset") >= goal);
        if !has_all {
            self.progress.stage = Stage::CatchingUp;
            return if now - self.moved > STALL { Verdict::Stalled } else { Verdict::Going };
        }
        let caught_up = *self.caught_up_since.get_or_insert(now);
        if rewrites(target) && now - caught_up < SETTLE {
            self.progress.stage = Stage::Settling;
            return Verdict::Going;
        }
        Verdict::Complete
    }

    fn is_unlinked(&mut self, source: Option<&Info>, now: Instant) -> bool {
        // What it says of itself is no proof: it may wait for data that nobody is going to send.
        let nothing = self.progress.stage == Stage::Waiting;
        // Others that copy it have long been "online".
        let replica = |name: &str| name.strip_prefix("slave").is_some_and(|n| n.parse::<u32>().is_ok());
        let awaits = |source: &Info| !source.iter().any(|(k, v)| replica(k) && !v.contains("state=online"));
        match nothing && source.is_some_and(awaits) {
            true => now - *self.unlinked_since.get_or_insert(now) > UNLINKED,
            false => {
                self.unlinked_since = None;
                false
            }
        }
    }

    fn measure(&mut self, target: &Info, source: Option<&Info>, now: Instant) {
        let p = &mut self.progress;
        p.seconds = (now - self.since).as_secs();
        // A target that loads what it reads, without a file between, counts only what it loaded.
        let received =
            count(target, "master_sync_read_bytes").max(match count(target, "loading_total_bytes") {
                0 => count(target, "loading_loaded_bytes"),
                _ => 0,
            });
        p.stage = match () {
            () if is(target, "loading", "1") && count(target, "loading_total_bytes") > 0 => Stage::Loading,
            () if is(target, "master_link_status", "up") => Stage::CatchingUp,
            () if received > 0 => Stage::Copying,
            () => Stage::Waiting,
        };
        p.bytes = p.bytes.max(received);
        match p.stage {
            Stage::Waiting => {}
            Stage::Copying => {
                let flows_since = *self.flows_since.get_or_insert(now);
                p.bytes_per_second = (p.bytes as f64 / (now - flows_since).as_secs_f64().max(0.2)) as u64;
                let told = count(target, "master_sync_total_bytes");
                p.estimated = told == 0;
                let guess = source.map_or(0, |source| count(source, "used_memory_dataset")).max(p.bytes);
                p.total_bytes = if told > 0 { told } else { guess };
            }
            Stage::Loading | Stage::CatchingUp | Stage::Settling => {
                (p.total_bytes, p.estimated) = (p.bytes, false);
            }
        }
        p.ratio = match p.stage {
            Stage::Waiting => 0.0,
            Stage::Copying => share(p.bytes, p.total_bytes),
            Stage::Loading | Stage::CatchingUp | Stage::Settling => 1.0,
        };
        let left = p.total_bytes.saturating_sub(p.bytes);
        let known = p.stage == Stage::Copying && p.total_bytes > 0 && p.bytes_per_second > 0;
        p.seconds_left = known.then(|| left.div_ceil(p.bytes_per_second));
    }

    /// Has anything changed?
    fn watch(&mut self, target: &Info, source: Option<&Info>, now: Instant) {
        // A source that saves its data to disk first sends nothing meanwhile.
        let saving =
            |info: &&Info| info.iter().any(|(k, v)| k.starts_with("slave") && v.contains("wait_bgsave"));
        let trace = [
            self.progress.stage as i64,
            number(target, "master_sync_read_bytes"),
            number(target, "loading_loaded_bytes"),
            number(target, "slave_repl_offset"),
            if rewrites(target) { number(target, "aof_current_rewrite_time_sec") } else { 0 },
            source.filter(saving).map_or(0, |info| number(info, "rdb_current_bgsave_time_sec")),
        ];
        if trace != self.trace {
            (self.trace, self.moved) = (trace, now);
        }
    }
}

fn is(info: &Info, key: &str, value: &str) -> bool {
    info.get(key).is_some_and(|found| found == value)
}

fn number(info: &Info, key: &str) -> i64 {
    info.get(key).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn count(info: &Info, key: &str) -> u64 {
    u64::try_from(number(info, key)).unwrap_or(0)
}

/// Never 1 before all is there.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(0.99) }
}

fn busy(target: &Info) -> bool {
    is(target, "master_sync_in_progress", "1") || is(target, "loading", "1")
}

/// The copy is not on the target's disk before its append-only file is written anew.
fn rewrites(target: &Info) -> bool {
    is(target, "aof_enabled", "1")
        && (is(target, "aof_rewrite_in_progress", "1") || is(target, "aof_rewrite_scheduled", "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Info {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once(':'));
        pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    const UP: &str = "master_link_status:up master_sync_in_progress:0 loading:0 master_replid:a";

    fn up(offset: u64, more: &str) -> Info {
        info(&format!("{UP} slave_repl_offset:{offset} {more}"))
    }

    fn source(offset: u64) -> Info {
        info(&format!("master_replid:a master_repl_offset:{offset}"))
    }

    fn meter() -> (Meter, Instant) {
        let now = Instant::now();
        (Meter::new("r1", now), now)
    }

    #[test]
    fn complete_is_what_reached_the_offset_of_the_look_before() {
        let (mut meter, now) = meter();
        assert_eq!(meter.look(&up(50, ""), Some(&source(100)), now), Verdict::Going);
        assert_eq!(meter.look(&up(99, ""), Some(&source(120)), now), Verdict::Going, "it had 100 then");
        assert_eq!(meter.progress().stage, Stage::CatchingUp);
        assert_eq!(meter.look(&up(120, ""), Some(&source(150)), now), Verdict::Complete);
    }

    #[test]
    fn nothing_is_complete_without_the_source_or_of_another_server() {
        let (mut meter, now) = meter();
        assert_eq!(meter.look(&up(100, ""), Some(&source(100)), now), Verdict::Going);
        assert_eq!(meter.look(&up(100, ""), None, now), Verdict::Going);
        assert_eq!(
            meter.look(&up(100, ""), Some(&source(100)), now),
            Verdict::Going,
            "the sample is too old"
        );
        let other = info("master_replid:b master_repl_offset:1");
        assert_eq!(meter.look(&up(100, ""), Some(&other), now), Verdict::Going, "it may have a new name");
        let later = now + DIFFER + DIFFER;
        assert_eq!(meter.look(&up(100, ""), Some(&other), later), Verdict::Elsewhere);
    }

    #[test]
    fn an_append_only_file_is_waited_for() {
        let (mut meter, now) = meter();
        let writing = up(100, "aof_enabled:1 aof_rewrite_in_progress:1");
        meter.look(&writing, Some(&source(100)), now);
        assert_eq!(meter.look(&writing, Some(&source(100)), now), Verdict::Going);
        assert_eq!(meter.progress().stage, Stage::Settling);
        assert_eq!(meter.look(&writing, Some(&source(100)), now + SETTLE), Verdict::Complete);
    }

    #[test]
    fn a_copy_that_does_not_move_is_given_up() {
        let (mut meter, now) = meter();
        let copying = |bytes: u64| {
            info(&format!(
                "master_link_status:down master_sync_total_bytes:1000 master_sync_read_bytes:{bytes}"
            ))
        };
        let at = |seconds: u64| now + Duration::from_secs(seconds);
        assert_eq!(meter.look(&copying(100), Some(&source(1)), at(1)), Verdict::Going);
        assert_eq!(meter.look(&copying(200), Some(&source(1)), at(50)), Verdict::Going);
        assert_eq!(meter.look(&copying(200), Some(&source(1)), at(109)), Verdict::Going);
        assert_eq!(meter.look(&copying(200), Some(&source(1)), at(111)), Verdict::Stalled);
    }

    #[test]
    fn a_target_that_the_source_never_heard_of_does_not_reach_it() {
        let (mut meter, now) = meter();
        let waiting = info("master_link_status:down master_sync_in_progress:1");
        let others = info("slave0:ip=a,port=1,state=online");
        let ours = info("slave0:ip=a,port=1,state=online slave1:ip=b,port=2,state=wait_bgsave");
        let later = now + UNLINKED + Duration::from_secs(1);
        assert_eq!(meter.look(&waiting, Some(&others), now), Verdict::Going);
        assert_eq!(meter.look(&waiting, Some(&others), later), Verdict::Unlinked);
        assert_eq!(meter.look(&waiting, Some(&ours), later), Verdict::Going);
        assert_eq!(meter.look(&waiting, None, later), Verdict::Going, "the source may be at fault");
        assert_eq!(meter.look(&waiting, Some(&others), later), Verdict::Going, "it begins anew");
    }

    #[test]
    fn a_source_that_saves_to_disk_first_is_at_work() {
        let (mut meter, now) = meter();
        let waiting = info("master_link_status:down");
        for seconds in 1..200 {
            let saving = info(&format!("slave0:state=wait_bgsave rdb_current_bgsave_time_sec:{seconds}"));
            let verdict = meter.look(&waiting, Some(&saving), now + Duration::from_secs(seconds));
            assert_eq!(verdict, Verdict::Going);
        }
    }

    #[test]
    fn progress_is_told_in_bytes_and_seconds() {
        let (mut meter, now) = meter();
        let copying = |bytes: u64| {
            info(&format!(
                "master_link_status:down master_sync_total_bytes:1000 master_sync_read_bytes:{bytes}"
            ))
        };
        meter.look(&copying(1), None, now);
        meter.look(&copying(400), None, now + Duration::from_secs(4));
        let p = meter.progress();
        assert_eq!((p.bytes, p.total_bytes, p.estimated), (400, 1000, false));
        assert_eq!((p.bytes_per_second, p.seconds_left, p.ratio), (100, Some(6), 0.4));
    }

    #[test]
    fn what_is_loaded_as_it_is_read_is_copied() {
        let (mut meter, now) = meter();
        let text = "master_link_status:down loading:1 loading_total_bytes:0 loading_loaded_bytes:70";
        meter.look(&info(text), Some(&info("used_memory_dataset:140")), now);
        let p = meter.progress();
        assert_eq!((p.stage, p.bytes, p.ratio), (Stage::Copying, 70, 0.5));
    }

    #[test]
    fn the_total_is_guessed_where_the_source_does_not_tell() {
        let (mut meter, now) = meter();
        let copying = info("master_link_status:down master_sync_total_bytes:0 master_sync_read_bytes:400");
        let source = info("used_memory_dataset:1600");
        meter.look(&copying, Some(&source), now);
        let p = meter.progress();
        assert_eq!((p.bytes, p.total_bytes, p.estimated, p.ratio), (400, 1600, true, 0.25));
        meter.look(&up(1, ""), Some(&source), now);
        let p = meter.progress();
        assert_eq!((p.bytes, p.total_bytes, p.estimated, p.ratio), (400, 400, false, 1.0), "it is all there");
    }
}
