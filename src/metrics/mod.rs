//! Building blocks of metrics. Each module defines its own metrics, with names and labels, in its `metrics.rs`; this
//! module knows none of them.
//!
//! Counters of the accept path are spread over cells that few threads share, so that cores do not contend for a cache
//! line. A scrape adds the cells up.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Upper bounds of the latency histograms, in microseconds.
const BOUNDS_MICROS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000, 30_000_000,
];
const CELLS: usize = 8;

/// The cell that this thread counts in.
fn cell() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static CELL: usize = NEXT.fetch_add(1, Ordering::Relaxed) % CELLS);
    CELL.with(|cell| *cell)
}

/// A counter for the accept path, spread over cells.
#[derive(Debug, Default)]
pub struct Spread([Padded; CELLS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

impl Spread {
    pub fn inc_by(&self, n: u64) {
        self.0[cell()].0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

/// A lock-free histogram of durations.
#[derive(Debug, Default)]
pub struct Latency([LatencyCell; CELLS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct LatencyCell {
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Latency {
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        let cell = &self.0[cell()];
        cell.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        cell.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let count =
            |at: usize| self.0.iter().map(|cell| cell.buckets[at].load(Ordering::Relaxed)).sum::<u64>();
        let buckets: Vec<(f64, u64)> = bounds.enumerate().map(|(at, bound)| (bound, count(at))).collect();
        let nanos = self.0.iter().map(|cell| cell.sum_nanos.load(Ordering::Relaxed)).sum();
        let total = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(
            Duration::from_nanos(nanos).as_secs_f64(),
            total,
            &buckets,
            None,
        )
    }
}

/// A latency histogram that can be registered.
#[derive(Debug, Clone, Default)]
pub struct SharedLatency(Arc<Latency>);

impl std::ops::Deref for SharedLatency {
    type Target = Latency;

    fn deref(&self) -> &Latency {
        &self.0
    }
}

impl TypedMetric for SharedLatency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for SharedLatency {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A gauge value that is read at each scrape.
pub struct Reading {
    pub name: &'static str,
    pub help: &'static str,
    pub value: f64,
}

/// A group of gauges that are read at each scrape.
pub struct Gauges<F>(pub F);

impl<F> fmt::Debug for Gauges<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl<F: Fn() -> Vec<Reading> + Send + Sync + 'static> Collector for Gauges<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Reading { name, help, value } in (self.0)() {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

/// An empty registry for `/metrics`; each module registers its own metrics.
pub fn registry() -> Registry {
    Registry::with_prefix("forebay")
}
