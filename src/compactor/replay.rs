//! Replay: makes a stream's files of the past anew from log and archive, under the rules of now.
//!
//! One replay at a time, one cut at a time, on a thread of its own: a cut's frames are read again, become files in
//! `staged/replay/`, and take the place of the files that hold them now. These have the same names, so each is replaced in
//! one step. Where rows move between files, they are added to one before they are taken from the other. The register
//! changes in one transaction between the two. Every step is noted before it is done and can be repeated, so whoever dies in
//! the middle is gone on with by the next start.

use super::config::Stop;
use super::metrics::Metrics;
use super::name;
use super::sink::{Sink, SinkError};
use super::table::{FinishedCut, Table, TableConfig, TableError};
use crate::batch::{Batch, BodyKind, Target};
use crate::catalog::{
    Action, Catalog, CatalogError, CutRecord, FileState, NewFile, RegisteredFile, Replacement, Replay,
    ReplayState, Stream, Swap,
};
use crate::columns::Limits;
use crate::error::{IoContext, IoError, chain};
use crate::progress::Progress;
use crate::wal::archive::ArchiveError;
use crate::wal::{LsnRange, Past};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{mpsc, watch};

/// As `nice` counts: what comes in goes first.
const PRIORITY: i32 = 10;
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Files that one cut may become.
const FILES_MAX: usize = 512;
/// Frames between two looks at whether the daemon is to stop, and how much memory is in use.
const FRAMES_PER_LOOK: u64 = 64;

/// Directory of files that are about to replace others.
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
    /// This cut cannot be made anew, however often it is tried.
    #[error("{0}")]
    Incomplete(String),
    #[error("cancelled")]
    Cancelled,
    /// Nothing is wrong; the next start goes on.
    #[error("the daemon stops")]
    Stopped,
}

/// What frames that cannot be read mean for a replay.
impl From<ArchiveError> for ReplayError {
    fn from(error: ArchiveError) -> Self {
        Self::Incomplete(chain(&error))
    }
}

/// The thread's state.
pub(super) struct Replayer {
    pub(super) past: Past,
    pub(super) catalog: Arc<Catalog>,
    pub(super) progress: Arc<Progress>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) sink: Sink,
    pub(super) to_publish: mpsc::Sender<RegisteredFile>,
    pub(super) staged_dir: PathBuf,
    /// Held while files are staged and not yet registered.
    pub(super) staging: Arc<Mutex<()>>,
    pub(super) runtime: Runtime,
    pub(super) stopped: watch::Receiver<Stop>,
    /// Its scratch directory is that of replays.
    pub(super) table_config: TableConfig,
    pub(super) limits: Limits,
    /// For rows and unfinished row groups.
    pub(super) memory_max: usize,
}

