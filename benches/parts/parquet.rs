//! Writing columns to a Parquet file: encoding, zstd, statistics, and the sync at the end.

use crate::common;
use bytes::Bytes;
use criterion::{Criterion, Throughput};
use forebay::batch::BodyKind;
use forebay::columns::{BodyOrigin, RowLimits, Rows};
use forebay::compactor::parquet::FileWriter;
use forebay::schema::Rules;

pub fn write(c: &mut Criterion) {
    const ROWS: u64 = 200_000;
    const BATCH: u64 = 8192;
    let limits =
        RowLimits { columns_max: 1000, received_at_column: true, lsn_column: true, record_column: true };
    let mut rows = Rows::new(&Rules::default(), limits);
    let mut batches = Vec::new();
    for seed in 0..ROWS / BATCH {
        let body = Bytes::from(common::events(BATCH, seed));
        rows.append(&body, BodyKind::Lines, BodyOrigin { lsn: seed, received_at: 0 });
        batches.push(rows.finish(1).unwrap().batch);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("parquet");
    group.sample_size(10).throughput(Throughput::Elements(ROWS / BATCH * BATCH));
    group.bench_function("write", |b| {
        b.iter(|| {
            let mut file = FileWriter::create(dir.path().join("bench.parquet"), &batches[0], false).unwrap();
            for batch in &batches {
                file.write(batch).unwrap();
            }
            file.finish(&[]).unwrap().1.bytes
        });
    });
}
