//! What finding commands and replies costs, per command.

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_wire::resp::{Decoder, Limits, Scanner, TransactionReader, encode};
use std::hint::black_box;

const COMMANDS: usize = 512;

fn sets() -> BytesMut {
    let mut stream = BytesMut::new();
    for i in 0..COMMANDS {
        let key = format!("key:{i:012}");
        encode::command([&b"SET"[..], key.as_bytes(), &[b'x'; 64]], &mut stream);
    }
    stream
}

fn decode(c: &mut Criterion) {
    let stream = sets();
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(COMMANDS as u64));
    group.bench_function("decode 512 SET of 64 bytes", |b| {
        let (mut decoder, limits) = (Decoder::default(), Limits::default());
        b.iter(|| {
            let mut at = 0;
            while let Ok(Some(frame)) = decoder.next(&stream[at..], &limits) {
                at += frame.len;
            }
            black_box(at)
        });
    });
    let replies =
        b"$64\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(COMMANDS);
    group.bench_function("scan 512 replies of 64 bytes", |b| {
        b.iter(|| {
            let (mut scanner, mut at) = (Scanner::default(), 0);
            while let Ok(Some(len)) = scanner.next(&replies[at..]) {
                at += len;
            }
            black_box(at)
        });
    });
    let mut answer = b"+OK\r\n".to_vec();
    answer.extend_from_slice(&b"+QUEUED\r\n".repeat(COMMANDS + 2));
    answer.extend_from_slice(format!("*{}\r\n", COMMANDS + 2).as_bytes());
    answer.extend_from_slice(&b"+OK\r\n".repeat(COMMANDS + 2));
    group.bench_function("read a transaction of 512", |b| {
        b.iter(|| {
            let mut reader = TransactionReader::new(vec![COMMANDS as u32], 2);
            black_box(reader.read(&mut BytesMut::from(&answer[..])))
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
