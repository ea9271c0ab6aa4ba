//! The bytes that clients and backends send.

use crate::stream::{Stream, Word, model, stream};
use bytes::{Bytes, BytesMut};
use quorate_core::ordered::{ByValue, Entry, Keys, Position};
use quorate_wire::command::{self, Carry, Rewritten};
use quorate_wire::resp::{
    Args, Copier, Decoder, Limits, Reserved, Scanner, TransactionReader, Value, each_command, encode, flush,
    tail,
};

/// Small, so that short streams meet them.
const SMALL: Limits = Limits { bulk: 64, args: 6, inline: 96, frame: 256 };

type Commands = Vec<Vec<Vec<u8>>>;

/// The commands of a stream that comes in pieces of these lengths, in turn; whether it ended in nonsense.
fn decoded(stream: &[u8], pieces: &[usize], limits: &Limits) -> (Commands, bool) {
    let (mut decoder, mut buf, mut found) = (Decoder::default(), Vec::new(), Vec::new());
    let (mut at, mut turn) = (0, 0);
    while at < stream.len() {
        let len = pieces[turn % pieces.len()].clamp(1, stream.len() - at);
        buf.extend_from_slice(&stream[at..at + len]);
        (at, turn) = (at + len, turn + 1);
        loop {
            let frame = match decoder.next(&buf, limits) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return (found, true),
            };
            let source = frame.inline.as_deref().unwrap_or(&buf);
            let args: Vec<Vec<u8>> = Args::new(source, decoder.spans()).from(0).map(<[u8]>::to_vec).collect();
            let bytes = frame
                .inline
                .clone()
                .map_or_else(|| Bytes::copy_from_slice(&buf[..frame.len]), BytesMut::freeze);
            assert_eq!(again(&bytes), std::slice::from_ref(&args), "what goes to a backend is one command");
            found.push(args);
            buf.drain(..frame.len);
        }
        assert!(
            decoder.spans().len() <= limits.args && decoder.wants() <= limits.frame + 3,
            "it remembers little"
        );
    }
    (found, false)
}

/// The commands of a payload.
fn again(payload: &Bytes) -> Commands {
    let mut found = Vec::new();
    let whole = each_command(payload, |_, args| found.push(args.from(0).map(<[u8]>::to_vec).collect()));
    assert!(whole, "{}", payload.escape_ascii());
    found
}

fn requests_are_those_of_a_server(stream: &[u8], pieces: &[usize]) {
    let (expected, nonsense) = model(stream, &SMALL);
    for pieces in [&[stream.len()][..], &[1], pieces] {
        assert_eq!(
            decoded(stream, pieces, &SMALL),
            (expected.clone(), nonsense),
            "{}",
            stream.escape_ascii()
        );
    }
}

#[test]
fn requests() {
    bolero::check!().for_each(|stream| requests_are_those_of_a_server(stream, &[3, 7, 1]));
}

#[test]
fn requests_that_are_nearly_right() {
    bolero::check!().with_type::<(Vec<Stream>, Vec<u8>)>().for_each(|(parts, pieces)| {
        let stream = stream(parts);
        let pieces: Vec<usize> = pieces.iter().map(|len| usize::from(*len)).chain([1]).collect();
        requests_are_those_of_a_server(&stream, &pieces);
    });
}

/// The end of the first reply, or that it is nonsense.
fn first_reply(stream: &[u8], step: usize) -> Option<Result<usize, ()>> {
    let mut scanner = Scanner::default();
    let ends = (0..stream.len()).step_by(step).chain([stream.len()]);
    ends.map(|end| scanner.next(&stream[..end])).find_map(|found| found.map_err(drop).transpose())
}

fn replies_end_where_they_end(stream: &[u8]) {
    let whole = first_reply(stream, stream.len().max(1));
    for step in [1, 3] {
        assert_eq!(first_reply(stream, step), whole, "{}", stream.escape_ascii());
    }
    let bytes = Bytes::copy_from_slice(stream);
    if Value::parse(&bytes).is_some() {
        assert_eq!(whole, Some(Ok(stream.len())), "{}", stream.escape_ascii());
    }
    let _ = Value::parse_all(&bytes);
}

