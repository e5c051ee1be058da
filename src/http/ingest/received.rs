//! A body that has arrived: counted while it is in memory, decompressed, its records checked.

use super::super::body::{self, Encoding};
use super::super::dialect::Bodies;
use super::super::reject::{Kind, Reject};
use crate::json::{BodyKind, Verdict, records};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Larger bodies are decompressed and checked off the threads that serve sockets.
const INLINE_BYTES_MAX: usize = 1 << 20;
/// Bodies smaller than this are not counted against the bytes in flight; the number of connections bounds them.
const UNCOUNTED_BYTES_MAX: u64 = 16 * 1024;

/// Bytes of a body, counted against what may be in memory as long as this lives.
pub(super) struct InFlight {
    total: Arc<AtomicU64>,
    bytes: u64,
    max: u64,
}

impl InFlight {
    pub(super) fn new(total: &Arc<AtomicU64>, max: u64) -> Self {
        Self { total: Arc::clone(total), bytes: 0, max }
    }

    /// Counts that there are `bytes` of it by now; refuses more than there is room for.
    pub(super) fn grow_to(&mut self, bytes: u64) -> Result<(), Reject> {
        if bytes < UNCOUNTED_BYTES_MAX || bytes <= self.bytes {
            return Ok(());
        }
        let more = bytes - self.bytes;
        let before = self.total.fetch_add(more, Ordering::Relaxed);
        self.bytes = bytes;
        if before + more > self.max {
            let message = "too many request bodies are being received at once";
            return Err(Reject::new(Kind::Full, message).retry_after(1).close());
        }
        Ok(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Most bodies are too small to be counted.
        if self.bytes > 0 {
            self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// A body as it came, and what is known of it.
pub(super) struct Received {
    pub(super) pieces: Vec<Bytes>,
    pub(super) encoding: Encoding,
    pub(super) decoded_max: u64,
    pub(super) in_flight: InFlight,
}

impl Received {
    /// Whether decompressing and looking at it takes so little that a thread that serves sockets may do it.
    pub(super) fn is_quick(&self) -> bool {
        let bytes: usize = self.pieces.iter().map(Bytes::len).sum();
        let identity = self.encoding == Encoding::Identity;
        bytes <= if identity { INLINE_BYTES_MAX } else { INLINE_BYTES_MAX / 16 }
    }

    /// Undoes the content-encoding.
    pub(super) fn decode(&mut self) -> Result<(), Reject> {
        let arrived: u64 = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        let grow = |decoded| self.in_flight.grow_to(arrived + decoded);
        self.pieces = body::decode(std::mem::take(&mut self.pieces), self.encoding, self.decoded_max, grow)?;
        self.encoding = Encoding::Identity;
        Ok(())
    }
}

/// A decompressed body whose records were looked at.
pub(super) struct Checked {
    pub(super) pieces: Vec<Bytes>,
    pub(super) kind: BodyKind,
    pub(super) verdict: Verdict,
    /// Counted until the records are in the log.
    pub(super) _in_flight: InFlight,
}

/// Decompresses and checks a body: inline if that is quick, else where it holds up nobody.
pub(super) async fn check(body: Received, kind: BodyKind, rules: Bodies) -> Result<Checked, Reject> {
    if body.is_quick() {
        return check_now(body, kind, rules);
    }
    let checked = tokio::task::spawn_blocking(move || check_now(body, kind, rules)).await;
    checked.unwrap_or_else(|error| Err(Reject::internal(&error)))
}

fn check_now(mut body: Received, asked: BodyKind, rules: Bodies) -> Result<Checked, Reject> {
    body.decode()?;
    let mut kind = BodyKind::of(body.pieces.iter().flatten(), asked);
    let mut checked = records::check(&body.pieces, kind);
    if checked.is_err() && rules.all_bad {
        // Each line of what is no document is a record that is none.
        kind = BodyKind::Lines;
        checked = records::check(&body.pieces, kind);
    }
    let mut verdict =
        checked.map_err(|reason| Reject::malformed(format!("The body is not a JSON document: {reason}")))?;
    if verdict.good == 0
        && let Some(transcribe) = rules.transcribe
        && let Some(record) = transcribe(&body.pieces.concat())
    {
        body.pieces = vec![Bytes::from(record)];
        kind = BodyKind::Lines;
        verdict = records::check(&body.pieces, kind).map_err(|error| Reject::internal(&error))?;
    }
    match verdict.first_bad {
        _ if verdict.good > 0 => {}
        Some(_) if rules.all_bad => {}
        Some((record, reason)) => {
            let first = record + 1;
            let message = format!("No line of the body is a JSON object (first bad line: {first}: {reason})");
            return Err(Reject::malformed(message));
        }
        None => return Err(Reject::malformed("The body has no records")),
    }
    Ok(Checked { pieces: body.pieces, kind, verdict, _in_flight: body.in_flight })
}
