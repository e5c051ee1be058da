//! The wire contracts. For records, a dialect is a pure function from a request's head to what is asked for, and from
//! an outcome to a reply: no I/O, no time, no globals. The transport and the log are the same for all. The management
//! calls of a contract do their work through [`Control`], the same for all as well, and on nothing else.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod amperity;
pub mod foundry;
pub mod keboola;
mod oauth;
pub mod polaris;
pub mod reject;
pub mod request_id;
pub mod route;
pub mod shared;
pub mod tinybird;

use crate::auth::{Caller, Credential, Need};
use crate::batch;
use crate::contracts::shared::control::{CatalogError, Control, IfExists, NewStream, Receiver, Stream};
use crate::formats::json::BodyKind;
use crate::http::limits::Standing;
use crate::mapping::Failure;
use crate::offsets::Numbered;
use crate::schema::{Policy, StreamSettings};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reject::{Kind, Reject};
use request_id::RequestId;
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
    /// For dialects that [name their requests](Dialect::names_requests).
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

/// What an ingest request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest<'a> {
    /// Name or id of the stream.
    pub stream: Cow<'a, str>,
    /// The project it is looked for in, where the contract has projects.
    pub project: Option<Cow<'a, str>>,
    /// The name may be that of a connection, whose events go to other streams.
    pub may_be_connection: bool,
    pub wait: Wait,
    pub kind: BodyKind,
    pub credential: Credential<'a>,
}

