//! `/admin/v1/replay`: rebuilds the files of a time range under the current schema. Requests are checked and queued
//! here; the compactor runs them.

use super::problem::{Problem, blocking, limit, ok, respond, timestamp};
use super::{AdminRequest, AdminResult, RunningDaemon};
use crate::catalog::{CutRecord, NewReplay, Replay, ReplayState, Stream};
use crate::clock::Micros;
use crate::error::chain;
use crate::wal::{Lsn, LsnRange};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full as FullBody;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a replay request waits until the stream's open files are closed.
const CLOSE_DEADLINE: Duration = Duration::from_mins(1);
/// The most replays that may be queued.
const WAITING_MAX: usize = 100;
const REPLAYS_MAX: usize = 1000;

/// The body of a replay request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayBody {
    stream: String,
    from: String,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    partial: bool,
}

impl RunningDaemon {
    /// Queues a replay of the files with rows received in a time range.
    pub(super) async fn replay(&self, request: &AdminRequest<'_>) -> AdminResult {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let asked: ReplayBody = serde_json::from_slice(&request.body)
            .map_err(|error| bad(format!("invalid replay request: {error}")))?;
        let time = |name: &str, text: &str| {
            let what =
                format!("'{name}' must be a time such as 2026-11-21T12:00:00Z or 2026-11-21, not {text:?}");
            parse_time(text).ok_or_else(|| bad(what))
        };
        let from = time("from", &asked.from)?;
        let to = asked.to.as_deref().map_or(Ok(self.clock.now()), |to| time("to", to))?;
        if from >= to {
            return Err(bad("'from' must be before 'to'".to_owned()));
        }
        let stream = self.find(&asked.stream)?;
        self.close(&stream).await?;
        let (catalog, wal, id) = (Arc::clone(&self.catalog), self.wal.clone(), stream.id);
        let planned = blocking(move || {
            let waiting = catalog.replays(1000)?.iter().filter(|replay| !replay.state.is_over()).count();
            let cuts = catalog.cuts_received(id, from, to)?;
            let range = cuts.first().zip(cuts.last());
            let range = range.map(|(first, last)| LsnRange { first: first.lsns.first, last: last.lsns.last });
            let missing = range.map(|range| wal.past().missing(range));
            Ok((waiting, cuts, range, missing))
        });
        let (waiting, cuts, range, missing) = planned.await?;
        // An export may be given events from before it existed. Only the replay finds out how many.
        let may_be_given = stream.settings.receiver.is_some();
        let nothing =
            may_be_given.then_some((LsnRange { first: Lsn::NONE, last: Lsn::NONE }, Ok(Vec::new())));
        let Some((range, missing)) = range.zip(missing).or(nothing) else {
            let (from, to) = (timestamp(from), timestamp(to));
            let detail = format!("no file of {} has rows received from {from} to {to}", stream.name);
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        };
        let missing = missing.map_err(|error| {
            let detail = format!("the archive cannot be read: {}; run `forebay wal verify`", chain(&error));
            Problem::new(StatusCode::CONFLICT, detail)
        })?;
        if waiting >= WAITING_MAX {
            let detail = format!("{waiting} replays are already queued; retry later");
            return Err(
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).header(http::header::RETRY_AFTER, "60")
            );
        }
        let plan = Plan::new(&cuts, &missing);
        let has_work = !plan.made.is_empty() || (may_be_given && cuts.is_empty());
        if !has_work || !(plan.left.is_empty() || asked.partial) {
            return Ok(plan.refusal());
        }
        let new = plan.replay(&stream, (from, to), asked.partial, range);
        let catalog = Arc::clone(&self.catalog);
        let replay = blocking(move || catalog.add_replay(&new)).await?;
        self.progress.replay_asked.notify_one();
        let body = format!("{:#}\n", self.show(&replay));
        Ok(respond(StatusCode::ACCEPTED, "application/json", body))
    }

    /// Closes the stream's open files, since a replay only rebuilds files.
    async fn close(&self, stream: &Stream) -> Result<(), Problem> {
        let lsn = self.wal.status().appended;
        let closed = async {
            if self.wal.synced(lsn).await.is_ok() {
                self.progress.closed(Some(stream.id), lsn).await;
            }
        };
        let late =
            "the stream's open files could not be closed in time; the replay was not started, retry later";
        let in_time = tokio::time::timeout(CLOSE_DEADLINE, closed).await;
        in_time.map_err(|_| Problem::new(StatusCode::GATEWAY_TIMEOUT, late))
    }

    pub(super) async fn replays(&self, request: &AdminRequest<'_>) -> AdminResult {
        let limit = u32::try_from(limit(request.query, 100, REPLAYS_MAX)?).unwrap_or(u32::MAX);
        let catalog = Arc::clone(&self.catalog);
        let replays = blocking(move || catalog.replays(limit)).await?;
        let replays: Vec<Value> = replays.iter().map(|replay| self.show(replay)).collect();
        Ok(ok(&json!({"replays": replays})))
    }

    pub(super) async fn replay_status(&self, request: &AdminRequest<'_>) -> AdminResult {
        Ok(ok(&self.show(&self.find_replay(request).await?)))
    }

    /// Cancels a replay. Files that it has already replaced stay replaced.
    pub(super) async fn cancel_replay(&self, request: &AdminRequest<'_>) -> AdminResult {
        let replay = self.find_replay(request).await?;
        let (catalog, id) = (Arc::clone(&self.catalog), replay.id);
        let ended = blocking(move || catalog.end_replay(id, ReplayState::Cancelled, None)).await?;
        if !ended {
            return Err(Problem::new(StatusCode::CONFLICT, format!("replay {id} has already ended")));
        }
        self.progress.replay_asked.notify_one();
        self.replay_status(request).await
    }

    async fn find_replay(&self, request: &AdminRequest<'_>) -> Result<Replay, Problem> {
        let text = request.id().to_owned();
        let catalog = Arc::clone(&self.catalog);
        let found = match text.parse() {
            Ok(id) => blocking(move || catalog.replay(id)).await?,
            Err(_) => None,
        };
        found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no replay has the id {text:?}")))
    }

    fn show(&self, replay: &Replay) -> Value {
        let asked = &replay.asked;
        let streams = self.catalog.streams();
        json!({
            "id": replay.id,
            "state": replay.state,
            "stream": streams.get(asked.stream).map(|stream| &stream.name),
            "from": timestamp(asked.from),
            "to": timestamp(asked.to),
            "partial": asked.partial,
            "range": {
                "first_lsn": asked.lsns.first,
                "last_lsn": asked.lsns.last,
                "from": timestamp(asked.first_at),
                "to": timestamp(asked.last_at),
            },
            "files": asked.files,
            "cuts": {"total": asked.cuts, "done": replay.cuts_done},
            "rows": {"total": asked.rows, "done": replay.rows_done},
            "missing": asked.missing,
            "before": replay.before,
            "after": replay.after,
            "error": replay.error,
            "created_at": timestamp(replay.created_at),
            "started_at": replay.started_at.map(timestamp),
            "ended_at": replay.ended_at.map(timestamp),
        })
    }
}