/// What a transaction came to, in words.
fn transacted(stream: &[u8], step: usize, commands: &[u32]) -> String {
    let mut reader = TransactionReader::new(commands.to_vec(), 2);
    let mut buf = BytesMut::new();
    for piece in stream.chunks(step) {
        buf.extend_from_slice(piece);
        assert!(reader.at_least(buf.len()) > 0);
        match reader.read(&mut buf) {
            Ok(None) => {}
            Ok(Some(outcome)) => return format!("{outcome:?}"),
            Err(_) => return "nonsense".into(),
        }
    }
    "unfinished".into()
}

fn transactions_end_where_they_end(stream: &[u8]) {
    for commands in [&[1][..], &[2, 1], &[0, 3]] {
        let whole = transacted(stream, stream.len().max(1), commands);
        for step in [1, 5] {
            assert_eq!(transacted(stream, step, commands), whole, "{}", stream.escape_ascii());
        }
    }
}

#[test]
fn replies() {
    bolero::check!().for_each(|stream| {
        replies_end_where_they_end(stream);
        transactions_end_where_they_end(stream);
    });
}

#[test]
fn replies_that_are_nearly_right() {
    bolero::check!().with_type::<Vec<Stream>>().for_each(|parts| {
        let stream = stream(parts);
        replies_end_where_they_end(&stream);
        let stream = [&b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"[..], &stream].concat();
        transactions_end_where_they_end(&stream);
    });
}

/// Everything that is asked about a command of a client.
fn commands_are_known(words: &[&[u8]], now: u64) {
    let bytes = encode::command_bytes(words);
    each_command(&bytes, |_, args| {
        let Ok(known) = command::resolve(args) else { return };
        let carry = command::classify(known, args);
        let _ = command::op_class(known, args);
        keys_are_arguments(known, args);
        let entry = match carry {
            Carry::Rewritten(kind) => rewritten(kind, args, now),
            Carry::Waits(waits) => {
                let block = command::block(known, waits, args, now, 2);
                assert!(block.is_none_or(|block| block.keys.len() <= args.len()));
                bytes.clone()
            }
            Carry::Flush => flush::flush(&Reserved::new("g"), args).unwrap_or_else(|| bytes.clone()),
            _ => bytes.clone(),
        };
        entries_are_copied(&entry);
        for dialect in [2, 3] {
            let _ = command::frees(known, args, dialect);
        }
    });
}

fn keys_are_arguments(known: &command::Command, args: Args) {
    let (mut positions, mut keys) = (Vec::new(), Vec::new());
    command::key_positions(known, args, &mut |at| positions.push(at));
    command::keys(known, args, &mut |key| keys.push(key));
    let named: Vec<&[u8]> = positions.iter().filter_map(|at| args.get(*at)).collect();
    assert_eq!(keys, named);
    assert!(keys.len() <= args.len() && positions.iter().all(|at| *at > 0));
    assert_eq!(command::first_key(known, args), keys.first().copied());
}

/// The rewritten form, which is one command that servers take for the same one, and which stays as it is from now on.
fn rewritten(kind: command::Rewrite, args: Args, now: u64) -> Bytes {
    let form = command::rewrite(kind, args, now);
    let mut out = BytesMut::new();
    form.encode(args, &mut out);
    let out = out.freeze();
    let [words] = again(&out).try_into().expect("one command");
    if let Rewritten::Stream { id_index, .. } = form {
        assert!(id_index < words.len() && words[id_index].starts_with(b"*"));
    }
    each_command(&out, |_, args| assert!(command::resolve(args).is_ok(), "{}", out.escape_ascii()));
    let published = matches!(kind, command::Rewrite::Publish | command::Rewrite::Spublish);
    let mut messages = 0;
    command::publications(std::slice::from_ref(&out), |_| messages += 1);
    assert_eq!(messages, usize::from(published));
    out
}

/// Copying the keys of an entry takes commands that are as many as they claim.
fn entries_are_copied(entry: &Bytes) {
    let copier = Copier::new(Reserved::new("g"));
    let (mut touched, mut named) = (Keys::new(), Keys::new());
    copier.touched(std::slice::from_ref(entry), &mut touched);
    copier.named(entry, &mut named);
    assert!(touched.is_subset(&named));
    let request = copier.fetch(&touched);
    assert_eq!(again(&request.payload).len(), request.commands as usize);
    let answer = [&b"$-1\r\n"[..], &b"$4\r\ndump\r\n:-1\r\n".repeat(touched.len())].concat();
    let request = copier.store(&touched, &answer.into(), Position::default()).expect("a full answer");
    assert_eq!(again(&request.payload).len(), request.commands as usize);
}

#[test]
fn commands() {
    bolero::check!().with_type::<(u16, Vec<Word>, u64)>().for_each(|(nth, words, now)| {
        let all = command::all();
        let name = all[usize::from(*nth) % all.len()].name;
        let name: Vec<Vec<u8>> = name.split('|').map(|word| word.as_bytes().to_vec()).collect();
        let words: Vec<Vec<u8>> = name.into_iter().chain(words.iter().map(Word::bytes)).collect();
        commands_are_known(&words.iter().map(Vec::as_slice).collect::<Vec<_>>(), *now);
    });
}

#[test]
fn copies_from_any_answer() {
    bolero::check!().with_type::<(u8, Vec<Stream>)>().for_each(|(count, parts)| {
        let answer = Bytes::from(stream(parts));
        let keys: Keys = (0..count % 4).map(|n| Bytes::from(vec![n])).collect();
        let copier = Copier::new(Reserved::new("g"));
        if let Some(request) = copier.store(&keys, &answer, Position::default()) {
            assert_eq!(again(&request.payload).len(), request.commands as usize);
        }
        let _ = copier.succeeded(&answer);
        assert!(copier.deadlines(&answer, keys.len()).is_none_or(|found| found.len() == keys.len()));
    });
}

fn tail_is_believed_if_it_fits(element: &Bytes) {
    let Some(read) = tail::parse(element) else { return };
    let (position, commands, whole) = (read.position, read.commands, read.whole);
    assert!(whole.iter().all(|run| run.start < run.end && run.end <= commands), "{whole:?} of {commands}");
    assert!(whole.is_sorted_by(|a, b| a.end <= b.start), "{whole:?}");
    let elided = read.payload.is_none();
    let payload: Vec<Bytes> = read.payload.clone().into_iter().collect();
    let entry = Entry { position, payload, commands, dialect: 2, trim: 0, elided, whole: whole.clone() };
    let mut form = tail::header(&entry).into_bytes();
    form.extend(entry.payload.iter().flatten());
    let same = tail::parse(&form.into()).expect("it was written by us");
    assert_eq!(
        (same.position, same.commands, same.whole, same.payload),
        (position, commands, whole, read.payload)
    );
}

#[test]
fn tails() {
    bolero::check!().for_each(|element| tail_is_believed_if_it_fits(&Bytes::copy_from_slice(element)));
}

#[test]
fn tails_that_are_nearly_right() {
    let runs = |runs: &[(u8, u8)]| runs.iter().map(|(a, b)| format!("{a}-{b}")).collect::<Vec<_>>().join(",");
    bolero::check!().with_type::<(u64, u64, u64, u8, Vec<(u8, u8)>, bool, Vec<u8>)>().for_each(
        |(epoch, seq, hash, commands, whole, elided, payload)| {
            let position = Position { epoch: *epoch, seq: *seq, hash: *hash };
            assert_eq!(position.to_string().parse(), Ok(position));
            let whole = if whole.is_empty() { String::new() } else { format!(" whole:{}", runs(whole)) };
            let end = if *elided { " elided\n" } else { "\n" };
            let mut element = format!("{position} {commands}{whole}{end}").into_bytes();
            element.extend(payload);
            tail_is_believed_if_it_fits(&element.into());
        },
    );
}
