//! The wire contracts. Each contract is an object that owns its configuration section, state, routes and wording. What
//! they share of the daemon is in [`shared`]; the transport and the log are the same for all.
//!
//! For records, a contract parses a request's head ([`Contract::parse`]) and turns an outcome into a reply
//! ([`Contract::accepted`]), without I/O and without a clock. Its management calls ([`Contract::manage`]) use only
//! [`Control`] and the contract's own state.

pub mod amperity;
pub mod foundry;
pub mod keboola;
mod oauth;
pub mod openapi;
pub mod polaris;
pub mod reject;
pub mod request_id;
pub mod route;
pub mod shared;
pub mod tinybird;

use crate::auth::words::{Vocabulary, Words};
use crate::auth::{Caller, Credential};
use crate::batch;
use crate::batch::BodyKind;
use crate::catalog::{CatalogError, NewStream, Stream};
use crate::mapping::MappingFailure;
use crate::offsets::Numbered;
use crate::schema::Column;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reject::Reject;
use request_id::RequestId;
use route::{Access, RouteInfo};
use serde_json::{Map, Value};
use shared::control::Control;
use shared::receivers::Receiver;
use shared::sections::{SectionError, Sections};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// A request before its body.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    /// The part after the `?`, as received.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// For contracts that [name their requests](ContractEntry::names_requests).
    pub named: AnswerContext,
}

/// What an answer may say about a request in addition to its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerContext {
    pub id: RequestId,
    /// The limit for its body, in bytes.
    pub body_max: u64,
}

impl<'a> RequestHead<'a> {
    pub fn from_parts(parts: &'a http::request::Parts) -> Self {
        Self {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or(""),
            headers: &parts.headers,
            // Only the requests of a contract that asks for it are named.
            named: parts.extensions.get().copied().unwrap_or_default(),
        }
    }
}

/// When to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Once the records survive the death of the process.
    Append,
    /// Once they survive power loss.
    Sync,
    /// Once they are published.
    Table,
}

/// Finds the target of an ingest request once the caller is known, and checks that the caller may send there. Must work
/// in memory, because requests wait for it.
pub type FindTarget<'a> = Box<dyn Fn(&Caller) -> Result<FoundTarget, Reject> + Send + Sync + 'a>;

/// What an ingest request asks for.
pub struct Ingest<'a> {
    pub find: FindTarget<'a>,
    pub wait: Wait,
    pub kind: BodyKind,
    pub credential: Credential<'a>,
    pub bodies: Bodies,
    /// The limit for the body on the wire, in bytes, where the contract allows less than the configuration.
    pub body_max: Option<u64>,
    /// The client's key for this request, if the contract has its own equivalent of `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// Headers that are stored with the records.
    pub keeps: Vec<(String, String)>,
    /// The answer if the stream is configured to drop its records.
    pub dropped: fn(&RequestHead<'_>) -> Reply,
}

impl<'a> Ingest<'a> {
    /// NDJSON, answered after the append, and the defaults for everything else.
    pub fn new(
        credential: Credential<'a>,
        find: impl Fn(&Caller) -> Result<FoundTarget, Reject> + Send + Sync + 'a,
    ) -> Self {
        Self {
            find: Box::new(find),
            wait: Wait::Append,
            kind: BodyKind::Lines,
            credential,
            bodies: Bodies::default(),
            body_max: None,
            key: None,
            keeps: Vec::new(),
            dropped: |_| Reply::empty(StatusCode::NO_CONTENT),
        }
    }
}

/// Where records go.
pub enum IngestTarget {
    /// A stream, and further streams that receive the same records.
    Streams(Arc<Stream>, Vec<Arc<Stream>>),
    /// A stream to create once it has a record.
    New(Box<NewStream>),
}

/// Where the records of a request go, and how to unwrap them from its body, if they are wrapped.
pub struct FoundTarget {
    pub target: IngestTarget,
    pub open: Option<Unwrapper>,
}

/// A request whose body is one record for a receiver, or holds several.
pub struct Receive {
    pub receiver: Arc<Receiver>,
    pub wait: Wait,
    /// Headers, in lower case, that are hidden from mappings and not stored in frames.
    pub hides: &'static [&'static str],
    /// Builds the refusal of a record that cannot be mapped for every export, from the labels of the failed exports and
    /// the reasons.
    pub unmapped: fn(&[(String, MappingFailure)]) -> Reject,
}

