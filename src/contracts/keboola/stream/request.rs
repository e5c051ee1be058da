//! A management call with everything its handler needs.

use super::model::{Entity, EntityPlace, EntityStore};
use super::words::{bad, no_branch, no_sink, no_source};
use crate::contracts::Call;
use crate::contracts::keboola::KeboolaContext;
use crate::contracts::reject::Reject;
use crate::contracts::shared::control::Control;
use serde_json::Value;
use std::sync::Arc;

/// The name of the default branch in paths.
const DEFAULT: &str = "default";

pub(super) struct StreamRequest<'a> {
    pub(super) common: &'a KeboolaContext,
    pub(super) call: &'a Call<'a>,
    pub(super) project: &'a str,
    pub(super) branch: u64,
}

impl<'a> StreamRequest<'a> {
    pub(super) fn new(common: &'a KeboolaContext, call: &'a Call<'a>, branch: &str) -> Result<Self, Reject> {
        let project = common.project(&call.caller);
        let branches = &common.settings.branches;
        let number = if branch == DEFAULT {
            branches.first().copied()
        } else {
            let wrong = || bad(format!("invalid branch ID \"{branch}\", must be a integer or \"default\""));
            let number = branch.parse::<u64>().map_err(|_| wrong())?;
            Some(number).filter(|number| branches.contains(number))
        };
        let branch = number.ok_or_else(|| no_branch(branch))?;
        Ok(Self { common, call, project, branch })
    }

    pub(super) fn control(&self) -> &'a Arc<Control> {
        &self.common.control
    }

    pub(super) fn store(&self) -> EntityStore<'a> {
        EntityStore { control: self.control(), project: self.project }
    }

    pub(super) fn place(&self, source: &str, sink: Option<&str>) -> EntityPlace {
        EntityPlace { branch: self.branch, source: source.to_owned(), sink: sink.map(str::to_owned) }
    }

    /// Finds a source or sink that is not deleted. A sink is not found if its source is not found.
    pub(super) fn find(&self, place: &EntityPlace) -> Result<Entity, Reject> {
        let is_there = |entity: &Entity| entity.deleted.is_none();
        if place.is_sink() {
            self.find(&place.of_source())?;
        }
        let found = self.store().find(place)?.filter(is_there);
        found.ok_or_else(|| if place.is_sink() { no_sink(place.id()) } else { no_source(place.id()) })
    }

    /// The project id: a JSON number if it is numeric, otherwise a string.
    pub(super) fn project_id(&self) -> Value {
        project_id(self.project)
    }

    pub(super) fn base(&self) -> String {
        self.control().base_url(self.call.head.headers)
    }

    pub(super) fn has_parameter(&self, name: &str, value: &str) -> bool {
        form_urlencoded::parse(self.call.head.query.as_bytes())
            .any(|(key, found)| key == name && found == value)
    }

    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut query = form_urlencoded::parse(self.call.head.query.as_bytes());
        query.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

pub(super) fn project_id(project: &str) -> Value {
    project.parse::<u64>().map_or_else(|_| project.into(), Value::from)
}
