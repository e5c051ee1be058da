//! `/admin/v1/streams/{id}` and its `schema`: creates, changes and deletes streams; lists schema versions; lists,
//! accepts and dismisses proposals.

use super::columns::{self, ColumnBody, StreamBody, bad, rules_json, stream_json};
use super::problem::{Problem, blocking, created, internal, ok, parameter, respond, timestamp};
use super::{AdminRequest, AdminResult, RunningDaemon};
use crate::catalog::{
    AcceptProposal, Alter, Catalog, CatalogError, IfExists, NewStream, SchemaVersion, Stream,
};
use crate::columns::Proposal;
use crate::schema::{Change, Policy, StreamSettings};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// `PUT …/schema`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaBody {
    /// The version that the change is based on. If it is not the current one, the request is a conflict.
    version: u32,
    columns: Vec<ColumnBody>,
}

/// `POST …/schema/proposals`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    version: Option<u32>,
    accept: Which,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Which {
    /// `"all"`
    Word(String),
    Some(Vec<AcceptOne>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptOne {
    path: Vec<String>,
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    declared: Option<String>,
    default: Option<Value>,
    epoch_digits: Option<u8>,
}

impl AcceptOne {
    fn accept(self) -> Result<AcceptProposal, Problem> {
        Ok(AcceptProposal {
            path: self.path,
            name: self.name,
            kind: self.kind.as_deref().map(columns::column_type).transpose()?,
            declared: self.declared,
            default: self.default,
            epoch_digits: self.epoch_digits,
        })
    }
}

impl RunningDaemon {
    /// Creates a stream with this name, or changes the existing one.
    pub(super) async fn put_stream(&self, request: &AdminRequest<'_>) -> AdminResult {
        let Some(stream) = self.catalog.streams().find(request.id()).cloned() else {
            return self.make_stream(request).await;
        };
        let mut body: StreamBody = columns::read(&request.body)?;
        let settings = body.settings.take().map(|all| columns::settings(&Value::Object(all))).transpose()?;
        self.alter(stream, body, move |_| Ok(settings), request.query).await
    }

    async fn make_stream(&self, request: &AdminRequest<'_>) -> AdminResult {
        let body: StreamBody = columns::read(&request.body)?;
        if body.version.is_some_and(|version| version != 0) {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "the stream does not exist, so version must be 0 or left out",
            ));
        }
        let new = NewStream {
            name: request.id().to_owned(),
            policy: body.policy.unwrap_or(Policy::Evolve),
            columns: columns::columns(body.columns.unwrap_or_default())?,
            settings: columns::settings(&Value::Object(body.settings.unwrap_or_default()))?,
            if_exists: IfExists::Error,
        };
        let catalog = Arc::clone(&self.catalog);
        let stream = blocking(move || catalog.create_stream_with(new)).await?;
        Ok(created(&stream_json(&stream)))
    }

    /// Changes only the given properties of a stream, and only the given settings.
    pub(super) async fn patch_stream(&self, request: &AdminRequest<'_>) -> AdminResult {
        let stream = self.find(request.id())?;
        let mut body: StreamBody = columns::read(&request.body)?;
        let changes = body.settings.take();
        let merge = |now: &StreamSettings| changes.map(|changes| columns::merged(now, changes)).transpose();
        self.alter(stream, body, merge, request.query).await
    }

    /// Alters a stream. `settings` computes the new settings from the current ones.
    async fn alter(
        &self,
        stream: Arc<Stream>,
        body: StreamBody,
        settings: impl FnOnce(&StreamSettings) -> Result<Option<StreamSettings>, Problem> + Send + 'static,
        query: &str,
    ) -> AdminResult {
        let columns = body.columns.map(columns::columns).transpose()?;
        let alter = Alter { policy: body.policy, columns, settings: None, force: flag(query, "force")? };
        let (altered, changes) =
            self.altered(stream, body.version, alter, settings, flag(query, "dry")?).await?;
        let mut answer = stream_json(&altered);
        add_changes(&mut answer, &changes);
        Ok(ok(&answer))
    }

    /// Applies the changes and returns the stream. A dry run returns it unchanged, with the list of changes.
    async fn altered(
        &self,
        stream: Arc<Stream>,
        expected: Option<u32>,
        alter: Alter,
        settings: impl FnOnce(&StreamSettings) -> Result<Option<StreamSettings>, Problem> + Send + 'static,
        dry: bool,
    ) -> Result<(Arc<Stream>, Vec<Change>), Problem> {
        let control = Arc::clone(&self.control);
        let work = move || {
            // Under the lock, so that a concurrent change to other fields is not overwritten.
            let _change = control.change();
            let stream = control.streams().get(stream.id).cloned().unwrap_or(stream);
            let alter = Alter { settings: settings(&stream.settings)?, ..alter };
            let changes = control.changes(stream.id, expected, &alter)?;
            if dry {
                return Ok((stream, changes));
            }
            Ok((control.alter_stream(stream.id, expected, &alter)?, changes))
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(internal(&error)))
    }

    pub(super) async fn delete_stream(&self, request: &AdminRequest<'_>) -> AdminResult {
        let (control, id) = (Arc::clone(&self.control), self.find(request.id())?.id);
        if flag(request.query, "drop")? {
            blocking(move || control.drop_stream(id)).await?;
        } else {
            blocking(move || control.delete_stream(id)).await?;
        }
        Ok(respond(StatusCode::NO_CONTENT, "application/json", String::new()))
    }

    pub(super) fn schema(&self, request: &AdminRequest<'_>) -> AdminResult {
        Ok(ok(&rules_json(&self.find(request.id())?.rules())))
    }

    pub(super) async fn put_schema(&self, request: &AdminRequest<'_>) -> AdminResult {
        let stream = self.find(request.id())?;
        let body: SchemaBody = columns::read(&request.body)?;
        let alter = Alter {
            columns: Some(columns::columns(body.columns)?),
            force: flag(request.query, "force")?,
            ..Alter::default()
        };
        let dry = flag(request.query, "dry")?;
        let (altered, changes) = self.altered(stream, Some(body.version), alter, |_| Ok(None), dry).await?;
        let mut answer = rules_json(&altered.rules());
        add_changes(&mut answer, &changes);
        Ok(ok(&answer))
    }

    pub(super) async fn schema_versions(&self, request: &AdminRequest<'_>) -> AdminResult {
        let (catalog, id) = (Arc::clone(&self.catalog), self.find(request.id())?.id);
        let versions = blocking(move || catalog.schema_versions(id)).await?;
        let version = |version: &SchemaVersion| {
            let mut value = rules_json(&version.rules);
            value["created_at"] = json!(timestamp(version.created_at));
            value
        };
        Ok(ok(&json!({"versions": versions.iter().map(version).collect::<Vec<_>>()})))
    }

    pub(super) async fn proposals(&self, request: &AdminRequest<'_>) -> AdminResult {
        let (stream, catalog) = (self.find(request.id())?, Arc::clone(&self.catalog));
        let id = stream.id;
        let proposals = blocking(move || catalog.proposals(id)).await?;
        let proposals: Vec<Value> = proposals.iter().map(proposal_json).collect();
        Ok(ok(&json!({"version": stream.schema.version, "proposals": proposals})))
    }

    /// Accepts proposals as columns.
    pub(super) async fn accept_proposals(&self, request: &AdminRequest<'_>) -> AdminResult {
        let id = self.find(request.id())?.id;
        let AcceptBody { version, accept } = columns::read(&request.body)?;
        let some = match accept {
            Which::Word(word) if word == "all" => None,
            Which::Word(_) => return Err(bad("'accept' must be \"all\" or a list of proposals")),
            Which::Some(some) => {
                Some(some.into_iter().map(AcceptOne::accept).collect::<Result<Vec<_>, _>>()?)
            }
        };
        let catalog = Arc::clone(&self.catalog);
        let stream = blocking(move || {
            let accept = some.map_or_else(|| all_of(&catalog, id), Ok)?;
            catalog.accept_proposals(id, version, &accept)
        });
        Ok(ok(&rules_json(&stream.await?.rules())))
    }

    /// Dismisses the proposal for one field, or all proposals.
    pub(super) async fn dismiss_proposals(&self, request: &AdminRequest<'_>) -> AdminResult {
        let (catalog, id) = (Arc::clone(&self.catalog), self.find(request.id())?.id);
        let field = request.parameters.get(1).map(|field| field.clone().into_owned());
        blocking(move || catalog.dismiss_proposals(id, field.as_deref())).await?;
        Ok(respond(StatusCode::NO_CONTENT, "application/json", String::new()))
    }
}

