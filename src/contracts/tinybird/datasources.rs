//! Data sources, Tinybird's name for streams: creates them from a schema or from their first records, lists, shows and
//! alters them, appends to them and drops them. Truncating and replacing are refused.

use super::analyze::{self, Format, SampleRecords};
use super::jobs::{self, ImportJob};
use super::schema::{self, Shown};
use super::upload::Upload;
use super::{CATALOG_NAME, Tinybird, put, reply};
use crate::auth::Need;
use crate::catalog::{Alter, CatalogError, IfExists, NewStream, Stream};
use crate::clock::Micros;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::control::Control;
use crate::contracts::{Accepted, Append, Bodies, Call, CallDestination, Managed, Reply, Wait};
use crate::error::chain;
use crate::schema::{Change, Column, Policy, QuarantineLayout, StreamSettings};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const QUARANTINE: &str = "_quarantine";

/// `POST /v0/datasources`: creates a data source, or appends to one.
pub(super) fn post(tinybird: &Tinybird, call: &Call<'_>) -> Result<Managed, Reject> {
    let upload = Upload::from_call(call)?;
    analyze::refuse_url(&upload)?;
    let name = upload.required("name")?;
    match upload.get("mode").unwrap_or("create") {
        "create" => create(tinybird, call, &upload, name),
        "append" => append(tinybird, call, &upload, name),
        "replace" => Err(replace()),
        other => Err(Reject::malformed(format!("mode '{other}' is not supported; use 'create' or 'append'"))),
    }
}

pub(super) fn replace() -> Reject {
    Reject::malformed("Replacing rows is not supported: create another data source and append to it")
}

fn create(tinybird: &Tinybird, call: &Call<'_>, upload: &Upload, name: &str) -> Result<Managed, Reject> {
    let control = &*tinybird.control;
    call.caller.require(Need::Create)?;
    let format = Format::from_upload(upload)?;
    let notation = analyze::notation(upload)?;
    let columns_max = control.columns_max();
    let mut vendor = Map::new();
    let declared = match upload.get("schema") {
        None => None,
        Some(text) => {
            let declared = schema::parse(text, columns_max).map_err(Reject::malformed)?;
            vendor.insert("columns".to_owned(), clauses(&declared));
            Some(declared.into_iter().map(|declared| declared.column).collect::<Vec<Column>>())
        }
    };
    let format = format.unwrap_or_else(|| match (&upload.data, &declared) {
        (Some(data), _) => Format::looks(data),
        (None, Some(columns)) if columns.iter().any(|column| column.path.is_some()) => Format::Ndjson,
        _ => Format::Csv,
    });
    let records = match &upload.data {
        None => None,
        Some(data) => {
            let known = declared.as_deref().unwrap_or(&[]);
            Some(analyze::records(data, format, known, notation, call.decoded_max)?)
        }
    };
    let columns = match (declared, &records) {
        (Some(columns), _) => columns,
        // All of the data is stored, so all of it determines the types.
        (None, Some(records)) => {
            analyze::columns(&analyze::sample(&records.body, records.kind, u64::MAX, columns_max)?)?
        }
        (None, None) => {
            return Err(Reject::malformed("Either 'schema' or data to infer it from is required"));
        }
    };
    vendor.insert("type".to_owned(), json!(format.name()));
    vendor.insert("engine".to_owned(), engine(upload));
    let settings = StreamSettings {
        description: upload.get("description").unwrap_or("").to_owned(),
        quarantine: QuarantineLayout::Tinybird,
        vendor: Map::from_iter([(CATALOG_NAME.to_owned(), Value::Object(vendor))]),
        ..StreamSettings::default()
    };
    let new = NewStream {
        name: name.to_owned(),
        policy: Policy::Propose,
        columns,
        settings,
        if_exists: IfExists::Error,
    };
    let stream = control.create_stream(new).map_err(refused)?;
    let Some(records) = records else {
        let answer = imported(control, &stream, &ImportJob::new(control, &stream, 0), false);
        return Ok(Managed::Reply(reply(StatusCode::OK, &answer)));
    };
    Ok(import(tinybird, stream, records, upload))
}

fn append(tinybird: &Tinybird, call: &Call<'_>, upload: &Upload, name: &str) -> Result<Managed, Reject> {
    let stream = find(&tinybird.control, name)?;
    call.caller.require(Need::Ingest(&stream.name))?;
    let records = uploaded(call, upload, &stream)?;
    Ok(import(tinybird, stream, records, upload))
}

