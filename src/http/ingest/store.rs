//! Appends a batch to the log and waits for as much durability as the client asks for.

use super::IngestHandler;
use super::received::{BodyVerdict, Checked};
use crate::batch::{self, Batch, BatchHead, StreamId};
use crate::catalog::Stream;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::{Accepted, Durability, Reply, Wait};
use crate::error::chain;
use crate::idempotency::{self, Claim, Fingerprint, KeyHash, Stored};
use crate::offsets::{Division, Numbered, Numbering};
use crate::wal::{self, AppendError, Lsn, NewFrame, SyncError};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a request waits for space in the log before it is refused.
const SPACE_WAIT: Duration = Duration::from_millis(250);
/// After this, a request that waits for its file is answered as synced but not yet published.
const TABLE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a repeated request waits for the first one to finish, and for the keys of earlier runs to be loaded.
const KEY_PATIENCE: Duration = Duration::from_secs(5);
/// How long a request for a stream with numbered rows waits after a start for the offsets to be loaded.
const OFFSETS_PATIENCE: Duration = Duration::from_secs(5);
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The destination and the sender of a batch.
pub(super) struct BatchOrigin<'a> {
    pub(super) stream: &'a Stream,
    pub(super) contract: batch::Tag,
    pub(super) client_ip: IpAddr,
    pub(super) key: Option<&'a str>,
}

/// The result of storing the records of a request.
pub(super) struct StoreOutcome {
    pub(super) accepted: Accepted,
    /// An earlier request with the same key had already stored them.
    pub(super) replayed: bool,
}

impl StoreOutcome {
    /// Marks the response to a repeated request as replayed.
    pub(super) fn mark(&self, mut reply: Reply) -> Reply {
        if self.replayed {
            let name = HeaderName::from_static("idempotency-replayed");
            reply.headers.push((name, HeaderValue::from_static("true")));
        }
        reply
    }
}

/// Returns the `Idempotency-Key` of a request.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<&str>, Reject> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| idempotency::is_key(key.as_bytes()));
    match (key, values.next()) {
        (Some(key), None) => Ok(Some(key)),
        (_, Some(_)) => {
            Err(Reject::malformed("The 'Idempotency-Key' header is given more than once").close())
        }
        (None, None) => {
            Err(Reject::malformed("The 'Idempotency-Key' header must be 1 to 256 visible ASCII characters")
                .close())
        }
    }
}

impl IngestHandler {
    /// Appends the records of a request as one batch, unless they are already stored, and waits as requested.
    pub(super) async fn store(
        &self,
        origin: &BatchOrigin<'_>,
        body: &Checked,
        wait: Wait,
    ) -> Result<StoreOutcome, Reject> {
        let found = match origin.key {
            None => Ok(self.append(origin, body).await?),
            Some(key) => self.append_once(origin, body, key).await?,
        };
        let verdict = &body.verdict;
        let (lsn, stored, quarantined, numbered) = match &found {
            Ok((lsn, numbered)) => {
                let bytes = body.pieces.iter().map(|piece| piece.len() as u64).sum();
                self.metrics.appended(verdict.good, verdict.bad, bytes);
                (*lsn, verdict.good, verdict.bad, numbered.clone())
            }
            Err(first) => {
                self.metrics.replayed();
                let numbered = match origin.stream.settings.partitions {
                    0 => None,
                    _ => self.numbered_before(first.lsn, body).await,
                };
                (first.lsn, first.good.into(), first.bad.into(), numbered)
            }
        };
        // A repeat waits as it requests itself, so that the durability it reports is current.
        let state = self.wait(wait, &lands_in(origin.stream, body), lsn).await?;
        let (exports, refused) = (body.fan.exports.clone(), body.fan.refused.clone());
        let receiver = body.fan.receiver.clone();
        let invalid = verdict.invalid();
        let lsn = lsn.0;
        let accepted =
            Accepted { lsn, stored, quarantined, invalid, state, exports, receiver, refused, numbered };
        Ok(StoreOutcome { accepted, replayed: found.is_err() })
    }

