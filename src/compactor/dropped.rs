//! Removes the files of streams whose tables were dropped.

use super::publish::{Publisher, remove};
use crate::catalog::RegisteredFile;
use crate::error::chain;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Number of files looked up at a time.
const FILES: u32 = 256;
/// A file may be published, or rewritten, while its stream is dropped.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

impl Publisher {
    /// Removes published files of dropped streams, forever. Failed removals are retried later.
    pub(super) async fn drop_tables(self) -> Infallible {
        loop {
            if let Err(error) = self.drop_published().await {
                tracing::warn!(error, retry_in = ?LOOK_AGAIN, "could not remove a file of a dropped table, retrying");
            }
            tokio::select! {
                () = self.progress.drop_asked.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn drop_published(&self) -> Result<(), String> {
        loop {
            let catalog = Arc::clone(&self.catalog);
            let files = tokio::task::spawn_blocking(move || catalog.files_to_drop(FILES)).await;
            let files = files.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
            if files.is_empty() {
                return Ok(());
            }
            for file in files {
                self.sink.remove(&file.object).await.map_err(|error| chain(&error))?;
                self.note_dropped(&file).await?;
                tracing::info!(
                    object = file.object,
                    rows = file.rows,
                    "removed a published file because its table was dropped"
                );
            }
        }
    }

    /// Discards a staged file whose table was dropped.
    pub(super) async fn forget(&self, file: &RegisteredFile, staged: &Path) {
        match self.note_dropped(file).await {
            Ok(()) => remove(staged),
            // The next start finds it staged, and its table dropped, again.
            Err(error) => tracing::error!(
                error,
                object = file.object,
                "could not record in the catalog that a file was dropped"
            ),
        }
        self.progress.settled(file.stream, file.id);
    }

    async fn note_dropped(&self, file: &RegisteredFile) -> Result<(), String> {
        let (catalog, id) = (Arc::clone(&self.catalog), file.id);
        let noted = tokio::task::spawn_blocking(move || catalog.mark_dropped(id)).await;
        noted.map_err(|error| error.to_string())?.map_err(|error| chain(&error))
    }
}