/// The records of an upload for an existing stream.
fn uploaded(call: &Call<'_>, upload: &Upload, stream: &Stream) -> Result<SampleRecords, Reject> {
    let data = upload
        .data
        .as_ref()
        .ok_or_else(|| Reject::malformed("The request has no data: send it as a file or as the body"))?;
    let format = Format::from_upload(upload)?.unwrap_or_else(|| Format::looks(data));
    analyze::records(data, format, &stream.schema.columns, analyze::notation(upload)?, call.decoded_max)
}

/// Appends and, like an import, answers once the rows can be read.
fn import(tinybird: &Tinybird, stream: Arc<Stream>, records: SampleRecords, upload: &Upload) -> Managed {
    let blocks = upload.get("debug").is_some_and(|debug| debug.contains("block"));
    let answer =
        move |control: &Control, stream: &Stream, job: &ImportJob| imported(control, stream, job, blocks);
    appended(tinybird, stream, records, Wait::Table, answer)
}

/// `POST /v1/datasources/{name}/append`: answers at once, with the id of a job to poll.
pub(super) fn append_job(tinybird: &Tinybird, call: &Call<'_>, name: &str) -> Result<Managed, Reject> {
    let upload = Upload::from_call(call)?;
    analyze::refuse_url(&upload)?;
    let stream = find(&tinybird.control, name)?;
    call.caller.require(Need::Ingest(&stream.name))?;
    let records = uploaded(call, &upload, &stream)?;
    let url = tinybird.control.base_url(call.head.headers);
    let answer = move |control: &Control, _: &Stream, job: &ImportJob| jobs::json(control, job, &url);
    Ok(appended(tinybird, stream, records, Wait::Sync, answer))
}

/// Appends records, stores a job for them, and answers with what `answer` makes of the job.
fn appended(
    tinybird: &Tinybird,
    stream: Arc<Stream>,
    SampleRecords { body, kind }: SampleRecords,
    wait: Wait,
    answer: impl FnOnce(&Control, &Stream, &ImportJob) -> Value + Send + 'static,
) -> Managed {
    let (tinybird, of, bytes) = (tinybird.clone(), Arc::clone(&stream), body.len() as u64);
    let reply = move |accepted: &Accepted| {
        let Tinybird { control, jobs } = &tinybird;
        let job = ImportJob::from_accepted(control, &of, accepted, bytes);
        // With `Wait::Table`, publication has already been requested.
        if wait != Wait::Table {
            control.publish_soon(&of, accepted.lsn);
        }
        job.save(jobs);
        reply(StatusCode::OK, &answer(control, &of, &job))
    };
    let (to, reply, bodies) = (CallDestination::Stream(stream), Box::new(reply), Bodies::default());
    Managed::Append(Append { to, body, kind, bodies, wait, reply })
}

/// The answer to an import.
fn imported(control: &Control, stream: &Stream, job: &ImportJob, blocks: bool) -> Value {
    let mut answer = json!({
        "datasource": summary(control, stream),
        "import_id": job.id,
        "invalid_lines": job.invalid,
        "quarantine_rows": job.quarantined,
        "error": job.error().map_or(Value::Bool(false), Value::String),
    });
    if blocks {
        put(&mut answer, "blocks", job.blocks());
        put(&mut answer, "block_log", json!([]));
    }
    answer
}

pub(super) fn list(tinybird: &Tinybird, call: &Call<'_>) -> Result<Value, Reject> {
    let control = &*tinybird.control;
    let streams = control.streams().all();
    let seen = |stream: &&Arc<Stream>| {
        call.caller.may(Need::Read(&stream.name)) || call.caller.may(Need::Ingest(&stream.name))
    };
    let shown = streams.iter().filter(seen).map(|stream| {
        let mut shown = summary(control, stream);
        put(&mut shown, "statistics", statistics(control, stream, "rows")?);
        Ok(shown)
    });
    let shown: Vec<Value> = shown.collect::<Result<_, Reject>>()?;
    Ok(json!({ "datasources": shown }))
}

pub(super) fn get(tinybird: &Tinybird, call: &Call<'_>, name: &str) -> Result<Value, Reject> {
    let (stream, table) = find_table(&tinybird.control, name)?;
    if !call.caller.may(Need::Ingest(&stream.name)) {
        call.caller.require(Need::Read(&stream.name))?;
    }
    detail(&tinybird.control, &stream, table)
}

