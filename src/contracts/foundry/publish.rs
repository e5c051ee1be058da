//! Publishes records: finds the stream, checks the records and answers the client.
//!
//! The vendor's answer to a publish has no content, so a client forgets its records once it has the answer. Here, the
//! answer means that the records survive power loss.

use super::envelope::{self, EnvelopeForm};
use super::errors::{self, error};
use super::model::{Branch, DEFAULT_BRANCH, Dataset, StreamSchema, schema_of};
use super::routes::RouteAnswer;
use super::{Foundry, no_content, ok, parameter, rid};
use crate::auth::{AuthError, Caller, Need};
use crate::catalog::Stream;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::target::evolving;
use crate::contracts::{
    Accepted, Bodies, Durability, FoundTarget, Ingest, IngestTarget, Reply, RequestHead, Wait, credential,
};
use crate::offsets::Numbered;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

static RECEIPT: HeaderName = HeaderName::from_static("forebay-receipt");
static DURABLE: HeaderName = HeaderName::from_static("forebay-durable");

/// The form of a publish call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publish {
    /// The envelope. `None`: the body is the value of the record's only field.
    pub(super) form: Option<EnvelopeForm>,
    /// The second parameter of the path is a view, not a branch.
    pub(super) to_view: bool,
}

impl Publish {
    /// Returns whether the call is one of the older proxy.
    fn is_proxied(self) -> bool {
        matches!(self.form, Some(EnvelopeForm::Bare | EnvelopeForm::Values))
    }
}

/// The ingest of a request with records.
pub(super) fn ingest<'a>(
    foundry: &'a Foundry,
    head: RequestHead<'a>,
    publish: Publish,
    parameters: Vec<Cow<'a, str>>,
) -> Ingest<'a> {
    let mut parameters = parameters.into_iter();
    // A route may have fewer parameters.
    let mut next = || parameters.next().unwrap_or_default();
    let (dataset, branch_or_view) = (next(), next());
    let view = match publish {
        Publish { to_view: true, .. } => Some(branch_or_view.clone()),
        Publish { form: None, .. } => parameter(&head, "viewRid").filter(|view| !view.is_empty()),
        _ => None,
    };
    let asked = PublishTarget { foundry, publish, dataset, branch_or_view, view };
    let find = move |caller: &Caller| asked.find(caller).map_err(Reject::close);
    let bodies = Bodies { misfit: Some(errors::MISMATCH), ..Bodies::default() };
    Ingest { wait: Wait::Sync, bodies, ..Ingest::new(credential(head.headers), find) }
}

/// The target of a request with records.
struct PublishTarget<'a> {
    foundry: &'a Foundry,
    publish: Publish,
    dataset: Cow<'a, str>,
    branch_or_view: Cow<'a, str>,
    view: Option<Cow<'a, str>>,
}