impl Replayer {
    pub(super) fn run(mut self) {
        if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
            tracing::debug!(%error, "replays have the priority of everything else");
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
                    tracing::warn!(error, replay = id, retry_in = ?backoff, "a replay does not get on");
                    if let Some(id) = id {
                        // For the operator's eyes only; the log line above has said it.
                        drop(self.catalog.note_replay(id, Some(&error)));
                    }
                    self.pause(backoff);
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Does what is left of one replay.
    fn replay(&mut self, replay: &Replay) -> Result<(), ReplayError> {
        self.catalog.begin_replay(replay.id)?;
        let (id, asked) = (replay.id, &replay.asked);
        let Some(stream) = self.catalog.streams().get(asked.stream).cloned() else {
            self.catalog.end_replay(id, ReplayState::Failed, Some("there is no such stream"))?;
            return Ok(());
        };
        self.finish_replacing(id)?;
        self.clean()?;
        if stream.dropped {
            self.catalog.end_replay(id, ReplayState::Failed, Some("the table of the stream was dropped"))?;
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
            // The rules of now, also if they change in the middle.
            let stream =
                self.catalog.streams().get(asked.stream).cloned().unwrap_or_else(|| Arc::clone(&stream));
            match self.replay_cut(replay, &stream, &cut) {
                Err(ReplayError::Incomplete(reason)) if asked.partial => {
                    tracing::warn!(replay = id, first = %cut.lsns.first, last = %cut.lsns.last, reason, "files are left as they are");
                    self.catalog.leave_out(id, cut.lsns, &cut.left_as_it_is(&[], &reason))?;
                }
                Err(ReplayError::Incomplete(reason)) => {
                    tracing::error!(replay = id, first = %cut.lsns.first, last = %cut.lsns.last, reason, "a replay failed");
                    let LsnRange { first, last } = cut.lsns;
                    let error = format!("the files of {first} to {last} cannot be made anew: {reason}");
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
        tracing::info!(replay = id, stream = stream.name, "a replay is done");
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

    /// Files that are on their way to the destination are waited for: until then nobody knows what stands there.
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

    /// Writes the files of a cut anew.
    pub(super) fn make(&self, stream: &Arc<Stream>, cut: &CutRecord) -> Result<FinishedCut, ReplayError> {
        let mut table = Table::again(Arc::clone(stream), self.limits);
        table.numbered = cut.first_number.saturating_sub(1);
        let made = self.fill(&mut table, stream, cut);
        if made.is_err() {
            table.abandon();
        }
        made
    }

    pub(super) fn fill(
        &self,
        table: &mut Table,
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
                // Nobody had looked into it when it was answered.
                BodyKind::Xml => counts.stored + counts.quarantined.total(),
                _ => u64::from(target.good) + u64::from(target.bad),
            };
            if stream.settings.partitions > 0 && counts.stored != u64::from(target.good) {
                let text = format!("rows of {} would have other offsets than they were given", frame.lsn);
                return Err(ReplayError::Incomplete(text));
            }
            if !cuts.is_empty() {
                return Err(ReplayError::Incomplete("the schema grew while it was applied".to_owned()));
            }
            if table.memory().total() > self.memory_max {
                table.encode(config)?;
                table.end_row_groups()?;
            }
            if table.open_files() > FILES_MAX {
                let text = format!("they would become more than {FILES_MAX} files");
                return Err(ReplayError::Incomplete(text));
            }
        }
        if records != cut.rows {
            let text = format!("log and archive have {records} of their {} records", cut.rows);
            return Err(ReplayError::Incomplete(text));
        }
        let made = table.finish(config)?.pop().filter(|made| made.cut.lsns == cut.lsns);
        let counted = made.as_ref().map_or(0, |made| made.cut.counts.stored + made.cut.counts.quarantined);
        match made {
            Some(made) if counted == cut.rows => Ok(made),
            // Never to be put in the place of more.
            _ => Err(ReplayError::Incomplete(format!("{counted} of their {} records became rows", cut.rows))),
        }
    }

    /// Does what was noted to be done at the destination before, or after, the register changes.
    fn put(&mut self, replay: i64, after_swap: bool) -> Result<(), ReplayError> {
        let noted = self.catalog.replacements(replay)?;
        for replacement in noted.iter().filter(|noted| noted.after_swap == after_swap) {
            let (object, staged) = (&replacement.file.object, self.staged(&replacement.file.object));
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
            tracing::info!(replay, object, ?action, "replayed");
        }
        Ok(())
    }

    /// Does what was noted for the cut under way, or what of it may not be done yet: in an order in which no row is in no
    /// file, nor in no registered one.
    fn finish_replacing(&mut self, replay: i64) -> Result<(), ReplayError> {
        self.put(replay, false)?;
        self.catalog.swap(replay)?;
        self.put(replay, true)?;
        self.catalog.replaced(replay)?;
        // Who held some of them back has nothing more to do.
        self.progress.release();
        Ok(())
    }

    pub(super) fn staged(&self, object: &str) -> PathBuf {
        self.table_config.scratch_dir.join(name::staged(object))
    }

    /// Removes what is left of a cut that is done, or was given up.
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

/// What a stream gets of a frame of the past: as it was named, or, for frames that came before there was such an export,
/// as its receiver's.
pub(super) fn taken_as(batch: &Batch<'_>, stream: &Stream, given: bool) -> Option<Target> {
    let named = batch.head.of(stream.id);
    if !given {
        return named;
    }
    let is_given = named.is_none() && stream.settings.receiver == Some(batch.head.stream);
    let (good, bad) = (batch.head.good, batch.head.bad);
    is_given.then_some(Target { stream: stream.id, version: None, good, bad })
}

/// What becomes of each object, in the order in which it is done: what adds rows to files comes before what takes rows
/// from them, so that a row that moves is never in none.
fn plan(old: &[RegisteredFile], new: &[NewFile]) -> Vec<Replacement> {
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
        let file = NewFile { kind: *kind, object: object.clone(), rows, bytes, offsets: Vec::new() };
        plan.push((i128::MIN, Replacement { file, action: Action::Remove, after_swap: true }));
    }
    // Stable: what moves nothing stays in its order.
    plan.sort_by_key(|(growth, _)| std::cmp::Reverse(*growth));
    plan.into_iter().map(|(_, replacement)| replacement).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "within the directory of replays, which is synced before it counts"
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
    use crate::wal::Lsn;

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
            schema_version: 1,
            state,
            staged_at: 0,
            published_at: None,
            attempts: 0,
            last_error: None,
            held: None,
        }
    }

    fn new(object: &str, rows: u64) -> NewFile {
        let (object, bytes) = (object.to_owned(), rows * 11);
        NewFile { kind: FileKind::Rows, object, rows, bytes, offsets: Vec::new() }
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
