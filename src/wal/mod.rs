//! The write-ahead log: memory-mapped, preallocated segments of CRC-framed, numbered requests.
//!
//! `docs/wal-format.md` defines the bytes; this module implements the protocol. One mutex ([`append`]) assigns LSNs
//! and disjoint ranges; copying happens outside of it. One thread ([`sync`]) makes ranges durable for all waiters at
//! once; another ([`prepare`]) keeps allocated segments ready, so that an append never waits for the file system; a
//! third ([`archive`]) compresses consumed segments. A [`WalReader`] follows the durable mark, and [`FrameHistory`]
//! rereads frames that it has already read. Payloads are opaque to this module.
//!
//! Invariants, cited by number elsewhere:
//! - **W1** 202 is answered only if `lsn <= appended`, 200 only if `lsn <= durable`; readers see `lsn <= durable`.
//! - **W2** `checkpoint <= durable <= appended`, and none of them ever shrinks.
//! - **W3** The bytes of a sealed segment never change.
//! - **W4** A segment is removed only after a synced checkpoint covers its last LSN.
//! - **W5** A frame is valid if and only if it meets the list in `docs/wal-format.md`.
//! - **W6** After a failed sync, nothing in that segment is acknowledged again.
//! - **W8** Unreadable bytes are quarantined, never deleted.

mod append;
pub mod archive;
mod durable;
mod evidence;
pub mod format;
mod frames;
mod handle;
pub mod inspect;
mod lsn;
mod marks;
mod metrics;
mod past;
mod prepare;
mod reader;
mod recovery;
mod rescue;
pub mod salvage;
mod segment;
mod sync;
#[cfg(test)]
mod tests;

pub use append::{AppendError, Full, NewFrame};
pub use durable::{Durable, Health, SyncError};
pub use handle::{Handle, SegmentStatus, WalStatus};
pub use lsn::{Lsn, LsnRange, SegmentId};
pub use metrics::WalMetrics;
pub use past::{FrameHistory, PastFrame, PastFrames, Whereabouts};
pub use reader::{Damage, Polled, WalReader};
pub use recovery::{Floor, RecoveryReport, WalOpenError};

use crate::clock::Clock;
use crate::error::IoError;
use crate::storage::Storage;
use append::Tail;
use archive::Archive;
use marks::MarkWriter;
use parking_lot::{Condvar, Mutex};
use prepare::SegmentPool;
use segment::Segments;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;
use sync::SyncWanted;
use tokio::sync::{Notify, watch};

/// How far a start may lag behind the highest LSN ever assigned without reusing an LSN: more requests than the
/// un-synced bytes can hold.
const LSN_SKIP: u64 = 1 << 24;
/// The same if a segment was quarantined unread: more than a million requests a second for a week.
const LSN_SKIP_UNREAD: u64 = 1 << 40;

#[derive(Debug, Clone)]
pub struct WalConfig {
    pub dir: PathBuf,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Size of the first segment of a start; the start waits for its allocation.
    pub first_segment_bytes: u64,
    /// How many segments are kept allocated ahead of use.
    pub prepared: usize,
    /// The longest time that an appended frame stays un-synced.
    pub sync_interval: Duration,
    /// Un-synced bytes that trigger a sync before the interval is over.
    pub sync_bytes: u64,
    /// Un-synced bytes at which appends are refused: the disk is slower than the clients.
    pub unsynced_max: u64,
    /// The log's size at which appends are refused.
    pub max_bytes: u64,
    /// Disk space kept free for staging and the catalog.
    pub disk_reserve: u64,
    /// Where consumed segments are archived; `None`: they are not.
    pub archive: Option<archive::ArchiveConfig>,
}

/// The state that the handle, the reader and the threads share.
struct Shared {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    config: WalConfig,
    wal_uuid: [u8; 16],
    tail: Mutex<Tail>,
    segments: Segments,
    marks: Mutex<MarkWriter>,
    pool: Mutex<SegmentPool>,
    archive: Archive,
    prepare_wanted: Condvar,
    sync_wanted: Mutex<SyncWanted>,
    sync_signal: Condvar,
    durable: watch::Sender<Durable>,
    /// Earlier starts assigned the LSNs up to here.
    recovered_last: Lsn,
    /// The un-synced frames were rewritten once, after a failed sync.
    rescued: AtomicBool,
    /// Notified when an append that was refused for lack of room may succeed.
    space: Notify,
    metrics: Arc<WalMetrics>,
}

impl Shared {
    fn pool_dir(&self) -> PathBuf {
        self.config.dir.join("pool")
    }

    fn segment_path(&self, id: SegmentId) -> PathBuf {
        self.config.dir.join(format::segment_name(id))
    }

