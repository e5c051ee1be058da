//! The tables routes of two generations. A table is a stream; fields that a stream does not have are kept in its
//! settings.

use super::fields::{self, wrong};
use super::reply;
use super::request::PolarisRequest;
use super::table::{Declared, Generation, TableMetadata};
use super::{TIME, types};
use crate::auth::Need;
use crate::catalog::{Alter, CatalogError, Counts, FileTotals, IfExists, NewStream, Stream};
use crate::contracts::Reply;
use crate::contracts::reject::{Reject, RejectKind};
use crate::formats::json;
use crate::schema::{Column, OnBadLine, Policy, StreamSettings, TimeRule};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The key of [`TableMetadata`] in a stream's settings.
const ABOUT: &str = "polaris";

/// The size of a table.
struct Totals {
    files: u64,
    bytes: u64,
    rows: u64,
}

impl TableMetadata {
    /// The fields of a table. A stream that another contract created is a table as well, with the defaults.
    pub(super) fn from_stream(stream: &Stream) -> Result<Self, CatalogError> {
        let Some(kept) = stream.settings.vendor.get(ABOUT) else {
            return Ok(Self { flexible: stream.policy == Policy::Evolve, ..Self::default() });
        };
        serde_json::from_value(kept.clone()).map_err(|source| CatalogError::Document {
            contract: ABOUT,
            kind: "table".into(),
            name: stream.name.clone(),
            source,
        })
    }

    /// The settings with these fields added.
    pub(super) fn kept_in(&self, settings: &StreamSettings) -> StreamSettings {
        let mut settings = settings.clone();
        settings.vendor.insert(ABOUT.to_owned(), json::value(self));
        settings
    }
}

/// A table's policy: a flexible table accepts new columns from data.
pub(super) fn policy(flexible: bool) -> Policy {
    if flexible { Policy::Evolve } else { Policy::Strict }
}

/// The rule that every table of the contract has: an event must have a time.
pub(super) fn time_rule(late: Option<u64>, early: Option<u64>) -> TimeRule {
    TimeRule { column: TIME.to_owned(), late, early, required: true }
}

/// The settings of a table that is created through the contract.
pub(super) fn settings(
    request: &PolarisRequest<'_>,
    description: &str,
    about: &TableMetadata,
) -> StreamSettings {
    about.kept_in(&StreamSettings {
        description: description.to_owned(),
        on_bad_line: OnBadLine::Quarantine,
        time: Some(request.polaris.settings.time_rule()),
        project: request.project.as_ref().map(ToString::to_string),
        ..StreamSettings::default()
    })
}

pub(super) fn create(request: &PolarisRequest<'_>, generation: Generation) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = fields::parse(request.call)?;
    let declared = Declared::parse(&body, generation)?;
    if declared.version.is_some_and(|version| version != 0) {
        return Err(wrong("a new table must have version 0"));
    }
    let user = request.user();
    let about = TableMetadata { created_by: Some(user.clone()), modified_by: Some(user), ..declared.about };
    let made = request.control().create_stream(NewStream {
        name: declared.name,
        policy: policy(about.flexible),
        columns: declared.columns,
        settings: settings(request, &declared.description, &about),
        if_exists: IfExists::Error,
    });
    let stream = made.map_err(refused)?;
    let location = match &request.project {
        Some(project) => format!("/v1/projects/{project}/tables/{}", stream.name),
        None => format!("/v2/tables/{}", stream.uuid),
    };
    Ok(reply::created(&location, &whole(request, &stream)?))
}

pub(super) fn get(request: &PolarisRequest<'_>, id: &str) -> Result<Reply, Reject> {
    let stream = find(request, id)?;
    request.require_read(&stream)?;
    Ok(reply::ok(&whole(request, &stream)?))
}

