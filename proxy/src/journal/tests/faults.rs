//! What remains after crashes, damage and full disks: never more than is there, never anything else.

use super::super::file::Opening;
use super::super::scan::Scan;
use super::*;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Copies a live journal as a crash would leave it: no write-ahead log may have begun anew meanwhile.
fn crash_image(from: &Path, to: &Path) {
    let logs = || -> Vec<(PathBuf, Vec<u8>)> {
        let salt = |path: &PathBuf| {
            fs::read(super::super::folder::wal(path)).map_or(vec![], |log| log[..log.len().min(32)].to_vec())
        };
        databases(from).into_iter().map(|path| (path.clone(), salt(&path))).collect()
    };
    loop {
        let before = logs();
        for path in databases(from) {
            for path in [path.clone(), super::super::folder::wal(&path)] {
                let _ = fs::copy(&path, to.join(path.file_name().expect("a name")));
            }
        }
        if before == logs() {
            return;
        }
        databases(to).iter().for_each(|path| super::super::folder::remove(path).expect("removed"));
    }
}

#[test]
fn a_crash_at_any_moment_keeps_what_was_reported_durable() {
    let mut rig = Rig::new();
    rig.settings.file_bytes = 400_000;
    let entries = chain(START, 1, 6_000, 300);
    let open = rig.open();
    let mut images = Vec::new();
    for (i, chunk) in entries.chunks(10).enumerate() {
        open.journal.append(chunk.to_vec());
        if i % 40 == 39 {
            let durable = open.journal.head().map_or(0, |head| head.seq);
            let dir = tempfile::tempdir().expect("a folder");
            crash_image(rig.dir.path(), dir.path());
            images.push((durable, dir));
        }
    }
    open.wait_durable(head(&entries));
    for (durable, dir) in images {
        let open = rig.open_in(dir.path());
        let found = open.all();
        assert_eq!(open.remarks, Vec::<String>::new());
        assert!(found.len() as u64 >= durable, "{} of {durable}", found.len());
        found.iter().zip(&entries).for_each(|(found, entry)| expect_equal(found, entry));
    }
}

/// This test's own program, made to run one ignored test as a process of its own.
fn child(test: &str, dir: &Path, before: &str) -> Command {
    let program = std::env::current_exe().expect("this test");
    let mut command = Command::new("sh");
    let line = format!("{before} exec \"$0\" --exact journal::tests::faults::{test} --ignored --nocapture");
    command.arg("-c").arg(line).arg(program).env("JOURNAL_DIR", dir).stdout(Stdio::piped());
    command
}

/// Runs in a child process: writes for as long as it can, and tells what happens.
#[test]
#[ignore = "the child of other tests"]
fn writes_until_it_cannot() {
    let Some(dir) = std::env::var_os("JOURNAL_DIR") else { return };
    let mut rig = Rig::new();
    (rig.settings.sync, rig.settings.file_bytes) = (SyncLevel::Full, 1 << 20);
    let open = rig.open_in(Path::new(&dir));
    let mut last = START;
    for _ in 0..1_000_000 {
        let entries = chain(last, 1, 20, 500);
        last = head(&entries);
        open.journal.append(entries);
        match open.events.recv_timeout(DEADLINE).expect("an event") {
            JournalEvent::Durable { through } => println!("\ndurable {}", through.seq),
            JournalEvent::Failed { error } => return println!("\nfailed {error}"),
            _ => {}
        }
    }
}

/// The last number that the child reported, and its last words.
fn follow(command: &mut Command, kill_after: u64) -> (u64, String) {
    let mut process = command.spawn().expect("a child");
    let output = BufReader::new(process.stdout.take().expect("its output"));
    let (mut durable, mut failed) = (0, String::new());
    for line in output.lines().map_while(Result::ok) {
        if let Some(seq) = line.strip_prefix("durable ") {
            durable = seq.parse().expect("a number");
        }
        if let Some(error) = line.strip_prefix("failed ") {
            failed = error.to_string();
        }
        if durable >= kill_after {
            // Lines that it wrote before the end are still read.
            let _ = process.kill();
        }
    }
    let _ = process.wait();
    (durable, failed)
}

