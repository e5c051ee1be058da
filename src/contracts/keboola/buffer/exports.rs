//! The routes for exports.

use super::conditions::ImportConditions;
use super::model::{BufferExport, BufferReceiver, ExportTable};
use super::read::{self, CreateExport, UpdateExport};
use super::request::BufferRequest;
use super::{EXPORTS_MAX, MAPPINGS_MAX, streams};
use crate::contracts::Reply;
use crate::contracts::keboola::tasks::{self, Done, KeboolaTask};
use crate::contracts::keboola::{names, reply, tables};
use crate::contracts::reject::{Reject, RejectKind};
use http::StatusCode;
use serde_json::{Map, Value, json};

pub(super) fn list(request: &BufferRequest<'_>, receiver: &str) -> Result<Reply, Reject> {
    request.require()?;
    let receiver = request.receiver(receiver)?;
    let exports: Vec<Value> = receiver.exports.iter().map(|export| export.shown(&receiver.id)).collect();
    Ok(reply::ok(&json!({ "exports": exports })))
}

pub(super) fn get(request: &BufferRequest<'_>, receiver: &str, id: &str) -> Result<Reply, Reject> {
    request.require()?;
    let receiver = request.receiver(receiver)?;
    Ok(reply::ok(&receiver.export(id)?.shown(&receiver.id)))
}

/// The new exports, as far as they do not depend on those that already exist.
pub(super) fn new_ones(
    request: &BufferRequest<'_>,
    said: &[CreateExport<'_>],
) -> Result<Vec<BufferExport>, Reject> {
    check_count(said.len())?;
    let mut exports: Vec<BufferExport> = Vec::new();
    for said in said {
        let export = new_one(request, said)?;
        if exports.iter().any(|other| other.id == export.id) {
            return Err(exists(&export.id));
        }
        exports.push(export);
    }
    Ok(exports)
}

fn new_one(request: &BufferRequest<'_>, said: &CreateExport<'_>) -> Result<BufferExport, Reject> {
    let id = said.id.map_or_else(|| names::normalize(said.name), str::to_owned);
    let conditions = ImportConditions::default().with(&said.conditions)?;
    check_mapping(request, &said.mapping)?;
    Ok(BufferExport {
        id: names::id_of("export", &id)?,
        name: said.name.to_owned(),
        mapping: said.mapping.clone(),
        conditions,
        revision: 1,
        stream: String::new(),
    })
}

fn check_count(count: usize) -> Result<(), Reject> {
    if count <= EXPORTS_MAX {
        return Ok(());
    }
    let message = format!("export count limit reached in the receiver, the maximum is {EXPORTS_MAX}");
    Err(Reject::new(RejectKind::Conflict, message).code("exportCountLimitReached"))
}

fn exists(id: &str) -> Reject {
    let message = format!("export \"{id}\" already exists in the receiver");
    Reject::new(RejectKind::Conflict, message).code("exportAlreadyExists")
}

fn check_mapping(request: &BufferRequest<'_>, table: &ExportTable) -> Result<(), Reject> {
    tables::check_id(&table.id)?;
    let checked = request.control().check_mapping(&streams::mapping(table));
    checked.map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let message = match errors.as_slice() {
            [error] => error.clone(),
            errors => reply::lines("invalid mapping", errors),
        };
        Reject::malformed(message).code("badRequest")
    })
}

pub(super) fn create(request: &BufferRequest<'_>, receiver: &str) -> Result<Reply, Reject> {
    let body = request.body()?;
    let said = read::create_export(&body)?;
    request.require()?;
    let export = new_one(request, &said)?;
    let _change = request.control().change();
    let receiver = request.receiver(receiver)?;
    if receiver.export(&export.id).is_ok() {
        return Err(exists(&export.id));
    }
    check_count(receiver.exports.len().saturating_add(1))?;
    let path = format!("{}/{}/export.create", receiver.id, export.id);
    let task = tasks::run(&request.buffer.common, request.project(), &path, "export.create", || {
        make(request, receiver, export)
    })?;
    Ok(begun(request, StatusCode::ACCEPTED, &task))
}

