//! The streams behind receivers and exports, and the receivers that requests look up.

use super::model::{BufferExport, BufferReceiver, ExportTable};
use super::read::UpdateExport;
use crate::batch;
use crate::catalog::{Alter, CatalogError, IfExists, NewStream, Stream};
use crate::contracts::keboola::names;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::control::Control;
use crate::contracts::shared::receivers;
use crate::mapping::Mapping;
use crate::schema::{FileConditions, Landing, Policy, StreamSettings};
use serde_json::Value;
use std::sync::Arc;

/// Converts the catalog's error for a stream.
fn refused(error: CatalogError) -> Reject {
    match error {
        CatalogError::Schema(_) | CatalogError::Name(_) => {
            Reject::malformed(format!("invalid mapping: {error}")).code("badRequest")
        }
        CatalogError::Exists(_) => Reject::new(RejectKind::Conflict, error.to_string()),
        error => Reject::internal(&error),
    }
}

/// Creates the stream of a receiver's requests. It has no table: the requests are in the log and its archive.
pub(super) fn make_receiver(control: &Control, project: &str, id: &str) -> Result<Arc<Stream>, Reject> {
    let made = control.create_stream(NewStream {
        name: BufferReceiver::stream_name(project, id),
        policy: Policy::Evolve,
        columns: Vec::new(),
        settings: StreamSettings {
            description: format!("requests of receiver {id}"),
            project: Some(project.to_owned()),
            landing: Landing { table: false, ..Landing::default() },
            ..StreamSettings::default()
        },
        if_exists: IfExists::Error,
    });
    made.map_err(refused)
}

/// Creates the stream of an export's rows.
pub(super) fn make_export(
    control: &Control,
    project: &str,
    receiver: (&str, &Stream),
    export: &BufferExport,
) -> Result<Arc<Stream>, Reject> {
    let (receiver, of) = receiver;
    let settings = StreamSettings { receiver: Some(of.id), ..settings(project, receiver, export) };
    let made = control.create_stream(NewStream {
        name: BufferExport::stream_name(project, receiver, &export.id),
        policy: Policy::Mapped,
        columns: Vec::new(),
        settings,
        if_exists: IfExists::Error,
    });
    made.map_err(refused)
}

/// Sets the mapping and the conditions of an export's stream to those in the request. Settings that the request does
/// not name stay, even if they were changed by hand.
pub(super) fn update_export(
    control: &Control,
    receiver: &str,
    export: &BufferExport,
    said: &UpdateExport<'_>,
) -> Result<(), Reject> {
    let Some(stream) = find(control, &export.stream) else { return Ok(()) };
    let mut settings = (*stream.settings).clone();
    if said.mapping.is_some() {
        settings.mapping = Some(Arc::new(mapping(&export.mapping)));
        settings.directory = Some(directory(receiver, export));
    }
    if !said.conditions.is_nothing() {
        settings.conditions = Some(conditions(export));
    }
    let alter = Alter { policy: None, columns: None, settings: Some(settings), force: true };
    control.alter_stream(stream.id, None, &alter).map(drop).map_err(refused)
}

fn conditions(export: &BufferExport) -> FileConditions {
    let conditions = &export.conditions;
    FileConditions {
        count: Some(conditions.count),
        bytes: Some(conditions.size),
        age_seconds: Some(conditions.seconds()),
    }
}

fn settings(project: &str, receiver: &str, export: &BufferExport) -> StreamSettings {
    StreamSettings {
        description: format!("export {} of receiver {receiver}", export.id),
        project: Some(project.to_owned()),
        conditions: Some(conditions(export)),
        directory: Some(directory(receiver, export)),
        mapping: Some(Arc::new(mapping(&export.mapping))),
        ..StreamSettings::default()
    }
}

pub(super) fn mapping(table: &ExportTable) -> Mapping {
    Mapping { columns: table.columns.clone() }
}

/// The directory of an export's files: its own below the table's, because several exports may write to one table.
fn directory(receiver: &str, export: &BufferExport) -> String {
    let (receiver, id) = (names::part(receiver), names::part(&export.id));
    format!("{}/export={receiver}.{id}", export.mapping.id)
}

fn find(control: &Control, uuid: &str) -> Option<Arc<Stream>> {
    control.streams().find(uuid).cloned()
}

/// The stream of a receiver.
pub(super) fn for_receiver(control: &Control, receiver: &BufferReceiver) -> Result<Arc<Stream>, Reject> {
    find(control, &receiver.stream).ok_or_else(|| {
        Reject::new(RejectKind::Conflict, format!("the stream of receiver \"{}\" was deleted", receiver.id))
    })
}

/// Deletes a stream. Its records in the log are still written.
pub(super) fn delete(control: &Control, uuid: &str) -> Result<(), Reject> {
    let Some(stream) = find(control, uuid) else { return Ok(()) };
    match control.delete_stream(stream.id) {
        Ok(_) | Err(CatalogError::NoSuchStream) => Ok(()),
        Err(error) => Err(Reject::internal(&error)),
    }
}

/// Publishes a receiver, as it is now, to requests.
pub(super) fn publish(control: &Control, project: &str, receiver: &BufferReceiver) {
    let Some(stream) = find(control, &receiver.stream) else { return };
    let export = |export: &BufferExport| {
        let stream = find(control, &export.stream)?;
        Some(receivers::ReceiverExport { stream: stream.id, label: export.id.clone() })
    };
    let target = receivers::Receiver {
        stream: stream.id,
        secret: receiver.secret.clone(),
        exports: receiver.exports.iter().filter_map(export).collect(),
        about: Value::Null,
    };
    control.receivers.set(batch::Tag::Keboola, project, &receiver.id, target);
}

/// Removes a receiver from requests: from now on they get 404.
pub(super) fn withdraw(control: &Control, project: &str, receiver: &str) {
    control.receivers.remove(batch::Tag::Keboola, project, receiver);
}
