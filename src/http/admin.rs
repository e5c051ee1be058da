//! The admin listener: health, readiness, metrics, and the state of everything, for operators and their tools.

use super::auth::{Auth, Scope};
use super::connection::Handler;
use super::dialect::bearer;
use super::reject::Reject;
use crate::batch::{Batch, StreamId};
use crate::catalog::{Catalog, FileState, KnownMisfit, Loss, RegisteredFile, Stream};
use crate::clock::Clock;
use crate::metrics;
use crate::progress::Progress;
use crate::schema::Schema;
use crate::wal::{self, Full, Health, Lsn, Whereabouts};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full as FullBody;
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long `publish` waits.
const PUBLISH_DEADLINE: Duration = Duration::from_mins(1);
const RECORDS_DEFAULT: usize = 20;
const RECORDS_MAX: usize = 1000;
const FILES_MAX: u32 = 1000;
/// Losses shown, the latest of all there ever were.
const LOSSES_MAX: u32 = 100;
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The newest records of a stream, as JSON, newest last.
pub type RecentRecords = Arc<
    dyn Fn(Arc<Stream>, usize) -> Pin<Box<dyn Future<Output = Result<Vec<Value>, String>> + Send>>
        + Send
        + Sync,
>;

/// What the daemon is doing.
#[derive(Clone)]
pub enum Phase {
    /// Reading the log; nothing is accepted yet.
    Recovering,
    Running(Arc<Running>),
    /// Finishing what was begun.
    Draining(Arc<Running>),
}

/// The parts of a running daemon that operators look at.
pub struct Running {
    pub wal: wal::Handle,
    pub recovery: wal::RecoveryReport,
    pub catalog: Arc<Catalog>,
    pub progress: Arc<Progress>,
    pub auth: Arc<Auth>,
    pub clock: Arc<dyn Clock>,
    pub http_metrics: Arc<metrics::Http>,
    pub registry: Registry,
    pub recent_records: RecentRecords,
    pub node: String,
    pub destination: String,
    pub started: Instant,
}

pub struct AdminHandler {
    pub phase: ArcSwap<Phase>,
    /// Set to end the daemon.
    pub drain: watch::Sender<bool>,
}

impl Handler for AdminHandler {
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        _peer: SocketAddr,
    ) -> Response<FullBody<Bytes>> {
        let (head, _body) = request.into_parts();
        match self.route(&head).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        }
    }
}

/// An error as RFC 9457 has it.
struct Problem {
    status: StatusCode,
    detail: String,
    /// What the status asks for.
    header: Option<(HeaderName, &'static str)>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), header: None }
    }

