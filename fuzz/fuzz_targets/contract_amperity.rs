//! Requests with records in Amperity's contract: an accepted request names an id in the vendor's format; the stored
//! headers can be read back and match the answer; documents are decoded by the encoding in the head.
#![no_main]

use forebay::auth::user_and_password;
use forebay::batch::{BatchHead, Tag, StreamId};
use forebay::contracts::amperity::events::{EventsRequest, kept as kept_headers};
use forebay::contracts::amperity::{asked, reply, takes};
use forebay::contracts::{AnswerContext, Reply, RequestHead};
use forebay::contracts::request_id::RequestId;
use forebay::batch::BodyKind;
use forebay::formats::json::records;
use forebay::mapping::frames::{keep, kept};
use forebay::formats::xml::{XmlOptions, Known, transcribe};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 4] = ["/stream/v0/data/", "/prof/events/", "/api/v0/admin/api-keys/", "/"];
const IDS: [&str; 3] = ["", "is-AbCDefGH", "esm-2cnVk9ngm"];
/// The beginnings of content types.
const TYPES: [&str; 5] =
    ["", "application/json", "application/xml", "text/xml;charset=", "text/xml;x=\"charset="];

fn check(head: &RequestHead<'_>, ingest: &EventsRequest<'_>, body: &[u8]) {
    let id = ingest.stream.strip_prefix("is-").or_else(|| ingest.stream.strip_prefix("esm-"));
    assert!(id.is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{:?}", ingest.stream);
    assert!(!ingest.tenant.trim().is_empty());

    let request = keep(&kept_headers(head));
    let mut batch = BatchHead::new(StreamId(1), Tag::Amperity, ingest.kind);
    batch.request = Some(&request);
    let content_type = kept(&batch, "Content-Type").expect("records have a content type");
    assert_eq!(head.headers["content-type"], *content_type);
    let name = kept(&batch, "X-Request-Id").expect("every request has a name");
    for reply in [reply::accepted(head), reply::dropped(head)] {
        assert!(reply.status.is_success() && named(&reply) == name);
    }

    if ingest.kind == BodyKind::Xml {
        let about = XmlOptions { content_type: Some(&content_type), row_tag: None };
        let Ok(lines) = transcribe(body, about, &Known::default()) else { return };
        let verdict =
            records::check(&[lines.into()], BodyKind::Lines).expect("lines are never refused as a whole");
        assert!(verdict.good > 0 && verdict.bad == 0, "{verdict:?}");
    }
}

fn named(reply: &Reply) -> &str {
    let header = reply.headers.iter().find(|(name, _)| name == "x-request-id");
    header.expect("answers say the name of the request").1.to_str().expect("a name is visible ASCII")
}

fuzz_target!(|input: ([u8; 3], &str, [&[u8]; 3], &[u8])| {
    let ([path, id, kind], rest, [content_type, tenant, request_id], body) = input;
    let of = |list: &[&'static str], at: u8| list[usize::from(at) % list.len()];
    let Ok(uri) = [of(&PATHS, path), of(&IDS, id), rest].concat().parse::<http::Uri>() else { return };
    let content_type = [of(&TYPES, kind).as_bytes(), content_type].concat();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-length", &b"1"[..]),
        ("content-type", &content_type),
        (if kind < 128 { "x-amperity-tenant" } else { "amperity-tenant" }, tenant),
        ("x-request-id", request_id),
    ] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let head = RequestHead {
        method: &Method::POST,
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers: &headers,
        named: AnswerContext { id: RequestId::next(), body_max: 1 },
    };
    match asked(&head) {
        Ok(Some(ingest)) => check(&head, &ingest, body),
        Ok(None) => assert!(takes(head.path)),
        Err(reject) => {
            let reply = reply::rejected(&head, &reject);
            assert!(reply.status.is_client_error() && !named(&reply).is_empty(), "{reject:?}");
            assert!(reply.status == StatusCode::NOT_FOUND || takes(head.path), "{}", head.path);
            assert!(
                serde_json::from_slice::<serde_json::Value>(&reply.body).is_ok_and(|body| body.is_object())
            );
        }
    }
    if let Some((user, _)) = user_and_password(rest) {
        assert!(!user.contains(':'));
    }
});
