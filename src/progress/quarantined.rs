//! The newest quarantined records, kept in memory for users who look at the errors of a stream. The quarantine tables
//! hold all of them; this module adds the ones in files that are still open.

use crate::batch::StreamId;
use crate::clock::Micros;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Limit for all streams together.
const KEPT_MAX: usize = 2048;
/// Limit for one part of a request: the first ones are as informative as the last.
const PART_MAX: usize = 64;
/// Maximum number of bytes shown of a record.
const EXCERPT_BYTES_MAX: usize = 256;

/// A record that was quarantined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The LSN of its request, and its index in that request.
    pub lsn: u64,
    pub record: u64,
    /// Its offset in the body.
    pub offset: u64,
    pub received_at: Micros,
    pub reason: String,
    /// Its first bytes, as text.
    pub excerpt: String,
}

#[derive(Debug, Default)]
pub struct RecentlyQuarantined(Mutex<VecDeque<(StreamId, Quarantined)>>);

impl RecentlyQuarantined {
    /// Adds records, oldest first, and skips known ones, which recur after an error of the compactor.
    pub fn add(&self, stream: StreamId, records: impl Iterator<Item = Quarantined>) {
        let mut records = records.take(PART_MAX).peekable();
        if records.peek().is_none() {
            return;
        }
        let mut kept = self.0.lock();
        for record in records {
            let same = |(of, known): &(StreamId, Quarantined)| {
                (*of, known.lsn, known.record) == (stream, record.lsn, record.record)
            };
            if kept.iter().rev().take(PART_MAX).any(same) {
                continue;
            }
            if kept.len() >= KEPT_MAX {
                kept.pop_front();
            }
            kept.push_back((stream, record));
        }
    }

    /// The newest records of a stream, newest first.
    pub fn newest(&self, stream: StreamId, limit: usize) -> Vec<Quarantined> {
        let kept = self.0.lock();
        let mut of_it: Vec<Quarantined> =
            kept.iter().filter(|(of, _)| *of == stream).map(|(_, record)| record.clone()).collect();
        of_it.sort_by_key(|record| std::cmp::Reverse((record.lsn, record.record)));
        of_it.truncate(limit);
        of_it
    }
}

/// The beginning of a record, as text.
pub fn excerpt(raw: &[u8]) -> String {
    let cut = raw.len() > EXCERPT_BYTES_MAX;
    let shown = String::from_utf8_lossy(raw.get(..EXCERPT_BYTES_MAX).unwrap_or(raw)).into_owned();
    if cut { shown + "…" } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(lsn: u64, number: u64) -> Quarantined {
        let reason = "expected a JSON object".to_owned();
        Quarantined { lsn, record: number, offset: 0, received_at: 0, reason, excerpt: excerpt(b"x") }
    }

    #[test]
    fn the_newest_of_a_stream_come_first_and_memory_is_bounded() {
        let recent = RecentlyQuarantined::default();
        recent.add(StreamId(1), [record(1, 0), record(1, 1)].into_iter());
        recent.add(StreamId(2), [record(2, 0)].into_iter());
        recent.add(StreamId(1), [record(1, 1), record(3, 0)].into_iter());
        let of = |stream, limit| {
            recent.newest(StreamId(stream), limit).iter().map(|r| (r.lsn, r.record)).collect::<Vec<_>>()
        };
        assert_eq!(of(1, 9), [(3, 0), (1, 1), (1, 0)]);
        assert_eq!(of(1, 1), [(3, 0)]);
        assert_eq!(of(2, 9), [(2, 0)]);
        for lsn in 10..5000 {
            recent.add(StreamId(3), [record(lsn, 0)].into_iter());
        }
        assert_eq!((of(1, 9).len(), of(3, usize::MAX).len()), (0, KEPT_MAX));
    }

    #[test]
    fn an_excerpt_is_short_text() {
        assert_eq!(excerpt(b"not json"), "not json");
        assert_eq!(excerpt(&[0xff, b'a']), "\u{fffd}a");
        assert!(excerpt(&[b'x'; 1000]).len() < 300);
    }
}
