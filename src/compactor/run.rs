//! The compactor's loop.

use super::config::{CompactorConfig, Stop};
use super::leftovers::{LeftoverError, Leftovers};
use super::metrics::CompactorMetrics;
use super::name;
use super::table::{FinishedCut, Memory, StreamTable, TableConfig, TableError};
use crate::batch::{Batch, BodyKind, StreamId};
use crate::catalog::{Catalog, CatalogError, Cut, RegisteredFile};
use crate::clock::Clock;
use crate::error::{IoContext, IoError, chain};
use crate::idempotency::Journal;
use crate::offsets::OffsetCounters;
use crate::progress::{Numbers, Progress};
use crate::wal::{Damage, Durable, Health, Lsn, LsnRange, Polled, WalReader};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, watch};

/// The maximum number of frames read before the loop handles anything else.
const FRAMES_PER_TURN: usize = 256;
/// The longest interval between two clock checks when there is nothing to read.
const TICK: Duration = Duration::from_millis(50);
/// The longest interval between two clock checks while there are frames to read.
const LOOK: Duration = Duration::from_millis(10);
/// The delay before newly durable frames are read, unless a request waits for them: many small syncs become one
/// wake-up.
const GATHER: Duration = Duration::from_millis(10);
/// The maximum number of cuts registered in one transaction.
const CUTS_PER_COMMIT: usize = 64;
/// The maximum number of open files over all streams; beyond it, the streams with the oldest files are cut.
const OPEN_FILES_MAX: usize = 512;
/// The catalog learns how far the log is durable when the log has been idle for this long, and at least this often.
const NOTE_IDLE: Duration = Duration::from_secs(1);
const NOTE_EVERY: Duration = Duration::from_secs(10);
const RESTART_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The directory of files that are being written.
pub(super) fn scratch_dir(staged_dir: &Path) -> PathBuf {
    staged_dir.join("unfinished")
}

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Leftovers(#[from] LeftoverError),
}

pub(super) struct CompactorLoop {
    pub(super) config: CompactorConfig,
    pub(super) table_config: TableConfig,
    pub(super) reader: WalReader,
    pub(super) catalog: Arc<Catalog>,
    pub(super) keys: Journal,
    pub(super) offsets: Arc<OffsetCounters>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) progress: Arc<Progress>,
    pub(super) metrics: Arc<CompactorMetrics>,
    pub(super) runtime: Runtime,
    pub(super) stopped: watch::Receiver<Stop>,
    pub(super) to_publish: mpsc::Sender<RegisteredFile>,
    pub(super) tables: HashMap<StreamId, StreamTable>,
    /// Held while files are staged but not yet registered, by this thread or by the replayer.
    pub(super) staging: Arc<Mutex<()>>,
    /// Checkpoints of streams without a table in memory.
    pub(super) checkpoints: HashMap<StreamId, Lsn>,
    pub(super) durable: NotedDurable,
    pub(super) leftovers: Leftovers,
}

/// The durable mark of the log, as the catalog knows it.
pub(super) struct NotedDurable {
    noted: Lsn,
    noted_at: Instant,
    seen: Lsn,
    since: Instant,
}

impl NotedDurable {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { noted: Lsn::NONE, noted_at: now, seen: Lsn::NONE, since: now }
    }
}