fn begun(request: &BufferRequest<'_>, status: StatusCode, task: &KeboolaTask) -> Reply {
    reply::json(status, &tasks::shown(task, "id", &request.base()))
}

fn make(
    request: &BufferRequest<'_>,
    mut receiver: BufferReceiver,
    mut export: BufferExport,
) -> Result<Done, Reject> {
    let (control, project) = (request.control(), request.project());
    tables::ensure(&request.buffer.common, project, &export.mapping.id, &export.mapping.columns)?;
    let of = streams::for_receiver(control, &receiver)?;
    let stream = streams::make_export(control, project, (&receiver.id, &of), &export)?.uuid.clone();
    export.stream.clone_from(&stream);
    let outputs = outputs(&receiver, &export);
    receiver.exports.push(export);
    if let Err(error) = request.update(&receiver) {
        streams::delete(control, &stream)?;
        return Err(error);
    }
    streams::publish(control, project, &receiver);
    Ok(("export created", outputs))
}

fn outputs(receiver: &BufferReceiver, export: &BufferExport) -> Map<String, Value> {
    let output = |key: &str, value: &str| (key.to_owned(), value.into());
    Map::from_iter([output("receiverId", &receiver.id), output("exportId", &export.id)])
}

pub(super) fn update(request: &BufferRequest<'_>, receiver: &str, id: &str) -> Result<Reply, Reject> {
    let body = request.body()?;
    let said = read::update_export(&body)?;
    request.require()?;
    // A worker process checks the templates, so this runs before the lock: other changes do not wait for it.
    if let Some(mapping) = &said.mapping {
        request.receiver(receiver)?.export(id)?;
        check_mapping(request, mapping)?;
    }
    let _change = request.control().change();
    let receiver = request.receiver(receiver)?;
    let export = changed(receiver.export(id)?, &said)?;
    let path = format!("{}/{id}/export.update", receiver.id);
    let task = tasks::run(&request.buffer.common, request.project(), &path, "export.update", || {
        replace(request, receiver, export, &said)
    })?;
    Ok(begun(request, StatusCode::OK, &task))
}

/// The export with the changes applied.
fn changed(export: &BufferExport, said: &UpdateExport<'_>) -> Result<BufferExport, Reject> {
    let mut export = export.clone();
    if let Some(name) = said.name {
        name.clone_into(&mut export.name);
    }
    export.conditions = export.conditions.with(&said.conditions)?;
    if let Some(mapping) = said.mapping.as_ref().filter(|mapping| **mapping != export.mapping) {
        if export.revision >= MAPPINGS_MAX {
            let message = format!("mapping count limit reached in the export, the maximum is {MAPPINGS_MAX}");
            return Err(Reject::new(RejectKind::Conflict, message).code("mappingCountLimitReached"));
        }
        export.revision = export.revision.saturating_add(1);
        export.mapping = mapping.clone();
    }
    Ok(export)
}

fn replace(
    request: &BufferRequest<'_>,
    mut receiver: BufferReceiver,
    export: BufferExport,
    said: &UpdateExport<'_>,
) -> Result<Done, Reject> {
    let (control, project) = (request.control(), request.project());
    tables::ensure(&request.buffer.common, project, &export.mapping.id, &export.mapping.columns)?;
    streams::update_export(control, &receiver.id, &export, said)?;
    let outputs = outputs(&receiver, &export);
    if let Some(place) = receiver.exports.iter_mut().find(|other| other.id == export.id) {
        *place = export;
    }
    request.update(&receiver)?;
    streams::publish(control, project, &receiver);
    Ok(("export updated", outputs))
}

/// New requests create no rows for the export; rows of earlier requests are still written.
pub(super) fn delete(request: &BufferRequest<'_>, receiver: &str, id: &str) -> Result<Reply, Reject> {
    request.require()?;
    let (control, project) = (request.control(), request.project());
    let _change = control.change();
    let mut receiver = request.receiver(receiver)?;
    let stream = receiver.export(id)?.stream.clone();
    receiver.exports.retain(|export| export.id != id);
    request.update(&receiver)?;
    streams::publish(control, project, &receiver);
    streams::delete(control, &stream)?;
    Ok(reply::empty())
}