/// The result of parsing a request's head.
pub enum Parsed<'a> {
    /// Records follow in the body.
    Ingest(Ingest<'a>),
    /// The body is a record for a receiver.
    Receive(Receive),
    /// Answered by the contract itself.
    Answer(Reply),
    /// A CORS preflight request; holds the methods of the path.
    Preflight(Cow<'static, str>),
    /// A call for [`Contract::manage`], which needs the body.
    Manage(Manage<'a>),
    /// The same, but the body holds records for a receiver, whose limits apply.
    Export(Arc<Receiver>),
}

/// What a management call requires before its body is read.
#[derive(Debug)]
pub struct Manage<'a> {
    pub access: Access,
    pub credential: Credential<'a>,
}

/// A management call: the request with its body, decompressed.
pub struct Call<'a> {
    pub head: RequestHead<'a>,
    pub body: Bytes,
    /// The limit for data decoded from the body, in bytes.
    pub decoded_max: u64,
    /// Decompresses a gzip file within the body, up to that limit.
    pub gunzip: &'a dyn Fn(Bytes) -> Result<Bytes, Reject>,
    /// The caller; anonymous for calls that issue a token.
    pub caller: Caller,
    pub peer: IpAddr,
}

/// The result of a management call.
pub enum Managed {
    Reply(Reply),
    /// The body contains records, which are appended before the answer.
    Append(Append),
}

/// Builds the answer to a management call that contained records.
pub type Answer = Box<dyn FnOnce(&Accepted) -> Reply + Send>;

/// Where the records of a management call go.
pub enum CallDestination {
    Stream(Arc<Stream>),
    /// Every export of a receiver. A record that cannot be mapped for all of them is skipped and reported in
    /// [`Accepted::refused`]; if no record is left, the call is refused.
    Receiver(Receive),
}

/// Records found in the body of a management call.
pub struct Append {
    pub to: CallDestination,
    pub body: Bytes,
    pub kind: BodyKind,
    pub bodies: Bodies,
    pub wait: Wait,
    /// Called where blocking is allowed.
    pub reply: Answer,
}

/// The outcome of a request with records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub lsn: u64,
    pub stored: u64,
    pub quarantined: u64,
    /// The quarantined entries that are not valid records.
    pub invalid: u64,
    pub state: Durability,
    /// Labels of the exports they went to, if a receiver took them.
    pub exports: Vec<String>,
    /// The receiver that took them.
    pub receiver: Option<Arc<Receiver>>,
    /// The reasons for skipped records, one for each.
    pub refused: Vec<String>,
    /// The offsets of the stored records, if the stream has any.
    pub numbered: Option<Numbered>,
}

/// How durable the records were at the time of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    Appended,
    Synced,
    /// The client asked to wait for the sync, which did not finish in time. The records are accepted nonetheless.
    SyncPending,
    /// The keys of the objects that hold them.
    Published(Vec<String>),
    /// The client asked to wait for the table, which took too long. The records are synced.
    PublishPending,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Reply {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }
}

/// Converts a body of another format to NDJSON; `None` if the body does not have that format.
pub type Transcribe = fn(&[u8]) -> Option<Vec<u8>>;

/// A contract's rules for bodies with records, other than how they are split.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bodies {
    /// A body without a single valid record is quarantined instead of refused.
    pub all_bad: bool,
    /// A body must be exactly one JSON object.
    pub one_object: bool,
    /// A stream accepts bodies of one [`Payload`](crate::schema::Payload) only.
    pub one_payload: bool,
    /// Converts a body without valid records that has another format of the contract's clients.
    pub transcribe: Option<Transcribe>,
    /// If set, a body with a record that does not fit its stream is refused as a whole, with this code of the contract.
    pub misfit: Option<&'static str>,
}

/// Unwraps the records of a body as NDJSON; only records that may be stored.
pub type Unwrapper = Arc<dyn Fn(Bytes) -> Result<Bytes, Reject> + Send + Sync>;

/// Creates a contract from its configuration section.
pub type Make = fn(&Sections, Arc<Control>) -> Result<Arc<dyn Contract>, SectionError>;

/// A contract's entry in the [`TABLE`]: what is known before the contract is created.
pub struct ContractEntry {
    /// Its name in frames, limits and metrics.
    pub tag: batch::Tag,
    /// Its answers carry a request id, see [`RequestHead::named`].
    pub names_requests: bool,
    /// Web pages may call it: its answers carry CORS headers.
    pub is_for_pages: bool,
    /// Its configuration section, if it has one.
    pub section: Option<&'static str>,
    pub check: fn(&Sections) -> Result<(), SectionError>,
    /// Its clients' names for rights.
    pub words: &'static Words,
    /// Returns whether this contract owns the path.
    pub takes: fn(&str) -> bool,
    /// The routes it serves, from the table that also dispatches its calls.
    pub served: fn() -> Vec<RouteInfo>,
    /// The `OpenAPI` description of its routes, see [`openapi`].
    pub openapi: &'static str,
    pub open: Make,
}

/// Every contract, in the order in which they are asked whether they own a path. The first one words the refusal of a
/// path that no contract owns.
pub static TABLE: &[&ContractEntry] = &[
    &tinybird::ENTRY,
    &polaris::ENTRY,
    &amperity::ENTRY,
    &foundry::ENTRY,
    &keboola::buffer::ENTRY,
    &keboola::stream::ENTRY,
];

/// What [`Contract::finish`] may add to an answer.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub named: AnswerContext,
    /// The state of the client's request limit, if the request carried records and a limit is set.
    pub standing: Option<Standing>,
}

