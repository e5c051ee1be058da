//! Makes a staged file anew that is missing or damaged: same name, same rows, from the log or the archive.
//!
//! The frames of its cut are read again under the schema version of the file, each as it was answered, and become the
//! files of the cut once more; the one that is needed takes its place, the others are discarded. Only if the log and the
//! archive no longer have all of the frames is the file lost, and then the register and the list of losses say so.

use super::config::Stop;
use super::metrics::CompactorMetrics;
use super::name;
use super::replay::{ReplayError, rename, sync_dir, taken_as};
use super::staged::StagedError;
use super::table::{FinishedCut, StreamTable, TableConfig};
use crate::batch::Batch;
use crate::catalog::{Catalog, CutRecord, FileKind, FileState, RegisteredFile, Stream};
use crate::columns::RowLimits;
use crate::error::{IoContext, chain};
use crate::schema::{Landing, RawFormat, StreamSettings};
use crate::storage::Storage;
use crate::storage::real::RealStorage;
use crate::wal::archive::ArchiveError;
use crate::wal::{FrameHistory, LsnRange};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Number of frames between two checks of the stop signal and of the memory in use.
const FRAMES_PER_LOOK: u64 = 64;

/// The directory of files that are being made anew.
pub(super) fn remake_dir(staged_dir: &Path) -> PathBuf {
    staged_dir.join("remade")
}

pub(super) struct Remaker {
    pub(super) past: FrameHistory,
    pub(super) catalog: Arc<Catalog>,
    pub(super) metrics: Arc<CompactorMetrics>,
    pub(super) staged_dir: PathBuf,
    pub(super) stopped: watch::Receiver<Stop>,
    /// Its scratch directory is that of remade files.
    pub(super) table_config: TableConfig,
    pub(super) limits: RowLimits,
    /// The memory limit for rows and unfinished row groups.
    pub(super) memory_max: usize,
    /// One file at a time.
    pub(super) turn: Mutex<()>,
}

/// What became of a damaged file.
pub(super) enum Remade {
    /// It is intact again. The register has the size and the checksum.
    Made(RegisteredFile),
    Lost,
    /// The file was published, replaced or dropped in the meantime.
    Settled,
}

impl Remaker {
    /// Makes a file anew, or declares it lost.
    ///
    /// # Errors
    /// If neither can be done now.
    pub(super) fn remake(&self, file: &RegisteredFile, damage: &StagedError) -> Result<Remade, ReplayError> {
        let _turn = self.turn.lock();
        let Some(file) = self.catalog.file(file.id)?.filter(|file| file.state == FileState::Staged) else {
            return Ok(Remade::Settled);
        };
        self.metrics.damaged_files.inc();
        tracing::error!(
            error = %chain(damage),
            object = file.object,
            "a staged file is missing or damaged; making it anew from the log or the archive"
        );
        let made = self.make(&file);
        let cleaned = self.clean();
        match made {
            Ok(made) => {
                cleaned?;
                self.metrics.remade_files.inc();
                tracing::warn!(object = made.object, rows = made.rows, "made a staged file anew");
                Ok(Remade::Made(made))
            }
            Err(ReplayError::Incomplete(reason)) if damage.is_certain() => {
                self.lose(&file, &reason)?;
                Ok(Remade::Lost)
            }
            Err(error) => Err(error),
        }
    }

    fn make(&self, file: &RegisteredFile) -> Result<RegisteredFile, ReplayError> {
        let incomplete = |text: &str| ReplayError::Incomplete(text.to_owned());
        let lsns = LsnRange { first: file.first_lsn, last: file.last_lsn };
        let cut = self.catalog.next_cut(file.stream, lsns, lsns.first.previous())?;
        let cut = cut.ok_or_else(|| incomplete("the register does not know the cut that it belongs to"))?;
        let stream = self.catalog.streams().get(file.stream).cloned();
        let stream = stream.ok_or_else(|| incomplete("its stream does not exist"))?;
        let stream = Arc::new(self.as_it_was(&stream, file)?);
        let made = self.read_again(&stream, &cut, file)?;
        let found = made.cut.files.iter().zip(&made.paths).find(|(new, _)| new.object == file.object);
        let Some((new, path)) = found.filter(|(new, _)| new.rows == file.rows) else {
            // Not a loss: the frames are still there, and an operator can restore the settings.
            return Err(ReplayError::Changed);
        };
        let Some(checksum) = new.checksum else { return Err(ReplayError::Changed) };
        rename(path, &self.staged_dir.join(name::staged(&file.object)))?;
        sync_dir(&self.staged_dir)?;
        // If the process ends before this, the file differs from the register and is made once more.
        if (Some(checksum), new.bytes) != (file.checksum, file.bytes) {
            self.catalog.mark_remade(file.id, new.bytes, checksum)?;
        }
        Ok(RegisteredFile { bytes: new.bytes, checksum: Some(checksum), ..file.clone() })
    }

