//! What the management calls of every dialect and of the admin listener share: streams, tokens, objects, and where
//! the daemon is. They speak to this, and not to the catalog; the wire words are theirs, the work is done here.

pub use crate::catalog::{
    Alter, CatalogError, Counts, FileState, FileTotals, IfExists, NewStream, Object, ObjectError, ObjectKey,
    RegisteredFile, SchemaVersion, Stream, TokenKind,
};
pub use crate::clock::Micros;
pub use crate::contracts::foundry::model::Datasets;
pub use crate::contracts::polaris::feeds::Feeds;
pub use crate::contracts::shared::receivers::{Export, Receiver, Receivers};
pub use crate::mapping::{CheckError, Evaluator, Mapping};
pub use crate::progress::quarantined::Quarantined;
pub use crate::read::{PositionError, Positions, Range, ReadError, ReadPosition, Record, Subscriber};

use crate::auth::Auth;
use crate::batch::StreamId;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::progress::Progress;
use crate::read::Records;
use crate::wal::Lsn;
use parking_lot::Mutex;
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Everything that management calls work on. All of it may block on the catalog's disk.
pub struct Control {
    pub catalog: Arc<Catalog>,
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
    /// Where the events of connections go.
    pub feeds: Feeds,
    /// The data sets of Foundry's contract.
    pub datasets: Datasets,
    /// Endpoints whose requests go to several streams.
    pub receivers: Receivers,
    pub evaluator: Arc<Evaluator>,
    /// Held by a management call that changes what it has read.
    pub managing: Mutex<()>,
    pub polaris: PolarisSettings,
    pub keboola: KeboolaSettings,
    pub amperity: AmperitySettings,
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

/// What the configuration says of Imply Polaris' contract.
#[derive(Debug, Clone, Copy)]
pub struct PolarisSettings {
    /// Seconds by which an event may be late or early, for tables without a job.
    pub late: Option<u64>,
    pub early: Option<u64>,
}

/// What the configuration says of Keboola's contracts.
#[derive(Debug, Clone)]
pub struct KeboolaSettings {
    /// The number of the project that credentials without one are for.
    pub project: String,
    /// The numbers of its branches. The first is the default one.
    pub branches: Vec<u64>,
    /// Bytes of rows of one export that may be in no file yet, above which its receiver takes no more. 0: no limit.
    pub receiver_buffer_max: u64,
}

/// What the configuration says of Amperity's contract.
#[derive(Debug, Clone, Copy)]
pub struct AmperitySettings {
    /// Records for a stream that there is not make it.
    pub makes_streams: bool,
    /// A request whose `X-Request-Id` came before is stored once.
    pub deduplicates: bool,
    /// Bytes of an event at the newer routes.
    pub event_max: u64,
}

impl Control {
    /// A name for something new that nothing else has.
    pub fn new_id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }

    /// The newest records of a stream, newest last. For where it may block.
    pub fn recent_records(&self, stream: Arc<Stream>, limit: usize) -> Result<Vec<Value>, String> {
        tokio::runtime::Handle::current().block_on((self.newest)(stream, limit))
    }

    /// The newest records of a stream that became no rows, newest first. For where it may block.
    pub fn recent_errors(&self, stream: Arc<Stream>, limit: usize) -> Result<Vec<Quarantined>, String> {
        tokio::runtime::Handle::current().block_on((self.errors)(stream, limit))
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

    /// Whether a mapping can be used. For where it may block.
    pub fn check_mapping(&self, mapping: &Mapping) -> Result<(), Vec<CheckError>> {
        tokio::runtime::Handle::current().block_on(self.evaluator.check(mapping))
    }

    /// For each partition of a stream with numbered rows, the offset behind its last record. For where it may block.
    pub fn end_offsets(&self, stream: &Stream) -> Result<Vec<u64>, ReadError> {
        tokio::runtime::Handle::current().block_on(self.records.end_offsets(stream))
    }

    /// Records of a partition. For where it may block. See [`Records::read`].
    pub fn read_records(&self, stream: &Arc<Stream>, range: Range) -> Result<Vec<Record>, ReadError> {
        tokio::runtime::Handle::current().block_on(self.records.read(stream, range))
    }

    /// Places that declared columns may take: `limits.columns_max`.
    pub fn columns_max(&self) -> usize {
        self.catalog.columns_max()
    }

    /// Whether the rows of an acknowledged request are published.
    pub fn is_published(&self, stream: &Stream, receipt: u64) -> bool {
        self.progress.is_published(stream.id, Lsn(receipt))
    }

    /// Asks for the rows of an acknowledged request to be published soon.
    pub fn publish_soon(&self, stream: &Stream, receipt: u64) {
        self.progress.ask(stream.id, Lsn(receipt));
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