/// The state of a client's request limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests allowed per second, or per minute if the contract counts per minute.
    pub limit: u32,
    /// Requests left of the limit.
    pub remaining: u32,
    /// Seconds until the full limit is available again.
    pub reset_seconds: u32,
}

/// One wire contract.
pub trait Contract: Send + Sync {
    /// Loads the contract's state from the catalog. Called once, before the first request.
    fn begin(&self) -> Result<(), CatalogError>;

    fn parse<'a>(&'a self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject>;

    /// Executes a management call. Runs where blocking is allowed.
    fn manage(&self, call: &Call<'_>) -> Result<Managed, Reject>;

    /// The answer to accepted records. `head` is the head of the request.
    fn accepted(&self, head: &RequestHead<'_>, accepted: &Accepted) -> Reply;

    /// The answer to a refused request.
    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply;

    /// Adds what the contract includes in every answer.
    fn finish(&self, reply: &mut Reply, told: &Told);

    /// The contract's additions to the admin listener's answers about streams, if any.
    fn extras(&self) -> Option<&dyn Extras>;
}

/// A contract's additions to the admin listener's answers about streams.
pub trait Extras: Send + Sync {
    /// Sample code that sends a record to a stream. `base` is the URL at which clients reach the daemon, without a
    /// trailing slash.
    fn code(&self, stream: &Stream, base: &str) -> Option<Value>;

    /// Columns in the format of the contract's own calls, with a name for that format.
    fn schema(&self, columns: &[Column]) -> Option<(&'static str, Value)>;

    /// For a contract whose streams have generated ids: the id of a new stream that people call `name`, and the entries
    /// that go into the stream's settings.
    fn new_stream(&self, name: &str) -> Option<(String, Map<String, Value>)>;
}

/// Checks the configuration sections of all contracts.
pub fn check(sections: &Sections) -> Result<(), SectionError> {
    TABLE.iter().try_for_each(|entry| (entry.check)(sections))
}

/// The names for rights of all contracts.
pub fn vocabulary() -> Vocabulary {
    Vocabulary::new(TABLE.iter().map(|entry| entry.words))
}

/// The routes of every contract.
pub fn routes() -> Vec<RouteInfo> {
    TABLE.iter().flat_map(|entry| (entry.served)()).collect()
}

/// Every contract of the [`TABLE`], created.
#[derive(Clone)]
pub struct Contracts(Arc<[Made]>);

/// A contract and its entry.
pub struct Made {
    pub entry: &'static ContractEntry,
    pub contract: Arc<dyn Contract>,
}

/// Why the contracts could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ContractOpenError {
    #[error(transparent)]
    Section(#[from] SectionError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Contracts {
    /// Creates the contracts and loads their state from the catalog.
    pub fn open(sections: &Sections, control: &Arc<Control>) -> Result<Self, ContractOpenError> {
        let make = |entry: &&'static ContractEntry| {
            let contract = (entry.open)(sections, Arc::clone(control))?;
            contract.begin()?;
            Ok(Made { entry, contract })
        };
        TABLE.iter().map(make).collect::<Result<Vec<_>, ContractOpenError>>().map(|all| Self(all.into()))
    }

    /// The contract that owns a path.
    pub fn find(&self, path: &str) -> Option<&Made> {
        self.0.iter().find(|made| (made.entry.takes)(path))
    }

    pub fn all(&self) -> &[Made] {
        &self.0
    }

    /// The contract that words the refusal of a path that no contract owns.
    pub fn first(&self) -> &dyn Contract {
        &*self.0.first().expect("the table has contracts").contract
    }

    /// The contracts' additions to the admin listener's answers, each with the contract's name.
    pub fn extras(&self) -> impl Iterator<Item = (&'static str, &dyn Extras)> {
        self.0.iter().filter_map(|made| Some((made.entry.tag.name(), made.contract.extras()?)))
    }
}

/// The credential of the `Authorization` header.
pub fn credential(headers: &HeaderMap) -> Credential<'_> {
    let value = headers.get(http::header::AUTHORIZATION);
    Credential::of_header(value.and_then(|value| value.to_str().ok()))
}

/// The bearer token of the `Authorization` header. Basic authentication is ignored, because it may be meant for a proxy
/// in between.
pub fn bearer(headers: &HeaderMap) -> Credential<'_> {
    match credential(headers) {
        Credential::Basic(_) => Credential::None,
        credential => credential,
    }
}

/// The `Origin` header.
pub fn origin(headers: &HeaderMap) -> Option<&str> {
    // A value that is not text matches no allowed origin.
    headers.get(http::header::ORIGIN).map(|origin| origin.to_str().unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    /// `POST /`, for tests in which the request does not matter.
    pub(super) fn head() -> RequestHead<'static> {
        static HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
        let named = AnswerContext::default();
        RequestHead { method: &Method::POST, path: "/", query: "", headers: &HEADERS, named }
    }
}
