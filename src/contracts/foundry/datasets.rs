//! Data sets and the streams on their branches: made, shown, reset.

use super::errors::{self, error, wrong};
use super::fields::{Fields, Manner};
use super::manage::Request;
use super::{DIALECT, ok, publish, rid};
use crate::auth::Need;
use crate::contracts::Reply;
use crate::contracts::foundry::model::{
    Branch, DEFAULT_BRANCH, Dataset, StreamSchema, StreamType, View, schema_of,
};
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::shared::control::{
    CatalogError, Control, IfExists, NewStream, ObjectError, ObjectKey, Stream,
};
use crate::schema::{OnBadLine, Policy, StreamSettings};
use serde_json::{Value, json};
use std::sync::Arc;

/// What documents of data sets are in the catalog.
const DATASET: &str = "dataset";
/// Characters of a data set's name at most.
const NAME_CHARS_MAX: usize = 700;
/// Characters of a branch's name at most.
const BRANCH_CHARS_MAX: usize = 200;
/// What is left for suffixes of a stream's name.
const PLAIN_BYTES_MAX: usize = 60;
/// Names tried for a new stream.
const NAMES_MAX: u32 = 10_000;

/// Reads all data sets, before there are requests.
pub(super) fn load(control: &Control) -> Result<(), CatalogError> {
    for object in control.catalog.objects(DIALECT, "", DATASET)? {
        match serde_json::from_value::<Dataset>(object.document) {
            Ok(dataset) => drop(control.datasets.put(dataset)),
            Err(error) => tracing::error!(dataset = object.name, %error, "a data set cannot be read"),
        }
    }
    Ok(())
}

/// Keeps a data set as it is now.
pub(super) fn keep(control: &Control, dataset: Dataset, is_new: bool) -> Result<Arc<Dataset>, Reject> {
    let key = ObjectKey { dialect: DIALECT, project: "", kind: DATASET, name: &dataset.rid };
    let document = serde_json::to_value(&dataset).map_err(|error| Reject::internal(&error))?;
    let kept = if is_new {
        control.catalog.create_object(key, &document)
    } else {
        control.catalog.replace_object(key, None, &document)
    };
    kept.map_err(|error: ObjectError| Reject::internal(&error))?;
    Ok(control.datasets.put(dataset))
}

pub(super) fn create(request: &Request<'_>) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = Fields::of(request.call, false)?;
    let (name, folder) = (body.required("name")?, body.required("parentFolderRid")?);
    let schema = body.get("schema").ok_or_else(|| wrong("\"schema\" is missing."))?;
    let manner = body.manner()?;
    let branch = body.text("branchName")?.unwrap_or(DEFAULT_BRANCH);
    let schema = StreamSchema::parse(schema).map_err(|wrong| errors::invalid_schema(&wrong))?;
    let dataset = make(request, name, folder, branch, Some(&schema), manner)?;
    Ok(ok(&json!({"rid": dataset.rid, "name": dataset.name, "parentFolderRid": dataset.folder})))
}

/// Makes a data set with its first stream.
pub(super) fn make(
    request: &Request<'_>,
    name: &str,
    folder: &str,
    branch: &str,
    schema: Option<&StreamSchema>,
    manner: Manner,
) -> Result<Arc<Dataset>, Reject> {
    check_name(name)?;
    check_branch("", branch)?;
    if !rid::is_rid(folder) {
        return Err(wrong(format!("{folder:?} is no RID of a folder, as in ri.compass.main.folder.<uuid>.")));
    }
    request.require_folder(folder)?;
    if rid::is_of_user(folder) {
        let message = "A streaming dataset cannot be in a folder of a user.";
        let parameters = [("parentFolderRid", json!(folder))];
        let name = "CannotCreateStreamingDatasetInUserFolder";
        return Err(error(Kind::Malformed, name, message, parameters));
    }
    let control = request.control;
    // One at a time: of two of the same name one wins.
    let _managing = control.managing.lock();
    if let Some(known) = control.datasets.named(folder, name)
        && is_live(control, &known)
    {
        let message = "The resource name is already in use by another resource in the same folder.";
        let parameters = [("parentFolderRid", json!(folder)), ("displayName", json!(name))];
        return Err(error(Kind::Conflict, "ResourceNameAlreadyExists", message, parameters));
    }
    let rid = rid::dataset(&uuid::Uuid::new_v4().to_string());
    let wanted = branch_name(&plain(name), branch);
    let (stream, view) = new_view(request, &rid, folder, branch, &wanted, schema, manner, None)?;
    let branch = Branch { name: branch.to_owned(), handle: stream.name.clone(), views: vec![view] };
    let dataset = Dataset {
        rid,
        name: name.to_owned(),
        folder: folder.to_owned(),
        trashed: false,
        branches: vec![branch],
    };
    keep(control, dataset, true)
}