    /// Appends, unless an earlier request with the same key did. The inner error is the result of that request.
    async fn append_once(
        &self,
        origin: &BatchOrigin<'_>,
        body: &Checked,
        key: &str,
    ) -> Result<Result<(Lsn, Option<Numbered>), Stored>, Reject> {
        let fingerprint = Fingerprint::of(body.pieces.iter().map(|piece| &piece[..]));
        let hash = KeyHash::new(origin.stream.id, key);
        let ticket = match self.keys.claim(hash, fingerprint, self.clock.now(), KEY_PATIENCE).await {
            Claim::First(ticket) => ticket,
            Claim::Repeat(first) => return Ok(Err(first)),
            refused => return Err(claim_refused(&refused)),
        };
        // No await between the append and recording the key: if the client disconnects, both happened or neither.
        match self.append(origin, body).await {
            Ok((lsn, numbered)) => {
                ticket.stored(lsn, count(body.verdict.good), count(body.verdict.bad));
                Ok(Ok((lsn, numbered)))
            }
            Err(reject) => {
                if reject.kind == RejectKind::Unknown {
                    ticket.unknown();
                }
                Err(reject)
            }
        }
    }

    async fn append(
        &self,
        origin: &BatchOrigin<'_>,
        body: &Checked,
    ) -> Result<(Lsn, Option<Numbered>), Reject> {
        let bytes = body.pieces.iter().map(|piece| piece.len() as u64).sum();
        let batch = BatchHead {
            good: count(body.verdict.good),
            bad: count(body.verdict.bad),
            client_ip: Some(origin.client_ip),
            schema_version: body.verdict.version,
            idempotency_key: origin.key,
            targets: body.fan.targets.clone(),
            request: body.fan.request.as_deref(),
            body_bytes: (!body.fan.results.is_empty()).then(|| count(bytes)),
            ..BatchHead::new(origin.stream.id, origin.contract, body.kind)
        };
        let with_results;
        let pieces = if body.fan.results.is_empty() {
            &body.pieces
        } else {
            with_results = [&body.pieces[..], std::slice::from_ref(&body.fan.results)].concat();
            &with_results
        };
        let append = |head: &[u8]| {
            // The records were checked with this receive time. Reading the clock again could make a record late.
            self.wal.append(&NewFrame { ts: body.received_at, ext: &[], head, body: pieces })
        };
        if origin.stream.settings.partitions == 0 {
            let head = batch.encode();
            return Ok((self.append_patiently(|| append(&head)).await?, None));
        }
        let numbering = self.numbering(origin.stream).await?;
        let division = division(origin.stream, &body.verdict);
        let numbered = self.append_patiently(|| {
            numbering.append(&division, |offsets| {
                append(&BatchHead { offsets: offsets.to_vec(), ..batch.clone() }.encode())
            })
        });
        let (lsn, numbered) = numbered.await?;
        Ok((lsn, Some(numbered)))
    }

    /// Appends, and retries briefly if the log is full.
    async fn append_patiently<T>(&self, append: impl Fn() -> Result<T, AppendError>) -> Result<T, Reject> {
        match append() {
            Err(AppendError::Full(_)) => {}
            Err(error) => return Err(append_refused(&error)),
            Ok(done) => return Ok(done),
        }
        let deadline = tokio::time::Instant::now() + SPACE_WAIT;
        loop {
            let space = self.wal.space();
            let full = match append() {
                Err(AppendError::Full(full)) => full,
                Err(error) => return Err(append_refused(&error)),
                Ok(done) => return Ok(done),
            };
            if tokio::time::timeout_at(deadline, space).await.is_err() {
                let seconds = if matches!(full, wal::Full::Unsynced | wal::Full::Preparing) { 1 } else { 5 };
                return Err(Reject::new(RejectKind::Full, full.to_string()).retry_after(seconds));
            }
        }
    }

    /// The offset counters of a stream with numbered rows.
    async fn numbering(&self, stream: &Stream) -> Result<Arc<Numbering>, Reject> {
        let offsets = &self.control.records.offsets;
        if !offsets.ready(OFFSETS_PATIENCE).await {
            let message = "the offsets of earlier records are still being read; retry later";
            return Err(Reject::new(RejectKind::Unavailable, message).retry_after(1));
        }
        Ok(offsets.numbering(stream.id, stream.settings.partitions))
    }

