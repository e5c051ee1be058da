//! A management call with everything that its handler needs.

use super::Polaris;
use super::fields::wrong;
use crate::auth::Need;
use crate::catalog::Stream;
use crate::contracts::Call;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::control::Control;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::ops::RangeInclusive;

pub(super) struct PolarisRequest<'a> {
    pub(super) polaris: &'a Polaris,
    pub(super) call: &'a Call<'a>,
    /// The project in the path, if the path has one.
    pub(super) project: Option<Cow<'a, str>>,
}

impl PolarisRequest<'_> {
    pub(super) fn control(&self) -> &Control {
        &self.polaris.control
    }

    /// Refuses a caller that lacks the right or belongs to another project.
    pub(super) fn require(&self, need: Need<'_>) -> Result<(), Reject> {
        self.call.caller.require(need)?;
        self.require_project()
    }

    pub(super) fn require_project(&self) -> Result<(), Reject> {
        let caller = &self.call.caller;
        let Some(project) = &self.project else {
            // A path without a project refers to all projects.
            return match &caller.project {
                Some(own) => Err(foreign(own)),
                None => Ok(()),
            };
        };
        if caller.allows_project(project) {
            return Ok(());
        }
        Err(foreign(caller.project.as_deref().unwrap_or("")))
    }

    /// The right to create tables includes the right to view them.
    pub(super) fn may_read(&self, stream: &Stream) -> bool {
        self.call.caller.may(Need::Read(&stream.name)) || self.call.caller.may(Need::Create)
    }

    pub(super) fn require_read(&self, stream: &Stream) -> Result<(), Reject> {
        if self.may_read(stream) {
            return Ok(());
        }
        Ok(self.call.caller.require(Need::Read(&stream.name))?)
    }

    /// Returns whether the stream belongs to the path's project. A stream without a project belongs to every project.
    pub(super) fn sees(&self, stream: &Stream) -> bool {
        let project = self.project.as_deref().or(self.call.caller.project.as_deref());
        match (&stream.settings.project, project) {
            (Some(own), Some(asked)) => own == asked,
            _ => true,
        }
    }

    /// The project in the path; empty if the path has none.
    pub(super) fn project(&self) -> &str {
        self.project.as_deref().unwrap_or("")
    }

    /// The caller in the contract's format for users.
    pub(super) fn user(&self) -> Value {
        let caller = &self.call.caller;
        json!({"username": &*caller.name, "userId": caller.id.0.to_string()})
    }

    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut query = form_urlencoded::parse(self.call.head.query.as_bytes());
        query.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The values of a parameter that can be repeated, or given once with commas.
    pub(super) fn parameters(&self, name: &str) -> Vec<String> {
        let query = form_urlencoded::parse(self.call.head.query.as_bytes());
        let named: Vec<_> = query.filter(|(key, _)| key == name).map(|(_, value)| value).collect();
        let values = named.iter().flat_map(|value| value.split(','));
        values.filter(|value| !value.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Reject> {
        let Some(text) = self.parameter(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            wrong(format!("the query parameter {name:?} must be a number from {from} to {to}"))
        })
    }
}

fn foreign(own: &str) -> Reject {
    Reject::new(RejectKind::Forbidden, format!("the credential belongs to the project {own:?}"))
}