pub(super) fn list(request: &PolarisRequest<'_>, generation: Generation) -> Result<Reply, Reject> {
    let granularity = request.parameter("partitioningGranularity");
    let segments = request.number("segmentCount", 0..=u64::MAX)?;
    let mut values = Vec::new();
    for stream in request.control().streams().all() {
        let about = TableMetadata::from_stream(&stream)?;
        let visible = request.sees(&stream) && request.may_read(&stream);
        if !visible || granularity.as_ref().is_some_and(|wanted| *wanted != about.partitioning_granularity) {
            continue;
        }
        let totals = totals(request, &stream)?;
        if segments.is_some_and(|wanted| wanted != totals.files) {
            continue;
        }
        let mut summary = summary(&stream, &about, &totals);
        if generation != Generation::Project {
            summary.extend(schema(&stream, &about));
        }
        values.push(Value::Object(summary));
    }
    Ok(reply::ok(&json!({ "values": values })))
}

/// Replaces a table's declaration if the client knows its current version.
pub(super) fn update(
    request: &PolarisRequest<'_>,
    id: &str,
    generation: Generation,
) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = fields::parse(request.call)?;
    let declared = Declared::parse(&body, generation)?;
    // While this is held, only data changes tables of this contract, and it only adds columns.
    let _change = request.control().change();
    let stream = find(request, id)?;
    let before = TableMetadata::from_stream(&stream)?;
    if declared.name != stream.name {
        return Err(wrong(format!("the table's name is {:?} and cannot be changed", stream.name)));
    }
    if declared.about.kind != before.kind {
        return Err(wrong(format!("the table's type is {:?} and cannot be changed", before.kind)));
    }
    let version =
        declared.version.ok_or_else(|| wrong("a change requires the table's current \"version\""))?;
    if version != before.version {
        let message = format!("the table has version {}, not {version}", before.version);
        return Err(Reject::new(RejectKind::Conflict, message));
    }
    let about = TableMetadata {
        version: before.version.saturating_add(1),
        created_by: before.created_by,
        modified_by: Some(request.user()),
        modified_at: Some(request.control().clock.now()),
        ..declared.about
    };
    let settings = StreamSettings { description: declared.description, ..(*stream.settings).clone() };
    let alter = Alter {
        // A job may have restricted a flexible table.
        policy: (about.flexible != before.flexible).then(|| policy(about.flexible)),
        columns: Some(columns(&stream, declared.columns)),
        settings: Some(about.kept_in(&settings)),
        force: false,
    };
    let stream = request.control().alter_stream(stream.id, None, &alter).map_err(refused)?;
    Ok(reply::ok(&whole(request, &stream)?))
}

/// The declared columns, and the columns discovered in data. A job's mapping stays with its column.
fn columns(stream: &Stream, declared: Vec<Column>) -> Vec<Column> {
    let place = |column: Column| match stream.schema.named(&column.name) {
        Some(known) => Column { path: known.path.clone(), epoch_digits: known.epoch_digits, ..column },
        None => column,
    };
    let mut columns: Vec<Column> = declared.into_iter().map(place).collect();
    for known in &stream.schema.columns {
        let said = columns.iter().any(|column| column.name == known.name);
        if !said && !types::is_declared(known) {
            columns.push(known.clone());
        }
    }
    columns
}

/// Finds a table by its name or id, if it is visible to the project.
pub(super) fn find(request: &PolarisRequest<'_>, id: &str) -> Result<Arc<Stream>, Reject> {
    let found = request.control().streams().find(id).cloned().filter(|stream| request.sees(stream));
    found.ok_or_else(|| Reject::new(RejectKind::NotFound, format!("The table {id:?} does not exist")))
}

/// Translates an error of the catalog to the contract's wording.
pub(super) fn refused(error: CatalogError) -> Reject {
    match error {
        CatalogError::Exists(name) => {
            Reject::new(RejectKind::Conflict, format!("A table named {name:?} already exists"))
        }
        CatalogError::StaleVersion { .. } | CatalogError::Conflict => {
            Reject::new(RejectKind::Conflict, "the table was changed in the meantime, try again")
        }
        CatalogError::NoSuchStream => {
            Reject::new(RejectKind::NotFound, "the table was deleted in the meantime")
        }
        CatalogError::Name(_) | CatalogError::Schema(_) | CatalogError::LosesData(_) => {
            wrong(error.to_string())
        }
        error => Reject::internal(&error),
    }
}