/// The full description of a data source or of its quarantine.
fn detail(control: &Control, stream: &Stream, table: DatasourceTable) -> Result<Value, Reject> {
    let mut shown = summary(control, stream);
    let proposed = !control.proposals(stream.id).map_err(refused)?.is_empty();
    let columns = match table {
        DatasourceTable::Rows => {
            stream.schema.columns.iter().map(|column| shown_column(stream, column)).collect()
        }
        DatasourceTable::Quarantine => quarantine_columns(stream),
    };
    let columns: Vec<(Value, String)> = columns;
    let text: Vec<&str> = columns.iter().map(|(_, text)| text.as_str()).collect();
    let text = text.join(", ");
    if table == DatasourceTable::Quarantine {
        put(&mut shown, "name", json!(format!("{}{QUARANTINE}", stream.name)));
    }
    let kind = if table == DatasourceTable::Rows { "rows" } else { "quarantine" };
    put(&mut shown, "statistics", statistics(control, stream, kind)?);
    let columns: Vec<Value> = columns.into_iter().map(|(column, _)| column).collect();
    put(&mut shown, "schema", json!({"columns": columns, "sql_schema": text}));
    put(&mut shown, "new_columns_detected", json!(proposed));
    put(&mut shown, "indexes", json!([]));
    Ok(shown)
}

fn shown_column(stream: &Stream, column: &Column) -> (Value, String) {
    let clauses = vendor(stream).and_then(|vendor| vendor.get("columns")?.get(&column.name)?.as_str());
    let shown = Shown::from_column(column, clauses);
    let text = format!("`{}` {}", column.name, shown.declaration());
    let json = json!({
        "name": column.name,
        "type": shown.kind,
        "jsonpath": shown.json_path,
        "nullable": shown.nullable,
        "codec": shown.codec,
        "default_value": shown.default,
        "normalized_name": column.name,
        "auto": false,
    });
    (json, text)
}

fn quarantine_columns(stream: &Stream) -> Vec<(Value, String)> {
    let own = [
        ("c__error_column", "Array(String)", false),
        ("c__error", "Array(String)", false),
        ("c__import_id", "String", true),
        ("insertion_date", "DateTime", false),
        ("c__raw", "String", false),
    ];
    let of_rows = stream.schema.columns.iter().map(|column| (column.name.as_str(), "String", true));
    let column = |(name, kind, nullable): (&str, &str, bool)| {
        let text = if nullable { format!("`{name}` Nullable({kind})") } else { format!("`{name}` {kind}") };
        let json = json!({
            "name": name, "type": kind, "jsonpath": null, "nullable": nullable, "codec": null,
            "default_value": null, "normalized_name": name, "auto": false,
        });
        (json, text)
    };
    own.into_iter().chain(of_rows).map(column).collect()
}

/// The fields of a data source that every answer contains.
fn summary(control: &Control, stream: &Stream) -> Value {
    let changed = (stream.schema.version > 1).then(|| control.schema_versions(stream.id));
    let told = |error: &CatalogError| {
        tracing::warn!(stream = stream.name, error = %chain(error), "cannot read when a stream was changed");
    };
    let changed = changed.and_then(|versions| Some(versions.inspect_err(told).ok()?.last()?.created_at));
    let updated_at = changed.unwrap_or(stream.created_at);
    let own = vendor(stream);
    let said = |key: &str| own.and_then(|own| own.get(key)).cloned();
    json!({
        "id": id(stream),
        "name": stream.name,
        "cluster": super::workspace::NAME,
        "tags": {},
        "created_at": time(stream.created_at),
        "updated_at": time(updated_at),
        "replicated": false,
        "version": 0,
        "project": stream.settings.project,
        "headers": {},
        "shared_with": [],
        "type": said("type").unwrap_or_else(|| json!("ndjson")),
        "engine": said("engine").unwrap_or_else(|| json!({"engine": "MergeTree", "sorting_key": "tuple()"})),
        "description": stream.settings.description,
        "used_by": [],
        "last_commit": {"content_sha": "", "path": "", "status": "ok"},
        "errors_discarded_at": null,
        "policy": stream.policy.name(),
    })
}

/// The number of readable rows and the size of their files.
fn statistics(control: &Control, stream: &Stream, kind: &str) -> Result<Value, Reject> {
    let totals = control.file_totals(stream.id).map_err(refused)?;
    let totals = totals.iter().filter(|total| total.kind == kind && total.state != "expired");
    let (rows, bytes) = totals.fold((0_u64, 0_u64), |(rows, bytes), total| {
        (rows.saturating_add(total.rows), bytes.saturating_add(total.bytes))
    });
    Ok(json!({"row_count": rows, "bytes": bytes}))
}