/// The cuts that can be rebuilt, and those that cannot, because some of their requests are gone.
struct Plan<'c> {
    all: &'c [CutRecord],
    made: Vec<&'c CutRecord>,
    left: Vec<(&'c CutRecord, Value)>,
}

impl<'c> Plan<'c> {
    fn new(cuts: &'c [CutRecord], missing: &[LsnRange]) -> Self {
        let mut plan = Self { all: cuts, made: Vec::new(), left: Vec::new() };
        for cut in cuts {
            let LsnRange { first, last } = cut.lsns;
            let within = missing.iter().filter(|range| range.first <= last && range.last >= first);
            let lost: Vec<LsnRange> = within
                .map(|range| LsnRange { first: range.first.max(first), last: range.last.min(last) })
                .collect();
            if lost.is_empty() {
                plan.made.push(cut);
            } else {
                let reason = "these requests are no longer in the log or the archive";
                plan.left.push((cut, cut.left_as_it_is(&lost, reason)));
            }
        }
        plan
    }

    /// Builds the refusal, which lists exactly what is missing.
    fn refusal(self) -> Response<FullBody<Bytes>> {
        let (left, all) = (self.left.len(), self.all.len());
        let rest = if self.made.is_empty() { "" } else { "; set \"partial\": true to rebuild the rest" };
        let detail = json!({
            "type": "about:blank",
            "title": "Conflict",
            "status": 409,
            "detail": format!("the files of {left} of {all} ranges cannot be rebuilt, because some of their requests are no longer in the log or the archive{rest}"),
            "missing": self.left.into_iter().map(|(_, left)| left).collect::<Vec<_>>(),
        });
        respond(StatusCode::CONFLICT, "application/problem+json", detail.to_string())
    }

    fn replay(
        self,
        stream: &Stream,
        (from, to): (Micros, Micros),
        partial: bool,
        lsns: LsnRange,
    ) -> NewReplay {
        let first_at = self.all.iter().map(|cut| cut.first_at).min();
        let last_at = self.all.iter().map(|cut| cut.last_at).max();
        NewReplay {
            stream: stream.id,
            from,
            to,
            partial,
            lsns,
            first_at: first_at.unwrap_or(from),
            last_at: last_at.unwrap_or(to),
            cuts: self.made.len() as u64,
            files: self.made.iter().map(|cut| cut.files).sum(),
            rows: self.made.iter().map(|cut| cut.rows).sum(),
            left_out: self.left.iter().map(|(cut, _)| cut.lsns).collect(),
            missing: self.left.into_iter().map(|(_, left)| left).collect(),
        }
    }
}

/// Parses RFC 3339, the same without a zone (UTC), or a date.
fn parse_time(text: &str) -> Option<Micros> {
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let civil = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    zoned.or_else(|| civil().map(|time| time.timestamp())).map(jiff::Timestamp::as_microsecond)
}