    fn quarantine_dir(&self) -> PathBuf {
        quarantine_dir(&self.config.dir)
    }
}

fn quarantine_dir(dir: &Path) -> PathBuf {
    dir.join("quarantine")
}

/// An open log: its handle and reader for the rest of the daemon, and the threads to join at shutdown.
pub struct Wal {
    pub handle: Handle,
    reader: Option<WalReader>,
    pub report: RecoveryReport,
    threads: Vec<JoinHandle<()>>,
}

/// Whether the directories of a log hold anything of one: segments, marks or archived segments.
pub fn exists(storage: &dyn Storage, config: &WalConfig) -> Result<bool, IoError> {
    let archive = config.archive.as_ref().map(|archive| &archive.dir);
    for dir in std::iter::once(&config.dir).chain(archive).filter(|dir| dir.is_dir()) {
        let is_one = |name: &String| {
            format::parse_segment_name(name).is_some()
                || marks::is_name(name)
                || archive::format::SegmentName::parse(name).is_some()
        };
        if storage.list(dir)?.iter().any(is_one) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Recovers the log in `config.dir` (or creates one) and opens it for appending, with its threads running.
pub fn open(
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    config: WalConfig,
    floor: &Floor,
    metrics: Arc<WalMetrics>,
) -> Result<Wal, WalOpenError> {
    let (shared, report) = open_shared(storage, clock, config, floor, metrics)?;
    let mut threads = Vec::new();
    let jobs = [
        ("wal-sync", sync::run as fn(&Shared)),
        ("wal-prepare", prepare::run),
        ("wal-archive", archive::run),
    ];
    let archives = shared.config.archive.is_some();
    for (name, run) in jobs.into_iter().filter(|(name, _)| archives || *name != "wal-archive") {
        let shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
        threads.push(thread.map_err(WalOpenError::Thread)?);
    }
    let reader = Some(WalReader::new(Arc::clone(&shared), report.consumed));
    Ok(Wal { handle: Handle::new(shared), reader, report, threads })
}

/// [`open`] without the threads, so that tests decide when their work runs.
fn open_shared(
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    config: WalConfig,
    floor: &Floor,
    metrics: Arc<WalMetrics>,
) -> Result<(Arc<Shared>, RecoveryReport), WalOpenError> {
    storage.create_dir(&config.dir)?;
    storage.create_dir(&config.dir.join("pool"))?;
    storage.create_dir(&quarantine_dir(&config.dir))?;
    let archive = Archive::open(storage.as_ref(), config.archive.clone())?;
    let recovered = recovery::recover(storage.as_ref(), &config.dir, floor)?;
    recovered.report.log();
    let log_bytes = recovered.segments.iter().map(|segment| segment.header.capacity).sum();
    let skip = if recovered.report.quarantined.is_empty() { LSN_SKIP } else { LSN_SKIP_UNREAD };
    let archived = archive.newest().map_or(Lsn::NONE, |name| name.last);
    let last = Lsn(recovered.highest.max(archived).0 + skip);
    // An id is never reused, not even for an archived segment.
    let next_id =
        archive.highest_id().map_or(recovered.next_id, |id| recovered.next_id.max(SegmentId(id + 1)));
    let shared = Arc::new(Shared {
        wal_uuid: recovered.wal_uuid,
        tail: Mutex::new(Tail::new(last, recovered.report.known_durable, recovered.predecessor)),
        segments: Segments::new(recovered.segments),
        marks: Mutex::new(MarkWriter::new(&config.dir, recovered.marks)),
        pool: Mutex::new(SegmentPool::new(next_id, log_bytes)),
        archive,
        prepare_wanted: Condvar::new(),
        sync_wanted: Mutex::new(SyncWanted::default()),
        sync_signal: Condvar::new(),
        // Recovery has synced everything that it recovered.
        durable: watch::Sender::new(Durable { lsn: last, health: Health::Good }),
        recovered_last: last,
        rescued: AtomicBool::new(false),
        space: Notify::new(),
        metrics,
        storage,
        clock,
        config,
    });
    shared.prepare_first()?;
    Ok((shared, recovered.report))
}

impl Wal {
    /// The reader, positioned after the consumed frames. Only one exists, so it can be taken once.
    pub fn take_reader(&mut self) -> WalReader {
        self.reader.take().expect("the reader is taken once")
    }

    /// Waits for the threads to end, after [`Handle::close`].
    pub fn join(self) {
        self.handle.stop_archiving();
        for thread in self.threads {
            // A panic in the thread has been printed; the process is ending anyway.
            drop(thread.join());
        }
    }
}
