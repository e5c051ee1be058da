//! The numbers that are looked up whenever `/metrics` is read.

use crate::clock::Clock;
use crate::http::Tls;
use crate::idempotency;
use crate::metrics::Reading;
use crate::progress::Progress;
use crate::wal::{self, Health, Lsn};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The archive's part of what `/metrics` reads.
fn archive_gauges(archive: &wal::archive::Status) -> [Reading; 4] {
    let reading = |name, help, value| Reading { name, help, value };
    [
        reading("wal_archive_bytes", "Size of the archive on disk", archive.bytes as f64),
        reading("wal_archive_segments", "Archived segments", archive.segments as f64),
        reading(
            "wal_archive_waiting_segments",
            "Consumed segments that are not archived yet",
            archive.waiting as f64,
        ),
        reading(
            "wal_archive_dropped_segments",
            "Segments gone from the archive before their time, or never archived, since the start",
            archive.dropped.segments() as f64,
        ),
    ]
}

/// What `/metrics` reads at each scrape.
pub(super) fn gauges(
    wal: wal::Handle,
    progress: Arc<Progress>,
    clock: Arc<dyn Clock>,
    keys: Arc<idempotency::Index>,
    tls: Option<Arc<Tls>>,
) -> impl Fn() -> Vec<Reading> + Send + Sync + 'static {
    move || {
        let status = wal.status();
        let compactor = &progress.compactor;
        let checkpoint = Lsn(compactor.checkpoint_lsn.load(Ordering::Relaxed));
        let oldest = compactor.oldest_open.load(Ordering::Relaxed);
        let lag = if oldest == 0 { 0.0 } else { (clock.now() - oldest).max(0) as f64 / 1e6 };
        let reading = |name, help, value| Reading { name, help, value };
        let mut readings = vec![
            reading("wal_appended_lsn", "Last request in the log", status.appended.0 as f64),
            reading("wal_durable_lsn", "Last request that survives power loss", status.durable.0 as f64),
            reading(
                "compactor_checkpoint_lsn",
                "Everything up to here is in registered files",
                checkpoint.0 as f64,
            ),
            reading(
                "compactor_published_lsn",
                "Everything up to here is published",
                progress.published_through(checkpoint).0 as f64,
            ),
            reading("compactor_lag_seconds", "Age of the oldest request in no registered file", lag),
            reading(
                "compactor_staged_files",
                "Files that wait to be published",
                progress.staged_files() as f64,
            ),
            reading(
                "compactor_memory_bytes",
                "Rows and unfinished files in memory",
                compactor.memory_bytes.load(Ordering::Relaxed) as f64,
            ),
            reading(
                "compactor_open_files",
                "Unfinished files",
                compactor.open_files.load(Ordering::Relaxed) as f64,
            ),
            reading("http_idempotency_keys", "Idempotency keys that are remembered", keys.count() as f64),
            reading("wal_unsynced_bytes", "Bytes that no sync has covered", status.unsynced_bytes as f64),
            reading("wal_bytes", "Size of the log on disk", status.log_bytes as f64),
            reading("wal_segments", "Segments with requests", status.segments.len() as f64),
            reading("wal_prepared_segments", "Segments ready to be used", status.prepared as f64),
            reading(
                "wal_refusing",
                "1 while requests are refused for lack of room",
                f64::from(u8::from(status.refusing.is_some())),
            ),
            reading(
                "wal_poisoned",
                "1 after a failed sync that could not be made good",
                f64::from(u8::from(status.health == Health::Poisoned)),
            ),
        ];
        readings.extend(archive_gauges(&status.archive));
        if let Some(tls) = &tls {
            readings.push(reading(
                "http_certificate_not_after_seconds",
                "When the certificate ends, in seconds since 1970",
                tls.not_after() as f64,
            ));
            readings.push(reading(
                "http_certificate_stale",
                "1 while the files hold a certificate that cannot be used",
                f64::from(u8::from(tls.is_stale())),
            ));
        }
        readings
    }
}
