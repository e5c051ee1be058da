//! Records on their way into a stream: which one it is, whether it takes them, and what the client is told.
//!
//! The vendor's answer to a publish says nothing, so it says here that the records survive power loss: a client goes by
//! it when it forgets them.

use super::envelope::{self, Form};
use super::errors::{self, error};
use super::routes::Action;
use super::{no_content, ok, parameter, rid};
use crate::auth::{AuthError, Caller, Need};
use crate::contracts::foundry::model::{Branch, DEFAULT_BRANCH, Dataset, StreamSchema, schema_of};
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::shared::control::{Control, Stream};
use crate::contracts::{Accepted, Durability, NewTarget, Open, Reply, RequestHead, Wrapped};
use crate::offsets::Numbered;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

static RECEIPT: HeaderName = HeaderName::from_static("forebay-receipt");
static DURABLE: HeaderName = HeaderName::from_static("forebay-durable");

/// The stream that records are for, with what a body of this call must be for it.
pub(super) fn target(
    control: &Control,
    head: &RequestHead<'_>,
    caller: &Caller,
    action: Action,
    parameters: &[Cow<'_, str>],
) -> Result<Wrapped, Reject> {
    let part = |nth: usize| parameters.get(nth).map_or("", |part| &**part);
    let (dataset, branch_or_view) = (part(0), part(1));
    let asked_view = match action {
        _ if action.is_for_view() => Some(Cow::Borrowed(branch_or_view)),
        Action::PublishBinary => parameter(head, "viewRid").filter(|view| !view.is_empty()),
        _ => None,
    };
    let Some(known) = control.datasets.find(dataset) else {
        return unknown(control, caller, action, dataset, branch_or_view, asked_view.as_deref());
    };
    let branch = branch_of(&known, action, branch_or_view)?;
    caller.require(Need::Ingest(&branch.handle))?;
    if !caller.allows_project(&known.folder) {
        return Err(AuthError::Project.into());
    }
    let view = branch.current().filter(|_| !known.trashed).ok_or_else(|| errors::trashed(dataset))?;
    let streams = control.catalog.streams();
    let stream = streams.get(view.stream).filter(|stream| stream.deleted_at.is_none());
    let stream = Arc::clone(stream.ok_or_else(|| errors::trashed(dataset))?);
    check_view(asked_view.as_deref(), &view.rid)?;
    let opener = Opener {
        action,
        dataset: dataset.into(),
        branch: branch.name.as_str().into(),
        view: view.rid.as_str().into(),
        schema: view.schema(),
    };
    Ok(Wrapped { stream: Ok(stream), open: opener.into_open() })
}

fn branch_of<'d>(dataset: &'d Dataset, action: Action, branch_or_view: &str) -> Result<&'d Branch, Reject> {
    if action.is_for_view() {
        let found = dataset.branch_of(branch_or_view);
        return found.ok_or_else(|| errors::view_not_found(branch_or_view));
    }
    dataset.branch(branch_or_view).ok_or_else(|| {
        if action.is_proxied() {
            errors::branch_not_found(&dataset.rid, branch_or_view)
        } else {
            errors::stream_not_found(&dataset.rid, branch_or_view)
        }
    })
}

/// Only the present view takes records.
fn check_view(asked: Option<&str>, present: &str) -> Result<(), Reject> {
    match asked {
        Some(asked) if asked != present => Err(errors::view_not_found(asked)),
        _ => Ok(()),
    }
}

/// A data set that no management call of this contract made: a stream of another contract, by its id; or one that the
/// first record makes, where that is allowed.
fn unknown(
    control: &Control,
    caller: &Caller,
    action: Action,
    dataset: &str,
    branch_or_view: &str,
    asked_view: Option<&str>,
) -> Result<Wrapped, Reject> {
    let branch = if action.is_for_view() { DEFAULT_BRANCH } else { branch_or_view };
    let missing = || {
        if action.is_proxied() {
            errors::dataset_not_found(dataset)
        } else {
            errors::stream_not_found(dataset, branch)
        }
    };
    let opener = |view: String, schema: Option<StreamSchema>| Opener {
        action,
        dataset: dataset.into(),
        branch: branch.into(),
        view: view.into(),
        schema: schema.map(Arc::new),
    };
    if let Some(stream) = foreign(control, dataset, branch) {
        caller.require(Need::Ingest(&stream.name))?;
        if stream.settings.project.as_deref().is_some_and(|project| !caller.allows_project(project)) {
            return Err(AuthError::Project.into());
        }
        let view = rid::view(&stream);
        check_view(asked_view, &view)?;
        // Its own rules say what records it takes; only where the bytes of one go follows from the columns.
        let nothing = StreamSchema { fields: Vec::new(), keys: Vec::new(), capture: None };
        let schema =
            (action == Action::PublishBinary).then(|| schema_of(&stream.schema.columns).unwrap_or(nothing));
        return Ok(Wrapped { stream: Ok(stream), open: opener(view, schema).into_open() });
    }
    let may_be_made = rid::is_rid(dataset) && asked_view.is_none() && action != Action::PublishBinary;
    if !may_be_made || !control.auth.is_open() {
        return Err(missing());
    }
    let new = NewTarget { name: rid::name_of(dataset, branch), project: None };
    Ok(Wrapped { stream: Err(new), open: opener(String::new(), None).into_open() })
}

