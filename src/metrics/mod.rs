//! Every metric, its name and its labels, once.
//!
//! What is counted on the accept path is spread over cells, one for each of a few threads, so that cores do not
//! fight for a cache line; a scrape adds them up.

use crate::columns::{ReasonCounts, ReasonKind, RowCounts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};
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

/// The cell of this thread.
fn cell() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static CELL: usize = NEXT.fetch_add(1, Ordering::Relaxed) % CELLS);
    CELL.with(|cell| *cell)
}

/// A counter for the accept path.
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

/// A histogram of durations without a lock.
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

/// A latency histogram that the registry may hold.
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

/// What the log counts by itself; the rest is in `wal::Status`.
#[derive(Debug, Default)]
pub struct Wal {
    pub sync_seconds: SharedLatency,
    pub sync_errors: Counter,
    pub segments_reused: Counter,
    pub archived_segments: Counter,
    pub archived_bytes: Counter,
    pub archive_expired_segments: Counter,
    pub archive_errors: Counter,
}

/// What evaluating mappings counts.
#[derive(Debug, Default)]
pub struct Mapping {
    pub evaluations: Counter,
    failures: Family<[(&'static str, &'static str); 1], Counter>,
    pub seconds: SharedLatency,
    pub worker_starts: Counter,
    worker_ends: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Mapping {
    pub fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&[("reason", reason)]).inc();
    }

    fn register(&self, registry: &mut Registry) {
        let help = "Requests whose columns of type path and template were evaluated, by mapping";
        registry.register("mapping_evaluations", help, self.evaluations.clone());
        let help = "Those among them that became no row, by reason";
        registry.register("mapping_failures", help, self.failures.clone());
        let help = "From the request for values to having them";
        registry.register_with_unit("mapping_evaluation", help, Unit::Seconds, self.seconds.clone());
        let help = "Processes started to evaluate templates";
        registry.register("mapping_worker_starts", help, self.worker_starts.clone());
        let help = "Processes that a template ended, by reason";
        registry.register("mapping_worker_ends", help, self.worker_ends.clone());
    }

    pub fn worker_ended(&self, reason: &'static str) {
        self.worker_ends.get_or_create(&[("reason", reason)]).inc();
    }
}

/// What the compactor and the publisher count.
#[derive(Debug, Default)]
pub struct Compactor {
    pub stored_rows: Counter,
    quarantined_rows: Family<[(&'static str, &'static str); 1], Counter>,
    pub ignored_fields: Counter,
    pub rescued_rows: Counter,
    pub duplicate_keys: Counter,
    pub published_files: Counter,
    pub published_rows: Counter,
    pub published_bytes: Counter,
    pub publish_errors: Counter,
    pub publish_seconds: SharedLatency,
    pub ingest_seconds: SharedLatency,
    pub expired_rows: Counter,
    pub corrupt_frames: Counter,
    pub torn_frames: Counter,
    pub unreadable_frames: Counter,
    pub verdict_mismatches: Counter,
    pub restarts: Counter,
    pub replayed_files: Counter,
    pub replayed_rows: Counter,
}

impl Compactor {
    /// Records put into quarantine, by reason.
    /// Counts what became of the records of a frame in one stream.
    pub fn took(&self, counts: &RowCounts) {
        self.stored_rows.inc_by(counts.stored);
        self.quarantined(&counts.quarantined);
        self.ignored_fields.inc_by(counts.ignored_fields);
        self.rescued_rows.inc_by(counts.rescued);
        self.duplicate_keys.inc_by(counts.duplicate_keys);
    }

    fn quarantined(&self, counts: &ReasonCounts) {
        for kind in ReasonKind::ALL {
            let count = counts.of(kind);
            if count > 0 {
                self.quarantined_rows.get_or_create(&[("reason", kind.label())]).inc_by(count);
            }
        }
    }
}

/// Statuses that are told apart; others count as 0.
const STATUSES: [u16; 20] =
    [0, 200, 202, 204, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 429, 431, 500, 503, 507];

/// Reasons to refuse a request.
pub const REFUSALS: [&str; 20] = [
    "malformed",
    "unauthenticated",
    "token_expired",
    "forbidden",
    "no_such_stream",
    "not_found",
    "no_such_route",
    "method_not_allowed",
    "conflict",
    "unprocessable",
    "too_many_requests",
    "length_required",
    "too_large",
    "unsupported_encoding",
    "unsupported_type",
    "too_slow",
    "full",
    "unavailable",
    "unknown_outcome",
    "internal",
];

