//! Creates, lists, changes and deletes sinks.

use super::change::{self, CREATED, DELETED, UPDATED, mark, next_version, task, version};
use super::live;
use super::model::{Content, Entity, EntityPlace, SinkTable, StoredEntity};
use super::page::PageQuery;
use super::request::StreamRequest;
use super::settings::Overrides;
use super::sources::{DESCRIPTION_MAX, ID_MAX, NAME_MAX, id};
use super::words::{limit_reached, sink_exists};
use super::{shown, tasks};
use crate::contracts::Reply;
use crate::contracts::keboola::reply::ok;
use crate::contracts::keboola::tables;
use crate::contracts::keboola::validate::{Findings, ObjectNode};
use crate::contracts::reject::Reject;
use crate::formats::otlp::OtlpSignal;
use crate::mapping::{
    COLUMNS_MAX, ColumnKind, MappedColumn, Mapping, MappingLanguage, TEMPLATE_MAX, Template,
};
use serde_json::{Value, json};

/// Limit of sinks per source.
const SINKS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 255;
const COLUMN_TYPES: [&str; 7] = ["uuid", "datetime", "ip", "body", "headers", "path", "template"];

pub(super) fn create(request: &StreamRequest<'_>, source: &EntityPlace) -> Result<Reply, Reject> {
    request.find(source)?;
    let (asked, content) = change::read(request, |body, findings| {
        body.require(&["type", "name", "table"], findings);
        let asked = body.text("sinkId", &(1..=ID_MAX), findings).map(str::to_owned);
        body.word("type", &["table"], findings);
        let text = |text: Option<&str>| text.unwrap_or("").to_owned();
        let content = Content {
            kind: "table".to_owned(),
            name: text(body.text("name", &(1..=NAME_MAX), findings)),
            description: text(body.text("description", &(0..=DESCRIPTION_MAX), findings)),
            signals: signals(body, findings),
            table: table(body, None, findings),
            settings: Overrides::new(),
        };
        (asked, content)
    })?;
    let id = id(asked.as_deref(), &content.name)?;
    let place = EntityPlace { sink: Some(id.clone()), ..source.clone() };
    let store = request.store();
    if store.find(&place)?.is_some() {
        return Err(sink_exists(&id));
    }
    let sinks = store.sinks(source)?;
    if sinks.iter().filter(|kept| kept.entity.deleted.is_none()).count() >= SINKS_MAX {
        return Err(limit_reached("sink", "source", SINKS_MAX));
    }
    check(request, &content)?;
    if let Err(reject) = ensure_table(request, &content) {
        return tasks::done(request, &place, &task("create", &place), Err(reject));
    }
    let entity = Entity {
        version: version(request, 1, "New sink.", &content),
        stream: live::sink_stream(request, &place, &content)?,
        content,
        created: mark(request),
        deleted: None,
        disabled: None,
        secret: String::new(),
        cleared_at: None,
    };
    store.create(&place, &entity)?;
    live::refresh(request.store(), &place)?;
    tasks::done(request, &place, &task("create", &place), Ok(CREATED))
}

pub(super) fn list(
    request: &StreamRequest<'_>,
    source: &EntityPlace,
    is_deleted: bool,
) -> Result<Reply, Reject> {
    let page = PageQuery::parse(request.call.head.query)?;
    request.find(source)?;
    let mut all = request.store().sinks(source)?;
    all.retain(|kept| kept.entity.deleted.is_some() == is_deleted);
    let (sinks, page) = page.cut(all, |kept: &StoredEntity| kept.place.id().to_owned());
    let sinks: Vec<Value> = sinks.iter().map(|kept| shown::kept(request, kept)).collect();
    Ok(ok(&json!({
        "projectId": request.project_id(),
        "branchId": request.branch,
        "sourceId": source.source,
        "page": page,
        "sinks": sinks,
    })))
}

pub(super) fn update(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let mut entity = request.find(place)?;
    let mut content = entity.content.clone();
    let said = change::read(request, |body, findings| {
        if let Some(name) = body.text("name", &(1..=NAME_MAX), findings) {
            name.clone_into(&mut content.name);
        }
        body.word("type", &["table"], findings);
        if let Some(description) = body.text("description", &(0..=DESCRIPTION_MAX), findings) {
            description.clone_into(&mut content.description);
        }
        if let Some(signals) = signals(body, findings) {
            content.signals = Some(signals);
        }
        if let Some(table) = table(body, content.table.as_ref(), findings) {
            content.table = Some(table);
        }
        change::description(body, findings, "Updated.")
    })?;
    check(request, &content)?;
    let before = entity.content.table.as_ref().map(|table| &table.table_id);
    if before != content.table.as_ref().map(|table| &table.table_id)
        && let Err(reject) = ensure_table(request, &content)
    {
        return tasks::done(request, place, &task("update", place), Err(reject));
    }
    next_version(request, place, &mut entity, content, &said)?;
    change::keep(request, place, &mut entity)?;
    tasks::done(request, place, &task("update", place), Ok(UPDATED))
}