/// The stream of another contract that a data set's id is made of, or that an earlier record for it made.
pub(super) fn foreign(control: &Control, dataset: &str, branch: &str) -> Option<Arc<Stream>> {
    let streams = control.catalog.streams();
    let by_id = || {
        let uuid = rid::stream_of(dataset).filter(|_| branch == DEFAULT_BRANCH)?;
        streams.find(&uuid.to_string())
    };
    let by_name = || streams.named(&rid::name_of(dataset, branch));
    let found = by_id().or_else(by_name)?;
    // Views are reached by their data sets only.
    (!found.settings.vendor.contains_key(super::DIALECT)).then(|| Arc::clone(found))
}

/// What a body must be, and what errors say of it.
struct Opener {
    action: Action,
    dataset: Box<str>,
    branch: Box<str>,
    /// Empty: there is none yet.
    view: Box<str>,
    schema: Option<Arc<StreamSchema>>,
}

impl Opener {
    fn into_open(self) -> Open {
        Arc::new(move |body| self.open(&body))
    }

    fn open(&self, body: &Bytes) -> Result<Bytes, Reject> {
        let form = match self.action {
            Action::PublishBinary => return self.binary(body),
            Action::PublishRecord => Form::Record,
            Action::JsonRecord | Action::ViewJsonRecord => Form::Bare,
            Action::JsonRecords | Action::ViewJsonRecords => Form::Values,
            _ => Form::Records,
        };
        let envelope = envelope::open(form, body)?;
        if let Some(view) = &envelope.view
            && **view != *self.view
        {
            return Err(errors::view_not_found(view));
        }
        if let Some(schema) = &self.schema {
            for (number, record) in envelope.records.iter().enumerate() {
                if let Err(mismatch) = schema.check(record) {
                    return Err(self.mismatch(number, envelope.records.len(), &mismatch.0));
                }
            }
        }
        Ok(envelope::lines(&envelope.records).into())
    }

    fn binary(&self, body: &Bytes) -> Result<Bytes, Reject> {
        if body.len() > envelope::RECORD_BYTES_MAX {
            return Err(errors::too_large(0, body.len(), envelope::RECORD_BYTES_MAX));
        }
        let schema = self.schema.as_ref();
        let Some(schema) = schema else {
            // Nothing says which field the bytes are the value of.
            let message = "The stream has no schema, so there is no field for a binary record.";
            return Err(error(Kind::Internal, "FailedToProcessBinaryRecord", message, []));
        };
        let Some(field) = schema.only_binary() else {
            let reason = "a binary record needs a schema of one field of type binary".to_owned();
            return Err(self.mismatch(0, 1, &[reason]));
        };
        Ok(envelope::binary(&field.name, body).into())
    }

    fn mismatch(&self, number: usize, of: usize, reasons: &[String]) -> Reject {
        let shown = reasons.join("; ");
        let message = format!("Record {} of {of}: {shown}. Nothing is stored.", number.saturating_add(1));
        let parameters = [
            ("datasetRid", json!(self.dataset)),
            ("branchName", json!(self.branch)),
            ("viewRid", json!(self.view)),
            ("recordIndex", json!(number)),
            ("reasons", json!(reasons)),
        ];
        error(Kind::Malformed, errors::MISMATCH, message, parameters)
    }
}

pub(super) fn accepted(head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
    let proxied = super::find(head).ok().filter(|(action, _)| action.is_proxied());
    let mut reply = match proxied {
        Some((_, parameters)) => {
            let dataset = parameters.first().map_or("", |dataset| &**dataset);
            let each = accepted.numbered.as_ref().map(Numbered::each).unwrap_or_default();
            let each: Vec<Value> = each
                .into_iter()
                .map(|(partition, offset)| json!({"offset": offset, "partitionId": partition}))
                .collect();
            ok(&json!({"topic": rid::topic(dataset), "offsetAndPartitionIds": each}))
        }
        None => no_content(),
    };
    reply.headers.push((RECEIPT.clone(), HeaderValue::from(accepted.lsn)));
    if accepted.state == Durability::SyncPending {
        reply.headers.push((DURABLE.clone(), HeaderValue::from_static("false")));
    }
    reply
}
