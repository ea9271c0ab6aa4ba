//! How fast it is, on this disk: `cargo test --release -p quorate --lib journal -- --ignored --nocapture`.

use super::*;

#[test]
#[ignore = "a measurement"]
fn entries_per_second() {
    for (sync, batches) in [(SyncLevel::Normal, 8_000), (SyncLevel::Full, 4_000)] {
        for window in [1, 8] {
            let mut rig = Rig::new();
            (rig.settings.sync, rig.settings.max_bytes) = (sync, 1 << 30);
            let entries = chain(START, 1, 256 * batches, 128);
            let open = rig.open();
            let start = Instant::now();
            for (i, batch) in entries.chunks(256).enumerate() {
                open.journal.append(batch.to_vec());
                if let Some(ahead) = (i + 1).checked_sub(window) {
                    let reached = entries[(ahead + 1) * 256 - 1].position.seq;
                    if open.journal.head().is_none_or(|head| head.seq < reached) {
                        open.wait("durable", |event| match event {
                            JournalEvent::Durable { through } if through.seq >= reached => Some(()),
                            _ => None,
                        });
                    }
                }
            }
            open.retract(u64::MAX);
            let took = start.elapsed();
            let rate = entries.len() as f64 / took.as_secs_f64();
            println!("{sync:?}, {window} batches of 256 in flight: {rate:.0} entries/s");
            let start = Instant::now();
            drop(open);
            println!("  closed in {:?}", start.elapsed());
            let start = Instant::now();
            let open = rig.open();
            println!("  opened {} MB in {:?}", (entries.len() * 170) >> 20, start.elapsed());
            let start = Instant::now();
            let (mut next, mut count) = (1, 0);
            loop {
                let found = open.read(next, 1 << 20).expect("entries");
                let Some(last) = found.last() else { break };
                (next, count) = (last.position.seq + 1, count + found.len());
            }
            println!("  read {count} entries in {:?}", start.elapsed());
        }
    }
}