    /// The stream as it was when the file was written, as far as the file depends on it.
    fn as_it_was(&self, now: &Stream, file: &RegisteredFile) -> Result<Stream, ReplayError> {
        let lsns = LsnRange { first: file.first_lsn, last: file.last_lsn };
        let files = self.catalog.cut_files(file.stream, lsns)?;
        let has = |end: &str| files.iter().any(|file| file.object.ends_with(end));
        let raw = match (has(".cbor"), has(".ndjson.zst")) {
            (true, _) => Some(RawFormat::Cbor),
            (false, true) => Some(RawFormat::Ndjson),
            (false, false) => None,
        };
        let has_rows = files.iter().any(|file| file.kind == FileKind::Rows);
        let table = has_rows || (now.settings.landing.table && raw.is_none());
        let mut settings = StreamSettings { landing: Landing { table, raw }, ..(*now.settings).clone() };
        let mut then = now.clone();
        if let Some(rules) = self.catalog.rules(file.stream, file.schema_version)? {
            (settings.time, settings.mapping) = (rules.time, rules.mapping);
            settings.directory = rules.directory;
            (then.policy, then.schema) = (rules.policy, rules.schema);
        }
        then.settings = Arc::new(settings);
        Ok(then)
    }

    /// Writes the files of a cut again.
    fn read_again(
        &self,
        stream: &Arc<Stream>,
        cut: &CutRecord,
        file: &RegisteredFile,
    ) -> Result<FinishedCut, ReplayError> {
        let config = &TableConfig { node: node_of(file), ..self.table_config.clone() };
        let mut table = StreamTable::again(Arc::clone(stream), self.limits);
        table.numbered = cut.first_number.saturating_sub(1);
        let mut frames = self.past.read(cut.lsns);
        let mut read = 0_u64;
        while let Some(frame) = frames.next().map_err(unreadable)? {
            read += 1;
            if read.is_multiple_of(FRAMES_PER_LOOK) && *self.stopped.borrow() == Stop::Now {
                return Err(ReplayError::Stopped);
            }
            let Ok(batch) = Batch::decode(frame.payload) else { continue };
            let Some(target) = taken_as(&batch, stream, cut.given) else { continue };
            let mut ended = Vec::new();
            if !cut.given {
                ended = table.follow(stream, target.version, config, self.limits)?;
            }
            ended.extend(table.append(frame.lsn, frame.ts, (&batch, &target), config)?.1);
            if !ended.is_empty() {
                return Err(ReplayError::Changed);
            }
            if table.memory().total() > self.memory_max {
                table.encode(config)?;
                table.end_row_groups()?;
            }
        }
        let made = table.finish(config)?.pop();
        let count = |made: &FinishedCut| made.cut.counts.stored + made.cut.counts.quarantined;
        let found = made.as_ref().map_or(0, count);
        let wanted = cut.counts.map_or(cut.rows, |counts| counts.stored + counts.quarantined);
        match made.filter(|made| made.cut.lsns == cut.lsns && found == wanted) {
            Some(made) => Ok(made),
            None => Err(ReplayError::Incomplete(format!(
                "the log and the archive have {found} of the {wanted} records of its LSNs"
            ))),
        }
    }

    /// Records that a file is lost. What is left of it is put aside.
    fn lose(&self, file: &RegisteredFile, reason: &str) -> Result<(), ReplayError> {
        let lsns = LsnRange { first: file.first_lsn, last: file.last_lsn };
        let missing = self.past.missing(lsns).map_err(unreadable);
        let missing = missing.ok().filter(|missing| !missing.is_empty());
        let lost = missing.unwrap_or_else(|| vec![lsns]);
        let staged = self.staged_dir.join(name::staged(&file.object));
        let aside = self.staged_dir.join("aside");
        if staged.is_file() {
            RealStorage.create_dir(&aside)?;
            RealStorage.rename(&staged, &aside.join(name::staged(&file.object)))?;
        }
        self.catalog.mark_lost(file.id, &lost)?;
        self.metrics.lost_rows.inc_by(file.rows);
        for LsnRange { first, last } in &lost {
            tracing::error!(
                reason, object = file.object, rows = file.rows, %first, %last, aside = %aside.display(),
                "a staged file was damaged before it was published, and neither the log nor the archive has its records: they are lost"
            );
        }
        Ok(())
    }

    /// Removes the files that are not needed.
    fn clean(&self) -> Result<(), ReplayError> {
        let dir = &self.table_config.scratch_dir;
        for entry in std::fs::read_dir(dir).context("list directory", dir)? {
            let path = entry.context("list directory", dir)?.path();
            std::fs::remove_file(&path).context("remove remade file", &path)?;
        }
        Ok(())
    }
}

/// An archive that cannot be read now may be readable later; one that is damaged stays so.
fn unreadable(error: ArchiveError) -> ReplayError {
    match error {
        ArchiveError::Io(error) => error.into(),
        ArchiveError::Closing => ReplayError::Stopped,
        damaged => ReplayError::Incomplete(chain(&damaged)),
    }
}

/// The node in the name of a file: the configuration may have changed since.
fn node_of(file: &RegisteredFile) -> String {
    let name = file.object.rsplit('/').next().unwrap_or(&file.object);
    let numbers = format!("-{:020}-{:020}.parquet", file.first_lsn.0, file.last_lsn.0);
    // Files with records as received have no node in their names.
    name.strip_suffix(&numbers).unwrap_or("").to_owned()
}
