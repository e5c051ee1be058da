//! A management call with everything its handler needs.

use super::Foundry;
use super::model::Dataset;
use crate::auth::Need;
use crate::contracts::Call;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::control::Control;
use std::borrow::Cow;
use std::sync::Arc;

pub(super) struct FoundryRequest<'a> {
    pub(super) foundry: &'a Foundry,
    pub(super) call: &'a Call<'a>,
    /// From the path: the RID of a dataset.
    pub(super) dataset: Cow<'a, str>,
    /// From the path, if it has one: a branch. On some paths of the older proxy, the RID of a view.
    pub(super) branch: Cow<'a, str>,
    /// From the path, if it has one: a subscriber or a partition.
    pub(super) third: Cow<'a, str>,
}

impl FoundryRequest<'_> {
    pub(super) fn control(&self) -> &Control {
        &self.foundry.control
    }

    /// The dataset, unless it is in the trash.
    pub(super) fn known(&self) -> Option<Arc<Dataset>> {
        self.foundry.datasets.find(&self.dataset).filter(|known| !known.trashed)
    }

    pub(super) fn require(&self, need: Need<'_>) -> Result<(), Reject> {
        Ok(self.call.caller.require(need)?)
    }

    /// Allows a caller that may publish to the stream, read it, or create streams.
    pub(super) fn require_any(&self, handle: &str) -> Result<(), Reject> {
        let caller = &self.call.caller;
        if caller.may(Need::Ingest(handle)) || caller.may(Need::Create) {
            return Ok(());
        }
        self.require(Need::Read(handle))
    }

    /// Refuses a caller that is bound to another folder.
    pub(super) fn require_folder(&self, folder: &str) -> Result<(), Reject> {
        if self.call.caller.allows_project(folder) {
            return Ok(());
        }
        Err(Reject::new(RejectKind::Forbidden, "the token is bound to another folder"))
    }

    /// A query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        super::parameter(&self.call.head, name)
    }
}
