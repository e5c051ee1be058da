//! `POST …/events/…`: newline-delimited JSON, answered with 200 and no body.
//!
//! The vendor's answer only confirms that the events arrived. Here it also means that they survive power loss: clients
//! get no other confirmation, so the answer is their signal to discard the events.

use super::form;
use crate::batch::BodyKind;
use crate::contracts::{Accepted, Bodies, Durability, Ingest, Reply, Wait};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

static RECEIPT: HeaderName = HeaderName::from_static("forebay-receipt");
static DURABLE: HeaderName = HeaderName::from_static("forebay-durable");

/// Completes the settings of a request. The content type is ignored, because clients of this contract send wrong ones.
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