/// What the ingest listener counts.
#[derive(Debug, Default)]
pub struct Http {
    answers: [Spread; STATUSES.len()],
    refusals: [Spread; REFUSALS.len()],
    accepted_rows: Spread,
    quarantined_rows: Spread,
    accepted_bytes: Spread,
    handshake_errors: Spread,
    connections: AtomicUsize,
    replayed_requests: Spread,
    dropped_requests: Spread,
    request_seconds: SharedLatency,
}

impl Http {
    pub fn answered(&self, status: u16, took: Duration) {
        self.count_answer(status);
        self.request_seconds.observe(took);
    }

    /// `reason` is a place in [`REFUSALS`].
    pub fn refused(&self, reason: usize) {
        self.refusals[reason].inc_by(1);
    }

    /// An answer to what did not become a request.
    pub fn turned_away(&self, status: u16, reason: usize) {
        self.count_answer(status);
        self.refused(reason);
    }

    /// A TLS handshake that failed or took too long.
    pub fn handshake_failed(&self) {
        self.handshake_errors.inc_by(1);
    }

    /// So many connections are open now.
    pub fn connections(&self, open: usize) {
        self.connections.store(open, Ordering::Relaxed);
    }

    fn count_answer(&self, status: u16) {
        let at = STATUSES.iter().position(|known| *known == status).unwrap_or(0);
        self.answers[at].inc_by(1);
    }

    /// Records of a request that are in the log now.
    pub fn appended(&self, good: u64, bad: u64, bytes: u64) {
        self.accepted_rows.inc_by(good);
        self.quarantined_rows.inc_by(bad);
        self.accepted_bytes.inc_by(bytes);
    }

    /// A request that was answered as an earlier one with its idempotency key was.
    pub fn replayed(&self) {
        self.replayed_requests.inc_by(1);
    }

    /// A request to a stream that drops what comes.
    pub fn dropped(&self) {
        self.dropped_requests.inc_by(1);
    }

    pub fn accepted_rows(&self) -> u64 {
        self.accepted_rows.get()
    }

    pub fn accepted_bytes(&self) -> u64 {
        self.accepted_bytes.get()
    }
}

/// Encodes [`Http`], which is not made of the registry's own types.
#[derive(Debug)]
struct HttpCollector(Arc<Http>);

impl Collector for HttpCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Answers of the ingest listener by status";
        let mut family = encoder.encode_descriptor("http_responses", help, None, MetricType::Counter)?;
        for (status, count) in STATUSES.iter().zip(&self.0.answers).filter(|(_, count)| count.get() > 0) {
            ConstCounter::new(count.get())
                .encode(family.encode_family(&[("status", status.to_string())])?)?;
        }
        let help = "Refused requests by reason";
        let mut family = encoder.encode_descriptor("http_refusals", help, None, MetricType::Counter)?;
        for (reason, count) in REFUSALS.iter().zip(&self.0.refusals) {
            ConstCounter::new(count.get()).encode(family.encode_family(&[("reason", *reason)])?)?;
        }
        for (name, help, count) in [
            ("http_accepted_rows", "Records accepted as good", &self.0.accepted_rows),
            ("http_quarantined_rows", "Records accepted for quarantine", &self.0.quarantined_rows),
            ("http_accepted_bytes", "Bytes of accepted bodies, decompressed", &self.0.accepted_bytes),
            ("http_handshake_errors", "TLS handshakes that failed", &self.0.handshake_errors),
            (
                "http_replayed_requests",
                "Repeats of a request with the same idempotency key",
                &self.0.replayed_requests,
            ),
            ("http_dropped_requests", "Requests to streams that drop what comes", &self.0.dropped_requests),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count.get()).encode(metric)?;
        }
        let help = "Open connections of the ingest listener";
        let metric = encoder.encode_descriptor("http_connections", help, None, MetricType::Gauge)?;
        ConstGauge::new(self.0.connections.load(Ordering::Relaxed) as f64).encode(metric)?;
        Ok(())
    }
}

/// What became of all records, in the words of those who come from Imply Polaris or Apache Druid.
#[derive(Debug)]
struct IngestCollector {
    stored: Counter,
    rescued: Counter,
    quarantined: Family<[(&'static str, &'static str); 1], Counter>,
}

impl IngestCollector {
    fn of(compactor: &Compactor) -> Self {
        Self {
            stored: compactor.stored_rows.clone(),
            rescued: compactor.rescued_rows.clone(),
            quarantined: compactor.quarantined_rows.clone(),
        }
    }
}

