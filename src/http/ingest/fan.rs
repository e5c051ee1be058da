//! Requests to receivers: each record becomes a row of every export, or the request is refused and nothing is stored.
//! The request is one frame, however many exports it has.

use super::admit::Admission;
use super::received::{BodyVerdict, Checked, Fan, Received};
use super::store::{self, BatchOrigin};
use super::{Arrival, IngestHandler};
use crate::auth::Caller;
use crate::batch::BodyKind;
use crate::batch::{REQUEST_BYTES_MAX, Target};
use crate::catalog::Stream;
use crate::clock::Micros;
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::receivers::Receiver;
use crate::contracts::{Made, Receive, Reply, Standing};
use crate::mapping::frames;
use crate::mapping::{self, Evaluated, Mapping, MappingFailure, MappingRequest};
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;

/// The origin of records.
pub(super) struct Come<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) ip: IpAddr,
    pub(super) received_at: Micros,
}

/// The kind of records in a body for a receiver.
pub(super) struct ReceiverRecords {
    pub(super) kind: BodyKind,
    /// If set, records that fail to map are left out. Otherwise the first of them refuses the request.
    pub(super) partly: bool,
}

/// The current state of an export.
struct LiveExport {
    label: String,
    stream: Arc<Stream>,
    mapping: Arc<Mapping>,
}

impl IngestHandler {
    pub(super) async fn take_for_receiver(
        &self,
        made: &Made,
        arrival: &Arrival,
        incoming: Incoming,
        receive: Receive,
        standing: &mut Option<Standing>,
    ) -> Result<Reply, Reject> {
        let (head, ip) = (&arrival.head, arrival.peer.ip());
        let caller = Caller::nobody();
        let admission = Admission::new(made.entry, &caller, arrival, None);
        self.admit_to(&admission, &receive.receiver, standing)?;
        let key = store::key_of(&head.headers)?;
        let mut body = self.receive(head, incoming, &admission).await?;
        if body.is_quick() {
            body.decode()?;
        } else {
            let decoded = tokio::task::spawn_blocking(move || body.decode().map(|()| body)).await;
            body = decoded.unwrap_or_else(|error| Err(Reject::internal(&error)))?;
        }
        let come = Come { headers: &head.headers, ip, received_at: self.clock.now() };
        let records = ReceiverRecords { kind: BodyKind::Opaque, partly: false };
        let (stream, body) = self.fan_out(&receive, body, records, &come).await?;
        let origin = BatchOrigin { stream: &stream, contract: made.entry.tag, client_ip: come.ip, key };
        let outcome = self.store(&origin, &body, receive.wait).await?;
        Ok(outcome.mark(made.contract.accepted(&arrival.head(), &outcome.accepted)))
    }

    /// Counts a request against the rate limits of its receiver.
    pub(super) fn admit_to(
        &self,
        admission: &Admission<'_>,
        receiver: &Receiver,
        standing: &mut Option<Standing>,
    ) -> Result<(), Reject> {
        let own = self.catalog.streams().get(receiver.stream).cloned();
        self.admit(admission, own.as_deref(), standing)
    }