pub(super) fn create_stream(request: &Request<'_>) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = Fields::of(request.call, false)?;
    let branch = body.required("branchName")?;
    check_branch(&request.dataset, branch)?;
    let schema = body.get("schema").ok_or_else(|| wrong("\"schema\" is missing."))?;
    let manner = body.manner()?;
    let schema = StreamSchema::parse(schema).map_err(|wrong| errors::invalid_schema(&wrong))?;
    let control = request.control;
    let _managing = control.managing.lock();
    let known = control.datasets.find(&request.dataset).filter(|known| !known.trashed);
    let known = known.ok_or_else(|| errors::dataset_not_found(&request.dataset))?;
    request.require_folder(&known.folder)?;
    let existing = known.branch(branch);
    if existing.is_some_and(|existing| live_stream(control, existing).is_some()) {
        let message = "There is a branch of that name already.";
        let parameters = [("datasetRid", json!(known.rid)), ("branchName", json!(branch))];
        return Err(error(Kind::Conflict, "BranchAlreadyExists", message, parameters));
    }
    // One whose stream was deleted starts anew, under the right it had.
    let wanted = match existing {
        Some(existing) => existing.handle.clone(),
        None => branch_name(&dataset_handle(&known), branch),
    };
    let (stream, view) =
        new_view(request, &known.rid, &known.folder, branch, &wanted, Some(&schema), manner, None)?;
    let shown = stream_json(branch, &view, &stream)?;
    let mut dataset = Dataset::clone(&known);
    match dataset.branches.iter_mut().find(|known| known.name == branch) {
        Some(known) => known.views.push(view),
        None => dataset.branches.push(Branch {
            name: branch.to_owned(),
            handle: stream.name.clone(),
            views: vec![view],
        }),
    }
    keep(control, dataset, false)?;
    Ok(ok(&shown))
}

pub(super) fn get(request: &Request<'_>) -> Result<Reply, Reject> {
    let (rid, branch) = (&*request.dataset, &*request.branch);
    let missing = || errors::stream_not_found(rid, branch);
    let Some(known) = request.control.datasets.find(rid) else {
        let stream = publish::foreign(request.control, rid, branch).ok_or_else(missing)?;
        request.require_any(&stream.name)?;
        let view = foreign_view(&stream);
        return Ok(ok(&stream_json(branch, &view, &stream)?));
    };
    let found = known.branch(branch).filter(|_| !known.trashed).ok_or_else(missing)?;
    request.require_any(&found.handle)?;
    request.require_folder(&known.folder)?;
    let (stream, view) = live_stream(request.control, found).ok_or_else(missing)?;
    let shown = stream_json(branch, view, &stream);
    shown.map(|shown| ok(&shown)).map_err(|reject| named(reject, rid, branch))
}

pub(super) fn reset(request: &Request<'_>) -> Result<Reply, Reject> {
    let (rid, branch) = (&*request.dataset, &*request.branch);
    request.require(Need::Create)?;
    let body = Fields::of(request.call, true)?;
    let manner = body.manner()?;
    let schema = body.get("schema").map(StreamSchema::parse).transpose();
    let schema = schema.map_err(|wrong| errors::invalid_schema(&wrong))?;
    let control = request.control;
    let missing = || errors::stream_not_found(rid, branch);
    let _managing = control.managing.lock();
    let known = control.datasets.find(rid).filter(|known| !known.trashed).ok_or_else(missing)?;
    request.require_folder(&known.folder)?;
    let found = known.branch(branch).ok_or_else(missing)?;
    let (_, before) = live_stream(control, found).ok_or_else(missing)?;
    let kept = before.schema();
    let schema = schema.map(Arc::new).or(kept);
    if schema.is_none() {
        return Err(named(no_schema(), rid, branch));
    }
    let number = found.views.len().saturating_add(1);
    let wanted = format!("{}.v{number}", found.handle);
    let (stream, view) =
        new_view(request, rid, &known.folder, branch, &wanted, schema.as_deref(), manner, Some(before))?;
    let shown = stream_json(branch, &view, &stream)?;
    let mut dataset = Dataset::clone(&known);
    if let Some(branch) = dataset.branches.iter_mut().find(|known| known.name == branch) {
        branch.views.push(view);
    }
    keep(control, dataset, false)?;
    Ok(ok(&shown))
}

impl Request<'_> {
    /// Who may send to it, read it or make streams may look at what it is.
    pub(super) fn require_any(&self, handle: &str) -> Result<(), Reject> {
        let caller = &self.call.caller;
        if caller.may(Need::Ingest(handle)) || caller.may(Need::Create) {
            return Ok(());
        }
        self.require(Need::Read(handle))
    }
}

