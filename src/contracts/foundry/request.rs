//! A management call with what its answer needs.

use super::Foundry;
use super::model::Dataset;
use crate::auth::Need;
use crate::contracts::Call;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::shared::control::Control;
use std::borrow::Cow;
use std::sync::Arc;

pub(super) struct Request<'a> {
    pub(super) foundry: &'a Foundry,
    pub(super) call: &'a Call<'a>,
    /// Of the path: a data set's id.
    pub(super) dataset: Cow<'a, str>,
    /// Of the path, where it has one. On some paths of the older proxy it is a view's id.
    pub(super) branch: Cow<'a, str>,
    /// Of the path, where it has one: a subscriber, or a partition.
    pub(super) third: Cow<'a, str>,
}

impl Request<'_> {
    pub(super) fn control(&self) -> &Control {
        &self.foundry.control
    }

    /// The data set, unless it is in the trash.
    pub(super) fn known(&self) -> Option<Arc<Dataset>> {
        self.foundry.datasets.find(&self.dataset).filter(|known| !known.trashed)
    }

    pub(super) fn require(&self, need: Need<'_>) -> Result<(), Reject> {
        Ok(self.call.caller.require(need)?)
    }

    /// Who may send to it, read it or make streams may look at what it is.
    pub(super) fn require_any(&self, handle: &str) -> Result<(), Reject> {
        let caller = &self.call.caller;
        if caller.may(Need::Ingest(handle)) || caller.may(Need::Create) {
            return Ok(());
        }
        self.require(Need::Read(handle))
    }

    /// Refuses whoever is bound to another folder.
    pub(super) fn require_folder(&self, folder: &str) -> Result<(), Reject> {
        if self.call.caller.allows_project(folder) {
            return Ok(());
        }
        Err(Reject::new(Kind::Forbidden, "the token is for another folder"))
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        super::parameter(&self.call.head, name)
    }
}
