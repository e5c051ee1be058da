//! The interface through which every contract and the admin listener manage the daemon: streams, tokens, the newest
//! records, the clock. Wire formats are left to the contracts. It does not depend on a vendor, and only
//! [`Collection`](super::collection::Collection) gets direct access to the catalog.

use super::receivers::Receivers;
use crate::auth::Auth;
use crate::batch::StreamId;
use crate::catalog::{
    Alter, Catalog, CatalogError, CutRecord, FileTotals, NewStream, RegisteredFile, SchemaVersion, Stream,
    StreamProgress, Streams,
};
use crate::clock::{Clock, Micros};
use crate::columns::Proposal;
use crate::mapping::{CheckError, Evaluator, Mapping};
use crate::progress::Progress;
use crate::progress::quarantined::Quarantined;
use crate::read::{Range, ReadError, Record, RecordReader};
use crate::schema::Change;
use crate::wal::Lsn;
use arc_swap::Guard;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Everything that management calls work on. Most methods may block on the catalog's disk.
pub struct Control {
    catalog: Arc<Catalog>,
    pub auth: Arc<Auth>,
    pub progress: Arc<Progress>,
    pub clock: Arc<dyn Clock>,
    /// The id of this daemon's log, a UUID. Everything in the data directory belongs to it.
    pub instance: String,
    /// `server.public_url`: the URL at which clients reach the ingest listener, without a trailing slash. `None` if the
    /// `Host` header of the request determines it.
    pub public_url: Option<String>,
    /// Whether the ingest listener uses TLS.
    pub secure: bool,
    /// The newest records of a stream.
    pub newest: RecentRecords,
    /// The newest requests to a stream as received, each as CBOR, newest last.
    pub requests: RecentRequests,
    /// The newest records of a stream that were quarantined.
    pub errors: RecentErrors,
    /// Reads records by their offsets.
    pub records: RecordReader,
    /// Endpoints whose requests go to several streams.
    pub receivers: Receivers,
    pub evaluator: Arc<Evaluator>,
    managing: Mutex<()>,
}

/// The parts of a [`Control`].
pub struct ControlParts {
    pub catalog: Arc<Catalog>,
    pub auth: Arc<Auth>,
    pub progress: Arc<Progress>,
    pub clock: Arc<dyn Clock>,
    pub instance: String,
    pub public_url: Option<String>,
    pub secure: bool,
    pub newest: RecentRecords,
    pub requests: RecentRequests,
    pub errors: RecentErrors,
    pub records: RecordReader,
    pub evaluator: Arc<Evaluator>,
}

/// Finds the newest records of a stream, newest last.
pub type RecentRecords = Arc<
    dyn Fn(Arc<Stream>, usize) -> Pin<Box<dyn Future<Output = Result<Vec<Value>, String>> + Send>>
        + Send
        + Sync,
>;

/// Finds the newest requests to a stream.
pub type RecentRequests = Arc<
    dyn Fn(Arc<Stream>, usize) -> Pin<Box<dyn Future<Output = Result<Vec<Vec<u8>>, String>> + Send>>
        + Send
        + Sync,
>;

/// Finds the newest records of a stream that were quarantined, newest first.
pub type RecentErrors = Arc<
    dyn Fn(Arc<Stream>, usize) -> Pin<Box<dyn Future<Output = Result<Vec<Quarantined>, String>> + Send>>
        + Send
        + Sync,
>;

impl Control {
    pub fn new(parts: ControlParts) -> Self {
        Self {
            catalog: parts.catalog,
            auth: parts.auth,
            progress: parts.progress,
            clock: parts.clock,
            instance: parts.instance,
            public_url: parts.public_url,
            secure: parts.secure,
            newest: parts.newest,
            requests: parts.requests,
            errors: parts.errors,
            records: parts.records,
            receivers: Receivers::default(),
            evaluator: parts.evaluator,
            managing: Mutex::default(),
        }
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The lock that a management call holds while it reads something and changes it.
    pub fn change(&self) -> MutexGuard<'_, ()> {
        self.managing.lock()
    }

    /// A unique id for a new object.
    pub fn new_id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }

    /// The base URL for answers: the configured one, otherwise the address that the client used.
    pub fn base_url(&self, headers: &http::HeaderMap) -> String {
        if let Some(url) = &self.public_url {
            return url.clone();
        }
        let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", host.unwrap_or("localhost"))
    }
}

/// Streams: lists, creates, changes and deletes them.
impl Control {
    /// The current streams, from memory.
    pub fn streams(&self) -> Guard<Arc<Streams>> {
        self.catalog.streams()
    }

    /// Creates a stream in one synced transaction.
    pub fn create_stream(&self, new: NewStream) -> Result<Arc<Stream>, CatalogError> {
        self.catalog.create_stream_with(new)
    }

