//! Sources and sinks in the rest of the daemon: streams in the catalog, and receivers that requests look up.

use super::model::{self, Content, Entity, EntityPlace, EntityStore, StoredEntity};
use super::request::StreamRequest;
use super::settings::{Layers, Overrides};
use super::words::bad;
use crate::batch::{StreamId, Tag};
use crate::catalog::{Alter, CatalogError, IfExists, NewStream, Stream};
use crate::contracts::keboola::{KeboolaContext, names};
use crate::contracts::reject::Reject;
use crate::contracts::shared::control::Control;
use crate::contracts::shared::receivers::{Receiver, ReceiverExport};
use crate::formats::json;
use crate::formats::otlp::OtlpSignal;
use crate::mapping::{CheckError, Mapping};
use crate::schema::{FileConditions, Landing, Policy, StreamSettings};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The part of a source that requests need.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SourceInfo {
    pub(super) branch: u64,
    /// `http` or `otlp`.
    pub(super) kind: String,
    pub(super) is_disabled: bool,
    /// Whether the answer waits for the sync.
    pub(super) waits: bool,
    /// The signals that each export takes, in the order of the exports. `None`: all.
    pub(super) signals: Vec<Option<Vec<OtlpSignal>>>,
}

/// Publishes every stored source to requests.
pub(super) fn load(control: &Arc<Control>) -> Result<(), CatalogError> {
    for (project, source) in model::every_source(control)? {
        // One bad document does not affect the other sources.
        if let Err(reject) = refresh(EntityStore { control, project: &project }, &source) {
            let (error, source) = (reject.internal, source.path());
            tracing::error!(
                project,
                source,
                ?error,
                "loading a Keboola Stream source failed; its address answers 404"
            );
        }
    }
    Ok(())
}

/// Publishes the current state of a source, or of a sink's source, to requests.
pub(super) fn refresh(store: EntityStore<'_>, place: &EntityPlace) -> Result<(), Reject> {
    let place = &place.of_source();
    let source = store.find(place)?.filter(|source| source.deleted.is_none());
    let Some(source) = source else {
        stop(store, place);
        return Ok(());
    };
    let sinks = live_sinks(store, place)?;
    let waits = |sink: Option<&StoredEntity>| {
        let own = sink.map(|sink| &sink.entity.content.settings);
        let layers: Vec<&Overrides> = std::iter::once(&source.content.settings).chain(own).collect();
        Layers(&layers).waits_for_sync()
    };
    let about = SourceInfo {
        branch: place.branch,
        kind: source.content.kind.clone(),
        is_disabled: source.disabled.is_some(),
        // A record is one frame of the log: if one sink waits for the sync, the whole record does.
        waits: if sinks.is_empty() { waits(None) } else { sinks.iter().any(|sink| waits(Some(sink))) },
        signals: sinks.iter().map(|sink| sink.entity.content.signals.clone()).collect(),
    };
    let export = |sink: &StoredEntity| ReceiverExport {
        stream: sink.entity.stream,
        label: sink.place.id().to_owned(),
    };
    let receiver = Receiver {
        stream: source.stream,
        secret: source.secret,
        exports: sinks.iter().map(export).collect(),
        about: json::value(&about),
    };
    store.control.receivers.set(Tag::KeboolaStream, store.project, &place.path(), receiver);
    Ok(())
}

/// The sinks of a source that take records, ordered by id.
pub(super) fn live_sinks(store: EntityStore<'_>, place: &EntityPlace) -> Result<Vec<StoredEntity>, Reject> {
    let mut sinks = store.sinks(place)?;
    sinks.retain(|sink| sink.entity.is_live());
    Ok(sinks)
}

/// Removes a source from requests: it takes no more records.
pub(super) fn stop(store: EntityStore<'_>, place: &EntityPlace) {
    store.control.receivers.remove(Tag::KeboolaStream, store.project, &place.path());
}

/// Finds the source of an address, in any branch, by project, id and secret.
pub(super) fn find(
    common: &KeboolaContext,
    project: &str,
    source: &str,
    secret: &str,
) -> Option<Arc<Receiver>> {
    let branches = common.settings.branches.iter();
    let mut found = branches.filter_map(|branch| {
        common.control.receivers.find(Tag::KeboolaStream, project, &format!("{branch}/{source}"))
    });
    found.find(|receiver| receiver.knows(secret))
}

pub(super) fn about(receiver: &Receiver) -> Option<SourceInfo> {
    let about = serde_json::from_value(receiver.about.clone());
    let told = |error: &serde_json::Error| {
        tracing::error!(stream = %receiver.stream, %error, "cannot read what is known about a source, so it takes no records");
    };
    about.inspect_err(told).ok()
}

/// The name of the stream of a source or sink. It is unique.
fn stream_name(request: &StreamRequest<'_>, place: &EntityPlace) -> String {
    let parts = [Some(&place.source), place.sink.as_ref()];
    let parts = parts.into_iter().flatten().map(|id| names::part(id));
    let mut name = format!("stream.{}.{}", names::part(request.project), place.branch);
    for part in parts {
        name.push('.');
        name.push_str(&part);
    }
    name
}

