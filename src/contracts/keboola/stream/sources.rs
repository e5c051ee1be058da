//! Creates, lists, changes and deletes sources, and rotates their secrets.

use super::change::{self, CREATED, DELETED, UPDATED, mark, next_version, task, version};
use super::live;
use super::model::{Content, Entity, EntityPlace, Mark, StoredEntity};
use super::page::PageQuery;
use super::request::StreamRequest;
use super::settings::Overrides;
use super::words::{bad, limit_reached, no_source, source_exists};
use super::{shown, tasks};
use crate::contracts::Reply;
use crate::contracts::keboola::reply::ok;
use crate::contracts::keboola::{names, secrets};
use crate::contracts::reject::Reject;
use serde_json::{Value, json};

pub(super) const NAME_MAX: usize = 40;
pub(super) const ID_MAX: usize = 48;
pub(super) const DESCRIPTION_MAX: usize = 4096;
/// Limit of sources per branch.
const SOURCES_MAX: usize = 100;
const CASCADED: &str = "Source and its destination tables and bucket have been deleted.";
const TYPES: [&str; 2] = ["http", "otlp"];

/// The requested id, or the one derived from the name.
pub(super) fn id(asked: Option<&str>, name: &str) -> Result<String, Reject> {
    let id = names::normalize(asked.unwrap_or(name));
    let length = id.chars().count();
    if length == 0 || length > ID_MAX {
        let message = format!("invalid ID \"{id}\": must have 1 to {ID_MAX} letters, digits and hyphens");
        return Err(bad(message));
    }
    Ok(id)
}

pub(super) fn create(request: &StreamRequest<'_>) -> Result<Reply, Reject> {
    let (asked, content) = change::read(request, |body, findings| {
        body.require(&["type", "name"], findings);
        let asked = body.text("sourceId", &(1..=ID_MAX), findings).map(str::to_owned);
        let text = |text: Option<&str>| text.unwrap_or("").to_owned();
        let content = Content {
            kind: text(body.word("type", &TYPES, findings)),
            name: text(body.text("name", &(1..=NAME_MAX), findings)),
            description: text(body.text("description", &(0..=DESCRIPTION_MAX), findings)),
            signals: None,
            table: None,
            settings: Overrides::new(),
        };
        (asked, content)
    })?;
    let id = id(asked.as_deref(), &content.name)?;
    let place = request.place(&id, None);
    let store = request.store();
    if store.find(&place)?.is_some() {
        return Err(source_exists(&id));
    }
    let live = store.sources(request.branch)?;
    if live.iter().filter(|kept| kept.entity.deleted.is_none()).count() >= SOURCES_MAX {
        return Err(limit_reached("source", "branch", SOURCES_MAX));
    }
    let entity = Entity {
        version: version(request, 1, "New source.", &content),
        content,
        created: mark(request),
        deleted: None,
        disabled: None,
        stream: live::source_stream(request, &place)?,
        secret: secrets::make(),
        cleared_at: None,
    };
    store.create(&place, &entity)?;
    live::refresh(request.store(), &place)?;
    tasks::done(request, &place, &task("create", &place), Ok(CREATED))
}

pub(super) fn list(request: &StreamRequest<'_>, is_deleted: bool) -> Result<Reply, Reject> {
    let page = PageQuery::parse(request.call.head.query)?;
    let mut all = request.store().sources(request.branch)?;
    all.retain(|kept| kept.entity.deleted.is_some() == is_deleted);
    let (sources, page) = page.cut(all, |kept: &StoredEntity| kept.place.source.clone());
    let sources: Vec<Value> = sources.iter().map(|kept| shown::kept(request, kept)).collect();
    let (project, branch) = (request.project_id(), request.branch);
    Ok(ok(&json!({"projectId": project, "branchId": branch, "page": page, "sources": sources})))
}

pub(super) fn update(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let mut entity = request.find(place)?;
    let mut content = entity.content.clone();
    let said = change::read(request, |body, findings| {
        if let Some(name) = body.text("name", &(1..=NAME_MAX), findings) {
            name.clone_into(&mut content.name);
        }
        if let Some(kind) = body.word("type", &TYPES, findings) {
            kind.clone_into(&mut content.kind);
        }
        if let Some(description) = body.text("description", &(0..=DESCRIPTION_MAX), findings) {
            description.clone_into(&mut content.description);
        }
        change::description(body, findings, "Updated.")
    })?;
    next_version(request, place, &mut entity, content, &said)?;
    change::keep(request, place, &mut entity)?;
    tasks::done(request, place, &task("update", place), Ok(UPDATED))
}

/// With `cascade`, drops the tables of the sinks and forgets the source. Without it, the source can be undeleted.
pub(super) fn delete(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let store = request.store();
    let sinks = store.sinks(place)?;
    if request.has_parameter("cascade", "true") {
        // A source that is already deleted can be deleted with `cascade`, too.
        let entity = store.find(place)?.ok_or_else(|| no_source(place.id()))?;
        live::stop(request.store(), place);
        for sink in &sinks {
            live::drop_table(request, &sink.entity)?;
            store.forget(&sink.place)?;
        }
        live::drop_table(request, &entity)?;
        store.forget(place)?;
        return tasks::done(request, place, &task("delete", place), Ok([CASCADED; 2]));
    }
    let mut entity = request.find(place)?;
    let deleted_at = mark(request);
    for mut sink in sinks {
        if sink.entity.deleted.is_none() {
            sink.entity.deleted = Some(Mark { with_source: true, ..deleted_at.clone() });
            store.save(&sink.place, &sink.entity)?;
        }
    }
    entity.deleted = Some(deleted_at);
    store.save(place, &entity)?;
    live::refresh(request.store(), place)?;
    tasks::done(request, place, &task("delete", place), Ok(DELETED))
}

/// The old secret is invalid as soon as this call is answered.
pub(super) fn rotate_secret(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let mut entity = request.find(place)?;
    entity.secret = secrets::make();
    request.store().save(place, &entity)?;
    live::refresh(request.store(), place)?;
    tracing::info!(source = place.path(), by = %request.call.caller.name, "the secret of a source was rotated");
    Ok(ok(&shown::entity(request, place, &entity)))
}