fn expect_after(dir: &Path, durable: u64) {
    let open = Rig::new().open_in(dir);
    let found = open.all();
    assert_eq!(open.remarks, Vec::<String>::new());
    assert!(found.len() as u64 >= durable, "{} of {durable}", found.len());
    let entries: Vec<_> = found.into_iter().map(Arc::new).collect();
    assert_eq!(entries[0].position.seq, 1);
}

#[test]
fn a_killed_process_loses_nothing_that_it_reported() {
    for kill_after in [20, 1_000, 5_000] {
        let dir = tempfile::tempdir().expect("a folder");
        let (durable, _) = follow(&mut child("writes_until_it_cannot", dir.path(), ""), kill_after);
        assert!(durable >= kill_after);
        expect_after(dir.path(), durable);
    }
}

#[test]
fn a_write_that_the_system_refuses_is_a_failure() {
    let dir = tempfile::tempdir().expect("a folder");
    let limited = "trap '' XFSZ; ulimit -f 1200;";
    let (durable, failed) = follow(&mut child("writes_until_it_cannot", dir.path(), limited), u64::MAX);
    assert!(durable > 0, "{failed}");
    assert!(failed.contains("cannot be used") || failed.contains("disk is full"), "{failed}");
    expect_after(dir.path(), durable);
}

/// A journal of one file with a history, and the entries in it.
fn history(rig: &Rig) -> Vec<Arc<Entry>> {
    let mut entries = chain(START, 1, 60, 90);
    entries.extend(chain(head(&entries), 1, 3, 20_000));
    let open = rig.open();
    entries.chunks(7).for_each(|chunk| open.put(chunk));
    entries.truncate(50);
    entries.extend(chain(head(&entries), 2, 200, 300));
    entries[50..].chunks(9).for_each(|chunk| open.put(chunk));
    entries
}

async fn scan(path: &Path) -> Option<Span> {
    let opening = Opening { sync: SyncLevel::Normal, max_pages: 0 };
    let scan = Scan::run(&opening, vec![(1, path.to_path_buf())]).await.expect("damage is no error");
    let held = scan.files.first()?.held.as_ref()?;
    Some(held.span)
}

fn truncate(path: &Path, bytes: u64) {
    let file = fs::File::options().write(true).open(path).expect("the file");
    file.set_len(bytes).expect("truncated");
}

#[tokio::test]
async fn a_truncated_database_never_gives_a_wrong_entry() {
    let rig = Rig::new();
    let entries = history(&rig);
    let whole = rig.files().remove(0);
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("journal-g-0001.db");
    let (mut some, size) = (0, fs::metadata(&whole).expect("its size").len());
    for bytes in (0..size).step_by(512) {
        fs::copy(&whole, &copy).expect("copied");
        truncate(&copy, bytes);
        let Some(span) = scan(&copy).await else { continue };
        some += 1;
        for end in [span.oldest, span.newest] {
            assert_eq!(entries[end.seq as usize - 1].position, end, "cut at {bytes}");
        }
    }
    println!("{some} of {} cuts left something", size / 512);
    fs::copy(&whole, &copy).expect("copied");
    assert_eq!(scan(&copy).await, Some(Span { oldest: entries[0].position, newest: head(&entries) }));
}

#[tokio::test]
async fn a_truncated_log_gives_what_was_committed_before() {
    let rig = Rig::new();
    let entries = chain(START, 1, 60, 400);
    let open = rig.open();
    entries.chunks(2).for_each(|chunk| open.put(chunk));
    let image = tempfile::tempdir().expect("a folder");
    crash_image(rig.dir.path(), image.path());
    let whole = databases(image.path()).remove(0);
    let log = super::super::folder::wal(&whole);
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("journal-g-0001.db");
    let mut before = 0;
    for bytes in (0..=fs::metadata(&log).expect("its size").len()).step_by(512) {
        fs::copy(&whole, &copy).expect("copied");
        fs::copy(&log, super::super::folder::wal(&copy)).expect("copied");
        truncate(&super::super::folder::wal(&copy), bytes);
        let held = scan(&copy).await;
        let newest = held.map_or(0, |span| span.newest.seq);
        assert!(newest >= before && held.is_none_or(|span| span.oldest.seq == 1), "cut at {bytes}");
        before = newest;
    }
    assert!(before >= 58, "{before}");
}