fn create_stream(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    policy: Policy,
    settings: StreamSettings,
) -> Result<StreamId, Reject> {
    let (name, columns) = (stream_name(request, place), Vec::new());
    let new = NewStream { name, policy, columns, settings, if_exists: IfExists::Error };
    Ok(request.control().create_stream(new)?.id)
}

/// Creates the stream of a source: records as received, without a table.
pub(super) fn source_stream(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<StreamId, Reject> {
    let settings = StreamSettings {
        landing: Landing { table: false, ..Landing::default() },
        project: Some(request.project.to_owned()),
        ..StreamSettings::default()
    };
    create_stream(request, place, Policy::Raw, settings)
}

/// Creates the stream of a sink: rows by its mapping.
pub(super) fn sink_stream(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    content: &Content,
) -> Result<StreamId, Reject> {
    let settings = sink_settings(request, place, content)?;
    create_stream(request, place, Policy::Mapped, settings)
}

fn sink_settings(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    content: &Content,
) -> Result<StreamSettings, Reject> {
    let source = request.find(&place.of_source())?;
    let layers = [&source.content.settings, &content.settings];
    let (count, bytes, seconds) = Layers(&layers).conditions();
    let table = content.table.as_ref();
    let directory = table.map(|table| {
        let part = |id: &str| names::part(id);
        let sink = place.sink.as_deref().unwrap_or("");
        format!("{}/sink={}.{}.{}", table.table_id, place.branch, part(&place.source), part(sink))
    });
    Ok(StreamSettings {
        project: Some(request.project.to_owned()),
        description: content.description.clone(),
        conditions: Some(FileConditions {
            count: Some(count),
            bytes: Some(bytes),
            age_seconds: Some(seconds),
        }),
        directory,
        mapping: table.map(|table| Arc::new(table.mapping.clone())),
        receiver: Some(source.stream),
        ..StreamSettings::default()
    })
}

/// Applies the changes of a sink to its stream, before the sink is stored. Settings that did not change stay as they
/// are in the stream, even if changed by hand. Another table means another stream: records that were accepted for
/// the old table still go there. A stream that was deleted by hand is created again.
pub(super) fn alter_stream(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    entity: &mut Entity,
) -> Result<(), Reject> {
    if !place.is_sink() {
        return Ok(());
    }
    let now = sink_settings(request, place, &entity.content)?;
    let before = request.store().find(place)?;
    let before = before.map(|before| sink_settings(request, place, &before.content)).transpose()?;
    let known = live_stream(request, entity);
    let same = before.filter(|before| before.directory == now.directory);
    let Some((before, known)) = same.zip(known) else {
        end_stream(request, entity)?;
        entity.stream = create_stream(request, place, Policy::Mapped, now)?;
        return Ok(());
    };
    let mut settings = (*known.settings).clone();
    if now.description != before.description {
        settings.description = now.description;
    }
    if now.conditions != before.conditions {
        settings.conditions = now.conditions;
    }
    if now.mapping != before.mapping {
        settings.mapping = now.mapping;
    }
    alter(request, entity, settings)
}

fn live_stream(request: &StreamRequest<'_>, entity: &Entity) -> Option<Arc<Stream>> {
    let stream = request.control().streams().get(entity.stream).cloned();
    stream.filter(|stream| stream.deleted_at.is_none())
}

fn alter(request: &StreamRequest<'_>, entity: &Entity, settings: StreamSettings) -> Result<(), Reject> {
    let alter = Alter { settings: Some(settings), force: true, ..Alter::default() };
    let altered = request.control().alter_stream(entity.stream, None, &alter);
    altered.map(drop).map_err(|error| match error {
        CatalogError::Schema(_) => bad(crate::error::chain(&error)),
        error => Reject::internal(&error),
    })
}

/// Applies the changed settings of a source to the conditions of its sinks.
pub(super) fn alter_sinks(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<(), Reject> {
    for sink in request.store().sinks(place)? {
        let known = live_stream(request, &sink.entity).filter(|_| sink.entity.deleted.is_none());
        if let Some(known) = known {
            let conditions = sink_settings(request, &sink.place, &sink.entity.content)?.conditions;
            alter(request, &sink.entity, StreamSettings { conditions, ..(*known.settings).clone() })?;
        }
    }
    refresh(request.store(), place)
}

/// Deletes the stream of a source or sink. Its table stays.
fn end_stream(request: &StreamRequest<'_>, entity: &Entity) -> Result<(), Reject> {
    gone(request.control().delete_stream(entity.stream).map(drop))
}

/// Deletes the stream of a source or sink, and its table.
pub(super) fn drop_table(request: &StreamRequest<'_>, entity: &Entity) -> Result<(), Reject> {
    gone(request.control().drop_stream(entity.stream))
}

fn gone(deleted: Result<(), CatalogError>) -> Result<(), Reject> {
    match deleted {
        Ok(()) | Err(CatalogError::NoSuchStream) => Ok(()),
        Err(error) => Err(Reject::internal(&error)),
    }
}

/// Refuses a mapping that cannot be evaluated.
pub(super) fn check_mapping(control: &Control, mapping: &Mapping) -> Result<(), Reject> {
    control.check_mapping(mapping).map_err(|errors| {
        let messages: Vec<String> = errors.iter().map(CheckError::to_string).collect();
        bad(messages.join("; "))
    })
}
