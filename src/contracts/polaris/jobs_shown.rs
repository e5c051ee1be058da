//! The answers about jobs: whole, in lists, and part by part.

use super::fields::wrong;
use super::jobs::{self, Desired, PolarisJob};
use super::request::PolarisRequest;
use super::tally::Tally;
use super::{reply, timestamp};
use crate::auth::Need;
use crate::contracts::Reply;
use crate::contracts::reject::{Reject, RejectKind};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

const LIMIT: u64 = 100;
const LIMIT_MAX: u64 = 1000;

/// The most table errors in a job's log.
const ERRORS_MAX: usize = 50;
/// The contract's code for events that cannot be parsed.
const INVALID_ROWS: &str = "invalid_rows_found";

/// The columns that a list can be sorted by.
const COLUMNS: [&str; 10] = [
    "last_updated_date_time",
    "created_date_time",
    "created_by_user_name",
    "execution_status",
    "source_name",
    "source_type",
    "source_connection_name",
    "source_table_name",
    "target_table_name",
    "type",
];

impl PolarisJob {
    /// The execution status.
    fn status(&self) -> &'static str {
        self.kept.desired.name()
    }

    fn health(tally: &Tally) -> &'static str {
        if tally.skipped_by_error == 0 { "ok" } else { "warn" }
    }
}

/// The fields that every answer about a job contains.
fn head(job: &PolarisJob, tally: &Tally) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| shown.insert(key.to_owned(), value);
    put("id", job.id.as_str().into());
    put("type", "streaming".into());
    put("target", job.kept.spec.get("target").cloned().unwrap_or(Value::Null));
    put("createdBy", job.kept.created_by.clone());
    put("lastModifiedBy", job.kept.modified_by.clone());
    put("createdTimestamp", timestamp(job.created_at).into());
    put("startedTimestamp", timestamp(job.created_at).into());
    put("lastUpdatedTimestamp", timestamp(job.updated_at).into());
    if let Some(at) = job.kept.completed_at {
        put("completedTimestamp", timestamp(at).into());
    }
    put("desiredExecutionStatus", job.kept.desired.name().into());
    put("executionStatus", job.status().into());
    put(
        "health",
        match PolarisJob::health(tally) {
            "ok" => json!({"status": "ok"}),
            status => json!({"status": status, "code": INVALID_ROWS}),
        },
    );
    shown
}

pub(super) fn whole(request: &PolarisRequest<'_>, job: &PolarisJob) -> Result<Value, Reject> {
    let tally = job.tally(jobs::now_of(request, job)?.as_ref());
    let mut shown = head(job, &tally);
    for (key, default) in [
        ("source", Value::Null),
        ("mappings", json!([])),
        ("useSchemaDiscovery", json!(false)),
        ("readFromPoint", json!("latest")),
        ("lateMessageRejectionPeriod", json!("P30D")),
        ("earlyMessageRejectionPeriod", json!("P2000D")),
        ("maxParseExceptions", json!(2_147_483_647)),
    ] {
        let said = job.kept.spec.get(key).filter(|value| !value.is_null());
        shown.insert(key.to_owned(), said.cloned().unwrap_or(default));
    }
    shown.insert("spec".to_owned(), job.kept.spec.clone());
    Ok(Value::Object(shown))
}

pub(super) fn get(request: &PolarisRequest<'_>, id: &str) -> Result<Reply, Reject> {
    let job = readable(request, id)?;
    Ok(reply::ok(&whole(request, &job)?))
}

pub(super) fn update(request: &PolarisRequest<'_>, id: &str) -> Result<Reply, Reject> {
    let job = jobs::update(request, id)?;
    Ok(reply::ok(&whole(request, &job)?))
}

pub(super) fn status(request: &PolarisRequest<'_>, id: &str) -> Result<Reply, Reject> {
    let job = readable(request, id)?;
    Ok(reply::ok(&json!({"executionStatus": job.status()})))
}

pub(super) fn update_status(request: &PolarisRequest<'_>, id: &str) -> Result<Reply, Reject> {
    let job = jobs::update(request, id)?;
    Ok(reply::ok(&json!({"executionStatus": job.status()})))
}

/// A streaming job has no end, so its progress is 1 only after it was canceled.
pub(super) fn progress(request: &PolarisRequest<'_>, id: &str) -> Result<Reply, Reject> {
    let job = readable(request, id)?;
    let progress = if job.kept.desired == Desired::Canceled { 1.0 } else { 0.0 };
    Ok(reply::ok(&json!({"overallProgress": progress})))
}

pub(super) fn metrics(request: &PolarisRequest<'_>, id: &str) -> Result<Reply, Reject> {
    let job = readable(request, id)?;
    let tally = job.tally(jobs::now_of(request, &job)?.as_ref());
    Ok(reply::ok(&json!({
        "totals": {
            "numBytesProcessed": tally.bytes,
            "numRowsProcessed": tally.processed,
            "numRowsProcessedWithWarning": tally.with_warning,
            "numRowsSkippedByError": tally.skipped_by_error,
            "numRowsSkippedByFilter": tally.skipped_by_filter,
        }
    })))
}

