//! The wire contracts. Each is an object that owns its section of the configuration, its state, its routes and its
//! words; what all share of the daemon is in [`shared`]. The transport and the log are the same for all.
//!
//! For records, a contract turns a request's head into what is asked for ([`Contract::parse`]) and an outcome into a
//! reply ([`Contract::accepted`]): no I/O, no clock. Its management calls ([`Contract::manage`]) work through
//! [`Control`] and on what the contract owns, and on nothing else.

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
use crate::mapping::Failure;
use crate::offsets::Numbered;
use crate::schema::Column;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reject::Reject;
use request_id::RequestId;
use route::{Access, Served};
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
    /// Behind the `?`, as it came.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// For contracts that [name their requests](Tag::names_requests).
    pub named: Named,
}

/// What answers may tell of a request beside what came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named {
    pub id: RequestId,
    /// Bytes that its body may have.
    pub body_max: u64,
}

impl<'a> RequestHead<'a> {
    pub fn of(parts: &'a http::request::Parts) -> Self {
        Self {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            headers: &parts.headers,
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

/// Finds where the records of an ingest request go, once it is known who sends them. Also checks that the caller may
/// send there. In memory: requests wait for it.
pub type FindTarget<'a> = Box<dyn Fn(&Caller) -> Result<Found, Reject> + Send + Sync + 'a>;

/// What an ingest request asks for.
pub struct Ingest<'a> {
    pub find: FindTarget<'a>,
    pub wait: Wait,
    pub kind: BodyKind,
    pub credential: Credential<'a>,
    pub bodies: Bodies,
    /// Bytes that the body may have on the wire, where the contract allows fewer than the configuration.
    pub body_max: Option<u64>,
    /// What the client calls this request, if the contract has a word of its own for `Idempotency-Key`.
    pub key: Option<&'a str>,
    /// Headers that are kept with the records.
    pub keeps: Vec<(String, String)>,
    /// The answer if the stream is set to drop what comes.
    pub dropped: fn(&RequestHead<'_>) -> Reply,
}

impl<'a> Ingest<'a> {
    /// NDJSON, answered after the append, with nothing special about it.
    pub fn new(
        credential: Credential<'a>,
        find: impl Fn(&Caller) -> Result<Found, Reject> + Send + Sync + 'a,
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
pub enum Target {
    /// A stream, and others that the same records go to.
    Streams(Arc<Stream>, Vec<Arc<Stream>>),
    /// To be made once there is a record for it.
    New(Box<NewStream>),
}

/// Where the records of a request go, and how they are taken out of its body, if they are wrapped.
pub struct Found {
    pub target: Target,
    pub open: Option<Open>,
}

/// A request whose body is a record for a receiver, or holds several.
pub struct Receive {
    pub receiver: Arc<Receiver>,
    pub wait: Wait,
    /// Headers, in lower case, that mappings do not see and frames do not keep.
    pub hides: &'static [&'static str],
    /// The refusal of a record that does not become a row of every export: labels of those, and why.
    pub unmapped: fn(&[(String, Failure)]) -> Reject,
}

/// What a contract makes of a request's head.
pub enum Parsed<'a> {
    /// Records follow in the body.
    Ingest(Ingest<'a>),
    /// The body is a record for a receiver.
    Receive(Receive),
    /// Answered by the contract itself.
    Answer(Reply),
    /// A browser asks what a page may send; these are the methods of the path.
    Preflight(Cow<'static, str>),
    /// To be answered by [`Contract::manage`], with the body.
    Manage(Manage<'a>),
    /// The same, and the body holds records for a receiver, whose limits hold.
    Export(Arc<Receiver>),
}

/// What is asked of a management call before its body is read.
#[derive(Debug)]
pub struct Manage<'a> {
    pub access: Access,
    pub credential: Credential<'a>,
}

/// A management call: the request with its body, decompressed.
pub struct Call<'a> {
    pub head: RequestHead<'a>,
    pub body: Bytes,
    /// Bytes that what is made of the body may take.
    pub decoded_max: u64,
    /// Decompresses a gzip file within the body, under that cap.
    pub gunzip: &'a dyn Fn(Bytes) -> Result<Bytes, Reject>,
    /// Who calls; nobody where the call is how one gets a token.
    pub caller: Caller,
    pub peer: IpAddr,
}

/// What a management call comes to.
pub enum Managed {
    Reply(Reply),
    /// The body brought records, which are appended before the answer.
    Append(Append),
}

/// Words the answer to records that a management call brought.
pub type Answer = Box<dyn FnOnce(&Accepted) -> Reply + Send>;

/// Where records that a management call brought go.
pub enum Destination {
    Stream(Arc<Stream>),
    /// Every export of a receiver. A record that does not become a row of each of them is left out, and told of in
    /// [`Accepted::refused`]; without any record left, the call is refused.
    Receiver(Receive),
}

/// Records that a management call found in its body.
pub struct Append {
    pub to: Destination,
    pub body: Bytes,
    pub kind: BodyKind,
    pub bodies: Bodies,
    pub wait: Wait,
    /// Called where it may block.
    pub reply: Answer,
}

/// What became of the records of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub lsn: u64,
    pub stored: u64,
    pub quarantined: u64,
    /// Those of the quarantined that are no records at all.
    pub invalid: u64,
    pub state: Durability,
    /// Labels of the exports they went to, if they came to a receiver.
    pub exports: Vec<String>,
    /// The receiver that they came to.
    pub receiver: Option<Arc<Receiver>>,
    /// Why records were left out, one for each.
    pub refused: Vec<String>,
    /// The offsets of the stored records, if the stream has any.
    pub numbered: Option<Numbered>,
}

/// How far the records had come when they were answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    Appended,
    Synced,
    /// Asked to wait for the sync, which did not end in time. They are accepted all the same.
    SyncPending,
    /// The objects that hold them.
    Published(Vec<String>),
    /// Asked to wait for the table, which took too long. They are synced.
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

/// Records as NDJSON out of a body of another form; `None` if it is not of that form.
pub type Transcribe = fn(&[u8]) -> Option<Vec<u8>>;

/// What a contract says of bodies with records, beside how they are divided.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bodies {
    /// A body without one good record is accepted, for quarantine, instead of refused.
    pub all_bad: bool,
    /// A body is one JSON object, and nothing else.
    pub one_object: bool,
    /// A stream takes bodies of one [`Payload`](crate::schema::Payload) only.
    pub one_payload: bool,
    /// Makes records of a body that has none but is of another form that the contract's clients send.
    pub transcribe: Option<Transcribe>,
    /// A body with a record that does not fit its stream is refused as a whole, under this name of the contract's.
    pub misfit: Option<&'static str>,
}

/// Takes the records out of a body in which they are wrapped: NDJSON, of records that may be stored.
pub type Open = Arc<dyn Fn(Bytes) -> Result<Bytes, Reject> + Send + Sync>;

/// Makes a contract from its section of the configuration.
pub type Make = fn(&Sections, Arc<Control>) -> Result<Arc<dyn Contract>, SectionError>;

/// A contract as the table has it: what is known of it before it is made.
pub struct Entry {
    /// What frames, limits and metrics call it.
    pub tag: batch::Tag,
    /// Its answers say which request they answer, see [`RequestHead::named`].
    pub names_requests: bool,
    /// Web pages may call it: its answers carry the headers that browsers ask for.
    pub is_for_pages: bool,
    /// The section of the configuration that it is made from, if it has one.
    pub section: Option<&'static str>,
    pub check: fn(&Sections) -> Result<(), SectionError>,
    /// What its clients call rights.
    pub words: &'static Words,
    /// Whether a request for this path is this contract's.
    pub takes: fn(&str) -> bool,
    /// The routes it serves, from the table that its calls are found in.
    pub served: fn() -> Vec<Served>,
    /// Its routes as `OpenAPI` has them, see [`openapi`].
    pub openapi: &'static str,
    pub open: Make,
}

/// Every contract, in the order in which they are asked whether a path is theirs. The first words the refusal of a path that
/// none owns.
pub static TABLE: &[&Entry] = &[
    &tinybird::ENTRY,
    &polaris::ENTRY,
    &amperity::ENTRY,
    &foundry::ENTRY,
    &keboola::buffer::ENTRY,
    &keboola::stream::ENTRY,
];

/// What the answer to a request tells besides.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub named: Named,
    /// What is left of the client's limit of requests, if records were asked about and there is a limit.
    pub standing: Option<Standing>,
}

/// How far a client is from a limit of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests allowed in a second, or in a minute if the contract counts so.
    pub limit: u32,
    /// How many of them are left,
    pub remaining: u32,
    /// and after how many seconds all of them are.
    pub reset_seconds: u32,
}

