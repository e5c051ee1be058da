//! Frames as mappings see them: what a receiver's frame stores in addition to the body, and the rows made from it.
//! The accept path writes it; the compactor and the preview read it.

use crate::batch::{Batch, BatchHead, BodyKind, StreamId};
use crate::clock::Micros;
use crate::formats::json;
use crate::mapping::{Evaluated, Evaluator, Mapping, MappingFailure, MappingRequest, RowId, row};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The parts of a request that a frame keeps, as JSON.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct StoredRequest {
    headers: BTreeMap<String, String>,
}

/// The headers of a request in the form that its frame stores.
pub fn keep(headers: &[(String, String)]) -> String {
    let kept = StoredRequest { headers: headers.iter().cloned().collect() };
    json::text(&kept)
}

/// The headers that a frame keeps. Only [`keep`] writes them, so what cannot be read is a fault of ours: it is logged,
/// and the records, which were accepted, are used without headers.
fn headers(head: &BatchHead<'_>) -> BTreeMap<String, String> {
    match head.request.map(serde_json::from_str::<StoredRequest>) {
        // A frame of a stream without a receiver keeps none.
        None => BTreeMap::new(),
        Some(Ok(kept)) => kept.headers,
        Some(Err(error)) => {
            tracing::error!(stream = %head.stream, %error, "cannot read the headers that a log frame keeps, using its records without them");
            BTreeMap::new()
        }
    }
}

/// A header of the request that the frame keeps.
pub fn kept(head: &BatchHead<'_>, name: &str) -> Option<String> {
    headers(head).remove(name)
}

/// The records of a body. A body of any bytes is itself the only record.
pub fn records(body: &[u8], kind: BodyKind) -> Vec<&[u8]> {
    match kind {
        BodyKind::Lines => {
            let lines = body.split(|byte| *byte == b'\n');
            lines
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
                .filter(|line| !line.is_empty())
                .collect()
        }
        BodyKind::Document | BodyKind::Xml | BodyKind::Opaque => vec![body],
    }
}

/// What a mapping may use of a frame, for all its records alike.
#[derive(Debug)]
pub struct FrameContext {
    pub headers: Vec<(String, String)>,
    pub ip: IpAddr,
    pub received_at: Micros,
    /// The kind of the records, used if the headers do not determine it.
    pub kind: BodyKind,
}

impl FrameContext {
    pub fn from_head(head: &BatchHead<'_>, received_at: Micros) -> Self {
        let ip = head.client_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Self { headers: headers(head).into_iter().collect(), ip, received_at, kind: head.kind }
    }

    pub fn request<'a>(&'a self, body: &'a [u8]) -> MappingRequest<'a> {
        let named = self.headers.iter().find(|(name, _)| name == "Content-Type");
        let content_type = match self.kind {
            BodyKind::Lines | BodyKind::Document => Some("application/json"),
            BodyKind::Xml | BodyKind::Opaque => named.map(|(_, value)| value.as_str()),
        };
        let (ip, received_at) = (self.ip, self.received_at);
        MappingRequest { body, content_type, headers: &self.headers, ip, received_at }
    }
}

/// The lines of a frame's results: for each target, in order, one per record.
pub fn write_results(results: &[Vec<Evaluated>]) -> Vec<u8> {
    let mut text = Vec::new();
    for evaluated in results.iter().flatten() {
        text.extend(json::bytes(evaluated));
        text.push(b'\n');
    }
    text
}

/// The values evaluated for one target of a frame, one entry per record. `None` if the frame has none for it.
fn results(
    batch: &Batch<'_>,
    stream: StreamId,
    records: usize,
) -> Result<Option<Vec<Evaluated>>, serde_json::Error> {
    let target = batch.head.targets.iter().position(|target| target.stream == stream);
    let Some(skipped) = target.and_then(|target| target.checked_mul(records)) else { return Ok(None) };
    let lines = batch.results.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let own = lines.skip(skipped).take(records);
    let own: Vec<Evaluated> = own.map(serde_json::from_slice).collect::<Result<_, _>>()?;
    Ok((own.len() == records).then_some(own))
}

/// Makes rows of frames for one stream.
pub struct FrameMapper<'a> {
    pub stream: StreamId,
    pub mapping: &'a Arc<Mapping>,
    /// The log's identity, which keeps the rows of several daemons distinct.
    pub log: [u8; 16],
    /// Needed for frames that do not name the stream, or that name another version of its mapping. Without it,
    /// their records are skipped.
    pub evaluator: Option<&'a Evaluator>,
}