impl Collector for IngestCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let of = |kind: ReasonKind| {
            self.quarantined.get(&[("reason", kind.label())]).map_or(0, |counter| counter.get())
        };
        let thrown_away = of(ReasonKind::Late) + of(ReasonKind::Early);
        let unparseable = ReasonKind::ALL.into_iter().map(of).sum::<u64>() - thrown_away;
        for (name, help, count) in [
            ("ingest_events_processed", "Records stored", self.stored.get()),
            ("ingest_events_processed_with_errors", "Of them, with a value put aside", self.rescued.get()),
            ("ingest_events_thrown_away", "Records kept aside as too late or too early", thrown_away),
            ("ingest_events_unparseable", "Records kept aside for another reason", unparseable),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(metric)?;
        }
        Ok(())
    }
}

/// A number read when it is asked for.
pub struct Reading {
    pub name: &'static str,
    pub help: &'static str,
    pub value: f64,
}

/// Reads a group of numbers at each scrape.
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

fn register_latencies(registry: &mut Registry, http: &Http, wal: &Wal, compactor: &Compactor) {
    for (name, help, latency) in [
        ("http_request", "From the request's head to the answer", &http.request_seconds),
        ("wal_sync", "One sync of the log", &wal.sync_seconds),
        (
            "compactor_publish",
            "From opening a staged file to seeing it published or failing",
            &compactor.publish_seconds,
        ),
        (
            "compactor_ingest",
            "From the arrival of a file's oldest record to the end of the file",
            &compactor.ingest_seconds,
        ),
    ] {
        registry.register_with_unit(name, help, Unit::Seconds, latency.clone());
    }
}

/// All metrics, as `/metrics` shows them.
pub fn registry(
    http: &Arc<Http>,
    wal: &Wal,
    compactor: &Compactor,
    mapping: &Mapping,
    gauges: impl Fn() -> Vec<Reading> + Send + Sync + 'static,
) -> Registry {
    let mut registry = Registry::with_prefix("forebay");
    register_latencies(&mut registry, http, wal, compactor);
    registry.register_collector(Box::new(HttpCollector(Arc::clone(http))));
    for (name, help, counter) in [
        ("wal_sync_errors", "Failed syncs of the log", &wal.sync_errors),
        ("wal_segments_reused", "Segments written again instead of allocated", &wal.segments_reused),
        ("wal_archived_segments", "Consumed segments compressed into the archive", &wal.archived_segments),
        ("wal_archived_bytes", "Bytes written to the archive", &wal.archived_bytes),
        (
            "wal_archive_expired_segments",
            "Archived segments removed after wal.archive_retention",
            &wal.archive_expired_segments,
        ),
        ("wal_archive_errors", "Failed attempts to archive a segment", &wal.archive_errors),
        ("compactor_stored_rows", "Records turned into rows", &compactor.stored_rows),
        (
            "compactor_ignored_fields",
            "Values without a column in streams whose policy is strict",
            &compactor.ignored_fields,
        ),
        ("compactor_rescued_rows", "Rows with a value in _rescued", &compactor.rescued_rows),
        (
            "compactor_duplicate_keys",
            "Values dropped because their key came again",
            &compactor.duplicate_keys,
        ),
        ("compactor_published_files", "Files made visible at the destination", &compactor.published_files),
        ("compactor_published_rows", "Rows in them", &compactor.published_rows),
        ("compactor_published_bytes", "Bytes of them", &compactor.published_bytes),
        ("compactor_publish_errors", "Failed attempts to publish a file", &compactor.publish_errors),
        ("compactor_expired_rows", "Rows given up after staging.retention", &compactor.expired_rows),
        (
            "compactor_corrupt_frames",
            "Durable frames that cannot be read any more",
            &compactor.corrupt_frames,
        ),
        ("compactor_torn_frames", "Frames lost before they were synced", &compactor.torn_frames),
        (
            "compactor_unreadable_frames",
            "Frames put aside because their content is unknown",
            &compactor.unreadable_frames,
        ),
        (
            "compactor_verdict_mismatches",
            "Frames judged differently than they were answered",
            &compactor.verdict_mismatches,
        ),
        ("compactor_replayed_files", "Files made anew by replays", &compactor.replayed_files),
        ("compactor_replayed_rows", "Rows in them", &compactor.replayed_rows),
        (
            "compactor_restarts",
            "Starts of the compactor from the last checkpoint after an error",
            &compactor.restarts,
        ),
    ] {
        registry.register(name, help, counter.clone());
    }
    let help = "Records put into quarantine by reason";
    registry.register("compactor_quarantined_rows", help, compactor.quarantined_rows.clone());
    mapping.register(&mut registry);
    registry.register_collector(Box::new(IngestCollector::of(compactor)));
    registry.register_collector(Box::new(Gauges(gauges)));
    registry
}
