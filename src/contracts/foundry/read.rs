//! Reads records by offset, also for the older proxy.

use super::errors::{self, wrong};
use super::model::DEFAULT_BRANCH;
use super::request::FoundryRequest;
use super::{ok, rid, text};
use crate::auth::Need;
use crate::catalog::Stream;
use crate::contracts::Reply;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::control::Control;
use crate::read::{Range, ReadError, Record};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

/// Maximum records in one answer.
const RECORDS_MAX: usize = 10_000;
/// Maximum bytes of records in one answer.
pub(super) const BYTES_MAX: usize = 8 << 20;
/// Default limit of the older proxy.
const PROXY_RECORDS: usize = 100;

/// A readable view.
pub(super) struct Readable {
    pub(super) stream: Arc<Stream>,
    pub(super) view: String,
    pub(super) branch: String,
    /// The name that access rights refer to.
    pub(super) handle: String,
}

impl Readable {
    /// The view that a call names, or else the current view of its branch.
    pub(super) fn find(request: &FoundryRequest<'_>, asked: Option<&str>) -> Result<Self, Reject> {
        Self::of_branch(request, &request.branch, asked)
    }

    fn of_branch(request: &FoundryRequest<'_>, branch: &str, asked: Option<&str>) -> Result<Self, Reject> {
        let (foundry, rid) = (request.foundry, &*request.dataset);
        let missing = || errors::stream_not_found(rid, branch);
        let Some(known) = foundry.datasets.find(rid) else {
            let stream = foundry.foreign(rid, branch).ok_or_else(missing)?;
            let view = rid::view(&stream);
            if let Some(asked) = asked.filter(|asked| *asked != view) {
                return Err(errors::view_not_found(asked));
            }
            let handle = stream.name.clone();
            return Ok(Self { stream, view, branch: branch.to_owned(), handle });
        };
        let found = known.branch(branch).filter(|_| !known.trashed).ok_or_else(missing)?;
        request.require_folder(&known.folder)?;
        let view = match asked {
            Some(asked) => found.view(asked).ok_or_else(|| errors::view_not_found(asked))?,
            None => found.current().ok_or_else(missing)?,
        };
        let stream = foundry.live(view).ok_or_else(missing)?;
        Ok(Self { stream, view: view.rid.clone(), branch: found.name.clone(), handle: found.handle.clone() })
    }

    /// The view of an older-proxy call whose path names a view only.
    pub(super) fn of_view(request: &FoundryRequest<'_>) -> Result<Self, Reject> {
        let (foundry, view) = (request.foundry, &*request.branch);
        let missing = || errors::view_not_found(view);
        let Some(known) = foundry.datasets.find(&request.dataset) else {
            let stream = foundry.foreign(&request.dataset, DEFAULT_BRANCH);
            let stream = stream.filter(|stream| rid::view(stream) == view).ok_or_else(missing)?;
            let handle = stream.name.clone();
            return Ok(Self { stream, view: view.to_owned(), branch: DEFAULT_BRANCH.to_owned(), handle });
        };
        let branch = known.branch_of(view).ok_or_else(missing)?;
        Self::of_branch(request, &branch.name, Some(view))
    }

    /// For each partition, the offset after its last record.
    pub(super) fn ends(&self, control: &Control) -> Result<Vec<u64>, Reject> {
        if self.stream.settings.partitions == 0 {
            return Err(wrong(
                "The records of this stream have no offsets: the stream was created without partitions.",
            ));
        }
        control.end_offsets(&self.stream).map_err(|error| unread(&error))
    }

    pub(super) fn read(&self, control: &Control, range: Range) -> Result<Vec<Record>, Reject> {
        control.read_records(&self.stream, range).map_err(|error| unread(&error))
    }
}

fn unread(error: &ReadError) -> Reject {
    match error {
        ReadError::NotReady => Reject::new(RejectKind::Unavailable, error.to_string()).retry_after(1),
        ReadError::Failed(_) => Reject::internal(error),
    }
}