impl FrameMapper<'_> {
    /// Passes every record on with the values of its columns, or the reason why it has none. `as_stored`: the
    /// values evaluated before the answer apply. `number`: the number of the first row.
    ///
    /// # Errors
    /// A temporary failure: then no record was passed on, since the records themselves are not at fault.
    pub fn each(
        &self,
        lsn: u64,
        received_at: Micros,
        batch: &Batch<'_>,
        as_stored: bool,
        mut number: u64,
        mut take: impl FnMut(u64, &[u8], Result<&[Cow<'_, str>], String>),
    ) -> Result<(), MappingFailure> {
        let records = records(batch.body, batch.head.kind);
        let origin = FrameContext::from_head(&batch.head, received_at);
        let requests: Vec<MappingRequest<'_>> = records.iter().map(|record| origin.request(record)).collect();
        let stored = if as_stored { self.stored(lsn, batch, records.len()) } else { None };
        let evaluated: Vec<Result<Evaluated, MappingFailure>> = match stored {
            Some(stored) => stored.into_iter().map(Ok).collect(),
            None if !self.mapping.is_evaluated() => records.iter().map(|_| Ok(Vec::new())).collect(),
            None => {
                let mappings = [Arc::clone(self.mapping)];
                let evaluate = |evaluator: &Evaluator| evaluator.evaluate_blocking(&mappings, &requests);
                self.evaluator.map(evaluate).into_iter().flatten().flatten().collect()
            }
        };
        let temporary =
            evaluated.iter().filter_map(|made| made.as_ref().err()).find(|why| why.is_temporary());
        if let Some(why) = temporary {
            return Err(why.clone());
        }
        for (index, (request, evaluated)) in (0_u32..).zip(requests.iter().zip(evaluated)) {
            match evaluated {
                Ok(evaluated) => {
                    let unique = RowId::unique(&self.log, lsn, index, self.stream.0);
                    let values = row(self.mapping, request, &evaluated, RowId { number, unique });
                    number = number.saturating_add(1);
                    take(index.into(), request.body, Ok(&values));
                }
                Err(failure) => take(index.into(), request.body, Err(failure.to_string())),
            }
        }
        Ok(())
    }

    /// The values evaluated before the answer. Those that cannot be read are evaluated again, which may give others
    /// than the answer promised, so it is logged.
    fn stored(&self, lsn: u64, batch: &Batch<'_>, records: usize) -> Option<Vec<Evaluated>> {
        results(batch, self.stream, records).unwrap_or_else(|error| {
            tracing::error!(lsn, stream = %self.stream, %error, "cannot read the results that a log frame keeps, evaluating its records again");
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Tag, Target};

    #[test]
    fn results_are_found_by_target_and_record() {
        let target = |stream| Target { stream: StreamId(stream), version: Some(1), good: 2, bad: 0 };
        let evaluated = |text: &str| vec![text.to_owned()];
        let results_of = [
            vec![evaluated("a1"), evaluated("a2")],
            vec![vec![], vec![]],
            vec![evaluated("c1"), evaluated("c\n2")],
        ];
        let results = write_results(&results_of);
        let head = BatchHead {
            targets: vec![target(1), target(2), target(3)],
            ..BatchHead::new(StreamId(9), Tag::Keboola, BodyKind::Lines)
        };
        let batch = Batch { head, body: b"{}\n{}\n", results: &results };
        for (stream, expected) in (1..).zip(&results_of) {
            assert_eq!(super::results(&batch, StreamId(stream), 2).unwrap().as_ref(), Some(expected));
        }
        assert_eq!(super::results(&batch, StreamId(9), 2).unwrap(), None);
        assert_eq!(super::results(&batch, StreamId(3), 3).unwrap(), None);
        let batch = Batch { results: b"[\"a1\"]\n[\"a2\n", ..batch };
        super::results(&batch, StreamId(1), 2).unwrap_err();
    }

    #[test]
    fn a_frame_keeps_what_a_mapping_may_ask_for() {
        let headers = [("Accept".to_owned(), "*/*".to_owned()), ("X-\"".to_owned(), "ö".to_owned())];
        let kept = keep(&headers);
        let head = BatchHead {
            request: Some(&kept),
            client_ip: Some("10.1.2.3".parse().unwrap()),
            ..BatchHead::new(StreamId(9), Tag::Keboola, BodyKind::Opaque)
        };
        let origin = FrameContext::from_head(&head, 7);
        assert_eq!((&origin.headers[..], origin.ip.to_string()), (&headers[..], "10.1.2.3".to_owned()));
        assert_eq!(records(b"a\n\nb\r\n", BodyKind::Lines), [b"a", b"b"]);
        assert_eq!(records(b"", BodyKind::Opaque), [b""]);
    }
}