pub(super) fn delete(request: &StreamRequest<'_>, place: &EntityPlace) -> Result<Reply, Reject> {
    let mut entity = request.find(place)?;
    entity.deleted = Some(mark(request));
    request.store().save(place, &entity)?;
    live::refresh(request.store(), place)?;
    tasks::done(request, place, &task("delete", place), Ok(DELETED))
}

fn signals(body: &ObjectNode<'_>, findings: &mut Findings) -> Option<Vec<OtlpSignal>> {
    let names = body.texts("allowedSignals", findings)?;
    let mut signals = Vec::new();
    for (n, name) in names.into_iter().enumerate() {
        findings.one_of(
            &format!("{}[{n}]", body.path("allowedSignals")),
            &OtlpSignal::ALL.map(OtlpSignal::name),
            name,
        );
        signals.extend(OtlpSignal::named(name).filter(|signal| !signals.contains(signal)));
    }
    Some(signals)
}

/// The table of a sink. Fields that are not given keep their values.
fn table(body: &ObjectNode<'_>, before: Option<&SinkTable>, findings: &mut Findings) -> Option<SinkTable> {
    let table = body.object("table", findings)?;
    if before.is_none() {
        table.require(&["type", "tableId", "mapping"], findings);
    }
    table.word("type", &["keboola"], findings);
    let table_id = table.text("tableId", &(1..=NAME_BYTES_MAX), findings).map(str::to_owned);
    let mapping = mapping(&table, findings);
    let table_id = table_id.or_else(|| before.map(|table| table.table_id.clone()))?;
    let mapping = mapping.or_else(|| before.map(|table| table.mapping.clone()))?;
    Some(SinkTable { table_id, mapping })
}

fn mapping(table: &ObjectNode<'_>, findings: &mut Findings) -> Option<Mapping> {
    let mapping = table.object("mapping", findings)?;
    mapping.require(&["columns"], findings);
    let columns = mapping.list("columns", findings)?;
    let field = mapping.path("columns");
    findings.length(&field, &(1..=COLUMNS_MAX), "[]*stream.TableColumn{…}", columns.len());
    let columns = columns.iter().filter_map(|column| self::column(column, findings));
    Some(Mapping { columns: columns.collect() })
}

fn column(column: &ObjectNode<'_>, findings: &mut Findings) -> Option<MappedColumn> {
    column.require(&["type", "name"], findings);
    let kind = column.word("type", &COLUMN_TYPES, findings);
    let name = column.text("name", &(1..=NAME_BYTES_MAX), findings).unwrap_or("").to_owned();
    let primary_key = column.flag("primaryKey", findings);
    let raw_string = column.flag("rawString", findings).unwrap_or(false);
    let kind = match kind? {
        "uuid" => ColumnKind::Uuid,
        "datetime" => ColumnKind::Datetime,
        "ip" => ColumnKind::Ip,
        "body" => ColumnKind::Body,
        "headers" => ColumnKind::Headers,
        "path" => {
            column.require(&["path"], findings);
            let mut text = |key: &str| column.text(key, &(0..=TEMPLATE_MAX), findings).map(str::to_owned);
            let (path, default_value) = (text("path").unwrap_or_default(), text("defaultValue"));
            ColumnKind::Path { path, default_value, raw_string }
        }
        "template" => {
            column.require(&["template"], findings);
            ColumnKind::Template { template: template(column, findings)?, raw_string }
        }
        _ => return None,
    };
    Some(MappedColumn { primary_key, kind, name })
}

fn template(column: &ObjectNode<'_>, findings: &mut Findings) -> Option<Template> {
    let template = column.object("template", findings)?;
    template.require(&["language", "content"], findings);
    template.word("language", &["jsonnet"], findings);
    let content = template.text("content", &(1..=TEMPLATE_MAX), findings)?.to_owned();
    Some(Template { language: MappingLanguage::Jsonnet, content })
}

/// Checks that need the complete content: the table's id, and whether the mapping can be evaluated.
fn check(request: &StreamRequest<'_>, content: &Content) -> Result<(), Reject> {
    let Some(table) = &content.table else { return Ok(()) };
    tables::check_id(&table.table_id)?;
    live::check_mapping(request.control(), &table.mapping)
}

/// Creates the table, or checks that an existing one has the columns of the mapping.
fn ensure_table(request: &StreamRequest<'_>, content: &Content) -> Result<(), Reject> {
    let Some(table) = &content.table else { return Ok(()) };
    tables::ensure(request.common, request.project, &table.table_id, &table.mapping.columns)
}
