//! `Idempotency-Key`: which requests are in the log already, so that a repeat is answered as the first was and stores
//! nothing.
//!
//! A key stands in the frame of its request. So a key lives and dies with its records: what power loss takes, it takes
//! with the key. [`Index`] holds the keys of the window in memory, where requests ask for them; [`Journal`] keeps those
//! whose frames are about to be trimmed, and finds all of them again at a start. The accept path knows the index only,
//! the compactor the journal only.

mod index;
mod journal;
mod metrics;

pub use index::{Claim, Index, Ticket};
pub use journal::Journal;
pub use metrics::register;

use crate::batch::{Batch, StreamId};
use crate::clock::Micros;
use crate::wal::Lsn;
use sha2::{Digest, Sha256};

/// The longest key, in characters.
const KEY_BYTES_MAX: usize = 256;

/// A stream and a key of it, as 128 bits: two streams may see the same key. It is a hash that nobody can aim at another
/// stream's keys.
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

/// What a body was, to notice a key that is used for another one. It finds mistakes, not forgeries: whoever may send
/// to the stream can also choose another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    crc: u32,
    bytes: u32,
}

impl Fingerprint {
    /// Of a decompressed body, in however many pieces.
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

/// What became of the first request with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub lsn: Lsn,
    pub fingerprint: Fingerprint,
    /// The counts of its answer.
    pub good: u32,
    pub bad: u32,
    /// When it was received, in seconds since the epoch: a window of days needs no finer time.
    pub at: u32,
}

impl Stored {
    /// What a frame says of its key, if it has one.
    fn of(lsn: Lsn, ts: Micros, batch: &Batch<'_>) -> Option<(KeyHash, Self)> {
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

/// Whether a client may use this key: 1 to 256 visible ASCII characters.
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
