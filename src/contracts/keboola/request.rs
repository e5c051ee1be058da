//! A management call with what its answer needs.

use super::validate;
use crate::auth::Need;
use crate::contracts::Call;
use crate::contracts::reject::Reject;
use crate::contracts::shared::control::Control;
use serde_json::Value;

/// The header with the credential.
pub(super) const TOKEN_HEADER: &str = "x-storageapi-token";

pub(super) struct Request<'a> {
    pub(super) control: &'a Control,
    pub(super) call: &'a Call<'a>,
}

impl Request<'_> {
    /// Refuses whoever may not manage receivers. A body is looked at before, as the vendor's decoder does.
    pub(super) fn require(&self) -> Result<(), Reject> {
        if !has_token(self.call.head.headers) {
            let message = "\"X-StorageApi-Token\" is missing from header";
            return Err(Reject::malformed(message).code("missingField"));
        }
        Ok(self.call.caller.require(Need::Create)?)
    }

    /// The project of who calls: that of the credential, or the configured one.
    pub(super) fn project(&self) -> &str {
        self.call.caller.project.as_deref().unwrap_or(&self.control.keboola.project)
    }

    /// Where the service is, as clients see it.
    pub(super) fn base(&self) -> String {
        self.control.base_url(self.call.head.headers)
    }

    pub(super) fn body(&self) -> Result<Value, Reject> {
        validate::parse(&self.call.body)
    }
}

/// Whether a credential is shown at all.
pub(super) fn has_token(headers: &http::HeaderMap) -> bool {
    headers.get(TOKEN_HEADER).is_some_and(|token| !token.is_empty())
}
