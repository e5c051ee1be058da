//! The metrics of the log: every metric whose name begins with `wal_`.

use super::{Handle, Health, WalStatus, archive};
use crate::clock::Micros;
use crate::metrics::{Gauges, Reading, SharedLatency};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

/// The counters that the log updates itself; the other values are in [`WalStatus`].
#[derive(Debug, Default)]
pub struct WalMetrics {
    pub sync_seconds: SharedLatency,
    pub sync_errors: Counter,
    pub segments_reused: Counter,
    pub archived_segments: Counter,
    pub archived_bytes: Counter,
    pub archive_expired_segments: Counter,
    pub archive_errors: Counter,
}

impl WalMetrics {
    /// Registers the counters, and the gauges that are read from the log's handle at each scrape.
    pub fn register(&self, registry: &mut Registry, handle: Handle) {
        let help = "One sync of the log";
        registry.register_with_unit("wal_sync", help, Unit::Seconds, self.sync_seconds.clone());
        for (name, help, counter) in [
            ("wal_sync_errors", "Failed syncs of the log", &self.sync_errors),
            (
                "wal_segments_reused",
                "Consumed segments reused instead of allocating new ones",
                &self.segments_reused,
            ),
            (
                "wal_archived_segments",
                "Consumed segments compressed into the archive",
                &self.archived_segments,
            ),
            ("wal_archived_bytes", "Bytes written to the archive", &self.archived_bytes),
            (
                "wal_archive_expired_segments",
                "Archived segments removed after wal.archive_retention",
                &self.archive_expired_segments,
            ),
            ("wal_archive_errors", "Failed attempts to archive a segment", &self.archive_errors),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register_collector(Box::new(Gauges(move || gauges(&handle))));
    }
}

fn gauges(handle: &Handle) -> Vec<Reading> {
    let status = handle.status();
    let reading = |name, help, value| Reading { name, help, value };
    let mut readings = vec![
        reading("wal_appended_lsn", "LSN of the last request in the log", status.appended.0 as f64),
        reading(
            "wal_durable_lsn",
            "LSN of the last request that survives power loss",
            status.durable.0 as f64,
        ),
        reading(
            "wal_unsynced_bytes",
            "Bytes in the log that are not yet synced",
            status.unsynced_bytes as f64,
        ),
        reading(
            "wal_oldest_unsynced_seconds",
            "Age of the oldest request in the log that is not yet synced",
            unsynced_for(&status, handle.now()),
        ),
        reading("wal_bytes", "Size of the log on disk", status.log_bytes as f64),
        reading("wal_segments", "Segments that hold requests", status.segments.len() as f64),
        reading("wal_prepared_segments", "Allocated segments that are ready for use", status.prepared as f64),
        reading(
            "wal_refusing",
            "1 while requests are refused for lack of room",
            f64::from(u8::from(status.refusing.is_some())),
        ),
        reading(
            "wal_poisoned",
            "1 after a sync failed and the un-synced requests could not be rewritten",
            f64::from(u8::from(status.health == Health::Poisoned)),
        ),
    ];
    readings.extend(archive_gauges(&status.archive));
    readings
}

/// Seconds; 0 if everything is synced.
fn unsynced_for(status: &WalStatus, now: Micros) -> f64 {
    let age = status.unsynced_since.map_or(0, |since| now.saturating_sub(since).max(0));
    age as f64 / 1e6
}

fn archive_gauges(archive: &archive::ArchiveStatus) -> [Reading; 4] {
    let reading = |name, help, value| Reading { name, help, value };
    [
        reading("wal_archive_bytes", "Size of the archive on disk", archive.bytes as f64),
        reading("wal_archive_segments", "Archived segments", archive.segments as f64),
        reading(
            "wal_archive_waiting_segments",
            "Consumed segments that wait to be archived",
            archive.waiting as f64,
        ),
        reading(
            "wal_archive_dropped_segments",
            "Segments removed from the archive before their retention, or never archived, since the start",
            archive.dropped.segments() as f64,
        ),
    ]
}