#[test]
fn a_truncated_file_is_reported_and_the_journal_goes_on() {
    let rig = Rig::new();
    let entries = history(&rig);
    let whole = rig.files().remove(0);
    let size = fs::metadata(&whole).expect("its size").len();
    for part in 1..8 {
        let dir = tempfile::tempdir().expect("a folder");
        let copy = dir.path().join("journal-g-0001.db");
        fs::copy(&whole, &copy).expect("copied");
        truncate(&copy, size * part / 8);
        let open = rig.open_in(dir.path());
        assert!(!open.remarks.is_empty());
        for found in open.all() {
            expect_equal(&found, &entries[found.position.seq as usize - 1]);
        }
        let more = chain(head(&entries), 3, 2, 10);
        open.put(&more);
        drop(open);
        assert_eq!(rig.open_in(dir.path()).journal.head(), Some(head(&more)));
    }
}

/// Changes one byte of the last place where `what` is found.
fn flip(path: &Path, what: &[u8]) {
    let mut bytes = fs::read(path).expect("the file");
    let at = bytes.windows(what.len()).rposition(|window| window == what).expect("it is there");
    bytes[at + what.len() / 2] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn a_flipped_bit_leaves_the_run_after_it() {
    let rig = Rig::new();
    let mut entries = chain(START, 1, 20, 50);
    entries.push(entry(head(&entries), 1, vec!["here it breaks".into()]));
    entries.extend(chain(head(&entries), 1, 20, 50));
    let open = rig.open();
    entries.chunks(4).for_each(|chunk| open.put(chunk));
    drop(open);
    flip(&rig.files()[0], b"here it breaks");
    let open = rig.open();
    assert!(open.remarks[0].contains("checksum"), "{:?}", open.remarks);
    open.expect(&entries[24..]);
    let more = chain(head(&entries), 2, 3, 10);
    open.put(&more);
    drop(open);
    rig.open().expect(&[&entries[24..], &more].concat());
}

#[test]
fn a_flipped_bit_in_the_newest_row_leaves_the_run_before_it() {
    let rig = Rig::new();
    let mut entries = chain(START, 1, 20, 50);
    let open = rig.open();
    open.put(&entries);
    let last = entry(head(&entries), 1, vec!["here it breaks".into()]);
    open.put(&[last]);
    drop(open);
    flip(&rig.files()[0], b"here it breaks");
    let open = rig.open();
    open.expect(&entries);
    entries.extend(chain(head(&entries), 2, 3, 10));
    open.put(&entries[20..]);
    drop(open);
    let open = rig.open();
    open.expect(&entries);
    open.retract(21);
    drop(open);
    rig.open().expect(&entries[..20]);
}

#[test]
fn damage_while_in_use_is_reported_by_the_reader() {
    let rig = Rig::new();
    let entries = chain(START, 1, 5, 50);
    let open = rig.open();
    open.put(&entries);
    drop(open);
    let open = rig.open();
    let last = entry(head(&entries), 1, vec!["later".into()]);
    open.put(&[last]);
    flip(&rig.files()[0], &entries[3].payload[0]);
    match open.read(1, 1 << 20) {
        Err(JournalError::Corrupt { file, what }) => {
            assert_eq!(file, rig.files()[0]);
            assert!(what.contains("checksum"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(open.read(6, 1 << 20).expect("the good file").len(), 1);
}

#[test]
fn a_folder_of_rubbish_is_set_aside() {
    let rig = Rig::new();
    fs::write(rig.dir.path().join("journal-g-0007.db"), vec![0xa5; 10_000]).expect("written");
    fs::write(rig.dir.path().join("journal-g-0008.db"), "").expect("written");
    fs::write(rig.dir.path().join("journal-g-x.db"), "not ours").expect("written");
    let entries = chain(START, 1, 5, 50);
    let open = rig.open();
    assert!(open.remarks.iter().any(|remark| remark.contains("set aside")), "{:?}", open.remarks);
    open.put(&entries);
    drop(open);
    let open = rig.open();
    assert_eq!(open.remarks, Vec::<String>::new());
    open.expect(&entries);
    assert!(rig.dir.path().join("journal-g-0007.db.damaged").exists());
}

#[test]
fn a_lost_file_leaves_the_run_after_it() {
    let mut rig = Rig::new();
    rig.settings.file_bytes = 1_000;
    let entries = chain(START, 1, 40, 100);
    let open = rig.open();
    entries.chunks(10).for_each(|chunk| open.put(chunk));
    open.journal.retract(u64::MAX);
    drop(open);
    fs::remove_file(&rig.files()[1]).expect("removed");
    let open = rig.open();
    assert!(open.remarks[0].contains("entries 1 to 10 are dropped"), "{:?}", open.remarks);
    open.expect(&entries[20..]);
    fs::remove_file(&rig.files()[0]).expect("removed");
    assert_eq!(open.wait_dropped(), 30);
    open.expect(&entries[30..]);
}

#[test]
fn a_file_deleted_under_the_writer_is_a_failure() {
    for ending in ["", "-wal"] {
        let rig = Rig::new();
        let entries = chain(START, 1, 6, 50);
        let open = rig.open();
        open.put(&entries[..3]);
        let path = rig.files().remove(0);
        fs::remove_file(format!("{}{ending}", path.display())).expect("removed");
        let error = open.wait_failed();
        assert!(error.contains("removed or replaced"), "{error}");
        assert_eq!(open.wait_recovered(), 4);
        // The database alone may be whole: SQLite had the log open. Then nothing was lost.
        let held = open.journal.head().map_or(3, |_| 0);
        assert!(held == 3 || ending == "-wal");
        open.put(&entries[3..]);
        open.expect(&entries[held..]);
        drop(open);
        rig.open().expect(&entries[held..]);
    }
}

#[test]
fn a_full_disk_is_a_failure_until_there_is_room() {
    let mut rig = Rig::new();
    rig.hooks.max_pages.store(25, Ordering::Relaxed);
    rig.settings.retry = Duration::from_millis(1);
    let entries = chain(START, 1, 1_000, 1_000);
    let open = rig.open();
    // From now on the disk has no room for another file either.
    rig.hooks.max_pages.store(10, Ordering::Relaxed);
    let mut durable = 0;
    let error = loop {
        open.journal.append(entries[durable..durable + 10].to_vec());
        match open.events.recv_timeout(DEADLINE).expect("an event") {
            JournalEvent::Durable { through } => durable = through.seq as usize,
            JournalEvent::Failed { error } => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(error.contains("the disk is full"), "{error}");
    assert!(durable >= 100, "{durable}");
    open.journal.append(entries[durable + 10..durable + 20].to_vec());
    for _ in 0..100 {
        // The answers show that the journal went on trying; what it has can be read meanwhile.
        assert_eq!(open.read(1, 1 << 20).expect("entries").len(), durable);
    }
    assert_eq!(open.events.try_iter().next(), None, "one failure is told once");
    rig.hooks.max_pages.store(0, Ordering::Relaxed);
    assert_eq!(open.wait_recovered(), durable as u64 + 21);
    assert_eq!(rig.files().len(), 2, "attempts that failed leave no files");
    open.expect(&entries[..durable]);
    open.put(&entries[durable..]);
    open.expect(&entries);
}

#[test]
fn after_a_failure_the_lost_entries_can_be_appended_again() {
    let rig = Rig::new();
    rig.hooks.max_pages.store(25, Ordering::Relaxed);
    let entries = chain(START, 1, 30, 20_000);
    let open = rig.open();
    open.put(&entries[..5]);
    open.journal.append(entries[5..].to_vec());
    rig.hooks.max_pages.store(0, Ordering::Relaxed);
    assert!(open.wait_failed().contains("the disk is full"));
    assert_eq!(open.wait_recovered(), 31);
    assert_eq!(open.journal.head(), Some(entries[4].position), "nothing is claimed that was not recorded");
    open.put(&entries[5..]);
    open.expect(&entries);
    drop(open);
    rig.open().expect(&entries);
}

#[test]
fn what_was_superseded_during_a_failure_does_not_come_back() {
    let rig = Rig::new();
    rig.hooks.max_pages.store(25, Ordering::Relaxed);
    let entries = chain(START, 1, 5, 100);
    let open = rig.open();
    open.put(&entries);
    let newer = chain(entries[2].position, 2, 1, 1 << 20);
    open.journal.append(newer.clone());
    rig.hooks.max_pages.store(0, Ordering::Relaxed);
    open.wait_failed();
    assert_eq!(open.wait_recovered(), 5);
    open.expect(&entries[..3]);
    drop(open);
    rig.open().expect(&entries[..3]);
}

#[test]
fn what_an_append_left_out_supersedes_does_not_come_back() {
    let rig = Rig::new();
    rig.hooks.max_pages.store(25, Ordering::Relaxed);
    let entries = chain(START, 1, 5, 100);
    let open = rig.open();
    open.put(&entries);
    rig.hooks.max_pages.store(10, Ordering::Relaxed);
    open.journal.append(chain(head(&entries), 1, 1, 1 << 20));
    open.wait_failed();
    open.journal.append(chain(entries[2].position, 2, 1, 10));
    rig.hooks.max_pages.store(0, Ordering::Relaxed);
    assert_eq!(open.wait_recovered(), 5);
    open.expect(&entries[..3]);
}

/// The cut itself fails, on a damaged row: what follows that row was superseded too.
#[test]
fn a_cut_that_fails_is_done_on_recovery() {
    let rig = Rig::new();
    let entries = chain(START, 1, 12, 50);
    let open = rig.open();
    entries.chunks(4).for_each(|chunk| open.put(chunk));
    drop(open);
    let open = rig.open();
    flip(&rig.files()[0], &entries[6].payload[0]);
    open.journal.append(chain(entries[6].position, 2, 1, 10));
    assert!(open.wait_failed().contains("is damaged"));
    assert_eq!(open.wait_recovered(), 9);
    assert!(open.journal.span().is_none_or(|span| span.newest.seq < 8), "{:?}", open.journal.span());
}

#[test]
fn a_retraction_during_a_failure_is_done_on_recovery() {
    let mut rig = Rig::new();
    rig.hooks.max_pages.store(25, Ordering::Relaxed);
    rig.settings.retry = Duration::from_secs(3_600);
    let entries = chain(START, 1, 5, 100);
    let open = rig.open();
    open.put(&entries);
    open.journal.append(chain(head(&entries), 1, 1, 1 << 20));
    open.wait_failed();
    open.journal.retract(4);
    drop(open);
    // Never confirmed, so it need not hold: but the journal must be whole.
    rig.hooks.max_pages.store(0, Ordering::Relaxed);
    rig.settings.retry = Duration::from_millis(1);
    let open = rig.open();
    open.expect(&entries);
    fs::remove_file(&rig.files()[1]).expect("the newest, which is empty");
    open.wait_failed();
    open.retract(4);
    open.expect(&entries[..3]);
}

#[test]
fn a_queue_over_its_bound_fails_and_recovers() {
    let mut rig = Rig::new();
    rig.settings.queue_bytes = 50_000;
    let entries = chain(START, 1, 400, 5_000);
    let open = rig.open();
    entries.chunks(5).for_each(|chunk| open.journal.append(chunk.to_vec()));
    let error = open.wait("overload", |event| match event {
        JournalEvent::Failed { error } => Some(error.clone()),
        _ => None,
    });
    assert!(error.contains("cannot keep up"), "{error}");
    let from = open.wait_recovered();
    let held = open.all();
    held.iter().zip(&entries).for_each(|(found, entry)| expect_equal(found, entry));
    assert!(from as usize > held.len(), "entries were left out");
}

#[test]
fn an_unusable_folder_is_an_error_that_names_it() {
    let rig = Rig::new();
    let file = rig.dir.path().join("file");
    fs::write(&file, "").expect("written");
    let open = |dir: &Path| SqliteJournal::open(dir, "g", rig.settings.clone(), Box::new(|_| {}));
    for dir in [file.clone(), file.join("below")] {
        match open(&dir) {
            Err(error @ JournalError::Folder(..)) => assert!(error.to_string().contains("file"), "{error}"),
            other => panic!("{:?}", other.map(|(_, remarks)| remarks)),
        }
    }
    open(&rig.dir.path().join("made/when/missing")).expect("opens");
}

#[test]
fn no_second_process_writes_the_same_journal() {
    let rig = Rig::new();
    let _open = rig.open();
    let second = SqliteJournal::open(rig.dir.path(), "g", rig.settings.clone(), Box::new(|_| {}));
    assert!(matches!(second, Err(JournalError::Locked(_))));
}