impl CompactorLoop {
    pub(super) fn run(&mut self) {
        let mut backoff = Duration::from_millis(100);
        loop {
            let started = Instant::now();
            match self.begin().and_then(|()| self.follow()) {
                Ok(()) => return,
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(error, retry_in = ?backoff, "the compactor failed, restarting from the last checkpoint");
                    *self.progress.compactor.last_error.lock() = Some(error);
                    self.metrics.restarts.inc();
                }
            }
            for (_, table) in self.tables.drain() {
                table.abandon();
            }
            if started.elapsed() > RESTART_BACKOFF_MAX {
                backoff = Duration::from_millis(100);
            }
            self.pause(backoff);
            backoff = (backoff * 2).min(RESTART_BACKOFF_MAX);
            if *self.stopped.borrow() == Stop::Now {
                return;
            }
        }
    }

    /// Resumes from the state in the catalog. What failed before may have been registered all the same.
    fn begin(&mut self) -> Result<(), RunError> {
        let consumed = self.catalog.floor()?.consumed;
        self.reader.rewind(consumed);
        self.reader.trim(consumed);
        self.keys.rewind();
        if !self.keys.is_complete() {
            self.learn();
        }
        self.progress.compactor.checkpoint_lsn.store(consumed.0, Ordering::Relaxed);
        {
            let _staging = self.staging.lock();
            self.leftovers.look(&self.catalog, self.reader.durable().borrow().lsn)?;
        }
        for progress in self.catalog.progress()? {
            self.checkpoints.insert(progress.stream, progress.checkpoint);
            self.progress.registered(progress.stream, progress.checkpoint, []);
        }
        // The publisher leaves out those that it has.
        let staged = self.catalog.staged()?;
        for file in &staged {
            self.progress.registered(file.stream, Lsn::NONE, [(file.id, file.first_lsn, file.last_lsn)]);
        }
        self.hand_over(staged);
        Ok(())
    }

    /// Scans what earlier runs left in the log for idempotency keys and offsets: requests that need them wait for
    /// this, and reading frames is much faster than turning them into rows.
    fn learn(&mut self) {
        let now = self.clock.now();
        self.reader.look_ahead(|lsn, ts, payload| {
            if let Ok(batch) = Batch::decode(payload) {
                self.keys.found(lsn, ts, &batch, now);
                self.offsets.found(lsn, batch.head.stream, &batch.head.offsets);
            }
            *self.stopped.borrow() != Stop::Now
        });
        self.keys.complete();
        self.offsets.complete();
    }

    /// Follows the log until told to stop.
    fn follow(&mut self) -> Result<(), RunError> {
        let mut durable = self.reader.durable();
        let mut looked_at = Instant::now();
        loop {
            // Subscribed before the log is read, so that later frames wake the wait below.
            let health = durable.borrow_and_update().health;
            let idle = self.read_frames()?;
            if idle || looked_at.elapsed() >= LOOK {
                if self.config.discard {
                    self.reader.trim(self.reader.position());
                }
                self.cut_due(idle)?;
                self.give_numbers()?;
                self.relieve_memory()?;
                self.show_status(idle);
                self.note_durable(durable.borrow().lsn, false);
                looked_at = Instant::now();
            }
            let stop = *self.stopped.borrow_and_update();
            if stop == Stop::Now {
                return Ok(());
            }
            if stop == Stop::Drain && idle && health != Health::Good {
                self.cut(|_, _| true)?;
                self.note_durable(durable.borrow().lsn, true);
                return Ok(());
            }
            if idle {
                self.wait(&mut durable);
            }
        }
    }

    /// Tells the catalog how far the log is durable, once that has not changed for a moment, and every so often while
    /// it does. So a start that finds the log's directory without its files knows what is lost.
    fn note_durable(&mut self, durable: Lsn, last: bool) {
        if durable != self.durable.seen {
            (self.durable.seen, self.durable.since) = (durable, Instant::now());
        }
        let settled =
            self.durable.since.elapsed() >= NOTE_IDLE || self.durable.noted_at.elapsed() >= NOTE_EVERY;
        if durable >= self.reader.run() && durable != self.durable.noted && (settled || last) {
            self.durable.noted_at = Instant::now();
            match self.catalog.note_durable(self.reader.run(), durable) {
                Ok(()) => self.durable.noted = durable,
                // It is evidence only; the log keeps its own.
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "cannot note in the catalog how far the log is durable");
                    self.durable.since = Instant::now();
                }
            }
        }
    }

    /// Reads a batch of frames. Returns whether there are no more for now.
    fn read_frames(&mut self) -> Result<bool, RunError> {
        if self.config.discard {
            self.reader.pass_over();
            return Ok(true);
        }
        for _ in 0..FRAMES_PER_TURN {
            match self.reader.poll() {
                Polled::Idle => return Ok(true),
                Polled::Damage(damage) => self.record_damage(&damage)?,
                Polled::Frame(lsn) => {
                    let cuts = self.take_frame(lsn)?;
                    if !cuts.is_empty() {
                        self.commit(cuts)?;
                    }
                }
            }
        }
        Ok(false)
    }

    fn take_frame(&mut self, lsn: Lsn) -> Result<Vec<FinishedCut>, RunError> {
        let Some(frame) = self.reader.frame() else { return Ok(Vec::new()) };
        let batch = match Batch::decode(frame.payload) {
            Ok(batch) => batch,
            Err(error) => {
                self.metrics.unreadable_frames.inc();
                tracing::error!(%lsn, %error, "cannot decode a log frame, setting it aside");
                self.reader.put_aside_frame();
                self.catalog.record_loss(LsnRange { first: lsn, last: lsn }, "unreadable")?;
                return Ok(Vec::new());
            }
        };
        if batch.head.idempotency_key.is_some() {
            self.keys.passed(lsn, frame.ts, &batch, self.clock.now())?;
        }
        let mut cuts = Vec::new();
        let own = batch.head.share_of(batch.head.stream).filter(|own| !batch.head.targets.contains(own));
        for target in own.iter().chain(&batch.head.targets) {
            let (id, streams) = (target.stream, self.catalog.streams());
            let Some(stream) = streams.get(id) else {
                self.metrics.unreadable_frames.inc();
                tracing::error!(%lsn, stream = %id, "a log frame belongs to a stream that is not in the catalog, setting it aside");
                self.reader.put_aside_frame();
                self.catalog.record_loss(LsnRange { first: lsn, last: lsn }, "unknown stream")?;
                continue;
            };
            let landing = stream.settings.landing;
            if !landing.table && landing.raw.is_none() {
                continue;
            }
            let table = match self.tables.entry(id) {
                Entry::Occupied(table) => table.into_mut(),
                Entry::Vacant(place) => {
                    // A stream without a checkpoint has no files yet.
                    let checkpoint = self.checkpoints.get(&id).copied().unwrap_or(Lsn::NONE);
                    let mut table = StreamTable::new(Arc::clone(stream), checkpoint, self.config.limits);
                    table.numbered = self.catalog.numbered(id)?;
                    place.insert(table)
                }
            };
            if lsn <= table.checkpoint {
                continue;
            }
            cuts.extend(table.follow(stream, target.version, &self.table_config, self.config.limits)?);
            let (counts, ended) = table.append(lsn, frame.ts, (&batch, target), &self.table_config)?;
            cuts.extend(ended);
            self.metrics.took(&counts);
            let is_judged = batch.head.kind != BodyKind::Xml;
            let (good, bad) = (u64::from(target.good), u64::from(target.bad));
            if is_judged && (counts.stored != good || counts.quarantined.total() != bad) {
                self.metrics.verdict_mismatches.inc();
                tracing::error!(%lsn, ?counts, ?target, "the outcome of records differs from the answer that the client received; this is a bug, please report it");
            }
        }
        Ok(cuts)
    }

    fn record_damage(&mut self, damage: &Damage) -> Result<(), RunError> {
        let corrupt = damage.corrupt.map_or(0, LsnRange::count);
        let (range, reason) = damage.corrupt.map_or((damage.lost, "torn"), |range| (range, "corrupt"));
        // A compactor that has restarted reads it again.
        if self.catalog.record_loss(range, reason)? {
            self.metrics.corrupt_frames.inc_by(corrupt);
            self.metrics.torn_frames.inc_by(damage.lost.count() - corrupt);
        }
        self.leftovers.frames_lost();
        if damage.corrupt.is_some() {
            tracing::error!(
                segment = %damage.segment, offset = damage.offset, bytes = damage.bytes,
                first = %range.first, last = %range.last,
                "the log is damaged: durable frames cannot be read and their records are lost"
            );
        } else {
            tracing::warn!(first = %range.first, last = %range.last, "frames that had not been synced were lost");
        }
        Ok(())
    }

    /// Cuts the streams whose file is due to be closed.
    fn cut_due(&mut self, idle: bool) -> Result<(), RunError> {
        let now = Instant::now();
        let read = self.reader.position();
        let durable = self.reader.durable().borrow().lsn;
        let (wanted, close) = self.progress.with_wanted(|wanted| {
            let passed = |lsn: &Lsn| read >= *lsn || (idle && durable >= *lsn);
            let close: Vec<Option<StreamId>> =
                wanted.close.iter().filter(|(_, lsn)| passed(lsn)).map(|(stream, _)| *stream).collect();
            let linger = self.config.linger;
            let due: Vec<StreamId> = wanted
                .streams
                .extract_if(|stream, (lsn, asked)| {
                    let taken = self
                        .tables
                        .get(stream)
                        .and_then(StreamTable::last_open)
                        .is_some_and(|last| last >= *lsn);
                    (taken && now.duration_since(*asked) >= linger)
                        || self.progress.checkpoint(*stream) >= *lsn
                })
                .map(|(stream, _)| stream)
                .collect();
            (due, close)
        });
        let config = self.config.clone();
        // A full log accepts no requests: small files are better than none.
        let pressed = self.reader.pressed();
        let in_the_way = |table: &StreamTable| table.first_open().is_some_and(|first| pressed >= Some(first));
        let asked = |id| close.contains(&None) || close.contains(&Some(id)) || wanted.contains(&id);
        self.cut(|id, table| asked(id) || in_the_way(table) || is_due(table, &config, now))?;
        self.progress.has_closed(&close);
        Ok(())
    }

    /// Hands out row numbers on request. Rows of open files are numbered first.
    fn give_numbers(&mut self) -> Result<(), RunError> {
        for Numbers { stream, count, first } in
            self.progress.with_wanted(|wanted| std::mem::take(&mut wanted.numbers))
        {
            self.cut(|id, _| id == stream)?;
            let number = self.catalog.take_numbers(stream, count)?;
            if let Some(table) = self.tables.get_mut(&stream) {
                table.numbered = number + count - 1;
            }
            // The requester may be gone: then these numbers stay unused.
            first.send(number).ok();
        }
        Ok(())
    }

    /// Finishes the files of the streams that `which` selects, and registers them.
    fn cut(&mut self, which: impl Fn(StreamId, &StreamTable) -> bool) -> Result<(), RunError> {
        let mut finished = Vec::new();
        let due: Vec<StreamId> =
            self.tables.iter().filter(|(id, table)| which(**id, table)).map(|(id, _)| *id).collect();
        for id in due {
            let Some(table) = self.tables.get_mut(&id) else { continue };
            finished.extend(table.finish(&self.table_config)?);
            if finished.len() >= CUTS_PER_COMMIT {
                self.commit(std::mem::take(&mut finished))?;
            }
        }
        if finished.is_empty() { Ok(()) } else { self.commit(finished) }
    }

    /// Stages finished files, registers them with their checkpoints, hands them to the publisher, and trims the
    /// log. In this order: each step is durable before the next.
    fn commit(&mut self, finished: Vec<FinishedCut>) -> Result<(), RunError> {
        let mut cuts: Vec<Cut> = Vec::new();
        for FinishedCut { cut, paths, late_rescued, first_received_at } in finished {
            self.metrics.rescued_rows.inc_by(late_rescued);
            let waited = u64::try_from(self.clock.now() - first_received_at).unwrap_or(0);
            self.metrics.ingest_seconds.observe(Duration::from_micros(waited));
            self.progress.took(cut.stream, waited);
            for (file, path) in cut.files.iter().zip(paths) {
                let staged = self.config.staged_dir.join(name::staged(&file.object));
                rename(&path, &staged)?;
            }
            cuts.push(cut);
        }
        sync_dir(&self.config.staged_dir)?;
        let read = self.reader.position();
        let first_open = self.tables.values().filter_map(StreamTable::first_open).min();
        let consumed = first_open.map_or(read, Lsn::previous);
        self.keys.sync(self.clock.now())?;
        let files = self.catalog.register(&cuts, consumed)?;
        for cut in &cuts {
            if let Some(table) = self.tables.get_mut(&cut.stream) {
                table.checkpoint = cut.lsns.last;
            }
            let staged =
                files.iter().filter(|file| file.stream == cut.stream && file.first_lsn == cut.lsns.first);
            let staged = staged.map(|file| (file.id, file.first_lsn, file.last_lsn));
            self.progress.registered(cut.stream, cut.lsns.last, staged);
            self.offsets.registered(cut.stream, cut.lsns.last);
        }
        self.progress.compactor.checkpoint_lsn.store(consumed.0, Ordering::Relaxed);
        *self.progress.compactor.last_error.lock() = None;
        self.hand_over(files);
        self.reader.trim(consumed);
        self.leftovers.registered(&self.catalog, consumed)?;
        Ok(())
    }

    fn hand_over(&self, files: Vec<RegisteredFile>) {
        for file in files {
            // The publisher takes them at once. It is gone only after a drain has given up; the file is registered,
            // so the next start publishes it.
            drop(self.to_publish.blocking_send(file));
        }
    }

    /// Keeps memory under its limit: encodes waiting rows, then ends row groups, the largest first.
    fn relieve_memory(&mut self) -> Result<(), RunError> {
        let mut memory: Vec<(StreamId, Memory)> =
            self.tables.iter().map(|(id, table)| (*id, table.memory())).collect();
        let mut total: usize = memory.iter().map(|(_, memory)| memory.total()).sum();
        if total <= self.config.memory_max && self.open_files() <= OPEN_FILES_MAX {
            return Ok(());
        }
        memory.sort_by_key(|(_, memory)| std::cmp::Reverse(memory.total()));
        let mut cuts = Vec::new();
        for (id, before) in memory {
            if total <= self.config.memory_max / 2 {
                break;
            }
            let Some(table) = self.tables.get_mut(&id) else { continue };
            cuts.extend(table.encode(&self.table_config)?);
            table.end_row_groups()?;
            total -= before.total() - table.memory().total().min(before.total());
        }
        if !cuts.is_empty() {
            self.commit(cuts)?;
        }
        let open = self.open_files();
        if open > OPEN_FILES_MAX {
            let mut oldest: Vec<(Instant, StreamId)> =
                self.tables.iter().filter_map(|(id, table)| Some((table.opened_at()?, *id))).collect();
            oldest.sort_unstable_by_key(|(at, _)| *at);
            oldest.truncate(oldest.len() / 2 + 1);
            self.cut(|id, table| table.open_files() > 0 && oldest.iter().any(|(_, old)| *old == id))?;
        }
        Ok(())
    }

    fn open_files(&self) -> usize {
        self.tables.values().map(StreamTable::open_files).sum()
    }

    fn show_status(&self, idle: bool) {
        let status = &self.progress.compactor;
        let memory: usize = self.tables.values().map(|table| table.memory().total()).sum();
        status.memory_bytes.store(memory as u64, Ordering::Relaxed);
        status.open_files.store(self.open_files() as u64, Ordering::Relaxed);
        status.read_lsn.store(self.reader.position().0, Ordering::Relaxed);
        let unread = if idle { None } else { self.reader.frame().map(|frame| frame.ts) };
        let oldest = self.tables.values().filter_map(StreamTable::first_received_at).chain(unread).min();
        status.oldest_open.store(oldest.unwrap_or(0), Ordering::Relaxed);
        // Clients of receivers ask where each record is.
        for (id, table) in self.tables.iter().filter(|(_, table)| table.stream.settings.receiver.is_some()) {
            self.progress.holds(*id, table.open());
        }
    }

    /// Waits for frames, requests, or the next clock check.
    fn wait(&mut self, durable: &mut watch::Receiver<Durable>) {
        let stopped = &mut self.stopped;
        let asked = self.progress.asked.notified();
        let gathered = async move {
            // An error means that the log is closed.
            drop(durable.changed().await);
            tokio::time::sleep(GATHER).await;
        };
        self.runtime.block_on(async move {
            tokio::select! {
                () = gathered => {}
                () = asked => {}
                _ = stopped.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        });
    }

    fn pause(&mut self, pause: Duration) {
        let stopped = &mut self.stopped;
        self.runtime.block_on(async move {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop == Stop::Now) => {}
                () = tokio::time::sleep(pause) => {}
            }
        });
    }
}

