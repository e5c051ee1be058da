//! A received body: counts it while it is in memory, decompresses it and checks its records.

use super::super::body::{self, Encoding};
use crate::batch::{BodyKind, Target};
use crate::catalog::Stream;
use crate::clock::Micros;
use crate::columns::{self, ReasonKind};
use crate::contracts::reject::{Reject, RejectKind};
use crate::contracts::shared::receivers::Receiver;
use crate::contracts::{Bodies, Unwrapper};
use crate::formats::json::{self, Syntax, kind_of, records};
use crate::schema::OnBadLine;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Larger bodies are decompressed and checked on blocking threads.
const INLINE_BYTES_MAX: usize = 1 << 20;
/// Smaller bodies are not counted against the bytes in flight; the connection limit bounds them.
const UNCOUNTED_BYTES_MAX: u64 = 16 * 1024;

/// The bytes of a body, counted against the memory limit until this is dropped.
pub(super) struct InFlight {
    total: Arc<AtomicU64>,
    bytes: u64,
    max: u64,
}

impl InFlight {
    pub(super) fn new(total: &Arc<AtomicU64>, max: u64) -> Self {
        Self { total: Arc::clone(total), bytes: 0, max }
    }

    /// Raises the count of this body to `bytes`, or refuses it if the memory limit is exceeded.
    pub(super) fn grow_to(&mut self, bytes: u64) -> Result<(), Reject> {
        if bytes < UNCOUNTED_BYTES_MAX || bytes <= self.bytes {
            return Ok(());
        }
        let more = bytes - self.bytes;
        let before = self.total.fetch_add(more, Ordering::Relaxed);
        self.bytes = bytes;
        if before + more > self.max {
            let message = "too many request bodies are being received at once; retry later";
            return Err(Reject::new(RejectKind::Full, message).retry_after(1).close());
        }
        Ok(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Most bodies are too small to be counted, which saves the shared write.
        if self.bytes > 0 {
            self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// A body as received, and its encoding and limits.
pub(super) struct Received {
    pub(super) pieces: Vec<Bytes>,
    pub(super) encoding: Encoding,
    pub(super) decoded_max: u64,
    pub(super) in_flight: InFlight,
}

impl Received {
    /// Returns whether the body is small enough to be decompressed and checked on a request thread.
    pub(super) fn is_quick(&self) -> bool {
        let bytes: usize = self.pieces.iter().map(Bytes::len).sum();
        let identity = self.encoding == Encoding::Identity;
        bytes <= if identity { INLINE_BYTES_MAX } else { INLINE_BYTES_MAX / 16 }
    }

    /// Decodes the content encoding.
    pub(super) fn decode(&mut self) -> Result<(), Reject> {
        let arrived: u64 = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        let grow = |decoded| self.in_flight.grow_to(arrived + decoded);
        self.pieces = body::decode(std::mem::take(&mut self.pieces), self.encoding, self.decoded_max, grow)?;
        self.encoding = Encoding::Identity;
        Ok(())
    }
}

/// A decompressed body whose records are checked.
pub(super) struct Checked {
    pub(super) pieces: Vec<Bytes>,
    pub(super) kind: BodyKind,
    pub(super) verdict: BodyVerdict,
    /// The receive time that its records were checked with, for every stream that they go to.
    pub(super) received_at: Micros,
    /// Additional content of the frame, if the records go to several streams.
    pub(super) fan: Fan,
    /// Counted until the records are in the log.
    pub(super) _in_flight: InFlight,
}

/// What a frame stores about further streams.
#[derive(Default)]
pub(super) struct Fan {
    pub(super) targets: Vec<Target>,
    /// See [`crate::batch::BatchHead::request`].
    pub(super) request: Option<String>,
    pub(super) results: Bytes,
    /// See [`Accepted::exports`](crate::contracts::Accepted::exports) and the fields after it.
    pub(super) exports: Vec<String>,
    pub(super) receiver: Option<Arc<Receiver>>,
    pub(super) refused: Vec<String>,
}

impl Checked {
    /// Checks a body against its stream, if it was checked before the stream existed.
    pub(super) async fn under(mut self, manner: CheckOptions) -> Result<Self, Reject> {
        let is_judged = manner.stream.as_ref().is_some_and(|stream| stream.is_judged());
        if self.verdict.version.is_some() || !is_judged {
            return Ok(self);
        }
        let judge = move || {
            let looked = manner.look(&self.pieces, self.kind);
            self.verdict = looked.map_err(|error| Reject::internal(&error))?;
            Ok(self)
        };
        tokio::task::spawn_blocking(judge).await.unwrap_or_else(|error| Err(Reject::internal(&error)))
    }
}

/// The result of checking the records of a body.
#[derive(Debug, Clone)]
pub(super) struct BodyVerdict {
    pub(super) good: u64,
    pub(super) bad: u64,
    /// Records that are JSON objects, whether they fit their stream or not.
    pub(super) objects: u64,
    /// The first record that is not a JSON object: its number and the reason.
    pub(super) first_bad: Option<(u64, Syntax)>,
    /// The schema version of the stream, if the records were checked against it.
    pub(super) version: Option<u32>,
    /// The partition of each valid record, if the stream has a key.
    pub(super) partitions: Vec<u32>,
}

impl BodyVerdict {
    /// The number of records that are not JSON objects.
    pub(super) fn invalid(&self) -> u64 {
        (self.good + self.bad).saturating_sub(self.objects)
    }
}

/// How to check a body.
#[derive(Clone)]
pub(super) struct CheckOptions {
    pub(super) kind: BodyKind,
    pub(super) bodies: Bodies,
    /// The stream that its records go to, if it exists.
    pub(super) stream: Option<Arc<Stream>>,
    /// Further streams.
    pub(super) others: Vec<Arc<Stream>>,
    pub(super) received_at: Micros,
    /// Unwraps the records from their envelope.
    pub(super) open: Option<Unwrapper>,
}

impl CheckOptions {
    /// Checks the records for the first stream, with the code that later turns them into rows.
    fn look(&self, pieces: &[Bytes], kind: BodyKind) -> Result<BodyVerdict, Syntax> {
        self.look_for(self.stream.as_ref(), pieces, kind)
    }

    /// Checks the records for the other streams.
    fn targets(&self, pieces: &[Bytes], kind: BodyKind) -> Result<Vec<Target>, Syntax> {
        let judged = self.others.iter().map(|stream| {
            let verdict = self.look_for(Some(stream), pieces, kind)?;
            let count = |records| u32::try_from(records).unwrap_or(u32::MAX);
            let version = verdict.version;
            Ok(Target { stream: stream.id, version, good: count(verdict.good), bad: count(verdict.bad) })
        });
        judged.collect()
    }

    fn look_for(
        &self,
        stream: Option<&Arc<Stream>>,
        pieces: &[Bytes],
        kind: BodyKind,
    ) -> Result<BodyVerdict, Syntax> {
        let versioned = stream.filter(|stream| stream.is_versioned());
        let version = versioned.map(|stream| stream.schema.version);
        if kind == BodyKind::Xml {
            // The compactor parses XML.
            return Ok(BodyVerdict {
                good: 0,
                bad: 0,
                objects: 0,
                first_bad: None,
                version,
                partitions: Vec::new(),
            });
        }
        let Some(stream) = versioned.filter(|stream| stream.is_judged()) else {
            let json::RecordsVerdict { good, bad, first_bad } = records::check(pieces, kind)?;
            return Ok(BodyVerdict { good, bad, objects: good, first_bad, version, partitions: Vec::new() });
        };
        let whole;
        let body: &[u8] = match pieces {
            [one] => one,
            pieces => {
                whole = pieces.concat();
                &whole
            }
        };
        let found = columns::judge(stream.id, &stream.rules(), body, kind, self.received_at)?;
        let (good, bad) = (found.stored, found.quarantined.total());
        let objects = good + bad - found.quarantined.get(ReasonKind::Record);
        let (first_bad, partitions) = (found.first_bad, found.partitions);
        Ok(BodyVerdict { good, bad, objects, first_bad, version, partitions })
    }
}

/// Decompresses and checks a body: inline if that is quick, otherwise on a blocking thread.
pub(super) async fn check(body: Received, manner: CheckOptions) -> Result<Checked, Reject> {
    if body.is_quick() {
        return check_now(body, &manner);
    }
    let checked = tokio::task::spawn_blocking(move || check_now(body, &manner)).await;
    checked.unwrap_or_else(|error| Err(Reject::internal(&error)))
}

fn check_now(mut body: Received, manner: &CheckOptions) -> Result<Checked, Reject> {
    body.decode()?;
    if let Some(open) = &manner.open {
        let whole = match body.pieces.as_slice() {
            [one] => one.clone(),
            pieces => Bytes::from(pieces.concat()),
        };
        body.pieces = vec![open(whole)?];
    }
    let mut bytes = body.pieces.iter().flatten();
    let mut kind = match manner.kind {
        BodyKind::Xml => BodyKind::Xml,
        asked => kind_of(bytes.clone(), asked),
    };
    let first = bytes.find(|byte| !byte.is_ascii_whitespace()).copied();
    if manner.bodies.one_object && kind != BodyKind::Xml && first.is_some_and(|first| first != b'{') {
        return Err(Reject::malformed("Request body must be a single JSON object."));
    }
    let mut looked = manner.look(&body.pieces, kind);
    if looked.is_err() && manner.bodies.all_bad {
        // Each line of an invalid document counts as an invalid record.
        kind = BodyKind::Lines;
        looked = manner.look(&body.pieces, kind);
    }
    let mut verdict =
        looked.map_err(|reason| Reject::malformed(format!("The body is not a JSON document: {reason}")))?;
    if verdict.objects == 0
        && let Some(transcribe) = manner.bodies.transcribe
        && let Some(record) = transcribe(&body.pieces.concat())
    {
        body.pieces = vec![Bytes::from(record)];
        kind = BodyKind::Lines;
        verdict = manner.look(&body.pieces, kind).map_err(|error| Reject::internal(&error))?;
    }
    let rejects = manner.stream.as_ref().is_some_and(|s| s.settings.on_bad_line == OnBadLine::Reject);
    match verdict.first_bad {
        Some((record, reason)) if rejects => {
            let first = record + 1;
            let message =
                format!("Record {first} of the body is not a JSON object: {reason}; nothing is stored");
            return Err(Reject::malformed(message));
        }
        _ if verdict.bad > 0 && manner.bodies.misfit.is_some() => {
            let (bad, all) = (verdict.bad, verdict.good + verdict.bad);
            let message = format!("{bad} of the {all} records do not fit the stream; nothing is stored");
            return Err(Reject { code: manner.bodies.misfit, ..Reject::malformed(message) });
        }
        _ if verdict.objects > 0 || (kind == BodyKind::Xml && first.is_some()) => {}
        Some(_) if manner.bodies.all_bad => {}
        Some((record, reason)) => {
            let first = record + 1;
            let message = format!("No line of the body is a JSON object (first bad line: {first}: {reason})");
            return Err(Reject::malformed(message));
        }
        None => return Err(Reject::malformed("The body has no records")),
    }
    let targets = manner.targets(&body.pieces, kind).map_err(|error| Reject::internal(&error))?;
    let fan = Fan { targets, ..Fan::default() };
    let received_at = manner.received_at;
    Ok(Checked { pieces: body.pieces, kind, verdict, received_at, fan, _in_flight: body.in_flight })
}
