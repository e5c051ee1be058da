//! Operations that sources and sinks share: versions, settings, disable and enable, delete and undelete.

use super::live;
use super::model::{Content, Entity, EntityPlace, Mark, PastVersion, Version, by};
use super::page::PageQuery;
use super::request::StreamRequest;
use super::settings::{self, Layers, Overrides, SettingChange};
use super::shown;
use super::tasks::{self, TaskWords};
use super::words::{
    bad, limit_reached, no_deleted_sink, no_deleted_source, no_sink_version, no_source_version,
};
use crate::contracts::Reply;
use crate::contracts::keboola::reply::ok;
use crate::contracts::keboola::validate::{self, Findings, ObjectNode};
use crate::contracts::reject::Reject;
use crate::formats::json;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const DESCRIPTION_MAX: usize = 4096;
const VERSIONS_MAX: usize = 1000;
/// Length of a version's hash.
const HASH_BYTES: usize = 8;

pub(super) const CREATED: TaskWords =
    ["Source has been created successfully.", "Sink has been created successfully."];
pub(super) const UPDATED: TaskWords =
    ["Source has been updated successfully.", "Sink has been updated successfully."];
pub(super) const DELETED: TaskWords =
    ["Source has been deleted successfully.", "Sink has been deleted successfully."];
const DISABLED: TaskWords =
    ["Source has been disabled successfully.", "Sink has been disabled successfully."];
const ENABLED: TaskWords = ["Source has been enabled successfully.", "Sink has been enabled successfully."];
const UNDELETED: TaskWords =
    ["Source has been undeleted successfully.", "Sink has been undeleted successfully."];
const SETTINGS_UPDATED: TaskWords =
    ["Source settings have been updated successfully.", "Sink settings have been updated successfully."];
const ROLLED_BACK: TaskWords =
    ["Source version was rolled back successfully.", "Sink version was rolled back successfully."];

/// `Source` or `Sink`.
fn noun(place: &EntityPlace) -> &'static str {
    if place.is_sink() { "Sink" } else { "Source" }
}

/// The type of a task: `api.create.source`.
pub(super) fn task(operation: &str, place: &EntityPlace) -> String {
    format!("api.{operation}.{}", noun(place).to_lowercase())
}

/// A new version, by the caller, as of now.
pub(super) fn version(
    request: &StreamRequest<'_>,
    number: u32,
    description: &str,
    content: &Content,
) -> Version {
    let digest = Sha256::digest(json::bytes(content));
    let hash = digest.iter().take(HASH_BYTES).fold(String::new(), |hash, byte| hash + &format!("{byte:02x}"));
    let (at, by) = (request.control().clock.now(), by(&request.call.caller));
    Version { number, hash, description: description.to_owned(), at, by }
}

pub(super) fn mark(request: &StreamRequest<'_>) -> Mark {
    let (at, by) = (request.control().clock.now(), by(&request.call.caller));
    Mark { at, by, reason: None, with_source: false }
}

/// Gives an entity a new version with this content.
pub(super) fn next_version(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    entity: &mut Entity,
    content: Content,
    description: &str,
) -> Result<(), Reject> {
    let number = entity.version.number.saturating_add(1);
    if usize::try_from(number).is_ok_and(|number| number > VERSIONS_MAX) {
        return Err(limit_reached("version", &noun(place).to_lowercase(), VERSIONS_MAX));
    }
    entity.version = version(request, number, description, &content);
    entity.content = content;
    Ok(())
}

/// Stores a changed entity and its new version, and updates the sources that take records.
pub(super) fn keep(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    entity: &mut Entity,
) -> Result<(), Reject> {
    live::alter_stream(request, place, entity)?;
    request.store().save_version(place, entity)?;
    request.store().save(place, entity)?;
    live::refresh(request.store(), place)
}

