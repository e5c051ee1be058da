//! The management calls, by what is asked for.

use super::routes::Action;
use super::{catalog, datasets, oauth, read, subscribers, trash};
use crate::auth::Need;
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::shared::control::Control;
use crate::contracts::{Call, Reply};
use std::borrow::Cow;

/// A call with what its answer needs.
pub(super) struct Request<'a> {
    pub(super) control: &'a Control,
    pub(super) call: &'a Call<'a>,
    /// Of the path: a data set's id.
    pub(super) dataset: Cow<'a, str>,
    /// Of the path, where it has one.
    pub(super) branch: Cow<'a, str>,
}

impl Request<'_> {
    pub(super) fn require(&self, need: Need<'_>) -> Result<(), Reject> {
        Ok(self.call.caller.require(need)?)
    }

    /// Refuses whoever is bound to another folder.
    pub(super) fn require_folder(&self, folder: &str) -> Result<(), Reject> {
        if self.call.caller.allows_project(folder) {
            return Ok(());
        }
        Err(Reject::new(Kind::Forbidden, "the token is for another folder"))
    }
}

pub(super) fn answer(
    control: &Control,
    call: &Call<'_>,
    action: Action,
    parameters: Vec<Cow<'_, str>>,
) -> Result<Reply, Reject> {
    let mut parameters = parameters.into_iter();
    let mut next = || parameters.next().unwrap_or_default();
    let request = Request { control, call, dataset: next(), branch: next() };
    // A subscriber, or a partition.
    let third = next();
    match action {
        Action::CreateDataset => datasets::create(&request),
        Action::CreateStream => datasets::create_stream(&request),
        Action::GetStream => datasets::get(&request),
        Action::ResetStream => datasets::reset(&request),
        Action::GetRecords => read::get_records(&request),
        Action::GetEndOffsets => read::end_offsets(&request),
        Action::Records | Action::ViewRecords => read::newest(&request, action),
        Action::RecordsV2 => read::records_v2(&request, &third),
        Action::CreateSubscriber => subscribers::create(&request),
        Action::DeleteSubscriber => subscribers::delete(&request, &third),
        Action::ReadRecords => subscribers::read_records(&request, &third),
        Action::CommitOffsets => subscribers::commit(&request, &third),
        Action::ReadPosition => subscribers::position(&request, &third),
        Action::ResetOffsets => subscribers::reset(&request, &third),
        Action::CatalogCreate => catalog::create(&request),
        Action::CatalogLatest => catalog::latest(&request),
        Action::CatalogDelete => trash::delete(&request),
        Action::Token => oauth::issue(control, call),
        Action::Revoke => oauth::revoke(control, call),
        // Records are no management calls.
        Action::PublishRecord
        | Action::PublishRecords
        | Action::PublishBinary
        | Action::JsonRecord
        | Action::JsonRecords
        | Action::ViewJsonRecord
        | Action::ViewJsonRecords => Err(Reject::new(Kind::NoSuchRoute, "no such route")),
    }
}
