//! The publisher: moves staged files to their destination, each independently, however long it takes.
//!
//! A staged file is registered in the catalog before it gets here, so no failure here loses data. Every error is
//! retried with backoff until `staging.retention` has passed.

use super::metrics::CompactorMetrics;
use super::name;
use super::remake::{Remade, Remaker};
use super::sink::{Sink, SinkError};
use super::staged::{OutgoingFile, StagedError};
use crate::catalog::{Catalog, CatalogError, FileKind, FileState, RegisteredFile};
use crate::clock::{Clock, Micros};
use crate::error::chain;
use crate::progress::Progress;
use crate::schema::Policy;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// The maximum number of concurrent transfers.
const CONCURRENT_MAX: usize = 4;
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_mins(1);
/// The minimum time for which each process retries a file before it gives up, however old the file seems: the
/// daemon may have been down, or the clock wrong.
const PATIENCE_MIN: Duration = Duration::from_hours(1);

/// Everything the publisher needs.
#[derive(Clone)]
pub(super) struct Publisher {
    pub(super) sink: Sink,
    pub(super) catalog: Arc<Catalog>,
    pub(super) progress: Arc<Progress>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<CompactorMetrics>,
    pub(super) staged_dir: PathBuf,
    pub(super) retention: Duration,
    pub(super) remaker: Arc<Remaker>,
}

impl Publisher {
    /// Publishes the files from `files` until the sender is gone and every file is settled, or until `stop` ends
    /// the wait. The next start publishes what is left.
    pub(super) async fn run(
        self,
        mut files: mpsc::Receiver<RegisteredFile>,
        mut stop: watch::Receiver<bool>,
    ) {
        let slots = Arc::new(Semaphore::new(CONCURRENT_MAX));
        let mut tasks = JoinSet::new();
        // The files on their way, each with the same file if it was handed over again.
        let mut under_way: HashMap<i64, Option<RegisteredFile>> = HashMap::new();
        let mut open = true;
        let mut dropping = pin!(self.clone().drop_tables());
        loop {
            tokio::select! {
                never = &mut dropping => match never {},
                file = files.recv(), if open => match file {
                    Some(file) => match under_way.entry(file.id) {
                        Entry::Occupied(mut known) => drop(known.insert(Some(file))),
                        Entry::Vacant(place) => {
                            place.insert(None);
                            tasks.spawn(self.clone().publish(file, Arc::clone(&slots)));
                        }
                    },
                    None => open = false,
                },
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    // A task that panicked names no file; the next start publishes it.
                    let again = done.ok().and_then(|id| Some((id, under_way.remove(&id)??)));
                    if let Some((id, file)) = again {
                        // It may have been settled before it was handed over again.
                        under_way.insert(id, None);
                        tasks.spawn(self.clone().publish(file, Arc::clone(&slots)));
                    }
                }
                // An error means that the sender is gone.
                _ = stop.wait_for(|stop| *stop) => return,
            }
            if !open && tasks.is_empty() {
                return;
            }
        }
    }

    /// Publishes a file, and returns its id once it is settled.
    async fn publish(self, file: RegisteredFile, slots: Arc<Semaphore>) -> i64 {
        let id = file.id;
        self.settle_file(file, &slots).await;
        id
    }

    async fn settle_file(&self, mut file: RegisteredFile, slots: &Semaphore) {
        let staged = self.staged_dir.join(name::staged(&file.object));
        let mut backoff = BACKOFF_MIN;
        let give_up_at = Instant::now() + self.patience(file.staged_at);
        loop {
            match self.hold(&file, give_up_at).await {
                Held::Not => {}
                Held::Replaced => {
                    remove(&staged);
                    self.progress.settled(file.stream, file.id);
                    return;
                }
                Held::TooLong => return self.expire(&file, &staged).await,
                Held::Dropped => return self.forget(&file, &staged).await,
            }
            let started = Instant::now();
            let outcome = {
                // Never closed: the publisher owns it.
                let _slot = slots.acquire().await;
                self.attempt(&file, &staged).await
            };
            self.metrics.publish_seconds.observe(started.elapsed());
            let mut gives_up = false;
            match outcome {
                Ok(()) => match self.settle(&file, &staged).await {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::error!(
                            error,
                            object = file.object,
                            "a file was published, but the catalog could not be updated"
                        );
                    }
                },
                Err(SinkError::Staged(damage)) => {
                    let text = chain(&damage);
                    match self.mend(&file, damage).await {
                        Ok(Remade::Made(made)) => file = made,
                        Ok(Remade::Lost | Remade::Settled) => {
                            return self.progress.settled(file.stream, file.id);
                        }
                        Err(reason) => {
                            let error = format!("{text}; it cannot be made anew: {reason}");
                            self.failed(&file, error, backoff).await;
                            gives_up = Instant::now() >= give_up_at;
                        }
                    }
                }
                Err(error) => {
                    self.failed(&file, chain(&error), backoff).await;
                    gives_up = Instant::now() >= give_up_at;
                }
            }
            if gives_up {
                return self.expire(&file, &staged).await;
            }
            let jitter = backoff.mul_f64(0.5 + fastrand::f64());
            tokio::time::sleep(jitter).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Reports a failed attempt.
    async fn failed(&self, file: &RegisteredFile, error: String, retry_in: Duration) {
        self.metrics.publish_errors.inc();
        tracing::warn!(error, object = file.object, ?retry_in, "could not publish a file, retrying");
        let (catalog, id) = (Arc::clone(&self.catalog), file.id);
        // Shown to the operator only; if this fails too, the log line above has reported the error.
        drop(tokio::task::spawn_blocking(move || catalog.mark_failed(id, &error)).await);
    }

    /// Makes a damaged staged file anew.
    async fn mend(&self, file: &RegisteredFile, damage: StagedError) -> Result<Remade, String> {
        let (remaker, file) = (Arc::clone(&self.remaker), file.clone());
        let remade = tokio::task::spawn_blocking(move || remaker.remake(&file, &damage)).await;
        remade.map_err(|error| error.to_string())?.map_err(|error| chain(&error))
    }

    /// Holds back a file that does not fit its table until an operator has fixed the table and releases the file.
    async fn hold(&self, file: &RegisteredFile, give_up_at: Instant) -> Held {
        let mut released = self.progress.released();
        let mut backoff = BACKOFF_MIN;
        loop {
            released.mark_unchanged();
            let (catalog, id) = (Arc::clone(&self.catalog), file.id);
            match tokio::task::spawn_blocking(move || look(&catalog, id)).await {
                Ok(Ok(Looked::Good)) => return Held::Not,
                Ok(Ok(Looked::Gone)) => return Held::Replaced,
                Ok(Ok(Looked::Dropped)) => return Held::Dropped,
                Ok(Ok(Looked::Misfit(reason))) => {
                    if file.held.is_none() {
                        tracing::warn!(
                            reason,
                            object = file.object,
                            "a file does not fit its table and is held back"
                        );
                    }
                }
                failed => {
                    let error = failed.map_or_else(
                        |error| error.to_string(),
                        |looked| looked.err().map_or_else(String::new, |error| chain(&error)),
                    );
                    tracing::error!(
                        error,
                        object = file.object,
                        "could not check whether a file fits its table, retrying"
                    );
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    continue;
                }
            }
            tokio::select! {
                // The sender lives as long as `progress`.
                _ = released.changed() => {}
                () = tokio::time::sleep_until(give_up_at.into()) => return Held::TooLong,
            }
        }
    }

    async fn attempt(&self, file: &RegisteredFile, staged: &Path) -> Result<(), SinkError> {
        let staged = OutgoingFile::new(staged.to_owned(), file.bytes, file.checksum);
        self.sink.publish(&staged, &file.object).await
    }

    async fn settle(&self, file: &RegisteredFile, staged: &Path) -> Result<(), String> {
        let (catalog, id) = (Arc::clone(&self.catalog), file.id);
        let marked = tokio::task::spawn_blocking(move || catalog.mark_published(&[id])).await;
        marked.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
        remove(staged);
        self.metrics.published_files.inc();
        self.metrics.published_bytes.inc_by(file.bytes);
        self.metrics.published_rows.inc_by(file.rows);
        self.progress.settled(file.stream, file.id);
        tracing::info!(object = file.object, rows = file.rows, bytes = file.bytes, "published");
        Ok(())
    }

    /// How long a file is retried from now on. Reads the wall clock once, so that clock jumps cannot expire a file.
    fn patience(&self, staged_at: Micros) -> Duration {
        let age = self.clock.now().saturating_sub(staged_at);
        let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
        self.retention.saturating_sub(age).max(self.retention.min(PATIENCE_MIN))
    }

    async fn expire(&self, file: &RegisteredFile, staged: &Path) {
        let (catalog, id) = (Arc::clone(&self.catalog), file.id);
        match tokio::task::spawn_blocking(move || catalog.mark_expired(id)).await {
            Ok(Ok(())) => {
                remove(staged);
                self.metrics.expired_rows.inc_by(file.rows);
                self.progress.settled(file.stream, file.id);
                tracing::error!(
                    object = file.object,
                    rows = file.rows,
                    "a file was not published within staging.retention, its rows are discarded"
                );
            }
            Ok(Err(error)) => {
                tracing::error!(error = %chain(&error), "a file's retention expired, but the catalog could not be updated");
            }
            Err(error) => {
                tracing::error!(%error, "a file's retention expired, but the catalog could not be updated");
            }
        }
    }
}

