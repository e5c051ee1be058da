//! Resolves the stream that a request with records names: finds it or prepares its creation, and checks that the caller
//! may send to it.

use super::control::Control;
use crate::auth::{AuthError, Caller, Need};
use crate::batch::StreamId;
use crate::catalog::{IfExists, NewStream, Stream, check_name};
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::{FoundTarget, IngestTarget};
use crate::schema::{Policy, StreamSettings};
use std::sync::Arc;

/// The stream that a request names.
#[derive(Debug, Clone, Copy)]
pub struct StreamRef<'a> {
    /// The contract's noun for a stream, for the message that it does not exist.
    pub noun: &'static str,
    /// Name or id.
    pub name: &'a str,
    /// The project that the request names, if the contract has projects.
    pub project: Option<&'a str>,
}

/// A stream that a first event creates. It has no schema and evolves with its data.
pub fn evolving(name: &str, project: Option<&str>) -> NewStream {
    NewStream {
        name: name.to_owned(),
        policy: Policy::Evolve,
        columns: Vec::new(),
        settings: StreamSettings { project: project.map(str::to_owned), ..StreamSettings::default() },
        if_exists: IfExists::Return,
    }
}

impl StreamRef<'_> {
    /// The project to search: the requested one, otherwise the caller's.
    ///
    /// # Errors
    /// The refusal of a caller that belongs to another project.
    pub fn project<'a>(&'a self, caller: &'a Caller) -> Result<Option<&'a str>, Reject> {
        if self.project.is_some_and(|project| !caller.allows_project(project)) {
            return Err(unread(AuthError::Project));
        }
        Ok(self.project.or(caller.project.as_deref()))
    }

    /// Finds the stream, or returns the stream to create for a first event, if `make` provides one for the name and the
    /// project.
    pub fn find(
        &self,
        control: &Control,
        caller: &Caller,
        make: impl FnOnce(&str, Option<&str>) -> Option<NewStream>,
    ) -> Result<FoundTarget, Reject> {
        let project = self.project(caller)?;
        let streams = control.streams();
        if let Some(stream) = streams.find(self.name).filter(|stream| is_in(stream, project)) {
            check_may_send(caller, stream)?;
            return Ok(FoundTarget {
                target: IngestTarget::Streams(Arc::clone(stream), Vec::new()),
                open: None,
            });
        }
        caller.require(Need::Ingest(self.name)).map_err(unread)?;
        // A stream of another project is not visible, but its name is taken.
        let taken = streams.named(self.name).is_some();
        let Some(new) = (!taken).then(|| make(self.name, project)).flatten() else {
            let message = format!("{} \"{}\" does not exist", self.noun, self.name);
            return Err(Reject::new(RejectKind::NoSuchStream, message).close());
        };
        check_name(self.name).map_err(|error| Reject::malformed(error.to_string()))?;
        Ok(FoundTarget { target: IngestTarget::New(Box::new(new)), open: None })
    }
}

/// The streams that still exist, for a caller that may send to all of them; `None` if none exists.
pub fn those_of(control: &Control, caller: &Caller, ids: &[StreamId]) -> Result<Option<FoundTarget>, Reject> {
    let streams = control.streams();
    let left = ids.iter().filter_map(|id| streams.get(*id)).filter(|stream| stream.deleted_at.is_none());
    let mut left: Vec<Arc<Stream>> = left.cloned().collect();
    left.iter().try_for_each(|stream| check_may_send(caller, stream))?;
    if left.is_empty() {
        return Ok(None);
    }
    Ok(Some(FoundTarget { target: IngestTarget::Streams(left.remove(0), left), open: None }))
}

/// Refuses a caller without the right, and a stream that accepts no records.
pub fn check_may_send(caller: &Caller, stream: &Stream) -> Result<(), Reject> {
    // Rights apply to names, even if the request has the id.
    caller.require(Need::Ingest(&stream.name)).map_err(unread)?;
    check_takes_requests(stream).map_err(Reject::close)
}

/// Refuses a stream whose records would be stored but land nowhere, and a stream that only a receiver may write to.
pub fn check_takes_requests(stream: &Stream) -> Result<(), Reject> {
    let landing = stream.settings.landing;
    let lands = landing.table || landing.raw.is_some();
    if lands && stream.policy != Policy::Mapped {
        return Ok(());
    }
    let name = &stream.name;
    let what = format!("\"{name}\" only accepts events through its receiver");
    Err(Reject::new(RejectKind::Unprocessable, what))
}

/// Returns whether the stream belongs to the project. A stream without a project belongs to every project.
fn is_in(stream: &Stream, project: Option<&str>) -> bool {
    match (stream.settings.project.as_deref(), project) {
        (Some(own), Some(asked)) => own == asked,
        _ => true,
    }
}

/// A refusal before the body was read, which closes the connection.
fn unread(error: AuthError) -> Reject {
    Reject::from(error).close()
}
