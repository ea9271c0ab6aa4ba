//! What is recorded, taken back, and dropped.

use super::*;

#[test]
fn every_kind_of_entry_comes_back_as_it_was() {
    let rig = Rig::new();
    let barrier = entry(START, 1, vec![]);
    let sliced = entry(barrier.position, 1, vec!["SET a ".into(), "1".into(), "".into(), "GET a".into()]);
    let large = entry(sliced.position, 1, vec![vec![b'x'; 300_000].into()]);
    let elided = |before: Position, payload: Vec<Bytes>| {
        let whole = entry(before, 1, vec!["too large".into()]);
        Arc::new(Entry { payload, elided: true, commands: 1, ..(*whole).clone() })
    };
    let kept = elided(large.position, vec!["too large".into()]);
    let missing = elided(kept.position, vec![]);
    let whole = entry(missing.position, 2, vec!["INCR a".into(), "INCR b".into()]);
    let whole = Arc::new(Entry { whole: vec![0..1, 1..2], commands: 2, ..(*whole).clone() });
    let last = entry(whole.position, 2, vec!["DEL a".into()]);
    let entries = [barrier, sliced, large, kept, missing, whole, last];
    let open = rig.open();
    assert_eq!(open.journal.span(), None);
    open.put(&entries[..3]);
    open.put(&entries[3..]);
    open.expect(&entries);
    drop(open);
    let open = rig.open();
    assert_eq!(open.remarks, Vec::<String>::new());
    open.expect(&entries);
}

#[test]
fn a_read_is_bounded_but_gives_at_least_one() {
    let rig = Rig::new();
    let entries = chain(START, 1, 10, 100);
    let open = rig.open();
    open.put(&entries);
    assert_eq!(open.read(3, 1).expect("one").len(), 1);
    assert_eq!(open.read(3, 250).expect("two").len(), 2);
    assert_eq!(open.read(3, 1 << 20).expect("the rest").len(), 8);
    assert!(open.read(11, 1 << 20).expect("nothing newer").is_empty());
    assert!(matches!(open.read(0, 1), Err(JournalError::Gone { oldest: Some(1) })));
}

#[test]
fn an_empty_journal_has_nothing_and_says_so() {
    let rig = Rig::new();
    let open = rig.open();
    assert!(matches!(open.read(1, 1), Err(JournalError::Gone { oldest: None })));
    open.retract(1);
    drop(open);
    drop(rig.open());
    assert_eq!(rig.files().len(), 1, "the empty file of the first run is gone");
}

/// Every way to replace entries: within a queue, a row, a file, across files, at the very beginning.
#[test]
fn a_reused_number_supersedes_what_follows_it() {
    for keep in [0, 1, 7, 8, 16, 19, 20, 29] {
        for file_bytes in [1, 1_000, 1 << 20] {
            let mut rig = Rig::new();
            rig.settings.file_bytes = file_bytes;
            let mut entries = chain(START, 1, 30, 50);
            let open = rig.open();
            entries.chunks(8).for_each(|chunk| open.put(chunk));
            entries.truncate(keep);
            entries.extend(chain(head(&entries), 2, 3, 40));
            open.put(&entries[keep..]);
            open.expect(&entries);
            drop(open);
            let open = rig.open();
            open.expect(&entries);
            assert_eq!(open.remarks, Vec::<String>::new(), "keep {keep}, files of {file_bytes}");
        }
    }
}

#[test]
fn a_retraction_lasts() {
    for from in [1, 5, 9, 10, 30, 31] {
        let mut rig = Rig::new();
        rig.settings.file_bytes = 1_000;
        let entries = chain(START, 1, 30, 50);
        let open = rig.open();
        entries.chunks(4).for_each(|chunk| open.put(chunk));
        open.retract(from);
        let kept = &entries[..from as usize - 1];
        open.expect(kept);
        drop(open);
        let open = rig.open();
        open.expect(kept);
        let more = chain(head(kept), 1, 2, 10);
        open.put(&more);
        open.expect(&[kept, &more].concat());
    }
}

