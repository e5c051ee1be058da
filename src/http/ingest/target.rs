//! Where the records of a request go: the stream it names, the stream that a connection stands for, or one that its
//! first record makes.

use super::{IngestHandler, unread};
use crate::auth::{AuthError, Caller, Need};
use crate::catalog::{Alter, CatalogError, Stream, check_name};
use crate::contracts::reject::{Kind, Reject};
use crate::contracts::{Dialect, Ingest, NewTarget, Open, RequestHead, Wrapped};
use crate::schema::{Payload, Policy, StreamSettings};
use std::sync::Arc;

pub(super) enum Target {
    /// A stream, and others that the same records go to.
    Streams(Arc<Stream>, Vec<Arc<Stream>>),
    /// To be made once there is a record for it.
    New(NewTarget),
}

impl Target {
    /// The stream, if there is one yet.
    pub(super) fn stream(&self) -> Option<&Arc<Stream>> {
        match self {
            Self::Streams(stream, _) => Some(stream),
            Self::New(_) => None,
        }
    }

    /// Further streams.
    pub(super) fn others(&self) -> &[Arc<Stream>] {
        match self {
            Self::Streams(_, others) => others,
            Self::New(_) => &[],
        }
    }
}

impl IngestHandler {
    /// Finds the target and checks that the caller may send there. Before the body is read.
    pub(super) fn find_target(
        &self,
        dialect: &dyn Dialect,
        head: &RequestHead<'_>,
        ingest: &Ingest<'_>,
        caller: &Caller,
    ) -> Result<(Target, Option<Open>), Reject> {
        if let Some(target) = dialect.target(&self.control, head, caller) {
            let Wrapped { stream, open } = target.map_err(Reject::close)?;
            return match stream {
                Ok(stream) => Ok((Target::Streams(stream, Vec::new()), Some(open))),
                Err(new) if self.auth.is_open() => Ok((Target::New(new), Some(open))),
                Err(_) => {
                    let message = format!("{} does not exist", dialect.noun());
                    Err(Reject::new(Kind::NoSuchStream, message).close())
                }
            };
        }
        self.find_named(dialect, head, ingest, caller).map(|target| (target, None))
    }

    fn find_named(
        &self,
        dialect: &dyn Dialect,
        head: &RequestHead<'_>,
        ingest: &Ingest<'_>,
        caller: &Caller,
    ) -> Result<Target, Reject> {
        let project = ingest.project.as_deref();
        if project.is_some_and(|project| !caller.allows_project(project)) {
            return Err(unread(AuthError::Project));
        }
        let project = project.or(caller.project.as_deref());
        let name = &*ingest.stream;
        let feeds = if ingest.may_be_connection {
            self.control.feeds.find(ingest.project.as_deref(), name)
        } else {
            None
        };
        let streams = self.catalog.streams();
        let fed = feeds.as_deref().unwrap_or_default();
        let fed = fed.iter().filter_map(|id| streams.get(*id)).filter(|stream| stream.deleted_at.is_none());
        let mut found: Vec<Arc<Stream>> = fed.cloned().collect();
        if feeds.as_deref().unwrap_or_default().is_empty() {
            found.extend(streams.find(name).filter(|stream| is_in(stream, project)).cloned());
        }
        // Rights are for names, also if the request has the id.
        found.iter().try_for_each(|stream| caller.require(Need::Ingest(&stream.name))).map_err(unread)?;
        found.iter().try_for_each(|stream| check_takes_requests(stream)).map_err(Reject::close)?;
        if !found.is_empty() {
            return Ok(Target::Streams(found.remove(0), found));
        }
        caller.require(Need::Ingest(name)).map_err(unread)?;
        let may_make = feeds.is_some() || dialect.makes_stream(&self.control, head, caller);
        // One of another project is not seen, and not made again.
        if !may_make || streams.named(name).is_some() {
            let message = format!("{} \"{name}\" does not exist", dialect.noun());
            return Err(Reject::new(Kind::NoSuchStream, message).close());
        }
        check_name(name).map_err(|error| Reject::malformed(error.to_string()))?;
        Ok(Target::New(NewTarget { name: name.to_owned(), project: project.map(str::to_owned) }))
    }

    /// The stream, made if there is none.
    pub(super) async fn stream_of(
        &self,
        dialect: &'static dyn Dialect,
        target: Target,
    ) -> Result<Arc<Stream>, Reject> {
        let new = match target {
            Target::Streams(stream, _) => return Ok(stream),
            Target::New(new) => new,
        };
        let control = Arc::clone(&self.control);
        let make = move || control.catalog.create_stream_with(dialect.new_stream(&control, &new));
        match tokio::task::spawn_blocking(make).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(CatalogError::Name(error))) => Err(Reject::malformed(error.to_string())),
            Ok(Err(error)) => Err(Reject::internal(&error)),
            Err(error) => Err(Reject::internal(&error)),
        }
    }
}

impl IngestHandler {
    /// Fixes which bodies a stream takes, if nothing has yet; refuses others.
    pub(super) async fn of_payload(
        &self,
        stream: Arc<Stream>,
        payload: Payload,
    ) -> Result<Arc<Stream>, Reject> {
        let fits = |stream: Arc<Stream>, known: Payload| {
            if known == payload {
                return Ok(stream);
            }
            let (takes, came) = (known.name(), payload.name());
            Err(Reject::malformed(format!("The stream {} takes {takes}, not {came}", stream.name)))
        };
        // Rows of XML are known only after the answer, and offsets are given with it.
        if payload == Payload::Xml && stream.settings.partitions > 0 {
            return Err(Reject::malformed(format!(
                "The stream {} has partitions, so it takes no XML",
                stream.name
            )));
        }
        if let Some(known) = stream.settings.payload {
            return fits(stream, known);
        }
        let control = Arc::clone(&self.control);
        let fix = move || {
            let _managing = control.managing.lock();
            let stream = control.catalog.streams().get(stream.id).cloned().unwrap_or(stream);
            if stream.settings.payload.is_some() {
                return Ok(stream);
            }
            let settings = StreamSettings { payload: Some(payload), ..(*stream.settings).clone() };
            let alter = Alter { settings: Some(settings), ..Alter::default() };
            control.catalog.alter_stream(stream.id, None, &alter)
        };
        let fixed = tokio::task::spawn_blocking(fix).await;
        let stream = fixed.map_err(|error| Reject::internal(&error))?;
        let stream = stream.map_err(|error| Reject::internal(&error))?;
        let known = stream.settings.payload.unwrap_or(payload);
        fits(stream, known)
    }
}

/// Refuses what would be stored and land nowhere, and what only a receiver makes rows of.
pub(super) fn check_takes_requests(stream: &Stream) -> Result<(), Reject> {
    let landing = stream.settings.landing;
    let lands = landing.table || landing.raw.is_some();
    if lands && stream.policy != Policy::Mapped {
        return Ok(());
    }
    let name = &stream.name;
    let what = format!("\"{name}\" takes events through its receiver only");
    Err(Reject::new(Kind::Unprocessable, what))
}

/// Whether a project sees the stream. What was made without a project is in all of them.
fn is_in(stream: &Stream, project: Option<&str>) -> bool {
    match (stream.settings.project.as_deref(), project) {
        (Some(own), Some(asked)) => own == asked,
        _ => true,
    }
}
