//! Parses the head of a request with records.

use super::tenant;
use crate::batch::BodyKind;
use crate::contracts::RequestHead;
use crate::contracts::reject::{Reject, RejectKind};
use http::{HeaderMap, header};
use std::borrow::Cow;

/// The path prefix of the newer API.
const NEWER: &str = "/prof/";
/// The number of characters of a stream id after its prefix.
const ID_CHARS: std::ops::RangeInclusive<usize> = 6..=32;
/// The longest `X-Request-Id` that is used, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 256;
/// The number of characters of a generated request id.
const REQUEST_ID_CHARS: usize = 16;

pub(super) fn is_newer(path: &str) -> bool {
    path.starts_with(NEWER)
}

/// What a request with records asks for.
#[derive(Debug)]
pub struct EventsRequest<'a> {
    pub stream: Cow<'a, str>,
    pub tenant: &'a str,
    pub kind: BodyKind,
}

pub(super) fn asked<'a>(head: &RequestHead<'a>, stream: Cow<'a, str>) -> Result<EventsRequest<'a>, Reject> {
    let newer = is_newer(head.path);
    if !is_id(&stream) {
        return Err(Reject::malformed(format!("Malformed stream id: {stream}")).close());
    }
    let tenant = tenant(head)?;
    let kind = kind(head.headers, newer)?;
    if !head.headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Reject::new(RejectKind::LengthRequired, "Missing content-length header").close());
    }
    Ok(EventsRequest { stream, tenant, kind })
}

/// `is-AbCDefGH`, or the `esm-…` of event streams.
pub(super) fn is_id(id: &str) -> bool {
    let rest = id.strip_prefix("is-").or_else(|| id.strip_prefix("esm-"));
    rest.is_some_and(|rest| ID_CHARS.contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn kind(headers: &HeaderMap, newer: bool) -> Result<BodyKind, Reject> {
    let given = content_type(headers).unwrap_or("");
    let essence = given.split_once(';').map_or(given, |(essence, _)| essence).trim().to_ascii_lowercase();
    match &*essence {
        "application/json" => Ok(BodyKind::Document),
        "application/xml" | "text/xml" if !newer => Ok(BodyKind::Xml),
        _ => {
            let takes =
                if newer { "application/json" } else { "application/json, application/xml or text/xml" };
            let message = format!("Unsupported content type {essence:?}; use {takes}");
            Err(Reject::new(RejectKind::UnsupportedType, message).close())
        }
    }
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// The client's request id. An id that is not visible ASCII is ignored.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let visible = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    visible.then_some(id)
}

/// The id of the request in answers and in the stored headers.
pub(super) fn name(head: &RequestHead<'_>) -> String {
    request_id(head.headers).map_or_else(|| head.named.id.letters(REQUEST_ID_CHARS), str::to_owned)
}

/// Headers that are stored with the records.
pub fn kept(head: &RequestHead<'_>) -> Vec<(String, String)> {
    let content_type = content_type(head.headers).map(str::to_owned);
    let content_type = content_type.map(|value| ("Content-Type".to_owned(), value));
    content_type.into_iter().chain([("X-Request-Id".to_owned(), name(head))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::AnswerContext;
    use http::{HeaderName, HeaderValue, Method};

    fn headers(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in text.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn parsed(path: &str, id: &str, lines: &str) -> Result<(BodyKind, String), RejectKind> {
        let headers = headers(lines);
        let head = RequestHead {
            method: &Method::POST,
            path,
            query: "",
            headers: &headers,
            named: AnswerContext::default(),
        };
        let asked = asked(&head, id.to_owned().into()).map_err(|reject| reject.kind)?;
        Ok((asked.kind, asked.tenant.to_owned()))
    }

    #[test]
    fn the_head_says_what_the_body_is() {
        const V0: &str = "/stream/v0/data/x";
        const PROF: &str = "/prof/events/x";
        const JSON: &str = "content-type:application/json|content-length:2|x-amperity-tenant:acme";
        let json = Ok((BodyKind::Document, "acme".to_owned()));
        let xml = Ok((BodyKind::Xml, "acme".to_owned()));
        for (path, id, headers, expected) in [
            (V0, "is-AbCDefGH", JSON, json.clone()),
            (V0, "is-2hzqsgX1E", &JSON.replace("x-amp", "amp"), json.clone()),
            (PROF, "esm-2cnVk9ngm", &JSON.replace("/json", "/JSON; charset=utf-8"), json),
            (V0, "is-AbCDefGH", &JSON.replace("/json", "/xml"), xml.clone()),
            (V0, "is-AbCDefGH", &JSON.replace("application/json", "text/xml;charset=latin1"), xml),
            (PROF, "is-AbCDefGH", &JSON.replace("/json", "/xml"), Err(RejectKind::UnsupportedType)),
            (V0, "is-AbCDefGH", &JSON.replace("/json", "/x-ndjson"), Err(RejectKind::UnsupportedType)),
            (V0, "is-AbCDefGH", "content-length:2|x-amperity-tenant:a", Err(RejectKind::UnsupportedType)),
            (V0, "is-AbCDefGH", &JSON.replace("content-length", "x"), Err(RejectKind::LengthRequired)),
            (V0, "is-AbCDefGH", &JSON.replace("x-amperity-tenant", "x"), Err(RejectKind::Malformed)),
            (V0, "is-AbC_efGH", JSON, Err(RejectKind::Malformed)),
            (V0, "is-AbCDe", JSON, Err(RejectKind::Malformed)),
            (V0, "AbCDefGH", JSON, Err(RejectKind::Malformed)),
        ] {
            assert_eq!(parsed(path, id, headers), expected, "{id} {headers}");
        }
    }
}
