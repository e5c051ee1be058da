//! `cargo bench --bench parts`: the parts in isolation, with criterion. `benches/ingest` measures the whole daemon.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "only the load generator changes events in place")]
mod common;

mod auth;
mod decode;
mod jsonnet;
mod parquet;
mod times;
mod wal;
mod xml;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    auth::identify,
    decode::check,
    decode::columns,
    decode::policies,
    jsonnet::rows,
    times::timestamp,
    parquet::write,
    wal::append,
    wal::commit,
    wal::replay,
    xml::records
);
criterion_main!(benches);