/// `POST /v0/datasources/{name}/alter`.
pub(super) fn alter(tinybird: &Tinybird, call: &Call<'_>, name: &str) -> Result<Value, Reject> {
    let control = &*tinybird.control;
    call.caller.require(Need::Create)?;
    let stream = find(control, name)?;
    let upload = Upload::from_call(call)?;
    for unsupported in ["ttl", "indexes"] {
        if upload.get(unsupported).is_some() {
            return Err(Reject::malformed(format!(
                "'{unsupported}' is not supported; 'schema' and 'description' can be altered"
            )));
        }
    }
    let (columns, settings) = altered(control, &stream, &upload)?;
    let settings_changed = settings != *stream.settings;
    let force = upload.is_true("force");
    let alter = Alter { policy: None, columns, settings: Some(settings), force };
    let changes = control.changes(stream.id, None, &alter).map_err(refused)?;
    let new = alter.columns.as_deref().unwrap_or(&[]);
    let mut operations: Vec<String> = changes.iter().map(|change| operation(change, new)).collect();
    if alter.settings.as_ref().is_some_and(|new| new.description != stream.settings.description) {
        operations.push("MODIFY COMMENT".to_owned());
    }
    if operations.is_empty() && !settings_changed {
        return Err(Reject::malformed("There were no operations to perform"));
    }
    let lost: Vec<String> =
        changes.iter().filter(|change| change.loses_data()).map(ToString::to_string).collect();
    if !lost.is_empty() && !force {
        return Err(Reject::malformed(format!(
            "Values that are stored today would no longer be stored: {}. Nothing was changed. Set 'force=true' to \
             change the schema anyway; data that is already stored stays as it is",
            lost.join("; ")
        )));
    }
    let dry = upload.is_true("dry") || upload.is_true("dry_run");
    let stream = if dry {
        stream
    } else {
        control.alter_stream(stream.id, Some(stream.schema.version), &alter).map_err(refused)?
    };
    Ok(json!({
        "dry": dry,
        "operations": operations,
        "dependencies": [],
        "datasource": detail(control, &stream, DatasourceTable::Rows)?,
    }))
}

/// The columns and settings that an alter asks for.
fn altered(
    control: &Control,
    stream: &Stream,
    upload: &Upload,
) -> Result<(Option<Vec<Column>>, StreamSettings), Reject> {
    let mut settings = StreamSettings::clone(&stream.settings);
    if let Some(description) = upload.get("description") {
        description.clone_into(&mut settings.description);
    }
    let Some(text) = upload.get("schema") else { return Ok((None, settings)) };
    let declared = schema::parse(text, control.columns_max()).map_err(Reject::malformed)?;
    // A stream that another contract made has nothing of ours.
    let mut own = vendor(stream).cloned().unwrap_or_default();
    own.insert("columns".to_owned(), clauses(&declared));
    settings.vendor.insert(CATALOG_NAME.to_owned(), Value::Object(own));
    Ok((Some(declared.into_iter().map(|declared| declared.column).collect()), settings))
}

/// A change in the contract's notation.
fn operation(change: &Change, columns: &[Column]) -> String {
    let kind = |name: &String| {
        columns.iter().find(|column| column.name == *name).map_or_else(String::new, Column::type_name)
    };
    match change {
        Change::Added { column, kind } => format!("ADD COLUMN `{column}` {kind}"),
        Change::Removed { column } => format!("DROP COLUMN `{column}`"),
        Change::Reordered => "MODIFY ORDER OF COLUMNS".to_owned(),
        Change::Retyped { column, to, .. } => format!("MODIFY COLUMN `{column}` {to}"),
        Change::Required { column }
        | Change::Optional { column }
        | Change::Redefined { column }
        | Change::Moved { column } => format!("MODIFY COLUMN `{column}` {}", kind(column)),
    }
}