/// The log of the job, and the newest events of its table that were quarantined.
pub(super) fn logs(request: &PolarisRequest<'_>, id: &str) -> Result<Reply, Reject> {
    let job = readable(request, id)?;
    let entries =
        job.kept.log.iter().map(|entry| (entry.at, "ok", entry.code.clone(), entry.message.clone()));
    let mut entries: Vec<_> = entries.collect();
    if let Some(table) = request.control().streams().find(&job.kept.table).cloned() {
        let errors = request.control().recent_errors(table, ERRORS_MAX);
        let errors = errors.map_err(|error| Reject {
            internal: Some(error.into()),
            ..Reject::new(RejectKind::Internal, "internal error")
        })?;
        let since = job.created_at;
        for error in errors.into_iter().filter(|error| error.received_at >= since) {
            let message = format!(
                "{} (event {} of request {}): {}",
                error.reason, error.record, error.lsn, error.excerpt
            );
            entries.push((error.received_at, "warn", INVALID_ROWS.to_owned(), message));
        }
    }
    entries.sort_by_key(|(at, ..)| *at);
    let entries = entries.into_iter().map(|(at, status, code, message)| {
        json!({"timestamp": timestamp(at), "healthStatus": status, "code": code, "message": message})
    });
    let entries: Vec<Value> = entries.collect();
    Ok(reply::ok(&json!({ "logs": entries })))
}

fn readable(request: &PolarisRequest<'_>, id: &str) -> Result<PolarisJob, Reject> {
    request.require(Need::Any)?;
    let job = jobs::find(request, id)?;
    if !may_read(request, &job) {
        request.call.caller.require(Need::Read(job.table_name()))?;
    }
    Ok(job)
}

fn may_read(request: &PolarisRequest<'_>, job: &PolarisJob) -> bool {
    request.call.caller.may(Need::Read(job.table_name())) || request.call.caller.may(Need::Create)
}

pub(super) fn list(request: &PolarisRequest<'_>) -> Result<Reply, Reject> {
    request.require(Need::Any)?;
    let limit = request.number("paginationLimit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT);
    let offset = request.number("paginationOffset", 0..=u64::MAX)?.unwrap_or(0);
    let column = request.parameter("sortColumn").unwrap_or_else(|| "last_updated_date_time".to_owned());
    if !COLUMNS.contains(&column.as_str()) {
        return Err(wrong(format!("\"sortColumn\" is {column:?}; expected one of: {}", COLUMNS.join(", "))));
    }
    let ascending = match request.parameter("sortOrder").as_deref() {
        Some("ASC" | "asc") => true,
        None | Some("DESC" | "desc") => false,
        Some(other) => return Err(wrong(format!("\"sortOrder\" must be ASC or DESC, not {other:?}"))),
    };
    let mut found = Vec::new();
    for job in jobs::all(request)?.into_iter().filter(|job| may_read(request, job)) {
        let tally = job.tally(jobs::now_of(request, &job)?.as_ref());
        if is_wanted(request, &job, &tally) {
            found.push((job, tally));
        }
    }
    found.sort_by(|(a, _), (b, _)| {
        let order = compare(a, b, &column);
        let order = if ascending { order } else { order.reverse() };
        order.then_with(|| a.id.cmp(&b.id))
    });
    let (skip, take) = (usize::try_from(offset).unwrap_or(usize::MAX), usize::try_from(limit).unwrap_or(0));
    let more = found.len().saturating_sub(skip) > take;
    let values: Vec<Value> = found
        .iter()
        .skip(skip)
        .take(take)
        .map(|(job, tally)| {
            let mut shown = head(job, tally);
            let source = json!({"type": "connection", "connectionName": job.connection()});
            shown.insert("source".to_owned(), source);
            Value::Object(shown)
        })
        .collect();
    Ok(reply::ok(&json!({"values": values, "moreResultsAvailable": more})))
}

fn is_wanted(request: &PolarisRequest<'_>, job: &PolarisJob, tally: &Tally) -> bool {
    let one_of = |name: &str, value: &str| {
        let wanted = request.parameters(name);
        wanted.is_empty() || wanted.iter().any(|wanted| wanted == value)
    };
    let is = |name: &str, value: &str| request.parameter(name).is_none_or(|wanted| wanted == value);
    let text = request.parameter("searchString").map_or_else(String::new, |text| text.to_lowercase());
    let searched = [job.id.as_str(), job.connection(), job.table_name(), job.creator()];
    one_of("connectionName", job.connection())
        && one_of("executionStatus", job.status())
        && one_of("healthStatus", PolarisJob::health(tally))
        && one_of("type", "streaming")
        && is("targetTableName", job.table_name())
        && is("targetTableId", &job.kept.table)
        && searched.iter().any(|value| value.to_lowercase().contains(&text))
}

fn compare(a: &PolarisJob, b: &PolarisJob, column: &str) -> Ordering {
    match column {
        "created_date_time" => a.created_at.cmp(&b.created_at),
        "created_by_user_name" => a.creator().cmp(b.creator()),
        "execution_status" => a.status().cmp(b.status()),
        "source_name" | "source_connection_name" => a.connection().cmp(b.connection()),
        "target_table_name" => a.table_name().cmp(b.table_name()),
        "source_type" | "source_table_name" | "type" => Ordering::Equal,
        _ => a.updated_at.cmp(&b.updated_at),
    }
}
