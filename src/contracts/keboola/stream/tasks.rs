//! The tasks of this contract. They share one store with the vendor's other contracts.

use super::model::EntityPlace;
use super::request::StreamRequest;
use crate::contracts::Reply;
use crate::contracts::keboola::{reply, tasks};
use crate::contracts::reject::Reject;
use http::StatusCode;
use serde_json::{Map, Value};

/// The messages of a finished task: for a source, and for a sink.
pub(super) type TaskWords = [&'static str; 2];

/// Stores the result of an operation on a source or sink, and answers with the task as it started.
pub(super) fn done(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    kind: &str,
    ended: Result<TaskWords, Reject>,
) -> Result<Reply, Reject> {
    let path = format!("{kind}/{}", place.path());
    let work = || {
        let [source, sink] = ended?;
        Ok((if place.is_sink() { sink } else { source }, outputs(request, place)))
    };
    let begun = tasks::run(request.common, request.project, &path, kind, work)?;
    Ok(reply::json(StatusCode::ACCEPTED, &tasks::shown(&begun, "taskId", &request.base())))
}

/// The outputs of a task: the ids and the URL of its source or sink.
fn outputs(request: &StreamRequest<'_>, place: &EntityPlace) -> Map<String, Value> {
    let (base, branch, source) = (request.base(), place.branch, &place.source);
    let mut url = format!("{base}/v1/branches/{branch}/sources/{source}");
    let mut outputs = Map::new();
    let mut put = |key: &str, value: Value| drop(outputs.insert(key.to_owned(), value));
    put("projectId", request.project_id());
    put("branchId", branch.into());
    put("sourceId", source.as_str().into());
    if let Some(sink) = &place.sink {
        put("sinkId", sink.as_str().into());
        url = format!("{url}/sinks/{sink}");
    }
    put("url", url.into());
    outputs
}
