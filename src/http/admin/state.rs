//! The state of the daemon: metrics, status, the log, publication, receipts.

use super::health::not_ready;
use super::problem::{Problem, blocking, ok, parameter, respond, timestamp};
use super::{AdminRequest, AdminResult, DaemonPhase, RunningDaemon};
use crate::batch::{Batch, StreamId};
use crate::catalog::{FileState, Loss, RegisteredFile};
use crate::error::chain;
use crate::wal::{Lsn, Whereabouts};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long `publish` waits for publication.
const PUBLISH_DEADLINE: Duration = Duration::from_mins(1);
/// The most losses shown, latest first.
const LOSSES_MAX: u32 = 100;
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl RunningDaemon {
    pub(super) fn metrics(&self) -> AdminResult {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded"))?;
        Ok(respond(StatusCode::OK, METRICS_TYPE, text))
    }

    pub(super) async fn status(&self, phase: &DaemonPhase) -> Result<Value, Problem> {
        let status = self.wal.status();
        let compactor = &self.progress.compactor;
        let checkpoint = Lsn(compactor.checkpoint_lsn.load(Ordering::Relaxed));
        let catalog = Arc::clone(&self.catalog);
        let staged = blocking(move || catalog.staged()).await?;
        let reason = not_ready(phase);
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.node,
            "ready": reason.is_none(),
            "reason": reason,
            "uptime_seconds": self.started.elapsed().as_secs(),
            "watermarks": {
                "appended": status.appended,
                "durable": status.durable,
                "checkpoint": checkpoint,
                "published": self.progress.published_through(checkpoint),
            },
            "lag_seconds": {
                "checkpoint": self.seconds_since(compactor.oldest_open.load(Ordering::Relaxed)),
                "published": self.seconds_since(staged.iter().map(|file| file.staged_at).min().unwrap_or(0)),
            },
            "accepted": {"rows": self.http_metrics.accepted_rows(), "bytes": self.http_metrics.accepted_bytes()},
            "log": {
                "bytes": status.log_bytes,
                "segments": status.segments.len(),
                "unsynced_bytes": status.unsynced_bytes,
                "refusing": status.refusing.map(|full| full.to_string()),
            },
            "compactor": {
                "memory_bytes": compactor.memory_bytes.load(Ordering::Relaxed),
                "open_files": compactor.open_files.load(Ordering::Relaxed),
                "last_error": *compactor.last_error.lock(),
            },
            "staged": {"files": staged.len(), "bytes": staged.iter().map(|file| file.bytes).sum::<u64>()},
            "destination": self.destination,
            "streams": self.catalog.streams().all().len(),
        }))
    }

    fn seconds_since(&self, at: i64) -> f64 {
        if at == 0 { 0.0 } else { (self.clock.now() - at).max(0) as f64 / 1e6 }
    }

    pub(super) async fn wal_report(&self) -> AdminResult {
        let status = self.wal.status();
        let catalog = Arc::clone(&self.catalog);
        let losses = blocking(move || catalog.losses(LOSSES_MAX)).await?;
        let loss = |loss: &Loss| {
            json!({
                "first": loss.first,
                "last": loss.last,
                "reason": loss.reason,
                "found_at": timestamp(loss.found_at),
            })
        };
        let losses: Vec<Value> = losses.iter().map(loss).collect();
        Ok(ok(&json!({
            "appended": status.appended,
            "durable": status.durable,
            "appended_frames": status.appended_frames,
            "appended_bytes": status.appended_bytes,
            "unsynced_bytes": status.unsynced_bytes,
            "prepared_segments": status.prepared,
            "log_bytes": status.log_bytes,
            "backend": status.backend,
            "refusing": status.refusing.map(|full| full.to_string()),
            "segments": status.segments,
            "archive": status.archive,
            "recovery": self.recovery,
            "losses": losses,
        })))
    }

    /// Closes the open files and waits until everything accepted so far is published.
    pub(super) async fn publish(&self, request: &AdminRequest<'_>) -> AdminResult {
        let only = parameter(request.query, "stream").map(|id| self.find(&id)).transpose()?;
        let lsn = self.wal.status().appended;
        let streams: Vec<StreamId> = match &only {
            Some(stream) => vec![stream.id],
            None => self.catalog.streams().every_id(),
        };
        let published = async {
            if self.wal.synced(lsn).await.is_err() {
                return false;
            }
            self.progress.closed(only.as_ref().map(|stream| stream.id), lsn).await;
            for stream in &streams {
                self.progress.settled_through(*stream, lsn).await;
            }
            true
        };
        let done = tokio::time::timeout(PUBLISH_DEADLINE, published).await == Ok(true);
        if done {
            return Ok(ok(&json!({"published": true, "through": lsn})));
        }
        let catalog = Arc::clone(&self.catalog);
        let staged = blocking(move || catalog.staged()).await?;
        let waiting: Vec<Value> =
            staged.iter().filter(|file| streams.contains(&file.stream)).map(file).collect();
        let detail = json!({
            "type": "about:blank",
            "title": "Gateway Timeout",
            "status": 504,
            "detail": format!("not everything up to {lsn} was published within {} s", PUBLISH_DEADLINE.as_secs()),
            "staged": waiting,
        });
        Ok(respond(StatusCode::GATEWAY_TIMEOUT, "application/problem+json", detail.to_string()))
    }

    /// Returns where the rows of an acknowledged request are now.
    pub(super) async fn receipt(&self, request: &AdminRequest<'_>) -> AdminResult {
        let lsn = request.id().parse().map(Lsn);
        let lsn = lsn
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "a receipt must be a log sequence number"))?;
        let wal = self.wal.clone();
        let catalog = Arc::clone(&self.catalog);
        let (found, around) =
            blocking(move || Ok((wal.past().find(lsn), catalog.files_around(lsn)?))).await?;
        let found = found.unwrap_or_else(|error| {
            tracing::error!(%lsn, error = %chain(&error), "cannot look up a receipt in the archive");
            None
        });
        let place = found.as_ref().map(|(place, ..)| *place);
        let frame = found.map(|(_, ts, payload)| (ts, payload));
        let status = self.wal.status();
        let frame = frame.as_ref().and_then(|(ts, payload)| match Batch::decode(payload) {
            Ok(batch) => Some((*ts, batch.head)),
            Err(error) => {
                tracing::error!(%lsn, %error, "cannot decode the log frame of a receipt");
                None
            }
        });
        let of_stream = |file: &&RegisteredFile| {
            frame.as_ref().is_none_or(|(_, head)| head.share_of(file.stream).is_some())
        };
        let files: Vec<Value> = around.iter().filter(of_stream).map(file).collect();
        if frame.is_none() && files.is_empty() {
            return Err(Problem::new(StatusCode::NOT_FOUND, format!("no request has the receipt {lsn}")));
        }
        let streams = self.catalog.streams();
        let stream = frame.as_ref().and_then(|(_, head)| streams.get(head.stream)).map(|stream| &stream.name);
        Ok(ok(&json!({
            "lsn": lsn,
            "durable": lsn <= status.durable,
            "in_log": place == Some(Whereabouts::Log),
            "in_archive": place == Some(Whereabouts::Archive),
            "stream": stream,
            "received_at": frame.as_ref().map(|(ts, _)| timestamp(*ts)),
            "records": frame.as_ref().map(|(_, head)| head.good),
            "quarantined": frame.as_ref().map(|(_, head)| head.bad),
            // Without the frame, these may be files of several streams whose ranges include the number.
            "files": files,
        })))
    }
}

pub(super) fn file(file: &RegisteredFile) -> Value {
    json!({
        "object": file.object,
        "kind": file.kind,
        "state": file.state,
        "first_lsn": file.first_lsn,
        "last_lsn": file.last_lsn,
        "rows": file.rows,
        "bytes": file.bytes,
        "schema_version": file.schema_version,
        "staged_at": timestamp(file.staged_at),
        "published_at": file.published_at.map(timestamp),
        "attempts": (file.state == FileState::Staged).then_some(file.attempts),
        "last_error": file.last_error,
        "held": file.held,
    })
}
