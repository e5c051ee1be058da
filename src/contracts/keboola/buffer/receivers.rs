//! The routes for receivers.

use super::exports;
use super::model::{BufferExport, BufferReceiver, exists};
use super::read::{self, CreateReceiver};
use super::request::BufferRequest;
use super::{RECEIVERS_MAX, streams};
use crate::contracts::Reply;
use crate::contracts::keboola::tasks::{self, Done};
use crate::contracts::keboola::{names, reply, secrets, tables};
use crate::contracts::reject::{Reject, RejectKind};
use http::StatusCode;
use serde_json::{Map, Value, json};

pub(super) fn list(request: &BufferRequest<'_>) -> Result<Reply, Reject> {
    request.require()?;
    let (project, base) = (request.project(), request.base());
    let shown: Vec<Value> =
        request.receivers()?.iter().map(|receiver| receiver.shown(project, &base)).collect();
    Ok(reply::ok(&json!({ "receivers": shown })))
}

pub(super) fn get(request: &BufferRequest<'_>, id: &str) -> Result<Reply, Reject> {
    request.require()?;
    Ok(shown(request, &request.receiver(id)?))
}

fn shown(request: &BufferRequest<'_>, receiver: &BufferReceiver) -> Reply {
    reply::ok(&receiver.shown(request.project(), &request.base()))
}

pub(super) fn create(request: &BufferRequest<'_>) -> Result<Reply, Reject> {
    let body = request.body()?;
    let said = read::create_receiver(&body)?;
    request.require()?;
    let id = names::id_of("receiver", &names::normalize(said.id.unwrap_or(said.name)))?;
    let exports = exports::new_ones(request, &said.exports)?;
    let _change = request.control().change();
    let all = request.receivers()?;
    if all.iter().any(|receiver| receiver.id == id) {
        return Err(exists(&id));
    }
    if all.len() >= RECEIVERS_MAX {
        let message = format!("receiver count limit reached in the project, the maximum is {RECEIVERS_MAX}");
        return Err(Reject::new(RejectKind::Conflict, message).code("receiverCountLimitReached"));
    }
    let path = format!("{id}/receiver.create");
    let task = tasks::run(&request.buffer.common, request.project(), &path, "receiver.create", || {
        make(request, id.clone(), &said, exports)
    })?;
    Ok(reply::json(StatusCode::ACCEPTED, &tasks::shown(&task, "id", &request.base())))
}

/// Creates a receiver and its exports: all of them or none. Tables that were created stay.
fn make(
    request: &BufferRequest<'_>,
    id: String,
    said: &CreateReceiver<'_>,
    exports: Vec<BufferExport>,
) -> Result<Done, Reject> {
    let (control, project) = (request.control(), request.project());
    for export in &exports {
        tables::ensure(&request.buffer.common, project, &export.mapping.id, &export.mapping.columns)?;
    }
    let stream = streams::make_receiver(control, project, &id)?;
    let mut receiver = BufferReceiver {
        name: said.name.to_owned(),
        description: said.description.to_owned(),
        secret: secrets::make(),
        stream: stream.uuid.clone(),
        exports: Vec::new(),
        id,
    };
    let made = exports.into_iter().try_for_each(|mut export| {
        let made = streams::make_export(control, project, (&receiver.id, &stream), &export)?;
        export.stream.clone_from(&made.uuid);
        receiver.exports.push(export);
        Ok(())
    });
    if let Err(error) = made.and_then(|()| request.insert(&receiver)) {
        delete_streams(request, &receiver)?;
        return Err(error);
    }
    streams::publish(control, project, &receiver);
    let outputs = Map::from_iter([("receiverId".to_owned(), receiver.id.into())]);
    Ok(("receiver created", outputs))
}

fn delete_streams(request: &BufferRequest<'_>, receiver: &BufferReceiver) -> Result<(), Reject> {
    let of_exports = receiver.exports.iter().map(|export| &export.stream);
    of_exports.chain([&receiver.stream]).try_for_each(|stream| streams::delete(request.control(), stream))
}

pub(super) fn update(request: &BufferRequest<'_>, id: &str) -> Result<Reply, Reject> {
    let body = request.body()?;
    let said = read::update_receiver(&body)?;
    request.require()?;
    let _change = request.control().change();
    let mut receiver = request.receiver(id)?;
    if let Some(name) = said.name {
        name.clone_into(&mut receiver.name);
    }
    if let Some(description) = said.description {
        description.clone_into(&mut receiver.description);
    }
    request.update(&receiver)?;
    Ok(shown(request, &receiver))
}

/// New requests get 404 for the receiver; rows of earlier requests are still written.
pub(super) fn delete(request: &BufferRequest<'_>, id: &str) -> Result<Reply, Reject> {
    request.require()?;
    let _change = request.control().change();
    let receiver = request.receiver(id)?;
    streams::withdraw(request.control(), request.project(), id);
    request.buffer.receivers.delete(request.project(), id)?;
    delete_streams(request, &receiver)?;
    Ok(reply::empty())
}
