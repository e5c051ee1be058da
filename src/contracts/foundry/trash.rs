//! Data sets into the trash.

use super::model::Dataset;
use super::request::Request;
use super::{datasets, errors, ok, rid};
use crate::auth::Need;
use crate::catalog::CatalogError;
use crate::contracts::Reply;
use crate::contracts::reject::Reject;
use serde_json::{Value, json};

/// Deletes the streams of a data set: it takes no records any more, what came is kept.
pub(super) fn delete(request: &Request<'_>) -> Result<Reply, Reject> {
    let control = request.control();
    let _change = control.change();
    let known = request.known().ok_or_else(|| errors::dataset_not_found(&request.dataset))?;
    for branch in &known.branches {
        request.require(Need::Drop(&branch.handle))?;
    }
    request.require_folder(&known.folder)?;
    // Noted first: what cannot be told from a stream that was deleted is a data set half in the trash.
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
    tracing::info!(dataset = known.rid, by = %request.call.caller.name, "a data set was put into the trash");
    Ok(ok(&json!({"deletedViews": deleted})))
}
