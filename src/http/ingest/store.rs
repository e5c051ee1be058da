//! A batch into the log, and as far as the client wants to wait.

use super::super::dialect::{Accepted, Durability, Wait};
use super::super::reject::{Kind, Reject};
use super::IngestHandler;
use super::received::Checked;
use crate::batch::{self, BatchHead};
use crate::catalog::Stream;
use crate::wal::{self, AppendError, Lsn, NewFrame, SyncError};
use bytes::Bytes;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a request waits for room in the log before it is refused.
const SPACE_WAIT: Duration = Duration::from_millis(250);
/// After this, a request that waits for its file is told that it is synced.
const TABLE_DEADLINE: Duration = Duration::from_secs(30);

/// Where a batch goes and whom it comes from.
pub(super) struct Origin<'a> {
    pub(super) stream: &'a Stream,
    pub(super) dialect: batch::Dialect,
    pub(super) client_ip: IpAddr,
}

impl IngestHandler {
    /// Appends the records of a request as one batch and waits as asked.
    pub(super) async fn store(
        &self,
        origin: &Origin<'_>,
        body: &Checked,
        wait: Wait,
    ) -> Result<Accepted, Reject> {
        let verdict = &body.verdict;
        let batch = BatchHead {
            stream: origin.stream.id,
            dialect: origin.dialect,
            kind: body.kind,
            good: u32::try_from(verdict.good).unwrap_or(u32::MAX),
            bad: u32::try_from(verdict.bad).unwrap_or(u32::MAX),
            client_ip: Some(origin.client_ip),
        };
        let lsn = self.append(&batch.encode(), &body.pieces).await?;
        self.metrics.appended(
            verdict.good,
            verdict.bad,
            body.pieces.iter().map(|piece| piece.len() as u64).sum(),
        );
        let state = self.wait(wait, origin.stream, lsn).await?;
        Ok(Accepted {
            lsn: lsn.0,
            stored: verdict.good,
            quarantined: verdict.bad,
            invalid: verdict.bad,
            state,
        })
    }

    async fn append(&self, head: &[u8], body: &[Bytes]) -> Result<Lsn, Reject> {
        let frame = NewFrame { ts: self.clock.now(), ext: &[], head, body };
        let mut refused = match self.wal.append(&frame) {
            Ok(lsn) => return Ok(lsn),
            Err(error) => error,
        };
        let deadline = tokio::time::Instant::now() + SPACE_WAIT;
        loop {
            let AppendError::Full(full) = refused else { return Err(append_refused(&refused)) };
            let space = self.wal.space();
            let waited = tokio::time::timeout_at(deadline, space).await;
            refused = match self.wal.append(&frame) {
                Ok(lsn) => return Ok(lsn),
                Err(error) => error,
            };
            if waited.is_err() {
                let seconds = if matches!(full, wal::Full::Unsynced | wal::Full::Preparing) { 1 } else { 5 };
                return Err(Reject::new(Kind::Full, full.to_string()).retry_after(seconds));
            }
        }
    }

    async fn wait(&self, wait: Wait, stream: &Stream, lsn: Lsn) -> Result<Durability, Reject> {
        if wait == Wait::Append {
            return Ok(Durability::Appended);
        }
        match self.wal.synced(lsn).await {
            Ok(()) => {}
            Err(SyncError::Late) => return Ok(Durability::SyncPending),
            Err(error @ SyncError::Poisoned) => {
                return Err(Reject::new(Kind::Unknown, format!("{error}; receipt {lsn}")));
            }
        }
        if wait == Wait::Sync {
            return Ok(Durability::Synced);
        }
        if tokio::time::timeout(TABLE_DEADLINE, self.progress.published(stream.id, lsn)).await.is_err() {
            return Ok(Durability::PublishPending);
        }
        let (catalog, id) = (Arc::clone(&self.catalog), stream.id);
        match tokio::task::spawn_blocking(move || catalog.files_with(id, lsn)).await {
            Ok(Ok(files)) => Ok(Durability::Published(files.into_iter().map(|file| file.object).collect())),
            // The rows are published; only their address is not at hand.
            _ => Ok(Durability::Published(Vec::new())),
        }
    }
}

fn append_refused(error: &AppendError) -> Reject {
    match error {
        AppendError::Full(full) => Reject::new(Kind::Full, full.to_string()).retry_after(1),
        AppendError::TooLarge { .. } => Reject::new(Kind::TooLarge, error.to_string()),
        AppendError::Poisoned => Reject::new(Kind::Unavailable, error.to_string()).retry_after(5),
        AppendError::Closed => {
            Reject::new(Kind::Unavailable, "the daemon is shutting down").retry_after(5).close()
        }
        AppendError::Unknown(_) => {
            let internal = Some(crate::error::chain(error));
            Reject {
                internal,
                ..Reject::new(Kind::Unknown, "it is not known whether the records were stored")
            }
        }
    }
}
