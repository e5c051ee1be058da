//! Gives an export the events that reached its receiver before the export existed: a part of a replay.
//!
//! Frames never change, so the given events are recorded as separate cuts, which hold the receiver's frames of a
//! range that do not name the stream. These ranges never overlap, so that nothing is given twice.

use super::name;
use super::replay::{ReplayError, Replayer, rename, sync_dir, taken_as};
use super::table::{FinishedCut, TableError};
use crate::batch::Batch;
use crate::catalog::{CutRecord, Replay, Stream};
use crate::clock::Micros;
use crate::mapping::frames;
use crate::wal::{Lsn, LsnRange};
use std::sync::Arc;

/// The maximum number of rows in one cut.
const ROWS_MAX: u64 = 100_000;
/// The maximum number of bytes of the requests in one cut.
const BYTES_MAX: u64 = 256 << 20;

/// Frames to be given to the export.
struct Gift {
    lsns: LsnRange,
    records: u64,
    /// Number of their records that become rows.
    rows: u64,
    bytes: u64,
}

impl Replayer {
    /// Gives the stream the events that its receiver got in the time range of the replay and the stream did not.
    pub(super) fn give(&mut self, replay: &Replay) -> Result<(), ReplayError> {
        let (from, to) = (replay.asked.from, replay.asked.to);
        let mut behind = Lsn::NONE;
        loop {
            self.check_stopped()?;
            if self.catalog.replay(replay.id)?.is_none_or(|replay| replay.state.is_over()) {
                return Err(ReplayError::Cancelled);
            }
            let Some(stream) = self.catalog.streams().get(replay.asked.stream).cloned() else {
                return Ok(());
            };
            let Some(gift) = self.next_gift(&stream, (from, to), behind)? else { return Ok(()) };
            behind = gift.lsns.last;
            self.give_cut(replay.id, &stream, &gift)?;
        }
    }

    /// The next frames that the stream was not given, as many as fit into one cut.
    fn next_gift(
        &self,
        stream: &Stream,
        (from, to): (Micros, Micros),
        behind: Lsn,
    ) -> Result<Option<Gift>, ReplayError> {
        let given = self.catalog.given(stream.id)?;
        let mut frames = self.past.received(from, to);
        let mut gift: Option<Gift> = None;
        let mut read: u64 = 0;
        while let Some(frame) = frames.next()? {
            read += 1;
            if read.is_multiple_of(1024) {
                self.check_stopped()?;
            }
            let within = |range: &LsnRange| range.first <= frame.lsn && frame.lsn <= range.last;
            if frame.lsn <= behind {
                continue;
            }
            if given.iter().any(within) {
                // A cut holds every frame between its ends.
                if gift.is_some() {
                    break;
                }
                continue;
            }
            let Ok(batch) = Batch::decode(frame.payload) else { continue };
            let Some(target) = taken_as(&batch, stream, true) else { continue };
            // Frames are in the order of their numbers, and almost in the order of their times: a frame slightly
            // out of order goes with its neighbors.
            let is_wanted = from <= frame.ts && frame.ts < to;
            if !is_wanted {
                if gift.is_some() && frame.ts >= to {
                    break;
                }
                if gift.is_none() {
                    continue;
                }
            }
            let records = u64::from(target.good) + u64::from(target.bad);
            let rows = self.rows_of(stream, frame.lsn, frame.ts, &batch)?;
            let bytes = frame.payload.len() as u64;
            let only = LsnRange { first: frame.lsn, last: frame.lsn };
            let so_far = gift.get_or_insert(Gift { lsns: only, records: 0, rows: 0, bytes: 0 });
            so_far.lsns.last = frame.lsn;
            so_far.records += records;
            so_far.rows += rows;
            so_far.bytes += bytes;
            if so_far.records >= ROWS_MAX || so_far.bytes >= BYTES_MAX {
                break;
            }
        }
        Ok(gift)
    }

    /// The number of rows that a frame becomes, so that exactly as many numbers are reserved.
    fn rows_of(&self, stream: &Stream, lsn: Lsn, ts: Micros, batch: &Batch<'_>) -> Result<u64, ReplayError> {
        let Some(mapping) = &stream.settings.mapping else {
            return Err(ReplayError::Incomplete("the stream has no mapping".to_owned()));
        };
        let (config, mut rows) = (&self.table_config, 0);
        let mapped = frames::FrameMapper {
            stream: stream.id,
            mapping,
            log: config.log,
            evaluator: Some(&config.evaluator),
        };
        let made = mapped.each(lsn.0, ts, batch, false, 0, |_, _, made| rows += u64::from(made.is_ok()));
        made.map_err(TableError::from)?;
        Ok(rows)
    }

    fn give_cut(&mut self, replay: i64, stream: &Arc<Stream>, gift: &Gift) -> Result<(), ReplayError> {
        let numbers = self.progress.take_numbers(stream.id, gift.rows.max(1));
        let mut stopped = self.stopped.clone();
        let first = self.runtime.block_on(async {
            tokio::select! {
                first = numbers => first.ok_or(ReplayError::Stopped),
                _ = stopped.wait_for(|stop| *stop != super::config::Stop::Run) => Err(ReplayError::Stopped),
            }
        })?;
        let record = CutRecord {
            lsns: gift.lsns,
            first_at: 0,
            last_at: 0,
            files: 0,
            rows: gift.records,
            counts: None,
            first_number: first,
            given: true,
        };
        let mut made = self.make(stream, &record)?;
        if made.cut.counts.stored > gift.rows {
            return Err(ReplayError::Incomplete(
                "more records became rows than numbers were reserved".to_owned(),
            ));
        }
        made.cut.given = true;
        self.register(replay, &made)
    }

    /// Stages and registers a finished cut, and hands its files to the publisher.
    fn register(&self, replay: i64, made: &FinishedCut) -> Result<(), ReplayError> {
        let (stream, rows) = (made.cut.stream, made.cut.counts.stored + made.cut.counts.quarantined);
        let files = {
            let _staging = self.staging.lock();
            for (file, path) in made.cut.files.iter().zip(&made.paths) {
                rename(path, &self.staged_dir.join(name::staged(&file.object)))?;
            }
            sync_dir(&self.staged_dir)?;
            self.catalog.register_given(replay, &made.cut)?
        };
        let staged = files.iter().map(|file| (file.id, file.first_lsn, file.last_lsn));
        self.progress.registered(stream, Lsn::NONE, staged);
        self.metrics.replayed_rows.inc_by(rows);
        self.metrics.replayed_files.inc_by(files.len() as u64);
        for file in files {
            // If the publisher is gone, the next start publishes the registered files.
            drop(self.to_publish.blocking_send(file));
        }
        Ok(())
    }
}