/// A model kept in a vector, and the journal, must agree after any sequence of operations.
#[test]
fn any_sequence_of_operations_leaves_what_the_model_says() {
    for seed in 1..=12_u64 {
        let mut rig = Rig::new();
        rig.settings.file_bytes = 3_000;
        let mut dice = Dice(seed);
        let mut model: Vec<Arc<Entry>> = Vec::new();
        let mut open = rig.open();
        for epoch in 1..60 {
            let cut = model.len() - (dice.roll(model.len() as u64 + 1) as usize).min(model.len());
            match dice.roll(8) {
                0 => model.truncate(cut.max(1)),
                1 => {
                    drop(open);
                    open = rig.open();
                    assert_eq!(open.remarks, Vec::<String>::new());
                    continue;
                }
                2 => {
                    open.journal.retract(cut.max(1) as u64 + 1);
                    model.truncate(cut.max(1));
                    continue;
                }
                3 => open.expect_after_flush(&model),
                _ => {}
            }
            let from = model.len();
            model.extend(chain(head(&model), epoch, 1 + dice.roll(9) as usize, dice.roll(200) as usize));
            open.journal.append(model[from..].to_vec());
        }
        open.expect_after_flush(&model);
    }
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

impl Open {
    fn expect_after_flush(&self, entries: &[Arc<Entry>]) {
        self.flush();
        self.expect(entries);
    }

    /// Waits until everything asked before is done: files are dropped after a commit was told.
    pub(super) fn flush(&self) {
        self.retract(u64::MAX);
        self.retract(u64::MAX);
    }
}

#[test]
fn what_does_not_follow_drops_what_was_before() {
    let rig = Rig::new();
    let open = rig.open();
    open.put(&chain(START, 1, 5, 10));
    let later = chain(Position { epoch: 3, seq: 20, hash: 9 }, 3, 4, 10);
    open.journal.append(later.clone());
    assert_eq!(open.wait_dropped(), 20);
    open.expect(&later);
    assert!(matches!(open.read(5, 1), Err(JournalError::Gone { oldest: Some(21) })));
    drop(open);
    rig.open().expect(&later);
}

#[test]
fn released_files_are_deleted() {
    let mut rig = Rig::new();
    rig.settings.file_bytes = 1_000;
    let entries = chain(START, 1, 100, 100);
    let open = rig.open();
    entries.chunks(10).for_each(|chunk| open.put(chunk));
    open.flush();
    let before = rig.files().len();
    assert!(before >= 10, "{before} files");
    open.journal.release(55);
    open.flush();
    assert_eq!(rig.files().len(), before - 5);
    open.expect(&entries[50..]);
    drop(open);
    let open = rig.open();
    assert_eq!(open.remarks, Vec::<String>::new());
    open.expect(&entries[50..]);
    assert!(open.events.try_iter().next().is_none(), "what is released is not told as dropped");
}

/// While somebody writes without a pause, too.
#[test]
fn the_write_ahead_log_begins_again_at_its_start() {
    let mut rig = Rig::new();
    (rig.settings.file_bytes, rig.settings.max_bytes) = (1 << 30, 4 << 30);
    let entries = chain(START, 1, 4_000, 64 << 10);
    let open = rig.open();
    let begun_again = entries.iter().position(|entry| {
        open.put(std::slice::from_ref(entry));
        times_begun_again(&rig.files()[0]) > 0
    });
    open.expect(&entries[..=begun_again.expect("250 MB do without a new start")]);
}

/// The header of a write-ahead log counts how often it was begun again.
fn times_begun_again(file: &Path) -> u32 {
    let log = std::fs::File::open(crate::journal::folder::wal(file)).expect("a log");
    let mut count = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&log, &mut count, 12).expect("a header");
    u32::from_be_bytes(count)
}

#[test]
fn too_many_bytes_drop_the_oldest() {
    let mut rig = Rig::new();
    (rig.settings.file_bytes, rig.settings.max_bytes) = (2_000, 6_000);
    let entries = chain(START, 1, 200, 100);
    let open = rig.open();
    entries.chunks(5).for_each(|chunk| open.put(chunk));
    open.flush();
    let through = open.journal.span().expect("some").oldest.seq - 1;
    assert!((130..=190).contains(&through), "{through}");
    open.expect(&entries[through as usize..]);
    drop(open);
    rig.open().expect(&entries[through as usize..]);
}

#[test]
fn the_drop_by_bytes_is_told() {
    let mut rig = Rig::new();
    (rig.settings.file_bytes, rig.settings.max_bytes) = (2_000, 4_000);
    let open = rig.open();
    open.journal.append(chain(START, 1, 100, 100));
    assert_eq!(open.wait_dropped(), 100);
    assert_eq!(open.journal.span(), None);
    assert!(matches!(open.read(100, 1), Err(JournalError::Gone { oldest: None })));
}

#[test]
fn old_age_drops_but_the_chain_goes_on() {
    let mut rig = Rig::new();
    rig.settings.max_age = Duration::from_secs(10);
    let entries = chain(START, 1, 6, 10);
    let open = rig.open();
    open.put(&entries[..2]);
    rig.now_ms.fetch_add(10_001, Ordering::Relaxed);
    assert_eq!(open.wait_dropped(), 2);
    open.put(&entries[2..]);
    open.expect(&entries[2..]);
    rig.now_ms.fetch_add(9_999, Ordering::Relaxed);
    drop(open);
    rig.open().expect(&entries[2..]);
}

#[test]
fn a_closed_journal_answers() {
    let rig = Rig::new();
    let open = rig.open();
    let entries = chain(START, 1, 3, 10);
    open.journal.append(entries.clone());
    let (sender, answer) = channel();
    open.journal.read(1, 100, Box::new(move |result| drop(sender.send(result))));
    drop(open.journal);
    assert_eq!(answer.recv_timeout(DEADLINE).expect("an answer").expect("entries").len(), 3);
    rig.open().expect(&entries);
}