/// One wire contract.
pub trait Contract: Send + Sync {
    /// Reads what the contract keeps in the catalog. Called once, before there are requests.
    fn begin(&self) -> Result<(), CatalogError>;

    fn parse<'a>(&'a self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject>;

    /// Does what a management call asks for. Runs where it may block.
    fn manage(&self, call: &Call<'_>) -> Result<Managed, Reject>;

    /// The answer to records that were taken. `head` is the request's.
    fn accepted(&self, head: &RequestHead<'_>, accepted: &Accepted) -> Reply;

    /// The answer to a request that was refused.
    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply;

    /// Adds to an answer what the contract tells in all of them.
    fn finish(&self, reply: &mut Reply, told: &Told);

    /// What it adds to the admin listener's answers about streams, if anything.
    fn extras(&self) -> Option<&dyn Extras>;
}

/// What a contract adds to the admin listener's answers about streams.
pub trait Extras: Send + Sync {
    /// Ready code that sends a record to a stream. `base` is how clients reach the daemon, without a slash at its end.
    fn code(&self, stream: &Stream, base: &str) -> Option<Value>;

    /// Columns as the contract's own calls take them, under a name for it.
    fn schema(&self, columns: &[Column]) -> Option<(&'static str, Value)>;

    /// For a contract whose streams have ids of their own: the name of a new stream that people call `name`, and what of
    /// it goes into the stream's settings.
    fn new_stream(&self, name: &str) -> Option<(String, Map<String, Value>)>;
}

/// Whether the sections of the configuration can be used.
pub fn check(sections: &Sections) -> Result<(), SectionError> {
    TABLE.iter().try_for_each(|entry| (entry.check)(sections))
}

/// What the clients of all contracts call rights.
pub fn vocabulary() -> Vocabulary {
    Vocabulary::new(TABLE.iter().map(|entry| entry.words))
}

/// The routes of every contract.
pub fn routes() -> Vec<Served> {
    TABLE.iter().flat_map(|entry| (entry.served)()).collect()
}

/// Every contract of the [`TABLE`], made.
#[derive(Clone)]
pub struct Contracts(Arc<[Made]>);

/// A contract with its entry.
pub struct Made {
    pub entry: &'static Entry,
    pub contract: Arc<dyn Contract>,
}

/// Why contracts could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Section(#[from] SectionError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Contracts {
    /// Makes them, each with what it keeps in the catalog.
    pub fn open(sections: &Sections, control: &Arc<Control>) -> Result<Self, OpenError> {
        let make = |entry: &&'static Entry| {
            let contract = (entry.open)(sections, Arc::clone(control))?;
            contract.begin()?;
            Ok(Made { entry, contract })
        };
        TABLE.iter().map(make).collect::<Result<Vec<_>, OpenError>>().map(|all| Self(all.into()))
    }

    /// The contract that owns a path.
    pub fn find(&self, path: &str) -> Option<&Made> {
        self.0.iter().find(|made| (made.entry.takes)(path))
    }

    pub fn all(&self) -> &[Made] {
        &self.0
    }

    /// The one that words the refusal of a path that none owns.
    pub fn first(&self) -> &dyn Contract {
        &*self.0.first().expect("the table has contracts").contract
    }

    /// What contracts add to the admin listener's answers, each under its name.
    pub fn extras(&self) -> impl Iterator<Item = (&'static str, &dyn Extras)> {
        self.0.iter().filter_map(|made| Some((made.entry.tag.name(), made.contract.extras()?)))
    }
}

/// The credential of the `Authorization` header.
pub fn credential(headers: &HeaderMap) -> Credential<'_> {
    let value = headers.get(http::header::AUTHORIZATION);
    Credential::of_header(value.and_then(|value| value.to_str().ok()))
}

/// The same where only a bearer token counts: basic authentication is for others, such as a proxy on the way.
pub fn bearer(headers: &HeaderMap) -> Credential<'_> {
    match credential(headers) {
        Credential::Basic(_) => Credential::None,
        credential => credential,
    }
}

/// The `Origin` header.
pub fn origin(headers: &HeaderMap) -> Option<&str> {
    // One that is no text is nobody's.
    headers.get(http::header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    /// `POST /`, for what the request does not matter.
    pub(super) fn head() -> RequestHead<'static> {
        static HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
        let named = Named::default();
        RequestHead { method: &Method::POST, path: "/", query: "", headers: &HEADERS, named }
    }
}
