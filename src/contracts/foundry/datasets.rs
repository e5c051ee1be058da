//! Creates and shows datasets and the streams on their branches, and resets branches.

use super::errors::{self, error, wrong};
use super::fields::{BodyFields, StreamOptions};
use super::model::{Branch, DEFAULT_BRANCH, Dataset, StreamSchema, StreamType, View, schema_of};
use super::request::FoundryRequest;
use super::{CATALOG_NAME, Foundry, ok, rid};
use crate::auth::Need;
use crate::catalog::{CatalogError, IfExists, NewStream, Stream};
use crate::contracts::Reply;
use crate::contracts::reject::{Reject, RejectKind};
use crate::schema::{OnBadLine, Policy, StreamSettings};
use serde_json::{Value, json};
use std::sync::Arc;

/// Maximum characters of a dataset's name.
const NAME_CHARS_MAX: usize = 700;
/// Maximum characters of a branch's name.
const BRANCH_CHARS_MAX: usize = 200;
/// Maximum bytes of a plain name. The rest of a stream's name is for suffixes.
const PLAIN_BYTES_MAX: usize = 60;
/// Limit of names that are tried for a new stream.
const NAMES_MAX: u32 = 10_000;

/// Loads all datasets, before the first request.
pub(super) fn load(foundry: &Foundry) -> Result<(), CatalogError> {
    for (_, document) in foundry.documents.readable()? {
        foundry.datasets.put(document.value);
    }
    Ok(())
}

/// Stores a dataset.
pub(super) fn keep(foundry: &Foundry, dataset: Dataset, is_new: bool) -> Result<Arc<Dataset>, Reject> {
    let kept = if is_new {
        foundry.documents.create("", &dataset.rid, &dataset)
    } else {
        foundry.documents.replace("", &dataset.rid, None, &dataset)
    };
    kept.map_err(|error| Reject::internal(&error))?;
    Ok(foundry.datasets.put(dataset))
}

pub(super) fn create(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = BodyFields::from_call(request.call, false)?;
    let (name, folder) = (body.required("name")?, body.required("parentFolderRid")?);
    let schema = body.get("schema").ok_or_else(|| wrong("\"schema\" is missing."))?;
    let manner = body.manner()?;
    let branch = body.text("branchName")?.unwrap_or(DEFAULT_BRANCH);
    let schema = StreamSchema::parse(schema).map_err(|wrong| errors::invalid_schema(&wrong))?;
    let dataset = make(request, name, folder, branch, Some(&schema), manner)?;
    Ok(ok(&json!({"rid": dataset.rid, "name": dataset.name, "parentFolderRid": dataset.folder})))
}

/// Creates a dataset with its first stream.
pub(super) fn make(
    request: &FoundryRequest<'_>,
    name: &str,
    folder: &str,
    branch: &str,
    schema: Option<&StreamSchema>,
    manner: StreamOptions,
) -> Result<Arc<Dataset>, Reject> {
    check_name(name)?;
    check_branch("", branch)?;
    if !rid::is_rid(folder) {
        return Err(wrong(format!("{folder:?} is not a folder RID such as ri.compass.main.folder.<uuid>.")));
    }
    request.require_folder(folder)?;
    if rid::is_of_user(folder) {
        let message = "A streaming dataset cannot be in a folder of a user.";
        let parameters = [("parentFolderRid", json!(folder))];
        let name = "CannotCreateStreamingDatasetInUserFolder";
        return Err(error(RejectKind::Malformed, name, message, parameters));
    }
    let foundry = request.foundry;
    // One at a time: of two creates with the same name, one wins.
    let _change = foundry.control.change();
    if let Some(known) = foundry.datasets.named(folder, name)
        && known.branches.iter().any(|branch| foundry.live_stream(branch).is_some())
    {
        let message = "The resource name is already in use by another resource in the same folder.";
        let parameters = [("parentFolderRid", json!(folder)), ("displayName", json!(name))];
        return Err(error(RejectKind::Conflict, "ResourceNameAlreadyExists", message, parameters));
    }
    let mut dataset = Dataset {
        rid: rid::dataset(&uuid::Uuid::new_v4().to_string()),
        name: name.to_owned(),
        folder: folder.to_owned(),
        trashed: false,
        branches: Vec::new(),
    };
    let wanted = branch_name(&plain(name), branch);
    let (stream, view) = new_view(foundry, &dataset, branch, &wanted, schema, manner)?;
    dataset.add(branch, &stream.name, view);
    keep(foundry, dataset, true)
}

