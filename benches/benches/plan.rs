//! What it costs to find the plan of a request: the look-up in the table, and the slot where
//! the table wants one.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_core::plan::{OpClass, SlotMap, Table, builtin_majority};
use quorate_core::topology::{Backend, Topology};
use quorate_wire::command::slot;
use std::hint::black_box;

/// Requests of one iteration, as in a burst of many clients.
const BURST: usize = 256;

fn topology() -> Topology {
    let backend = |name: &str| Backend::new(name, "bench", "");
    let backends = ["r1", "r2", "r3"].map(backend).to_vec();
    Topology { epoch: 1, local_zone: String::new(), slots: 16_384, backends }
}

/// The bundled shape: one plan for everything.
fn same_for_all() -> Table {
    let topology = topology();
    Table::new(&builtin_majority(&topology), &topology).expect("the built-in table fits its topology")
}

/// Two plans, alternating from slot to slot: the table must be asked for every key.
fn by_slot() -> Table {
    let topology = topology();
    let mut proposal = builtin_majority(&topology);
    proposal.plans.push(proposal.plans[0].clone());
    let each: Vec<u16> = (0..16_384).map(|slot| slot % 2).collect();
    proposal.rows = [OpClass::Read, OpClass::Write].map(|class| (class, SlotMap::Each(each.clone()))).into();
    Table::new(&proposal, &topology).expect("both outcomes name a plan")
}

/// Four reads to one write, on keys all over the slots.
fn burst() -> Vec<(OpClass, String)> {
    let request = |n: usize| {
        let class = if n.is_multiple_of(5) { OpClass::Write } else { OpClass::Read };
        (class, format!("key:{:012}", n * 7919))
    };
    (0..BURST).map(request).collect()
}

fn look_up(c: &mut Criterion) {
    let (same, by_slot, burst) = (same_for_all(), by_slot(), burst());
    let slots: Vec<(OpClass, u16)> =
        burst.iter().map(|(class, key)| (*class, slot(key.as_bytes()))).collect();
    let mut group = c.benchmark_group("plan");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("outcome_of_class", |b| {
        b.iter(|| {
            for (class, _) in &slots {
                black_box(black_box(&same).outcome_of_class(*class));
            }
        });
    });
    group.bench_function("outcome, one for all slots", |b| {
        b.iter(|| {
            for (class, slot) in &slots {
                black_box(black_box(&same).outcome(*class, *slot));
            }
        });
    });
    group.bench_function("outcome, one for each slot", |b| {
        b.iter(|| {
            for (class, slot) in &slots {
                black_box(black_box(&by_slot).outcome(*class, *slot));
            }
        });
    });
    group.bench_function("slot", |b| {
        b.iter(|| {
            for (_, key) in &burst {
                black_box(slot(black_box(key.as_bytes())));
            }
        });
    });
    group.bench_function("from key to plan, one for each slot", |b| {
        b.iter(|| {
            for (class, key) in &burst {
                let outcome = by_slot.outcome(*class, slot(black_box(key.as_bytes())));
                black_box(by_slot.plan(outcome));
            }
        });
    });
    group.finish();
}

/// Done when a policy or the topology changes, not for requests.
fn build(c: &mut Criterion) {
    let topology = topology();
    let proposal = builtin_majority(&topology);
    c.bench_function("table/build", |b| b.iter(|| Table::new(black_box(&proposal), black_box(&topology))));
}

criterion_group!(benches, look_up, build);
criterion_main!(benches);
