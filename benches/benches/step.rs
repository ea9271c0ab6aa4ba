//! What the sequencer costs, per command: bursts in, entries out, acknowledgements in, answers out.

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_core::ordered::{
    Access, Attachment, Buckets, Burst, Effects, Event, Group, GroupConfig, Now, Replies, Stamp, Submission,
};
use quorate_core::plan::{Table, builtin_majority};
use quorate_core::topology::{Backend, Topology};
use quorate_wire::resp::{Copier, Reserved};
use std::hint::black_box;
use std::sync::Arc;

struct NoStamp;

impl Stamp for NoStamp {
    fn stamp(&mut self, _: Now, command: &Bytes, out: &mut BytesMut) {
        out.extend_from_slice(command);
    }
}

const REPLICAS: usize = 3;

fn group() -> Group {
    let backend = |i: usize| Backend::new(format!("r{i}"), "g", "");
    let backends = (0..REPLICAS).map(backend).collect();
    let topology = Topology { epoch: 1, local_zone: String::new(), slots: 16_384, backends };
    let table = Table::new(&builtin_majority(&topology), &topology).expect("valid");
    let copier = Box::new(Copier::new(Reserved::new("g")));
    let mut group = Group::new(GroupConfig::new(REPLICAS, 1), table.plans(), Box::new(NoStamp), copier);
    let mut events =
        (0..REPLICAS).map(|replica| Event::Attached { replica, attachment: Attachment::default() }).collect();
    group.step(NOW, &mut events, &mut Effects::default());
    apply(&mut group, &Replies::default(), &mut Effects::default());
    group
}

const NOW: Now = Now { us: 1, unix_ms: 1 };

fn apply(group: &mut Group, replies: &Replies, fx: &mut Effects) {
    for replica in 0..REPLICAS {
        group.step(NOW, &mut vec![Event::Applied { replica, replies: vec![replies.clone()] }], fx);
    }
}

fn burst(session: u32, ticket: u64, commands: u32, payload: &Bytes, buckets: &Arc<[u16]>) -> Burst {
    Burst {
        session,
        ticket,
        commands,
        access: Access::Write,
        plan: 0,
        dialect: 2,
        stamp: false,
        everything: false,
        grows: false,
        leads: false,
        payload: payload.clone(),
        buckets: Buckets::new(buckets.clone(), 0..commands),
        timed: Vec::new(),
        arrived_us: 1,
        role: quorate_core::ordered::Role::Plain,
    }
}

fn step(c: &mut Criterion) {
    let mut bench = c.benchmark_group("step");
    for (clients, depth) in [(50u32, 1u32), (32, 16)] {
        bench.throughput(Throughput::Elements(u64::from(clients * depth)));
        bench.bench_function(format!("{clients} clients, depth {depth}, 3 replicas"), |b| {
            let mut group = group();
            let payload = Bytes::from(vec![b'x'; 110 * depth as usize]);
            let buckets: Arc<[u16]> = (0..depth as u16).collect();
            let commands = clients * depth;
            let bytes = Bytes::from(b"+OK\r\n".repeat(commands as usize));
            let ends = (1..=commands).map(|i| i * 5).collect();
            let replies = Replies { bytes, ends };
            let (mut ticket, mut fx) = (0, Effects::default());
            b.iter(|| {
                ticket += 1;
                let bursts = (0..clients).map(|s| burst(s, ticket, depth, &payload, &buckets)).collect();
                group.step(NOW, &mut vec![Event::Submit(Submission { bursts, cancels: vec![] })], &mut fx);
                apply(&mut group, &replies, &mut fx);
                assert_eq!(fx.answers.len(), clients as usize, "every burst is answered");
                black_box(&fx);
                fx.clear();
            });
        });
    }
    bench.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
