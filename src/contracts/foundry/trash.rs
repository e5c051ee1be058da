//! Moves datasets to the trash.

use super::model::Dataset;
use super::request::FoundryRequest;
use super::{datasets, errors, ok, rid};
use crate::auth::Need;
use crate::catalog::CatalogError;
use crate::contracts::Reply;
use crate::contracts::reject::Reject;
use serde_json::{Value, json};

/// Deletes the streams of a dataset. It takes no more records; stored records are kept.
pub(super) fn delete(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let control = request.control();
    let _change = control.change();
    let known = request.known().ok_or_else(|| errors::dataset_not_found(&request.dataset))?;
    for branch in &known.branches {
        request.require(Need::Drop(&branch.handle))?;
    }
    request.require_folder(&known.folder)?;
    // The mark comes first: without it, a dataset that is half in the trash looks like one with deleted streams.
    datasets::keep(request.foundry, Dataset { trashed: true, ..Dataset::clone(&known) }, false)?;
    let mut deleted: Vec<Value> = Vec::new();
    for branch in &known.branches {
        for view in &branch.views {
            match control.delete_stream(view.stream) {
                Ok(_) | Err(CatalogError::NoSuchStream) => {}
                Err(error) => return Err(error.into()),
            }
            let topic = rid::topic(&view.rid);
            deleted.push(json!({"viewRid": view.rid, "topicRid": topic, "branch": branch.name}));
        }
    }
    tracing::info!(dataset = known.rid, by = %request.call.caller.name, "a dataset was moved to the trash");
    Ok(ok(&json!({"deletedViews": deleted})))
}