    /// The offsets of the records of an earlier, identical request.
    async fn numbered_before(&self, lsn: Lsn, body: &Checked) -> Option<Numbered> {
        let past = self.wal.past();
        let found = tokio::task::spawn_blocking(move || {
            let found = past.find(lsn).inspect_err(|error| {
                tracing::warn!(%lsn, error = %chain(error), "cannot read the offsets of an earlier, identical request");
            });
            let (_, _, payload) = found.ok()??;
            Some(Batch::decode(&payload).ok()?.head.offsets)
        });
        // Without the offsets, the response only says less.
        let ranges = found.await.ok()??;
        Some(Numbered::new(ranges, &body.verdict.partitions))
    }

    async fn wait(&self, wait: Wait, streams: &[StreamId], lsn: Lsn) -> Result<Durability, Reject> {
        if wait == Wait::Append {
            return Ok(Durability::Appended);
        }
        match self.wal.synced(lsn).await {
            Ok(()) => {}
            Err(SyncError::Late) => return Ok(Durability::SyncPending),
            Err(error @ SyncError::Poisoned) => {
                return Err(Reject::new(RejectKind::Unknown, format!("{error}; receipt {lsn}")));
            }
        }
        if wait == Wait::Sync {
            return Ok(Durability::Synced);
        }
        let published = async {
            // Request publication of all streams before waiting for the first.
            for stream in streams {
                self.progress.ask(*stream, lsn);
            }
            for stream in streams {
                self.progress.published(*stream, lsn).await;
            }
        };
        if tokio::time::timeout(TABLE_DEADLINE, published).await.is_err() {
            return Ok(Durability::PublishPending);
        }
        let (catalog, streams) = (Arc::clone(&self.catalog), streams.to_vec());
        let files = move || {
            let files = streams.iter().map(|stream| catalog.files_with(*stream, lsn));
            files.collect::<Result<Vec<_>, _>>().map(|files| files.concat())
        };
        match tokio::task::spawn_blocking(files).await {
            Ok(Ok(files)) => Ok(Durability::Published(files.into_iter().map(|file| file.object).collect())),
            // The rows are published; only the names of their files are unavailable.
            _ => Ok(Durability::Published(Vec::new())),
        }
    }
}

/// How the rows of a body are distributed over the partitions of its stream.
fn division(stream: &Stream, verdict: &BodyVerdict) -> Division {
    match stream.settings.key.as_slice() {
        [] => Division::Turn(count(verdict.good)),
        _ => Division::Keyed(verdict.partitions.clone()),
    }
}

/// The streams whose tables the records are written to.
fn lands_in(stream: &Stream, body: &Checked) -> Vec<StreamId> {
    let own = stream.settings.landing.table.then_some(stream.id);
    own.into_iter().chain(body.fan.targets.iter().map(|target| target.stream)).collect()
}

fn count(records: u64) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX)
}

fn claim_refused(claim: &Claim) -> Reject {
    match claim {
        Claim::OtherBody => Reject::new(
            RejectKind::Unprocessable,
            "this Idempotency-Key was already used with a different body",
        ),
        Claim::Full => {
            let message = "too many idempotency keys are in use: limits.idempotency_keys_max is reached";
            Reject::new(RejectKind::Full, message).retry_after(60)
        }
        Claim::Late => {
            let message = "it is not yet known whether this Idempotency-Key was already used; retry later";
            Reject::new(RejectKind::Unavailable, message).retry_after(1)
        }
        Claim::First(_) | Claim::Repeat(_) | Claim::Unknown => {
            let message = "it is not known whether the first request with this Idempotency-Key was stored";
            Reject::new(RejectKind::Unknown, message)
        }
    }
}

fn append_refused(error: &AppendError) -> Reject {
    match error {
        AppendError::Full(full) => Reject::new(RejectKind::Full, full.to_string()).retry_after(1),
        AppendError::TooLarge { .. } => Reject::new(RejectKind::TooLarge, error.to_string()),
        AppendError::Poisoned => Reject::new(RejectKind::Unavailable, error.to_string()).retry_after(5),
        AppendError::Closed => {
            Reject::new(RejectKind::Unavailable, "the daemon is shutting down").retry_after(5).close()
        }
        AppendError::Unknown(_) => {
            let internal = Some(crate::error::chain(error).into());
            Reject {
                internal,
                ..Reject::new(RejectKind::Unknown, "it is not known whether the records were stored")
            }
        }
    }
}
