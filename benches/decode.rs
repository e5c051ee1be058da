//! What checking a record costs, against `serde_json`'s fastest way to do the same.

mod common;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::json::{BodyKind, records};
use serde::de::IgnoredAny;
use std::hint::black_box;

fn check(c: &mut Criterion) {
    for rows in [1, 60, 4800] {
        // Different bodies in turn: a branch predictor learns a body that comes again and again by heart.
        let bodies: Vec<[Bytes; 1]> =
            (0..(9600 / rows)).map(|seed| [Bytes::from(common::events(rows, seed))]).collect();
        let mut group = c.benchmark_group(format!("check/{rows}"));
        group.throughput(Throughput::Elements(rows));
        let mut next = bodies.iter().cycle();
        group.bench_function("forebay", |b| {
            b.iter(|| {
                records::check(black_box(next.next().unwrap()), BodyKind::Lines).map(|verdict| verdict.good)
            });
        });
        group.bench_function("serde_json", |b| {
            b.iter(|| {
                let [body] = black_box(next.next().unwrap());
                let utf8 = simdutf8::basic::from_utf8(body).is_ok();
                let records = serde_json::Deserializer::from_slice(body).into_iter::<IgnoredAny>();
                (utf8, records.filter(Result::is_ok).count())
            });
        });
    }
}

criterion_group!(benches, check);
criterion_main!(benches);