/// Whether a file is held back.
enum Held {
    Not,
    /// It is no longer staged: other files replaced it.
    Replaced,
    TooLong,
    /// Its table was dropped: it must not become visible.
    Dropped,
}

/// The catalog's state of a file that is to be published.
enum Looked {
    Good,
    Misfit(String),
    /// It is no longer staged.
    Gone,
    Dropped,
}

/// Whether a file is held back, for the recorded reason or for one found now, which is then recorded.
fn look(catalog: &Catalog, id: i64) -> Result<Looked, CatalogError> {
    let Some(file) = catalog.file(id)?.filter(|file| file.state == FileState::Staged) else {
        return Ok(Looked::Gone);
    };
    if catalog.streams().get(file.stream).is_some_and(|stream| stream.dropped) {
        return Ok(Looked::Dropped);
    }
    if let Some(reason) = file.held {
        return Ok(Looked::Misfit(reason));
    }
    let Some(reason) = misfit(catalog, &file)? else { return Ok(Looked::Good) };
    catalog.hold(id, Some(&reason))?;
    Ok(Looked::Misfit(reason))
}

/// Why a file's columns differ from those of its table; `None` if they match.
fn misfit(catalog: &Catalog, file: &RegisteredFile) -> Result<Option<String>, CatalogError> {
    let Some(stream) = catalog.streams().get(file.stream).cloned() else { return Ok(None) };
    if stream.policy != Policy::Mapped || file.kind != FileKind::Rows {
        return Ok(None);
    }
    let then = catalog.rules(file.stream, file.schema_version)?;
    Ok(then.and_then(|then| then.misfit(&stream.rules())))
}

/// Removes a staged file that the register no longer needs.
pub(super) fn remove(staged: &Path) {
    if let Err(error) = std::fs::remove_file(staged)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %staged.display(), "could not remove a file from staging");
    }
}
