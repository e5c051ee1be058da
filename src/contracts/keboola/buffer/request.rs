//! A management call with everything its handler needs.

use super::KeboolaBuffer;
use super::model::{BufferReceiver, exists};
use crate::auth::Need;
use crate::catalog::ObjectError;
use crate::contracts::Call;
use crate::contracts::keboola::reply::not_found;
use crate::contracts::keboola::{TOKEN_HEADER, no_token, validate};
use crate::contracts::reject::Reject;
use crate::contracts::shared::control::Control;
use serde_json::Value;

pub(super) struct BufferRequest<'a> {
    pub(super) buffer: &'a KeboolaBuffer,
    pub(super) call: &'a Call<'a>,
}

impl BufferRequest<'_> {
    pub(super) fn control(&self) -> &Control {
        &self.buffer.common.control
    }

    /// Refuses a caller that may not manage receivers. The body is checked first, as the vendor's decoder does.
    pub(super) fn require(&self) -> Result<(), Reject> {
        if !has_token(self.call.head.headers) {
            return Err(no_token());
        }
        Ok(self.call.caller.require(Need::Create)?)
    }

    pub(super) fn project(&self) -> &str {
        self.buffer.common.project(&self.call.caller)
    }

    /// The base URL of the service, as clients see it.
    pub(super) fn base(&self) -> String {
        self.control().base_url(self.call.head.headers)
    }

    pub(super) fn body(&self) -> Result<Value, Reject> {
        validate::parse(&self.call.body)
    }

    /// The receivers of the project, ordered by id.
    pub(super) fn receivers(&self) -> Result<Vec<BufferReceiver>, Reject> {
        Ok(self
            .buffer
            .receivers
            .all(self.project())?
            .into_iter()
            .map(BufferReceiver::from_document)
            .collect())
    }

    pub(super) fn receiver(&self, id: &str) -> Result<BufferReceiver, Reject> {
        let found = self.buffer.receivers.get(self.project(), id)?.map(BufferReceiver::from_document);
        found.ok_or_else(|| {
            not_found("receiverNotFound", format!("receiver \"{id}\" not found in the project"))
        })
    }

    /// Stores a new receiver.
    pub(super) fn insert(&self, receiver: &BufferReceiver) -> Result<(), Reject> {
        match self.buffer.receivers.create(self.project(), &receiver.id, receiver) {
            Ok(_) => Ok(()),
            Err(ObjectError::Exists) => Err(exists(&receiver.id)),
            Err(error) => Err(Reject::internal(&error)),
        }
    }

    pub(super) fn update(&self, receiver: &BufferReceiver) -> Result<(), Reject> {
        let stored = self.buffer.receivers.replace(self.project(), &receiver.id, None, receiver);
        stored.map(drop).map_err(|error| Reject::internal(&error))
    }
}

/// Returns whether the request has a token at all.
pub(super) fn has_token(headers: &http::HeaderMap) -> bool {
    headers.get(TOKEN_HEADER).is_some_and(|token| !token.is_empty())
}
