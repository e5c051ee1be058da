//! `POST …/events/…`: newline-delimited JSON, answered with 200 and nothing.
//!
//! The vendor's answer says no more than that the events have come. Here it says that they survive power loss: nothing
//! else is told of them, so the answer is what a client goes by when it forgets them.

use super::form;
use crate::batch::BodyKind;
use crate::contracts::{Accepted, Bodies, Durability, Ingest, Reply, Wait};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

static RECEIPT: HeaderName = HeaderName::from_static("forebay-receipt");
static DURABLE: HeaderName = HeaderName::from_static("forebay-durable");

/// What a request asks for. Its content type says nothing: clients of this contract name wrong ones.
pub(super) fn ingest(ingest: Ingest<'_>) -> Ingest<'_> {
    let bodies = Bodies { all_bad: true, transcribe: Some(form::event), ..Bodies::default() };
    Ingest { wait: Wait::Sync, kind: BodyKind::Lines, bodies, ..ingest }
}

pub(super) fn accepted(accepted: &Accepted) -> Reply {
    let mut headers = vec![(RECEIPT.clone(), HeaderValue::from(accepted.lsn))];
    let status = if accepted.state == Durability::SyncPending {
        headers.push((DURABLE.clone(), HeaderValue::from_static("false")));
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Reply { status, headers, body: Bytes::new() }
}
