//! Fuzz targets of a journal's rows: what is read back is what was written, or nothing.

use super::super::batch::{self, Row};
use bolero::TypeGenerator;
use bytes::Bytes;
use quorate_core::ordered::{Entry, Position, runs_fit};
use xxhash_rust::xxh3::xxh3_64;

/// An entry's own part; its position follows from the one before.
#[derive(Debug, Clone, TypeGenerator)]
struct Written {
    newer: bool,
    payload: Vec<u8>,
    commands: u8,
    dialect: u8,
    trim: u32,
    elided: bool,
    run: Option<(u8, u8)>,
}

fn row(written: &[Written], seq: u64, created_ms: u64) -> Option<Row> {
    let mut before = Position { epoch: 1, seq, hash: 7 };
    let mut entries = Vec::new();
    for entry in written {
        let payload =
            if entry.payload.is_empty() { vec![] } else { vec![Bytes::from(entry.payload.clone())] };
        let commands = u32::from(entry.commands);
        let whole: Vec<_> = entry.run.iter().map(|(a, b)| u32::from(*a)..u32::from(*b)).collect();
        let whole = if runs_fit(&whole, commands) { whole } else { vec![] };
        before = before.next(before.epoch + u64::from(entry.newer), &payload);
        let (dialect, trim, elided) = (entry.dialect, entry.trim, entry.elided);
        entries.push(Entry { position: before, payload, commands, dialect, trim, elided, whole });
    }
    (!entries.is_empty()).then(|| batch::encode(entries.iter(), created_ms))
}

/// Whatever is believed would be written the same again.
fn believed_only_if_whole(row: Row) -> bool {
    let (first, last, body) = (row.first, row.last, row.body.clone());
    let Ok(read) = batch::decode(row) else { return false };
    assert!(read.entries.windows(2).all(|pair| batch::follows(pair[0].position, &pair[1])));
    assert!(read.entries.iter().all(|entry| runs_fit(&entry.whole, entry.commands)));
    let again = batch::encode(read.entries.iter(), read.created_ms);
    assert_eq!((again.first, again.last, again.body), (first, last, body));
    true
}

/// As a disk may have it: some bytes changed, the end lost.
fn spoil(body: &mut Vec<u8>, changes: &[(u16, u8)], lost: u8) {
    for (at, byte) in changes {
        let at = usize::from(*at) % body.len();
        body[at] = *byte;
    }
    body.truncate(body.len().saturating_sub(usize::from(lost)).max(1));
}

#[test]
fn rows() {
    bolero::check!().for_each(|body| {
        let number =
            |at: usize| body.get(at..at + 8).map_or(0, |n| u64::from_le_bytes(n.try_into().expect("eight")));
        // The checksum fits: only what it says can be wrong.
        believed_only_if_whole(Row {
            first: number(1),
            last: number(9),
            sum: xxh3_64(body),
            body: body.to_vec(),
        });
    });
}

#[test]
fn rows_that_are_nearly_right() {
    type Spoilt = (Vec<(u16, u8)>, u8, bool);
    bolero::check!().with_type::<(Vec<Written>, u32, u64, Spoilt)>().for_each(
        |(written, seq, created, spoilt)| {
            let Some(row) = row(written, u64::from(*seq), *created) else { return };
            assert!(believed_only_if_whole(row.clone()));
            let (changes, lost, sum_fits) = spoilt;
            let mut torn = row.clone();
            spoil(&mut torn.body, changes, *lost);
            let changed = torn.body != row.body;
            if *sum_fits {
                torn.sum = xxh3_64(&torn.body);
                believed_only_if_whole(torn);
            } else {
                assert_eq!(believed_only_if_whole(torn), !changed);
            }
        },
    );
}
