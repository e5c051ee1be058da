//! The target of a request's records: the stream it names, the stream of a connection, or a stream that its first
//! record creates.

use super::IngestHandler;
use crate::catalog::{Alter, CatalogError, Stream};
use crate::contracts::IngestTarget;
use crate::contracts::reject::Reject;
use crate::schema::{Payload, StreamSettings};
use std::sync::Arc;

impl IngestTarget {
    /// The stream, if it exists.
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
    /// Returns the stream, and creates it if it does not exist.
    pub(super) async fn stream_of(&self, target: IngestTarget) -> Result<Arc<Stream>, Reject> {
        let new = match target {
            IngestTarget::Streams(stream, _) => return Ok(stream),
            IngestTarget::New(new) => new,
        };
        let catalog = Arc::clone(&self.catalog);
        let make = move || catalog.create_stream_with(*new);
        match tokio::task::spawn_blocking(make).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(CatalogError::Name(error))) => Err(Reject::malformed(error.to_string())),
            Ok(Err(error)) => Err(Reject::internal(&error)),
            Err(error) => Err(Reject::internal(&error)),
        }
    }

    /// Fixes the payload type of a stream at its first request, and refuses bodies of another type.
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
        // The rows of an XML body are known only after the response, which has to contain their offsets.
        if payload == Payload::Xml && stream.settings.partitions > 0 {
            return Err(Reject::malformed(format!(
                "The stream {} has partitions, so it does not accept XML",
                stream.name
            )));
        }
        if let Some(known) = stream.settings.payload {
            return fits(stream, known);
        }
        let control = Arc::clone(&self.control);
        let fix = move || {
            let _change = control.change();
            let stream = control.streams().get(stream.id).cloned().unwrap_or(stream);
            if stream.settings.payload.is_some() {
                return Ok(stream);
            }
            let settings = StreamSettings { payload: Some(payload), ..(*stream.settings).clone() };
            let alter = Alter { settings: Some(settings), ..Alter::default() };
            control.alter_stream(stream.id, None, &alter)
        };
        let fixed = tokio::task::spawn_blocking(fix).await;
        let stream = fixed.map_err(|error| Reject::internal(&error))?;
        let stream = stream.map_err(|error| Reject::internal(&error))?;
        let known = stream.settings.payload.unwrap_or(payload);
        fits(stream, known)
    }
}
