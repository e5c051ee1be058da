//! Replay: rewrites a stream's past files from the log and the archive, under the current rules.
//!
//! One replay at a time, one cut at a time, on a separate thread. A cut's frames are read again, become files in
//! `staged/replay/`, and replace the files that hold them now. These have the same names, so each is replaced in
//! one step. Where rows move between files, they are added to one before they are removed from the other; the
//! register changes in one transaction between the two. Every step is recorded before it is executed and can be
//! repeated, so the next start resumes after a crash at any point.

use super::config::Stop;
use super::metrics::CompactorMetrics;
use super::name;
use super::sink::{Sink, SinkError};
use super::staged::OutgoingFile;
use super::table::{FinishedCut, StreamTable, TableConfig, TableError};
use crate::batch::{Batch, BodyKind, Target};
use crate::catalog::{
    Action, Catalog, CatalogError, CutRecord, FileState, RegisteredFile, Replacement, Replay, ReplayState,
    StagedFile, Stream, Swap,
};
use crate::columns::RowLimits;
use crate::error::{IoContext, IoError, chain};
use crate::progress::Progress;
use crate::wal::archive::ArchiveError;
use crate::wal::{FrameHistory, Lsn, LsnRange};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, watch};

/// A `nice` value: incoming requests have priority.
const PRIORITY: i32 = 10;
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The maximum number of files that one cut may become.
const FILES_MAX: usize = 512;
/// Number of frames between two checks of the stop signal and of the memory in use.
const FRAMES_PER_LOOK: u64 = 64;

/// The directory of files that are about to replace others.
pub(super) fn replay_dir(staged_dir: &Path) -> PathBuf {
    staged_dir.join("replay")
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// This cut can never be rewritten, however often it is retried.
    #[error("{0}")]
    Incomplete(String),
    /// The frames are there, but become other files now.
    #[error(
        "its records now become other files than before, because settings of the stream or of the compactor were changed; change them back"
    )]
    Changed,
    #[error("cancelled")]
    Cancelled,
    /// Not a failure; the next start resumes.
    #[error("the daemon is shutting down")]
    Stopped,
}

/// Frames that cannot be read make a cut incomplete.
impl From<ArchiveError> for ReplayError {
    fn from(error: ArchiveError) -> Self {
        Self::Incomplete(chain(&error))
    }
}

/// The thread's state.
pub(super) struct Replayer {
    pub(super) past: FrameHistory,
    pub(super) catalog: Arc<Catalog>,
    pub(super) progress: Arc<Progress>,
    pub(super) metrics: Arc<CompactorMetrics>,
    pub(super) sink: Sink,
    pub(super) to_publish: mpsc::Sender<RegisteredFile>,
    pub(super) staged_dir: PathBuf,
    /// Held while files are staged but not yet registered.
    pub(super) staging: Arc<Mutex<()>>,
    pub(super) runtime: Runtime,
    pub(super) stopped: watch::Receiver<Stop>,
    /// Its scratch directory is the replay directory.
    pub(super) table_config: TableConfig,
    pub(super) limits: RowLimits,
    /// The memory limit for rows and unfinished row groups.
    pub(super) memory_max: usize,
}

