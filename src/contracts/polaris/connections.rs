//! The connections routes. A connection is a name to which events are pushed; jobs route them to tables.

use super::fields::{self, RequestFields, wrong};
use super::request::PolarisRequest;
use super::{CATALOG_NAME, jobs, reply};
use crate::auth::Need;
use crate::catalog::ObjectError;
use crate::contracts::Reply;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::collection::{Collection, Document};
use crate::contracts::shared::control::Control;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The stored part of a connection.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct StoredConnection {
    description: Option<String>,
    created_by: Value,
    modified_by: Value,
}

/// The connections by project and name.
pub(super) type ConnectionStore = Collection<StoredConnection>;

pub(super) fn store(control: &Arc<Control>) -> ConnectionStore {
    Collection::new(Arc::clone(control), CATALOG_NAME, "connection")
}

const NAME_BYTES_MAX: usize = 64;

pub(super) fn list(request: &PolarisRequest<'_>) -> Result<Reply, Reject> {
    request.require(Need::Any)?;
    let found = request.polaris.connections.all(request.project())?;
    let values: Vec<Value> = found.iter().map(|connection| shown(request, connection)).collect();
    Ok(reply::ok(&json!({ "values": values })))
}

pub(super) fn create(request: &PolarisRequest<'_>) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = fields::parse(request.call)?;
    let fields = RequestFields::from_value(&body, "the connection")?;
    // Checked first, because with another type every field would be unknown.
    check_type(fields)?;
    let fields = fields.only(&["name", "type", "description", "endpointUrl"])?;
    let name = fields.required("name")?;
    check_name(name)?;
    let user = request.user();
    let kept = StoredConnection {
        description: fields.text("description")?.map(str::to_owned),
        created_by: user.clone(),
        modified_by: user,
    };
    let _change = request.control().change();
    let made = request.polaris.connections.create(request.project(), name, &kept);
    let made = made.map_err(|error| refused(error, name))?;
    jobs::load(request.polaris)?;
    let location = format!("/v1/projects/{}/connections/{name}", request.project());
    Ok(reply::created(&location, &shown(request, &made)))
}

pub(super) fn get(request: &PolarisRequest<'_>, name: &str) -> Result<Reply, Reject> {
    request.require(Need::Any)?;
    Ok(reply::ok(&shown(request, &find(request, name)?)))
}

pub(super) fn update(request: &PolarisRequest<'_>, name: &str) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let body = fields::parse(request.call)?;
    let fields = RequestFields::from_value(&body, "the change")?;
    check_type(fields)?;
    let fields = fields.only(&["type", "description"])?;
    let _change = request.control().change();
    let mut kept = find(request, name)?.value;
    if let Some(description) = fields.text("description")? {
        kept.description = Some(description.to_owned());
    }
    kept.modified_by = request.user();
    let changed = request.polaris.connections.replace(request.project(), name, None, &kept);
    Ok(reply::ok(&shown(request, &changed.map_err(|error| refused(error, name))?)))
}

pub(super) fn delete(request: &PolarisRequest<'_>, name: &str) -> Result<Reply, Reject> {
    request.require(Need::Create)?;
    let _change = request.control().change();
    find(request, name)?;
    if let Some(job) = jobs::running(request)?.into_iter().find(|job| job.connection() == name) {
        return Err(wrong(format!(
            "the connection {name:?} is used by the job {}; cancel the job first",
            job.id
        )));
    }
    request.polaris.connections.delete(request.project(), name)?;
    jobs::load(request.polaris)?;
    Ok(reply::empty())
}

/// A push connection has no remote end to reach, so the test succeeds if the connection exists.
pub(super) fn test(request: &PolarisRequest<'_>, name: &str) -> Result<Reply, Reject> {
    request.require(Need::Any)?;
    find(request, name)?;
    Ok(reply::empty())
}

pub(super) fn find(request: &PolarisRequest<'_>, name: &str) -> Result<Document<StoredConnection>, Reject> {
    let found = request.polaris.connections.get(request.project(), name)?;
    found.ok_or_else(|| Reject::new(RejectKind::NotFound, format!("The connection {name:?} does not exist")))
}

fn check_type(fields: RequestFields<'_>) -> Result<(), Reject> {
    match fields.required("type")? {
        "push_streaming" => Ok(()),
        other => Err(wrong(format!(
            "connections of type {other:?} are not supported; use \"push_streaming\" and push the events"
        ))),
    }
}

fn check_name(name: &str) -> Result<(), Reject> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        let message =
            format!("a connection's name must be 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' or '-'");
        return Err(wrong(message));
    }
    Ok(())
}

fn refused(error: ObjectError, name: &str) -> Reject {
    match error {
        ObjectError::Exists => {
            Reject::new(RejectKind::Conflict, format!("A connection named {name:?} already exists"))
        }
        ObjectError::Missing => {
            Reject::new(RejectKind::NotFound, format!("The connection {name:?} does not exist"))
        }
        ObjectError::Stale(_) => {
            Reject::new(RejectKind::Conflict, "the connection was changed in the meantime, try again")
        }
        ObjectError::Catalog(error) => Reject::internal(&error),
    }
}

fn shown(request: &PolarisRequest<'_>, connection: &Document<StoredConnection>) -> Value {
    let base = request.control().base_url(request.call.head.headers);
    let kept = connection.value.clone();
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| shown.insert(key.to_owned(), value);
    put("name", connection.name.as_str().into());
    put("type", "push_streaming".into());
    if let Some(description) = kept.description {
        put("description", description.into());
    }
    put("endpointUrl", format!("{base}/v1/projects/{}/events/{}", request.project(), connection.name).into());
    put("submittedByUser", kept.created_by);
    put("submittedOnTimestamp", super::timestamp(connection.created_at).into());
    put("modifiedByUser", kept.modified_by);
    put("modifiedOnTimestamp", super::timestamp(connection.updated_at).into());
    Value::Object(shown)
}
