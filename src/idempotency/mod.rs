//! `Idempotency-Key`: finds requests that are already in the log, so that a repeat gets the answer of the first request
//! and stores nothing.
//!
//! A key is stored in the frame of its request. So a key shares the fate of its records: power loss destroys both or
//! neither. [`KeyIndex`] holds the keys of the window in memory for lookups; [`Journal`] keeps the keys of frames that
//! are about to be trimmed, and reloads all keys at a start. The accept path uses only the index, the compactor only
//! the journal.

mod index;
mod journal;
mod metrics;

pub use index::{Claim, KeyIndex, Ticket};
pub use journal::Journal;
pub use metrics::register;

use crate::batch::{Batch, StreamId};
use crate::clock::Micros;
use crate::wal::Lsn;
use sha2::{Digest, Sha256};

/// Maximum length of a key, in characters.
const KEY_BYTES_MAX: usize = 256;

/// A stream and one of its keys, as 128 bits: two streams may use the same key. The hash is one that no client can aim
/// at the keys of another stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 16]);

impl KeyHash {
    pub fn new(stream: StreamId, key: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(stream.0.to_le_bytes());
        hash.update(key.as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        Self(*hash.first_chunk().expect("16 of 32 bytes"))
    }
}

/// The fingerprint of a body, to detect a key that is reused for another body. It detects mistakes, not forgeries: a
/// client that may send to the stream can simply choose another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    crc: u32,
    bytes: u32,
}

impl Fingerprint {
    /// The fingerprint of a decompressed body, in any number of pieces.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut crc = crc32fast::Hasher::new();
        let mut bytes = 0_u32;
        for piece in pieces {
            crc.update(piece);
            bytes = bytes.wrapping_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        }
        Self { crc: crc.finalize(), bytes }
    }
}

/// The outcome of the first request with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub lsn: Lsn,
    pub fingerprint: Fingerprint,
    /// The counts in its answer.
    pub good: u32,
    pub bad: u32,
    /// When it was received, in seconds since the epoch: precise enough for a window of days.
    pub at: u32,
}

impl Stored {
    /// The key of a frame and its outcome, if the frame has a key.
    fn from_batch(lsn: Lsn, ts: Micros, batch: &Batch<'_>) -> Option<(KeyHash, Self)> {
        let key = KeyHash::new(batch.head.stream, batch.head.idempotency_key?);
        let fingerprint = Fingerprint::of([batch.body]);
        let (good, bad) = (batch.head.good, batch.head.bad);
        Some((key, Self { lsn, fingerprint, good, bad, at: seconds(ts) }))
    }
}

/// Seconds since the epoch.
fn seconds(at: Micros) -> u32 {
    u32::try_from(at / 1_000_000).unwrap_or(if at < 0 { 0 } else { u32::MAX })
}

/// Whether a key is valid: 1 to 256 visible ASCII characters.
pub fn is_key(key: &[u8]) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_visible_ascii_of_up_to_256_characters() {
        for good in ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", "\"quoted\"", &"x".repeat(256)] {
            assert!(is_key(good.as_bytes()), "{good}");
        }
        for bad in ["", "a b", "a\tb", "\u{e9}", "a\u{7f}", &"x".repeat(257)] {
            assert!(!is_key(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn a_key_belongs_to_its_stream() {
        let hash = |stream, key| KeyHash::new(StreamId(stream), key);
        assert_eq!(hash(1, "k"), hash(1, "k"));
        assert_ne!(hash(1, "k"), hash(2, "k"));
        assert_ne!(hash(1, "k"), hash(1, "l"));
    }

    #[test]
    fn a_body_has_the_same_fingerprint_in_whatever_pieces() {
        let whole = Fingerprint::of([&b"{\"a\":1}\n"[..]]);
        assert_eq!(Fingerprint::of([&b"{\"a\""[..], b":1}\n"]), whole);
        assert_ne!(Fingerprint::of([&b"{\"a\":2}\n"[..]]), whole);
    }

    #[test]
    fn time_outside_of_the_seconds_is_the_first_or_last_of_them() {
        for (micros, expect) in [(1_500_000, 1), (-5_000_000, 0), (i64::MAX, u32::MAX)] {
            assert_eq!(seconds(micros), expect);
        }
    }
}
