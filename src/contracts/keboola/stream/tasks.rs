//! The tasks of this contract, in the store of all of the vendor's.

use super::model::Place;
use super::request::Request;
use crate::contracts::Reply;
use crate::contracts::keboola::{reply, tasks};
use crate::contracts::reject::Reject;
use http::StatusCode;
use serde_json::{Map, Value};

/// The words for what was done to a source, and for what was done to a sink.
pub(super) type Words = [&'static str; 2];

/// Remembers how something ended that was done to a source or a sink, and answers as if it had only begun.
pub(super) fn done(
    request: &Request<'_>,
    place: &Place,
    kind: &str,
    ended: Result<Words, Reject>,
) -> Result<Reply, Reject> {
    let path = format!("{kind}/{}", place.path());
    let work = || {
        let [source, sink] = ended?;
        Ok((if place.is_sink() { sink } else { source }, outputs(request, place)))
    };
    let begun = tasks::run(request.common, request.project, &path, kind, work)?;
    Ok(reply::json(StatusCode::ACCEPTED, &tasks::shown(&begun, "taskId", &request.base())))
}

/// What it was about.
fn outputs(request: &Request<'_>, place: &Place) -> Map<String, Value> {
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