impl Replayer {
    pub(super) fn run(mut self) {
        if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
            tracing::debug!(%error, "cannot lower the priority of the replay thread, replays run at normal priority");
        }
        let mut backoff = BACKOFF_MIN;
        while !self.is_stopped() {
            let (id, outcome) = match self.catalog.next_replay() {
                Ok(Some(replay)) => (Some(replay.id), self.replay(&replay)),
                Ok(None) => {
                    self.wait_for_work();
                    continue;
                }
                Err(error) => (None, Err(error.into())),
            };
            match outcome {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(ReplayError::Stopped) => return,
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(error, replay = id, retry_in = ?backoff, "replay stalled, retrying");
                    if let Some(id) = id {
                        // Shown to the operator only; the log line above has reported the error.
                        drop(self.catalog.note_replay(id, Some(&error)));
                    }
                    self.pause(backoff);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    self.hand_over();
                }
            }
        }
    }

    /// Executes the remaining steps of one replay.
    fn replay(&mut self, replay: &Replay) -> Result<(), ReplayError> {
        self.catalog.begin_replay(replay.id)?;
        let (id, asked) = (replay.id, &replay.asked);
        let Some(stream) = self.catalog.streams().get(asked.stream).cloned() else {
            self.catalog.end_replay(id, ReplayState::Failed, Some("stream not found"))?;
            return Ok(());
        };
        self.finish_replacing(id)?;
        self.clean()?;
        if stream.dropped {
            self.catalog.end_replay(id, ReplayState::Failed, Some("the stream's table was dropped"))?;
            return Ok(());
        }
        loop {
            let Some(now) = self.catalog.replay(id)?.filter(|now| !now.state.is_over()) else {
                return Ok(());
            };
            let Some(cut) = self.catalog.next_cut(asked.stream, asked.lsns, now.done_lsn)? else { break };
            if asked.left_out.contains(&cut.lsns) {
                self.catalog.pass_over(id, cut.lsns)?;
                continue;
            }
            // The current rules, even if they change during the replay.
            let stream =
                self.catalog.streams().get(asked.stream).cloned().unwrap_or_else(|| Arc::clone(&stream));
            match self.replay_cut(replay, &stream, &cut) {
                Err(ReplayError::Incomplete(reason)) if asked.partial => {
                    tracing::warn!(replay = id, first = %cut.lsns.first, last = %cut.lsns.last, reason, "cannot rewrite the files of these LSNs, leaving them as they are");
                    self.catalog.leave_out(id, cut.lsns, &cut.left_as_it_is(&[], &reason))?;
                }
                Err(ReplayError::Incomplete(reason)) => {
                    tracing::error!(replay = id, first = %cut.lsns.first, last = %cut.lsns.last, reason, "replay failed");
                    let LsnRange { first, last } = cut.lsns;
                    let error = format!("cannot rewrite the files of LSN {first} to {last}: {reason}");
                    self.catalog.end_replay(id, ReplayState::Failed, Some(&error))?;
                    return Ok(());
                }
                Err(ReplayError::Cancelled) => return Ok(()),
                outcome => outcome?,
            }
        }
        if stream.settings.receiver.is_some() {
            self.give(replay)?;
        }
        self.catalog.end_replay(id, ReplayState::Done, None)?;
        tracing::info!(replay = id, stream = stream.name, "replay completed");
        Ok(())
    }

    fn replay_cut(
        &mut self,
        replay: &Replay,
        stream: &Arc<Stream>,
        cut: &CutRecord,
    ) -> Result<(), ReplayError> {
        self.wait_until_published(replay.id, stream, cut)?;
        let made = self.make(stream, cut)?;
        let old = self.catalog.cut_files(stream.id, cut.lsns)?;
        for (file, path) in made.cut.files.iter().zip(&made.paths) {
            rename(path, &self.staged(&file.object))?;
        }
        sync_dir(&self.table_config.scratch_dir)?;
        let (counts, schema_version) = (made.cut.counts, made.cut.schema_version);
        let swap = Swap { stream: stream.id, lsns: cut.lsns, counts, schema_version };
        self.catalog.plan_replacements(replay.id, &swap, &plan(&old, &made.cut.files))?;
        self.finish_replacing(replay.id)?;
        self.clean()?;
        self.metrics.replayed_rows.inc_by(made.cut.counts.stored + made.cut.counts.quarantined);
        self.metrics.replayed_files.inc_by(made.cut.files.len() as u64);
        Ok(())
    }

    /// Waits for files that are being published: until then, the state of the destination is unknown.
    fn wait_until_published(&self, replay: i64, stream: &Stream, cut: &CutRecord) -> Result<(), ReplayError> {
        let mut moved = self.progress.moved();
        loop {
            let files = self.catalog.cut_files(stream.id, cut.lsns)?;
            if files.iter().all(|file| file.state != FileState::Staged || file.held.is_some()) {
                return Ok(());
            }
            let mut stopped = self.stopped.clone();
            self.runtime.block_on(async {
                tokio::select! {
                    // The sender lives as long as `progress`.
                    _ = moved.changed() => {}
                    () = self.progress.replay_asked.notified() => {}
                    _ = stopped.wait_for(|stop| *stop != Stop::Run) => {}
                }
            });
            self.check_stopped()?;
            if self.catalog.replay(replay)?.is_none_or(|replay| replay.state.is_over()) {
                return Err(ReplayError::Cancelled);
            }
        }
    }

    /// Rewrites the files of a cut.
    pub(super) fn make(&self, stream: &Arc<Stream>, cut: &CutRecord) -> Result<FinishedCut, ReplayError> {
        let mut table = StreamTable::again(Arc::clone(stream), self.limits);
        table.numbered = cut.first_number.saturating_sub(1);
        let made = self.fill(&mut table, stream, cut);
        if made.is_err() {
            table.abandon();
        }
        made
    }

    pub(super) fn fill(
        &self,
        table: &mut StreamTable,
        stream: &Arc<Stream>,
        cut: &CutRecord,
    ) -> Result<FinishedCut, ReplayError> {
        let config = &self.table_config;
        let mut frames = self.past.read(cut.lsns);
        let (mut read, mut records) = (0, 0);
        while let Some(frame) = frames.next()? {
            read += 1;
            if read % FRAMES_PER_LOOK == 0 {
                self.check_stopped()?;
            }
            let Ok(batch) = Batch::decode(frame.payload) else { continue };
            let Some(target) = taken_as(&batch, stream, cut.given) else { continue };
            let (counts, cuts) = table.append(frame.lsn, frame.ts, (&batch, &target), config)?;
            records += match batch.head.kind {
                // An XML document was not parsed before the answer.
                BodyKind::Xml => counts.stored + counts.quarantined.total(),
                _ => u64::from(target.good) + u64::from(target.bad),
            };
            if stream.settings.partitions > 0 && counts.stored != u64::from(target.good) {
                let text = format!(
                    "the rows of LSN {} would get offsets other than those assigned to them",
                    frame.lsn
                );
                return Err(ReplayError::Incomplete(text));
            }
            if !cuts.is_empty() {
                return Err(ReplayError::Incomplete("the schema changed during the replay".to_owned()));
            }
            if table.memory().total() > self.memory_max {
                table.encode(config)?;
                table.end_row_groups()?;
            }
            if table.open_files() > FILES_MAX {
                let text = format!("the rows would be split into more than {FILES_MAX} files");
                return Err(ReplayError::Incomplete(text));
            }
        }
        if records != cut.rows {
            let text = format!("the log and the archive have {records} of their {} records", cut.rows);
            return Err(ReplayError::Incomplete(text));
        }
        let made = table.finish(config)?.pop().filter(|made| made.cut.lsns == cut.lsns);
        let counted = made.as_ref().map_or(0, |made| made.cut.counts.stored + made.cut.counts.quarantined);
        match made {
            Some(made) if counted == cut.rows => Ok(made),
            // Never replace files with fewer records.
            _ => Err(ReplayError::Incomplete(format!(
                "only {counted} of their {} records became rows",
                cut.rows
            ))),
        }
    }

    /// Executes the recorded steps at the destination that precede, or follow, the change of the register.
    fn put(&mut self, replay: i64, after_swap: bool) -> Result<(), ReplayError> {
        let noted = self.catalog.replacements(replay)?;
        for replacement in noted.iter().filter(|noted| noted.after_swap == after_swap) {
            let StagedFile { object, bytes, checksum, .. } = &replacement.file;
            let staged = OutgoingFile::new(self.staged(object), *bytes, *checksum);
            let (sink, action) = (self.sink.clone(), replacement.action);
            let mut stopped = self.stopped.clone();
            self.runtime.block_on(async {
                let put = async {
                    match action {
                        Action::Create => sink.publish(&staged, object).await,
                        Action::Replace { old_bytes } => sink.replace(&staged, object, old_bytes).await,
                        Action::Remove => sink.remove(object).await,
                    }
                };
                tokio::select! {
                    done = put => done.map_err(ReplayError::from),
                    _ = stopped.wait_for(|stop| *stop != Stop::Run) => Err(ReplayError::Stopped),
                }
            })?;
            tracing::info!(replay, object, ?action, "replay step applied at the destination");
        }
        Ok(())
    }

    /// Executes the recorded steps of the current cut, or those that remain. The order ensures that at all times
    /// every row is in a file, and in a registered one.
    fn finish_replacing(&mut self, replay: i64) -> Result<(), ReplayError> {
        self.put(replay, false)?;
        self.catalog.swap(replay)?;
        self.put(replay, true)?;
        self.catalog.replaced(replay)?;
        // Wakes the tasks that hold back replaced files.
        self.progress.release();
        Ok(())
    }

    pub(super) fn staged(&self, object: &str) -> PathBuf {
        self.table_config.scratch_dir.join(name::staged(object))
    }

    /// Removes the files of a cut that is done or was abandoned.
    fn clean(&self) -> Result<(), ReplayError> {
        let dir = &self.table_config.scratch_dir;
        for entry in std::fs::read_dir(dir).context("list directory", dir)? {
            let path = entry.context("list directory", dir)?.path();
            std::fs::remove_file(&path).context("remove replayed file", &path)?;
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow() != Stop::Run
    }

    pub(super) fn check_stopped(&self) -> Result<(), ReplayError> {
        if self.is_stopped() { Err(ReplayError::Stopped) } else { Ok(()) }
    }

    /// Hands every staged file to the publisher again, which leaves out those that it has: a commit that failed may have
    /// registered files all the same. If the catalog still cannot be read, the next failure leads here again.
    fn hand_over(&self) {
        for file in self.catalog.staged().into_iter().flatten() {
            self.progress.registered(file.stream, Lsn::NONE, [(file.id, file.first_lsn, file.last_lsn)]);
            drop(self.to_publish.blocking_send(file));
        }
    }

    fn wait_for_work(&mut self) {
        let mut stopped = self.stopped.clone();
        self.runtime.block_on(async {
            tokio::select! {
                () = self.progress.replay_asked.notified() => {}
                _ = stopped.wait_for(|stop| *stop != Stop::Run) => {}
            }
        });
    }

    fn pause(&self, pause: Duration) {
        let mut stopped = self.stopped.clone();
        self.runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stop| *stop != Stop::Run) => {}
            }
        });
    }
}