fn totals(request: &PolarisRequest<'_>, stream: &Stream) -> Result<Totals, Reject> {
    let files = request.control().file_totals(stream.id)?;
    let rows = files.iter().filter(|files| files.kind == "rows" && files.state != "expired");
    let sum = |of: fn(&FileTotals) -> u64| rows.clone().map(of).sum();
    Ok(Totals {
        files: sum(|files| files.files),
        bytes: sum(|files| files.bytes),
        rows: sum(|files| files.rows),
    })
}

/// The counts of a stream since it was created.
pub(super) fn counts(request: &PolarisRequest<'_>, stream: &Stream) -> Result<Counts, Reject> {
    let progress = request.control().stream_progress(stream.id);
    progress.map(|progress| progress.counts).map_err(|error| Reject::internal(&error))
}

fn whole(request: &PolarisRequest<'_>, stream: &Stream) -> Result<Value, Reject> {
    let about = TableMetadata::from_stream(stream)?;
    let mut table = summary(stream, &about, &totals(request, stream)?);
    table.extend(schema(stream, &about));
    Ok(Value::Object(table))
}

/// The fields of a table in the list.
fn summary(stream: &Stream, about: &TableMetadata, totals: &Totals) -> Map<String, Value> {
    let nobody = || json!({"username": "forebay", "userId": "forebay"});
    let mut table = Map::new();
    let mut put = |key: &str, value: Value| table.insert(key.to_owned(), value);
    put("id", stream.uuid.as_str().into());
    put("name", stream.name.as_str().into());
    put("type", about.kind.as_str().into());
    put("version", about.version.into());
    put("description", stream.settings.description.as_str().into());
    put("availability", "available".into());
    put("schemaMode", if about.flexible { "flexible" } else { "strict" }.into());
    put("partitioningGranularity", about.partitioning_granularity.as_str().into());
    put("createdByUser", about.created_by.clone().unwrap_or_else(nobody));
    put("createdOnTimestamp", super::timestamp(stream.created_at).into());
    put("modifiedByUser", about.modified_by.clone().unwrap_or_else(nobody));
    put("modifiedOnTimestamp", super::timestamp(about.modified_at.unwrap_or(stream.created_at)).into());
    put("segmentCount", totals.files.into());
    put("totalRows", totals.rows.into());
    put("totalDataSizeBytes", totals.bytes.into());
    put("precachedDataSizeBytes", 0.into());
    if let Some(storage) = &about.storage_policy {
        put("storagePolicy", storage.clone());
    }
    table
}

/// The columns in the format of the current contract.
fn schema(stream: &Stream, about: &TableMetadata) -> Map<String, Value> {
    let declared = stream.schema.columns.iter().filter(|column| types::is_declared(column));
    let declared: Vec<Value> = declared
        .map(|column| {
            let (name, data_type) = (&column.name, types::data_type(column));
            match about.kind.as_str() {
                "aggregate" if about.measures.contains(name) => {
                    json!({"name": name, "dataType": data_type, "type": "measure"})
                }
                "aggregate" => json!({"name": name, "dataType": data_type, "type": "dimension"}),
                _ => json!({"name": name, "dataType": data_type}),
            }
        })
        .collect();
    let queryable: Vec<Value> = stream
        .schema
        .columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "dataType": types::data_type(column),
                "isDiscovered": !types::is_declared(column),
            })
        })
        .collect();
    let mut table = Map::new();
    table.insert("schema".to_owned(), declared.into());
    table.insert("queryableSchema".to_owned(), queryable.into());
    table.insert("clusteringColumns".to_owned(), json!(about.clustering_columns));
    for (key, value) in
        [("timeResolution", &about.time_resolution), ("queryGranularity", &about.query_granularity)]
    {
        if let Some(value) = value {
            table.insert(key.to_owned(), value.clone());
        }
    }
    table
}
