//! The log alone: appends, group commit, and rereading all of it after a restart.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use forebay::clock;
use forebay::storage::real::RealStorage;
use forebay::wal::{self, AppendError, Floor, Handle, NewFrame, Polled, Wal};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SEGMENT_BYTES: u64 = 64 << 20;

fn open(dir: &Path) -> Wal {
    let config = wal::WalConfig {
        dir: dir.join("wal"),
        segment_bytes: SEGMENT_BYTES,
        first_segment_bytes: SEGMENT_BYTES,
        prepared: 1,
        sync_interval: Duration::from_millis(200),
        sync_bytes: 8 << 20,
        unsynced_max: 1 << 30,
        max_bytes: 4 << 30,
        disk_reserve: 0,
        archive: None,
    };
    let metrics = Arc::new(wal::WalMetrics::default());
    wal::open(Arc::new(RealStorage), clock::system(), config, &Floor::default(), metrics).unwrap()
}

/// Fills a log with frames of this many bytes. Returns the time, including waits for segments.
fn fill(handle: &Handle, frame_bytes: usize, bytes: u64) -> Duration {
    let body = [Bytes::from(vec![b'x'; frame_bytes])];
    let frame = NewFrame { ts: 0, ext: &[], head: &[0; 16], body: &body };
    let started = Instant::now();
    for _ in 0..bytes / frame_bytes as u64 {
        while let Err(error) = handle.append(&frame) {
            assert!(matches!(error, AppendError::Full(_)), "{error}");
            std::thread::yield_now();
        }
    }
    started.elapsed()
}

fn close(log: Wal) {
    log.handle.close();
    log.join();
}

pub fn append(c: &mut Criterion) {
    const BYTES: u64 = 48 << 20;
    let mut group = c.benchmark_group("append");
    group.sample_size(10).throughput(Throughput::Bytes(BYTES));
    for frame_bytes in [208, 12_480, 1_000_000] {
        group.bench_function(BenchmarkId::from_parameter(frame_bytes), |b| {
            b.iter_custom(|rounds| {
                let one = |_| {
                    let dir = tempfile::tempdir().unwrap();
                    let log = open(dir.path());
                    let took = fill(&log.handle, frame_bytes, BYTES);
                    close(log);
                    took
                };
                (0..rounds).map(one).sum()
            });
        });
    }
}

/// Concurrent appends that each wait for their sync.
pub fn commit(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let mut group = c.benchmark_group("commit");
    for waiters in [1, 64] {
        group.throughput(Throughput::Elements(waiters));
        group.bench_function(BenchmarkId::from_parameter(waiters), |b| {
            b.iter(|| {
                let one = |handle: Handle| async move {
                    let body = [Bytes::from_static(&[b'x'; 208])];
                    let frame = NewFrame { ts: 0, ext: &[], head: &[0; 16], body: &body };
                    handle.synced(handle.append(&frame).unwrap()).await.unwrap();
                };
                let tasks: Vec<_> = (0..waiters).map(|_| runtime.spawn(one(log.handle.clone()))).collect();
                runtime.block_on(async {
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
            });
        });
    }
    group.finish();
    close(log);
}

/// The time from a start to readiness, and then the time to read every frame.
pub fn replay(c: &mut Criterion) {
    const BYTES: u64 = 256 << 20;
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log.handle, 12_480, BYTES);
    close(log);
    let mut group = c.benchmark_group("recovery");
    group.sample_size(10);
    group.bench_function("open", |b| {
        b.iter_custom(|rounds| {
            let one = |_| {
                let started = Instant::now();
                let log = open(dir.path());
                let took = started.elapsed();
                close(log);
                took
            };
            (0..rounds).map(one).sum()
        });
    });
    group.throughput(Throughput::Bytes(BYTES));
    group.bench_function("scan", |b| {
        b.iter_custom(|rounds| {
            let one = |_| {
                let mut log = open(dir.path());
                let mut reader = log.take_reader();
                let started = Instant::now();
                let mut bytes = 0;
                loop {
                    match reader.poll() {
                        Polled::Frame(_) => bytes += reader.frame().map_or(0, |frame| frame.payload.len()),
                        Polled::Damage(damage) => panic!("{damage:?}"),
                        Polled::Idle => break,
                    }
                }
                let took = started.elapsed();
                assert!(bytes as u64 > BYTES * 9 / 10, "{bytes}");
                close(log);
                took
            };
            (0..rounds).map(one).sum()
        });
    });
}