/// The records of a past frame that a stream gets: those that name the stream, or, for a frame from before the
/// export existed, those of its receiver.
pub(super) fn taken_as(batch: &Batch<'_>, stream: &Stream, given: bool) -> Option<Target> {
    let named = batch.head.share_of(stream.id);
    if !given {
        return named;
    }
    let is_given = named.is_none() && stream.settings.receiver == Some(batch.head.stream);
    let (good, bad) = (batch.head.good, batch.head.bad);
    is_given.then_some(Target { stream: stream.id, version: None, good, bad })
}

/// The steps for each object, in order of execution: steps that add rows to files precede those that remove rows,
/// so that a moving row is always in some file.
fn plan(old: &[RegisteredFile], new: &[StagedFile]) -> Vec<Replacement> {
    let mut plan: Vec<(i128, Replacement)> = Vec::new();
    for file in new {
        let before = old.iter().find(|old| old.object == file.object);
        let action = match before {
            Some(before) if before.state == FileState::Published => {
                Action::Replace { old_bytes: before.bytes }
            }
            _ => Action::Create,
        };
        let growth = i128::from(file.rows) - i128::from(before.map_or(0, |before| before.rows));
        plan.push((growth, Replacement { file: file.clone(), action, after_swap: growth < 0 }));
    }
    for file in old.iter().filter(|old| !new.iter().any(|new| new.object == old.object)) {
        let RegisteredFile { kind, object, rows, bytes, .. } = file;
        let (rows, bytes) = (*rows, *bytes);
        let object = object.clone();
        let file = StagedFile { kind: *kind, object, rows, bytes, checksum: None, offsets: Vec::new() };
        plan.push((i128::MIN, Replacement { file, action: Action::Remove, after_swap: true }));
    }
    // Stable: steps that move no rows keep their order.
    plan.sort_by_key(|(growth, _)| std::cmp::Reverse(*growth));
    plan.into_iter().map(|(_, replacement)| replacement).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "within the replay directory, which is synced before the replacements are recorded"
)]
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), IoError> {
    std::fs::rename(from, to).context("stage file", from)
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), IoError> {
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).context("sync directory", dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::StreamId;
    use crate::catalog::FileKind;

    fn old(object: &str, rows: u64, state: FileState) -> RegisteredFile {
        RegisteredFile {
            id: 1,
            stream: StreamId(1),
            kind: FileKind::Rows,
            object: object.to_owned(),
            first_lsn: Lsn(1),
            last_lsn: Lsn(9),
            rows,
            bytes: rows * 10,
            checksum: None,
            schema_version: 1,
            state,
            staged_at: 0,
            published_at: None,
            attempts: 0,
            last_error: None,
            held: None,
        }
    }

    fn new(object: &str, rows: u64) -> StagedFile {
        let (object, bytes) = (object.to_owned(), rows * 11);
        StagedFile { kind: FileKind::Rows, object, rows, bytes, checksum: None, offsets: Vec::new() }
    }

    #[test]
    fn rows_are_added_to_files_before_they_are_taken_from_files() {
        let published = |object, rows| old(object, rows, FileState::Published);
        let before =
            [published("shrinks", 9), published("goes", 3), published("grows", 1), published("stays", 5)];
        let before = [&before[..], &[old("expired", 2, FileState::Expired)]].concat();
        let after = [new("shrinks", 2), new("stays", 5), new("grows", 4), new("comes", 7), new("expired", 2)];
        let plan = plan(&before, &after);
        let steps: Vec<(&str, Action, bool)> =
            plan.iter().map(|step| (step.file.object.as_str(), step.action, step.after_swap)).collect();
        let replace = |rows: u64| Action::Replace { old_bytes: rows * 10 };
        let expected = [
            ("comes", Action::Create, false),
            ("grows", replace(1), false),
            ("stays", replace(5), false),
            ("expired", Action::Create, false),
            ("shrinks", replace(9), true),
            ("goes", Action::Remove, true),
        ];
        assert_eq!(steps, expected);
    }
}