impl PublishTarget<'_> {
    /// Finds the stream of the records, and how to open a body for it.
    fn find(&self, caller: &Caller) -> Result<FoundTarget, Reject> {
        let Some(known) = self.foundry.datasets.find(&self.dataset) else { return self.find_unknown(caller) };
        let branch = self.branch_of(&known)?;
        caller.require(Need::Ingest(&branch.handle))?;
        if !caller.allows_project(&known.folder) {
            return Err(AuthError::Project.into());
        }
        let live = self.foundry.live_stream(branch).filter(|_| !known.trashed);
        let (stream, view) = live.ok_or_else(|| errors::trashed(&self.dataset))?;
        self.check_view(&view.rid)?;
        Ok(self.found(IngestTarget::Streams(stream, Vec::new()), &branch.name, &view.rid, view.schema()))
    }

    fn branch_of<'d>(&self, dataset: &'d Dataset) -> Result<&'d Branch, Reject> {
        let asked = &*self.branch_or_view;
        if self.publish.to_view {
            return dataset.branch_of(asked).ok_or_else(|| errors::view_not_found(asked));
        }
        dataset.branch(asked).ok_or_else(|| {
            if self.publish.is_proxied() {
                errors::branch_not_found(&dataset.rid, asked)
            } else {
                errors::stream_not_found(&dataset.rid, asked)
            }
        })
    }

    /// Refuses every view but the current one: no other takes records.
    fn check_view(&self, present: &str) -> Result<(), Reject> {
        match &self.view {
            Some(asked) if asked != present => Err(errors::view_not_found(asked)),
            _ => Ok(()),
        }
    }

    /// Finds a dataset that no management call of this contract created: a stream of another contract, by its id, or
    /// one that the first record creates, if that is allowed.
    fn find_unknown(&self, caller: &Caller) -> Result<FoundTarget, Reject> {
        let (dataset, is_binary) = (&*self.dataset, self.publish.form.is_none());
        let branch = if self.publish.to_view { DEFAULT_BRANCH } else { &*self.branch_or_view };
        if let Some(stream) = self.foundry.foreign(dataset, branch) {
            caller.require(Need::Ingest(&stream.name))?;
            if stream.settings.project.as_deref().is_some_and(|project| !caller.allows_project(project)) {
                return Err(AuthError::Project.into());
            }
            let view = rid::view(&stream);
            self.check_view(&view)?;
            // The stream's own rules decide which records it takes. Binary records need a schema to find their field.
            let nothing = StreamSchema { fields: Vec::new(), keys: Vec::new(), capture: None };
            let schema = is_binary.then(|| schema_of(&stream.schema.columns).unwrap_or(nothing));
            let target = IngestTarget::Streams(stream, Vec::new());
            return Ok(self.found(target, branch, &view, schema.map(Arc::new)));
        }
        let may_be_made = rid::is_rid(dataset) && self.view.is_none() && !is_binary;
        if may_be_made && self.foundry.control.auth.is_open() {
            let new = evolving(&rid::name_of(dataset, branch), None);
            return Ok(self.found(IngestTarget::New(Box::new(new)), branch, "", None));
        }
        Err(if self.publish.is_proxied() {
            errors::dataset_not_found(dataset)
        } else {
            errors::stream_not_found(dataset, branch)
        })
    }

    fn found(
        &self,
        target: IngestTarget,
        branch: &str,
        view: &str,
        schema: Option<Arc<StreamSchema>>,
    ) -> FoundTarget {
        let (form, dataset) = (self.publish.form, (*self.dataset).into());
        let opener = Opener { form, dataset, branch: branch.into(), view: view.into(), schema };
        FoundTarget { target, open: Some(Arc::new(move |body| opener.open(&body))) }
    }
}

impl Foundry {
    /// The stream of another contract whose id is in the dataset's RID, or that an earlier record created.
    pub(super) fn foreign(&self, dataset: &str, branch: &str) -> Option<Arc<Stream>> {
        let streams = self.control.streams();
        let by_id = || {
            let uuid = rid::stream_of(dataset).filter(|_| branch == DEFAULT_BRANCH)?;
            streams.find(&uuid.to_string())
        };
        let by_name = || streams.named(&rid::name_of(dataset, branch));
        let found = by_id().or_else(by_name)?;
        // A view can be reached through its dataset only.
        (!found.settings.vendor.contains_key(super::CATALOG_NAME)).then(|| Arc::clone(found))
    }
}

/// Opens bodies, with the context for errors.
struct Opener {
    form: Option<EnvelopeForm>,
    dataset: Box<str>,
    branch: Box<str>,
    /// Empty if there is no view yet.
    view: Box<str>,
    schema: Option<Arc<StreamSchema>>,
}

impl Opener {
    fn open(&self, body: &Bytes) -> Result<Bytes, Reject> {
        let Some(form) = self.form else { return self.binary(body) };
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
            // Without a schema, the field of the bytes is unknown.
            let message = "The stream has no schema, so there is no field for a binary record.";
            return Err(error(RejectKind::Internal, "FailedToProcessBinaryRecord", message, []));
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
        error(RejectKind::Malformed, errors::MISMATCH, message, parameters)
    }
}

pub(super) fn accepted(head: &RequestHead<'_>, accepted: &Accepted) -> Reply {
    let called = super::find(head).ok();
    let proxied = called.filter(
        |(route, _)| matches!(route.call.answer, RouteAnswer::Publish(publish) if publish.is_proxied()),
    );
    let mut reply = match proxied {
        Some((_, parameters)) => {
            let dataset = parameters.first().map_or("", |dataset| &**dataset);
            // Of a repeated request whose frame is gone, the offsets are not known.
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
