//! Imports as jobs: the outcome of an append. The records are in the log before a client learns of the job; the job is
//! done once they are published.

use super::datasources::{id, time};
use super::{CATALOG_NAME, Tinybird, put};
use crate::auth::Need;
use crate::catalog::Stream;
use crate::clock::Micros;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::collection::{Collection, Document};
use crate::contracts::shared::control::Control;
use crate::contracts::{Accepted, Call};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// The number of jobs to keep.
const KEPT: u32 = 1_000;

/// An import, as stored in the catalog.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImportJob {
    #[serde(skip)]
    pub(super) id: String,
    #[serde(skip)]
    created_at: Micros,
    /// The contract's id of the stream.
    stream_id: String,
    stream: String,
    receipt: u64,
    pub(super) stored: u64,
    pub(super) quarantined: u64,
    /// Lines that are not records; they count as quarantined too.
    pub(super) invalid: u64,
    bytes: u64,
}

/// The jobs by id, without a project.
pub(super) type ImportJobStore = Collection<ImportJob>;

pub(super) fn store(control: &Arc<Control>) -> ImportJobStore {
    Collection::new(Arc::clone(control), CATALOG_NAME, "job")
}

impl ImportJob {
    /// A job without records.
    pub(super) fn new(control: &Control, stream: &Stream, receipt: u64) -> Self {
        Self {
            id: control.new_id(),
            created_at: control.clock.now(),
            stream_id: id(stream),
            stream: stream.name.clone(),
            receipt,
            stored: 0,
            quarantined: 0,
            invalid: 0,
            bytes: 0,
        }
    }

    pub(super) fn from_accepted(control: &Control, stream: &Stream, accepted: &Accepted, bytes: u64) -> Self {
        let Accepted { lsn, stored, quarantined, invalid, .. } = *accepted;
        Self { stored, quarantined, invalid, bytes, ..Self::new(control, stream, lsn) }
    }

    /// Stores the job. A failure is only logged: the records are in the log either way, and the client must learn that.
    pub(super) fn save(&self, jobs: &ImportJobStore) {
        let saved = jobs.create("", &self.id, self).and_then(|_| Ok(jobs.keep_newest("", KEPT)?));
        if let Err(error) = saved {
            tracing::warn!(
                error = %crate::error::chain(&error),
                receipt = self.receipt,
                "import job not saved: its records are stored, but clients cannot query the job"
            );
        }
    }

    fn read(document: Document<Self>) -> Self {
        Self { id: document.name, created_at: document.created_at, ..document.value }
    }

    /// The contract's error text for an import that was stored only in part.
    pub(super) fn error(&self) -> Option<String> {
        let rows = |n: u64, one: &str, many: &str| match n {
            0 => None,
            1 => Some(format!("1 {one}")),
            n => Some(format!("{n} {many}")),
        };
        let quarantined = rows(self.quarantined, "row in quarantine", "rows in quarantine");
        let invalid = rows(self.invalid, "invalid line", "invalid lines");
        let parts: Vec<String> = [quarantined, invalid].into_iter().flatten().collect();
        (!parts.is_empty())
            .then(|| format!("There was an error with file contents: {}.", parts.join(" and ")))
    }

    pub(super) fn blocks(&self) -> Value {
        json!([{
            "block_id": self.id,
            "process_return": [{
                "parser": super::workspace::NAME,
                "lines": self.stored,
                "quarantine": self.quarantined,
                "invalid_lines": self.invalid,
                "bytes": self.bytes,
            }],
            "processing_error": null,
        }])
    }
}

/// A job as the client sees it.
pub(super) fn json(control: &Control, job: &ImportJob, url: &str) -> Value {
    let stream = control.streams().find(&job.stream_id).cloned();
    // A dropped stream has nothing left to wait for.
    let done = stream.is_none_or(|stream| control.is_published(&stream, job.receipt));
    let (status, progress) = if done { ("done", 100) } else { ("working", 50) };
    let created_at = time(job.created_at);
    let mut shown = json!({
        "id": job.id,
        "job_id": job.id,
        "import_id": job.id,
        "job_url": format!("{url}/v0/jobs/{}", job.id),
        "kind": "import",
        "mode": "append",
        "status": status,
        "progress_percentage": progress,
        "created_at": created_at,
        "updated_at": created_at,
        "is_cancellable": false,
        "datasource": {"id": job.stream_id, "name": job.stream},
        "receipt": job.receipt,
        "statistics": {"row_count": job.stored, "bytes": job.bytes},
        "quarantine_rows": job.quarantined,
        "invalid_lines": job.invalid,
        "blocks": job.blocks(),
    });
    if let Some(error) = job.error() {
        put(&mut shown, "errors", json!([error]));
    }
    shown
}

pub(super) fn list(tinybird: &Tinybird, call: &Call<'_>) -> Result<Value, Reject> {
    let mut jobs = tinybird.jobs.all("")?;
    jobs.sort_by_key(|job| std::cmp::Reverse(job.created_at));
    let url = tinybird.control.base_url(call.head.headers);
    let seen = |job: &ImportJob| {
        call.caller.may(Need::Read(&job.stream)) || call.caller.may(Need::Ingest(&job.stream))
    };
    let jobs = jobs.into_iter().map(ImportJob::read).filter(seen);
    let jobs: Vec<Value> = jobs.map(|job| json(&tinybird.control, &job, &url)).collect();
    Ok(json!({ "jobs": jobs }))
}

pub(super) fn get(tinybird: &Tinybird, call: &Call<'_>, id: &str) -> Result<Value, Reject> {
    let job = find(tinybird, call, id)?;
    let url = tinybird.control.base_url(call.head.headers);
    Ok(json(&tinybird.control, &job, &url))
}

/// `POST /v0/jobs/{id}/cancel`: refused, because acknowledged records are not taken back.
pub(super) fn cancel(tinybird: &Tinybird, call: &Call<'_>, id: &str) -> Result<Value, Reject> {
    find(tinybird, call, id)?;
    Err(Reject::malformed("The job cannot be cancelled: its rows are already accepted"))
}

fn find(tinybird: &Tinybird, call: &Call<'_>, id: &str) -> Result<ImportJob, Reject> {
    let missing = || Reject::new(RejectKind::NotFound, format!("Job \"{id}\" does not exist"));
    let job = tinybird.jobs.get("", id)?.map(ImportJob::read).ok_or_else(missing)?;
    if !call.caller.may(Need::Ingest(&job.stream)) {
        call.caller.require(Need::Read(&job.stream))?;
    }
    Ok(job)
}