/// An integer parameter of the query.
fn number<T: std::str::FromStr>(request: &FoundryRequest<'_>, name: &str) -> Result<Option<T>, Reject> {
    let Some(value) = request.parameter(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let parsed =
        value.parse().map_err(|_| wrong(format!("{name:?} must be an integer in range, not {value:?}.")))?;
    Ok(Some(parsed))
}

/// The `viewRid` of the query.
pub(super) fn asked_view<'r>(request: &'r FoundryRequest<'_>) -> Option<Cow<'r, str>> {
    request.parameter("viewRid").filter(|view| !view.is_empty())
}

pub(super) fn get_records(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let readable = Readable::find(request, asked_view(request).as_deref())?;
    request.require(Need::Read(&readable.handle))?;
    let missing = |name: &str| wrong(format!("The query parameter {name:?} is missing."));
    let partition = number(request, "partitionId")?.ok_or_else(|| missing("partitionId"))?;
    let limit: usize = number(request, "limit")?.ok_or_else(|| missing("limit"))?;
    let from = number(request, "startOffset")?.unwrap_or(0);
    let records = of_partition(request.control(), &readable, partition, from, limit)?;
    Ok(text(list(&records)))
}

fn of_partition(
    control: &Control,
    readable: &Readable,
    partition: u32,
    from: u64,
    limit: usize,
) -> Result<Vec<Record>, Reject> {
    if limit == 0 {
        return Err(wrong("\"limit\" must be 1 or more."));
    }
    let partitions = readable.ends(control)?.len();
    check_partition(partition, partitions)?;
    readable.read(control, Range { partition, from, limit: limit.min(RECORDS_MAX), bytes_max: BYTES_MAX })
}

pub(super) fn check_partition(partition: u32, partitions: usize) -> Result<(), Reject> {
    if (partition as usize) < partitions {
        return Ok(());
    }
    Err(wrong(format!("Partition {partition} does not exist: the stream has {partitions}, counted from 0.")))
}

pub(super) fn end_offsets(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let readable = Readable::find(request, asked_view(request).as_deref())?;
    request.require(Need::Read(&readable.handle))?;
    let ends = readable.ends(request.control())?;
    let ends: Map<String, Value> =
        ends.iter().enumerate().map(|(partition, end)| (partition.to_string(), json!(end))).collect();
    Ok(ok(&Value::Object(ends)))
}

/// Older proxy: records of one partition of a view.
pub(super) fn records_v2(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let readable = Readable::of_view(request)?;
    request.require(Need::Read(&readable.handle))?;
    let partition = &*request.third;
    let partition =
        partition.parse().map_err(|_| wrong(format!("{partition:?} is not a valid partition.")))?;
    let limit = number(request, "limit")?.unwrap_or(PROXY_RECORDS);
    let from = number(request, "startOffset")?.unwrap_or(0);
    let records = of_partition(request.control(), &readable, partition, from, limit)?;
    Ok(text(format!("{{\"records\":{}}}", list(&records))))
}

/// Older proxy: the newest records of all partitions, without offsets.
pub(super) fn newest(request: &FoundryRequest<'_>, readable: &Readable) -> Result<Reply, Reject> {
    request.require(Need::Read(&readable.handle))?;
    let limit = number(request, "limit")?.unwrap_or(PROXY_RECORDS).clamp(1, RECORDS_MAX);
    let ends = readable.ends(request.control())?;
    let share = limit.div_ceil(ends.len().max(1));
    let mut values = Vec::new();
    for (partition, end) in (0..).zip(ends) {
        let left = limit.saturating_sub(values.len()).min(share);
        let from = end.saturating_sub(u64::try_from(left).unwrap_or(0));
        let range = Range { partition, from, limit: left, bytes_max: BYTES_MAX };
        let records = readable.read(request.control(), range)?;
        values.extend(records.into_iter().map(|record| format!("{{\"value\":{}}}", record.value)));
    }
    Ok(text(format!("[{}]", values.join(","))))
}

/// Records with their offsets, as a JSON array.
pub(super) fn list(records: &[Record]) -> String {
    let mut text = String::from("[");
    for (at, record) in records.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let Record { offset, value } = record;
        write!(text, "{comma}{{\"offset\":{offset},\"value\":{value}}}")
            .expect("writing to a string cannot fail");
    }
    text.push(']');
    text
}
