//! Metrics of the compactor and the publisher: every metric whose name begins with `compactor_`, and the same
//! counts under the names `ingest_events_`.

use crate::clock::Clock;
use crate::columns::{ReasonCounts, ReasonKind, RowCounts};
use crate::metrics::{Gauges, Reading, SharedLatency};
use crate::progress::Progress;
use crate::wal::Lsn;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The counters of the compactor and the publisher.
#[derive(Debug, Default)]
pub struct CompactorMetrics {
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
    pub damaged_files: Counter,
    pub remade_files: Counter,
    pub lost_rows: Counter,
    pub corrupt_frames: Counter,
    pub torn_frames: Counter,
    pub unreadable_frames: Counter,
    pub verdict_mismatches: Counter,
    pub restarts: Counter,
    pub replayed_files: Counter,
    pub replayed_rows: Counter,
}

impl CompactorMetrics {
    /// Counts the outcome of a frame's records in one stream.
    pub fn took(&self, counts: &RowCounts) {
        self.stored_rows.inc_by(counts.stored);
        self.quarantined(&counts.quarantined);
        self.ignored_fields.inc_by(counts.ignored_fields);
        self.rescued_rows.inc_by(counts.rescued);
        self.duplicate_keys.inc_by(counts.duplicate_keys);
    }

    /// Counts quarantined records by reason.
    fn quarantined(&self, counts: &ReasonCounts) {
        for kind in ReasonKind::ALL {
            let count = counts.get(kind);
            if count > 0 {
                self.quarantined_rows.get_or_create(&[("reason", kind.label())]).inc_by(count);
            }
        }
    }

    /// The counters with their names and help texts.
    fn counters(&self) -> [(&'static str, &'static str, &Counter); 19] {
        [
            ("compactor_stored_rows", "Records stored as rows", &self.stored_rows),
            (
                "compactor_ignored_fields",
                "Values ignored because they have no column, in streams with policy strict",
                &self.ignored_fields,
            ),
            ("compactor_rescued_rows", "Rows with a value in _rescued", &self.rescued_rows),
            (
                "compactor_duplicate_keys",
                "Values dropped because their key occurs again in the same object",
                &self.duplicate_keys,
            ),
            ("compactor_published_files", "Files published to the destination", &self.published_files),
            ("compactor_published_rows", "Rows in published files", &self.published_rows),
            ("compactor_published_bytes", "Bytes of published files", &self.published_bytes),
            ("compactor_publish_errors", "Failed attempts to publish a file", &self.publish_errors),
            (
                "compactor_expired_rows",
                "Rows discarded because their file was not published within staging.retention",
                &self.expired_rows,
            ),
            (
                "compactor_damaged_files",
                "Staged files found missing, unreadable or different from the register",
                &self.damaged_files,
            ),
            (
                "compactor_remade_files",
                "Damaged staged files made anew from the log or the archive",
                &self.remade_files,
            ),
            (
                "compactor_lost_rows",
                "Rows in damaged staged files that could not be made anew",
                &self.lost_rows,
            ),
            ("compactor_corrupt_frames", "Durable frames that can no longer be read", &self.corrupt_frames),
            ("compactor_torn_frames", "Frames lost in a crash before they were synced", &self.torn_frames),
            (
                "compactor_unreadable_frames",
                "Intact frames set aside because their content is unknown",
                &self.unreadable_frames,
            ),
            (
                "compactor_verdict_mismatches",
                "Frames whose outcome differs from the answer that the client received",
                &self.verdict_mismatches,
            ),
            ("compactor_replayed_files", "Files rewritten by replays", &self.replayed_files),
            ("compactor_replayed_rows", "Rows in files rewritten by replays", &self.replayed_rows),
            (
                "compactor_restarts",
                "Restarts of the compactor from the last checkpoint after an error",
                &self.restarts,
            ),
        ]
    }

    /// Registers the counters, and the gauges that read the compactor's progress at each scrape.
    pub fn register(&self, registry: &mut Registry, progress: Arc<Progress>, clock: Arc<dyn Clock>) {
        let help = "Time from opening a staged file until its publication succeeds or fails";
        registry.register_with_unit("compactor_publish", help, Unit::Seconds, self.publish_seconds.clone());
        let help = "Time from the arrival of a file's oldest record until the file is finished";
        registry.register_with_unit("compactor_ingest", help, Unit::Seconds, self.ingest_seconds.clone());
        for (name, help, counter) in self.counters() {
            registry.register(name, help, counter.clone());
        }
        let help = "Quarantined records by reason";
        registry.register("compactor_quarantined_rows", help, self.quarantined_rows.clone());
        registry.register_collector(Box::new(IngestCollector::new(self)));
        registry.register_collector(Box::new(Gauges(move || gauges(&progress, clock.as_ref()))));
    }
}

fn gauges(progress: &Progress, clock: &dyn Clock) -> Vec<Reading> {
    let compactor = &progress.compactor;
    let checkpoint = Lsn(compactor.checkpoint_lsn.load(Ordering::Relaxed));
    let oldest = compactor.oldest_open.load(Ordering::Relaxed);
    let lag = if oldest == 0 { 0.0 } else { (clock.now() - oldest).max(0) as f64 / 1e6 };
    let reading = |name, help, value| Reading { name, help, value };
    vec![
        reading(
            "compactor_checkpoint_lsn",
            "Highest LSN up to which all requests are in registered files",
            checkpoint.0 as f64,
        ),
        reading(
            "compactor_published_lsn",
            "Highest LSN up to which all requests are published",
            progress.published_through(checkpoint).0 as f64,
        ),
        reading("compactor_lag_seconds", "Age of the oldest request that is not in a registered file", lag),
        reading("compactor_staged_files", "Files waiting to be published", progress.staged_files() as f64),
        reading(
            "compactor_memory_bytes",
            "Memory held by rows and unfinished files",
            compactor.memory_bytes.load(Ordering::Relaxed) as f64,
        ),
        reading(
            "compactor_open_files",
            "Unfinished files that are open",
            compactor.open_files.load(Ordering::Relaxed) as f64,
        ),
    ]
}

/// The outcome of all records under the metric names of Imply Polaris and Apache Druid.
#[derive(Debug)]
struct IngestCollector {
    stored: Counter,
    rescued: Counter,
    quarantined: Family<[(&'static str, &'static str); 1], Counter>,
}

impl IngestCollector {
    fn new(metrics: &CompactorMetrics) -> Self {
        Self {
            stored: metrics.stored_rows.clone(),
            rescued: metrics.rescued_rows.clone(),
            quarantined: metrics.quarantined_rows.clone(),
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
            (
                "ingest_events_processed_with_errors",
                "Records stored with a value in _rescued",
                self.rescued.get(),
            ),
            (
                "ingest_events_thrown_away",
                "Records quarantined because they are too late or too early",
                thrown_away,
            ),
            ("ingest_events_unparseable", "Records quarantined for another reason", unparseable),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(count).encode(metric)?;
        }
        Ok(())
    }
}