pub(super) fn create_stream(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = BodyFields::from_call(request.call, false)?;
    let branch = body.required("branchName")?;
    check_branch(&request.dataset, branch)?;
    let schema = body.get("schema").ok_or_else(|| wrong("\"schema\" is missing."))?;
    let manner = body.manner()?;
    let schema = StreamSchema::parse(schema).map_err(|wrong| errors::invalid_schema(&wrong))?;
    let foundry = request.foundry;
    let _change = foundry.control.change();
    let known = request.known().ok_or_else(|| errors::dataset_not_found(&request.dataset))?;
    request.require_folder(&known.folder)?;
    let existing = known.branch(branch);
    if existing.is_some_and(|existing| foundry.live_stream(existing).is_some()) {
        let message = "The branch already exists.";
        let parameters = [("datasetRid", json!(known.rid)), ("branchName", json!(branch))];
        return Err(error(RejectKind::Conflict, "BranchAlreadyExists", message, parameters));
    }
    // A branch whose stream was deleted starts again, with the same access rights.
    let wanted = match existing {
        Some(existing) => existing.handle.clone(),
        None => branch_name(&dataset_handle(&known), branch),
    };
    let (stream, view) = new_view(foundry, &known, branch, &wanted, Some(&schema), manner)?;
    put_view(foundry, &known, branch, &stream, view)
}

/// Makes a view the current one of its branch, and returns its stream as JSON.
fn put_view(
    foundry: &Foundry,
    known: &Dataset,
    branch: &str,
    stream: &Stream,
    view: View,
) -> Result<Reply, Reject> {
    let shown = stream_json(branch, &view, stream)?;
    let mut dataset = known.clone();
    dataset.add(branch, &stream.name, view);
    keep(foundry, dataset, false)?;
    Ok(ok(&shown))
}

pub(super) fn get(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let (foundry, rid, branch) = (request.foundry, &*request.dataset, &*request.branch);
    let missing = || errors::stream_not_found(rid, branch);
    let Some(known) = foundry.datasets.find(rid) else {
        let stream = foundry.foreign(rid, branch).ok_or_else(missing)?;
        request.require_any(&stream.name)?;
        return Ok(ok(&stream_json(branch, &foreign_view(&stream), &stream)?));
    };
    let found = known.branch(branch).filter(|_| !known.trashed).ok_or_else(missing)?;
    request.require_any(&found.handle)?;
    request.require_folder(&known.folder)?;
    let (stream, view) = foundry.live_stream(found).ok_or_else(missing)?;
    Ok(ok(&stream_json(branch, view, &stream)?))
}

pub(super) fn reset(request: &FoundryRequest<'_>) -> Result<Reply, Reject> {
    let (foundry, branch) = (request.foundry, &*request.branch);
    request.require(Need::Create)?;
    let body = BodyFields::from_call(request.call, true)?;
    let manner = body.manner()?;
    let schema = body.get("schema").map(StreamSchema::parse).transpose();
    let schema = schema.map_err(|wrong| errors::invalid_schema(&wrong))?;
    let missing = || errors::stream_not_found(&request.dataset, branch);
    let _change = foundry.control.change();
    let known = request.known().ok_or_else(missing)?;
    request.require_folder(&known.folder)?;
    let found = known.branch(branch).ok_or_else(missing)?;
    let (_, before) = foundry.live_stream(found).ok_or_else(missing)?;
    let schema = schema.map(Arc::new).or_else(|| before.schema()).ok_or_else(no_schema)?;
    let number = found.views.len().saturating_add(1);
    let wanted = format!("{}.v{number}", found.handle);
    let (stream, view) = new_view(foundry, &known, branch, &wanted, Some(&schema), manner.or(before))?;
    put_view(foundry, &known, branch, &stream, view)
}

/// Creates the stream of a view.
fn new_view(
    foundry: &Foundry,
    dataset: &Dataset,
    branch: &str,
    wanted: &str,
    schema: Option<&StreamSchema>,
    manner: StreamOptions,
) -> Result<(Arc<Stream>, View), Reject> {
    let partitions = manner.partitions_count.unwrap_or(1);
    let mut settings = StreamSettings {
        on_bad_line: OnBadLine::Quarantine,
        project: Some(dataset.folder.clone()),
        partitions,
        key: schema.map_or_else(Vec::new, |schema| schema.keys.clone()),
        ..StreamSettings::default()
    };
    let about = json!({"datasetRid": dataset.rid, "branchName": branch});
    settings.vendor.insert(CATALOG_NAME.to_owned(), about);
    // A stream without a schema adds columns as records arrive.
    let policy = if schema.is_some() { Policy::Strict } else { Policy::Evolve };
    let columns = schema.map_or_else(Vec::new, StreamSchema::columns);
    let new = NewStream { name: wanted.to_owned(), policy, columns, settings, if_exists: IfExists::Error };
    let stream = create_free(foundry, &new)?;
    let (kind, compressed) = (manner.stream_type.unwrap_or_default(), manner.compressed.unwrap_or_default());
    let view = View::new(rid::view(&stream), stream.id, partitions, kind, compressed, schema);
    Ok((stream, view))
}