/// Whether one of the stream's conditions requires its file to be closed.
fn is_due(table: &StreamTable, config: &CompactorConfig, now: Instant) -> bool {
    let (Some(opened_at), Some(last_at)) = (table.opened_at(), table.last_at()) else { return false };
    let age = now.duration_since(opened_at);
    let of_stream = table.stream.settings.conditions;
    let is_full = match of_stream {
        Some(own) => {
            own.age_seconds.is_some_and(|seconds| age >= Duration::from_secs(seconds))
                || own.count.is_some_and(|count| table.open_rows() >= count)
                || own.bytes.is_some_and(|bytes| table.source_bytes() >= bytes)
        }
        None => {
            age >= config.max_age
                || table.open_rows() >= config.max_rows
                || table.largest_file_bytes() >= config.max_bytes
        }
    };
    is_full
        || config.max_idle.is_some_and(|idle| now.duration_since(last_at) >= idle)
        || table.has_too_many_files()
}

#[expect(
    clippy::disallowed_methods,
    reason = "within the staging directory, which is synced before the files are registered"
)]
fn rename(from: &Path, to: &Path) -> Result<(), IoError> {
    std::fs::rename(from, to).context("stage file", from)
}

fn sync_dir(dir: &Path) -> Result<(), IoError> {
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).context("sync directory", dir)
}
