//! Records: checking them, compared with `serde_json`'s fastest way to do the same, and turning them into columns,
//! compared with `arrow-json` with a given schema.

use crate::common;
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use criterion::{Criterion, Throughput};
use forebay::batch::{BodyKind, StreamId};
use forebay::columns::{BodyOrigin, RowLimits, Rows, judge};
use forebay::formats::json::records;
use forebay::schema::{Policy, Rules, Schema};
use serde::de::IgnoredAny;
use std::hint::black_box;
use std::sync::Arc;

pub fn check(c: &mut Criterion) {
    for rows in [1, 60, 4800] {
        // Alternates between bodies, because branch predictors memorize a repeated body.
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
                (utf8, records.flatten().count())
            });
        });
    }
}

pub fn columns(c: &mut Criterion) {
    const ROWS: u64 = 200_000;
    let body = common::events(ROWS, 1);
    let limits =
        RowLimits { columns_max: 1000, received_at_column: true, lsn_column: true, record_column: true };
    let mut group = c.benchmark_group("columns");
    group.sample_size(10).throughput(Throughput::Elements(ROWS));
    let chunks: Vec<&[u8]> = body.as_bytes().split_inclusive(|byte| *byte == b'\n').collect();
    let chunks: Vec<Vec<u8>> = chunks.chunks(60).map(<[&[u8]]>::concat).collect();
    group.bench_function("forebay", |b| {
        b.iter(|| {
            let mut rows = Rows::new(&Rules::default(), limits);
            let mut stored = 0;
            for (lsn, chunk) in chunks.iter().enumerate() {
                let origin = BodyOrigin { lsn: lsn as u64, received_at: 0 };
                rows.append(chunk, BodyKind::Lines, origin);
                if rows.len() >= 8192 {
                    stored += rows.finish(1).map_or(0, |batch| batch.batch.num_rows());
                }
            }
            stored + rows.finish(1).map_or(0, |batch| batch.batch.num_rows())
        });
    });
    let schema = Arc::new(arrow_schema::Schema::new(vec![
        Field::new("date", DataType::Utf8, true),
        Field::new("city", DataType::Utf8, true),
        Field::new("action", DataType::Utf8, true),
        Field::new("user_id", DataType::Int64, true),
        Field::new("session", DataType::Utf8, true),
        Field::new("url", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
        Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
    ]));
    group.bench_function("arrow-json", |b| {
        b.iter(|| {
            let reader = arrow_json::ReaderBuilder::new(schema.clone()).with_batch_size(8192);
            let batches = reader.build(body.as_bytes()).into_iter().flatten();
            batches.map(|batch| batch.map_or(0, |batch| batch.num_rows())).sum::<usize>()
        });
    });
}

/// A declared schema, compared with an inferred one, and the cost of judging records before the answer.
pub fn policies(c: &mut Criterion) {
    const ROWS: u64 = 200_000;
    let body = common::events(ROWS, 1);
    let limits =
        RowLimits { columns_max: 1000, received_at_column: true, lsn_column: true, record_column: true };
    let chunks: Vec<&[u8]> = body.as_bytes().split_inclusive(|byte| *byte == b'\n').collect();
    let chunks: Vec<Vec<u8>> = chunks.chunks(60).map(<[&[u8]]>::concat).collect();
    let schema = {
        let mut rows = Rows::new(&Rules::default(), limits);
        rows.append(&chunks[0], BodyKind::Lines, BodyOrigin { lsn: 0, received_at: 0 });
        Arc::new(Schema { version: 1, ..rows.finish(1).unwrap().schema })
    };
    let mut group = c.benchmark_group("policies");
    group.sample_size(10).throughput(Throughput::Elements(ROWS));
    for policy in [Policy::Evolve, Policy::Propose, Policy::Strict] {
        let columns = if policy == Policy::Evolve { Arc::default() } else { Arc::clone(&schema) };
        let rules = Rules { policy, schema: columns, ..Rules::default() };
        group.bench_function(policy.name(), |b| {
            b.iter(|| {
                let mut rows = Rows::new(&rules, limits);
                let mut stored = 0;
                for (lsn, chunk) in chunks.iter().enumerate() {
                    let origin = BodyOrigin { lsn: lsn as u64, received_at: 0 };
                    rows.append(chunk, BodyKind::Lines, origin);
                    if rows.len() >= 8192 {
                        stored += rows.finish(1).map_or(0, |batch| batch.batch.num_rows());
                    }
                }
                stored + rows.finish(1).map_or(0, |batch| batch.batch.num_rows())
            });
        });
    }
    let rules = Rules { policy: Policy::Strict, schema, ..Rules::default() };
    group.bench_function("judged before the answer", |b| {
        b.iter(|| {
            let judged =
                |chunk| judge(StreamId(1), &rules, chunk, BodyKind::Lines, 0).map_or(0, |j| j.stored);
            chunks.iter().map(|chunk| judged(black_box(chunk))).sum::<u64>()
        });
    });
    let bodies: Vec<[Bytes; 1]> = chunks.iter().map(|chunk| [Bytes::from(chunk.clone())]).collect();
    group.bench_function("checked before the answer", |b| {
        b.iter(|| {
            let checked = |body| records::check(body, BodyKind::Lines).map_or(0, |verdict| verdict.good);
            bodies.iter().map(|body| checked(black_box(body))).sum::<u64>()
        });
    });
}