    fn header(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    fn into_response(self) -> Response<FullBody<Bytes>> {
        let title = self.status.canonical_reason().unwrap_or("error");
        let body = json!({"type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail});
        let mut response = respond(self.status, "application/problem+json", body.to_string());
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<Reject> for Problem {
    fn from(reject: Reject) -> Self {
        let status = StatusCode::from_u16(reject.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = Self::new(status, reject.external);
        if status == StatusCode::UNAUTHORIZED {
            return problem.header(header::WWW_AUTHENTICATE, "Bearer");
        }
        problem
    }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<FullBody<Bytes>> {
    let mut response = Response::new(FullBody::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn ok(body: &Value) -> Response<FullBody<Bytes>> {
    respond(StatusCode::OK, "application/json", format!("{body:#}\n"))
}

/// Runs what touches the catalog's disk off the threads that serve sockets.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::catalog::CatalogError> + Send + 'static,
) -> Result<T, Problem> {
    let internal = |error: &dyn std::error::Error| {
        tracing::error!(error = %crate::error::chain(error), "an admin request failed");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the catalog cannot be read")
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(internal(&error)),
        Err(error) => Err(internal(&error)),
    }
}

impl AdminHandler {
    async fn route(&self, head: &http::request::Parts) -> Result<Response<FullBody<Bytes>>, Problem> {
        let path: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        let phase = Phase::clone(&self.phase.load());
        match path[..] {
            ["healthz"] => return check_method(head, &path).map(|()| healthz(&phase)),
            ["readyz"] => return check_method(head, &path).map(|()| readyz(&phase)),
            _ => {}
        }
        let (Phase::Running(running) | Phase::Draining(running)) = &phase else {
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "recovering"));
        };
        running.auth.check(bearer(&head.headers).as_deref(), Scope::Admin)?;
        check_method(head, &path)?;
        let query = head.uri.query().unwrap_or_default();
        match path[..] {
            ["metrics"] => running.metrics(),
            ["admin", "v1", "status"] => Ok(ok(&running.status(&phase).await?)),
            ["admin", "v1", "streams"] => running.streams().await,
            ["admin", "v1", "streams", id] => running.stream(id).await,
            ["admin", "v1", "streams", id, "records"] => running.records(id, query).await,
            ["admin", "v1", "streams", id, "files"] => running.files(id, query).await,
            ["admin", "v1", "wal"] => running.wal_report().await,
            ["admin", "v1", "staged"] => running.staged().await,
            ["admin", "v1", "publish"] => running.publish(query).await,
            ["admin", "v1", "receipts", lsn] => running.receipt(lsn).await,
            ["admin", "v1", "drain"] => {
                self.drain.send_replace(true);
                Ok(respond(StatusCode::ACCEPTED, "application/json", "{\"draining\":true}\n".to_owned()))
            }
            _ => Err(no_such_route(head)),
        }
    }
}

/// The methods of a route, as the `Allow` header has them.
fn methods(path: &[&str]) -> Option<&'static str> {
    match path {
        ["healthz" | "readyz" | "metrics"]
        | ["admin", "v1", "status" | "streams" | "wal" | "staged"]
        | ["admin", "v1", "streams" | "receipts", _]
        | ["admin", "v1", "streams", _, "records" | "files"] => Some("GET, HEAD"),
        ["admin", "v1", "publish" | "drain"] => Some("POST"),
        _ => None,
    }
}

fn check_method(head: &http::request::Parts, path: &[&str]) -> Result<(), Problem> {
    let methods = methods(path).ok_or_else(|| no_such_route(head))?;
    if methods.split(", ").any(|method| method == head.method) {
        return Ok(());
    }
    let detail = format!("method {} not allowed", head.method);
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).header(header::ALLOW, methods))
}

fn no_such_route(head: &http::request::Parts) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no such route: {} {}", head.method, head.uri.path()))
}

/// Why nothing is accepted, if so.
fn not_ready(phase: &Phase) -> Option<&'static str> {
    match phase {
        Phase::Recovering => Some("recovering"),
        // Draining because of it.
        Phase::Draining(running) if running.wal.status().health == Health::Poisoned => Some("poisoned"),
        Phase::Draining(_) => Some("draining"),
        Phase::Running(running) => {
            let status = running.wal.status();
            match (status.health, status.refusing) {
                (Health::Poisoned, _) => Some("poisoned"),
                (Health::Closed, _) => Some("draining"),
                (_, Some(Full::Log)) => Some("log full"),
                (_, Some(Full::Disk)) => Some("disk full"),
                _ => None,
            }
        }
    }
}

fn healthz(phase: &Phase) -> Response<FullBody<Bytes>> {
    // A process that cannot acknowledge any more is to be restarted; one that waits for space is not.
    match not_ready(phase) {
        Some(reason @ "poisoned") => respond(
            StatusCode::SERVICE_UNAVAILABLE,
            "application/json",
            json!({"status": reason}).to_string(),
        ),
        _ => respond(StatusCode::OK, "application/json", json!({"status": "ok"}).to_string()),
    }
}

fn readyz(phase: &Phase) -> Response<FullBody<Bytes>> {
    let reason = not_ready(phase);
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({"ready": reason.is_none(), "reason": reason});
    respond(status, "application/json", body.to_string())
}

impl Running {
    fn metrics(&self) -> Result<Response<FullBody<Bytes>>, Problem> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be encoded"))?;
        Ok(respond(StatusCode::OK, METRICS_TYPE, text))
    }