/// Reads a body. Refuses it if anything in it is wrong.
pub(super) fn read<T>(
    request: &StreamRequest<'_>,
    read: impl FnOnce(&ObjectNode<'_>, &mut Findings) -> T,
) -> Result<T, Reject> {
    let body = validate::parse(&request.call.body)?;
    let mut findings = Findings::default();
    let found = ObjectNode::root(&body, &mut findings).map(|root| read(&root, &mut findings));
    findings.finish()?;
    found.ok_or_else(|| bad("the body must be a JSON object"))
}

/// `changeDescription`, or the default text.
pub(super) fn description(body: &ObjectNode<'_>, findings: &mut Findings, otherwise: &str) -> String {
    let said = body.text("changeDescription", &(0..=DESCRIPTION_MAX), findings);
    said.unwrap_or(otherwise).to_owned()
}

pub(super) fn show(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let entity = request.find(place)?;
    Ok(ok(&shown::entity(request, place, &entity)))
}

/// The overrides of the source and of the sink, in this order.
fn layers(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    entity: &Entity,
) -> Result<Vec<Overrides>, Reject> {
    let own = entity.content.settings.clone();
    if !place.is_sink() {
        return Ok(vec![own]);
    }
    let source = request.find(&place.of_source())?;
    Ok(vec![source.content.settings, own])
}

fn settings_shown(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    entity: &Entity,
) -> Result<Value, Reject> {
    let layers = layers(request, place, entity)?;
    let layers: Vec<&Overrides> = layers.iter().collect();
    Ok(Layers(&layers).shown())
}

pub(super) fn settings(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let entity = request.find(place)?;
    Ok(ok(&settings_shown(request, place, &entity)?))
}

pub(super) fn update_settings(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let mut entity = request.find(place)?;
    let (description, items) = read(request, |body, findings| {
        body.require(&["settings"], findings);
        let items = body.list("settings", findings).unwrap_or_default();
        let items: Vec<SettingChange> =
            items.iter().map(|item| SettingChange::read(item, findings)).collect();
        (description(body, findings, "Updated settings."), items)
    })?;
    let mut content = entity.content.clone();
    settings::change(&mut content.settings, &items)?;
    next_version(request, place, &mut entity, content, &description)?;
    keep(request, place, &mut entity)?;
    if !place.is_sink() {
        live::alter_sinks(request, place)?;
    }
    let kind = format!("{}Settings", task("update", place));
    tasks::done(request, place, &kind, Ok(SETTINGS_UPDATED))
}

/// Has no effect on an entity that is already disabled.
pub(super) fn disable(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let mut entity = request.find(place)?;
    if entity.disabled.is_none() {
        let reason = Some("API request".to_owned());
        entity.disabled = Some(Mark { reason, ..mark(request) });
        request.store().save(place, &entity)?;
        live::refresh(request.store(), place)?;
    }
    tasks::done(request, place, &task("disable", place), Ok(DISABLED))
}

pub(super) fn enable(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let mut entity = request.find(place)?;
    if entity.disabled.take().is_some() {
        request.store().save(place, &entity)?;
        live::refresh(request.store(), place)?;
    }
    tasks::done(request, place, &task("enable", place), Ok(ENABLED))
}

/// Undeleting a source also restores the sinks that were deleted with it.
pub(super) fn undelete(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    if place.is_sink() {
        request.find(&place.of_source())?;
    }
    let found = request.store().find(place)?.filter(|entity| entity.deleted.is_some());
    let Some(mut entity) = found else {
        let id = place.id();
        return Err(if place.is_sink() { no_deleted_sink(id) } else { no_deleted_source(id) });
    };
    entity.deleted = None;
    request.store().save(place, &entity)?;
    if !place.is_sink() {
        for mut sink in request.store().sinks(place)? {
            if sink.entity.deleted.as_ref().is_some_and(|deleted| deleted.with_source) {
                sink.entity.deleted = None;
                request.store().save(&sink.place, &sink.entity)?;
            }
        }
    }
    live::refresh(request.store(), place)?;
    tasks::done(request, place, &task("undelete", place), Ok(UNDELETED))
}

pub(super) fn versions(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let page = PageQuery::parse(request.call.head.query)?;
    request.find(place)?;
    let all = request.store().versions(place)?;
    let (versions, page) = page.cut(all, |past: &PastVersion| format!("{:010}", past.version.number));
    let versions: Vec<Value> = versions.iter().map(|past| shown::version(&past.version)).collect();
    Ok(ok(&json!({"versions": versions, "page": page})))
}

fn past(request: &StreamRequest<'_>, place: &EntityPlace, number: &str) -> Result<PastVersion, Reject> {
    let Ok(number) = number.parse::<u32>() else {
        let message =
            format!("invalid value {} for \"versionNumber\", must be a integer", Value::from(number));
        return Err(bad(message).code("invalidFieldType"));
    };
    let found = request.store().version(place, number)?;
    found.ok_or_else(|| match &place.sink {
        Some(_) => no_sink_version(place.id(), number),
        None => no_source_version(place.id(), number),
    })
}

/// Shows an entity as of an old version.
pub(super) fn show_version(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    number: &str,
) -> Result<Reply, Reject> {
    let entity = request.find(place)?;
    let past = past(request, place, number)?;
    let entity = Entity { content: past.content, version: past.version, ..entity };
    Ok(ok(&shown::entity(request, place, &entity)))
}

/// Creates a new version with the content of an old one.
pub(super) fn rollback(
    request: &StreamRequest<'_>,
    place: &EntityPlace,
    number: &str,
) -> Result<Reply, Reject> {
    let mut entity = request.find(place)?;
    let past = past(request, place, number)?;
    let description = format!("Rollback to version \"{}\".", past.version.number);
    next_version(request, place, &mut entity, past.content, &description)?;
    keep(request, place, &mut entity)?;
    if !place.is_sink() {
        live::alter_sinks(request, place)?;
    }
    let kind = format!("{}Version", task("rollback", place));
    tasks::done(request, place, &kind, Ok(ROLLED_BACK))
}
