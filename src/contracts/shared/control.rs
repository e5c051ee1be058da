//! What every contract and the admin listener manage the daemon through: streams, tokens, the newest records, the clock. The
//! wire words are the contracts' own, the work is done here. It knows no vendor, and nobody reaches the catalog
//! through it but [`Collection`](super::collection::Collection).

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
use crate::read::{Range, ReadError, Record, Records};
use crate::schema::Change;
use crate::wal::Lsn;
use arc_swap::Guard;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Everything that management calls work on. Most of it may block on the catalog's disk.
pub struct Control {
    catalog: Arc<Catalog>,
    pub auth: Arc<Auth>,
    pub progress: Arc<Progress>,
    pub clock: Arc<dyn Clock>,
    /// This daemon's log, as a UUID: what is here belongs to it.
    pub instance: String,
    /// `server.public_url`: how clients reach the ingest listener, without a slash at its end; `None` where the
    /// `Host` of the request says it.
    pub public_url: Option<String>,
    /// Whether the ingest listener speaks TLS.
    pub secure: bool,
    /// The newest records of a stream.
    pub newest: RecentRecords,
    /// The newest requests to a stream as they came, each as CBOR, newest last.
    pub requests: RecentRequests,
    /// The newest records of a stream that became no rows.
    pub errors: RecentErrors,
    /// Records by their offsets.
    pub records: Records,
    /// Endpoints whose requests go to several streams.
    pub receivers: Receivers,
    pub evaluator: Arc<Evaluator>,
    managing: Mutex<()>,
}

/// What a [`Control`] is made of.
pub struct Parts {
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
    pub records: Records,
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

/// Finds the newest records of a stream that became no rows, newest first.
pub type RecentErrors = Arc<
    dyn Fn(Arc<Stream>, usize) -> Pin<Box<dyn Future<Output = Result<Vec<Quarantined>, String>> + Send>>
        + Send
        + Sync,
>;

impl Control {
    pub fn new(parts: Parts) -> Self {
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

    /// To be held by a management call that changes what it has read.
    pub fn change(&self) -> MutexGuard<'_, ()> {
        self.managing.lock()
    }

    /// A name for something new that nothing else has.
    pub fn new_id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }

    /// The address that goes into answers: as configured, otherwise as the client called it.
    pub fn base_url(&self, headers: &http::HeaderMap) -> String {
        if let Some(url) = &self.public_url {
            return url.clone();
        }
        let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", host.unwrap_or("localhost"))
    }
}

/// Streams: what there is, made, changed and deleted.
impl Control {
    /// The streams as they are now. In memory.
    pub fn streams(&self) -> Guard<Arc<Streams>> {
        self.catalog.streams()
    }

    /// Makes a stream: one synced transaction.
    pub fn create_stream(&self, new: NewStream) -> Result<Arc<Stream>, CatalogError> {
        self.catalog.create_stream_with(new)
    }

    /// Changes a stream: its schema must have the version `expected`, if one is given.
    pub fn alter_stream(
        &self,
        id: StreamId,
        expected: Option<u32>,
        alter: &Alter,
    ) -> Result<Arc<Stream>, CatalogError> {
        self.catalog.alter_stream(id, expected, alter)
    }

    /// What [`Control::alter_stream`] would change.
    pub fn changes(
        &self,
        id: StreamId,
        expected: Option<u32>,
        alter: &Alter,
    ) -> Result<Vec<Change>, CatalogError> {
        self.catalog.changes(id, expected, alter)
    }

    /// Deletes a stream; its table stays.
    pub fn delete_stream(&self, id: StreamId) -> Result<Arc<Stream>, CatalogError> {
        self.catalog.delete_stream(id)
    }

    /// Deletes a stream and its table: what is published of it is removed soon, what is not published yet never is.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchStream`] if it is deleted already.
    pub fn drop_stream(&self, id: StreamId) -> Result<(), CatalogError> {
        self.catalog.drop_stream(id)?;
        self.progress.drop_asked.notify_one();
        // Who holds back files of it has nothing more to wait for.
        self.progress.release();
        Ok(())
    }

    /// Every version of a stream's schema, the oldest first.
    pub fn schema_versions(&self, id: StreamId) -> Result<Vec<SchemaVersion>, CatalogError> {
        self.catalog.schema_versions(id)
    }

    /// Fields that are proposed as columns.
    pub fn proposals(&self, id: StreamId) -> Result<Vec<Proposal>, CatalogError> {
        self.catalog.proposals(id)
    }

    /// Places that declared columns may take: `limits.columns_max`.
    pub fn columns_max(&self) -> usize {
        self.catalog.columns_max()
    }
}

/// What became of records.
impl Control {
    /// How far every stream is.
    pub fn all_stream_progress(&self) -> Result<Vec<StreamProgress>, CatalogError> {
        self.catalog.progress()
    }

    /// How far a stream is.
    pub fn stream_progress(&self, id: StreamId) -> Result<StreamProgress, CatalogError> {
        self.catalog.stream_progress(id)
    }

    /// The files of a stream by what became of them.
    pub fn file_totals(&self, id: StreamId) -> Result<Vec<FileTotals>, CatalogError> {
        self.catalog.totals(id)
    }

    /// The newest files of a stream.
    pub fn files(&self, id: StreamId, limit: u32) -> Result<Vec<RegisteredFile>, CatalogError> {
        self.catalog.files(id, limit)
    }

    /// What has been cut out of a stream's frames that were received since a time, in order.
    pub fn cuts(&self, id: StreamId, since: Micros) -> Result<Vec<CutRecord>, CatalogError> {
        self.catalog.cuts_received(id, since, Micros::MAX)
    }

    /// Whether the rows of an acknowledged request are published.
    pub fn is_published(&self, stream: &Stream, receipt: u64) -> bool {
        self.progress.is_published(stream.id, Lsn(receipt))
    }

    /// Asks for the rows of an acknowledged request to be published soon.
    pub fn publish_soon(&self, stream: &Stream, receipt: u64) {
        self.progress.ask(stream.id, Lsn(receipt));
    }

    /// The newest records of a stream, newest last. For where it may block.
    pub fn recent_records(&self, stream: Arc<Stream>, limit: usize) -> Result<Vec<Value>, String> {
        tokio::runtime::Handle::current().block_on((self.newest)(stream, limit))
    }

    /// The newest records of a stream that became no rows, newest first. For where it may block.
    pub fn recent_errors(&self, stream: Arc<Stream>, limit: usize) -> Result<Vec<Quarantined>, String> {
        tokio::runtime::Handle::current().block_on((self.errors)(stream, limit))
    }

    /// For each partition of a stream with numbered rows, the offset behind its last record. For where it may block.
    pub fn end_offsets(&self, stream: &Stream) -> Result<Vec<u64>, ReadError> {
        tokio::runtime::Handle::current().block_on(self.records.end_offsets(stream))
    }

    /// Records of a partition. For where it may block. See [`Records::read`].
    pub fn read_records(&self, stream: &Arc<Stream>, range: Range) -> Result<Vec<Record>, ReadError> {
        tokio::runtime::Handle::current().block_on(self.records.read(stream, range))
    }

    /// Whether a mapping can be used. For where it may block.
    pub fn check_mapping(&self, mapping: &Mapping) -> Result<(), Vec<CheckError>> {
        tokio::runtime::Handle::current().block_on(self.evaluator.check(mapping))
    }
}
