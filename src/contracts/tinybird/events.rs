//! Tinybird's Events API: `POST /v0/events?name=<data source>`. Forebay's own API is the same, plus `wait=table`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{JSON, Tinybird, credential};
use crate::auth::{Caller, Credential, Need};
use crate::batch::BodyKind;
use crate::contracts::reject::Reject;
use crate::contracts::shared::target::{StreamRef, evolving};
use crate::contracts::{Accepted, Durability, Ingest, Reply, RequestHead, Wait};
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::borrow::Cow;

pub(super) const PATH: &str = "/v0/events";
/// The log sequence number, for `GET /admin/v1/receipts/<lsn>`, which says where the rows are.
static RECEIPT: HeaderName = HeaderName::from_static("forebay-receipt");
static DURABLE: HeaderName = HeaderName::from_static("forebay-durable");
static PUBLISHED: HeaderName = HeaderName::from_static("forebay-published");

/// Returns whether the path belongs to the Events API.
pub(super) fn is_path(path: &str) -> bool {
    path == PATH || path.strip_prefix(PATH) == Some("/")
}

/// What the head of a request asks for.
#[derive(Debug)]
struct EventsQuery<'a> {
    /// Name or id.
    stream: Cow<'a, str>,
    wait: Wait,
    kind: BodyKind,
    credential: Credential<'a>,
}

pub(super) fn ingest<'a>(tinybird: &'a Tinybird, head: &RequestHead<'a>) -> Result<Ingest<'a>, Reject> {
    let EventsQuery { stream, wait, kind, credential } = asked(head)?;
    let control = &*tinybird.control;
    let find = move |caller: &Caller| {
        let named = StreamRef { noun: "Data Source", name: &stream, project: None };
        let may_make = || control.auth.is_open() || caller.may(Need::Create);
        // The contract has no projects: everyone sees the new stream, no matter who created it.
        named.find(control, caller, |name, _| may_make().then(|| evolving(name, None)))
    };
    Ok(Ingest { wait, kind, ..Ingest::new(credential, find) })
}

fn asked<'a>(head: &RequestHead<'a>) -> Result<EventsQuery<'a>, Reject> {
    let mut name: Option<Cow<'a, str>> = None;
    let mut wait = Wait::Append;
    let mut kind = BodyKind::Lines;
    let mut token = None;
    // Unknown parameters are ignored, because clients add their own.
    for (key, value) in form_urlencoded::parse(head.query.as_bytes()) {
        match &*key {
            "name" if name.is_some() => {
                return Err(Reject::malformed("The 'name' query parameter is given more than once"));
            }
            "name" => name = Some(value),
            "wait" => wait = wait_of(&value),
            "format" => {
                kind = match &*value {
                    "ndjson" => BodyKind::Lines,
                    "json" => BodyKind::Document,
                    _ => {
                        return Err(Reject::malformed(
                            "The 'format' query parameter must be 'ndjson' or 'json'",
                        ));
                    }
                }
            }
            "token" => token = Some(value),
            _ => {}
        }
    }
    let stream = name.filter(|name| !name.is_empty());
    let stream = stream.ok_or_else(|| Reject::malformed("The 'name' query parameter is required"))?;
    Ok(EventsQuery { stream, wait, kind, credential: credential(head, token) })
}

/// The answer of the contract to accepted records.
pub(super) fn accepted(accepted: &Accepted) -> Reply {
    let Accepted { lsn, stored, quarantined, state, .. } = accepted;
    let mut body = format!("{{\"successful_rows\":{stored},\"quarantined_rows\":{quarantined}");
    if let Durability::Published(files) = state {
        body.push_str(",\"files\":");
        body.push_str(&serde_json::Value::from(files.clone()).to_string());
    }
    body.push('}');
    let mut headers = Vec::with_capacity(3);
    headers.push((header::CONTENT_TYPE, JSON.clone()));
    headers.push((RECEIPT.clone(), HeaderValue::from(*lsn)));
    let status = match state {
        Durability::Appended => StatusCode::ACCEPTED,
        Durability::Synced | Durability::Published(_) => StatusCode::OK,
        Durability::SyncPending => {
            headers.push((DURABLE.clone(), HeaderValue::from_static("false")));
            StatusCode::ACCEPTED
        }
        Durability::PublishPending => {
            headers.push((PUBLISHED.clone(), HeaderValue::from_static("false")));
            StatusCode::ACCEPTED
        }
    };
    Reply { status, headers, body: body.into() }
}

fn wait_of(value: &str) -> Wait {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "" => Wait::Sync,
        "table" => Wait::Table,
        _ => Wait::Append,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::reject::RejectKind;
    use crate::contracts::tests::head;
    use http::HeaderMap;

    #[test]
    fn parameters() {
        let asked = |query| asked(&RequestHead { query, ..head() });
        let all = asked("name=ev&wait=true&from=cli&cli_version=5").unwrap();
        assert_eq!((&*all.stream, all.wait, all.kind), ("ev", Wait::Sync, BodyKind::Lines));
        for (query, wait) in [
            ("name=e", Wait::Append),
            ("name=e&wait=false", Wait::Append),
            ("name=e&wait", Wait::Sync),
            ("name=e&wait=TRUE", Wait::Sync),
            ("name=e&wait=1", Wait::Sync),
            ("name=e&wait=table", Wait::Table),
            ("name=e&wait=yes", Wait::Append),
        ] {
            assert_eq!(asked(query).unwrap().wait, wait, "{query}");
        }
        assert_eq!(asked("name=e&format=json").unwrap().kind, BodyKind::Document);
        for bad in ["", "name=", "nam=e", "name=a&name=b", "name=a&format=csv"] {
            assert_eq!(asked(bad).unwrap_err().kind, RejectKind::Malformed, "{bad}");
        }
    }

    #[test]
    fn the_header_token_wins_over_the_query() {
        let check = |query, header: Option<&str>, expected| {
            let authorization = header.map(|value| (header::AUTHORIZATION, value.parse().unwrap()));
            let headers: HeaderMap = authorization.into_iter().collect();
            let asked = asked(&RequestHead { query, headers: &headers, ..head() }).unwrap();
            assert_eq!(asked.credential, expected);
        };
        check("name=e", None, Credential::None);
        check("name=e&token=q", None, Credential::Bearer("q".into()));
        check("name=e&token=q", Some("bearer h"), Credential::Bearer("h".into()));
        check("name=e", Some("Basic abc"), Credential::None);
        check("name=e&token=q", Some("Basic abc"), Credential::Bearer("q".into()));
    }

    #[test]
    fn replies_have_the_documented_shape() {
        let accepted = |state| {
            super::accepted(&Accepted {
                lsn: 7,
                stored: 2,
                quarantined: 1,
                invalid: 1,
                state,
                numbered: None,
                exports: Vec::new(),
                receiver: None,
                refused: Vec::new(),
            })
        };
        let reply = accepted(Durability::Appended);
        assert_eq!(
            (reply.status.as_u16(), &reply.body[..]),
            (202, &br#"{"successful_rows":2,"quarantined_rows":1}"#[..])
        );
        assert_eq!(accepted(Durability::Synced).status.as_u16(), 200);
        let reply = accepted(Durability::Published(vec!["a/b.parquet".to_owned()]));
        assert!(reply.body.ends_with(br#""files":["a/b.parquet"]}"#), "{:?}", reply.body);
        let pending = accepted(Durability::SyncPending);
        assert!(pending.status.as_u16() == 202 && pending.headers.iter().any(|(name, _)| *name == DURABLE));
    }
}
