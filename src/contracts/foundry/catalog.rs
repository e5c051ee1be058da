//! The older stream catalog: creates datasets without a schema, and finds views by branch.

use super::datasets;
use super::errors::wrong;
use super::fields::{BodyFields, StreamOptions, stream_type};
use super::model::{DEFAULT_BRANCH, Dataset, View};
use super::request::FoundryRequest;
use super::{ok, rid};
use crate::auth::Need;
use crate::contracts::Reply;
use crate::contracts::reject::{Reject, RejectKind};
use crate::schema::PARTITIONS_MAX;
use serde_json::{Value, json};

/// Creates a dataset whose stream has no schema yet. Its columns follow from its records.
pub(super) fn create(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = BodyFields::from_call(request.call, false)?;
    let (name, folder) = (body.required("name")?, body.required("parentRid")?);
    let branch = body.text("branch")?.unwrap_or(DEFAULT_BRANCH);
    let settings = body.get("settings");
    let kinds = settings.and_then(|settings| settings.get("streamTypes")).and_then(Value::as_array);
    let first = kinds.and_then(|kinds| kinds.first()).map(stream_type).transpose()?;
    let partitions = match settings.and_then(|settings| settings.get("partitions")) {
        None | Some(Value::Null) => None,
        Some(count) => {
            let count = count.as_u64().and_then(|count| u32::try_from(count).ok());
            let fits = count.filter(|count| (1..=PARTITIONS_MAX).contains(count));
            Some(fits.ok_or_else(|| wrong("\"partitions\" must be an integer from 1 to 1024."))?)
        }
    };
    let manner = StreamOptions { partitions_count: partitions, stream_type: first, compressed: None };
    let dataset = datasets::make(request, name, folder, branch, None, manner)?;
    let view = dataset.branch(branch).and_then(|branch| branch.current());
    let raw = matches!(body.get("isRaw"), Some(Value::Bool(true)));
    let view = view.ok_or_else(|| Reject::new(RejectKind::Internal, "internal error"))?;
    Ok(ok(&json!({"view": view_json(&dataset, branch, view, raw)})))
}

/// The current view of a branch, or `null`.
pub(super) fn latest(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let Some(dataset) = request.known() else { return Ok(ok(&Value::Null)) };
    let Some(branch) = dataset.branch(&request.branch) else { return Ok(ok(&Value::Null)) };
    request.require_any(&branch.handle)?;
    request.require_folder(&dataset.folder)?;
    let Some((_, view)) = request.foundry.live_stream(branch) else { return Ok(ok(&Value::Null)) };
    let settings = json!({"partitions": view.partitions_count, "streamTypes": [view.stream_type]});
    Ok(ok(&json!({"view": view_json(&dataset, &branch.name, view, false), "streamSettings": settings})))
}

fn view_json(dataset: &Dataset, branch: &str, view: &View, raw: bool) -> Value {
    json!({
        "viewRid": view.rid,
        "datasetRid": dataset.rid,
        "branch": branch,
        "topicRid": rid::topic(&view.rid),
        "startTransactionRid": view.rid.replace("foundry-streaming.main.view", "foundry.main.transaction"),
        "isRaw": raw,
    })
}