fn all_of(catalog: &Catalog, id: crate::batch::StreamId) -> Result<Vec<AcceptProposal>, CatalogError> {
    let all = catalog.proposals(id)?.into_iter();
    Ok(all.map(|proposal| AcceptProposal { path: proposal.path, ..AcceptProposal::default() }).collect())
}

fn proposal_json(proposal: &Proposal) -> Value {
    let Proposal { path, kind, count, first_at, last_at, examples } = proposal;
    json!({
        "path": path,
        "name": path.join("_"),
        "type": kind.name(),
        "count": count,
        "first_at": timestamp(*first_at),
        "last_at": timestamp(*last_at),
        "examples": examples,
    })
}

/// Adds the list of changes, made or planned, to a response.
fn add_changes(answer: &mut Value, changes: &[Change]) {
    let shown = changes.iter().map(|change| {
        let mut value = json!(change);
        value["text"] = json!(change.to_string());
        value["loses_data"] = json!(change.loses_data());
        value
    });
    answer["changes"] = shown.collect();
}

/// Parses a flag such as `?dry=true` or `?dry`.
pub(super) fn flag(query: &str, name: &str) -> Result<bool, Problem> {
    match parameter(query, name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(other) => Err(bad(format!("'{name}' must be true or false, not {other:?}"))),
    }
}