/// Creates a stream under the first free name.
fn create_free(foundry: &Foundry, wanted: &NewStream) -> Result<Arc<Stream>, Reject> {
    for number in 1..NAMES_MAX {
        let name = if number == 1 { wanted.name.clone() } else { format!("{}_{number}", wanted.name) };
        if foundry.control.streams().named(&name).is_some() {
            continue;
        }
        return match foundry.control.create_stream(NewStream { name, ..wanted.clone() }) {
            Err(CatalogError::Exists(_)) => continue,
            Err(error @ (CatalogError::Schema(_) | CatalogError::Name(_))) => {
                let message = error.to_string();
                let parameters = [("errorType", json!("InvalidSchema")), ("message", json!(message))];
                Err(errors::error(RejectKind::Malformed, "InvalidSchema", message.clone(), parameters))
            }
            made => Ok(made?),
        };
    }
    let message =
        format!("No free stream name found for {:?}: all numbered variants are taken.", wanted.name);
    Err(Reject::new(RejectKind::Conflict, message))
}

impl Foundry {
    /// The stream of a branch's current view, unless it was deleted.
    pub(super) fn live_stream<'b>(&self, branch: &'b Branch) -> Option<(Arc<Stream>, &'b View)> {
        let view = branch.current()?;
        Some((self.live(view)?, view))
    }

    /// The stream of a view, unless it was deleted.
    pub(super) fn live(&self, view: &View) -> Option<Arc<Stream>> {
        let streams = self.control.streams();
        streams.get(view.stream).filter(|stream| stream.deleted_at.is_none()).cloned()
    }
}

/// A stream of another contract, as a view.
fn foreign_view(stream: &Stream) -> View {
    let partitions = stream.settings.partitions.max(1);
    View::new(rid::view(stream), stream.id, partitions, StreamType::default(), false, None)
}

/// A stream as JSON: with the schema that it was created with, or the one closest to its columns.
fn stream_json(branch: &str, view: &View, stream: &Stream) -> Result<Value, Reject> {
    let schema = match view.schema() {
        Some(schema) => schema.to_json(),
        None => schema_of(&stream.schema.columns).ok_or_else(no_schema)?.to_json(),
    };
    Ok(json!({
        "branchName": branch,
        "schema": schema,
        "viewRid": view.rid,
        "partitionsCount": view.partitions_count,
        "streamType": view.stream_type,
        "compressed": view.compressed,
    }))
}

fn no_schema() -> Reject {
    let message = "The requested stream exists but is invalid, as it does not have a schema.";
    Reject::new(RejectKind::Malformed, message).code("InvalidStreamNoSchema")
}

fn check_name(name: &str) -> Result<(), Reject> {
    let fits = !name.trim().is_empty() && name.chars().count() <= NAME_CHARS_MAX;
    if fits && !name.contains('/') && !matches!(name, "." | "..") && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!(
        "The name must have 1 to {NAME_CHARS_MAX} characters, no slash and no control character, and must not be \".\" \
         or \"..\"."
    );
    Err(error(RejectKind::Malformed, "InvalidDisplayName", message, [("displayName", json!(name))]))
}

fn check_branch(dataset: &str, name: &str) -> Result<(), Reject> {
    let fits = !name.is_empty() && name.chars().count() <= BRANCH_CHARS_MAX && name == name.trim();
    if fits && !name.chars().any(char::is_control) && !rid::is_rid(name) {
        return Ok(());
    }
    let message = format!(
        "The branch name must have 1 to {BRANCH_CHARS_MAX} characters, no white space at either end, and not be a RID."
    );
    let parameters = [("datasetRid", json!(dataset)), ("branchName", json!(name))];
    Err(error(RejectKind::Malformed, "InvalidBranchName", message, parameters))
}

/// The handle of a dataset: that of its first branch, without the branch's suffix.
fn dataset_handle(dataset: &Dataset) -> String {
    let Some(first) = dataset.branches.first() else { return plain(&dataset.name) };
    let suffix = format!(".{}", plain(&first.name));
    let handle = first.handle.strip_suffix(&suffix).filter(|_| first.name != DEFAULT_BRANCH);
    handle.unwrap_or(&first.handle).to_owned()
}

fn branch_name(handle: &str, branch: &str) -> String {
    match branch {
        DEFAULT_BRANCH => handle.to_owned(),
        branch => format!("{handle}.{}", plain(branch)),
    }
}

/// Converts a name to a valid stream name.
pub(super) fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' };
    let mut text: String = name.chars().map(plain).take(PLAIN_BYTES_MAX).collect();
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        text.insert(0, '_');
    }
    if text.ends_with("_quarantine") {
        text.push('_');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_streams_are_plain() {
        for (name, expected) in [
            ("sensors", "sensors"),
            ("My sensors (2)", "My_sensors__2_"),
            ("2026", "_2026"),
            ("größe", "gr__e"),
            ("", "_"),
            ("a_quarantine", "a_quarantine_"),
        ] {
            assert_eq!(plain(name), expected);
        }
        assert_eq!(branch_name("s", "feature/x"), "s.feature_x");
        assert_eq!(branch_name("s", "master"), "s");
    }
}