    /// Maps every record of a body for every export of the receiver, and builds the content of the frame.
    pub(super) async fn fan_out(
        &self,
        receive: &Receive,
        body: Received,
        records: ReceiverRecords,
        come: &Come<'_>,
    ) -> Result<(Arc<Stream>, Checked), Reject> {
        let (stream, exports) = self.live(&receive.receiver)?;
        let headers = come.headers.iter().filter(|(name, _)| !receive.hides.contains(&name.as_str()));
        let headers = mapping::headers(headers.map(|(name, value)| (name.as_str(), value.as_bytes())));
        let kept = keep(&headers)?;
        let mut whole = match &body.pieces[..] {
            [one] => one.clone(),
            pieces => Bytes::from(pieces.concat()),
        };
        let from =
            frames::FrameContext { headers, ip: come.ip, received_at: come.received_at, kind: records.kind };
        let found = frames::records(&whole, records.kind);
        let requests: Vec<MappingRequest<'_>> = found.iter().map(|record| from.request(record)).collect();
        let mappings: Vec<Arc<Mapping>> = exports.iter().map(|export| Arc::clone(&export.mapping)).collect();
        let outcomes = self.control.evaluator.evaluate(&mappings, &requests).await;
        let failures: Vec<Vec<(String, MappingFailure)>> =
            (0..found.len()).map(|record| failures(&exports, &outcomes, record)).collect();
        let bad = failures.iter().filter(|failures| !failures.is_empty()).count();
        let mut refused = Vec::new();
        if bad > 0 {
            if !records.partly || bad == found.len() {
                return Err((receive.unmapped)(worst(&failures)));
            }
            let good = found.iter().zip(&failures).filter(|(_, failures)| failures.is_empty());
            let mut left = good.map(|(record, _)| *record).collect::<Vec<_>>().join(&b'\n');
            left.push(b'\n');
            let why = failures.iter().filter_map(|failures| failures.first());
            refused = why.map(|(label, failure)| format!("{label}: {failure}")).collect();
            whole = Bytes::from(left);
        }
        let good = (failures.len() - bad) as u64;
        let results: Vec<Vec<Evaluated>> = outcomes
            .into_iter()
            .map(|outcomes| {
                let good = outcomes.into_iter().zip(&failures).filter(|(_, failures)| failures.is_empty());
                good.filter_map(|(outcome, _)| outcome.ok()).collect()
            })
            .collect();
        let is_evaluated = exports.iter().any(|export| export.mapping.is_evaluated());
        let results = if is_evaluated { frames::write_results(&results) } else { Vec::new() };
        let count = u32::try_from(good).unwrap_or(u32::MAX);
        let target = |export: &LiveExport| Target {
            stream: export.stream.id,
            version: Some(export.stream.schema.version),
            good: count,
            bad: 0,
        };
        let fan = Fan {
            targets: exports.iter().map(target).collect(),
            request: Some(kept),
            results: Bytes::from(results),
            exports: exports.iter().map(|export| export.label.clone()).collect(),
            receiver: Some(Arc::clone(&receive.receiver)),
            refused,
        };
        let (version, partitions) = (Some(stream.schema.version), Vec::new());
        let verdict = BodyVerdict { good, bad: 0, objects: good, first_bad: None, version, partitions };
        let (pieces, kind, received_at) = (vec![whole], records.kind, come.received_at);
        let checked = Checked { pieces, kind, verdict, received_at, fan, _in_flight: body.in_flight };
        Ok((stream, checked))
    }

    /// The receiver's own stream and its exports in their current state.
    fn live(&self, receiver: &Receiver) -> Result<(Arc<Stream>, Vec<LiveExport>), Reject> {
        let streams = self.catalog.streams();
        let find = |id| streams.get(id).filter(|stream| stream.deleted_at.is_none()).cloned();
        // The receiver was deleted after the request was routed.
        let gone = || Reject::new(RejectKind::NoSuchStream, "the receiver does not exist");
        let own = find(receiver.stream).ok_or_else(gone)?;
        let exports = receiver.exports.iter().filter_map(|export| {
            let stream = find(export.stream)?;
            let mapping = stream.settings.mapping.clone()?;
            Some(LiveExport { label: export.label.clone(), stream, mapping })
        });
        Ok((own, exports.collect()))
    }
}

/// The request headers as a frame stores them.
pub(super) fn keep(headers: &[(String, String)]) -> Result<String, Reject> {
    let kept = frames::keep(headers);
    if kept.len() > REQUEST_BYTES_MAX {
        return Err(Reject::new(RejectKind::TooLarge, "the request headers are too large to be stored"));
    }
    Ok(kept)
}

/// The failures of the record that most deserves a retry: one that failed because the mapping was unavailable, before
/// one whose mapping was stopped, before any other. Of several, the first.
fn worst(failures: &[Vec<(String, MappingFailure)>]) -> &[(String, MappingFailure)] {
    let severity = |failures: &&Vec<(String, MappingFailure)>| {
        let of = |failure: &MappingFailure| match failure {
            MappingFailure::Unavailable(_) => 3,
            MappingFailure::Stopped { .. } => 2,
            _ => 1,
        };
        failures.iter().map(|(_, failure)| of(failure)).max().unwrap_or(0)
    };
    failures.iter().rev().max_by_key(severity).map_or(&[], Vec::as_slice)
}

/// The exports for which a record failed to map, with the reasons.
fn failures(
    exports: &[LiveExport],
    outcomes: &[mapping::Outcomes],
    record: usize,
) -> Vec<(String, MappingFailure)> {
    let of_exports = exports.iter().zip(outcomes);
    let failed = of_exports.filter_map(|(export, outcomes)| {
        let failure = outcomes.get(record)?.as_ref().err()?;
        Some((export.label.clone(), failure.clone()))
    });
    failed.collect()
}