    /// Changes a stream. If `expected` is set, its schema must have that version.
    pub fn alter_stream(
        &self,
        id: StreamId,
        expected: Option<u32>,
        alter: &Alter,
    ) -> Result<Arc<Stream>, CatalogError> {
        self.catalog.alter_stream(id, expected, alter)
    }

    /// The changes that [`Control::alter_stream`] would make.
    pub fn changes(
        &self,
        id: StreamId,
        expected: Option<u32>,
        alter: &Alter,
    ) -> Result<Vec<Change>, CatalogError> {
        self.catalog.changes(id, expected, alter)
    }

    /// Deletes a stream, but not its table.
    pub fn delete_stream(&self, id: StreamId) -> Result<Arc<Stream>, CatalogError> {
        self.catalog.delete_stream(id)
    }

    /// Deletes a stream and its table. Published data is removed soon; unpublished data is never published.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchStream`] if it is already deleted.
    pub fn drop_stream(&self, id: StreamId) -> Result<(), CatalogError> {
        self.catalog.drop_stream(id)?;
        self.progress.drop_asked.notify_one();
        // Wakes tasks that hold back files of the stream; they have nothing left to wait for.
        self.progress.release();
        Ok(())
    }

    /// Every version of a stream's schema, the oldest first.
    pub fn schema_versions(&self, id: StreamId) -> Result<Vec<SchemaVersion>, CatalogError> {
        self.catalog.schema_versions(id)
    }

    /// The fields that are proposed as columns.
    pub fn proposals(&self, id: StreamId) -> Result<Vec<Proposal>, CatalogError> {
        self.catalog.proposals(id)
    }

    /// The limit for declared columns: `limits.columns_max`.
    pub fn columns_max(&self) -> usize {
        self.catalog.columns_max()
    }
}

/// The state of records.
impl Control {
    /// The progress of every stream.
    pub fn all_stream_progress(&self) -> Result<Vec<StreamProgress>, CatalogError> {
        self.catalog.progress()
    }

    /// The progress of a stream.
    pub fn stream_progress(&self, id: StreamId) -> Result<StreamProgress, CatalogError> {
        self.catalog.stream_progress(id)
    }

    /// The files of a stream by kind and state.
    pub fn file_totals(&self, id: StreamId) -> Result<Vec<FileTotals>, CatalogError> {
        self.catalog.totals(id)
    }

    /// The newest files of a stream.
    pub fn files(&self, id: StreamId, limit: u32) -> Result<Vec<RegisteredFile>, CatalogError> {
        self.catalog.files(id, limit)
    }

    /// The records that were cut out of a stream's frames received since a time, in order.
    pub fn cuts(&self, id: StreamId, since: Micros) -> Result<Vec<CutRecord>, CatalogError> {
        self.catalog.cuts_received(id, since, Micros::MAX)
    }

    /// Returns whether the rows of an acknowledged request are published.
    pub fn is_published(&self, stream: &Stream, receipt: u64) -> bool {
        self.progress.is_published(stream.id, Lsn(receipt))
    }

    /// Requests that the rows of an acknowledged request are published soon.
    pub fn publish_soon(&self, stream: &Stream, receipt: u64) {
        self.progress.ask(stream.id, Lsn(receipt));
    }

    /// The newest records of a stream, newest last. Blocks.
    pub fn recent_records(&self, stream: Arc<Stream>, limit: usize) -> Result<Vec<Value>, String> {
        tokio::runtime::Handle::current().block_on((self.newest)(stream, limit))
    }

    /// The newest records of a stream that were quarantined, newest first. Blocks.
    pub fn recent_errors(&self, stream: Arc<Stream>, limit: usize) -> Result<Vec<Quarantined>, String> {
        tokio::runtime::Handle::current().block_on((self.errors)(stream, limit))
    }

    /// For each partition of a stream with numbered rows, the offset after its last record. Blocks.
    pub fn end_offsets(&self, stream: &Stream) -> Result<Vec<u64>, ReadError> {
        tokio::runtime::Handle::current().block_on(self.records.end_offsets(stream))
    }

    /// The records of a partition, see [`RecordReader::read`]. Blocks.
    pub fn read_records(&self, stream: &Arc<Stream>, range: Range) -> Result<Vec<Record>, ReadError> {
        tokio::runtime::Handle::current().block_on(self.records.read(stream, range))
    }

    /// Checks whether a mapping can be used. Blocks.
    pub fn check_mapping(&self, mapping: &Mapping) -> Result<(), Vec<CheckError>> {
        tokio::runtime::Handle::current().block_on(self.evaluator.check(mapping))
    }
}