/// What a dialect makes of a request's head.
#[derive(Debug)]
pub enum Parsed<'a> {
    /// Records follow in the body.
    Ingest(Ingest<'a>),
    /// The body is a record for a receiver: see [`Dialect::receiver`].
    Receive(Wait),
    /// Answered by the dialect itself.
    Answer(Reply),
    /// A browser asks what a page may send; these are the methods of the path.
    Preflight(Cow<'static, str>),
    /// To be answered by [`Dialect::manage`], with the body.
    Manage(Manage<'a>),
    /// The same, and the body holds records for a receiver, whose limits hold: see [`Dialect::receiver`].
    Export,
}

/// What is asked of a management call before its body is read.
#[derive(Debug)]
pub struct Manage<'a> {
    /// The right it takes at least; `None` if the call itself is how one gets a token.
    pub need: Option<Need<'a>>,
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
pub type Answer = Box<dyn FnOnce(&Control, &Accepted) -> Reply + Send>;

/// Where records that a management call brought go.
pub enum Destination {
    Stream(Arc<Stream>),
    /// Every export of a receiver. A record that does not become a row of each of them is left out, and told of in
    /// [`Accepted::refused`]; without any record left, the call is refused.
    Receiver(Arc<Receiver>),
}

/// Records that a management call found in its body.
pub struct Append {
    pub to: Destination,
    pub body: Bytes,
    pub kind: BodyKind,
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

/// A stream that a request asks for, and that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTarget {
    pub name: String,
    pub project: Option<String>,
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

/// Where the records of a request go, in a contract that has other names for streams than theirs.
pub struct Wrapped {
    /// Or what is to be made.
    pub stream: Result<Arc<Stream>, NewTarget>,
    pub open: Open,
}

pub trait Dialect: Send + Sync {
    fn id(&self) -> batch::Dialect;

    fn bodies(&self) -> Bodies {
        Bodies::default()
    }

    /// Called once, before there are requests.
    fn begin(&self, control: &Control) -> Result<(), CatalogError> {
        let _ = control;
        Ok(())
    }

    /// Whether the first event makes a stream.
    fn makes_stream(&self, control: &Control, head: &RequestHead<'_>, caller: &Caller) -> bool {
        let _ = head;
        control.auth.is_open() || caller.may(Need::Create)
    }

    /// Bytes that the body of this request may have on the wire; `configured` are those of the contract.
    fn body_max(&self, control: &Control, head: &RequestHead<'_>, configured: u64) -> u64 {
        let _ = (control, head);
        configured
    }

    /// What the client calls this request, if the contract has a word of its own for `Idempotency-Key`.
    fn key<'h>(&self, control: &Control, head: &RequestHead<'h>) -> Option<&'h str> {
        let _ = (control, head);
        None
    }

    /// Headers that are kept with the records.
    fn keeps(&self, head: &RequestHead<'_>) -> Vec<(String, String)> {
        let _ = head;
        Vec::new()
    }

    /// The stream that a first event makes.
    fn new_stream(&self, control: &Control, ingest: &NewTarget) -> NewStream {
        let _ = control;
        NewStream {
            name: ingest.name.clone(),
            policy: Policy::Evolve,
            columns: Vec::new(),
            settings: StreamSettings::default(),
            if_exists: IfExists::Return,
        }
    }

    /// Where records go, in a contract that has other names for streams than theirs; `None` in the others. Also looks
    /// whether the caller may send there. In memory: requests wait for it.
    fn target(
        &self,
        control: &Control,
        head: &RequestHead<'_>,
        caller: &Caller,
    ) -> Option<Result<Wrapped, Reject>> {
        let _ = (control, head, caller);
        None
    }

    /// What it calls a stream, where one does not exist.
    fn noun(&self) -> &'static str;

    /// Whether a request for this path is this dialect's.
    fn takes(&self, path: &str) -> bool;

    /// The routes it serves, as method and template.
    fn routes(&self) -> Vec<(&'static str, &'static str)>;

    /// Whether its answers say which request they are of, see [`RequestHead::named`].
    fn names_requests(&self) -> bool {
        false
    }

    /// Says it in an answer.
    fn name_request(&self, reply: &mut Reply, named: &Named) {
        let _ = (reply, named);
    }

    /// Whether web pages may call it: its answers carry the headers that browsers ask for.
    fn is_for_pages(&self) -> bool {
        false
    }

    fn parse<'a>(&self, head: RequestHead<'a>) -> Result<Parsed<'a>, Reject>;

    /// The receiver of a request that [`Dialect::parse`] found to be for one: whether it knows the secret, and whatever
    /// else can be told before the body is read.
    fn receiver(&self, control: &Control, head: &RequestHead<'_>) -> Result<Arc<Receiver>, Reject> {
        let _ = control;
        Err(Reject::new(Kind::NoSuchRoute, format!("no such route: {}", head.path)))
    }

    /// How long the answer waits, where that is a matter of the receiver; `asked` is what [`Dialect::parse`] said.
    fn waits(&self, receiver: &Receiver, asked: Wait) -> Wait {
        let _ = receiver;
        asked
    }

    /// The refusal of a record that does not become a row of every export: labels of those, and why.
    fn unmapped(&self, failures: &[(String, Failure)]) -> Reject {
        let reasons: Vec<String> =
            failures.iter().map(|(label, failure)| format!("{label}: {failure}")).collect();
        let kind = match failures {
            [(_, Failure::Unavailable(_)), ..] => Kind::Unavailable,
            [(_, Failure::TooLarge), ..] => Kind::TooLarge,
            _ => Kind::Malformed,
        };
        Reject::new(kind, reasons.join("; "))
    }

    /// Whether mappings do not see a header, and frames do not keep it. In lower case.
    fn hides_header(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// The answer to records that were taken. `head` is the request's.
    fn accepted(&self, head: &RequestHead<'_>, accepted: &Accepted) -> Reply;

    /// The answer to records that were dropped, as the stream is set to.
    fn dropped(&self, head: &RequestHead<'_>) -> Reply {
        let _ = head;
        Reply { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: Bytes::new() }
    }

    /// The answer to a request that was refused.
    fn rejected(&self, head: &RequestHead<'_>, reject: &Reject) -> Reply;

    /// Tells in an answer to records what is left of the client's limit of requests. Nothing is told of none.
    fn tell(&self, reply: &mut Reply, standing: &Standing) {
        let _ = (reply, standing);
    }

    /// Does what a management call asks for. Runs where it may block.
    fn manage(&self, control: &Control, call: &Call<'_>) -> Result<Managed, Reject> {
        let _ = control;
        Err(Reject::new(Kind::NoSuchRoute, format!("no such route: {}", call.head.path)))
    }
}

/// Every dialect.
pub static DIALECTS: [&dyn Dialect; 6] = [
    &tinybird::Tinybird,
    &polaris::Polaris,
    &amperity::Amperity,
    &foundry::Foundry,
    &keboola::Keboola,
    &keboola::stream::KeboolaStream,
];

/// Lets every contract read what it keeps in the catalog, before there are requests.
pub fn begin(control: &Control) -> Result<(), CatalogError> {
    DIALECTS.iter().try_for_each(|dialect| dialect.begin(control))
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