/// `DELETE /v0/datasources/{name}`: the stream takes no more records and its name is free. Records that were accepted
/// are still written.
pub(super) fn drop_source(tinybird: &Tinybird, call: &Call<'_>, name: &str) -> Result<Managed, Reject> {
    let control = &*tinybird.control;
    let stream = find(control, name)?;
    call.caller.require(Need::Drop(&stream.name))?;
    if Upload::from_call(call)?.is_true("dry_run") {
        let shown = summary(control, &stream);
        let answer = json!({"dry_run": true, "dependent_pipes": [], "datasource": shown});
        return Ok(Managed::Reply(reply(StatusCode::OK, &answer)));
    }
    control.delete_stream(stream.id).map_err(refused)?;
    Ok(Managed::Reply(Reply::empty(StatusCode::NO_CONTENT)))
}

/// `POST /v0/datasources/{name}/truncate`: refused. Published files stay until the owner of the destination removes
/// them, because there is no moment at which all files of a directory could disappear at once for its readers.
pub(super) fn truncate(tinybird: &Tinybird, call: &Call<'_>, name: &str) -> Result<Value, Reject> {
    let (stream, _) = find_table(&tinybird.control, name)?;
    call.caller.require(Need::Drop(&stream.name))?;
    Err(Reject::malformed(
        "Truncating is not supported: published rows stay at the destination. Drop the data source, or create another \
         one",
    ))
}

/// Conditions are SQL, which Forebay does not run.
pub(super) fn delete_rows() -> Reject {
    Reject::malformed(
        "Deleting rows by a condition is not supported: Forebay runs no SQL, and published rows stay",
    )
}

/// Which of a stream's two tables a name refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatasourceTable {
    Rows,
    Quarantine,
}

/// Finds a stream by its name or id.
pub(super) fn find(control: &Control, name: &str) -> Result<Arc<Stream>, Reject> {
    control.streams().find(name).cloned().ok_or_else(|| missing(name))
}

/// Finds a stream by its name or id, or by the name of its quarantine, which exists from its first row on.
pub(super) fn find_table(control: &Control, name: &str) -> Result<(Arc<Stream>, DatasourceTable), Reject> {
    let Some(source) = name.strip_suffix(QUARANTINE) else {
        return Ok((find(control, name)?, DatasourceTable::Rows));
    };
    let stream = find(control, source).map_err(|_| missing(name))?;
    let counts = control.stream_progress(stream.id).map_err(refused)?.counts;
    if counts.quarantined == 0 { Err(missing(name)) } else { Ok((stream, DatasourceTable::Quarantine)) }
}

fn missing(name: &str) -> Reject {
    Reject::new(RejectKind::NoSuchStream, format!("Data Source \"{name}\" does not exist"))
}

/// Translates an error of the catalog to this contract's wording.
pub(super) fn refused(error: CatalogError) -> Reject {
    match error {
        CatalogError::Exists(name) => {
            Reject::new(RejectKind::Conflict, format!("Data Source \"{name}\" already exists"))
        }
        CatalogError::NoSuchStream => {
            Reject::new(RejectKind::NoSuchStream, "the Data Source was deleted in the meantime")
        }
        CatalogError::StaleVersion { .. } | CatalogError::Conflict => {
            Reject::new(RejectKind::Conflict, "the Data Source was changed in the meantime, try again")
        }
        CatalogError::Name(_) | CatalogError::Schema(_) | CatalogError::LosesData(_) => {
            Reject::malformed(error.to_string())
        }
        error => Reject::internal(&error),
    }
}

fn vendor(stream: &Stream) -> Option<&Map<String, Value>> {
    stream.settings.vendor.get(CATALOG_NAME)?.as_object()
}

/// The clauses after the types, by column.
fn clauses(declared: &[schema::Declaration]) -> Value {
    let clauses = declared.iter().map(|declared| (declared.column.name.clone(), json!(declared.clauses)));
    Value::Object(clauses.collect())
}

/// The requested engine, only to return it to clients. The files that Forebay writes have no engine.
fn engine(upload: &Upload) -> Value {
    let of = |key: &str, default: &str| upload.get(key).unwrap_or(default).to_owned();
    let mut engine = json!({
        "engine": of("engine", "MergeTree"),
        "sorting_key": of("engine_sorting_key", "tuple()"),
    });
    for key in ["partition_key", "primary_key", "ttl"] {
        if let Some(said) = upload.get(&format!("engine_{key}")) {
            put(&mut engine, key, json!(said));
        }
    }
    engine
}

/// The contract's id of a stream; the catalog finds streams by it as well.
pub(super) fn id(stream: &Stream) -> String {
    format!("t_{}", stream.uuid.replace('-', ""))
}

/// `2026-01-01 00:00:00.000000`
pub(super) fn time(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at)
        .map_or_else(|_| at.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string())
}
