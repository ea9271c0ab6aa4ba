//! One row of a journal file: a batch of entries as one blob, under a checksum.
//!
//! Little endian: version u8, first u64, last u64, created u64 (ms since 1970), count u32; then per
//! entry epoch u64, seq u64, hash u64, commands u32, trim u32, dialect u8, flags u8, length u64, payload. With the
//! second flag, runs of commands that belong together follow: their count u32, and of each first u32, end u32.

use bytes::{Buf, BufMut, Bytes, TryGetError};
use quorate_core::ordered::{Entry, Position, runs_fit};
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;
const HEADER: usize = 29;
/// What an entry takes beside its payload.
pub(super) const ENTRY_HEADER: usize = 42;
const ELIDED: u8 = 1;
const WHOLE: u8 = 2;

/// A row without its number.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub first: u64,
    pub last: u64,
    /// XXH3 of the body.
    pub sum: u64,
    pub body: Vec<u8>,
}

/// A row that was read back and found whole.
#[derive(Debug)]
pub(super) struct Batch {
    /// At least one; they follow each other.
    pub entries: Vec<Entry>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

/// Is `entry` the one after `before`? Where its payload is missing, the number must do.
pub(super) fn follows(before: Position, entry: &Entry) -> bool {
    let position = entry.position;
    if entry.elided && entry.payload.iter().all(Bytes::is_empty) {
        return before.seq.checked_add(1) == Some(position.seq) && before.epoch <= position.epoch;
    }
    before.seq < u64::MAX && before.next(position.epoch, &entry.payload) == position
}

/// Writes entries as a row. There must be at least one.
pub(super) fn encode<'a>(entries: impl Iterator<Item = &'a Entry> + Clone, created_ms: u64) -> Row {
    let first = entries.clone().next().map_or(0, |entry| entry.position.seq);
    let (mut last, mut count, mut size) = (0, 0, HEADER);
    for entry in entries.clone() {
        (last, count, size) = (entry.position.seq, count + 1, size + ENTRY_HEADER + entry.len());
    }
    let mut body = Vec::with_capacity(size);
    body.put_u8(VERSION);
    body.put_u64_le(first);
    body.put_u64_le(last);
    body.put_u64_le(created_ms);
    body.put_u32_le(count);
    entries.for_each(|entry| put_entry(&mut body, entry));
    Row { first, last, sum: xxh3_64(&body), body }
}

fn put_entry(body: &mut Vec<u8>, entry: &Entry) {
    body.put_u64_le(entry.position.epoch);
    body.put_u64_le(entry.position.seq);
    body.put_u64_le(entry.position.hash);
    body.put_u32_le(entry.commands);
    body.put_u32_le(entry.trim);
    body.put_u8(entry.dialect);
    let whole = if entry.whole.is_empty() { 0 } else { WHOLE };
    body.put_u8(whole | if entry.elided { ELIDED } else { 0 });
    body.put_u64_le(entry.len() as u64);
    entry.payload.iter().for_each(|part| body.put_slice(part));
    if whole != 0 {
        body.put_u32_le(entry.whole.len() as u32);
        for run in &entry.whole {
            body.put_u32_le(run.start);
            body.put_u32_le(run.end);
        }
    }
}

/// Reads a row back; the error says what is wrong with it.
pub(super) fn decode(row: Row) -> Result<Batch, String> {
    if xxh3_64(&row.body) != row.sum {
        return Err("the checksum does not fit".into());
    }
    let mut body = Bytes::from(row.body);
    let short = |_| "it is cut short".to_string();
    if body.try_get_u8().map_err(short)? != VERSION {
        return Err("it is of an unknown version".into());
    }
    let (first, last) = (body.try_get_u64_le().map_err(short)?, body.try_get_u64_le().map_err(short)?);
    let created_ms = body.try_get_u64_le().map_err(short)?;
    let count = body.try_get_u32_le().map_err(short)? as usize;
    let mut entries: Vec<Entry> = Vec::with_capacity(count.min(body.len() / ENTRY_HEADER));
    for _ in 0..count {
        let entry = take_entry(&mut body).map_err(short)?;
        if !runs_fit(&entry.whole, entry.commands) {
            return Err(format!("entry {} holds runs of commands that it does not have", entry.position.seq));
        }
        if entries.last().is_some_and(|before| !follows(before.position, &entry)) {
            return Err(format!("entry {} does not follow the one before", entry.position.seq));
        }
        entries.push(entry);
    }
    let ends = entries.first().zip(entries.last()).map(|(a, b)| (a.position.seq, b.position.seq));
    match ends == Some((first, last)) && (first, last) == (row.first, row.last) && body.is_empty() {
        true => Ok(Batch { entries, created_ms }),
        false => Err("it does not hold the entries that it names".into()),
    }
}

fn take_entry(body: &mut Bytes) -> Result<Entry, TryGetError> {
    let epoch = body.try_get_u64_le()?;
    let seq = body.try_get_u64_le()?;
    let hash = body.try_get_u64_le()?;
    let commands = body.try_get_u32_le()?;
    let trim = body.try_get_u32_le()?;
    let dialect = body.try_get_u8()?;
    let flags = body.try_get_u8()?;
    let elided = flags & ELIDED != 0;
    let length = usize::try_from(body.try_get_u64_le()?).unwrap_or(usize::MAX);
    if length > body.len() {
        return Err(TryGetError { requested: length, available: body.len() });
    }
    let payload = if length == 0 { Vec::new() } else { vec![body.split_to(length)] };
    let whole = if flags & WHOLE != 0 { take_runs(body)? } else { Vec::new() };
    Ok(Entry { position: Position { epoch, seq, hash }, payload, commands, dialect, trim, elided, whole })
}

fn take_runs(body: &mut Bytes) -> Result<Vec<Range<u32>>, TryGetError> {
    let count = body.try_get_u32_le()?;
    (0..count).map(|_| Ok(body.try_get_u32_le()?..body.try_get_u32_le()?)).collect()
}

/// Cuts entries into rows of at most `limit` bytes, or of one entry.
pub(super) fn rows(entries: &[Arc<Entry>], created_ms: u64, limit: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (i, entry) in entries.iter().enumerate() {
        let next = ENTRY_HEADER + entry.len();
        if i > start && size + next > limit {
            rows.push(encode(entries[start..i].iter().map(Arc::as_ref), created_ms));
            (start, size) = (i, 0);
        }
        size += next;
    }
    if start < entries.len() {
        rows.push(encode(entries[start..].iter().map(Arc::as_ref), created_ms));
    }
    rows
}