/// Makes the stream of a view. `before`: what is not said stays as it was.
#[expect(clippy::too_many_arguments, reason = "each says another thing of the new stream")]
fn new_view(
    request: &Request<'_>,
    dataset: &str,
    folder: &str,
    branch: &str,
    wanted: &str,
    schema: Option<&StreamSchema>,
    manner: Manner,
    before: Option<&View>,
) -> Result<(Arc<Stream>, View), Reject> {
    let partitions = manner.partitions_count.or(before.map(|view| view.partitions_count)).unwrap_or(1);
    let stream_type = manner.stream_type.or(before.map(|view| view.stream_type)).unwrap_or_default();
    let compressed = manner.compressed.or(before.map(|view| view.compressed)).unwrap_or_default();
    let mut settings = StreamSettings {
        on_bad_line: OnBadLine::Quarantine,
        project: Some(folder.to_owned()),
        partitions,
        key: schema.map(|schema| schema.keys.clone()).unwrap_or_default(),
        ..StreamSettings::default()
    };
    let about = json!({"datasetRid": dataset, "branchName": branch});
    settings.vendor.insert(DIALECT.to_owned(), about);
    // A stream without a schema takes columns as they come.
    let policy = if schema.is_some() { Policy::Strict } else { Policy::Evolve };
    let columns = schema.map(StreamSchema::columns).unwrap_or_default();
    let stream = create_free(request.control, wanted, policy, &columns, &settings)?;
    let rid = rid::view(&stream);
    let view = View::new(rid, stream.id, partitions, stream_type, compressed, schema);
    Ok((stream, view))
}

/// Makes a stream of the first name that is free.
fn create_free(
    control: &Control,
    wanted: &str,
    policy: Policy,
    columns: &[crate::schema::Column],
    settings: &StreamSettings,
) -> Result<Arc<Stream>, Reject> {
    for number in 1..NAMES_MAX {
        let name = if number == 1 { wanted.to_owned() } else { format!("{wanted}_{number}") };
        if control.catalog.streams().named(&name).is_some() {
            continue;
        }
        let new = NewStream {
            name,
            policy,
            columns: columns.to_vec(),
            settings: settings.clone(),
            if_exists: IfExists::Error,
        };
        return match control.catalog.create_stream_with(new) {
            Ok(stream) => Ok(stream),
            Err(CatalogError::Exists(_)) => continue,
            Err(error @ (CatalogError::Schema(_) | CatalogError::Name(_))) => {
                let message = error.to_string();
                let parameters = [("errorType", json!("InvalidSchema")), ("message", json!(message))];
                Err(super::errors::error(Kind::Malformed, "InvalidSchema", message.clone(), parameters))
            }
            Err(error) => Err(Reject::internal(&error)),
        };
    }
    Err(Reject::new(Kind::Conflict, format!("There are too many streams of the name {wanted:?}.")))
}

/// The stream of a branch's present view, if it was not deleted.
pub(super) fn live_stream<'b>(control: &Control, branch: &'b Branch) -> Option<(Arc<Stream>, &'b View)> {
    let view = branch.current()?;
    let streams = control.catalog.streams();
    let stream = streams.get(view.stream).filter(|stream| stream.deleted_at.is_none())?;
    Some((Arc::clone(stream), view))
}

/// Whether a data set has a stream that takes records.
fn is_live(control: &Control, dataset: &Dataset) -> bool {
    dataset.branches.iter().any(|branch| live_stream(control, branch).is_some())
}

/// A stream of another contract, as a view.
pub(super) fn foreign_view(stream: &Stream) -> View {
    let partitions = stream.settings.partitions.max(1);
    View::new(rid::view(stream), stream.id, partitions, StreamType::default(), false, None)
}

/// A stream as the contract shows it: with the schema that it was made with, or the nearest to its columns.
pub(super) fn stream_json(branch: &str, view: &View, stream: &Stream) -> Result<Value, Reject> {
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
    Reject::new(Kind::Malformed, message).code("InvalidStreamNoSchema")
}

/// The same with what it is about.
fn named(reject: Reject, dataset: &str, branch: &str) -> Reject {
    let parameters = [("datasetRid", json!(dataset)), ("branchName", json!(branch))];
    match reject.code {
        Some(name) if reject.parameters.is_none() => error(reject.kind, name, reject.external, parameters),
        _ => reject,
    }
}

fn check_name(name: &str) -> Result<(), Reject> {
    let fits = !name.trim().is_empty() && name.chars().count() <= NAME_CHARS_MAX;
    if fits && !name.contains('/') && !matches!(name, "." | "..") && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let message = format!(
        "A name is not empty, not \".\" or \"..\", has no slash and at most {NAME_CHARS_MAX} characters."
    );
    Err(error(Kind::Malformed, "InvalidDisplayName", message, [("displayName", json!(name))]))
}

fn check_branch(dataset: &str, name: &str) -> Result<(), Reject> {
    let fits = !name.is_empty() && name.chars().count() <= BRANCH_CHARS_MAX && name == name.trim();
    if fits && !name.chars().any(char::is_control) && !rid::is_rid(name) {
        return Ok(());
    }
    let message = format!(
        "A branch's name has 1 to {BRANCH_CHARS_MAX} characters, no white space at its ends, and is no RID."
    );
    let parameters = [("datasetRid", json!(dataset)), ("branchName", json!(name))];
    Err(error(Kind::Malformed, "InvalidBranchName", message, parameters))
}

/// The handle of a data set: that of its first branch, without the branch.
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

/// A name that a stream may have.
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