    async fn status(&self, phase: &Phase) -> Result<Value, Problem> {
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

    async fn streams(&self) -> Result<Response<FullBody<Bytes>>, Problem> {
        let catalog = Arc::clone(&self.catalog);
        let progress = blocking(move || catalog.progress()).await?;
        let streams = self.catalog.streams();
        let streams: Vec<Value> = streams
            .all()
            .iter()
            .map(|stream| {
                let progress = progress.iter().find(|progress| progress.stream == stream.id);
                let counts = progress.map(|progress| progress.counts).unwrap_or_default();
                json!({
                    "id": stream.uuid,
                    "name": stream.name,
                    "policy": stream.policy,
                    "created_at": timestamp(stream.created_at),
                    "checkpoint": progress.map(|progress| progress.checkpoint),
                    "rows": counts,
                })
            })
            .collect();
        Ok(ok(&json!({"streams": streams})))
    }

    fn find(&self, id: &str) -> Result<Arc<Stream>, Problem> {
        let stream = self.catalog.streams().find(id).cloned();
        stream.ok_or_else(|| {
            Problem::new(StatusCode::NOT_FOUND, format!("no stream has the name or id {id:?}"))
        })
    }

    async fn stream(&self, id: &str) -> Result<Response<FullBody<Bytes>>, Problem> {
        let stream = self.find(id)?;
        let (catalog, id) = (Arc::clone(&self.catalog), stream.id);
        let (schema, misfits, progress, totals) = blocking(move || {
            Ok((catalog.schema(id)?, catalog.misfits(id)?, catalog.stream_progress(id)?, catalog.totals(id)?))
        })
        .await?;
        let columns: Vec<Value> =
            schema.columns.iter().map(|c| json!({"name": c.name, "type": c.kind.name()})).collect();
        Ok(ok(&json!({
            "id": stream.uuid,
            "name": stream.name,
            "policy": stream.policy,
            "created_at": timestamp(stream.created_at),
            "checkpoint": progress.checkpoint,
            "rows": progress.counts,
            "files": totals,
            "schema": {"version": schema.version, "columns": columns},
            "misfits": misfits.iter().map(|m| misfit(m, &schema)).collect::<Vec<_>>(),
        })))
    }

    async fn records(&self, id: &str, query: &str) -> Result<Response<FullBody<Bytes>>, Problem> {
        let stream = self.find(id)?;
        let limit = limit(query, RECORDS_DEFAULT, RECORDS_MAX)?;
        let records = (self.recent_records)(stream, limit).await;
        let records = records.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error))?;
        Ok(ok(&json!({"records": records})))
    }

    async fn files(&self, id: &str, query: &str) -> Result<Response<FullBody<Bytes>>, Problem> {
        let stream = self.find(id)?;
        let limit = limit(query, 100, FILES_MAX as usize)?;
        let limit = u32::try_from(limit).unwrap_or(FILES_MAX);
        let catalog = Arc::clone(&self.catalog);
        let files = blocking(move || catalog.files(stream.id, limit)).await?;
        Ok(ok(&json!({"files": files.iter().map(file).collect::<Vec<_>>()})))
    }

    async fn wal_report(&self) -> Result<Response<FullBody<Bytes>>, Problem> {
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

    async fn staged(&self) -> Result<Response<FullBody<Bytes>>, Problem> {
        let catalog = Arc::clone(&self.catalog);
        let files = blocking(move || catalog.staged()).await?;
        let streams = self.catalog.streams();
        let files: Vec<Value> = files
            .iter()
            .map(|staged| {
                let mut value = file(staged);
                value["stream"] = json!(streams.get(staged.stream).map(|stream| &stream.name));
                value
            })
            .collect();
        Ok(ok(&json!({"staged": files})))
    }

    /// Closes the open files and waits until everything accepted so far is published.
    async fn publish(&self, query: &str) -> Result<Response<FullBody<Bytes>>, Problem> {
        let only = parameter(query, "stream").map(|id| self.find(&id)).transpose()?;
        let lsn = self.wal.status().appended;
        let streams: Vec<StreamId> = match &only {
            Some(stream) => vec![stream.id],
            None => self.catalog.streams().all().iter().map(|stream| stream.id).collect(),
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

    /// Where the rows of one acknowledged request are now.
    async fn receipt(&self, lsn: &str) -> Result<Response<FullBody<Bytes>>, Problem> {
        let lsn = lsn.parse().map(Lsn);
        let lsn =
            lsn.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "a receipt is a log sequence number"))?;
        let wal = self.wal.clone();
        let catalog = Arc::clone(&self.catalog);
        let (found, around) =
            blocking(move || Ok((wal.past().find(lsn), catalog.files_around(lsn)?))).await?;
        let found = found.unwrap_or_else(|error| {
            tracing::error!(%lsn, error = %crate::error::chain(&error), "a receipt cannot be looked up in the archive");
            None
        });
        let place = found.as_ref().map(|(place, ..)| *place);
        let frame = found.map(|(_, ts, payload)| (ts, payload));
        let status = self.wal.status();
        let frame =
            frame.and_then(|(ts, payload)| Batch::decode(&payload).ok().map(|batch| (ts, batch.head)));
        let of_stream =
            |file: &&RegisteredFile| frame.as_ref().is_none_or(|(_, head)| head.stream == file.stream);
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
            // Without the frame, files of several streams may span the number.
            "files": files,
        })))
    }
}

/// `2026-11-20T12:00:00.000001Z`
fn timestamp(at: i64) -> String {
    jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

fn file(file: &RegisteredFile) -> Value {
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
    })
}

/// A misfit with the type that would hold it.
fn misfit(misfit: &KnownMisfit, schema: &Schema) -> Value {
    let column = schema.columns.iter().find(|column| column.name == misfit.path);
    json!({
        "path": misfit.path,
        "values": misfit.kind,
        "count": misfit.count,
        "example": misfit.example,
        "column_type": column.map(|column| column.kind.name()),
        "proposed_type": column.map_or("json", |column| column.kind.wider(&misfit.kind)),
    })
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn limit(query: &str, default: usize, max: usize) -> Result<usize, Problem> {
    let Some(text) = parameter(query, "limit") else { return Ok(default) };
    let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, format!("'limit' is a number from 1 to {max}")))
}
